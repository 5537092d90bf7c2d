//! Followers: the primary's side within a node, the standby's, and taking over.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use cairn_event_store::{Keyring, Sealed, SqliteStore};
use cairn_follower::{
    Folder, FollowError, FollowLink, Gate, Guarded, Machine, Paired, Primary, PrimaryConfig, PrimaryOf, Role,
    Standby, StandbyConfig, TakenOver, kept_aside, pair,
};
use chrono::{DateTime, Utc};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;
use zeroize::Zeroizing;

use crate::brain::Brain;
use crate::cli::args::Global;
use crate::cli::{FollowArgs, PromoteArgs, UpArgs};
use crate::config::{Config, default_data_folder};
use crate::data_folder::{DataFolder, DataFolderError, Identity, Running, write_private};
use crate::up::up;

/// How often a standby looks whether it is asked to end, and one that takes over whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long a running standby gets to end when the folder takes over: it lets open requests end first.
const END_PATIENCE: Duration = Duration::from_secs(20);
/// How long a primary gets to answer that it hands over. One that is gone does not.
const HANDOVER_PATIENCE: Duration = Duration::from_secs(4);
/// How long a standby that was asked to end waits before it looks whether the one who asked is still there.
const ASKED_PATIENCE: Duration = Duration::from_secs(5);
/// How long the new primary gets to serve before the command that made it one ends all the same.
const SERVE_PATIENCE: Duration = Duration::from_secs(20);
/// How far from the API's port followers are answered.
const PORT_AFTER: u16 = 2;

/// What a node with its log in the data folder does for its other machines.
pub enum Copies {
    /// It answers followers.
    Primary(Primary),
    /// It follows.
    Standby(Following),
    /// Nothing: the log is in a server, which has means of its own.
    None,
}

/// A standby at work.
pub struct Following {
    /// None when it has ended.
    task: Option<JoinHandle<Result<(), FollowError>>>,
    stop: CancellationToken,
}

/// Begins to answer followers, or to follow, as the folder is.
///
/// # Errors
/// When the folder or the network cannot be used.
pub async fn start(brain: &Arc<Brain>, config: &Config, port: u16) -> Result<Copies> {
    let Some(guarded) = brain.log.store().guarded() else { return Ok(Copies::None) };
    let control = Folder::of(brain.folder.path());
    // Whoever asked this folder's program to end has died since: one that lives asks again.
    control.ask_no_more()?;
    if let Role::Standby(_) = guarded.gate().state().role {
        return Ok(Copies::Standby(Following::start(brain, guarded, control, config, port).await?));
    }
    let own = PrimaryConfig {
        brain: brain.brain,
        brain_key: Zeroizing::new(brain.key.to_bytes()),
        name: name(config),
        listen: config.follower.listen,
        port: port.checked_add(PORT_AFTER).unwrap_or(0),
        announce: config.follower.announce.clone(),
    };
    let (gate, store) = (Arc::clone(guarded.gate()), Arc::clone(guarded.store()));
    let primary = Primary::start(own, control, gate, store, Arc::clone(&brain.log), CancellationToken::new());
    let primary = primary.context("followers cannot be answered; see [follower] in the configuration")?;
    primary.look_around().await;
    // It is started once.
    let _ = brain.followers.set(primary.clone());
    Ok(Copies::Primary(primary))
}

impl Copies {
    /// Waits until the folder is to become the primary's.
    ///
    /// # Errors
    /// When following makes no sense any more.
    pub async fn taken_over(&mut self, brain: &Brain) -> Result<()> {
        let control = Folder::of(brain.folder.path());
        let asked = async {
            if let Some(guarded) = brain.log.store().guarded() {
                // It fails only with the gate itself.
                let _ = guarded.gate().shut().wait_for(Option::is_some).await;
            }
            while !control.is_asked_to_end() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
        };
        match self {
            Self::Standby(following) => tokio::select! {
                done = following.task() => {
                    done.context("this machine can follow no more")?;
                    bail!("following ended")
                }
                () = asked => Ok(()),
            },
            Self::Primary(_) => {
                asked.await;
                Ok(())
            }
            Self::None => std::future::pending().await,
        }
    }

    /// Ends it, before the log is closed.
    pub async fn ended(self) {
        match self {
            Self::Primary(primary) => primary.ended().await,
            Self::Standby(following) => {
                following.stop.cancel();
                if let Some(task) = following.task {
                    // Its panic, if any, has been reported by the panic hook.
                    let _ = task.await;
                }
            }
            Self::None => {}
        }
    }
}

impl Following {
    async fn start(
        brain: &Arc<Brain>,
        guarded: &Guarded,
        control: Folder,
        config: &Config,
        port: u16,
    ) -> Result<Self> {
        let listen =
            config.follower.announce.first().cloned().or_else(|| Some(listens(config, port)?.to_string()));
        let own = StandbyConfig { brain: brain.brain, name: name(config), listen };
        let store = Arc::clone(guarded.store());
        let standby = Arc::new(Standby::open(own, control.clone(), store, Arc::clone(&brain.log)).await?);
        // It is started once.
        let _ = brain.standby.set(Arc::clone(&standby));
        let stop = CancellationToken::new();
        let (reloading, stopping) = (Arc::clone(brain), stop.clone());
        let mut files = standby.files();
        tokio::spawn(stopping.run_until_cancelled_owned(async move {
            while files.changed().await.is_ok() {
                if let Err(error) = reloading.tokens.reload() {
                    warn!(%error, "the primary's tokens cannot be read");
                }
            }
        }));
        let running = stop.clone();
        let task = tokio::spawn(async move { standby.run(&running).await });
        Ok(Self { task: Some(task), stop })
    }

    /// Waits until following has ended by itself.
    async fn task(&mut self) -> Result<()> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let done = task.await;
        self.task = None;
        Ok(done??)
    }
}

/// Waits until the folder was taken over, or was not. Whoever asked for it may have died: then it goes on as it was.
///
/// # Errors
/// When the folder cannot be used.
pub async fn await_promotion(data: &Path) -> Result<()> {
    let control = Folder::of(data);
    let began = Instant::now();
    while control.is_asked_to_end() {
        if began.elapsed() > ASKED_PATIENCE && DataFolder::open(data).is_ok() {
            control.ask_no_more()?;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Follows a primary, and serves reads meanwhile, until told to stop; goes on as the primary when it has taken over.
///
/// # Errors
/// When the link cannot be used, or following makes no sense any more.
pub async fn follow(global: &Global, args: FollowArgs) -> Result<()> {
    let FollowArgs { link, listen, config: file, command: _ } = args;
    let (data, config) = configured(global, file.as_deref())?;
    let control = Folder::of(&data);
    if let Some(link) = link {
        let link: FollowLink = link.parse()?;
        if control.state()?.link.as_ref() == Some(&link.hash()) {
            tell_what_it_is(global, &control)?;
        } else {
            begin(global, &config, &DataFolder::open(&data)?, &control, &link).await?;
        }
    } else if let Role::Primary(PrimaryOf { predecessor: None, .. }) = control.state()?.role {
        bail!(
            "this folder follows nobody; `cairn follow <link>`, with a link of `cairn follow invite`, makes it a standby"
        );
    }
    up(global, UpArgs { listen, config: file, import: Vec::new(), log: None }).await
}

/// Says what became of a folder that has used its link before.
fn tell_what_it_is(global: &Global, control: &Folder) -> Result<()> {
    let said = match control.state()?.role {
        Role::Standby(_) => return Ok(()),
        Role::Primary(_) => {
            "This folder has followed by that link before and has taken over since: it is the primary's now."
        }
        Role::Replaced(_) => {
            "This folder has followed by that link before; a new link, made at the primary, makes it follow again."
        }
    };
    if !global.quiet {
        eprintln!("{said}");
    }
    Ok(())
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
    if own.is_some_and(|own| own.brain != link.brain) || (control.has_log() && !key_file(config, folder).exists())
    {
        bail!("{} holds another brain; follow in a folder of its own", folder.path().display());
    }
    let machine = control.machine()?;
    let paired = pair(&machine, link, &name(config)).await?;
    let epoch = control.state()?.epoch;
    if paired.epoch < epoch {
        bail!(
            "{} has epoch {}, and this folder knows of epoch {epoch}: that node was replaced and does not know yet. Follow the primary",
            paired.name,
            paired.epoch
        );
    }
    let identity = Identity::of(&paired.brain_key);
    if identity.brain != link.brain {
        bail!("the primary sent the key of another brain");
    }
    write_private(&key_file(config, folder), Zeroizing::new(hex::encode(&paired.brain_key[..])).as_bytes())?;
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
    machine: &Machine,
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

fn key_file(config: &Config, folder: &DataFolder) -> PathBuf {
    config.brain_key.clone().unwrap_or_else(|| folder.path().join("brain.key"))
}

/// Where the folder will answer once it is a primary's.
fn listens(config: &Config, port: u16) -> Option<SocketAddr> {
    let port = port.checked_add(PORT_AFTER)?;
    Some(config.follower.listen.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], port))))
}

/// Makes a standby's folder the primary's.
///
/// # Errors
/// When the folder is no standby's, or lacks events and is not told to take over all the same.
pub async fn promote(global: &Global, args: &PromoteArgs) -> Result<()> {
    let began = Instant::now();
    let (data, config) = configured(global, args.config.as_deref())?;
    let control = Folder::of(&data);
    let replaced = match control.state()?.role {
        Role::Primary(_) => bail!("{} is a primary's already; `cairn up` serves it", data.display()),
        Role::Replaced(replaced) if !args.force => bail!(
            "this node was replaced by {0}; `cairn follow <link>` rejoins it as a follower. With --force it becomes the primary again, and \
             what {0} took since then is not here",
            replaced.by,
        ),
        Role::Replaced(_) => true,
        Role::Standby(_) => false,
    };
    let mut free = Free { control: control.clone(), asked: false };
    let folder = free.open(&data).await?;
    let taken = match replaced {
        true => None,
        false => Some(take_over(&config, &control, &folder).await?),
    };
    if let Some(taken) = &taken {
        refuse_loss(taken, args.force)?;
    }
    let epoch = control.promote(taken.as_ref().is_some_and(|taken| taken.handed_over))?;
    drop(folder);
    let asked = free.asked;
    drop(free);
    let serving = if asked { await_served(&data).await } else { None };
    tell(global, &data, &Promoted { taken, epoch, serving, took: began.elapsed() })
}

/// Gets a folder free of the standby that is at work in it, and lets that one go on afterwards, as whatever the folder is then.
struct Free {
    control: Folder,
    asked: bool,
}

impl Free {
    async fn open(&mut self, data: &Path) -> Result<DataFolder> {
        let began = Instant::now();
        loop {
            match DataFolder::open(data) {
                Err(DataFolderError::InUse { .. }) if began.elapsed() < END_PATIENCE => {
                    self.asked = true;
                    self.control.ask_to_end()?;
                }
                opened => return Ok(opened?),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

impl Drop for Free {
    fn drop(&mut self) {
        if let Err(error) = self.control.ask_no_more() {
            warn!(%error, "the standby that runs still believes that it is asked to end");
        }
    }
}

async fn take_over(config: &Config, control: &Folder, folder: &DataFolder) -> Result<TakenOver> {
    let identity = folder.identity(config.brain_key.as_deref(), true)?;
    control.make_way()?;
    let keyring = Keyring::open(folder.keys(), identity.wrapping_key())?;
    let store = Arc::new(SqliteStore::open(folder.events(), identity.brain)?);
    let guarded = Guarded::new(Arc::clone(&store), Gate::open(control.clone(), false)?);
    let log = Arc::new(Sealed::open(guarded, keyring).await?);
    let own = StandbyConfig { brain: identity.brain, name: name(config), listen: None };
    let standby = Standby::open(own, control.clone(), Arc::clone(&store), log).await?;
    let taken = standby.take_over(HANDOVER_PATIENCE).await;
    store.close().await;
    Ok(taken?)
}

/// Waits until the program that followed serves again, which the folder's announcement says; gives where.
async fn await_served(data: &Path) -> Option<String> {
    let began = Instant::now();
    while began.elapsed() < SERVE_PATIENCE {
        let announced = std::fs::read(data.join("node.json")).ok();
        if let Some(running) = announced.and_then(|text| serde_json::from_slice::<Running>(&text).ok()) {
            return Some(running.url);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    None
}

fn refuse_loss(taken: &TakenOver, force: bool) -> Result<()> {
    if force {
        return Ok(());
    }
    if !taken.whole {
        bail!(
            "this standby has never had the whole log, only {} events of {}; --force takes over with those",
            taken.has.position,
            taken.primary_head
        );
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

/// What came of it.
struct Promoted {
    /// None where a node that was replaced became the primary again.
    taken: Option<TakenOver>,
    epoch: u64,
    /// Where it serves, if the program that followed has gone on.
    serving: Option<String>,
    took: Duration,
}

fn tell(global: &Global, data: &Path, promoted: &Promoted) -> Result<()> {
    let Promoted { taken, epoch, serving, took } = promoted;
    if global.json {
        let kept = kept_aside(&Folder::of(data))?;
        let lost = taken.as_ref().map(TakenOver::lacks);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let answer = json!({
            "epoch": epoch, "taken_over": taken, "known_lost": lost, "serving": serving, "took_ms": took_ms, "kept_aside": kept,
        });
        println!("{answer}");
        return Ok(());
    }
    match serving {
        Some(url) => println!(
            "{} is the primary's now, epoch {epoch}, and serves at {url} ({:.1} s)",
            data.display(),
            took.as_secs_f64()
        ),
        None => {
            println!("{0} is the primary's now, epoch {epoch}; `cairn --data {0} up` serves it", data.display());
        }
    }
    let Some(taken) = taken else { return Ok(()) };
    println!("  {}", loss(taken));
    if !taken.handed_over {
        println!(
            "  the old primary could not be reached: it takes writes until it hears of this. Keep its clients away"
        );
    }
    Ok(())
}

/// What is lost, as far as that is known here.
fn loss(taken: &TakenOver) -> String {
    let heard = i64::try_from(taken.heard_at).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    let ago = Utc::now().signed_duration_since(heard).num_seconds();
    let (has, lacks) = (taken.has.position, taken.lacks());
    match (taken.handed_over, lacks, taken.synchronous) {
        (true, ..) => format!("the old primary has handed over all {has} events: nothing is lost"),
        (false, 0, true) => format!(
            "it has all {has} events that the old primary had when it was heard of last, {ago} seconds ago ({}). That one waited for a \
             follower with each write then: nothing it has acknowledged is lost, unless it lived on without a follower after that",
            heard.to_rfc3339()
        ),
        (false, 0, false) => format!(
            "it has all {has} events that the old primary was known to have, {ago} seconds ago ({}); what that took after is lost",
            heard.to_rfc3339()
        ),
        (false, lacks, _) => format!("{lacks} events that the old primary was known to have are lost with it"),
    }
}

fn configured(global: &Global, file: Option<&Path>) -> Result<(PathBuf, Config)> {
    let data = match &global.data {
        Some(data) => data.clone(),
        None => default_data_folder()?,
    };
    let config = Config::load(&data, file)?;
    if config.database.is_some() || config.kurrentdb.is_some() {
        bail!(
            "only a log in the data folder follows and has followers; this one is in a database, which has replication of its own: for PostgreSQL \
             that is streaming replication"
        );
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
