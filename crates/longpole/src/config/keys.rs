//! The table of configuration keys.

use super::Config;
use super::values::{
    address, auto_time, bytes, bytes_or_none, bytes64, count, durability, filter, format, free_min, origins,
    part, part_count, path, tcp_address, time, timeout,
};

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

/// The key of the folder of the store.
pub(super) const DATA_DIR: &str = "server.data_dir";

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
    key!("server.data_dir", "longpole-data", "Folder of the store.", path, data_dir),
    key!(
        "server.otlp_grpc",
        "127.0.0.1:4317",
        "Address for OTLP/gRPC: host:port or unix:/path.",
        address,
        otlp_grpc
    ),
    key!(
        "server.otlp_http",
        "127.0.0.1:4318",
        "Address for OTLP/HTTP: host:port or unix:/path.",
        address,
        otlp_http
    ),
    key!("server.http", "127.0.0.1:16686", "Address for the API and /metrics.", tcp_address, http),
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
    key!(
        "ingest.request_spans",
        "1000000",
        "Spans of one request at most, and `ScopeSpans`.",
        count,
        ingest.request_spans
    ),
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
        "Time for the body of a request to come, and for a client that reads nothing of its answer.",
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
    key!(
        "log.level",
        "info",
        "Level of Longpole's own log: off, error, warn, info, debug, trace, also of a part of it: `info,span_store=debug`.",
        filter,
        log.level
    ),
    key!("log.format", "auto", "`text`, `json`, or `auto`: text on a terminal.", format, log.format),
];

/// The key of this name.
pub(crate) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The first key of a section.
pub(crate) fn first_of(section: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name.split_once('.').is_some_and(|(of, _)| of == section))
}

/// The known key that is closest to what was written, with its section, without it, or with another sign in between.
pub(crate) fn nearest(written: &str) -> &'static str {
    let written = written.replace('.', "_");
    let far = |name: &&str| {
        let alone = name.split_once('.').map_or(usize::MAX, |(_, alone)| distance(&written, alone) + 1);
        distance(&written, &name.replace('.', "_")).min(alone)
    };
    KEYS.iter().map(|key| key.name).min_by_key(far).unwrap_or_default()
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
