//! The body: text that merges (rule T9).
//!
//! Every edit is a node of a graph: the edits whose text it was made from, and plain splices upon that text.
//! What readers see is the text at the *heads* that the truth rules choose:
//!
//! - Edits at the highest truth that has written are the effective text.
//! - An edit of lower truth stays a branch of its own, a suggestion, until a user accepts it; then its branch is
//!   merged into the effective text, keeping what was typed meanwhile.
//! - The first edit at a higher truth continues from the text it saw.
//!
//! Merging is done by Automerge, in `body/merge.rs`. It is needed only where branches meet, so an edit that
//! continues the effective text costs no more than its splices.

mod merge;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::claim::{Authorship, Standing, decides, rejects};
use crate::id::EventId;
use crate::truth::Truth;
use crate::verdict::Verdicts;

/// The longest body, in bytes of UTF-8. Its edit fits into one event.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The most splices that an edit has: each costs a walk through the text. One of a peer with more says nothing.
pub const MAX_SPLICES: usize = 512;

/// Replaces `delete` characters at `at` by `insert`. Counted in Unicode scalar values, from 0.
/// The splices of one edit are applied one after the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Splice {
    /// Where.
    pub at: usize,
    /// How many characters go.
    #[serde(default)]
    pub delete: usize,
    /// What comes.
    #[serde(default)]
    pub insert: String,
}

/// What an edit does to a text other than the one it was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Effect {
    /// The edits at which the other text stood.
    pub onto: Vec<EventId>,
    /// What merging the edit did to it.
    pub splices: Vec<Splice>,
}

/// An edit as its event states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BodyChange {
    /// The edits whose merged text it was made from; none for the first.
    pub parents: Vec<EventId>,
    /// What it does to that text.
    pub splices: Vec<Splice>,
    /// The suggestion it accepts, which is then one of the parents.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepts: Option<EventId>,
    /// What merging it did to the effective text of the moment, where that was not the text it was made from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<Effect>,
}

/// One edit in the graph.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Edit {
    /// The event that made it.
    pub id: EventId,
    /// Who made it.
    pub author: Authorship,
    /// The edits it was made from.
    pub parents: Vec<EventId>,
    /// What it does to their text.
    pub splices: Vec<Splice>,
    /// The suggestion it accepts.
    pub accepts: Option<EventId>,
}

/// A body with its whole history.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Body {
    /// In the order of arrival, which is causal: parents come before their children.
    pub(crate) edits: Vec<Edit>,
    /// Where in `edits` each one stands.
    pub(crate) index: BTreeMap<EventId, usize>,
    pub(crate) rejections: Verdicts,
    pub(crate) effective: Effective,
    /// Edits of peers that came before the edits they were made from. They count once those are there.
    pub(crate) early: Vec<Edit>,
}

/// What the truth rules choose from the graph; derived from the edits and kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Effective {
    text: String,
    /// Ascending.
    heads: Vec<EventId>,
    truth: Option<Truth>,
    /// The edits that are not part of the text: suggestions, and those turned down.
    outside: BTreeSet<EventId>,
}

/// A body whose history cannot be read: the log is damaged, or holds an edit that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body's history is damaged at event {event}: {reason}")]
pub struct CorruptBody {
    /// The event that could not be applied.
    pub event: EventId,
    /// Why not.
    pub reason: String,
}

/// Which text an edit starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// The effective text as it stands.
    Effective,
    /// The text as it was right after an edit, so that what was written since is kept.
    After(EventId),
}

impl Body {
    /// The effective text; empty when nobody has written.
    pub fn text(&self) -> &str {
        &self.effective.text
    }

    /// The truth of the effective text; `None` when nobody has written.
    pub fn truth(&self) -> Option<Truth> {
        self.effective.truth
    }

    /// Every edit, in the order of arrival.
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }

    /// The edit made by an event.
    pub fn edit(&self, id: EventId) -> Option<&Edit> {
        self.index.get(&id).map(|&at| &self.edits[at])
    }

    /// The edits whose merged text is the effective one.
    pub fn heads(&self) -> &[EventId] {
        &self.effective.heads
    }

    /// The edits that make up the effective text, in the order of their arrival.
    pub fn effective_edits(&self) -> impl DoubleEndedIterator<Item = &Edit> {
        self.edits.iter().filter(|edit| !self.effective.outside.contains(&edit.id))
    }

    /// The edits that wait for the user's decision (rule T5).
    pub fn suggestions(&self) -> impl Iterator<Item = &Edit> {
        let edits = self.effective.outside.iter().filter(|edit| self.is_suggestion(**edit));
        let mut places: Vec<usize> = edits.map(|edit| self.index[edit]).collect();
        places.sort_unstable();
        places.into_iter().map(|at| &self.edits[at])
    }

    /// Whether an edit waits for the user's decision.
    pub fn is_suggestion(&self, edit: EventId) -> bool {
        let held = self.edit(edit).is_some_and(|edit| edit.author.standing == Standing::Held);
        self.effective.outside.contains(&edit) && !held && !self.is_rejected(edit)
    }

    /// Whether an edit was turned down.
    pub fn is_rejected(&self, edit: EventId) -> bool {
        let about = self.rejections.about(edit);
        let author = self.edit(edit).map(|edit| &edit.author);
        about.into_iter().any(|by| author.map_or(decides(by), |author| rejects(by, author)))
    }

    /// The edits that the user turned down.
    pub fn refused(&self) -> impl Iterator<Item = &Edit> {
        let refused = self.rejections.standing().filter_map(|(id, by)| Some((self.edit(id)?, by)));
        refused.filter(|(edit, by)| rejects(by, &edit.author)).map(|(edit, _)| edit)
    }

    /// Folds one edit in. One of a peer may come before those that it was made from; one of a peer that does not fit its history says
    /// nothing, here and on every other brain.
    ///
    /// # Errors
    /// When it does not fit the history. The body is then as it was.
    pub fn add(&mut self, id: EventId, author: Authorship, change: BodyChange) -> Result<(), CorruptBody> {
        if self.index.contains_key(&id) {
            return Ok(());
        }
        let BodyChange { parents, splices, accepts, effect } = change;
        let edit = Edit { id, author, parents, splices, accepts };
        if !edit.author.origin.is_peer() {
            self.insert(edit, effect)?;
        } else if self.missing(&edit).is_some() {
            self.early.push(edit);
            return Ok(());
        } else if !self.fits(&edit) || self.insert(edit, None).is_err() {
            return Ok(());
        }
        self.take_early();
        Ok(())
    }

    /// Whether a peer's edit, whose parents are there, can be applied to their text.
    fn fits(&self, edit: &Edit) -> bool {
        if edit.splices.len() > MAX_SPLICES {
            return false;
        }
        let text = match edit.parents == self.effective.heads {
            true => apply(self.text(), &edit.splices).ok(),
            false => {
                merge::text_at(self, None, &edit.parents).ok().and_then(|text| apply(&text, &edit.splices).ok())
            }
        };
        text.is_some_and(|text| text.len() <= MAX_BODY_BYTES)
    }

    /// An edit it was made from that is not there.
    fn missing(&self, edit: &Edit) -> Option<EventId> {
        edit.parents.iter().copied().find(|parent| !self.index.contains_key(parent))
    }

    /// Folds in what waited for the edit that came last, and so on.
    fn take_early(&mut self) {
        while let Some(at) = self.early.iter().position(|edit| self.missing(edit).is_none()) {
            let edit = self.early.remove(at);
            if self.fits(&edit) {
                // One that cannot be merged says nothing, like one that does not fit.
                let _ = self.insert(edit, None);
            }
        }
    }

    fn insert(&mut self, edit: Edit, effect: Option<Effect>) -> Result<(), CorruptBody> {
        let id = edit.id;
        if let Some(unknown) = self.missing(&edit) {
            let reason = format!("it was made from edit {unknown}, which is not there");
            return Err(CorruptBody { event: id, reason });
        }
        let truth = edit.author.truth;
        let decisive =
            edit.author.standing.is_full() && self.effective.truth.is_none_or(|level| !level.outranks(truth));
        let (onto, splices) = match &effect {
            Some(effect) => (&effect.onto, &effect.splices),
            None => (&edit.parents, &edit.splices),
        };
        let fast = decisive
            && *onto == self.effective.heads
            && !self.is_rejected(id)
            && self.extends(&edit.parents, truth);
        let text = fast
            .then(|| apply(&self.effective.text, splices))
            .transpose()
            .map_err(|reason| CorruptBody { event: id, reason })?;
        self.index.insert(id, self.edits.len());
        self.edits.push(edit);
        match text {
            Some(text) => self.advance(id, truth, text),
            None if !decisive => {
                self.effective.outside.insert(id);
            }
            None => {
                if let Err(damage) = self.derive() {
                    self.edits.pop();
                    self.index.remove(&id);
                    return Err(damage);
                }
            }
        }
        Ok(())
    }

    /// Takes note that some of the edits count for something else from here on (rule T10).
    pub(crate) fn restand(&mut self, events: &[EventId], standing: Standing) -> Result<(), CorruptBody> {
        let mut changed = self.rejections.restand(events, standing);
        let edits = self.edits.iter_mut().filter(|edit| events.contains(&edit.id));
        edits.for_each(|edit| (edit.author.standing, changed) = (standing, true));
        let early = self.early.iter_mut().filter(|edit| events.contains(&edit.id));
        early.for_each(|edit| edit.author.standing = standing);
        if changed { self.derive() } else { Ok(()) }
    }

    /// Turns a suggestion down. Has an effect only at level 1 (rule T6).
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn reject(&mut self, event: EventId, suggestion: EventId, by: &Authorship) -> Result<(), CorruptBody> {
        self.rejections.add(event, suggestion, by);
        // What is outside has no part in the text, and what is not there yet is looked at when it comes.
        if self.effective.outside.contains(&suggestion) || !self.index.contains_key(&suggestion) {
            return Ok(());
        }
        self.derive()
    }

    /// Takes note of which commands were undone: their rejections do not count any more.
    pub(crate) fn heed_undone(&mut self, undone: &BTreeMap<Uuid, Truth>) -> Result<(), CorruptBody> {
        if self.rejections.heed(undone) { self.derive() } else { Ok(()) }
    }

    /// The rejections that were not undone: who said so, and when.
    pub(crate) fn verdicts(&self) -> impl Iterator<Item = &Authorship> {
        self.rejections.standing().map(|(_, by)| by)
    }

    /// The text as it was right after an edit was made.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn text_after(&self, edit: EventId) -> Result<String, CorruptBody> {
        merge::text_at(self, None, &[edit])
    }

    /// The text that an edit was made from. For an acceptance: the text without what it accepted.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn text_before(&self, edit: EventId) -> Result<String, CorruptBody> {
        let known = self.known(edit)?;
        let parents: Vec<_> = known.parents.iter().copied().filter(|id| Some(*id) != known.accepts).collect();
        merge::text_at(self, None, &parents)
    }

    /// The effective text with a suggestion merged in: what accepting it would give.
    /// What the suggestion was built upon and the user turned down stays out.
    ///
    /// This compares three texts instead of playing the edits, because it is asked for often: readers are shown it.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn preview(&self, suggestion: EventId) -> Result<String, CorruptBody> {
        self.known(suggestion)?;
        let outside = |id: &EventId| self.effective.outside.contains(id);
        let built_upon = merge::closure(self, &[suggestion]);
        let refused: Vec<EventId> = built_upon
            .iter()
            .copied()
            .filter(|id| *id != suggestion && outside(id) && self.is_rejected(*id))
            .collect();
        let refused = merge::closure(self, &refused);
        let base: Vec<EventId> =
            built_upon.iter().copied().filter(|id| refused.contains(id) || !outside(id)).collect();
        let base = merge::text_at(self, None, &base)?;
        Ok(crate::diff::three_way(&base, self.text(), &self.text_after(suggestion)?))
    }

    fn merged_with(&self, edit: EventId) -> Result<String, CorruptBody> {
        let mut heads = self.effective.heads.clone();
        heads.push(edit);
        merge::text_at(self, None, &heads)
    }

    /// Makes the edit that turns the base's text into `wanted`; `None` when that changes nothing.
    /// Its effect is not stated yet: see [`Self::effect`].
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn edit_to(&self, base: Base, wanted: &str) -> Result<Option<BodyChange>, CorruptBody> {
        let parents = match base {
            Base::Effective => self.effective.heads.clone(),
            Base::After(edit) => vec![edit],
        };
        let splices = match parents == self.effective.heads {
            true => crate::diff::splices(self.text(), wanted),
            false => crate::diff::splices(&merge::text_at(self, None, &parents)?, wanted),
        };
        let change = BodyChange { parents, splices, accepts: None, effect: None };
        Ok(Some(change).filter(|change| !change.splices.is_empty()))
    }

    /// Makes the edit that undoes another one and keeps what was written after it; `None` when nothing is left of it.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn undo_of(&self, edit: EventId) -> Result<Option<BodyChange>, CorruptBody> {
        let before = self.text_before(edit)?;
        self.edit_to(Base::After(edit), &before)
    }

    /// Makes the acceptance of a suggestion, as it is or as `edited` by the user.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn accept(&self, suggestion: EventId, edited: Option<&str>) -> Result<BodyChange, CorruptBody> {
        self.accepted(suggestion, edited).map(|(change, _)| change)
    }

    /// The acceptance, and the text after it.
    pub(crate) fn accepted(
        &self,
        suggestion: EventId,
        edited: Option<&str>,
    ) -> Result<(BodyChange, String), CorruptBody> {
        let wanted = edited.map_or_else(|| self.preview(suggestion), |edited| Ok(edited.to_owned()))?;
        let splices = crate::diff::splices(&self.merged_with(suggestion)?, &wanted);
        let onto = self.effective.heads.clone();
        let mut parents = onto.clone();
        parents.push(suggestion);
        let effect = Some(Effect { onto, splices: crate::diff::splices(self.text(), &wanted) });
        Ok((BodyChange { parents, splices, accepts: Some(suggestion), effect }, wanted))
    }

    /// What an edit made from another text than the effective one will do to that one. `None` when the effective text does not
    /// take the edit in by merging: it continues that text, or loses, or outranks it and stands alone.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn effect(
        &self,
        id: EventId,
        author: &Authorship,
        change: &BodyChange,
    ) -> Result<Option<Effect>, CorruptBody> {
        if change.parents == self.effective.heads || self.effective.truth != Some(author.truth) {
            return Ok(None);
        }
        let mut heads = self.effective.heads.clone();
        heads.push(id);
        let node = merge::Node { id, author, parents: &change.parents, splices: &change.splices };
        let merged = merge::text_at(self, Some(node), &heads)?;
        let splices = crate::diff::splices(self.text(), &merged);
        Ok(Some(Effect { onto: self.effective.heads.clone(), splices }))
    }

    /// Whether every edit that another one or the effective text refers to is there.
    pub(crate) fn is_whole(&self) -> bool {
        let known = |id: &EventId| self.index.contains_key(id);
        self.effective.heads.iter().all(known) && self.effective.outside.iter().all(known)
    }

    fn known(&self, id: EventId) -> Result<&Edit, CorruptBody> {
        self.edit(id).ok_or_else(|| CorruptBody { event: id, reason: "no such edit".into() })
    }

    /// Whether an edit keeps everything that is effective, so that the heads after it follow from those before it.
    fn extends(&self, parents: &[EventId], truth: Truth) -> bool {
        let effective = &self.effective;
        effective.heads.iter().all(|head| parents.contains(head))
            || effective.truth == Some(truth) && !parents.iter().any(|parent| effective.outside.contains(parent))
    }

    fn advance(&mut self, id: EventId, truth: Truth, text: String) {
        let Self { edits, index, effective, .. } = self;
        let parents = |id: EventId| &edits[index[&id]].parents;
        effective.text = text;
        effective.truth = Some(truth);
        effective.heads.retain(|head| !parents(id).contains(head));
        effective.heads.push(id);
        effective.heads.sort_unstable();
        // An accepted suggestion comes in with all it was built upon.
        let mut open = parents(id).clone();
        while let Some(parent) = open.pop() {
            if effective.outside.remove(&parent) {
                open.extend(parents(parent));
            }
        }
    }

    /// Derives the effective text from the whole history.
    fn derive(&mut self) -> Result<(), CorruptBody> {
        let counts = |edit: &&Edit| edit.author.standing.is_full() && !self.is_rejected(edit.id);
        let live: Vec<&Edit> = self.edits.iter().filter(counts).collect();
        let Some(truth) = live.iter().map(|edit| edit.author.truth).min() else {
            let outside = self.index.keys().copied().collect();
            self.effective = Effective { outside, ..Effective::default() };
            return Ok(());
        };
        let chosen: Vec<EventId> =
            live.iter().filter(|edit| edit.author.truth == truth).map(|edit| edit.id).collect();
        let inside = merge::closure(self, &chosen);
        let mut heads = inside.clone();
        for edit in self.edits.iter().filter(|edit| inside.contains(&edit.id)) {
            for parent in &edit.parents {
                heads.remove(parent);
            }
        }
        let heads: Vec<EventId> = heads.into_iter().collect();
        let text = merge::text_at(self, None, &heads)?;
        let outside = self.index.keys().copied().filter(|id| !inside.contains(id)).collect();
        self.effective = Effective { text, heads, truth: Some(truth), outside };
        Ok(())
    }
}

/// Applies splices to a text.
fn apply(text: &str, splices: &[Splice]) -> Result<String, String> {
    let mut text = text.to_owned();
    apply_to(&mut text, splices)?;
    Ok(text)
}

fn apply_to(text: &mut String, splices: &[Splice]) -> Result<(), String> {
    for splice in splices {
        let from = byte_offset(text, splice.at).ok_or("a splice starts past the end of the text")?;
        let length = byte_offset(&text[from..], splice.delete).ok_or("a splice ends past the end of the text")?;
        text.replace_range(from..from + length, &splice.insert);
    }
    Ok(())
}

/// Where a character starts; the end of the text counts as the start of the one after the last.
fn byte_offset(text: &str, characters: usize) -> Option<usize> {
    let Some(skipped) = characters.checked_sub(1) else { return Some(0) };
    let mut rest = text.chars();
    // Skipping is quick: the standard library counts whole blocks of bytes.
    rest.nth(skipped)?;
    Some(text.len() - rest.as_str().len())
}

#[cfg(test)]
mod tests;
