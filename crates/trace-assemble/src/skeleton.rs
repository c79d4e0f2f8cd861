//! A span as it is held: 56 bytes, because millions are held at full load.

use trace_model::{OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode, UnixNanos};

/// Where a span's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Location {
    /// In a live batch, by the batch's number and the row in it.
    Live {
        /// Number of the batch, rising in order of arrival.
        batch: u64,
        /// Row within the batch, below 2^27.
        row: u32,
    },
    /// In sealed segments.
    Sealed,
}

/// A span that is held, and where its bytes are.
#[derive(Debug, Clone, Copy)]
pub struct HeldSpan {
    /// The skeleton.
    pub node: SpanNode,
    /// Where its bytes are.
    pub location: Location,
}

/// Bits of `place` below kind and status.
const ROW_BITS: u32 = 27;
const ROW_MASK: u32 = (1 << ROW_BITS) - 1;
/// The row of a span that never was live here.
const NEVER_LIVE: u32 = ROW_MASK;

/// A held span, packed. The batch is its number's low half: live batches are never 2^31 apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Skeleton {
    span_id: [u8; 8],
    /// Zero for none, as on the wire.
    parent: [u8; 8],
    start: u64,
    end: u64,
    content: u64,
    service: u32,
    operation: u32,
    batch: u32,
    /// Kind (3 bits), status (2), row (27).
    place: u32,
}

impl Skeleton {
    pub(crate) fn new(node: &SpanNode, location: Location) -> Self {
        let (batch, row) = match location {
            // Only the low half is kept; see `location`.
            Location::Live { batch, row } => (batch as u32, row.min(NEVER_LIVE - 1)),
            Location::Sealed => (0, NEVER_LIVE),
        };
        Self {
            span_id: *node.span_id.as_bytes(),
            parent: node.parent.map_or([0; 8], |parent| *parent.as_bytes()),
            start: node.start.0,
            end: node.end.0,
            content: node.content,
            service: node.service.0,
            operation: node.operation.0,
            batch,
            place: (node.kind as u32) << (ROW_BITS + 2) | (node.status as u32) << ROW_BITS | row,
        }
    }

    /// Whether this is the same span: id and bytes.
    pub(crate) fn is(&self, node: &SpanNode) -> bool {
        self.content == node.content && self.span_id == *node.span_id.as_bytes()
    }

    /// What tells spans of one trace apart.
    pub(crate) fn identity(&self) -> ([u8; 8], u64) {
        (self.span_id, self.content)
    }

    /// The skeleton as analysis takes it. `None` never comes: ids were checked on the way in.
    pub(crate) fn node(&self) -> Option<SpanNode> {
        Some(SpanNode {
            span_id: SpanId::new(self.span_id).ok()?,
            parent: SpanId::new(self.parent).ok(),
            start: UnixNanos(self.start),
            end: UnixNanos(self.end),
            content: self.content,
            service: ServiceId(self.service),
            operation: OperationId(self.operation),
            kind: SpanKind::from_wire(u64::from(self.place >> (ROW_BITS + 2))),
            status: StatusCode::from_wire(u64::from(self.place >> ROW_BITS & 3)),
        })
    }

    /// Where its bytes are, given the last live batch that was sealed.
    pub(crate) fn location(&self, sealed: u64) -> Location {
        let row = self.place & ROW_MASK;
        let ahead = self.batch.wrapping_sub(sealed as u32) as i32;
        if row == NEVER_LIVE || ahead <= 0 {
            return Location::Sealed;
        }
        Location::Live { batch: sealed + u64::from(ahead.unsigned_abs()), row }
    }
}

impl Skeleton {
    /// Gives it another row if it is in this live batch, and says whether it is.
    pub(crate) fn renumber(&mut self, batch: u64, renumber: &mut dyn FnMut(u32) -> u32) -> bool {
        let row = self.place & ROW_MASK;
        let is_in = self.batch == batch as u32 && row != NEVER_LIVE;
        if is_in {
            self.place = self.place & !ROW_MASK | renumber(row).min(NEVER_LIVE - 1);
        }
        is_in
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_skeleton_is_56_bytes_and_gives_back_what_it_took() {
        assert_eq!(size_of::<Skeleton>(), 56);
        for kind in SpanKind::ALL {
            for status in StatusCode::ALL {
                let node = SpanNode {
                    span_id: SpanId::new([7; 8]).unwrap(),
                    parent: (status == StatusCode::Ok).then(|| SpanId::new([9; 8]).unwrap()),
                    start: UnixNanos(u64::MAX - 1),
                    end: UnixNanos(u64::MAX),
                    content: 0x1234_5678_9abc_def0,
                    service: ServiceId(u32::MAX),
                    operation: OperationId(3),
                    kind,
                    status,
                };
                let skeleton = Skeleton::new(&node, Location::Live { batch: 5, row: 999_999 });
                assert_eq!(skeleton.node(), Some(node));
                assert!(skeleton.is(&node));
                assert_eq!(skeleton.location(4), Location::Live { batch: 5, row: 999_999 });
                assert_eq!(skeleton.location(5), Location::Sealed);
                assert_eq!(Skeleton::new(&node, Location::Sealed).location(0), Location::Sealed);
            }
        }
    }

    #[test]
    fn batch_numbers_may_pass_what_32_bits_hold() {
        let node = SpanNode {
            span_id: SpanId::new([7; 8]).unwrap(),
            parent: None,
            start: UnixNanos(0),
            end: UnixNanos(0),
            content: 0,
            service: ServiceId(0),
            operation: OperationId(0),
            kind: SpanKind::Internal,
            status: StatusCode::Unset,
        };
        let sealed = (1_u64 << 32) - 2;
        let skeleton = Skeleton::new(&node, Location::Live { batch: sealed + 5, row: 0 });
        assert_eq!(skeleton.location(sealed), Location::Live { batch: sealed + 5, row: 0 });
        assert_eq!(skeleton.location(sealed + 5), Location::Sealed);
    }
}
