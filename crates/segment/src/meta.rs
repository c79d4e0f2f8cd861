//! The stored form of the meta: a [`SegmentMeta`] that has the format only, and all of it compressed. So who reads
//! formats up to 2 still finds the number that says it is too new.

use std::io;

use longpole_proto::segment::SegmentMeta;
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
