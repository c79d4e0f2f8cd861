//! From the bytes of a request to rows that can be committed: one walk, names interned, contexts laid out.

use std::cell::RefCell;

use bytes::Bytes;
use otlp_wire::{SpanFault, Walked, WireError, WireLimits, keep_spans, walk};
use query::NameTable;
use segment::{LiveBatch, SpanRow};
use tokio::sync::oneshot;
use trace_model::{ServiceId, SpanNode, UnixNanos};

use crate::budget::Charge;
use crate::respond::CommitError;

/// A request whose every span can be stored and read back.
#[derive(Debug)]
pub struct Prepared {
    /// The batch; its number, sequence and arrival are set when it is committed.
    pub batch: LiveBatch,
    /// Spans that were left out.
    pub rejected: u64,
    /// How many of them had too many attributes.
    pub over_attributes: u64,
    /// How many of them had too many bytes.
    pub over_bytes: u64,
    /// How many of them had a resource and scope of too many bytes.
    pub over_context: u64,
    /// Why the first of them was, in words.
    pub reason: Option<String>,
}

/// A request on its way to the log.
#[derive(Debug)]
pub struct Admitted {
    /// What to commit.
    pub prepared: Prepared,
    /// Told once the log has it, or cannot have it.
    pub done: oneshot::Sender<Result<(), CommitError>>,
    /// Its share of the bytes that may be on the way; given back when this is dropped.
    pub permit: Charge,
}

/// Why a request cannot be read at all.
#[derive(Debug, Clone, thiserror::Error)]
#[error("not a readable ExportTraceServiceRequest: {0}")]
pub struct AdmitError(#[from] pub WireError);

/// What is kept of the walker's memory between requests at most, bytes: enough for some 50,000 spans. One giant request
/// must not keep its memory for ever, and each thread has its own.
const WALKED_MAX: usize = 4 << 20;

thread_local! {
    /// The walker's output, kept between requests so that walking allocates nothing.
    static WALKED: RefCell<Walked> = RefCell::new(Walked::new());
}

/// Walks a request and lays its spans out in rows. Bytes that were stored are walked with
/// [`WireLimits::STORED`], so that no later limit loses them.
///
/// # Errors
/// If the request as a whole cannot be read. Single bad spans are left out and counted.
pub fn prepare(request: Bytes, names: &NameTable, limits: &WireLimits) -> Result<Prepared, AdmitError> {
    Ok(walked(&request, limits, |walked| lay_out(request.clone(), walked, names))?)
}

/// The same if there is room for what is laid out beside the request, in bytes; `None` if not.
pub(crate) fn prepare_with_room(
    request: Bytes,
    names: &NameTable,
    limits: &WireLimits,
    has_room: impl FnOnce(usize) -> bool,
) -> Result<Option<Prepared>, AdmitError> {
    let lay_out = |walked: &Walked| {
        let rows = walked.spans.len() * size_of::<SpanRow>();
        has_room(rows + room_of_contexts(walked)).then(|| lay_out(request.clone(), walked, names))
    };
    Ok(walked(&request, limits, lay_out)?)
}

/// Bytes that contexts take at most, with their index.
fn room_of_contexts(walked: &Walked) -> usize {
    let index = size_of::<(u32, u32)>() + 10;
    walked.contexts_bytes as usize + walked.groups.len() * index
}

/// Walks a request and makes something of what was found.
fn walked<T>(request: &[u8], limits: &WireLimits, of: impl FnOnce(&Walked) -> T) -> Result<T, WireError> {
    WALKED.with_borrow_mut(|walked| {
        let made = walk(request, limits, walked).map(|()| of(walked));
        if walked.memory() > WALKED_MAX {
            *walked = Walked::new();
        }
        made
    })
}

impl Prepared {
    /// Bytes that are there of it beside the request's own. Of an ordinary request they are a part of these; of many tiny spans,
    /// and of many scopes under one long resource, they are more.
    pub(crate) fn derived_bytes(&self) -> usize {
        let LiveBatch { rows, contexts, context_bytes, .. } = &self.batch;
        size_of_val(&rows[..]) + size_of_val(&contexts[..]) + context_bytes.len()
    }

    /// The same with a request that never had what was left out. The log is replayed without the limits of today, so
    /// that it would bring back what the client was told is rejected.
    ///
    /// # Errors
    /// None of a request that was prepared with these limits.
    pub fn without_rejected(mut self, limits: &WireLimits) -> Result<Self, AdmitError> {
        let batch = &mut self.batch;
        let mut request = keep_spans(&batch.request, batch.rows.iter().map(|row| row.offset))?;
        request.shrink_to_fit();
        batch.request = request.into();
        let rows = &mut batch.rows;
        walked(&batch.request, limits, |walked| {
            // The same spans in the same order, and so the same contexts; only where they lie is new.
            for (row, span) in rows.iter_mut().zip(&walked.spans) {
                (row.offset, row.len) = span.span;
            }
        })?;
        Ok(self)
    }
}

fn lay_out(request: Bytes, walked: &Walked, names: &NameTable) -> Prepared {
    let mut context_bytes = Vec::with_capacity(room_of_contexts(walked));
    let mut contexts = Vec::with_capacity(walked.groups.len());
    let mut services = Vec::with_capacity(walked.groups.len());
    let mut context = Vec::new();
    for group in 0..walked.groups.len() as u32 {
        walked.context(group, &request, &mut context);
        contexts.push((context_bytes.len() as u32, context.len() as u32));
        context_bytes.extend_from_slice(&context);
        services.push(names.service_id(walked.service(group, &request)));
    }
    // It lives until its segment is sealed, as the request does.
    context_bytes.shrink_to_fit();
    let rows = walked.spans.iter().map(|span| {
        let service = services.get(span.group as usize).copied().unwrap_or(ServiceId(u32::MAX));
        let operation = names.operation_id(service, span.kind, span.name_bytes(&request));
        SpanRow {
            trace_id: span.trace_id,
            node: SpanNode {
                span_id: span.span_id,
                parent: span.parent,
                start: span.start,
                end: span.end,
                content: span.content,
                service,
                operation,
                kind: span.kind,
                status: span.status,
            },
            offset: span.span.0,
            len: span.span.1,
            context: span.group,
        }
    });
    let rows = rows.collect();
    let reason = walked.rejected.first().map(|first| {
        let key = limit_key(first.fault);
        format!("{} of the request's spans left out; the first: {}{key}", walked.rejected_spans, first.fault)
    });
    Prepared {
        rejected: walked.rejected_spans,
        over_attributes: walked.over_attributes,
        over_bytes: walked.over_bytes,
        over_context: walked.over_context,
        reason,
        batch: LiveBatch { number: 0, seq: 0, arrival: UnixNanos(0), rows, contexts, context_bytes, request },
    }
}

/// The key of the limit that a span is over.
fn limit_key(fault: SpanFault) -> &'static str {
    match fault {
        SpanFault::TooManyAttributes { .. } => " (ingest.span_attributes)",
        SpanFault::TooLong { .. } => " (ingest.span_bytes)",
        SpanFault::ContextTooLong { .. } => " (ingest.context_bytes)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> usize {
        WALKED.with_borrow(Walked::memory)
    }

    #[test]
    fn a_giant_request_keeps_no_memory_whether_it_could_be_read_or_not() {
        // An empty ScopeSpans and an empty schema_url, again and again.
        let runs = [0x12, 0, 0x1a, 0].repeat(600_000);
        let length =
            [runs.len() as u8 | 0x80, (runs.len() >> 7) as u8 | 0x80, (runs.len() >> 14) as u8 | 0x80, 1];
        assert_eq!(runs.len() >> 21, 1);
        let whole = [&[0x0a][..], &length, &runs].concat();
        let broken = [&whole[..], &[0x0a, 0xff]].concat();
        let names = NameTable::default();
        assert!(prepare(whole.into(), &names, &WireLimits::STORED).is_ok());
        assert!(kept() <= WALKED_MAX, "{}", kept());
        assert!(prepare(broken.into(), &names, &WireLimits::STORED).is_err());
        assert!(kept() <= WALKED_MAX, "{}", kept());
    }
}
