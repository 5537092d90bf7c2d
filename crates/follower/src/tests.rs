//! A primary and its followers over loopback, in one process.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_event_store::event::{ExpectedRevision, NewAppend, NewEvent, StreamAppend};
use cairn_event_store::{Direction, EventStore, Filter, Keyring, Position, Sealed, SqliteStore, Tracking};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::error::FollowError;
use crate::gate::{Gate, Guarded, SYNC_PATIENCE, Synchrony};
use crate::key::Machine;
use crate::link::FollowLink;
use crate::primary::{Primary, PrimaryConfig};
use crate::standby::{Line, Paired, Standby, StandbyConfig, StandbyStatus, TakenOver, fence, pair};
use crate::state::{Folder, Role};
use crate::wire::{Answer, Call, MAX_MESSAGE_BYTES};

const BRAIN: Uuid = Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0001);
const BRAIN_KEY: [u8; 32] = [9; 32];
const WRAPPING_KEY: [u8; 32] = [3; 32];
/// How long anything here may take. Far more than it needs.
const PATIENCE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);

/// A node that may be followed.
struct Node {
    folder: Folder,
    log: Arc<Sealed<Guarded>>,
    store: Arc<SqliteStore>,
    gate: Arc<Gate>,
    primary: Primary,
}

impl Node {
    async fn open(path: &Path, synchronous: bool) -> Self {
        let folder = Folder::of(path);
        std::fs::create_dir_all(folder.log()).expect("made");
        let keyring = Keyring::open(folder.log().join("keys.db"), WRAPPING_KEY).expect("keys");
        let store = Arc::new(SqliteStore::open(folder.log().join("events.db"), BRAIN).expect("log"));
        let gate = Gate::open(folder.clone(), synchronous).expect("gate");
        let guarded = Guarded::new(Arc::clone(&store), Arc::clone(&gate));
        let log = Arc::new(Sealed::open(guarded, keyring).await.expect("sealed"));
        let config = PrimaryConfig {
            brain: BRAIN,
            brain_key: Zeroizing::new(BRAIN_KEY),
            name: "primary".into(),
            listen: None,
            port: 0,
            announce: Vec::new(),
        };
        let began = Instant::now();
        let primary = loop {
            let (folder, gate) = (folder.clone(), Arc::clone(&gate));
            let (store, log) = (Arc::clone(&store), Arc::clone(&log));
            match Primary::start(config.clone(), folder, gate, store, log, CancellationToken::new()) {
                Ok(primary) => break primary,
                // The socket of the one before, in this process, is closed a moment after it has ended.
                Err(FollowError::Network(_)) if began.elapsed() < PATIENCE => {}
                Err(error) => panic!("{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        Self { folder, log, store, gate, primary }
    }

    fn link(&self) -> FollowLink {
        self.primary.invite(HOUR).expect("invited")
    }

    async fn append(&self, memory: u32, count: usize) -> Result<u64, cairn_event_store::AppendError> {
        let appended = self.log.append(append(memory, count)).await?;
        Ok(appended.position.0)
    }

    /// Ends at once, as far as that is possible in one process.
    async fn end(self) {
        self.primary.ended().await;
        self.store.close().await;
    }
}

fn append(memory: u32, count: usize) -> NewAppend {
    let event = || NewEvent {
        id: Uuid::now_v7(),
        event_type: "memory.captured".into(),
        schema_version: 1,
        data: format!("{{\"said\":\"{}\"}}", "x".repeat(200)).into(),
        metadata: bytes::Bytes::from_static(b"{\"by\":1}"),
    };
    let events = (0..count).map(|_| event()).collect();
    let stream = format!("memory-{memory}").into();
    let streams = vec![StreamAppend { stream, expected: ExpectedRevision::Any, events }];
    NewAppend { streams, tracking: None }
}

fn erase(memory: u32) -> NewAppend {
    let mut append = append(memory, 1);
    append.streams[0].events[0].event_type = "memory.erased".into();
    append
}

/// A standby in a folder of its own.
struct Other {
    path: TempDir,
    folder: Folder,
}

struct Running {
    standby: Arc<Standby>,
    store: Arc<SqliteStore>,
    log: Arc<Sealed<Guarded>>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), FollowError>>,
}

impl Other {
    fn new() -> Self {
        let path = tempfile::tempdir().expect("a folder");
        let folder = Folder::of(path.path());
        std::fs::create_dir_all(folder.log()).expect("made");
        Self { path, folder }
    }

    async fn pair(&self, link: &FollowLink) -> Result<Paired, FollowError> {
        let paired = pair(&self.folder.machine().expect("a key"), link, "standby").await?;
        assert_eq!(*paired.brain_key, BRAIN_KEY);
        self.folder.follow(&paired, false).expect("written");
        Ok(paired)
    }

    async fn open(&self) -> Opened {
        open(&self.folder).await
    }

    async fn run(&self) -> Running {
        Running::of(self.open().await)
    }
}

/// A standby with its log.
struct Opened {
    standby: Arc<Standby>,
    store: Arc<SqliteStore>,
    log: Arc<Sealed<Guarded>>,
}

async fn open(folder: &Folder) -> Opened {
    folder.make_way().expect("put away");
    let keyring = Keyring::open(folder.log().join("keys.db"), WRAPPING_KEY).expect("keys");
    let store = Arc::new(SqliteStore::open(folder.log().join("events.db"), BRAIN).expect("log"));
    let gate = Gate::open(folder.clone(), false).expect("gate");
    let log = Arc::new(Sealed::open(Guarded::new(Arc::clone(&store), gate), keyring).await.expect("sealed"));
    let config = StandbyConfig { brain: BRAIN, name: "standby".into(), listen: None };
    let standby = Standby::open(config, folder.clone(), Arc::clone(&store), Arc::clone(&log)).await;
    Opened { standby: Arc::new(standby.expect("a standby")), store, log }
}

impl Running {
    fn of(opened: Opened) -> Self {
        let Opened { standby, store, log } = opened;
        let stop = CancellationToken::new();
        let (running, ended) = (Arc::clone(&standby), stop.clone());
        let task = tokio::spawn(async move { running.run(&ended).await });
        Self { standby, store, log, stop, task }
    }

    async fn until(&self, what: impl Fn(&StandbyStatus) -> bool) -> StandbyStatus {
        let began = Instant::now();
        loop {
            let status = self.standby.status();
            if what(&status) {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "{status:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) -> Result<(), FollowError> {
        self.stop.cancel();
        let ended = self.task.await.expect("no panic");
        self.store.close().await;
        ended
    }

    /// Drops everything where it is, without a word to anybody.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
        self.store.close().await;
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Every row of the tables that matter, as bytes.
fn tables(folder: &Folder) -> Vec<String> {
    let connection = rusqlite::Connection::open(folder.log().join("events.db")).expect("opens");
    let rows = |sql: &str| {
        let mut select = connection.prepare(sql).expect("prepared");
        let columns = select.column_count();
        let read = |row: &rusqlite::Row<'_>| {
            (0..columns)
                .map(|index| row.get_ref(index).map(|value| format!("{value:?}|")))
                .collect::<Result<String, _>>()
        };
        let rows = select.query_map([], read).expect("queried");
        rows.map(|row| row.expect("a row")).collect::<Vec<_>>()
    };
    let tables =
        ["events ORDER BY position", "streams ORDER BY id", "event_types ORDER BY id", "tracking ORDER BY source"];
    let mut all = rows("SELECT id FROM brain");
    all.extend(tables.iter().flat_map(|table| rows(&format!("SELECT * FROM {table}"))));
    all
}

fn slots(folder: &Folder) -> Vec<u32> {
    let connection = rusqlite::Connection::open(folder.log().join("keys.db")).expect("opens");
    let mut select = connection.prepare("SELECT slot FROM slots ORDER BY slot").expect("prepared");
    let rows = select.query_map([], |row| row.get(0)).expect("queried");
    rows.map(|slot| slot.expect("a slot")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_has_what_its_primary_has_to_the_byte_from_the_first_event_to_the_last() {
    let path = tempfile::tempdir().expect("a folder");
    let node = Node::open(path.path(), false).await;
    for memory in 0..30 {
        node.append(memory, 200).await.expect("appended");
    }
    std::fs::write(path.path().join("tokens.json"), "[1]").expect("written");
    let other = Other::new();
    other.pair(&node.link()).await.expect("paired");
    let running = other.run().await;
    running.until(|status| status.whole && status.has.position == 6_000).await;
    for memory in 20..40 {
        node.append(memory, 1).await.expect("appended");
    }
    let mut tracked = append(7, 1);
    tracked.tracking = Some(Tracking { source: "kafka/a/0".into(), position: 41 });
    node.log.append(tracked).await.expect("appended");
    let alone =
        NewAppend { streams: vec![], tracking: Some(Tracking { source: "kafka/a/1".into(), position: 1 }) };
    node.log.append(alone).await.expect("appended");
    running.until(|status| status.has.position == 6_021).await;
    let log = Arc::clone(&running.log);
    let tracking = async |source: &str| log.tracking(source).await.expect("read");
    while tracking("kafka/a/1").await != Some(1) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(tracking("kafka/a/0").await, Some(41));
    until("tokens", || std::fs::read(other.path.path().join("tokens.json")).is_ok_and(|tokens| tokens == b"[1]"))
        .await;
    let event = log.read_all(Position(1), Direction::Forwards, &Filter::default(), 1).await.expect("read");
    assert!(event.events[0].data.starts_with(b"{\"said\""), "it has the keys");
    running.end().await.expect("ended");
    let view = node.primary.view();
    assert_eq!((view.followers[0].position, view.followers[0].lag_events), (6_021, 0));
    assert_eq!(tables(&node.folder), tables(&other.folder));
    assert_eq!(slots(&node.folder), slots(&other.folder));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_or_killed_goes_on_where_it_was() {
    let path = tempfile::tempdir().expect("a folder");
    let node = Arc::new(Node::open(path.path(), false).await);
    let writing = {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            for round in 0..150 {
                node.append(round % 40, 100).await.expect("appended");
            }
        })
    };
    let other = Other::new();
    other.pair(&node.link()).await.expect("paired");
    let mut had = 0;
    for round in 0..12_u64 {
        let running = other.run().await;
        let began = running.standby.status().has.position;
        assert!(began >= had, "what was on disk stays");
        let wanted = began + 1;
        if round < 11 && began < 15_000 {
            running.until(|status| status.has.position >= wanted.min(15_000)).await;
        }
        had = running.standby.status().has.position;
        running.kill().await;
    }
    writing.await.expect("written");
    let running = other.run().await;
    running.until(|status| status.whole && status.has.position == 15_000).await;
    running.end().await.expect("ended");
    assert_eq!(tables(&node.folder), tables(&other.folder));
    Arc::into_inner(node).expect("nobody else has it").end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_is_erased_on_the_follower_and_does_not_come_back() {
    let path = tempfile::tempdir().expect("a folder");
    let node = Node::open(path.path(), false).await;
    for memory in 0..5 {
        node.append(memory, 2).await.expect("appended");
    }
    node.log.append(erase(1)).await.expect("erased before it follows");
    let other = Other::new();
    other.pair(&node.link()).await.expect("paired");
    let running = other.run().await;
    running.until(|status| status.has.position == 11).await;
    node.log.append(erase(3)).await.expect("erased while it follows");
    running.until(|status| status.has.position == 12).await;
    assert_eq!(slots(&other.folder), slots(&node.folder));
    running.kill().await;
    std::fs::write(other.path.path().join("replication/status.json"), "").expect("as after a power cut");
    let running = other.run().await;
    node.append(9, 1).await.expect("appended");
    running.until(|status| status.has.position == 13).await;
    let page = running.log.read_all(Position(1), Direction::Forwards, &Filter::default(), 99).await;
    let gone: Vec<u64> = page.expect("read").events.iter().filter(|e| e.erased).map(|e| e.position.0).collect();
    assert_eq!(gone, [3, 4, 7, 8]);
    running.end().await.expect("ended");
    assert_eq!(slots(&other.folder).len(), slots(&node.folder).len());
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_synchronous_mode_what_is_acknowledged_is_on_the_follower() {
    let path = tempfile::tempdir().expect("a folder");
    let node = Node::open(path.path(), true).await;
    assert!(matches!(*node.gate.synchrony().borrow(), Synchrony::Alone { .. }));
    node.append(1, 1).await.expect("alone it goes on");
    let other = Other::new();
    other.pair(&node.link()).await.expect("paired");
    let running = other.run().await;
    let synchrony = node.gate.synchrony();
    until("in step", || *synchrony.borrow() == Synchrony::Synchronous).await;
    for round in 0..50 {
        let position = node.append(round, 1).await.expect("appended");
        assert!(running.log.head().borrow().0 >= position);
    }
    running.kill().await;
    let began = Instant::now();
    node.append(1, 1).await.expect("it is made all the same");
    assert!(began.elapsed() >= SYNC_PATIENCE && began.elapsed() < SYNC_PATIENCE * 3);
    assert!(matches!(*synchrony.borrow(), Synchrony::Alone { .. }), "and it is said");
    let began = Instant::now();
    node.append(1, 1).await.expect("appended");
    assert!(began.elapsed() < SYNC_PATIENCE, "nobody waits for a follower that is gone");
    let running = other.run().await;
    until("in step again", || *synchrony.borrow() == Synchrony::Synchronous).await;
    running.end().await.expect("ended");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_another_is_refused() {
    let path = tempfile::tempdir().expect("a folder");
    let node = Node::open(path.path(), false).await;
    node.append(1, 3).await.expect("appended");
    let other = Other::new();
    other.pair(&node.link()).await.expect("paired");
    let standby = other.open().await;
    let own = append(1, 3).streams.remove(0);
    let plain = NewAppend { streams: vec![StreamAppend { stream: "plain".into(), ..own }], tracking: None };
    let refused = standby.log.append(plain.clone()).await.expect_err("it follows").to_string();
    assert!(refused.contains("follows primary") && refused.contains("cairn promote"), "{refused}");
    standby.store.append(plain).await.expect("appended where nothing should be");
    standby.store.close().await;
    drop(standby);
    let running = other.run().await;
    let refused = tokio::time::timeout(PATIENCE, running.task).await.expect("in time").expect("no panic");
    assert!(matches!(refused, Err(FollowError::Diverged { position: 3 })), "{refused:?}");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_works_for_one_machine_and_no_other_gets_anything() {
    let path = tempfile::tempdir().expect("a folder");
    let node = Node::open(path.path(), false).await;
    let (one, other) = (Other::new(), Other::new());
    let link = node.link();
    let paired = one.pair(&link).await.expect("paired");
    one.pair(&link).await.expect("the same machine may, should the answer have been lost");
    assert!(matches!(other.pair(&link).await, Err(FollowError::Refused(_))));
    // It knows everything but has a key that nobody invited.
    other.folder.follow(&paired, false).expect("written");
    let running = other.run().await;
    let refused = tokio::time::timeout(PATIENCE, running.task).await.expect("in time").expect("no panic");
    assert!(matches!(refused, Err(FollowError::Refused(_))), "{refused:?}");
    let stranger = other.folder.machine().expect("a key");
    assert!(fence(&stranger, link.key, &link.addresses, 99, "stranger").await.is_err());
    node.append(1, 1).await.expect("a stranger replaces nobody");
    // A node with another key is not talked to, wherever it answers.
    let forged = FollowLink { key: stranger.key, ..node.link() };
    assert!(matches!(other.pair(&forged).await, Err(FollowError::Unreachable { .. })));
    assert!(node.primary.forget(one.folder.machine().expect("a key").key).expect("forgotten"));
    let running = one.run().await;
    let refused = tokio::time::timeout(PATIENCE, running.task).await.expect("in time").expect("no panic");
    assert!(matches!(refused, Err(FollowError::Refused(_))), "{refused:?}");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_sound_ends_the_connection_and_nothing_else() {
    let path = tempfile::tempdir().expect("a folder");
    let node = Node::open(path.path(), false).await;
    node.append(1, 3).await.expect("appended");
    let other = Other::new();
    let link = node.link();
    other.pair(&link).await.expect("paired");
    let machine: Machine = other.folder.machine().expect("a key");
    let too_long = (MAX_MESSAGE_BYTES as u32 + 1).to_le_bytes().to_vec();
    let endless = u32::MAX.to_le_bytes().to_vec();
    let no_json = [&5_u32.to_le_bytes()[..], b"hello"].concat();
    let deep = [&60_000_u32.to_le_bytes()[..], "[".repeat(60_000).as_bytes()].concat();
    for bytes in [too_long, endless, no_json, deep] {
        let mut line = Line::to(&machine, link.key, &link.addresses).await.expect("it answers");
        line.to.write_all(&bytes).await.expect("sent");
        let mut one = [0; 1];
        let answer = tokio::time::timeout(PATIENCE, line.from.read(&mut one)).await.expect("in time");
        assert!(!matches!(answer, Ok(Some(_))), "nothing is answered");
    }
    let mut line = Line::to(&machine, link.key, &link.addresses).await.expect("it answers");
    let answer = line.ask(&Call::Marks { after: u64::MAX, step: u64::MAX }).await.expect("answered");
    assert!(matches!(answer, Answer::Marks { head: 3, hashes } if hashes.is_empty()));
    assert!(line.connection.open_uni().now_or_never_opens().await.is_err(), "it takes no segments");
    let lie = Call::Have { position: u64::MAX };
    assert!(matches!(line.ask(&lie).await, Err(FollowError::Refused(_))), "it does not follow");
    node.append(1, 1).await.expect("the node goes on");
    node.end().await;
}

/// Whether a stream opens within a moment.
trait Opens {
    async fn now_or_never_opens(self) -> Result<(), ()>;
}

impl<T, E, F: Future<Output = Result<T, E>>> Opens for F {
    async fn now_or_never_opens(self) -> Result<(), ()> {
        match tokio::time::timeout(Duration::from_millis(200), self).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(()),
        }
    }
}

async fn take_over(folder: &Folder) -> TakenOver {
    let Opened { standby, store, log: _log } = open(folder).await;
    let taken = standby.take_over(Duration::from_secs(5)).await.expect("taken over");
    store.close().await;
    taken
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_is_there_hands_over_and_nothing_is_lost() {
    let path = tempfile::tempdir().expect("a folder");
    let node = Arc::new(Node::open(path.path(), false).await);
    let other = Other::new();
    other.pair(&node.link()).await.expect("paired");
    let running = other.run().await;
    running.until(|status| status.whole).await;
    running.end().await.expect("ended");
    let writing = {
        let node = Arc::clone(&node);
        tokio::spawn(async move {
            let mut last = 0;
            while let Ok(position) = node.append(1, 5).await {
                last = position;
            }
            last
        })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let taken = take_over(&other.folder).await;
    let last = writing.await.expect("no panic");
    assert!(taken.handed_over && taken.whole && last > 0);
    assert_eq!((taken.has.position, taken.lacks()), (last, 0));
    assert_eq!(other.folder.promote(true).expect("promoted"), 1);
    let refused = node.append(1, 1).await.expect_err("it was replaced").to_string();
    assert!(refused.contains("replaced by standby") && refused.contains("cairn follow"), "{refused}");
    assert!(node.primary.invite(HOUR).is_err());
    Arc::into_inner(node).expect("nobody else has it").end().await;
    let node = Node::open(path.path(), false).await;
    assert!(node.append(1, 1).await.is_err(), "also after a start");
    assert_eq!(node.primary.view().role, "replaced");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_primary_that_was_away_is_told_and_follows_again_with_its_own_kept_aside() {
    let path = tempfile::tempdir().expect("a folder");
    let node = Node::open(path.path(), false).await;
    node.append(1, 1_500).await.expect("appended");
    let other = Other::new();
    other.pair(&node.link()).await.expect("paired");
    let running = other.run().await;
    running.until(|status| status.whole && status.has.position == 1_500).await;
    running.end().await.expect("ended");
    for memory in 0..7 {
        node.append(100 + memory, 1).await.expect("nobody follows now");
    }
    node.end().await;
    let taken = take_over(&other.folder).await;
    assert!(!taken.handed_over && taken.whole);
    assert_eq!(taken.has.position, 1_500);
    other.folder.promote(false).expect("promoted");
    let new = Node::open(other.path.path(), false).await;
    new.append(1, 3).await.expect("it takes writes");
    // The old one comes back, knows nothing, and is told.
    let old = Node::open(path.path(), false).await;
    until("told", || old.gate.replaced().is_some()).await;
    assert!(old.append(1, 1).await.is_err());
    until("noted", || {
        let Role::Primary(of) = new.gate.state().role else { return false };
        of.predecessor.is_some_and(|predecessor| predecessor.knows)
    })
    .await;
    old.end().await;
    let folder = Folder::of(path.path());
    let machine = folder.machine().expect("a key");
    let paired = pair(&machine, &new.link(), "old").await.expect("paired");
    let kept = folder.keep_aside(&machine, &paired, BRAIN, Zeroizing::new(WRAPPING_KEY)).await.expect("compared");
    let kept = kept.expect("it had something of its own");
    assert_eq!((kept.after, kept.events), (1_500, 7));
    let text = std::fs::read_to_string(&kept.file).expect("read");
    assert_eq!(text.lines().count(), 7);
    assert!(text.lines().all(|line| line.contains("\"said\"")), "it can be read: {text}");
    assert_eq!(crate::kept_aside(&folder).expect("listed"), [kept]);
    folder.follow(&paired, true).expect("written");
    let running = Running::of(open(&folder).await);
    running.until(|status| status.whole && status.has.position == 1_503).await;
    assert!(!folder.put_away().exists(), "there is another whole one");
    running.end().await.expect("ended");
    assert_eq!(tables(&folder), tables(&other.folder));
    assert_eq!(slots(&folder), slots(&other.folder));
    new.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_place_where_two_logs_part_is_found_wherever_it_is() {
    let link_of = async |node: &Node| (node.link(), node.store.head().borrow().0);
    for (common, own, theirs) in
        [(0, 3, 5), (1, 0, 9), (700, 1, 0), (700, 900, 1_300), (1_025, 5, 5), (2_049, 0, 0)]
    {
        let path = tempfile::tempdir().expect("a folder");
        let node = Node::open(path.path(), false).await;
        if common > 0 {
            node.append(1, common).await.expect("appended");
        }
        let copy = tempfile::tempdir().expect("a folder");
        let mine = Folder::of(copy.path());
        node.store.close().await;
        std::fs::create_dir_all(mine.log()).expect("made");
        for name in ["events.db", "keys.db"] {
            let from = node.folder.log().join(name);
            let connection = rusqlite::Connection::open(&from).expect("opens");
            let into = mine.log().join(name);
            connection.execute("VACUUM INTO ?1", [into.to_str().expect("a text")]).expect("copied");
        }
        node.end().await;
        let old = Node::open(copy.path(), false).await;
        if own > 0 {
            old.append(2, own).await.expect("appended");
        }
        old.end().await;
        let node = Node::open(path.path(), false).await;
        if theirs > 0 {
            node.append(3, theirs).await.expect("appended");
        }
        let (link, head) = link_of(&node).await;
        assert_eq!(head as usize, common + theirs);
        let machine = mine.machine().expect("a key");
        let paired = pair(&machine, &link, "old").await.expect("paired");
        let kept =
            mine.keep_aside(&machine, &paired, BRAIN, Zeroizing::new(WRAPPING_KEY)).await.expect("compared");
        let found = kept.map(|kept| (kept.after as usize, kept.events as usize));
        assert_eq!(found, (own > 0).then_some((common, own)), "{common} {own} {theirs}");
        node.end().await;
    }
}
