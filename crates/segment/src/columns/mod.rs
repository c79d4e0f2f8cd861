//! Columns of whole numbers.
//!
//! [`Packed`]: every value above the least one in the same number of bits, and the few that need more listed
//! apart; any value is read without the others. [`put_lengths`]: every value in as many bits as it has, for
//! times, whose sizes differ widely; read from the beginning.

mod lengths;
mod packed;
mod reader;
mod streams;

pub(crate) use lengths::{LengthColumn, put_falling, put_lengths};
pub(crate) use packed::{Packed, PackedColumn, put_packed};
pub(crate) use reader::ColumnReader;
pub(crate) use streams::{Streams, Unpacked};

/// Columns of times are often whole micro- or milliseconds.
const SCALES: [u64; 3] = [1, 1_000, 1_000_000];

/// The greatest scale that divides all; nearly always decided by the first value.
fn scale_of(values: &[u64]) -> usize {
    let all = |divides: fn(u64) -> bool| values.iter().all(|value| divides(*value));
    match () {
        () if !all(|value| value.is_multiple_of(SCALES[1])) => 0,
        () if !all(|value| value.is_multiple_of(SCALES[2])) => 1,
        () => 2,
    }
}

/// Divides by a scale; written out, because dividing by a constant costs a tenth.
#[inline]
fn scaled(value: u64, scale: usize) -> u64 {
    match scale {
        0 => value,
        1 => value / SCALES[1],
        _ => value / SCALES[2],
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::Cursor;

    fn values() -> impl Strategy<Value = Vec<u64>> {
        let value = prop_oneof![0..5_u64, any::<u64>(), (0..64_u32).prop_map(|n| 1 << n), Just(u64::MAX)];
        (vec(value, 0..200), 0..3_usize, any::<u64>()).prop_map(|(values, scale, base)| {
            values.into_iter().map(|value| value.wrapping_add(base) / SCALES[scale] * SCALES[scale]).collect()
        })
    }

    /// Listing a value is not free: times of some minutes are packed, and one that is far off is listed.
    #[test]
    fn wide_values_are_listed_only_if_they_are_few() {
        let mut times: Vec<u64> = (0..200_u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 26).collect();
        let mut streams = Streams::default();
        put_packed(&mut streams, times.iter().copied());
        assert!(streams.heads.len() < 50, "{} bytes of heads", streams.heads.len());
        assert!(streams.bits.len() <= 200 * 38_usize.div_ceil(8));
        times.iter_mut().for_each(|time| *time >>= 30);
        times[7] = u64::MAX;
        streams.clear();
        put_packed(&mut streams, times.iter().copied());
        assert!(streams.bits.len() <= 200, "{} bytes of bits", streams.bits.len());
    }

    proptest! {
        #[test]
        fn columns_come_back(values in values()) {
            let mut streams = Streams::default();
            put_packed(&mut streams, values.iter().copied());
            put_lengths(&mut streams, values.iter().copied());
            let (mut heads, mut lengths) = (Cursor::new(&streams.heads, "x"), Cursor::new(&streams.lengths, "x"));
            let mut start = 0;
            let packed = Packed::read(&mut heads, &streams.bits, &mut start, values.len()).unwrap();
            let read: Vec<_> = (0..values.len()).map(|at| packed.get(&streams.bits, at)).collect();
            prop_assert_eq!(&read, &values);
            prop_assert_eq!(&packed.all(&streams.bits, values.len()), &values);
            let (again, begin) = (&mut Cursor::new(&streams.lengths, "x"), start);
            let column = LengthColumn::read(&mut heads, &mut lengths, &streams.bits, &mut start, values.len()).unwrap();
            prop_assert_eq!(column.len(), values.len());
            prop_assert_eq!(&column.collect::<Vec<_>>(), &values);
            // Every other value is passed over, then all that are left.
            let mut head = Cursor::new(&streams.heads[streams.heads.len() - 1..], "x");
            let mut column = LengthColumn::read(&mut head, again, &streams.bits, &mut begin.clone(), values.len()).unwrap();
            for value in values.iter().step_by(2) {
                prop_assert_eq!(column.next(), Some(*value));
                column.pass(1);
            }
            column.pass(values.len());
            prop_assert_eq!(column.next(), None);
            prop_assert_eq!(start, streams.bits.len());
            prop_assert!(heads.is_empty() && lengths.is_empty());
        }
    }
}
