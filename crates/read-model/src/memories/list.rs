//! Lists of memories and of suggestions: filters, orders, pages.

use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use cairn_domain::truth::Truth;
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::tables::of_kind;
use super::view::{LinkRow, MemorySummary, SuggestionRow};
use super::{Memories, SUGGESTION, SUMMARY, add_bodies, complete, link, suggestion, summary};
use crate::page::{Cursor, Paged, QueryError, page_size, paged};
use crate::select::{Param, Select};
use crate::sql::rows;
use crate::table::Cell;

/// The most values one filter may name.
pub const MAX_FILTER_VALUES: usize = 100;

/// What to list, in which order, how much.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ListQuery {
    /// Which memories.
    pub filter: MemoryFilter,
    /// In which order.
    pub sort: Sort,
    /// Which end first.
    pub direction: Direction,
    /// How many; [`DEFAULT_LIMIT`](crate::DEFAULT_LIMIT) when `None`, at most [`MAX_LIMIT`](crate::MAX_LIMIT).
    pub limit: Option<usize>,
    /// Where to go on.
    pub cursor: Option<Cursor>,
    /// Whether to answer whole bodies too.
    pub bodies: bool,
}

/// Which memories to list. What is not given lets everything through.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MemoryFilter {
    /// Of one of these kinds.
    pub kinds: Vec<Kind>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Put away or not.
    pub archived: Option<bool>,
    /// Of this truth or a higher one.
    pub truth_at_least: Option<Truth>,
    /// Created at or after this moment.
    pub created_from: Option<DateTime<Utc>>,
    /// Created before this moment.
    pub created_before: Option<DateTime<Utc>>,
    /// Changed at or after this moment.
    pub updated_from: Option<DateTime<Utc>>,
    /// Last changed before this moment.
    pub updated_before: Option<DateTime<Utc>>,
    /// About this moment or a later one.
    pub about_from: Option<DateTime<Utc>>,
    /// About a moment before this one.
    pub about_before: Option<DateTime<Utc>>,
    /// With a title that begins like this, whatever the case.
    pub title_prefix: Option<String>,
    /// With this in the title, whatever the case.
    pub title_contains: Option<String>,
    /// That link to this memory.
    pub linked_to: Option<MemoryId>,
    /// That this memory links to.
    pub linked_from: Option<MemoryId>,
    /// With suggestions waiting (or without).
    pub has_suggestions: Option<bool>,
    /// With fields in conflict (or without).
    pub has_conflicts: Option<bool>,
    /// Whose typed fields are like this.
    pub typed: Option<TypedFilter>,
}

/// What the typed fields are like. Only memories of the kind pass.
#[derive(Debug, Clone, PartialEq)]
pub enum TypedFilter {
    /// Tasks.
    Task(TaskFilter),
    /// People.
    Person(PersonFilter),
    /// Projects.
    Project(ProjectFilter),
    /// Events.
    Event(EventFilter),
    /// Places.
    Place(PlaceFilter),
    /// Logs of days.
    Daily(DailyFilter),
}

/// Which tasks.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TaskFilter {
    /// In one of these states.
    pub status: Vec<String>,
    /// Of one of these priorities.
    pub priority: Vec<String>,
    /// Due on this day or later.
    pub due_from: Option<NaiveDate>,
    /// Due on this day or earlier.
    pub due_until: Option<NaiveDate>,
    /// Whose task it is.
    pub assigned_to: Option<String>,
}

/// Which people.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PersonFilter {
    /// With this address.
    pub email: Option<String>,
    /// Who work here.
    pub organization: Option<String>,
    /// Who do this there.
    pub role: Option<String>,
}

/// Which projects.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ProjectFilter {
    /// In one of these states.
    pub status: Vec<String>,
    /// That run on this day or later: without an end, or with one not before it.
    pub running_from: Option<NaiveDate>,
    /// That started on this day or earlier.
    pub started_until: Option<NaiveDate>,
}

/// Which events.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EventFilter {
    /// That start at or after this moment.
    pub start_from: Option<DateTime<Utc>>,
    /// That start before this moment.
    pub start_before: Option<DateTime<Utc>>,
    /// That are here.
    pub location: Option<String>,
}

/// Which places.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PlaceFilter {
    /// Of one of these types.
    pub place_type: Vec<String>,
    /// At or north of this latitude.
    pub south: Option<f64>,
    /// At or south of this latitude.
    pub north: Option<f64>,
    /// At or east of this longitude.
    pub west: Option<f64>,
    /// At or west of this longitude.
    pub east: Option<f64>,
}

/// Which logs.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct DailyFilter {
    /// Of this day or later ones.
    pub from: Option<NaiveDate>,
    /// Of this day or earlier ones.
    pub until: Option<NaiveDate>,
}

/// What a list is sorted by. Memories that are equal in it are sorted by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sort {
    /// When they changed last.
    #[default]
    Updated,
    /// When they were created.
    Created,
    /// Their title, whatever the case.
    Title,
    /// What they are about: due date, start, day. Those about no time come last, in either direction.
    #[serde(alias = "due", alias = "start", alias = "date")]
    About,
}

/// Which end comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The smallest or earliest.
    #[serde(alias = "asc")]
    Ascending,
    /// The largest or latest.
    #[default]
    #[serde(alias = "desc")]
    Descending,
}

/// Which suggestions to list. What is not given lets everything through.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SuggestionFilter {
    /// About this memory.
    pub memory: Option<MemoryId>,
    /// About this field; `body` for the body.
    pub field: Option<String>,
    /// Made by this principal.
    pub principal: Option<PrincipalId>,
    /// Made at this level.
    pub truth: Option<Truth>,
    /// From this origin.
    pub origin: Option<String>,
    /// Made at or after this moment.
    pub from: Option<DateTime<Utc>>,
    /// Made before this moment.
    pub before: Option<DateTime<Utc>>,
}

impl Memories {
    /// Lists memories.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn list(&self, query: &ListQuery) -> Result<Paged<MemorySummary>, QueryError> {
        let size = page_size(query.limit);
        let name = cursor_name(query);
        let mut select = Select::new(&format!("SELECT {SUMMARY}, m.title_key FROM memories m"));
        conditions(&mut select, query)?;
        if let Some(cursor) = &query.cursor {
            after(&mut select, query, cursor.place(&name)?);
        }
        select.end(order(query.sort, query.direction), size + 1);
        self.read(|connection| {
            let rows = select.rows(connection, |row| Ok((summary(row)?, row.text(18)?)))?;
            let page = paged(rows, size, |(last, title)| Cursor::new(&name, &place(query.sort, last, title)));
            let mut items: Vec<_> = page.items.into_iter().map(|(summary, _)| summary).collect();
            complete(connection, &mut items)?;
            if query.bodies {
                add_bodies(connection, &mut items)?;
            }
            Ok(Paged { items, next: page.next })
        })
    }

    /// How many memories pass a filter.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn count(&self, filter: &MemoryFilter) -> Result<u64, QueryError> {
        let mut select = Select::new("SELECT count(*) FROM memories m");
        conditions(&mut select, &ListQuery { filter: filter.clone(), ..ListQuery::default() })?;
        select.end("", 1);
        self.read(|connection| {
            let counts = select.rows(connection, |row| row.number(0))?;
            Ok(counts.first().copied().unwrap_or_default())
        })
    }

    /// Lists suggestions that wait, the newest first.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn suggestions(
        &self,
        filter: &SuggestionFilter,
        limit: Option<usize>,
        cursor: Option<&Cursor>,
    ) -> Result<Paged<SuggestionRow>, QueryError> {
        const NAME: &str = "suggestions";
        let size = page_size(limit);
        let mut select = Select::new(&format!("SELECT {SUGGESTION} FROM suggestions"));
        select.and_if("memory = ?", filter.memory.map(|id| id.uuid()));
        select.and_if("field = ?", filter.field.clone());
        select.and_if("principal = ?", filter.principal.map(|id| id.uuid()));
        select.and_if("truth = ?", filter.truth);
        select.and_if("origin = ?", filter.origin.clone());
        select.and_if("at >= ?", filter.from);
        select.and_if("at < ?", filter.before);
        if let Some(cursor) = cursor {
            let (at, event): (i64, EventId) = cursor.place(NAME)?;
            select.and("(at, event) < (?, ?)", [Param::Time(at), event.uuid().into()]);
        }
        select.end(" ORDER BY at DESC, event DESC", size + 1);
        let rows = self.read(|connection| select.rows(connection, suggestion))?;
        Ok(paged(rows, size, |last| {
            Cursor::new(NAME, &(last.provenance.at.timestamp_millis(), last.provenance.event))
        }))
    }

    /// Pages through the links to a memory, by relation.
    ///
    /// # Errors
    /// See [`QueryError`].
    pub fn backlinks(
        &self,
        memory: MemoryId,
        limit: Option<usize>,
        cursor: Option<&Cursor>,
    ) -> Result<Paged<LinkRow>, QueryError> {
        const NAME: &str = "backlinks";
        let size = page_size(limit);
        let (relation, source): (String, Uuid) = match cursor {
            Some(cursor) => cursor.place(NAME)?,
            None => (String::new(), Uuid::nil()),
        };
        let sql = "SELECT l.relation, l.source, m.title, m.kind, l.truth, l.event
                   FROM links l LEFT JOIN memories m ON m.id = l.source
                   WHERE l.target = ?1 AND (l.relation, l.source) > (?2, ?3)
                   ORDER BY l.relation, l.source LIMIT ?4";
        let bound = [memory.uuid().into(), Cell::Text(&relation), source.into(), rows(size + 1)];
        let rows = self.read(|connection| connection.query(sql, &bound, link))?;
        Ok(paged(rows, size, |last: &LinkRow| Cursor::new(NAME, &(&last.relation, last.memory.uuid()))))
    }
}

fn conditions(select: &mut Select, query: &ListQuery) -> Result<(), QueryError> {
    let filter = &query.filter;
    let given = [filter.kinds.len(), filter.tags.len()];
    if given.into_iter().any(|values| values > MAX_FILTER_VALUES) {
        return Err(QueryError::InvalidFilter(format!("a filter names at most {MAX_FILTER_VALUES} values")));
    }
    match filter.kinds.as_slice() {
        [kind] => select.and("m.kind = ?", [kind.name().into()]),
        // With several, the order's own index is the better way; the plus keeps the kind's from being taken.
        kinds => select.and_in("+m.kind", kinds.iter().map(|kind| kind.name().into()).collect()),
    }
    select.and_if("+m.archived = ?", filter.archived);
    select.and_if("+m.truth <= ?", filter.truth_at_least);
    select.and_if("m.created_at >= ?", filter.created_from);
    select.and_if("m.created_at < ?", filter.created_before);
    select.and_if("m.updated_at >= ?", filter.updated_from);
    select.and_if("m.updated_at < ?", filter.updated_before);
    select.and_if("m.about_at >= ?", filter.about_from);
    select.and_if("m.about_at < ?", filter.about_before);
    if let Some(prefix) = &filter.title_prefix {
        let prefix = super::write::title_key(prefix);
        let end = format!("{prefix}\u{10ffff}");
        select.and("m.title_key >= ? AND m.title_key < ?", [prefix.into(), end.into()]);
    }
    if let Some(part) = &filter.title_contains {
        select.and("instr(m.title_key, ?) > 0", [super::write::title_key(part).into()]);
    }
    for tag in &filter.tags {
        let tag = tag.trim().trim_start_matches('#').to_lowercase();
        select.and("m.id IN (SELECT memory FROM tags WHERE tag = ?)", [tag.into()]);
    }
    let id = |memory: Option<MemoryId>| memory.map(|memory| memory.uuid());
    select.and_if("m.id IN (SELECT source FROM links WHERE target = ?)", id(filter.linked_to));
    select.and_if("m.id IN (SELECT target FROM links WHERE source = ?)", id(filter.linked_from));
    select.and_if("(m.suggestions > 0) = ?", filter.has_suggestions);
    select.and_if("(m.conflicts > 0) = ?", filter.has_conflicts);
    if let Some(typed) = &filter.typed {
        typed_conditions(select, typed);
    }
    Ok(())
}

fn typed_conditions(select: &mut Select, filter: &TypedFilter) {
    let words = |words: &[String]| words.iter().map(|word| word.as_str().into()).collect();
    let day = |day: Option<NaiveDate>| day.map(|day| day.to_string());
    let of = |kind| Select::new(&format!("SELECT memory FROM {}", of_kind(kind).name()));
    let (kind, inner) = match filter {
        TypedFilter::Task(task) => {
            let mut inner = of(Kind::Task);
            inner.and_in("status", words(&task.status));
            inner.and_in("priority", words(&task.priority));
            inner.and_if("due_date >= ?", day(task.due_from));
            inner.and_if("due_date <= ?", day(task.due_until));
            inner.and_if("assigned_to = ?", task.assigned_to.clone());
            (Kind::Task, inner)
        }
        TypedFilter::Person(person) => {
            let mut inner = of(Kind::Person);
            inner.and_if("lower(email) = ?", person.email.as_ref().map(|email| email.to_ascii_lowercase()));
            inner.and_if("organization = ?", person.organization.clone());
            inner.and_if("role = ?", person.role.clone());
            (Kind::Person, inner)
        }
        TypedFilter::Project(project) => {
            let mut inner = of(Kind::Project);
            inner.and_in("status", words(&project.status));
            inner.and_if("coalesce(end_date, '9999-12-31') >= ?", day(project.running_from));
            inner.and_if("start_date <= ?", day(project.started_until));
            (Kind::Project, inner)
        }
        TypedFilter::Event(event) => {
            let mut inner = of(Kind::Event);
            inner.and_if("start_time >= ?", event.start_from);
            inner.and_if("start_time < ?", event.start_before);
            inner.and_if("location = ?", event.location.clone());
            (Kind::Event, inner)
        }
        TypedFilter::Place(place) => {
            let mut inner = of(Kind::Place);
            inner.and_in("place_type", words(&place.place_type));
            inner.and_if("latitude >= ?", place.south);
            inner.and_if("latitude <= ?", place.north);
            inner.and_if("longitude >= ?", place.west);
            inner.and_if("longitude <= ?", place.east);
            (Kind::Place, inner)
        }
        TypedFilter::Daily(daily) => {
            let mut inner = of(Kind::Daily);
            inner.and_if("log_date >= ?", day(daily.from));
            inner.and_if("log_date <= ?", day(daily.until));
            (Kind::Daily, inner)
        }
    };
    if inner.is_conditional() {
        select.and_among("m.id", inner);
    } else {
        select.and("m.kind = ?", [kind.name().into()]);
    }
}

fn order(sort: Sort, direction: Direction) -> &'static str {
    match (sort, direction) {
        (Sort::Updated, Direction::Ascending) => " ORDER BY m.updated_at, m.id",
        (Sort::Updated, Direction::Descending) => " ORDER BY m.updated_at DESC, m.id DESC",
        (Sort::Created, Direction::Ascending) => " ORDER BY m.created_at, m.id",
        (Sort::Created, Direction::Descending) => " ORDER BY m.created_at DESC, m.id DESC",
        (Sort::Title, Direction::Ascending) => " ORDER BY m.title_key, m.id",
        (Sort::Title, Direction::Descending) => " ORDER BY m.title_key DESC, m.id DESC",
        (Sort::About, Direction::Ascending) => " ORDER BY m.about_at IS NULL, m.about_at, m.id",
        (Sort::About, Direction::Descending) => " ORDER BY m.about_at IS NULL, m.about_at DESC, m.id DESC",
    }
}

/// The sort key of the last item of a page, and its id.
#[derive(Debug, Serialize, Deserialize)]
enum Place {
    Time(i64, MemoryId),
    Title(String, MemoryId),
    /// About no time.
    Timeless(MemoryId),
}

fn place(sort: Sort, last: &MemorySummary, title_key: &str) -> Place {
    match (sort, last.about_at) {
        (Sort::Updated, _) => Place::Time(last.updated_at.timestamp_millis(), last.id),
        (Sort::Created, _) => Place::Time(last.created_at.timestamp_millis(), last.id),
        (Sort::Title, _) => Place::Title(title_key.to_owned(), last.id),
        (Sort::About, Some(about)) => Place::Time(about.timestamp_millis(), last.id),
        (Sort::About, None) => Place::Timeless(last.id),
    }
}

fn cursor_name(query: &ListQuery) -> String {
    format!("{:?} {:?}", query.sort, query.direction)
}

/// Adds that only what comes after a place is listed.
fn after(select: &mut Select, query: &ListQuery, place: Place) {
    let than = match query.direction {
        Direction::Ascending => '>',
        Direction::Descending => '<',
    };
    match (query.sort, place) {
        (Sort::About, Place::Time(about, id)) => {
            let condition = format!("(m.about_at IS NULL OR (m.about_at, m.id) {than} (?, ?))");
            select.and(&condition, [Param::Time(about), id.uuid().into()]);
        }
        (_, Place::Timeless(id)) => {
            select.and(&format!("m.about_at IS NULL AND m.id {than} ?"), [id.uuid().into()]);
        }
        (sort, Place::Time(time, id)) => {
            let column = if sort == Sort::Updated { "m.updated_at" } else { "m.created_at" };
            let values = [Param::Time(time), id.uuid().into()];
            select.and(&format!("({column}, m.id) {than} (?, ?)"), values);
        }
        (_, Place::Title(title, id)) => {
            select.and(&format!("(m.title_key, m.id) {than} (?, ?)"), [title.into(), id.uuid().into()]);
        }
    }
}
