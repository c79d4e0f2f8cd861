//! Compressions of requests, and inflating them within limits.

use std::io::{BufRead, Read};

use flate2::bufread::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};

/// What clients may name.
pub(crate) const KNOWN: &str = "identity, gzip, zstd, deflate";

/// The largest window of a zstd frame that is inflated, as a power of two: 32 MiB, what encoders use at their
/// highest levels. It is memory that the frame's header asks for.
const ZSTD_WINDOW_LOG: u32 = 25;

/// How a body is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Encoding {
    Identity,
    Gzip,
    Zstd,
    Deflate,
}

impl Encoding {
    /// The encoding of this name, as in `content-encoding` and `grpc-encoding`.
    pub(crate) fn named(name: &str) -> Option<Self> {
        let name = name.trim();
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if name.is_empty() || is("identity") => Some(Self::Identity),
            () if is("gzip") || is("x-gzip") => Some(Self::Gzip),
            () if is("zstd") => Some(Self::Zstd),
            () if is("deflate") => Some(Self::Deflate),
            () => None,
        }
    }

    /// Its name.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        }
    }

    /// Reads the inflated bytes. Takes memory for a window, and for the output only what the reader asks for.
    pub(crate) fn reader<'a>(
        self,
        mut from: impl BufRead + Send + 'a,
    ) -> std::io::Result<Box<dyn Read + Send + 'a>> {
        Ok(match self {
            Self::Identity => Box::new(from),
            Self::Gzip => Box::new(MultiGzDecoder::new(from)),
            // HTTP means zlib by it; some clients send it without zlib's header.
            Self::Deflate if is_zlib(from.fill_buf()?) => Box::new(ZlibDecoder::new(from)),
            Self::Deflate => Box::new(DeflateDecoder::new(from)),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(from)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG)?;
                Box::new(decoder)
            }
        })
    }

    /// Compresses an answer.
    pub(crate) fn deflate(self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        use std::io::Write as _;
        let level = flate2::Compression::fast();
        match self {
            Self::Identity => Ok(bytes.to_vec()),
            Self::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Self::Zstd => zstd::bulk::compress(bytes, 1),
        }
    }
}

fn is_zlib(head: &[u8]) -> bool {
    match head {
        [method, flags, ..] => {
            method & 0x0f == 8 && (u16::from(*method) << 8 | u16::from(*flags)).is_multiple_of(31)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_deflated_inflates_again() {
        let text = b"one two three ".repeat(1_000);
        for encoding in [Encoding::Identity, Encoding::Gzip, Encoding::Zstd, Encoding::Deflate] {
            let small = encoding.deflate(&text).unwrap();
            let mut back = Vec::new();
            encoding.reader(&small[..]).unwrap().read_to_end(&mut back).unwrap();
            assert!(back == text, "{encoding:?}");
            assert_eq!(Encoding::named(encoding.name()), Some(encoding));
        }
        assert_eq!(Encoding::named(""), Some(Encoding::Identity));
        assert_eq!(Encoding::named("br"), None);
    }

    #[test]
    fn deflate_without_a_header_and_gzip_in_parts_are_read() {
        use std::io::Write as _;
        let mut raw = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        raw.write_all(b"hello hello hello").unwrap();
        let raw = raw.finish().unwrap();
        let mut back = String::new();
        Encoding::Deflate.reader(&raw[..]).unwrap().read_to_string(&mut back).unwrap();
        assert_eq!(back, "hello hello hello");

        let parts =
            [Encoding::Gzip.deflate(b"he").unwrap(), Encoding::Gzip.deflate(b"llo").unwrap()].concat();
        let mut back = String::new();
        Encoding::Gzip.reader(&parts[..]).unwrap().read_to_string(&mut back).unwrap();
        assert_eq!(back, "hello");
    }
}
