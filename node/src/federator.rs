//! `cairn-federation`: a process that meets other brains, for nodes that leave it to others.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use cairn_telemetry::Metrics;
use clap::Parser;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::brain::{Brain, Role};
use crate::cli::args::LogFormat;
use crate::config::{Config, default_data_folder};
use crate::data_folder::Running;
use crate::up::{asked_to_stop, end_telemetry, measure_pool, serve_until, start_telemetry};
use crate::{federation, http};

/// The port it answers on unless told otherwise.
const DEFAULT_PORT: u16 = 7414;

/// Shares memories with other brains, for nodes that run with `enabled = false` in `[federation]`.
///
/// Several may run: one of them meets other brains, and when that one ends another takes over.
#[derive(Debug, Clone, Parser)]
#[command(name = "cairn-federation", version, max_term_width = 110)]
#[command(after_help = "\
Examples:
  DATABASE_URL=postgres://cairn:secret@db/cairn CAIRN_BRAIN_KEY=/run/secrets/brain.key cairn-federation
  cairn --url http://127.0.0.1:7414 --data ~/.local/share/cairn-federation peer invite
  curl -s http://127.0.0.1:7414/health/live

It needs the database that the nodes use, and the brain's key, which is in the data folder of the node that was first.")]
pub struct FederationArgs {
    /// Its own data folder [default: $XDG_DATA_HOME/cairn-federation or ~/.local/share/cairn-federation]
    #[arg(long, env = "CAIRN_DATA", hide_env_values = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file [default: cairn.toml in the data folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to answer HTTP: health, metrics, and the API of sharing [default: 127.0.0.1:7414]
    #[arg(long, env = "CAIRN_LISTEN", hide_env_values = true, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How to write the log: text or json [default: text]
    #[arg(long, env = "CAIRN_LOG", hide_env_values = true, value_name = "FORMAT", hide_possible_values = true)]
    log: Option<LogFormat>,
    /// Print nothing but what goes wrong
    #[arg(short, long)]
    quiet: bool,
}

/// Runs until told to stop.
///
/// # Errors
/// When there is no database to work for, or it cannot be used, or others cannot be listened for.
pub async fn run(args: FederationArgs) -> Result<()> {
    let data = match args.data {
        Some(data) => data,
        None => default_data_folder()?.with_file_name("cairn-federation"),
    };
    let mut config = Config::load(&data, args.config.as_deref())?;
    config.listen = args.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, DEFAULT_PORT)));
    if config.database.is_none() {
        bail!(
            "no database is configured; set DATABASE_URL. A node that keeps everything in its data folder meets \
             other brains itself"
        );
    }
    if !config.federation.enabled {
        bail!("[federation] says `enabled = false`, and there is nothing else for this program to do");
    }
    let telemetry = start_telemetry(&mut config, args.log)?;
    let metrics = Arc::new(Metrics::install()?);
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; is another one running? try --listen", config.listen))?;
    let at = listener.local_addr()?;
    let url = format!("http://{at}");
    let brain = Brain::open_as(Role::Federation, &config, metrics).await?;
    brain.folder.announce(&Running { url: url.clone(), pid: std::process::id(), brain: brain.brain })?;
    measure_pool(&brain);
    let federation = federation::start(&brain, &config, at.port()).await?;
    let stop = CancellationToken::new();
    let service = http::federation_service(Arc::clone(&brain));
    let server = tokio::spawn(serve_until(listener, service, stop.clone()));
    if !args.quiet {
        println!("Cairn federation {} works for brain {}", env!("CARGO_PKG_VERSION"), brain.brain);
        println!("  url    {url}");
        println!("  data   {}", brain.folder.path().display());
    }
    let ended = asked_to_stop().await;
    info!("stopping");
    stop.cancel();
    // Its requests are short.
    let _ = server.await;
    brain.stopping.cancel();
    if let Some(federation) = federation {
        federation.ended().await;
    }
    brain.close().await;
    end_telemetry(telemetry).await;
    ended
}
