//! The latency histograms of a segment that is being built: by the minute of the span's end, operation and status.
//!
//! Rows are sorted by falling duration for the sake of the row blocks. Taken operation by operation in that order
//! they make histograms without looking anything up, and only few spans are looked at as exemplars.

use hashbrown::HashMap;
use latency::{Exemplar, LongestFirst};
use trace_model::{NanoDuration, StatusCode};

use crate::codec::put;
use crate::live::SpanRow;
use crate::order::Placed;
use crate::rows::Row;

/// What is counted of a span beside its row; noted while the span is at hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Counted {
    hash: u64,
    minute: u32,
}

impl Counted {
    pub(crate) fn new(row: &SpanRow) -> Self {
        let hash = Exemplar::hash_of(&row.trace_id, &row.node.span_id);
        Self { hash, minute: row.node.end.minute() }
    }
}

/// All histograms, encoded.
#[derive(Debug, Default)]
pub(crate) struct Minutes {
    encoded: Vec<u8>,
    series: Vec<Encoded>,
}

/// Where a series lies in what was encoded.
#[derive(Debug, Clone, Copy)]
struct Encoded {
    minute: u32,
    operation: u32,
    status: u8,
    begin: usize,
    end: usize,
}

impl Minutes {
    /// Counts rows that are sorted by falling duration within each operation; `counted` and `order` are in the order
    /// of traces, to which [`Row::place`] leads.
    pub(crate) fn of(rows: &[Row], counted: &[Counted], order: &[Placed<'_>], operations: usize) -> Self {
        let mut minutes = Self::default();
        let mut series = SeriesOf::default();
        let (places, ends) = by_operation(rows, operations);
        let mut begin = 0;
        for (operation, end) in ends.into_iter().enumerate() {
            for &at in &places[begin..end] {
                let row = &rows[at as usize];
                let Counted { hash, minute } = counted[row.place as usize];
                let status = row.flags & 3;
                let exemplar = || exemplar_of(order[row.place as usize].2);
                let error = status == StatusCode::Error as u8;
                series.of(minute, status).record(NanoDuration(row.duration), error, hash, exemplar);
            }
            begin = end;
            series.encode(operation as u32, &mut minutes);
        }
        minutes
    }

    /// Minutes and their values, not packed yet, rising.
    pub(crate) fn values(mut self) -> impl Iterator<Item = (u32, Vec<u8>)> {
        self.series.sort_unstable_by_key(|series| (series.minute, series.operation, series.status));
        let mut rest = 0;
        std::iter::from_fn(move || {
            let first = self.series.get(rest)?;
            let mut raw = Vec::new();
            for series in self.series[rest..].iter().take_while(|series| series.minute == first.minute) {
                put(&mut raw, u64::from(series.operation));
                raw.push(series.status);
                raw.extend_from_slice(&self.encoded[series.begin..series.end]);
                rest += 1;
            }
            Some((first.minute, raw))
        })
    }
}

fn exemplar_of(row: &SpanRow) -> Exemplar {
    Exemplar {
        trace_id: row.trace_id,
        span_id: row.node.span_id,
        duration: row.node.duration(),
        time: row.node.end,
    }
}

/// The places of the rows of each operation, in the order of the rows, and where each operation's end.
fn by_operation(rows: &[Row], operations: usize) -> (Vec<u32>, Vec<usize>) {
    let mut ends = vec![0_usize; operations];
    rows.iter().for_each(|row| ends[row.operation as usize] += 1);
    let mut sum = 0;
    ends.iter_mut().for_each(|end| sum += std::mem::replace(end, sum));
    let mut places = vec![0; rows.len()];
    for (at, row) in rows.iter().enumerate() {
        let end = &mut ends[row.operation as usize];
        places[*end] = at as u32;
        *end += 1;
    }
    (places, ends)
}

/// The series of one operation. Reuse it.
#[derive(Debug, Default)]
struct SeriesOf {
    /// Those in use come first.
    series: Vec<LongestFirst>,
    keys: Vec<(u32, u8)>,
    places: HashMap<(u32, u8), usize>,
    /// The last that was asked for; nearly always the next as well.
    last: usize,
}

impl SeriesOf {
    #[inline]
    fn of(&mut self, minute: u32, status: u8) -> &mut LongestFirst {
        let key = (minute, status);
        if self.keys.get(self.last) != Some(&key) {
            self.last = self.place_of(key);
        }
        &mut self.series[self.last]
    }

    fn place_of(&mut self, key: (u32, u8)) -> usize {
        let next = self.keys.len();
        let at = *self.places.entry(key).or_insert(next);
        if at == next {
            self.keys.push(key);
            match self.series.get_mut(at) {
                Some(used) => used.clear(),
                None => self.series.push(LongestFirst::default()),
            }
        }
        at
    }

    /// Encodes what there is, and begins anew.
    fn encode(&mut self, operation: u32, out: &mut Minutes) {
        let (mut histogram, mut exemplars) = (Vec::new(), Vec::new());
        for ((minute, status), series) in self.keys.drain(..).zip(&self.series) {
            histogram.clear();
            exemplars.clear();
            series.encode_histogram(&mut histogram);
            series.encode_exemplars(&mut exemplars);
            let begin = out.encoded.len();
            for part in [&histogram, &exemplars] {
                put(&mut out.encoded, part.len() as u64);
                out.encoded.extend_from_slice(part);
            }
            out.series.push(Encoded { minute, operation, status, begin, end: out.encoded.len() });
        }
        self.places.clear();
        self.last = 0;
    }
}
