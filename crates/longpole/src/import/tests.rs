//! Files of every layout and compression, read back.

use std::io::{Cursor, Read, Write};
use std::sync::{Arc, Mutex};

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span};
use prost::Message;
use tonic::{Request, Response, Status};

use super::reader::{Encoding, decompressed, read_messages};
use super::{ImportArgs, import};
use crate::client::Exit;

const LINE: &str = r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"service.name","value":{"stringValue":"a"}}]},"scopeSpans":[{"spans":[{"traceId":"4bf92f3577b34da6a3ce929d0e0e4736","spanId":"00f067aa0ba902b7","name":"x","kind":2,"startTimeUnixNano":"1","endTimeUnixNano":"2"}]}]}]}"#;

fn request(spans: usize) -> ExportTraceServiceRequest {
    let span = |i: usize| Span {
        trace_id: vec![1; 16],
        span_id: (i as u64 + 1).to_be_bytes().to_vec(),
        name: "x".to_owned(),
        start_time_unix_nano: 1,
        end_time_unix_nano: 2,
        ..Span::default()
    };
    let scope = ScopeSpans { spans: (0..spans).map(span).collect(), ..ScopeSpans::default() };
    ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans { scope_spans: vec![scope], ..ResourceSpans::default() }],
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    let frame = |m: &Vec<u8>| [&(m.len() as u32).to_be_bytes()[..], m].concat();
    messages.iter().flat_map(frame).collect()
}

/// Number, encoding or reason, bytes.
type Seen = (u64, Result<Encoding, String>, usize);

/// What a file of these bytes contains.
fn read(bytes: Vec<u8>) -> Result<Vec<Seen>, String> {
    let mut all = Vec::new();
    let mut sink = |number, content: Result<(Encoding, Vec<u8>), String>| {
        let length = content.as_ref().map_or(0, |(_, bytes)| bytes.len());
        all.push((number, content.map(|(encoding, _)| encoding), length));
        true
    };
    let input = decompressed(Cursor::new(bytes)).map_err(|e| e.to_string())?;
    read_messages(input, &mut sink).map_err(|e| e.to_string())?;
    Ok(all)
}

#[test]
fn json_lines_are_read_plain_and_compressed() {
    let text = format!("\n{LINE}\n\n{LINE}");
    for bytes in [text.clone().into_bytes(), gzip(text.as_bytes()), zstd(text.as_bytes())] {
        let found = read(bytes).unwrap();
        let numbers: Vec<u64> = found.iter().map(|f| f.0).collect();
        assert_eq!(numbers, [2, 4]);
        assert!(found.iter().all(|f| f.1 == Ok(Encoding::Json)));
    }
    let two_members = [gzip(format!("{LINE}\n").as_bytes()), gzip(LINE.as_bytes())].concat();
    assert_eq!(read(two_members).unwrap().len(), 2);
}

#[test]
fn bare_requests_are_read_whatever_their_length_looks_like() {
    for spans in 1..12 {
        let bytes = request(spans).encode_to_vec();
        for packed in [bytes.clone(), gzip(&bytes), zstd(&bytes)] {
            assert_eq!(read(packed).unwrap(), [(1, Ok(Encoding::Protobuf), bytes.len())], "{spans}");
        }
    }
    let mut brace = request(1);
    brace.resource_spans[0].schema_url = "s".repeat(123 - brace.resource_spans[0].encoded_len() - 2);
    let bytes = brace.encode_to_vec();
    assert_eq!(bytes[1], b'{');
    assert_eq!(read(bytes).unwrap()[0].1, Ok(Encoding::Protobuf));
}

#[test]
fn large_bare_requests_come_in_parts() {
    let mut large = request(2);
    large.resource_spans[0].schema_url = "s".repeat(3 << 20);
    large.resource_spans = vec![large.resource_spans[0].clone(); 3];
    assert_eq!(read(large.encode_to_vec()).unwrap().len(), 3);
}

#[test]
fn framed_messages_may_be_compressed_one_by_one() {
    let (one, two) = (request(1).encode_to_vec(), request(2).encode_to_vec());
    let bytes = framed(&[one.clone(), zstd(&two), zstd(LINE.as_bytes()), gzip(&one)]);
    let kinds: Vec<_> = read(bytes).unwrap().into_iter().map(|f| f.1).collect();
    assert_eq!(
        kinds,
        [Ok(Encoding::Protobuf), Ok(Encoding::Protobuf), Ok(Encoding::Json), Ok(Encoding::Protobuf)]
    );
    assert!(read(framed(&[one])[..9].to_vec()).unwrap_err().contains("ends inside a message"));
}

#[test]
fn hopeless_files_are_told_what_is_expected() {
    assert_eq!(read(Vec::new()).unwrap(), []);
    let pretty = read(b"{\n  \"resourceSpans\": []\n}\n".to_vec()).unwrap();
    assert!(pretty.len() == 1 && pretty[0].1.as_ref().unwrap_err().contains("jq -c"));
    assert!(read(gzip(LINE.as_bytes())[..20].to_vec()).is_err());
}

#[test]
fn overlong_lines_are_skipped_and_the_rest_read() {
    let spaces = std::io::repeat(b'x').take(super::reader::MESSAGE_BYTES as u64 + 10);
    let input = spaces.chain(Cursor::new(format!("\n{LINE}\n").into_bytes()));
    let mut found = Vec::new();
    let input = std::io::BufReader::with_capacity(1 << 20, input);
    read_messages(Box::new(input), &mut |number, content| {
        found.push((number, content.is_ok()));
        true
    })
    .unwrap();
    assert_eq!(found, [(1, false), (2, true)]);
}

/// A server that is busy at first, rejects one span of each request, and remembers the spans.
#[derive(Clone, Default)]
struct Moody(Arc<Mutex<(u32, u64)>>);

#[tonic::async_trait]
impl TraceService for Moody {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let mut state = self.0.lock().unwrap();
        state.0 += 1;
        if state.0 <= 2 {
            return Err(Status::resource_exhausted("busy"));
        }
        let spans = request.into_inner().resource_spans.into_iter().flat_map(|r| r.scope_spans);
        state.1 += spans.map(|s| s.spans.len() as u64).sum::<u64>();
        let partial = ExportTracePartialSuccess { rejected_spans: 1, error_message: "odd id".to_owned() };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: Some(partial) }))
    }
}

#[tokio::test]
async fn an_import_retries_reports_and_goes_on_after_bad_lines() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let server = Moody::default();
    let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
    let serving = tonic::transport::Server::builder().add_service(TraceServiceServer::new(server.clone()));
    let task = tokio::spawn(serving.serve_with_incoming(incoming));

    let folder = tempfile::tempdir().unwrap();
    let (lines, binary) = (folder.path().join("a.jsonl"), folder.path().join("b.bin"));
    std::fs::write(&lines, format!("{LINE}\nnot json\n{LINE}\n")).unwrap();
    std::fs::write(&binary, framed(&[request(5).encode_to_vec(), b"\x0a\x7f".to_vec()])).unwrap();
    let files = vec![lines.clone(), folder.path().join("missing"), binary.clone()];
    let report = import(ImportArgs { endpoint, files, in_flight: 3 }).await.unwrap();
    task.abort();

    assert_eq!((report.requests, report.spans, report.rejected_spans), (3, 4, 3));
    assert_eq!(server.0.lock().unwrap().1, 7);
    let places: Vec<_> = report.bad_lines.iter().map(|b| (b.file.clone(), b.line)).collect();
    assert_eq!(places, [(lines, 2), (binary, 2)]);
    assert_eq!((report.absent_files, report.exit()), (1, Exit::Failure));
    let mut text = Vec::new();
    report.write(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("a.jsonl:2: ") && text.contains("2 bad lines skipped, 1 files could"), "{text}");
    let missing = format!("{}: No such file", folder.path().join("missing").display());
    assert!(text.lines().any(|line| line.starts_with(&missing)), "{text}");
    assert!(text.contains("odd id"), "{text}");
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let args = ImportArgs { endpoint: "127.0.0.1:1".to_owned(), files: Vec::new(), in_flight: 1 };
    assert!(import(args).await.unwrap_err().to_string().contains("longpole serve"));
}

#[tokio::test]
async fn a_socket_is_an_address_too_and_files_that_are_not_there_end_as_such() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("grpc.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let server = Moody::default();
    let incoming = tokio_stream::wrappers::UnixListenerStream::new(listener);
    let serving = tonic::transport::Server::builder().add_service(TraceServiceServer::new(server.clone()));
    let task = tokio::spawn(serving.serve_with_incoming(incoming));
    let lines = folder.path().join("a.jsonl");
    std::fs::write(&lines, LINE).unwrap();
    let endpoint = format!("unix:{}", path.display());
    let args = ImportArgs { endpoint, files: vec![lines], in_flight: 1 };
    assert_eq!(import(args.clone()).await.unwrap().requests, 1);
    assert_eq!(server.0.lock().unwrap().1, 1);

    let missing = ImportArgs { files: vec![folder.path().join("missing")], ..args };
    let report = import(missing).await.unwrap();
    task.abort();
    assert_eq!((report.bad_line_count, report.exit()), (0, Exit::NotFound));
}

#[test]
fn a_server_that_refuses_is_not_lost() {
    use super::report::Collected;
    use super::send::Outcome;
    let end = |outcome| {
        let mut collected = Collected::default();
        collected.add_all(vec![outcome]);
        collected.finish("h:1").unwrap_err().to_string()
    };
    let refused = end(Outcome::Refused("the server said Unavailable: the disk is too full".to_owned()));
    assert!(refused.starts_with("refused by the server at h:1") && refused.contains("disk"), "{refused}");
    assert!(end(Outcome::Lost("closed".to_owned())).starts_with("lost the server at h:1"));
}
