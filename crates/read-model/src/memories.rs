//! Memories as they stand: fields with provenance, tags, links, suggestions, conflicts, files, and who may act.

mod list;
mod typed;
mod view;
mod write;

use std::path::Path;
use std::sync::Arc;

use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use crate::database::Model;
use crate::page::QueryError;
use crate::pool::Switch;
use crate::row::{event_id, memory_id, number, parsed, principal_id, time, truth, uuid, value};

pub use list::{
    DailyFilter, Direction, EventFilter, ListQuery, MemoryFilter, PersonFilter, PlaceFilter, ProjectFilter, Sort,
    SuggestionFilter, TaskFilter, TypedFilter,
};
pub use view::{
    Accepted, ConflictRow, ConflictSide, FieldRow, FileRow, Found, LinkRow, MemorySummary, MemoryView,
    PrincipalRow, Provenance, Stats, SuggestionRow, TagCount, TagRow,
};
pub use write::{EXCERPT_CHARS, TITLE_KEY_CHARS};

/// The read model's tables and fold.
pub static MODEL: Model = Model {
    name: "memories",
    version: 1,
    entries: false,
    tables: include_str!("../../../migrations/sqlite/read-model/memories.sql"),
    indexes: include_str!("../../../migrations/sqlite/read-model/memories.indexes.sql"),
    apply: write::apply,
};

/// The most links, and the most backlinks, that [`Memories::get`] lists; [`Memories::backlinks`] pages through all.
pub const LINKS_IN_VIEW: usize = 200;
/// The most tags that [`Memories::tags`] counts.
pub const MAX_TAGS: usize = 10_000;

/// The columns of a summary, in the order that [`summary`] reads them.
const SUMMARY: &str = "m.id, m.kind, m.title, m.excerpt, m.archived, m.about_at, m.created_at, m.created_by, \
     m.created_origin, m.created_truth, m.updated_at, m.revision, m.position, m.truth, m.origin, m.source_event, \
     m.suggestions, m.conflicts";

/// Answers questions about memories. Cheap to clone; every method blocks.
#[derive(Debug, Clone)]
pub struct Memories {
    switch: Arc<Switch>,
}

impl Default for Memories {
    fn default() -> Self {
        Self { switch: Arc::new(Switch::new(&MODEL)) }
    }
}

impl Memories {
    /// Answers from this generation from now on.
    pub fn serve(&self, folder: &Path) {
        self.switch.serve(folder);
    }

    /// Whether there is a generation to answer from.
    pub fn is_ready(&self) -> bool {
        self.switch.is_ready()
    }

    /// The position that answers stand at.
    ///
    /// # Errors
    /// See [`QueryError`], as for every method here.
    pub fn position(&self) -> Result<u64, QueryError> {
        self.switch.position()
    }

    fn read<T>(&self, query: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, QueryError> {
        self.switch.read(|connection| query(connection).map_err(|source| self.switch.failed(source)))
    }

    /// Everything about one memory.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn get(&self, memory: MemoryId) -> Result<Found, QueryError> {
        self.read(|connection| {
            if let Some(view) = view(connection, memory)? {
                return Ok(Found::Memory(Box::new(view)));
            }
            let erased = connection
                .prepare_cached("SELECT at, position FROM tombstones WHERE memory = ?1")?
                .query_row([memory.uuid().as_bytes()], |row| {
                    Ok(Found::Erased { at: time(row, 0)?, position: number(row, 1)? })
                })
                .optional()?;
            Ok(erased.unwrap_or(Found::Nothing))
        })
    }

    /// What a list shows of some memories, in the order given; those that do not exist are left out.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn summaries(&self, memories: &[MemoryId]) -> Result<Vec<MemorySummary>, QueryError> {
        self.read(|connection| {
            let found = memories.iter().map(|memory| one_summary(connection, *memory));
            found.filter_map(Result::transpose).collect()
        })
    }

    /// The links from a memory, or those to it.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn links(&self, memory: MemoryId) -> Result<Vec<LinkRow>, QueryError> {
        self.read(|connection| links(connection, memory, Ends::From, crate::MAX_LIMIT * 50))
    }

    /// Tags that begin with `prefix`, with how many memories have each, most used first.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn tags(&self, prefix: &str) -> Result<Vec<TagCount>, QueryError> {
        let prefix = prefix.trim().trim_start_matches('#').to_lowercase();
        self.read(|connection| {
            connection
                .prepare_cached(
                    "SELECT tag, count(*) AS memories FROM tags WHERE tag >= ?1 AND tag < ?1 || char(0x10ffff)
                     GROUP BY tag ORDER BY memories DESC, tag LIMIT ?2",
                )?
                .query_map(params![prefix, MAX_TAGS.cast_signed()], |row| {
                    Ok(TagCount { tag: row.get(0)?, memories: number(row, 1)? })
                })?
                .collect()
        })
    }

    /// A suggestion that waits, by its event.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn suggestion(&self, event: EventId) -> Result<Option<SuggestionRow>, QueryError> {
        self.read(|connection| {
            connection
                .prepare_cached(&format!("SELECT {SUGGESTION} FROM suggestions WHERE event = ?1"))?
                .query_row([event.uuid().as_bytes()], suggestion)
                .optional()
        })
    }

    /// Every field in conflict, of one memory or of all; at most `limit` fields.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn conflicts(&self, memory: Option<MemoryId>, limit: usize) -> Result<Vec<ConflictRow>, QueryError> {
        self.read(|connection| match memory {
            Some(memory) => conflicts(connection, "WHERE memory = ?1", params![memory.uuid().as_bytes()], limit),
            None => conflicts(connection, "", params![], limit),
        })
    }

    /// The files of a vault with the memories they became, by path and part.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn files(&self, vault: Uuid) -> Result<Vec<FileRow>, QueryError> {
        self.read(|connection| {
            connection
                .prepare_cached(&format!("SELECT {FILE} FROM files WHERE vault = ?1 ORDER BY path, part, memory"))?
                .query_map([vault.as_bytes()], file)?
                .collect()
        })
    }

    /// Everybody who may act or might, the earliest first.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn principals(&self) -> Result<Vec<PrincipalRow>, QueryError> {
        self.read(|connection| {
            connection
                .prepare_cached(&format!("SELECT {PRINCIPAL} FROM principals ORDER BY registered_at, id"))?
                .query_map([], principal)?
                .collect()
        })
    }

    /// One of them.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn principal(&self, id: PrincipalId) -> Result<Option<PrincipalRow>, QueryError> {
        self.read(|connection| {
            connection
                .prepare_cached(&format!("SELECT {PRINCIPAL} FROM principals WHERE id = ?1"))?
                .query_row([id.uuid().as_bytes()], principal)
                .optional()
        })
    }

    /// How much there is.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn stats(&self) -> Result<Stats, QueryError> {
        self.read(|connection| {
            let mut stats = Stats::default();
            let mut statement = connection.prepare_cached(
                "SELECT kind, truth, archived, count(*), sum(suggestions), sum(conflicts) FROM memories
                 GROUP BY kind, truth, archived",
            )?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let count = number(row, 3)?;
                stats.memories += count;
                stats.archived += if row.get(2)? { count } else { 0 };
                *stats.by_kind.entry(parsed(row, 0)?).or_default() += count;
                *stats.by_truth.entry(truth(row, 1)?).or_default() += count;
                stats.suggestions += number(row, 4)?;
                stats.conflicts += number(row, 5)?;
            }
            let count = |sql: &str| connection.prepare_cached(sql)?.query_row([], |row| number(row, 0));
            stats.erased = count("SELECT count(*) FROM tombstones")?;
            stats.links = count("SELECT count(*) FROM links")?;
            stats.tags = count("SELECT count(DISTINCT tag) FROM tags")?;
            Ok(stats)
        })
    }
}

fn summary(row: &Row<'_>) -> rusqlite::Result<MemorySummary> {
    Ok(MemorySummary {
        id: memory_id(row, 0)?,
        kind: parsed(row, 1)?,
        title: row.get(2)?,
        excerpt: row.get(3)?,
        body: None,
        archived: row.get(4)?,
        about_at: row.get::<_, Option<i64>>(5)?.map(crate::row::from_millis),
        tags: Vec::new(),
        fields: std::collections::BTreeMap::new(),
        created_at: time(row, 6)?,
        created_by: principal_id(row, 7)?,
        created_origin: parsed(row, 8)?,
        created_truth: truth(row, 9)?,
        updated_at: time(row, 10)?,
        revision: number(row, 11)?,
        position: number(row, 12)?,
        truth: truth(row, 13)?,
        origin: parsed(row, 14)?,
        source_event: event_id(row, 15)?,
        suggestions: number(row, 16)?,
        conflicts: number(row, 17)?,
    })
}

fn bare_summary(connection: &Connection, memory: MemoryId) -> rusqlite::Result<Option<MemorySummary>> {
    connection
        .prepare_cached(&format!("SELECT {SUMMARY} FROM memories m WHERE m.id = ?1"))?
        .query_row([memory.uuid().as_bytes()], summary)
        .optional()
}

fn one_summary(connection: &Connection, memory: MemoryId) -> rusqlite::Result<Option<MemorySummary>> {
    let Some(mut summary) = bare_summary(connection, memory)? else { return Ok(None) };
    complete(connection, &mut summary)?;
    Ok(Some(summary))
}

/// Adds tags and fields to a summary.
fn complete(connection: &Connection, summary: &mut MemorySummary) -> rusqlite::Result<()> {
    let id = summary.id.uuid().into_bytes();
    summary.tags = connection
        .prepare_cached("SELECT tag FROM tags WHERE memory = ?1 ORDER BY tag")?
        .query_map([id], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    let mut statement = connection.prepare_cached(
        "SELECT field, value FROM fields
         WHERE memory = ?1 AND field NOT IN ('title', 'body', 'kind', 'archived')",
    )?;
    let mut rows = statement.query([id])?;
    while let Some(row) = rows.next()? {
        if let Some(value) = value(row, 1)? {
            summary.fields.insert(parsed(row, 0)?, value);
        }
    }
    add_defaults(summary);
    Ok(())
}

/// Typed fields that nobody has claimed hold the default of their kind.
fn add_defaults(summary: &mut MemorySummary) {
    for field in summary.kind.fields() {
        if let Some(default) = summary.kind.default_value(field.name) {
            let name = field.name.parse().expect("the names of typed fields are field names");
            summary.fields.entry(name).or_insert_with(|| default.into());
        }
    }
}

fn view(connection: &Connection, memory: MemoryId) -> rusqlite::Result<Option<MemoryView>> {
    let Some(mut summary) = bare_summary(connection, memory)? else { return Ok(None) };
    let id = memory.uuid().into_bytes();
    summary.body = Some(body(connection, memory)?);
    let provenance = fields(connection, memory)?;
    for row in &provenance {
        if let (FieldRole::Attribute(_), Some(value)) = (row.field.role(), &row.value) {
            summary.fields.insert(row.field.clone(), value.clone());
        }
    }
    add_defaults(&mut summary);
    let tag_claims: Vec<TagRow> = connection
        .prepare_cached("SELECT tag, truth, event FROM tags WHERE memory = ?1 ORDER BY tag")?
        .query_map([id], |row| Ok(TagRow { tag: row.get(0)?, truth: truth(row, 1)?, event: event_id(row, 2)? }))?
        .collect::<rusqlite::Result<_>>()?;
    summary.tags = tag_claims.iter().map(|row| row.tag.clone()).collect();
    // Most memories have neither, and their summary says so.
    let waiting = if summary.suggestions == 0 { Vec::new() } else { waiting(connection, memory)? };
    let disputed = match summary.conflicts {
        0 => Vec::new(),
        _ => conflicts(connection, "WHERE memory = ?1", params![id], usize::MAX)?,
    };
    let file = connection
        .prepare_cached(&format!("SELECT {FILE} FROM files WHERE memory = ?1"))?
        .query_row([id], file)
        .optional()?;
    Ok(Some(MemoryView {
        provenance,
        tag_claims,
        links: links(connection, memory, Ends::From, LINKS_IN_VIEW)?,
        backlinks: links(connection, memory, Ends::To, LINKS_IN_VIEW)?,
        waiting,
        disputed,
        file,
        summary,
    }))
}

fn body(connection: &Connection, memory: MemoryId) -> rusqlite::Result<String> {
    connection
        .prepare_cached("SELECT text FROM bodies WHERE memory = ?1")?
        .query_row([memory.uuid().as_bytes()], |row| row.get(0))
        .optional()
        .map(Option::unwrap_or_default)
}

fn fields(connection: &Connection, memory: MemoryId) -> rusqlite::Result<Vec<FieldRow>> {
    connection
        .prepare_cached(
            "SELECT field, value, truth, origin, principal, event, at, accepted, accepted_origin
             FROM fields WHERE memory = ?1 ORDER BY field",
        )?
        .query_map([memory.uuid().as_bytes()], |row| {
            let accepted = match row.get::<_, Option<[u8; 16]>>(7)? {
                Some(event) => {
                    Some(Accepted { event: EventId::new(Uuid::from_bytes(event)), origin: parsed(row, 8)? })
                }
                None => None,
            };
            Ok(FieldRow {
                field: parsed(row, 0)?,
                value: value(row, 1)?,
                provenance: provenance(row, 2)?,
                accepted,
            })
        })?
        .collect()
}

/// Reads truth, origin, principal, event and time, in this order.
fn provenance(row: &Row<'_>, first: usize) -> rusqlite::Result<Provenance> {
    Ok(Provenance {
        truth: truth(row, first)?,
        origin: parsed(row, first + 1)?,
        principal: principal_id(row, first + 2)?,
        event: event_id(row, first + 3)?,
        at: time(row, first + 4)?,
    })
}

/// Which end of a link the memory is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    From,
    To,
}

fn links(connection: &Connection, memory: MemoryId, ends: Ends, limit: usize) -> rusqlite::Result<Vec<LinkRow>> {
    let sql = match ends {
        Ends::From => {
            "SELECT l.relation, l.target, m.title, m.kind, l.truth, l.event
             FROM links l LEFT JOIN memories m ON m.id = l.target
             WHERE l.source = ?1 ORDER BY l.relation, l.target LIMIT ?2"
        }
        Ends::To => {
            "SELECT l.relation, l.source, m.title, m.kind, l.truth, l.event
             FROM links l LEFT JOIN memories m ON m.id = l.source
             WHERE l.target = ?1 ORDER BY l.relation, l.source LIMIT ?2"
        }
    };
    connection
        .prepare_cached(sql)?
        .query_map(params![memory.uuid().as_bytes(), limit.cast_signed()], link)?
        .collect()
}

fn link(row: &Row<'_>) -> rusqlite::Result<LinkRow> {
    let title: Option<String> = row.get(2)?;
    Ok(LinkRow {
        relation: row.get(0)?,
        memory: memory_id(row, 1)?,
        kind: if title.is_some() { Some(parsed::<Kind>(row, 3)?) } else { None },
        title,
        truth: truth(row, 4)?,
        event: event_id(row, 5)?,
    })
}

/// The columns of a suggestion, in the order that [`suggestion`] reads them.
const SUGGESTION: &str = "memory, field, value, diff, truth, origin, principal, event, at";

fn suggestion(row: &Row<'_>) -> rusqlite::Result<SuggestionRow> {
    Ok(SuggestionRow {
        memory: memory_id(row, 0)?,
        field: parsed(row, 1)?,
        value: value(row, 2)?,
        diff: row.get(3)?,
        provenance: provenance(row, 4)?,
    })
}

fn waiting(connection: &Connection, memory: MemoryId) -> rusqlite::Result<Vec<SuggestionRow>> {
    connection
        .prepare_cached(&format!("SELECT {SUGGESTION} FROM suggestions WHERE memory = ?1 ORDER BY at, event"))?
        .query_map([memory.uuid().as_bytes()], suggestion)?
        .collect()
}

fn conflicts(
    connection: &Connection,
    condition: &str,
    bound: &[&dyn rusqlite::ToSql],
    limit: usize,
) -> rusqlite::Result<Vec<ConflictRow>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT memory, field, value, truth, origin, principal, event, at FROM conflicts {condition}
         ORDER BY memory, field, truth, at DESC, event DESC"
    ))?;
    let mut rows = statement.query(bound)?;
    let mut conflicts: Vec<ConflictRow> = Vec::new();
    while let Some(row) = rows.next()? {
        let (memory, field): (MemoryId, FieldName) = (memory_id(row, 0)?, parsed(row, 1)?);
        let value = value(row, 2)?.unwrap_or(cairn_domain::value::Value::Empty);
        let side = ConflictSide { value, provenance: provenance(row, 3)? };
        let full = conflicts.len() == limit;
        match conflicts.last_mut().filter(|last| last.memory == memory && last.field == field) {
            Some(last) => last.sides.push(side),
            None if full => break,
            None => conflicts.push(ConflictRow { memory, field, sides: vec![side] }),
        }
    }
    Ok(conflicts)
}

/// The columns of a file, in the order that [`file`] reads them.
const FILE: &str = "memory, vault, path, part, digest, unresolved, vanished";

fn file(row: &Row<'_>) -> rusqlite::Result<FileRow> {
    let unresolved: Option<cairn_domain::value::Value> = value(row, 5)?;
    let unresolved = match unresolved {
        Some(cairn_domain::value::Value::List(names)) => {
            names.iter().filter_map(|name| name.as_text().map(str::to_owned)).collect()
        }
        _ => Vec::new(),
    };
    Ok(FileRow {
        memory: memory_id(row, 0)?,
        vault: uuid(row, 1)?,
        path: row.get(2)?,
        part: row.get(3)?,
        digest: row.get(4)?,
        unresolved,
        vanished: row.get(6)?,
    })
}

/// The columns of a principal, in the order that [`principal`] reads them.
const PRINCIPAL: &str = "id, name, ceiling, origin, registered_at, revoked_at";

fn principal(row: &Row<'_>) -> rusqlite::Result<PrincipalRow> {
    Ok(PrincipalRow {
        id: principal_id(row, 0)?,
        name: row.get(1)?,
        ceiling: truth(row, 2)?,
        origin: parsed(row, 3)?,
        registered_at: time(row, 4)?,
        revoked_at: row.get::<_, Option<i64>>(5)?.map(crate::row::from_millis),
    })
}
