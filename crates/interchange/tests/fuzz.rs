//! Hostile texts: no parser may panic, give a span that is none, or take long.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "support/reading.rs"]
mod reading;

use std::path::Path;
use std::time::{Duration, Instant};

use cairn_interchange::markdown;
use proptest::prelude::*;
use reading::check;

/// What reading one text in all fifteen ways may take, beside other tests on a busy machine. Reading that takes more than
/// time in proportion takes minutes here.
const TIME_LIMIT: Duration = Duration::from_secs(10);

#[test]
fn the_corpus_is_read_in_time() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        in_time(&path.display().to_string(), &text);
        read += 1;
    }
    assert!(read >= 12, "the corpus is there");
}

fn in_time(name: &str, text: &str) {
    let started = Instant::now();
    check(text);
    let took = started.elapsed();
    assert!(took < TIME_LIMIT, "{name} took {took:?}");
}

/// Inputs that are long because they repeat; too long to be kept as files.
#[test]
fn repetition_takes_time_in_proportion() {
    let long = |part: &str| part.repeat(60_000 / part.len());
    for part in [
        "[[",
        "]]",
        "[[a",
        "[[a]]",
        "![[a|b#c]]",
        "[a](b.md)",
        "[a](",
        "](",
        "((",
        "`",
        "``` ",
        "~~~\n",
        "#a ",
        "#",
        "# ",
        "- [ ] a\n",
        "\t- TODO a\n",
        "- ",
        "> ",
        ">",
        "* ",
        "a:: b\n",
        "(a:: ",
        "[a:: b] ",
        "::",
        "a ::b",
        "<!--",
        "<a ",
        "_*",
        "![",
        "\\",
        "&amp;",
        "|a",
        "|-|\n",
        "\u{202e}",
        "e\u{301}",
        "\r\n",
        "\r",
        "- a\n\n\t\t\t",
        "1. ",
        "- DONE x\n  a:: b\n",
        "📅 2026-11-21 ",
        "due:: ",
        "DEADLINE: <",
        "{{embed ",
        "\u{0}",
    ] {
        in_time(&format!("{part:?}"), &long(part));
        in_time(&format!("a task of {part:?}"), &format!("- [ ] {}", long(part).replace(['\n', '\r'], " ")));
    }
}

#[test]
fn hostile_front_matter_is_refused_in_time() {
    let size = 100_000;
    for part in [
        "[", "{", "- ", "? ", "a: {", "[\"]\",", "&a ", "!a ", "*a ", "'", "\"", "[#]\n", "a: b\n", "|\n ", "x",
        "? - ", "%a\n",
    ] {
        in_time(&format!("{part:?}"), &format!("---\n{}\n---\nbody", part.repeat(size / part.len())));
    }
    let bomb = "---\na: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n\
                d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d]\nf: [*e,*e,*e,*e,*e,*e,*e,*e]\n---\n";
    in_time("a bomb", bomb);
    assert!(markdown::split_front_matter(bomb).problem.is_some());
}

/// Pieces that mean something to the parsers, so that random texts get somewhere.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => prop::sample::select(vec![
            "[[", "]]", "![[", "#[[", "|", "#", "^", "](", ")", "((", "))", "`", "```", "~~~", "\n", "\r\n", "\t", "  ", "- ",
            "- [ ] ", "- [x] ", "TODO ", "- DONE ", "::", ":: ", "key:: ", "[due:: ", "---\n", "...\n", "title: ", "tags: ",
            "type: person\n", "date: 2026-11-21\n", "coordinates: [1, 2]\n", "aliases:\n  - ", "&a ", "*a", "📅 ", "2026-11-21",
            "DEADLINE: <2026-11-21 Sat .+1d>", "[#A]", "\u{feff}", "\u{202e}", "é", "🌲", "\\", "\"", "'", "{", "}", "> ", "%20",
            ".md", "../", "/", "60ab6f5b-4bdc-4ef0-a0f8-6cad9dcad2b2", "cairn: 01920b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f\n", "\u{0}",
            "#+TITLE: ", "#+BEGIN_SRC\n", ":id: ", "* ", "kind: ", "status: done\n", "links:\n  - \"[[a|b]]\"\n",
        ]).prop_map(str::to_owned),
        1 => ".{0,8}",
        1 => "[a-z]{1,6}",
    ];
    prop::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_text_is_read(text in text()) {
        check(&text);
    }

    #[test]
    fn any_front_matter_is_read(yaml in text()) {
        check(&format!("---\n{yaml}\n---\n{yaml}"));
    }

    #[test]
    fn any_characters_are_read(text in any::<String>()) {
        check(&text);
    }
}
