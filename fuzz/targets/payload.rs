//! Headers, certificates and payloads of the entries that brains share.
#![no_main]

#[path = "../../crates/sync/tests/support/hostile.rs"]
mod hostile;

libfuzzer_sys::fuzz_target!(|data: &[u8]| hostile::payload(data));
