//! One binary for all targets; `LONGPOLE_FUZZ_TARGET` names the one to run.
#![no_main]

use std::path::Path;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use longpole_fuzz::{Dice, Target};

// Frames live in the crate that brings RocksDB with it, but name nothing of it: they are taken as they are.
#[allow(dead_code)]
#[path = "../../../crates/span-store/src/frame/mod.rs"]
mod frame;
#[path = "../../../crates/span-store/src/frame_fuzz.rs"]
mod frame_fuzz;

fn chosen() -> &'static Target {
    static CHOSEN: OnceLock<&Target> = OnceLock::new();
    CHOSEN.get_or_init(|| {
        let name = std::env::var("LONGPOLE_FUZZ_TARGET").unwrap_or_default();
        if name == frame_fuzz::FRAME.name {
            return &frame_fuzz::FRAME;
        }
        longpole_fuzz::target(&name).unwrap_or_else(|| {
            let names: Vec<_> = longpole_fuzz::TARGETS.iter().map(|target| target.name).collect();
            panic!("LONGPOLE_FUZZ_TARGET={name:?} is no target; there are {} and frame", names.join(", "))
        })
    })
}

/// Drawn inputs to begin with, so that the fuzzer need not find out what a sound one looks like.
fn draw_some() {
    let Some(dir) = std::env::var_os("LONGPOLE_FUZZ_DRAWN") else { return };
    let mut draw = (chosen().draw)();
    for seed in 0..200 {
        let input = draw(&mut Dice::new(seed));
        std::fs::write(Path::new(&dir).join(format!("drawn-{seed}")), input).expect("a folder to write to");
    }
}

fuzz_target!(
    init: draw_some(),
    |input: &[u8]| {
        chosen().check(input);
    }
);
