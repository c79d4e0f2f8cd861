//! The traffic: thirty services on one to four pods each, and the traces that run through them.
//!
//! Everything follows from one seed. A trace is a tree of 5 to 59 spans in which a client span calls a server
//! span of another service, a producer hands over to a consumer, and a leaf client is a database call.

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

/// Names of the services; the index is the service's number everywhere.
pub const SERVICES: [&str; 30] = [
    "frontend",
    "mobile-bff",
    "checkout",
    "cart",
    "catalog",
    "search",
    "pricing",
    "inventory",
    "payment",
    "fraud",
    "shipping",
    "tax",
    "currency",
    "recommendation",
    "reviews",
    "accounts",
    "auth",
    "sessions",
    "notification",
    "email",
    "sms",
    "loyalty",
    "coupons",
    "media",
    "ads",
    "orders",
    "invoices",
    "warehouse",
    "returns",
    "audit",
];

const VERBS: [&str; 6] = ["Get", "List", "Create", "Update", "Check", "Resolve"];
const NOUNS: [&str; 8] = ["Item", "Profile", "Quote", "Batch", "Token", "Basket", "Rate", "Slot"];

/// The kinds of span, with OTLP's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
    Producer = 4,
    Consumer = 5,
}

/// One span of the model. Times are relative to the start of the pool.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub struct ModelSpan {
    pub trace_id: [u8; 16],
    pub span_id: [u8; 8],
    pub parent_id: Option<[u8; 8]>,
    pub service: usize,
    pub pod: usize,
    pub operation: String,
    pub kind: Kind,
    pub start_nanos: u64,
    pub end_nanos: u64,
    pub error: bool,
    pub event: bool,
    /// Chooses the attribute values.
    pub draw: u64,
    /// A client span that calls nobody here: a database.
    pub leaf: bool,
}

/// Makes traces until there are `spans` spans, started evenly over `window_nanos`, in order of their end.
pub fn generate(seed: u64, spans: usize, window_nanos: u64) -> Vec<ModelSpan> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut all = Vec::with_capacity(spans + 64);
    while all.len() < spans {
        let start = rng.random_range(0..window_nanos);
        trace(&mut rng, start, &mut all);
    }
    all.sort_by_key(|s| (s.end_nanos, s.span_id));
    all
}

/// Pods of a service: one to four, by its number.
pub fn pods(service: usize) -> usize {
    1 + (service * 7) % 4
}

struct Node {
    parent: Option<usize>,
    depth: usize,
    kind: Kind,
    service: usize,
    children: Vec<usize>,
    own_nanos: u64,
    parallel: bool,
    duration: u64,
}

fn trace(rng: &mut StdRng, start: u64, out: &mut Vec<ModelSpan>) {
    let mut nodes = shape(rng);
    // Parents come before their children, so the durations add up from the back.
    for at in (0..nodes.len()).rev() {
        let children: Vec<u64> = nodes[at].children.iter().map(|c| nodes[*c].duration).collect();
        let below =
            if nodes[at].parallel { children.iter().copied().max() } else { Some(children.iter().sum()) };
        nodes[at].duration = nodes[at].own_nanos + below.unwrap_or(0);
    }
    let starts = place(&nodes, start);
    let trace_id: [u8; 16] = rng.random();
    let ids: Vec<[u8; 8]> = nodes.iter().map(|_| rng.random()).collect();
    let pods_of: Vec<usize> = (0..SERVICES.len()).map(|s| rng.random_range(0..pods(s))).collect();
    let failing = rng.random_bool(0.06).then(|| rng.random_range(0..nodes.len()));
    for (at, node) in nodes.iter().enumerate() {
        let draw: u64 = rng.random();
        out.push(ModelSpan {
            trace_id,
            span_id: ids[at],
            parent_id: node.parent.map(|p| ids[p]),
            service: node.service,
            pod: pods_of[node.service],
            operation: operation(node.kind, node.service, draw),
            kind: node.kind,
            start_nanos: starts[at],
            end_nanos: starts[at] + node.duration,
            error: failing.is_some_and(|f| f == at || nodes[f].parent == Some(at)),
            event: failing == Some(at) || rng.random_bool(0.004),
            draw,
            leaf: node.children.is_empty(),
        });
    }
}

fn shape(rng: &mut StdRng) -> Vec<Node> {
    let wanted = 5 + ((-f64::ln(1.0 - rng.random::<f64>()) * 15.3) as usize).min(54);
    let mut nodes = vec![node(rng, None, 0, Kind::Server, rng_entry(wanted))];
    while nodes.len() < wanted {
        // Recent spans are likelier parents, so that trees grow deep as well as wide.
        let back = rng.random_range(0..nodes.len().min(8));
        let mut parent = nodes.len() - 1 - back;
        let full = |n: &Node| {
            n.depth > 9 || (matches!(n.kind, Kind::Client | Kind::Producer) && !n.children.is_empty())
        };
        while parent > 0 && full(&nodes[parent]) {
            parent -= 1;
        }
        let (kind, service) = below(rng, &nodes[parent]);
        let made = node(rng, Some(parent), nodes[parent].depth + 1, kind, service);
        let at = nodes.len();
        nodes[parent].children.push(at);
        nodes.push(made);
    }
    nodes
}

fn rng_entry(wanted: usize) -> usize {
    wanted % 2
}

fn below(rng: &mut StdRng, parent: &Node) -> (Kind, usize) {
    let other = |rng: &mut StdRng| (parent.service + rng.random_range(1..SERVICES.len())) % SERVICES.len();
    match parent.kind {
        Kind::Client => (Kind::Server, other(rng)),
        Kind::Producer => (Kind::Consumer, other(rng)),
        _ => match rng.random_range(0..100) {
            0..66 => (Kind::Client, parent.service),
            66..95 => (Kind::Internal, parent.service),
            _ => (Kind::Producer, parent.service),
        },
    }
}

fn node(rng: &mut StdRng, parent: Option<usize>, depth: usize, kind: Kind, service: usize) -> Node {
    // Log-normal own time (Box-Muller), median 1.4 ms.
    let (u, v) = (rng.random::<f64>().max(1e-12), rng.random::<f64>());
    let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
    let own_nanos = (1.4e6 * (1.05 * normal).exp()).clamp(2_000.0, 7e8) as u64;
    let parallel = rng.random_bool(0.35);
    Node { parent, depth, kind, service, children: Vec::new(), own_nanos, parallel, duration: 0 }
}

fn place(nodes: &[Node], start: u64) -> Vec<u64> {
    let mut starts = vec![start; nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        let mut next = starts[at] + node.own_nanos / 2;
        for child in &node.children {
            starts[*child] = next;
            if !node.parallel {
                next += nodes[*child].duration;
            }
        }
    }
    starts
}

fn operation(kind: Kind, service: usize, draw: u64) -> String {
    let verb = VERBS[(draw % 3) as usize + service % 3];
    let noun = NOUNS[(draw / 3 % 2) as usize + service % 6];
    match kind {
        Kind::Server if draw.is_multiple_of(3) => format!("GET /api/v1/{}/{{id}}", noun.to_lowercase()),
        Kind::Server | Kind::Client => format!("{}.v1.{noun}Service/{verb}{noun}", SERVICES[service]),
        Kind::Producer | Kind::Consumer => format!("{}.events {}", SERVICES[service], "process"),
        Kind::Internal => format!("{verb}{noun}"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn traffic_is_seeded_and_of_the_stated_size() {
        let spans = generate(1, 40_000, 1_000_000_000);
        assert_eq!(spans.len(), generate(1, 40_000, 1_000_000_000).len());
        let mut traces: HashMap<[u8; 16], usize> = HashMap::new();
        for span in &spans {
            *traces.entry(span.trace_id).or_default() += 1;
        }
        let mean = spans.len() as f64 / traces.len() as f64;
        assert!((17.0..21.5).contains(&mean), "{mean} spans a trace");
        assert!(traces.values().all(|n| (5..=59).contains(n)));
    }

    #[test]
    fn children_lie_inside_their_parents() {
        let spans = generate(2, 5_000, 1_000_000_000);
        let by_id: HashMap<_, _> = spans.iter().map(|s| (s.span_id, s)).collect();
        for span in &spans {
            assert!(span.end_nanos > span.start_nanos);
            if let Some(parent) = span.parent_id.map(|p| by_id[&p]) {
                assert!(span.start_nanos >= parent.start_nanos && span.end_nanos <= parent.end_nanos);
            }
        }
    }
}
