//! Fetches whole traces: sealed chunks and live spans, each span once, in start order.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use otlp_wire::{read_span, service_name};
use segment::{ContextBlock, LiveBatch, ReadError};
use trace_assemble::{Location, Phase};
use trace_model::{SpanNode, TraceId};

use crate::answer::TraceState;
use crate::engine::QueryError;
use crate::names::NameTable;
use crate::sealed::{Detail, SealedSegment};
use crate::state::{State, View};

/// A span with its bytes.
#[derive(Debug, Clone)]
pub(crate) struct FetchedSpan {
    pub(crate) node: SpanNode,
    pub(crate) context: Arc<[u8]>,
    pub(crate) message: Vec<u8>,
}

/// A trace with its bytes.
#[derive(Debug)]
pub(crate) struct FetchedTrace {
    pub(crate) spans: Vec<FetchedSpan>,
    pub(crate) state: TraceState,
}

impl FetchedTrace {
    pub(crate) fn nodes(&self) -> Vec<SpanNode> {
        self.spans.iter().map(|span| span.node).collect()
    }
}

/// The whole trace, `None` if nothing of it is stored.
pub(crate) fn trace(state: &State, id: TraceId) -> Result<Option<FetchedTrace>, QueryError> {
    let (live, phase) = live_places(state, id);
    let view = state.snapshot();
    let mut spans = Vec::new();
    for segment in view.segments_of(&id)? {
        sealed_spans(state, &segment, id, &mut spans)?;
    }
    live_spans(&view, &live, &mut spans);
    let mut seen = HashSet::with_capacity(spans.len());
    spans.retain(|span| seen.insert((span.node.span_id, span.node.content)));
    spans.sort_unstable_by_key(|span| {
        (span.node.start, std::cmp::Reverse(span.node.end), span.node.span_id, span.node.content)
    });
    let state = if phase == Some(Phase::Open) { TraceState::Open } else { TraceState::Final };
    Ok((!spans.is_empty()).then_some(FetchedTrace { spans, state }))
}

/// The skeletons of a trace in sealed segments.
///
/// # Errors
/// If the store fails.
pub fn stored_nodes(state: &State, id: TraceId) -> Result<Vec<SpanNode>, QueryError> {
    let view = state.snapshot();
    let mut spans = Vec::new();
    for segment in view.segments_of(&id)? {
        sealed_spans(state, &segment, id, &mut spans)?;
    }
    Ok(spans.into_iter().map(|span| span.node).collect())
}

fn live_places(state: &State, id: TraceId) -> (Vec<(u64, u32)>, Option<Phase>) {
    let assembly = state.assembly.lock();
    let Some(trace) = assembly.assembler.get(&id) else { return (Vec::new(), None) };
    let places = assembly.assembler.spans(&id).filter_map(|held| match held.location {
        Location::Live { batch, row } => Some((batch, row)),
        Location::Sealed => None,
    });
    (places.collect(), Some(trace.phase()))
}

/// A batch that is not in the view any more has been sealed, and its spans were found there.
fn live_spans(view: &View, places: &[(u64, u32)], out: &mut Vec<FetchedSpan>) {
    for &(number, row) in places {
        let Ok(at) = view.live.binary_search_by_key(&number, |batch| batch.number) else { continue };
        if let Some(span) = live_span(&view.live[at], row) {
            out.push(span);
        }
    }
}

fn live_span(batch: &LiveBatch, row: u32) -> Option<FetchedSpan> {
    let row = batch.rows.get(row as usize)?;
    Some(FetchedSpan {
        node: row.node,
        context: batch.context(row.context).into(),
        message: batch.span_bytes(row).to_vec(),
    })
}

pub(crate) fn sealed_spans(
    state: &State,
    segment: &SealedSegment,
    id: TraceId,
    out: &mut Vec<FetchedSpan>,
) -> Result<(), QueryError> {
    match try_sealed_spans(state, segment, id, out) {
        Err(_) if segment.handle.is_dropped() => Ok(()),
        other => Ok(other?),
    }
}

fn try_sealed_spans(
    state: &State,
    segment: &SealedSegment,
    id: TraceId,
    out: &mut Vec<FetchedSpan>,
) -> Result<(), ReadError> {
    let detail = state.blocks.detail(segment, &state.names)?;
    let mut contexts: HashMap<u32, Arc<[u8]>> = HashMap::new();
    for block in chunks_of(&detail, &id) {
        for span in state.blocks.chunk(segment, block)?.spans(&id)? {
            let context = match span.own_context {
                Some(own) => own.into(),
                None => match contexts.get(&span.context) {
                    Some(context) => Arc::clone(context),
                    None => {
                        let block = state.blocks.contexts(segment, ContextBlock::number_of(span.context))?;
                        let context: Arc<[u8]> = block.get(span.context)?.into();
                        contexts.insert(span.context, Arc::clone(&context));
                        context
                    }
                },
            };
            let node = node_of(&span.message, &context, &state.names)?;
            out.push(FetchedSpan { node, context, message: span.message });
        }
    }
    Ok(())
}

pub(crate) fn node_of(message: &[u8], context: &[u8], names: &NameTable) -> Result<SpanNode, ReadError> {
    let head = read_span(message).map_err(|_| ReadError::Damaged("span"))?;
    let service = names.service_id(service_name(context));
    Ok(SpanNode {
        span_id: head.span_id,
        parent: head.parent,
        start: head.start,
        end: head.end,
        content: head.content,
        service,
        operation: names.operation_id(service, head.kind, head.name),
        kind: head.kind,
        status: head.status,
    })
}

/// The only blocks of a segment that can hold a trace: one, unless the trace goes on in the next ones.
fn chunks_of(detail: &Detail, id: &TraceId) -> std::ops::Range<u32> {
    let whole = u128::from_be_bytes(*id.as_bytes());
    let meta = &detail.meta;
    let first =
        |at: usize| u128::from(meta.chunk_first_high[at]) << 64 | u128::from(meta.chunk_first_low[at]);
    let (mut low, mut high) = (0, meta.chunk_first_low.len().min(meta.chunk_first_high.len()));
    while low < high {
        let middle = (low + high) / 2;
        if first(middle) <= whole { low = middle + 1 } else { high = middle }
    }
    let end = low as u32;
    let mut begin = end.saturating_sub(1);
    // Blocks that go on with the trace they begin with.
    while begin > 0 && first(begin as usize) == whole && meta.chunk_continued.binary_search(&begin).is_ok() {
        begin -= 1;
    }
    begin..end
}

/// The id of a trace from its number within a segment.
pub(crate) fn trace_id(state: &State, segment: &SealedSegment, number: u32) -> Result<TraceId, ReadError> {
    let detail = state.blocks.detail(segment, &state.names)?;
    let firsts = &detail.meta.chunk_first_trace;
    let damaged = || ReadError::Damaged("chunk directory");
    let block = firsts.partition_point(|&first| first <= number).checked_sub(1).ok_or_else(damaged)?;
    // Damaged firsts may not rise.
    let nth = firsts.get(block).and_then(|&first| number.checked_sub(first)).ok_or_else(damaged)?;
    state.blocks.chunk(segment, block as u32)?.trace_at(nth)
}
