//! Which request is sent next, when, and at which of the pool's passes.

use std::sync::Mutex;
use std::time::Duration;

/// A sender that fell behind catches up with this much at most; what is older is skipped.
const BEHIND_MAX: u64 = 1_000_000_000;

/// When to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// After so many spans; whole requests, so it may be a little more.
    Spans(u64),
    /// No request is begun after so much time.
    Time(Duration),
}

/// One request to send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// Passes over the pool before this one.
    pub pass: u64,
    /// Which request of the pool.
    pub request: usize,
    /// Spans of the request.
    pub spans: u64,
    /// Where the times of the pass begin, unix nanoseconds. All requests of a pass agree on it.
    pub base_unix_nano: u64,
    /// When to send it, in nanoseconds since the start. Not after now if there is no rate.
    pub due: u64,
}

/// Gives out the turns to all senders.
#[derive(Debug)]
pub struct Schedule {
    /// Spans of each request of the pool.
    sizes: Vec<u64>,
    length_nanos: u64,
    limit: Limit,
    /// Spans a second.
    rate: Option<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    turns: u64,
    spans: u64,
    base_unix_nano: u64,
    /// Time that was skipped, nanoseconds.
    skipped: u64,
}

impl Schedule {
    /// `sizes` are the spans of the pool's requests, `length_nanos` is what one pass plays.
    pub fn new(sizes: Vec<u64>, length_nanos: u64, limit: Limit, rate: Option<u64>) -> Self {
        Self { sizes, length_nanos, limit, rate, state: Mutex::default() }
    }

    /// The next turn at `now`, nanoseconds since the start, and `unix` nanoseconds. None when all is sent.
    pub fn turn(&self, now: u64, unix: u64) -> Option<Turn> {
        let mut state = self.state.lock().ok()?;
        let requests = self.sizes.len() as u64;
        let request = usize::try_from(state.turns.checked_rem(requests)?).ok()?;
        if matches!(self.limit, Limit::Spans(spans) if state.spans >= spans) {
            return None;
        }
        let due = self.due(&mut state, now);
        if matches!(self.limit, Limit::Time(time) if u128::from(due) >= time.as_nanos()) {
            return None;
        }
        if request == 0 {
            // The pass ends when it is sent, so that no span is from the future.
            state.base_unix_nano = (unix + due.saturating_sub(now)).saturating_sub(self.length_nanos);
        }
        let (pass, spans) = (state.turns / requests, self.sizes[request]);
        let turn = Turn { pass, request, spans, base_unix_nano: state.base_unix_nano, due };
        state.turns += 1;
        state.spans += spans;
        Some(turn)
    }

    fn due(&self, state: &mut State, now: u64) -> u64 {
        let Some(rate) = self.rate else { return now };
        let played = u128::from(state.spans) * 1_000_000_000 / u128::from(rate.max(1));
        let due = u64::try_from(played).unwrap_or(u64::MAX).saturating_add(state.skipped);
        let late = now.saturating_sub(BEHIND_MAX).saturating_sub(due);
        state.skipped += late;
        due.saturating_add(late)
    }

    /// Requests given out.
    pub fn turns(&self) -> u64 {
        self.state.lock().map_or(0, |state| state.turns)
    }

    /// Time for which nothing was sent because the server did not keep up with the rate.
    pub fn skipped(&self) -> Duration {
        self.state.lock().map_or(Duration::ZERO, |state| Duration::from_nanos(state.skipped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn all(schedule: &Schedule, now: u64) -> Vec<Turn> {
        std::iter::from_fn(|| schedule.turn(now, 100 * SECOND + now)).take(1_000).collect()
    }

    #[test]
    fn passes_follow_each_other_until_the_spans_are_sent() {
        let schedule = Schedule::new(vec![10, 10, 5], 3 * SECOND, Limit::Spans(36), None);
        let turns = all(&schedule, 7);
        let places: Vec<(u64, usize)> = turns.iter().map(|turn| (turn.pass, turn.request)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)]);
        assert!(turns.iter().all(|turn| turn.base_unix_nano == 97 * SECOND + 7 && turn.due == 7));
        assert_eq!(schedule.turns(), 5);
    }

    #[test]
    fn a_pass_keeps_its_base_and_the_next_has_a_later_one() {
        let schedule = Schedule::new(vec![10, 10], SECOND, Limit::Spans(40), None);
        let at = |seconds: u64| schedule.turn(seconds * SECOND, seconds * SECOND).unwrap().base_unix_nano;
        assert_eq!([at(5), at(6), at(7), at(8)], [4, 4, 6, 6].map(|seconds| seconds * SECOND));
    }

    #[test]
    fn time_ends_it() {
        let schedule = Schedule::new(vec![10], 0, Limit::Time(Duration::from_secs(2)), None);
        assert!(schedule.turn(2 * SECOND - 1, 0).is_some());
        assert!(schedule.turn(2 * SECOND, 0).is_none());
    }

    #[test]
    fn a_rate_spaces_requests_by_their_spans() {
        let schedule = Schedule::new(vec![10, 30], 0, Limit::Time(Duration::from_secs(2)), Some(40));
        let dues: Vec<u64> = all(&schedule, 0).iter().map(|turn| turn.due).collect();
        assert_eq!(dues, [0, SECOND / 4, SECOND, SECOND * 5 / 4]);
    }

    #[test]
    fn a_sender_that_fell_behind_catches_up_with_one_second_only() {
        let schedule = Schedule::new(vec![10], 0, Limit::Spans(1_000), Some(10));
        let dues: Vec<u64> =
            (0..4).filter_map(|_| schedule.turn(6 * SECOND, 0)).map(|turn| turn.due / SECOND).collect();
        assert_eq!(dues, [5, 6, 7, 8]);
        assert_eq!(schedule.skipped(), Duration::from_secs(5));
    }
}
