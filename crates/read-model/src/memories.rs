//! Memories as they stand: fields with provenance, tags, links, suggestions, conflicts, files, and who may act.

mod list;
mod tables;
mod typed;
mod view;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use cairn_domain::value::Value;
use uuid::Uuid;

use crate::database::{Definition, Model};
use crate::page::QueryError;
use crate::pool::Switch;
use crate::postgres::Server;
use crate::sql::{Answer, Connection, Row, rows};
use crate::table::Cell;

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
    sqlite: Definition {
        tables: include_str!("../../../migrations/sqlite/read-model/memories.sql"),
        indexes: include_str!("../../../migrations/sqlite/read-model/memories.indexes.sql"),
    },
    postgres: Definition {
        tables: include_str!("../../../migrations/postgres/read-model/memories.sql"),
        indexes: include_str!("../../../migrations/postgres/read-model/memories.indexes.sql"),
    },
    fold: write::fold,
};

/// The most links, and the most backlinks, that [`Memories::get`] lists; [`Memories::backlinks`] pages through all.
pub const LINKS_IN_VIEW: usize = 200;
/// The most tags that [`Memories::tags`] counts.
pub const MAX_TAGS: usize = 10_000;

/// The columns of a summary, in the order that [`summary`] reads them.
const SUMMARY: &str = "m.id, m.kind, m.title, m.excerpt, m.archived, m.about_at, m.created_at, m.created_by, \
     m.created_origin, m.created_truth, m.updated_at, m.revision, m.position, m.truth, m.origin, m.source_event, \
     m.suggestions, m.conflicts";
const SUMMARY_COLUMNS: usize = 18;

/// How many memories one query completes.
const COMPLETED_AT_ONCE: usize = 128;

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
    /// Answers from PostgreSQL, from whichever generation the database says serves. Every method then blocks on the
    /// server's runtime, so it must not be called from within asynchronous code.
    pub fn postgres(server: Server) -> Self {
        Self { switch: Arc::new(Switch::on_server(&MODEL, server)) }
    }

    /// Answers from this generation from now on. On PostgreSQL it does nothing: there the database says which one.
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

    fn read<T>(&self, query: impl Fn(&mut Connection<'_>) -> Answer<T>) -> Result<T, QueryError> {
        self.switch.read(query)
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
            let sql = "SELECT at, position FROM tombstones WHERE memory = ?1";
            let erased = connection.first(sql, &[memory.uuid().into()], |row| {
                Ok(Found::Erased { at: row.time(0)?, position: row.number(1)? })
            })?;
            Ok(erased.unwrap_or(Found::Nothing))
        })
    }

    /// What a list shows of some memories, in the order given; those that do not exist are left out.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn summaries(&self, memories: &[MemoryId]) -> Result<Vec<MemorySummary>, QueryError> {
        self.read(|connection| {
            let mut found = HashMap::new();
            for some in memories.chunks(COMPLETED_AT_ONCE) {
                let sql = format!("SELECT {SUMMARY} FROM memories m WHERE m.id IN ({})", marks(some.len()));
                let summaries = connection.query(&sql, &cells(some), summary)?;
                found.extend(summaries.into_iter().map(|summary| (summary.id, summary)));
            }
            let mut summaries: Vec<_> = memories.iter().filter_map(|id| found.get(id).cloned()).collect();
            complete(connection, &mut summaries)?;
            Ok(summaries)
        })
    }

    /// The links from a memory, or those to it.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn links(&self, memory: MemoryId) -> Result<Vec<LinkRow>, QueryError> {
        let sql = format!("{LINKS} ORDER BY relation, other LIMIT ?2");
        self.read(|connection| connection.query(&sql, &[memory.uuid().into(), rows(crate::MAX_LIMIT * 50)], link))
    }

    /// Tags that begin with `prefix`, with how many memories have each, most used first.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn tags(&self, prefix: &str) -> Result<Vec<TagCount>, QueryError> {
        let prefix = prefix.trim().trim_start_matches('#').to_lowercase();
        let end = format!("{prefix}\u{10ffff}");
        self.read(|connection| {
            connection.query(
                "SELECT tag, count(*) AS memories FROM tags WHERE tag >= ?1 AND tag < ?2
                 GROUP BY tag ORDER BY memories DESC, tag LIMIT ?3",
                &[Cell::Text(&prefix), Cell::Text(&end), rows(MAX_TAGS)],
                |row| Ok(TagCount { tag: row.text(0)?, memories: row.number(1)? }),
            )
        })
    }

    /// A suggestion that waits, by its event.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn suggestion(&self, event: EventId) -> Result<Option<SuggestionRow>, QueryError> {
        let sql = format!("SELECT {SUGGESTION} FROM suggestions WHERE event = ?1");
        self.read(|connection| connection.first(&sql, &[event.uuid().into()], suggestion))
    }

    /// Every field in conflict, of one memory or of all; at most `limit` fields.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn conflicts(&self, memory: Option<MemoryId>, limit: usize) -> Result<Vec<ConflictRow>, QueryError> {
        self.read(|connection| conflicts(connection, memory, limit))
    }

    /// The files of a vault with the memories they became, by path and part.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn files(&self, vault: Uuid) -> Result<Vec<FileRow>, QueryError> {
        let sql = format!("SELECT {FILE} FROM files f WHERE vault = ?1 ORDER BY path, part, memory");
        self.read(|connection| connection.query(&sql, &[vault.into()], |row| file(row, 0)))
    }

    /// Everybody who may act or might, the earliest first.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn principals(&self) -> Result<Vec<PrincipalRow>, QueryError> {
        let sql = format!("SELECT {PRINCIPAL} FROM principals ORDER BY registered_at, id");
        self.read(|connection| connection.query(&sql, &[], principal))
    }

    /// One of them.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn principal(&self, id: PrincipalId) -> Result<Option<PrincipalRow>, QueryError> {
        let sql = format!("SELECT {PRINCIPAL} FROM principals WHERE id = ?1");
        self.read(|connection| connection.first(&sql, &[id.uuid().into()], principal))
    }

    /// How much there is.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn stats(&self) -> Result<Stats, QueryError> {
        self.read(|connection| {
            let mut stats = Stats::default();
            // PostgreSQL's sums are of a wider type than what they add up.
            let sql = "SELECT kind, truth, archived, count(*), CAST(sum(suggestions) AS BIGINT),
                       CAST(sum(conflicts) AS BIGINT) FROM memories GROUP BY kind, truth, archived";
            connection.visit(sql, &[], |row| {
                let count = row.number(3)?;
                stats.memories += count;
                stats.archived += if row.flag(2)? { count } else { 0 };
                *stats.by_kind.entry(row.parsed(0)?).or_default() += count;
                *stats.by_truth.entry(row.truth(1)?).or_default() += count;
                stats.suggestions += row.number(4)?;
                stats.conflicts += row.number(5)?;
                Ok(ControlFlow::Continue(()))
            })?;
            let mut count = |sql| connection.first(sql, &[], |row| row.number(0)).map(Option::unwrap_or_default);
            stats.erased = count("SELECT count(*) FROM tombstones")?;
            stats.links = count("SELECT count(*) FROM links")?;
            stats.tags = count("SELECT count(DISTINCT tag) FROM tags")?;
            for table in ["fields", "tags", "links"] {
                connection.visit(&format!("SELECT truth, count(*) FROM {table} GROUP BY truth"), &[], |row| {
                    *stats.claims.entry(row.truth(0)?).or_default() += row.number(1)?;
                    Ok(ControlFlow::Continue(()))
                })?;
            }
            Ok(stats)
        })
    }
}

/// As many question marks as a query for so many memories gets. There are few different numbers of them, so that few
/// different statements are prepared; [`cells`] fills them.
fn marks(memories: usize) -> String {
    vec!["?"; memories.next_power_of_two()].join(", ")
}

/// The ids, the last one as often as it takes to fill the [`marks`].
fn cells(memories: &[MemoryId]) -> Vec<Cell<'static>> {
    let ids = memories.iter().chain(memories.last().into_iter().cycle());
    ids.take(memories.len().next_power_of_two()).map(|id| id.uuid().into()).collect()
}

fn summary(row: &Row<'_>) -> Answer<MemorySummary> {
    Ok(MemorySummary {
        id: row.memory_id(0)?,
        kind: row.parsed(1)?,
        title: row.text(2)?,
        excerpt: row.text(3)?,
        body: None,
        archived: row.flag(4)?,
        about_at: row.maybe_time(5)?,
        tags: Vec::new(),
        fields: BTreeMap::new(),
        created_at: row.time(6)?,
        created_by: row.principal_id(7)?,
        created_origin: row.parsed(8)?,
        created_truth: row.truth(9)?,
        updated_at: row.time(10)?,
        revision: row.number(11)?,
        position: row.number(12)?,
        truth: row.truth(13)?,
        origin: row.parsed(14)?,
        source_event: row.event_id(15)?,
        suggestions: row.number(16)?,
        conflicts: row.number(17)?,
    })
}

/// Adds tags and fields to summaries.
fn complete(connection: &mut Connection<'_>, summaries: &mut [MemorySummary]) -> Answer<()> {
    for some in summaries.chunks_mut(COMPLETED_AT_ONCE) {
        let ids: Vec<_> = some.iter().map(|summary| summary.id).collect();
        let tags = tags(connection, &ids)?;
        let fields = attributes(connection, &ids)?;
        for summary in some {
            // The same memory may be asked for twice.
            summary.tags = tags.get(&summary.id).cloned().unwrap_or_default();
            summary.fields = fields.get(&summary.id).cloned().unwrap_or_default();
            add_defaults(summary);
        }
    }
    Ok(())
}

/// The tags of each memory.
fn tags(connection: &mut Connection<'_>, memories: &[MemoryId]) -> Answer<HashMap<MemoryId, Vec<String>>> {
    let marks = marks(memories.len());
    let sql = format!("SELECT memory, tag FROM tags WHERE memory IN ({marks}) ORDER BY memory, tag");
    let mut tags: HashMap<_, Vec<_>> = HashMap::new();
    connection.visit(&sql, &cells(memories), |row| {
        tags.entry(row.memory_id(0)?).or_default().push(row.text(1)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(tags)
}

/// The fields of each memory that have no place of their own in a summary.
fn attributes(
    connection: &mut Connection<'_>,
    memories: &[MemoryId],
) -> Answer<HashMap<MemoryId, BTreeMap<FieldName, Value>>> {
    let sql = format!(
        "SELECT memory, field, value FROM fields
         WHERE memory IN ({}) AND field NOT IN ('title', 'body', 'kind', 'archived')",
        marks(memories.len())
    );
    let mut fields: HashMap<_, BTreeMap<_, _>> = HashMap::new();
    connection.visit(&sql, &cells(memories), |row| {
        if let Some(value) = row.value(2)? {
            fields.entry(row.memory_id(0)?).or_default().insert(row.parsed(1)?, value);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(fields)
}

/// Adds their texts to summaries.
fn add_bodies(connection: &mut Connection<'_>, summaries: &mut [MemorySummary]) -> Answer<()> {
    for some in summaries.chunks_mut(COMPLETED_AT_ONCE) {
        let ids: Vec<_> = some.iter().map(|summary| summary.id).collect();
        let sql = format!("SELECT memory, text FROM bodies WHERE memory IN ({})", marks(ids.len()));
        let texts = connection.query(&sql, &cells(&ids), |row| Ok((row.memory_id(0)?, row.text(1)?)))?;
        let mut texts: HashMap<_, _> = texts.into_iter().collect();
        for summary in some {
            summary.body = Some(texts.remove(&summary.id).unwrap_or_default());
        }
    }
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

fn view(connection: &mut Connection<'_>, memory: MemoryId) -> Answer<Option<MemoryView>> {
    let id = [memory.uuid().into()];
    // What there is one of comes with the memory itself: on a server, every query is a round trip.
    let sql = format!(
        "SELECT {SUMMARY}, b.text, {FILE}
         FROM memories m LEFT JOIN bodies b ON b.memory = m.id LEFT JOIN files f ON f.memory = m.id WHERE m.id = ?1"
    );
    let found = connection.first(&sql, &id, |row| {
        let mut summary = summary(row)?;
        summary.body = Some(row.maybe_text(SUMMARY_COLUMNS)?.unwrap_or_default());
        let first = SUMMARY_COLUMNS + 1;
        let file = if row.maybe_uuid(first)?.is_some() { Some(file(row, first)?) } else { None };
        Ok((summary, file))
    })?;
    let Some((mut summary, file)) = found else { return Ok(None) };
    let provenance = fields(connection, memory)?;
    for row in &provenance {
        if let (FieldRole::Attribute(_), Some(value)) = (row.field.role(), &row.value) {
            summary.fields.insert(row.field.clone(), value.clone());
        }
    }
    add_defaults(&mut summary);
    let sql = "SELECT tag, truth, event FROM tags WHERE memory = ?1 ORDER BY tag";
    let tag_claims = connection
        .query(sql, &id, |row| Ok(TagRow { tag: row.text(0)?, truth: row.truth(1)?, event: row.event_id(2)? }))?;
    summary.tags = tag_claims.iter().map(|row| row.tag.clone()).collect();
    // Most memories have neither, and their summary says so.
    let waiting = if summary.suggestions == 0 { Vec::new() } else { waiting(connection, memory)? };
    let disputed = match summary.conflicts {
        0 => Vec::new(),
        _ => conflicts(connection, Some(memory), usize::MAX)?,
    };
    let (links, backlinks) = linked(connection, memory)?;
    Ok(Some(MemoryView { provenance, tag_claims, links, backlinks, waiting, disputed, file, summary }))
}

fn fields(connection: &mut Connection<'_>, memory: MemoryId) -> Answer<Vec<FieldRow>> {
    let sql = "SELECT field, value, truth, origin, principal, event, at, accepted, accepted_origin
               FROM fields WHERE memory = ?1 ORDER BY field";
    connection.query(sql, &[memory.uuid().into()], |row| {
        let accepted = match row.maybe_uuid(7)? {
            Some(event) => Some(Accepted { event: EventId::new(event), origin: row.parsed(8)? }),
            None => None,
        };
        let (field, value) = (row.parsed(0)?, row.value(1)?);
        Ok(FieldRow { field, value, provenance: provenance(row, 2)?, accepted })
    })
}

/// Reads truth, origin, principal, event and time, in this order.
fn provenance(row: &Row<'_>, first: usize) -> Answer<Provenance> {
    Ok(Provenance {
        truth: row.truth(first)?,
        origin: row.parsed(first + 1)?,
        principal: row.principal_id(first + 2)?,
        event: row.event_id(first + 3)?,
        at: row.time(first + 4)?,
    })
}

/// The links from a memory, with what they lead to.
const LINKS: &str = "SELECT l.relation, l.target AS other, m.title, m.kind, l.truth, l.event
     FROM links l LEFT JOIN memories m ON m.id = l.target WHERE l.source = ?1";
/// Those to it, with where they come from.
const BACKLINKS: &str = "SELECT l.relation, l.source AS other, m.title, m.kind, l.truth, l.event
     FROM links l LEFT JOIN memories m ON m.id = l.source WHERE l.target = ?1";

/// The first links and backlinks of a memory.
fn linked(connection: &mut Connection<'_>, memory: MemoryId) -> Answer<(Vec<LinkRow>, Vec<LinkRow>)> {
    let sql = format!(
        "SELECT o.*, false AS back FROM ({LINKS} ORDER BY relation, other LIMIT ?2) AS o
         UNION ALL SELECT i.*, true AS back FROM ({BACKLINKS} ORDER BY relation, other LIMIT ?2) AS i
         ORDER BY back, relation, other"
    );
    let (mut links, mut backlinks) = (Vec::new(), Vec::new());
    connection.visit(&sql, &[memory.uuid().into(), rows(LINKS_IN_VIEW)], |row| {
        if row.flag(LINK_COLUMNS)? { &mut backlinks } else { &mut links }.push(link(row)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok((links, backlinks))
}

/// How many columns [`link`] reads.
const LINK_COLUMNS: usize = 6;

fn link(row: &Row<'_>) -> Answer<LinkRow> {
    let title = row.maybe_text(2)?;
    Ok(LinkRow {
        relation: row.text(0)?,
        memory: row.memory_id(1)?,
        kind: if title.is_some() { Some(row.parsed::<Kind>(3)?) } else { None },
        title,
        truth: row.truth(4)?,
        event: row.event_id(5)?,
    })
}

/// The columns of a suggestion, in the order that [`suggestion`] reads them.
const SUGGESTION: &str = "memory, field, value, diff, truth, origin, principal, event, at";

fn suggestion(row: &Row<'_>) -> Answer<SuggestionRow> {
    Ok(SuggestionRow {
        memory: row.memory_id(0)?,
        field: row.parsed(1)?,
        value: row.value(2)?,
        diff: row.maybe_text(3)?,
        provenance: provenance(row, 4)?,
    })
}

fn waiting(connection: &mut Connection<'_>, memory: MemoryId) -> Answer<Vec<SuggestionRow>> {
    let sql = format!("SELECT {SUGGESTION} FROM suggestions WHERE memory = ?1 ORDER BY at, event");
    connection.query(&sql, &[memory.uuid().into()], suggestion)
}

fn conflicts(connection: &mut Connection<'_>, memory: Option<MemoryId>, limit: usize) -> Answer<Vec<ConflictRow>> {
    let condition = if memory.is_some() { "WHERE memory = ?1" } else { "" };
    let sql = format!(
        "SELECT memory, field, value, truth, origin, principal, event, at FROM conflicts {condition}
         ORDER BY memory, field, truth, at DESC, event DESC"
    );
    let bound: Vec<Cell<'_>> = memory.iter().map(|memory| memory.uuid().into()).collect();
    let mut conflicts: Vec<ConflictRow> = Vec::new();
    connection.visit(&sql, &bound, |row| {
        let (memory, field): (MemoryId, FieldName) = (row.memory_id(0)?, row.parsed(1)?);
        let side = ConflictSide { value: row.value(2)?.unwrap_or(Value::Empty), provenance: provenance(row, 3)? };
        let full = conflicts.len() == limit;
        match conflicts.last_mut().filter(|last| last.memory == memory && last.field == field) {
            Some(last) => last.sides.push(side),
            None if full => return Ok(ControlFlow::Break(())),
            None => conflicts.push(ConflictRow { memory, field, sides: vec![side] }),
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(conflicts)
}

/// The columns of a file, in the order that [`file`] reads them.
const FILE: &str = "f.memory, f.vault, f.path, f.part, f.digest, f.unresolved, f.vanished";

fn file(row: &Row<'_>, first: usize) -> Answer<FileRow> {
    let unresolved = match row.value(first + 5)? {
        Some(Value::List(names)) => names.iter().filter_map(|name| name.as_text().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    Ok(FileRow {
        memory: row.memory_id(first)?,
        vault: row.uuid(first + 1)?,
        path: row.text(first + 2)?,
        part: row.text(first + 3)?,
        digest: row.text(first + 4)?,
        unresolved,
        vanished: row.flag(first + 6)?,
    })
}

/// The columns of a principal, in the order that [`principal`] reads them.
const PRINCIPAL: &str = "id, name, ceiling, origin, registered_at, revoked_at";

fn principal(row: &Row<'_>) -> Answer<PrincipalRow> {
    Ok(PrincipalRow {
        id: row.principal_id(0)?,
        name: row.text(1)?,
        ceiling: row.truth(2)?,
        origin: row.parsed(3)?,
        registered_at: row.time(4)?,
        revoked_at: row.maybe_time(5)?,
    })
}
