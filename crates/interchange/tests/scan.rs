//! Vaults with things in them that must not be read, or cannot be.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::path::Path;

use cairn_interchange::ids::Ids;
use cairn_interchange::import;
use cairn_interchange::plan::Plan;
use cairn_interchange::problem::ProblemCode;
use cairn_interchange::vault::{Flavour, MAX_FILE_BYTES, ScanError, ScanOptions, Vault};
use uuid::Uuid;

fn plan_of(root: &Path) -> Plan {
    import(root, &ScanOptions::default(), &Ids { brain: Uuid::nil(), vault: Uuid::nil() }, &mut |_, _| ()).unwrap()
}

fn write(root: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn codes(plan: &Plan) -> Vec<(&str, ProblemCode)> {
    let mut codes: Vec<_> = plan.problems.iter().map(|problem| (problem.path.as_str(), problem.code)).collect();
    codes.sort();
    codes
}

fn paths(plan: &Plan) -> Vec<&str> {
    plan.memories.iter().map(|memory| memory.path.as_str()).collect()
}

#[test]
fn a_missing_folder_or_a_file_is_refused_with_a_hint() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "a.md", "x");
    let scan = |path: &str| Vault::scan(&folder.path().join(path), &ScanOptions::default());
    assert!(matches!(scan("none").unwrap_err(), ScanError::NotFound(_)));
    assert!(matches!(scan("a.md").unwrap_err(), ScanError::NotAFolder(_)));
}

#[test]
fn each_broken_file_is_named_and_the_rest_goes_in() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "good.md", "fine");
    write(root, "latin.md", b"caf\xe9");
    write(root, "front.md", "---\na: [\n---\nbody");
    write(root, "Case.md", "one");
    write(root, "case.md", "two");
    // A hole of 100 MB: as long as a file of that size, without its bytes.
    fs::File::create(root.join("huge.md")).unwrap().set_len(MAX_FILE_BYTES.max(100 * 1024 * 1024)).unwrap();
    let plan = plan_of(root);
    assert_eq!(
        codes(&plan),
        [
            ("case.md", ProblemCode::CaseClash),
            ("front.md", ProblemCode::FrontMatterMalformed),
            ("huge.md", ProblemCode::TooLarge),
            ("latin.md", ProblemCode::InvalidUtf8),
        ]
    );
    assert_eq!(paths(&plan), ["Case.md", "case.md", "front.md", "good.md"]);
    assert_eq!(plan.counts.skipped, 2);
    let kept = plan.memories.iter().find(|memory| memory.path == "front.md").unwrap();
    assert_eq!(kept.body, "---\na: [\n---\nbody", "nothing is lost");
}

#[test]
fn what_is_private_or_no_note_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    for path in [".obsidian/x.md", ".trash/x.md", "sub/.hidden/x.md", ".x.md"] {
        write(root, path, "x");
    }
    write(root, "a.md", "x");
    write(root, "b.MARKDOWN", "x");
    write(root, "c.org", "x");
    write(root, "d.png", "x");
    let plan = plan_of(root);
    assert_eq!(paths(&plan), ["a.md", "b.MARKDOWN"]);
    assert_eq!(plan.counts.attachments, 2);
}

#[test]
fn logseq_is_known_by_its_folders() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "logseq/config.edn", "{}");
    write(root, "logseq/bak/pages/a/2026.md", "old");
    write(root, "pages/a.md", "- TODO x");
    write(root, "journals/2026_11_20.org", "* TODO y");
    let scan = Vault::scan(root, &ScanOptions::default()).unwrap();
    assert_eq!(scan.settings.flavour, Flavour::Logseq);
    let files: Vec<_> = scan.files.iter().map(|file| file.path.as_str()).collect();
    assert_eq!(files, ["journals/2026_11_20.org", "pages/a.md"]);
    assert_eq!(plan_of(root).counts.tasks, 2);
}

#[cfg(unix)]
#[test]
fn links_pipes_and_loops_are_never_followed() {
    use std::os::unix::fs::symlink;
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "secret.md", "secret");
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "notes/a.md", "x");
    symlink(outside.path().join("secret.md"), root.join("file.md")).unwrap();
    symlink(outside.path(), root.join("folder")).unwrap();
    symlink(root, root.join("notes/loop")).unwrap();
    symlink("notes/a.md", root.join("inside.md")).unwrap();
    symlink("nowhere", root.join("dangling.md")).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        root.join("pipe.md"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    let plan = plan_of(root);
    assert_eq!(paths(&plan), ["notes/a.md"]);
    let skipped = ProblemCode::SymlinkSkipped;
    assert_eq!(
        codes(&plan),
        [
            ("dangling.md", skipped),
            ("file.md", skipped),
            ("folder", skipped),
            ("inside.md", skipped),
            ("notes/loop", skipped),
            ("pipe.md", ProblemCode::NotAFile),
        ]
    );
}

#[cfg(unix)]
#[test]
fn a_folder_that_becomes_a_link_after_listing_is_not_entered() {
    let outside = tempfile::tempdir().unwrap();
    write(outside.path(), "a.md", "secret");
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "notes/a.md", "mine");
    let scan = Vault::scan(folder.path(), &ScanOptions::default()).unwrap();
    fs::remove_dir_all(folder.path().join("notes")).unwrap();
    std::os::unix::fs::symlink(outside.path(), folder.path().join("notes")).unwrap();
    assert_eq!(scan.read(&scan.files[0]).unwrap_err().code, ProblemCode::SymlinkSkipped);
}

#[cfg(unix)]
#[test]
fn deep_folders_and_odd_names_are_named() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"caf\xe9.md")), "x").unwrap();
    write(root, &format!("{}a.md", "d/".repeat(80)), "too deep");
    write(root, "Ok.md", "x");
    let plan = plan_of(root);
    assert_eq!(paths(&plan), ["Ok.md"]);
    let codes: Vec<_> = plan.problems.iter().map(|problem| problem.code).collect();
    assert_eq!(codes, [ProblemCode::InvalidFileName, ProblemCode::TooDeep]);
}

#[test]
fn two_files_about_one_day_or_of_one_id_stay_apart() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    write(root, "Daily/2026-11-20.md", "one");
    write(root, "Journal/2026-11-20.md", "two");
    let id = "01920b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f";
    write(root, "x.md", format!("---\ncairn: {id}\n---\none"));
    write(root, "y.md", format!("---\ncairn: {id}\n---\ntwo"));
    write(root, "same.md", "one");
    write(root, "same.markdown", "two");
    let plan = plan_of(root);
    let mut ids: Vec<_> = plan.memories.iter().map(|memory| memory.id).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    assert_eq!(
        codes(&plan),
        [("Journal/2026-11-20.md", ProblemCode::DuplicateDaily), ("y.md", ProblemCode::DuplicateId)]
    );
}
