//! Followers: the primary's side within a node, the program that follows, and taking over.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cairn_event_store::SharedStore;
use cairn_event_store::notary::Notary;
use cairn_follower::{Folder, FollowLink, Paired, Primary, PrimaryConfig, Role, Standby, TakenOver, kept_aside, pair};
use cairn_projector::{Projection, Projector, SearchProjection, SearchReader, SqliteProjection, Turns};
use cairn_read_model::{Memories, Timeline};
use chrono::{DateTime, Utc};
use serde_json::json;
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::brain::{Brain, embedder};
use crate::cli::PromoteArgs;
use crate::cli::args::Global;
use crate::config::{Config, default_data_folder};
use crate::data_folder::{DataFolder, DataFolderError, Identity, write_private};
use crate::up::{asked_to_stop, end_telemetry, start_telemetry};

/// How often a standby looks whether it is asked to end, and one that takes over whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a running standby gets to end when the folder takes over.
const END_PATIENCE: Duration = Duration::from_secs(10);
/// How long a primary gets to answer that it hands over. One that is gone does not.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(4);
/// How far from the API's port followers are answered.
const PORT_AFTER: u16 = 2;

/// Begins to answer followers; none where the log is in a server.
///
/// # Errors
/// When the folder or the network cannot be used.
pub fn start(brain: &Arc<Brain>, config: &Config, port: u16) -> Result<Option<Primary>> {
    let Some(guarded) = brain.log.store().guarded() else { return Ok(None) };
    let own = PrimaryConfig {
        brain: brain.brain,
        brain_key: Zeroizing::new(brain.key.to_bytes()),
        name: name(config),
        listen: config.follower.listen,
        port: port.checked_add(PORT_AFTER).unwrap_or(0),
        announce: config.follower.announce.clone(),
    };
    let folder = Folder::of(brain.folder.path());
    let (gate, store) = (Arc::clone(guarded.gate()), Arc::clone(guarded.store()));
    let primary = Primary::start(own, folder, gate, store, Arc::clone(&brain.log), CancellationToken::new());
    let primary = primary.context("followers cannot be answered; see [follower] in the configuration")?;
    // It is started once.
    let _ = brain.followers.set(primary.clone());
    Ok(Some(primary))
}

/// Follows a primary until told to stop.
///
/// # Errors
/// When the link cannot be used, or following makes no sense any more.
pub async fn follow(global: &Global, link: Option<&str>, file: Option<&Path>) -> Result<()> {
    let (data, mut config) = configured(global, file)?;
    let telemetry = start_telemetry(&mut config, None)?;
    let folder = DataFolder::open(&data)?;
    let control = Folder::of(&data);
    control.ask_no_more()?;
    if let Some(link) = link {
        begin(global, &config, &folder, &control, &link.parse()?).await?;
    }
    let Role::Standby(of) = control.state()?.role else {
        bail!("this folder follows nobody; `cairn follow <link>`, with a link of `cairn follow invite`, makes it a standby");
    };
    let identity = folder.identity(config.brain_key.as_deref(), true)?;
    let standby = Arc::new(opened(&config, &control, &identity).await?);
    if !global.quiet {
        println!("Cairn {} follows {}, brain {}", env!("CARGO_PKG_VERSION"), of.name, identity.brain);
        println!("  data   {}", data.display());
        println!("  `cairn --data {} promote` takes over. Ctrl-C ends it.", data.display());
    }
    let ended = run(&config, &folder, &control, identity, &standby).await;
    standby.close().await;
    end_telemetry(telemetry).await;
    ended
}

/// Uses a link: from here on the folder is a standby's.
async fn begin(
    global: &Global,
    config: &Config,
    folder: &DataFolder,
    control: &Folder,
    link: &FollowLink,
) -> Result<()> {
    let named = config.brain_key.as_deref();
    let own = match folder.identity(named, true) {
        Ok(identity) => Some(identity),
        Err(DataFolderError::NoIdentity { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if own.is_some_and(|own| own.brain != link.brain) || (control.has_log() && !key_file(config, folder).exists()) {
        bail!("{} holds another brain; follow in a folder of its own", folder.path().display());
    }
    let machine = control.machine()?;
    let paired = pair(&machine, link, &name(config)).await?;
    write_private(&key_file(config, folder), hex::encode(&paired.brain_key[..]).as_bytes())?;
    let identity = folder.identity(named, true)?;
    if identity.brain != link.brain {
        bail!("the primary sent the key of another brain");
    }
    let has_log = control.has_log();
    if has_log {
        rejoin(global, control, &machine, &paired, &identity).await?;
    }
    control.follow(&paired, has_log)?;
    Ok(())
}

/// Keeps aside what only this machine has.
async fn rejoin(
    global: &Global,
    control: &Folder,
    machine: &cairn_follower::Machine,
    paired: &Paired,
    identity: &Identity,
) -> Result<()> {
    let wrapping = Zeroizing::new(identity.wrapping_key());
    let kept = control.keep_aside(machine, paired, identity.brain, wrapping).await?;
    match kept {
        Some(kept) if !global.quiet => println!(
            "This machine had {} events after position {} that {} does not have. They are kept in\n  {}\nin plain text; delete it when \
             you have what you need of it.",
            kept.events,
            kept.after,
            paired.name,
            kept.file.display()
        ),
        Some(_) | None => {}
    }
    Ok(())
}

fn key_file(config: &Config, folder: &DataFolder) -> std::path::PathBuf {
    config.brain_key.clone().unwrap_or_else(|| folder.path().join("brain.key"))
}

async fn opened(config: &Config, control: &Folder, identity: &Identity) -> Result<Standby> {
    let listen = config.follower.announce.first().cloned().or_else(|| Some(listens(config)?.to_string()));
    let wrapping = Zeroizing::new(identity.wrapping_key());
    Ok(Standby::open(control.clone(), identity.brain, wrapping, name(config), listen).await?)
}

/// Where the folder will answer once it is a primary's.
fn listens(config: &Config) -> Option<SocketAddr> {
    let port = config.listen.port().checked_add(PORT_AFTER)?;
    Some(config.follower.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port))))
}

/// Follows, and folds what comes, so that taking over need not wait for that.
async fn run(
    config: &Config,
    folder: &DataFolder,
    control: &Folder,
    identity: Identity,
    standby: &Arc<Standby>,
) -> Result<()> {
    folder.own_read_models(identity.brain)?;
    let store: SharedStore = standby.log().clone();
    let projections: Vec<Arc<dyn Projection>> = vec![
        Arc::new(SqliteProjection::memories(Memories::default())),
        Arc::new(SqliteProjection::timeline(Timeline::default())),
        Arc::new(SearchProjection::new(SearchReader::default(), embedder(&config.embedder).await?)),
    ];
    let projector = Projector::start_in_turns(store, folder.read(), projections, Turns::Alone).await?;
    let stop = CancellationToken::new();
    let (notary, _noted) = Notary::new(Arc::clone(standby.log()), identity.key, folder.notary());
    let notary = tokio::spawn(notary.run(stop.clone().cancelled_owned()));
    let asked = async {
        while !control.is_asked_to_end() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    let ended = tokio::select! {
        ended = standby.run(&stop) => ended.map_err(Into::into),
        ended = asked_to_stop() => ended,
        () = asked => Ok(()),
    };
    stop.cancel();
    projector.shutdown().await;
    // Its panic, if any, has been reported by the panic hook.
    let _ = notary.await;
    ended
}

/// Makes a standby's folder the primary's.
///
/// # Errors
/// When the folder is no standby's, or lacks events and is not told to take over all the same.
pub async fn promote(global: &Global, args: &PromoteArgs) -> Result<()> {
    let (data, config) = configured(global, args.config.as_deref())?;
    let control = Folder::of(&data);
    match control.state()?.role {
        Role::Primary(_) => bail!("{} is a primary's already; `cairn up` serves it", data.display()),
        Role::Replaced(replaced) if !args.force => bail!(
            "this node was replaced by {}; `cairn follow <link>` rejoins it as a follower. With --force it becomes the primary again, and \
             what {} took since then is not here",
            replaced.by,
            replaced.by
        ),
        Role::Replaced(_) => {
            let _folder = DataFolder::open(&data)?;
            let epoch = control.promote(false)?;
            println!("{} is the primary's again, epoch {epoch}; `cairn up` serves it", data.display());
            return Ok(());
        }
        Role::Standby(_) => {}
    }
    let taken = take_over(&config, &control, &data).await;
    control.ask_no_more()?;
    let taken = taken?;
    refuse_loss(&taken, args.force)?;
    let epoch = control.promote(taken.handed_over)?;
    tell(global, &data, &taken, epoch)
}

async fn take_over(config: &Config, control: &Folder, data: &Path) -> Result<TakenOver> {
    let folder = open_when_free(control, data).await?;
    let identity = folder.identity(config.brain_key.as_deref(), true)?;
    let standby = opened(config, control, &identity).await?;
    let taken = standby.take_over(HANDOVER_PATIENCE).await;
    standby.close().await;
    Ok(taken?)
}

/// Opens the folder; a standby at work in it is asked to end.
async fn open_when_free(control: &Folder, data: &Path) -> Result<DataFolder> {
    let began = Instant::now();
    loop {
        match DataFolder::open(data) {
            Err(DataFolderError::InUse { .. }) if began.elapsed() < END_PATIENCE => control.ask_to_end()?,
            opened => return Ok(opened?),
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn refuse_loss(taken: &TakenOver, force: bool) -> Result<()> {
    if force {
        return Ok(());
    }
    if !taken.whole {
        bail!("this standby has never had the whole log, only {} events of {}; --force takes over with those", taken.has.position, taken.primary_head);
    }
    if taken.lacks() > 0 {
        bail!(
            "this standby lacks the last {} events that the primary is known to have taken; bring the primary back, or lose them with \
             --force",
            taken.lacks()
        );
    }
    Ok(())
}

fn tell(global: &Global, data: &Path, taken: &TakenOver, epoch: u64) -> Result<()> {
    let kept = kept_aside(&Folder::of(data))?;
    if global.json {
        let lost = taken.lacks();
        println!("{}", json!({ "epoch": epoch, "taken_over": taken, "known_lost": lost, "kept_aside": kept }));
        return Ok(());
    }
    println!("{} is the primary's now, epoch {epoch}; `cairn --data {} up` serves it", data.display(), data.display());
    let heard = i64::try_from(taken.heard_at).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    match (taken.handed_over, taken.lacks()) {
        (true, _) => println!("  the old primary has handed over {} events: nothing is lost", taken.has.position),
        (false, 0) => println!(
            "  it has all {} events that the old primary was known to have, {} seconds ago ({}); what that took after is lost, unless it \
             was synchronous",
            taken.has.position,
            Utc::now().signed_duration_since(heard).num_seconds(),
            heard.to_rfc3339()
        ),
        (false, lacks) => println!("  {lacks} events that the old primary was known to have are lost with it"),
    }
    if !taken.handed_over {
        println!("  the old primary could not be reached: it takes writes until it hears of this. Keep its clients away");
    }
    Ok(())
}

fn configured(global: &Global, file: Option<&Path>) -> Result<(std::path::PathBuf, Config)> {
    let data = match &global.data {
        Some(data) => data.clone(),
        None => default_data_folder()?,
    };
    let config = Config::load(&data, file)?;
    if config.database.is_some() || config.kurrentdb.is_some() {
        bail!("only a log in the data folder has followers; this one is in PostgreSQL or KurrentDB: use that database's own replication");
    }
    Ok((data, config))
}

fn name(config: &Config) -> String {
    if !config.follower.name.is_empty() {
        return config.follower.name.clone();
    }
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if host.is_empty() { "cairn".to_owned() } else { host }
}
