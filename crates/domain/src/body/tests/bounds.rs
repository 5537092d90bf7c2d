//! A text is never longer than the limit, whatever is merged, and nothing is lost by that.

use std::collections::BTreeSet;

use super::concurrent::{Written, added, graph, shuffled, written};
use super::weave::Places;
use super::*;

const LONG: usize = 600 * 1024;

/// Which edits make up the text if no more than `limit` bytes are allowed, and how long it is.
fn within(body: &Body, limit: usize) -> (BTreeSet<EventId>, usize) {
    let weave = body.woven().expect("sound");
    let all: Places = (0..body.edits.len()).map(|at| weave.same(at) == at).collect();
    let (taken, text) = bound::within(weave, &body.edits, all, limit);
    let taken = body.edits.iter().enumerate().filter(|(at, _)| taken[weave.same(*at)]);
    (taken.map(|(_, edit)| edit.id).collect(), text.len())
}

fn longest(body: &Body) -> usize {
    body.edits().iter().map(|edit| body.text_after(edit.id).expect("sound").len()).max().unwrap_or(0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn t9_what_is_too_long_waits_whatever_the_order_of_arrival(
        graph in graph(), seed in any::<u64>(), more in 0..8_usize
    ) {
        let body = graph.body();
        // Each branch by itself is within the limit.
        let limit = longest(&body) + more;
        let (taken, bytes) = within(&body, limit);
        prop_assert!(bytes <= limit, "{bytes} of {limit}");
        for edit in body.edits().iter().filter(|edit| taken.contains(&edit.id)) {
            prop_assert!(edit.parents.iter().all(|parent| taken.contains(parent)));
        }
        let other = added(shuffled(written(&body), seed));
        prop_assert_eq!(within(&other, limit).0, taken);
    }

    #[test]
    fn t9_going_on_at_the_end_of_what_is_shown_leaves_it_shown(graph in graph()) {
        let mut body = graph.body();
        let limit = longest(&body);
        let (taken, _) = within(&body, limit);
        let made_from: BTreeSet<EventId> =
            body.edits().iter().filter(|edit| taken.contains(&edit.id)).flat_map(|edit| edit.parents.clone()).collect();
        let ends: Vec<EventId> = taken.iter().copied().filter(|id| !made_from.contains(id)).collect();
        // Whoever reads that and writes goes on from all of it.
        let change = BodyChange { parents: ends, splices: vec![splice(0, 0, "")], accepts: None, effect: None };
        body.add(scattered(1_000), anna(1_000), change).expect("fits");
        prop_assert!(taken.is_subset(&within(&body, limit).0));
    }
}

fn long(number: u64, parents: &[u64], letter: &str) -> Written {
    (id(number), anna(number), change(parents, vec![splice(0, 0, &letter.repeat(LONG))]))
}

/// A text, and two branches that are too long together.
fn two_branches() -> Vec<Written> {
    let base = (id(1), anna(1), change(&[], vec![splice(0, 0, "text")]));
    vec![base, long(2, &[1], "a"), long(3, &[1], "b")]
}

#[test]
fn t9_of_two_branches_that_are_too_long_together_the_later_waits() {
    for seed in 0..6 {
        let body = added(shuffled(two_branches(), seed));
        assert_eq!(body.text(), "a".repeat(LONG) + "text");
        assert_eq!(body.suggestions().map(|edit| edit.id).collect::<Vec<_>>(), [id(3)]);
        assert_eq!((body.heads(), body.truth()), (&[id(2)][..], Some(Truth::User)));
        assert_eq!(body, derived(&body));
    }
}

#[test]
fn t9_what_waits_does_not_change_places_with_what_is_shown() {
    let mut body = added(two_branches());
    edit(&mut body, 9, &user(), Base::Effective, &("a".repeat(5 * LONG / 6) + "my text"));
    // The shorter text lets nothing in yet, and the later branch goes on, also with an earlier time than what is shown.
    body.add(id(4), anna(2), change(&[3], vec![splice(0, 1, "")])).expect("no damage");
    assert!(body.text().ends_with("my text"));
    assert_eq!(body.heads(), [id(9)]);
    // Of the branch that waits the last edit is listed.
    assert_eq!(body.suggestions().map(|edit| edit.id).collect::<Vec<_>>(), [id(4)]);
    assert_eq!(body, derived(&body));
}

#[test]
fn t9_a_branch_that_waits_comes_in_once_there_is_room() {
    let mut body = added(two_branches());
    edit(&mut body, 9, &user(), Base::Effective, "my text");
    assert_eq!(body.suggestions().count(), 0);
    assert_eq!(body.text().len(), LONG + "my text".len());
    assert_eq!(body, derived(&body));
}

#[test]
fn t9_a_branch_that_waits_is_accepted_shortened_or_turned_down() {
    let mut body = added(two_branches());
    assert!(body.preview(id(3)).expect("sound").len() > MAX_BODY_BYTES);
    let accepted = body.accept(id(3), Some("a and b, in short")).expect("sound");
    // Accepting settles it on every brain, also where the acceptance comes first.
    let told = (id(9), anna(9), BodyChange { effect: None, ..accepted.clone() });
    let other = added(two_branches().into_iter().chain([told]).rev());
    body.add(id(9), author(&user(), 9), accepted).expect("it fits");
    for body in [&body, &other] {
        assert_eq!(body.text(), "a and b, in short");
        assert_eq!((body.suggestions().count(), body.heads()), (0, &[id(9)][..]));
        assert_eq!(*body, derived(body));
    }
    let mut body = added(two_branches());
    body.reject(id(900), id(3), &author(&user(), 10)).expect("sound");
    assert_eq!(body.text(), "a".repeat(LONG) + "text");
    assert_eq!(body.suggestions().count(), 0);
    assert_eq!(body, derived(&body));
    // The one that is shown, turned down, makes room for the other.
    let mut body = added(two_branches());
    body.reject(id(900), id(2), &author(&user(), 10)).expect("sound");
    assert_eq!(body.text(), "b".repeat(LONG) + "text");
    assert_eq!(body, derived(&body));
}

#[test]
fn t9_small_branches_come_in_beside_one_that_is_too_long() {
    let small = |number: u64| (id(number), anna(number), change(&[1], vec![splice(4, 0, "!")]));
    let edits = || two_branches().into_iter().chain((10..15).map(small));
    for seed in 0..4 {
        let body = added(shuffled(edits().collect(), seed));
        assert_eq!(body.text(), "a".repeat(LONG) + "text!!!!!");
        assert_eq!(body.suggestions().map(|edit| edit.id).collect::<Vec<_>>(), [id(3)]);
    }
}

#[test]
fn t9_however_many_long_branches_there_are_the_text_is_within_the_limit() {
    let base = (id(1), anna(1), change(&[], vec![splice(0, 0, "text")]));
    let part = |number: u64| {
        (id(number), anna(number), change(&[1], vec![splice(0, 0, &"x".repeat(MAX_BODY_BYTES / 10))]))
    };
    let edits = || [base.clone()].into_iter().chain((2..102).map(part));
    let body = added(edits());
    assert_eq!(body.text().len(), 10 * (MAX_BODY_BYTES / 10) + 4);
    assert_eq!(body.suggestions().count(), 90);
    assert_eq!(added(shuffled(edits().collect(), 7)).effective(), body.effective());
}

#[test]
fn t9_suggestions_of_lower_truth_are_listed_beside_what_is_left_out() {
    let mut body = added(two_branches());
    let cloud = Authorship { truth: Truth::CloudAi, ..anna(20) };
    body.add(id(20), cloud, change(&[3], vec![splice(0, 1, "c")])).expect("no damage");
    assert_eq!(body.suggestions().map(|edit| edit.id).collect::<Vec<_>>(), [id(3), id(20)]);
    assert_eq!(body, derived(&body));
}
