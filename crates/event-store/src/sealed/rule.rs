//! Which events are sealed, and with whose key. An event is judged alike when it is appended and when it is read.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Deserialize;
use uuid::Uuid;

use super::envelope::slot_of;
use super::{CHAIN_PREFIX, ENTRY_TYPE, ERASED_TYPE, SEALED_PREFIX};
use crate::event::{NewAppend, NewEvent, RecordedEvent, StreamAppend};
use crate::port::{AppendError, StoreError};
use crate::sqlite::failure::corrupt;

/// Whose key seals an event's data.
enum Sealing {
    /// Nobody's: it is not sealed.
    Plain,
    /// That of the stream the event is in.
    Own,
    /// That of the stream of this memory.
    OfMemory(Uuid),
}

/// An event of an append that is to be sealed.
pub(super) struct Planned {
    /// The index of its stream in the append, and its own there.
    pub(super) place: (usize, usize),
    /// The stream whose key seals it.
    pub(super) keyed: Arc<str>,
}

/// What an entry's metadata says of the memory that it is about.
#[derive(Deserialize)]
struct About {
    #[serde(default)]
    memory: Option<Uuid>,
}

/// Whether an event is sealed with the key of the stream that it is in.
pub(super) fn is_sealed(stream: &str, event_type: &str) -> bool {
    stream.starts_with(SEALED_PREFIX) && event_type != ERASED_TYPE
}

/// Whether an event is an entry, which is sealed with the key of a memory if its metadata names one.
pub(super) fn is_entry(stream: &str, event_type: &str) -> bool {
    event_type == ENTRY_TYPE && stream.starts_with(CHAIN_PREFIX)
}

/// Whether something erases its stream.
pub(super) fn erases(entry: &StreamAppend) -> bool {
    entry.stream.starts_with(SEALED_PREFIX) && entry.events.iter().any(|event| &*event.event_type == ERASED_TYPE)
}

fn sealing(stream: &str, event_type: &str, metadata: &[u8]) -> Result<Sealing, serde_json::Error> {
    if is_sealed(stream, event_type) {
        return Ok(Sealing::Own);
    }
    if !is_entry(stream, event_type) {
        return Ok(Sealing::Plain);
    }
    let about: About = serde_json::from_slice(metadata)?;
    Ok(about.memory.filter(|memory| !memory.is_nil()).map_or(Sealing::Plain, Sealing::OfMemory))
}

/// What of an append is to be sealed, in order.
pub(super) fn plan(append: &NewAppend) -> Result<Vec<Planned>, AppendError> {
    let mut names = HashMap::new();
    let mut plan = Vec::new();
    for (at, entry) in append.streams.iter().enumerate() {
        for (index, event) in entry.events.iter().enumerate() {
            let keyed = match planned(&entry.stream, event)? {
                Sealing::Plain => continue,
                Sealing::Own => Arc::clone(&entry.stream),
                Sealing::OfMemory(memory) => {
                    let name = || format!("{SEALED_PREFIX}{memory}").into();
                    Arc::clone(names.entry(memory).or_insert_with(name))
                }
            };
            plan.push(Planned { place: (at, index), keyed });
        }
    }
    Ok(plan)
}

fn planned(stream: &str, event: &NewEvent) -> Result<Sealing, AppendError> {
    sealing(stream, &event.event_type, &event.metadata).map_err(|error| {
        let id = event.id;
        AppendError::Invalid(format!(
            "the metadata of entry {id} does not tell which memory it is about ({error})"
        ))
    })
}

/// Which of these events are sealed, by index, and in which slots their keys are.
pub(super) fn sealed_events(events: &[RecordedEvent]) -> Result<Vec<(usize, u32)>, StoreError> {
    let mut sealed = Vec::new();
    for (index, event) in events.iter().enumerate() {
        match sealing(&event.stream, &event.event_type, &event.metadata) {
            Ok(Sealing::Plain) => {}
            Ok(Sealing::Own | Sealing::OfMemory(_)) => sealed.push((index, slot_of(&event.data)?)),
            Err(error) => {
                let position = event.position;
                return Err(corrupt(format!(
                    "the metadata of the entry at position {position} cannot be read ({error}); run `cairn verify`, \
                     then restore a backup"
                )));
            }
        }
    }
    Ok(sealed)
}
