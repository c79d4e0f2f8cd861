//! Sums up the critical paths of traces one by one.

use hashbrown::HashMap;
use latency::bucket_of;
use trace_analyze::{Flags, PathShare};

use crate::rollup::paths::{ItemKey, ItemSums, PathGrouping, PathSums};
use crate::traces::TraceRow;

/// Sums that traces are added to. Quickest where traces whose roots took about equally long follow each other, as they
/// do in a segment.
#[derive(Debug)]
pub struct PathSumming {
    by: PathGrouping,
    /// Without items.
    sums: PathSums,
    /// By operation and edge of a share, in as few words as can be, the numbers of the items that it is a part of.
    numbers: HashMap<[u64; 2], Numbers>,
    by_key: HashMap<ItemKey, u32>,
    items: Vec<(ItemKey, ItemSums)>,
    /// The items' parts of the trace that is being added; all of nothing between two traces.
    parts: Vec<Part>,
    /// Numbers of the parts that are of something.
    touched: Vec<u32>,
    run: Run,
}

/// The items of a service and of an operation that a share belongs to, as far as they are told apart.
type Numbers = [Option<u32>; 2];

/// What a trace has of an item.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    is_touched: bool,
    exclusive: u64,
    spans: u64,
    errors: u64,
}

/// Traces in a row whose roots' durations are of one bucket: their sums by item go to it together.
#[derive(Debug, Default)]
struct Run {
    bucket: u16,
    /// By number of the item, the sum and the place of the bucket that its last one went to.
    sums: Vec<(u128, usize)>,
    /// Numbers of those that are not zero.
    touched: Vec<u32>,
}

impl Run {
    fn add(&mut self, number: u32, exclusive: u64) {
        let (sum, _) = &mut self.sums[number as usize];
        if *sum == 0 && exclusive > 0 {
            self.touched.push(number);
        }
        *sum = sum.saturating_add(u128::from(exclusive));
    }

    fn end(&mut self, items: &mut [(ItemKey, ItemSums)]) {
        while let Some(number) = self.touched.pop() {
            let (sum, near) = &mut self.sums[number as usize];
            items[number as usize].1.by_root.add_near(self.bucket, std::mem::take(sum), near);
        }
    }
}

impl PathSumming {
    /// Sums of nothing, with the items that `by` tells apart.
    pub fn new(by: PathGrouping) -> Self {
        Self {
            by,
            sums: PathSums::default(),
            numbers: HashMap::new(),
            by_key: HashMap::new(),
            items: Vec::new(),
            parts: Vec::new(),
            touched: Vec::new(),
            run: Run::default(),
        }
    }

    /// About the bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        const ITEM: usize = size_of::<Part>() + size_of::<(u128, usize)>();
        const SHARE: usize = 2 * size_of::<([u64; 2], Numbers)>();
        let of_items = self.items.iter().map(|(_, item)| ITEM + item.memory_bytes()).sum::<usize>();
        self.sums.memory_bytes() + of_items + self.numbers.len() * SHARE
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
        let bucket = bucket_of(row.root_duration);
        if bucket != self.run.bucket {
            self.run.end(&mut self.items);
            self.run.bucket = bucket;
        }
        for share in shares {
            for number in self.numbers(share).into_iter().flatten() {
                self.add_share(number, share);
            }
        }
        while let Some(number) = self.touched.pop() {
            let Part { exclusive, spans, errors, .. } = std::mem::take(&mut self.parts[number as usize]);
            self.items[number as usize].1.add(row, exclusive, spans, errors);
            self.run.add(number, exclusive);
        }
    }

    fn add_share(&mut self, number: u32, share: &PathShare) {
        let part = &mut self.parts[number as usize];
        part.exclusive = part.exclusive.saturating_add(share.exclusive.0);
        part.spans = part.spans.saturating_add(u64::from(share.spans));
        part.errors = part.errors.saturating_add(u64::from(share.errors));
        if !part.is_touched {
            part.is_touched = true;
            self.touched.push(number);
        }
    }

    /// The items that a share is a part of. Its service is that of its operation, so this need not be looked at.
    fn numbers(&mut self, share: &PathShare) -> Numbers {
        let operation = u64::from(share.operation.0) << 1;
        let key = match share.edge {
            None => [operation, 0],
            Some((client, server)) => [operation | 1, u64::from(client.0) << 32 | u64::from(server.0)],
        };
        match self.numbers.get(&key) {
            Some(numbers) => *numbers,
            None => {
                let numbers = self.number(share);
                self.numbers.insert(key, numbers);
                numbers
            }
        }
    }

    fn number(&mut self, share: &PathShare) -> Numbers {
        let service = share.edge.map_or(share.service, |(client, _)| client);
        [None, Some(share.operation)].map(|operation| {
            let key = ItemKey { service, operation, edge: share.edge };
            self.by.takes(&key).then(|| self.number_of(key))
        })
    }

    fn number_of(&mut self, key: ItemKey) -> u32 {
        *self.by_key.entry(key).or_insert_with(|| {
            self.items.push((key, ItemSums::default()));
            self.parts.push(Part::default());
            self.run.sums.push((0, 0));
            self.items.len() as u32 - 1
        })
    }

    /// The sums of all that were added.
    pub fn finish(mut self) -> PathSums {
        self.run.end(&mut self.items);
        PathSums { items: self.items.into_iter().collect(), ..self.sums }
    }
}
