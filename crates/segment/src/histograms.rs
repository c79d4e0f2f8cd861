//! Latency histograms by the minute of the span's end, operation and status: counted once, when the span's
//! segment is built ([`crate::counting`]), and stored inside it. Those of live spans are counted for each question.

use hashbrown::HashMap;
use latency::{Exemplar, ExemplarSet, LatencyHistogram};
use trace_model::{OperationId, StatusCode};

use crate::codec::{Blocks, Cursor, ReadError, after_mark, fetch, put, unpack};
use crate::keys::Key;
use crate::live::SpanRow;
use crate::minutes;

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
