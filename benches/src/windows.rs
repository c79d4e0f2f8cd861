//! Acknowledgements over time: their latency in one window after the other.

use std::sync::Mutex;

use anyhow::Result;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

/// Ten minutes, in microseconds: no request waits longer.
const LATENCY_MAX: u64 = 600_000_000;

/// Latencies of the whole run and of its windows.
#[derive(Debug)]
pub struct Windows {
    width_nanos: u64,
    /// When the run began, unix milliseconds.
    start_unix_ms: u64,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    whole: Histogram<u64>,
    current: Histogram<u64>,
    spans: u64,
    index: u64,
    done: Vec<Value>,
}

impl Windows {
    /// Windows of `width_nanos` from now on.
    ///
    /// # Errors
    /// If a histogram cannot be made.
    pub fn new(width_nanos: u64, start_unix_ms: u64) -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LATENCY_MAX, 3);
        let state =
            State { whole: histogram()?, current: histogram()?, spans: 0, index: 0, done: Vec::new() };
        Ok(Self { width_nanos: width_nanos.max(1), start_unix_ms, state: Mutex::new(state) })
    }

    /// A request of `spans` was acknowledged at `now`, nanoseconds since the start, after `micros`.
    pub fn record(&self, now: u64, micros: u64, spans: u64) {
        let Ok(mut state) = self.state.lock() else { return };
        let index = now / self.width_nanos;
        if index > state.index {
            self.close(&mut state);
            state.index = index;
        }
        state.whole.saturating_record(micros);
        state.current.saturating_record(micros);
        state.spans += spans;
    }

    fn close(&self, state: &mut State) {
        if state.current.is_empty() {
            return;
        }
        let ms = |q: f64| state.current.value_at_quantile(q) as f64 / 1e3;
        let window = json!({
            "unix_ms": self.start_unix_ms + state.index * self.width_nanos / 1_000_000,
            "spans": state.spans,
            "requests": state.current.len(),
            "ack_p50_ms": ms(0.5),
            "ack_p99_ms": ms(0.99),
            "ack_max_ms": state.current.max() as f64 / 1e3,
        });
        state.done.push(window);
        state.current.reset();
        state.spans = 0;
    }

    /// The latencies of the whole run, in microseconds, and its windows.
    ///
    /// # Errors
    /// If a sender panicked.
    pub fn finish(self) -> Result<(Histogram<u64>, Vec<Value>)> {
        let mut state = self.state.lock().map_err(|_| anyhow::anyhow!("a sender panicked"))?;
        self.close(&mut state);
        Ok((state.whole.clone(), std::mem::take(&mut state.done)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_what_was_acknowledged_in_them() {
        let windows = Windows::new(1_000, 50).unwrap();
        for (now, micros) in [(0, 10), (999, 30), (3_500, 7_000), (2_999, 9_000)] {
            windows.record(now, micros, 100);
        }
        let (whole, done) = windows.finish().unwrap();
        assert_eq!(whole.len(), 4);
        let spans: Vec<u64> = done.iter().map(|window| window["spans"].as_u64().unwrap()).collect();
        assert_eq!(spans, [200, 200]);
        assert_eq!(done[0]["ack_max_ms"], 0.03);
        assert!(done[1]["ack_p99_ms"].as_f64().unwrap() >= 9.0);
    }
}
