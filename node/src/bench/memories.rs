//! Brains of different sizes: catching up, rebuilding, searching, starting, and what they cost at rest.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::Plan;
use super::client::{load, request};
use super::corpus;
use super::figures::{Demand, Report, quantile};
use super::http::Served;
use super::rebuilds;
use crate::brain::projection::{MEMORIES, TIMELINE};
use crate::data_folder::Running;

/// How long a started node rests before its memory is read.
const REST: Duration = Duration::from_secs(5);

/// Measures each size.
pub async fn measure(plan: &Plan, report: &mut Report) -> Result<()> {
    for &size in &plan.sizes {
        let folder = format!("memories-{size}");
        let node = Served::start(plan, &folder).await?;
        report.doing(&format!("{size} memories are appended"));
        let started = Instant::now();
        corpus::fill(node.brain.handler.store(), size).await?;
        let head = node.brain.handler.store().head().borrow().0;
        report.add("memories", format!("{size}: events in the log"), head as f64, "events", None);
        report.doing("the projections catch up");
        for name in [MEMORIES, TIMELINE] {
            let head = *node.brain.handler.store().head().borrow();
            node.brain.projector.wait_for(name, head, Duration::from_secs(1_800)).await?;
        }
        let rate = head as f64 / started.elapsed().as_secs_f64();
        report.add("memories", format!("{size}: append and project, live"), rate, "events/s", None);
        node.caught_up().await?;
        let rate = size as f64 / started.elapsed().as_secs_f64();
        report.add("memories", format!("{size}: searchable"), rate, "memories/s", None);
        put_in_order(&node, report).await?;
        rebuilds::measure(plan, &node, size, report).await?;
        search(plan, &node, size, report).await?;
        node.stop().await?;
        start(plan, &folder, size, report).await?;
    }
    Ok(())
}

/// Waits until the search index builds no graphs any more: for minutes after so many memories came at once, that takes what the
/// processors have left.
async fn put_in_order(node: &Served, report: &mut Report) -> Result<()> {
    report.doing("the search index is put in order");
    let index = node.brain.search.current().context("the search index does not serve")?;
    while index.optimize().await? || index.is_busy() {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

async fn search(plan: &Plan, node: &Served, size: usize, report: &mut Report) -> Result<()> {
    report.doing("searches");
    let time = Duration::from_secs(if plan.quick { 2 } else { 8 });
    let token = node.token.clone();
    let mut random = corpus::random(23);
    let queries: Vec<String> =
        (0..512).map(|number| corpus::query(&mut random, 2 + number % 3).replace(' ', "+")).collect();
    let ask = move |connection: usize, number: usize| {
        let query = &queries[(connection * 7 + number) % queries.len()];
        request("GET", &format!("/search?q={query}"), &token, None)
    };
    let mut seen = load(node.address, 1, time, ask).await?;
    for (share, name) in [(0.5, "p50"), (0.95, "p95"), (0.99, "p99")] {
        let demand = (share == 0.95).then_some(Demand::AtMost(10.0));
        report.add("memories", format!("{size}: search {name}"), quantile(&mut seen.samples, share), "ms", demand);
    }
    Ok(())
}

/// Starts the program itself on the folder: the time until it is ready, and the memory it holds at rest.
async fn start(plan: &Plan, folder: &str, size: usize, report: &mut Report) -> Result<()> {
    report.doing("a node starts on the folder");
    let data = plan.folder.path().join(folder);
    let started = Instant::now();
    let mut node = tokio::process::Command::new(std::env::current_exe()?)
        .args(["up", "--quiet", "--listen", "127.0.0.1:0", "--data"])
        .arg(&data)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    ready(&data).await?;
    let seconds = started.elapsed().as_secs_f64();
    report.add("memories", format!("{size}: ready after"), seconds, "s", Some(Demand::AtMost(2.0)));
    tokio::time::sleep(REST).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", node.id().context("it ended")?))?;
    let kib: f64 = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse().ok())
        .context("no VmRSS")?;
    let demand = (size <= 10_000).then_some(Demand::AtMost(250.0));
    report.add("memories", format!("{size}: resident at rest"), kib / 1024.0, "MiB", demand);
    node.start_kill()?;
    node.wait().await?;
    Ok(())
}

async fn ready(data: &Path) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(120);
    while Instant::now() < deadline {
        let running = std::fs::read(data.join("node.json")).ok();
        if let Some(running) = running.and_then(|text| serde_json::from_slice::<Running>(&text).ok()) {
            let answer = reqwest::get(format!("{}/health/ready", running.url)).await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(());
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("the node was not ready within two minutes")
}
