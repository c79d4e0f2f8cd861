//! Longpole's own messages: what is stored about a segment. OTLP's messages come from `opentelemetry-proto`.

/// What a sealed segment says about itself.
#[allow(clippy::all, missing_debug_implementations, unreachable_pub, reason = "generated")]
pub mod segment {
    include!(concat!(env!("OUT_DIR"), "/longpole.segment.v1.rs"));
}

/// What a rollup says about itself.
#[allow(clippy::all, missing_debug_implementations, unreachable_pub, reason = "generated")]
pub mod rollup {
    include!(concat!(env!("OUT_DIR"), "/longpole.rollup.v1.rs"));
}
