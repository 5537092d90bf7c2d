//! Pages of answers and the cursors between them.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// How many items a page has when nobody asks for a number.
pub const DEFAULT_LIMIT: usize = 20;
/// The most items a page has, whatever is asked for.
pub const MAX_LIMIT: usize = 200;
/// The longest cursor that is looked at, in bytes.
pub const MAX_CURSOR_BYTES: usize = 4 * 1024;

/// Some items, and where the next ones begin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Paged<T> {
    /// The items, in the order asked for.
    pub items: Vec<T>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// A place in an ordered answer. Its text means nothing to anybody but the query that gave it.
///
/// It names the last item seen by its sort key and id, so that items that come or go elsewhere move nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cursor(String);

/// Why a query was not answered.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// No generation of the read model serves yet.
    #[error("the read model `{model}` is still being built; try again soon")]
    NotReady {
        /// The model.
        model: &'static str,
    },
    /// The cursor was not made by this query.
    #[error("the cursor does not belong to this query; start again without one")]
    InvalidCursor,
    /// A filter that cannot be answered.
    #[error("{0}")]
    InvalidFilter(String),
    /// The file holds something that this version does not write.
    #[error("the read model `{model}` is damaged: {reason}; rebuild it")]
    Corrupt {
        /// The model.
        model: &'static str,
        /// What was found.
        reason: String,
    },
    /// The file could not be read.
    #[error("the read model `{model}` could not be read")]
    Sqlite {
        /// The model.
        model: &'static str,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The server cannot be asked at the moment: it is gone, busy or going down. Trying again may help.
    #[error("the read model `{model}` cannot be reached at the moment")]
    Unavailable {
        /// The model.
        model: &'static str,
        /// What went wrong.
        source: sqlx::Error,
    },
    /// The query took longer than one may, and was cut off so that its connection serves others.
    #[error(
        "what was asked of the read model `{model}` takes too long; ask for less at a time, with a narrower filter"
    )]
    TooSlow {
        /// The model.
        model: &'static str,
    },
    /// The server refused the query.
    #[error("the read model `{model}` could not be read")]
    Postgres {
        /// The model.
        model: &'static str,
        /// What the server said.
        source: sqlx::Error,
    },
}

impl Cursor {
    /// A cursor as somebody gives it back. Whether it is one is seen when it is used.
    pub fn given(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Names a place in the answer to one query; `query` keeps it from being used with another.
    pub(crate) fn new(query: &str, place: &impl Serialize) -> Self {
        let json = serde_json::to_vec(&(query, place)).expect("places are plain values");
        Self(URL_SAFE_NO_PAD.encode(json))
    }

    pub(crate) fn place<T: DeserializeOwned>(&self, query: &str) -> Result<T, QueryError> {
        if self.0.len() > MAX_CURSOR_BYTES {
            return Err(QueryError::InvalidCursor);
        }
        let json = URL_SAFE_NO_PAD.decode(&self.0).map_err(|_| QueryError::InvalidCursor)?;
        let (given, place): (String, T) = serde_json::from_slice(&json).map_err(|_| QueryError::InvalidCursor)?;
        if given == query { Ok(place) } else { Err(QueryError::InvalidCursor) }
    }
}

/// How many items a page gets.
pub(crate) fn page_size(limit: Option<usize>) -> usize {
    limit.unwrap_or(DEFAULT_LIMIT).clamp(1, MAX_LIMIT)
}

/// Makes a page of rows that were asked for with one more than it holds.
pub(crate) fn paged<T>(mut items: Vec<T>, size: usize, cursor: impl FnOnce(&T) -> Cursor) -> Paged<T> {
    let more = items.len() > size;
    items.truncate(size);
    let next = if more { items.last().map(cursor) } else { None };
    Paged { items, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_only_where_it_was_made() {
        let cursor = Cursor::new("updated", &(5_i64, "id"));
        assert_eq!(cursor.place::<(i64, String)>("updated").expect("own"), (5, "id".to_owned()));
        assert!(matches!(cursor.place::<(i64, String)>("title"), Err(QueryError::InvalidCursor)));
        for odd in ["", "%%", "bnVsbA", &"A".repeat(10_000)] {
            assert!(Cursor::given(odd).place::<(i64, String)>("updated").is_err());
        }
    }
}
