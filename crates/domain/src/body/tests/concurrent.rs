//! Edits of peers who did not see each other's: any graph, in any order of arrival, also a hostile one.

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::*;

type Written = (EventId, Authorship, BodyChange);

/// A graph of edits of a peer, drawn at random: each from one to three of those before, mostly the latest.
#[derive(Debug, Clone, Copy)]
struct Graph {
    seed: u64,
    edits: u64,
    /// How far back an edit may reach for what it is made from.
    reach: u64,
    /// How many characters an edit inserts at most.
    longest: usize,
}

fn graph() -> impl Strategy<Value = Graph> {
    (any::<u64>(), 1..40_u64, 1..12_u64).prop_map(|(seed, edits, reach)| Graph { seed, edits, reach, longest: 4 })
}

impl Graph {
    fn body(self) -> Body {
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

fn written(body: &Body) -> Vec<Written> {
    let change = |edit: &Edit| BodyChange {
        parents: edit.parents.clone(),
        splices: edit.splices.clone(),
        accepts: edit.accepts,
        effect: None,
    };
    body.edits().iter().map(|edit| (edit.id, edit.author.clone(), change(edit))).collect()
}

fn added(edits: impl IntoIterator<Item = Written>) -> Body {
    let mut body = Body::default();
    for (id, author, change) in edits {
        body.add(id, author, change).expect("a peer's edit damages nothing");
    }
    body
}

fn shuffled(mut edits: Vec<Written>, seed: u64) -> Vec<Written> {
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
