//! What the notary promises: every change of the log is found, and where; an erasure is no change.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::future::ready;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cairn_event_store::notary::{Notarized, Notary, Noted, verify};
use cairn_event_store::sealed::{ENTRY_TYPE, ERASED_TYPE, Sealed};
use cairn_event_store::{
    Direction, EventStore, ExpectedRevision, Keyring, NewAppend, NewEvent, Position, Revision, SqliteStore,
    StreamAppend,
};
use ed25519_dalek::SigningKey;
use rusqlite::Connection;
use uuid::Uuid;

const BRAIN: Uuid = Uuid::from_u128(7);

/// A sealed log in a folder, and the notary's key.
struct Office {
    folder: tempfile::TempDir,
    key: SigningKey,
}

type Log = Arc<Sealed<SqliteStore>>;

impl Office {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), key: SigningKey::from_bytes(&[7; 32]) }
    }

    fn events(&self) -> PathBuf {
        self.folder.path().join("events.db")
    }

    fn notary(&self) -> PathBuf {
        self.folder.path().join("notary")
    }

    async fn open(&self) -> Log {
        let store = SqliteStore::open(self.events(), BRAIN).unwrap();
        let keyring = Keyring::open(self.folder.path().join("keys.db"), [1; 32]).unwrap();
        Arc::new(Sealed::open(store, keyring).await.unwrap())
    }

    /// Has everything signed that is in the log.
    async fn sign(&self, log: &Log) -> Noted {
        let (notary, noted) = Notary::new(Arc::clone(log), self.key.clone(), self.notary());
        notary.run(ready(())).await;
        noted.borrow().clone()
    }

    async fn verify(&self, log: &Log) -> Notarized {
        verify(log.store(), &self.notary(), &self.key.verifying_key(), |_| {}).await.unwrap()
    }

    /// Signs three times, and closes the log so that its file can be changed.
    async fn signed(&self) {
        let log = self.open().await;
        for round in 0..3 {
            for number in 0..10 {
                append(&log, &format!("memory-{}", number % 4), "fact", &format!("\"{round}-{number}\"")).await;
            }
            let noted = self.sign(&log).await;
            assert_eq!(noted.checkpoint.map(|checkpoint| checkpoint.size), Some((round + 1) * 10));
        }
        assert_eq!(self.verify(&log).await, Notarized { checkpoints: 3, events: 30, late: 0, damage: None });
        log.store().close().await;
    }

    /// What is found after the file was changed by hand.
    async fn after(&self, change: &str) -> Notarized {
        self.signed().await;
        Connection::open(self.events()).unwrap().execute_batch(change).unwrap();
        let log = self.open().await;
        self.verify(&log).await
    }
}

async fn append(log: &Log, stream: &str, event_type: &str, data: &str) {
    append_with(log, stream, event_type, data, "{}").await;
}

async fn append_with(log: &Log, stream: &str, event_type: &str, data: &str, metadata: &str) {
    let event = NewEvent {
        id: Uuid::now_v7(),
        event_type: event_type.into(),
        schema_version: 1,
        data: data.to_owned().into(),
        metadata: metadata.to_owned().into(),
    };
    let stream = StreamAppend { stream: stream.into(), expected: ExpectedRevision::Any, events: vec![event] };
    log.append(NewAppend { streams: vec![stream], tracking: None }).await.unwrap();
}

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = std::fs::read(path).unwrap();
    change(&mut bytes);
    std::fs::write(path, bytes).unwrap();
}

/// Changes the metadata of an event and gives it a checksum that fits, as somebody would who knows how the log is kept.
fn forge(path: &Path, position: i64) {
    const METADATA: &str = "{\"forged\":true}";
    let connection = Connection::open(path).unwrap();
    let sql = "SELECT s.name, e.revision, t.name, e.schema_version, e.recorded_at, e.id, e.data FROM events e \
               JOIN streams s ON s.id = e.stream_id JOIN event_types t ON t.id = e.type_id WHERE e.position = ?1";
    let checksum = connection.query_row(sql, [position], |row| {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&position.to_le_bytes());
        hasher.update(&row.get::<_, i64>(1)?.to_le_bytes());
        hasher.update(&row.get::<_, i64>(4)?.to_le_bytes());
        hasher.update(&row.get::<_, u16>(3)?.to_le_bytes());
        hasher.update(&row.get::<_, Vec<u8>>(5)?);
        let (stream, event_type): (String, String) = (row.get(0)?, row.get(2)?);
        for part in [stream.as_bytes(), event_type.as_bytes(), &row.get::<_, Vec<u8>>(6)?, METADATA.as_bytes()] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        Ok(hasher.finalize())
    });
    let changed = (METADATA.as_bytes(), checksum.unwrap(), position);
    connection.execute("UPDATE events SET metadata = ?1, checksum = ?2 WHERE position = ?3", changed).unwrap();
}

#[tokio::test]
async fn a_forged_event_is_named() {
    let office = Office::new();
    office.signed().await;
    forge(&office.events(), 14);
    let log = office.open().await;
    assert_eq!(log.store().verify(|_| {}).await.unwrap().damage, None, "it is sound in itself");
    let found = office.verify(&log).await;
    assert_eq!((found.checkpoints, found.events), (1, 10));
    assert_eq!(found.damage.expect("it is found").position, Some(Position(14)));
}

#[tokio::test]
async fn a_forged_event_whose_hash_was_forged_too_is_found_all_the_same() {
    let office = Office::new();
    office.signed().await;
    forge(&office.events(), 14);
    let log = office.open().await;
    // Whoever can change the log can have a notary with another key note it anew.
    let elsewhere = Office { folder: tempfile::tempdir().unwrap(), key: SigningKey::from_bytes(&[8; 32]) };
    let (notary, _) = Notary::new(Arc::clone(&log), elsewhere.key.clone(), elsewhere.notary());
    notary.run(ready(())).await;
    std::fs::copy(elsewhere.notary().join("leaves"), office.notary().join("leaves")).unwrap();
    let damage = office.verify(&log).await.damage.expect("it is found");
    assert_eq!(damage.position, Some(Position(11)), "{damage:?}");
    assert!(
        damage.reason.contains("one of the events from 11 to 20 is not the one that was signed"),
        "{damage:?}"
    );
}

/// A change that the store's own checksum tells is damage, found by another check. This one is sound in itself.
#[tokio::test]
async fn another_log_in_the_place_of_the_one_that_was_signed_is_found() {
    let (real, forged) = (Office::new(), Office::new());
    real.signed().await;
    let log = forged.open().await;
    for round in 0..3 {
        for number in 0..10 {
            append(&log, &format!("memory-{}", number % 4), "fact", &format!("\"{round}-{number}\"")).await;
        }
    }
    log.store().close().await;
    drop(log);
    // It says the same, but under other ids, at other times and with other keys.
    std::fs::copy(forged.events(), real.events()).unwrap();
    std::fs::copy(forged.folder.path().join("keys.db"), real.folder.path().join("keys.db")).unwrap();
    let log = real.open().await;
    let damage = real.verify(&log).await.damage.expect("it is found");
    assert_eq!(damage.position, Some(Position(1)), "{damage:?}");
}

#[tokio::test]
async fn events_that_were_removed_at_the_end_are_missed() {
    let office = Office::new();
    let found = office.after("DELETE FROM events WHERE position > 25").await;
    assert_eq!((found.checkpoints, found.events), (2, 20));
    let damage = found.damage.expect("it is found");
    assert_eq!(damage.position, Some(Position(26)), "{damage:?}");
    assert!(damage.reason.contains("from 26 to 30 were signed and are missing"), "{damage:?}");
    // And the notary signs no shorter log over it.
    let log = office.open_again().await;
    let problem = office.sign(&log).await.problem.expect("it refuses");
    assert!(problem.contains("30 events were signed, 25 are there"), "{problem}");
}

impl Office {
    /// Opens the log once whoever had it has closed it.
    async fn open_again(&self) -> Log {
        for _ in 0..100 {
            if let Ok(store) = SqliteStore::open(self.events(), BRAIN) {
                let keyring = Keyring::open(self.folder.path().join("keys.db"), [1; 32]).unwrap();
                return Arc::new(Sealed::open(store, keyring).await.unwrap());
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        panic!("the log stays in use");
    }
}

#[tokio::test]
async fn an_erasure_changes_nothing_that_was_signed() {
    let office = Office::new();
    let log = office.open().await;
    let memory = Uuid::now_v7();
    let stream = format!("memory-{memory}");
    append(&log, &stream, "fact", "\"secret\"").await;
    append_with(&log, "space-1", ENTRY_TYPE, "\"secret\"", &format!("{{\"memory\":\"{memory}\"}}")).await;
    append(&log, "memory-2", "fact", "\"other\"").await;
    office.sign(&log).await;
    append(&log, &stream, ERASED_TYPE, "{}").await;
    office.sign(&log).await;
    for erased in [&*stream, "space-1"] {
        let read = log.read_stream(erased, Revision(0), Direction::Forwards, 1);
        assert!(read.await.unwrap()[0].erased, "{erased}");
    }
    assert_eq!(office.verify(&log).await, Notarized { checkpoints: 2, events: 4, late: 0, damage: None });
}

#[tokio::test]
async fn a_root_that_another_key_signed_does_not_count() {
    let office = Office::new();
    office.signed().await;
    let log = office.open().await;
    let other = SigningKey::from_bytes(&[8; 32]).verifying_key();
    let found = verify(log.store(), &office.notary(), &other, |_| {}).await.unwrap();
    let damage = found.damage.expect("it is found");
    assert!(damage.reason.contains("does not carry this brain's signature"), "{damage:?}");
}

#[tokio::test]
async fn a_root_that_was_changed_does_not_count() {
    let office = Office::new();
    office.signed().await;
    edit(&office.notary().join("checkpoints.jsonl"), |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        let second = text.lines().nth(1).unwrap().replacen("\"size\":20", "\"size\":19", 1);
        let lines: Vec<&str> =
            text.lines().enumerate().map(|(at, line)| if at == 1 { &*second } else { line }).collect();
        *bytes = (lines.join("\n") + "\n").into_bytes();
    });
    let log = office.open().await;
    let found = office.verify(&log).await;
    assert_eq!((found.checkpoints, found.events), (1, 10));
    assert!(found.damage.expect("it is found").reason.contains("signature"));
}

#[tokio::test]
async fn what_a_crash_cut_off_is_written_again() {
    let office = Office::new();
    office.signed().await;
    // Half a hash and half a line: neither was ever vouched for.
    edit(&office.notary().join("leaves"), |bytes| bytes.extend([1; 45]));
    edit(&office.notary().join("checkpoints.jsonl"), |bytes| bytes.extend(b"{\"size\":31,\"ro"));
    let log = office.open().await;
    append(&log, "memory-9", "fact", "1").await;
    let noted = office.sign(&log).await;
    assert!(noted.problem.is_none(), "{:?}", noted.problem);
    assert_eq!(office.verify(&log).await, Notarized { checkpoints: 4, events: 31, late: 0, damage: None });
}

#[tokio::test]
async fn hashes_that_are_gone_are_missed() {
    let office = Office::new();
    office.signed().await;
    edit(&office.notary().join("leaves"), |bytes| bytes.truncate(25 * 32));
    let log = office.open().await;
    let problem = office.sign(&log).await.problem.expect("it refuses");
    assert!(problem.contains("30 events were signed, 25 hashes are kept"), "{problem}");
}

#[tokio::test]
async fn the_next_start_goes_on_where_the_last_one_ended() {
    let office = Office::new();
    office.signed().await;
    let log = office.open().await;
    assert_eq!(office.sign(&log).await.checkpoint.map(|checkpoint| checkpoint.size), Some(30));
    append(&log, "memory-1", "fact", "1").await;
    office.sign(&log).await;
    assert_eq!(office.verify(&log).await, Notarized { checkpoints: 4, events: 31, late: 0, damage: None });
}

#[tokio::test]
async fn a_running_notary_signs_within_a_second() {
    let office = Office::new();
    let log = office.open().await;
    let (notary, mut noted) = Notary::new(Arc::clone(&log), office.key.clone(), office.notary());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(notary.run(async move { drop(ended.await) }));
    for number in 1..=3 {
        append(&log, "memory-1", "fact", "1").await;
        let signed = noted.wait_for(|noted| noted.checkpoint.as_ref().is_some_and(|signed| signed.size >= number));
        tokio::time::timeout(std::time::Duration::from_secs(5), signed).await.expect("it signs").unwrap();
    }
    append(&log, "memory-1", "fact", "the last one").await;
    drop(end);
    running.await.unwrap();
    assert_eq!(office.verify(&log).await.events, 4);
}

#[tokio::test]
async fn a_verification_beside_a_running_notary_finds_no_damage() {
    let office = Office::new();
    let log = office.open().await;
    let (notary, _) = Notary::new(Arc::clone(&log), office.key.clone(), office.notary());
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(notary.run(async move { drop(ended.await) }));
    for round in 0..60 {
        for number in 0..50 {
            append(&log, &format!("memory-{number}"), "fact", "1").await;
        }
        let found = office.verify(&log).await;
        assert_eq!((found.damage, found.late), (None, 0), "in round {round}");
    }
    drop(end);
    running.await.unwrap();
}
