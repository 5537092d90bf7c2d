//! A peer that sends what it likes, to the engine that production runs.
#![no_main]

#[path = "../../crates/sync/tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::engine(data));
