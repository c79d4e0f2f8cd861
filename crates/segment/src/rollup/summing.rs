//! Sums up the critical paths of traces one by one.

use hashbrown::HashMap;
use trace_analyze::{Flags, PathShare};

use crate::rollup::paths::{ItemKey, ItemSums, PathGrouping, PathSums};
use crate::traces::TraceRow;

/// Sums that traces are added to.
#[derive(Debug)]
pub struct PathSumming {
    by: PathGrouping,
    /// Without items.
    sums: PathSums,
    /// Where the part of an item is, and its sums.
    places: HashMap<ItemKey, u32>,
    items: Vec<(ItemKey, ItemSums)>,
    /// The items' parts of the trace that is being added; all of nothing between two traces.
    parts: Vec<Part>,
    /// Places of the parts that are of something.
    touched: Vec<u32>,
}

/// What a trace has of an item.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    is_touched: bool,
    exclusive: u64,
    spans: u64,
    errors: u64,
}

impl PathSumming {
    /// Sums of nothing, with the items that `by` tells apart.
    pub fn new(by: PathGrouping) -> Self {
        Self {
            by,
            sums: PathSums::default(),
            places: HashMap::new(),
            items: Vec::new(),
            parts: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Adds a trace with the shares of its critical path.
    pub fn add(&mut self, row: &TraceRow, shares: &[PathShare]) {
        let sums = &mut self.sums;
        if row.root.is_none() || row.flags.contains(Flags::TOO_LARGE) {
            sums.excluded = sums.excluded.saturating_add(1);
            return;
        }
        sums.traces = sums.traces.saturating_add(1);
        let is_flagged = row.flags != Flags::default() || row.missing_parents > 0;
        sums.flagged = sums.flagged.saturating_add(u64::from(is_flagged));
        sums.latency.record(row.root_duration, row.errors > 0);
        for share in shares {
            self.add_share(share);
        }
        while let Some(place) = self.touched.pop() {
            let Part { exclusive, spans, errors, .. } = std::mem::take(&mut self.parts[place as usize]);
            self.items[place as usize].1.add(row, exclusive, spans, errors);
        }
    }

    fn add_share(&mut self, share: &PathShare) {
        let service = share.edge.map_or(share.service, |(client, _)| client);
        for operation in [None, Some(share.operation)] {
            let key = ItemKey { service, operation, edge: share.edge };
            if !self.by.takes(&key) {
                continue;
            }
            let place = self.place(key);
            let part = &mut self.parts[place as usize];
            part.exclusive = part.exclusive.saturating_add(share.exclusive.0);
            part.spans = part.spans.saturating_add(u64::from(share.spans));
            part.errors = part.errors.saturating_add(u64::from(share.errors));
            if !part.is_touched {
                part.is_touched = true;
                self.touched.push(place);
            }
        }
    }

    fn place(&mut self, key: ItemKey) -> u32 {
        *self.places.entry(key).or_insert_with(|| {
            self.items.push((key, ItemSums::default()));
            self.parts.push(Part::default());
            self.items.len() as u32 - 1
        })
    }

    /// The sums of all that were added.
    pub fn finish(self) -> PathSums {
        PathSums { items: self.items.into_iter().collect(), ..self.sums }
    }
}
