//! Rebuilding read models: how fast, beside a bare COPY of the same rows where they are in PostgreSQL, and what readers
//! notice while one generation takes the place of another.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cairn_projector::Rebuild;
use cairn_read_model::memories::ListQuery;
use futures::TryStreamExt;
use futures::future::try_join_all;
use sqlx::postgres::{PgConnection, PgPoolCopyExt};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use super::Plan;
use super::client::{Connection, request};
use super::figures::{Demand, Report, quantile};
use super::http::Served;
use crate::brain::projection::{MEMORIES, TIMELINE};

/// The sizes from which a rebuild's speed is held against a demand: a small log says more about starting.
const LARGE: usize = 100_000;
/// The pace at which is read while a generation is swapped, in reads a second, and by how many connections.
const PACE: u64 = 1_000;
const READERS: u64 = 32;
/// The schema that rows are copied into.
const COPIES: &str = "cairn_bench_copies";

/// Measures the rebuild of each model alone, of both at once, and a swap under reads.
pub async fn measure(plan: &Plan, node: &Served, size: usize, report: &mut Report) -> Result<()> {
    for name in [MEMORIES, TIMELINE] {
        report.doing(&format!("{name} is rebuilt"));
        let rate = rebuild(node, &[name]).await?;
        let demand = (size >= LARGE && name == MEMORIES).then_some(Demand::AtLeast(40_000.0));
        let demand = demand.and_then(|demand| plan.embedded(demand));
        report.add("memories", format!("{size}: rebuild of {name}"), rate, "events/s", demand);
    }
    if let Some(pool) = &node.brain.database {
        report.doing("both models are rebuilt at once");
        let rate = rebuild(node, &[MEMORIES, TIMELINE]).await?;
        let demand = (size >= LARGE).then_some(Demand::AtLeast(25_000.0));
        report.add("memories", format!("{size}: rebuild into all tables"), rate, "events/s", demand);
        report.doing("the same rows are copied");
        let took = copy(pool, node.brain.brain).await?;
        let copied = node.brain.handler.store().head().borrow().0 as f64 / took.as_secs_f64();
        let demand = (size >= LARGE).then_some(Demand::ShareAtLeast(0.5));
        let limit = ("a bare COPY of the rows", copied);
        report.beside("memories", format!("{size}: the same"), rate, "events/s", limit, demand);
    }
    swap(node, size, report).await
}

/// Rebuilds models side by side; events a second.
async fn rebuild(node: &Served, names: &[&str]) -> Result<f64> {
    let (started, head) = (Instant::now(), node.brain.handler.store().head().borrow().0);
    let handles =
        try_join_all(names.iter().map(|name| node.brain.projector.rebuild(name, Rebuild::from_scratch()))).await?;
    try_join_all(handles.iter().map(|handle| handle.finished())).await?;
    Ok(head as f64 / started.elapsed().as_secs_f64())
}

/// Reads at a steady pace while the memories are rebuilt and swapped.
async fn swap(node: &Served, size: usize, report: &mut Report) -> Result<()> {
    report.doing("the memories are rebuilt and swapped under reads");
    let reader = node.brain.memories.clone();
    let list = ListQuery { limit: Some(200), ..Default::default() };
    let page = tokio::task::spawn_blocking(move || reader.list(&list)).await??;
    let ids: Arc<[String]> = page.items.iter().map(|memory| memory.id.to_string()).collect();
    let over = Arc::new(AtomicBool::new(false));
    let started = Instant::now();
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            tokio::spawn(paced(node.address, node.token.clone(), Arc::clone(&ids), number, Arc::clone(&over)))
        })
        .collect();
    rebuild(node, &[MEMORIES]).await?;
    over.store(true, Ordering::Relaxed);
    let (mut samples, mut failed) = (Vec::new(), 0_u64);
    for reader in readers {
        let (times, failures) = reader.await??;
        samples.extend(times);
        failed += failures;
    }
    let rate = samples.len() as f64 / started.elapsed().as_secs_f64();
    report.add(
        "memories",
        format!("{size}: reads during a rebuild"),
        rate,
        "reads/s",
        Some(Demand::AtLeast(900.0)),
    );
    report.add("memories", format!("{size}: of them failed"), failed as f64, "reads", Some(Demand::AtMost(0.0)));
    report.add("memories", format!("{size}: their p99"), quantile(&mut samples, 0.99), "ms", None);
    let slowest = quantile(&mut samples, 1.0);
    report.add("memories", format!("{size}: the slowest"), slowest, "ms", Some(Demand::AtMost(1_000.0)));
    Ok(())
}

/// How long each read took in milliseconds, and how many failed.
async fn paced(
    address: std::net::SocketAddr,
    token: String,
    ids: Arc<[String]>,
    reader: u64,
    over: Arc<AtomicBool>,
) -> Result<(Vec<f64>, u64)> {
    let mut connection = Connection::open(address).await?;
    let (started, mut samples, mut failed) = (Instant::now(), Vec::new(), 0);
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let due = Duration::from_micros((number * READERS + reader) * 1_000_000 / PACE);
        tokio::time::sleep_until((started + due).into()).await;
        let id = &ids[(reader * 7 + number) as usize % ids.len()];
        number += 1;
        let sent = Instant::now();
        let answer = connection.send(&request("GET", &format!("/memories/{id}"), &token, None)).await?;
        samples.push(sent.elapsed().as_secs_f64() * 1e3);
        failed += u64::from(answer.status != 200);
    }
    Ok((samples, failed))
}

/// How long it takes to copy the rows of all serving models into tables without row-level security.
async fn copy(pool: &PgPool, brain: Uuid) -> Result<Duration> {
    let mut reader = pool.acquire().await?.detach();
    sqlx::query("SELECT set_config('cairn.tenant', $1, false)")
        .bind(brain.to_string())
        .execute(&mut reader)
        .await?;
    let tables: Vec<(String, String)> = sqlx::query_as(
        "SELECT serving.schema::text, tables.tablename::text
           FROM cairn.serving JOIN pg_tables AS tables ON tables.schemaname = serving.schema
          ORDER BY 1, 2",
    )
    .fetch_all(&mut reader)
    .await?;
    run(pool, format!("DROP SCHEMA IF EXISTS {COPIES} CASCADE; CREATE SCHEMA {COPIES}")).await?;
    let mut took = Duration::ZERO;
    for (number, (schema, table)) in tables.iter().enumerate() {
        took +=
            copy_table(pool, &mut reader, &format!("{schema}.{table}"), &format!("{COPIES}.t{number}")).await?;
    }
    run(pool, format!("DROP SCHEMA {COPIES} CASCADE")).await?;
    Ok(took)
}

async fn copy_table(pool: &PgPool, reader: &mut PgConnection, from: &str, to: &str) -> Result<Duration> {
    let key =
        "SELECT pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'p' AND conrelid = $1::regclass";
    let key: Option<String> = sqlx::query_scalar(key).bind(from).fetch_optional(&mut *reader).await?;
    run(pool, format!("CREATE TABLE {to} (LIKE {from} INCLUDING DEFAULTS)")).await?;
    if let Some(key) = key {
        run(pool, format!("ALTER TABLE {to} ADD {key}")).await?;
    }
    let rows = {
        let out = format!("COPY {from} TO STDOUT (FORMAT binary)");
        let rows = reader.copy_out_raw(&out).await?;
        rows.try_collect::<Vec<_>>().await?
    };
    let started = Instant::now();
    let mut copy = pool.copy_in_raw(&format!("COPY {to} FROM STDIN (FORMAT binary)")).await?;
    for some in rows.chunks(256) {
        copy.send(some.concat()).await?;
    }
    copy.finish().await.context("the rows cannot be copied")?;
    Ok(started.elapsed())
}

async fn run(pool: &PgPool, sql: String) -> Result<()> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(pool).await?;
    Ok(())
}
