//! What must hold of any text whatever, for the tests and for the fuzzer in `fuzz/`.

use cairn_domain::kind::Kind;
use cairn_interchange::markdown::{self, Syntax};
use cairn_interchange::reading::{FileReading, read};
use cairn_interchange::resolve::fold;
use cairn_interchange::vault::{FileText, Flavour, Settings};

fn file(path: &str, text: &str) -> FileText {
    FileText {
        path: path.into(),
        text: text.into(),
        digest: String::new(),
        size: text.len() as u64,
        modified: None,
    }
}

/// Reads a text in every way there is and checks what must always hold.
pub fn check(text: &str) {
    for syntax in [Syntax::Obsidian, Syntax::Logseq, Syntax::Org] {
        let start = markdown::split_front_matter(text).body_start;
        let outline = markdown::outline(text, start, syntax);
        let mut end = start;
        for task in &outline.tasks {
            assert!(task.span.start >= end, "tasks are apart");
            assert!(task.span.start <= task.text.start && task.text.end <= task.span.end);
            let _ = (&text[task.span.clone()], &text[task.text.clone()]);
            end = task.span.end;
        }
        for link in &outline.links {
            assert!(!text[link.span.clone()].is_empty() && link.span.start >= start);
        }
        for property in &outline.properties {
            assert_eq!(text[property.span.clone()], property.value);
        }
        assert!(text.is_char_boundary(outline.page_properties_end));
    }
    for flavour in [Flavour::Obsidian, Flavour::Logseq] {
        for path in
            ["People/x.md", "Places/x.md", "Events/x.md", "Tasks/x.md", "Projects/x.md", "journals/2026_11_20.org"]
        {
            check_reading(&read(&file(path, text), &Settings::plain(flavour)), text);
        }
    }
    let once = fold(text);
    assert_eq!(fold(&once), once, "folding again changes nothing");
}

fn check_reading(reading: &FileReading, text: &str) {
    let memory = &reading.memory;
    assert!(text.ends_with(&memory.body));
    assert!(!memory.title.contains('\n') || memory.id.is_some());
    for (index, (name, value)) in memory.fields.iter().enumerate() {
        memory.kind.check(name, value).unwrap();
        assert!(memory.fields[..index].iter().all(|(other, _)| other != name), "{name} comes once");
        let json = serde_json::Value::from(value);
        assert!(cairn_domain::value::Value::try_from(json).is_ok(), "{name} holds a value that a claim may have");
    }
    for task in &reading.tasks {
        assert!(!task.title.is_empty() && !task.title.contains('\n'));
        for (name, value) in &task.fields {
            Kind::Task.check(name, value).unwrap();
        }
    }
}
