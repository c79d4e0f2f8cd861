//! The spans below one root, without recursion.

use trace_model::Trace;

use crate::policy::{Interval, Overrun, may_block};

/// The spans of one tree of the trace, each before its children.
pub(crate) struct Tree {
    spans: Vec<u32>,
}

impl Tree {
    /// The tree below `root`; empty if there is no such span.
    pub(crate) fn below(trace: &Trace, root: usize) -> Self {
        if trace.is_in_order() && trace.roots().len() == 1 && trace.primary_root() == root {
            return Self { spans: (0..trace.len() as u32).collect() };
        }
        let mut spans = Vec::new();
        let mut open: Vec<u32> = trace.spans().get(root).map(|_| root as u32).into_iter().collect();
        while let Some(i) = open.pop() {
            spans.push(i);
            open.extend(trace.children(i as usize).iter().rev());
        }
        Self { spans }
    }

    /// The spans, each before its children.
    pub(crate) fn spans(&self) -> &[u32] {
        &self.spans
    }

    /// The part of each span that counts towards the root's response, indexed like the trace's spans:
    /// its interval cut at every ancestor's. `None` for spans that nobody waits for.
    pub(crate) fn awaited(&self, trace: &Trace, overrun: Overrun) -> Vec<Option<Interval>> {
        let spans = trace.spans();
        let mut awaited = vec![None; spans.len()];
        if let Some(root) = self.spans.first() {
            awaited[*root as usize] = Interval::of(&spans[*root as usize]);
        }
        for i in &self.spans {
            let Some(outer) = awaited[*i as usize] else { continue };
            for child in trace.children(*i as usize) {
                let span = &spans[*child as usize];
                if may_block(&spans[*i as usize], span, overrun) {
                    awaited[*child as usize] = outer.clip(span);
                }
            }
        }
        awaited
    }
}
