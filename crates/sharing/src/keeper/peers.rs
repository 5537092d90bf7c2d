//! What is kept about brains: who they are, which devices write for them, and what they have proven and received.

use cairn_command::RegisterPrincipal;
use cairn_domain::event::{
    ChainBegun, DevicesListed, EpochBegun, EpochWanted, Event, ForkProven, InvitationEnded, PeerEvent,
    PeerInvited, PeerKnown, SpaceEvent, SpaceReceived,
};
use cairn_domain::truth::Truth;
use cairn_event_store::{ExpectedRevision, NewAppend, StreamAppend};
use cairn_sync::certificate::Certificate;
use cairn_sync::chain::Fork;
use cairn_sync::engine::{Invitation, Peer};
use cairn_sync::key::{BrainKey, Epoch, Hash, SpaceId};
use cairn_sync::roster::Roster;
use cairn_sync::shared::{origin_of, principal_of};
use cairn_sync::wire::Receipt;

use super::Keeper;
use crate::error::SharingError;
use crate::names::{encode, encode_header, epoch_stream, invitation_stream, peer_stream, space_stream};

impl Keeper {
    /// Keeps the certificate of an author before the first entry of theirs.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_certificate(&self, space: SpaceId, certificate: &Certificate) -> Result<(), SharingError> {
        let certificate = encode(&certificate.to_bytes());
        self.add(space_stream(space), Event::Space(SpaceEvent::ChainBegun(ChainBegun { certificate }))).await
    }

    /// Keeps that this device goes on in another epoch.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_epoch(&self, certificate: &Certificate) -> Result<(), SharingError> {
        let certificate = encode(&certificate.to_bytes());
        self.add(epoch_stream(), Event::Space(SpaceEvent::EpochBegun(EpochBegun { certificate }))).await
    }

    /// Keeps the proof of a fork.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_fork(&self, fork: &Fork) -> Result<(), SharingError> {
        let proven = ForkProven { known: encode_header(&fork.known), other: encode_header(&fork.other) };
        self.add(space_stream(fork.known.space()), Event::Space(SpaceEvent::ForkProven(proven))).await
    }

    /// Keeps what somebody has received.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_receipt(&self, by: BrainKey, receipt: &Receipt) -> Result<(), SharingError> {
        let received = SpaceReceived { by: by.to_string(), receipt: encode(&receipt.to_bytes()) };
        self.add(space_stream(receipt.space), Event::Space(SpaceEvent::Received(received))).await
    }

    /// Keeps what is known of a peer; the first time it is also registered as one who writes.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_peer(
        &self,
        brain: BrainKey,
        peer: &Peer,
        invitation: Option<Hash>,
    ) -> Result<(), SharingError> {
        let known = self.fact(Event::Peer(PeerEvent::Known(known(peer))));
        let stream = |stream, event| StreamAppend { stream, expected: ExpectedRevision::Any, events: vec![event] };
        let mut streams = vec![stream(peer_stream(brain), known)];
        if let Some(secret) = invitation {
            let ended = PeerEvent::InvitationEnded(InvitationEnded { secret: secret.to_string() });
            streams.push(stream(invitation_stream(), self.fact(Event::Peer(ended))));
        }
        self.handler.append(NewAppend { streams, tracking: None }).await?;
        let register = RegisterPrincipal {
            id: principal_of(brain),
            name: peer.name.clone(),
            ceiling: Truth::User,
            origin: origin_of(brain),
        };
        match self.handler.register_principal(register, &self.by).await {
            // It was registered before.
            Ok(_) | Err(cairn_command::CommandError::Principal { .. }) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps which devices write for a brain, as it has signed them, with the certificate of one that was let in by an invitation, or that
    /// goes on in another epoch.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_roster(
        &self,
        roster: &Roster,
        certificate: Option<&Certificate>,
        invitation: Option<Hash>,
    ) -> Result<(), SharingError> {
        let listed = listed(roster, certificate);
        let ended = invitation.map(|secret| {
            let ended = PeerEvent::InvitationEnded(InvitationEnded { secret: secret.to_string() });
            (invitation_stream(), Event::Peer(ended))
        });
        self.add_all([(peer_stream(roster.brain()), listed)].into_iter().chain(ended)).await
    }

    /// Keeps that this brain has another key, by which this device writes in another epoch.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_change(&self, roster: &Roster, certificate: &Certificate) -> Result<(), SharingError> {
        let begun = EpochBegun { certificate: encode(&certificate.to_bytes()) };
        let begun = Event::Space(SpaceEvent::EpochBegun(begun));
        self.add_all([(peer_stream(roster.brain()), listed(roster, None)), (epoch_stream(), begun)]).await
    }

    /// Keeps that this device is another brain's from here on, and by which device it was let in.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_joined(&self, certificate: &Certificate, by: &Peer) -> Result<(), SharingError> {
        let known = Event::Peer(PeerEvent::Known(known(by)));
        let certified = encode(&certificate.to_bytes());
        let begun = Event::Space(SpaceEvent::EpochBegun(EpochBegun { certificate: certified }));
        self.add_all([(peer_stream(certificate.brain()), known), (epoch_stream(), begun)]).await
    }

    /// Keeps that this device says nothing more before it has a certificate for an epoch.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_wanted(&self, epoch: Epoch) -> Result<(), SharingError> {
        let wanted = EpochWanted { epoch: hex::encode(epoch.0) };
        self.add(epoch_stream(), Event::Space(SpaceEvent::EpochWanted(wanted))).await
    }

    /// Keeps an invitation, by the hash of its secret.
    ///
    /// # Errors
    /// When the log does not answer.
    pub async fn keep_invitation(&self, secret: Hash, invitation: Invitation) -> Result<(), SharingError> {
        let Invitation { expires_at, device } = invitation;
        let invited = PeerInvited { secret: secret.to_string(), expires_at, device };
        self.add(invitation_stream(), Event::Peer(PeerEvent::Invited(invited))).await
    }
}

/// The devices of a brain as they are kept.
fn listed(roster: &Roster, certificate: Option<&Certificate>) -> Event {
    let succession = Some(roster.succession().to_bytes()).filter(|steps| !steps.is_empty());
    Event::Peer(PeerEvent::DevicesListed(DevicesListed {
        roster: encode(&roster.to_bytes()),
        certificate: certificate.map(|certificate| encode(&certificate.to_bytes())),
        succession: succession.map(|steps| encode(&steps)),
    }))
}

/// A peer as it is kept.
fn known(peer: &Peer) -> PeerKnown {
    let devices = peer.devices.iter().map(|(device, addresses)| (device.to_string(), addresses.clone()));
    PeerKnown { name: peer.name.clone(), devices: devices.collect(), blocked: peer.blocked }
}
