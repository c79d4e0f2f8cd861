//! The path summed by service, operation and edge: the rows of a bottleneck report.

use std::cmp::Reverse;

use hashbrown::HashMap;
use trace_model::{NanoDuration, OperationId, ServiceId, SpanNode, StatusCode, Trace};

use crate::path::{CriticalPath, PathSegment};
use crate::self_time::inclusive;
use crate::tree::Tree;

/// One operation's share of a path. All rows' `exclusive` sum to exactly the length of the path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PathShare {
    /// The service; on an edge, the client's.
    pub service: ServiceId,
    /// The operation; on an edge, the client span's.
    pub operation: OperationId,
    /// Set if the time is that of the network or a queue between two services: `(client, server)`.
    pub edge: Option<(ServiceId, ServiceId)>,
    /// The time on the path, in nanoseconds.
    pub exclusive: NanoDuration,
    /// How many spans of the operation there are in the tree of the root, on the path or off it.
    pub spans: u32,
    /// How many of those have the status ERROR.
    pub errors: u32,
    /// Whether one of those, or a span below one, owns a part of the path.
    pub on_path: bool,
}

type Operation = (ServiceId, OperationId);

/// What the tree holds of one operation.
struct Count {
    spans: u32,
    errors: u32,
    on_path: bool,
    has_row: bool,
}

/// The path's shares by service, operation and edge, largest first; shares of equal size in the order in
/// which their operations first appear among the trace's spans. Every operation of the root's tree has
/// a row, with zero time if it owns no part of the path.
pub fn path_shares(trace: &Trace, path: &CriticalPath) -> Vec<PathShare> {
    let mut counts = Counts::new(trace, path);
    let mut rows: Vec<(usize, PathShare)> = Vec::new();
    let mut places = HashMap::new();
    for segment in &path.segments {
        let Some((at, edge)) = counts.owner(trace, segment) else { continue };
        let place = *places.entry((at, edge)).or_insert_with(|| {
            rows.push((at, counts.row(at, edge)));
            rows.len() - 1
        });
        let exclusive = &mut rows[place].1.exclusive;
        exclusive.0 = exclusive.0.saturating_add(segment.duration().0);
    }
    for at in 0..counts.list.len() {
        if !counts.list[at].1.has_row {
            rows.push((at, counts.row(at, None)));
        }
    }
    // Stable: the rows of one operation stay in the order of the path.
    rows.sort_by_key(|(at, row)| (Reverse(row.exclusive), *at));
    rows.into_iter().map(|(_, row)| row).collect()
}

/// The operations of a tree, in the order of their first appearance.
struct Counts {
    list: Vec<(Operation, Count)>,
    places: HashMap<Operation, usize>,
}

impl Counts {
    fn new(trace: &Trace, path: &CriticalPath) -> Self {
        let parts = inclusive(trace, path);
        let mut tree = Tree::below(trace, path.root as usize).preorder().to_vec();
        tree.sort_unstable();
        let mut counts = Self { list: Vec::new(), places: HashMap::new() };
        for i in tree {
            counts.add(&trace.spans()[i as usize], parts[i as usize].0 > 0);
        }
        counts
    }

    fn add(&mut self, span: &SpanNode, on_path: bool) {
        let operation = (span.service, span.operation);
        let place = *self.places.entry(operation).or_insert(self.list.len());
        if place == self.list.len() {
            self.list.push((operation, Count { spans: 0, errors: 0, on_path: false, has_row: false }));
        }
        let count = &mut self.list[place].1;
        count.spans += 1;
        count.errors += u32::from(span.status == StatusCode::Error);
        count.on_path |= on_path;
    }

    /// The operation and the edge that a segment's time goes to.
    fn owner(&self, trace: &Trace, segment: &PathSegment) -> Option<(usize, Option<(ServiceId, ServiceId)>)> {
        let span = trace.spans().get(segment.span as usize)?;
        let service = |i: u32| trace.spans().get(i as usize).map(|span| span.service);
        let edge = segment.edge.and_then(|(client, server)| Some((service(client)?, service(server)?)));
        Some((*self.places.get(&(span.service, span.operation))?, edge))
    }

    /// A row of the operation without any time yet.
    fn row(&mut self, at: usize, edge: Option<(ServiceId, ServiceId)>) -> PathShare {
        let ((service, operation), count) = &mut self.list[at];
        count.has_row = true;
        let Count { spans, errors, on_path, .. } = *count;
        PathShare {
            service: *service,
            operation: *operation,
            edge,
            exclusive: NanoDuration(0),
            spans,
            errors,
            on_path,
        }
    }
}
