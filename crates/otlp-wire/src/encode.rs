//! The few pieces of protobuf encoding that splicing and JSON need.

/// Appends a varint.
pub(crate) fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The number of bytes that [`put_varint`] appends.
pub(crate) const fn varint_len(value: u64) -> usize {
    // Seven bits a byte; zero takes one byte like one does.
    (value | 1).ilog2() as usize / 7 + 1
}

/// Appends the key of a field: its number and wire type.
pub(crate) fn put_key(out: &mut Vec<u8>, number: u32, wire_type: u8) {
    put_varint(out, u64::from(number) << 3 | u64::from(wire_type));
}

/// Appends key and length of a length-delimited field, whose payload the caller appends.
pub(crate) fn put_length(out: &mut Vec<u8>, number: u32, length: usize) {
    put_key(out, number, 2);
    put_varint(out, length as u64);
}

/// Appends a whole length-delimited field.
pub(crate) fn put_bytes(out: &mut Vec<u8>, number: u32, payload: &[u8]) {
    put_length(out, number, payload.len());
    out.extend_from_slice(payload);
}

/// The number of bytes of a length-delimited field whose number is below 16.
pub(crate) const fn field_len(payload: usize) -> usize {
    1 + varint_len(payload as u64) + payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_len_is_what_put_varint_appends() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, u64::MAX >> shift] {
                let mut out = Vec::new();
                put_varint(&mut out, value);
                assert_eq!(out.len(), varint_len(value), "{value}");
            }
        }
    }
}
