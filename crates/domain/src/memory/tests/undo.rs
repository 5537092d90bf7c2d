//! Undoing: what held before a command holds again, and what came after it is kept.

use crate::event::MemoryEvent;
use crate::id::EventId;
use crate::memory::command::{Command, Decision, Outcome, Rejection};
use crate::scenario::{World, cloud_ai, local_ai, name, user};
use crate::truth::Truth;
use crate::value::Value;

fn nothing(result: &Result<Decision, Rejection>) -> bool {
    matches!(result, Err(Rejection::NothingToUndo { .. }))
}

#[test]
fn undoing_twice_steps_further_back() {
    let mut world = World::note("");
    for mood in ["a", "b", "c"] {
        world.claim(&user(), "mood", mood);
    }
    for before in [Some(Value::from("b")), Some(Value::from("a")), None] {
        world.undo(&user()).expect("there is more");
        assert_eq!(world.value("mood"), before);
    }
    // Then the creation itself, and then there is nothing left.
    world.undo(&user()).expect("the creation");
    assert!(world.memory.is_archived());
    assert!(nothing(&world.undo(&user())));
    assert_eq!(world.refolded(), world.memory);
}

#[test]
fn undoing_an_undo_by_its_command_brings_back_what_it_took() {
    let mut world = World::note("");
    world.claim(&user(), "mood", "a");
    world.claim(&user(), "mood", "b");
    let undo = World::command_of(&world.undo(&user()).expect("undone"));
    let redo = World::command_of(&world.undo_command(&user(), undo).expect("redone"));
    assert_eq!(world.value("mood"), Some("b".into()));
    // What was redone is the latest thing to undo again, also by way of the redoing.
    let mut other = world.clone();
    other.undo_command(&user(), redo).expect("undone again");
    assert_eq!(other.value("mood"), Some("a".into()));
    for before in ["a", ""] {
        world.undo(&user()).expect("there is more");
        assert_eq!(world.value("mood").map_or(String::new(), |value| value.display()), before);
    }
}

#[test]
fn undoing_what_the_user_said_over_an_agent_lets_the_agent_speak_again() {
    let mut world = World::note("");
    world.claim(&cloud_ai(), "guess", "42");
    world.claim(&user(), "guess", "43");
    world.undo(&user()).expect("undone");
    let claims = world.memory.field(&name("guess")).expect("claims");
    let winner = claims.effective().expect("a value");
    assert_eq!((&winner.value, winner.author.truth), (&Value::from("42"), Truth::CloudAi));
    // Nothing of level 1 is left in its way.
    let outcome = world.claim(&cloud_ai(), "guess", "44");
    assert_eq!((outcome, world.value("guess")), (Outcome::Applied, Some("44".into())));
}

#[test]
fn undoing_does_not_let_a_suggestion_pass_for_what_was_before() {
    let mut world = World::note("");
    world.claim(&user(), "mood", "a");
    world.claim(&user(), "mood", "b");
    world.claim(&cloud_ai(), "mood", "c");
    world.undo(&user()).expect("undone");
    assert_eq!((world.value("mood"), world.suggested("mood")), (Some("a".into()), vec!["c".to_owned()]));
    world.undo(&user()).expect("undone");
    assert_eq!(
        world.value("mood"),
        Some(Value::Empty),
        "what the user had not said is not what the agent proposes"
    );
}

#[test]
fn a_command_is_undone_once() {
    let mut world = World::note("");
    world.claim(&user(), "mood", "a");
    let command = world.log.last().expect("written").author.command;
    world.undo_command(&user(), command).expect("undone");
    assert!(nothing(&world.undo_command(&user(), command)));
    assert!(nothing(&world.undo_command(&user(), uuid::Uuid::nil())));
}

#[test]
fn undoing_text_keeps_what_was_written_after_it() {
    let mut world = World::note("one");
    world.write(&user(), "one two");
    let second = world.log.last().expect("written").author.command;
    world.write(&user(), "one two three");
    world.undo_command(&user(), second).expect("undone");
    assert_eq!(world.text(), "one three");
    world.undo(&user()).expect("the third");
    assert_eq!(world.text(), "one");
    assert_eq!(world.refolded(), world.memory);
}

#[test]
fn undoing_text_twice_steps_further_back_and_can_be_redone() {
    let mut world = World::note("one");
    world.write(&user(), "one two");
    world.write(&user(), "one two three");
    world.undo(&user()).expect("undone");
    let second = World::command_of(&world.undo(&user()).expect("undone"));
    assert_eq!(world.text(), "one");
    world.undo_command(&user(), second).expect("redone");
    assert_eq!(world.text(), "one two");
}

#[test]
fn undoing_one_field_of_a_command_that_another_changed_since_is_refused_as_a_whole() {
    let mut world = World::note("");
    let claims = vec![(name("mood"), Value::from("a")), (name("place"), Value::from("x"))];
    let both = world.act(&user(), Command::ChangeMemory { claims, body: None }).expect("fits");
    world.claim(&user(), "mood", "b");
    let refused = world.undo_command(&user(), World::command_of(&both));
    assert!(matches!(refused, Err(Rejection::ChangedSince { .. })));
    world.undo(&user()).expect("the later change");
    world.undo_command(&user(), World::command_of(&both)).expect("now it can be");
    assert_eq!((world.value("mood"), world.value("place")), (None, None));
}

#[test]
fn what_an_ai_suggests_is_not_in_the_way_of_the_users_undo() {
    let mut world = World::note("one");
    world.claim(&user(), "mood", "a");
    world.claim(&cloud_ai(), "mood", "its");
    world.write(&cloud_ai(), "its");
    world.undo(&user()).expect("the user's own claim");
    assert_eq!(world.value("mood"), Some(Value::Empty));
    assert_eq!(world.suggested("mood"), ["its"]);
}

#[test]
fn t5_undoing_by_an_ai_only_suggests_and_does_not_count_as_undone() {
    let mut world = World::note("one");
    world.write(&user(), "one two");
    world.claim(&user(), "mood", "a");
    let decision = world.undo(&cloud_ai()).expect("suggested");
    assert_eq!(decision.outcome(), Outcome::Suggested);
    assert!(!decision.events.iter().any(|decided| matches!(decided.event, MemoryEvent::CommandUndone(_))));
    assert_eq!((world.value("mood"), world.text()), (Some("a".into()), "one two"));
    // The user's own undo is as it was.
    world.undo(&user()).expect("the claim");
    assert_eq!(world.value("mood"), Some(Value::Empty));
    let edit = world.memory.body().edits()[1].author.command;
    assert_eq!(world.undo_command(&cloud_ai(), edit).expect("suggested").outcome(), Outcome::Suggested);
    assert_eq!(world.text(), "one two");
}

#[test]
fn an_ai_takes_its_own_suggestion_back() {
    let mut world = World::note("");
    world.claim(&cloud_ai(), "title", "Better");
    let command = world.log.last().expect("written").author.command;
    assert!(nothing(&world.undo_command(&local_ai(), command)), "not somebody else's");
    world.undo_command(&cloud_ai(), command).expect("its own");
    assert!(world.suggested("title").is_empty());
    assert_eq!(world.memory.title(), "Title");
}

#[test]
fn undoing_a_creation_puts_the_memory_away_and_redoing_brings_it_back() {
    let mut world = World::note("one");
    let undo = World::command_of(&world.undo(&user()).expect("the creation"));
    assert!(world.memory.is_archived());
    world.undo_command(&user(), undo).expect("redone");
    assert!(!world.memory.is_archived());
}

#[test]
fn undoing_an_acceptance_goes_back_to_what_was_there() {
    let mut world = World::note("one two");
    let suggestion = world.claimed(&cloud_ai(), "title", "Better");
    world.accept(suggestion);
    world.undo(&user()).expect("the acceptance");
    assert_eq!(world.memory.title(), "Title");
    world.write(&cloud_ai(), "one 2");
    world.accept(world.waiting_edits()[0]);
    world.undo(&user()).expect("the acceptance");
    assert_eq!(world.text(), "one two");
    world.undo(&user()).expect("the creation, not the accepted edit again");
    assert_eq!(world.text(), "one two");
    assert!(world.memory.is_archived());
}

#[test]
fn undoing_a_rejection_makes_it_wait_again() {
    let mut world = World::note("one");
    let suggestion = world.claimed(&cloud_ai(), "title", "Better");
    world.write(&cloud_ai(), "its");
    let edit: EventId = world.waiting_edits()[0];
    let rejections = [world.reject(suggestion), world.reject(edit)].map(|decision| World::command_of(&decision));
    assert!(matches!(world.undo_command(&cloud_ai(), rejections[0]), Err(Rejection::UserOnly { .. })));
    world.undo(&user()).expect("the later rejection");
    assert_eq!((world.waiting_edits(), world.suggested("title").len()), (vec![edit], 0));
    let undo = World::command_of(&world.undo(&user()).expect("the earlier rejection"));
    assert_eq!(world.suggested("title"), ["Better"]);
    world.undo_command(&user(), undo).expect("rejected after all");
    assert!(world.suggested("title").is_empty());
    assert_eq!(world.refolded(), world.memory);
}

#[test]
fn t7_undoing_a_retraction_brings_the_claim_back() {
    let mut world = World::note("");
    world.claim(&user(), "mood", "a");
    world.claim(&user(), "mood", "b");
    world.act(&user(), Command::RetractClaim { field: name("mood") }).expect("its own");
    assert_eq!(world.value("mood"), Some("a".into()));
    assert!(matches!(
        world.undo_command(&cloud_ai(), world.log.last().expect("written").author.command),
        Err(Rejection::UserOnly { .. })
    ));
    world.undo(&user()).expect("the retraction");
    assert_eq!(world.value("mood"), Some("b".into()));
    world.undo(&user()).expect("the second claim");
    assert_eq!(world.value("mood"), Some("a".into()));
}

#[test]
fn the_first_event_of_an_undo_has_the_first_id() {
    // A repeated request is recognised by the id of its first event, so no id may be drawn and dropped.
    let mut world = World::note("one");
    world.write(&user(), "one two");
    world.write(&user(), "one");
    let before = world.counter;
    let decision = world.undo(&user()).expect("undone");
    assert_eq!(decision.events[0].id.uuid().as_u128(), u128::from(before) + 2, "the next but the clock's");
    assert_eq!(decision.events[0].author.truth, Truth::User);
}
