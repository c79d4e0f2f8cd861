//! A page of a trace as it is written: which spans fit, and their bytes.

use std::sync::Arc;

use otlp_wire::{StoredSpan, splice_traces};

use crate::fetch::FetchedSpan;

/// Spans that an answer puts under one resource at most, so that it can be written as JSON piece by piece.
const PIECE_SPANS: usize = 1_000;
/// Key and length of a span, at most.
const SPAN_HEAD: usize = 6;
/// Keys and lengths of the two messages around the spans of one context, at most.
const CONTEXT_HEAD: usize = 12;

/// Bytes that a span takes, at most: its context is written again wherever it is not that of the span before.
pub(crate) fn spliced_bytes(span: &FetchedSpan, before: Option<&FetchedSpan>) -> usize {
    let same = !span.has_own_context
        && before.is_some_and(|before| {
            Arc::ptr_eq(&before.context, &span.context) || before.context == span.context
        });
    span.message.len() + SPAN_HEAD + if same { 0 } else { span.context.len() + CONTEXT_HEAD }
}

/// Leaves the spans that fit into so many bytes, the first in any case; whether some did not. Those that were gathered can
/// be too many yet, for each piece names its context again.
pub(crate) fn cut(spans: &mut Vec<FetchedSpan>, most: usize) -> bool {
    let (mut bytes, mut before) = (0_usize, None);
    let fitting = spans.iter().enumerate().position(|(at, span)| {
        bytes = bytes.saturating_add(spliced_bytes(span, before.filter(|_| at % PIECE_SPANS != 0)));
        before = Some(span);
        at > 0 && bytes > most
    });
    spans.truncate(fitting.unwrap_or(spans.len()));
    fitting.is_some()
}

/// The spans as `TracesData`.
pub(crate) fn splice(spans: &[FetchedSpan]) -> Vec<u8> {
    let mut data = Vec::new();
    for piece in spans.chunks(PIECE_SPANS) {
        let spans = piece.iter().map(|span| StoredSpan { context: &span.context, span: &span.message });
        let piece = splice_traces(spans);
        if data.is_empty() { data = piece } else { data.extend_from_slice(&piece) }
    }
    data
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gather::First;
    use trace_model::{OperationId, ServiceId, SpanId, SpanKind, SpanNode, StatusCode, UnixNanos};

    const MOST: usize = 100_000;

    /// A context with a resource of so many bytes.
    fn context(resource: usize, fill: u8) -> Arc<[u8]> {
        let mut bytes = Vec::new();
        let mut length = resource;
        while length >= 128 {
            bytes.push(length as u8 | 128);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.resize(bytes.len() + resource, fill);
        bytes.into()
    }

    fn span(n: u64, context: &Arc<[u8]>, message: usize) -> FetchedSpan {
        let node = SpanNode {
            span_id: SpanId::new((n + 1).to_be_bytes()).unwrap(),
            parent: None,
            start: UnixNanos(n),
            end: UnixNanos(n + 1),
            content: n,
            service: ServiceId(0),
            operation: OperationId(0),
            kind: SpanKind::Internal,
            status: StatusCode::Unset,
        };
        FetchedSpan { node, context: Arc::clone(context), has_own_context: false, message: vec![0; message] }
    }

    fn page_of(spans: impl Iterator<Item = FetchedSpan>) -> (Vec<FetchedSpan>, bool) {
        let mut first = First::new(None, 100_000, MOST);
        spans.for_each(|span| first.add(span));
        let (mut page, mut more) = first.done();
        more |= cut(&mut page, MOST);
        (page, more)
    }

    #[test]
    fn what_is_written_is_bounded_where_contexts_alternate() {
        let contexts = [context(5_000, 1), context(5_000, 2)];
        let (page, more) = page_of((0..4_000).map(|n| span(n, &contexts[n as usize % 2], 30)));
        assert_eq!((page.len(), more), (19, true));
        assert!(splice(&page).len() <= MOST && splice(&page).len() > MOST - 6_000);
    }

    #[test]
    fn what_is_written_is_bounded_where_each_piece_names_the_context_again() {
        let long = context(40_000, 1);
        let (page, more) = page_of((0..4_000).map(|n| span(n, &long, 3)));
        assert_eq!((page.len(), more), (2_000, true));
        assert!(splice(&page).len() <= MOST);
    }

    #[test]
    fn a_span_that_is_too_large_for_a_page_is_one() {
        let long = context(MOST, 1);
        let (page, more) = page_of((0..3).map(|n| span(n, &long, 10)));
        assert_eq!((page.len(), more), (1, true));
    }

    #[test]
    fn spans_of_one_context_count_it_once() {
        let long = context(50_000, 1);
        let (page, more) = page_of((0..900).map(|n| span(n, &long, 10)));
        assert_eq!((page.len(), more), (900, false));
        assert!(splice(&page).len() <= MOST);
    }
}
