//! Watches how much memory a parser asks for at once, so that a number in an input cannot decide it.
#![allow(unsafe_code, reason = "an allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// The largest thing that any input may ask for, bytes.
const LEAST: usize = 1 << 20;
/// And more, this many times the length of the input: no block inflates further.
const RATIO_MAX: usize = 40_000;

struct Watching;

#[global_allocator]
static ALLOCATOR: Watching = Watching;

thread_local! {
    /// The greatest allocation of this thread since it was set to 0.
    static GREATEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that ends has nothing to note any more.
    let _ = GREATEST.try_with(|greatest| greatest.set(greatest.get().max(size)));
}

// SAFETY: everything is handed on to the system's allocator as it came.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(old, layout) }
    }
}

/// Runs a target on an input.
///
/// # Panics
/// If the target does, or asks for more memory at once than the input's length allows.
pub(crate) fn watched(run: fn(&[u8]) -> bool, input: &[u8]) -> bool {
    GREATEST.set(0);
    let taken = run(input);
    let (asked, limit) = (GREATEST.get(), LEAST + RATIO_MAX * input.len());
    assert!(asked <= limit, "{asked} bytes asked for at once on the word of {} bytes of input", input.len());
    taken
}
