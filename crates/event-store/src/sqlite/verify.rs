//! Looking through the whole log for damage.

use std::path::Path;

use rusqlite::Connection;

use super::failure::store_error;
use super::names::TypeNames;
use super::reader::{Reader, last_position};
use super::recent::Recent;
use super::schema::{open_reader, owner};
use crate::event::Position;
use crate::port::StoreError;
use crate::verify::{Damage, Sequence, VERIFY_PROGRESS_EVERY, Verification, VerifyProgress};

/// Verifies a file, open or not.
pub(super) fn verify_file(path: &Path, progress: impl FnMut(VerifyProgress)) -> Result<Verification, StoreError> {
    let connection = open_reader(path).map_err(|error| store_error(&error))?;
    let opened =
        last_position(&connection).and_then(|head| Ok((head, owner(&connection).map_err(|e| store_error(&e))?)));
    let (head, brain) = match opened {
        Ok(opened) => opened,
        Err(StoreError::Corrupt { reason }) => {
            return Ok(Verification { events: 0, damage: Some(Damage { position: None, reason }) });
        }
        Err(error) => return Err(error),
    };
    let (types, recent) = (TypeNames::default(), Recent::default());
    verify(&Reader { connection: &connection, types: &types, brain, recent: &recent, head }, progress)
}

/// Verifies what the connection sees.
pub(super) fn verify(
    reader: &Reader<'_>,
    mut progress: impl FnMut(VerifyProgress),
) -> Result<Verification, StoreError> {
    // The events first: they tell the position, where the engine's own check can only name a page.
    let verification = verify_events(reader, &mut progress)?;
    if verification.damage.is_some() {
        return Ok(verification);
    }
    let damage = match check_pages(reader.connection)? {
        Some(damage) => Some(damage),
        None => check_index(reader.connection)?,
    };
    Ok(Verification { damage, ..verification })
}

fn verify_events(
    reader: &Reader<'_>,
    progress: &mut impl FnMut(VerifyProgress),
) -> Result<Verification, StoreError> {
    let damaged = |events: u64, reason: String| {
        Ok(Verification { events, damage: Some(Damage { position: Some(Position(events + 1)), reason }) })
    };
    let total = reader.head.cast_unsigned();
    let mut sequence = Sequence::default();
    let mut events = 0;
    while events < total {
        // One event at a time where a page fails, so that the sound ones before the damage are counted.
        let page = match reader.events_from(Position(events + 1)) {
            Err(StoreError::Corrupt { .. }) => reader.event_at(Position(events + 1)).map(|event| vec![event]),
            page => page,
        };
        let page = match page {
            Ok(page) => page,
            Err(StoreError::Corrupt { reason }) => return damaged(events, reason),
            Err(error) => return Err(error),
        };
        if page.is_empty() {
            return damaged(events, format!("position {} is missing", events + 1));
        }
        for event in page {
            if let Err(reason) = sequence.next(&event) {
                return damaged(events, reason);
            }
            events += 1;
            if events.is_multiple_of(VERIFY_PROGRESS_EVERY) {
                progress(VerifyProgress { events, total });
            }
        }
    }
    progress(VerifyProgress { events, total });
    Ok(Verification { events, damage: None })
}

/// Whether the index by stream has an entry for each event it claims to know.
fn check_index(connection: &Connection) -> Result<Option<Damage>, StoreError> {
    let sql = "SELECT through, (SELECT coalesce(sum(length(positions)), 0) / 8 FROM stream_index) FROM stream_index_state";
    let counted = connection.query_row(sql, [], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?)));
    let reason = match counted {
        Ok((through, entries)) if through == entries => return Ok(None),
        Ok((through, entries)) => format!("the index by stream has {entries} entries for {through} events"),
        Err(error) => match store_error(&error) {
            StoreError::Corrupt { reason } => reason,
            error @ StoreError::Unavailable { .. } => return Err(error),
        },
    };
    Ok(Some(Damage { position: None, reason }))
}

fn check_pages(connection: &Connection) -> Result<Option<Damage>, StoreError> {
    let reason = match connection.query_row("PRAGMA quick_check(1)", [], |row| row.get::<_, String>(0)) {
        Ok(answer) if answer == "ok" => return Ok(None),
        Ok(finding) => finding,
        Err(error) => match store_error(&error) {
            StoreError::Corrupt { reason } => reason,
            error @ StoreError::Unavailable { .. } => return Err(error),
        },
    };
    Ok(Some(Damage { position: None, reason }))
}

#[cfg(test)]
mod tests {
    use rusqlite::{Connection, params};

    use super::super::row::checksum;
    use crate::conformance::{BRAIN, Scene};
    use crate::event::{Position, RecordedEvent};
    use crate::sqlite::SqliteStore;

    /// Changes an event such that its checksum holds all the same: what only a fault in the writer could do.
    async fn forge(change: impl FnOnce(&mut RecordedEvent, &mut i64)) -> super::Verification {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.db");
        let store = std::sync::Arc::new(SqliteStore::open(&path, BRAIN).unwrap());
        let scene = Scene { store: store.clone(), prefix: "space-" };
        scene.fill("a", 6).await;
        let mut event = scene.log().await.remove(3);
        store.close().await;
        drop((scene, store));

        let (mut revision, position) = (event.revision.0.cast_signed(), event.position.0.cast_signed());
        change(&mut event, &mut revision);
        let recorded_at = event.recorded_at.timestamp_micros();
        let content = crate::NewEvent {
            id: event.id,
            event_type: event.event_type,
            schema_version: event.schema_version,
            data: event.data,
            metadata: event.metadata,
        };
        let checksum = checksum(position, &event.stream, revision, recorded_at, &content);
        let sql = "UPDATE events SET revision = ?1, recorded_at = ?2, checksum = ?3 WHERE position = ?4";
        let connection = Connection::open(&path).unwrap();
        connection.execute(sql, params![revision, recorded_at, checksum, position]).unwrap();
        drop(connection);
        SqliteStore::open(&path, BRAIN).unwrap().verify(|_| {}).await.unwrap()
    }

    #[tokio::test]
    async fn a_gap_in_a_stream_is_found() {
        let found = forge(|_, revision| *revision = 90).await;
        assert_eq!((found.events, found.damage.unwrap().position), (3, Some(Position(4))));
    }

    #[tokio::test]
    async fn time_that_steps_back_is_found() {
        let found = forge(|event, _| event.recorded_at -= chrono::TimeDelta::seconds(9)).await;
        assert_eq!((found.events, found.damage.unwrap().position), (3, Some(Position(4))));
    }

    #[tokio::test]
    async fn an_unchanged_log_is_sound() {
        let found = forge(|_, _| {}).await;
        assert_eq!((found.events, found.damage), (6, None));
    }
}
