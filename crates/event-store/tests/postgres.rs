//! The log in PostgreSQL keeps the rules, also when several processes append to it and the server goes away.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_event_store::conformance::{BRAIN, Fixture};
use cairn_event_store::{
    AppendError, Direction, EventStore, ExpectedRevision, Filter, Keyring, NewAppend, NewEvent, Position,
    PostgresStore, RecordedEvent, Revision, Sealed, Snapshot, StoreError, StreamAppend, Tracking,
    conformance_suite, postgres,
};
use cairn_testkit::postgres::{Cluster, Database, Settings, database};
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::task::JoinSet;
use uuid::Uuid;

async fn open(database: &Database) -> PostgresStore {
    let pool = postgres::connect(database.url(), 8).await.unwrap();
    postgres::migrate(&pool).await.unwrap();
    PostgresStore::open(pool, BRAIN).await.unwrap()
}

async fn on_postgres() -> Fixture {
    let database = database().await;
    let store = open(&database).await;
    Fixture { store: Arc::new(store), keep: Box::new(database) }
}

conformance_suite!(on_postgres);

/// Encrypted, with the keys in the same database.
mod sealed {
    use super::*;

    async fn sealed_on_postgres() -> Fixture {
        let database = database().await;
        let store = open(&database).await;
        let keyring = Keyring::open_postgres(store.pool().clone(), BRAIN, [7; 32]).await.unwrap();
        let store = Sealed::open(store, keyring).await.unwrap();
        Fixture { store: Arc::new(store), keep: Box::new(database) }
    }

    conformance_suite!(sealed_on_postgres);
}

fn event(data: &str) -> NewEvent {
    NewEvent {
        id: Uuid::now_v7(),
        event_type: "test.happened".into(),
        schema_version: 1,
        data: data.to_owned().into(),
        metadata: "{}".into(),
    }
}

fn append(stream: &str, event: NewEvent) -> NewAppend {
    let entry = StreamAppend { stream: stream.into(), expected: ExpectedRevision::Any, events: vec![event] };
    NewAppend { streams: vec![entry], tracking: None }
}

async fn whole_log(store: &PostgresStore) -> Vec<RecordedEvent> {
    let mut log = Vec::new();
    let mut next = Some(Position(1));
    while let Some(from) = next {
        let page = store.read_all(from, Direction::Forwards, &Filter::default(), 1_000).await.unwrap();
        log.extend(page.events);
        next = page.next;
    }
    log
}

fn assert_sound(log: &[RecordedEvent]) {
    assert!(log.iter().map(|event| event.position.0).eq(1..=log.len() as u64), "positions have gaps");
    assert!(log.is_sorted_by_key(|event| event.recorded_at), "time runs back");
    let mut revisions: HashMap<&str, u64> = HashMap::new();
    for event in log {
        let next = revisions.entry(&event.stream).or_default();
        assert_eq!(event.revision.0, *next, "{} has a gap", event.stream);
        *next += 1;
    }
}

/// Reads on from the last position seen until told, as a projector of another process would.
async fn follow(store: Arc<PostgresStore>, until: u64) -> Vec<u64> {
    let mut seen = Vec::new();
    let mut head = store.head();
    while seen.len() < usize::try_from(until).unwrap() {
        let from = Position(seen.last().copied().unwrap_or_default() + 1);
        let page = store.read_all(from, Direction::Forwards, &Filter::default(), 50).await.unwrap();
        let is_empty = page.events.is_empty();
        seen.extend(page.events.iter().map(|event| event.position.0));
        if is_empty {
            let _ = tokio::time::timeout(Duration::from_millis(20), head.changed()).await;
        }
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_append_and_no_reader_misses_an_event() {
    const WRITERS: u64 = 8;
    const EACH: u64 = 100;
    let database = database().await;
    // Each store stands for a process: nothing is shared between them but the database.
    let stores =
        [Arc::new(open(&database).await), Arc::new(open(&database).await), Arc::new(open(&database).await)];
    let readers: Vec<_> =
        stores.iter().map(|store| tokio::spawn(follow(Arc::clone(store), WRITERS * EACH))).collect();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let store = Arc::clone(&stores[usize::try_from(writer).unwrap() % stores.len()]);
        writers.spawn(async move {
            for n in 0..EACH {
                store.append(append(&format!("s{}", n % 5), event("{}"))).await.unwrap();
            }
        });
    }
    writers.join_all().await;
    for reader in readers {
        let seen = tokio::time::timeout(Duration::from_secs(20), reader).await.expect("all is seen").unwrap();
        assert!(seen.into_iter().eq(1..=WRITERS * EACH), "an event was skipped or came too late");
    }
    assert_sound(&whole_log(&stores[0]).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_process_appends_is_heard_at_once() {
    let database = database().await;
    let (one, other) = (open(&database).await, open(&database).await);
    let mut head = other.head();
    // The listener is at work as soon as the first is heard.
    one.append(append("x", event("{}"))).await.unwrap();
    head.wait_for(|head| head.0 == 1).await.unwrap();
    for n in 2..12 {
        let began = Instant::now();
        one.append(append("x", event("{}"))).await.unwrap();
        head.wait_for(|head| head.0 == n).await.unwrap();
        assert!(began.elapsed() < Duration::from_millis(500), "only the look every second found it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_when_the_server_is_killed() {
    let cluster = Cluster::start(&Settings::default()).unwrap();
    let database = cluster.database().await;
    let store = Arc::new(open(&database).await);
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = JoinSet::new();
    for writer in 0..8 {
        let (store, stopped) = (Arc::clone(&store), stopped.clone());
        writers.spawn(async move {
            let mut acknowledged = Vec::new();
            while !*stopped.borrow() {
                let event = event("{}");
                let id = event.id;
                match store.append(append(&format!("w{writer}"), event)).await {
                    Ok(_) => acknowledged.push(id),
                    Err(AppendError::Store(StoreError::Unavailable { .. })) => {}
                    Err(other) => panic!("{other}"),
                }
            }
            acknowledged
        });
    }
    for round in 0..3 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        if round == 1 {
            cluster.stop();
        } else {
            cluster.kill();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        cluster.resume().unwrap();
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.send_replace(true);
    let acknowledged = writers.join_all().await;
    let log = whole_log(&store).await;
    assert_sound(&log);
    let ids: HashMap<Uuid, usize> = log.iter().fold(HashMap::new(), |mut ids, event| {
        *ids.entry(event.id).or_default() += 1;
        ids
    });
    assert!(ids.values().all(|count| *count == 1), "an event was written twice");
    for id in acknowledged.iter().flatten() {
        assert!(ids.contains_key(id), "an acknowledged event is gone");
    }
    assert!(acknowledged.iter().flatten().count() > 100, "the writers got on");
}

#[tokio::test]
async fn a_store_without_connections_says_so_and_goes_on_later() {
    let settings = Settings { more: vec!["max_connections=8".into()], ..Settings::default() };
    let cluster = Cluster::start(&settings).unwrap();
    let database = cluster.database().await;
    let store = open(&database).await;
    store.append(append("x", event("{}"))).await.unwrap();
    let mut hoarded = vec![PgConnection::connect(database.admin_url()).await.unwrap()];
    // Those of the store are cut, and taken before it can have them back.
    while hoarded.len() < 8 {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'cairn'";
        sqlx::query(cut).execute(&mut hoarded[0]).await.unwrap();
        hoarded.extend(PgConnection::connect(database.admin_url()).await);
    }
    let error = store.append(append("x", event("{}"))).await.unwrap_err();
    assert!(error.to_string().contains("connection"), "{error}");
    drop(hoarded);
    store.append(append("x", event("{}"))).await.unwrap();
    assert_sound(&whole_log(&store).await);
}

#[tokio::test]
async fn a_query_that_names_no_brain_sees_nothing_in_any_table() {
    let database = database().await;
    let store = open(&database).await;
    let tracking = Some(Tracking { source: "elsewhere".into(), position: 1 });
    store.append(NewAppend { tracking, ..append("x", event("{}")) }).await.unwrap();
    let snapshot = Snapshot { revision: Revision(0), format: 1, data: "x".into() };
    store.save_snapshot("x", Some(snapshot)).await.unwrap();
    let mut admin = PgConnection::connect(database.admin_url()).await.unwrap();
    let mut role = PgConnection::connect(database.url()).await.unwrap();
    let tables: Vec<(String, bool, bool)> = sqlx::query_as(
        "SELECT c.relname::text, c.relrowsecurity, c.relforcerowsecurity FROM pg_class c
         JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = 'cairn' AND c.relkind IN ('r', 'p') AND c.relname <> 'migrations'",
    )
    .fetch_all(&mut admin)
    .await
    .unwrap();
    assert!(tables.len() >= 9, "the catalogue lists the tables: {tables:?}");
    for (table, enabled, forced) in tables {
        assert!(enabled && forced, "cairn.{table} is open to its owner");
        let count = AssertSqlSafe(format!("SELECT count(*) FROM cairn.{table}"));
        let seen: i64 = sqlx::query_scalar(count).fetch_one(&mut role).await.unwrap();
        assert_eq!(seen, 0, "cairn.{table} shows rows to who has named no brain");
    }
    let events: i64 = sqlx::query_scalar("SELECT count(*) FROM cairn.events").fetch_one(&mut admin).await.unwrap();
    assert_eq!(events, 1, "a superuser sees it, so there was something to see");
}

#[tokio::test]
async fn brains_in_one_database_do_not_see_each_other() {
    let database = database().await;
    let one = open(&database).await;
    let other = PostgresStore::open(one.pool().clone(), Uuid::now_v7()).await.unwrap();
    let shared = event("1");
    let id = shared.id;
    one.append(append("x", shared.clone())).await.unwrap();
    assert_eq!(*other.head().borrow(), Position::START);
    assert!(other.event(id).await.unwrap().is_none());
    assert!(other.read_stream("x", Revision(0), Direction::Forwards, 10).await.unwrap().is_empty());
    // The same id and stream are free in another brain.
    let appended = other.append(append("x", shared)).await.unwrap();
    assert_eq!((appended.position, appended.repeated), (Position(1), false));
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused() {
    let database = database().await;
    let store = open(&database).await;
    let newer = "INSERT INTO cairn.migrations (version, description, success, checksum, execution_time)
                 VALUES (999, 'of tomorrow', true, '\\x00', 0)";
    sqlx::query(newer).execute(store.pool()).await.unwrap();
    let error = postgres::migrate(store.pool()).await.unwrap_err();
    assert!(error.to_string().contains("999") && error.to_string().contains("newer cairn"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_that_start_together_migrate_once() {
    let database = database().await;
    let mut starting = JoinSet::new();
    for _ in 0..4 {
        let url = database.url().to_owned();
        starting.spawn(async move {
            let pool = postgres::connect(&url, 2).await.unwrap();
            postgres::migrate(&pool).await.unwrap()
        });
    }
    let reached = starting.join_all().await;
    assert!(reached.iter().all(|version| *version == reached[0]));
}

async fn keyring(store: &PostgresStore) -> Keyring {
    Keyring::open_postgres(store.pool().clone(), BRAIN, [7; 32]).await.unwrap()
}

async fn slots(store: &PostgresStore) -> i64 {
    let mut transaction = postgres::begin(store.pool(), BRAIN).await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM cairn.key_slots").fetch_one(&mut *transaction).await.unwrap()
}

#[tokio::test]
async fn keys_are_shared_by_nodes_and_gone_for_all_when_destroyed() {
    let database = database().await;
    let one = Sealed::open(open(&database).await, keyring(&open(&database).await).await).await.unwrap();
    let private = event("{\"secret\":\"rosebud\"}");
    let id = private.id;
    one.append(append("memory-1", private)).await.unwrap();
    let other = Sealed::open(open(&database).await, keyring(one.store()).await).await.unwrap();
    assert_eq!(other.event(id).await.unwrap().unwrap().data, "{\"secret\":\"rosebud\"}");
    let raw = one.store().event(id).await.unwrap().unwrap();
    assert!(!raw.data.windows(7).any(|part| part == b"rosebud"), "it lies there in the clear");
    let erased = NewEvent { event_type: "memory.erased".into(), ..event("{}") };
    one.append(append("memory-1", erased)).await.unwrap();
    // The other has the key in memory; it forgets it when it meets the erasure, as whoever follows the log does.
    other.store().head().wait_for(|head| head.0 == 2).await.unwrap();
    other.read_all(Position(1), Direction::Forwards, &Filter::default(), 10).await.unwrap();
    assert!(other.event(id).await.unwrap().unwrap().erased, "a process goes on reading what another has erased");
    let third = Sealed::open(open(&database).await, keyring(one.store()).await).await.unwrap();
    for node in [&one, &third] {
        assert!(node.event(id).await.unwrap().unwrap().erased);
    }
}

#[tokio::test]
async fn a_keyring_that_ends_in_order_leaves_no_unused_keys() {
    let database = database().await;
    let sealed = open(&database).await;
    let keys = keyring(&sealed).await;
    let store = Sealed::open(sealed, keys).await.unwrap();
    store.append(append("memory-1", event("{}"))).await.unwrap();
    assert!(slots(store.store()).await > 1, "keys are made ahead");
    store.keyring().close().await;
    assert_eq!(slots(store.store()).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_that_is_cut_short_leaves_its_connection_as_it_was() {
    let database = database().await;
    // One of the two hears of what other processes append.
    let pool = postgres::connect(database.url(), 2).await.unwrap();
    postgres::migrate(&pool).await.unwrap();
    let store = PostgresStore::open(pool.clone(), BRAIN).await.unwrap();
    for number in 0..200 {
        let read = store.read_stream("memory-1", Revision(0), Direction::Forwards, 1);
        let _ = tokio::time::timeout(Duration::from_micros(number * 5), read).await;
        let mut transaction = postgres::begin(&pool, BRAIN).await.unwrap();
        let is_read_only: String =
            sqlx::query_scalar("SHOW transaction_read_only").fetch_one(&mut *transaction).await.unwrap();
        assert_eq!(is_read_only, "off", "cut short after {} µs", number * 5);
    }
}

#[tokio::test]
async fn the_keyring_of_another_key_is_refused() {
    let database = database().await;
    let store = open(&database).await;
    drop(keyring(&store).await);
    let error = Keyring::open_postgres(store.pool().clone(), BRAIN, [8; 32]).await.err().unwrap();
    assert!(error.to_string().contains("brain.key"), "{error}");
}

/// The planner believes a table of which it has no statistics to be all but empty, and keeps what it planned.
#[tokio::test(flavor = "multi_thread")]
async fn appends_to_a_young_log_look_up_what_they_need_and_no_more() {
    const STREAMS: u64 = 32;
    const ROUNDS: u64 = 100;
    let database = database().await;
    let store = Arc::new(open(&database).await);
    for _ in 0..ROUNDS {
        let mut appending = JoinSet::new();
        for stream in 0..STREAMS {
            let store = Arc::clone(&store);
            appending.spawn(async move { store.append(append(&format!("bench-{stream}"), event("{}"))).await });
        }
        appending.join_all().await.into_iter().for_each(|appended| drop(appended.unwrap()));
    }
    // What a session has seen is counted when it ends.
    store.close().await;
    store.pool().close().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let events = STREAMS * ROUNDS;
    loop {
        let (rows, entries): (i64, i64) = sqlx::query_as(
            "SELECT t.n_tup_ins, (SELECT sum(i.idx_tup_read)::bigint FROM pg_stat_user_indexes i WHERE i.relid = t.relid)
             FROM pg_stat_user_tables t WHERE t.relid = 'cairn.events'::regclass",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap();
        if rows.cast_unsigned() == events {
            let each = entries.cast_unsigned() as f64 / events as f64;
            assert!(each < 10.0, "an append reads {each} entries of the indexes of events");
            return;
        }
        assert!(Instant::now() < deadline, "the server counted {rows} rows of {events}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
