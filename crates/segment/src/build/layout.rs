//! Lays the spans out as rows, in the order of traces.

use hashbrown::HashSet;
use longpole_proto::segment as proto;
use trace_model::{StatusCode, TraceId};

use crate::ahead::Ahead;
use crate::counting::Counted;
use crate::hashes::OpenBits;
use crate::live::SpanRow;
use crate::names::LocalNames;
use crate::order::Placed;
use crate::rows::{ROOT_FLAG, Row};

/// What is noted of the spans, each list in their order, and which traces are open.
pub(super) struct Layout {
    pub(super) rows: Vec<Row>,
    pub(super) counted: Vec<Counted>,
    /// Small numbers that spans of one operation share, roots apart: those have no parent to write.
    pub(super) kinds_of_call: Vec<u32>,
    pub(super) open: OpenBits,
}

impl Layout {
    pub(super) fn of(
        order: &[Placed<'_>],
        open: &[TraceId],
        names: &mut LocalNames<'_>,
        meta: &mut proto::SegmentMeta,
    ) -> Self {
        let is_open: HashSet<&TraceId> = open.iter().collect();
        let mut layout = Self {
            rows: Vec::with_capacity(order.len()),
            counted: Vec::with_capacity(order.len()),
            kinds_of_call: Vec::with_capacity(order.len()),
            open: OpenBits::default(),
        };
        let mut ahead = Ahead::rows(order);
        for spans in order.chunk_by(|a, b| a.2.trace_id == b.2.trace_id) {
            if is_open.contains(&spans[0].2.trace_id) {
                layout.open.set(meta.traces as u32);
            }
            for (nth, (_, _, row)) in spans.iter().enumerate() {
                ahead.fetch_next();
                layout.add(row, (meta.traces as u32, nth as u32), names);
                note_span(row, meta);
            }
            meta.traces += 1;
        }
        layout
    }

    fn add(&mut self, row: &SpanRow, (trace, span): (u32, u32), names: &mut LocalNames<'_>) {
        let to = to_row(row, (self.rows.len() as u32, trace, span), names);
        self.kinds_of_call.push(to.operation * 2 + u32::from(row.node.parent.is_none()));
        self.rows.push(to);
        self.counted.push(Counted::new(row));
    }
}

fn to_row(row: &SpanRow, (place, trace, span): (u32, u32, u32), names: &mut LocalNames<'_>) -> Row {
    let node = &row.node;
    let root = if node.parent.is_none() { ROOT_FLAG } else { 0 };
    Row {
        service: names.service(node.service),
        duration: node.duration().0,
        start: node.start.0,
        trace,
        span,
        operation: names.operation(node.operation),
        flags: node.status as u8 | root,
        place,
    }
}

fn note_span(row: &SpanRow, meta: &mut proto::SegmentMeta) {
    let node = &row.node;
    meta.errors += u64::from(node.status == StatusCode::Error);
    meta.start_min = meta.start_min.min(node.start.0);
    meta.start_max = meta.start_max.max(node.start.0);
}
