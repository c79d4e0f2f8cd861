//! The histograms of a minute, in columns. Most series of a minute have one span or few, so that what can be told
//! from something else is not stored: the outer buckets from the least and the greatest duration, all of a single
//! span's histogram from its duration, and of the ids of traces each once.

use std::ops::Range;

use hashbrown::HashMap;
use latency::{
    Exemplar, ExemplarRoles, ExemplarSet, HistogramParts, LatencyHistogram, LongestFirst, bucket_of,
};
use trace_model::{NanoDuration, SpanId, StatusCode, TraceId, UnixNanos};

use crate::codec::{ReadError, put};
use crate::columns::{ColumnReader, Streams, Unpacked, put_lengths, put_packed};
use crate::histograms::{HistogramRow, write_sized};

const WHAT: &str = "histograms";
/// More exemplars than a set ever has are damage.
const EXEMPLARS_MAX: u32 = 8;

/// One series as it is written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Series<'a> {
    pub(crate) operation: u32,
    pub(crate) status: StatusCode,
    pub(crate) counted: &'a LongestFirst,
}

/// What is written of a series, beside its exemplars.
struct Numbers {
    parts: HistogramParts,
    /// What the sum is above as many of the least.
    surplus: u64,
    /// Buckets between the first and the last.
    inner: Vec<(u16, u64)>,
    /// In the bucket of the least duration.
    first: u64,
    has_two_ends: bool,
}

impl Numbers {
    /// `None` if something cannot be told as columns tell it, which takes numbers that are near their limits.
    fn of(series: &Series<'_>) -> Option<Self> {
        let exemplars = series.counted.exemplars();
        let parts = series.counted.parts()?;
        let least = u128::from(parts.min.0) * u128::from(parts.count);
        let surplus = u64::try_from(parts.sum.checked_sub(least)?).ok()?;
        let mut inner: Vec<(u16, u64)> = series.counted.bucket_counts().collect();
        let counted = inner.iter().try_fold(0_u64, |sum, (_, count)| sum.checked_add(*count))?;
        let has_two_ends = inner.len() > 1;
        if has_two_ends {
            inner.pop();
        }
        let first = inner.remove(0).1;
        let slowest = exemplars.slowest()?;
        let is_only = parts.count > 1
            || (exemplars.iter().count() == 1
                && exemplars.roles(slowest) == ExemplarRoles::of_only(parts.errors > 0));
        let told = counted == parts.count && slowest.duration == parts.max && is_only;
        told.then_some(Self { parts, surplus, inner, first, has_two_ends })
    }

    fn has_many(&self) -> bool {
        self.parts.count > 1
    }
}

/// Writes the series of a minute, sorted by operation. Whether columns can tell them; if not, the streams are of
/// no use.
pub(crate) fn write(series: &[Series<'_>], streams: &mut Streams) -> bool {
    let Some(numbers) = series.iter().map(Numbers::of).collect::<Option<Vec<_>>>() else { return false };
    streams.clear();
    put(&mut streams.heads, series.len() as u64);
    put_lengths(streams, numbers.iter().map(|number| number.parts.count));
    let before = [0].into_iter().chain(series.iter().map(|series| series.operation));
    put_packed(streams, before.zip(series).map(|(before, of)| of.operation.wrapping_sub(before).into()));
    put_packed(streams, series.iter().map(|series| series.status as u64));
    let of_all: [fn(&HistogramParts) -> u64; 3] =
        [|parts| parts.errors, |parts| parts.zeros, |parts| parts.overflow];
    for column in of_all {
        put_packed(streams, numbers.iter().map(|number| column(&number.parts)));
    }
    put_lengths(streams, numbers.iter().map(|number| number.parts.min.0));

    let many = || numbers.iter().filter(|number| number.has_many());
    put_lengths(streams, many().map(|number| number.parts.max.0 - number.parts.min.0));
    put_lengths(streams, many().map(|number| number.surplus));
    put_lengths(streams, many().filter(|number| number.has_two_ends).map(|number| number.first));
    put_packed(streams, many().map(|number| number.inner.len() as u64));
    put_lengths(
        streams,
        many().flat_map(|number| {
            let first = bucket_of(number.parts.min);
            let before = [first].into_iter().chain(number.inner.iter().map(|(bucket, _)| *bucket));
            before.zip(&number.inner).map(|(before, (bucket, _))| u64::from(bucket - before))
        }),
    );
    put_lengths(streams, many().flat_map(|number| number.inner.iter().map(|(_, count)| *count)));
    write_exemplars(series, streams);
    true
}

fn write_exemplars(series: &[Series<'_>], streams: &mut Streams) {
    let many = || series.iter().map(|series| series.counted).filter(|counted| counted.count() > 1);
    put_packed(streams, many().map(|counted| counted.exemplars().iter().count() as u64));
    let with_roles = || {
        many().flat_map(|counted| {
            let longest = counted.longest().unwrap_or_default();
            let set = counted.exemplars();
            set.iter().map(move |exemplar| (set.roles(exemplar), longest.0 - exemplar.duration.0))
        })
    };
    put_packed(streams, with_roles().map(|(roles, _)| roles.0.into()));
    put_lengths(streams, with_roles().filter(|(roles, _)| !roles.is_slowest()).map(|(_, less)| less));

    // Spans of one trace end near each other.
    let mut numbers: HashMap<TraceId, u32> = HashMap::new();
    let mut traces: Vec<(TraceId, u64)> = Vec::new();
    let all = || series.iter().flat_map(|series| series.counted.exemplars().iter());
    for exemplar in all() {
        let number = *numbers.entry(exemplar.trace_id).or_insert(traces.len() as u32);
        match traces.get_mut(number as usize) {
            Some((_, first)) => *first = exemplar.time.0.min(*first),
            None => traces.push((exemplar.trace_id, exemplar.time.0)),
        }
    }
    put(&mut streams.heads, traces.len() as u64);
    traces.iter().for_each(|(id, _)| streams.bits.extend_from_slice(id.as_bytes()));
    put_packed(streams, traces.iter().map(|(_, first)| *first));
    let number = |exemplar: &Exemplar| numbers.get(&exemplar.trace_id).copied().unwrap_or(0);
    put_packed(streams, all().map(|exemplar| number(exemplar).into()));
    put_lengths(streams, all().map(|exemplar| exemplar.time.0 - traces[number(exemplar) as usize].1));
    all().for_each(|exemplar| streams.bits.extend_from_slice(exemplar.span_id.as_bytes()));
}

/// Series as they were written up to format 2, and still are where columns cannot tell them.
pub(crate) fn whole(series: &[Series<'_>]) -> Vec<u8> {
    let mut raw = Vec::new();
    for one in series {
        put(&mut raw, u64::from(one.operation));
        raw.push(one.status as u8);
        write_sized(&mut raw, |out| one.counted.encode_histogram(out));
        write_sized(&mut raw, |out| one.counted.encode_exemplars(out));
    }
    raw
}

/// Reads the series of a minute that `wanted` says, given what follows the mark.
pub(crate) fn read(
    marked: &[u8],
    wanted: &dyn Fn(u32, StatusCode) -> bool,
) -> Result<Vec<HistogramRow>, ReadError> {
    let unpacked = Unpacked::read(marked, WHAT)?;
    let mut columns = ColumnReader::new(&unpacked, WHAT);
    let count = columns.count(u32::MAX as usize)?;
    let (series, buckets) = read_series(&mut columns, count)?;
    let mut exemplars = read_exemplars(&mut columns, &series)?.into_iter();
    columns.finish()?;
    let mut rows = Vec::new();
    for one in &series {
        let set = exemplars.by_ref().take(one.exemplars as usize);
        let status = StatusCode::from_wire(one.status);
        if !wanted(one.operation, status) {
            set.for_each(drop);
            continue;
        }
        let only = [(bucket_of(one.parts.min), one.parts.count)];
        let buckets = one.buckets.clone().and_then(|place| buckets.get(place)).unwrap_or(&only);
        let buckets = buckets.iter().copied().map(Ok);
        rows.push(HistogramRow {
            operation: one.operation,
            status,
            histogram: LatencyHistogram::from_parts(&one.parts, buckets).map_err(|_| damaged())?,
            exemplars: ExemplarSet::from_stored(set.map(Ok)).map_err(|_| damaged())?,
        });
    }
    Ok(rows)
}

const fn damaged() -> ReadError {
    ReadError::Damaged(WHAT)
}

struct Stored {
    operation: u32,
    status: u64,
    parts: HistogramParts,
    /// Where its buckets lie among those of all, if it has more than one.
    buckets: Option<Range<usize>>,
    exemplars: u32,
}

/// Bucket and count.
type Buckets = Vec<(u16, u64)>;

fn read_series(columns: &mut ColumnReader<'_>, count: usize) -> Result<(Vec<Stored>, Buckets), ReadError> {
    // A byte for each of these lies in the value, so that the count cannot ask for memory.
    let counts = columns.lengths(count)?;
    let (operations, statuses) = (columns.packed_u32(count)?, columns.packed(count)?);
    let (errors, zeros) = (columns.packed(count)?, columns.packed(count)?);
    let overflows = columns.packed(count)?;
    let mins = columns.lengths(count)?;
    let mut operation = 0_u32;
    let mut series: Vec<Stored> = Vec::with_capacity(count);
    for at in 0..count {
        operation = operation.wrapping_add(operations[at]);
        let min = NanoDuration(mins[at]);
        let parts = HistogramParts {
            count: counts[at],
            errors: errors[at],
            zeros: zeros[at],
            overflow: overflows[at],
            sum: min.0.into(),
            min,
            max: min,
        };
        series.push(Stored { operation, status: statuses[at], parts, buckets: None, exemplars: 1 });
    }
    let buckets = read_many(columns, &mut series)?;
    Ok((series, buckets))
}

/// What series of more than one span have besides; their buckets.
fn read_many(columns: &mut ColumnReader<'_>, series: &mut [Stored]) -> Result<Buckets, ReadError> {
    let mut many: Vec<&mut Stored> = series.iter_mut().filter(|one| one.parts.count > 1).collect();
    let (spreads, surpluses) = (columns.lengths(many.len())?, columns.lengths(many.len())?);
    for (one, (spread, surplus)) in many.iter_mut().zip(spreads.into_iter().zip(surpluses)) {
        let parts = &mut one.parts;
        parts.max = NanoDuration(parts.min.0.checked_add(spread).ok_or_else(damaged)?);
        parts.sum = u128::from(parts.min.0) * u128::from(parts.count) + u128::from(surplus);
    }
    let has_two_ends = |one: &Stored| bucket_of(one.parts.min) != bucket_of(one.parts.max);
    let two_ended = many.iter().filter(|one| has_two_ends(one)).count();
    let mut firsts = columns.lengths(two_ended)?.into_iter();
    let inner = columns.packed_u32(many.len())?;
    let total = columns.total(&inner)?;
    let mut steps = columns.lengths(total)?.into_iter().zip(columns.lengths(total)?);
    let mut buckets = Buckets::with_capacity(total + 2 * two_ended);
    for (one, inner) in many.iter_mut().zip(inner) {
        if !has_two_ends(one) {
            if inner > 0 {
                return Err(damaged());
            }
            continue;
        }
        let (mut bucket, last) = (bucket_of(one.parts.min), bucket_of(one.parts.max));
        let first = firsts.next().unwrap_or(0);
        let mut left = one.parts.count.checked_sub(first).ok_or_else(damaged)?;
        let begin = buckets.len();
        buckets.push((bucket, first));
        for (step, count) in steps.by_ref().take(inner as usize) {
            let step = u16::try_from(step).map_err(|_| damaged())?;
            bucket = bucket.checked_add(step).ok_or_else(damaged)?;
            left = left.checked_sub(count).ok_or_else(damaged)?;
            buckets.push((bucket, count));
        }
        buckets.push((last, left));
        one.buckets = Some(begin..buckets.len());
    }
    let sets = columns.packed_u32(many.len())?;
    for (one, exemplars) in many.into_iter().zip(sets) {
        if exemplars > EXEMPLARS_MAX {
            return Err(damaged());
        }
        one.exemplars = exemplars;
    }
    Ok(buckets)
}

fn read_exemplars(
    columns: &mut ColumnReader<'_>,
    series: &[Stored],
) -> Result<Vec<(ExemplarRoles, Exemplar)>, ReadError> {
    let is_many = |one: &&Stored| one.parts.count > 1;
    let total: usize = series.iter().map(|one| one.exemplars as usize).sum();
    let of_many = series.iter().filter(is_many).map(|one| one.exemplars as usize).sum();
    let roles = columns.packed(of_many)?;
    let faster = roles.iter().filter(|roles| !ExemplarRoles(**roles as u8).is_slowest()).count();
    let mut less = columns.lengths(faster)?.into_iter();
    let mut roles = roles.into_iter();

    let traces = columns.count(total)?;
    let ids = columns.plain(traces * 16)?;
    let first_times = columns.packed(traces)?;
    let (numbers, times) = (columns.packed_u32(total)?, columns.lengths(total)?);
    let mut spans = columns.plain(total * 8)?.chunks_exact(8);
    let mut places = numbers.into_iter().zip(times);
    let mut found = Vec::with_capacity(total);
    for one in series {
        for _ in 0..one.exemplars {
            let (roles, duration) = if one.parts.count > 1 {
                let roles = ExemplarRoles(roles.next().unwrap_or(0) as u8);
                let less = if roles.is_slowest() { 0 } else { less.next().unwrap_or(0) };
                (roles, one.parts.max.0.checked_sub(less).ok_or_else(damaged)?)
            } else {
                (ExemplarRoles::of_only(one.parts.errors > 0), one.parts.max.0)
            };
            let (number, time) = places.next().unwrap_or_default();
            let number = number as usize;
            let id = ids.get(number * 16..number * 16 + 16).ok_or_else(damaged)?;
            let first = first_times.get(number).copied().ok_or_else(damaged)?;
            let exemplar = Exemplar {
                trace_id: TraceId::try_from(id).map_err(|_| damaged())?,
                span_id: SpanId::try_from(spans.next().unwrap_or_default()).map_err(|_| damaged())?,
                duration: NanoDuration(duration),
                time: UnixNanos(first.checked_add(time).ok_or_else(damaged)?),
            };
            found.push((roles, exemplar));
        }
    }
    Ok(found)
}
