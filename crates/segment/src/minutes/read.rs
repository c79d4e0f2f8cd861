//! Reads the series of a minute. Few of them are wanted as a rule, so that of buckets and exemplars, which are most of
//! the block, the others are passed over.

use latency::{Exemplar, ExemplarRoles, ExemplarSet, HistogramParts, LatencyHistogram, bucket_of};
use trace_model::{NanoDuration, SpanId, StatusCode, TraceId, UnixNanos};

use crate::codec::ReadError;
use crate::columns::{ColumnReader, LengthColumn, PackedColumn, Unpacked};
use crate::histograms::HistogramRow;

const WHAT: &str = "histograms";
/// More exemplars than a set ever has are damage.
const EXEMPLARS_MAX: u32 = 8;

const fn damaged() -> ReadError {
    ReadError::Damaged(WHAT)
}

/// Reads the series of a minute that `wanted` says, given what follows the mark.
pub(crate) fn read(
    marked: &[u8],
    wanted: &dyn Fn(u32, StatusCode) -> bool,
) -> Result<Vec<HistogramRow>, ReadError> {
    let unpacked = Unpacked::read(marked, WHAT)?;
    let mut columns = ColumnReader::new(&unpacked, WHAT);
    let count = columns.count(u32::MAX as usize)?;
    let mut series = read_series(&mut columns, count)?;
    let mut buckets = Buckets::read(&mut columns, &mut series)?;
    let mut exemplars = Exemplars::read(&mut columns, &series)?;
    columns.finish()?;
    let mut rows = Vec::new();
    for one in &series {
        let status = StatusCode::from_wire(one.status);
        if !wanted(one.operation, status) {
            buckets.pass(one)?;
            exemplars.pass(one);
            continue;
        }
        let histogram = LatencyHistogram::from_parts(&one.parts, buckets.of(one)?.iter().copied().map(Ok));
        rows.push(HistogramRow {
            operation: one.operation,
            status,
            histogram: histogram.map_err(|_| damaged())?,
            exemplars: exemplars.of(one)?,
        });
    }
    Ok(rows)
}

/// A series without its buckets and exemplars.
struct Stored {
    operation: u32,
    status: u64,
    parts: HistogramParts,
    /// Buckets between the first and the last.
    inner: u32,
    exemplars: u32,
}

impl Stored {
    fn has_many(&self) -> bool {
        self.parts.count > 1
    }

    fn has_two_ends(&self) -> bool {
        self.has_many() && bucket_of(self.parts.min) != bucket_of(self.parts.max)
    }
}

fn read_series(columns: &mut ColumnReader<'_>, count: usize) -> Result<Vec<Stored>, ReadError> {
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
        series.push(Stored { operation, status: statuses[at], parts, inner: 0, exemplars: 1 });
    }
    Ok(series)
}

/// The buckets of series of more than one span, one series after the other.
struct Buckets<'a> {
    firsts: std::vec::IntoIter<u64>,
    steps: LengthColumn<'a>,
    counts: LengthColumn<'a>,
    /// Those of a series.
    found: Vec<(u16, u64)>,
}

impl<'a> Buckets<'a> {
    /// Reads what series of more than one span have besides as well.
    fn read(columns: &mut ColumnReader<'a>, series: &mut [Stored]) -> Result<Self, ReadError> {
        let mut many: Vec<&mut Stored> = series.iter_mut().filter(|one| one.has_many()).collect();
        let (spreads, surpluses) = (columns.lengths(many.len())?, columns.lengths(many.len())?);
        for (one, (spread, surplus)) in many.iter_mut().zip(spreads.into_iter().zip(surpluses)) {
            let parts = &mut one.parts;
            parts.max = NanoDuration(parts.min.0.checked_add(spread).ok_or_else(damaged)?);
            parts.sum = u128::from(parts.min.0) * u128::from(parts.count) + u128::from(surplus);
        }
        let two_ended = many.iter().filter(|one| one.has_two_ends()).count();
        let firsts = columns.lengths(two_ended)?.into_iter();
        let inner = columns.packed_u32(many.len())?;
        let total = columns.total(&inner)?;
        let (steps, counts) = (columns.lengths_later(total)?, columns.lengths_later(total)?);
        let sets = columns.packed_u32(many.len())?;
        for (one, (inner, exemplars)) in many.into_iter().zip(inner.into_iter().zip(sets)) {
            if exemplars > EXEMPLARS_MAX || (inner > 0 && !one.has_two_ends()) {
                return Err(damaged());
            }
            (one.inner, one.exemplars) = (inner, exemplars);
        }
        Ok(Self { firsts, steps, counts, found: Vec::new() })
    }

    fn pass(&mut self, one: &Stored) -> Result<(), ReadError> {
        if one.has_two_ends() {
            self.firsts.next().ok_or_else(damaged)?;
            self.steps.pass(one.inner as usize);
            self.counts.pass(one.inner as usize);
        }
        Ok(())
    }

    /// Numbers and counts, rising.
    fn of(&mut self, one: &Stored) -> Result<&[(u16, u64)], ReadError> {
        let (mut bucket, mut left) = (bucket_of(one.parts.min), one.parts.count);
        self.found.clear();
        if one.has_two_ends() {
            let first = self.firsts.next().ok_or_else(damaged)?;
            left = left.checked_sub(first).ok_or_else(damaged)?;
            self.found.push((bucket, first));
            for (step, count) in self.steps.by_ref().zip(self.counts.by_ref()).take(one.inner as usize) {
                let step = u16::try_from(step).map_err(|_| damaged())?;
                bucket = bucket.checked_add(step).ok_or_else(damaged)?;
                left = left.checked_sub(count).ok_or_else(damaged)?;
                self.found.push((bucket, count));
            }
        }
        self.found.push((bucket_of(one.parts.max), left));
        Ok(&self.found)
    }
}

/// The exemplars, one series after the other.
struct Exemplars<'a> {
    /// Of series of more than one span.
    roles: Vec<u64>,
    /// How much faster each is than the greatest, unless it is that.
    less: LengthColumn<'a>,
    ids: &'a [u8],
    first_times: PackedColumn<'a>,
    numbers: PackedColumn<'a>,
    times: LengthColumn<'a>,
    spans: &'a [u8],
    /// Exemplars before the next series, and those of them with roles.
    at: usize,
    at_role: usize,
}

fn is_slowest(roles: u64) -> bool {
    ExemplarRoles(roles as u8).is_slowest()
}

impl<'a> Exemplars<'a> {
    fn read(columns: &mut ColumnReader<'a>, series: &[Stored]) -> Result<Self, ReadError> {
        let total: usize = series.iter().map(|one| one.exemplars as usize).sum();
        let of_many = series.iter().filter(|one| one.has_many()).map(|one| one.exemplars as usize).sum();
        let roles = columns.packed(of_many)?;
        let faster = roles.iter().filter(|roles| !is_slowest(**roles)).count();
        let less = columns.lengths_later(faster)?;
        let traces = columns.count(total)?;
        Ok(Self {
            roles,
            less,
            ids: columns.plain(traces * 16)?,
            first_times: columns.packed_later(traces)?,
            numbers: columns.packed_later(total)?,
            times: columns.lengths_later(total)?,
            spans: columns.plain(total * 8)?,
            at: 0,
            at_role: 0,
        })
    }

    /// The roles of a series' exemplars, and moves on behind it.
    fn roles_of(&mut self, one: &Stored) -> &[u64] {
        let from = self.at_role;
        self.at += one.exemplars as usize;
        if one.has_many() {
            self.at_role += one.exemplars as usize;
        }
        self.roles.get(from..self.at_role).unwrap_or_default()
    }

    fn pass(&mut self, one: &Stored) {
        let faster = self.roles_of(one).iter().filter(|roles| !is_slowest(**roles)).count();
        self.less.pass(faster);
        self.times.pass(one.exemplars as usize);
    }

    fn of(&mut self, one: &Stored) -> Result<ExemplarSet, ReadError> {
        let (at, at_role) = (self.at, self.at_role);
        self.roles_of(one);
        let set = (0..one.exemplars as usize).map(|nth| {
            let roles = self.roles.get(at_role + nth).filter(|_| one.has_many());
            let (roles, less) = match roles {
                None => (ExemplarRoles::of_only(one.parts.errors > 0), 0),
                Some(roles) if is_slowest(*roles) => (ExemplarRoles(*roles as u8), 0),
                Some(roles) => (ExemplarRoles(*roles as u8), self.less.next().unwrap_or(0)),
            };
            let number = usize::try_from(self.numbers.get(at + nth)).map_err(|_| damaged())?;
            let id = self.ids.as_chunks::<16>().0.get(number).ok_or_else(damaged)?;
            let span = self.spans.as_chunks::<8>().0.get(at + nth).ok_or_else(damaged)?;
            let (first, time) = (self.first_times.get(number), self.times.next().unwrap_or(0));
            let exemplar = Exemplar {
                trace_id: TraceId::new(*id).map_err(|_| damaged())?,
                span_id: SpanId::new(*span).map_err(|_| damaged())?,
                duration: NanoDuration(one.parts.max.0.checked_sub(less).ok_or_else(damaged)?),
                time: UnixNanos(first.checked_add(time).ok_or_else(damaged)?),
            };
            Ok((roles, exemplar))
        });
        let set: Vec<(ExemplarRoles, Exemplar)> = set.collect::<Result<_, ReadError>>()?;
        ExemplarSet::from_stored(set.into_iter().map(Ok)).map_err(|_| damaged())
    }
}
