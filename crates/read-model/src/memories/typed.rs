//! The typed tables: one for each kind, for filters and sorting.

use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::value::Value;
use chrono::{DateTime, NaiveDate, NaiveTime};

use super::tables::of_kind;
use super::write::Writer;
use crate::change::Touched;
use crate::sql::to_json;
use crate::table::Cell;

/// Writes the memory's row where something of it was touched.
pub(super) fn write(writer: &mut Writer<'_>, touched: &Touched) {
    let kind = writer.memory.kind();
    let kind_touched =
        touched.everything || touched.fields.iter().any(|name| matches!(name.role(), FieldRole::Kind));
    let is_typed = |name: &FieldName| kind.fields().iter().any(|field| field.name == name.as_str());
    if kind_touched {
        for other in Kind::ALL.into_iter().filter(|other| *other != kind) {
            writer.delete(of_kind(other), []);
        }
    }
    if kind_touched || touched.fields.iter().any(is_typed) || (kind == Kind::Note && touched.body) {
        row(writer, kind);
    }
}

fn row(writer: &mut Writer<'_>, kind: Kind) {
    let (table, of) = (of_kind(kind), Typed { memory: writer.memory, kind });
    let text = |name| Cell::maybe(of.text(name));
    let time = |name| of.time(name).map_or(Cell::Null, Cell::Time);
    match kind {
        Kind::Note => {
            let words = of.memory.body().text().split_whitespace().count();
            writer.put(table, [Cell::Number(words.cast_signed() as i64)]);
        }
        Kind::Task => writer.put(
            table,
            [text("status"), text("priority"), text("due_date"), time("completed_at"), text("assigned_to")],
        ),
        Kind::Person => {
            writer.put(table, [text("email"), text("phone"), text("organization"), text("role")]);
        }
        Kind::Project => writer.put(table, [text("status"), text("start_date"), text("end_date")]),
        Kind::Event => {
            let attendees = of.list("attendees");
            let cells = [time("start_time"), time("end_time"), text("location"), Cell::Text(&attendees)];
            writer.put(table, cells);
        }
        Kind::Place => {
            let (latitude, longitude) = (of.decimal("latitude"), of.decimal("longitude"));
            let cells = [text("address"), Cell::maybe(latitude), Cell::maybe(longitude), text("place_type")];
            writer.put(table, cells);
        }
        Kind::Daily => writer.put(table, [text("log_date")]),
    }
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
