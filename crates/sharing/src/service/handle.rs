//! The handle by which the rest of the node speaks with the service.

use std::sync::Arc;
use std::time::Duration;

use cairn_command::Handler;
use cairn_domain::event::SelectionChanged;
use cairn_domain::id::MemoryId;
use cairn_domain::principal::Principal;
use cairn_sync::control::Decision;
use cairn_sync::key::{BrainKey, DeviceKey, Hash, SpaceId};
use ed25519_dalek::SigningKey;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::keys::key_of_words;
use super::{Offering, Selecting, Service, SharingConfig};
use crate::error::SharingError;
use crate::invitation::InvitationLink;
use crate::transport::{Happening, Transport};
use crate::view::{InvitationView, View};

/// How many requests wait at most.
const QUEUED_REQUESTS: usize = 64;

/// The handle of the service.
#[derive(Clone)]
pub struct Sharing {
    requests: mpsc::Sender<Request>,
    brain: watch::Receiver<BrainKey>,
}

pub(super) type Answer<T> = oneshot::Sender<Result<T, SharingError>>;

pub(super) enum Request {
    View(Answer<View>),
    Invite(Duration, bool, Answer<InvitationView>),
    RemoveDevice(DeviceKey, Answer<()>),
    PrepareKey(BrainKey, Answer<()>),
    ChangeKey(Box<SigningKey>, Answer<()>),
    Accept(Box<InvitationLink>, Answer<BrainKey>),
    Create(String, SelectionChanged, Answer<SpaceId>),
    Select(Selecting, Answer<()>),
    Offer(Offering, Answer<Hash>),
    Revoke(SpaceId, Hash, Answer<()>),
    Decide(SpaceId, Decision, Answer<()>),
    Block(BrainKey, bool, Answer<()>),
    Erase(MemoryId, Box<Principal>, Answer<SpaceId>),
    Wish(Hash, bool, Answer<()>),
}

impl Sharing {
    /// Begins to share: puts together what the log holds, and starts the task. It ends when it is told to, or when the log fails.
    ///
    /// # Errors
    /// When the log does not answer, or holds what cannot be read.
    pub async fn start(
        config: SharingConfig,
        handler: Arc<Handler>,
        transport: Arc<dyn Transport>,
        happenings: mpsc::Receiver<Happening>,
        stop: CancellationToken,
    ) -> Result<(Self, tokio::task::JoinHandle<()>), SharingError> {
        let service = Service::open(config, handler, transport).await?;
        let brain = service.brain.subscribe();
        let (requests, received) = mpsc::channel(QUEUED_REQUESTS);
        let task = tokio::spawn(async move {
            if let Err(error) = service.run(received, happenings, stop).await {
                error!(%error, "sharing has stopped");
            }
        });
        Ok((Self { requests, brain }, task))
    }

    /// The key of the brain that this device writes for.
    pub fn brain(&self) -> BrainKey {
        *self.brain.borrow()
    }

    /// Everything about sharing as it is now.
    ///
    /// # Errors
    /// [`SharingError::Stopped`].
    pub async fn view(&self) -> Result<View, SharingError> {
        self.ask(Request::View).await
    }

    /// Makes an invitation that can be taken up once within a time.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn invite(&self, within: Duration) -> Result<InvitationView, SharingError> {
        self.ask(|answer| Request::Invite(within, false, answer)).await
    }

    /// Makes an invitation for another device of this brain's own.
    ///
    /// # Errors
    /// When this device does not have the brain's key, or the log does not answer.
    pub async fn invite_device(&self, within: Duration) -> Result<InvitationView, SharingError> {
        self.ask(|answer| Request::Invite(within, true, answer)).await
    }

    /// Becomes a device of another brain, by its invitation. Whether it has shows in [`Self::view`].
    ///
    /// # Errors
    /// When it is no such invitation or has expired, or this node shares something already.
    pub async fn join(&self, link: &str) -> Result<BrainKey, SharingError> {
        let link = Box::new(InvitationLink::parse(link)?);
        if !link.for_device {
            return Err(SharingError::OtherInvitation("a peer: take it up with `cairn peer accept`"));
        }
        self.ask(|answer| Request::Accept(link, answer)).await
    }

    /// Has a device of this brain's write no more, anywhere.
    ///
    /// # Errors
    /// When this device does not have the brain's key, there is no such device, or the log does not answer.
    pub async fn remove_device(&self, device: DeviceKey) -> Result<(), SharingError> {
        self.ask(|answer| Request::RemoveDevice(device, answer)).await
    }

    /// Names the key that comes after the one that signs for this brain now. Whose secret it is, nobody here needs to know before it is needed.
    ///
    /// # Errors
    /// When this device does not have the key, the next one is named already, or the log does not answer.
    pub async fn prepare_key(&self, next: BrainKey) -> Result<(), SharingError> {
        self.ask(|answer| Request::PrepareKey(next, answer)).await
    }

    /// Puts the key in place that was named to come next, or puts the one that signs now on this device: by its words.
    ///
    /// # Errors
    /// When it is neither, it cannot be kept, or the log does not answer.
    pub async fn change_key(&self, words: &str) -> Result<(), SharingError> {
        let key = Box::new(key_of_words(words).ok_or(SharingError::InvalidWords)?);
        self.ask(|answer| Request::ChangeKey(key, answer)).await
    }

    /// Takes up another brain's invitation. Whether it can be met shows in [`Self::view`].
    ///
    /// # Errors
    /// When it is no invitation, or one that has expired.
    pub async fn accept(&self, link: &str) -> Result<BrainKey, SharingError> {
        let link = Box::new(InvitationLink::parse(link)?);
        if link.for_device {
            return Err(SharingError::OtherInvitation(
                "a device of the brain's own: take it up with `cairn device join`",
            ));
        }
        self.ask(|answer| Request::Accept(link, answer)).await
    }

    /// Begins a space.
    ///
    /// # Errors
    /// When its name is empty or too long, or the log does not answer.
    pub async fn create(&self, name: String, selection: SelectionChanged) -> Result<SpaceId, SharingError> {
        self.ask(|answer| Request::Create(name, selection, answer)).await
    }

    /// Chooses which memories are in a space.
    ///
    /// # Errors
    /// When there is no such space, or the log does not answer.
    pub async fn select(&self, selecting: Selecting) -> Result<(), SharingError> {
        self.ask(|answer| Request::Select(selecting, answer)).await
    }

    /// Offers a brain a part in a space. Gives the grant.
    ///
    /// # Errors
    /// When the space is not this brain's, or the log does not answer.
    pub async fn offer(&self, offering: Offering) -> Result<Hash, SharingError> {
        self.ask(|answer| Request::Offer(offering, answer)).await
    }

    /// Ends a grant.
    ///
    /// # Errors
    /// When the space is not this brain's, there is no such grant, or the log does not answer.
    pub async fn revoke(&self, space: SpaceId, grant: Hash) -> Result<(), SharingError> {
        self.ask(|answer| Request::Revoke(space, grant, answer)).await
    }

    /// Says to all open offers of a space whether this brain takes them.
    ///
    /// # Errors
    /// When there is no such space, or the log does not answer.
    pub async fn decide(&self, space: SpaceId, decision: Decision) -> Result<(), SharingError> {
        self.ask(|answer| Request::Decide(space, decision, answer)).await
    }

    /// Destroys a shared memory here, for good, and has everybody destroy it who has it: where the space is another brain's, its owner is asked
    /// to say so. Gives the space.
    ///
    /// # Errors
    /// When the memory is in no space, neither the space nor the memory is this brain's, or the log does not answer.
    pub async fn erase(&self, memory: MemoryId, by: Principal) -> Result<SpaceId, SharingError> {
        self.ask(|answer| Request::Erase(memory, Box::new(by), answer)).await
    }

    /// Answers what a member wishes in a space of this brain's.
    ///
    /// # Errors
    /// When there is no such wish, or the log does not answer.
    pub async fn answer(&self, wish: Hash, granted: bool) -> Result<(), SharingError> {
        self.ask(|answer| Request::Wish(wish, granted, answer)).await
    }

    /// Has nothing to do with a brain any more, or has again.
    ///
    /// # Errors
    /// When it is no peer, or the log does not answer.
    pub async fn block(&self, brain: BrainKey, blocked: bool) -> Result<(), SharingError> {
        self.ask(|answer| Request::Block(brain, blocked, answer)).await
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, SharingError> {
        let (answer, answered) = oneshot::channel();
        self.requests.send(request(answer)).await.map_err(|_| SharingError::Stopped)?;
        answered.await.map_err(|_| SharingError::Stopped)?
    }
}
