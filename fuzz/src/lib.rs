//! Fuzz targets: parsers that read bytes from outside or from disk, each as a plain function over bytes.
//!
//! A target panics if the parser breaks a promise (it panics itself, differs from its oracle, takes memory on the
//! word of a number, or reads back something else than it wrote), and says whether the parser took the input.
//!
//! Two things run them. [`drive`] feeds a fixed number of seeded inputs, in every test run: mutations of the corpus
//! in `corpus/` and of inputs that are drawn valid. `guided/` gives the same functions to libFuzzer, for as long as
//! one likes, and grows the corpus: see `make fuzz`.
//!
//! The parsers of `span-store`, `query` and `api` have their targets in their own tests, which use the same driver, because
//! those crates bring RocksDB with them.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "this package is a test")]

pub mod blocks;
mod dice;
mod drive;
mod memory;
mod mutate;
pub mod otlp;

use std::path::PathBuf;

pub use dice::Dice;
pub use drive::{Draw, Shape, Target, drive};

/// Every target of this package.
pub const TARGETS: &[Target] = &[
    otlp::WALKER,
    otlp::JSON,
    blocks::CHUNKS,
    blocks::TABLES,
    blocks::ROWS,
    blocks::HEADS,
    blocks::PATHS,
    blocks::CONTEXTS,
    blocks::MINUTES,
    blocks::HASHES,
    blocks::META,
    blocks::DICTIONARY,
    blocks::ROLLED_HISTOGRAMS,
    blocks::ROLLED_PATHS,
    blocks::ROLLUP_META,
    blocks::HISTOGRAM,
    blocks::EXEMPLARS,
];

/// The target of that name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The folder of the committed corpus.
pub fn corpus_dir() -> PathBuf {
    let here = std::env::var_os("LONGPOLE_FUZZ_CORPUS").map(PathBuf::from);
    here.unwrap_or_else(|| {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        // A test of another package runs in that package's folder.
        let own = || PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let dir = package.map(|dir| dir.join("corpus")).filter(|dir| dir.is_dir());
        dir.unwrap_or_else(|| own().join("corpus"))
    })
}
