//! Verifies one rollup: every value decodes, and what they sum up to agrees with what the rollup says of itself.

use segment::{
    Blocks, PathGrouping, RollupBlock, RollupMeta, Tier, decode_meta, rolled_histograms, rolled_paths,
};
use span_store::StoredRollup;

/// What is in a rollup.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// Spans that it says it counts.
    pub(super) spans: u64,
    /// What is wrong with it; empty if nothing is.
    pub(super) problems: Vec<String>,
}

pub(super) fn check(stored: &StoredRollup) -> Checked {
    let mut checked = Checked::default();
    match decode_meta(&stored.meta) {
        Ok((tier, meta)) => {
            checked.spans = meta.spans;
            checked.histograms(&stored.handle, tier, &meta);
            checked.paths(&stored.handle, tier, &meta, RollupBlock::of_paths(tier, &meta));
            if let Some(together) = RollupBlock::of_paths_together(tier, &meta) {
                checked.paths(&stored.handle, tier, &meta, together);
            }
        }
        Err(error) => checked.problems.push(error.to_string()),
    }
    checked
}

impl Checked {
    fn histograms(&mut self, blocks: &dyn Blocks, tier: Tier, meta: &RollupMeta) {
        let (mut spans, mut whole) = (0_u64, true);
        for block in RollupBlock::of_histograms(tier, meta) {
            let read = rolled_histograms(blocks, block, &|_, _, _| true, &mut |row| {
                spans = spans.saturating_add(row.histogram.count());
            });
            if let Err(error) = read {
                self.problems.push(format!("histograms from {} {} on: {error}", tier.as_str(), block.first));
                whole = false;
            }
        }
        if whole {
            self.agree("spans in histograms:", spans, meta.spans);
        }
    }

    fn paths(&mut self, blocks: &dyn Blocks, tier: Tier, meta: &RollupMeta, stored: Vec<RollupBlock>) {
        let (mut traces, mut whole) = (0_u64, true);
        for block in stored {
            let read = rolled_paths(blocks, block, PathGrouping::Both, &|_, _| true, &mut |row| {
                traces = traces.saturating_add(row.sums.traces).saturating_add(row.sums.excluded);
            });
            if let Err(error) = read {
                self.problems.push(format!(
                    "critical paths from {} {} on: {error}",
                    tier.as_str(),
                    block.first
                ));
                whole = false;
            }
        }
        if whole {
            self.agree("traces in critical paths:", traces, meta.traces);
        }
    }

    fn agree(&mut self, what: &str, found: u64, said: u64) {
        if found != said {
            self.problems.push(format!("{what} {found}, its meta says {said}"));
        }
    }
}
