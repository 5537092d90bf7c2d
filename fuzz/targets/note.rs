//! Whole notes: front matter, properties, wikilinks, tags and tasks, read in every way there is.
#![no_main]

#[path = "../../crates/interchange/tests/support/reading.rs"]
mod reading;

libfuzzer_sys::fuzz_target!(|text: &str| reading::check(text));
