//! Keys within a segment. Integers are big-endian, so that byte order is number order.

/// A key within a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// Hashes of the segment's trace ids, sorted.
    Hashes,
    /// A block of traces.
    Chunk(u32),
    /// What the spans of all chunk blocks share.
    Tables,
    /// A block of span rows.
    Rows(u32),
    /// A block of analysed traces.
    Traces(u32),
    /// The critical-path shares of the traces in the block of the same number.
    Paths(u32),
    /// A block of contexts.
    Contexts(u32),
    /// The histograms of a minute since the epoch; in a rollup up to format 2, of a block of buckets.
    Minute(u32),
    /// In a rollup, a part of the histograms of a block of buckets.
    RolledHistogramsOf(u32, u32),
    /// In a rollup up to format 2, a block of critical paths.
    RolledPaths(u32),
    /// In a rollup, a part of the critical paths of a block of buckets.
    RolledPathsOf(u32, u32),
    /// Which of the segment's traces were open at its cut, one bit a trace.
    Open,
    /// What the segment says about itself; greater than all other keys, so it is written last.
    Meta,
}

impl Key {
    /// The key's bytes: one of kind, for most kinds four of number, and four more for a part of what has that number.
    pub fn to_bytes(self) -> Vec<u8> {
        let (kind, number) = match self {
            Self::Hashes => (0x02, None),
            Self::Chunk(block) => (0x10, Some(block)),
            Self::Tables => (0x11, None),
            Self::Rows(block) => (0x20, Some(block)),
            Self::Traces(block) => (0x21, Some(block)),
            Self::Paths(block) => (0x22, Some(block)),
            Self::Contexts(block) => (0x30, Some(block)),
            Self::Minute(number) | Self::RolledHistogramsOf(number, _) => (0x50, Some(number)),
            Self::RolledPaths(block) | Self::RolledPathsOf(block, _) => (0x51, Some(block)),
            Self::Open => (0x61, None),
            Self::Meta => (0xff, None),
        };
        let mut bytes = vec![kind];
        if let Some(number) = number {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        if let Self::RolledHistogramsOf(_, part) | Self::RolledPathsOf(_, part) = self {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        bytes
    }
}
