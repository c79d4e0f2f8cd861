//! What a cut has to say of open traces.

use trace_model::{TraceId, UnixNanos};

use super::Assembler;
use crate::open_trace::Phase;

/// What a cut needs to know of open traces, so that a start after a crash finds them again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenAtCut {
    /// Open traces of which a span came since the last cut.
    pub touched: Vec<TraceId>,
    /// Every open trace is among `touched` of this cut or of one that took arrivals from here on; `None` if no
    /// trace is open.
    pub since: Option<UnixNanos>,
}

impl Assembler {
    /// A cut is made here: says which traces are open. What comes from now on belongs to the next cut.
    pub fn cut(&mut self) -> OpenAtCut {
        let mut touched = std::mem::take(&mut self.touched);
        touched.retain(|id| self.traces.get(id).is_some_and(|trace| trace.phase == Phase::Open));
        self.cut = self.cut.wrapping_add(1).max(1);
        while let Some((at, id)) = self.schedule.opened.front() {
            let trace = self.traces.get(id);
            if trace.is_some_and(|trace| trace.phase == Phase::Open && trace.open_since == *at) {
                break;
            }
            self.schedule.opened.pop_front();
        }
        OpenAtCut { touched, since: self.schedule.opened.front().map(|(at, _)| *at) }
    }
}
