//! Frames of the protocol between brains, and what is in them.
#![no_main]

#[path = "../../crates/sync/tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::frame(data));
