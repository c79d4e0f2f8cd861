//! The walker's rules, one by one, on bytes written by hand.
#![allow(clippy::unwrap_used)] // A test that cannot unwrap has failed.

use otlp_wire::{
    SpanFault, StoredSpan, Walked, WireError, WireFault, WireLimits, read_span, service_name, splice_traces,
    walk,
};
use trace_model::{SpanKind, StatusCode, UnixNanos};

fn field(number: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    prost::encoding::encode_varint(payload.len() as u64, &mut out);
    out.extend_from_slice(payload);
    out
}

fn ids() -> Vec<u8> {
    [field(1, &[7; 16]), field(2, &[9; 8])].concat()
}

fn attribute(key: &str, value: &[u8]) -> Vec<u8> {
    field(1, &[field(1, key.as_bytes()), field(2, value)].concat())
}

fn service(name: &str) -> Vec<u8> {
    attribute("service.name", &field(1, name.as_bytes()))
}

/// A request of one span, which is everything but the ids.
fn request(span: &[u8]) -> Vec<u8> {
    field(1, &field(2, &field(2, &[&ids(), span].concat())))
}

fn walked(request: &[u8]) -> Walked {
    let mut walked = Walked::new();
    walk(request, &WireLimits::default(), &mut walked).unwrap();
    walked
}

fn fault(request: &[u8]) -> WireError {
    let mut out = walked(&self::request(&[]));
    let error = walk(request, &WireLimits::default(), &mut out).unwrap_err();
    assert!(out.spans.is_empty() && out.groups.is_empty() && out.ranges.is_empty());
    error
}

fn context(walked: &Walked, group: u32, request: &[u8]) -> Vec<u8> {
    let mut context = b"stale".to_vec();
    walked.context(group, request, &mut context);
    context
}

#[test]
fn an_empty_request_has_no_spans() {
    assert!(walked(&[]).spans.is_empty());
    // Neither have an empty ResourceSpans and an empty ScopeSpans, and they make no groups.
    let walked = walked(&[field(1, &[]), field(1, &field(2, &field(1, b"")))].concat());
    assert!(walked.groups.is_empty() && walked.ranges.is_empty());
}

#[test]
fn the_last_scalar_wins_and_statuses_merge() {
    let status = [field(15, &[0x18, 2]), field(15, &field(2, b"broken"))].concat();
    let span = [field(5, b"first"), field(5, b"last"), vec![0x30, 2, 0x30, 3], status].concat();
    let request = request(&span);
    let walked = walked(&request);
    let span = &walked.spans[0];
    assert_eq!(span.name_bytes(&request), b"last");
    assert_eq!((span.kind, span.status), (SpanKind::Client, StatusCode::Error));
}

#[test]
fn enums_out_of_range_count_as_zero_and_keep_their_low_32_bits() {
    let walked = |kind: &[u8]| walked(&request(kind)).spans[0].kind;
    assert_eq!(walked(&[0x30, 6]), SpanKind::Unspecified);
    // -1, as protobuf writes a negative enum.
    assert_eq!(walked(&[0x30, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]), SpanKind::Unspecified);
    assert_eq!(walked(&[0x30, 0x82, 0x80, 0x80, 0x80, 0x10]), SpanKind::Server);
}

#[test]
fn a_span_may_end_before_it_starts() {
    let times = [&[0x39][..], &5u64.to_le_bytes(), &[0x41], &4u64.to_le_bytes()].concat();
    let span = walked(&request(&times)).spans[0];
    assert_eq!((span.start, span.end), (UnixNanos(5), UnixNanos(4)));
}

#[test]
fn a_known_number_with_another_wire_type_is_an_unknown_field() {
    // Name as a varint, kind as bytes, start as fixed32.
    let request = request(&[&[0x28, 1][..], &field(6, b"x"), &[0x3d, 1, 2, 3, 4]].concat());
    let walked = walked(&request);
    assert_eq!(walked.spans[0].name, (0, 0));
    assert_eq!((walked.spans[0].kind, walked.spans[0].start), (SpanKind::Unspecified, UnixNanos(0)));
}

#[test]
fn spans_with_bad_ids_are_rejected_alone() {
    let (trace, id) = (field(1, &[7; 16]), field(2, &[9; 8]));
    let spans = [
        vec![],
        [field(1, &[0; 16]), id.clone()].concat(),
        [field(1, &[7; 15]), id.clone()].concat(),
        [trace.clone(), field(2, &[9; 9])].concat(),
        [trace.clone(), field(2, &[0; 8])].concat(),
        [trace.clone(), id.clone(), field(4, &[1; 7])].concat(),
        [trace, id, field(4, &[0; 8])].concat(),
    ];
    let request = field(1, &field(2, &spans.map(|span| field(2, &span)).concat()));
    let walked = walked(&request);
    assert_eq!(walked.spans.len(), 1);
    assert_eq!(walked.spans[0].parent, None);
    let faults: Vec<_> = walked.rejected.iter().map(|rejected| rejected.fault).collect();
    let want = [
        SpanFault::TraceIdLength(0),
        SpanFault::TraceIdZero,
        SpanFault::TraceIdLength(15),
        SpanFault::SpanIdLength(9),
        SpanFault::SpanIdZero,
        SpanFault::ParentLength(7),
    ];
    assert_eq!(faults, want);
    assert_eq!(walked.rejected_spans, 6);
}

#[test]
fn only_sixteen_rejections_are_described() {
    let request = field(1, &field(2, &field(2, &[]).repeat(40)));
    let walked = walked(&request);
    assert_eq!((walked.rejected.len(), walked.rejected_spans), (16, 40));
    assert_eq!(walked.rejected[0].offset, 6);
}

#[test]
fn resources_after_the_spans_and_in_parts_merge() {
    let scope_spans = field(2, &field(2, &ids()));
    let (first, last) = (field(1, &service("first")), field(1, &service("last")));
    let request = field(1, &[first.clone(), scope_spans.clone(), last.clone(), scope_spans].concat());
    let walked = walked(&request);
    assert_eq!(walked.groups.len(), 2);
    for group in 0..2 {
        assert_eq!(walked.service(group, &request), Some(&b"last"[..]));
        let context = context(&walked, group, &request);
        assert_eq!(context, [&[(first.len() + last.len()) as u8][..], &first, &last].concat());
        assert_eq!(service_name(&context), Some(&b"last"[..]));
    }
}

#[test]
fn services_do_not_leak_into_the_next_resource() {
    let scope_spans = field(2, &field(2, &ids()));
    let named = field(1, &[scope_spans.clone(), field(1, &service("a"))].concat());
    let request = [named, field(1, &scope_spans)].concat();
    let walked = walked(&request);
    assert_eq!(walked.service(0, &request), Some(&b"a"[..]));
    assert_eq!(walked.service(1, &request), None);
    assert_eq!(context(&walked, 1, &request), [0]);
    assert_eq!(context(&walked, 9, &request), [0]);
}

#[test]
fn a_service_name_that_is_empty_or_no_string_is_none() {
    let with = |attributes: Vec<u8>| {
        let request = field(1, &[field(1, &attributes), field(2, &field(2, &ids()))].concat());
        let walked = walked(&request);
        let found = walked.service(0, &request).map(<[u8]>::to_vec);
        assert_eq!(service_name(&context(&walked, 0, &request)), found.as_deref());
        found
    };
    let name = |value: &[u8]| with(attribute("service.name", value));
    assert_eq!(name(&field(1, b"")), None);
    assert_eq!(name(&[0x18, 5]), None);
    assert_eq!(name(&[]), None);
    assert_eq!(name(&[field(1, b"a"), vec![0x18, 5]].concat()), None);
    assert_eq!(name(&[vec![0x18, 5], field(1, b"\xff")].concat()), Some(vec![0xff]));
    assert_eq!(with(attribute("service.names", &field(1, b"a"))), None);
    let twice = [attribute("service.name", &field(1, b"a")), attribute("service.name", &[0x18, 5])].concat();
    assert_eq!(with(twice), None);
}

#[test]
fn unknown_fields_survive_splicing() {
    let unknown = |number: u8| field(number, b"unknown");
    let span = field(2, &[ids(), vec![0xa0, 0x06, 1], field(15, &unknown(9))].concat());
    let scope_spans = [unknown(8), span.clone(), unknown(7), field(1, &unknown(12)), span].concat();
    let resource_spans = [unknown(4), field(2, &scope_spans), field(1, &unknown(10))].concat();
    let request = field(1, &resource_spans);
    let walked = walked(&request);
    let context = context(&walked, 0, &request);
    let stored = walked.spans.iter().map(|span| StoredSpan { context: &context, span: span.bytes(&request) });
    let spliced = splice_traces(stored);
    // Context first, then the spans: same fields, same bytes in all, another order.
    assert_eq!(spliced.len(), request.len());
    let again = self::walked(&spliced);
    assert_eq!(again.spans.len(), 2);
    assert_eq!(again.groups.len(), 1);
    assert_eq!(self::context(&again, 0, &spliced), context);
    assert!(again.spans.iter().all(|span| span.content == walked.spans[0].content));
}

#[test]
fn neighbours_of_one_context_share_it() {
    let (a, b) = ([&[13][..], &field(3, b"schema url ")].concat(), vec![0]);
    let span = ids();
    let stored = [&a, &a, &b, &a].map(|context| StoredSpan { context, span: &span });
    let spliced = splice_traces(stored);
    let walked = walked(&spliced);
    assert_eq!(walked.spans.iter().map(|span| span.group).collect::<Vec<_>>(), [0, 0, 1, 2]);
    assert_eq!(context(&walked, 0, &spliced), a);
    assert_eq!(context(&walked, 1, &spliced), b);
    assert!(splice_traces([]).is_empty());
}

#[test]
fn nesting_is_bounded_in_every_place() {
    let array = |depth: usize| (1..depth).fold(vec![0x10, 1], |inner, _| field(5, &field(1, &inner)));
    let list =
        |depth: usize| (1..depth).fold(vec![0x10, 1], |inner, _| field(6, &field(1, &field(2, &inner))));
    for value in [array, list] {
        let pair = |depth| field(2, &value(depth));
        let places: [&dyn Fn(Vec<u8>) -> Vec<u8>; 5] = [
            &|pair| request(&field(9, &pair)),
            &|pair| request(&field(11, &field(3, &pair))),
            &|pair| request(&field(13, &field(4, &pair))),
            &|pair| field(1, &field(1, &field(1, &pair))),
            &|pair| field(1, &field(2, &field(1, &field(3, &pair)))),
        ];
        for place in places {
            walked(&place(pair(32)));
            assert_eq!(fault(&place(pair(33))).fault, WireFault::TooDeep { limit: 32 });
            assert_eq!(fault(&place(pair(5000))).fault, WireFault::TooDeep { limit: 32 });
        }
    }
    // A limit of the caller's cannot be deeper, but flatter.
    let mut out = Walked::new();
    let limits = |depth| WireLimits { depth, ..WireLimits::default() };
    let nested = request(&field(9, &field(2, &array(33))));
    assert!(walk(&nested, &limits(u32::MAX), &mut out).is_err());
    let nested = request(&field(9, &field(2, &array(2))));
    assert!(walk(&nested, &limits(1), &mut out).is_err());
    assert!(walk(&nested, &limits(2), &mut out).is_ok());
}

#[test]
fn spans_are_counted_against_the_limit() {
    let request = field(1, &field(2, &field(2, &ids()).repeat(3)));
    let mut out = Walked::new();
    assert!(walk(&request, &WireLimits { spans: 3, ..WireLimits::default() }, &mut out).is_ok());
    let error = walk(&request, &WireLimits { spans: 2, ..WireLimits::default() }, &mut out).unwrap_err();
    assert_eq!(error.fault, WireFault::TooManySpans { limit: 2 });
}

#[test]
fn scopes_without_spans_are_limited_as_spans_are() {
    // An empty ScopeSpans and an empty schema_url: a run of context fields for each four bytes.
    let request = field(1, &[0x12, 0, 0x1a, 0].repeat(1_000));
    let limits = WireLimits { spans: 1_000, ..WireLimits::default() };
    let mut out = Walked::new();
    walk(&request, &limits, &mut out).unwrap();
    assert!(out.memory() >= 1_000 * 8, "{}", out.memory());
    let error = walk(&request, &WireLimits { spans: 999, ..limits }, &mut out).unwrap_err();
    assert_eq!(error.fault, WireFault::TooManyScopes { limit: 999 });
    assert!(walk(&request, &WireLimits::STORED, &mut out).is_ok());
}

#[test]
fn spans_over_a_limit_of_their_own_are_rejected_alone() {
    let pair = field(9, &[field(1, b"key"), field(2, &field(1, b"value"))].concat());
    let long = field(5, &[b'x'; 200]);
    let span = |body: &[u8]| field(2, &[&ids(), body].concat());
    let spans = [span(&pair.repeat(3)), span(&pair.repeat(4)), span(&long), span(&[])].concat();
    let request = field(1, &field(2, &spans));
    let limits = WireLimits { span_attributes: 3, span_bytes: 150, ..WireLimits::default() };
    let mut out = Walked::new();
    walk(&request, &limits, &mut out).unwrap();
    assert_eq!((out.spans.len(), out.rejected_spans, out.over_attributes, out.over_bytes), (2, 2, 1, 1));
    let faults: Vec<SpanFault> = out.rejected.iter().map(|rejected| rejected.fault).collect();
    let length = (ids().len() + long.len()) as u32;
    assert_eq!(faults[0], SpanFault::TooManyAttributes { count: 4, limit: 3 });
    assert_eq!(faults[1], SpanFault::TooLong { length, limit: 150 });
    // What was stored under other limits is read all the same.
    walk(&request, &WireLimits::STORED, &mut out).unwrap();
    assert_eq!((out.spans.len(), out.rejected_spans), (4, 0));
}

#[test]
fn spans_of_a_context_over_the_limit_are_rejected() {
    let scope = |length: usize| field(1, &field(1, &vec![b's'; length]));
    let spans =
        |length: usize, spans: usize| field(2, &[scope(length), field(2, &ids()).repeat(spans)].concat());
    let resource = |length: usize| field(1, &field(9, &vec![b'r'; length]));
    let request = [
        field(1, &[spans(10, 1), spans(60, 2), spans(11, 1), resource(40)].concat()),
        field(1, &[spans(60, 3), resource(10)].concat()),
        field(1, &[resource(90), spans(10, 4)].concat()),
    ]
    .concat();
    let limits = WireLimits { context_bytes: 90, ..WireLimits::default() };
    let mut out = Walked::new();
    walk(&request, &limits, &mut out).unwrap();
    let groups: Vec<u32> = out.spans.iter().map(|span| span.group).collect();
    assert_eq!((groups.as_slice(), out.groups.len()), (&[0, 1, 2, 2, 2][..], 3));
    assert_eq!((out.rejected_spans, out.over_context), (6, 6));
    let length = |group| {
        let mut context = Vec::new();
        out.context(group, &request, &mut context);
        context.len() as u64
    };
    assert_eq!(out.contexts_bytes + 3, (0..3).map(length).sum(), "a byte each says how long the resource is");
    assert_eq!(out.rejected[0].fault, SpanFault::ContextTooLong { length: 108, limit: 90 });
    let mut context = Vec::new();
    out.context(1, &request, &mut context);
    assert_eq!(context, [&[44][..], &resource(40), &scope(11)].concat());
}

/// Each of the scopes has all runs of the resource; to look at them for each would take minutes.
#[test]
fn a_resource_in_many_parts_is_counted_once() {
    let part = [field(3, &[]), field(2, &field(2, &ids()))].concat();
    let request = field(1, &part.repeat(300_000));
    let mut out = Walked::new();
    walk(&request, &WireLimits::default(), &mut out).unwrap();
    assert_eq!((out.spans.len(), out.groups.len(), out.over_context), (0, 0, 300_000));
}

/// A scope with a span takes some forty bytes of a request, and could claim all of a long resource again.
#[test]
fn a_resource_counts_once_for_each_of_its_scopes() {
    let scopes = |scopes: usize| field(2, &field(2, &ids())).repeat(scopes);
    let request = |n: usize| field(1, &[field(1, &field(9, &[b'r'; 996])), scopes(n)].concat());
    let limits = WireLimits { contexts_bytes: 10_020, ..WireLimits::default() };
    let mut out = Walked::new();
    walk(&request(10), &limits, &mut out).unwrap();
    let error = walk(&request(11), &limits, &mut out).unwrap_err();
    assert_eq!(error.fault, WireFault::TooMuchContext { limit: 10_020 });
    assert!(out.spans.is_empty() && out.groups.is_empty());
    // Without spans it is not there at all.
    let empty = field(1, &[field(1, &field(9, &[b'r'; 996])), field(2, &[]).repeat(50)].concat());
    walk(&empty, &limits, &mut out).unwrap();
}

#[test]
fn faults_are_found_in_every_corner() {
    // A field number 0 inside: attribute, its value, an array, event, link, status, resource,
    // entity, scope.
    let bad = &[0x00, 0x00];
    let corners = [
        request(&field(9, bad)),
        request(&field(9, &field(2, bad))),
        request(&field(9, &field(2, &field(5, bad)))),
        request(&field(11, bad)),
        request(&field(13, bad)),
        request(&field(15, bad)),
        field(1, &field(1, bad)),
        field(1, &field(1, &field(3, bad))),
        field(1, &field(2, &field(1, bad))),
    ];
    for corner in corners {
        let error = fault(&corner);
        assert_eq!(error, WireError { offset: corner.len() as u64 - 2, fault: WireFault::FieldZero });
    }
    assert_eq!(
        fault(&[0x0a, 1]).to_string(),
        "malformed OTLP at byte 1: a length of 1 bytes reaches past the end of its message, 0 bytes away"
    );
}

#[test]
fn a_stored_span_with_bad_ids_is_an_error() {
    let error = read_span(&field(1, &[7; 16])).unwrap_err();
    assert_eq!(error.fault, WireFault::Span(SpanFault::SpanIdLength(0)));
    assert_eq!(read_span(&ids()).unwrap().name, b"");
}

#[test]
fn a_broken_context_counts_as_empty() {
    for broken in [&[][..], &[5, 1], &[0xff; 12]] {
        assert_eq!(service_name(broken), None);
        let span = ids();
        let spliced = splice_traces([StoredSpan { context: broken, span: &span }]);
        assert_eq!(walked(&spliced).spans.len(), 1);
    }
}
