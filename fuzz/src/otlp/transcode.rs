//! OTLP/JSON to protobuf and back, and against serde on prost's types.
//!
//! Where serde and Longpole differ on purpose: Longpole takes what protobuf's JSON mapping allows (names as in the
//! .proto file, `null` for absent, base64 of either alphabet, integers with an exponent) and refuses two members of a
//! oneof and integers over 64 bits; serde on prost's types demands some fields and reads unknown ones leniently. So verdicts are not compared;
//! what both take must be the same request.

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use otlp_wire::{TracesJson, Walked, WireLimits, json_to_traces, protobuf_len_max, walk};
use prost::Message;
use serde_json::Value as Json;

/// Whether the text is taken.
///
/// # Panics
/// If what comes out is not what went in, or an error says too little or too much.
pub fn check_json_text(text: &[u8]) -> bool {
    let bytes = match json_to_traces(text) {
        Ok(bytes) => bytes,
        Err(error) => {
            let message = error.to_string();
            assert!((8..2_000).contains(&message.len()), "{message}");
            return false;
        }
    };
    let decoded = ExportTraceServiceRequest::decode(&bytes[..]).unwrap();
    walk(&bytes, &WireLimits::default(), &mut Walked::new()).unwrap();
    assert!(bytes.len() <= protobuf_len_max(text.len()), "{} bytes of {}", bytes.len(), text.len());
    let again = serde_json::to_vec(&TracesJson(&bytes)).unwrap();
    assert_eq!(json_to_traces(&again).unwrap(), bytes, "{}", String::from_utf8_lossy(&again));
    if let Ok(other) = serde_json::from_slice::<ExportTraceServiceRequest>(text)
        && !is_ambiguous(text)
    {
        assert_eq!(format!("{decoded:?}"), format!("{other:?}"));
    }
    true
}

/// Whether the two may read different values by their own right: a field under both of its names.
fn is_ambiguous(text: &[u8]) -> bool {
    let Ok(document) = serde_json::from_slice::<Json>(text) else { return true };
    let mut left = vec![&document];
    while let Some(place) = left.pop() {
        match place {
            Json::Array(list) => left.extend(list),
            Json::Object(object) => {
                let snake = |name: &String| name.contains('_');
                if object.keys().any(snake) {
                    return true;
                }
                left.extend(object.values());
            }
            _ => {}
        }
    }
    false
}
