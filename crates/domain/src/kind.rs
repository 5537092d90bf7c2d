//! Kinds of memories and their typed fields.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate};
use serde::{Deserialize, Serialize};

use crate::field::{FieldName, FieldRole};
use crate::value::Value;

/// What a memory is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Anything written down.
    Note,
    /// Something to do.
    Task,
    /// A person.
    Person,
    /// An undertaking with an end.
    Project,
    /// Something in a calendar. (A domain event is another thing, see [`crate::event`].)
    Event,
    /// A place.
    Place,
    /// The log of one day; there is one for each date.
    Daily,
}

/// A word that names no kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a kind; use note, task, person, project, event, place or daily")]
pub struct InvalidKind(pub String);

/// The type of a typed field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum FieldType {
    /// One line of text.
    Text,
    /// Yes or no.
    Flag,
    /// A day, `2026-11-21`.
    Date,
    /// A point in time, RFC 3339 such as `2026-11-21T09:30:00Z`.
    Time,
    /// A number within bounds, both included.
    Number {
        /// The smallest.
        min: f64,
        /// The largest.
        max: f64,
    },
    /// A list of texts.
    Texts,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// A typed field of a kind.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TypedField {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: FieldType,
    /// What it is, for the API's description.
    pub meaning: &'static str,
}

/// A value that a typed field cannot hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` {reason}")]
pub struct InvalidFieldValue {
    /// The field.
    pub field: String,
    /// What it would take instead.
    pub reason: String,
}

/// The states of a task; the first is where one starts.
pub const TASK_STATUS: &[&str] = &["todo", "in_progress", "completed", "cancelled"];
/// The priorities of a task; `medium` is where one starts.
pub const TASK_PRIORITY: &[&str] = &["low", "medium", "high", "urgent"];
/// The states of a project; the first is where one starts.
pub const PROJECT_STATUS: &[&str] = &["planning", "active", "on_hold", "completed", "cancelled"];

const fn field(name: &'static str, kind: FieldType, meaning: &'static str) -> TypedField {
    TypedField { name, kind, meaning }
}

const TASK: &[TypedField] = &[
    field("status", FieldType::Choice(TASK_STATUS), "where the task stands"),
    field("priority", FieldType::Choice(TASK_PRIORITY), "how pressing it is"),
    field("due_date", FieldType::Date, "the day it is due"),
    field("completed_at", FieldType::Time, "when it was completed"),
    field("assigned_to", FieldType::Text, "who does it"),
];
const PERSON: &[TypedField] = &[
    field("email", FieldType::Text, "electronic mail address"),
    field("phone", FieldType::Text, "telephone number"),
    field("organization", FieldType::Text, "where the person works"),
    field("role", FieldType::Text, "what the person does there"),
];
const PROJECT: &[TypedField] = &[
    field("status", FieldType::Choice(PROJECT_STATUS), "where the project stands"),
    field("start_date", FieldType::Date, "the day it starts"),
    field("end_date", FieldType::Date, "the day it ends"),
];
const EVENT: &[TypedField] = &[
    field("start_time", FieldType::Time, "when it starts"),
    field("end_time", FieldType::Time, "when it ends"),
    field("location", FieldType::Text, "where it is"),
    field("attendees", FieldType::Texts, "who takes part"),
];
const PLACE: &[TypedField] = &[
    field("address", FieldType::Text, "postal address"),
    field("latitude", FieldType::Number { min: -90.0, max: 90.0 }, "degrees north"),
    field("longitude", FieldType::Number { min: -180.0, max: 180.0 }, "degrees east"),
    field("place_type", FieldType::Text, "home, work, favorite or any other word"),
];
const DAILY: &[TypedField] = &[field("log_date", FieldType::Date, "the day the log is about")];

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 7] =
        [Self::Note, Self::Task, Self::Person, Self::Project, Self::Event, Self::Place, Self::Daily];

    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Note => "note",
            Self::Task => "task",
            Self::Person => "person",
            Self::Project => "project",
            Self::Event => "event",
            Self::Place => "place",
            Self::Daily => "daily",
        }
    }

    /// Its typed fields, apart from the title and the body that every kind has.
    pub const fn fields(self) -> &'static [TypedField] {
        match self {
            Self::Note => &[],
            Self::Task => TASK,
            Self::Person => PERSON,
            Self::Project => PROJECT,
            Self::Event => EVENT,
            Self::Place => PLACE,
            Self::Daily => DAILY,
        }
    }

    /// What a typed field holds while nobody has claimed a value for it.
    pub fn default_value(self, field: &str) -> Option<&'static str> {
        match (self, field) {
            (Self::Task, "status") => Some("todo"),
            (Self::Task, "priority") => Some("medium"),
            (Self::Project, "status") => Some("planning"),
            _ => None,
        }
    }

    /// Checks that a field of this kind may hold a value. Free fields hold any.
    ///
    /// # Errors
    /// Names the field and what it takes instead.
    pub fn check(self, name: &FieldName, value: &Value) -> Result<(), InvalidFieldValue> {
        value.check_limits().map_err(|error| refusal(name, &error.to_string()))?;
        let expected = match name.role() {
            FieldRole::Title => FieldType::Text,
            FieldRole::Archived | FieldRole::Tag(_) | FieldRole::Link { .. } => FieldType::Flag,
            FieldRole::Kind => {
                FieldType::Choice(&["note", "task", "person", "project", "event", "place", "daily"])
            }
            FieldRole::Body => {
                return Err(refusal(name, "is the body; edit it as text instead of claiming a value"));
            }
            FieldRole::Attribute(attribute) => match self.fields().iter().find(|field| field.name == attribute) {
                Some(field) => field.kind,
                None => return Ok(()),
            },
        };
        if value.is_empty() && !matches!(name.role(), FieldRole::Kind) {
            return Ok(());
        }
        check_type(expected, value).map_err(|reason| refusal(name, &reason))
    }
}

fn refusal(name: &FieldName, reason: &str) -> InvalidFieldValue {
    InvalidFieldValue { field: name.to_string(), reason: reason.to_owned() }
}

fn check_type(expected: FieldType, value: &Value) -> Result<(), String> {
    let fits = match (expected, value) {
        (FieldType::Text, Value::Text(text)) => !text.contains('\n'),
        (FieldType::Flag, Value::Flag(_)) => true,
        (FieldType::Date, Value::Text(text)) => text.len() == 10 && text.parse::<NaiveDate>().is_ok(),
        (FieldType::Time, Value::Text(text)) => DateTime::parse_from_rfc3339(text).is_ok(),
        (FieldType::Number { min, max }, Value::Integer(number)) => (min..=max).contains(&(*number as f64)),
        (FieldType::Number { min, max }, Value::Decimal(number)) => (min..=max).contains(number),
        (FieldType::Texts, Value::List(items)) => items.iter().all(|item| item.as_text().is_some()),
        (FieldType::Choice(words), Value::Text(text)) => words.contains(&text.as_str()),
        _ => false,
    };
    if fits {
        return Ok(());
    }
    Err(match expected {
        FieldType::Text => "takes one line of text".to_owned(),
        FieldType::Flag => "takes true or false".to_owned(),
        FieldType::Date => "takes a day such as 2026-11-21".to_owned(),
        FieldType::Time => "takes a time such as 2026-11-21T09:30:00Z".to_owned(),
        FieldType::Number { min, max } => format!("takes a number from {min} to {max}"),
        FieldType::Texts => "takes a list of texts".to_owned(),
        FieldType::Choice(words) => format!("takes one of {}", words.join(", ")),
    })
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kind {
    type Err = InvalidKind;

    fn from_str(text: &str) -> Result<Self, InvalidKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| InvalidKind(text.chars().take(40).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, name: &str, value: impl Into<Value>) -> Result<(), String> {
        let name = name.parse().expect("valid name");
        kind.check(&name, &value.into()).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn enumerations_hold_only_their_words() {
        assert_eq!(check(Kind::Task, "status", "in_progress"), Ok(()));
        assert_eq!(
            check(Kind::Task, "status", "done"),
            Err("`status` takes one of todo, in_progress, completed, cancelled".into())
        );
        assert_eq!(check(Kind::Note, "status", "done"), Ok(()), "free on a kind that has no status");
    }

    #[test]
    fn nothing_is_let_through_that_could_not_be_read_again() {
        let long = "x".repeat(crate::value::MAX_TEXT_BYTES + 1);
        for name in ["title", "mood"] {
            assert!(check(Kind::Note, name, Value::Text(long.clone())).is_err(), "{name}");
            assert!(check(Kind::Note, name, Value::Text(long[1..].to_owned())).is_ok(), "{name}");
        }
        assert!(check(Kind::Note, "mood", Value::List(vec![Value::Text(long)])).is_err());
    }

    #[test]
    fn clearing_is_a_value_for_every_field_but_the_kind() {
        assert!(check(Kind::Task, "due_date", Value::Empty).is_ok());
        assert!(check(Kind::Task, "kind", Value::Empty).is_err());
    }

    #[test]
    fn dates_and_times_are_not_mixed_up() {
        assert!(check(Kind::Task, "due_date", "2026-11-21").is_ok());
        assert!(check(Kind::Task, "due_date", "2026-11-31").is_err());
        assert!(check(Kind::Task, "due_date", "2026-11-21T09:30:00Z").is_err());
        assert!(check(Kind::Event, "start_time", "2026-11-21").is_err());
        assert!(check(Kind::Place, "latitude", Value::Decimal(91.0)).is_err());
    }
}
