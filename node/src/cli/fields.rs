//! Values of fields as people type them: `name=value`, `name=` and `name:=json`.

use std::str::FromStr;

use cairn_domain::kind::{FieldType, Kind};
use serde_json::Value as Json;

/// A field with the value it should get; `null` clears it.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// The field.
    pub name: String,
    /// Its value.
    pub value: Json,
}

/// A text that assigns nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAssignment {
    /// There is no `=`, or nothing before it.
    #[error("`{0}` is not a field; use name=value, name= to clear it, or name:=json")]
    Shape(String),
    /// What follows `:=` is not JSON.
    #[error("the value of `{name}` is not JSON: {reason}; use {name}=text for plain text")]
    Json {
        /// The field.
        name: String,
        /// Why not.
        reason: String,
    },
    /// A typed field takes something else.
    #[error("`{name}` takes {expected}")]
    Type {
        /// The field.
        name: String,
        /// What it takes.
        expected: &'static str,
    },
}

impl FromStr for Assignment {
    type Err = InvalidAssignment;

    fn from_str(text: &str) -> Result<Self, InvalidAssignment> {
        let shape = || InvalidAssignment::Shape(text.chars().take(40).collect());
        let (name, value) = text.split_once('=').ok_or_else(shape)?;
        let (name, json) = match name.strip_suffix(':') {
            Some(name) => (name.trim(), true),
            None => (name.trim(), false),
        };
        if name.is_empty() {
            return Err(shape());
        }
        let value = if json {
            serde_json::from_str(value).map_err(|error: serde_json::Error| InvalidAssignment::Json {
                name: name.to_owned(),
                reason: error.to_string(),
            })?
        } else {
            typed(name, value)?
        };
        Ok(Self { name: name.to_owned(), value })
    }
}

/// A text as the value of a field: what its type says, plain text for free fields.
///
/// Every typed field has one type in all kinds that know it, so the kind need not be known.
///
/// # Errors
/// When the text does not fit the type.
pub fn typed(name: &str, text: &str) -> Result<Json, InvalidAssignment> {
    if text.is_empty() {
        return Ok(Json::Null);
    }
    let wrong = |expected| InvalidAssignment::Type { name: name.to_owned(), expected };
    let kind = Kind::ALL.iter().flat_map(|kind| kind.fields()).find(|field| field.name == name);
    match kind.map(|field| field.kind) {
        Some(FieldType::Number { .. }) => {
            let whole = text.parse::<i64>().ok().map(Json::from);
            let decimal = || text.parse::<f64>().ok().and_then(serde_json::Number::from_f64).map(Json::Number);
            whole.or_else(decimal).ok_or_else(|| wrong("a number"))
        }
        Some(FieldType::Flag) => match text {
            "true" | "yes" => Ok(true.into()),
            "false" | "no" => Ok(false.into()),
            _ => Err(wrong("true or false")),
        },
        Some(FieldType::Texts) => Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).collect()),
        Some(FieldType::Text | FieldType::Date | FieldType::Time | FieldType::Choice(_)) | None => Ok(text.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn value(text: &str) -> Json {
        text.parse::<Assignment>().expect("an assignment").value
    }

    #[test]
    fn a_value_is_text_unless_the_field_is_of_another_type() {
        assert_eq!(value("due_date=2026-12-01"), json!("2026-12-01"));
        assert_eq!(value("rating=4"), json!("4"));
        assert_eq!(value("latitude=48.2"), json!(48.2));
        assert_eq!(value("attendees=Ada, Grace"), json!(["Ada", "Grace"]));
        assert_eq!(value("note=a=b"), json!("a=b"));
    }

    #[test]
    fn an_empty_value_clears_and_a_colon_takes_json() {
        assert_eq!(value("due_date="), Json::Null);
        assert_eq!(value("rating:=4"), json!(4));
        assert_eq!(value("done:=true"), json!(true));
    }

    #[test]
    fn what_assigns_nothing_is_refused() {
        for text in ["", "due_date", "=x", " =x", "rating:=four", "latitude=north"] {
            assert!(text.parse::<Assignment>().is_err(), "{text}");
        }
    }
}
