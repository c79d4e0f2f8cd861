//! The stored form of the meta: a [`SegmentMeta`] that has the format only, and all of it compressed. So who reads
//! formats up to 2 still finds the number that says it is too new.

use std::io;

use longpole_proto::segment::{Operation, SegmentMeta, TraceBlock};
use prost::Message;

use crate::codec::{Packer, ReadError, unpack};

/// The value of the meta's key.
///
/// # Errors
/// If the compressor fails.
pub(crate) fn encode(meta: &SegmentMeta, packer: &mut Packer) -> io::Result<Vec<u8>> {
    let plain = meta.encode_to_vec();
    let packed = packer.pack(&plain)?;
    let outer = SegmentMeta { format: meta.format, packed, ..SegmentMeta::default() }.encode_to_vec();
    Ok(if outer.len() < plain.len() { outer } else { plain })
}

/// Reads what a segment says about itself. Of a format that is not known, only its number is sure to be read.
///
/// # Errors
/// If the bytes are not a segment's meta.
pub fn decode_segment_meta(bytes: &[u8]) -> Result<SegmentMeta, ReadError> {
    const WHAT: &str = "meta";
    let outer = SegmentMeta::decode(bytes).map_err(|_| ReadError::Damaged(WHAT))?;
    if outer.packed.is_empty() || outer.format > crate::FORMAT {
        return Ok(outer);
    }
    let meta =
        SegmentMeta::decode(&unpack(&outer.packed, None, WHAT)?[..]).map_err(|_| ReadError::Damaged(WHAT))?;
    let is_whole = meta.format == outer.format && meta.packed.is_empty();
    if is_whole { Ok(meta) } else { Err(ReadError::Damaged(WHAT)) }
}

/// Leaves out what is wanted only where a segment's content is read, so that the metas of very many can be held at once:
/// of operations the names and all but the longest span of each service, of blocks of traces all but what they span
/// together, of rows all blocks, and of traces that were analysed again all but the first.
pub fn abridge_segment_meta(meta: &mut SegmentMeta) {
    meta.operations = longest_by_service(meta);
    meta.trace_blocks = Vec::from_iter(extent(&meta.trace_blocks));
    meta.row_blocks = Vec::new();
    meta.revised_traces.truncate(16);
    meta.revised_traces.shrink_to_fit();
}

fn longest_by_service(meta: &SegmentMeta) -> Vec<Operation> {
    let mut longest = vec![0; meta.services.len()];
    for operation in &meta.operations {
        if let Some(longest) = longest.get_mut(operation.service as usize) {
            *longest = operation.duration_max.max(*longest);
        }
    }
    let to_operation = |(service, duration_max)| Operation { service, duration_max, ..Operation::default() };
    (0..).zip(longest).map(to_operation).collect()
}

fn extent(blocks: &[TraceBlock]) -> Option<TraceBlock> {
    let both = |a: TraceBlock, b: TraceBlock| TraceBlock {
        rows: a.rows.saturating_add(b.rows),
        duration_max: a.duration_max.max(b.duration_max),
        duration_min: a.duration_min.min(b.duration_min),
        start_min: a.start_min.min(b.start_min),
        start_max: a.start_max.max(b.start_max),
    };
    blocks.iter().copied().reduce(both)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_abridged_meta_has_the_longest_span_of_each_service_and_what_the_traces_span() {
        let operation = |service, duration_max| Operation {
            service,
            duration_max,
            name: "GET /cart".to_owned(),
            spans: 3,
            ..Operation::default()
        };
        let block = |rows, (duration_min, duration_max), (start_min, start_max)| TraceBlock {
            rows,
            duration_max,
            duration_min,
            start_min,
            start_max,
        };
        let mut meta = SegmentMeta {
            spans: 9,
            services: vec!["cart".to_owned(), "web".to_owned(), "idle".to_owned()],
            operations: vec![
                operation(1, 5),
                operation(0, 7),
                operation(1, 9),
                operation(1, 2),
                operation(8, 99),
            ],
            trace_blocks: vec![block(2, (20, 30), (100, 400)), block(1, (10, 10), (50, 50))],
            chunk_first_low: vec![1, 2],
            chunk_first_high: vec![3, 4],
            chunk_first_trace: vec![0, 2],
            revised_traces: (0..48).collect(),
            ..SegmentMeta::default()
        };
        let whole = meta.clone();
        abridge_segment_meta(&mut meta);
        let longest: Vec<_> = meta.operations.iter().map(|of| (of.service, of.duration_max)).collect();
        assert_eq!(longest, [(0, 7), (1, 9), (2, 0)]);
        assert_eq!(meta.trace_blocks, [block(3, (10, 30), (50, 400))]);
        assert_eq!((meta.spans, meta.services), (9, whole.services));
        assert_eq!(meta.chunk_first_low, whole.chunk_first_low);
        assert_eq!(meta.revised_traces, whole.revised_traces[..16]);
    }

    #[test]
    fn a_segment_without_traces_has_no_block_of_them_when_abridged() {
        let mut meta = SegmentMeta::default();
        abridge_segment_meta(&mut meta);
        assert_eq!(meta, SegmentMeta::default());
    }
}
