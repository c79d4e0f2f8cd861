//! Writes chunk blocks of format 2.

use hashbrown::HashMap;
use trace_model::TraceId;

use super::{BLOCK_BYTES, BLOCK_SPANS, EXTERNAL, NO_PARENT, RAW_SHAPE, SPANS_MAX};
use crate::codec::{Packer, put, same};
use crate::columns::{Streams, put_lengths, put_packed};
use crate::contexts::ContextRef;
use crate::shape::{Fields, Parsed, Shape};
use crate::texts::{Hint, TextWriter};
use crate::values::ValueTable;

/// Shapes that a span is compared with before it is parsed.
const GUESSES: usize = 3;
/// Places for what is known of shapes by length.
const PREDICTIONS: usize = 4_096;
const NO_SHAPE: u32 = u32::MAX;
/// Traces of more spans look their parents up in a map.
const SCANNED_MAX: usize = 24;

/// The values of the spans of one shape in the block, span by span.
#[derive(Default)]
struct ShapeRows<'a> {
    shape: Option<Shape>,
    spans: usize,
    numbers: Vec<u64>,
    texts: Vec<&'a [u8]>,
    hints: Vec<Hint>,
}

/// Gathers spans, and writes a block once it is full.
#[derive(Default)]
pub(crate) struct ChunkWriter<'a> {
    table: ValueTable,
    texts: TextWriter,
    parsed: Parsed<'a>,
    streams: Streams,
    shapes: Vec<ShapeRows<'a>>,
    /// The last shapes of each kind of call.
    guesses: Vec<[u32; GUESSES]>,
    /// The last shape by kind of call and length: calls of one kind may have several shapes, which differ in length.
    predictions: Vec<u32>,
    raw_hint: Hint,

    traces: Vec<(TraceId, u32)>,
    ids: Vec<[u8; 8]>,
    parent_ids: Vec<[u8; 8]>,
    /// Place of the parent within the part of the trace, or [`ABSENT`], or [`ELSEWHERE`].
    parents: Vec<u32>,
    starts: Vec<u64>,
    durations: Vec<u64>,
    contexts: Vec<u32>,
    own_contexts: Vec<&'a [u8]>,
    own_differ: bool,
    /// Bytes that they take in the block: those of one, unless they differ.
    own_bytes: usize,
    shape_numbers: Vec<u32>,
    raw: Vec<&'a [u8]>,
    message_bytes: usize,
    by_id: HashMap<[u8; 8], u32>,
}

const ABSENT: u32 = u32::MAX;
const ELSEWHERE: u32 = u32::MAX - 1;

impl<'a> ChunkWriter<'a> {
    /// Whether the block should end before the next trace.
    pub(crate) fn is_enough(&self) -> bool {
        self.ids.len() >= BLOCK_SPANS || self.message_bytes + self.own_bytes >= BLOCK_BYTES / 2
    }

    /// Whether the block must end before a span of this context.
    pub(crate) fn is_full(&self, context: ContextRef<'_>) -> bool {
        self.ids.len() >= SPANS_MAX
            || self.message_bytes + self.own_bytes >= BLOCK_BYTES
            || self.swells(context)
    }

    /// Whether own contexts, which were the same so far, would all have to be written, and would be too much.
    fn swells(&self, context: ContextRef<'_>) -> bool {
        let (ContextRef::Own(own), Some(first)) = (context, self.own_contexts.first()) else { return false };
        let all = first.len() * self.own_contexts.len() + own.len();
        !self.own_differ && all > BLOCK_BYTES && !same(own, first)
    }

    fn add_own_context(&mut self, own: &'a [u8]) {
        let first = self.own_contexts.first().copied().unwrap_or(own);
        if self.own_differ {
            self.own_bytes += own.len();
        } else if same(own, first) {
            self.own_bytes = own.len();
        } else {
            self.own_differ = true;
            self.own_bytes = first.len() * self.own_contexts.len() + own.len();
        }
        self.own_contexts.push(own);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Begins a trace, or goes on with one after a full block.
    pub(crate) fn begin_trace(&mut self, id: &TraceId) {
        self.find_parents();
        self.traces.push((*id, 0));
    }

    /// Adds a span to the trace.
    ///
    /// Spans of the same `kind_of_call`, any small number, are likely to have the same shape.
    pub(crate) fn add(&mut self, context: ContextRef<'a>, kind_of_call: usize, message: &'a [u8]) {
        let Some((id, spans)) = self.traces.last_mut() else { return };
        let id = *id;
        *spans += 1;
        self.message_bytes += message.len();
        match context {
            ContextRef::Number(number) => self.contexts.push(number + 1),
            ContextRef::Own(bytes) => {
                self.contexts.push(0);
                self.add_own_context(bytes);
            }
        }
        let found = self.follow(&id, kind_of_call, message);
        match found.or_else(|| self.parse(&id, kind_of_call, message)) {
            Some((number, fields)) => {
                let start = fields.start.unwrap_or(self.last_start());
                let end = fields.end.unwrap_or(start);
                let (id, parent) = (fields.span_id.unwrap_or_default(), fields.parent.unwrap_or_default());
                self.push(number + 1, id, parent, start, end);
            }
            None => self.add_raw(message),
        }
    }

    /// Tries the shape that such a span of this length had last, and then others that such spans had.
    fn follow(&mut self, id: &TraceId, kind_of_call: usize, message: &'a [u8]) -> Option<(u32, Fields)> {
        let slot = kind_of_call.wrapping_mul(31).wrapping_add(message.len()) % PREDICTIONS;
        let predicted = self.predictions.get(slot).copied().unwrap_or(NO_SHAPE);
        let guesses = self.guesses.get(kind_of_call).copied().unwrap_or([NO_SHAPE; GUESSES]);
        let others = guesses.into_iter().filter(|guess| *guess != predicted);
        for guess in std::iter::once(predicted).chain(others) {
            let Some(rows) = self.shapes.get_mut(guess as usize) else { continue };
            let Some(shape) = &rows.shape else { continue };
            if let Some(fields) = shape.follow(id, message, &mut rows.numbers, &mut rows.texts) {
                rows.spans += 1;
                if guess != predicted {
                    self.predictions.resize(PREDICTIONS, NO_SHAPE);
                    self.predictions[slot] = guess;
                }
                return Some((guess, fields));
            }
        }
        None
    }

    fn parse(&mut self, id: &TraceId, kind_of_call: usize, message: &'a [u8]) -> Option<(u32, Fields)> {
        if !self.parsed.parse(id, message) {
            return None;
        }
        let number = self.table.shape(&self.parsed.program)?;
        if number as usize >= self.shapes.len() {
            let shape = Shape::read(&self.parsed.program).ok();
            let hints = vec![Hint::default(); self.parsed.texts.len()];
            self.shapes.push(ShapeRows { shape, hints, ..ShapeRows::default() });
        }
        let rows = &mut self.shapes[number as usize];
        rows.spans += 1;
        rows.numbers.extend_from_slice(&self.parsed.numbers);
        rows.texts.extend_from_slice(&self.parsed.texts);
        self.guess(kind_of_call, number);
        Some((number, self.parsed.fields))
    }

    /// Spans of this kind of call are likely to have this shape.
    fn guess(&mut self, kind_of_call: usize, number: u32) {
        if kind_of_call >= self.guesses.len() {
            self.guesses.resize(kind_of_call + 1, [NO_SHAPE; GUESSES]);
        }
        let guesses = &mut self.guesses[kind_of_call];
        if !guesses.contains(&number) {
            guesses.rotate_right(1);
            guesses[0] = number;
        }
    }

    fn add_raw(&mut self, message: &'a [u8]) {
        self.raw.push(message);
        let start = self.last_start();
        self.push(RAW_SHAPE, [0; 8], [0; 8], start, start);
    }

    /// Stands in where a message has no start: the cheapest one to write.
    fn last_start(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    fn push(&mut self, shape: u32, id: [u8; 8], parent: [u8; 8], start: u64, end: u64) {
        self.shape_numbers.push(shape);
        self.ids.push(id);
        self.parent_ids.push(parent);
        self.starts.push(start);
        self.durations.push(end.wrapping_sub(start));
    }

    /// Finds the parents of the last trace's spans.
    fn find_parents(&mut self) {
        let first = self.parents.len();
        let (ids, parents) = (&self.ids[first..], &self.parent_ids[first..]);
        if ids.len() > SCANNED_MAX {
            self.by_id.clear();
            for (at, id) in ids.iter().enumerate() {
                self.by_id.entry(*id).or_insert(at as u32);
            }
        }
        for (at, parent) in parents.iter().enumerate() {
            let found = if *parent == [0; 8] {
                ABSENT
            } else if ids.len() > SCANNED_MAX {
                self.by_id.get(parent).copied().unwrap_or(ELSEWHERE)
            } else {
                ids.iter().position(|id| id == parent).map_or(ELSEWHERE, |found| found as u32)
            };
            // A span may name itself.
            self.parents.push(if found == at as u32 { ELSEWHERE } else { found });
        }
    }

    /// The block's value; the writer is then ready for the next one.
    pub(crate) fn finish(&mut self, packer: &mut Packer) -> std::io::Result<Vec<u8>> {
        self.find_parents();
        self.streams.clear();
        self.put_core();
        self.put_contexts();
        self.put_shapes();
        let out = self.streams.pack(packer)?;
        self.clear();
        Ok(out)
    }

    fn put_core(&mut self) {
        let streams = &mut self.streams;
        put(&mut streams.heads, self.ids.len() as u64);
        put(&mut streams.heads, self.traces.len() as u64);
        put(&mut streams.heads, self.message_bytes as u64);
        self.traces.iter().for_each(|(id, _)| streams.bits.extend_from_slice(id.as_bytes()));
        streams.bits.extend_from_slice(self.ids.as_flattened());
        put_packed(streams, self.traces.iter().map(|(_, spans)| u64::from(*spans)));
        put_packed(streams, self.shape_numbers.iter().map(|number| u64::from(*number)));
        self.put_times();
        self.put_parents();
    }

    /// A span's start is told from that of the span before it in its trace, and a trace's from the least one.
    fn put_times(&mut self) {
        let mut firsts = Vec::with_capacity(self.traces.len());
        let mut steps = Vec::with_capacity(self.starts.len());
        let mut at = 0;
        for (_, spans) in &self.traces {
            let part = &self.starts[at..at + *spans as usize];
            firsts.extend(part.first().copied());
            steps.extend(part.windows(2).map(|pair| pair[1].wrapping_sub(pair[0])));
            at += part.len();
        }
        put_packed(&mut self.streams, firsts.iter().copied());
        put_lengths(&mut self.streams, steps.iter().copied());
        put_lengths(&mut self.streams, self.durations.iter().copied());
    }

    fn put_parents(&mut self) {
        let mut steps = Vec::with_capacity(self.parents.len());
        let mut at = 0;
        for (_, spans) in &self.traces {
            for place in 0..*spans {
                steps.push(match self.parents[at] {
                    ABSENT => None,
                    ELSEWHERE => Some(0),
                    parent => Some(i64::from(place) - i64::from(parent)),
                });
                at += 1;
            }
        }
        // Children that come before their parents are rare, so a bit for the sign is spent only where some do.
        let signed = steps.iter().flatten().any(|step| *step < 0);
        let heads = &mut self.streams.heads;
        put(heads, u64::from(signed));
        let coded = steps.iter().map(|step| match step {
            None => NO_PARENT,
            Some(0) => EXTERNAL,
            Some(step) if signed => EXTERNAL + (step << 1 ^ step >> 63) as u64,
            Some(step) => EXTERNAL + *step as u64,
        });
        put_lengths(&mut self.streams, coded);
        for (id, parent) in self.parent_ids.iter().zip(&self.parents) {
            if *parent == ELSEWHERE {
                self.streams.bits.extend_from_slice(id);
            }
        }
    }

    fn put_contexts(&mut self) {
        put_packed(&mut self.streams, self.contexts.iter().map(|context| u64::from(*context)));
        if !self.own_contexts.is_empty() {
            let contexts = self.own_contexts.iter().copied();
            self.texts.put(&mut self.streams, &mut self.table, &mut Hint::Unique, contexts);
        }
    }

    fn put_shapes(&mut self) {
        if !self.raw.is_empty() {
            let raw = self.raw.iter().copied();
            self.texts.put(&mut self.streams, &mut self.table, &mut self.raw_hint, raw);
        }
        for rows in self.shapes.iter_mut().filter(|rows| rows.spans > 0) {
            let numbers = rows.numbers.len() / rows.spans;
            for slot in 0..numbers {
                put_packed(&mut self.streams, rows.numbers.chunks_exact(numbers).map(|span| span[slot]));
            }
            let texts = rows.texts.len() / rows.spans;
            for (slot, hint) in rows.hints.iter_mut().enumerate() {
                let column = rows.texts.chunks_exact(texts).map(|span| span[slot]);
                self.texts.put(&mut self.streams, &mut self.table, hint, column);
            }
            rows.spans = 0;
            rows.numbers.clear();
            rows.texts.clear();
        }
    }

    fn clear(&mut self) {
        self.traces.clear();
        self.ids.clear();
        self.parent_ids.clear();
        self.parents.clear();
        self.starts.clear();
        self.durations.clear();
        self.contexts.clear();
        self.own_contexts.clear();
        (self.own_bytes, self.own_differ) = (0, false);
        self.shape_numbers.clear();
        self.raw.clear();
        self.message_bytes = 0;
    }

    /// The tables that the blocks point to.
    pub(crate) fn table(&self) -> &ValueTable {
        &self.table
    }
}
