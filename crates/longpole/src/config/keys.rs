//! The table of configuration keys.

use span_store::Durability;
use trace_model::NanoDuration;

use super::Config;

/// One key.
pub(crate) struct Key {
    pub(crate) name: &'static str,
    pub(crate) default: &'static str,
    pub(crate) help: &'static str,
    pub(crate) set: fn(&mut Config, &str) -> Result<(), String>,
    pub(crate) get: fn(&Config) -> String,
}

macro_rules! key {
    ($name:literal, $default:expr, $help:literal, $kind:ident, $($field:ident).+) => {
        Key {
            name: $name,
            default: $default,
            help: $help,
            set: |config, text| {
                config.$($field).+ = $kind::parse(text)?;
                Ok(())
            },
            get: |config| $kind::show(&config.$($field).+),
        }
    };
}

/// Where the store is if nobody says otherwise.
pub(crate) const DATA_DIR: &str = "longpole-data";

/// The value that stands for a part of `memory`.
pub(crate) const AUTO: &str = "auto";

/// All keys, by section.
pub(crate) const KEYS: &[Key] = &[
    key!(
        "memory",
        "512MiB",
        "Resident memory in all; divided among everything whose key says auto.",
        bytes,
        memory
    ),
    key!("server.data_dir", DATA_DIR, "Folder of the store.", path, data_dir),
    key!(
        "server.otlp_grpc",
        "127.0.0.1:4317",
        "Address for OTLP/gRPC: host:port or unix:/path.",
        text,
        otlp_grpc
    ),
    key!(
        "server.otlp_http",
        "127.0.0.1:4318",
        "Address for OTLP/HTTP: host:port or unix:/path.",
        text,
        otlp_http
    ),
    key!("server.http", "127.0.0.1:16686", "Address for the API and /metrics.", text, http),
    key!("server.http_connections", "256", "Connections to that port at a time.", count, http_connections),
    key!(
        "ingest.wire_bytes",
        "16MiB",
        "Bytes of one OTLP request as it comes at most, compressed or not.",
        bytes,
        ingest.wire_bytes
    ),
    key!(
        "ingest.request_bytes",
        "64MiB",
        "Inflated bytes of one OTLP request at most; and of its resources and scopes, each resource counted once for each of its scopes.",
        bytes,
        ingest.request_bytes
    ),
    key!(
        "ingest.json_bytes",
        "32MiB",
        "Inflated bytes of one OTLP/JSON request at most; its protobuf is in memory beside it.",
        bytes,
        ingest.json_bytes
    ),
    key!(
        "ingest.queued_bytes",
        AUTO,
        "Bytes of all requests being received or on their way to the log at most; beyond it clients are told to wait.",
        part,
        ingest.queued_bytes
    ),
    key!("ingest.request_spans", "1000000", "Spans of one request at most.", count, ingest.request_spans),
    key!(
        "ingest.span_attributes",
        "1000",
        "Attributes of one span at most; a span with more is left out.",
        count,
        ingest.span_attributes
    ),
    key!(
        "ingest.span_bytes",
        "4MiB",
        "Bytes of one span at most; a longer one is left out.",
        bytes,
        ingest.span_bytes
    ),
    key!(
        "ingest.context_bytes",
        "64KiB",
        "Bytes of a span's resource and scope together at most; a span with more is left out.",
        bytes,
        ingest.context_bytes
    ),
    key!(
        "ingest.value_depth",
        "32",
        "How deep an attribute's value may nest, 32 at most.",
        count,
        ingest.value_depth
    ),
    key!("ingest.connections", "1024", "Connections to each OTLP port at a time.", count, ingest.connections),
    key!("ingest.streams", "256", "HTTP/2 streams of a connection at a time.", count, ingest.streams),
    key!(
        "ingest.header_timeout",
        "10s",
        "Time for the headers of a request to come.",
        timeout,
        ingest.header_timeout
    ),
    key!(
        "ingest.body_timeout",
        "30s",
        "Time for the body of a request to come.",
        timeout,
        ingest.body_timeout
    ),
    key!(
        "ingest.idle_timeout",
        "5m",
        "Time after which a connection without requests is closed.",
        timeout,
        ingest.idle_timeout
    ),
    key!(
        "ingest.cors_origins",
        "*",
        "Web pages that may send over OTLP/HTTP: `*`, `none`, or origins with commas between.",
        origins,
        cors_origins
    ),
    key!(
        "store.durability",
        "process",
        "What an acknowledgement means: `process` survives kill -9, `sync` survives loss of power.",
        durability,
        store.durability
    ),
    key!(
        "store.retention",
        "168h",
        "Age at which spans go, exact to a 24th of it (10 minutes to a day).",
        time,
        store.retention
    ),
    key!(
        "store.slice",
        "auto",
        "Width of a partition, in which spans go together; `auto` is a 24th of the retention, 10 minutes to a day.",
        auto_time,
        store.slice
    ),
    key!(
        "store.rollup_minute",
        "720h",
        "Age at which rollups by minute, which stay when spans go, become rollups by hour.",
        time,
        rollup.minute
    ),
    key!(
        "store.rollup_hour",
        "9600h",
        "Age at which rollups by hour become rollups by day.",
        time,
        rollup.hour
    ),
    key!("store.rollup_day", "43800h", "Age at which rollups by day go.", time, rollup.day),
    key!(
        "store.rollup_bytes_max",
        "5GiB",
        "Bytes of rollups above which the oldest become coarser, and in the end go, before their time.",
        bytes64,
        rollup.bytes_max
    ),
    key!("store.bytes_max", "50GiB", "Bytes stored above which the oldest go.", bytes64, store.bytes_max),
    key!("store.cache_bytes", AUTO, "RocksDB's cache for blocks that were read.", part, store.cache_bytes),
    key!(
        "store.free_min",
        "auto",
        "Free bytes of the disk (`2GiB`) or hundredths of it (`5%`) below which spans are refused. `auto` is 2 %, \
         and at least four log generations and two segments, but for these at most 10 %.",
        free_min,
        store.free_min
    ),
    key!(
        "store.ballast",
        "256MiB",
        "Bytes of a file that is given up when the disk is full; at most 2 % of it or 4 MiB. 0B is none.",
        bytes_or_none,
        store.ballast
    ),
    key!(
        "seal.bytes",
        AUTO,
        "Bytes of requests after which a segment is sealed; a span counts at least 256.",
        part,
        seal.bytes
    ),
    key!(
        "seal.interval",
        "5m",
        "Time after which a segment is sealed if anything came.",
        time,
        seal.interval
    ),
    key!(
        "assemble.root_wait",
        "5s",
        "Wait for more spans after a trace's root came.",
        time,
        assemble.root_wait
    ),
    key!(
        "assemble.idle",
        "5s",
        "Quiet after which a trace with a root is finished.",
        time,
        assemble.idle_short
    ),
    key!(
        "assemble.idle_rootless",
        "60s",
        "Quiet after which a trace without a root is finished.",
        time,
        assemble.idle_long
    ),
    key!(
        "assemble.max_age",
        "15m",
        "Age at which a trace is analysed even if spans still come.",
        time,
        assemble.max_age
    ),
    key!(
        "assemble.spans_max",
        AUTO,
        "Spans of open traces held at most, about 84 bytes each; beyond it traces are finished early.",
        part_count,
        assemble.spans_max
    ),
    key!(
        "assemble.trace_spans_max",
        AUTO,
        "Spans of one trace that are analysed together at most; a larger one is kept and counted, without a critical path.",
        part_count,
        trace_spans_max
    ),
    key!("log.level", "info", "Filter for Longpole's own log, such as `info` or `debug`.", text, log.level),
    key!("log.format", "auto", "`text`, `json`, or `auto`: text on a terminal.", format, log.format),
];

/// The known key that is closest to what was written.
pub(crate) fn nearest(written: &str) -> &'static str {
    KEYS.iter().map(|key| key.name).min_by_key(|name| distance(written, name)).unwrap_or_default()
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(ca != *cb)).min(row[j] + 1).min(above + 1);
            diagonal = above;
        }
    }
    row.last().copied().unwrap_or_default()
}

mod text {
    pub(super) fn parse(text: &str) -> Result<String, String> {
        if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.to_owned()) }
    }
    pub(super) fn show(value: &str) -> String {
        value.to_owned()
    }
}

mod format {
    pub(super) fn parse(text: &str) -> Result<String, String> {
        match text {
            "auto" | "text" | "json" => Ok(text.to_owned()),
            _ => Err(format!("must be auto, text or json, not `{text}`")),
        }
    }
    pub(super) fn show(value: &str) -> String {
        value.to_owned()
    }
}

mod path {
    use std::path::{Path, PathBuf};
    pub(super) fn parse(text: &str) -> Result<PathBuf, String> {
        if text.is_empty() { Err("must not be empty".to_owned()) } else { Ok(text.into()) }
    }
    pub(super) fn show(value: &Path) -> String {
        value.display().to_string()
    }
}

mod part {
    pub(super) fn parse(text: &str) -> Result<usize, String> {
        if text == super::AUTO { Ok(0) } else { super::bytes::parse(text) }
    }
    pub(super) fn show(value: &usize) -> String {
        if *value == 0 { super::AUTO.to_owned() } else { super::bytes::show(value) }
    }
}

mod part_count {
    pub(super) fn parse(text: &str) -> Result<usize, String> {
        if text == super::AUTO { Ok(0) } else { super::count::parse(text) }
    }
    pub(super) fn show(value: &usize) -> String {
        if *value == 0 { super::AUTO.to_owned() } else { super::count::show(value) }
    }
}

mod count {
    pub(super) fn parse(text: &str) -> Result<usize, String> {
        text.parse()
            .ok()
            .filter(|&n| n > 0)
            .ok_or_else(|| format!("must be a whole number above 0, not `{text}`"))
    }
    pub(super) fn show(value: &usize) -> String {
        value.to_string()
    }
}

mod bytes64 {
    const UNITS: [(&str, u64); 4] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

    pub(super) fn parse(text: &str) -> Result<u64, String> {
        let wrong = || format!("must be bytes such as 64MiB, 2GiB or 1048576, not `{text}`");
        let (number, unit) = UNITS
            .iter()
            .find_map(|&(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
            .unwrap_or((text, 1));
        let number: u64 = number.trim().parse().map_err(|_| wrong())?;
        number.checked_mul(unit).filter(|&bytes| bytes > 0).ok_or_else(wrong)
    }

    pub(super) fn show(value: &u64) -> String {
        match UNITS.iter().find(|(_, unit)| value.is_multiple_of(*unit)) {
            Some((suffix, unit)) => format!("{}{suffix}", value / unit),
            None => value.to_string(),
        }
    }
}

mod bytes {
    pub(super) fn parse(text: &str) -> Result<usize, String> {
        usize::try_from(super::bytes64::parse(text)?).map_err(|_| format!("`{text}` is too much"))
    }
    pub(super) fn show(value: &usize) -> String {
        super::bytes64::show(&(*value as u64))
    }
}

mod time {
    use super::NanoDuration;

    const UNITS: [(&str, u64); 6] = [
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
        ("s", 1_000_000_000),
        ("m", 60_000_000_000),
        ("h", 3_600_000_000_000),
    ];

    pub(super) fn parse(text: &str) -> Result<NanoDuration, String> {
        let wrong = || format!("must be a time such as 500ms, 5s, 15m or 168h, not `{text}`");
        let (number, unit) = UNITS
            .iter()
            .find_map(|&(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))
            .ok_or_else(wrong)?;
        let number: u64 = number.parse().map_err(|_| wrong())?;
        number.checked_mul(unit).filter(|&ns| ns > 0).map(NanoDuration).ok_or_else(wrong)
    }

    pub(super) fn show(value: &NanoDuration) -> String {
        let mut units = UNITS;
        units.sort_unstable_by_key(|&(_, unit)| std::cmp::Reverse(unit));
        match units.iter().find(|(_, unit)| value.0.is_multiple_of(*unit)) {
            Some((suffix, unit)) => format!("{}{suffix}", value.0 / unit),
            None => format!("{}ns", value.0),
        }
    }
}

mod timeout {
    use std::time::Duration;

    use super::NanoDuration;

    pub(super) fn parse(text: &str) -> Result<Duration, String> {
        super::time::parse(text).map(|time| Duration::from_nanos(time.0))
    }
    pub(super) fn show(value: &Duration) -> String {
        super::time::show(&NanoDuration(u64::try_from(value.as_nanos()).unwrap_or(u64::MAX)))
    }
}

mod origins {
    use ingest::AllowedOrigins;

    pub(super) fn parse(text: &str) -> Result<AllowedOrigins, String> {
        text.parse()
    }
    pub(super) fn show(value: &AllowedOrigins) -> String {
        value.to_string()
    }
}

mod bytes_or_none {
    pub(super) fn parse(text: &str) -> Result<u64, String> {
        if matches!(text, "0" | "0B") { Ok(0) } else { super::bytes64::parse(text) }
    }
    pub(super) fn show(value: &u64) -> String {
        if *value == 0 { "0B".to_owned() } else { super::bytes64::show(value) }
    }
}

mod free_min {
    use span_store::FreeMin;

    pub(super) fn parse(text: &str) -> Result<FreeMin, String> {
        if text == "auto" {
            return Ok(FreeMin::Auto);
        }
        let Some(percent) = text.strip_suffix('%') else {
            return super::bytes64::parse(text).map(FreeMin::Bytes);
        };
        let percent = percent.trim().parse().ok().filter(|&percent: &u8| percent < 100);
        percent.map(FreeMin::Percent).ok_or_else(|| format!("must be below 100%, not `{text}`"))
    }

    pub(super) fn show(value: &FreeMin) -> String {
        match value {
            FreeMin::Auto => "auto".to_owned(),
            FreeMin::Bytes(bytes) => super::bytes64::show(bytes),
            FreeMin::Percent(percent) => format!("{percent}%"),
        }
    }
}

mod auto_time {
    use super::{NanoDuration, time};

    pub(super) fn parse(text: &str) -> Result<Option<NanoDuration>, String> {
        if text == "auto" { Ok(None) } else { time::parse(text).map(Some) }
    }

    pub(super) fn show(value: &Option<NanoDuration>) -> String {
        value.as_ref().map_or_else(|| "auto".to_owned(), time::show)
    }
}

mod durability {
    use super::Durability;

    pub(super) fn parse(text: &str) -> Result<Durability, String> {
        match text {
            "process" => Ok(Durability::Process),
            "sync" => Ok(Durability::Sync),
            _ => Err(format!("must be process or sync, not `{text}`")),
        }
    }

    pub(super) fn show(value: &Durability) -> String {
        match value {
            Durability::Process => "process".to_owned(),
            Durability::Sync => "sync".to_owned(),
        }
    }
}
