//! What a reader of a critical path should know about the trace below it.

use std::fmt;

/// A set of remarks on a path: repairs that were made, and spans that broke the rules of a call tree.
///
/// The first four and `end_before_start` and `producer_consumer` concern the tree of the path's root;
/// the others concern the whole trace.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Flags(u32);

const NAMES: [(Flags, &str); 12] = [
    (Flags::OVERRUN, "overrun"),
    (Flags::UNDERRUN, "underrun"),
    (Flags::DETACHED, "detached"),
    (Flags::SERVER_OUTLIVED_CLIENT, "server_outlived_client"),
    (Flags::MISSING_PARENT, "missing_parent"),
    (Flags::CYCLE, "cycle"),
    (Flags::ID_CONFLICT, "id_conflict"),
    (Flags::END_BEFORE_START, "end_before_start"),
    (Flags::MULTIPLE_ROOTS, "multiple_roots"),
    (Flags::PRODUCER_CONSUMER, "producer_consumer"),
    (Flags::TOO_LARGE, "too_large"),
    (Flags::UNREAD_SPANS, "unread_spans"),
];

impl Flags {
    /// A child ends after its parent.
    pub const OVERRUN: Self = Self(1);
    /// A child starts before its parent.
    pub const UNDERRUN: Self = Self(1 << 1);
    /// A child is not waited for: it lies outside its parent, or overran it and the policy detached it.
    pub const DETACHED: Self = Self(1 << 2);
    /// A SERVER span went on after its CLIENT had given up: probably a timeout.
    pub const SERVER_OUTLIVED_CLIENT: Self = Self(1 << 3);
    /// A span's parent is not in the trace.
    pub const MISSING_PARENT: Self = Self(1 << 4);
    /// Spans were each other's parents, or a span its own.
    pub const CYCLE: Self = Self(1 << 5);
    /// Different spans have the same id.
    pub const ID_CONFLICT: Self = Self(1 << 6);
    /// A span ends before it starts; it counts as empty.
    pub const END_BEFORE_START: Self = Self(1 << 7);
    /// The trace has several roots; the path is that of one.
    pub const MULTIPLE_ROOTS: Self = Self(1 << 8);
    /// A CONSUMER below a PRODUCER: the response does not wait for it.
    pub const PRODUCER_CONSUMER: Self = Self(1 << 9);
    /// The trace has too many spans to be analysed: there is no path.
    pub const TOO_LARGE: Self = Self(1 << 10);
    /// Stored spans of the trace could not be read: what is said is of the others.
    pub const UNREAD_SPANS: Self = Self(1 << 11);

    /// Adds all of `other`.
    pub const fn insert(&mut self, other: Self) {
        self.0 |= other.0;
    }

    /// Adds all of `other` if `condition` holds.
    pub const fn insert_if(&mut self, other: Self, condition: bool) {
        if condition {
            self.insert(other);
        }
    }

    /// Whether all of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether none is set.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The set as a number, for storage. The bits keep their meaning.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set of a stored number; bits without a meaning are dropped.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits & ((1 << NAMES.len()) - 1))
    }

    /// The names of those set, in the order of their declaration.
    pub fn names(self) -> Vec<&'static str> {
        NAMES.iter().filter(|(flag, _)| self.contains(*flag)).map(|(_, name)| *name).collect()
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_have_names_and_survive_storage() {
        let mut flags = Flags::default();
        assert!(flags.is_empty() && flags.names().is_empty());
        flags.insert(Flags::PRODUCER_CONSUMER);
        flags.insert_if(Flags::OVERRUN, true);
        flags.insert_if(Flags::CYCLE, false);
        assert_eq!(flags.names(), ["overrun", "producer_consumer"]);
        assert_eq!(Flags::from_bits(flags.bits() | 1 << 31), flags);
        assert!(!flags.contains(Flags::CYCLE));
    }
}
