//! The server goes away, generations come and go, and nothing is written twice or lost.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cairn_domain::kind::Kind;
use cairn_read_model::memories::MODEL;
use cairn_read_model::postgres::{self, PgDatabase, QUERY_LIMIT, RoleError};
use cairn_read_model::{Memories, ModelError, QueryError};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, PgPool};
use uuid::Uuid;

use crate::brain::Brain;
use crate::stage::{MODELS, Postgres, Stage};

/// Cuts every connection to the database but the one that does it.
const CUT_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
    WHERE datname = current_database() AND pid <> pg_backend_pid()";

#[test]
fn a_lost_connection_is_made_again() {
    let (mut brain, mut stage) = (Brain::new(11), Stage::new());
    for _ in 0..5 {
        (0..20).for_each(|_| brain.act());
        let batch = brain.batch();
        stage.postgres.admin(CUT_ALL);
        stage.sqlite.iter_mut().for_each(|generation| generation.apply(&batch).unwrap());
        for generation in &mut stage.pg {
            let mut attempts = 0;
            while let Err(error) = generation.apply(&batch) {
                assert!(error.is_transient() && !error.is_unusable(), "{error:?}");
                attempts += 1;
                assert!(attempts < 20, "{error:?}");
            }
        }
        // Readers notice too, and go on.
        let answered = (0..20).any(|_| stage.server.memories.stats().is_ok());
        assert!(answered);
        stage.digests();
    }
}

#[test]
fn a_commit_whose_acknowledgement_was_lost_is_not_done_twice() {
    let (mut brain, mut stage) = (Brain::new(12), Stage::new());
    (0..30).for_each(|_| brain.act());
    stage.apply(&brain.batch());
    (0..30).for_each(|_| brain.act());
    let batch = brain.batch();
    // To the handle it is as if its own commit had come through without its knowing.
    for model in MODELS {
        PgDatabase::open(&stage.of, model, 1).unwrap().apply(&batch).unwrap();
    }
    let digests = [0, 1].map(|model| stage.digest(model));
    stage.apply(&batch);
    assert_eq!(stage.digests(), digests);
    // The next batch fits on it.
    (0..30).for_each(|_| brain.act());
    stage.apply(&brain.batch());
    stage.digests();
}

#[test]
fn two_writers_of_one_generation_write_everything_once() {
    let (mut brain, mut stage) = (Brain::new(16), Stage::new());
    let batches: Vec<_> = (0..20)
        .map(|_| {
            (0..10).for_each(|_| brain.act());
            brain.batch()
        })
        .collect();
    std::thread::scope(|scope| {
        for model in MODELS {
            for _ in 0..2 {
                let mut writer = PgDatabase::open(&stage.of, model, 1).unwrap();
                let batches = &batches;
                scope.spawn(move || {
                    batches.iter().for_each(|batch| writer.apply(batch).unwrap());
                    writer.close();
                });
            }
        }
    });
    batches.iter().for_each(|batch| stage.apply(batch));
    stage.digests();
}

#[test]
fn rows_behind_what_was_written_are_not_written_over() {
    let (mut brain, mut stage) = (Brain::new(13), Stage::new());
    (0..20).for_each(|_| brain.act());
    stage.apply(&brain.batch());
    let schema = stage.pg[0].schema().to_owned();
    stage.postgres.admin(&format!("UPDATE {schema}.meta SET checkpoint = 3"));
    (0..20).for_each(|_| brain.act());
    let batch = brain.batch();
    for _ in 0..2 {
        let error = stage.pg[0].apply(&batch).unwrap_err();
        assert!(matches!(error, ModelError::Behind { found: 3, .. }), "{error:?}");
        assert!(!error.is_transient() && !error.is_unusable());
    }
    assert_eq!(PgDatabase::open(&stage.of, &MODEL, 1).unwrap().checkpoint(), 3);
}

#[test]
fn a_generation_that_is_not_whole_is_told_from_one_that_cannot_be_reached() {
    let stage = Stage::new();
    let open = |number| PgDatabase::open(&stage.of, &MODEL, number).map(|generation| generation.checkpoint());
    assert_eq!(open(1).unwrap(), 0);
    let missing = open(7).unwrap_err();
    assert!(matches!(missing, ModelError::Missing { .. }) && missing.is_unusable(), "{missing:?}");
    let schema = postgres::schema_name(&stage.of, &MODEL, 1);
    stage.postgres.admin(&format!("UPDATE {schema}.meta SET version = version + 1"));
    let other = open(1).unwrap_err();
    assert!(matches!(other, ModelError::OtherVersion { .. }) && other.is_unusable(), "{other:?}");
    // What is there is not created again, nor half of it.
    assert!(PgDatabase::create(&stage.of, &MODEL, 1).is_err());
    postgres::drop_generation(&stage.of, &MODEL, 1).unwrap();
    postgres::drop_generation(&stage.of, &MODEL, 1).unwrap();
    assert!(PgDatabase::create(&stage.of, &MODEL, 1).is_ok());
}

#[test]
fn without_a_generation_that_serves_there_is_no_answer() {
    let postgres = Postgres::new();
    let server = postgres.server(Uuid::now_v7());
    let memories = Memories::postgres(server.clone());
    assert!(!memories.is_ready());
    assert!(matches!(memories.stats(), Err(QueryError::NotReady { model: "memories" })));
    let _generation = PgDatabase::create(&server, &MODEL, 1).unwrap();
    assert!(!memories.is_ready());
    postgres.serve(&server, &MODEL, 1);
    assert!(memories.is_ready());
    assert_eq!(memories.stats().unwrap().memories, 0);
}

#[test]
fn a_query_that_takes_too_long_is_cut_off_and_its_connection_serves_others() {
    let stage = Postgres::new();
    let server = stage.server(Uuid::now_v7());
    let _generation = PgDatabase::create(&server, &MODEL, 1).unwrap();
    stage.serve(&server, &MODEL, 1);
    let memories = Memories::postgres(server.clone());
    let schema = postgres::schema_name(&server, &MODEL, 1);
    let runtime = stage.runtime.handle().clone();
    let holder = runtime.block_on(async {
        let mut holder = PgConnection::connect(stage.database.admin_url()).await.unwrap();
        let lock = format!("BEGIN; LOCK TABLE {schema}.memories IN ACCESS EXCLUSIVE MODE");
        sqlx::raw_sql(AssertSqlSafe(lock)).execute(&mut holder).await.unwrap();
        holder
    });
    let began = Instant::now();
    let answer = memories.stats();
    assert!(matches!(answer, Err(QueryError::TooSlow { model: "memories" })), "{answer:?}");
    let took = began.elapsed();
    assert!(QUERY_LIMIT <= took && took < QUERY_LIMIT + Duration::from_secs(5), "{took:?}");
    runtime.block_on(holder.close()).unwrap();
    assert_eq!(memories.stats().unwrap().memories, 0);
}

#[test]
fn readers_follow_every_swap_and_never_see_a_generation_half_gone() {
    let postgres = Postgres::new();
    let server = postgres.server(Uuid::now_v7());
    let mut brain = Brain::new(14);
    brain.create(
        Kind::Note,
        &[("title", "one".into()), ("tag/x", cairn_domain::value::Value::Flag(true))],
        "text",
    );
    let batch = brain.batch();
    let build = |number| {
        let mut generation = PgDatabase::create(&server, &MODEL, number).unwrap();
        generation.apply(&batch).unwrap();
        generation.make_ready().unwrap();
        postgres.serve(&server, &MODEL, number);
    };
    build(1);
    let (done, memories) = (AtomicBool::new(false), Memories::postgres(server.clone()));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                scope.spawn(|| {
                    let mut answers = 0;
                    while !done.load(Ordering::Relaxed) {
                        let stats = memories.stats().expect("a generation always serves");
                        assert_eq!((stats.memories, stats.tags), (1, 1));
                        assert_eq!(memories.list(&Default::default()).unwrap().items.len(), 1);
                        answers += 1;
                    }
                    answers
                })
            })
            .collect();
        for number in 2..12 {
            build(number);
            postgres::drop_generation(&server, &MODEL, number - 1).unwrap();
        }
        std::thread::sleep(Duration::from_millis(50));
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
}

#[test]
fn a_role_that_passes_by_row_level_security_is_refused() {
    let postgres = Postgres::new();
    postgres.runtime.block_on(postgres::check_role(&postgres.pool)).unwrap();
    let admin = postgres.runtime.block_on(PgPool::connect(postgres.database.admin_url())).unwrap();
    let refused = postgres.runtime.block_on(postgres::check_role(&admin)).unwrap_err();
    assert!(matches!(refused, RoleError::Bypasses { .. }));
    assert!(refused.to_string().contains("CREATE ROLE cairn LOGIN"), "{refused}");
    postgres.runtime.block_on(admin.close());
}

#[test]
fn erased_rows_are_taken_out_when_nobody_sees_them_any_more() {
    let (mut brain, mut stage) = (Brain::new(15), Stage::new());
    let id = brain.create(Kind::Note, &[("title", "secret".into())], "text");
    stage.apply(&brain.batch());
    let runtime = stage.postgres.runtime.handle().clone();
    let mut reader = runtime.block_on(async {
        let mut reader = stage.postgres.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
        sqlx::query("SELECT count(*) FROM cairn.serving").execute(&mut *reader).await.unwrap();
        reader
    });
    let erase = cairn_domain::memory::command::Command::EraseMemory;
    brain.command(id, cairn_domain::truth::Truth::User, erase);
    stage.apply(&brain.batch());
    assert!(stage.pg[0].settle().unwrap(), "somebody still sees the time before");
    runtime.block_on(async { sqlx::query("SELECT 1").execute(&mut *reader).await.unwrap() });
    let _entered = runtime.enter();
    runtime.block_on(reader.rollback()).unwrap();
    assert!(!stage.pg[0].settle().unwrap());
    assert!(!stage.pg[0].settle().unwrap());
}
