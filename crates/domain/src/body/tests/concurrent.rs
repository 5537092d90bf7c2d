//! Edits of peers who did not see each other's: any graph, in any order of arrival, also a hostile one.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;

pub(super) type Written = (EventId, Authorship, BodyChange);

/// A graph of edits of a peer, drawn at random: each from one to three of those before, mostly the latest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Graph {
    seed: u64,
    edits: u64,
    /// How far back an edit may reach for what it is made from.
    reach: u64,
    /// How many characters an edit inserts at most.
    longest: usize,
}

pub(super) fn graph() -> impl Strategy<Value = Graph> {
    (any::<u64>(), 1..40_u64, 1..12_u64).prop_map(|(seed, edits, reach)| Graph { seed, edits, reach, longest: 4 })
}

impl Graph {
    pub(super) fn body(self) -> Body {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut body = Body::default();
        for number in 1..=self.edits {
            let count = if number == 1 { 0 } else { rng.random_range(0..20_u32).max(5) / 5 };
            let reach = |rng: &mut StdRng| number - rng.random_range(1..=self.reach.min(number - 1));
            let parents: Vec<EventId> = (0..count.min(3)).map(|_| scattered(reach(&mut rng))).collect();
            let mut length = past::text_at(&body, &parents).expect("sound").chars().count();
            let splices = (0..rng.random_range(0..4)).map(|_| {
                // Mostly near the start, to meet with others.
                let near = rng.random_range(1..30);
                let at = rng.random_range(0..=length.min(near));
                let delete = rng.random_range(0..4).min(length - at);
                let insert: String =
                    (0..rng.random_range(0..=self.longest)).map(|_| rng.random_range('a'..='é')).collect();
                length = length + insert.chars().count() - delete;
                Splice { at, delete, insert }
            });
            // Some are of one time.
            let author = anna(number / 2);
            let change =
                BodyChange { parents: parents.clone(), splices: splices.collect(), accepts: None, effect: None };
            body.add(scattered(number), author, change).expect("a peer's edit damages nothing");
        }
        body
    }
}

pub(super) fn written(body: &Body) -> Vec<Written> {
    let change = |edit: &Edit| BodyChange {
        parents: edit.parents.clone(),
        splices: edit.splices.clone(),
        accepts: edit.accepts,
        effect: None,
    };
    body.edits().iter().map(|edit| (edit.id, edit.author.clone(), change(edit))).collect()
}

pub(super) fn added(edits: impl IntoIterator<Item = Written>) -> Body {
    let mut body = Body::default();
    for (id, author, change) in edits {
        body.add(id, author, change).expect("a peer's edit damages nothing");
    }
    body
}

pub(super) fn shuffled(mut edits: Vec<Written>, seed: u64) -> Vec<Written> {
    edits.shuffle(&mut StdRng::seed_from_u64(seed));
    edits
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn t9_any_graph_gives_the_text_that_automerge_gives(graph in graph()) {
        let body = graph.body();
        prop_assert_eq!(body.edits().len() as u64, graph.edits);
        let merged = automerge::text_at(&body, body.heads()).expect("sound");
        prop_assert_eq!(body.text(), merged);
        for edit in body.edits() {
            let (ours, theirs) = (body.text_after(edit.id), automerge::text_at(&body, &[edit.id]));
            prop_assert_eq!(ours.expect("sound"), theirs.expect("sound"));
        }
    }

    #[test]
    fn t9_any_graph_gives_one_text_in_any_order_of_arrival(graph in graph(), seed in any::<u64>()) {
        let body = graph.body();
        let other = added(shuffled(written(&body), seed));
        prop_assert_eq!(other.effective(), body.effective());
        prop_assert!(other.early.is_empty());
    }
}

/// How many walks through all that was written folding some edits in takes, and reading the text then.
fn walks(edits: impl IntoIterator<Item = Written>) -> (usize, usize) {
    let count = || weave::WALKS.with(std::cell::Cell::get);
    let before = count();
    let body = added(edits);
    let folded = count();
    assert!(!body.text().is_empty());
    (folded - before, count() - folded)
}

/// An edit of a peer that inserts a word into a text of at least 8 characters.
fn word(number: u64, parents: &[u64]) -> Written {
    (id(number), anna(number), change(parents, vec![splice(number as usize % 8, 1, "word ")]))
}

#[test]
fn t9_folding_concurrent_edits_in_and_reading_their_text_takes_few_walks() {
    let base = || (id(1), anna(1), change(&[], vec![splice(0, 0, "a text to begin with")]));
    let in_turn = || (2..2_000).map(|number| word(number, &[if number < 4 { 1 } else { number - 2 }]));
    let one_then_other = || in_turn().step_by(2).chain(in_turn().skip(1).step_by(2));
    let joining = |number: u64| match number - number % 2 {
        2 => vec![1],
        rung => vec![rung - 2, rung - 1],
    };
    let ladder = || (2..2_000).map(|number| word(number, &joining(number)));
    let star = || (2..2_000).map(|number| word(number, &[1]));
    for edits in [
        Vec::from_iter([base()].into_iter().chain(in_turn())),
        Vec::from_iter([base()].into_iter().chain(one_then_other())),
        Vec::from_iter([base()].into_iter().chain(star())),
        Vec::from_iter([base()].into_iter().chain(ladder())),
        Vec::from_iter(in_turn().chain([base()])),
    ] {
        let (folding, reading) = walks(edits);
        // One where a line begins at a text of long ago.
        assert!(folding <= 1, "{folding}");
        assert_eq!(reading, 1);
    }
}

#[test]
fn t9_a_hostile_edit_of_a_peer_says_nothing_or_what_it_says_and_damages_nothing() {
    let long = "x".repeat(MAX_BODY_BYTES - 8);
    let mut body = added([
        (id(1), anna(1), change(&[], vec![splice(0, 0, "one two")])),
        (id(2), anna(2), change(&[1], vec![splice(0, 3, "1")])),
        (id(3), anna(3), change(&[1], vec![splice(4, 3, "2")])),
    ]);
    assert_eq!(body.text(), "1 2");
    let before = body.clone();
    let many = vec![splice(0, 0, "x"); MAX_SPLICES + 1];
    for (number, refused) in [
        change(&[2], vec![splice(0, 0, "x"), splice(0, usize::MAX, "")]),
        change(&[2], vec![splice(usize::MAX, 0, "x")]),
        change(&[1], vec![splice(3, usize::MAX, "x")]),
        // Each side has that place, but not both together.
        change(&[2, 3], vec![splice(5, 0, "x")]),
        change(&[2], vec![splice(0, 0, &long), splice(0, 0, &long)]),
        change(&[3], many),
    ]
    .into_iter()
    .enumerate()
    {
        body.add(id(100 + number as u64), anna(9), refused).expect("no damage");
        assert_eq!(body, before, "{number}");
    }
    // One parent twice, and a parent beside what it was made from.
    body.add(id(4), anna(4), change(&[2, 2], vec![splice(1, 0, "!")])).expect("no damage");
    body.add(id(5), anna(5), change(&[1, 3, 2, 3], vec![splice(3, 0, "?")])).expect("no damage");
    assert_eq!(body.text(), "1! 2?");
    let most = (0..MAX_SPLICES).map(|at| splice(at, 0, "é")).collect();
    body.add(id(6), anna(6), change(&[1], most)).expect("no damage");
    assert_eq!(body.text().chars().count(), 5 + MAX_SPLICES);
    body.add(id(7), anna(7), change(&[7], vec![splice(0, 0, "itself")])).expect("no damage");
    assert_eq!(body, derived(&body));
}
