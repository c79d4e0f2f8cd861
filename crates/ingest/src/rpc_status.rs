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

/// The least that is drawn from for `Retry-After`: between one second and two.
const SECONDS_DRAWN_MIN: Duration = Duration::from_millis(1_500);

/// Whole seconds for `Retry-After`: rounded up more often the nearer the next is, so that they are the wait on average and
/// clients spread out as the wait itself does. The header cannot say less than a second: with a short wait half of the
/// clients come back after one, half after two.
pub(crate) fn retry_after_seconds(wait: Duration) -> u64 {
    let wait = wait.max(SECONDS_DRAWN_MIN);
    let up = rand::random_range(0..1_000) < wait.subsec_millis();
    wait.as_secs() + u64::from(up)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

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

    /// How often each number of seconds is drawn for a wait of so many milliseconds, of 4,000 times.
    fn drawn(millis: u64) -> BTreeMap<u64, u64> {
        let mut drawn = BTreeMap::new();
        for _ in 0..4_000 {
            *drawn.entry(retry_after_seconds(Duration::from_millis(millis))).or_default() += 1;
        }
        drawn
    }

    #[test]
    fn short_waits_spread_over_the_first_two_seconds() {
        for millis in [0, 100, 999, 1_000, 1_499] {
            let drawn = drawn(millis);
            assert!(drawn.keys().eq(&[1, 2]), "{millis} ms: {drawn:?}");
            assert!(drawn.values().all(|times| (1_600..=2_400).contains(times)), "{millis} ms: {drawn:?}");
        }
    }

    #[test]
    fn longer_waits_are_kept_on_average() {
        for (millis, low) in [(1_750, 1), (2_500, 2), (29_250, 29), (35_900, 35)] {
            let drawn = drawn(millis);
            assert!(drawn.keys().eq(&[low, low + 1]), "{millis} ms: {drawn:?}");
            let sum: u64 = drawn.iter().map(|(seconds, times)| seconds * times).sum();
            let mean = sum * 1_000 / 4_000;
            assert!(mean.abs_diff(millis) <= 60, "{millis} ms: {mean} on average");
        }
        assert!(drawn(30_000).keys().eq(&[30]));
    }
}
