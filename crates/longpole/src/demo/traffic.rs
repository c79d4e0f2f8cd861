//! When customers come: at random, in gentle waves, the same for the same seed.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::recorder::{SECONDS, ShopSpan};
use super::shop;

const WAVE_SECONDS: f64 = 75.0;
const WAVE_HEIGHT: f64 = 0.35;

/// Requests one after the other, by their start.
#[derive(Debug)]
pub(super) struct Traffic {
    seed: u64,
    opened: u64,
    per_second: f64,
    rng: StdRng,
    next: u64,
    traces: u64,
}

impl Traffic {
    /// Customers of a shop that opened at an instant.
    pub(super) fn new(seed: u64, opened: u64, per_second: u32) -> Self {
        let rng = StdRng::seed_from_u64(mix(seed, opened));
        Self { seed, opened, per_second: f64::from(per_second.max(1)), rng, next: opened, traces: 0 }
    }

    /// The spans of the next request, if it starts before `until`.
    pub(super) fn next_before(&mut self, until: u64) -> Option<Vec<ShopSpan>> {
        if self.next >= until {
            return None;
        }
        let start = self.next;
        self.traces += 1;
        let wave = (self.age() as f64 / SECONDS as f64 / WAVE_SECONDS * std::f64::consts::TAU).sin();
        let rate = self.per_second * (1.0 + WAVE_HEIGHT * wave);
        let chance: f64 = self.rng.random();
        self.next += (-(1.0 - chance).ln() / rate * SECONDS as f64) as u64 + 1;
        // The opening is part of the seed, so that a shop opened again does not repeat its ids.
        let seed = mix(mix(self.seed, self.opened), self.traces);
        Some(shop::request(seed, start, start - self.opened))
    }

    /// Nobody came until `now`.
    pub(super) fn skip_to(&mut self, now: u64) {
        self.next = self.next.max(now);
    }

    /// How many requests there were.
    pub(super) const fn traces(&self) -> u64 {
        self.traces
    }

    const fn age(&self) -> u64 {
        self.next.saturating_sub(self.opened)
    }
}

/// Two numbers made one, well scattered (SplitMix64).
const fn mix(a: u64, b: u64) -> u64 {
    let mut z = (a ^ b.rotate_left(32)).wrapping_add(b).wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
