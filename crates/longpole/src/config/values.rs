//! How values are written: a module a kind, with `parse` and `show`.

use span_store::Durability;
use trace_model::NanoDuration;

use super::keys::AUTO;

/// What `tracing` takes as a filter, of which it takes too much: a word that is no level is the name of a target to it, and
/// then nothing else is said.
pub(super) mod filter {
    use tracing_subscriber::EnvFilter;

    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

    pub(crate) fn parse(text: &str) -> Result<String, String> {
        let directives = || text.split(',').map(str::trim);
        if let Some(word) = directives().find(|directive| !says_a_level(directive)) {
            return Err(format!(
                "must be off, error, warn, info, debug or trace, or such a level for a part of Longpole as in \
                 info,span_store=debug, not `{word}`{}",
                hint(word)
            ));
        }
        EnvFilter::try_new(text).map_err(|error| format!("`{text}` is not a filter: {error}"))?;
        Ok(text.to_owned())
    }

    fn says_a_level(directive: &str) -> bool {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level.trim());
        LEVELS.iter().any(|known| known.eq_ignore_ascii_case(level))
    }

    fn hint(word: &str) -> String {
        let level = word.rsplit_once('=').map_or(word, |(_, level)| level).to_lowercase();
        let meant = LEVELS.iter().find(|known| level.starts_with(*known) || known.starts_with(&level));
        match meant {
            Some(meant) if !level.is_empty() => format!("; did you mean {meant}?"),
            _ => String::new(),
        }
    }

    pub(crate) fn show(value: &str) -> String {
        value.to_owned()
    }
}

/// Where OTLP is listened for.
pub(super) mod address {
    use std::os::unix::net::SocketAddr;

    pub(crate) fn parse(text: &str) -> Result<String, String> {
        let Some(path) = text.strip_prefix("unix:") else { return super::tcp_address::parse(text) };
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() {
            return Err("a unix socket needs a path, such as unix:/run/longpole.sock".to_owned());
        }
        // The system has a bound on its length.
        SocketAddr::from_pathname(path).map_err(|error| format!("`{text}`: {error}"))?;
        Ok(text.to_owned())
    }

    pub(crate) fn show(value: &str) -> String {
        value.to_owned()
    }
}

pub(super) mod tcp_address {
    use std::net::SocketAddr;

    pub(crate) fn parse(text: &str) -> Result<String, String> {
        let wrong = || format!("must be host:port, such as 127.0.0.1:16686, not `{text}`");
        if text.starts_with("unix:") {
            return Err(format!("{}; this port cannot be a unix socket", wrong()));
        }
        let is_named = || {
            let (host, port) = text.rsplit_once(':')?;
            let is_host = !host.is_empty() && !host.contains([':', '/', '[', ']', '@', ' ']);
            (is_host && port.parse::<u16>().is_ok()).then_some(())
        };
        if text.parse::<SocketAddr>().is_err() && is_named().is_none() {
            return Err(wrong());
        }
        Ok(text.to_owned())
    }

    pub(crate) fn show(value: &str) -> String {
        value.to_owned()
    }
}

pub(super) mod format {
    pub(crate) fn parse(text: &str) -> Result<String, String> {
        match text {
            "auto" | "text" | "json" => Ok(text.to_owned()),
            _ => Err(format!("must be auto, text or json, not `{text}`")),
        }
    }
    pub(crate) fn show(value: &str) -> String {
        value.to_owned()
    }
}

pub(super) mod path {
    use std::path::{Path, PathBuf};
    pub(crate) fn parse(text: &str) -> Result<PathBuf, String> {
        if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.into()) }
    }
    pub(crate) fn show(value: &Path) -> String {
        value.display().to_string()
    }
}

pub(super) mod part {
    pub(crate) fn parse(text: &str) -> Result<usize, String> {
        if text == super::AUTO { Ok(0) } else { super::bytes::parse(text) }
    }
    pub(crate) fn show(value: &usize) -> String {
        if *value == 0 { super::AUTO.to_owned() } else { super::bytes::show(value) }
    }
}

pub(super) mod part_count {
    pub(crate) fn parse(text: &str) -> Result<usize, String> {
        if text == super::AUTO { Ok(0) } else { super::count::parse(text) }
    }
    pub(crate) fn show(value: &usize) -> String {
        if *value == 0 { super::AUTO.to_owned() } else { super::count::show(value) }
    }
}

pub(super) mod count {
    pub(crate) fn parse(text: &str) -> Result<usize, String> {
        text.parse()
            .ok()
            .filter(|&n| n > 0)
            .ok_or_else(|| format!("must be a whole number above 0, not `{text}`"))
    }
    pub(crate) fn show(value: &usize) -> String {
        value.to_string()
    }
}

pub(super) mod bytes64 {
    const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

    pub(crate) fn parse(text: &str) -> Result<u64, String> {
        let wrong = || format!("must be bytes such as 64MiB, 2GiB or 1048576, not `{text}`");
        let (number, unit) = UNITS
            .iter()
            .find_map(|&(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
            .unwrap_or((text, 1));
        let number: u64 = number.trim().parse().map_err(|_| wrong())?;
        number.checked_mul(unit).filter(|&bytes| bytes > 0).ok_or_else(wrong)
    }

    pub(crate) fn show(value: &u64) -> String {
        match UNITS.iter().find(|(_, unit)| value.is_multiple_of(*unit)) {
            Some((suffix, unit)) => format!("{}{suffix}", value / unit),
            None => value.to_string(),
        }
    }
}

pub(super) mod bytes {
    pub(crate) fn parse(text: &str) -> Result<usize, String> {
        usize::try_from(super::bytes64::parse(text)?).map_err(|_| format!("`{text}` is too much"))
    }
    pub(crate) fn show(value: &usize) -> String {
        super::bytes64::show(&(*value as u64))
    }
}

pub(super) mod time {
    use super::NanoDuration;

    const UNITS: [(&str, u64); 6] = [
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];

    pub(crate) fn parse(text: &str) -> Result<NanoDuration, String> {
        let wrong = || format!("must be a time such as 500ms, 5s, 15m or 168h, not `{text}`");
        let (number, unit) = UNITS
            .iter()
            .find_map(|&(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
            .ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(unit).filter(|&ns| ns > 0).map(NanoDuration).ok_or_else(wrong)
    }

    pub(crate) fn show(value: &NanoDuration) -> String {
        let mut units = UNITS;
        units.sort_unstable_by_key(|&(_, unit)| std::cmp::Reverse(unit));
        match units.iter().find(|(_, unit)| value.0.is_multiple_of(*unit)) {
            Some((suffix, unit)) => format!("{}{suffix}", value.0 / unit),
            None => format!("{}ns", value.0),
        }
    }
}

pub(super) mod timeout {
    use std::time::Duration;

    use super::NanoDuration;

    pub(crate) fn parse(text: &str) -> Result<Duration, String> {
        super::time::parse(text).map(|time| Duration::from_nanos(time.0))
    }
    pub(crate) fn show(value: &Duration) -> String {
        super::time::show(&NanoDuration(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX)))
    }
}

pub(super) mod origins {
    use ingest::AllowedOrigins;

    pub(crate) fn parse(text: &str) -> Result<AllowedOrigins, String> {
        text.parse()
    }
    pub(crate) fn show(value: &AllowedOrigins) -> String {
        value.to_string()
    }
}

pub(super) mod bytes_or_none {
    pub(crate) fn parse(text: &str) -> Result<u64, String> {
        if matches!(text, "0" | "0B") { Ok(0) } else { super::bytes64::parse(text) }
    }
    pub(crate) fn show(value: &u64) -> String {
        if *value == 0 { "0B".to_owned() } else { super::bytes64::show(value) }
    }
}

pub(super) mod free_min {
    use span_store::FreeMin;

    pub(crate) fn parse(text: &str) -> Result<FreeMin, String> {
        if text == "auto" {
            return Ok(FreeMin::Auto);
        }
        let Some(percent) = text.strip_suffix('%') else {
            return super::bytes64::parse(text).map(FreeMin::Bytes);
        };
        let percent = percent.trim().parse().ok().filter(|&percent: &u8| percent < 100);
        percent.map(FreeMin::Percent).ok_or_else(|| format!("must be below 100%, not `{text}`"))
    }

    pub(crate) fn show(value: &FreeMin) -> String {
        match value {
            FreeMin::Auto => "auto".to_owned(),
            FreeMin::Bytes(bytes) => super::bytes64::show(bytes),
            FreeMin::Percent(percent) => format!("{percent}%"),
        }
    }
}

pub(super) mod auto_time {
    use super::{NanoDuration, time};

    pub(crate) fn parse(text: &str) -> Result<Option<NanoDuration>, String> {
        if text == "auto" { Ok(None) } else { time::parse(text).map(Some) }
    }

    pub(crate) fn show(value: &Option<NanoDuration>) -> String {
        value.as_ref().map_or_else(|| "auto".to_owned(), time::show)
    }
}

pub(super) mod durability {
    use super::Durability;

    pub(crate) fn parse(text: &str) -> Result<Durability, String> {
        match text {
            "process" => Ok(Durability::Process),
            "sync" => Ok(Durability::Sync),
            _ => Err(format!("must be process or sync, not `{text}`")),
        }
    }

    pub(crate) fn show(value: &Durability) -> String {
        match value {
            Durability::Process => "process".to_owned(),
            Durability::Sync => "sync".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_of_levels_and_what_is_none_is_refused() {
        for right in ["info", "WARN", "off", "info,span_store=debug", "query::engine=trace, warn"] {
            assert_eq!(filter::parse(right).as_deref(), Ok(right));
        }
        for (wrong, meant) in [("warning", "warn"), ("debugg", "debug"), ("info,query=err", "error")] {
            let error = filter::parse(wrong).unwrap_err();
            assert!(error.ends_with(&format!("did you mean {meant}?")), "{error}");
        }
        for wrong in ["chatty", "", "info,", "longpole", "longpole=loud"] {
            let error = filter::parse(wrong).unwrap_err();
            assert!(error.contains("must be off, error, warn, info, debug or trace"), "{error}");
        }
    }

    #[test]
    fn addresses_are_checked_before_anything_is_listened_on() {
        let both = ["127.0.0.1:4317", "[::1]:0", "localhost:4317", "a-b.example:80"];
        for right in both.into_iter().chain(["unix:/run/x.sock", "unix:///run/x.sock", "unix:x.sock"]) {
            assert_eq!(address::parse(right).as_deref(), Ok(right));
        }
        for wrong in ["nonsense", "", ":4317", "127.0.0.1", "h:70000", "::1:4317", "http://h:1", "h:1/x"] {
            assert!(address::parse(wrong).unwrap_err().contains("must be host:port"), "{wrong}");
        }
        assert!(address::parse("unix:").unwrap_err().contains("needs a path"));
        assert!(address::parse(&format!("unix:/{}", "x".repeat(200))).is_err());
        assert!(tcp_address::parse("unix:/x").unwrap_err().contains("cannot be a unix socket"));
    }
}
