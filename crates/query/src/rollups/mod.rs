//! Rollups: what is answered from when the spans of a time are not kept any more.
//!
//! A time of arrival is answered for by exactly one of: its segments, a rollup by minute, one by hour, one by day.
//! Each step from one to the next is one ingestion in the store and one exchange in the view.

mod fold;
mod retire;
mod sources;
mod window;

pub use fold::{RollupOptions, keep_rollups};
pub use retire::{RetireError, Retired, drop_partition, retire_partition};
pub(crate) use window::{Kind, coarse_points, widen};

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};
use segment::{ItemKey, Names, ReadError, RollupBlock, RollupMeta, Tier, decode_meta};
use span_store::{RollupHandle, SegmentId, SpanStore, StoredRollup};
use trace_model::{OperationId, ServiceId, SpanKind};

use crate::damage::of_rollup;
use crate::names::NameTable;
use crate::reach::{Extent, Reach};
use crate::state::State;

/// A rollup with what is kept of it in memory.
#[derive(Debug)]
pub struct Rollup {
    /// Reads its values.
    pub handle: RollupHandle,
    /// The width of its buckets.
    pub tier: Tier,
    /// What it says about itself.
    pub meta: RollupMeta,
    services: Vec<ServiceId>,
    operations: Vec<OperationId>,
}

impl Rollup {
    /// Takes a stored rollup into memory.
    ///
    /// # Errors
    /// If its meta is damaged.
    pub fn load(stored: &StoredRollup, names: &NameTable) -> Result<Self, ReadError> {
        let (tier, meta) = decode_meta(&stored.meta)?;
        Ok(Self::of_meta(stored.handle.clone(), tier, meta, names))
    }

    pub(crate) fn of_meta(handle: RollupHandle, tier: Tier, mut meta: RollupMeta, names: &NameTable) -> Self {
        let services: Vec<ServiceId> =
            meta.services.iter().map(|name| names.service_id(Some(name.as_bytes()))).collect();
        let operations = meta.operations.iter().map(|operation| {
            let service = services.get(operation.service as usize).copied().unwrap_or(ServiceId(u32::MAX));
            let kind = SpanKind::from_wire(u64::from(operation.kind));
            names.operation_id(service, kind, operation.name.as_bytes())
        });
        let operations = operations.collect();
        // The names live in the table now; one copy is enough.
        (meta.services, meta.operations) = (Vec::new(), Vec::new());
        Self { handle, tier, meta, services, operations }
    }

    /// The process-wide number of an operation of this rollup.
    pub(crate) fn operation(&self, local: u32) -> OperationId {
        self.operations.get(local as usize).copied().unwrap_or(OperationId(u32::MAX))
    }

    pub(crate) fn operations(&self) -> &[OperationId] {
        &self.operations
    }

    /// The blocks in which one of its buckets is wanted, rising.
    pub(crate) fn blocks_with(&self, kind: Kind, wanted: impl Fn(u32) -> bool) -> Vec<RollupBlock> {
        let buckets = kind.buckets(self);
        let mut blocks = kind.blocks(self);
        blocks.retain(|block| block.of(buckets).iter().any(|bucket| wanted(*bucket)));
        blocks
    }

    /// The numbers within this rollup of the services of those operations that are wanted.
    pub(crate) fn services_of(&self, wanted: &[bool], names: &NameTable) -> HashSet<u32> {
        let wanted = self.operations.iter().zip(wanted).filter(|(_, wanted)| **wanted);
        let services: HashSet<ServiceId> =
            wanted.map(|(operation, _)| names.operation(*operation).service).collect();
        let is_of = |(_, service): &(u32, &ServiceId)| services.contains(*service);
        (0..).zip(&self.services).filter(is_of).map(|(local, _)| local).collect()
    }

    fn service(&self, local: ServiceId) -> ServiceId {
        self.services.get(local.0 as usize).copied().unwrap_or(ServiceId(u32::MAX))
    }

    /// An item of its sums in process-wide numbers.
    pub(crate) fn globalize(&self, key: ItemKey) -> ItemKey {
        ItemKey {
            service: self.service(key.service),
            operation: key.operation.map(|operation| self.operation(operation.0)),
            edge: key.edge.map(|(client, server)| (self.service(client), self.service(server))),
        }
    }
}

impl State {
    /// Takes the rollups in that were there at start. Those whose segments are still stored, that were made anew, or
    /// that became a coarser one, do not count and go at once: nothing may bring them back. On a disk without room they
    /// stay until the house is kept.
    pub fn add_stored_rollups(&self, store: &SpanStore, segments: &HashSet<SegmentId>) {
        let mut loaded = Vec::new();
        for stored in store.take_stored_rollups() {
            match Rollup::load(&stored, &self.names) {
                Ok(rollup) => loaded.push(Arc::new(rollup)),
                Err(error) => {
                    // Whatever buckets it has.
                    let reach = Reach::Sums { ends: Extent::ALL, traces: Extent::ALL };
                    self.note_damage(of_rollup(stored.handle.number()), reach, &error);
                }
            }
        }
        let (kept, gone) = told_apart(loaded, segments);
        gone.iter().for_each(|rollup| store.retire_rollup(&rollup.handle));
        drop(gone);
        if let Err(error) = store.drop_retired() {
            tracing::warn!(%error, "rollups that do not count still have their files; dropping them is tried again");
        }
        self.view.write().rollups = Arc::new(kept);
    }
}

/// Rollups that count, and those that do not. Given by rising number.
fn told_apart(
    loaded: Vec<Arc<Rollup>>,
    segments: &HashSet<SegmentId>,
) -> (Vec<Arc<Rollup>>, Vec<Arc<Rollup>>) {
    let folded: HashSet<u64> = loaded.iter().flat_map(|rollup| rollup.meta.sources.iter().copied()).collect();
    let mut newest: HashMap<u32, u64> = HashMap::new();
    for rollup in &loaded {
        newest.extend(rollup.meta.segments.iter().map(|id| (*id, rollup.handle.number())));
    }
    loaded.into_iter().partition(|rollup| {
        let number = rollup.handle.number();
        let own = |id: &u32| newest.get(id) == Some(&number) && !segments.contains(&SegmentId(*id));
        !folded.contains(&number) && rollup.meta.segments.iter().all(own)
    })
}
