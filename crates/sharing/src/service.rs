//! The service: one task that owns the engine, and the handle by which the rest of the node speaks with it.

mod choosing;
mod devices;
mod handle;
mod keys;
mod relays;
mod wishes;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cairn_command::Handler;
use cairn_domain::event::SelectionChanged;
use cairn_domain::id::MEMORY_STREAM_PREFIX;
use cairn_event_store::{Filter, Subscription, subscribe};
use cairn_sync::certificate::Certificate;
use cairn_sync::control::{Control, Decision};
use cairn_sync::engine::{Effect, Engine, Identity, Input, Invitation, News, Offer, TakenUp};
use cairn_sync::entry::Entry;
use cairn_sync::key::{BrainKey, DeviceKey, Epoch, Hash, SpaceId};
use cairn_sync::roster::MAX_DEVICES;
use cairn_sync::succession::BrainSecret;
use ed25519_dalek::SigningKey;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::error::SharingError;
use crate::invitation::{InvitationLink, SECRET_BYTES};
use crate::keeper::Keeper;
use crate::restore::Selections;
use crate::transport::{Happening, Transport};
use crate::view::{InvitationView, View};

pub(crate) use choosing::Choice;
pub use handle::Sharing;
use handle::{Answer, Request};
pub use keys::{SharingKey, key_of_words, next_key};

/// How many events of the log are looked at at once.
const LOOKED_AT: usize = 512;
/// How often the engine hears that time has passed.
const TICK: Duration = Duration::from_millis(500);

/// Who a brain is among others.
pub struct SharingConfig {
    /// The brain's first key.
    pub brain: SigningKey,
    /// Where a later one is kept.
    pub later: Arc<dyn SharingKey>,
    /// The device's key.
    pub device: SigningKey,
    /// What its owner calls the brain.
    pub name: String,
    /// Where its own chains go on.
    pub resume: Resume,
    /// How many bytes it takes of each author's in a day.
    pub bytes_a_day: u64,
}

/// Where the chains of a brain go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resume {
    /// Where the log ends.
    Here,
    /// In another epoch, because the node before this one may have said more than the log holds.
    Anew,
}

/// What is offered to somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offering {
    /// In which space.
    pub space: SpaceId,
    /// What.
    pub offer: Offer,
}

/// Which memories are to be in a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selecting {
    /// The space.
    pub space: SpaceId,
    /// The memories.
    pub selection: SelectionChanged,
}

struct Service {
    config: SharingConfig,
    keeper: Keeper,
    engine: Engine,
    /// The keys that this device has: one may sign for the brain.
    secrets: Vec<SigningKey>,
    selections: Selections,
    /// What is still to be put into spaces or taken out.
    choices: VecDeque<Choice>,
    transport: Arc<dyn Transport>,
    log: Subscription,
    admitted: (Vec<DeviceKey>, bool),
    /// Wishes of members that this brain's owner has to decide on.
    left_to_the_owner: BTreeSet<Hash>,
    /// The epoch that this device wants to go on in, and has no certificate for.
    wanted: Option<Epoch>,
    /// Devices of which the owner of a space was asked to say that they write no more.
    asked: BTreeSet<(SpaceId, DeviceKey)>,
    brain: watch::Sender<BrainKey>,
}

impl Service {
    async fn open(
        config: SharingConfig,
        handler: Arc<Handler>,
        transport: Arc<dyn Transport>,
    ) -> Result<Self, SharingError> {
        let mut keeper = Keeper::new(handler, BrainKey::of(&config.brain));
        let (latest, wanted) = keeper.latest_epoch().await?;
        let certificate = match latest {
            // Another device's is no use here. It may be of another brain: this device was let in there.
            Some(latest) if latest.device() == DeviceKey::of(&config.device) => latest,
            Some(_) | None => {
                begin_epoch(&BrainSecret::first(config.brain.clone()), &config.device, &keeper).await?
            }
        };
        let later = keys::load(&config.later).await?;
        if certificate.brain() != BrainKey::of(&config.brain) {
            keeper = Keeper::new(Arc::clone(&keeper.handler), certificate.brain());
        }
        let (device, name, addresses) = (config.device.clone(), config.name.clone(), transport.addresses());
        let identity = Identity { device, certificate, name, addresses };
        let mut engine = Engine::new(identity);
        engine.set_quota(config.bytes_a_day);
        let selections = keeper.restore(&mut engine).await?;
        let secrets: Vec<SigningKey> = later.into_iter().chain([config.brain.clone()]).collect();
        engine.set_keys(secrets.iter().map(BrainKey::of).collect());
        // Only who has the brain's key makes its own certificates.
        let wanted = wanted.filter(|_| !engine.has_the_key());
        if wanted.is_some() {
            engine.give_up_epoch();
        }
        if engine.succession(engine.brain()).generation() > 0 && !engine.has_the_key() {
            info!(
                "this node does not have the key that signs for its brain; `cairn key change` puts it here, with its words"
            );
        }
        let spaces: Vec<SpaceId> = engine.replica().spaces().map(cairn_sync::space::Space::id).collect();
        for space in spaces {
            keeper.open_kept(space, &engine, now()).await?;
        }
        let filter = Filter { stream_prefixes: vec![MEMORY_STREAM_PREFIX.to_owned()], event_types: Vec::new() };
        let after = keeper.published().await?;
        let log = subscribe(Arc::clone(keeper.handler.store()), after, filter);
        let brain = watch::Sender::new(engine.brain());
        let (admitted, left_to_the_owner) = ((Vec::new(), false), BTreeSet::new());
        let mut service = Self {
            config,
            keeper,
            engine,
            secrets,
            selections,
            choices: VecDeque::new(),
            transport,
            log,
            admitted,
            left_to_the_owner,
            wanted,
            asked: BTreeSet::new(),
            brain,
        };
        service.choose_on().await?;
        Ok(service)
    }

    async fn run(
        mut self,
        mut requests: mpsc::Receiver<Request>,
        mut happenings: mpsc::Receiver<Happening>,
        stop: CancellationToken,
    ) -> Result<(), SharingError> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        self.admit();
        if self.engine.is_forked() || self.config.resume == Resume::Anew {
            self.go_on_anew().await?;
        }
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                Some(happening) = happenings.recv() => self.happened(happening).await?,
                Some(request) = requests.recv() => self.answer(request).await?,
                // What is said depends on which memories are in which space.
                batch = self.log.next_batch(LOOKED_AT), if self.wanted.is_none() && self.choices.is_empty() => {
                    let said = self.keeper.publish(&batch?.events, &self.selections, &mut self.engine, now()).await?;
                    for entries in said {
                        self.input(Input::Said(entries)).await?;
                    }
                }
                // What takes long goes on between all else.
                () = std::future::ready(()), if !self.choices.is_empty() => self.choose_some().await?,
                _ = ticks.tick() => {
                    self.engine.set_addresses(self.transport.addresses());
                    self.input(Input::Tick).await?;
                    self.end_expired().await?;
                    self.answer_wishes().await?;
                    self.tell_keys().await?;
                    if let Some(epoch) = self.wanted {
                        self.ask_for_certificate(epoch);
                    }
                    self.retire().await?;
                    self.succeed().await?;
                }
            }
            self.admit();
        }
    }

    /// Ends what has come to its end: what is back-dated after it counts for nothing then.
    async fn end_expired(&mut self) -> Result<(), SharingError> {
        for (space, grant) in self.engine.expired(now()) {
            match self.engine.revoke(space, grant, self.keeper.stamp().hlc) {
                Ok(entries) => drop(self.say(entries).await?),
                Err(error) => warn!(%space, %grant, %error, "what has expired cannot be ended"),
            }
        }
        Ok(())
    }

    async fn happened(&mut self, happening: Happening) -> Result<(), SharingError> {
        match happening {
            Happening::Connected { device, address } => {
                debug!(%device, address, "a device is there");
                // What it is told is where this one is now, also right after the start.
                self.engine.set_addresses(self.transport.addresses());
                self.input(Input::Connected { device }).await
            }
            Happening::Disconnected { device } => self.input(Input::Disconnected { device }).await,
            Happening::Frame { device, frame } => {
                let frame = Box::new(frame.read().await);
                self.input(Input::Read { device, frame }).await
            }
            Happening::Found { device, addresses } => {
                self.engine.found(device, addresses);
                Ok(())
            }
        }
    }

    /// Lets in whom the engine knows, and strangers while an invitation is open.
    fn admit(&mut self) {
        let known = self.engine.peers().values().filter(|peer| !peer.blocked);
        let devices: BTreeSet<DeviceKey> = known.flat_map(|peer| peer.devices.keys().copied()).collect();
        let devices = devices.into_iter().chain(self.engine.taking_up());
        let admitted = (devices.collect(), self.engine.is_open(now()));
        if admitted != self.admitted {
            self.transport.admit(admitted.0.clone(), admitted.1);
            self.admitted = admitted;
        }
    }

    async fn input(&mut self, input: Input) -> Result<(), SharingError> {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let effects = self.engine.handle(input, now());
            self.carry_out(effects, &mut inputs).await?;
        }
        Ok(())
    }

    async fn carry_out(&mut self, effects: Vec<Effect>, inputs: &mut VecDeque<Input>) -> Result<(), SharingError> {
        for effect in effects {
            match effect {
                Effect::Send { device, frame } => self.transport.send(device, frame),
                Effect::Close { device } => self.transport.close(device),
                Effect::Dial { device, addresses } => {
                    self.admit();
                    self.transport.dial(device, addresses);
                }
                Effect::Keep(entries) => self.keeper.keep(&entries, &self.engine).await?,
                Effect::KeepCertificate { space, certificate } => {
                    self.keeper.keep_certificate(space, &certificate).await?;
                }
                Effect::Load(load) => {
                    let entries = self.keeper.load(load.chain, load.from, load.limit).await?;
                    inputs.push_back(Input::Loaded { load, entries });
                }
                Effect::Restand { before, space } => {
                    self.keeper.restand(space, before.as_deref(), &self.engine).await?;
                    self.keeper.open_kept(space, &self.engine, now()).await?;
                }
                Effect::Recount { chain, from, to } => {
                    self.keeper.recount(chain, (from, to), &self.engine).await?;
                }
                Effect::Erase { space, memories } => self.keeper.erase(space, &memories, &self.engine).await?,
                Effect::KeepFork(fork) => {
                    warn!(author = %fork.known.header().author, "somebody has said two things at once in a shared space");
                    self.keeper.keep_fork(&fork).await?;
                }
                Effect::KeepReceipt { by, receipt } => self.keeper.keep_receipt(by, &receipt).await?,
                Effect::KeepPeer { brain, peer, invitation } => {
                    self.keeper.keep_peer(brain, &peer, invitation).await?;
                }
                Effect::KeepRoster(roster) => self.keeper.keep_roster(&roster, None, None).await?,
                Effect::Tell(news) => self.tell(news, inputs).await?,
            }
        }
        Ok(())
    }

    async fn tell(&mut self, news: News, inputs: &mut VecDeque<Input>) -> Result<(), SharingError> {
        match news {
            News::Online(brain) => info!(%brain, "a peer is there"),
            News::Offline(brain) => info!(%brain, "a peer is gone"),
            News::Offered { space, .. } => info!(%space, "a space is offered; `cairn share accept` takes it"),
            News::Refused { device, reason } => warn!(%device, ?reason, "a device would not go on"),
            News::Unsound { device, why } => warn!(%device, why, "a device sent what is not sound"),
            News::QuotaUsedUp(author) => {
                warn!(%author, "nothing more of that brain's is taken today; `[federation] peer_mib_per_day` says how much is");
            }
            News::Joining { device, epoch, invitation } => self.let_in(device, epoch, invitation).await?,
            News::CertificateWanted { device, epoch } => self.certify(device, epoch).await?,
            News::Certified { certificate } => inputs.extend(self.certified(certificate).await?),
            News::KeyChanged(brain) => info!(%brain, "a brain has another key"),
            News::OtherKey(brain) => {
                warn!(%brain, "somebody shows another key of that brain than the one it had named: who has its old key, perhaps");
            }
            News::Joined { certificate, name, by } => self.join(certificate, name, by).await?,
            News::EpochLost => {
                warn!(
                    "others know more of what this node has said than its log does, or other words of its own count; it was restored, perhaps, and goes on in another epoch"
                );
                inputs.extend(self.begin_anew().await?);
            }
        }
        Ok(())
    }

    /// Goes on in another epoch, and says so in its own spaces. Gives what others are to hear.
    async fn begin_anew(&mut self) -> Result<Vec<Input>, SharingError> {
        if !self.engine.has_the_key() {
            return self.want_epoch().await.map(|()| Vec::new());
        }
        let secret = self.secret().ok_or(SharingError::NotTheKey)?;
        let certificate = begin_epoch(&secret, &self.config.device, &self.keeper).await?;
        self.go_on_in(certificate).await
    }

    async fn go_on_in(&mut self, certificate: Certificate) -> Result<Vec<Input>, SharingError> {
        self.engine.renew(certificate);
        let spaces = self.engine.replica().spaces().map(cairn_sync::space::Space::id);
        let spoken_for: Vec<SpaceId> = spaces.filter(|space| self.engine.speaks_for(*space)).collect();
        let mut said = Vec::new();
        for space in spoken_for {
            let at = self.keeper.stamp().hlc;
            let entries = self.engine.resume(space, at)?;
            said.push(Input::Said(self.kept(entries).await?));
        }
        Ok(said)
    }

    async fn go_on_anew(&mut self) -> Result<(), SharingError> {
        for input in self.begin_anew().await? {
            self.input(input).await?;
        }
        Ok(())
    }

    /// Keeps what this brain says about a space.
    async fn kept(&mut self, entries: Vec<Entry>) -> Result<Vec<Entry>, SharingError> {
        let said: Vec<_> = entries.iter().cloned().map(|entry| (entry, None)).collect();
        self.keeper.keep_said(&said, None).await?;
        self.engine.take_said(&entries);
        Ok(entries)
    }

    /// Says something about a space: keeps it, and lets others hear of it.
    async fn say(&mut self, entries: Vec<Entry>) -> Result<Hash, SharingError> {
        let hash = entries.last().map_or(Hash::NONE, Entry::hash);
        let entries = self.kept(entries).await?;
        self.input(Input::Said(entries)).await?;
        Ok(hash)
    }

    /// Answers a request. What only the asker did wrong is told to the asker; where the log fails, the task ends.
    async fn answer(&mut self, request: Request) -> Result<(), SharingError> {
        match request {
            Request::View(answer) => {
                let addresses = self.transport.addresses();
                let (engine, places) = (&self.engine, &self.keeper.places);
                give(answer, Ok(View::of(engine, (&self.selections, &self.choices), places, addresses)))
            }
            Request::Invite(within, device, answer) => give(answer, self.invite(within, device).await),
            Request::RemoveDevice(device, answer) => give(answer, self.remove_device(device).await),
            Request::PrepareKey(next, answer) => give(answer, self.prepare_key(next).await),
            Request::ChangeKey(key, answer) => give(answer, self.change_key(*key).await),
            Request::Accept(link, answer) => give(answer, self.take_up(*link).await),
            Request::Create(name, selection, answer) => give(answer, self.create(&name, selection).await),
            Request::Select(selecting, answer) => give(answer, self.select(selecting).await),
            Request::Offer(offering, answer) => give(answer, self.offer(offering).await),
            Request::Revoke(space, grant, answer) => give(answer, self.revoke(space, grant).await),
            Request::Decide(space, decision, answer) => give(answer, self.decide(space, decision).await),
            Request::Block(brain, blocked, answer) => give(answer, self.block(brain, blocked).await),
            Request::Erase(memory, by, answer) => give(answer, self.erase(memory, &by).await),
            Request::Wish(wish, granted, answer) => give(answer, self.decide_wish(wish, granted).await),
        }
    }

    async fn invite(&mut self, within: Duration, for_device: bool) -> Result<InvitationView, SharingError> {
        if for_device && !self.engine.has_the_key() {
            return Err(SharingError::NotTheKey);
        }
        if for_device && self.engine.roster().is_some_and(|roster| roster.devices().len() >= MAX_DEVICES) {
            return Err(SharingError::TooManyDevices);
        }
        let secret: [u8; SECRET_BYTES] = random()?;
        let expires_at = now().saturating_add(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let hash = Hash::of(&secret);
        let invitation = Invitation { expires_at, device: for_device };
        self.keeper.keep_invitation(hash, invitation).await?;
        self.engine.restore_invitation(hash, invitation);
        let device = DeviceKey::of(&self.config.device);
        let addresses = self.transport.addresses();
        let brain = self.engine.brain();
        let link = InvitationLink { brain, device, secret, expires_at, addresses, for_device };
        Ok(InvitationView { link: link.to_link(), expires_at })
    }

    async fn take_up(&mut self, link: InvitationLink) -> Result<BrainKey, SharingError> {
        let InvitationLink { brain, device, secret, expires_at, addresses, for_device } = link;
        if for_device && !self.shares_nothing() {
            return Err(SharingError::SharesAlready);
        }
        if brain == self.engine.brain() {
            return Err(SharingError::Own);
        }
        if expires_at < now() {
            return Err(SharingError::Expired);
        }
        let secret = Bytes::copy_from_slice(&secret);
        self.engine.take_up(brain, device, TakenUp { secret, addresses, expires_at, for_device });
        self.input(Input::Tick).await?;
        Ok(brain)
    }

    async fn create(&mut self, name: &str, selection: SelectionChanged) -> Result<SpaceId, SharingError> {
        let entries = self.engine.create_space(name, self.keeper.stamp().hlc)?;
        let space = entries.first().map(Entry::space).expect("a space begins with an entry");
        self.say(entries).await?;
        if selection != SelectionChanged::default() {
            self.select(Selecting { space, selection }).await?;
        }
        Ok(space)
    }

    async fn offer(&mut self, offering: Offering) -> Result<Hash, SharingError> {
        let Offering { space, offer } = offering;
        if !self.engine.peers().contains_key(&offer.to) {
            return Err(SharingError::NoPeer(offer.to));
        }
        let Offer { to, role, expires_at, reshare } = offer;
        let offered = Control::Offered { to, role, expires_at, reshare };
        self.say_or_wish(space, &offered, |this| Ok(this.engine.offer(space, offer, this.keeper.stamp().hlc)?))
            .await
    }

    async fn revoke(&mut self, space: SpaceId, grant: Hash) -> Result<(), SharingError> {
        let revoked = Control::Revoked { grant, accepted: Vec::new() };
        let said = |this: &Self| Ok(this.engine.revoke(space, grant, this.keeper.stamp().hlc)?);
        self.say_or_wish(space, &revoked, said).await.map(|_| ())
    }

    async fn decide(&mut self, space: SpaceId, decision: Decision) -> Result<(), SharingError> {
        let rules = self.engine.replica().space(space).ok_or(SharingError::NoSpace(space))?;
        let own = self.engine.brain();
        let open: Vec<Hash> = rules
            .grants()
            .iter()
            .filter(|(hash, grant)| {
                grant.to == own && self.engine.replica().decision(space, **hash) != Some(decision)
            })
            .map(|(hash, _)| *hash)
            .collect();
        for grant in open {
            let entries = self.engine.decide(space, grant, decision, self.keeper.stamp().hlc)?;
            self.say(entries).await?;
        }
        if decision == Decision::Accepted {
            self.keeper.open_kept(space, &self.engine, now()).await?;
            for entries in self.keeper.say_unsaid(space, &mut self.engine, now()).await? {
                self.input(Input::Said(entries)).await?;
            }
        }
        Ok(())
    }

    async fn block(&mut self, brain: BrainKey, blocked: bool) -> Result<(), SharingError> {
        let mut peer = self.engine.peers().get(&brain).cloned().ok_or(SharingError::NoPeer(brain))?;
        peer.blocked = blocked;
        self.keeper.keep_peer(brain, &peer, None).await?;
        let effects = self.engine.block(brain, blocked);
        self.carry_out(effects, &mut VecDeque::new()).await
    }
}

/// Gives an answer. Errors of the log end the task, after the asker was told.
fn give<T>(answer: Answer<T>, result: Result<T, SharingError>) -> Result<(), SharingError> {
    let fatal = match &result {
        Err(SharingError::Store(error)) => Some(SharingError::Store(error.clone())),
        Err(SharingError::Damaged { position }) => Some(SharingError::Damaged { position: *position }),
        Ok(_) | Err(_) => None,
    };
    // Who asked may have gone.
    let _ = answer.send(result);
    fatal.map_or(Ok(()), Err)
}

/// Begins an epoch of this device, durably.
async fn begin_epoch(
    secret: &BrainSecret,
    device: &SigningKey,
    keeper: &Keeper,
) -> Result<Certificate, SharingError> {
    let certificate = secret.certify(DeviceKey::of(device), Epoch(random()?), now());
    keeper.keep_epoch(&certificate).await?;
    Ok(certificate)
}

fn random<const N: usize>() -> Result<[u8; N], SharingError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        let reason = format!("the system gives no random numbers: {error}");
        cairn_event_store::StoreError::Unavailable { reason }
    })?;
    Ok(bytes)
}

fn now() -> u64 {
    chrono::Utc::now().timestamp_millis().unsigned_abs()
}
