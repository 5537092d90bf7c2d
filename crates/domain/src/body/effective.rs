//! What the truth rules choose from the graph.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::weave::{Places, Weave};
use super::{Body, Edit, MAX_BODY_BYTES, bound, past};
use crate::id::EventId;
use crate::truth::Truth;

/// The effective text, and what it is made of; derived from the edits and kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Effective {
    pub(super) text: String,
    /// Ascending.
    pub(super) heads: Vec<EventId>,
    pub(super) truth: Option<Truth>,
    /// The edits that are not part of the text: suggestions, those turned down, and those left out.
    pub(super) outside: BTreeSet<EventId>,
    /// Of these, the ends of branches that would make the text too long.
    pub(super) left_out: BTreeSet<EventId>,
    /// What such branches are made of besides: it waits with the end.
    pub(super) within: BTreeSet<EventId>,
}

impl Effective {
    /// Derives it from the whole history.
    pub(super) fn of(body: &Body, weave: &Weave) -> Self {
        let edits = &body.edits;
        let counts = |edit: &Edit| edit.author.standing.is_full() && !body.is_rejected(edit.id);
        let live: Vec<bool> = edits.iter().map(counts).collect();
        let truths = edits.iter().zip(&live).filter(|(_, live)| **live).map(|(edit, _)| edit.author.truth);
        let Some(truth) = truths.min() else {
            let outside = edits.iter().map(|edit| edit.id).collect();
            return Self { outside, ..Self::default() };
        };
        let chosen: Vec<bool> =
            edits.iter().zip(live).map(|(edit, live)| live && edit.author.truth == truth).collect();
        let ids = |places: &Places| -> Vec<EventId> {
            edits.iter().zip(places).filter(|(_, inside)| **inside).map(|(edit, _)| edit.id).collect()
        };
        // All that an edit was made from came before it.
        let wanted = past::closure(body, &ids(&chosen)).unwrap_or_else(|_| chosen.clone());
        let (taken, text) = bound::within(weave, edits, past::woven(weave, &wanted), MAX_BODY_BYTES);
        let place = |inside: &Places, at: usize| inside[at] && taken[weave.same(at)];
        let inside: Places = (0..edits.len()).map(|at| place(&wanted, at)).collect();
        let out: Places = (0..edits.len()).map(|at| chosen[at] && !inside[at]).collect();
        let left_out: BTreeSet<EventId> = ids(&ends(body, &out)).into_iter().collect();
        let mut heads = ids(&ends(body, &inside));
        heads.sort_unstable();
        Self {
            text,
            heads,
            truth: Some(truth),
            outside: ids(&inside.iter().map(|inside| !inside).collect()).into_iter().collect(),
            within: ids(&out).into_iter().filter(|id| !left_out.contains(id)).collect(),
            left_out,
        }
    }

    /// Whether an edit is part of a branch that would make the text too long.
    pub(super) fn leaves_out(&self, edit: EventId) -> bool {
        self.left_out.contains(&edit) || self.within.contains(&edit)
    }
}

/// Those of some edits that no other one of them was made from.
fn ends(body: &Body, inside: &Places) -> Places {
    let mut ends = inside.clone();
    for (edit, _) in body.edits.iter().zip(inside).filter(|(_, inside)| **inside) {
        for parent in edit.parents.iter().filter_map(|parent| body.index.get(parent)) {
            ends[*parent] = false;
        }
    }
    ends
}
