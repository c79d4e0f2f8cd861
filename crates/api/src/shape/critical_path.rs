//! A critical path, and the sums over it.

use std::collections::BTreeMap;

use query::{CriticalPathAnswer, OperationName, RootPath, TracePage};
use serde::Serialize;
use trace_analyze::{Extent, Overrun, PathOptions, PathSegment, UNLIMITED_SLACK};
use trace_model::{SpanId, TraceId};

use super::{Completeness, Edge, Text};

/// `GET /traces/{trace_id}/critical-path`.
#[derive(Debug, Serialize)]
pub(crate) struct CriticalPath<'a> {
    trace_id: Text<TraceId>,
    state: &'static str,
    extent: &'static str,
    overrun: &'static str,
    root: Root<'a>,
    start_unix_nano: Text<u64>,
    end_unix_nano: Text<u64>,
    duration_nanos: u64,
    segments: Vec<Segment<'a>>,
    spans: Vec<SpanTimes>,
    by_service: Vec<Share<'a>>,
    flags: Vec<&'static str>,
    other_roots: Vec<OtherRoot<'a>>,
    truncated: bool,
    #[serde(flatten)]
    completeness: Completeness<'a>,
}

#[derive(Debug, Serialize)]
struct Root<'a> {
    span_id: Text<SpanId>,
    service: &'a str,
    operation: &'a str,
}

#[derive(Debug, Serialize)]
struct Segment<'a> {
    span_id: Text<SpanId>,
    service: &'a str,
    operation: &'a str,
    edge: Option<Edge<'a>>,
    start_unix_nano: Text<u64>,
    end_unix_nano: Text<u64>,
}

#[derive(Debug, Serialize)]
struct SpanTimes {
    span_id: Text<SpanId>,
    exclusive_nanos: u64,
    inclusive_nanos: u64,
    self_nanos: u64,
    /// Null where the path would not change however long the span took.
    slack_nanos: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Share<'a> {
    service: &'a str,
    edge: Option<Edge<'a>>,
    exclusive_nanos: u64,
    share: f64,
}

#[derive(Debug, Serialize)]
struct OtherRoot<'a> {
    root: Root<'a>,
    start_unix_nano: Text<u64>,
    end_unix_nano: Text<u64>,
    duration_nanos: u64,
    segments: Vec<Segment<'a>>,
    flags: Vec<&'static str>,
}

impl<'a> CriticalPath<'a> {
    /// At most `max_segments` are written, those of the primary root first.
    pub(crate) fn new(answer: &'a CriticalPathAnswer, options: &PathOptions, max_segments: usize) -> Self {
        let reader = Reader { answer };
        let mut budget = max_segments;
        let path = &answer.primary.path;
        let segments = reader.segments(&path.segments, &mut budget);
        let other_roots: Vec<_> =
            answer.other_roots.iter().map(|root| reader.other_root(root, &mut budget)).collect();
        let mut paths = answer.other_roots.iter().map(|path| &path.segments).chain([&path.segments]);
        let all = paths.by_ref().map(Vec::len).fold(0, usize::saturating_add);
        Self {
            trace_id: Text(answer.trace_id),
            state: answer.state.as_str(),
            extent: extent_word(options.extent),
            overrun: overrun_word(options.overrun),
            root: reader.root(path.root),
            start_unix_nano: Text(path.start.0),
            end_unix_nano: Text(path.end.0),
            duration_nanos: path.end.since(path.start).0,
            segments,
            spans: reader.spans(),
            by_service: reader.by_service(),
            flags: path.flags.names(),
            other_roots,
            truncated: all > max_segments,
            completeness: Completeness::of(&answer.incomplete),
        }
    }
}

fn extent_word(extent: Extent) -> &'static str {
    match extent {
        Extent::Response => "response",
        Extent::Trace => "trace",
    }
}

fn overrun_word(overrun: Overrun) -> &'static str {
    match overrun {
        Overrun::Clip => "clip",
        Overrun::Auto => "auto",
        Overrun::Exclude => "exclude",
    }
}

/// Finds names and ids by index.
#[derive(Clone, Copy)]
struct Reader<'a> {
    answer: &'a CriticalPathAnswer,
}

impl<'a> Reader<'a> {
    fn span_id(self, span: u32) -> Text<SpanId> {
        Text(self.answer.trace.spans()[span as usize].span_id)
    }

    fn name(self, span: u32) -> &'a OperationName {
        &self.answer.names[span as usize]
    }

    fn edge(self, segment: &PathSegment) -> Option<Edge<'a>> {
        let (client, server) = segment.edge?;
        Some(Edge { client: &self.name(client).service, server: &self.name(server).service })
    }

    fn root(self, span: u32) -> Root<'a> {
        let name = self.name(span);
        Root { span_id: self.span_id(span), service: &name.service, operation: &name.operation }
    }

    fn segments(self, segments: &[PathSegment], budget: &mut usize) -> Vec<Segment<'a>> {
        let written: Vec<_> = segments.iter().take(*budget).map(|segment| self.segment(segment)).collect();
        *budget -= written.len();
        written
    }

    fn segment(self, segment: &PathSegment) -> Segment<'a> {
        let name = self.name(segment.span);
        Segment {
            span_id: self.span_id(segment.span),
            service: &name.service,
            operation: &name.operation,
            edge: self.edge(segment),
            start_unix_nano: Text(segment.start.0),
            end_unix_nano: Text(segment.end.0),
        }
    }

    fn other_root(self, path: &trace_analyze::CriticalPath, budget: &mut usize) -> OtherRoot<'a> {
        OtherRoot {
            root: self.root(path.root),
            start_unix_nano: Text(path.start.0),
            end_unix_nano: Text(path.end.0),
            duration_nanos: path.end.since(path.start).0,
            segments: self.segments(&path.segments, budget),
            flags: path.flags.names(),
        }
    }

    /// The times of every span of the trace on the path of the primary root; of a large one, of the first spans.
    fn spans(self) -> Vec<SpanTimes> {
        let RootPath { exclusive, inclusive, slack, .. } = &self.answer.primary;
        let times = exclusive.iter().zip(inclusive).zip(slack).zip(&self.answer.self_times);
        let spans = self.answer.trace.spans().iter().zip(times);
        spans
            .take(TracePage::LIMIT_MAX)
            .map(|(span, (((exclusive, inclusive), slack), own))| SpanTimes {
                span_id: Text(span.span_id),
                exclusive_nanos: exclusive.0,
                inclusive_nanos: inclusive.0,
                self_nanos: own.0,
                slack_nanos: (*slack != UNLIMITED_SLACK).then_some(slack.0),
            })
            .collect()
    }

    /// Path time by service, the way between two services apart; greatest first, then by name.
    fn by_service(self) -> Vec<Share<'a>> {
        let mut sums: BTreeMap<(&str, Option<Edge<'_>>), u64> = BTreeMap::new();
        for segment in &self.answer.primary.path.segments {
            let edge = self.edge(segment);
            let service = edge.map_or_else(|| self.name(segment.span).service.as_ref(), |edge| edge.client);
            *sums.entry((service, edge)).or_default() += segment.end.since(segment.start).0;
        }
        let total: u64 = sums.values().sum();
        let share = |nanos: u64| nanos as f64 / total as f64;
        let mut shares: Vec<_> = sums
            .into_iter()
            .map(|((service, edge), nanos)| Share {
                service,
                edge,
                exclusive_nanos: nanos,
                share: share(nanos),
            })
            .collect();
        shares.sort_by_key(|share| std::cmp::Reverse(share.exclusive_nanos));
        shares
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json, to_value};

    use super::*;
    use crate::fake;

    fn written(max_segments: usize) -> Value {
        let answer = fake::critical_path();
        to_value(CriticalPath::new(&answer, &PathOptions::default(), max_segments)).unwrap()
    }

    #[test]
    fn a_path_has_this_shape() {
        let segment = |span: &str, service: &str, operation: &str, edge: Value, start: &str, end: &str| {
            json!({"span_id": span, "service": service, "operation": operation, "edge": edge,
                "start_unix_nano": start, "end_unix_nano": end})
        };
        let edge = json!({"client": "frontend", "server": "checkout"});
        let times = |span: &str, exclusive, inclusive, own, slack: Value| {
            json!({"span_id": span, "exclusive_nanos": exclusive, "inclusive_nanos": inclusive, "self_nanos": own,
                "slack_nanos": slack})
        };
        let wanted = json!({
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "state": "final", "extent": "response", "overrun": "clip",
            "root": {"span_id": "0000000000000001", "service": "frontend", "operation": "GET /checkout"},
            "start_unix_nano": "1000", "end_unix_nano": "1100", "duration_nanos": 100,
            "segments": [
                segment("0000000000000001", "frontend", "GET /checkout", edge.clone(), "1000", "1010"),
                segment("0000000000000002", "checkout", "PlaceOrder", json!(null), "1010", "1070"),
                segment("0000000000000001", "frontend", "GET /checkout", json!(null), "1070", "1100"),
            ],
            "spans": [times("0000000000000001", 30, 100, 40, json!(0)), times("0000000000000002", 60, 60, 60, json!(null))],
            "by_service": [
                {"service": "checkout", "edge": null, "exclusive_nanos": 60, "share": 0.6},
                {"service": "frontend", "edge": null, "exclusive_nanos": 30, "share": 0.3},
                {"service": "frontend", "edge": edge, "exclusive_nanos": 10, "share": 0.1},
            ],
            "flags": [], "other_roots": [], "truncated": false, "complete": true
        });
        assert_eq!(written(1_000), wanted);
    }

    #[test]
    fn a_cut_path_keeps_exact_sums() {
        let (whole, cut) = (written(3), written(1));
        assert_eq!((whole["truncated"].as_bool(), cut["truncated"].as_bool()), (Some(false), Some(true)));
        assert_eq!(cut["segments"].as_array().unwrap().len(), 1);
        assert_eq!((&cut["by_service"], &cut["spans"]), (&whole["by_service"], &whole["spans"]));
    }
}
