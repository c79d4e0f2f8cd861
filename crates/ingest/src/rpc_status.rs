//! A refusal as OTLP/HTTP wants it: a `google.rpc.Status` in the request's own content type.

use std::time::Duration;

use prost::Message;
use serde_json::json;
use tonic_types::pb;

use crate::refusal::Refused;

/// As protobuf.
pub(crate) fn protobuf(refused: &Refused) -> Vec<u8> {
    let status = refused.status();
    if !status.details().is_empty() {
        // They are a google.rpc.Status, with code and message.
        return status.details().to_vec();
    }
    let message = refused.message.clone();
    pb::Status { code: i32::from(status.code()), message, details: Vec::new() }.encode_to_vec()
}

/// As JSON.
pub(crate) fn json(refused: &Refused) -> String {
    let mut status = json!({"code": i32::from(refused.status().code()), "message": refused.message});
    if let Some(wait) = refused.retry_after {
        let delay = format!("{}.{:03}s", wait.as_secs(), wait.subsec_millis());
        status["details"] =
            json!([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}]);
    }
    status.to_string()
}

/// Whole seconds for `Retry-After`: one at least, and rounded up more often the nearer the next is, so that clients
/// spread out as the wait itself does.
pub(crate) fn retry_after_seconds(wait: Duration) -> u64 {
    let up = rand::random_range(0..1_000) < wait.subsec_millis();
    (wait.as_secs() + u64::from(up)).max(1)
}

#[cfg(test)]
mod tests {
    use tonic_types::StatusExt;

    use super::*;
    use crate::refusal::Reason;

    #[test]
    fn both_forms_say_the_same() {
        let wait = Duration::from_millis(1_250);
        for refused in
            [Refused::until(Reason::Overloaded, "later", wait), Refused::new(Reason::Unreadable, "never")]
        {
            let status = pb::Status::decode(&protobuf(&refused)[..]).unwrap();
            let text: serde_json::Value = serde_json::from_str(&json(&refused)).unwrap();
            assert_eq!(
                (text["code"].as_i64(), text["message"].as_str()),
                (Some(i64::from(status.code)), Some(&*status.message))
            );
            assert_eq!(status.details.len(), usize::from(refused.retry_after.is_some()));
            let delay = text["details"][0]["retryDelay"].as_str();
            assert_eq!(delay, refused.retry_after.map(|_| "1.250s"));
            let info = refused.status().get_details_retry_info();
            assert_eq!(info.and_then(|info| info.retry_delay), refused.retry_after);
        }
    }

    #[test]
    fn seconds_are_whole_and_never_zero() {
        assert_eq!(retry_after_seconds(Duration::from_millis(100)), 1);
        for _ in 0..100 {
            assert!([2, 3].contains(&retry_after_seconds(Duration::from_millis(2_500))));
        }
        assert_eq!(retry_after_seconds(Duration::from_secs(30)), 30);
    }
}
