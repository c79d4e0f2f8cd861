//! Takes files apart into messages: what compresses them and how they are laid out is told by
//! their first bytes. Memory is bounded by [`MESSAGE_BYTES`].

use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use indicatif::ProgressBar;
use tokio::sync::mpsc;

/// The longest line or message that is read.
pub(super) const MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// Messages of a `TracesData` file, which may be of any size, are gathered up to this.
const GATHERED_BYTES: usize = 4 * 1024 * 1024;
const BUFFER_BYTES: usize = 256 * 1024;
const GZIP: &[u8] = &[0x1f, 0x8b];
const ZSTD: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd];
/// Tag of the first field of a request: `resource_spans`, length-delimited.
const RESOURCE_SPANS_TAG: u8 = 0x0a;

/// How a message is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    Json,
    Protobuf,
}

/// Where something stood: in which file, at which line or message, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: PathBuf,
    pub(super) number: u64,
}

/// A message, or why there is none at this place.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) place: Place,
    pub(super) content: Result<(Encoding, Vec<u8>), Unread>,
}

/// Why there is no message.
#[derive(Debug)]
pub(super) enum Unread {
    /// The file cannot be opened.
    File(io::Error),
    /// What is at this place in it is none.
    Message(String),
}

/// Where what is found goes; false when nobody wants more.
type Sink<'a> = dyn FnMut(u64, Result<(Encoding, Vec<u8>), String>) -> bool + 'a;

/// Reads all files one after the other and hands over what is in them, until nobody listens.
pub(super) fn read_all(files: &[PathBuf], bar: &ProgressBar, found: &mpsc::Sender<Found>) {
    for file in files {
        let last = Cell::new(0);
        let hand_over = |number, content| {
            let place = Place { file: file.clone(), number };
            found.blocking_send(Found { place, content }).is_ok()
        };
        let mut sink = |number, content: Result<_, String>| {
            last.set(number);
            hand_over(number, content.map_err(Unread::Message))
        };
        match open(file, bar).map(|input| read_messages(input, &mut sink)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                sink(last.get() + 1, Err(error.to_string()));
            }
            Err(error) => {
                hand_over(0, Err(Unread::File(error)));
            }
        }
        if found.is_closed() {
            return;
        }
    }
}

fn open(file: &Path, bar: &ProgressBar) -> io::Result<Box<dyn BufRead>> {
    let raw: Box<dyn Read> =
        if file.as_os_str() == "-" { Box::new(io::stdin()) } else { Box::new(File::open(file)?) };
    decompressed(BufReader::with_capacity(BUFFER_BYTES, bar.wrap_read(raw)))
}

/// The input behind gzip or zstd, if its first bytes say so.
pub(super) fn decompressed<R: BufRead + 'static>(mut input: R) -> io::Result<Box<dyn BufRead>> {
    let start = input.fill_buf()?;
    if start.starts_with(GZIP) {
        Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(input))))
    } else if start.starts_with(ZSTD) {
        let decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        Ok(Box::new(BufReader::with_capacity(BUFFER_BYTES, decoder)))
    } else {
        Ok(Box::new(input))
    }
}

/// Hands over every message of an input: lines of JSON, messages with their length before them as
/// the Collector's file exporter writes, or one bare request.
pub(super) fn read_messages(mut input: Box<dyn BufRead>, sink: &mut Sink<'_>) -> io::Result<()> {
    let start = input.fill_buf()?;
    match start.first() {
        None => Ok(()),
        Some(&RESOURCE_SPANS_TAG) if is_bare_request(start) => read_bare(input, sink),
        // A length of at most 64 MiB has one of these in front; no text does.
        Some(0..=4) => read_framed(input, sink),
        Some(_) => read_lines(input, sink),
    }
}

/// A bare request begins with a byte that is also a newline. It is text if JSON comes next, unless
/// the `{` is a length: then the tag of `resource`, `scope_spans` or `schema_url` follows.
fn is_bare_request(start: &[u8]) -> bool {
    !start.trim_ascii_start().starts_with(b"{") || matches!(start, [_, b'{', 0x0a | 0x12 | 0x1a, ..])
}

fn read_lines(mut input: Box<dyn BufRead>, sink: &mut Sink<'_>) -> io::Result<()> {
    let mut number = 0;
    loop {
        number += 1;
        let mut line = Vec::new();
        let read = (&mut input).take(MESSAGE_BYTES as u64 + 1).read_until(b'\n', &mut line)?;
        if read == 0 {
            return Ok(());
        }
        if line.len() > MESSAGE_BYTES {
            let ended = line.ends_with(b"\n") || skip_line(&mut input)?;
            let reason = format!("longer than {} MiB", MESSAGE_BYTES >> 20);
            if !sink(number, Err(reason)) || !ended {
                return Ok(());
            }
            continue;
        }
        let text = line.trim_ascii();
        if text == b"{" || text == b"[" {
            let reason = "JSON over several lines: one request a line is expected (jq -c . FILE makes it so)";
            sink(number, Err(reason.to_owned()));
            return Ok(());
        }
        if !text.is_empty() && !sink(number, Ok((Encoding::Json, line))) {
            return Ok(());
        }
    }
}

/// Passes over the rest of a line; false at the end of the input.
fn skip_line(input: &mut dyn BufRead) -> io::Result<bool> {
    loop {
        let buffer = input.fill_buf()?;
        if buffer.is_empty() {
            return Ok(false);
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(buffer.len(), |at| at + 1);
        input.consume(used);
        if newline.is_some() {
            return Ok(true);
        }
    }
}

/// Messages with four bytes of length, the highest first, before each. Each may be compressed by
/// itself, and be JSON.
fn read_framed(mut input: Box<dyn BufRead>, sink: &mut Sink<'_>) -> io::Result<()> {
    let mut number = 0;
    while !input.fill_buf()?.is_empty() {
        number += 1;
        let mut length = [0; 4];
        input.read_exact(&mut length).map_err(|_| cut("a length"))?;
        let length = u32::from_be_bytes(length) as usize;
        if length > MESSAGE_BYTES {
            let reason =
                format!("a message of {length} bytes, at most {MESSAGE_BYTES} are read; the rest is skipped");
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        let mut message = Vec::new();
        if (&mut input).take(length as u64).read_to_end(&mut message)? < length {
            return Err(cut("a message"));
        }
        if !sink(number, unpack(message)) {
            return Ok(());
        }
    }
    Ok(())
}

fn unpack(message: Vec<u8>) -> Result<(Encoding, Vec<u8>), String> {
    let message = if message.starts_with(GZIP) || message.starts_with(ZSTD) {
        let mut plain = Vec::new();
        let input = decompressed(io::Cursor::new(message)).map_err(|e| e.to_string())?;
        input.take(MESSAGE_BYTES as u64 + 1).read_to_end(&mut plain).map_err(|e| e.to_string())?;
        plain
    } else {
        message
    };
    if message.len() > MESSAGE_BYTES {
        return Err(format!("longer than {} MiB when decompressed", MESSAGE_BYTES >> 20));
    }
    let encoding = if message.starts_with(b"{") { Encoding::Json } else { Encoding::Protobuf };
    Ok((encoding, message))
}

/// One request as it is, of any length: its resources are gathered into several.
fn read_bare(mut input: Box<dyn BufRead>, sink: &mut Sink<'_>) -> io::Result<()> {
    let mut number = 1;
    let mut gathered = Vec::new();
    while !input.fill_buf()?.is_empty() {
        let before = gathered.len();
        read_field(&mut *input, &mut gathered)?;
        if gathered.len() > GATHERED_BYTES && before > 0 {
            let field = gathered.split_off(before);
            if !sink(number, Ok((Encoding::Protobuf, std::mem::replace(&mut gathered, field)))) {
                return Ok(());
            }
            number += 1;
        }
    }
    sink(number, Ok((Encoding::Protobuf, gathered)));
    Ok(())
}

/// One length-delimited field, tag and length included, appended to `to`.
fn read_field(input: &mut dyn BufRead, to: &mut Vec<u8>) -> io::Result<()> {
    let tag = copy_varint(input, to)?;
    if tag & 7 != 2 {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "neither OTLP/JSON lines nor OTLP protobuf (ExportTraceServiceRequest or TracesData)",
        ));
    }
    let length = copy_varint(input, to)?;
    if length > MESSAGE_BYTES as u64 {
        let reason =
            format!("a resource of {length} bytes, at most {MESSAGE_BYTES} are read; the rest is skipped");
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    if (input.take(length).read_to_end(to)? as u64) < length {
        return Err(cut("a resource"));
    }
    Ok(())
}

fn copy_varint(input: &mut dyn BufRead, to: &mut Vec<u8>) -> io::Result<u64> {
    let mut value = 0;
    for i in 0..10 {
        let mut byte = [0];
        input.read_exact(&mut byte).map_err(|_| cut("a field"))?;
        to.push(byte[0]);
        value |= u64::from(byte[0] & 0x7f) << (7 * i);
        if byte[0] & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "a number of more than ten bytes: not OTLP protobuf"))
}

fn cut(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the file ends inside {what}"))
}
