//! Vaults with broken, hostile and moving files: each is named and skipped, and the rest goes in.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cairn_testkit::Node;
use cairn_tests::files::write;
use cairn_tests::vaults;
use serde_json::{Value, json};

fn problems(report: &Value) -> BTreeMap<String, String> {
    let problems = report["problems"].as_array().expect("problems");
    let text = |problem: &Value, name: &str| problem[name].as_str().expect("a text").to_owned();
    for problem in problems {
        assert!(!text(problem, "message").is_empty(), "{problem}");
    }
    problems.iter().map(|problem| (text(problem, "path"), text(problem, "code"))).collect()
}

async fn titles(node: &Node) -> Vec<String> {
    let memories = vaults::all(node.client(), "sort=title&order=asc").await;
    memories.iter().map(|memory| memory["title"].as_str().expect("a title").to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_and_hostile_files_are_named_and_the_rest_goes_in() {
    let node = Node::fresh().await;
    let outside = tempfile::tempdir().expect("a temporary folder");
    write(outside.path(), &[("Secret.md", "# Secret\n\nNot for import.\n")]);
    let vault = tempfile::tempdir().expect("a temporary folder");
    let folder = vault.path();
    write(
        folder,
        &[
            ("Good.md", "A sound note, see [[Also good]] and [[../../../etc/passwd]].\n"),
            ("deep/Also good.md", "---\ntitle: Also good\n---\nIt goes in.\n"),
            ("Front matter.md", "---\ntags: [unclosed\n: : :\n---\nThe text stays.\n"),
            ("Unclosed.md", "---\ntitle: It never ends\n\nThe text stays.\n"),
            ("Path.md", "---\nid: ../../outside\ntitle: ../../../etc/passwd\n---\nHarmless.\n"),
            ("Bomb.md", &format!("---\na: {}\n---\nBoom.\n", "[".repeat(20_000))),
            (
                "Aliases.md",
                "---\na: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: [*c, *c]\n---\nLaughs.\n",
            ),
            ("Empty.md", ""),
        ],
    );
    fs::write(folder.join("Latin.md"), b"caf\xe9\n").expect("writable");
    symlink(outside.path(), folder.join("out")).expect("a link");
    symlink(outside.path().join("Secret.md"), folder.join("Linked.md")).expect("a link");
    symlink(".", folder.join("loop")).expect("a link");
    symlink("b.md", folder.join("a.md")).expect("a link");
    symlink("a.md", folder.join("b.md")).expect("a link");
    large(&folder.join("Huge.md"));
    assert!(std::process::Command::new("mkfifo").arg(folder.join("Pipe.md")).status().is_ok_and(|s| s.success()));

    let report = vaults::import(node.client(), folder).await;
    let problems = problems(&report);
    let expected = [
        ("Latin.md", "invalid-utf8"),
        ("out", "symlink-skipped"),
        ("Linked.md", "symlink-skipped"),
        ("loop", "symlink-skipped"),
        ("a.md", "symlink-skipped"),
        ("b.md", "symlink-skipped"),
        ("Huge.md", "too-large"),
        ("Pipe.md", "not-a-file"),
        ("Unclosed.md", "front-matter-unclosed"),
    ];
    for (path, code) in expected {
        assert_eq!(problems.get(path).map(String::as_str), Some(code), "{path} of {problems:#?}");
    }
    assert!(problems.contains_key("Front matter.md") && problems.contains_key("Bomb.md"), "{problems:#?}");
    let titles = titles(&node).await;
    for title in ["Good", "Also good", "Front matter", "Bomb", "Aliases"] {
        assert!(titles.iter().any(|known| known == title), "{title} of {titles:?}");
    }
    assert!(!titles.iter().any(|title| title.contains("Secret") || title == "Huge"), "{titles:?}");
    assert_eq!(report["failures"], json!([]), "{report:#}");
    assert_eq!(node.client().get("/health/ready").await.status, 200);
}

/// A file of 100 MB that takes no space.
fn large(path: &Path) {
    fs::File::create(path).and_then(|file| file.set_len(100_000_000)).expect("a sparse file");
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_cannot_be_imported() {
    let node = Node::fresh().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    write(folder.path(), &[("File.md", "x\n")]);
    let cases = [
        json!({ "path": "../etc" }),
        json!({ "path": "" }),
        json!({ "path": folder.path().join("missing") }),
        json!({ "path": folder.path().join("File.md") }),
        json!({ "path": "/tmp\u{0}/x" }),
        json!({ "path": 7 }),
        json!({ "folder": "/tmp" }),
        json!({ "path": folder.path(), "prune": "yes" }),
    ];
    for case in cases {
        assert_eq!(node.client().post("/imports", case.clone()).await.code(422), "VALIDATION_ERROR", "{case}");
    }
    assert_eq!(node.client().get("/health/ready").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_change_while_they_are_read_come_in_whole_or_not_at_all() {
    let node = Node::fresh().await;
    let vault = tempfile::tempdir().expect("a temporary folder");
    let stop = Arc::new(AtomicBool::new(false));
    let (path, stopped) = (vault.path().to_owned(), Arc::clone(&stop));
    let rewrite = move || {
        let mut version = 0_u32;
        while !stopped.load(Ordering::Relaxed) {
            version += 1;
            let text = format!("{version} ").repeat(20_000);
            for file in 0..10 {
                // In place, not by renaming: a reader can meet half of it.
                let _ = fs::write(path.join(format!("Moving {file}.md")), &text);
            }
        }
    };
    write(vault.path(), &[("Still.md", "It does not move.\n")]);
    let writer = std::thread::spawn(rewrite);
    for _ in 0..5 {
        let report = vaults::import(node.client(), vault.path()).await;
        for (path, code) in problems(&report) {
            assert_eq!(code, "changed-while-read", "{path}");
        }
    }
    stop.store(true, Ordering::Relaxed);
    writer.join().expect("the writer stops");
    for memory in vaults::all(node.client(), "bodies=true").await {
        let body = memory["body"].as_str().unwrap_or_default();
        let mut words = body.split_whitespace();
        let first = words.next();
        assert!(
            memory["title"] == "Still" || words.all(|word| Some(word) == first),
            "half of one version, half of another"
        );
    }
    let report = vaults::import(node.client(), vault.path()).await;
    assert_eq!(report["problems"], json!([]), "once it is quiet, everything comes in");
    assert_eq!(titles(&node).await.len(), 11);
}
