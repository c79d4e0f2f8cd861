//! Stretches of the log as the sealer gets them: walked requests, and the analysis of every trace in them.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hashbrown::HashMap;
use otlp_wire::{Walked, WireLimits, json_to_traces, walk};
use segment::{LiveBatch, Names, OperationEntry, SpanRow, TraceRow, TraceServiceCount};
use trace_analyze::{PathOptions, critical_path, path_shares};
use trace_model::{OperationId, ServiceId, SpanKind, SpanNode, StatusCode, Trace, TraceId, UnixNanos};

/// Names by number, for one thread's building and another's reading.
#[derive(Debug, Default)]
pub struct Interned {
    services: Vec<Arc<str>>,
    operations: Vec<OperationEntry>,
    service_ids: HashMap<Vec<u8>, u32>,
    operation_ids: HashMap<(u32, SpanKind, Vec<u8>), u32>,
}

impl Interned {
    fn service_id(&mut self, name: &[u8]) -> ServiceId {
        let next = self.services.len() as u32;
        let id = *self.service_ids.entry_ref(name).or_insert(next);
        if id == next {
            self.services.push(String::from_utf8_lossy(name).into());
        }
        ServiceId(id)
    }

    fn operation_id(&mut self, service: ServiceId, kind: SpanKind, name: &[u8]) -> OperationId {
        let next = self.operations.len() as u32;
        let id = *self.operation_ids.entry((service.0, kind, name.to_vec())).or_insert(next);
        if id == next {
            self.operations.push(OperationEntry {
                service,
                kind,
                name: String::from_utf8_lossy(name).into(),
            });
        }
        OperationId(id)
    }
}

impl Names for Interned {
    fn service(&self, id: ServiceId) -> Arc<str> {
        Arc::clone(&self.services[id.0 as usize])
    }

    fn operation(&self, id: OperationId) -> OperationEntry {
        self.operations[id.0 as usize].clone()
    }
}

/// What one segment is built of.
#[derive(Debug, Default)]
pub struct Stretch {
    /// One batch a request.
    pub batches: Vec<Arc<LiveBatch>>,
    /// One row a trace.
    pub analysed: Vec<Arc<TraceRow>>,
    /// The names behind the numbers.
    pub names: Interned,
}

impl Stretch {
    /// Walks requests in their order.
    ///
    /// # Errors
    /// If one of them is not OTLP.
    pub fn of(requests: impl IntoIterator<Item = Bytes>) -> Result<Self> {
        let mut stretch = Self::default();
        for request in requests {
            let batch = stretch.batch(request)?;
            stretch.batches.push(Arc::new(batch));
        }
        stretch.analyse();
        Ok(stretch)
    }

    /// Spans in all.
    pub fn spans(&self) -> usize {
        self.batches.iter().map(|batch| batch.rows.len()).sum()
    }

    /// Bytes of the requests.
    pub fn bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.request.len()).sum()
    }

    fn batch(&mut self, request: Bytes) -> Result<LiveBatch> {
        let mut walked = Walked::new();
        walk(&request, &WireLimits::default(), &mut walked)?;
        ensure!(walked.rejected_spans == 0, "{} spans are not valid", walked.rejected_spans);
        let (mut context_bytes, mut contexts, mut context) = (Vec::new(), Vec::new(), Vec::new());
        let mut services = Vec::new();
        for group in 0..walked.groups.len() as u32 {
            walked.context(group, &request, &mut context);
            contexts.push((context_bytes.len() as u32, context.len() as u32));
            context_bytes.extend_from_slice(&context);
            services.push(self.names.service_id(walked.service(group, &request).unwrap_or_default()));
        }
        let mut rows = Vec::with_capacity(walked.spans.len());
        for span in &walked.spans {
            let service = services[span.group as usize];
            let node = SpanNode {
                span_id: span.span_id,
                parent: span.parent,
                start: span.start,
                end: span.end,
                content: span.content,
                service,
                operation: self.names.operation_id(service, span.kind, span.name_bytes(&request)),
                kind: span.kind,
                status: span.status,
            };
            let (offset, len) = span.span;
            rows.push(SpanRow { trace_id: span.trace_id, node, offset, len, context: span.group });
        }
        let number = self.batches.len() as u64 + 1;
        Ok(LiveBatch {
            number,
            seq: number,
            arrival: UnixNanos(number),
            request,
            context_bytes,
            contexts,
            rows,
        })
    }

    fn analyse(&mut self) {
        let mut nodes: Vec<(TraceId, SpanNode)> = self
            .batches
            .iter()
            .flat_map(|batch| batch.rows.iter().map(|row| (row.trace_id, row.node)))
            .collect();
        nodes.sort_unstable_by_key(|(id, _)| *id);
        self.analysed = nodes
            .chunk_by(|a, b| a.0 == b.0)
            .filter_map(|spans| analyse(spans[0].0, spans.iter().map(|(_, node)| *node).collect()))
            .map(Arc::new)
            .collect();
    }
}

/// The analysis of one trace.
pub fn analyse(trace_id: TraceId, nodes: Vec<SpanNode>) -> Option<TraceRow> {
    let (trace, _) = Trace::from_spans(nodes)?;
    let root = trace.primary_root();
    let path = critical_path(&trace, root, &PathOptions::default());
    let spans = trace.spans();
    let mut services: Vec<TraceServiceCount> = Vec::new();
    for span in spans {
        let errors = u32::from(span.status == StatusCode::Error);
        match services.iter_mut().find(|count| count.service == span.service) {
            Some(count) => (count.spans, count.errors) = (count.spans + 1, count.errors + errors),
            None => services.push(TraceServiceCount { service: span.service, spans: 1, errors }),
        }
    }
    Some(TraceRow {
        trace_id,
        start: trace.start(),
        duration: trace.duration(),
        root: trace.has_true_root().then(|| spans[root].operation),
        root_duration: path.end.since(path.start),
        spans: spans.len() as u32,
        errors: services.iter().map(|count| count.errors).sum(),
        missing_parents: 0,
        flags: path.flags,
        revised: false,
        services,
        shares: path_shares(&trace, &path),
    })
}

/// The requests of a file of OTLP/JSON lines, compressed with zstd if its name says so.
///
/// # Errors
/// If it cannot be read or a line is not OTLP/JSON.
pub fn recorded(path: &Path) -> Result<Vec<Bytes>> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let packed = path.extension().is_some_and(|extension| extension == "zst");
    let reader: Box<dyn BufRead> = if packed {
        Box::new(BufReader::new(zstd::Decoder::new(file)?))
    } else {
        Box::new(BufReader::new(file))
    };
    let requests = reader.lines().map(|line| Ok(Bytes::from(json_to_traces(line?.as_bytes())?)));
    requests.collect()
}
