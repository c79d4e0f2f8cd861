//! Longpole's own counters, as the parts of the process hand them over.

use std::borrow::Cow;

use super::families::{Families, Type};

/// What a number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CounterKind {
    /// It only grows.
    #[default]
    Counter,
    /// It goes up and down.
    Gauge,
}

/// One number of Longpole's own, with its labels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counter {
    /// The name; `longpole_` in front and, for counters, `_total` behind are added where missing.
    pub name: Cow<'static, str>,
    /// A sentence on what is counted.
    pub help: Cow<'static, str>,
    /// Labels.
    pub labels: Vec<(&'static str, String)>,
    /// The number.
    pub value: u64,
    /// What it means.
    pub kind: CounterKind,
}

impl Counter {
    /// A counter without labels.
    pub fn new(name: impl Into<Cow<'static, str>>, help: impl Into<Cow<'static, str>>, value: u64) -> Self {
        Self { name: name.into(), help: help.into(), labels: Vec::new(), value, kind: CounterKind::Counter }
    }

    /// The same with one more label.
    #[must_use]
    pub fn with_label(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.labels.push((name, value.into()));
        self
    }

    /// The same as a gauge.
    #[must_use]
    pub fn gauge(mut self) -> Self {
        self.kind = CounterKind::Gauge;
        self
    }

    pub(super) fn add_to(&self, families: &mut Families) {
        let (name, kind) = match self.kind {
            CounterKind::Counter => (self.name.strip_suffix("_total").unwrap_or(&self.name), Type::Counter),
            CounterKind::Gauge => (self.name.as_ref(), Type::Gauge),
        };
        let labels: Vec<(&str, &str)> =
            self.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        families.add(&full_name(name), kind, &self.help, &labels, self.value);
    }
}

/// The name with its prefix, and with `_` for what may not stand in a name.
fn full_name(name: &str) -> String {
    let bare = name.strip_prefix("longpole_").unwrap_or(name);
    let allowed = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
    format!("longpole_{}", bare.chars().map(allowed).collect::<String>())
}
