//! Trace and span ids: fixed-size, never zero, written as lower-case hex.

use std::fmt;
use std::str::FromStr;

/// Why some bytes or text are not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// The byte length is wrong.
    #[error("{what} must be {want} bytes, got {got}")]
    Length {
        /// `trace id` or `span id`.
        what: &'static str,
        /// The length it must have, in bytes.
        want: usize,
        /// The length it has, in bytes.
        got: usize,
    },
    /// All bytes are zero, which OTLP calls invalid.
    #[error("{0} must not be all zeros")]
    Zero(&'static str),
    /// The text is not hex of the right length.
    #[error("{what} must be {want} hex digits, got `{got}`")]
    Hex {
        /// `trace id` or `span id`.
        what: &'static str,
        /// How many digits are accepted.
        want: &'static str,
        /// What was given.
        got: String,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// The id's bytes, as they are on the wire.
            #[inline]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The id from an array of its bytes.
            ///
            /// # Errors
            /// If all bytes are zero.
            #[inline]
            pub fn new(bytes: [u8; $len]) -> Result<Self, InvalidId> {
                if bytes == [0; $len] { Err(InvalidId::Zero($what)) } else { Ok(Self(bytes)) }
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = InvalidId;

            #[inline]
            fn try_from(bytes: &[u8]) -> Result<Self, InvalidId> {
                let array: [u8; $len] = bytes
                    .try_into()
                    .map_err(|_| InvalidId::Length { what: $what, want: $len, got: bytes.len() })?;
                Self::new(array)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for byte in self.0 {
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }
    };
}

id! {
    /// The 16 bytes that name a trace.
    TraceId, 16, "trace id"
}
id! {
    /// The 8 bytes that name a span within its trace.
    SpanId, 8, "span id"
}

impl FromStr for TraceId {
    type Err = InvalidId;

    /// Reads 32 hex digits, or 16, which mean the id with zeros in front.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let wrong =
            || InvalidId::Hex { what: "trace id", want: "32 (or 16)", got: text.chars().take(64).collect() };
        let mut bytes = [0; 16];
        match text.len() {
            32 => read_hex(text, &mut bytes).ok_or_else(wrong)?,
            16 => read_hex(text, &mut bytes[8..]).ok_or_else(wrong)?,
            _ => return Err(wrong()),
        }
        Self::new(bytes)
    }
}

impl FromStr for SpanId {
    type Err = InvalidId;

    /// Reads 16 hex digits.
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let mut bytes = [0; 8];
        read_hex(text, &mut bytes).ok_or_else(|| InvalidId::Hex {
            what: "span id",
            want: "16",
            got: text.chars().take(64).collect(),
        })?;
        Self::new(bytes)
    }
}

fn read_hex(text: &str, out: &mut [u8]) -> Option<()> {
    let text = text.as_bytes();
    if text.len() != out.len() * 2 {
        return None;
    }
    for (pair, byte) in text.chunks_exact(2).zip(out) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_round_trips_and_short_trace_ids_get_zeros_in_front() {
        let id: TraceId = "4bf92f3577b34da6a3ce929d0e0e4736".parse().unwrap();
        assert_eq!(id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        let short: TraceId = "a3ce929d0e0e4736".parse().unwrap();
        assert_eq!(short.to_string(), "0000000000000000a3ce929d0e0e4736");
    }

    #[test]
    fn zero_and_odd_ids_are_refused_with_a_reason() {
        assert_eq!(
            TraceId::try_from(&[0u8; 16][..]).unwrap_err().to_string(),
            "trace id must not be all zeros"
        );
        assert_eq!(
            SpanId::try_from(&[1u8; 3][..]).unwrap_err().to_string(),
            "span id must be 8 bytes, got 3"
        );
        assert!("zz".parse::<SpanId>().is_err());
        assert!("é23456789012345".parse::<SpanId>().is_err());
    }
}
