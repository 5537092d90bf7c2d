//! Memories, rule by rule: decisions given what was written before.

mod import;
mod undo;

use super::*;
use crate::body::{Base, MAX_BODY_BYTES};
use crate::event::{Erased, MemoryEvent};
use crate::memory::command::{BodyText, Command, MAX_CHANGED_FIELDS, Outcome, Rejection};
use crate::scenario::{Actor, Ids, World, automation, cloud_ai, imported, local_ai, name, user};

fn change(claims: &[(&str, Value)]) -> Command {
    let claims = claims.iter().map(|(field, value)| (name(field), value.clone())).collect();
    Command::ChangeMemory { claims, body: None }
}

#[test]
fn t1_every_event_has_the_level_of_its_author() {
    for truth in Truth::ALL {
        let actor = Actor::new(truth, 3);
        let mut world = World::note_by(&actor, "text");
        world.write(&actor, "more text");
        assert!(world.log.iter().all(|decided| decided.author.truth == truth));
    }
}

#[test]
fn t3_creating_claims_each_field_once_and_the_kind_at_the_creators_level() {
    let mut world = World::empty();
    let claims = [("title", "a"), ("title", "b")].map(|(field, value)| (name(field), Value::from(value)));
    let tags = [("archived", true), ("tag/x", true), ("tag/x", true), ("tag/y", false)];
    let claims = claims.into_iter().chain(tags.map(|(field, value)| (name(field), Value::Flag(value)))).collect();
    let decision = world.act(&cloud_ai(), Command::CreateMemory { kind: Kind::Task, claims, body: "".into() });
    // Created, title, archived and one tag.
    assert_eq!(decision.expect("created").events.len(), 4);
    assert_eq!((world.memory.title(), world.memory.kind(), world.memory.is_archived()), ("b", Kind::Task, true));
    assert!(
        world.memory.fields().values().all(|claims| claims.conflict().is_empty() && claims.heads().len() == 1)
    );
    assert_eq!(world.memory.field(&FieldName::kind()).expect("claimed").heads()[0].author.truth, Truth::CloudAi);
}

#[test]
fn t3_higher_truth_replaces_and_equal_truth_replaces() {
    let mut world = World::note("");
    assert_eq!(world.claim(&cloud_ai(), "mood", "calm"), Outcome::Applied);
    assert_eq!(world.claim(&local_ai(), "mood", "glad"), Outcome::Applied);
    assert_eq!(world.claim(&user(), "mood", "tired"), Outcome::Applied);
    assert_eq!(world.claim(&Actor::new(Truth::User, 2), "mood", "awake"), Outcome::Applied);
    assert_eq!(world.value("mood"), Some("awake".into()));
    assert!(world.suggested("mood").is_empty());
}

#[test]
fn t3_saying_it_again_writes_nothing_unless_at_a_higher_truth() {
    let mut world = World::note("");
    world.claim(&local_ai(), "mood", "calm");
    let events = world.log.len();
    assert_eq!(world.claim(&cloud_ai(), "mood", "calm"), Outcome::Unchanged);
    assert_eq!(world.claim(&local_ai(), "tag/x", Value::Flag(false)), Outcome::Unchanged, "it never held");
    assert_eq!(world.log.len(), events);
    assert_eq!(world.claim(&user(), "mood", "calm"), Outcome::Applied, "the user confirms it");
    assert_eq!(world.claim(&cloud_ai(), "mood", "glad"), Outcome::Suggested);
}

#[test]
fn t5_a_write_that_cannot_win_waits_and_the_caller_is_told() {
    let mut world = World::note("mine");
    assert_eq!(world.claim(&cloud_ai(), "title", "Better"), Outcome::Suggested);
    assert_eq!(world.write(&cloud_ai(), "mine, improved"), Outcome::Suggested);
    assert_eq!((world.memory.title(), world.text()), ("Title", "mine"));
    assert_eq!(world.suggested("title"), ["Better"]);
    assert_eq!(world.waiting_edits().len(), 1);
}

#[test]
fn t5_the_same_suggestion_twice_is_one_and_a_new_one_replaces_its_authors_own() {
    let mut world = World::note("mine");
    for value in ["b", "b", "c"] {
        assert_eq!(world.claim(&cloud_ai(), "title", value), Outcome::Suggested);
    }
    world.claim(&local_ai(), "title", "d");
    assert_eq!(world.suggested("title"), ["d", "c"]);
    world.write(&cloud_ai(), "its");
    world.write(&cloud_ai(), "its");
    assert_eq!(world.waiting_edits().len(), 1);
}

#[test]
fn t5_an_ai_cannot_rename_archive_retag_relink_or_rekind_a_users_memory() {
    let link = "link/about/00000000-0000-0000-0000-000000000001";
    for truth in &Truth::ALL[1..] {
        let mut world = World::note("");
        world.act(&user(), change(&[("tag/mine", Value::Flag(true)), (link, Value::Flag(true))])).expect("fits");
        for (field, value) in [
            ("title", Value::from("Its")),
            ("title", Value::Empty),
            ("archived", Value::Flag(true)),
            ("kind", Value::from("task")),
            ("tag/mine", Value::Flag(false)),
            (link, Value::Flag(false)),
        ] {
            let before = world.value(field);
            assert_eq!(
                world.claim(&Actor::new(*truth, 1), field, value),
                Outcome::Suggested,
                "{field} by {truth}"
            );
            assert_eq!(world.value(field), before);
        }
        assert_eq!(world.memory.tags().count(), 1);
        assert_eq!(world.memory.links().count(), 1);
    }
}

#[test]
fn t5_what_is_replaced_takes_with_it_what_said_the_same() {
    // Given a suggestion that the user came to agree with
    let mut world = World::note("");
    world.claim(&user(), "mood", "calm");
    world.claim(&cloud_ai(), "mood", "glad");
    world.claim(&user(), "mood", "glad");
    // when the user changes their mind
    world.claim(&user(), "mood", "tired");
    // then it is not suggested again.
    assert!(world.suggested("mood").is_empty());
}

#[test]
fn t6_accepting_writes_a_claim_of_level_one_that_names_the_suggestion() {
    let mut world = World::note("");
    let suggestion = world.claimed(&cloud_ai(), "title", "Better");
    let decision = world.accept(suggestion);
    let MemoryEvent::FieldClaimed(claimed) = &decision.events[0].event else { panic!("{decision:?}") };
    assert_eq!((claimed.accepts, decision.events[0].author.truth), (Some(suggestion), Truth::User));
    let claims = world.memory.field(&FieldName::title()).expect("claimed");
    assert_eq!(claims.get(suggestion).map(|claim| claim.author.truth), Some(Truth::CloudAi));
    assert_eq!((world.memory.title(), world.suggested("title").len()), ("Better", 0));
}

#[test]
fn t6_accepting_something_else_instead_settles_the_suggestion_too() {
    let mut world = World::note("mine");
    let suggestion = world.claimed(&cloud_ai(), "title", "Better");
    let edited = Some(Value::from("Best"));
    world.act(&user(), Command::AcceptSuggestion { suggestion, edited }).expect("it waits");
    assert_eq!((world.memory.title(), world.suggested("title").len()), ("Best", 0));
    world.write(&cloud_ai(), "its");
    let suggestion = world.waiting_edits()[0];
    let edited = Some(Value::from("ours"));
    world.act(&user(), Command::AcceptSuggestion { suggestion, edited }).expect("it waits");
    assert_eq!((world.text(), world.waiting_edits().len()), ("ours", 0));
}

#[test]
fn t6_only_the_user_accepts_rejects_and_erases() {
    let mut world = World::note("mine");
    let suggestion = world.claimed(&cloud_ai(), "title", "Better");
    for actor in [automation(), local_ai(), cloud_ai(), user().at(Truth::Automation)] {
        for command in [
            Command::AcceptSuggestion { suggestion, edited: None },
            Command::RejectSuggestion { suggestion },
            Command::EraseMemory,
        ] {
            let refused = world.act(&actor, command.clone());
            assert!(matches!(refused, Err(Rejection::UserOnly { .. })), "{command:?} by {actor:?}");
        }
    }
    // And were such an event in the log all the same, it would not count.
    let by = world.log[0].author.clone();
    let by = Authorship { truth: Truth::CloudAi, ..by };
    world.memory.apply(EventId::new(Uuid::max()), by, MemoryEvent::Erased(Erased {})).expect("applied");
    assert!(world.memory.is_present());
}

#[test]
fn t6_a_rejection_is_remembered_for_the_same_principal_and_value() {
    let mut world = World::note("mine");
    let suggestion = world.claimed(&cloud_ai(), "title", "Better");
    world.reject(suggestion);
    assert_eq!(world.claim(&cloud_ai(), "title", "Better"), Outcome::RejectedBefore);
    assert_eq!(world.claim(&cloud_ai(), "title", "Best"), Outcome::Suggested);
    assert_eq!(world.claim(&local_ai(), "title", "Better"), Outcome::Suggested);
}

#[test]
fn t6_a_rejection_is_remembered_when_nothing_stands_against_it_any_more() {
    let mut world = World::note("");
    world.claim(&user(), "mood", "tired");
    let suggestion = world.claimed(&cloud_ai(), "mood", "glad");
    world.reject(suggestion);
    world.act(&user(), Command::RetractClaim { field: name("mood") }).expect("its own");
    assert_eq!(world.value("mood"), None);
    assert_eq!(world.claim(&cloud_ai(), "mood", "glad"), Outcome::RejectedBefore);
    assert_eq!(world.claim(&cloud_ai(), "mood", "calm"), Outcome::Applied);
}

#[test]
fn t6_a_rejected_edit_is_remembered_also_after_the_user_wrote_on() {
    let mut world = World::note("One.\n");
    world.write(&cloud_ai(), "One.\nBuy now!\n");
    world.reject(world.waiting_edits()[0]);
    assert_eq!(world.write(&cloud_ai(), "One.\nBuy now!\n"), Outcome::RejectedBefore, "the same text");
    world.write(&user(), "Zero.\nOne.\n");
    assert_eq!(world.write(&cloud_ai(), "Zero.\nOne.\nBuy now!\n"), Outcome::RejectedBefore, "the same change");
    assert_eq!(world.write(&cloud_ai(), "Zero.\nOne.\nTwo.\n"), Outcome::Suggested);
    assert_eq!(world.write(&local_ai(), "Zero.\nOne.\nBuy now!\n"), Outcome::Suggested, "another principal");
}

#[test]
fn t6_what_was_decided_cannot_be_decided_again() {
    let mut world = World::note("mine");
    let suggestion = world.claimed(&cloud_ai(), "title", "Better");
    world.write(&cloud_ai(), "its");
    let edit = world.waiting_edits()[0];
    world.accept(suggestion);
    world.reject(edit);
    for suggestion in [suggestion, edit, EventId::new(Uuid::nil())] {
        let again = world.act(&user(), Command::AcceptSuggestion { suggestion, edited: None });
        assert!(matches!(again, Err(Rejection::NoSuchSuggestion { .. })));
    }
}

#[test]
fn t4_either_side_of_a_conflict_can_be_accepted() {
    // Given two devices of the user that did not know of each other's claim
    let mut world = World::note("");
    let mut other = world.clone();
    other.counter += 100;
    let (one, two) = (world.claimed(&user(), "mood", "calm"), other.claimed(&user(), "mood", "glad"));
    let theirs = other.log.last().expect("written").clone();
    world.memory.apply(theirs.id, theirs.author, theirs.event).expect("applied");
    let conflict = |world: &World| world.memory.field(&name("mood")).expect("claimed").conflict().len();
    assert_eq!(conflict(&world), 2);
    // when the earlier one is chosen, then the conflict is over.
    for choice in [one, two] {
        let mut world = world.clone();
        world.counter += 200;
        world.accept(choice);
        assert_eq!(conflict(&world), 0);
        assert_eq!(world.value("mood"), Some(if choice == one { "calm".into() } else { "glad".into() }));
    }
}

#[test]
fn t7_clearing_stays_and_retracting_shows_the_next_one() {
    let mut world = World::note("");
    world.claim(&cloud_ai(), "mood", "calm");
    world.claim(&user(), "mood", "tired");
    assert_eq!(world.claim(&user(), "mood", Value::Empty), Outcome::Applied);
    assert_eq!(world.value("mood"), Some(Value::Empty));
    assert_eq!(world.claim(&cloud_ai(), "mood", "glad"), Outcome::Suggested, "empty wins, too");
    for shown in [Some("tired"), Some("glad"), None] {
        if world.act(&user(), Command::RetractClaim { field: name("mood") }).is_err() {
            break;
        }
        assert_eq!(world.value("mood"), shown.map(Value::from));
    }
}

#[test]
fn t7_nobody_retracts_what_others_said_nor_what_makes_the_memory() {
    let mut world = World::note("");
    let refused = |result| matches!(result, Err(Rejection::NothingToRetract { .. }));
    for actor in [cloud_ai(), Actor::new(Truth::User, 2), user().at(Truth::CloudAi)] {
        assert!(refused(world.act(&actor, Command::RetractClaim { field: FieldName::title() })), "{actor:?}");
    }
    for field in ["kind", "archived", "body", "mood"] {
        assert!(refused(world.act(&user(), Command::RetractClaim { field: name(field) })), "{field}");
    }
}

#[test]
fn t8_the_origin_chain_tells_how_a_value_came_about() {
    let mut world = World::note("");
    let first = world.claimed(&local_ai(), "mood", "calm");
    let second = world.claimed(&user(), "mood", "tired");
    let suggestion = world.claimed(&cloud_ai(), "mood", "glad");
    let accepted = world.accept(suggestion).events[0].id;
    let chain = world.memory.origin_chain(&name("mood"));
    let told: Vec<_> = chain.iter().map(|step| (step.event, step.author.truth, step.accepted)).collect();
    assert_eq!(
        told,
        [
            (accepted, Truth::User, Some(suggestion)),
            (suggestion, Truth::CloudAi, None),
            (second, Truth::User, None),
            (first, Truth::LocalAi, None),
        ]
    );
    let written: Vec<_> = world.memory.origin_chain(&FieldName::title()).iter().map(|step| step.event).collect();
    assert_eq!(written.len(), 1);
}

#[test]
fn t8_an_edge_that_does_not_count_is_no_part_of_the_chain() {
    let mut world = World::note("");
    let mine = world.claimed(&user(), "mood", "calm");
    let claimed = FieldClaimed { field: name("mood"), value: "x".into(), supersedes: vec![mine], accepts: None };
    let by = Authorship { truth: Truth::CloudAi, ..world.log[0].author.clone() };
    let id = EventId::new(Uuid::from_u128(999));
    world.memory.apply(id, by, MemoryEvent::FieldClaimed(claimed)).expect("applied");
    world.act(&user(), Command::RetractClaim { field: name("mood") }).expect("its own");
    let chain: Vec<_> = world.memory.origin_chain(&name("mood")).iter().map(|step| step.event).collect();
    assert_eq!(chain, [id]);
}

#[test]
fn t9_an_edit_from_a_text_the_caller_saw_keeps_what_was_written_since() {
    let mut world = World::note("one two three");
    let seen = world.memory.body().heads()[0];
    world.write(&user(), "one two three four");
    let (outcome, _) = world.write_from(&user(), Base::After(seen), "ONE two three");
    assert_eq!((outcome, world.text()), (Outcome::Applied, "ONE two three four"));
    assert_eq!(world.refolded(), world.memory);
}

#[test]
fn t9_the_stated_effect_of_an_edit_is_what_merging_gives_whatever_its_id() {
    for shift in 0..20 {
        // Given two insertions at one place, of which the ids settle the order
        let mut world = World { ids: Ids::Scattered, counter: shift, ..World::empty() };
        let create = Command::CreateMemory { kind: Kind::Note, claims: vec![], body: "ab".into() };
        world.act(&user(), create).expect("created");
        let seen = world.memory.body().heads()[0];
        world.write(&user(), "aXb");
        world.write_from(&user(), Base::After(seen), "aYb");
        // then those who take the effect as stated have the text of those who merge.
        assert_eq!(world.merged_afresh(), world.memory);
    }
}

#[test]
fn t9_deleting_what_is_deleted_already_is_no_edit() {
    let mut world = World::note("one two");
    let seen = world.memory.body().heads()[0];
    world.write(&user(), "one");
    assert_eq!(world.write_from(&user(), Base::After(seen), "one"), (Outcome::Unchanged, None));
}

#[test]
fn t9_a_base_that_is_not_there_is_refused() {
    let mut world = World::note("one");
    let edit = EventId::new(Uuid::nil());
    let body = Some(BodyText { text: "two".into(), base: Base::After(edit) });
    let refused = world.act(&user(), Command::ChangeMemory { claims: vec![], body });
    assert!(matches!(refused, Err(Rejection::UnknownBase { .. })));
}

#[test]
fn t9_an_edit_that_would_make_the_merged_text_too_long_is_told_to_wait() {
    let mut world = World::note("text");
    let seen = world.memory.body().heads()[0];
    let long = "a".repeat(600 * 1024);
    assert_eq!(world.write(&user(), &format!("{long} text")), Outcome::Applied);
    let shown = world.text().to_owned();
    let (outcome, edit) = world.write_from(&user(), Base::After(seen), &format!("text {long}"));
    assert_eq!((outcome, world.text()), (Outcome::Suggested, shown.as_str()));
    assert_eq!(world.waiting_edits(), edit.into_iter().collect::<Vec<_>>());
    let (outcome, _) = world.write_from(&user(), Base::After(seen), "text!");
    assert_eq!((outcome, world.text()), (Outcome::Applied, format!("{shown}!").as_str()));
    assert_eq!(world.memory, world.refolded());
}

#[test]
fn limits_hold_for_every_way_in() {
    let mut world = World::note("mine");
    let long = "a".repeat(MAX_BODY_BYTES + 1);
    world.write(&cloud_ai(), "its");
    let suggestion = world.waiting_edits()[0];
    let body = Some(BodyText { text: long.clone(), base: Base::Effective });
    for command in [
        Command::ChangeMemory { claims: vec![], body },
        Command::AcceptSuggestion { suggestion, edited: Some(Value::Text(long.clone())) },
        Command::ImportFile(imported(&[], &long)),
    ] {
        assert!(matches!(world.act(&user(), command), Err(Rejection::BodyTooLong { .. })));
    }
    let claims: Vec<_> = (0..=MAX_CHANGED_FIELDS).map(|at| (name(&format!("f{at}")), Value::Flag(true))).collect();
    let many = world.act(&user(), Command::ChangeMemory { claims, body: None });
    assert!(matches!(many, Err(Rejection::TooManyFields { .. })));
    let body_claim = world.act(&user(), change(&[("body", "x".into())]));
    assert!(matches!(body_claim, Err(Rejection::InvalidValue(_))));
    assert_eq!(world.text(), "mine");
}

#[test]
fn a_command_is_checked_against_the_kind_it_asks_for() {
    let mut world = World::note("");
    assert!(world.act(&user(), change(&[("status", "anything".into())])).is_ok());
    let both = [("status", Value::from("anything")), ("kind", Value::from("task"))];
    assert!(matches!(world.act(&user(), change(&both)), Err(Rejection::InvalidValue(_))));
}

#[test]
fn what_is_erased_never_comes_back() {
    let mut world = World::note("secret");
    world.claim(&user(), "mood", "secret");
    let late = world.log.last().expect("written").clone();
    world.act(&user(), Command::EraseMemory).expect("the user may");
    world.memory.apply(EventId::new(Uuid::max()), late.author, late.event).expect("applied");
    assert!(world.memory.is_erased() && !world.memory.is_present());
    assert!(!format!("{:?}", world.memory).contains("secret"));
    for command in [Command::EraseMemory, change(&[("mood", "x".into())]), Command::UndoCommand { command: None }]
    {
        assert!(matches!(world.act(&user(), command), Err(Rejection::Erased { .. })));
    }
}

#[test]
fn what_does_not_exist_cannot_be_changed_and_what_does_cannot_be_created() {
    let mut world = World::empty();
    assert!(matches!(world.act(&user(), change(&[])), Err(Rejection::NotFound { .. })));
    let create = || Command::CreateMemory { kind: Kind::Note, claims: vec![], body: String::new() };
    world.act(&user(), create()).expect("created");
    assert!(matches!(world.act(&user(), create()), Err(Rejection::AlreadyExists { .. })));
}
