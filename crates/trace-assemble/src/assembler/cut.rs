//! What a cut has to say of open traces.

use trace_model::{TraceId, UnixNanos};

use super::Assembler;
use crate::open_trace::Phase;

/// So many entries of traces that are open no longer are not worth a pass over all of them.
pub(super) const FORGOTTEN_MIN: usize = 1024;

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
        self.forget_opened();
        OpenAtCut { touched, since: self.schedule.opened.front().map(|(at, _)| *at) }
    }

    /// Forgets when traces were opened that are open no longer: those before the oldest open one, and the others when
    /// they have become the most of all. One trace that stays open would keep all that came after it.
    fn forget_opened(&mut self) {
        let traces = &self.traces;
        let is_open = |(at, id): &(UnixNanos, TraceId)| {
            traces.get(id).is_some_and(|trace| trace.phase == Phase::Open && trace.open_since == *at)
        };
        let opened = &mut self.schedule.opened;
        while opened.front().is_some_and(|first| !is_open(first)) {
            opened.pop_front();
        }
        if opened.len() > FORGOTTEN_MIN + 2 * self.schedule.open {
            opened.retain(is_open);
            opened.shrink_to(FORGOTTEN_MIN + 2 * self.schedule.open);
        }
    }
}
