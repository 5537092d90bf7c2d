//! The body, rule by rule (T9).

mod automerge;
mod bounds;
mod concurrent;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::clock::Hlc;
use crate::principal::Origin;
use crate::scenario::{Actor, World, automation, cloud_ai, local_ai, user};

fn id(number: u64) -> EventId {
    EventId::new(Uuid::from_u128(number.into()))
}

fn author(actor: &Actor, at: u64) -> Authorship {
    let hlc = Hlc { millis: at, counter: 0 };
    let command = Uuid::from_u128(at.into());
    Authorship {
        principal: actor.principal,
        truth: actor.truth,
        origin: actor.origin.clone(),
        hlc,
        command,
        standing: Standing::Full,
    }
}

fn splice(at: usize, delete: usize, insert: &str) -> Splice {
    Splice { at, delete, insert: insert.into() }
}

fn change(parents: &[u64], splices: Vec<Splice>) -> BodyChange {
    BodyChange { parents: parents.iter().copied().map(id).collect(), splices, accepts: None, effect: None }
}

/// The edit that makes `wanted` out of the text after `base`, as the command would decide it.
fn edit(body: &mut Body, number: u64, actor: &Actor, base: Base, wanted: &str) {
    let mut change = body.edit_to(base, wanted).expect("sound").expect("a change");
    change.effect = body.effect(id(number), &author(actor, number), &change).expect("sound");
    body.add(id(number), author(actor, number), change).expect("it fits");
}

fn written(text: &str) -> Body {
    let mut body = Body::default();
    edit(&mut body, 1, &user(), Base::Effective, text);
    body
}

impl Body {
    /// Has everything derived from the edits alone.
    fn derive(&mut self) -> Result<(), CorruptBody> {
        self.woven = OnceLock::new();
        self.unsettle()
    }
}

fn derived(body: &Body) -> Body {
    let mut derived = body.clone();
    derived.derive().expect("sound");
    derived
}

#[test]
fn t9_splices_count_characters_and_apply_one_after_the_other() {
    let text = apply("aéo🪨", &[splice(3, 1, "xyz"), splice(1, 1, ""), splice(0, 0, "🪨")]);
    assert_eq!(text.as_deref(), Ok("🪨aoxyz"));
    assert_eq!(apply("ab", &[splice(2, 0, "c")]).as_deref(), Ok("abc"));
    for outside in [splice(3, 0, "c"), splice(1, 2, ""), splice(usize::MAX, 0, ""), splice(0, usize::MAX, "")] {
        assert!(apply("ab", std::slice::from_ref(&outside)).is_err(), "{outside:?}");
    }
}

#[test]
fn t9_an_edit_below_the_effective_truth_is_a_suggestion() {
    let mut body = written("mine");
    edit(&mut body, 2, &local_ai(), Base::Effective, "mine and its");
    assert_eq!((body.text(), body.truth()), ("mine", Some(Truth::User)));
    assert!(body.is_suggestion(id(2)));
    assert_eq!(body.preview(id(2)).as_deref(), Ok("mine and its"));
}

#[test]
fn t9_the_first_edit_at_a_higher_truth_continues_from_the_text_it_saw() {
    // Given a text by an AI
    let mut body = Body::default();
    edit(&mut body, 1, &cloud_ai(), Base::Effective, "a draft");
    // when the user goes on with it
    edit(&mut body, 2, &user(), Base::Effective, "a good draft");
    // then that is the user's text, and nothing waits.
    assert_eq!((body.text(), body.truth()), ("a good draft", Some(Truth::User)));
    assert_eq!(body.suggestions().count(), 0);
    assert_eq!(body, derived(&body));
}

#[test]
fn t9_a_user_starting_from_an_older_text_does_not_take_in_what_an_ai_wrote_since() {
    // Given two edits by an AI
    let mut body = Body::default();
    edit(&mut body, 1, &cloud_ai(), Base::Effective, "seen");
    edit(&mut body, 2, &cloud_ai(), Base::Effective, "seen, then more");
    // when the user writes from the first, the only one they saw
    edit(&mut body, 3, &user(), Base::After(id(1)), "seen and mine");
    // then the second waits for the user's decision.
    let again = body.edit_to(Base::After(id(1)), "seen and mine").expect("sound").expect("a change");
    let automation = author(&user().at(Truth::Automation), 9);
    assert_eq!(body.effect(id(9), &automation, &again), Ok(None), "no effect on a text of another level");
    assert_eq!(body.text(), "seen and mine");
    assert!(body.is_suggestion(id(2)));
    assert_eq!(body, derived(&body));
}

#[test]
fn t9_accepting_keeps_what_the_user_typed_meanwhile() {
    let mut body = written("The heron stood in the reeds.");
    edit(&mut body, 2, &cloud_ai(), Base::Effective, "The grey heron stood in the reeds.");
    edit(&mut body, 3, &user(), Base::Effective, "The heron stood in the reeds. It was dawn.");
    let change = body.accept(id(2), None).expect("sound");
    body.add(id(4), author(&user(), 4), change).expect("it fits");
    assert_eq!(body.text(), "The grey heron stood in the reeds. It was dawn.");
    assert_eq!(body.suggestions().count(), 0);
    assert_eq!(
        body.edit(id(2)).map(|edit| edit.author.truth),
        Some(Truth::CloudAi),
        "its own level never changes"
    );
    assert_eq!(body, derived(&body));
}

#[test]
fn t9_accepting_over_a_lower_text_makes_it_the_users() {
    let mut body = Body::default();
    edit(&mut body, 1, &automation(), Base::Effective, "a log");
    edit(&mut body, 2, &cloud_ai(), Base::Effective, "a tidy log");
    let change = body.accept(id(2), Some("a very tidy log")).expect("sound");
    body.add(id(3), author(&user(), 3), change).expect("it fits");
    assert_eq!((body.text(), body.truth()), ("a very tidy log", Some(Truth::User)));
    assert_eq!(body, derived(&body));
}

#[test]
fn t9_going_on_from_a_suggestions_text_takes_it_in() {
    let mut body = written("one");
    edit(&mut body, 2, &cloud_ai(), Base::Effective, "one two");
    edit(&mut body, 3, &user(), Base::After(id(2)), "one two three");
    assert_eq!(body.text(), "one two three");
    assert_eq!(body.suggestions().count(), 0);
    assert_eq!(body, derived(&body));
}

#[test]
fn t9_two_devices_of_the_user_merge() {
    for order in [[2, 3], [3, 2]] {
        let mut body = written("one two three");
        for number in order {
            let text = if number == 2 { "ONE two three" } else { "one two THREE" };
            edit(&mut body, number, &user(), Base::After(id(1)), text);
        }
        assert_eq!(body.text(), "ONE two THREE");
        assert_eq!(body, derived(&body));
    }
}

#[test]
fn t9_insertions_at_one_place_come_out_in_one_order_whoever_is_first() {
    // The ids settle the order, so an effect stated under another id would be wrong.
    let mut texts = Vec::new();
    for order in [[2, 3], [3, 2]] {
        let mut body = written("ab");
        for number in order {
            edit(&mut body, number, &user(), Base::After(id(1)), &format!("a{number}b"));
            assert_eq!(body, derived(&body));
        }
        texts.push(body.text().to_owned());
    }
    assert_eq!(texts[0], texts[1]);
}

#[test]
fn t6_accepting_does_not_bring_in_what_was_turned_down_before_it() {
    // Given a suggestion that was turned down, and another built upon it
    let mut body = written("Base.\n");
    edit(&mut body, 2, &cloud_ai(), Base::Effective, "Base.\nJunk.\n");
    body.reject(id(900), id(2), &author(&user(), 3)).expect("sound");
    edit(&mut body, 4, &cloud_ai(), Base::After(id(2)), "Base.\nJunk.\nGood.\n");
    // when the second is accepted
    assert_eq!(body.preview(id(4)).as_deref(), Ok("Base.\nGood.\n"));
    let change = body.accept(id(4), None).expect("sound");
    body.add(id(5), author(&user(), 5), change).expect("it fits");
    // then only what is new in it comes in.
    assert_eq!(body.text(), "Base.\nGood.\n");
    assert_eq!(body, derived(&body));
    assert_eq!(body.text_after(id(5)).as_deref(), Ok("Base.\nGood.\n"));
}

#[test]
fn t6_a_rejection_of_an_edit_counts_at_level_one_only() {
    let mut body = written("mine");
    edit(&mut body, 2, &cloud_ai(), Base::Effective, "its");
    body.reject(id(900), id(2), &author(&local_ai(), 3)).expect("sound");
    assert!(body.is_suggestion(id(2)));
    body.reject(id(900), id(2), &author(&user(), 4)).expect("sound");
    assert!(!body.is_suggestion(id(2)) && body.is_rejected(id(2)));
    assert_eq!(body.text(), "mine");
}

#[test]
fn an_edit_that_does_not_fit_changes_nothing() {
    let mut body = written("ab");
    let before = body.clone();
    let by = || author(&user(), 2);
    assert!(body.add(id(2), by(), change(&[1], vec![splice(9, 0, "x")])).is_err());
    assert!(body.add(id(2), by(), change(&[], vec![splice(9, 0, "x")])).is_err(), "a second first edit");
    assert!(body.add(id(2), by(), change(&[7], vec![splice(0, 0, "x")])).is_err(), "an unknown parent");
    assert_eq!(body, before);
}

#[test]
fn the_same_edit_twice_is_one() {
    let mut body = Body::default();
    for (number, parents) in [(5, vec![]), (3, vec![5])] {
        body.add(id(number), author(&user(), 9), change(&parents, vec![splice(0, 0, "x")])).expect("it fits");
    }
    let once = body.clone();
    body.add(id(5), author(&user(), 9), change(&[], vec![splice(0, 0, "x")])).expect("known");
    assert_eq!(body, once);
}

/// One step in the life of a body.
#[derive(Debug, Clone)]
enum Step {
    Edit { level: u8, base: Option<prop::sample::Index>, at: prop::sample::Index, cut: usize, insert: String },
    Accept(prop::sample::Index),
    Reject(prop::sample::Index),
}

fn step() -> impl Strategy<Value = Step> {
    let edit = (
        prop::sample::select(vec![1, 1, 1, 2, 3, 5]),
        prop::option::weighted(0.4, any::<prop::sample::Index>()),
        any::<prop::sample::Index>(),
        0..3_usize,
        "[a-cé🪨 ]{0,4}",
    )
        .prop_map(|(level, base, at, cut, insert)| Step::Edit { level, base, at, cut, insert });
    prop_oneof![
        6 => edit,
        1 => any::<prop::sample::Index>().prop_map(Step::Accept),
        1 => any::<prop::sample::Index>().prop_map(Step::Reject),
    ]
}

impl Step {
    /// What the step says, as events say it: the edits made, each with its effect on the text of the moment.
    fn take(&self, body: &mut Body, number: u64) -> Result<(), CorruptBody> {
        match self {
            Self::Edit { level, base, at, cut, insert } => {
                let actor = Actor::new(Truth::try_from(*level).expect("1 to 5"), u128::from(number % 2));
                let base = base.filter(|_| !body.edits().is_empty());
                let base =
                    base.map_or(Base::Effective, |at| Base::After(body.edits()[at.index(body.edits().len())].id));
                let text = match base {
                    Base::Effective => body.text().to_owned(),
                    Base::After(edit) => body.text_after(edit)?,
                };
                let length = text.chars().count();
                let at = at.index(length + 1);
                let wanted =
                    apply(&text, &[splice(at, (*cut).min(length - at), insert)]).expect("within the text");
                if let Some(mut change) = body.edit_to(base, &wanted)? {
                    change.effect = body.effect(scattered(number), &author(&actor, number), &change)?;
                    body.add(scattered(number), author(&actor, number), change)?;
                    assert_eq!(body.text_after(scattered(number))?, wanted, "what was written can be read back");
                }
            }
            Self::Accept(at) => {
                let waiting: Vec<EventId> = body.suggestions().map(|edit| edit.id).collect();
                if let Some(&suggestion) = waiting.get(at.index(waiting.len().max(1))) {
                    let (change, wanted) = body.accepted(suggestion, None)?;
                    body.add(scattered(number), author(&user(), number), change)?;
                    assert_eq!(body.text(), wanted);
                }
            }
            Self::Reject(at) => {
                let waiting: Vec<EventId> = body.suggestions().map(|edit| edit.id).collect();
                if let Some(&suggestion) = waiting.get(at.index(waiting.len().max(1))) {
                    body.reject(id(900), suggestion, &author(&user(), number))?;
                }
            }
        }
        Ok(())
    }
}

/// Ids that do not ascend, as those made from idempotency keys.
fn scattered(number: u64) -> EventId {
    id(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

/// Any order of the edits in which parents come before their children.
fn another_order(body: &Body, seed: u64) -> Vec<Edit> {
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
    let mut left: Vec<&Edit> = body.edits().iter().collect();
    let mut ordered: Vec<Edit> = Vec::new();
    while !left.is_empty() {
        let ready: Vec<usize> = (0..left.len())
            .filter(|&at| left[at].parents.iter().all(|parent| ordered.iter().any(|edit| edit.id == *parent)))
            .collect();
        let at = *rand::seq::IndexedRandom::choose(ready.as_slice(), &mut rng).expect("the graph has no cycle");
        ordered.push(left.remove(at).clone());
    }
    ordered
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn t9_the_quick_way_gives_the_text_that_the_whole_history_gives(steps in prop::collection::vec(step(), 1..24)) {
        let mut body = Body::default();
        for (number, step) in (1..).zip(&steps) {
            step.take(&mut body, number).expect("sound");
            prop_assert_eq!(&body, &derived(&body));
        }
    }

    #[test]
    fn t9_the_order_of_arrival_never_matters(steps in prop::collection::vec(step(), 1..24), seed in any::<u64>()) {
        let mut body = Body::default();
        for (number, step) in (1..).zip(&steps) {
            step.take(&mut body, number).expect("sound");
        }
        let mut other = Body::default();
        // Rejections first, edits in another order and without their effects: all that a peer may be sent.
        for (about, by) in body.rejections.standing() {
            other.reject(id(900), about, by).expect("sound");
        }
        for Edit { id, author, parents, splices, accepts } in another_order(&body, seed) {
            other.add(id, author, BodyChange { parents, splices, accepts, effect: None }).expect("it fits");
        }
        prop_assert_eq!(other.effective(), body.effective());
    }

    #[test]
    fn t9_any_two_texts_are_told_apart_by_splices_that_apply(
        old in r"([a-c\né🪨 ]{0,4}|word |\r\n){0,12}",
        new in r"([a-c\né🪨 ]{0,4}|word |\r\n){0,12}",
    ) {
        let splices = crate::diff::splices(&old, &new);
        prop_assert_eq!(apply(&old, &splices), Ok(new.clone()));
        prop_assert_eq!(splices.is_empty(), old == new);
    }
}

#[test]
fn t9_long_texts_are_told_apart_by_splices_that_apply() {
    let old: String = (0..2_000).map(|line| format!("line {line} of the old text\n")).collect();
    let new: String =
        (0..2_000).filter(|line| line % 7 != 0).map(|line| format!("line {line} of the new text\n")).collect();
    assert_eq!(apply(&old, &crate::diff::splices(&old, &new)), Ok(new));
}

#[test]
fn a_long_line_of_edits_can_be_read_at_any_place() {
    let mut world = World::note("0");
    for number in 1..400 {
        let text = format!("{} {number}", world.text());
        world.write(&user(), &text);
    }
    let body = world.memory.body();
    let middle = body.edits()[200].id;
    assert!(body.text_after(middle).expect("sound").ends_with(" 199 200"));
    assert!(body.text_before(middle).expect("sound").ends_with(" 198 199"));
}

/// The edits of a body as those of a peer, under other ids.
fn as_a_peers(edits: &[Edit]) -> Vec<(EventId, Authorship, BodyChange)> {
    let other = |id: EventId| EventId::new(Uuid::from_u128(!id.uuid().as_u128()));
    let peers = |edit: &Edit| {
        let origin: Origin = "peer:anna".parse().expect("an origin");
        let parents = edit.parents.iter().copied().map(other).collect();
        let (splices, accepts) = (edit.splices.clone(), edit.accepts.map(other));
        let author = Authorship { origin, ..edit.author.clone() };
        (other(edit.id), author, BodyChange { parents, splices, accepts, effect: None })
    };
    edits.iter().map(peers).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn t9_another_brain_has_the_same_text_in_whatever_order_it_hears_of_the_edits(
        steps in prop::collection::vec(step(), 1..24), seed in any::<u64>()
    ) {
        let mut body = Body::default();
        for (number, step) in (1..).zip(&steps) {
            if !matches!(step, Step::Reject(_)) {
                step.take(&mut body, number).expect("sound");
            }
        }
        let mut edits = as_a_peers(body.edits());
        let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seed);
        rand::seq::SliceRandom::shuffle(edits.as_mut_slice(), &mut rng);
        let mut peer = Body::default();
        for (id, author, change) in edits {
            peer.add(id, author, change).expect("a peer's edit damages nothing");
        }
        prop_assert_eq!(peer.text(), body.text());
        prop_assert!(peer.early.is_empty());
        prop_assert_eq!(peer.suggestions().count(), body.suggestions().count());
        prop_assert_eq!(&peer, &derived(&peer));
    }
}

/// An author on another brain.
fn anna(at: u64) -> Authorship {
    Authorship { origin: "peer:anna".parse().expect("an origin"), ..author(&Actor::new(Truth::User, 2), at) }
}

#[test]
fn t10_an_edit_of_a_peer_that_does_not_fit_says_nothing_and_damages_nothing() {
    let mut body = written("text");
    let before = body.clone();
    let wrong = change(&[1], vec![splice(9, 0, "far")]);
    body.add(id(7), anna(7), wrong.clone()).expect("no damage");
    assert_eq!(body, before);
    let after_it = change(&[7], vec![splice(0, 0, "x")]);
    body.add(id(8), anna(8), after_it).expect("no damage");
    assert_eq!(body.text(), "text");
    let many = change(&[1], vec![splice(0, 0, "x"); MAX_SPLICES + 1]);
    body.add(id(9), anna(9), many).expect("no damage");
    let large = change(&[1], vec![splice(0, 0, &"x".repeat(MAX_BODY_BYTES))]);
    body.add(id(10), anna(10), large).expect("no damage");
    assert_eq!(body.text(), "text");
    assert!(body.add(id(11), author(&user(), 11), wrong).is_err(), "one of this brain's own is damage");
}

#[test]
fn t10_an_edit_that_a_peer_may_only_suggest_waits_and_one_that_is_held_is_not_there() {
    let suggests = |at| Authorship { standing: Standing::Suggestion, ..anna(at) };
    let mut body = Body::default();
    body.add(id(1), suggests(1), change(&[], vec![splice(0, 0, "hers")])).expect("fits");
    assert_eq!((body.text(), body.truth()), ("", None));
    assert!(body.is_suggestion(id(1)));
    let accepted = body.accept(id(1), None).expect("sound");
    body.add(id(2), author(&user(), 2), accepted).expect("fits");
    assert_eq!(body.text(), "hers");
    body.add(id(3), anna(3), change(&[2], vec![splice(4, 0, ", more")])).expect("fits");
    assert_eq!(body.text(), "hers, more");
    body.restand(&[id(3)], Standing::Held).expect("sound");
    assert_eq!(body.text(), "hers");
    assert_eq!(body.suggestions().count(), 0);
    body.restand(&[id(3)], Standing::Full).expect("sound");
    assert_eq!(body.text(), "hers, more");
}

#[test]
fn t9_two_edits_that_are_the_same_but_for_their_ids_are_one() {
    let mut body = written("text");
    body.add(id(7), anna(7), change(&[1], vec![splice(4, 0, "!")])).expect("fits");
    body.add(id(8), anna(7), change(&[1], vec![splice(4, 0, "!")])).expect("fits");
    body.add(id(9), anna(9), change(&[8], vec![splice(5, 0, "?")])).expect("fits");
    assert_eq!(body.text(), "text!?");
}
