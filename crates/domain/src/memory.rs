//! The memory: the aggregate that claims are made about, as a fold over its events.

pub mod command;
mod decide;
pub mod import;
mod snapshot;
mod undo;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use uuid::Uuid;

use crate::body::{Body, CorruptBody};
use crate::claim::{Authorship, Claim, FieldClaims, decides, supersedes};
use crate::clock::Hlc;
use crate::event::{ClaimRetracted, FieldClaimed, FileImported, MemoryEvent, StandingChanged, SuggestionRejected};
use crate::field::{FieldName, FieldRole};
use crate::id::{EventId, MemoryId};
use crate::kind::Kind;
use crate::truth::Truth;
use crate::value::Value;

pub use snapshot::{InvalidSnapshot, SNAPSHOT_FORMAT};

/// A memory as it stands after some events.
#[derive(Debug, Clone, PartialEq)]
pub struct Memory {
    id: MemoryId,
    /// The events that created it: one, or more where peers say so too.
    creations: BTreeMap<EventId, Authorship>,
    fields: BTreeMap<FieldName, FieldClaims>,
    body: Body,
    file: Option<FileImported>,
    /// By their authors' clocks.
    undos: Vec<Undo>,
    updated: Hlc,
    erased: bool,
    space: Option<String>,
}

/// One command undone by another, which wrote what held before it.
#[derive(Debug, Clone, PartialEq)]
struct Undo {
    event: EventId,
    by: Authorship,
    undone: Uuid,
}

/// A step in the history of how a field came to its value (rule T8), newest first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChainStep {
    /// The event that made the step.
    pub event: EventId,
    /// Who, how true, from where, when.
    #[serde(flatten)]
    pub author: Authorship,
    /// The value stated; `None` for a step in the history of the body.
    pub value: Option<Value>,
    /// The suggestion that the step accepted.
    pub accepted: Option<EventId>,
}

impl Memory {
    /// A memory of which nothing is known yet.
    pub fn new(id: MemoryId) -> Self {
        Self {
            id,
            creations: BTreeMap::new(),
            fields: BTreeMap::new(),
            body: Body::default(),
            file: None,
            undos: Vec::new(),
            updated: Hlc::default(),
            erased: false,
            space: None,
        }
    }

    /// Its id.
    pub fn id(&self) -> MemoryId {
        self.id
    }

    /// Who created it, if it was created: the first by the hybrid clock.
    pub fn created(&self) -> Option<&Authorship> {
        let counted = self.creations.values().filter(|author| author.standing.is_full());
        counted.min_by_key(|author| (author.hlc, author.principal))
    }

    /// Whether one of this brain's own began it. What others say about its beginning, and when, does not matter for that.
    pub fn is_begun_here(&self) -> bool {
        self.creations.values().any(|author| !author.origin.is_peer())
    }

    /// When the last event was written, by the hybrid clock.
    pub fn updated(&self) -> Hlc {
        self.updated
    }

    /// Whether its content was destroyed.
    pub fn is_erased(&self) -> bool {
        self.erased
    }

    /// The space it is in.
    pub fn space(&self) -> Option<&str> {
        self.space.as_deref()
    }

    /// Whether it exists and was not erased.
    pub fn is_present(&self) -> bool {
        self.created().is_some() && !self.erased
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        self.value(&FieldName::kind())
            .and_then(Value::as_text)
            .and_then(|kind| kind.parse().ok())
            .unwrap_or(Kind::Note)
    }

    /// Its title; empty when it has none.
    pub fn title(&self) -> &str {
        self.value(&FieldName::title()).and_then(Value::as_text).unwrap_or_default()
    }

    /// Whether it is put away.
    pub fn is_archived(&self) -> bool {
        self.value(&FieldName::archived()) == Some(&Value::Flag(true))
    }

    /// Its body.
    pub fn body(&self) -> &Body {
        &self.body
    }

    /// The file it was imported from, as last seen.
    pub fn file(&self) -> Option<&FileImported> {
        self.file.as_ref()
    }

    /// All fields that anybody has made a claim about, apart from the body.
    pub fn fields(&self) -> &BTreeMap<FieldName, FieldClaims> {
        &self.fields
    }

    /// The claims about one field.
    pub fn field(&self, name: &FieldName) -> Option<&FieldClaims> {
        self.fields.get(name)
    }

    /// The effective value of a field; `None` when nobody has claimed one.
    pub fn value(&self, name: &FieldName) -> Option<&Value> {
        self.fields.get(name)?.effective().map(|claim| &claim.value)
    }

    /// The tags that hold, each with its claim.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &Claim)> {
        self.holding().filter_map(|(name, claim)| match name.role() {
            FieldRole::Tag(tag) => Some((tag, claim)),
            _ => None,
        })
    }

    /// The links that hold: relation, target, and the claim.
    pub fn links(&self) -> impl Iterator<Item = (&str, MemoryId, &Claim)> {
        self.holding().filter_map(|(name, claim)| match name.role() {
            FieldRole::Link { relation, target } => Some((relation, target, claim)),
            _ => None,
        })
    }

    /// The highest truth anything in the title or the body was written at, and the event that wrote it last:
    /// what a reader is told of the memory as a whole.
    pub fn source(&self) -> Option<(EventId, &Authorship)> {
        let body = self.body.effective_edits().next_back().map(|edit| (edit.id, &edit.author));
        let title = self
            .field(&FieldName::title())
            .and_then(FieldClaims::effective)
            .map(|claim| (claim.id, &claim.author));
        let kind =
            self.field(&FieldName::kind()).and_then(FieldClaims::effective).map(|claim| (claim.id, &claim.author));
        body.into_iter().chain(title).min_by_key(|(_, author)| author.truth).or(kind)
    }

    /// How a field came to its value (rule T8): the effective claim, then everything it superseded or accepted.
    pub fn origin_chain(&self, name: &FieldName) -> Vec<ChainStep> {
        if matches!(name.role(), FieldRole::Body) {
            return self.body_chain();
        }
        let Some(claims) = self.fields.get(name) else { return Vec::new() };
        let mut seen = BTreeSet::new();
        let mut open: Vec<&Claim> = claims.effective().into_iter().collect();
        let mut chain = Vec::new();
        while let Some(claim) = open.pop() {
            if !seen.insert(claim.id) {
                continue;
            }
            let replaced = claim.supersedes.iter().filter_map(|id| claims.get(*id));
            open.extend(replaced.filter(|seen| supersedes(claim, seen)));
            open.extend(claim.accepts.and_then(|id| claims.get(id)));
            chain.push(ChainStep {
                event: claim.id,
                author: claim.author.clone(),
                value: Some(claim.value.clone()),
                accepted: claim.accepts,
            });
        }
        chain.sort_by_key(|step| std::cmp::Reverse((step.author.hlc, step.event)));
        chain
    }

    fn body_chain(&self) -> Vec<ChainStep> {
        let step = |edit: &crate::body::Edit| ChainStep {
            event: edit.id,
            author: edit.author.clone(),
            value: None,
            accepted: edit.accepts,
        };
        self.body.effective_edits().rev().map(step).collect()
    }

    /// The level of the memory's body, or of its creation while it has none.
    pub fn body_truth(&self) -> Option<Truth> {
        self.body.truth().or(self.created().map(|author| author.truth))
    }

    /// Folds one event in. Events of one memory arrive with parents before children; claims in any order.
    /// Nothing comes back once the memory is erased.
    ///
    /// # Errors
    /// When an edit of the body does not fit its history: the log is damaged.
    pub fn apply(&mut self, id: EventId, author: Authorship, event: MemoryEvent) -> Result<(), CorruptBody> {
        self.updated = self.updated.max(author.hlc);
        if self.erased {
            return Ok(());
        }
        match event {
            MemoryEvent::Created(created) => {
                let kind = Value::Text(created.kind.name().to_owned());
                self.claim(FieldName::kind(), id, &author, kind);
                self.claim(FieldName::archived(), id, &author, Value::Flag(false));
                self.creations.insert(id, author);
            }
            MemoryEvent::FieldClaimed(FieldClaimed { field, value, supersedes, accepts }) => {
                let claim = Claim { id, value, author, supersedes, accepts };
                self.fields.entry(field).or_default().add(claim);
            }
            MemoryEvent::ClaimRetracted(ClaimRetracted { field, claim }) => {
                self.fields.entry(field).or_default().retract(id, claim, &author);
            }
            MemoryEvent::BodyEdited(change) => self.body.add(id, author, change)?,
            MemoryEvent::SuggestionRejected(SuggestionRejected { field, suggestion }) => match field.role() {
                FieldRole::Body => self.body.reject(id, suggestion, &author)?,
                _ => self.fields.entry(field).or_default().reject(id, suggestion, &author),
            },
            MemoryEvent::CommandUndone(undone) => {
                let place = self.undos.partition_point(|known| known.by.hlc <= author.hlc);
                self.undos.insert(place, Undo { event: id, by: author, undone: undone.command });
                self.heed_undone()?;
            }
            MemoryEvent::FileImported(file) => self.file = Some(file),
            MemoryEvent::Shared(shared) => self.space = shared.space,
            MemoryEvent::StandingChanged(StandingChanged { events, standing }) => {
                let creations = self.creations.iter_mut().filter(|(id, _)| events.contains(id));
                creations.for_each(|(_, author)| author.standing = standing);
                self.fields.values_mut().for_each(|claims| claims.restand(&events, standing));
                self.body.restand(&events, standing)?;
                let undos = self.undos.iter_mut().filter(|undo| events.contains(&undo.event));
                undos.for_each(|undo| undo.by.standing = standing);
                self.heed_undone()?;
            }
            // Only the user erases.
            MemoryEvent::Erased(_) if decides(&author) => {
                *self = Self {
                    creations: std::mem::take(&mut self.creations),
                    updated: self.updated,
                    erased: true,
                    ..Self::new(self.id)
                };
            }
            MemoryEvent::Erased(_) => {}
        }
        Ok(())
    }

    /// Retractions and rejections of undone commands do not count.
    fn heed_undone(&mut self) -> Result<(), CorruptBody> {
        let silent = self.body.rejections.is_empty()
            && self.fields.values().all(|claims| claims.retractions.is_empty() && claims.rejections.is_empty());
        if silent {
            return Ok(());
        }
        let undone = self.undone();
        for claims in self.fields.values_mut() {
            claims.heed_undone(&undone);
        }
        self.body.heed_undone(&undone)
    }

    /// The commands that are undone and were not redone since, each with the truth of its undoing.
    fn undone(&self) -> BTreeMap<Uuid, Truth> {
        let mut undone: BTreeMap<Uuid, Truth> = BTreeMap::new();
        // From the last to the first, because only a later command can have undone an undo.
        for Undo { by, undone: command, .. } in self.undos.iter().rev().filter(|undo| undo.by.standing.is_full()) {
            let redone = undone.get(&by.command).is_some_and(|truth| !by.truth.outranks(*truth));
            if !redone {
                let truth = undone.entry(*command).or_insert(by.truth);
                *truth = by.truth.min(*truth);
            }
        }
        undone
    }

    /// Who took something back, turned something down or undid something: what an undoing of them goes by.
    pub fn verdicts(&self) -> impl Iterator<Item = &Authorship> {
        let of_fields = self
            .fields
            .values()
            .flat_map(|claims| claims.retractions.authors().chain(claims.rejections.authors()));
        of_fields.chain(self.body.rejections.authors()).chain(self.undos.iter().map(|undo| &undo.by))
    }

    fn claim(&mut self, field: FieldName, id: EventId, author: &Authorship, value: Value) {
        let claim = Claim { id, value, author: author.clone(), supersedes: Vec::new(), accepts: None };
        self.fields.entry(field).or_default().add(claim);
    }

    fn holding(&self) -> impl Iterator<Item = (&FieldName, &Claim)> {
        self.fields
            .iter()
            .filter_map(|(name, claims)| Some((name, claims.effective()?)))
            .filter(|(_, claim)| claim.value == Value::Flag(true))
    }
}

#[cfg(test)]
mod tests;
