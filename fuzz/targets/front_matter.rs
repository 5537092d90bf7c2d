//! YAML as it stands in front matter, and single values as they stand in properties.
#![no_main]

use cairn_interchange::markdown::{inline_scalar, links_in, parse_yaml, shown, split_front_matter, Syntax};

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = parse_yaml(text);
    let _ = inline_scalar(text);
    let whole = format!("---\n{text}\n---\nbody\n");
    let split = split_front_matter(&whole);
    assert!(whole.is_char_boundary(split.body_start));
    for syntax in [Syntax::Obsidian, Syntax::Logseq, Syntax::Org] {
        let _ = (links_in(text, syntax), shown(text, syntax));
    }
});
