//! The tables, as the writes see them; `migrations/*/read-model/memories.sql` creates them.

use cairn_domain::kind::Kind;

use crate::table::{Shape, Table, flag, id, number, real, text, time, truth};

/// A table with one row for each memory.
const fn one_each(name: &'static str, columns: &'static [crate::table::Column]) -> Table {
    Table::new(Shape { name, columns, key: 1, part: 1, memory: 0 })
}

pub(super) static MEMORIES: Table = one_each(
    "memories",
    &[
        id("id"),
        text("kind"),
        text("title"),
        text("title_key"),
        text("excerpt"),
        flag("archived"),
        time("about_at"),
        time("created_at").kept(),
        id("created_by").kept(),
        text("created_origin").kept(),
        truth("created_truth").kept(),
        time("updated_at"),
        number("revision"),
        number("position"),
        truth("truth"),
        text("origin"),
        id("source_event"),
        number("suggestions"),
        number("conflicts"),
    ],
);

pub(super) static BODIES: Table = one_each("bodies", &[id("memory"), text("text")]);

pub(super) static FIELDS: Table = Table::new(Shape {
    name: "fields",
    columns: &[
        id("memory"),
        text("field"),
        text("value"),
        truth("truth"),
        text("origin"),
        id("principal"),
        id("event"),
        time("at"),
        id("accepted"),
        text("accepted_origin"),
    ],
    key: 2,
    part: 2,
    memory: 0,
});

pub(super) static SUGGESTIONS: Table = Table::new(Shape {
    name: "suggestions",
    columns: &[
        id("memory"),
        text("field"),
        id("event"),
        text("value"),
        text("diff"),
        truth("truth"),
        text("origin"),
        id("principal"),
        time("at"),
    ],
    key: 3,
    part: 2,
    memory: 0,
});

pub(super) static CONFLICTS: Table = Table::new(Shape {
    name: "conflicts",
    columns: &[
        id("memory"),
        text("field"),
        id("event"),
        text("value"),
        truth("truth"),
        text("origin"),
        id("principal"),
        time("at"),
    ],
    key: 3,
    part: 2,
    memory: 0,
});

pub(super) static TAGS: Table = Table::new(Shape {
    name: "tags",
    columns: &[id("memory"), text("tag"), truth("truth"), id("event")],
    key: 2,
    part: 2,
    memory: 0,
});

pub(super) static LINKS: Table = Table::new(Shape {
    name: "links",
    columns: &[id("source"), text("relation"), id("target"), truth("truth"), id("event")],
    key: 3,
    part: 3,
    memory: 0,
});

pub(super) static FILES: Table = one_each(
    "files",
    &[id("memory"), id("vault"), text("path"), text("part"), text("digest"), text("unresolved"), flag("vanished")],
);

static NOTES: Table = one_each("notes", &[id("memory"), number("words")]);

static TASKS: Table = one_each(
    "tasks",
    &[
        id("memory"),
        text("status").indexed(),
        text("priority"),
        text("due_date").indexed(),
        time("completed_at"),
        text("assigned_to"),
    ],
);

static PEOPLE: Table =
    one_each("people", &[id("memory"), text("email"), text("phone"), text("organization"), text("role")]);

static PROJECTS: Table =
    one_each("projects", &[id("memory"), text("status").indexed(), text("start_date"), text("end_date")]);

static CALENDAR_EVENTS: Table = one_each(
    "calendar_events",
    &[id("memory"), time("start_time"), time("end_time"), text("location"), text("attendees")],
);

static PLACES: Table =
    one_each("places", &[id("memory"), text("address"), real("latitude"), real("longitude"), text("place_type")]);

static DAILY_LOGS: Table = one_each("daily_logs", &[id("memory"), text("log_date").indexed()]);

/// Those that hold parts of memories, tombstones apart.
pub(super) static OF_MEMORIES: [&Table; 15] = [
    &MEMORIES,
    &BODIES,
    &FIELDS,
    &SUGGESTIONS,
    &CONFLICTS,
    &TAGS,
    &LINKS,
    &FILES,
    &NOTES,
    &TASKS,
    &PEOPLE,
    &PROJECTS,
    &CALENDAR_EVENTS,
    &PLACES,
    &DAILY_LOGS,
];

/// The table of a kind.
pub(super) fn of_kind(kind: Kind) -> &'static Table {
    match kind {
        Kind::Note => &NOTES,
        Kind::Task => &TASKS,
        Kind::Person => &PEOPLE,
        Kind::Project => &PROJECTS,
        Kind::Event => &CALENDAR_EVENTS,
        Kind::Place => &PLACES,
        Kind::Daily => &DAILY_LOGS,
    }
}
