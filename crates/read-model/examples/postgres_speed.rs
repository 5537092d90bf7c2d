//! How fast events become rows on PostgreSQL, beside a bare COPY of the same rows. The server is a private one on the
//! same machine, and everything runs on its cores together.
//!
//! `cargo run --release -p cairn-read-model --example postgres_speed [memories]`

use std::time::{Duration, Instant};

use cairn_read_model::change::Batch;
use cairn_read_model::database::{Database, Model};
use cairn_read_model::memories::ListQuery;
use cairn_read_model::postgres::{self, PgDatabase, Server};
use cairn_read_model::{Memories, memories, timeline};
use futures::TryStreamExt;
use sqlx::postgres::{PgPool, PgPoolCopyExt, PgPoolOptions};
use sqlx::{AssertSqlSafe, Row};
use uuid::Uuid;

#[path = "../tests/models/brain.rs"]
#[allow(dead_code, clippy::unwrap_used)]
mod brain;

use brain::Brain;

const WORDS: usize = 120;
/// As many as the projector reads at once while it is far behind.
const BATCH_EVENTS: usize = 4_096;
const MODELS: [&Model; 2] = [&memories::MODEL, &timeline::MODEL];

fn main() {
    let count = std::env::args().nth(1).map_or(20_000, |number| number.parse().expect("a number of memories"));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (database, pool) = runtime.block_on(async {
        let database = cairn_testkit::postgres::database().await;
        let pool = PgPoolOptions::new().max_connections(8).connect(database.url()).await.expect("connects");
        sqlx::raw_sql(postgres::MIGRATION).execute(&pool).await.expect("creates the control tables");
        (database, pool)
    });
    let server = Server::new(pool.clone(), Uuid::now_v7(), runtime.handle().clone());
    let batches = batches(count);
    let events: usize = batches.iter().map(|batch| batch.events).sum();
    println!("{count} memories, {events} events, {} batches", batches.len());

    on_sqlite(&batches, events);
    let one_by_one = on_postgres(&server, 1, &batches, events);
    let began = Instant::now();
    std::thread::scope(|scope| {
        for model in MODELS {
            scope.spawn(|| fill(&server, model, 2, &batches));
        }
    });
    report("both models side by side", events, began.elapsed());
    let copied = runtime.block_on(copy(&server, &pool));
    report("a bare COPY of the same rows, primary keys only", events, copied);
    println!("the fold reaches {:.0} % of it", 100.0 * copied.as_secs_f64() / one_by_one.as_secs_f64());
    reads(&runtime, &server);
    drop(database);
}

fn report(what: &str, events: usize, took: Duration) {
    println!("{what}: {took:.2?}, {:.0} events/s", events as f64 / took.as_secs_f64());
}

fn batches(memories: usize) -> Vec<Batch> {
    let (mut brain, mut batches, mut cut) = (Brain::new(1), Vec::new(), 0);
    for _ in 0..memories {
        brain.note(WORDS);
        (0..2).for_each(|_| brain.change());
        if brain.position() - cut >= BATCH_EVENTS as u64 {
            cut = brain.position();
            batches.push(brain.batch());
        }
    }
    batches.push(brain.batch());
    batches.retain(|batch| batch.events > 0);
    batches
}

fn on_sqlite(batches: &[Batch], events: usize) {
    let began = Instant::now();
    for model in MODELS {
        let folder = tempfile::tempdir().expect("a folder");
        let mut generation = Database::open(folder.path(), model).expect("opens");
        batches.iter().for_each(|batch| generation.apply(batch).expect("applies"));
        generation.make_ready().expect("makes ready");
    }
    report("SQLite, one model after the other, with indexes", events, began.elapsed());
}

/// How long the filling took, without the indexes.
fn on_postgres(server: &Server, number: u64, batches: &[Batch], events: usize) -> Duration {
    let (mut filling, mut indexing) = (Duration::ZERO, Duration::ZERO);
    for model in MODELS {
        let began = Instant::now();
        let mut generation = fill(server, model, number, batches);
        report(&format!("filling {}", model.name), events, began.elapsed());
        filling += began.elapsed();
        let began = Instant::now();
        generation.make_ready().expect("makes ready");
        indexing += began.elapsed();
    }
    report("PostgreSQL, one model after the other", events, filling);
    report("the same with indexes", events, filling + indexing);
    filling
}

fn fill(server: &Server, model: &'static Model, number: u64, batches: &[Batch]) -> PgDatabase {
    let mut generation = PgDatabase::create(server, model, number).expect("creates");
    batches.iter().for_each(|batch| generation.apply(batch).expect("applies"));
    generation
}

/// How long it takes to copy the rows of both models into tables without row-level security.
async fn copy(server: &Server, pool: &PgPool) -> Duration {
    let set = format!("SET cairn.tenant = '{}'", server.tenant());
    let mut reader = pool.acquire().await.expect("connects");
    sqlx::raw_sql(AssertSqlSafe(set)).execute(&mut *reader).await.expect("sets the tenant");
    let mut took = Duration::ZERO;
    for model in MODELS {
        let from = postgres::schema_name(server, model, 1);
        let to = format!("copy_{}", model.name);
        let tables = sqlx::query("SELECT tablename::text FROM pg_tables WHERE schemaname = $1").bind(&from);
        let tables = tables.fetch_all(pool).await.expect("lists");
        run(pool, format!("CREATE SCHEMA {to}")).await;
        for table in tables {
            let table: String = table.get(0);
            run(pool, format!("CREATE TABLE {to}.{table} (LIKE {from}.{table} INCLUDING DEFAULTS)")).await;
            let key = "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid = $1::regclass";
            let key = sqlx::query(key).bind(format!("{from}.{table}")).fetch_one(pool).await.expect("has a key");
            run(pool, format!("ALTER TABLE {to}.{table} ADD {}", key.get::<String, _>(0))).await;
            let out = format!("COPY {from}.{table} TO STDOUT (FORMAT binary)");
            let rows = reader.copy_out_raw(&out).await.expect("copies out");
            let rows: Vec<_> = rows.try_collect().await.expect("copies out");
            let began = Instant::now();
            let into = format!("COPY {to}.{table} FROM STDIN (FORMAT binary)");
            let mut copy = pool.copy_in_raw(&into).await.expect("copies in");
            for some in rows.chunks(256) {
                copy.send(some.concat()).await.expect("copies in");
            }
            copy.finish().await.expect("copies in");
            took += began.elapsed();
        }
    }
    took
}

async fn run(pool: &PgPool, sql: String) {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await.expect("runs");
}

fn reads(runtime: &tokio::runtime::Runtime, server: &Server) {
    runtime.block_on(async {
        let mut transaction = server.pool().begin().await.expect("begins");
        let row = "INSERT INTO cairn.serving (projection, generation, schema) VALUES ('memories', 1, $1)";
        sqlx::query("SELECT set_config('cairn.tenant', $1, true)")
            .bind(server.tenant().to_string())
            .execute(&mut *transaction)
            .await
            .expect("sets the tenant");
        sqlx::query(row)
            .bind(postgres::schema_name(server, &memories::MODEL, 1))
            .execute(&mut *transaction)
            .await
            .expect("serves");
        transaction.commit().await.expect("commits");
    });
    let reader = Memories::postgres(server.clone());
    let page = reader.list(&ListQuery { limit: Some(200), ..ListQuery::default() }).expect("lists");
    let began = Instant::now();
    for turn in 0..2_000 {
        reader.get(page.items[turn % page.items.len()].id).expect("reads");
    }
    println!("get: {:.1?} each", began.elapsed() / 2_000);
    let began = Instant::now();
    for _ in 0..500 {
        reader.list(&ListQuery::default()).expect("lists");
    }
    println!("list of 20: {:.1?} each", began.elapsed() / 500);
}
