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
//! - What would make the text longer than [`MAX_BODY_BYTES`] is left out, and waits as a suggestion.
//!
//! An edit that continues the effective text costs no more than its splices. Where the graph branches, `body/weave.rs` merges;
//! the effective text is then derived when it is read, once for all edits that have come since.

mod bound;
mod effective;
mod past;
mod rope;
mod runs;
mod splice;
mod weave;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

pub(crate) use self::effective::Effective;
pub use self::splice::Splice;
use self::splice::apply;
use self::weave::Weave;

use crate::claim::{Authorship, Standing, decides, rejects};
use crate::id::EventId;
use crate::truth::Truth;
use crate::verdict::Verdicts;

/// The longest body, in bytes of UTF-8. Its edit fits into one event.
pub const MAX_BODY_BYTES: usize = 1024 * 1024;

/// The most splices that an edit has: each costs a walk through the text. One of a peer with more says nothing.
pub const MAX_SPLICES: usize = 512;

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
#[derive(Debug, Default)]
pub struct Body {
    /// In the order of arrival, which is causal: parents come before their children.
    pub(crate) edits: Vec<Edit>,
    /// Where in `edits` each one stands.
    pub(crate) index: BTreeMap<EventId, usize>,
    pub(crate) rejections: Verdicts,
    /// Edits of peers that came before the edits they were made from, by the first of those. They count once all are there.
    pub(crate) early: BTreeMap<EventId, Vec<Edit>>,
    /// Not set while something came that changes it; then all edits are woven.
    effective: OnceLock<Effective>,
    /// All edits, or not set: while they are a line it is not needed.
    woven: OnceLock<Arc<Weave>>,
}

/// What is effective is derived first, so that it need not be for each copy.
impl Clone for Body {
    fn clone(&self) -> Self {
        Self {
            effective: self.effective().clone().into(),
            edits: self.edits.clone(),
            index: self.index.clone(),
            rejections: self.rejections.clone(),
            early: self.early.clone(),
            woven: self.woven.clone(),
        }
    }
}

/// The same edits and verdicts. What is derived follows from these; it is compared because it is kept.
impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        self.edits == other.edits
            && self.rejections == other.rejections
            && self.early == other.early
            && self.effective() == other.effective()
    }
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
        &self.effective().text
    }

    /// The truth of the effective text; `None` when nobody has written.
    pub fn truth(&self) -> Option<Truth> {
        self.effective().truth
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
        &self.effective().heads
    }

    /// The edits that make up the effective text, in the order of their arrival.
    pub fn effective_edits(&self) -> impl DoubleEndedIterator<Item = &Edit> {
        let outside = &self.effective().outside;
        self.edits.iter().filter(|edit| !outside.contains(&edit.id))
    }

    /// The edits that wait for the user's decision (rule T5).
    pub fn suggestions(&self) -> impl Iterator<Item = &Edit> {
        let edits = self.effective().outside.iter().filter(|edit| self.is_suggestion(**edit));
        let mut places: Vec<usize> = edits.map(|edit| self.index[edit]).collect();
        places.sort_unstable();
        places.into_iter().map(|at| &self.edits[at])
    }

    /// Whether an edit waits for the user's decision. Of a branch that was left out, the last edit does, for all of it.
    pub fn is_suggestion(&self, edit: EventId) -> bool {
        let held = self.edit(edit).is_some_and(|edit| edit.author.standing == Standing::Held);
        let Effective { outside, within, .. } = self.effective();
        outside.contains(&edit) && !within.contains(&edit) && !held && !self.is_rejected(edit)
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
            self.take_early(id);
        } else {
            self.add_peers(edit);
        }
        Ok(())
    }

    /// An edit it was made from that is not there.
    fn missing(&self, edit: &Edit) -> Option<EventId> {
        edit.parents.iter().copied().find(|parent| !self.index.contains_key(parent))
    }

    fn add_peers(&mut self, edit: Edit) {
        let id = edit.id;
        if let Some(missing) = self.missing(&edit) {
            let waiting = self.early.entry(missing).or_default();
            if !waiting.iter().any(|early| early.id == id) {
                waiting.push(edit);
            }
        } else if !self.index.contains_key(&id) && self.insert(edit, None).is_ok() {
            // One that cannot be merged says nothing, like one that does not fit.
            self.take_early(id);
        }
    }

    /// Folds in what waited for an edit, and so on.
    fn take_early(&mut self, came: EventId) {
        let mut came = vec![came];
        while let Some(id) = came.pop() {
            for edit in self.early.remove(&id).unwrap_or_default() {
                let next = edit.id;
                match self.missing(&edit) {
                    Some(missing) => self.early.entry(missing).or_default().push(edit),
                    None if self.index.contains_key(&next) => {}
                    None => came.extend(self.insert(edit, None).is_ok().then_some(next)),
                }
            }
        }
    }

    fn insert(&mut self, edit: Edit, effect: Option<Effect>) -> Result<(), CorruptBody> {
        let (id, truth) = (edit.id, edit.author.truth);
        if let Some(unknown) = self.missing(&edit) {
            let reason = format!("it was made from edit {unknown}, which is not there");
            return Err(CorruptBody { event: id, reason });
        }
        let decisive = edit.author.standing.is_full()
            && self.settled().is_none_or(|effective| effective.truth.is_none_or(|level| !level.outranks(truth)));
        let text = self.text_with(&edit, effect.as_ref(), decisive)?;
        // What this brain's own suggest is looked at when it is read.
        if text.is_none() && (decisive || edit.author.origin.is_peer()) {
            self.woven()?;
        }
        self.index.insert(id, self.edits.len());
        self.edits.push(edit);
        if let Err(damage) = self.weave_last(text.is_some()) {
            self.edits.pop();
            self.index.remove(&id);
            return Err(damage);
        }
        match text {
            Some(text) if decisive => self.advance(id, truth, text),
            None if decisive => self.effective = OnceLock::new(),
            _ => {
                self.effective.get_mut().map(|effective| effective.outside.insert(id));
            }
        }
        Ok(())
    }

    /// The effective text after an edit that continues it, or that would if it were not a suggestion; `None` where it has to be derived.
    fn text_with(
        &self,
        edit: &Edit,
        effect: Option<&Effect>,
        decisive: bool,
    ) -> Result<Option<String>, CorruptBody> {
        let Some(effective) = self.settled() else { return Ok(None) };
        let (onto, splices) = match effect {
            Some(effect) => (&effect.onto, &effect.splices),
            None => (&edit.parents, &edit.splices),
        };
        let peers = edit.author.origin.is_peer();
        let extends = match decisive {
            // What is left out may come in once the text is shorter.
            true => {
                effective.left_out.is_empty()
                    && !self.is_rejected(edit.id)
                    && extends(effective, &edit.parents, edit.author.truth)
            }
            false => peers,
        };
        if *onto != effective.heads || !extends {
            return Ok(None);
        }
        let damage = |reason| CorruptBody { event: edit.id, reason };
        if peers && splices.len() > MAX_SPLICES {
            return Err(damage("it has too many splices".into()));
        }
        let text = apply(&effective.text, splices).map_err(damage)?;
        match text.len() <= MAX_BODY_BYTES {
            true => Ok(Some(text)),
            false if peers => Err(damage("it makes the text too long".into())),
            false => Ok(None),
        }
    }

    /// Weaves in the edit that came last, if the others are woven.
    fn weave_last(&mut self, known_to_fit: bool) -> Result<(), CorruptBody> {
        let Self { edits, index, woven, .. } = self;
        let (Some(weave), Some(edit)) = (woven.get_mut(), edits.last()) else { return Ok(()) };
        let limits = if edit.author.origin.is_peer() { weave::PEERS } else { None };
        match Arc::make_mut(weave).push(edits, index, limits) {
            // Only the stated effect fits, which is what counts.
            Err(_) if known_to_fit => *woven = OnceLock::new(),
            Err(misfit) => return Err(CorruptBody { event: edit.id, reason: misfit.to_string() }),
            Ok(()) => {}
        }
        Ok(())
    }

    /// All edits, woven together.
    fn woven(&self) -> Result<&Weave, CorruptBody> {
        if let Some(weave) = self.woven.get() {
            return Ok(weave);
        }
        let damage = |(at, misfit): (usize, weave::Misfit)| CorruptBody {
            event: self.edits[at].id,
            reason: misfit.to_string(),
        };
        let weave = Weave::of(&self.edits, &self.index).map_err(damage)?;
        Ok(self.woven.get_or_init(|| Arc::new(weave)))
    }

    /// What is effective, derived if that is due.
    pub(crate) fn effective(&self) -> &Effective {
        let derived = || self.woven.get().map(|weave| Effective::of(self, weave)).unwrap_or_default();
        self.effective.get_or_init(derived)
    }

    /// What is effective, if nothing came that changes it.
    fn settled(&self) -> Option<&Effective> {
        if self.edits.is_empty() { Some(self.effective()) } else { self.effective.get() }
    }

    /// Has what is effective derived anew when it is read next.
    fn unsettle(&mut self) -> Result<(), CorruptBody> {
        self.woven()?;
        self.effective = OnceLock::new();
        Ok(())
    }

    /// A body as it was kept; `None` when something that it refers to is not there.
    pub(crate) fn kept(
        edits: Vec<Edit>,
        early: Vec<Edit>,
        rejections: Verdicts,
        effective: Effective,
    ) -> Option<Self> {
        let index: BTreeMap<EventId, usize> = edits.iter().enumerate().map(|(at, edit)| (edit.id, at)).collect();
        let known = |id: &EventId| index.contains_key(id);
        let whole = [&effective.outside, &effective.left_out, &effective.within];
        if !effective.heads.iter().chain(whole.into_iter().flatten()).all(known) {
            return None;
        }
        let mut body = Self { edits, index, rejections, effective: effective.into(), ..Self::default() };
        early.into_iter().for_each(|edit| body.add_peers(edit));
        Some(body)
    }

    /// Takes note that some of the events count for something else from here on (rule T10).
    pub(crate) fn restand(&mut self, events: &[EventId], standing: Standing) -> Result<(), CorruptBody> {
        let mut changed = self.rejections.restand(events, standing);
        let edits = self.edits.iter_mut().filter(|edit| events.contains(&edit.id));
        edits.for_each(|edit| (edit.author.standing, changed) = (standing, true));
        let early = self.early.values_mut().flatten().filter(|edit| events.contains(&edit.id));
        early.for_each(|edit| edit.author.standing = standing);
        if changed { self.unsettle() } else { Ok(()) }
    }

    /// Turns a suggestion down. Has an effect only at level 1 (rule T6).
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn reject(&mut self, event: EventId, suggestion: EventId, by: &Authorship) -> Result<(), CorruptBody> {
        self.rejections.add(event, suggestion, by);
        // What is outside has no part in the text, and what is not there yet is looked at when it comes.
        let no_part =
            |effective: &Effective| effective.outside.contains(&suggestion) && !effective.leaves_out(suggestion);
        if self.settled().is_none_or(no_part) || !self.index.contains_key(&suggestion) {
            return Ok(());
        }
        self.unsettle()
    }

    /// Takes note of which commands were undone: their rejections do not count any more.
    pub(crate) fn heed_undone(&mut self, undone: &BTreeMap<Uuid, Truth>) -> Result<(), CorruptBody> {
        if self.rejections.heed(undone) { self.unsettle() } else { Ok(()) }
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
        past::text_at(self, &[edit])
    }

    /// The text that an edit was made from. For an acceptance: the text without what it accepted.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn text_before(&self, edit: EventId) -> Result<String, CorruptBody> {
        let known = self.known(edit)?;
        let parents: Vec<_> = known.parents.iter().copied().filter(|id| Some(*id) != known.accepts).collect();
        past::text_at(self, &parents)
    }

    /// The effective text with a suggestion merged in: what accepting it would give.
    /// What the suggestion was built upon and the user turned down stays out.
    ///
    /// This compares three texts instead of playing the edits, because it is asked for often: readers are shown it.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn preview(&self, suggestion: EventId) -> Result<String, CorruptBody> {
        let built_upon = past::closure(self, &[suggestion])?;
        let outside = |at: usize| self.effective().outside.contains(&self.edits[at].id);
        let refused = |at: &usize| {
            let id = self.edits[*at].id;
            built_upon[*at] && id != suggestion && outside(*at) && self.is_rejected(id)
        };
        let refused: Vec<EventId> = (0..self.edits.len()).filter(refused).map(|at| self.edits[at].id).collect();
        let refused = past::closure(self, &refused)?;
        let base = (0..self.edits.len()).filter(|&at| built_upon[at] && (refused[at] || !outside(at)));
        let base = past::text_at(self, &base.map(|at| self.edits[at].id).collect::<Vec<_>>())?;
        Ok(crate::diff::three_way(&base, self.text(), &self.text_after(suggestion)?))
    }

    fn merged_with(&self, edit: EventId) -> Result<String, CorruptBody> {
        let mut heads = self.heads().to_vec();
        heads.push(edit);
        past::text_at(self, &heads)
    }

    /// Makes the edit that turns the base's text into `wanted`; `None` when that changes nothing.
    /// Its effect is not stated yet: see [`Self::effect`].
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn edit_to(&self, base: Base, wanted: &str) -> Result<Option<BodyChange>, CorruptBody> {
        let parents = match base {
            Base::Effective => self.heads().to_vec(),
            Base::After(edit) => vec![edit],
        };
        let splices = match parents == self.heads() {
            true => crate::diff::splices(self.text(), wanted),
            false => crate::diff::splices(&past::text_at(self, &parents)?, wanted),
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
        let onto = self.heads().to_vec();
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
        if change.parents == self.heads() || self.truth() != Some(author.truth) {
            return Ok(None);
        }
        let with = self.with(id, author, change)?;
        if !with.effective().left_out.is_empty() {
            return Ok(None);
        }
        let splices = crate::diff::splices(self.text(), with.text());
        Ok(Some(Effect { onto: self.heads().to_vec(), splices }))
    }

    /// Whether an edit will wait, because with it the text would be longer than [`MAX_BODY_BYTES`].
    ///
    /// # Errors
    /// When the history cannot be read.
    pub fn leaves_out(&self, id: EventId, author: &Authorship, change: &BodyChange) -> Result<bool, CorruptBody> {
        // What continues the text is part of the branch that is shown.
        let merges = change.parents != self.heads() && self.truth() == Some(author.truth);
        Ok(merges && self.with(id, author, change)?.effective().leaves_out(id))
    }

    fn with(&self, id: EventId, author: &Authorship, change: &BodyChange) -> Result<Self, CorruptBody> {
        let mut with = self.clone();
        let BodyChange { parents, splices, accepts, .. } = change.clone();
        with.insert(Edit { id, author: author.clone(), parents, splices, accepts }, None)?;
        Ok(with)
    }

    fn known(&self, id: EventId) -> Result<&Edit, CorruptBody> {
        self.edit(id).ok_or_else(|| CorruptBody { event: id, reason: "no such edit".into() })
    }

    fn advance(&mut self, id: EventId, truth: Truth, text: String) {
        self.effective();
        let Self { edits, index, effective, .. } = self;
        let Some(effective) = effective.get_mut() else { return };
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
}

/// Whether an edit keeps everything that is effective, so that the heads after it follow from those before it.
fn extends(effective: &Effective, parents: &[EventId], truth: Truth) -> bool {
    effective.heads.iter().all(|head| parents.contains(head))
        || effective.truth == Some(truth) && !parents.iter().any(|parent| effective.outside.contains(parent))
}

#[cfg(test)]
mod tests;
