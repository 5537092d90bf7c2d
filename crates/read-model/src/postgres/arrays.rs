//! Columns of many rows as arrays, in PostgreSQL's binary format.
//!
//! One statement takes a whole batch of a table this way. COPY would be quicker still, but it is not there for tables
//! with row-level security.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgTypeInfo};
use sqlx::{Encode, Postgres, Type};
use uuid::Uuid;

use super::storable_time;
use crate::table::{Cell, Column, Kind};

/// Seconds from 1970 to 2000, where PostgreSQL's times begin.
const EPOCH_SECONDS: i64 = 946_684_800;

/// The values of a column, one for each row.
#[derive(Debug)]
pub(super) struct Array {
    column: Column,
    count: u32,
    has_nulls: bool,
    elements: Vec<u8>,
}

impl Array {
    pub(super) fn new(column: Column) -> Self {
        Self { column, count: 0, has_nulls: false, elements: Vec::new() }
    }

    /// How many bytes it holds.
    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    pub(super) fn push(&mut self, cell: &Cell<'_>) {
        self.count += 1;
        match (self.column.kind, *cell) {
            (_, Cell::Null) => {
                self.has_nulls = true;
                self.elements.extend((-1_i32).to_be_bytes());
            }
            (Kind::Id, Cell::Id(id)) => self.element(&id),
            (Kind::Text, Cell::Text(text)) => {
                self.element(cut(&storable(text), self.column.bound).as_bytes());
            }
            (Kind::Number, Cell::Number(number)) => self.element(&number.to_be_bytes()),
            (Kind::Truth, Cell::Truth(level)) => self.element(&i16::from(level).to_be_bytes()),
            (Kind::Flag, Cell::Flag(flag)) => self.element(&[u8::from(flag)]),
            (Kind::Time, Cell::Time(millis)) => self.element(&micros(millis).to_be_bytes()),
            (Kind::Real, Cell::Real(number)) => self.element(&number.to_be_bytes()),
            (kind, cell) => unreachable!("the column {} of {kind:?} was given {cell:?}", self.column.name),
        }
    }

    fn element(&mut self, bytes: &[u8]) {
        let length = i32::try_from(bytes.len()).expect("texts are bounded far below this");
        self.elements.extend(length.to_be_bytes());
        self.elements.extend(bytes);
    }
}

/// PostgreSQL's texts hold any character but U+0000; the replacement character stands for it.
pub(super) fn storable(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => Cow::Owned(text.replace('\0', "\u{fffd}")),
        false => Cow::Borrowed(text),
    }
}

/// As much of a text as fits into so many bytes.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

fn micros(millis: i64) -> i64 {
    let time = storable_time(millis);
    (time.timestamp() - EPOCH_SECONDS) * 1_000_000 + i64::from(time.timestamp_subsec_micros())
}

/// The object id of an element's type, from PostgreSQL's `pg_type.dat`; they never change.
fn element_type(kind: Kind) -> u32 {
    match kind {
        Kind::Id => 2950,
        Kind::Text => 25,
        Kind::Number => 20,
        Kind::Truth => 21,
        Kind::Flag => 16,
        Kind::Time => 1184,
        Kind::Real => 701,
    }
}

impl Type<Postgres> for Array {
    fn type_info() -> PgTypeInfo {
        // Every array says its own type when it is bound.
        <Vec<String> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Array {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        let dimensions = 1_i32;
        buffer.extend(dimensions.to_be_bytes());
        buffer.extend(i32::from(self.has_nulls).to_be_bytes());
        buffer.extend(element_type(self.column.kind).to_be_bytes());
        buffer.extend(self.count.to_be_bytes());
        let lower_bound = 1_i32;
        buffer.extend(lower_bound.to_be_bytes());
        buffer.extend(&self.elements);
        Ok(IsNull::No)
    }

    fn produces(&self) -> Option<PgTypeInfo> {
        Some(match self.column.kind {
            Kind::Id => <Vec<Uuid> as Type<Postgres>>::type_info(),
            Kind::Text => <Vec<String> as Type<Postgres>>::type_info(),
            Kind::Number => <Vec<i64> as Type<Postgres>>::type_info(),
            Kind::Truth => <Vec<i16> as Type<Postgres>>::type_info(),
            Kind::Flag => <Vec<bool> as Type<Postgres>>::type_info(),
            Kind::Time => <Vec<DateTime<Utc>> as Type<Postgres>>::type_info(),
            Kind::Real => <Vec<f64> as Type<Postgres>>::type_info(),
        })
    }

    fn size_hint(&self) -> usize {
        self.elements.len() + 20
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_made_storable() {
        assert_eq!(storable("a\0b"), "a\u{fffd}b");
        assert!(matches!(storable("plain"), Cow::Borrowed(_)));
        assert_eq!(cut("äöü", 3), "ä");
        assert_eq!(cut("äöü", usize::MAX), "äöü");
    }

    #[test]
    fn times_count_from_2000() {
        assert_eq!(micros(EPOCH_SECONDS * 1_000), 0);
        assert_eq!(micros(EPOCH_SECONDS * 1_000 - 1), -1_000);
        assert!(micros(i64::MAX) > 0 && micros(i64::MIN) < 0);
    }
}
