//! What is known of spans without holding them.

use std::cmp::Reverse;

use hashbrown::HashMap;
use trace_model::{OperationId, ServiceId, SpanId, SpanNode, StatusCode, UnixNanos};

/// Sums over distinct spans of one trace, in whatever order they came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    /// How many spans.
    pub spans: u64,
    /// Of these, with status error.
    pub errors: u64,
    /// Their earliest start; `UnixNanos(u64::MAX)` without spans.
    pub start: UnixNanos,
    /// Their latest end, or latest start where that is later.
    pub end: UnixNanos,
    /// Spans and errors by service.
    pub services: HashMap<ServiceId, (u32, u32)>,
    root: Option<Root>,
}

/// A span without a parent, by what orders it among others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Root {
    order: (UnixNanos, SpanId, Reverse<UnixNanos>, u64),
    operation: OperationId,
}

impl Default for Totals {
    fn default() -> Self {
        Self {
            spans: 0,
            errors: 0,
            start: UnixNanos(u64::MAX),
            end: UnixNanos(0),
            services: HashMap::new(),
            root: None,
        }
    }
}

impl Totals {
    /// Counts one more span.
    pub fn add(&mut self, node: &SpanNode) {
        let error = node.status == StatusCode::Error;
        self.spans += 1;
        self.errors += u64::from(error);
        self.start = self.start.min(node.start);
        self.end = self.end.max(node.end).max(node.start);
        let service = self.services.entry(node.service).or_default();
        service.0 = service.0.saturating_add(1);
        service.1 = service.1.saturating_add(u32::from(error));
        if node.parent.is_none() {
            let order = (node.start, node.span_id, Reverse(node.end), node.content);
            if self.root.is_none_or(|root| order < root.order) {
                self.root = Some(Root { order, operation: node.operation });
            }
        }
    }

    /// The operation of the root that stands for the trace, if a span without a parent is among them.
    pub fn root(&self) -> Option<OperationId> {
        self.root.map(|root| root.operation)
    }
}

impl<'a> Extend<&'a SpanNode> for Totals {
    fn extend<T: IntoIterator<Item = &'a SpanNode>>(&mut self, nodes: T) {
        nodes.into_iter().for_each(|node| self.add(node));
    }
}
