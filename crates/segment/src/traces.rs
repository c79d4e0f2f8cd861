//! Analysed traces: what a search by trace shows (heads), and what their critical paths are made of (paths).
//! Both are sorted by falling duration and cut into blocks of the same rows.

use trace_analyze::{Flags, PathShare};
use trace_model::{NanoDuration, OperationId, ServiceId, TraceId, UnixNanos};

use crate::codec::{Blocks, ReadError, after_mark, fetch, put};
use crate::columns::{ColumnReader, Streams, Unpacked, put_falling, put_lengths, put_packed};
use crate::keys::Key;
use crate::names::LocalNames;
use crate::v1;

/// Traces of a block.
pub(crate) const ROWS_MAX: usize = 512;

/// Spans and errors of one service in a trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceServiceCount {
    /// The service.
    pub service: ServiceId,
    /// Spans of the trace.
    pub spans: u32,
    /// Of these, with status error.
    pub errors: u32,
}

/// A trace as it was analysed. In a sealed segment, ids of services and operations are the segment's own
/// numbers.
#[derive(Debug, Clone)]
pub struct TraceRow {
    /// The trace.
    pub trace_id: TraceId,
    /// Earliest start of its spans.
    pub start: UnixNanos,
    /// From the earliest start to the latest end.
    pub duration: NanoDuration,
    /// The operation of its primary root, if a span without a parent has come.
    pub root: Option<OperationId>,
    /// The duration of the root whose critical path `shares` tells.
    pub root_duration: NanoDuration,
    /// Distinct spans.
    pub spans: u32,
    /// Of these, with status error.
    pub errors: u32,
    /// Spans whose parent is not there.
    pub missing_parents: u32,
    /// What was odd on the way.
    pub flags: Flags,
    /// Whether it takes the place of an analysis in an earlier segment.
    pub revised: bool,
    /// By service.
    pub services: Vec<TraceServiceCount>,
    /// The critical path by operation; sums to `root_duration`.
    pub shares: Vec<PathShare>,
}

/// Writes the heads of traces that are sorted by falling duration.
pub(crate) fn write_heads(rows: &[&TraceRow], names: &mut LocalNames<'_>, streams: &mut Streams) {
    streams.clear();
    put(&mut streams.heads, rows.len() as u64);
    put(&mut streams.heads, rows.first().map_or(0, |row| row.duration.0));
    rows.iter().for_each(|row| streams.bits.extend_from_slice(row.trace_id.as_bytes()));
    put_falling(streams, rows.iter().map(|row| row.duration.0));
    put_packed(streams, rows.iter().map(|row| row.start.0));
    put_packed(
        streams,
        rows.iter().map(|row| row.root.map_or(0, |root| u64::from(names.operation(root)) + 1)),
    );
    // The root is nearly always as long as its trace.
    put_packed(streams, rows.iter().map(|row| row.duration.0.wrapping_sub(row.root_duration.0)));
    let numbers: [fn(&TraceRow) -> u32; 6] = [
        |row| row.spans,
        |row| row.errors,
        |row| row.missing_parents,
        |row| row.flags.bits(),
        |row| u32::from(row.revised),
        |row| row.services.len() as u32,
    ];
    for number in numbers {
        put_packed(streams, rows.iter().map(|row| number(row).into()));
    }
    let services = || rows.iter().flat_map(|row| &row.services);
    put_packed(streams, services().map(|count| names.service(count.service).into()));
    put_packed(streams, services().map(|count| count.errors.into()));
    put_lengths(streams, services().map(|count| count.spans.into()));
}

/// Writes the critical-path shares of the same traces.
pub(crate) fn write_paths(rows: &[&TraceRow], names: &mut LocalNames<'_>, streams: &mut Streams) {
    streams.clear();
    put(&mut streams.heads, rows.len() as u64);
    put_packed(streams, rows.iter().map(|row| row.shares.len() as u64));
    let shares = || rows.iter().flat_map(|row| &row.shares);
    put_packed(streams, shares().map(|share| names.operation(share.operation).into()));
    let client = |share: &PathShare| share.edge.map(|(client, _)| client);
    put_packed(streams, shares().map(|share| client(share).map_or(0, |id| u64::from(names.service(id)) + 1)));
    put_packed(streams, shares().filter_map(|share| Some(names.service(share.edge?.1).into())));
    put_packed(streams, shares().map(|share| u64::from(share.spans) << 1 | u64::from(share.on_path)));
    put_packed(streams, shares().map(|share| share.errors.into()));
    put_lengths(streams, shares().map(|share| share.exclusive.0));
}

/// A decoded block of heads; their `shares` are empty.
#[derive(Debug)]
pub struct TraceHeads {
    /// By falling duration.
    pub rows: Vec<TraceRow>,
}

impl TraceHeads {
    /// Reads a block.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn read(blocks: &dyn Blocks, number: u32) -> Result<Self, ReadError> {
        Self::read_with(blocks, number, read_counts)
    }

    /// Reads a block for who has no use for the services of its traces: there are none in it.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn read_without_services(blocks: &dyn Blocks, number: u32) -> Result<Self, ReadError> {
        Self::read_with(blocks, number, |columns, services| {
            pass_counts(columns, services).map(|()| Vec::new())
        })
    }

    fn read_with(
        blocks: &dyn Blocks,
        number: u32,
        counts: impl FnOnce(&mut ColumnReader<'_>, &[u32]) -> Result<Vec<TraceServiceCount>, ReadError>,
    ) -> Result<Self, ReadError> {
        let stored = fetch(blocks, Key::Traces(number))?;
        let Some(marked) = after_mark(&stored) else { return Ok(Self { rows: v1::read_heads(&stored)? }) };
        let unpacked = Unpacked::read(marked, "trace block")?;
        let mut columns = ColumnReader::new(&unpacked, "trace block");
        let count = columns.count(ROWS_MAX)?;
        let longest = columns.number()?;
        let ids = columns.plain(count * 16)?;
        let durations = columns.falling(longest, count)?;
        let (starts, roots) = (columns.packed(count)?, columns.packed_u32(count)?);
        let root_durations = columns.packed(count)?;
        let (spans, errors) = (columns.packed_u32(count)?, columns.packed_u32(count)?);
        let (missing_parents, flags) = (columns.packed_u32(count)?, columns.packed_u32(count)?);
        let (revised, services) = (columns.packed_u32(count)?, columns.packed_u32(count)?);
        let mut counts = counts(&mut columns, &services)?.into_iter();
        columns.finish()?;
        let row = |(at, id): (usize, &[u8])| {
            Ok(TraceRow {
                trace_id: TraceId::try_from(id).map_err(|_| ReadError::Damaged("trace block"))?,
                start: UnixNanos(starts[at]),
                duration: NanoDuration(durations[at]),
                root: roots[at].checked_sub(1).map(OperationId),
                root_duration: NanoDuration(durations[at].wrapping_sub(root_durations[at])),
                spans: spans[at],
                errors: errors[at],
                missing_parents: missing_parents[at],
                flags: Flags::from_bits(flags[at]),
                revised: revised[at] != 0,
                services: counts.by_ref().take(services[at] as usize).collect(),
                shares: Vec::new(),
            })
        };
        Ok(Self { rows: ids.chunks_exact(16).enumerate().map(row).collect::<Result<_, ReadError>>()? })
    }
}

fn read_counts(
    columns: &mut ColumnReader<'_>,
    services: &[u32],
) -> Result<Vec<TraceServiceCount>, ReadError> {
    let count = columns.total(services)?;
    let (services, errors) = (columns.packed_u32(count)?, columns.packed_u32(count)?);
    let spans = columns.lengths(count)?;
    let counts = services.into_iter().zip(errors).zip(spans);
    Ok(counts
        .map(|((service, errors), spans)| TraceServiceCount {
            service: ServiceId(service),
            spans: spans as u32,
            errors,
        })
        .collect())
}

fn pass_counts(columns: &mut ColumnReader<'_>, services: &[u32]) -> Result<(), ReadError> {
    let count = columns.total(services)?;
    columns.packed_later(count)?;
    columns.packed_later(count)?;
    columns.lengths_later(count)?;
    Ok(())
}

/// A decoded block of critical-path shares: one list a trace, in the order of the heads. The `service` of a share is not
/// stored; it is that of its operation, and reads as `ServiceId(u32::MAX)` here.
#[derive(Debug)]
pub struct TracePaths {
    /// Those of all traces, one after the other.
    shares: Vec<PathShare>,
    /// Where those of each trace end.
    ends: Vec<usize>,
}

impl TracePaths {
    /// How many traces there are.
    pub fn traces(&self) -> usize {
        self.ends.len()
    }

    /// The shares of the trace at this place, for who puts other numbers into them; none if there is no such trace.
    pub fn of(&mut self, at: usize) -> &mut [PathShare] {
        let begin = at.checked_sub(1).and_then(|before| self.ends.get(before)).copied().unwrap_or(0);
        let end = self.ends.get(at).copied().unwrap_or(begin);
        self.shares.get_mut(begin..end).unwrap_or_default()
    }

    /// The shares of each trace.
    pub fn iter(&self) -> impl Iterator<Item = &[PathShare]> {
        let begins = std::iter::once(0).chain(self.ends.iter().copied());
        begins.zip(&self.ends).map(|(begin, end)| self.shares.get(begin..*end).unwrap_or_default())
    }

    pub(crate) fn from_lists(lists: impl IntoIterator<Item = Vec<PathShare>>) -> Self {
        let (mut shares, mut ends) = (Vec::new(), Vec::new());
        for list in lists {
            shares.extend(list);
            ends.push(shares.len());
        }
        Self { shares, ends }
    }

    /// Reads a block.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn read(blocks: &dyn Blocks, number: u32) -> Result<Self, ReadError> {
        Self::read_of(blocks, number, |_| true)
    }

    /// Reads of a block the lists of those traces that `wanted` says, by their place in it; the others are empty.
    ///
    /// # Errors
    /// If the store fails or the block is damaged.
    pub fn read_of(
        blocks: &dyn Blocks,
        number: u32,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Self, ReadError> {
        let stored = fetch(blocks, Key::Paths(number))?;
        let Some(marked) = after_mark(&stored) else { return Ok(Self::from_lists(v1::read_paths(&stored)?)) };
        let unpacked = Unpacked::read(marked, "path block")?;
        let mut columns = ColumnReader::new(&unpacked, "path block");
        let rows = columns.count(ROWS_MAX)?;
        let lists = columns.packed_u32(rows)?;
        let count = columns.total(&lists)?;
        let (operations, clients) = (columns.packed_u32(count)?, columns.packed_u32(count)?);
        let edges = |clients: &[u32]| clients.iter().filter(|client| **client > 0).count();
        let servers = columns.packed_u32(edges(&clients))?;
        let (spans, errors) = (columns.packed(count)?, columns.packed_u32(count)?);
        let mut exclusive = columns.lengths_later(count)?;
        columns.finish()?;
        let (mut at, mut edge) = (0, 0);
        let (mut shares, mut ends) = (Vec::with_capacity(count), Vec::with_capacity(lists.len()));
        for (row, &list) in lists.iter().enumerate() {
            let places = at..at + list as usize;
            at = places.end;
            if !wanted(row) {
                edge += edges(&clients[places]);
                exclusive.pass(list as usize);
                ends.push(shares.len());
                continue;
            }
            let share = |at: usize| {
                let client = clients[at].checked_sub(1);
                edge += usize::from(client.is_some());
                PathShare {
                    service: ServiceId(u32::MAX),
                    operation: OperationId(operations[at]),
                    edge: client.map(|client| (ServiceId(client), ServiceId(servers[edge - 1]))),
                    exclusive: NanoDuration(exclusive.next().unwrap_or(0)),
                    spans: (spans[at] >> 1) as u32,
                    errors: errors[at],
                    on_path: spans[at] & 1 == 1,
                }
            };
            shares.extend(places.map(share));
            ends.push(shares.len());
        }
        Ok(Self { shares, ends })
    }
}
