//! `cairn up`: starts the brain, serves it, and stops it in order.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use axum::extract::Request;
use axum::http::Uri;
use axum::{Router, ServiceExt};
use cairn_domain::id::PrincipalId;
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_telemetry::{Export, Headers, Metrics, Telemetry, usage};
use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tower::Layer;
use tower::util::MapRequestLayer;
use tracing::info;

use crate::brain::Brain;
use crate::cli::UpArgs;
use crate::cli::args::{self, Global};
use crate::config::{Config, LogFormat, default_data_folder};
use crate::data_folder::{DataFolder, Running};
use crate::importer::{self, ImportReport, ImportRequest, ImportState};
use crate::{federation, follow, gateway, http, kafka};

/// How long open requests get to end when the node stops.
const SHUTDOWN_PATIENCE: Duration = Duration::from_secs(10);

/// How long requests that were dropped get to notice.
const LET_GO_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether they have.
const LET_GO_POLL: Duration = Duration::from_millis(5);

/// How often a running import is looked at.
const IMPORT_POLL: Duration = Duration::from_millis(100);

/// Runs a node until it is told to stop. A standby that has taken over goes on as the primary.
pub async fn up(global: &Global, args: UpArgs) -> Result<()> {
    let data = match &global.data {
        Some(data) => data.clone(),
        None => default_data_folder()?,
    };
    let mut config = Config::load(&data, args.config.as_deref())?;
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    let telemetry = start_telemetry(&mut config, args.log)?;
    let metrics = Arc::new(Metrics::install()?);
    let ended = loop {
        match serve_as_is(global.quiet, &args.import, &mut config, Arc::clone(&metrics)).await {
            Ok(Ended::TakenOver) => {}
            Ok(Ended::Stopped) => break Ok(()),
            Err(error) => break Err(error),
        }
        let promoted = tokio::select! {
            promoted = follow::await_promotion(&data) => promoted,
            stopped = asked_to_stop() => break stopped,
        };
        if promoted.is_err() {
            break promoted;
        }
    };
    end_telemetry(telemetry).await;
    ended
}

/// Why a node does not serve any more.
enum Ended {
    /// It was told to stop.
    Stopped,
    /// Its folder, a standby's, is being taken over.
    TakenOver,
}

/// Serves the folder as what it is.
async fn serve_as_is(
    quiet: bool,
    vaults: &[PathBuf],
    config: &mut Config,
    metrics: Arc<Metrics>,
) -> Result<Ended> {
    let listener = TcpListener::bind(config.listen)
        .await
        .with_context(|| format!("cannot listen on {}; is another node running? try --listen", config.listen))?;
    // Should it go on as something else, it is found where it was.
    config.listen = listener.local_addr()?;
    let (url, port) = (format!("http://{}", config.listen), config.listen.port());
    let brain = Brain::open(config, metrics).await?;
    let mut copies = follow::start(&brain, config, port).await?;
    brain.folder.announce(&Running { url: url.clone(), pid: std::process::id(), brain: brain.brain })?;
    measure_pool(&brain);
    let gateway = match &config.gateway {
        Some(gateway) => Some(gateway::start(&brain, gateway).await?),
        None => None,
    };
    let mut elsewhere = Elsewhere::start(&brain, config, port).await?;
    let stop = CancellationToken::new();
    let server = tokio::spawn(serve(listener, Arc::clone(&brain), stop.clone()));
    if !quiet {
        greet(&brain, &url, config);
        if let Some(gateway) = &gateway {
            println!("  kurrentdb://{}", gateway.address);
        }
    }
    let worked = async {
        for vault in vaults {
            import(&brain, vault, quiet).await?;
        }
        // Whoever reads lines of JSON is no newcomer.
        if !quiet && config.log == LogFormat::Text && brain.shut().is_none() {
            suggest_next(&brain);
        }
        std::future::pending::<Result<()>>().await
    };
    let ended = tokio::select! {
        result = worked => result.map(|()| Ended::Stopped),
        result = asked_to_stop() => result.map(|()| Ended::Stopped),
        result = copies.taken_over(&brain) => result.map(|()| Ended::TakenOver),
        never = elsewhere.leave_when_replaced(&brain) => match never {},
    };
    if !quiet && brain.imports.is_running() {
        eprintln!("The import is interrupted; import again to complete it. Nothing is written twice.");
    }
    info!("stopping");
    brain.stopping.cancel();
    brain.folder.withdraw();
    stop.cancel();
    if tokio::time::timeout(SHUTDOWN_PATIENCE, server).await.is_err() {
        info!("some requests did not end in time and were dropped");
    }
    if let Some(gateway) = gateway {
        gateway.ended().await;
    }
    elsewhere.ended().await;
    copies.ended().await;
    brain.close().await;
    let_go(brain).await;
    ended
}

/// Waits until nobody holds the brain any more, nor its log with the keys, and then lets the folder go.
async fn let_go(brain: Arc<Brain>) {
    let (held, log, began) = (Arc::downgrade(&brain), Arc::downgrade(&brain.log), Instant::now());
    let mut alone = Arc::try_unwrap(brain);
    while let Err(shared) = alone {
        if began.elapsed() > LET_GO_PATIENCE {
            // A request that hangs: what is durable is closed all the same.
            shared.folder.let_go();
            return;
        }
        drop(shared);
        tokio::time::sleep(LET_GO_POLL).await;
        let Some(shared) = held.upgrade() else { return };
        alone = Arc::try_unwrap(shared);
    }
    let Ok(brain) = alone else { return };
    let folder = folder_alone(brain);
    while log.strong_count() > 0 && began.elapsed() < LET_GO_PATIENCE {
        tokio::time::sleep(LET_GO_POLL).await;
    }
    drop(folder);
}

/// Drops everything of a brain but its folder.
fn folder_alone(brain: Brain) -> DataFolder {
    brain.folder
}

/// What a node does beyond its own machine in the brain's name: only one node of a brain may.
#[derive(Default)]
struct Elsewhere {
    kafka: Option<kafka::Working>,
    federation: Option<federation::Federation>,
}

impl Elsewhere {
    async fn start(brain: &Arc<Brain>, config: &Config, port: u16) -> Result<Self> {
        if brain.shut().is_some() {
            return Ok(Self::default());
        }
        let kafka = config.kafka.as_ref().map(|config| kafka::start(brain, config)).transpose()?;
        let federation = federation::start(brain, config, port).await?;
        Ok(Self { kafka, federation })
    }

    /// Ends it as soon as another node has taken over.
    async fn leave_when_replaced(&mut self, brain: &Brain) -> std::convert::Infallible {
        if let Some(guarded) = brain.log.store().guarded() {
            let mut shut = guarded.gate().shut();
            // It fails only with the gate itself.
            if shut.wait_for(Option::is_some).await.is_ok() {
                std::mem::take(self).ended().await;
            }
        }
        std::future::pending().await
    }

    async fn ended(self) {
        if let Some(kafka) = self.kafka {
            kafka.ended().await;
        }
        if let Some(federation) = self.federation {
            federation.ended().await;
        }
    }
}

/// Begins to write the log, as the command line or else the configuration says, and to send traces where there is a
/// collector.
pub fn start_telemetry(config: &mut Config, asked: Option<args::LogFormat>) -> Result<Telemetry> {
    if let Some(format) = asked {
        config.log = match format {
            args::LogFormat::Text => LogFormat::Text,
            args::LogFormat::Json => LogFormat::Json,
        };
    }
    let format = match config.log {
        LogFormat::Text => cairn_telemetry::LogFormat::Text,
        LogFormat::Json => cairn_telemetry::LogFormat::Json,
    };
    let filter = std::env::var("RUST_LOG").unwrap_or_else(|_| default_filter(config.log).to_owned());
    let traces = &config.traces;
    let headers = match &traces.headers_file {
        Some(file) => {
            let text =
                std::fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
            text.trim().parse()?
        }
        None => Headers::default(),
    };
    let export = Export {
        endpoint: traces.endpoint.clone(),
        headers,
        service_name: traces.service_name.clone(),
        sample_ratio: traces.sample_ratio,
    };
    Ok(cairn_telemetry::init(format, &filter, &export)?)
}

/// Sends the traces that are left, and waits for that no longer than a moment.
pub async fn end_telemetry(telemetry: Telemetry) {
    // A task is lost only where the runtime itself is ending.
    let _ = tokio::task::spawn_blocking(move || telemetry.shutdown()).await;
}

/// Measures the connections to the database.
pub fn measure_pool(brain: &Brain) {
    let Some(pool) = brain.database.clone() else { return };
    brain.metrics.on_render(move || {
        let idle = u32::try_from(pool.num_idle()).unwrap_or(u32::MAX);
        let in_use = pool.size().saturating_sub(idle);
        usage::pool("postgres", usage::Pool { in_use, idle, max: pool.options().get_max_connections() });
    });
}

/// A person at a terminal is told what goes wrong; a log for machines also what happens.
/// The vector index warns of flags that an embedded one does not have.
const fn default_filter(format: LogFormat) -> &'static str {
    match format {
        LogFormat::Text => "warn,qdrant_edge=error",
        LogFormat::Json => "info,qdrant_edge=error",
    }
}

/// Serves HTTP until told to stop, then lets open requests end.
pub async fn serve(listener: TcpListener, brain: Arc<Brain>, stop: CancellationToken) -> Result<()> {
    serve_until(listener, http::service(brain), stop).await
}

/// Serves routes until told to stop, then lets open requests end.
pub async fn serve_until(listener: TcpListener, routes: Router, stop: CancellationToken) -> Result<()> {
    let entities = MapRequestLayer::new(entities_are_memories);
    let service = entities.layer(routes);
    axum::serve(listener, ServiceExt::<Request>::into_make_service(service))
        .with_graceful_shutdown(async move { stop.cancelled().await })
        .await?;
    Ok(())
}

/// S0-76 to S0-81 call memories entities; both names are answered alike.
fn entities_are_memories<B>(mut request: axum::http::Request<B>) -> axum::http::Request<B> {
    let path = request.uri().path_and_query().map(|path| path.as_str().to_owned()).unwrap_or_default();
    if let Some(rest) = path.strip_prefix("/entities")
        && (rest.is_empty() || rest.starts_with(['/', '?']))
        && let Ok(uri) = format!("/memories{rest}").parse::<Uri>()
    {
        *request.uri_mut() = uri;
    }
    request
}

/// Waits for Ctrl-C or SIGTERM.
pub async fn asked_to_stop() -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

/// The owner as the importer at start acts for them.
fn owner(brain: &Brain) -> Result<Principal> {
    let now = Utc::now();
    let tokens = brain.tokens.known()?.list();
    let token = tokens.into_iter().find(|token| token.ceiling == Truth::User && token.check(now).is_ok());
    let token = token.context("the brain has no owner's token")?;
    Ok(Principal {
        id: PrincipalId::new(token.id),
        ceiling: Truth::User,
        origin: Origin::of(Truth::User, "import"),
    })
}

async fn import(brain: &Arc<Brain>, vault: &Path, quiet: bool) -> Result<()> {
    let request = ImportRequest { path: vault.to_owned(), prune: false, dry_run: false };
    let id = importer::start(brain, owner(brain)?, request)?;
    let bar = match quiet || !std::io::stderr().is_terminal() {
        true => ProgressBar::hidden(),
        false => ProgressBar::new(0).with_style(
            ProgressStyle::with_template("{msg} {bar:32} {pos}/{len} {elapsed}").expect("the template is valid"),
        ),
    };
    let report = loop {
        let Some(report) = brain.imports.report(id) else { bail!("the import was forgotten") };
        bar.set_length(report.total as u64);
        bar.set_position(report.done as u64);
        match report.state {
            ImportState::Reading => bar.set_message("reading"),
            ImportState::Writing => bar.set_message("writing"),
            ImportState::Done | ImportState::Failed => break report,
        }
        tokio::time::sleep(IMPORT_POLL).await;
    };
    bar.finish_and_clear();
    if let Some(error) = &report.error {
        bail!("{} was not imported: {error}", vault.display());
    }
    if !quiet {
        tell(&report);
    }
    Ok(())
}

fn tell(report: &ImportReport) {
    println!(
        "Imported {}: {} files, {} memories new, {} changed, {} unchanged, {} links resolved, {} to nothing, {:.1} s",
        report.path.display(),
        report.files,
        report.created,
        report.changed,
        report.unchanged,
        report.counts.links_resolved,
        report.counts.links_unresolved,
        report.elapsed_ms as f64 / 1_000.0,
    );
    for problem in &report.problems {
        println!("  {}: {}", problem.path, problem.message);
    }
    for failure in &report.failures {
        println!("  {}: {}", failure.path, failure.message);
    }
}

fn greet(brain: &Brain, url: &str, config: &Config) {
    println!("Cairn {} serves brain {}", env!("CARGO_PKG_VERSION"), brain.brain);
    println!("  url    {url}");
    if let Some(shut) = brain.shut() {
        println!("  READ ONLY: {}", shut.reason());
    }
    println!("  data   {}", brain.folder.path().display());
    println!("  token  {}", brain.folder.owner_token().display());
    match (&config.kurrentdb, &config.database) {
        (Some(_), Some(_)) => {
            println!("  the log is in KurrentDB, keys, tokens and read models are in PostgreSQL");
        }
        (Some(_), None) => println!("  the log is in KurrentDB"),
        (None, Some(_)) => println!("  log, keys, tokens and read models are in PostgreSQL"),
        (None, None) => {}
    }
    if let Some(qdrant) = &config.qdrant {
        println!("  the search index is at {}", qdrant.url);
    }
    if !config.federation.answered_at.is_empty() {
        println!("  what is asked about sharing is passed on to {}", config.federation.answered_at);
    }
    if let Some(kafka) = &config.kafka {
        if let Some(brokers) = &kafka.brokers {
            println!("  events are published to {brokers}");
        }
        for source in &kafka.sources {
            println!("  the messages of the topic {} are taken in", source.topic);
        }
    }
}

fn suggest_next(brain: &Brain) {
    let program = std::env::current_exe().map_or_else(|_| "cairn".to_owned(), |path| path.display().to_string());
    let folder = match default_data_folder() {
        Ok(default) if default == brain.folder.path() => String::new(),
        _ => format!(" --data {}", brain.folder.path().display()),
    };
    println!("\nTry, in another terminal:");
    println!("  alias cairn='{program}{folder}'");
    println!("  cairn search \"what did we decide\"");
    println!("  cairn list --kind task");
    println!("  cairn token create --name claude --ceiling ai-cloud");
    println!("  cairn status");
    println!("\nCtrl-C stops the node.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entities_are_another_name_for_memories() {
        let rewritten = |path: &str| {
            let request = axum::http::Request::builder().uri(path).body(()).expect("valid");
            entities_are_memories(request).uri().to_string()
        };
        assert_eq!(rewritten("/entities"), "/memories");
        assert_eq!(rewritten("/entities?kind=task"), "/memories?kind=task");
        assert_eq!(rewritten("/entities/1/history"), "/memories/1/history");
        assert_eq!(rewritten("/entitiesandmore"), "/entitiesandmore");
    }
}
