//! Who is whose parent: ids looked up, shared ids paired, cycles cut.

use hashbrown::HashMap;

use super::{Anomaly, AnomalyKind, NO_PARENT};
use crate::{ServiceId, SpanId, SpanKind, SpanNode};

/// The index of each span's parent, without cycles; [`NO_PARENT`] for roots.
pub(super) fn parents(spans: &[SpanNode], found: &mut Vec<Anomaly>) -> Vec<u32> {
    let ids = Ids::new(spans);
    let mut parents: Vec<u32> = (0..spans.len() as u32).map(|i| ids.parent_of(i, found)).collect();
    ids.pair_shared(&mut parents, found);
    if !in_order(&parents) {
        cut_cycles(spans, &mut parents, found);
    }
    parents
}

/// Whether every parent comes before its children. Then there is no cycle.
pub(super) fn in_order(parents: &[u32]) -> bool {
    (0..).zip(parents).all(|(i, parent)| *parent < i || *parent == NO_PARENT)
}

/// The CLIENT and the SERVER of several spans with one id.
#[derive(Clone, Copy)]
struct Halves {
    client: u32,
    server: u32,
}

/// The spans by id. What several spans with one id need is looked up once, so that many spans with one
/// id and many children of it take no longer than as many others.
struct Ids<'a> {
    spans: &'a [SpanNode],
    /// The first span of each id in canonical order.
    first: HashMap<u64, u32>,
    /// Spans with the id of another one: ids with indices, sorted by id, then canonical order.
    shared: Vec<(u64, u32)>,
    halves: HashMap<SpanId, Halves>,
    /// The first span of each id and service, for ids that several spans have.
    of_service: HashMap<(SpanId, ServiceId), u32>,
}

impl<'a> Ids<'a> {
    fn new(spans: &'a [SpanNode]) -> Self {
        let mut first = HashMap::with_capacity(spans.len());
        let mut shared = Vec::new();
        for (i, span) in (0..).zip(spans) {
            let id = number(span.span_id);
            let earlier = *first.entry(id).or_insert(i);
            if earlier != i {
                shared.extend([(id, earlier), (id, i)]);
            }
        }
        shared.sort_unstable();
        shared.dedup();
        let (halves, of_service) = (HashMap::new(), HashMap::new());
        let mut ids = Self { spans, first, shared: Vec::new(), halves, of_service };
        for group in groups(&shared) {
            ids.add_group(group);
        }
        Self { shared, ..ids }
    }

    fn add_group(&mut self, group: &[(u64, u32)]) {
        let spans = self.spans;
        let first = |kind| group.iter().map(|(_, i)| *i).find(|i| spans[*i as usize].kind == kind);
        if let (Some(client), Some(server)) = (first(SpanKind::Client), first(SpanKind::Server)) {
            self.halves.insert(spans[client as usize].span_id, Halves { client, server });
        }
        for (_, i) in group {
            let span = &spans[*i as usize];
            self.of_service.entry((span.span_id, span.service)).or_insert(*i);
        }
    }

    fn span(&self, i: u32) -> &SpanNode {
        &self.spans[i as usize]
    }

    fn parent_of(&self, i: u32, found: &mut Vec<Anomaly>) -> u32 {
        let span = self.span(i);
        let Some(id) = span.parent else { return NO_PARENT };
        let kind = match self.choose(id, span) {
            // The SERVER half of a shared id may name its own id: it means the CLIENT half.
            _ if id == span.span_id && self.halves.get(&id).is_some_and(|halves| halves.server == i) => {
                return NO_PARENT;
            }
            _ if id == span.span_id => AnomalyKind::SelfParent,
            Some(parent) => return parent,
            None => AnomalyKind::MissingParent,
        };
        found.push(Anomaly { kind, span_id: span.span_id });
        NO_PARENT
    }

    /// Which of several spans with the parent's id is the parent: of a CLIENT and a SERVER, the SERVER
    /// if the child is of its service, else the CLIENT; otherwise the first of the child's service,
    /// else the first.
    fn choose(&self, id: SpanId, child: &SpanNode) -> Option<u32> {
        let first = self.first.get(&number(id)).copied();
        if self.shared.is_empty() {
            return first;
        }
        if let Some(Halves { client, server }) = self.halves.get(&id).copied() {
            return Some(if self.span(server).service == child.service { server } else { client });
        }
        self.of_service.get(&(id, child.service)).copied().or(first)
    }

    /// Makes the SERVER half of every shared id the child of its CLIENT half, and reports the ids that
    /// several spans have.
    fn pair_shared(&self, parents: &mut [u32], found: &mut Vec<Anomaly>) {
        for group in groups(&self.shared) {
            let span_id = self.span(group[0].1).span_id;
            let mut conflicts = group.len() - 1;
            if let Some(Halves { client, server }) = self.halves.get(&span_id).copied() {
                parents[server as usize] = client;
                found.push(Anomaly { kind: AnomalyKind::SharedId, span_id });
                conflicts -= 1;
            }
            let conflict = Anomaly { kind: AnomalyKind::IdConflict, span_id };
            found.extend(std::iter::repeat_n(conflict, conflicts));
        }
    }
}

/// An id as a number, in the order of ids.
fn number(id: SpanId) -> u64 {
    u64::from_be_bytes(*id.as_bytes())
}

/// The groups of spans with one id, two or more each.
fn groups(shared: &[(u64, u32)]) -> impl Iterator<Item = &[(u64, u32)]> {
    shared.chunk_by(|a, b| a.0 == b.0)
}

/// Makes the earliest span of every circle of parents a root.
fn cut_cycles(spans: &[SpanNode], parents: &mut [u32], found: &mut Vec<Anomaly>) {
    // The walk that first reached each span; 0 for none yet.
    let mut reached = vec![0u32; spans.len()];
    for from in 0..spans.len() {
        let walk = from as u32 + 1;
        let mut at = from as u32;
        while at != NO_PARENT && reached[at as usize] == 0 {
            reached[at as usize] = walk;
            at = parents[at as usize];
        }
        if at != NO_PARENT && reached[at as usize] == walk {
            let cut = earliest_of_cycle(parents, at);
            parents[cut as usize] = NO_PARENT;
            found.push(Anomaly { kind: AnomalyKind::Cycle, span_id: spans[cut as usize].span_id });
        }
    }
}

/// The first span, in canonical order, of the cycle through `at`.
fn earliest_of_cycle(parents: &[u32], at: u32) -> u32 {
    let mut earliest = at;
    let mut next = parents[at as usize];
    while next != at {
        earliest = earliest.min(next);
        next = parents[next as usize];
    }
    earliest
}

/// The children of every span as offsets and one flat list, siblings in canonical order.
pub(super) fn children(parents: &[u32]) -> (Vec<u32>, Vec<u32>) {
    // Counted two places further on, so that filling in moves every offset to where it belongs.
    let mut offsets = vec![0u32; parents.len() + 2];
    for parent in parents.iter().filter(|parent| **parent != NO_PARENT) {
        offsets[*parent as usize + 2] += 1;
    }
    let mut sum = 0;
    for offset in &mut offsets {
        sum += *offset;
        *offset = sum;
    }
    let mut children = vec![0u32; sum as usize];
    for (i, parent) in (0..).zip(parents).filter(|(_, parent)| **parent != NO_PARENT) {
        let place = &mut offsets[*parent as usize + 1];
        children[*place as usize] = i;
        *place += 1;
    }
    offsets.pop();
    (offsets, children)
}
