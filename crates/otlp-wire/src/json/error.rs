//! What can be wrong with OTLP/JSON, and where.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use crate::error::WireLimits;

/// Why OTLP/JSON was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON, or an unknown value nests deeper than 128 levels.
    #[error("not valid JSON at {at}: expected {want}, got {got}")]
    Syntax {
        /// Where.
        at: JsonPlace,
        /// What would be right there.
        want: String,
        /// What is there, shortened.
        got: String,
    },
    /// A value is not what its field takes.
    #[error("`{path}` must be {want}, got {got} at {at}")]
    Value {
        /// Where: `resourceSpans[0].scopeSpans[0].spans[2].kind`. The document itself is `$`.
        path: String,
        /// What would be right.
        want: String,
        /// What is there, shortened.
        got: String,
        /// Where in the text.
        at: JsonPlace,
    },
    /// An attribute's value nests deeper than [`WireLimits::MAX_DEPTH`](crate::WireLimits::MAX_DEPTH). Its path would be
    /// as long as it is deep.
    #[error("attribute values nest deeper than {} at {at}", WireLimits::MAX_DEPTH)]
    TooDeep {
        /// Where.
        at: JsonPlace,
    },
}

/// A place in a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JsonPlace {
    /// Counted from 1.
    pub line: usize,
    /// In bytes, counted from 1.
    pub column: usize,
}

impl JsonPlace {
    fn of(text: &[u8], at: usize) -> Self {
        let before = text.get(..at).unwrap_or(text);
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count() + 1;
        Self { line, column }
    }
}

impl fmt::Display for JsonPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}, column {}", self.line, self.column)
    }
}

/// A fault on its way out. The path is collected there, innermost step first, so that a good document pays nothing
/// for it.
#[derive(Debug)]
pub(super) struct Wrong {
    kind: Kind,
    at: usize,
    want: Cow<'static, str>,
    got: String,
    path: Vec<Step>,
}

#[derive(Debug)]
enum Kind {
    Syntax,
    Value,
    TooDeep,
}

/// One step of a path.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Field(&'static str),
    Index(usize),
}

impl Wrong {
    #[cold]
    pub(super) fn syntax(at: usize, want: impl Into<Cow<'static, str>>, got: String) -> Box<Self> {
        Box::new(Self { kind: Kind::Syntax, at, want: want.into(), got, path: Vec::new() })
    }

    #[cold]
    pub(super) fn value(at: usize, want: impl Into<Cow<'static, str>>, got: String) -> Box<Self> {
        Box::new(Self { kind: Kind::Value, at, want: want.into(), got, path: Vec::new() })
    }

    #[cold]
    pub(super) fn too_deep(at: usize) -> Box<Self> {
        Box::new(Self { kind: Kind::TooDeep, at, want: Cow::default(), got: String::new(), path: Vec::new() })
    }

    #[cold]
    pub(super) fn under(mut self: Box<Self>, step: Step) -> Box<Self> {
        self.path.push(step);
        self
    }

    pub(super) fn into_error(self, text: &[u8]) -> JsonError {
        let (at, want, got) = (JsonPlace::of(text, self.at), self.want.into_owned(), self.got);
        match self.kind {
            Kind::Syntax => JsonError::Syntax { at, want, got },
            Kind::TooDeep => JsonError::TooDeep { at },
            Kind::Value => JsonError::Value { path: spell(&self.path), want, got, at },
        }
    }
}

/// A path from the outside in.
fn spell(steps: &[Step]) -> String {
    let mut path = String::new();
    for step in steps.iter().rev() {
        // Writing to a string cannot fail.
        let _ = match step {
            Step::Field(name) if path.is_empty() => write!(path, "{name}"),
            Step::Field(name) => write!(path, ".{name}"),
            Step::Index(index) => write!(path, "[{index}]"),
        };
    }
    if path.is_empty() {
        path.push('$');
    }
    path
}
