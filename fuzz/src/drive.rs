//! The driver: a fixed number of inputs for a target, the same ones in every run.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

use base64::Engine as _;

use crate::Dice;
use crate::memory::watched;
use crate::mutate::mutate;

/// What inputs of a target look like, which decides how they are mutated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// Protobuf: fields are taken out, doubled, moved and renumbered with the lengths around them kept right.
    Protobuf,
    /// JSON: values are replaced, doubled, renamed and nested.
    Json,
    /// Bytes with varints in them.
    Bytes,
    /// Text of short words.
    Text,
}

/// Draws valid inputs.
pub type Draw = Box<dyn FnMut(&mut Dice) -> Vec<u8>>;

/// A parser and how to feed it.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its folder in the corpus.
    pub name: &'static str,
    /// How its inputs are mutated.
    pub shape: Shape,
    /// Inputs of a run of the driver.
    pub inputs: u64,
    /// Panics if a promise is broken; whether the parser took the input.
    pub run: fn(&[u8]) -> bool,
    /// Makes a drawer of inputs that the parser takes.
    pub draw: fn() -> Draw,
}

impl Target {
    /// Runs it on an input, and watches the memory that it asks for. Whether the parser took the input.
    ///
    /// # Panics
    /// If a promise is broken.
    pub fn check(&self, input: &[u8]) -> bool {
        watched(self.run, input)
    }
}

/// All inputs follow from this number.
const SEED: u64 = 0x10a6_901e;

/// The committed inputs of a target, in the order of their names. None if it has no folder.
fn corpus(root: &Path, name: &str) -> Vec<Vec<u8>> {
    let files = std::fs::read_dir(root.join(name)).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = files.map(|entry| entry.path()).collect();
    paths.sort_unstable();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Runs a target over its corpus as it is, then over `inputs` seeded ones. `corpus_root` has a folder a target.
///
/// # Panics
/// If the target does; then the seed and the input are printed and the input is written to a file. Also if a drawn
/// input is refused, if there is no corpus, or if no mutated one is taken or none is refused: then the target proves nothing.
pub fn drive(target: &Target, corpus_root: &Path) {
    let corpus = corpus(corpus_root, target.name);
    assert!(!corpus.is_empty(), "{}: no corpus below {}", target.name, corpus_root.display());
    for input in &corpus {
        run_one(target, input, "an input of the corpus");
    }
    let mut draw = (target.draw)();
    let (mut taken, mut refused) = (0_u64, 0_u64);
    for nth in 0..target.inputs {
        let seed = SEED ^ nth;
        let mut dice = Dice::new(seed);
        let what = format!("input {nth}, seed {seed:#x}");
        let from_corpus = dice.one_in(2);
        let base = if from_corpus { corpus[dice.below(corpus.len())].clone() } else { draw(&mut dice) };
        if !from_corpus && dice.one_in(8) {
            assert!(run_one(target, &base, &what), "{}: {what} is valid and was refused", target.name);
            continue;
        }
        let other = &corpus[dice.below(corpus.len())];
        let input = mutate(base, target.shape, other, &mut dice);
        let counter = if run_one(target, &input, &what) { &mut taken } else { &mut refused };
        *counter += 1;
    }
    println!("{}: {} of the corpus, {taken} mutated taken, {refused} refused", target.name, corpus.len());
    assert!(taken > 0 && refused > 0, "{}: {taken} mutated inputs taken, {refused} refused", target.name);
}

fn run_one(target: &Target, input: &[u8], what: &str) -> bool {
    match catch_unwind(AssertUnwindSafe(|| target.check(input))) {
        Ok(taken) => taken,
        Err(panic) => {
            report(target.name, input, what);
            resume_unwind(panic)
        }
    }
}

fn report(name: &str, input: &[u8], what: &str) {
    let file = std::env::temp_dir().join(format!("longpole-fuzz-{name}-{:016x}", hash(input)));
    let written = std::fs::write(&file, input);
    let mut hex = String::new();
    input.iter().take(4096).for_each(|byte| {
        let _ = write!(hex, "{byte:02x}");
    });
    println!("{name} broke on {what}, {} bytes", input.len());
    println!("hex of the first 4096: {hex}");
    println!("base64: {}", base64::engine::general_purpose::STANDARD.encode(input));
    match written {
        Ok(()) => println!("written to {}; add it to fuzz/corpus/{name}/ once it is fixed", file.display()),
        Err(error) => println!("cannot be written to {}: {error}", file.display()),
    }
}

fn hash(input: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(input)
}
