//! Open files: raising what the process may have, and dividing it between the store and connections.
//!
//! Whoever connects takes a file, and so does the store for every table and log that it opens. Without a bound that leaves
//! the store its part, idle clients alone would keep it from sealing.

use crate::config::Config;

/// What RocksDB keeps open of tables at most: `max_open_files` of the store.
const STORE: u64 = 512;
/// Everything else: log files, tables being written, the directory of traces, listeners, a backup under way.
const OWN: u64 = 128;
/// Connections that each port has at least, however few files there are.
const CONNECTIONS_MIN: usize = 16;
/// One part in so many of the connections is for the query port when there are few.
const QUERY_PART: u64 = 8;

/// Raises the soft limit on open files to the hard one. The limit from now on, `None` if the system does not say.
pub(crate) fn raise_limit() -> Option<u64> {
    let limits = limits()?;
    let raised = libc::rlimit { rlim_cur: limits.rlim_max, ..limits };
    // A system may have a bound of its own below the hard limit; then what there is must do.
    Some(if limits.rlim_cur < limits.rlim_max && set(&raised) { raised.rlim_cur } else { limits.rlim_cur })
}

#[allow(unsafe_code)]
fn limits() -> Option<libc::rlimit> {
    let mut limits = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: it writes one `rlimit` to the pointer, which is valid for the call.
    let answer = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limits) };
    (answer == 0).then_some(limits)
}

#[allow(unsafe_code)]
fn set(limits: &libc::rlimit) -> bool {
    // SAFETY: it reads one `rlimit` from the pointer, which is valid for the call.
    (unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, limits) }) == 0
}

/// Lowers the connections to what so many open files leave beside the store. The keys that had to be lowered.
pub(crate) fn fit_to_files(config: &mut Config, limit: u64) -> Vec<String> {
    let left = limit.saturating_sub(STORE + OWN);
    let (otlp, query) = (config.ingest.connections, config.http_connections);
    if places(otlp) * 2 + places(query) <= left {
        return Vec::new();
    }
    let mut lowered = Vec::new();
    let mut lower = |key: &str, value: &mut usize, files: u64| {
        let most = connections_within(files).max(CONNECTIONS_MIN);
        if *value > most {
            *value = most;
            lowered.push(format!("{key} to {most}"));
        }
    };
    lower("server.http_connections", &mut config.http_connections, left / QUERY_PART);
    let rest = left.saturating_sub(places(config.http_connections)) / 2;
    lower("ingest.connections", &mut config.ingest.connections, rest);
    lowered
}

/// Files of a port with so many connections, with those that are only told that they are too many.
fn places(connections: usize) -> u64 {
    (connections + ingest::spare_connections(connections)) as u64
}

/// The most connections that need no more than so many files.
fn connections_within(files: u64) -> usize {
    let files = usize::try_from(files).unwrap_or(usize::MAX);
    files.saturating_sub(ingest::spare_connections(files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(otlp: usize, query: usize) -> Config {
        let mut config = Config::default();
        (config.ingest.connections, config.http_connections) = (otlp, query);
        config
    }

    #[test]
    fn enough_files_lower_nothing() {
        let mut config = with(1_024, 256);
        assert_eq!(fit_to_files(&mut config, 3_136), Vec::<String>::new());
        assert_eq!((config.ingest.connections, config.http_connections), (1_024, 256));
        assert!(!fit_to_files(&mut config, 3_135).is_empty());
    }

    #[test]
    fn the_store_keeps_its_files_however_few_there_are() {
        for limit in 700..4_000 {
            let mut config = with(1_024, 256);
            fit_to_files(&mut config, limit);
            let taken = places(config.ingest.connections) * 2 + places(config.http_connections);
            assert!(taken + STORE + OWN <= limit, "{limit}: {taken}");
            assert!(
                config.ingest.connections >= CONNECTIONS_MIN && config.http_connections >= CONNECTIONS_MIN
            );
        }
        let mut config = with(1_024, 256);
        let lowered = fit_to_files(&mut config, 1_024);
        assert_eq!(lowered, ["server.http_connections to 36", "ingest.connections to 127"]);
        let mut config = with(8, 4);
        assert_eq!(fit_to_files(&mut config, 0), Vec::<String>::new(), "it was less than the least");
    }

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        let limit = raise_limit().unwrap();
        let now = limits().unwrap();
        assert_eq!((limit, limit), (now.rlim_cur, now.rlim_max));
    }
}
