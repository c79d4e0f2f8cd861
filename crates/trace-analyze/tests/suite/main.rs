//! Critical path, slack, shares and replay, held against drawn cases, invariants and sizes.

#![allow(clippy::unwrap_used, reason = "a test")]

mod golden;
mod invariants;
mod numbers;
mod oracle;
mod scale;
mod support;
