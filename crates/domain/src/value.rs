//! The value of a field: a scalar, a list of scalars, or explicitly empty.

use std::fmt;

use serde::de::{DeserializeSeed, Error as DeError, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value as Json;

/// A value as a claim states it.
///
/// Its JSON form is the natural one: `null`, `true`, `12`, `"text"`, `["a", "b"]`. Dates, times and
/// references to memories are texts whose shape the field's type checks (see [`crate::kind`]).
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Explicitly empty: a cleared field. It wins or loses like any other value (rule T7).
    Empty,
    /// Yes or no.
    Flag(bool),
    /// A whole number.
    Integer(i64),
    /// Any other number; never NaN or infinite.
    Decimal(f64),
    /// Text, at most [`MAX_TEXT_BYTES`] long.
    Text(String),
    /// Several scalars, at most [`MAX_LIST_ITEMS`].
    List(Vec<Value>),
}

/// The longest text a value may hold, in bytes. Longer texts belong in the body.
pub const MAX_TEXT_BYTES: usize = 64 * 1024;

/// The most items a list may hold.
pub const MAX_LIST_ITEMS: usize = 1_000;

/// A JSON value that no field may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidValue {
    /// An object, or a list inside a list.
    #[error("a field holds a scalar or a list of scalars, not {0}")]
    Nested(&'static str),
    /// A number that is neither a 64-bit integer nor a finite decimal.
    #[error("the number is out of range")]
    Number,
    /// A text past the limit.
    #[error("a text of {bytes} bytes is longer than the {MAX_TEXT_BYTES} a field may hold; put it into the body")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// A list past the limit.
    #[error("a list of {items} items is longer than the {MAX_LIST_ITEMS} a field may hold")]
    TooMany {
        /// Its length.
        items: usize,
    },
}

impl Value {
    /// The text inside, if it is one.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Whether the value is explicitly empty.
    pub fn is_empty(&self) -> bool {
        matches!(self, Self::Empty)
    }

    /// How a person reads it on one line.
    pub fn display(&self) -> String {
        match self {
            Self::Empty => String::new(),
            Self::Flag(flag) => flag.to_string(),
            Self::Integer(number) => number.to_string(),
            Self::Decimal(number) => number.to_string(),
            Self::Text(text) => text.clone(),
            Self::List(items) => items.iter().map(Self::display).collect::<Vec<_>>().join(", "),
        }
    }

    /// Checks the limits that reading a value from JSON enforces, for one that was made otherwise. What is written
    /// past them could not be read again.
    ///
    /// # Errors
    /// When a text or a list is too long, or a list holds a list.
    pub fn check_limits(&self) -> Result<(), InvalidValue> {
        match self {
            Self::Text(text) if text.len() > MAX_TEXT_BYTES => Err(InvalidValue::TooLong { bytes: text.len() }),
            Self::Decimal(number) if !number.is_finite() => Err(InvalidValue::Number),
            Self::List(items) if items.len() > MAX_LIST_ITEMS => Err(InvalidValue::TooMany { items: items.len() }),
            Self::List(items) => items.iter().try_for_each(|item| match item {
                Self::List(_) => Err(InvalidValue::Nested("a list inside a list")),
                scalar => scalar.check_limits(),
            }),
            _ => Ok(()),
        }
    }

    fn scalar(json: Json) -> Result<Self, InvalidValue> {
        match json {
            Json::Null => Ok(Self::Empty),
            Json::Bool(flag) => Ok(Self::Flag(flag)),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(integer), _) => Ok(Self::Integer(integer)),
                (None, Some(decimal)) if decimal.is_finite() => Ok(Self::Decimal(decimal)),
                _ => Err(InvalidValue::Number),
            },
            Json::String(text) if text.len() > MAX_TEXT_BYTES => Err(InvalidValue::TooLong { bytes: text.len() }),
            Json::String(text) => Ok(Self::Text(text)),
            Json::Array(_) => Err(InvalidValue::Nested("a list inside a list")),
            Json::Object(_) => Err(InvalidValue::Nested("an object")),
        }
    }
}

impl TryFrom<Json> for Value {
    type Error = InvalidValue;

    fn try_from(json: Json) -> Result<Self, InvalidValue> {
        match json {
            Json::Array(items) if items.len() > MAX_LIST_ITEMS => {
                Err(InvalidValue::TooMany { items: items.len() })
            }
            Json::Array(items) => items.into_iter().map(Self::scalar).collect::<Result<_, _>>().map(Self::List),
            scalar => Self::scalar(scalar),
        }
    }
}

impl From<&Value> for Json {
    fn from(value: &Value) -> Self {
        match value {
            Value::Empty => Self::Null,
            Value::Flag(flag) => Self::Bool(*flag),
            Value::Integer(number) => Self::from(*number),
            Value::Decimal(number) => Self::from(*number),
            Value::Text(text) => Self::String(text.clone()),
            Value::List(items) => Self::Array(items.iter().map(Self::from).collect()),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Empty => serializer.serialize_unit(),
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Decimal(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor { nested: false })
    }
}

/// Reads values directly, because a detour over [`Json`] costs most of the time a snapshot takes to load.
struct ValueVisitor {
    nested: bool,
}

impl<'de> DeserializeSeed<'de> for ValueVisitor {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a scalar or a list of scalars")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Empty)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Empty)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Integer(number))
    }

    fn visit_u64<E: DeError>(self, number: u64) -> Result<Value, E> {
        match i64::try_from(number) {
            Ok(number) => Ok(Value::Integer(number)),
            Err(_) => Ok(Value::Decimal(number as f64)),
        }
    }

    fn visit_f64<E: DeError>(self, number: f64) -> Result<Value, E> {
        if number.is_finite() { Ok(Value::Decimal(number)) } else { Err(E::custom(InvalidValue::Number)) }
    }

    fn visit_str<E: DeError>(self, text: &str) -> Result<Value, E> {
        self.visit_string(text.to_owned())
    }

    fn visit_string<E: DeError>(self, text: String) -> Result<Value, E> {
        Value::scalar(Json::String(text)).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        if self.nested {
            return Err(A::Error::custom(InvalidValue::Nested("a list inside a list")));
        }
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Self { nested: true })? {
            items.push(item);
            if items.len() > MAX_LIST_ITEMS {
                return Err(A::Error::custom(InvalidValue::TooMany { items: items.len() }));
            }
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<Value, A::Error> {
        Err(A::Error::custom(InvalidValue::Nested("an object")))
    }
}

#[cfg(test)]
mod tests;
