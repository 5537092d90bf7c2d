//! Commands and reads through HTTP, and how soon a command is visible.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use cairn_event_store::Position;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Plan;
use super::client::{Connection, load, request};
use super::corpus;
use super::figures::{Demand, Report, quantile};
use crate::brain::Brain;
use crate::brain::projection::MEMORIES;
use crate::config::Config;
use crate::up::serve;

/// How many connections send at the same time.
const CONNECTIONS: usize = 64;
/// The pace at which visibility is measured, in commands a second.
const PACE: u64 = 1_000;

/// A node inside of this process.
pub struct Served {
    /// The brain.
    pub brain: Arc<Brain>,
    /// Where it answers.
    pub address: SocketAddr,
    /// The owner's token.
    pub token: String,
    stop: CancellationToken,
    server: JoinHandle<Result<()>>,
}

impl Served {
    /// Starts a node on a folder below the bench's.
    pub async fn start(plan: &Plan, folder: &str) -> Result<Self> {
        let mut config = Config::load(&plan.folder.path().join(folder), None)?;
        config.listen.set_port(0);
        let brain = Brain::open(&config, plan.metrics.clone()).await?;
        let listener = TcpListener::bind(config.listen).await?;
        let address = listener.local_addr()?;
        let token = std::fs::read_to_string(brain.folder.owner_token())?.trim().to_owned();
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve(listener, Arc::clone(&brain), stop.clone()));
        Ok(Self { brain, address, token, stop, server })
    }

    /// Waits until every projection has the whole log.
    pub async fn caught_up(&self) -> Result<()> {
        let head = *self.brain.handler.store().head().borrow();
        Ok(self.brain.projector.wait_for_all(head, Duration::from_secs(1_800)).await?)
    }

    /// Stops it.
    pub async fn stop(self) -> Result<()> {
        self.stop.cancel();
        self.server.await??;
        self.brain.close().await;
        Ok(())
    }
}

/// Measures commands, visibility and reads.
pub async fn measure(plan: &Plan, report: &mut Report) -> Result<()> {
    let time = Duration::from_secs(if plan.quick { 2 } else { 10 });
    let node = Served::start(plan, "http").await?;
    commands(plan, &node, time, report).await?;
    report.doing("the projections catch up");
    node.caught_up().await?;
    visible(plan, &node, time, report).await?;
    node.caught_up().await?;
    reads(plan, &node, time, report).await?;
    node.stop().await
}

async fn commands(plan: &Plan, node: &Served, time: Duration, report: &mut Report) -> Result<()> {
    report.doing("64 connections send commands");
    let token = node.token.clone();
    let texts: Arc<[String]> = {
        let mut random = corpus::random(11);
        (0..256).map(|_| corpus::text(&mut random, 30)).collect()
    };
    let create = move |connection: usize, number: usize| {
        let text = &texts[(connection * 31 + number) % texts.len()];
        let body = format!(r#"{{"title":"Note {connection}-{number}","body":"{text}"}}"#);
        request("POST", "/memories", &token, Some(&body))
    };
    let mut seen = load(node.address, CONNECTIONS, time, create).await?;
    report.add(
        "http",
        "commands (a note with title and body), 64 conns",
        seen.rate,
        "cmds/s",
        plan.embedded(Demand::AtLeast(6_000.0)),
    );
    report.add("http", "commands p50", quantile(&mut seen.samples, 0.5), "ms", None);
    report.add("http", "commands p99", quantile(&mut seen.samples, 0.99), "ms", None);
    Ok(())
}

/// Sends commands at a steady pace and watches each become visible in the read model.
async fn visible(plan: &Plan, node: &Served, time: Duration, report: &mut Report) -> Result<()> {
    report.doing("1,000 commands a second become visible");
    let workers = 32;
    let started = Instant::now();
    let tasks: Vec<_> = (0..workers)
        .map(|worker: u64| {
            let (address, token, brain) = (node.address, node.token.clone(), Arc::clone(&node.brain));
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await?;
                let mut random = corpus::random(worker);
                let mut samples = Vec::new();
                let mut number = 0;
                while started.elapsed() < time {
                    let due = Duration::from_micros((number * workers + worker) * 1_000_000 / PACE);
                    tokio::time::sleep_until((started + due).into()).await;
                    number += 1;
                    let text = corpus::text(&mut random, 30);
                    let body = format!(r#"{{"title":"Paced {worker}-{number}","body":"{text}"}}"#);
                    let answer = connection.send(&request("POST", "/memories", &token, Some(&body))).await?;
                    let acknowledged = Instant::now();
                    let json: serde_json::Value = serde_json::from_slice(&answer.body)?;
                    let position = json["data"]["position"].as_u64().context("no position")?;
                    brain.projector.wait_for(MEMORIES, Position(position), Duration::from_secs(30)).await?;
                    samples.push(acknowledged.elapsed().as_secs_f64() * 1e3);
                }
                Ok::<_, anyhow::Error>(samples)
            })
        })
        .collect();
    let mut samples = Vec::new();
    for task in tasks {
        samples.extend(task.await??);
    }
    let rate = samples.len() as f64 / started.elapsed().as_secs_f64();
    report.add("http", "paced commands", rate, "cmds/s", Some(Demand::AtLeast(950.0)));
    report.add("http", "commit to visible p50", quantile(&mut samples, 0.5), "ms", None);
    let most = if plan.database.is_some() { 100.0 } else { 50.0 };
    report.add("http", "commit to visible p99", quantile(&mut samples, 0.99), "ms", Some(Demand::AtMost(most)));
    Ok(())
}

async fn reads(plan: &Plan, node: &Served, time: Duration, report: &mut Report) -> Result<()> {
    report.doing("64 connections read");
    let reader = node.brain.memories.clone();
    let list = cairn_read_model::memories::ListQuery { limit: Some(200), ..Default::default() };
    let page = tokio::task::spawn_blocking(move || reader.list(&list)).await??;
    let ids: Arc<[String]> = page.items.iter().map(|memory| memory.id.to_string()).collect();
    let token = node.token.clone();
    let get = {
        let token = token.clone();
        move |connection: usize, number: usize| {
            let id = &ids[(connection * 17 + number) % ids.len()];
            request("GET", &format!("/memories/{id}"), &token, None)
        }
    };
    let mut seen = load(node.address, CONNECTIONS, time, get).await?;
    report.add(
        "http",
        "GET /memories/{id}, 64 conns",
        seen.rate,
        "reads/s",
        plan.embedded(Demand::AtLeast(10_000.0)),
    );
    report.add(
        "http",
        "GET /memories/{id} p99",
        quantile(&mut seen.samples, 0.99),
        "ms",
        Some(Demand::AtMost(100.0)),
    );
    let list = move |_: usize, _: usize| request("GET", "/memories?limit=20", &token, None);
    let mut seen = load(node.address, CONNECTIONS, time, list).await?;
    report.add("http", "GET /memories (20 items), 64 conns", seen.rate, "reads/s", None);
    report.add("http", "GET /memories p99", quantile(&mut seen.samples, 0.99), "ms", Some(Demand::AtMost(100.0)));
    Ok(())
}
