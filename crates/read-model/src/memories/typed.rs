//! The typed tables: one for each kind, for filters and sorting.

use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::value::Value;
use chrono::{DateTime, NaiveDate, NaiveTime};
use rusqlite::{Result, params};

use super::write::Writer;
use crate::change::Touched;
use crate::row::to_json;

/// The table of a kind.
pub(super) const fn table(kind: Kind) -> &'static str {
    match kind {
        Kind::Note => "notes",
        Kind::Task => "tasks",
        Kind::Person => "people",
        Kind::Project => "projects",
        Kind::Event => "calendar_events",
        Kind::Place => "places",
        Kind::Daily => "daily_logs",
    }
}

/// Writes the memory's row where something of it was touched.
pub(super) fn write(writer: &Writer<'_>, touched: &Touched) -> Result<()> {
    let kind = writer.memory.kind();
    let kind_touched =
        touched.everything || touched.fields.iter().any(|name| matches!(name.role(), FieldRole::Kind));
    let is_typed = |name: &FieldName| kind.fields().iter().any(|field| field.name == name.as_str());
    if kind_touched && !writer.fresh {
        for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
            writer
                .connection
                .prepare_cached(&format!("DELETE FROM {} WHERE memory = ?1", table(other)))?
                .execute([writer.id])?;
        }
    }
    let due = kind_touched || touched.fields.iter().any(is_typed) || (kind == Kind::Note && touched.body);
    if due { row(writer, kind) } else { Ok(()) }
}

fn row(writer: &Writer<'_>, kind: Kind) -> Result<()> {
    let (connection, id, of) = (writer.connection, writer.id, Typed { memory: writer.memory, kind });
    match kind {
        Kind::Note => connection
            .prepare_cached("INSERT OR REPLACE INTO notes VALUES (?1, ?2)")?
            .execute(params![id, writer.memory.body().text().split_whitespace().count().cast_signed()])?,
        Kind::Task => connection
            .prepare_cached("INSERT OR REPLACE INTO tasks VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
            .execute(params![
            id,
            of.text("status"),
            of.text("priority"),
            of.text("due_date"),
            of.time("completed_at"),
            of.text("assigned_to")
        ])?,
        Kind::Person => connection
            .prepare_cached("INSERT OR REPLACE INTO people VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![id, of.text("email"), of.text("phone"), of.text("organization"), of.text("role")])?,
        Kind::Project => connection
            .prepare_cached("INSERT OR REPLACE INTO projects VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![id, of.text("status"), of.text("start_date"), of.text("end_date")])?,
        Kind::Event => connection
            .prepare_cached("INSERT OR REPLACE INTO calendar_events VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                id,
                of.time("start_time"),
                of.time("end_time"),
                of.text("location"),
                of.list("attendees")
            ])?,
        Kind::Place => connection
            .prepare_cached("INSERT OR REPLACE INTO places VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                id,
                of.text("address"),
                of.decimal("latitude"),
                of.decimal("longitude"),
                of.text("place_type")
            ])?,
        Kind::Daily => connection
            .prepare_cached("INSERT OR REPLACE INTO daily_logs VALUES (?1, ?2)")?
            .execute(params![id, of.text("log_date")])?,
    };
    Ok(())
}

/// The time a memory is about, in milliseconds since 1970: when a task is due, an event starts, a day begins (UTC).
pub(super) fn about(memory: &Memory) -> Option<i64> {
    let of = Typed { memory, kind: memory.kind() };
    match of.kind {
        Kind::Task => of.day("due_date"),
        Kind::Project => of.day("start_date"),
        Kind::Event => of.time("start_time"),
        Kind::Daily => of.day("log_date"),
        Kind::Note | Kind::Person | Kind::Place => None,
    }
}

/// The typed fields of a memory. A value whose type does not fit, left over from another kind, reads as none.
struct Typed<'a> {
    memory: &'a Memory,
    kind: Kind,
}

impl<'a> Typed<'a> {
    fn value(&self, name: &str) -> Option<&'a Value> {
        let name: FieldName = name.parse().expect("the names of typed fields are field names");
        self.memory.value(&name)
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.value(name).and_then(Value::as_text).or(self.kind.default_value(name))
    }

    fn time(&self, name: &str) -> Option<i64> {
        let text = self.value(name)?.as_text()?;
        DateTime::parse_from_rfc3339(text).ok().map(|time| time.timestamp_millis())
    }

    fn day(&self, name: &str) -> Option<i64> {
        let day: NaiveDate = self.value(name)?.as_text()?.parse().ok()?;
        Some(day.and_time(NaiveTime::MIN).and_utc().timestamp_millis())
    }

    fn decimal(&self, name: &str) -> Option<f64> {
        match self.value(name)? {
            Value::Integer(number) => Some(*number as f64),
            Value::Decimal(number) => Some(*number),
            _ => None,
        }
    }

    fn list(&self, name: &str) -> String {
        match self.value(name) {
            Some(list @ Value::List(_)) => to_json(list),
            _ => "[]".to_owned(),
        }
    }
}
