//! The latency histograms of a segment that is being built: by the minute of the span's end, operation and status.
//!
//! Rows are sorted by falling duration for the sake of the row blocks. Taken operation by operation in that order
//! they make histograms without looking anything up, and only few spans are looked at as exemplars.

use hashbrown::HashMap;
use latency::{Exemplar, LongestFirst};
use trace_model::{NanoDuration, StatusCode};

use crate::live::SpanRow;
use crate::minutes::Series;
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

/// All series of a segment.
#[derive(Debug, Default)]
pub(crate) struct Minutes {
    /// Minute, operation, status.
    series: Vec<((u32, u32, u8), LongestFirst)>,
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
            series.end(operation as u32, &mut minutes.series);
        }
        minutes.series.sort_unstable_by_key(|(key, _)| *key);
        minutes
    }

    /// Minutes, rising, with their series, sorted by operation and status.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, Vec<Series<'_>>)> {
        self.series.chunk_by(|(a, _), (b, _)| a.0 == b.0).map(|series| {
            let of_minute = series.iter().map(|((_, operation, status), counted)| Series {
                operation: *operation,
                status: StatusCode::from_wire(u64::from(*status)),
                counted,
            });
            (series[0].0.0, of_minute.collect())
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
    /// By minute and status.
    series: Vec<((u32, u8), LongestFirst)>,
    places: HashMap<(u32, u8), usize>,
    /// The last that was asked for; nearly always the next as well.
    last: usize,
}

impl SeriesOf {
    #[inline]
    fn of(&mut self, minute: u32, status: u8) -> &mut LongestFirst {
        let key = (minute, status);
        if self.series.get(self.last).is_none_or(|(last, _)| *last != key) {
            self.last = self.place_of(key);
        }
        &mut self.series[self.last].1
    }

    fn place_of(&mut self, key: (u32, u8)) -> usize {
        let next = self.series.len();
        let at = *self.places.entry(key).or_insert(next);
        if at == next {
            self.series.push((key, LongestFirst::default()));
        }
        at
    }

    /// Hands out what there is, and begins anew.
    fn end(&mut self, operation: u32, out: &mut Vec<((u32, u32, u8), LongestFirst)>) {
        let ended = self.series.drain(..);
        out.extend(ended.map(|((minute, status), series)| ((minute, operation, status), series)));
        self.places.clear();
        self.last = 0;
    }
}
