//! The histograms of a minute, in columns. Most series of a minute have one span or few, so that what can be told
//! from something else is not stored: the outer buckets from the least and the greatest duration, all of a single
//! span's histogram from its duration, and of the ids of traces each once.

mod read;

pub(crate) use read::read;

use hashbrown::HashMap;
use latency::{Exemplar, ExemplarRoles, HistogramParts, LongestFirst, bucket_of};
use trace_model::{StatusCode, TraceId};

use crate::codec::put;
use crate::columns::{Streams, put_lengths, put_packed};
use crate::histograms::write_sized;

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
