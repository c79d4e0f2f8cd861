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
pub trait Names {
    /// The name of a service.
    fn service(&self, id: ServiceId) -> Arc<str>;
    /// An operation.
    fn operation(&self, id: OperationId) -> OperationEntry;
}

/// Numbers names within one segment, in the order of their first use.
pub(crate) struct LocalNames<'a> {
    names: &'a dyn Names,
    services: HashMap<ServiceId, u32>,
    operations: HashMap<OperationId, u32>,
    pub(crate) service_list: Vec<Arc<str>>,
    pub(crate) operation_list: Vec<(u32, SpanKind, Arc<str>)>,
}

impl<'a> LocalNames<'a> {
    pub(crate) fn new(names: &'a dyn Names) -> Self {
        Self {
            names,
            services: HashMap::new(),
            operations: HashMap::new(),
            service_list: Vec::new(),
            operation_list: Vec::new(),
        }
    }

    pub(crate) fn service(&mut self, id: ServiceId) -> u32 {
        if let Some(&local) = self.services.get(&id) {
            return local;
        }
        let local = self.service_list.len() as u32;
        self.service_list.push(self.names.service(id));
        self.services.insert(id, local);
        local
    }

    pub(crate) fn operation_numbers(&self) -> &HashMap<OperationId, u32> {
        &self.operations
    }

    pub(crate) fn operation(&mut self, id: OperationId) -> u32 {
        if let Some(&local) = self.operations.get(&id) {
            return local;
        }
        let entry = self.names.operation(id);
        let service = self.service(entry.service);
        let local = self.operation_list.len() as u32;
        self.operation_list.push((service, entry.kind, entry.name));
        self.operations.insert(id, local);
        local
    }
}
