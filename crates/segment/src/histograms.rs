//! Latency histograms by the minute of the span's end, operation and status: counted once, when the span's
//! segment is built, and stored inside it.

use hashbrown::HashMap;
use latency::{Exemplar, ExemplarSet, LatencyHistogram};
use trace_model::{OperationId, StatusCode};

use crate::codec::{Blocks, Cursor, Packer, ReadError, after_mark, fetch, put, unpack};
use crate::columns::Streams;
use crate::keys::Key;
use crate::live::SpanRow;
use crate::minutes::{self, Series};

/// Histograms by minute, operation and status.
#[derive(Debug, Default)]
pub struct HistogramTable {
    series: HashMap<(u32, OperationId, StatusCode), (LatencyHistogram, ExemplarSet)>,
}

impl HistogramTable {
    /// Counts a span.
    pub fn record(&mut self, row: &SpanRow) {
        let node = &row.node;
        let error = node.status == StatusCode::Error;
        let (histogram, exemplars) =
            self.series.entry((node.end.minute(), node.operation, node.status)).or_default();
        histogram.record(node.duration(), error);
        exemplars.observe(
            Exemplar {
                trace_id: row.trace_id,
                span_id: node.span_id,
                duration: node.duration(),
                time: node.end,
            },
            error,
        );
    }

    /// All series: minute, operation, status, histogram and exemplars.
    pub fn iter(
        &self,
    ) -> impl Iterator<Item = (u32, OperationId, StatusCode, &LatencyHistogram, &ExemplarSet)> {
        self.series.iter().map(|(&(minute, operation, status), (histogram, exemplars))| {
            (minute, operation, status, histogram, exemplars)
        })
    }

    /// Minutes with their packed values, rising.
    pub(crate) fn into_minutes(
        self,
        local: &HashMap<OperationId, u32>,
        streams: &mut Streams,
        packer: &mut Packer,
    ) -> std::io::Result<Vec<(u32, Vec<u8>)>> {
        let mut rows: Vec<_> = self
            .series
            .into_iter()
            .map(|((minute, operation, status), value)| {
                (minute, local.get(&operation).copied().unwrap_or(u32::MAX), status, value)
            })
            .collect();
        rows.sort_unstable_by_key(|row| (row.0, row.1, row.2));
        let mut found = Vec::new();
        for group in rows.chunk_by(|a, b| a.0 == b.0) {
            let series: Vec<Series<'_>> = group
                .iter()
                .map(|(_, operation, status, (histogram, exemplars))| Series {
                    operation: *operation,
                    status: *status,
                    histogram,
                    exemplars,
                })
                .collect();
            let packed = if minutes::write(&series, streams) {
                streams.pack(packer)?
            } else {
                packer.pack(&whole(&series))?
            };
            found.push((group[0].0, packed));
        }
        Ok(found)
    }
}

/// Series as they were written up to format 2, and still are where columns cannot tell them.
fn whole(series: &[Series<'_>]) -> Vec<u8> {
    let mut raw = Vec::new();
    for one in series {
        put(&mut raw, u64::from(one.operation));
        raw.push(one.status as u8);
        write_sized(&mut raw, |out| one.histogram.encode(out));
        write_sized(&mut raw, |out| one.exemplars.encode(out));
    }
    raw
}

pub(crate) fn write_sized(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let mut value = Vec::new();
    write(&mut value);
    put(out, value.len() as u64);
    out.extend_from_slice(&value);
}

/// One stored histogram.
#[derive(Debug)]
pub struct HistogramRow {
    /// Number of the operation within the segment.
    pub operation: u32,
    /// The status of the counted spans.
    pub status: StatusCode,
    /// What was counted.
    pub histogram: LatencyHistogram,
    /// Spans that stand for it.
    pub exemplars: ExemplarSet,
}

/// The histograms of a minute, for the operations that `wanted` says.
///
/// # Errors
/// If the store fails or the value is damaged.
pub fn decode_minute(
    blocks: &dyn Blocks,
    minute: u32,
    wanted: &dyn Fn(u32, StatusCode) -> bool,
) -> Result<Vec<HistogramRow>, ReadError> {
    let stored = fetch(blocks, Key::Minute(minute))?;
    if let Some(marked) = after_mark(&stored) {
        return minutes::read(marked, wanted);
    }
    let raw = unpack(&stored, None, "histograms")?;
    let mut cursor = Cursor::new(&raw, "histograms");
    let mut rows = Vec::new();
    while !cursor.is_empty() {
        let operation = cursor.u32()?;
        let status = StatusCode::from_wire(u64::from(cursor.array::<1>()?[0]));
        let (mut histogram, mut exemplars) = (cursor.sized()?, cursor.sized()?);
        if wanted(operation, status) {
            rows.push(HistogramRow {
                operation,
                status,
                histogram: LatencyHistogram::decode(&mut histogram)
                    .map_err(|_| ReadError::Damaged("histograms"))?,
                exemplars: ExemplarSet::decode(&mut exemplars)
                    .map_err(|_| ReadError::Damaged("histograms"))?,
            });
        }
    }
    Ok(rows)
}
