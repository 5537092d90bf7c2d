//! Claims: a field is a graph of statements, and its value is a pure fold over their set.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::clock::Hlc;
use crate::id::{EventId, PrincipalId};
use crate::principal::Origin;
use crate::truth::Truth;
use crate::value::Value;
use crate::verdict::Verdicts;

/// Who wrote something, how true it may claim to be, from where, when and in which command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorship {
    /// The principal.
    pub principal: PrincipalId,
    /// The level of the write, fixed when it was written (rule T1).
    pub truth: Truth,
    /// Where it came from.
    pub origin: Origin,
    /// When, by the hybrid clock.
    pub hlc: Hlc,
    /// The command that wrote it: all events of one command share it.
    pub command: Uuid,
    /// What it may do to what is there: more than suggest for everybody but some peers (rule T10).
    #[serde(default, skip_serializing_if = "Standing::is_full")]
    pub standing: Standing,
}

/// What a write counts for. What the brain's own principals write counts in full; what a peer wrote counts for what its grant gives,
/// which can change when more becomes known of the space.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// For what it says, at its level.
    #[default]
    Full,
    /// As a suggestion, whatever its level, also where nothing outranks it.
    Suggestion,
    /// For nothing: it is kept, and not shown.
    Held,
}

impl Standing {
    /// Whether it counts for what it says.
    pub fn is_full(&self) -> bool {
        *self == Self::Full
    }
}

impl Authorship {
    /// Whether what this author wrote comes before what the other one did, whenever either was written.
    pub fn outranks(&self, other: &Self) -> bool {
        (self.standing, self.truth) < (other.standing, other.truth)
    }
}

/// One principal's statement that a field has a value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The event that made it.
    pub id: EventId,
    /// What it states.
    pub value: Value,
    /// Who stated it.
    pub author: Authorship,
    /// The claims it saw and replaces.
    pub supersedes: Vec<EventId>,
    /// The suggestion it accepts.
    pub accepts: Option<EventId>,
}

/// All claims about one field, with what was taken back or turned down.
///
/// The fold never depends on the order in which claims, retractions and rejections arrive (rule T3).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct FieldClaims {
    pub(crate) claims: Vec<Claim>,
    /// Where in `claims` each one stands.
    pub(crate) index: BTreeMap<EventId, usize>,
    pub(crate) retractions: Verdicts,
    pub(crate) rejections: Verdicts,
    /// Indices into `claims` of the heads, ascending; derived, kept because folding one more claim is then cheap.
    pub(crate) heads: Vec<usize>,
    /// Ids that a claim superseded before they were seen; when one arrives the heads are derived anew.
    pub(crate) unseen: BTreeSet<EventId>,
}

impl FieldClaims {
    /// Adds a claim. Adding one that is already there changes nothing.
    pub fn add(&mut self, claim: Claim) {
        if self.index.contains_key(&claim.id) {
            return;
        }
        let early = self.unseen.remove(&claim.id)
            || claim.author.standing == Standing::Held
            || self.retractions.mentions(claim.id)
            || self.rejections.mentions(claim.id);
        let only_heads =
            claim.supersedes.iter().all(|seen| self.heads.iter().any(|&head| self.claims[head].id == *seen));
        let newest = self.claims.len();
        self.index.insert(claim.id, newest);
        let unseen = claim.supersedes.iter().filter(|seen| !self.index.contains_key(seen));
        self.unseen.extend(unseen.copied());
        self.claims.push(claim);
        if early || !only_heads {
            self.derive_heads();
            return;
        }
        let (claims, claim) = (&self.claims, &self.claims[newest]);
        self.heads.retain(|&head| !supersedes(claim, &claims[head]));
        self.heads.push(newest);
    }

    /// Takes a claim back. Has an effect only when `by` made the claim, at no lower truth than the claim's.
    pub fn retract(&mut self, event: EventId, claim: EventId, by: &Authorship) {
        self.retractions.add(event, claim, by);
        self.forget(claim);
    }

    /// Turns a suggestion down: it is not shown again and never becomes the value.
    /// Has an effect only at level 1 (rule T6).
    pub fn reject(&mut self, event: EventId, suggestion: EventId, by: &Authorship) {
        self.rejections.add(event, suggestion, by);
        self.forget(suggestion);
    }

    /// Takes note of which commands were undone, each with the truth of its undoing:
    /// their retractions and rejections do not count any more.
    pub(crate) fn heed_undone(&mut self, undone: &BTreeMap<Uuid, Truth>) {
        let changed = [self.retractions.heed(undone), self.rejections.heed(undone)];
        if changed.contains(&true) {
            self.derive_heads();
        }
    }

    /// Takes note that some of the events count for something else from here on (rule T10).
    pub(crate) fn restand(&mut self, events: &[EventId], standing: Standing) {
        let mut changed = self.retractions.restand(events, standing) | self.rejections.restand(events, standing);
        for event in events {
            if let Some(&at) = self.index.get(event) {
                self.claims[at].author.standing = standing;
                changed = true;
            }
        }
        if changed {
            self.derive_heads();
        }
    }

    /// Brings the heads up to date after a verdict about a claim.
    fn forget(&mut self, id: EventId) {
        let Some(claim) = self.get(id) else { return };
        if self.is_live(claim) {
            return;
        }
        if claim.supersedes.is_empty() {
            let at = self.index[&id];
            self.heads.retain(|&head| head != at);
        } else {
            self.derive_heads();
        }
    }

    /// The claim made by an event.
    pub fn get(&self, id: EventId) -> Option<&Claim> {
        self.index.get(&id).map(|&at| &self.claims[at])
    }

    /// Every claim ever made, in the order of their arrival.
    pub fn all(&self) -> &[Claim] {
        &self.claims
    }

    /// The claims that nothing valid supersedes, highest precedence first.
    pub fn heads(&self) -> Vec<&Claim> {
        let mut heads: Vec<_> = self.heads.iter().map(|&head| &self.claims[head]).collect();
        heads.sort_by(|a, b| precedence(b, a));
        heads
    }

    /// The claim whose value the field has (rule T3).
    pub fn effective(&self) -> Option<&Claim> {
        let heads = self.heads.iter().map(|&head| &self.claims[head]);
        heads.filter(|head| head.author.standing.is_full()).max_by(|a, b| precedence(a, b))
    }

    /// The heads at the winning truth, when they disagree (rule T4); else nothing.
    pub fn conflict(&self) -> Vec<&Claim> {
        let heads = self.heads();
        let Some(winner) = heads.first().filter(|head| head.author.standing.is_full()) else { return Vec::new() };
        let value = &winner.value;
        let rivals: Vec<_> = heads.iter().copied().filter(|head| !winner.author.outranks(&head.author)).collect();
        if rivals.iter().any(|rival| rival.value != *value) { rivals } else { Vec::new() }
    }

    /// The heads that do not win and say something else than the value: they wait for the user (rule T5). Where nothing wins, all that
    /// only suggest.
    pub fn suggestions(&self) -> Vec<&Claim> {
        let winner = self.effective();
        let waits =
            |head: &&Claim| winner.is_none_or(|by| by.author.outranks(&head.author) && head.value != by.value);
        self.heads().into_iter().filter(waits).collect()
    }

    /// Whether this principal's claim of this value was turned down before (rule T6).
    pub fn was_rejected(&self, principal: PrincipalId, value: &Value) -> bool {
        self.rejections.standing().any(|(id, by)| {
            self.get(id).is_some_and(|claim| rejects(by, &claim.author))
                && self.get(id).is_some_and(|claim| claim.author.principal == principal && claim.value == *value)
        })
    }

    /// Whether a claim was turned down.
    pub fn is_rejected(&self, claim: EventId) -> bool {
        let about = self.rejections.about(claim);
        self.get(claim).is_some_and(|claim| about.into_iter().any(|by| rejects(by, &claim.author)))
    }

    /// Whether a claim was taken back by its author.
    pub fn is_retracted(&self, claim: &Claim) -> bool {
        let counts = |by: &Authorship| by.principal == claim.author.principal && !claim.author.outranks(by);
        self.retractions.about(claim.id).any(counts)
    }

    /// The retractions and rejections that were not undone: who said so, and when.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = &Authorship> {
        self.retractions.standing().chain(self.rejections.standing()).map(|(_, by)| by)
    }

    /// The field as it stood before a command wrote to it: only what precedes the command by the clock.
    /// `None` when the command made no claim here.
    pub fn before(&self, command: Uuid) -> Option<Self> {
        let moment = |claim: &Claim| (claim.author.hlc, claim.id);
        let first = self.claims.iter().filter(|claim| claim.author.command == command).map(moment).min()?;
        let claims: Vec<Claim> = self.claims.iter().filter(|claim| moment(claim) < first).cloned().collect();
        let index = claims.iter().enumerate().map(|(at, claim)| (claim.id, at)).collect();
        let mut earlier = Self {
            claims,
            index,
            retractions: self.retractions.clone(),
            rejections: self.rejections.clone(),
            heads: Vec::new(),
            unseen: BTreeSet::new(),
        };
        earlier.derive_heads();
        Some(earlier)
    }

    fn is_live(&self, claim: &Claim) -> bool {
        claim.author.standing != Standing::Held && !self.is_retracted(claim) && !self.is_rejected(claim.id)
    }

    /// A live claim is a head unless a live claim reaches it by supersede edges. A path may lead through
    /// claims that are not live: taking back a claim in the middle does not bring back what later ones replaced.
    fn derive_heads(&mut self) {
        let live: Vec<bool> = self.claims.iter().map(|claim| self.is_live(claim)).collect();
        let mut replaced = vec![false; self.claims.len()];
        let mut open: Vec<usize> = (0..self.claims.len()).filter(|&at| live[at]).collect();
        while let Some(at) = open.pop() {
            let claim = &self.claims[at];
            for &seen in claim.supersedes.iter().filter_map(|id| self.index.get(id)) {
                if !replaced[seen] && supersedes(claim, &self.claims[seen]) {
                    replaced[seen] = true;
                    open.push(seen);
                }
            }
        }
        self.heads = (0..self.claims.len()).filter(|&at| live[at] && !replaced[at]).collect();
    }
}

/// Whether an edge counts: a claim never supersedes one of higher truth (rule T2).
pub(crate) fn supersedes(claim: &Claim, seen: &Claim) -> bool {
    claim.id != seen.id && claim.supersedes.contains(&seen.id) && !seen.author.outranks(&claim.author)
}

/// Whether an author decides on what others suggest (rule T6).
pub(crate) fn decides(by: &Authorship) -> bool {
    by.truth == Truth::User && by.standing.is_full()
}

/// Whether an author's rejection counts: that of a peer does nothing to what this brain's own user said (rule T10).
pub(crate) fn rejects(by: &Authorship, author: &Authorship) -> bool {
    decides(by) && (!by.origin.is_peer() || author.origin.is_peer() || by.outranks(author))
}

/// Higher truth last, then the later clock, then the larger value; among claims that say the same, the larger id. Ids differ from one
/// brain to another, so they never choose between values.
fn precedence(a: &Claim, b: &Claim) -> Ordering {
    let rank = |claim: &Claim| (Reverse((claim.author.standing, claim.author.truth)), claim.author.hlc);
    let said = |claim: &Claim| serde_json::to_string(&claim.value).expect("values are plain");
    rank(a)
        .cmp(&rank(b))
        .then_with(|| if a.value == b.value { Ordering::Equal } else { said(a).cmp(&said(b)) })
        .then_with(|| a.id.cmp(&b.id))
}

#[cfg(test)]
mod tests;
