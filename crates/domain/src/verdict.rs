//! What principals said about other people's statements and their own: this one is taken back, that one turned down.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::claim::{Authorship, Standing};
use crate::clock::Hlc;
use crate::id::{EventId, PrincipalId};
use crate::principal::Origin;
use crate::truth::Truth;

/// Retractions, or rejections, by the event they are about. They may arrive before that event does.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Verdicts {
    by_target: BTreeMap<EventId, Vec<Verdict>>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Verdict {
    /// The event that said so.
    pub(crate) event: EventId,
    /// Who said so, and when.
    pub(crate) author: Authorship,
    /// Whether the command that said so was undone.
    pub(crate) void: bool,
}

impl Verdict {
    fn stands(&self) -> bool {
        !self.void && self.author.standing != Standing::Held
    }

    fn order(&self) -> (Hlc, Uuid, PrincipalId, Truth, &Origin) {
        let Authorship { principal, truth, origin, hlc, command, .. } = &self.author;
        (*hlc, *command, *principal, *truth, origin)
    }
}

impl Verdicts {
    /// Notes a verdict. The same one again changes nothing.
    pub(crate) fn add(&mut self, event: EventId, target: EventId, author: &Authorship) {
        let verdicts = self.by_target.entry(target).or_default();
        if !verdicts.iter().any(|known| known.author == *author) {
            verdicts.push(Verdict { event, author: author.clone(), void: false });
            // Arrival must leave no trace in the order.
            verdicts.sort_by(|a, b| a.order().cmp(&b.order()));
        }
    }

    /// The verdicts about an event that were not undone.
    pub(crate) fn about(&self, target: EventId) -> impl Iterator<Item = &Authorship> {
        let standing = |verdict: &&Verdict| verdict.stands();
        self.by_target.get(&target).into_iter().flatten().filter(standing).map(|verdict| &verdict.author)
    }

    /// All verdicts that were not undone, with the events they are about.
    pub(crate) fn standing(&self) -> impl Iterator<Item = (EventId, &Authorship)> {
        self.by_target
            .iter()
            .flat_map(|(target, verdicts)| verdicts.iter().map(move |verdict| (*target, verdict)))
            .filter(|(_, verdict)| verdict.stands())
            .map(|(target, verdict)| (target, &verdict.author))
    }

    /// Takes note that some of the events count for something else from here on. True when something changed.
    pub(crate) fn restand(&mut self, events: &[EventId], standing: Standing) -> bool {
        let mut changed = false;
        for verdict in self.by_target.values_mut().flatten().filter(|verdict| events.contains(&verdict.event)) {
            changed |= verdict.author.standing != standing;
            verdict.author.standing = standing;
        }
        changed
    }

    /// Whether anybody ever said anything about an event.
    pub(crate) fn mentions(&self, target: EventId) -> bool {
        self.by_target.contains_key(&target)
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.by_target.is_empty()
    }

    /// Voids the verdicts of undone commands and brings back those of commands that are not undone any more.
    /// An undo at a lower truth than the verdict's does not count. True when something changed.
    pub(crate) fn heed(&mut self, undone: &BTreeMap<Uuid, Truth>) -> bool {
        let mut changed = false;
        for verdict in self.by_target.values_mut().flatten() {
            let by = undone.get(&verdict.author.command);
            let void = by.is_some_and(|truth| !verdict.author.truth.outranks(*truth));
            changed |= void != verdict.void;
            verdict.void = void;
        }
        changed
    }

    /// Who said anything, undone or not.
    pub(crate) fn authors(&self) -> impl Iterator<Item = &Authorship> {
        self.by_target.values().flatten().map(|verdict| &verdict.author)
    }

    /// Everything, for the snapshot.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (EventId, &[Verdict])> {
        self.by_target.iter().map(|(target, verdicts)| (*target, verdicts.as_slice()))
    }

    /// What [`Self::entries`] gave.
    pub(crate) fn from_entries(entries: impl Iterator<Item = (EventId, Vec<Verdict>)>) -> Self {
        Self { by_target: entries.collect() }
    }
}
