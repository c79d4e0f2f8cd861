//! Segments built in memory and read back, whole and damaged.

#![allow(clippy::unwrap_used, reason = "a test")]

mod contexts;
mod damage;
mod dictionary;
mod messages;
mod rollups;
mod round_trip;
mod sample;
mod v1;
