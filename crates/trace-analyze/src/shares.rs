//! The path summed by service, operation and edge: the rows of a bottleneck report.

use std::cmp::Reverse;

use hashbrown::HashMap;
use trace_model::{NanoDuration, OperationId, ServiceId, StatusCode, Trace};

use crate::path::CriticalPath;
use crate::self_time::inclusive_in;
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

/// What the tree holds of one operation.
struct Operation {
    /// The operation's first span, which stands for it.
    first: u32,
    spans: u32,
    errors: u32,
    on_path: bool,
    /// Its row without an edge; [`NONE`] if it has none.
    plain: u32,
    has_row: bool,
}

/// A row in the making.
struct Row {
    /// Index of the operation.
    operation: u32,
    edge: Option<(ServiceId, ServiceId)>,
    exclusive: NanoDuration,
}

/// Operations that room is made for at once.
const ROOM: usize = 64;
/// No operation, or no row. There are fewer than this.
const NONE: u32 = u32::MAX;

/// The path's shares by service, operation and edge, largest first; shares of equal size in the order in
/// which their operations first appear among the trace's spans. Every operation of the root's tree has
/// a row, with zero time if it owns no part of the path.
pub fn path_shares(trace: &Trace, path: &CriticalPath) -> Vec<PathShare> {
    let mut operations = Operations::new(trace, path);
    let rows = operations.rows(trace, path);
    // The rows of one operation stay in the order of the path.
    let key = |(at, row): (u32, &Row)| (Reverse(row.exclusive), row.operation, at);
    let mut order: Vec<_> = (0..).zip(&rows).map(key).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, _, at)| operations.share(trace, &rows[at as usize])).collect()
}

/// The operations of a tree.
struct Operations {
    /// In the order of their first appearance.
    list: Vec<Operation>,
    /// Index of each span's operation; [`NONE`] outside the tree.
    of_span: Vec<u32>,
}

impl Operations {
    fn new(trace: &Trace, path: &CriticalPath) -> Self {
        let tree = Tree::below(trace, path.root as usize);
        let times = inclusive_in(trace, path, &tree);
        let spans = trace.spans();
        let mut of_span = vec![NONE; spans.len()];
        tree.spans().iter().for_each(|i| of_span[*i as usize] = 0);
        let mut list: Vec<Operation> = Vec::with_capacity(tree.spans().len().min(ROOM));
        let mut places = HashMap::with_capacity(tree.spans().len().min(ROOM));
        for (i, place) in (0..).zip(&mut of_span).filter(|(_, place)| **place != NONE) {
            let span = &spans[i as usize];
            let name = u64::from(span.service.0) << 32 | u64::from(span.operation.0);
            *place = *places.entry(name).or_insert(list.len() as u32);
            if *place as usize == list.len() {
                let new =
                    Operation { first: i, spans: 0, errors: 0, on_path: false, plain: NONE, has_row: false };
                list.push(new);
            }
            let operation = &mut list[*place as usize];
            operation.spans += 1;
            operation.errors += u32::from(span.status == StatusCode::Error);
            operation.on_path |= times[i as usize].0 > 0;
        }
        Self { list, of_span }
    }

    /// The rows of the path in its order, then those of operations without a part in it. Segments of spans outside
    /// the tree have none.
    fn rows(&mut self, trace: &Trace, path: &CriticalPath) -> Vec<Row> {
        let service = |i: u32| trace.spans().get(i as usize).map(|span| span.service);
        let mut rows: Vec<Row> = Vec::with_capacity(self.list.len() + self.list.len() / 2);
        let mut of_edges: HashMap<u128, u32> = HashMap::with_capacity(self.list.len().min(ROOM) / 2);
        for segment in &path.segments {
            let operation = self.of_span.get(segment.span as usize).copied().unwrap_or(NONE);
            let Some(counts) = self.list.get_mut(operation as usize) else { continue };
            let edge = segment.edge.and_then(|(client, server)| Some((service(client)?, service(server)?)));
            let place = match edge {
                None => &mut counts.plain,
                Some((client, server)) => {
                    let ends = u64::from(client.0) << 32 | u64::from(server.0);
                    let key = u128::from(operation) << 64 | u128::from(ends);
                    of_edges.entry(key).or_insert(NONE)
                }
            };
            if *place == NONE {
                *place = rows.len() as u32;
                counts.has_row = true;
                rows.push(Row { operation, edge, exclusive: NanoDuration(0) });
            }
            let exclusive = &mut rows[*place as usize].exclusive;
            exclusive.0 = exclusive.0.saturating_add(segment.duration().0);
        }
        let without = (0..).zip(&self.list).filter(|(_, operation)| !operation.has_row);
        rows.extend(without.map(|(operation, _)| Row { operation, edge: None, exclusive: NanoDuration(0) }));
        rows
    }

    fn share(&self, trace: &Trace, row: &Row) -> PathShare {
        let operation = &self.list[row.operation as usize];
        let span = &trace.spans()[operation.first as usize];
        PathShare {
            service: span.service,
            operation: span.operation,
            edge: row.edge,
            exclusive: row.exclusive,
            spans: operation.spans,
            errors: operation.errors,
            on_path: operation.on_path,
        }
    }
}
