//! The path and the slack by their definitions: slow, recursive, and written without looking at the fast
//! ones.

use trace_analyze::{Overrun, UNLIMITED_SLACK};
use trace_model::{NanoDuration, SpanKind, Trace};

/// Who owns the time of a span within `[lo, hi)`, latest first: `(span, from, to)`.
pub(crate) fn path(trace: &Trace, span: usize, lo: u64, hi: u64, overrun: Overrun) -> Vec<(u32, u64, u64)> {
    let mut out = Vec::new();
    let mut t = hi;
    let mut left: Vec<usize> = trace.children(span).iter().map(|c| *c as usize).collect();
    loop {
        let clipped = |c: usize| (trace.spans()[c].start.0.max(lo), trace.spans()[c].end.0.min(hi));
        let best = left
            .iter()
            .copied()
            .filter(|c| waited_for(trace, span, *c, overrun))
            .filter(|c| clipped(*c).0 < clipped(*c).1 && clipped(*c).1 <= t)
            .max_by_key(|c| {
                (clipped(*c).1, std::cmp::Reverse((clipped(*c).0, trace.spans()[*c].span_id, *c)))
            });
        let Some(best) = best else { break };
        let (from, to) = clipped(best);
        if to < t {
            out.push((span as u32, to, t));
        }
        out.extend(path(trace, best, from, to, overrun));
        t = from;
        left.retain(|c| *c != best);
    }
    if lo < t {
        out.push((span as u32, lo, t));
    }
    out
}

fn waited_for(trace: &Trace, parent: usize, child: usize, overrun: Overrun) -> bool {
    let (p, c) = (&trace.spans()[parent], &trace.spans()[child]);
    if p.kind == SpanKind::Producer && c.kind == SpanKind::Consumer {
        return false;
    }
    let over = c.end.0.saturating_sub(p.end.0);
    let length = p.end.0.saturating_sub(p.start.0);
    match overrun {
        Overrun::Clip => true,
        Overrun::Exclude => over == 0,
        Overrun::Auto => {
            over <= 1_000_000.max(length / 100) || (p.kind == SpanKind::Client && c.kind == SpanKind::Server)
        }
    }
}

/// The slack of every span below `root`, given the inclusive path time of each.
pub(crate) fn slack(trace: &Trace, root: usize, on_path: &[NanoDuration]) -> Vec<NanoDuration> {
    let mut slack = vec![UNLIMITED_SLACK; trace.len()];
    slack[root] = NanoDuration(0);
    let span = trace.spans()[root];
    if span.start < span.end {
        share_out(trace, root, span.start.0, span.end.0, on_path, &mut slack);
    }
    slack
}

fn share_out(
    trace: &Trace,
    parent: usize,
    lo: u64,
    hi: u64,
    on_path: &[NanoDuration],
    slack: &mut [NanoDuration],
) {
    let clip = |c: usize| (c, trace.spans()[c].start.0.max(lo), trace.spans()[c].end.0.min(hi));
    let kids = trace.children(parent).iter().map(|c| clip(*c as usize));
    let kids = kids.filter(|(c, from, to)| from < to && waited_for(trace, parent, *c, Overrun::Clip));
    let mut kids: Vec<_> = kids.collect();
    let Some(last) = kids.iter().map(|kid| kid.2).max() else { return };
    kids.sort_by_key(|kid| std::cmp::Reverse(kid.1));
    for (c, _, to) in &kids {
        let later = kids.iter().filter(|d| d.1 >= *to);
        let barrier = |d: &(usize, u64, u64)| {
            let before = kids.iter().filter(|e| e.2 <= d.1).map(|e| e.2).max().unwrap_or(0);
            slack[d.0].0 + before
        };
        let limit = later.map(barrier).min().unwrap_or(u64::MAX).min(last + slack[parent].0);
        slack[*c] = NanoDuration(if on_path[*c].0 > 0 { 0 } else { limit - to });
    }
    for (c, from, to) in kids {
        share_out(trace, c, from, to, on_path, slack);
    }
}
