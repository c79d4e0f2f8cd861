//! The interned names of services and operations, shared by everything that is live.

use std::sync::Arc;

use hashbrown::HashMap;
use trace_model::{OperationId, ServiceId, SpanKind};

/// An interned operation.
#[derive(Debug, Clone)]
pub struct OperationEntry {
    /// Its service.
    pub service: ServiceId,
    /// Its kind.
    pub kind: SpanKind,
    /// The span name.
    pub name: Arc<str>,
}

/// Looks interned numbers up.
pub trait Names: Sync {
    /// The name of a service.
    fn service(&self, id: ServiceId) -> Arc<str>;
    /// An operation.
    fn operation(&self, id: OperationId) -> OperationEntry;
}

/// Numbers names within one segment, in the order of their first use.
pub(crate) struct LocalNames<'a> {
    names: &'a dyn Names,
    services: Numbers,
    operations: Numbers,
    pub(crate) service_list: Vec<Arc<str>>,
    pub(crate) operation_list: Vec<(u32, SpanKind, Arc<str>)>,
}

impl<'a> LocalNames<'a> {
    pub(crate) fn new(names: &'a dyn Names) -> Self {
        Self {
            names,
            services: Numbers::default(),
            operations: Numbers::default(),
            service_list: Vec::new(),
            operation_list: Vec::new(),
        }
    }

    #[inline]
    pub(crate) fn service(&mut self, id: ServiceId) -> u32 {
        self.services.get(id.0).unwrap_or_else(|| self.add_service(id))
    }

    #[inline]
    pub(crate) fn operation(&mut self, id: OperationId) -> u32 {
        self.operations.get(id.0).unwrap_or_else(|| self.add_operation(id))
    }

    #[cold]
    fn add_service(&mut self, id: ServiceId) -> u32 {
        let local = self.service_list.len() as u32;
        self.service_list.push(self.names.service(id));
        self.services.set(id.0, local);
        local
    }

    #[cold]
    fn add_operation(&mut self, id: OperationId) -> u32 {
        let entry = self.names.operation(id);
        let service = self.service(entry.service);
        let local = self.operation_list.len() as u32;
        self.operation_list.push((service, entry.kind, entry.name));
        self.operations.set(id.0, local);
        local
    }
}

/// Interned numbers below this are looked up in an array: nearly all, because they are given out in order.
const DENSE: usize = 64 << 10;
/// No number yet.
const NONE: u32 = u32::MAX;

/// What interned numbers are called in the segment.
#[derive(Default)]
struct Numbers {
    dense: Vec<u32>,
    others: HashMap<u32, u32>,
}

impl Numbers {
    #[inline]
    fn get(&self, id: u32) -> Option<u32> {
        match self.dense.get(id as usize) {
            Some(&local) => (local != NONE).then_some(local),
            None => self.others.get(&id).copied(),
        }
    }

    fn set(&mut self, id: u32, local: u32) {
        let at = id as usize;
        if at >= DENSE {
            self.others.insert(id, local);
            return;
        }
        if at >= self.dense.len() {
            self.dense.resize((at + 1).next_power_of_two(), NONE);
        }
        self.dense[at] = local;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_far_and_near_are_found_again() {
        let mut numbers = Numbers::default();
        let ids = [0, 5, 70_000, DENSE as u32 - 1, DENSE as u32, u32::MAX, 6];
        for (local, id) in ids.into_iter().enumerate() {
            assert_eq!(numbers.get(id), None);
            numbers.set(id, local as u32);
            assert!((0..=local).all(|at| numbers.get(ids[at]) == Some(at as u32)), "{id}");
        }
    }
}
