//! The process-wide table of services and operations: names in, small numbers out.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use hashbrown::DefaultHashBuilder;
use parking_lot::RwLock;
use segment::{Names, OperationEntry};
use trace_model::{OperationId, ServiceId, SpanKind};
use xxhash_rust::xxh3::{xxh3_64_with_seed, xxh3_128_with_seed};

/// Services that are told apart; further ones count as [`OVERFLOW`].
const SERVICES_MAX: usize = 20_000;
/// Operations of one service that are told apart; further ones count as [`OVERFLOW`].
const OPERATIONS_MAX: u32 = 10_000;
/// The name of what is beyond a limit. The span's own bytes keep its true name.
const OVERFLOW: &str = "__overflow__";
/// What a service without a name is called, as OpenTelemetry has it.
const UNKNOWN_SERVICE: &str = "unknown_service";

#[derive(Debug)]
struct ServiceEntry {
    name: Arc<str>,
    operations: u32,
}

/// Interns services and operations. Reading an interned name costs one hash and one shard lock.
#[derive(Debug, Default)]
pub struct NameTable {
    service_ids: DashMap<u64, ServiceId, DefaultHashBuilder>,
    /// By a 128-bit hash of service, kind and name: two names that share one are beyond reckoning with.
    operation_ids: DashMap<u128, OperationId, DefaultHashBuilder>,
    services: RwLock<Vec<ServiceEntry>>,
    operations: RwLock<Vec<OperationEntry>>,
    /// How often the name of a service, of an operation was beyond the limit.
    overflowed: (AtomicU64, AtomicU64),
}

impl NameTable {
    /// The number of a service; none or an empty name is `unknown_service`. Bytes that are not UTF-8 are
    /// replaced.
    pub fn service_id(&self, name: Option<&[u8]>) -> ServiceId {
        let name = name.filter(|name| !name.is_empty()).unwrap_or(UNKNOWN_SERVICE.as_bytes());
        let key = xxh3_64_with_seed(name, 1);
        if let Some(id) = self.service_ids.get(&key) {
            return *id;
        }
        match self.service_ids.entry(key) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                // By its readable form, under which segments store it and queries ask for it.
                if let Cow::Owned(readable) = String::from_utf8_lossy(name) {
                    drop(entry);
                    return self.service_id(Some(readable.as_bytes()));
                }
                let mut services = self.services.write();
                if services.len() >= SERVICES_MAX && name != OVERFLOW.as_bytes() {
                    drop((services, entry));
                    self.overflowed.0.fetch_add(1, Ordering::Relaxed);
                    return self.service_id(Some(OVERFLOW.as_bytes()));
                }
                let id = ServiceId(services.len() as u32);
                services.push(ServiceEntry { name: String::from_utf8_lossy(name).into(), operations: 0 });
                *entry.insert(id)
            }
        }
    }

    /// The number of an operation.
    pub fn operation_id(&self, service: ServiceId, kind: SpanKind, name: &[u8]) -> OperationId {
        let key = xxh3_128_with_seed(name, u64::from(service.0) << 8 | kind as u64);
        if let Some(id) = self.operation_ids.get(&key) {
            return *id;
        }
        match self.operation_ids.entry(key) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                if let Cow::Owned(readable) = String::from_utf8_lossy(name) {
                    drop(entry);
                    return self.operation_id(service, kind, readable.as_bytes());
                }
                if name != OVERFLOW.as_bytes() && !self.count_operation(service) {
                    drop(entry);
                    self.overflowed.1.fetch_add(1, Ordering::Relaxed);
                    return self.operation_id(service, kind, OVERFLOW.as_bytes());
                }
                let mut operations = self.operations.write();
                let id = OperationId(operations.len() as u32);
                operations.push(OperationEntry { service, kind, name: String::from_utf8_lossy(name).into() });
                *entry.insert(id)
            }
        }
    }

    fn count_operation(&self, service: ServiceId) -> bool {
        let mut services = self.services.write();
        let Some(entry) = services.get_mut(service.0 as usize) else { return true };
        // Counting on past the limit would wrap after some hours of too many names.
        let fits = entry.operations < OPERATIONS_MAX;
        entry.operations += u32::from(fits);
        fits
    }

    /// How often a name of a service, and of an operation, was looked up that is beyond the limit.
    pub fn overflowed(&self) -> (u64, u64) {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(&self.overflowed.0), read(&self.overflowed.1))
    }

    /// The number of a service, if it was ever seen.
    pub fn find_service(&self, name: &str) -> Option<ServiceId> {
        self.service_ids.get(&xxh3_64_with_seed(name.as_bytes(), 1)).map(|id| *id)
    }
}

impl Names for NameTable {
    fn service(&self, id: ServiceId) -> Arc<str> {
        self.services
            .read()
            .get(id.0 as usize)
            .map_or_else(|| OVERFLOW.into(), |entry| Arc::clone(&entry.name))
    }

    fn operation(&self, id: OperationId) -> OperationEntry {
        self.operations.read().get(id.0 as usize).cloned().unwrap_or_else(|| OperationEntry {
            service: ServiceId(u32::MAX),
            kind: SpanKind::Unspecified,
            name: OVERFLOW.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_names_share_a_number_and_kinds_do_not() {
        let names = NameTable::default();
        let shop = names.service_id(Some(b"shop"));
        assert_eq!(names.service_id(Some(b"shop")), shop);
        assert_eq!(&*names.service(names.service_id(None)), "unknown_service");
        let get = names.operation_id(shop, SpanKind::Server, b"GET /");
        assert_eq!(names.operation_id(shop, SpanKind::Server, b"GET /"), get);
        assert_ne!(names.operation_id(shop, SpanKind::Client, b"GET /"), get);
        assert_eq!(&*names.operation(get).name, "GET /");
    }

    #[test]
    fn a_name_that_is_not_utf_8_is_the_same_as_its_readable_form() {
        let names = NameTable::default();
        let shop = names.service_id(Some(b"sh\xffp"));
        assert_eq!(names.find_service("sh\u{fffd}p"), Some(shop));
        assert_eq!(names.service_id(Some("sh\u{fffd}p".as_bytes())), shop);
        let get = names.operation_id(shop, SpanKind::Server, b"g\xfft");
        assert_eq!(names.operation_id(shop, SpanKind::Server, "g\u{fffd}t".as_bytes()), get);
        assert_eq!(&*names.operation(get).name, "g\u{fffd}t");
    }

    #[test]
    fn beyond_the_limit_operations_share_one_name() {
        let names = NameTable::default();
        let shop = names.service_id(Some(b"shop"));
        for n in 0..OPERATIONS_MAX {
            names.operation_id(shop, SpanKind::Server, n.to_string().as_bytes());
        }
        let beyond = names.operation_id(shop, SpanKind::Server, b"one more");
        assert_eq!(&*names.operation(beyond).name, OVERFLOW);
        assert_eq!(names.operation_id(shop, SpanKind::Server, b"and another"), beyond);
        assert_eq!(names.overflowed(), (0, 2));
    }
}
