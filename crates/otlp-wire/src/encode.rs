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

/// Appends the key of a length-delimited field and leaves a byte for its length. Returns where the payload begins,
/// for [`close_message`].
pub(crate) fn open_message(out: &mut Vec<u8>, number: u32) -> usize {
    put_key(out, number, 2);
    out.push(0);
    out.len()
}

/// Writes the length of the payload that the caller has appended since. One of 128 bytes or more is moved for it.
#[inline]
pub(crate) fn close_message(out: &mut Vec<u8>, start: usize) {
    let length = out.len() - start;
    let mut place = start - 1;
    if length >= 0x80 {
        let more = varint_len(length as u64) - 1;
        out.resize(out.len() + more, 0);
        out.copy_within(start..start + length, start + more);
    }
    let mut left = length;
    loop {
        let Some(byte) = out.get_mut(place) else { return };
        if left < 0x80 {
            *byte = left as u8;
            return;
        }
        *byte = left as u8 | 0x80;
        left >>= 7;
        place += 1;
    }
}

/// The number of bytes of a length-delimited field whose number is below 16.
pub(crate) const fn field_len(payload: usize) -> usize {
    1 + varint_len(payload as u64) + payload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_any_length_gets_its_length() {
        for length in [0, 1, 127, 128, 300, 16_383, 16_384, 2_097_151, 2_097_152] {
            let payload: Vec<u8> = (0..length).map(|at: usize| at as u8).collect();
            let (mut want, mut got) = (vec![1, 2], vec![1, 2]);
            put_bytes(&mut want, 6, &payload);
            let start = open_message(&mut got, 6);
            got.extend_from_slice(&payload);
            close_message(&mut got, start);
            assert!(got == want, "{length}");
        }
    }

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
