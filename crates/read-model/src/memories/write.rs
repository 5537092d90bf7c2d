//! The writes: rows of what a batch touched, and of nothing else.

use cairn_domain::body::Edit;
use cairn_domain::claim::{Authorship, Claim, FieldClaims};
use cairn_domain::diff::unified;
use cairn_domain::event::{FileImported, PrincipalEvent};
use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::memory::Memory;

use super::tables::{BODIES, CONFLICTS, FIELDS, FILES, LINKS, MEMORIES, OF_MEMORIES, SUGGESTIONS, TAGS};
use super::typed;
use crate::change::{Batch, MemoryChange, PrincipalChange};
use crate::sql::{to_json, to_millis};
use crate::table::{Cell, Presence, Scope, Sink, Table};
use crate::tombstone;

/// How many characters of the body a list shows.
pub const EXCERPT_CHARS: usize = 240;
/// How many characters of the title are sorted by and searched in.
pub const TITLE_KEY_CHARS: usize = 200;

/// Writes what a batch changed. Every row is a function of the memory's state, so writing it again changes nothing.
pub(super) fn fold(sink: &mut dyn Sink, checkpoint: u64, batch: &Batch) {
    for change in batch.memories.iter().filter(|change| change.position > checkpoint) {
        if change.memory.is_erased() {
            erase(sink, change);
        } else if change.memory.is_present() {
            // The rows of a memory that began in this batch cannot be there yet.
            let fresh = change.first_revision == 0 && change.first_position > checkpoint;
            let presence = if fresh { Presence::Absent } else { Presence::Possible };
            Writer { sink, memory: &change.memory, id: bytes(change.memory.id()), presence }.write(change);
        } else {
            withdraw(sink, change);
        }
    }
    for change in batch.principals.iter().filter(|change| change.position > checkpoint) {
        principal(sink, change);
    }
}

fn erase(sink: &mut dyn Sink, change: &MemoryChange) {
    withdraw(sink, change);
    tombstone::put(sink, change);
}

/// Deletes the rows of a memory.
fn withdraw(sink: &mut dyn Sink, change: &MemoryChange) {
    let id = Cell::Id(bytes(change.memory.id()));
    for table in OF_MEMORIES {
        sink.delete(table, Scope::Memory, &[id]);
    }
}

fn principal(sink: &mut dyn Sink, change: &PrincipalChange) {
    let id = Cell::from(change.principal.uuid());
    let at = Cell::Time(change.recorded_at.timestamp_millis());
    match &change.event {
        PrincipalEvent::Registered(registered) => sink.run(
            "INSERT INTO principals (id, name, ceiling, origin, registered_at) VALUES (?1, ?2, ?3, ?4, ?5)
             ON CONFLICT (id) DO UPDATE SET name = ?2, ceiling = ?3, origin = ?4, registered_at = ?5,
             revoked_at = NULL",
            &[
                id,
                Cell::Text(&registered.name),
                Cell::Truth(registered.ceiling.level()),
                Cell::Text(registered.origin.as_str()),
                at,
            ],
        ),
        PrincipalEvent::Revoked(_) => {
            sink.run("UPDATE principals SET revoked_at = ?2 WHERE id = ?1", &[id, at]);
        }
    }
}

/// How much text is compared to show what the suggestions about one body would do to it, each time that it changes. A peer can have
/// thousands wait; what does not come in has an empty diff until those before it are decided on.
const COMPARED_BYTES: usize = 4 * 1024 * 1024;

/// How much text one edit counts for that has to be read for that.
const READ_EDIT: usize = 16;

/// Writes the rows of one memory.
pub(super) struct Writer<'a> {
    sink: &'a mut dyn Sink,
    pub(super) memory: &'a Memory,
    id: [u8; 16],
    /// Whether rows of the memory may be there; where they cannot, there is nothing to delete.
    presence: Presence,
}

impl Writer<'_> {
    fn write(&mut self, change: &MemoryChange) {
        let (memory, touched) = (self.memory, &change.touched);
        let everything = touched.everything || touched.begun && change.first_revision > 0;
        self.summary(change);
        if touched.body || everything {
            self.body();
        }
        if everything {
            memory.fields().iter().for_each(|(name, claims)| self.claims(name, claims));
        } else {
            let claims = touched.fields.iter().filter_map(|name| Some((name, memory.field(name)?)));
            claims.for_each(|(name, claims)| self.claims(name, claims));
        }
        typed::write(self, touched);
        if let (true, Some(file)) = (touched.file, memory.file()) {
            self.file(file);
        }
    }

    /// Puts a row: the memory's id, then these cells.
    pub(super) fn put<const N: usize>(&mut self, table: &'static Table, cells: [Cell<'_>; N]) {
        let mut row = Vec::with_capacity(N + 1);
        row.push(Cell::Id(self.id));
        row.extend(cells);
        self.sink.put(table, &row, self.presence);
    }

    /// Deletes rows that may be there: those of the memory with these cells after its id.
    pub(super) fn delete<const N: usize>(&mut self, table: &'static Table, cells: [Cell<'_>; N]) {
        if self.presence == Presence::Absent {
            return;
        }
        let mut key = Vec::with_capacity(N + 1);
        key.push(Cell::Id(self.id));
        key.extend(cells);
        self.sink.delete(table, Scope::Part, &key);
    }

    fn claims(&mut self, name: &FieldName, claims: &FieldClaims) {
        match name.role() {
            FieldRole::Tag(tag) => self.tag(tag, claims),
            FieldRole::Link { relation, target } => self.link(relation, target, claims),
            _ => self.field(name, claims),
        }
        self.undecided(name, claims);
    }

    fn summary(&mut self, change: &MemoryChange) {
        let memory = self.memory;
        let (Some(created), Some((event, source))) = (memory.created(), memory.source()) else {
            // A memory that is present was created, and its creation is a source.
            return;
        };
        let fields = memory.fields().values();
        let suggestions = fields.clone().map(|claims| claims.suggestions().len()).sum::<usize>();
        let suggestions = suggestions + memory.body().suggestions().count();
        let conflicts = fields.filter(|claims| !claims.conflict().is_empty()).count();
        let cells = [
            Cell::Text(memory.kind().name()),
            Cell::Text(memory.title()),
            Cell::Text(&title_key(memory.title())),
            Cell::Text(&excerpt(memory.body().text())),
            Cell::Flag(memory.is_archived()),
            typed::about(memory).map_or(Cell::Null, Cell::Time),
            Cell::Time(to_millis(created.hlc.millis)),
            created.principal.uuid().into(),
            Cell::Text(created.origin.as_str()),
            Cell::Truth(created.truth.level()),
            Cell::Time(to_millis(memory.updated().millis)),
            Cell::Number(change.revision.cast_signed()),
            Cell::Number(change.position.cast_signed()),
            Cell::Truth(source.truth.level()),
            Cell::Text(source.origin.as_str()),
            event.uuid().into(),
            Cell::Number(suggestions.cast_signed() as i64),
            Cell::Number(conflicts.cast_signed() as i64),
        ];
        self.put(&MEMORIES, cells);
    }

    fn body(&mut self) {
        let body = self.memory.body();
        let field = FieldName::body();
        self.put(&BODIES, [Cell::Text(body.text())]);
        match body.effective_edits().next_back() {
            Some(edit) => {
                let accepted = edit.accepts.and_then(|id| body.edit(id)).map(|edit| (edit.id, &edit.author));
                self.field_row(&field, None, edit.id, &edit.author, accepted);
            }
            None => self.delete(&FIELDS, [Cell::Text(field.as_str())]),
        }
        self.delete(&SUGGESTIONS, [Cell::Text(field.as_str())]);
        let cost = body.text().len() + READ_EDIT * body.edits().len();
        let shown = COMPARED_BYTES.div_ceil(cost.max(1));
        body.suggestions().enumerate().for_each(|(at, edit)| self.body_suggestion(&field, edit, at < shown));
    }

    fn body_suggestion(&mut self, field: &FieldName, edit: &Edit, shown: bool) {
        let body = self.memory.body();
        // The edit was folded in, so its history reads; were it not so, the fold had stopped there.
        let text = if shown { body.preview(edit.id).ok() } else { None };
        let diff = text.map(|text| unified(body.text(), &text)).unwrap_or_default();
        let [truth, origin, principal, at] = provenance(&edit.author);
        let (field, event) = (Cell::Text(field.as_str()), edit.id.uuid().into());
        self.put(&SUGGESTIONS, [field, event, Cell::Null, Cell::Text(&diff), truth, origin, principal, at]);
    }

    fn field(&mut self, name: &FieldName, claims: &FieldClaims) {
        let Some(claim) = claims.effective() else {
            return self.delete(&FIELDS, [Cell::Text(name.as_str())]);
        };
        let accepted = claim.accepts.and_then(|id| claims.get(id)).map(|claim| (claim.id, &claim.author));
        self.field_row(name, Some(&to_json(&claim.value)), claim.id, &claim.author, accepted);
    }

    fn field_row(
        &mut self,
        name: &FieldName,
        value: Option<&str>,
        event: EventId,
        author: &Authorship,
        accepted: Option<(EventId, &Authorship)>,
    ) {
        let [truth, origin, principal, at] = provenance(author);
        let cells = [
            Cell::Text(name.as_str()),
            Cell::maybe(value),
            truth,
            origin,
            principal,
            event.uuid().into(),
            at,
            Cell::maybe(accepted.map(|(id, _)| id.uuid())),
            Cell::maybe(accepted.map(|(_, author)| author.origin.as_str())),
        ];
        self.put(&FIELDS, cells);
    }

    fn tag(&mut self, tag: &str, claims: &FieldClaims) {
        match holding(claims) {
            Some(claim) => {
                let truth = Cell::Truth(claim.author.truth.level());
                self.put(&TAGS, [Cell::Text(tag), truth, claim.id.uuid().into()]);
            }
            None => self.delete(&TAGS, [Cell::Text(tag)]),
        }
    }

    fn link(&mut self, relation: &str, target: MemoryId, claims: &FieldClaims) {
        let (relation, target) = (Cell::Text(relation), Cell::Id(bytes(target)));
        match holding(claims) {
            Some(claim) => {
                let truth = Cell::Truth(claim.author.truth.level());
                self.put(&LINKS, [relation, target, truth, claim.id.uuid().into()]);
            }
            None => self.delete(&LINKS, [relation, target]),
        }
    }

    /// The field's suggestions and the sides of its conflict.
    fn undecided(&mut self, name: &FieldName, claims: &FieldClaims) {
        let field = Cell::Text(name.as_str());
        self.delete(&SUGGESTIONS, [field]);
        for claim in claims.suggestions() {
            let value = to_json(&claim.value);
            let [truth, origin, principal, at] = provenance(&claim.author);
            let (event, value) = (claim.id.uuid().into(), Cell::Text(&value));
            self.put(&SUGGESTIONS, [field, event, value, Cell::Null, truth, origin, principal, at]);
        }
        self.delete(&CONFLICTS, [field]);
        for claim in claims.conflict() {
            let value = to_json(&claim.value);
            let [truth, origin, principal, at] = provenance(&claim.author);
            let (event, value) = (claim.id.uuid().into(), Cell::Text(&value));
            self.put(&CONFLICTS, [field, event, value, truth, origin, principal, at]);
        }
    }

    fn file(&mut self, file: &FileImported) {
        let unresolved = serde_json::to_string(&file.unresolved).expect("texts are plain JSON");
        let cells = [
            file.vault.into(),
            Cell::Text(&file.path),
            Cell::Text(&file.part),
            Cell::Text(&file.digest),
            Cell::Text(&unresolved),
            Cell::Flag(file.vanished),
        ];
        self.put(&FILES, cells);
    }
}

/// Truth, origin, principal and time, in this order.
fn provenance(author: &Authorship) -> [Cell<'_>; 4] {
    [
        Cell::Truth(author.truth.level()),
        Cell::Text(author.origin.as_str()),
        author.principal.uuid().into(),
        Cell::Time(to_millis(author.hlc.millis)),
    ]
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
