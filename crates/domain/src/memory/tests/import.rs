//! Importing again: a three-way comparison, in which what was edited in Cairn is never overwritten (T9).

use crate::body::Base;
use crate::id::EventId;
use crate::kind::Kind;
use crate::memory::command::{Command, Decision, Outcome, Rejection};
use crate::memory::tests::Truth;
use crate::scenario::{World, cloud_ai, imported, importer, user};
use crate::value::Value;
use uuid::Uuid;

/// A memory made of a file.
fn from_file(claims: &[(&str, &str)], body: &str) -> World {
    let mut world = World::empty();
    world.import(claims, body);
    world
}

fn levels(decision: &Decision) -> Vec<Truth> {
    decision.events.iter().map(|decided| decided.author.truth).collect()
}

#[test]
fn t9_an_unchanged_file_writes_nothing() {
    let mut world = from_file(&[("title", "a"), ("mood", "calm")], "text");
    assert_eq!(world.import(&[("title", "a"), ("mood", "calm")], "text").events, []);
    // Also when Cairn's side has changed.
    world.claim(&user(), "mood", "glad");
    world.write(&user(), "text, and more");
    assert_eq!(world.import(&[("title", "a"), ("mood", "calm")], "text").events, []);
    assert_eq!((world.value("mood"), world.text()), (Some("glad".into()), "text, and more"));
}

#[test]
fn t9_a_change_of_the_file_that_cairn_did_not_touch_is_a_direct_edit() {
    let mut world = from_file(&[("title", "a")], "one");
    let decision = world.import(&[("title", "b")], "one two");
    assert_eq!((world.memory.title(), world.text()), ("b", "one two"));
    // The claim, the edit and the note about the file.
    assert_eq!(levels(&decision), [Truth::User; 3]);
    assert!(world.suggested("title").is_empty() && world.waiting_edits().is_empty());
}

#[test]
fn t9_what_was_edited_in_cairn_is_never_overwritten() {
    let mut world = from_file(&[("title", "a")], "one two three");
    world.claim(&user(), "title", "mine");
    world.write(&user(), "one TWO three");
    let decision = world.import(&[("title", "b")], "one two three four");
    assert_eq!((world.memory.title(), world.text()), ("mine", "one TWO three"));
    assert_eq!(decision.outcome(), Outcome::Suggested);
    assert_eq!(world.suggested("title"), ["b"]);
    // Accepting merges the file's change with what was typed.
    world.accept(world.waiting_edits()[0]);
    assert_eq!(world.text(), "one TWO three four");
}

#[test]
fn t9_a_field_that_vanished_from_the_file_is_cleared_unless_it_was_edited() {
    let mut world = from_file(&[("title", "a"), ("mood", "calm"), ("place", "home")], "");
    world.claim(&user(), "place", "away");
    world.import(&[("title", "a")], "");
    assert_eq!(world.value("mood"), Some(Value::Empty));
    assert_eq!(world.value("place"), Some("away".into()));
    assert_eq!(world.suggested("place"), [""], "the file's silence is suggested");
    assert_eq!(world.import(&[("title", "a")], "").events, []);
}

#[test]
fn t9_a_vanished_tag_does_not_hold_and_one_added_in_cairn_stays() {
    let tagged = |tags: &[&str]| {
        let mut file = imported(&[("title", "a")], "");
        file.claims.extend(tags.iter().map(|tag| (tag.parse().expect("a tag"), Value::Flag(true))));
        Command::ImportFile(file)
    };
    let mut world = World::empty();
    world.act(&importer(), tagged(&["tag/x", "tag/y"])).expect("imported");
    world.claim(&user(), "tag/z", Value::Flag(true));
    world.act(&importer(), tagged(&["tag/x"])).expect("imported");
    let tags: Vec<_> = world.memory.tags().map(|(tag, _)| tag.to_owned()).collect();
    assert_eq!(tags, ["x", "z"]);
}

#[test]
fn t9_the_same_change_on_both_sides_is_no_conflict_and_the_next_one_is_told_from_it() {
    let mut world = from_file(&[("title", "a")], "one");
    world.claim(&user(), "title", "b");
    world.write(&user(), "two");
    assert_eq!(world.import(&[("title", "b")], "two").outcome(), Outcome::Unchanged);
    // When the user goes on, and the file changes elsewhere, its title and text are not suggested again.
    world.claim(&user(), "title", "c");
    world.write(&user(), "three");
    world.import(&[("title", "b"), ("mood", "calm")], "two");
    assert_eq!((world.memory.title(), world.text()), ("c", "three"));
    assert!(world.suggested("title").is_empty() && world.waiting_edits().is_empty());
}

#[test]
fn t9_importing_again_after_accepting_or_rejecting_writes_nothing() {
    for accept in [true, false] {
        let mut world = from_file(&[("title", "a")], "one");
        world.claim(&user(), "title", "mine");
        world.write(&user(), "mine: one");
        world.import(&[("title", "b")], "one two");
        let title: EventId =
            world.memory.field(&"title".parse().expect("a name")).expect("claimed").suggestions()[0].id;
        for suggestion in [title, world.waiting_edits()[0]] {
            let _ = if accept { world.accept(suggestion) } else { world.reject(suggestion) };
        }
        let (title, text) = (world.memory.title().to_owned(), world.text().to_owned());
        assert_eq!(world.import(&[("title", "b")], "one two").events, [], "accepted: {accept}");
        // A further change of the file is judged by what was decided.
        world.import(&[("title", "d")], "one two three");
        assert_eq!(world.memory.title(), if accept { "d" } else { "mine" });
        assert_eq!(world.text(), text, "the text differs from the file's either way");
        assert_eq!(title, if accept { "b" } else { "mine" });
        world.accept(world.waiting_edits()[0]);
        assert_eq!(world.text(), if accept { "mine: one two three" } else { "mine: one three" });
    }
}

#[test]
fn t9_an_ai_in_between_does_not_make_the_files_change_a_suggestion() {
    let mut world = from_file(&[("title", "a")], "");
    world.claim(&cloud_ai(), "mood", "calm");
    world.write(&cloud_ai(), "a text by an AI, because there was none");
    world.import(&[("title", "a"), ("mood", "glad")], "the file's own text");
    assert_eq!((world.value("mood"), world.text()), (Some("glad".into()), "the file's own text"));
    assert_eq!(world.memory.body().truth(), Some(Truth::User));
}

#[test]
fn t9_importing_over_a_memory_made_in_cairn_suggests() {
    let mut world = World::note("mine");
    world.import(&[("title", "Its")], "the file's");
    assert_eq!((world.memory.title(), world.text()), ("Title", "mine"));
    assert_eq!((world.suggested("title").len(), world.waiting_edits().len()), (1, 1));
}

#[test]
fn t9_undoing_an_import_is_not_undone_by_the_next_one() {
    let mut world = from_file(&[("title", "a")], "one");
    world.import(&[("title", "b")], "two");
    world.undo(&user()).expect("the import");
    assert_eq!((world.memory.title(), world.text()), ("a", "one"));
    assert_eq!(world.import(&[("title", "b")], "two").events, []);
}

#[test]
fn a_pruned_memory_is_put_away_as_it_is_and_comes_back_with_its_file() {
    let mut world = from_file(&[("title", "a")], "one");
    world.act(&importer(), Command::PruneFile).expect("it has a file");
    assert!(world.memory.is_archived() && world.memory.file().is_some_and(|file| file.vanished));
    assert_eq!((world.memory.title(), world.text()), ("a", "one"));
    assert_eq!(world.act(&importer(), Command::PruneFile).expect("again").events, []);
    world.import(&[("title", "a")], "one");
    assert!(!world.memory.is_archived() && world.memory.file().is_some_and(|file| !file.vanished));
    let mut other = World::note("");
    assert!(matches!(other.act(&importer(), Command::PruneFile), Err(Rejection::NotImported { .. })));
}

#[test]
fn t5_an_automation_that_imports_never_replaces_the_users_words() {
    let automation = crate::scenario::Actor {
        origin: "automation:import".parse().expect("an origin"),
        ..crate::scenario::automation()
    };
    let mut world = World::empty();
    let file = |title: &str, body: &str| Command::ImportFile(imported(&[("title", title)], body));
    world.act(&automation, file("a", "one")).expect("imported");
    world.claim(&user(), "title", "mine");
    let base = Base::Effective;
    world.write_from(&user(), base, "mine");
    world.act(&automation, file("b", "two")).expect("imported");
    world.act(&automation, file("mine", "mine")).expect("imported");
    assert_eq!((world.memory.title(), world.text()), ("mine", "mine"));
    assert_eq!(world.memory.body().truth(), Some(Truth::User));
}

#[test]
fn t9_two_vaults_that_have_a_journal_of_one_day_do_not_overwrite_each_other() {
    let daily = |vault: u128, claims: &[(&str, &str)], body: &str| {
        let mut file = imported(claims, body);
        file.kind = Kind::Daily;
        file.file.vault = Uuid::from_u128(vault);
        Command::ImportFile(file)
    };
    let first = || daily(1, &[("log_date", "2026-11-21"), ("mood", "calm")], "from one");
    let second = || daily(2, &[("log_date", "2026-11-21"), ("place", "home")], "from another");
    let mut world = World::empty();
    world.act(&importer(), first()).expect("imported");
    let decision = world.act(&importer(), second()).expect("imported");
    assert_eq!(decision.outcome(), Outcome::Suggested);
    assert_eq!((world.text(), world.value("mood")), ("from one", Some("calm".into())));
    assert_eq!(world.waiting_edits().len(), 1, "its text is offered");
    assert_eq!(world.memory.file().expect("a file").vault, Uuid::from_u128(1));
    // Importing either again says nothing new.
    assert_eq!(world.act(&importer(), first()).expect("imported").events, []);
    assert_eq!(world.act(&importer(), second()).expect("imported").events, []);
    // When the first one's file is gone, the other one takes its place.
    world.act(&importer(), Command::PruneFile).expect("pruned");
    world.act(&importer(), second()).expect("imported");
    assert_eq!(world.memory.file().expect("a file").vault, Uuid::from_u128(2));
}
