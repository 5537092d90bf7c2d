//! Streams and types by their numbers, for reading.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use rusqlite::{Connection, OptionalExtension};

use super::failure::{corrupt, store_error};
use crate::event::Filter;
use crate::port::StoreError;

/// The event types seen so far. There are as many as the program knows, so none is ever dropped.
#[derive(Debug, Default)]
pub(super) struct TypeNames {
    by_id: RwLock<HashMap<i64, Arc<str>>>,
}

impl TypeNames {
    fn get(&self, connection: &Connection, id: i64) -> Result<Arc<str>, StoreError> {
        if let Some(name) = self.by_id.read().unwrap_or_else(PoisonError::into_inner).get(&id) {
            return Ok(name.clone());
        }
        let name = look_up(connection, "SELECT name FROM event_types WHERE id = ?1", "event type", id)?;
        self.by_id.write().unwrap_or_else(PoisonError::into_inner).insert(id, name.clone());
        Ok(name)
    }
}

/// The names of an event's stream and of its type.
pub(super) type Names = (Arc<str>, Arc<str>);

/// The names met while reading one page, and whether the filter lets them through: each is judged once.
pub(super) struct PageNames<'a> {
    connection: &'a Connection,
    types: &'a TypeNames,
    filter: &'a Filter,
    seen_types: HashMap<i64, (Arc<str>, bool)>,
    seen_streams: HashMap<i64, (Arc<str>, bool)>,
}

impl<'a> PageNames<'a> {
    pub(super) fn new(connection: &'a Connection, types: &'a TypeNames, filter: &'a Filter) -> Self {
        Self { connection, types, filter, seen_types: HashMap::new(), seen_streams: HashMap::new() }
    }

    /// The names of the stream and the type, if the filter lets both through.
    pub(super) fn passing(&mut self, stream_id: i64, type_id: i64) -> Result<Option<Names>, StoreError> {
        let (event_type, passes) = self.event_type(type_id)?;
        if !passes {
            return Ok(None);
        }
        let (stream, passes) = self.stream(stream_id)?;
        Ok(passes.then_some((stream, event_type)))
    }

    fn event_type(&mut self, id: i64) -> Result<(Arc<str>, bool), StoreError> {
        if let Some(known) = self.seen_types.get(&id) {
            return Ok(known.clone());
        }
        let name = self.types.get(self.connection, id)?;
        let passes = self.filter.type_passes(&name);
        self.seen_types.insert(id, (name.clone(), passes));
        Ok((name, passes))
    }

    fn stream(&mut self, id: i64) -> Result<(Arc<str>, bool), StoreError> {
        if let Some(known) = self.seen_streams.get(&id) {
            return Ok(known.clone());
        }
        let name = look_up(self.connection, "SELECT name FROM streams WHERE id = ?1", "stream", id)?;
        let passes = self.filter.stream_passes(&name);
        self.seen_streams.insert(id, (name.clone(), passes));
        Ok((name, passes))
    }
}

fn look_up(connection: &Connection, sql: &str, what: &str, id: i64) -> Result<Arc<str>, StoreError> {
    connection
        .prepare_cached(sql)
        .and_then(|mut statement| statement.query_row([id], |row| row.get(0)).optional())
        .map_err(|error| store_error(&error))?
        .ok_or_else(|| {
            corrupt(format!(
                "an event refers to {what} {id}, which is missing; run `cairn verify`, then restore a backup"
            ))
        })
}
