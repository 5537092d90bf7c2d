//! The writes: rows of what a batch touched, and of nothing else.

use cairn_domain::body::Edit;
use cairn_domain::claim::{Authorship, Claim, FieldClaims};
use cairn_domain::diff::unified;
use cairn_domain::event::{FileImported, PrincipalEvent};
use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::MemoryId;
use cairn_domain::memory::Memory;
use rusqlite::{Connection, Result, params};

use super::typed;
use crate::change::{Batch, MemoryChange, PrincipalChange};
use crate::row::{to_json, to_millis};

/// How many characters of the body a list shows.
pub const EXCERPT_CHARS: usize = 240;
/// How many characters of the title are sorted by and searched in.
pub const TITLE_KEY_CHARS: usize = 200;

/// The table, and the column in it, that holds each part of a memory.
pub(super) const TABLES: &[(&str, &str)] = &[
    ("memories", "id"),
    ("bodies", "memory"),
    ("fields", "memory"),
    ("suggestions", "memory"),
    ("conflicts", "memory"),
    ("tags", "memory"),
    ("links", "source"),
    ("files", "memory"),
    ("notes", "memory"),
    ("tasks", "memory"),
    ("people", "memory"),
    ("projects", "memory"),
    ("calendar_events", "memory"),
    ("places", "memory"),
    ("daily_logs", "memory"),
];

/// Writes what a batch changed. Every row is a function of the memory's state, so writing it again changes nothing.
pub(super) fn apply(connection: &Connection, checkpoint: u64, batch: &Batch) -> Result<()> {
    for change in batch.memories.iter().filter(|change| change.position > checkpoint) {
        if change.memory.is_erased() {
            erase(connection, change)?;
        } else if change.memory.is_present() {
            // The rows of a memory that began in this batch cannot be there yet.
            let fresh = change.first_revision == 0 && change.first_position > checkpoint;
            Writer { connection, memory: &change.memory, id: bytes(change.memory.id()), fresh }.write(change)?;
        }
    }
    batch
        .principals
        .iter()
        .filter(|change| change.position > checkpoint)
        .try_for_each(|it| principal(connection, it))
}

fn erase(connection: &Connection, change: &MemoryChange) -> Result<()> {
    let id = bytes(change.memory.id());
    for (table, column) in TABLES {
        connection.prepare_cached(&format!("DELETE FROM {table} WHERE {column} = ?1"))?.execute([id])?;
    }
    connection
        .prepare_cached("INSERT OR REPLACE INTO tombstones (memory, at, position) VALUES (?1, ?2, ?3)")?
        .execute(params![id, change.recorded_at.timestamp_millis(), change.position.cast_signed()])?;
    Ok(())
}

fn principal(connection: &Connection, change: &PrincipalChange) -> Result<()> {
    let id = change.principal.uuid().into_bytes();
    let at = change.recorded_at.timestamp_millis();
    match &change.event {
        PrincipalEvent::Registered(registered) => connection
            .prepare_cached(
                "INSERT INTO principals (id, name, ceiling, origin, registered_at) VALUES (?1, ?2, ?3, ?4, ?5)
                 ON CONFLICT (id) DO UPDATE SET name = ?2, ceiling = ?3, origin = ?4, registered_at = ?5,
                 revoked_at = NULL",
            )?
            .execute(params![id, registered.name, registered.ceiling.level(), registered.origin.as_str(), at])?,
        PrincipalEvent::Revoked(_) => connection
            .prepare_cached("UPDATE principals SET revoked_at = ?2 WHERE id = ?1")?
            .execute(params![id, at])?,
    };
    Ok(())
}

/// Writes the rows of one memory.
pub(super) struct Writer<'a> {
    pub(super) connection: &'a Connection,
    pub(super) memory: &'a Memory,
    pub(super) id: [u8; 16],
    /// Whether no rows of the memory can be there yet, so that there is nothing to delete.
    pub(super) fresh: bool,
}

impl Writer<'_> {
    fn write(&self, change: &MemoryChange) -> Result<()> {
        let touched = &change.touched;
        self.summary(change)?;
        if touched.body || touched.everything {
            self.body()?;
        }
        if touched.everything {
            self.memory.fields().iter().try_for_each(|(name, claims)| self.claims(name, claims))?;
        } else {
            let claims = touched.fields.iter().filter_map(|name| Some((name, self.memory.field(name)?)));
            claims.into_iter().try_for_each(|(name, claims)| self.claims(name, claims))?;
        }
        typed::write(self, touched)?;
        if let (true, Some(file)) = (touched.file, self.memory.file()) {
            self.file(file)?;
        }
        Ok(())
    }

    fn claims(&self, name: &FieldName, claims: &FieldClaims) -> Result<()> {
        match name.role() {
            FieldRole::Tag(tag) => self.tag(tag, claims)?,
            FieldRole::Link { relation, target } => self.link(relation, target, claims)?,
            _ => self.field(name, claims)?,
        }
        self.undecided(name, claims)
    }

    fn summary(&self, change: &MemoryChange) -> Result<()> {
        let memory = self.memory;
        let (Some(created), Some((event, source))) = (memory.created(), memory.source()) else {
            // A memory that is present was created, and its creation is a source.
            return Ok(());
        };
        let fields = memory.fields().values();
        let suggestions = fields.clone().map(|claims| claims.suggestions().len()).sum::<usize>();
        let suggestions = suggestions + memory.body().suggestions().count();
        let conflicts = fields.filter(|claims| !claims.conflict().is_empty()).count();
        self.connection
            .prepare_cached(
                "INSERT INTO memories (id, kind, title, title_key, excerpt, archived, about_at, created_at,
                 created_by, created_origin, created_truth, updated_at, revision, position, truth, origin,
                 source_event, suggestions, conflicts)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19)
                 ON CONFLICT (id) DO UPDATE SET kind = ?2, title = ?3, title_key = ?4, excerpt = ?5,
                 archived = ?6, about_at = ?7, updated_at = ?12, revision = ?13, position = ?14, truth = ?15,
                 origin = ?16, source_event = ?17, suggestions = ?18, conflicts = ?19",
            )?
            .execute(params![
                self.id,
                memory.kind().name(),
                memory.title(),
                title_key(memory.title()),
                excerpt(memory.body().text()),
                memory.is_archived(),
                typed::about(memory),
                to_millis(created.hlc.millis),
                created.principal.uuid().as_bytes(),
                created.origin.as_str(),
                created.truth.level(),
                to_millis(memory.updated().millis),
                change.revision.cast_signed(),
                change.position.cast_signed(),
                source.truth.level(),
                source.origin.as_str(),
                event.uuid().as_bytes(),
                suggestions.cast_signed(),
                conflicts.cast_signed(),
            ])?;
        Ok(())
    }

    fn body(&self) -> Result<()> {
        let body = self.memory.body();
        let field = FieldName::body();
        self.connection
            .prepare_cached(
                "INSERT INTO bodies (memory, text) VALUES (?1, ?2)
                 ON CONFLICT (memory) DO UPDATE SET text = ?2",
            )?
            .execute(params![self.id, body.text()])?;
        match body.effective_edits().next_back() {
            Some(edit) => {
                let accepted = edit.accepts.and_then(|id| body.edit(id)).map(|edit| (edit.id, &edit.author));
                self.field_row(&field, None, edit.id.uuid().as_bytes(), &edit.author, accepted)?;
            }
            None => self.delete_field(&field)?,
        }
        self.delete_undecided("suggestions", &field)?;
        body.suggestions().try_for_each(|edit| self.body_suggestion(edit))
    }

    fn body_suggestion(&self, edit: &Edit) -> Result<()> {
        let body = self.memory.body();
        // The edit was folded in, so its history reads; were it not so, the fold had stopped there.
        let diff = body.preview(edit.id).map(|text| unified(body.text(), &text)).unwrap_or_default();
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO suggestions (memory, field, event, diff, truth, origin, principal, at)
                 VALUES (?1, 'body', ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                self.id,
                edit.id.uuid().as_bytes(),
                diff,
                edit.author.truth.level(),
                edit.author.origin.as_str(),
                edit.author.principal.uuid().as_bytes(),
                to_millis(edit.author.hlc.millis),
            ])?;
        Ok(())
    }

    fn field(&self, name: &FieldName, claims: &FieldClaims) -> Result<()> {
        let Some(claim) = claims.effective() else { return self.delete_field(name) };
        let accepted = claim.accepts.and_then(|id| claims.get(id)).map(|claim| (claim.id, &claim.author));
        self.field_row(name, Some(to_json(&claim.value)), claim.id.uuid().as_bytes(), &claim.author, accepted)
    }

    fn field_row(
        &self,
        name: &FieldName,
        value: Option<String>,
        event: &[u8; 16],
        author: &Authorship,
        accepted: Option<(cairn_domain::id::EventId, &Authorship)>,
    ) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT INTO fields
                 (memory, field, value, truth, origin, principal, event, at, accepted, accepted_origin)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
                 ON CONFLICT (memory, field) DO UPDATE SET value = ?3, truth = ?4, origin = ?5, principal = ?6,
                 event = ?7, at = ?8, accepted = ?9, accepted_origin = ?10",
            )?
            .execute(params![
                self.id,
                name.as_str(),
                value,
                author.truth.level(),
                author.origin.as_str(),
                author.principal.uuid().as_bytes(),
                event,
                to_millis(author.hlc.millis),
                accepted.map(|(id, _)| id.uuid().into_bytes()),
                accepted.map(|(_, author)| author.origin.as_str()),
            ])?;
        Ok(())
    }

    fn delete_field(&self, name: &FieldName) -> Result<()> {
        if !self.fresh {
            self.connection
                .prepare_cached("DELETE FROM fields WHERE memory = ?1 AND field = ?2")?
                .execute(params![self.id, name.as_str()])?;
        }
        Ok(())
    }

    fn tag(&self, tag: &str, claims: &FieldClaims) -> Result<()> {
        if let Some(claim) = holding(claims) {
            self.connection
                .prepare_cached("INSERT OR REPLACE INTO tags (memory, tag, truth, event) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![self.id, tag, claim.author.truth.level(), claim.id.uuid().as_bytes()])?;
        } else if !self.fresh {
            self.connection
                .prepare_cached("DELETE FROM tags WHERE memory = ?1 AND tag = ?2")?
                .execute(params![self.id, tag])?;
        }
        Ok(())
    }

    fn link(&self, relation: &str, target: MemoryId, claims: &FieldClaims) -> Result<()> {
        let target = bytes(target);
        if let Some(claim) = holding(claims) {
            self.connection
                .prepare_cached(
                    "INSERT OR REPLACE INTO links (source, relation, target, truth, event)
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![
                    self.id,
                    relation,
                    target,
                    claim.author.truth.level(),
                    claim.id.uuid().as_bytes()
                ])?;
        } else if !self.fresh {
            self.connection
                .prepare_cached("DELETE FROM links WHERE source = ?1 AND relation = ?2 AND target = ?3")?
                .execute(params![self.id, relation, target])?;
        }
        Ok(())
    }

    /// The field's suggestions and the sides of its conflict.
    fn undecided(&self, name: &FieldName, claims: &FieldClaims) -> Result<()> {
        for (table, waiting) in [("suggestions", claims.suggestions()), ("conflicts", claims.conflict())] {
            self.delete_undecided(table, name)?;
            for claim in waiting {
                self.connection
                    .prepare_cached(&format!(
                        "INSERT OR REPLACE INTO {table} (memory, field, event, value, truth, origin, principal, at)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)"
                    ))?
                    .execute(params![
                        self.id,
                        name.as_str(),
                        claim.id.uuid().as_bytes(),
                        to_json(&claim.value),
                        claim.author.truth.level(),
                        claim.author.origin.as_str(),
                        claim.author.principal.uuid().as_bytes(),
                        to_millis(claim.author.hlc.millis),
                    ])?;
            }
        }
        Ok(())
    }

    fn delete_undecided(&self, table: &'static str, name: &FieldName) -> Result<()> {
        if !self.fresh {
            self.connection
                .prepare_cached(match table {
                    "suggestions" => "DELETE FROM suggestions WHERE memory = ?1 AND field = ?2",
                    _ => "DELETE FROM conflicts WHERE memory = ?1 AND field = ?2",
                })?
                .execute(params![self.id, name.as_str()])?;
        }
        Ok(())
    }

    fn file(&self, file: &FileImported) -> Result<()> {
        self.connection
            .prepare_cached(
                "INSERT OR REPLACE INTO files (memory, vault, path, part, digest, unresolved, vanished)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
            )?
            .execute(params![
                self.id,
                file.vault.as_bytes(),
                file.path,
                file.part,
                file.digest,
                serde_json::to_string(&file.unresolved).expect("texts are plain JSON"),
                file.vanished,
            ])?;
        Ok(())
    }
}

/// The claim that makes a tag or a link hold.
fn holding(claims: &FieldClaims) -> Option<&Claim> {
    claims.effective().filter(|claim| claim.value == cairn_domain::value::Value::Flag(true))
}

fn bytes(memory: MemoryId) -> [u8; 16] {
    memory.uuid().into_bytes()
}

/// What titles are sorted by and searched in.
pub(super) fn title_key(title: &str) -> String {
    title.chars().take(TITLE_KEY_CHARS).flat_map(char::to_lowercase).collect()
}

/// The first words of a body on one line, without blank runs.
fn excerpt(body: &str) -> String {
    let mut excerpt = String::with_capacity(EXCERPT_CHARS);
    let mut left = EXCERPT_CHARS;
    for word in body.split_whitespace() {
        if left == 0 {
            break;
        }
        if !excerpt.is_empty() {
            excerpt.push(' ');
            left -= 1;
        }
        let end = word.char_indices().nth(left).map_or(word.len(), |(at, _)| at);
        excerpt.push_str(&word[..end]);
        left -= word[..end].chars().count();
    }
    excerpt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_excerpt_is_one_line_of_bounded_length() {
        assert_eq!(excerpt("# A\n\n  line  two\n"), "# A line two");
        let long = "wörd ".repeat(1_000);
        assert_eq!(excerpt(&long).chars().count(), EXCERPT_CHARS);
        assert_eq!(excerpt(&"ö".repeat(1_000)).chars().count(), EXCERPT_CHARS);
    }

    #[test]
    fn titles_are_sorted_without_regard_to_case() {
        assert_eq!(title_key("ÄPFEL und Birnen"), "äpfel und birnen");
    }
}
