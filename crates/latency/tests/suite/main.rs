//! Histograms and exemplar sets, held against exact answers and the laws of merging.

#![allow(clippy::unwrap_used, reason = "a test")]

mod exemplars;
mod histograms;
mod longest_first;
