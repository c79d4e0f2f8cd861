//! Fetches traces: sealed chunks and live spans, each span once.

use std::sync::Arc;

use hashbrown::HashMap;
use otlp_wire::{read_span, service_name};
use segment::{ChunkSpan, ContextBlock, LiveBatch, ReadError};
use trace_assemble::{Location, Phase};
use trace_model::{SpanNode, TraceId, UnixNanos};

use crate::answer::TraceState;
use crate::damage::Reader;
use crate::engine::QueryError;
use crate::gate::Pass;
use crate::gather::{First, Gathering, LARGE, Nodes, Placed, SpanPlace};
use crate::names::NameTable;
use crate::page;
use crate::request::TracePage;
use crate::sealed::SealedSegment;
use crate::state::State;

/// Bytes of a trace above which it is answered while no other of that size is: as JSON it takes several times that.
const LARGE_BYTES: usize = 8 << 20;

/// A span with its bytes.
#[derive(Debug, Clone)]
pub(crate) struct FetchedSpan {
    pub(crate) node: SpanNode,
    pub(crate) context: Arc<[u8]>,
    /// Whether the context is its own, and not one of the few that a segment numbers or that are live.
    pub(crate) has_own_context: bool,
    pub(crate) message: Vec<u8>,
}

impl Placed for FetchedSpan {
    fn place(&self) -> SpanPlace {
        (&self.node).into()
    }

    fn held_bytes(&self) -> usize {
        self.message.len() + if self.has_own_context { self.context.len() } else { 0 }
    }

    fn bytes_after(&self, before: Option<&Self>) -> usize {
        page::spliced_bytes(self, before)
    }
}

/// A trace with its bytes, or a page of it.
#[derive(Debug)]
pub(crate) struct FetchedTrace {
    /// In order.
    pub(crate) spans: Vec<FetchedSpan>,
    /// The skeletons of all of it, if the page is its first.
    pub(crate) nodes: Option<Nodes>,
    pub(crate) state: TraceState,
    /// Whether spans come after these.
    pub(crate) more: bool,
    /// Held while a large trace is being answered.
    pub(crate) pass: Option<Pass>,
}

/// What was found of a trace.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Looked {
    /// `None` if there are no spans.
    pub(crate) state: Option<TraceState>,
    /// Whether nothing was left out for damage.
    pub(crate) whole: bool,
}

impl Looked {
    /// The state of the trace. Nobody can say that it is not stored while a block that may hold it cannot be read.
    pub(crate) fn state(self) -> Result<Option<TraceState>, QueryError> {
        if self.state.is_none() && !self.whole { Err(QueryError::Unreadable) } else { Ok(self.state) }
    }
}

/// The skeletons of a trace.
#[derive(Debug)]
pub struct TraceNodes {
    /// The skeletons, or sums over them.
    pub nodes: Nodes,
    /// Whether nothing was left out for damage.
    pub whole: bool,
}

/// The whole trace or a page of it, `None` if nothing of it is stored.
pub(crate) fn trace(state: &Reader<'_>, page: &TracePage) -> Result<Option<FetchedTrace>, QueryError> {
    let mut first = First::new(page.after, page.limit, TracePage::BYTES_MAX);
    let is_first = page.after.is_none();
    let most = if is_first { state.trace_spans_max } else { 0 };
    let mut nodes = Gathering::new(most, None);
    let (mut count, mut bytes, mut pass) = (0, 0, None);
    let found = each_span(state, page.trace_id, &mut |span| {
        count += 1;
        bytes += span.held_bytes();
        if pass.is_none() && (count >= LARGE || bytes >= LARGE_BYTES) {
            pass = Some(state.large.enter());
        }
        nodes.add(&span.node);
        first.add(span);
    })?;
    let found = found.state()?;
    let (mut spans, mut more) = first.done();
    let cut = page::cut(&mut spans, TracePage::BYTES_MAX);
    more |= cut;
    // What is held may be little of what is written: contexts that many share.
    if cut && pass.is_none() {
        pass = Some(state.large.enter());
    }
    let nodes = nodes.done().0;
    Ok(found.map(|state| FetchedTrace { spans, nodes: is_first.then_some(nodes), state, more, pass }))
}

/// Tells `each` the spans of a trace, once each and in no particular order.
pub(crate) fn each_span(
    state: &Reader<'_>,
    id: TraceId,
    each: &mut dyn FnMut(FetchedSpan),
) -> Result<Looked, QueryError> {
    let (live, phase) = live_places(state, id);
    let view = state.snapshot();
    let (mut any, mut whole) = (false, true);
    let mut each = |span| {
        any = true;
        each(span);
    };
    for segment in view.segments_of(&id)? {
        whole &= sealed_spans(state, &segment, id, &mut each)?;
    }
    // A batch that is not in the view any more has been sealed, and its spans were found there.
    let mut contexts = HashMap::new();
    for (number, row) in live {
        let Ok(at) = view.live.binary_search_by_key(&number, |batch| batch.number) else { continue };
        if let Some(span) = live_span(&view.live[at], row, &mut contexts) {
            each(span);
        }
    }
    let state = if phase == Some(Phase::Open) { TraceState::Open } else { TraceState::Final };
    Ok(Looked { state: any.then_some(state), whole })
}

/// The skeletons of a trace, sealed and live, to analyse it; sums if there are more than `most`.
///
/// # Errors
/// If the store fails.
pub fn trace_nodes(state: &State, id: TraceId, most: usize) -> Result<TraceNodes, QueryError> {
    let reader = Reader::new(state);
    let nodes = nodes_of(&reader, id, most)?;
    reader.note_analysed_without();
    Ok(nodes)
}

/// The same to answer a question.
pub(crate) fn nodes_of(state: &Reader<'_>, id: TraceId, most: usize) -> Result<TraceNodes, QueryError> {
    let mut nodes = Gathering::new(most, None);
    let looked = each_span(state, id, &mut |span| nodes.add(&span.node))?;
    Ok(TraceNodes { nodes: nodes.done().0, whole: looked.whole })
}

/// The skeletons of a trace in sealed segments, sums if there are more than `most`; and the last live batch that had
/// been sealed when they were read. What is left out for damage is counted as a look-up that failed.
///
/// # Errors
/// If the store fails.
pub fn stored_nodes(state: &State, id: TraceId, most: usize) -> Result<(Nodes, u64), QueryError> {
    let state = &Reader::new(state);
    let view = state.snapshot();
    let (mut nodes, mut whole) = (Gathering::new(most, None), true);
    for segment in view.segments_of(&id)? {
        whole &= sealed_spans(state, &segment, id, &mut |span| nodes.add(&span.node))?;
    }
    state.note_analysed_without();
    state.count(&state.counters.lookups_failed, u64::from(!whole));
    Ok((nodes.done().0, view.sealed_batch))
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

/// `contexts` are those that were asked for already, by the number of their batch and their own.
fn live_span(
    batch: &LiveBatch,
    row: u32,
    contexts: &mut HashMap<(u64, u32), Arc<[u8]>>,
) -> Option<FetchedSpan> {
    let row = batch.rows.get(row as usize)?;
    let context =
        contexts.entry((batch.number, row.context)).or_insert_with(|| batch.context(row.context).into());
    Some(FetchedSpan {
        node: row.node,
        context: Arc::clone(context),
        has_own_context: false,
        message: batch.span_bytes(row).to_vec(),
    })
}

/// Tells `each` the spans of a trace in a segment; whether nothing was left out for damage.
pub(crate) fn sealed_spans(
    state: &Reader<'_>,
    segment: &SealedSegment,
    id: TraceId,
    each: &mut dyn FnMut(FetchedSpan),
) -> Result<bool, QueryError> {
    let mut contexts = Contexts { state, segment, read: HashMap::new() };
    let mut whole = true;
    for block in segment.chunks.blocks_of(&id) {
        let spans = state.blocks.chunk(segment, block).and_then(|block| block.spans(&id));
        let spans = state.readable(segment, spans)?;
        whole &= spans.is_some();
        for span in spans.into_iter().flatten() {
            match state.readable(segment, contexts.fetched(span))? {
                Some(span) => each(span),
                None => whole = false,
            }
        }
    }
    Ok(whole || segment.handle.is_dropped())
}

/// Contexts of a segment that were looked at; `None` for one that cannot be read, which is not tried for every span.
struct Contexts<'a> {
    state: &'a Reader<'a>,
    segment: &'a SealedSegment,
    read: HashMap<u32, Option<Arc<[u8]>>>,
}

impl Contexts<'_> {
    fn fetched(&mut self, span: ChunkSpan) -> Result<FetchedSpan, ReadError> {
        let has_own_context = span.own_context.is_some();
        let context = match span.own_context {
            Some(own) => own,
            None => self.get(span.context)?,
        };
        let node = node_of(&span.message, &context, &self.state.names)?;
        Ok(FetchedSpan { node, context, has_own_context, message: span.message })
    }

    fn get(&mut self, number: u32) -> Result<Arc<[u8]>, ReadError> {
        if let Some(known) = self.read.get(&number) {
            return known.clone().ok_or(ReadError::Damaged("context block"));
        }
        let block = self.state.blocks.contexts(self.segment, ContextBlock::number_of(number));
        let context = block.and_then(|block| Ok(Arc::from(block.get(number)?)));
        self.read.insert(number, context.as_ref().ok().cloned());
        context
    }
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

/// When the spans of a trace of a segment started, by its number there; in the order in which rows number them. `None` if
/// they cannot all be read.
pub(crate) fn starts_of(
    state: &Reader<'_>,
    segment: &SealedSegment,
    number: u32,
) -> Result<Option<Vec<UnixNanos>>, QueryError> {
    let id = trace_id(state, segment, number);
    let Some(id) = state.readable(segment, id)? else { return Ok(None) };
    let mut starts = Vec::new();
    let whole = sealed_spans(state, segment, id, &mut |span| starts.push(span.node.start))?;
    Ok(whole.then_some(starts))
}

/// The id of a trace from its number within a segment.
pub(crate) fn trace_id(state: &State, segment: &SealedSegment, number: u32) -> Result<TraceId, ReadError> {
    let (block, nth) = segment.chunks.place_of(number).ok_or(ReadError::Damaged("chunk directory"))?;
    state.blocks.chunk(segment, block)?.trace_at(nth)
}
