//! Undoing a command: new events that say what held before it, and keep what came after it.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::Memory;
use super::command::{Context, Decision, Outcome, Rejection};
use super::decide::user_only;
use super::import::absence;
use crate::claim::{Authorship, Claim, FieldClaims};
use crate::clock::Hlc;
use crate::event::{ClaimRetracted, CommandUndone, MemoryEvent};
use crate::field::{FieldName, FieldRole};
use crate::id::EventId;
use crate::value::Value;

impl Memory {
    pub(super) fn undo(&self, command: Option<Uuid>, context: &mut Context<'_>) -> Result<Decision, Rejection> {
        if let Some(command) = command {
            return self.undo_one(command, context);
        }
        // Event ids that a failed attempt drew belong to the next one: the first may be the caller's key.
        let mut spare: Vec<EventId> = Vec::new();
        for command in self.undoable() {
            let mut drawn = Vec::new();
            let mut ids = || {
                let id = spare.pop().unwrap_or_else(|| (context.ids)());
                drawn.push(id);
                id
            };
            match self.undo_one(command, &mut Context { author: context.author.clone(), ids: &mut ids }) {
                Ok(decision) => return Ok(decision),
                // This one cannot be undone, or not by this principal: the one before it may.
                Err(
                    Rejection::NothingToUndo { .. } | Rejection::ChangedSince { .. } | Rejection::UserOnly { .. },
                ) => spare.extend(drawn.into_iter().rev()),
                Err(other) => return Err(other),
            }
        }
        Err(Rejection::NothingToUndo { memory: self.id })
    }

    fn undo_one(&self, command: Uuid, context: &mut Context<'_>) -> Result<Decision, Rejection> {
        let nothing = || Rejection::NothingToUndo { memory: self.id };
        if self.undone().contains_key(&command) {
            return Err(nothing());
        }
        let mut decision = Decision::default();
        if self.created().is_some_and(|created| created.command == command) {
            // A memory cannot be uncreated; it is put away instead.
            let author = context.author.clone();
            self.decide_claim(FieldName::archived(), Value::Flag(true), author, context, &mut decision);
        } else {
            self.undo_verdicts(command, context, &mut decision)?;
            self.undo_claims(command, context, &mut decision)?;
            self.undo_edits(command, context, &mut decision)?;
        }
        let applied = decision.fields.iter().any(|(_, outcome)| *outcome == Outcome::Applied);
        if applied {
            decision.push(context, MemoryEvent::CommandUndone(CommandUndone { command }));
        } else if decision.events.is_empty() {
            return Err(nothing());
        }
        // An undo that is only suggested has not undone anything yet.
        Ok(decision)
    }

    /// The commands whose work can be seen, the latest first.
    fn undoable(&self) -> Vec<Uuid> {
        let mut commands: Vec<(Hlc, Uuid)> = Vec::new();
        let mut note = |author: &Authorship| commands.push((author.hlc, author.command));
        for claims in self.fields.values() {
            claims.verdicts().for_each(&mut note);
            if let Some(claim) = claims.effective().and_then(|winner| self.stands_for(claims, winner)) {
                note(&claim.author);
            }
        }
        self.body.verdicts().for_each(&mut note);
        // What came in by an acceptance goes by undoing the acceptance.
        let accepted: BTreeSet<EventId> = self.body.effective_edits().filter_map(|edit| edit.accepts).collect();
        for edit in self.body.effective_edits().filter(|edit| !accepted.contains(&edit.id)) {
            note(&edit.author);
        }
        self.created().into_iter().for_each(&mut note);
        let undone = self.undone();
        let undoing: BTreeSet<Uuid> = self.undos.iter().map(|undo| undo.by.command).collect();
        commands.retain(|(_, command)| !undone.contains_key(command) && !undoing.contains(command));
        commands.sort_unstable_by(|a, b| b.cmp(a));
        commands.dedup();
        commands.into_iter().map(|(_, command)| command).collect()
    }

    /// The claim whose value a claim brought back, when it was made by undoing; else the claim itself.
    /// `None` when the undoing brought back that nothing was claimed.
    fn stands_for(&self, claims: &FieldClaims, claim: &Claim) -> Option<Claim> {
        let mut claim = claim.clone();
        loop {
            let undo = self.undos.iter().find(|undo| undo.by.command == claim.author.command);
            let Some(earlier) = undo.and_then(|undo| claims.before(undo.undone)) else { return Some(claim) };
            let stood = earlier.effective()?;
            if (stood.author.hlc, stood.id) >= (claim.author.hlc, claim.id) {
                return Some(claim);
            }
            claim = stood.clone();
        }
    }

    /// Whether a claim is the value, or what an undo brought back.
    fn is_in_force(&self, claims: &FieldClaims, claim: &Claim) -> bool {
        let Some(winner) = claims.effective() else { return false };
        winner.id == claim.id || self.stands_for(claims, winner).is_some_and(|stood| stood.id == claim.id)
    }

    /// Undoes retractions and rejections; the fold leaves out those whose command is undone.
    /// Undoing an undo of them brings them back in the same way.
    fn undo_verdicts(
        &self,
        command: Uuid,
        context: &Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Rejection> {
        let concerned = self.undone_through(command);
        let of_body = self.body.rejections.authors().map(|by| (FieldName::body(), by));
        let of_fields = self.fields.iter().flat_map(|(name, claims)| {
            claims.retractions.authors().chain(claims.rejections.authors()).map(|by| (name.clone(), by))
        });
        for (name, by) in of_body.chain(of_fields).filter(|(_, by)| concerned.contains(&by.command)) {
            let own = by.principal == context.author.principal && !by.truth.outranks(context.author.truth);
            if !own {
                user_only(context, "undo what somebody else took back or turned down")?;
            }
            decision.fields.push((name, Outcome::Applied));
        }
        Ok(())
    }

    /// A command, the one it undid, if it undid one, and so on.
    fn undone_through(&self, command: Uuid) -> BTreeSet<Uuid> {
        let mut through = BTreeSet::new();
        let mut next = Some(command);
        while let Some(command) = next.filter(|command| through.insert(*command)) {
            next = self.undos.iter().find(|undo| undo.by.command == command).map(|undo| undo.undone);
        }
        through
    }

    fn undo_claims(
        &self,
        command: Uuid,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Rejection> {
        for (name, claims) in &self.fields {
            let Some(claim) = claims.all().iter().rev().find(|claim| claim.author.command == command) else {
                continue;
            };
            if claims.is_retracted(claim) || claims.is_rejected(claim.id) {
                continue;
            }
            if !self.is_in_force(claims, claim) {
                if !claims.heads().iter().any(|head| head.id == claim.id) {
                    return Err(Rejection::ChangedSince { field: name.clone() });
                }
                withdraw(name, claim, context, decision);
                continue;
            }
            let earlier = claims.before(command);
            let earlier = earlier.as_ref().and_then(FieldClaims::effective).map(|claim| claim.value.clone());
            if shows_through(claims, claim, earlier.as_ref(), context) {
                withdraw(name, claim, context, decision);
                continue;
            }
            let author = context.author.clone();
            self.decide_claim(name.clone(), earlier.unwrap_or_else(|| absence(name)), author, context, decision);
        }
        Ok(())
    }

    fn undo_edits(
        &self,
        command: Uuid,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Rejection> {
        for edit in self.body.effective_edits().filter(|edit| edit.author.command == command) {
            if let Some(change) = self.body.undo_of(edit.id)? {
                let wanted = self.body.text_before(edit.id)?;
                let author = context.author.clone();
                self.decide_edit(Some(change), &wanted, author, context, decision)?;
            }
        }
        Ok(())
    }
}

/// Whether taking one's own claim back brings the earlier value back, with the truth and the origin it had. Where
/// something else would show through, or another's claim is undone, the earlier value is claimed anew.
fn shows_through(claims: &FieldClaims, claim: &Claim, earlier: Option<&Value>, context: &Context<'_>) -> bool {
    if claims.effective().is_none_or(|winner| winner.id != claim.id) {
        return false;
    }
    let mut without = claims.clone();
    without.retract(claim.id, claim.id, &context.author);
    without.is_retracted(claim) && without.effective().map(|claim| &claim.value) == earlier
}

/// Takes one's own claim back; those of others wait for the user's decision.
fn withdraw(name: &FieldName, claim: &Claim, context: &mut Context<'_>, decision: &mut Decision) {
    let own = claim.author.principal == context.author.principal;
    if !own || claim.author.truth.outranks(context.author.truth) || matches!(name.role(), FieldRole::Kind) {
        return;
    }
    decision.fields.push((name.clone(), Outcome::Applied));
    let retracted = ClaimRetracted { field: name.clone(), claim: claim.id };
    decision.push(context, MemoryEvent::ClaimRetracted(retracted));
}
