//! The walk over an `ExportTraceServiceRequest`: one pass that validates all of it and notes
//! where every span lies.

use std::ops::Range;

use trace_model::{SpanId, SpanKind, StatusCode, TraceId, UnixNanos};
use xxhash_rust::xxh3::xxh3_64;

use crate::context::service_attribute;
use crate::cursor::{Cursor, Value};
use crate::encode::put_varint;
use crate::error::{SpanFault, WireError, WireFault, WireLimits};
use crate::head::{Ids, RawSpan};
use crate::nested::{self, Depth};

/// How many rejected spans are described; the others are only counted.
const DESCRIBED: usize = 16;

/// What a walk found. Reuse it: a cleared one keeps its memory, so that walking allocates nothing
/// once it has seen a request of the usual size.
#[derive(Debug, Clone, Default)]
pub struct Walked {
    /// The accepted spans in the order of the request.
    pub spans: Vec<WalkedSpan>,
    /// One for every `ScopeSpans` with at least one accepted span, in the order of the request.
    pub groups: Vec<Group>,
    /// Why spans were rejected: the first 16.
    pub rejected: Vec<Rejected>,
    /// How many spans were rejected.
    pub rejected_spans: u64,
    /// How many of them had more attributes than the limit.
    pub over_attributes: u64,
    /// How many of them had more bytes than the limit.
    pub over_bytes: u64,
    /// How many of them had a resource and scope of more bytes than the limit.
    pub over_context: u64,
    /// Bytes of the contexts of all groups, without the lengths before them: at most 10 more each.
    pub contexts_bytes: u64,
    /// Offset and length, in the request, of runs of context fields. Groups hold ranges of these.
    pub ranges: Vec<(u32, u32)>,
    /// The runs of the `ResourceSpans` being walked; they move to `ranges` at its end.
    resource_runs: Vec<(u32, u32)>,
}

/// A span of the request. Offsets and lengths are bytes of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalkedSpan {
    /// The trace it belongs to.
    pub trace_id: TraceId,
    /// Its own id.
    pub span_id: SpanId,
    /// The parent's id; `None` if absent, empty or all zeros.
    pub parent: Option<SpanId>,
    /// When it began.
    pub start: UnixNanos,
    /// When it ended; may lie before `start`.
    pub end: UnixNanos,
    /// Its kind; numbers outside the enum are `Unspecified`.
    pub kind: SpanKind,
    /// Its status; numbers outside the enum are `Unset`.
    pub status: StatusCode,
    /// xxh3-64 of the span message's bytes.
    pub content: u64,
    /// Offset and length of its name, which need not be UTF-8. An absent name is `(0, 0)`.
    pub name: (u32, u32),
    /// Offset and length of the span message's payload.
    pub span: (u32, u32),
    /// Index of its group.
    pub group: u32,
}

/// A `ScopeSpans` of the request: what its spans have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Offset and length of `service.name`; `None` if absent, empty or not a string.
    pub service: Option<(u32, u32)>,
    /// Which of [`Walked::ranges`] are the fields of `ResourceSpans` except `scope_spans`.
    pub resource: Range<u32>,
    /// Which of [`Walked::ranges`] are the fields of `ScopeSpans` except `spans`.
    pub scope: Range<u32>,
}

/// A span that was rejected alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rejected {
    /// Offset in the request of the span message's payload.
    pub offset: u32,
    /// Why.
    pub fault: SpanFault,
}

impl Walked {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the last request and keeps the memory.
    pub fn clear(&mut self) {
        self.spans.clear();
        self.groups.clear();
        self.rejected.clear();
        self.rejected_spans = 0;
        self.over_attributes = 0;
        self.over_bytes = 0;
        self.over_context = 0;
        self.contexts_bytes = 0;
        self.ranges.clear();
        self.resource_runs.clear();
    }

    /// The memory that it holds, bytes; [`clear`](Self::clear) gives nothing of it back.
    pub fn memory(&self) -> usize {
        fn of<T>(all: &Vec<T>) -> usize {
            all.capacity() * size_of::<T>()
        }
        let ranges = of(&self.ranges) + of(&self.resource_runs);
        of(&self.spans) + of(&self.groups) + of(&self.rejected) + ranges
    }

    /// Replaces `out` with the canonical context bytes of a group:
    /// `varint(resource length)`, resource fields, scope fields.
    ///
    /// `request` must be the one walked. An index out of range yields the empty context.
    pub fn context(&self, group: u32, request: &[u8], out: &mut Vec<u8>) {
        out.clear();
        let Some(group) = self.groups.get(group as usize) else {
            out.push(0);
            return;
        };
        let resource = self.runs(&group.resource);
        let length: u64 = resource.iter().map(|&(_, length)| u64::from(length)).sum();
        put_varint(out, length);
        for &run in resource.iter().chain(self.runs(&group.scope)) {
            out.extend_from_slice(slice(request, run));
        }
    }

    /// The `service.name` of a group, as it came.
    pub fn service<'a>(&self, group: u32, request: &'a [u8]) -> Option<&'a [u8]> {
        self.groups.get(group as usize)?.service.map(|range| slice(request, range))
    }

    /// Bytes of these runs.
    fn length(&self, range: &Range<u32>) -> u64 {
        self.runs(range).iter().map(|&(_, length)| u64::from(length)).sum()
    }

    fn runs(&self, range: &Range<u32>) -> &[(u32, u32)] {
        self.ranges.get(range.start as usize..range.end as usize).unwrap_or_default()
    }
}

impl WalkedSpan {
    /// The name's bytes. `request` must be the one walked.
    #[inline]
    pub fn name_bytes<'a>(&self, request: &'a [u8]) -> &'a [u8] {
        slice(request, self.name)
    }

    /// The span message's payload. `request` must be the one walked.
    #[inline]
    pub fn bytes<'a>(&self, request: &'a [u8]) -> &'a [u8] {
        slice(request, self.span)
    }
}

#[inline]
fn slice(request: &[u8], (offset, length): (u32, u32)) -> &[u8] {
    request.get(offset as usize..).and_then(|rest| rest.get(..length as usize)).unwrap_or_default()
}

/// Walks a request (`ExportTraceServiceRequest`, or `TracesData`, which is the same on the wire).
///
/// Everything that a later reader of the bytes relies on is checked here, down to attribute values
/// inside events. The rules:
///
/// - Unknown fields are kept with the bytes around them. A known field number with another wire
///   type than its own is an unknown field.
/// - The last of a repeated scalar wins; repeated sub-messages merge.
/// - Spans with bad ids, and spans over a limit of their own, are rejected one by one into
///   [`Walked::rejected`].
/// - Strings need not be UTF-8; kinds and statuses outside their enum count as 0; a span may end
///   before it starts.
///
/// # Errors
/// If the request is malformed, exceeds `limits` or is longer than `u32::MAX` bytes. `out` is then
/// empty: a request is taken as a whole or not at all.
pub fn walk(request: &[u8], limits: &WireLimits, out: &mut Walked) -> Result<(), WireError> {
    out.clear();
    if u32::try_from(request.len()).is_err() {
        return Err(WireError::at(0, WireFault::TooLarge { length: request.len() as u64 }));
    }
    let context_left = limits.contexts_bytes;
    let (left, scopes_left, depth) = (limits.spans, limits.spans, Depth::new(limits.depth()));
    let mut walker = Walker { depth, limits, left, scopes_left, context_left, out };
    let walked = walker.request(Cursor::new(request));
    if walked.is_err() {
        out.clear();
    }
    walked
}

struct Walker<'o> {
    depth: Depth,
    limits: &'o WireLimits,
    left: u32,
    /// `ScopeSpans` that may still come. With the spans they bound the runs of context fields.
    scopes_left: u32,
    /// Bytes of resources and scopes that may still come.
    context_left: u32,
    out: &'o mut Walked,
}

impl Walker<'_> {
    fn request(&mut self, mut message: Cursor<'_>) -> Result<(), WireError> {
        while let Some(field) = message.next()? {
            if let (1, Value::Bytes(resource_spans)) = (field.number, field.value) {
                self.resource_spans(resource_spans)?;
            }
        }
        Ok(())
    }

    /// The resource may come after the spans, or in two parts around them: groups learn about it
    /// at the end.
    fn resource_spans(&mut self, mut message: Cursor<'_>) -> Result<(), WireError> {
        let (first_group, first_span) = (self.out.groups.len(), self.out.spans.len());
        self.out.resource_runs.clear();
        let mut service = None;
        let mut run = message.pos();
        loop {
            let at = message.pos();
            let Some(field) = message.next()? else { break };
            match (field.number, field.value) {
                (1, Value::Bytes(resource)) => nested::resource(resource, self.depth, |pair| {
                    service = service_attribute(pair).unwrap_or(service);
                })?,
                (2, Value::Bytes(scope_spans)) => {
                    push_run(&mut self.out.resource_runs, run, at);
                    run = message.pos();
                    self.scope_spans(scope_spans)?;
                }
                _ => {}
            }
        }
        push_run(&mut self.out.resource_runs, run, message.end());
        self.give_resource(first_group, service);
        self.weigh_contexts(first_group, first_span, message.end())
    }

    fn give_resource(&mut self, first_group: usize, service: Option<(u32, u32)>) {
        let out = &mut *self.out;
        let groups = out.groups.get_mut(first_group..).unwrap_or_default();
        if groups.is_empty() {
            return;
        }
        let start = out.ranges.len() as u32;
        out.ranges.append(&mut out.resource_runs);
        let resource = start..out.ranges.len() as u32;
        for group in groups {
            group.service = service;
            group.resource = resource.clone();
        }
    }

    /// Counts the contexts of the groups from `first_group` on, which share a resource, and rejects the spans of those that are
    /// too long. A few bytes make a scope, and each has all of its resource again: what a request claims must not be
    /// many times what it is, nor the work to find that out.
    fn weigh_contexts(&mut self, first_group: usize, first_span: usize, end: usize) -> Result<(), WireError> {
        let Some(first) = self.out.groups.get(first_group) else { return Ok(()) };
        let resource = self.out.length(&first.resource);
        let (mut any_over, limits) = (false, self.limits);
        for group in first_group..self.out.groups.len() {
            let length = resource + self.out.length(&self.out.groups[group].scope);
            if length > u64::from(limits.context_bytes) {
                any_over = true;
                continue;
            }
            let fault = WireFault::TooMuchContext { limit: limits.contexts_bytes };
            let left = self.context_left.checked_sub(length as u32);
            self.context_left = left.ok_or(WireError::at(end, fault))?;
            self.out.contexts_bytes += length;
        }
        if any_over {
            self.reject_over_context(first_group, first_span, resource);
        }
        Ok(())
    }

    #[cold]
    fn reject_over_context(&mut self, first_group: usize, first_span: usize, resource: u64) {
        let limit = self.limits.context_bytes;
        // For each group what it is called now, or how long its context is. One without spans is none.
        let mut fates = Vec::new();
        for group in self.out.groups.split_off(first_group) {
            let length = resource + self.out.length(&group.scope);
            if length > u64::from(limit) {
                fates.push(Err(u32::try_from(length).unwrap_or(u32::MAX)));
            } else {
                fates.push(Ok(self.out.groups.len() as u32));
                self.out.groups.push(group);
            }
        }
        for span in self.out.spans.split_off(first_span) {
            match fates[span.group as usize - first_group] {
                Ok(group) => self.out.spans.push(WalkedSpan { group, ..span }),
                Err(length) => self.reject(span.span.0, SpanFault::ContextTooLong { length, limit }),
            }
        }
    }

    fn scope_spans(&mut self, mut message: Cursor<'_>) -> Result<(), WireError> {
        let fault = WireFault::TooManyScopes { limit: self.limits.spans };
        self.scopes_left = self.scopes_left.checked_sub(1).ok_or(WireError::at(message.pos(), fault))?;
        let first_range = self.out.ranges.len();
        let first_span = self.out.spans.len();
        let mut run = message.pos();
        loop {
            let at = message.pos();
            let Some(field) = message.next()? else { break };
            match (field.number, field.value) {
                (2, Value::Bytes(span)) => {
                    push_run(&mut self.out.ranges, run, at);
                    run = message.pos();
                    self.span(span)?;
                }
                (1, Value::Bytes(scope)) => nested::scope(scope, self.depth)?,
                _ => {}
            }
        }
        push_run(&mut self.out.ranges, run, message.end());
        self.end_group(first_range, first_span);
        Ok(())
    }

    /// Two bytes of request make an empty `ScopeSpans`. It gets no group, or else a request could
    /// claim many times its own size in memory.
    fn end_group(&mut self, first_range: usize, first_span: usize) {
        let out = &mut *self.out;
        if out.spans.len() == first_span {
            out.ranges.truncate(first_range);
            return;
        }
        let scope = first_range as u32..out.ranges.len() as u32;
        out.groups.push(Group { service: None, resource: 0..0, scope });
    }

    #[inline]
    fn span(&mut self, message: Cursor<'_>) -> Result<(), WireError> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(WireError::at(message.pos(), WireFault::TooManySpans { limit: self.limits.spans }));
        };
        self.left = left;
        let raw = RawSpan::read::<true>(message, self.depth)?;
        match self.within_limits(message, &raw).and_then(|()| raw.ids()) {
            Ok(ids) => self.accept(message, &raw, ids),
            Err(fault) => self.reject(message.pos() as u32, fault),
        }
        Ok(())
    }

    #[inline]
    fn within_limits(&self, message: Cursor<'_>, raw: &RawSpan<'_>) -> Result<(), SpanFault> {
        let (_, length) = message.range();
        if length > self.limits.span_bytes {
            return Err(SpanFault::TooLong { length, limit: self.limits.span_bytes });
        }
        if raw.attributes > self.limits.span_attributes {
            let (count, limit) = (raw.attributes, self.limits.span_attributes);
            return Err(SpanFault::TooManyAttributes { count, limit });
        }
        Ok(())
    }

    #[inline]
    fn accept(&mut self, message: Cursor<'_>, raw: &RawSpan<'_>, ids: Ids) {
        let group = self.out.groups.len() as u32;
        self.out.spans.push(WalkedSpan {
            trace_id: ids.trace_id,
            span_id: ids.span_id,
            parent: ids.parent,
            start: UnixNanos(raw.start),
            end: UnixNanos(raw.end),
            kind: raw.kind(),
            status: raw.status(),
            content: xxh3_64(message.rest()),
            name: raw.name.map_or((0, 0), |name| name.range()),
            span: message.range(),
            group,
        });
    }

    #[cold]
    fn reject(&mut self, offset: u32, fault: SpanFault) {
        self.out.rejected_spans += 1;
        match fault {
            SpanFault::TooManyAttributes { .. } => self.out.over_attributes += 1,
            SpanFault::TooLong { .. } => self.out.over_bytes += 1,
            SpanFault::ContextTooLong { .. } => self.out.over_context += 1,
            _ => {}
        }
        if self.out.rejected.len() < DESCRIBED {
            self.out.rejected.push(Rejected { offset, fault });
        }
    }
}

#[inline]
fn push_run(runs: &mut Vec<(u32, u32)>, start: usize, end: usize) {
    if start < end {
        runs.push((start as u32, (end - start) as u32));
    }
}
