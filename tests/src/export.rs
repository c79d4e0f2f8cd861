//! An OTLP/gRPC client that sends bytes, so that it can also send what is not OTLP.

use std::time::Duration;

use anyhow::{Context as _, Result};
use bytes::{Buf as _, BufMut as _, Bytes};
use http_body_util::{BodyExt as _, Full};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tokio::runtime::Runtime;
use tonic::client::Grpc;
use tonic::codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tower::ServiceExt as _;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const CALL_LIMIT: Duration = Duration::from_secs(30);

/// A connection, used by one thread.
#[derive(Debug)]
pub struct Exporter {
    runtime: Runtime,
    channel: Channel,
    gzip: bool,
}

impl Exporter {
    /// Connects to `host:port` or `unix:/path` when first used.
    pub fn connect(address: &str) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let uri = if address.starts_with("unix:") { address.to_owned() } else { format!("http://{address}") };
        let endpoint = Endpoint::from_shared(uri)?
            .tcp_nodelay(true)
            .connect_timeout(Duration::from_secs(5))
            .timeout(CALL_LIMIT);
        let channel = {
            let _inside = runtime.enter();
            endpoint.connect_lazy()
        };
        Ok(Self { runtime, channel, gzip: false })
    }

    /// Compresses requests from now on.
    #[must_use]
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// One export of bytes that should be a request.
    pub fn export_bytes(&self, bytes: Bytes) -> Result<ExportTraceServiceResponse, Status> {
        let mut grpc = Grpc::new(self.channel.clone());
        if self.gzip {
            grpc = grpc.send_compressed(CompressionEncoding::Gzip);
        }
        let answer = self.runtime.block_on(async {
            grpc.ready().await.map_err(|e| Status::unavailable(format!("not connected: {e}")))?;
            let path = PathAndQuery::from_static(EXPORT);
            let call = grpc.unary(Request::new(bytes), path, RawCodec);
            // A server that dies may leave a call without an answer.
            tokio::time::timeout(CALL_LIMIT, call).await.map_err(|_| Status::unavailable("no answer"))?
        })?;
        ExportTraceServiceResponse::decode(answer.into_inner())
            .map_err(|e| Status::data_loss(format!("the answer is not OTLP: {e}")))
    }

    /// One export.
    pub fn export(&self, request: &ExportTraceServiceRequest) -> Result<ExportTraceServiceResponse, Status> {
        self.export_bytes(request.encode_to_vec().into())
    }

    /// One export that must be accepted whole; tried again while the server puts it off.
    pub fn deliver(&self, request: &ExportTraceServiceRequest) -> Result<()> {
        let answer = crate::eventually("export", Duration::from_secs(30), || match self.export(request) {
            Ok(answer) => Ok(Ok(answer)),
            Err(status) if matches!(status.code(), Code::Unavailable | Code::ResourceExhausted) => {
                Err(anyhow::anyhow!("{status}"))
            }
            Err(status) => Ok(Err(status)),
        })?;
        let answer = answer.context("the export was refused")?;
        let rejected = answer.partial_success.map_or(0, |p| p.rejected_spans);
        anyhow::ensure!(rejected == 0, "{rejected} spans were rejected");
        Ok(())
    }
}

/// A call made of raw gRPC frames with these extra headers. Returns the gRPC code.
pub fn raw_call(address: &str, headers: &[(&'static str, &str)], frames: Bytes) -> Result<Code> {
    let exporter = Exporter::connect(address)?;
    let mut request = http::Request::post(format!("http://{address}{EXPORT}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(tonic::body::Body::new(Full::new(frames)))?;
    exporter.runtime.block_on(async {
        let answer = tokio::time::timeout(CALL_LIMIT, exporter.channel.clone().oneshot(request)).await??;
        let in_headers = code(answer.headers());
        let body = tokio::time::timeout(CALL_LIMIT, answer.into_body().collect()).await??;
        let in_trailers = body.trailers().and_then(code);
        in_headers.or(in_trailers).context("the answer has no grpc-status")
    })
}

fn code(headers: &http::HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
}

#[derive(Debug, Clone, Copy)]
struct RawCodec;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let remaining = src.remaining();
        Ok(Some(src.copy_to_bytes(remaining)))
    }
}
