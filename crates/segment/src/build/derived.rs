//! Derives everything but the chunks: rows by service, analysed traces, histograms by minute.

use std::sync::Arc;

use longpole_proto::segment as proto;
use trace_model::StatusCode;

use super::{BuildError, Packing};
use crate::codec::Packer;
use crate::columns::Streams;
use crate::counting::{Counted, Minutes};
use crate::keys::Key;
use crate::minutes;
use crate::names::LocalNames;
use crate::order::{Placed, by_service};
use crate::rows::{self, Row};
use crate::traces::{self, TraceRow, write_heads, write_paths};

/// Values in rising key order, and what the meta says about them.
#[derive(Default)]
pub(super) struct Derived {
    /// Rows, traces and paths.
    pub(super) sorted: Vec<(Key, Vec<u8>)>,
    pub(super) minutes: Vec<(Key, Vec<u8>)>,
    meta: proto::SegmentMeta,
}

impl Derived {
    /// `counted` and `order` are in the order of traces, to which the rows' places lead.
    pub(super) fn of(
        rows: Vec<Row>,
        counted: &[Counted],
        order: &[Placed<'_>],
        analysed: &[Arc<TraceRow>],
        mut names: LocalNames<'_>,
        packing: Packing,
    ) -> Result<Self, BuildError> {
        let mut derived = Self::default();
        let mut blocks = BlockWriter { packer: packing.packer()?, streams: Streams::default() };
        let rows = by_service(rows, names.service_list.len());
        derived.count_names(&rows, &names);
        derived.write_rows(&rows, &mut blocks)?;
        let counted = Minutes::of(&rows, counted, order, names.operation_list.len());
        drop(rows);
        derived.write_traces(analysed, &mut names, &mut blocks)?;
        derived.write_minutes(&counted, &mut blocks)?;
        derived.finish_names(&names);
        Ok(derived)
    }

    /// Puts into the meta what it says about these values.
    pub(super) fn describe(self, meta: &mut proto::SegmentMeta) {
        let of = self.meta;
        meta.row_blocks = of.row_blocks;
        meta.trace_blocks = of.trace_blocks;
        meta.minutes = of.minutes;
        meta.services = of.services;
        meta.service_totals = of.service_totals;
        meta.operations = of.operations;
    }

    fn write_rows(&mut self, rows: &[Row], blocks: &mut BlockWriter) -> Result<(), BuildError> {
        for service in rows.chunk_by(|a, b| a.service == b.service) {
            for block in service.chunks(rows::ROWS_MAX) {
                rows::write_block(block, &mut blocks.streams);
                let key = Key::Rows(self.meta.row_blocks.len() as u32);
                self.sorted.push((key, blocks.pack()?));
                self.meta.row_blocks.push(proto::RowBlock {
                    service: block[0].service,
                    rows: block.len() as u32,
                    duration_max: block[0].duration,
                    duration_min: block[block.len() - 1].duration,
                    start_min: block.iter().map(|row| row.start).min().unwrap_or(0),
                    start_max: block.iter().map(|row| row.start).max().unwrap_or(0),
                });
            }
        }
        Ok(())
    }

    fn count_names(&mut self, rows: &[Row], names: &LocalNames<'_>) {
        let meta = &mut self.meta;
        meta.service_totals = vec![
            proto::ServiceTotals { first_seen: u64::MAX, ..Default::default() };
            names.service_list.len()
        ];
        meta.operations = names
            .operation_list
            .iter()
            .map(|(service, kind, name)| proto::Operation {
                service: *service,
                kind: *kind as u32,
                name: name.to_string(),
                ..Default::default()
            })
            .collect();
        for row in rows {
            let error = u64::from(row.flags & 3 == StatusCode::Error as u8);
            let total = &mut meta.service_totals[row.service as usize];
            total.spans += 1;
            total.errors += error;
            if row.start > 0 {
                total.first_seen = total.first_seen.min(row.start);
            }
            total.last_seen = total.last_seen.max(row.start);
            let operation = &mut meta.operations[row.operation as usize];
            operation.spans += 1;
            operation.errors += error;
            operation.duration_max = operation.duration_max.max(row.duration);
        }
        // None of its spans says when it began.
        let untold =
            meta.service_totals.iter_mut().filter(|total| total.spans > 0 && total.first_seen == u64::MAX);
        untold.for_each(|total| total.first_seen = 0);
    }

    fn write_traces(
        &mut self,
        analysed: &[Arc<TraceRow>],
        names: &mut LocalNames<'_>,
        blocks: &mut BlockWriter,
    ) -> Result<(), BuildError> {
        let mut sorted: Vec<&TraceRow> = analysed.iter().map(|row| &**row).collect();
        sorted.sort_unstable_by_key(|row| (std::cmp::Reverse(row.duration), row.start, row.trace_id));
        for (number, block) in sorted.chunks(traces::ROWS_MAX).enumerate() {
            write_heads(block, names, &mut blocks.streams);
            self.sorted.push((Key::Traces(number as u32), blocks.pack()?));
            self.meta.trace_blocks.push(proto::TraceBlock {
                rows: block.len() as u32,
                duration_max: block[0].duration.0,
                duration_min: block[block.len() - 1].duration.0,
                start_min: block.iter().map(|row| row.start.0).min().unwrap_or(0),
                start_max: block.iter().map(|row| row.start.0).max().unwrap_or(0),
            });
        }
        for (number, block) in sorted.chunks(traces::ROWS_MAX).enumerate() {
            write_paths(block, names, &mut blocks.streams);
            self.sorted.push((Key::Paths(number as u32), blocks.pack()?));
        }
        Ok(())
    }

    fn write_minutes(&mut self, counted: &Minutes, blocks: &mut BlockWriter) -> Result<(), BuildError> {
        for (minute, series) in counted.iter() {
            self.meta.minutes.push(minute);
            let packed = if minutes::write(&series, &mut blocks.streams) {
                blocks.pack()?
            } else {
                blocks.packer.pack(&minutes::whole(&series))?
            };
            self.minutes.push((Key::Minute(minute), packed));
        }
        Ok(())
    }

    /// Analyses may have named services and operations that no span of this segment has.
    fn finish_names(&mut self, names: &LocalNames<'_>) {
        let meta = &mut self.meta;
        for (service, kind, name) in names.operation_list.iter().skip(meta.operations.len()) {
            meta.operations.push(proto::Operation {
                service: *service,
                kind: *kind as u32,
                name: name.to_string(),
                ..Default::default()
            });
        }
        meta.service_totals.resize(
            names.service_list.len(),
            proto::ServiceTotals { first_seen: u64::MAX, ..Default::default() },
        );
        meta.services = names.service_list.iter().map(ToString::to_string).collect();
    }
}

struct BlockWriter {
    packer: Packer,
    streams: Streams,
}

impl BlockWriter {
    /// The block whose streams were filled.
    fn pack(&mut self) -> std::io::Result<Vec<u8>> {
        self.streams.pack(&mut self.packer)
    }
}
