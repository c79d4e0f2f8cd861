//! How a client is told to export: the `OTEL_*` variables.

use std::process::Command;

/// A transport and encoding of OTLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Protocol {
    Grpc,
    HttpProtobuf,
    HttpJson,
}

impl Protocol {
    /// As `OTEL_EXPORTER_OTLP_PROTOCOL` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::HttpProtobuf => "http/protobuf",
            Self::HttpJson => "http/json",
        }
    }
}

/// What a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Otlp {
    pub protocol: Protocol,
    pub gzip: bool,
}

impl Otlp {
    /// Without compression.
    pub const fn plain(protocol: Protocol) -> Self {
        Self { protocol, gzip: false }
    }

    /// With gzip.
    pub const fn gzip(protocol: Protocol) -> Self {
        Self { protocol, gzip: true }
    }

    /// Sends metrics and logs as well, besides what [`tell`](Self::tell) says.
    pub fn tell_all_signals(command: &mut Command) {
        command.env("OTEL_METRICS_EXPORTER", "otlp").env("OTEL_METRIC_EXPORT_INTERVAL", "500");
        command.env("OTEL_LOGS_EXPORTER", "otlp").env("OTEL_BLRP_SCHEDULE_DELAY", "100");
    }

    /// Sets the variables of a service that sends traces to `address`, and no other of the caller's own.
    pub fn tell(self, command: &mut Command, service: &str, address: &str) {
        for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("OTEL_")) {
            command.env_remove(key);
        }
        command
            .env("OTEL_SERVICE_NAME", service)
            .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.version=1.0")
            .env("OTEL_EXPORTER_OTLP_PROTOCOL", self.protocol.name())
            .env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{address}"))
            .env("OTEL_METRICS_EXPORTER", "none")
            .env("OTEL_LOGS_EXPORTER", "none")
            .env("OTEL_BSP_SCHEDULE_DELAY", "100")
            // Where an SDK keeps its own troubles to itself unless asked.
            .env("OTEL_LOG_LEVEL", "warn");
        if self.gzip {
            command.env("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip");
        }
    }
}
