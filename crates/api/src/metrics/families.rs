//! Simple metrics, kept together by family.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Format, escape_into, labels_into};

/// The type of a family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Counter,
    Gauge,
    Info,
}

impl Type {
    /// What a sample's name has behind that of its family.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Counter => "_total",
            Self::Gauge => "",
            Self::Info => "_info",
        }
    }

    const fn word(self, format: Format) -> &'static str {
        match (self, format) {
            (Self::Counter, _) => "counter",
            (Self::Gauge, _) | (Self::Info, Format::Text) => "gauge",
            (Self::Info, Format::OpenMetrics) => "info",
        }
    }
}

#[derive(Debug)]
struct Family {
    kind: Type,
    help: String,
    /// Written labels and the value, by the order of arrival.
    samples: Vec<(String, u64)>,
}

/// Families by name. The same sample twice counts once, as it came first.
#[derive(Debug)]
pub(super) struct Families {
    format: Format,
    families: BTreeMap<String, Family>,
}

impl Families {
    pub(super) fn new(format: Format) -> Self {
        Self { format, families: BTreeMap::new() }
    }

    /// Adds a sample. `name` is that of the family, without `_total` or `_info`.
    pub(super) fn add(&mut self, name: &str, kind: Type, help: &str, labels: &[(&str, &str)], value: u64) {
        let new = || Family { kind, help: help.to_owned(), samples: Vec::new() };
        let family = self.families.entry(name.to_owned()).or_insert_with(new);
        let mut written = String::new();
        labels_into(labels, &mut written);
        if family.samples.iter().all(|(known, _)| *known != written) {
            family.samples.push((written, value));
        }
    }

    pub(super) fn write(&self) -> String {
        let mut out = String::new();
        for (name, family) in &self.families {
            header_into(self.format, name, family.kind, &family.help, &mut out);
            for (labels, value) in &family.samples {
                // Writing to a string cannot fail.
                let _ = writeln!(out, "{name}{}{labels} {value}", family.kind.suffix());
            }
        }
        out
    }
}

/// Writes `# HELP` and `# TYPE`. The older text names the samples there, OpenMetrics the family.
pub(super) fn header_into(format: Format, name: &str, kind: Type, help: &str, out: &mut String) {
    let suffix = if format == Format::Text { kind.suffix() } else { "" };
    let mut escaped = String::new();
    escape_into(help, &mut escaped);
    let _ = writeln!(out, "# HELP {name}{suffix} {escaped}");
    let _ = writeln!(out, "# TYPE {name}{suffix} {}", kind.word(format));
}
