//! Taking over what a file says: a three-way comparison between the file as last imported, the file now,
//! and the memory. What was changed in Cairn meanwhile is never overwritten; the file's change is suggested instead.

use std::collections::BTreeMap;

use super::Memory;
use super::command::{Context, Decision, ImportedFile, MAX_CHANGED_FIELDS, Outcome, Rejection};
use super::decide::replaced;
use crate::body::{Base, BodyChange, MAX_BODY_BYTES};
use crate::claim::{Authorship, FieldClaims};
use crate::event::{FieldClaimed, FileImported, MemoryEvent};
use crate::field::{FieldName, FieldRole};
use crate::kind::Kind;
use crate::principal::Origin;
use crate::truth::Truth;
use crate::value::Value;

/// The detail of the origin of everything an import writes, whatever its class.
pub const IMPORT_ORIGIN: &str = "import";

/// The same of what a second vault says about a memory that is another one's file.
const OTHER_VAULT_ORIGIN: &str = "import-of-another-vault";

impl Memory {
    pub(super) fn import(&self, imported: ImportedFile, context: &mut Context<'_>) -> Result<Decision, Rejection> {
        let ImportedFile { kind, mut claims, body, archived, file } = imported;
        claims.push((FieldName::kind(), Value::Text(kind.name().to_owned())));
        claims.push((FieldName::archived(), Value::Flag(archived)));
        let mut decision = Decision::default();
        if self.created().is_none() {
            let created = self.push_created(kind, context, &mut decision)?;
            created.import_content(kind, claims, &body, Said::Before, context, &mut decision)?;
        } else if kind == Kind::Daily && self.is_of_another_vault(&file) {
            // Two vaults have a journal of this day. The first one's file stays the memory's, and what this one says
            // must not pass for something that one said.
            let origin = Origin::of(context.author.truth, OTHER_VAULT_ORIGIN);
            let author = Authorship { origin, ..context.author.clone() };
            let context = &mut Context { author, ids: &mut *context.ids };
            self.import_content(kind, claims, &body, Said::Elsewhere, context, &mut decision)?;
            return Ok(decision);
        } else {
            self.import_content(kind, claims, &body, Said::Before, context, &mut decision)?;
        }
        if self.file.as_ref() != Some(&file) {
            decision.push(context, MemoryEvent::FileImported(file));
        }
        Ok(decision)
    }

    fn is_of_another_vault(&self, file: &FileImported) -> bool {
        self.file.as_ref().is_some_and(|known| known.vault != file.vault && !known.vanished)
    }

    /// Puts the memory away because its file is gone. The file says nothing any more about what it held,
    /// so all of that stays.
    pub(super) fn prune(&self, context: &mut Context<'_>) -> Result<Decision, Rejection> {
        let file = self.file.clone().ok_or(Rejection::NotImported { memory: self.id })?;
        let mut decision = Decision::default();
        self.import_claim(FieldName::archived(), Value::Flag(true), Said::Before, context, &mut decision);
        if !file.vanished {
            decision.push(context, MemoryEvent::FileImported(FileImported { vanished: true, ..file }));
        }
        Ok(decision)
    }

    fn import_content(
        &self,
        kind: Kind,
        claims: Vec<(FieldName, Value)>,
        body: &str,
        said: Said,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Rejection> {
        if body.len() > MAX_BODY_BYTES {
            return Err(Rejection::BodyTooLong { bytes: body.len() });
        }
        if claims.len() > MAX_CHANGED_FIELDS {
            return Err(Rejection::TooManyFields { fields: claims.len() });
        }
        for (name, value) in &claims {
            kind.check(name, value)?;
        }
        for (name, value) in self.with_absences(claims, said) {
            self.import_claim(name, value, said, context, decision);
        }
        self.import_body(body, said, context, decision)
    }

    /// The file's claims, and an empty value for each field that the file had and has no more.
    fn with_absences(&self, claims: Vec<(FieldName, Value)>, said: Said) -> BTreeMap<FieldName, Value> {
        let mut now: BTreeMap<FieldName, Value> = claims.into_iter().collect();
        if said == Said::Elsewhere {
            return now;
        }
        for name in self.fields.keys() {
            let structural = matches!(name.role(), FieldRole::Kind | FieldRole::Archived);
            if !structural && !now.contains_key(name) && self.imported_value(name).is_some() {
                now.insert(name.clone(), absence(name));
            }
        }
        now
    }

    fn import_claim(
        &self,
        name: FieldName,
        theirs: Value,
        said: Said,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) {
        let base = self.imported_value(&name).filter(|_| said == Said::Before);
        if base == Some(&theirs) {
            return;
        }
        let claims = self.field(&name);
        let winner = claims.and_then(FieldClaims::effective);
        match (claims, winner) {
            // Both sides made the same change. The file's is noted, to tell its next change from this one.
            (Some(_), Some(winner)) if winner.value == theirs && said == Said::Elsewhere => {
                decision.fields.push((name, Outcome::Unchanged));
            }
            (Some(claims), Some(winner)) if winner.value == theirs => {
                let author = context.author.clone();
                let supersedes = replaced(claims, &author);
                let claimed = FieldClaimed { field: name.clone(), value: theirs, supersedes, accepts: None };
                decision.push_as(context, author, MemoryEvent::FieldClaimed(claimed));
                decision.fields.push((name, Outcome::Unchanged));
            }
            (_, winner) => {
                let edited = winner.is_some_and(|winner| {
                    Some(&winner.value) != base && !context.author.truth.outranks(winner.author.truth)
                });
                let author = if edited { suggesting(&context.author) } else { context.author.clone() };
                self.decide_claim(name, theirs, author, context, decision);
            }
        }
    }

    fn import_body(
        &self,
        theirs: &str,
        said: Said,
        context: &mut Context<'_>,
        decision: &mut Decision,
    ) -> Result<(), Rejection> {
        let mine = self.body.text();
        let imports = self.body.edits().iter().rev().filter(|edit| is_import(&edit.author));
        let last = imports.take_while(|_| said == Said::Before).next();
        let base = last.map(|edit| self.body.text_after(edit.id)).transpose()?.unwrap_or_default();
        if base == theirs {
            return Ok(());
        }
        let outranked = self.body.truth().is_some_and(|truth| truth.outranks(context.author.truth));
        if mine == theirs {
            if !outranked && said == Said::Before {
                // Both sides made the same change. The file's is noted, to tell its next change from this one.
                let parents = self.body.heads().to_vec();
                let agreed = BodyChange { parents, splices: Vec::new(), accepts: None, effect: None };
                decision.push(context, MemoryEvent::BodyEdited(agreed));
            }
            decision.fields.push((FieldName::body(), Outcome::Unchanged));
            return Ok(());
        }
        let (from, author) = match last {
            _ if mine == base => (Base::Effective, context.author.clone()),
            Some(edit) => (Base::After(edit.id), suggesting(&context.author)),
            None if self.body.truth().is_some_and(|truth| context.author.truth.outranks(truth)) => {
                (Base::Effective, context.author.clone())
            }
            None => (Base::Effective, suggesting(&context.author)),
        };
        let change = self.body.edit_to(from, theirs)?;
        self.decide_edit(change, theirs, author, context, decision)
    }

    /// What the file said about a field when it was last imported.
    fn imported_value(&self, name: &FieldName) -> Option<&Value> {
        let claims = self.field(name)?;
        claims.all().iter().rev().find(|claim| is_import(&claim.author)).map(|claim| &claim.value)
    }
}

/// Whether what an import wrote last was said by the file that is imported now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// It was: what differs from it has been changed since, in the file or in the memory.
    Before,
    /// It was a file of another vault: nothing tells which of the two is newer, so that what differs is suggested.
    Elsewhere,
}

/// What a field says when the file is silent: a tag or a link does not hold, any other field is empty.
pub(super) fn absence(name: &FieldName) -> Value {
    match name.role() {
        FieldRole::Tag(_) | FieldRole::Link { .. } => Value::Flag(false),
        _ => Value::Empty,
    }
}

fn is_import(author: &Authorship) -> bool {
    author.origin.as_str().split_once(':').is_some_and(|(_, detail)| detail == IMPORT_ORIGIN)
}

/// The same author one step below the user, so that the write becomes a suggestion.
fn suggesting(author: &Authorship) -> Authorship {
    let truth = author.truth.max(Truth::Automation);
    let detail = author.origin.as_str().split_once(':').map_or(IMPORT_ORIGIN, |(_, detail)| detail);
    Authorship { truth, origin: Origin::of(truth, detail), ..author.clone() }
}
