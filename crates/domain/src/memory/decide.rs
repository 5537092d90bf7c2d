//! Decisions: what events a command causes, given the memory as it stands.

use std::collections::BTreeMap;

use super::Memory;
use super::command::{BodyText, Command, Context, Decision, MAX_CHANGED_FIELDS, Outcome, Rejection};
use crate::body::{Base, BodyChange, CorruptBody, Edit, MAX_BODY_BYTES};
use crate::claim::{Authorship, Claim, FieldClaims};
use crate::event::{ClaimRetracted, Created, Erased, FieldClaimed, MemoryEvent, SuggestionRejected};
use crate::field::{FieldName, FieldRole};
use crate::id::EventId;
use crate::kind::Kind;
use crate::truth::Truth;
use crate::value::Value;

impl Memory {
    /// Decides on a command: the events to append, without applying them.
    ///
    /// # Errors
    /// See [`Rejection`].
    pub fn decide(&self, command: Command, context: &mut Context<'_>) -> Result<Decision, Rejection> {
        if self.is_erased() {
            return Err(Rejection::Erased { memory: self.id });
        }
        let creates = matches!(command, Command::CreateMemory { .. } | Command::ImportFile(_));
        if self.created().is_none() && !creates {
            return Err(Rejection::NotFound { memory: self.id });
        }
        match command {
            Command::CreateMemory { kind, claims, body } => self.create(kind, claims, body, context),
            Command::ChangeMemory { claims, body } => self.change(claims, body, context),
            Command::RetractClaim { field } => self.retract(field, context),
            Command::AcceptSuggestion { suggestion, edited } => self.accept(suggestion, edited, context),
            Command::RejectSuggestion { suggestion } => self.reject(suggestion, context),
            Command::UndoCommand { command } => self.undo(command, context),
            Command::ImportFile(imported) => self.import(imported, context),
            Command::PruneFile => self.prune(context),
            Command::EraseMemory => {
                user_only(context, "erase a memory")?;
                let mut decision = Decision::default();
                decision.push(context, MemoryEvent::Erased(Erased {}));
                Ok(decision)
            }
        }
    }

    fn create(
        &self,
        kind: Kind,
        claims: Vec<(FieldName, Value)>,
        body: String,
        context: &mut Context<'_>,
    ) -> Result<Decision, Rejection> {
        if self.created().is_some() {
            return Err(Rejection::AlreadyExists { memory: self.id });
        }
        let mut decision = Decision::default();
        let created = self.push_created(kind, context, &mut decision)?;
        created.decide_claims(kind, claims, context, &mut decision)?;
        if !body.is_empty() {
            created.decide_body(&BodyText { text: body, base: Base::Effective }, context, &mut decision)?;
        }
        Ok(decision)
    }

    /// Creates the memory, and gives it as it then is: creating it claims its kind.
    pub(super) fn push_created(
        &self,
        kind: Kind,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) -> Result<Self, Rejection> {
        let event = MemoryEvent::Created(Created { kind });
        decision.push(context, event.clone());
        let mut created = self.clone();
        let id = decision.events[decision.events.len() - 1].id;
        created.apply(id, context.author.clone(), event)?;
        Ok(created)
    }

    fn change(
        &self,
        claims: Vec<(FieldName, Value)>,
        body: Option<BodyText>,
        context: &mut Context<'_>,
    ) -> Result<Decision, Rejection> {
        let mut decision = Decision::default();
        self.decide_claims(self.kind(), claims, context, &mut decision)?;
        if let Some(body) = body {
            self.decide_body(&body, context, &mut decision)?;
        }
        Ok(decision)
    }

    fn decide_claims(
        &self,
        kind: Kind,
        claims: Vec<(FieldName, Value)>,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Rejection> {
        if claims.len() > MAX_CHANGED_FIELDS {
            return Err(Rejection::TooManyFields { fields: claims.len() });
        }
        // A command that changes the kind as well is checked against the kind it asks for.
        let asked = claims.iter().find(|(name, _)| matches!(name.role(), FieldRole::Kind));
        let kind = asked.and_then(|(_, value)| value.as_text()?.parse().ok()).unwrap_or(kind);
        for (name, value) in &claims {
            kind.check(name, value)?;
        }
        for (name, value) in last_words(claims) {
            let author = context.author.clone();
            self.decide_claim(name, value, author, context, decision);
        }
        Ok(())
    }

    pub(super) fn decide_claim(
        &self,
        name: FieldName,
        value: Value,
        author: Authorship,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) {
        let claims = self.field(&name);
        let outcome = match claims {
            Some(claims) => foresee(claims, &name, &value, &author),
            None if is_absence(&name, &value) => Outcome::Unchanged,
            None => Outcome::Applied,
        };
        let writes = match outcome {
            Outcome::Unchanged | Outcome::RejectedBefore => false,
            Outcome::Applied => true,
            Outcome::Suggested => !claims.is_some_and(|claims| is_waiting(claims, &value, &author)),
        };
        if writes {
            let supersedes = claims.map(|claims| replaced(claims, &author)).unwrap_or_default();
            let claimed = FieldClaimed { field: name.clone(), value, supersedes, accepts: None };
            decision.push_as(context, author, MemoryEvent::FieldClaimed(claimed));
        }
        decision.fields.push((name, outcome));
    }

    fn decide_body(
        &self,
        wanted: &BodyText,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Rejection> {
        if wanted.text.len() > MAX_BODY_BYTES {
            return Err(Rejection::BodyTooLong { bytes: wanted.text.len() });
        }
        if let Base::After(edit) = wanted.base
            && self.body.edit(edit).is_none()
        {
            return Err(Rejection::UnknownBase { edit });
        }
        let change = self.body.edit_to(wanted.base, &wanted.text)?;
        let author = context.author.clone();
        self.decide_edit(change, &wanted.text, author, context, decision)
    }

    /// Decides on an edit of the body that was made to turn its base's text into `wanted`.
    pub(super) fn decide_edit(
        &self,
        change: Option<BodyChange>,
        wanted: &str,
        author: Authorship,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Rejection> {
        let Some(mut change) = change else {
            decision.fields.push((FieldName::body(), Outcome::Unchanged));
            return Ok(());
        };
        if self.body.truth().is_some_and(|truth| truth.outranks(author.truth)) {
            return self.suggest_edit(change, wanted, author, context, decision);
        }
        let id = decision.reserve(context);
        change.effect = self.body.effect(id, &author, &change)?;
        let idle = change.effect.as_ref().is_some_and(|effect| effect.splices.is_empty());
        let outcome = match change.effect {
            Some(_) if idle => Outcome::Unchanged,
            None if self.body.leaves_out(id, &author, &change)? => Outcome::Suggested,
            _ => Outcome::Applied,
        };
        decision.fields.push((FieldName::body(), outcome));
        if !idle {
            decision.push_as(context, author, MemoryEvent::BodyEdited(change));
        }
        Ok(())
    }

    fn suggest_edit(
        &self,
        change: BodyChange,
        wanted: &str,
        author: Authorship,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Rejection> {
        let same = |edit: &Edit| {
            edit.author.principal == author.principal
                && edit.parents == change.parents
                && edit.splices == change.splices
        };
        let before = self.was_turned_down(&change, wanted, &author)?;
        decision
            .fields
            .push((FieldName::body(), if before { Outcome::RejectedBefore } else { Outcome::Suggested }));
        if !before && !self.body.suggestions().any(same) {
            decision.push_as(context, author, MemoryEvent::BodyEdited(change));
        }
        Ok(())
    }

    /// Whether the user turned the same text, or the same change to the present text, down before (rule T6).
    fn was_turned_down(
        &self,
        change: &BodyChange,
        wanted: &str,
        author: &Authorship,
    ) -> Result<bool, CorruptBody> {
        for edit in self.body.refused().filter(|edit| edit.author.principal == author.principal) {
            // What an edit inserts is part of the text it gives, so most are told apart without merging.
            if !edit.splices.iter().all(|splice| wanted.contains(&splice.insert)) {
                continue;
            }
            let same = edit.parents == change.parents && edit.splices == change.splices;
            if same || self.body.text_after(edit.id)? == wanted || self.body.preview(edit.id)? == wanted {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn retract(&self, field: FieldName, context: &mut Context<'_>) -> Result<Decision, Rejection> {
        let created_by = self.created().map(|author| author.command);
        let implied = matches!(field.role(), FieldRole::Kind | FieldRole::Archived);
        let own = |claim: &&Claim| {
            // What the creation itself claimed cannot be taken back: a memory always has a kind.
            claim.author.principal == context.author.principal
                && !claim.author.truth.outranks(context.author.truth)
                && !(implied && Some(claim.author.command) == created_by)
        };
        let claims = self.field(&field);
        let Some(claim) = claims.and_then(|claims| claims.heads().into_iter().find(own)) else {
            return Err(Rejection::NothingToRetract { field });
        };
        let mut decision = Decision::default();
        decision.fields.push((field.clone(), Outcome::Applied));
        decision.push(context, MemoryEvent::ClaimRetracted(ClaimRetracted { field, claim: claim.id }));
        Ok(decision)
    }

    fn accept(
        &self,
        suggestion: EventId,
        edited: Option<Value>,
        context: &mut Context<'_>,
    ) -> Result<Decision, Rejection> {
        user_only(context, "accept a suggestion")?;
        let mut decision = Decision::default();
        if self.body.is_suggestion(suggestion) {
            let edited = edited.as_ref().map(Value::display);
            let (change, text) = self.body.accepted(suggestion, edited.as_deref())?;
            if text.len() > MAX_BODY_BYTES {
                return Err(Rejection::BodyTooLong { bytes: text.len() });
            }
            decision.fields.push((FieldName::body(), Outcome::Applied));
            decision.push(context, MemoryEvent::BodyEdited(change));
            return Ok(decision);
        }
        let (field, claim) = self.waiting(suggestion)?;
        let value = edited.unwrap_or_else(|| claim.value.clone());
        self.kind().check(field, &value)?;
        let mut supersedes = replaced(&self.fields[field], &context.author);
        if !supersedes.contains(&suggestion) {
            supersedes.push(suggestion);
        }
        let claimed = FieldClaimed { field: field.clone(), value, supersedes, accepts: Some(suggestion) };
        decision.fields.push((field.clone(), Outcome::Applied));
        decision.push(context, MemoryEvent::FieldClaimed(claimed));
        Ok(decision)
    }

    fn reject(&self, suggestion: EventId, context: &mut Context<'_>) -> Result<Decision, Rejection> {
        user_only(context, "reject a suggestion")?;
        let field = match self.body.is_suggestion(suggestion) {
            true => FieldName::body(),
            false => self.waiting(suggestion)?.0.clone(),
        };
        let mut decision = Decision::default();
        decision.fields.push((field.clone(), Outcome::Applied));
        decision.push(context, MemoryEvent::SuggestionRejected(SuggestionRejected { field, suggestion }));
        Ok(decision)
    }

    /// The field and claim of a suggestion, or of one side of a conflict.
    fn waiting(&self, suggestion: EventId) -> Result<(&FieldName, &Claim), Rejection> {
        let waits = |claims: &FieldClaims| {
            claims.get(suggestion).is_some()
                && claims.suggestions().into_iter().chain(claims.conflict()).any(|claim| claim.id == suggestion)
        };
        self.fields
            .iter()
            .filter(|(_, claims)| waits(claims))
            .find_map(|(name, claims)| Some((name, claims.get(suggestion)?)))
            .ok_or(Rejection::NoSuchSuggestion { memory: self.id, suggestion })
    }
}

pub(super) fn user_only(context: &Context<'_>, action: &'static str) -> Result<(), Rejection> {
    match context.author.truth {
        Truth::User => Ok(()),
        truth => Err(Rejection::UserOnly { action, truth }),
    }
}

/// Each field once, with the last value given for it: one command does not contradict itself.
fn last_words(claims: Vec<(FieldName, Value)>) -> Vec<(FieldName, Value)> {
    let mut places: BTreeMap<FieldName, usize> = BTreeMap::new();
    let mut last: Vec<(FieldName, Value)> = Vec::with_capacity(claims.len());
    for (name, value) in claims {
        match places.get(&name) {
            Some(&at) => last[at].1 = value,
            None => {
                places.insert(name.clone(), last.len());
                last.push((name, value));
            }
        }
    }
    last
}

/// Whether a value says no more than the silence of a field that nobody has claimed.
fn is_absence(name: &FieldName, value: &Value) -> bool {
    match name.role() {
        FieldRole::Tag(_) | FieldRole::Link { .. } => *value != Value::Flag(true),
        _ => value.is_empty(),
    }
}

/// What would become of a claim.
fn foresee(claims: &FieldClaims, name: &FieldName, value: &Value, author: &Authorship) -> Outcome {
    let refused = || author.truth != Truth::User && claims.was_rejected(author.principal, value);
    let Some(winner) = claims.effective() else {
        if is_absence(name, value) {
            return Outcome::Unchanged;
        }
        return if refused() { Outcome::RejectedBefore } else { Outcome::Applied };
    };
    let settled = claims.conflict().is_empty();
    if winner.value == *value && settled && !author.truth.outranks(winner.author.truth) {
        return Outcome::Unchanged;
    }
    if refused() {
        return Outcome::RejectedBefore;
    }
    if winner.author.truth.outranks(author.truth) { Outcome::Suggested } else { Outcome::Applied }
}

/// Whether the same principal already suggests the same value.
fn is_waiting(claims: &FieldClaims, value: &Value, author: &Authorship) -> bool {
    claims.suggestions().iter().any(|claim| claim.author.principal == author.principal && claim.value == *value)
}

/// The heads that a new claim replaces: the value it saw and whatever says the same, the rivals of its own level,
/// and its author's earlier claims. What others suggest instead stays until somebody decides on it.
pub(super) fn replaced(claims: &FieldClaims, author: &Authorship) -> Vec<EventId> {
    let heads = claims.heads();
    let Some(winner) = heads.first() else { return Vec::new() };
    let wins = !winner.author.truth.outranks(author.truth);
    heads
        .iter()
        .filter(|head| !head.author.truth.outranks(author.truth))
        .filter(|head| {
            wins && head.value == winner.value
                || wins && head.author.truth == winner.author.truth && author.truth == winner.author.truth
                || head.author.principal == author.principal
        })
        .map(|head| head.id)
        .collect()
}
