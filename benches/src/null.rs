//! Servers that accept OTLP and drop it: the floor that any collector on this transport stands on.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::io::Write as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use anyhow::Context as _;
use bytes::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::codec::{MAX_MESSAGE, RawCodec};

/// What a null server does before it drops a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Takes the bytes off the wire.
    Raw,
    /// Decodes them with prost.
    Prost,
}

/// Serves until the process is ended. Says on standard output where.
pub async fn serve(listen: SocketAddr, effort: Effort) -> anyhow::Result<()> {
    let listener = TcpListener::bind(listen).await.with_context(|| format!("cannot listen on {listen}"))?;
    let address = listener.local_addr()?;
    writeln!(std::io::stdout(), "ready otlp_grpc={address}")?;
    let mut server = Server::builder()
        .tcp_nodelay(true)
        .initial_stream_window_size(8 << 20)
        .initial_connection_window_size(16 << 20);
    let incoming = TcpListenerStream::new(listener);
    let router = match effort {
        Effort::Raw => server.add_service(RawExport),
        Effort::Prost => {
            server.add_service(TraceServiceServer::new(ProstExport).max_decoding_message_size(MAX_MESSAGE))
        }
    };
    router.serve_with_incoming(incoming).await.context("the server failed")
}

#[derive(Debug)]
struct ProstExport;

#[tonic::async_trait]
impl TraceService for ProstExport {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        drop(std::hint::black_box(request));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[derive(Debug, Clone, Copy)]
struct RawExport;

impl NamedService for RawExport {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl tonic::codegen::Service<http::Request<Body>> for RawExport {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(RawCodec).max_decoding_message_size(MAX_MESSAGE);
            Ok(grpc.unary(DropBytes, request).await)
        })
    }
}

struct DropBytes;

impl UnaryService<Bytes> for DropBytes {
    type Response = Bytes;
    type Future = Ready<Result<Response<Bytes>, Status>>;

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        drop(std::hint::black_box(request));
        ready(Ok(Response::new(Bytes::new())))
    }
}
