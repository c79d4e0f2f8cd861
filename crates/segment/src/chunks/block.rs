//! Reads chunk blocks of format 2.

use std::ops::Range;
use std::sync::Arc;

use hashbrown::HashMap;
use trace_model::{TraceId, UnixNanos};

use super::{ChunkSpan, EXTERNAL, NO_PARENT, RAW_SHAPE, SPANS_MAX};
use crate::codec::{Cursor, INFLATED_MAX, ReadError, after_mark};
use crate::columns::{LengthColumn, Packed, Unpacked};
use crate::dictionary::Dictionary;
use crate::shape::{Core, Shape, Values};
use crate::texts::{Source, TextColumn};
use crate::values::ChunkTables;

const WHAT: &str = "chunk block";

/// The columns of the spans of one shape.
#[derive(Debug, Default)]
struct ShapeColumns {
    numbers: Vec<Packed>,
    texts: Vec<TextColumn>,
}

/// A block whose columns are still packed, but for times and parents.
#[derive(Debug)]
pub(super) struct ColumnBlock {
    tables: Arc<ChunkTables>,
    /// The stored value; its packed bits begin at `bits_start`.
    stored: Vec<u8>,
    bits_start: usize,
    text: Vec<u8>,
    /// Bytes of all messages.
    message_bytes: usize,
    /// Each trace with the place of its first span.
    traces: Vec<(TraceId, u32)>,
    /// Where the ids of spans begin in the bits.
    ids_start: usize,
    /// Where the ids of parents that are not in the block begin.
    parents_start: usize,
    starts: Vec<u64>,
    durations: Vec<u64>,
    parents: Vec<u64>,
    signed: bool,
    contexts: Packed,
    own_contexts: Option<TextColumn>,
    shapes: Packed,
    /// For each span, how many before it have its shape.
    ranks: Vec<u16>,
    raw: Option<TextColumn>,
    columns: HashMap<u32, ShapeColumns>,
}

impl ColumnBlock {
    pub(super) fn read(
        stored: Vec<u8>,
        dictionary: Option<&Dictionary>,
        tables: Arc<ChunkTables>,
    ) -> Result<Self, ReadError> {
        let marked = after_mark(&stored).ok_or(ReadError::Damaged(WHAT))?;
        let Unpacked { heads, lengths, text, bits } = Unpacked::read_with(marked, dictionary, WHAT)?;
        let bits_start = stored.len() - bits.len();
        let text = text.into_owned();
        let heads = Cursor::new(&heads, WHAT);
        let mut source = Source { heads, bits, bits_start: 0, text: &text, text_start: 0, tables: &tables };
        let mut lengths = Cursor::new(&lengths, WHAT);

        let (spans, traces) = (source.heads.u64()? as usize, source.heads.u64()? as usize);
        let message_bytes = source.heads.u64()? as usize;
        if spans > SPANS_MAX || traces > spans || message_bytes > INFLATED_MAX {
            return Err(source.heads.damaged());
        }
        let ids_start = traces * 16;
        source.bits_start = ids_start + spans * 8;
        let trace_ids = bits.get(..ids_start).ok_or_else(|| source.heads.damaged())?;
        let traces = read_traces(&mut source, trace_ids, spans)?;
        let shapes = source.packed(spans)?;
        let starts = read_starts(&mut source, &mut lengths, &traces, spans)?;
        let mut whole = |source: &mut Source<'_>| -> Result<Vec<u64>, ReadError> {
            let start = &mut source.bits_start;
            Ok(LengthColumn::read(&mut source.heads, &mut lengths, bits, start, spans)?.collect())
        };
        let durations = whole(&mut source)?;
        let signed = source.heads.u64()? != 0;
        let parents = whole(&mut source)?;
        let parents_start = source.bits_start;
        source.bits_start += parents.iter().filter(|parent| **parent == EXTERNAL).count() * 8;
        let contexts = source.packed(spans)?;
        let own = (0..spans).filter(|&at| contexts.get(bits, at) == 0).count();
        let own_contexts = (own > 0).then(|| TextColumn::read(&mut source, own)).transpose()?;

        let (ranks, counts) = rank(&shapes, bits, spans);
        let mut raw = None;
        let mut columns = HashMap::with_capacity(counts.len());
        for (number, count) in counts {
            if number == RAW_SHAPE {
                raw = Some(TextColumn::read(&mut source, count)?);
            } else {
                let shape = tables.shape(number - 1).ok_or_else(|| source.heads.damaged())?;
                columns.insert(number, read_columns(&mut source, shape, count)?);
            }
        }
        let all_read = source.bits_start == bits.len() && source.text_start == text.len();
        if !all_read || !source.heads.is_empty() || !lengths.is_empty() {
            return Err(source.heads.damaged());
        }
        Ok(Self {
            bits_start,
            message_bytes,
            traces,
            ids_start,
            parents_start,
            starts,
            durations,
            parents,
            signed,
            contexts,
            own_contexts,
            shapes,
            ranks,
            raw,
            columns,
            text,
            tables,
            stored,
        })
    }

    fn bits(&self) -> &[u8] {
        self.stored.get(self.bits_start..).unwrap_or_default()
    }

    pub(super) fn trace_at(&self, nth: u32) -> Result<TraceId, ReadError> {
        self.traces.get(nth as usize).map(|(id, _)| *id).ok_or(ReadError::Damaged(WHAT))
    }

    pub(super) fn trace_ids(&self) -> Vec<TraceId> {
        self.traces.iter().map(|(id, _)| *id).collect()
    }

    pub(super) fn bytes(&self) -> usize {
        let columns = self.columns.values().map(|columns| {
            columns.numbers.iter().map(Packed::bytes).sum::<usize>()
                + columns.texts.iter().map(TextColumn::bytes).sum::<usize>()
        });
        self.stored.len()
            + self.text.len()
            + self.traces.len() * 24
            + self.starts.len() * 26
            + columns.sum::<usize>()
            + self.raw.as_ref().map_or(0, TextColumn::bytes)
            + self.own_contexts.as_ref().map_or(0, TextColumn::bytes)
    }

    /// The places of a trace's spans; none if it is not here.
    fn places(&self, wanted: &TraceId) -> Range<usize> {
        let Ok(nth) = self.traces.binary_search_by_key(wanted, |(id, _)| *id) else { return 0..0 };
        let first = self.traces[nth].1 as usize;
        first..self.traces.get(nth + 1).map_or(self.starts.len(), |(_, next)| *next as usize)
    }

    pub(super) fn spans(&self, wanted: &TraceId) -> Result<Vec<ChunkSpan>, ReadError> {
        let places = self.places(wanted);
        self.put_together(wanted, places.start, places)
    }

    /// Whether the columns have the start and the id of the span at this place.
    fn is_placed(&self, at: usize) -> bool {
        let shape = self.shapes.get(self.bits(), at) as u32;
        shape != RAW_SHAPE && self.tables.shape(shape - 1).is_some_and(|shape| shape.is_placed)
    }

    pub(super) fn starts(&self, wanted: &TraceId) -> Option<(UnixNanos, UnixNanos)> {
        let places = self.places(wanted);
        let (first, last) = (places.start, places.end.checked_sub(1)?);
        let start = |at: usize| self.starts.get(at).copied().filter(|_| self.is_placed(at));
        // Spans are in the order of their starts, but what a span has no place of its own for is not known here.
        Some((UnixNanos(start(first).unwrap_or(0)), UnixNanos(start(last).unwrap_or(u64::MAX))))
    }

    pub(super) fn spans_among(
        &self,
        wanted: &TraceId,
        among: &dyn Fn(UnixNanos, &[u8]) -> bool,
    ) -> Result<Vec<ChunkSpan>, ReadError> {
        let places = self.places(wanted);
        let may_be = |at: &usize| {
            let from = self.ids_start + at * 8;
            let id = self.bits().get(from..from + 8).unwrap_or_default();
            let start = self.starts.get(*at).copied().unwrap_or_default();
            among(UnixNanos(start), id) || !self.is_placed(*at)
        };
        self.put_together(wanted, places.start, places.filter(may_be))
    }

    /// Puts spans of a trace together whose first span in this block is at `first`.
    fn put_together(
        &self,
        wanted: &TraceId,
        first: usize,
        places: impl Iterator<Item = usize>,
    ) -> Result<Vec<ChunkSpan>, ReadError> {
        let mut reading =
            Reading { block: self, trace_id: *wanted, first, scratch: Vec::new(), own_context: None };
        let mut spans = Vec::with_capacity(places.size_hint().0);
        let mut left = self.message_bytes;
        for at in places {
            let span = reading.span(at)?;
            // A constant string of a damaged block could come many times.
            left = left.checked_sub(span.message.len()).ok_or(ReadError::Damaged(WHAT))?;
            spans.push(span);
        }
        Ok(spans)
    }
}

/// Ids must rise, as a look-up relies on it.
fn read_traces(source: &mut Source<'_>, ids: &[u8], spans: usize) -> Result<Vec<(TraceId, u32)>, ReadError> {
    let counts = source.packed(ids.len() / 16)?;
    let mut traces: Vec<(TraceId, u32)> = Vec::with_capacity(ids.len() / 16);
    let mut first = 0_u64;
    for (nth, id) in ids.chunks_exact(16).enumerate() {
        let id = TraceId::try_from(id).map_err(|_| ReadError::Damaged(WHAT))?;
        let count = counts.get(source.bits, nth);
        if count == 0 || count > spans as u64 || traces.last().is_some_and(|(last, _)| *last >= id) {
            return Err(ReadError::Damaged(WHAT));
        }
        traces.push((id, first as u32));
        first += count;
    }
    if first == spans as u64 { Ok(traces) } else { Err(ReadError::Damaged(WHAT)) }
}

fn read_starts<'a>(
    source: &mut Source<'a>,
    lengths: &mut Cursor<'a>,
    traces: &[(TraceId, u32)],
    spans: usize,
) -> Result<Vec<u64>, ReadError> {
    let firsts = source.packed(traces.len())?;
    let (bits, steps) = (source.bits, spans - traces.len());
    let mut steps = LengthColumn::read(&mut source.heads, lengths, bits, &mut source.bits_start, steps)?;
    let mut starts = Vec::with_capacity(spans);
    for nth in 0..traces.len() {
        let end = traces.get(nth + 1).map_or(spans, |(_, next)| *next as usize);
        let mut start = firsts.get(bits, nth);
        starts.push(start);
        while starts.len() < end {
            start = start.wrapping_add(steps.next().unwrap_or(0));
            starts.push(start);
        }
    }
    Ok(starts)
}

/// For each span its place among those of its shape, and the shapes with their spans, rising.
fn rank(shapes: &Packed, bits: &[u8], spans: usize) -> (Vec<u16>, Vec<(u32, usize)>) {
    let mut counts: HashMap<u32, u16> = HashMap::new();
    let mut ranks = Vec::with_capacity(spans);
    for at in 0..spans {
        let count = counts.entry(shapes.get(bits, at) as u32).or_default();
        ranks.push(*count);
        *count += 1;
    }
    let mut counts: Vec<(u32, usize)> = counts.into_iter().map(|(at, count)| (at, count.into())).collect();
    counts.sort_unstable();
    (ranks, counts)
}

fn read_columns(source: &mut Source<'_>, shape: &Shape, count: usize) -> Result<ShapeColumns, ReadError> {
    let numbers = (0..shape.numbers).map(|_| source.packed(count)).collect::<Result<_, _>>()?;
    let texts = (0..shape.texts).map(|_| TextColumn::read(source, count)).collect::<Result<_, _>>()?;
    Ok(ShapeColumns { numbers, texts })
}

/// Puts the spans of one trace together.
struct Reading<'a> {
    block: &'a ColumnBlock,
    trace_id: TraceId,
    /// The place of the trace's first span.
    first: usize,
    scratch: Vec<u8>,
    own_context: Option<Arc<[u8]>>,
}

impl Reading<'_> {
    fn span(&mut self, at: usize) -> Result<ChunkSpan, ReadError> {
        let block = self.block;
        let mut message = Vec::with_capacity(512);
        let shape = block.shapes.get(block.bits(), at) as u32;
        match block.columns.get(&shape) {
            Some(columns) => {
                let program = block.tables.shape(shape - 1).ok_or(ReadError::Damaged(WHAT))?;
                let values = Slots { block, columns, rank: block.ranks[at].into() };
                program.write(&self.core(at)?, &values, &mut self.scratch, &mut message)?;
            }
            None => block.text_of(&block.raw, block.ranks[at].into(), &mut message)?,
        }
        let (context, own_context) = match (block.contexts.get(block.bits(), at) as u32).checked_sub(1) {
            Some(number) => (number, None),
            None => (u32::MAX, Some(self.own_context(at)?)),
        };
        Ok(ChunkSpan { context, own_context, message })
    }

    fn own_context(&mut self, at: usize) -> Result<Arc<[u8]>, ReadError> {
        let block = self.block;
        let before = (0..at).filter(|&at| block.contexts.get(block.bits(), at) == 0).count();
        self.scratch.clear();
        block.text_of(&block.own_contexts, before, &mut self.scratch)?;
        match &self.own_context {
            // As long as it may be, and as many spans as may have it.
            Some(last) if **last == *self.scratch => Ok(Arc::clone(last)),
            _ => Ok(Arc::clone(self.own_context.insert(self.scratch.as_slice().into()))),
        }
    }

    fn core(&self, at: usize) -> Result<Core, ReadError> {
        let block = self.block;
        let id_at = |start: usize, nth: usize| {
            let id = block.bits().get(start + nth * 8..).and_then(|rest| rest.first_chunk::<8>());
            id.copied().ok_or(ReadError::Damaged(WHAT))
        };
        let parent = match block.parents[at] {
            NO_PARENT => [0; 8],
            EXTERNAL => {
                let before = block.parents[..at].iter().filter(|parent| **parent == EXTERNAL).count();
                id_at(block.parents_start, before)?
            }
            coded => {
                let step = coded - EXTERNAL;
                let step = if block.signed { step >> 1 ^ (step & 1).wrapping_neg() } else { step };
                let parent = (at as u64).wrapping_sub(step);
                if parent < self.first as u64 || parent >= block.starts.len() as u64 {
                    return Err(ReadError::Damaged(WHAT));
                }
                id_at(block.ids_start, parent as usize)?
            }
        };
        let start = block.starts[at];
        Ok(Core {
            trace_id: self.trace_id,
            span_id: id_at(block.ids_start, at)?,
            parent,
            start,
            end: start.wrapping_add(block.durations[at]),
        })
    }
}

impl ColumnBlock {
    fn text_of(&self, column: &Option<TextColumn>, at: usize, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let column = column.as_ref().ok_or(ReadError::Damaged(WHAT))?;
        column.get(at, &self.tables, self.bits(), &self.text, out)
    }
}

/// The values of one span.
struct Slots<'a> {
    block: &'a ColumnBlock,
    columns: &'a ShapeColumns,
    rank: usize,
}

impl Values for Slots<'_> {
    fn number(&self, slot: usize) -> u64 {
        self.columns.numbers.get(slot).map_or(0, |column| column.get(self.block.bits(), self.rank))
    }

    fn text(&self, slot: usize, out: &mut Vec<u8>) -> Result<(), ReadError> {
        let column = self.columns.texts.get(slot).ok_or(ReadError::Damaged(WHAT))?;
        column.get(self.rank, &self.block.tables, self.block.bits(), &self.block.text, out)
    }
}
