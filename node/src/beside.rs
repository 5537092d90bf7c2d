//! A program beside the nodes: it works for the brain in their database, and answers HTTP about that and nothing else.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use axum::Router;
use cairn_telemetry::{Metrics, Telemetry};
use clap::Args;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::brain::{Brain, Role};
use crate::cli::args::LogFormat;
use crate::config::{Config, default_data_folder};
use crate::data_folder::Running;
use crate::up::{asked_to_stop, end_telemetry, measure_pool, serve_until, start_telemetry};

/// One of the programs.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// What it is called, as a command and as a folder.
    pub name: &'static str,
    /// What it is there for.
    pub role: Role,
    /// The port it answers on unless told otherwise.
    pub port: u16,
    /// What becomes of its work where there is no database.
    pub without_database: &'static str,
}

/// What each of them is told.
#[derive(Debug, Clone, Args)]
pub struct BesideArgs {
    /// Its own data folder [default: one with the program's name in $XDG_DATA_HOME or ~/.local/share]
    #[arg(long, env = "CAIRN_DATA", hide_env_values = true, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The configuration file [default: cairn.toml in the data folder]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to answer HTTP [default: a port of its own on loopback, see below]
    #[arg(long, env = "CAIRN_LISTEN", hide_env_values = true, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// How to write the log: text or json [default: text]
    #[arg(long, env = "CAIRN_LOG", hide_env_values = true, value_name = "FORMAT", hide_possible_values = true)]
    log: Option<LogFormat>,
    /// Print nothing but what goes wrong
    #[arg(short, long)]
    quiet: bool,
}

impl BesideArgs {
    /// The configuration of a program.
    ///
    /// # Errors
    /// When it cannot be used, or names no database.
    pub fn configuration(&self, program: &Program) -> Result<Config> {
        let data = match &self.data {
            Some(data) => data.clone(),
            None => default_data_folder()?.with_file_name(program.name),
        };
        let mut config = Config::load(&data, self.config.as_deref())?;
        config.listen = self.listen.unwrap_or_else(|| SocketAddr::from((Ipv4Addr::LOCALHOST, program.port)));
        if config.database.is_none() {
            bail!("no database is configured; set DATABASE_URL. {}", program.without_database);
        }
        Ok(config)
    }
}

/// A program that has opened its brain.
pub struct Beside {
    /// The brain it works for.
    pub brain: Arc<Brain>,
    /// Where it answers.
    pub at: SocketAddr,
    /// What it says once it works.
    greeting: Option<String>,
    listener: TcpListener,
    telemetry: Telemetry,
}

impl Beside {
    /// Opens the brain, and makes known where that is answered.
    ///
    /// # Errors
    /// When the port is taken or the brain cannot be opened.
    pub async fn open(program: &Program, args: &BesideArgs, config: &mut Config) -> Result<Self> {
        let telemetry = start_telemetry(config, args.log)?;
        let metrics = Arc::new(Metrics::install()?);
        let listener = TcpListener::bind(config.listen).await.with_context(|| {
            format!("cannot listen on {}; is another one running? try --listen", config.listen)
        })?;
        let at = listener.local_addr()?;
        let url = format!("http://{at}");
        let brain = Brain::open_as(program.role, config, metrics).await?;
        brain.folder.announce(&Running { url: url.clone(), pid: std::process::id(), brain: brain.brain })?;
        measure_pool(&brain);
        let greeting = (!args.quiet).then(|| {
            let (name, version, data) = (program.name, env!("CARGO_PKG_VERSION"), brain.folder.path().display());
            format!("{name} {version} works for brain {}\n  url    {url}\n  data   {data}", brain.brain)
        });
        Ok(Self { brain, at, greeting, listener, telemetry })
    }

    /// Answers until told to stop; then has the work end, and closes the brain.
    ///
    /// # Errors
    /// When it cannot be told to stop.
    pub async fn serve(self, routes: Router, work_ended: impl Future<Output = ()>) -> Result<()> {
        let stop = CancellationToken::new();
        let server = tokio::spawn(serve_until(self.listener, routes, stop.clone()));
        if let Some(greeting) = self.greeting {
            println!("{greeting}");
        }
        let ended = asked_to_stop().await;
        info!("stopping");
        stop.cancel();
        // Its requests are short.
        let _ = server.await;
        self.brain.stopping.cancel();
        work_ended.await;
        self.brain.close().await;
        end_telemetry(self.telemetry).await;
        ended
    }
}
