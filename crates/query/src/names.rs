//! The process-wide table of services and operations: names in, small numbers out.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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
/// Operations that are told apart in all, some 80 bytes each besides their names. Beyond them each service still has
/// one [`OVERFLOW`] of each kind.
const OPERATIONS_IN_ALL: usize = 200_000;
/// Bytes of all names together.
const BYTES_MAX: usize = 16 << 20;
/// Bytes of a name; a longer one counts as [`OVERFLOW`], so that a few of them do not take the room of all others.
const NAME_BYTES_MAX: usize = 4 << 10;
/// The name of what is beyond a limit. The span's own bytes keep its true name.
pub(crate) const OVERFLOW: &str = "__overflow__";
/// What a service without a name is called, as OpenTelemetry has it.
const UNKNOWN_SERVICE: &str = "unknown_service";

#[derive(Debug)]
struct ServiceEntry {
    name: Arc<str>,
    operations: u32,
}

/// Interns services and operations. Reading an interned name costs one hash and one shard lock. A name stays for as
/// long as the process lives; how many there are is bounded.
#[derive(Debug, Default)]
pub struct NameTable {
    service_ids: DashMap<u64, ServiceId, DefaultHashBuilder>,
    /// By a 128-bit hash of service, kind and name: two names that share one are beyond reckoning with.
    operation_ids: DashMap<u128, OperationId, DefaultHashBuilder>,
    services: RwLock<Vec<ServiceEntry>>,
    operations: RwLock<Vec<OperationEntry>>,
    /// Bytes of all names.
    bytes: AtomicUsize,
    /// Times that a name was beyond a limit.
    overflowed: AtomicU64,
}

/// How many names are known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameTotals {
    /// Services.
    pub services: u64,
    /// Operations.
    pub operations: u64,
    /// Bytes of their names.
    pub bytes: u64,
    /// Times that a service or an operation was beyond a limit and counted as `__overflow__`.
    pub overflowed: u64,
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
        // By its readable form, under which segments store it and queries ask for it.
        match String::from_utf8_lossy(name) {
            Cow::Owned(readable) => self.service_id(Some(readable.as_bytes())),
            Cow::Borrowed(name) => self.new_service(key, name).unwrap_or_else(|| {
                self.overflowed.fetch_add(1, Ordering::Relaxed);
                self.service_id(Some(OVERFLOW.as_bytes()))
            }),
        }
    }

    /// `None` if it is beyond a limit.
    fn new_service(&self, key: u64, name: &str) -> Option<ServiceId> {
        match self.service_ids.entry(key) {
            Entry::Occupied(entry) => Some(*entry.get()),
            Entry::Vacant(entry) => {
                let mut services = self.services.write();
                let fits = || services.len() < SERVICES_MAX && self.take_bytes(name);
                if name != OVERFLOW && !fits() {
                    return None;
                }
                let id = ServiceId(services.len() as u32);
                services.push(ServiceEntry { name: name.into(), operations: 0 });
                Some(*entry.insert(id))
            }
        }
    }

    /// The number of an operation.
    pub fn operation_id(&self, service: ServiceId, kind: SpanKind, name: &[u8]) -> OperationId {
        let key = xxh3_128_with_seed(name, u64::from(service.0) << 8 | kind as u64);
        if let Some(id) = self.operation_ids.get(&key) {
            return *id;
        }
        match String::from_utf8_lossy(name) {
            Cow::Owned(readable) => self.operation_id(service, kind, readable.as_bytes()),
            Cow::Borrowed(name) => self.new_operation(key, service, kind, name).unwrap_or_else(|| {
                self.overflowed.fetch_add(1, Ordering::Relaxed);
                self.operation_id(service, kind, OVERFLOW.as_bytes())
            }),
        }
    }

    /// `None` if it is beyond a limit.
    fn new_operation(
        &self,
        key: u128,
        service: ServiceId,
        kind: SpanKind,
        name: &str,
    ) -> Option<OperationId> {
        let is_overflow = name == OVERFLOW;
        // Looked at first without keeping others out: beyond a limit every span comes here.
        if !is_overflow && !self.may_have_room(service, name) {
            return None;
        }
        match self.operation_ids.entry(key) {
            Entry::Occupied(entry) => Some(*entry.get()),
            Entry::Vacant(entry) => {
                let mut services = self.services.write();
                let mut operations = self.operations.write();
                if !is_overflow {
                    let of_service = services.get_mut(service.0 as usize).map(|entry| &mut entry.operations);
                    let fits = of_service.as_ref().is_none_or(|count| **count < OPERATIONS_MAX)
                        && operations.len() < OPERATIONS_IN_ALL
                        && self.take_bytes(name);
                    if !fits {
                        return None;
                    }
                    if let Some(count) = of_service {
                        *count += 1;
                    }
                }
                let id = OperationId(operations.len() as u32);
                operations.push(OperationEntry { service, kind, name: name.into() });
                Some(*entry.insert(id))
            }
        }
    }

    fn may_have_room(&self, service: ServiceId, name: &str) -> bool {
        let of_service = self.services.read().get(service.0 as usize).map_or(0, |entry| entry.operations);
        of_service < OPERATIONS_MAX
            && self.operations.read().len() < OPERATIONS_IN_ALL
            && name.len() <= NAME_BYTES_MAX
            && self.bytes.load(Ordering::Relaxed) + name.len() <= BYTES_MAX
    }

    /// Takes the bytes of a name, if there is room for them.
    fn take_bytes(&self, name: &str) -> bool {
        let grown = |bytes: usize| Some(bytes + name.len()).filter(|&bytes| bytes <= BYTES_MAX);
        name.len() <= NAME_BYTES_MAX
            && self.bytes.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown).is_ok()
    }

    /// The number of a service, if it was ever seen.
    pub fn find_service(&self, name: &str) -> Option<ServiceId> {
        self.service_ids.get(&xxh3_64_with_seed(name.as_bytes(), 1)).map(|id| *id)
    }

    /// How many names are known.
    pub fn totals(&self) -> NameTotals {
        NameTotals {
            services: self.services.read().len() as u64,
            operations: self.operations.read().len() as u64,
            bytes: self.bytes.load(Ordering::Relaxed) as u64,
            overflowed: self.overflowed.load(Ordering::Relaxed),
        }
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
        assert_eq!(names.totals().overflowed, 2);
        let other = names.service_id(Some(b"other"));
        assert_eq!(&*names.operation(names.operation_id(other, SpanKind::Server, b"0")).name, "0");
    }

    #[test]
    fn many_services_with_many_operations_have_a_bound_in_all() {
        let names = NameTable::default();
        for n in 0..OPERATIONS_IN_ALL + 1_000 {
            let service = names.service_id(Some(format!("service-{}", n / 1_000).as_bytes()));
            names.operation_id(service, SpanKind::Server, format!("operation-{}", n % 1_000).as_bytes());
        }
        let totals = names.totals();
        assert_eq!((totals.services, totals.overflowed), (201, 1_000));
        assert_eq!(totals.operations, OPERATIONS_IN_ALL as u64 + 1);
        // The service is still told apart.
        let last = names.service_id(Some(b"service-200"));
        let beyond = names.operation(names.operation_id(last, SpanKind::Server, b"operation-7"));
        assert_eq!((beyond.service, &*beyond.name), (last, OVERFLOW));
    }

    #[test]
    fn long_names_have_a_bound_and_so_have_all_their_bytes() {
        let names = NameTable::default();
        let shop = names.service_id(Some(b"shop"));
        let beyond = names.operation_id(shop, SpanKind::Server, &[b'x'; NAME_BYTES_MAX + 1]);
        assert_eq!(&*names.operation(beyond).name, OVERFLOW);
        assert_eq!(&*names.service(names.service_id(Some(&[b'x'; NAME_BYTES_MAX + 1]))), OVERFLOW);
        let fit = BYTES_MAX / NAME_BYTES_MAX;
        for n in 0..fit + 10 {
            let name = format!("{n:0width$}", width = NAME_BYTES_MAX);
            names.operation_id(shop, SpanKind::Server, name.as_bytes());
        }
        let totals = names.totals();
        assert!(totals.bytes <= BYTES_MAX as u64, "{totals:?}");
        assert_eq!(totals.overflowed, 2 + 11, "one had to make room for the service's name");
    }
}
