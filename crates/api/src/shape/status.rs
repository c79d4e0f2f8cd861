//! The state of the process.

use std::collections::BTreeMap;
use std::time::Duration;

use query::StatusAnswer;
use serde::Serialize;

use super::Text;
use super::housekeeping::HousekeepingShape;
use crate::BuildInfo;

/// `GET /status`.
#[derive(Debug, Serialize)]
pub(crate) struct Status<'a> {
    build: Build<'a>,
    uptime_nanos: u64,
    store: Store<'a>,
    disk: Disk,
    open: Open,
    housekeeping: HousekeepingShape,
    counters: BTreeMap<&'static str, u64>,
    damaged: &'a [String],
    recovering: Option<&'a str>,
    refusing: &'a [String],
}

#[derive(Debug, Serialize)]
struct Build<'a> {
    version: &'a str,
    commit: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Store<'a> {
    segments: u64,
    partitions: u64,
    sealed_spans: u64,
    live_spans: u64,
    stored_bytes: u64,
    log_bytes: u64,
    bytes_last_day: u64,
    oldest_unix_nano: Option<Text<u64>>,
    reopened: u64,
    torn_log_end: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct Disk {
    state: &'static str,
    free_bytes: u64,
    total_bytes: u64,
    free_min_bytes: u64,
    ballast_bytes: u64,
}

#[derive(Debug, Serialize)]
struct Open {
    traces: u64,
    spans: u64,
}

impl<'a> Status<'a> {
    pub(crate) fn new(build: &'a BuildInfo, uptime: Duration, status: &'a StatusAnswer) -> Self {
        Self {
            build: Build { version: &build.version, commit: build.commit.as_deref() },
            uptime_nanos: u64::try_from(uptime.as_nanos()).unwrap_or(u64::MAX),
            store: status.into(),
            disk: Disk {
                state: status.disk.state,
                free_bytes: status.disk.free,
                total_bytes: status.disk.total,
                free_min_bytes: status.disk.free_min,
                ballast_bytes: status.disk.ballast,
            },
            open: Open { traces: status.open_traces, spans: status.open_spans },
            housekeeping: status.into(),
            counters: status.counters.iter().copied().collect(),
            damaged: &status.damaged,
            recovering: status.recovering.as_deref(),
            refusing: &status.refusing,
        }
    }
}

impl<'a> From<&'a StatusAnswer> for Store<'a> {
    fn from(status: &'a StatusAnswer) -> Self {
        Self {
            segments: status.segments,
            partitions: status.partitions,
            sealed_spans: status.sealed_spans,
            live_spans: status.live_spans,
            stored_bytes: status.stored_bytes,
            log_bytes: status.log_bytes,
            bytes_last_day: status.bytes_last_day,
            oldest_unix_nano: status.oldest.map(|at| Text(at.0)),
            reopened: status.reopened,
            torn_log_end: status.torn_log_end.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{json, to_value};

    use super::*;
    use crate::fake;

    #[test]
    fn the_status_has_this_shape() {
        let build = BuildInfo { version: "0.1.0".into(), commit: None };
        let wanted = json!({
            "build": {"version": "0.1.0", "commit": null}, "uptime_nanos": 5,
            "store": {"segments": 2, "partitions": 1, "sealed_spans": 10, "live_spans": 3, "stored_bytes": 4096,
                "log_bytes": 512, "bytes_last_day": 4096, "oldest_unix_nano": "1700000000000000000", "reopened": 1,
                "torn_log_end": "the log ends torn"},
            "disk": {"state": "ok", "free_bytes": 900, "total_bytes": 1000, "free_min_bytes": 50,
                "ballast_bytes": 20},
            "open": {"traces": 1, "spans": 3},
            "housekeeping": {
                "merged": {"partitions": 1, "segments_before": 288, "segments_after": 2, "failed": 0},
                "freed": {"partitions": 2, "segments": 3, "spans": 40, "bytes": 5_000,
                    "last_unix_nano": "1700000000000000000"},
                "postponed": 1,
                "dictionaries": {"stored": 2, "trained": 9, "adopted": 3, "dropped": 1, "failed": 0},
                "rollups": {
                    "minute": {"rollups": 2, "bytes": 700, "spans": 40, "traces": 9,
                        "oldest_unix_nano": "1700000000000000000",
                        "freed": {"rollups": 0, "spans": 0, "bytes": 0, "last_unix_nano": null}},
                    "hour": {"rollups": 0, "bytes": 0, "spans": 0, "traces": 0, "oldest_unix_nano": null,
                        "freed": {"rollups": 0, "spans": 0, "bytes": 0, "last_unix_nano": null}},
                    "day": {"rollups": 0, "bytes": 0, "spans": 0, "traces": 0, "oldest_unix_nano": null,
                        "freed": {"rollups": 0, "spans": 0, "bytes": 0, "last_unix_nano": null}}
                }
            },
            "counters": {"late_spans": 7},
            "damaged": [], "recovering": null, "refusing": ["the disk is full"]
        });
        let status = fake::status();
        assert_eq!(to_value(Status::new(&build, Duration::from_nanos(5), &status)).unwrap(), wanted);
    }
}
