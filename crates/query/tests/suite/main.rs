//! Answers held against brute force over every span, however the spans were split, sealed and reopened.

#![allow(clippy::unwrap_used, reason = "a test")]

mod asking;
mod checks;
mod damage;
mod damaged_blocks;
mod damaged_elsewhere;
mod dictionaries;
mod keeping;
mod listing;
mod merging;
mod model;
mod oracle;
mod recovering;
mod service_windows;
mod spans;
mod untimed;
mod world;
