//! The rows of a batch by trace, so that each trace is looked up once a batch and not once a span.

use std::hash::BuildHasher;

use hashbrown::{DefaultHashBuilder, HashTable};
use trace_model::TraceId;

/// No row. A batch has fewer than this.
const NONE: u32 = u32::MAX;

/// Rows of a batch whose memory is kept for the next one.
const ROWS_KEPT: usize = 100_000;

/// The rows of one trace, linked through [`ByTrace::next`].
#[derive(Debug, Clone, Copy)]
struct Chain {
    id: TraceId,
    first: u32,
    last: u32,
    rows: u32,
}

/// The rows of a batch by trace. Keeps its memory from one batch to the next.
#[derive(Debug, Default)]
pub struct ByTrace {
    /// In the order of their first rows.
    chains: Vec<Chain>,
    /// For each row the next one of the same trace.
    next: Vec<u32>,
    /// Places in `chains`, by trace id.
    places: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

/// Rows of one trace, rising.
#[derive(Debug, Clone)]
pub struct Rows<'a> {
    next: &'a [u32],
    at: u32,
    left: u32,
}

impl ByTrace {
    /// Arranges a batch, given the trace of each row.
    pub fn arrange(&mut self, ids: impl IntoIterator<Item = TraceId>) {
        // One giant batch must not keep its memory for ever.
        if self.next.capacity() > ROWS_KEPT {
            *self = Self::default();
        }
        self.chains.clear();
        self.next.clear();
        self.places.clear();
        let mut place = 0;
        for (row, id) in (0_u32..).zip(ids) {
            self.next.push(NONE);
            // Spans of a trace often come together.
            if self.chains.get(place).is_none_or(|chain| chain.id != id) {
                place = self.place_of(id, row);
            }
            let Some(chain) = self.chains.get_mut(place).filter(|chain| chain.first != row) else { continue };
            self.next[chain.last as usize] = row;
            chain.last = row;
            chain.rows += 1;
        }
    }

    /// The place of a trace's chain, which begins with this row if it is new.
    fn place_of(&mut self, id: TraceId, row: u32) -> usize {
        let Self { chains, places, hasher, .. } = self;
        let number = |id: &TraceId| u128::from_ne_bytes(*id.as_bytes());
        let hash = hasher.hash_one(number(&id));
        if let Some(place) = places.find(hash, |place| chains[*place as usize].id == id) {
            return *place as usize;
        }
        let place = chains.len();
        chains.push(Chain { id, first: row, last: row, rows: 1 });
        places
            .insert_unique(hash, place as u32, |place| hasher.hash_one(number(&chains[*place as usize].id)));
        place
    }

    /// Each trace with its rows, in the order of their first rows.
    pub fn traces(&self) -> impl Iterator<Item = (TraceId, Rows<'_>)> {
        let rows = |chain: &Chain| Rows { next: &self.next, at: chain.first, left: chain.rows };
        self.chains.iter().map(move |chain| (chain.id, rows(chain)))
    }
}

impl Iterator for Rows<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        let row = self.at;
        self.at = *self.next.get(row as usize)?;
        self.left = self.left.saturating_sub(1);
        Some(row)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left as usize, Some(self.left as usize))
    }
}

impl ExactSizeIterator for Rows<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    fn arranged(by_trace: &mut ByTrace, ids: &[u8]) -> Vec<(u8, Vec<u32>)> {
        by_trace.arrange(ids.iter().map(|n| TraceId::new([*n; 16]).unwrap()));
        let trace = |(id, rows): (TraceId, Rows<'_>)| {
            assert_eq!(rows.len(), rows.clone().count());
            (id.as_bytes()[0], rows.collect())
        };
        by_trace.traces().map(trace).collect()
    }

    #[test]
    fn every_row_is_there_once_by_trace_and_in_order() {
        let mut by_trace = ByTrace::default();
        assert_eq!(arranged(&mut by_trace, &[]), []);
        let rows = arranged(&mut by_trace, &[7, 7, 3, 7, 3, 9]);
        assert_eq!(rows, [(7, vec![0, 1, 3]), (3, vec![2, 4]), (9, vec![5])]);
        // Nothing of the batch before is left.
        assert_eq!(arranged(&mut by_trace, &[3, 9]), [(3, vec![0]), (9, vec![1])]);
    }
}
