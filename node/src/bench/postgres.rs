//! Durable appends to PostgreSQL beside what pgbench reaches with the same rows, one a transaction.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cairn_event_store::PostgresStore;
use sqlx::{AssertSqlSafe, Executor, PgPool};
use tokio::process::Command;
use uuid::Uuid;

use super::Plan;
use super::append::{EVENT_BYTES, appends};
use super::figures::{Demand, Report};
use crate::config::DatabaseConfig;
use crate::database;

/// How many writers append at the same time, in either program.
const WRITERS: usize = 64;

/// Measures appends of 64 writers.
pub async fn measure(plan: &Plan, config: &DatabaseConfig, report: &mut Report) -> Result<()> {
    let time = Duration::from_secs(if plan.quick { 2 } else { 8 });
    let pool = database::open(config).await?;
    report.doing("64 writers append to PostgreSQL");
    // A brain of its own, so that the rows are told from all others.
    let brain = Uuid::now_v7();
    let store = Arc::new(PostgresStore::open(pool.clone(), brain).await?);
    let (rate, median) = appends(Arc::clone(&store), WRITERS, time).await?;
    store.close().await;
    report.doing("64 clients of pgbench insert the same rows");
    let name = "64 writers, durable";
    match pgbench(plan, config, &pool, time).await? {
        Some(bench) => report.beside(
            "postgres",
            name,
            rate,
            "events/s",
            ("pgbench, one row a transaction", bench),
            Some(Demand::ShareAtLeast(0.5)),
        ),
        None => {
            report.add("postgres", name, rate, "events/s", None);
            report.skip("the share of pgbench", "pgbench is not installed; it comes with PostgreSQL");
        }
    }
    report.add("postgres", "64 writers, median", median / 1_000.0, "ms", None);
    forget(&pool, brain).await
}

/// Transactions a second, each of one row of a table like that of events.
async fn pgbench(plan: &Plan, config: &DatabaseConfig, pool: &PgPool, time: Duration) -> Result<Option<f64>> {
    let Some(program) = program() else { return Ok(None) };
    pool.execute(
        "CREATE TABLE IF NOT EXISTS cairn.bench (
             brain uuid NOT NULL, position bigserial NOT NULL, stream text COLLATE \"C\" NOT NULL,
             revision bigserial NOT NULL, id uuid NOT NULL DEFAULT gen_random_uuid(), type text NOT NULL,
             schema_version integer NOT NULL, recorded_at timestamptz NOT NULL DEFAULT now(), data bytea NOT NULL,
             metadata bytea NOT NULL, PRIMARY KEY (brain, position), UNIQUE (brain, stream, revision),
             UNIQUE (brain, id))",
    )
    .await?;
    let script = plan.folder.path().join("insert.sql");
    let data = "x".repeat(EVENT_BYTES - 2);
    std::fs::write(
        &script,
        format!(
            "INSERT INTO cairn.bench (brain, stream, type, schema_version, data, metadata) VALUES
             ('00000000-0000-0000-0000-000000000001', 'bench-' || :client_id, 'bench.written', 1, '\"{data}\"', '{{}}');"
        ),
    )?;
    let clients = WRITERS.to_string();
    let ran = Command::new(program)
        .args(["-n", "-M", "prepared", "-c", &clients, "-j", "2", "-T", &time.as_secs().to_string(), "-f"])
        .arg(&script)
        // The password is not among the arguments, where others could read it.
        .args(connection(pool))
        .env("PGPASSWORD", password(config))
        .output()
        .await?;
    pool.execute("DROP TABLE cairn.bench").await?;
    let printed = String::from_utf8_lossy(&ran.stdout);
    let Some(rate) = printed.lines().find_map(|line| line.strip_prefix("tps = ")) else {
        bail!("pgbench failed: {}", String::from_utf8_lossy(&ran.stderr));
    };
    let rate = rate.split_whitespace().next().context("pgbench names a rate")?;
    Ok(Some(rate.parse()?))
}

fn connection(pool: &PgPool) -> Vec<String> {
    let options = pool.connect_options();
    let host = match options.get_socket() {
        Some(socket) => socket.display().to_string(),
        None => options.get_host().to_owned(),
    };
    let database = options.get_database().unwrap_or(options.get_username());
    let own = |text: &str| text.to_owned();
    vec![
        own("-h"),
        host,
        own("-p"),
        options.get_port().to_string(),
        own("-U"),
        own(options.get_username()),
        own(database),
    ]
}

/// The password of the URL, if it has one.
fn password(config: &DatabaseConfig) -> String {
    let url = reqwest::Url::parse(config.url.expose()).ok();
    url.and_then(|url| url.password().map(str::to_owned)).unwrap_or_default()
}

fn program() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut programs: Vec<PathBuf> = versions.map(|version| version.path().join("bin/pgbench")).collect();
    programs.sort();
    programs.into_iter().rev().find(|program| program.is_file())
}

/// Takes the rows of a brain away again.
async fn forget(pool: &PgPool, brain: Uuid) -> Result<()> {
    for table in ["events", "logs"] {
        let mut transaction = cairn_event_store::postgres::begin(pool, brain).await?;
        let delete = AssertSqlSafe(format!("DELETE FROM cairn.{table} WHERE brain = $1"));
        sqlx::query(delete).bind(brain).execute(&mut *transaction).await?;
        transaction.commit().await?;
    }
    Ok(())
}
