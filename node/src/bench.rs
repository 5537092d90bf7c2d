//! `cairn bench`: every figure beside the limit it is measured against, in one run on one machine.
//!
//! The load generator runs in the same process, on the same cores as the node. Machines are noisy: what counts are
//! medians, and ratios to what the same machine did in the same run.

mod append;
mod client;
mod corpus;
mod figures;
mod gateway;
mod http;
mod kafka;
mod memories;
mod postgres;
mod rebuilds;
mod vaults;

use std::sync::Arc;

use anyhow::{Context, Result};
use cairn_telemetry::Metrics;

use crate::cli::BenchArgs;
use crate::cli::args::Global;
use crate::config::{Config, DatabaseConfig};
use figures::{Demand, Report};

/// The groups of measurements, in the order they run.
const GROUPS: [&str; 6] = ["append", "gateway", "kafka", "http", "memories", "vault"];

/// How many memories the bench works on: the small size is what a person has, the large one what a team has.
const SIZES: [usize; 2] = [10_000, 200_000];

/// What a group of measurements needs to know.
pub struct Plan {
    /// Shorter runs.
    pub quick: bool,
    /// How many memories to search among.
    pub sizes: Vec<usize>,
    /// A folder for everything the bench writes.
    pub folder: tempfile::TempDir,
    /// The database that nodes keep everything in, where the configuration names one.
    pub database: Option<DatabaseConfig>,
    /// What is measured inside of the node.
    pub metrics: Arc<Metrics>,
}

impl Plan {
    /// What is demanded of a node that keeps everything in its data folder.
    pub fn embedded(&self, demand: Demand) -> Option<Demand> {
        self.database.is_none().then_some(demand)
    }
}

/// Measures this machine and prints what was seen.
pub async fn bench(global: &Global, args: BenchArgs) -> Result<()> {
    for name in &args.only {
        if !GROUPS.contains(&name.as_str()) {
            anyhow::bail!("there is no measurement `{name}`; there are {}", GROUPS.join(", "));
        }
    }
    let sizes = match (args.memories.is_empty(), args.quick) {
        (false, _) => args.memories.clone(),
        (true, true) => SIZES[..1].to_vec(),
        (true, false) => SIZES.to_vec(),
    };
    // The data lies where a node's would: a folder in memory would measure something else.
    let folder = tempfile::Builder::new()
        .prefix("cairn-bench-")
        .disable_cleanup(args.keep)
        .tempdir_in(std::env::current_dir()?);
    let folder = folder.context("the bench needs a folder it can write to; run it in one")?;
    let plan = Plan {
        quick: args.quick,
        sizes,
        database: Config::load(folder.path(), None)?.database,
        folder,
        metrics: Arc::new(Metrics::install()?),
    };
    let wanted = |name: &str| args.only.is_empty() || args.only.iter().any(|only| only == name);
    let mut report = Report::new(global.json, global.quiet);
    if wanted("append") {
        append::measure(&plan, &mut report).await.context("append")?;
    }
    if wanted("append")
        && let Some(database) = &plan.database
    {
        postgres::measure(&plan, database, &mut report).await.context("append to PostgreSQL")?;
    }
    if wanted("gateway") {
        gateway::measure(&plan, &mut report).await.context("gateway")?;
    }
    if wanted("kafka") {
        kafka::measure(&plan, &mut report).await.context("kafka")?;
    }
    if wanted("http") {
        http::measure(&plan, &mut report).await.context("http")?;
    }
    if wanted("memories") {
        memories::measure(&plan, &mut report).await.context("memories")?;
    }
    if wanted("vault") {
        match &args.vault {
            Some(vault) => vaults::measure(&plan, vault, &mut report).await.context("vault")?,
            None => report
                .skip("vault", "name a vault with --vault to measure its import and the ranking of its search"),
        }
    }
    report.finish();
    Ok(())
}
