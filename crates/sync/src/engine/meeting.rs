//! Who is at the other end, and how two brains come to know each other.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::certificate::Certificate;

use super::{
    AGAIN_MS, Effect, Engine, FIRST_PAUSE_MS, HELLO_WITHIN_MS, LONGEST_PAUSE_MS, MAX_SESSIONS, News,
    RECEIPT_EVERY_MS, Session,
};
use crate::key::{BrainKey, DeviceKey, Epoch, Hash};
use crate::wire::{Frame, Hello, InvalidFrame, NEWEST_VERSION, OLDEST_VERSION, Refusal};

/// Another brain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// What its owner calls it.
    pub name: String,
    /// The devices that write for it, and where each was last found.
    pub devices: BTreeMap<DeviceKey, Vec<String>>,
    /// Whether this brain will have nothing to do with it.
    pub blocked: bool,
}

/// An invitation of this brain's, by the hash of its secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Invitation {
    /// Until when it can be taken up, in milliseconds since 1970.
    pub expires_at: u64,
    /// Whether whoever takes it up becomes a device of this brain, and no peer.
    pub device: bool,
}

/// What somebody who is not known says of themselves.
#[derive(Debug, Clone)]
pub(super) struct Stranger {
    epoch: Epoch,
    name: String,
    addresses: Vec<String>,
}

/// How long a dial may go without news, in milliseconds, before it is taken for failed. The transport says what became of it, long
/// before; but a device is never left alone for ever because that was lost.
const DIALLED_FOR_MS: u64 = 30_000;
/// The most addresses of a device.
const MAX_ADDRESSES: usize = 16;

/// When a device is dialled next.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Dialling {
    failures: u32,
    next_at: u64,
    /// When the dial that is under way began.
    under_way: Option<u64>,
}

impl Dialling {
    fn failed(&mut self, device: DeviceKey, now: u64) {
        self.under_way = None;
        self.next_at = now + pause(self.failures, device);
        self.failures = self.failures.saturating_add(1);
    }

    fn is_due(&self, now: u64) -> bool {
        self.under_way.is_none() && self.next_at <= now
    }

    /// Something is different: the next try need not wait.
    fn hurry(&mut self) {
        (self.failures, self.next_at) = (0, 0);
    }
}

impl Engine {
    /// Takes note of a peer that is kept, or of what changed about it.
    pub fn restore_peer(&mut self, brain: BrainKey, peer: Peer) {
        self.peers.insert(brain, peer);
    }

    /// Takes note of an invitation of this brain's that is kept.
    pub fn restore_invitation(&mut self, secret: Hash, invitation: Invitation) {
        self.invitations.insert(secret, invitation);
    }

    /// Forgets an invitation: it was used, or called back.
    pub fn forget_invitation(&mut self, secret: Hash) {
        self.invitations.remove(&secret);
    }

    /// Whether anybody may connect who is not known: an invitation is open.
    pub fn is_open(&self, now: u64) -> bool {
        self.invitations.values().any(|invitation| now <= invitation.expires_at)
    }

    /// Takes up another brain's invitation: its device is dialled until it is met, or the invitation has expired.
    pub fn take_up(&mut self, brain: BrainKey, device: DeviceKey, taken: TakenUp) {
        self.taken_up.insert(device, (brain, taken));
    }

    /// Devices of inviting brains that are to be met.
    pub fn taking_up(&self) -> impl Iterator<Item = DeviceKey> {
        self.taken_up.keys().copied()
    }

    /// A device can be found somewhere: it is dialled there first, and soon, if it is one that this brain knows.
    pub fn found(&mut self, device: DeviceKey, mut addresses: Vec<String>) {
        let known = self.peers.values_mut().find_map(|peer| peer.devices.get_mut(&device));
        if let Some(known) = known
            && !addresses.is_empty()
        {
            addresses.truncate(MAX_ADDRESSES);
            // Whoever says so proves nothing: what was known before is not forgotten.
            for before in std::mem::take(known) {
                if addresses.len() < MAX_ADDRESSES && !addresses.contains(&before) {
                    addresses.push(before);
                }
            }
            *known = addresses;
            self.dialling.entry(device).or_default().hurry();
        }
    }

    /// Where others can find this device from now on. Elsewhere than before means another network, perhaps one in which others can be
    /// reached who could not be.
    pub fn set_addresses(&mut self, addresses: Vec<String>) {
        if self.own.addresses != addresses {
            self.own.addresses = addresses;
            self.dialling.values_mut().for_each(Dialling::hurry);
        }
    }

    /// Has nothing to do with a brain any more, or has again.
    pub fn block(&mut self, brain: BrainKey, blocked: bool) -> Vec<Effect> {
        if let Some(peer) = self.peers.get_mut(&brain) {
            peer.blocked = blocked;
        }
        let cut = self.sessions.iter().filter(|(_, session)| blocked && session.brain == Some(brain));
        cut.map(|(device, _)| Effect::Close { device: *device }).collect()
    }

    pub(super) fn connected(&mut self, device: DeviceKey, now: u64, effects: &mut Vec<Effect>) {
        if self.sessions.len() >= MAX_SESSIONS || self.sessions.contains_key(&device) {
            effects.push(Effect::Close { device });
            return;
        }
        self.sessions.insert(device, Session::new(now));
        self.dialling.remove(&device);
        let hello = Hello {
            oldest: OLDEST_VERSION,
            newest: NEWEST_VERSION,
            certificate: self.own.certificate.clone(),
            name: self.own.name.clone(),
            addresses: self.own.addresses.clone(),
        };
        effects.push(Effect::Send { device, frame: Frame::Hello(hello).to_bytes() });
    }

    pub(super) fn disconnected(&mut self, device: DeviceKey, now: u64, effects: &mut Vec<Effect>) {
        let session = self.sessions.remove(&device);
        self.dialling.entry(device).or_default().failed(device, now);
        if let Some(brain) = session.and_then(|session| session.brain) {
            effects.push(Effect::Tell(News::Offline(brain)));
        }
    }

    pub(super) fn frame(
        &mut self,
        device: DeviceKey,
        frame: Result<Option<Frame>, InvalidFrame>,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        if !self.sessions.contains_key(&device) {
            return;
        }
        let taken = match frame {
            Ok(Some(frame)) => self.take(device, frame, now, effects),
            Ok(None) => Ok(()),
            Err(invalid) => Err(invalid),
        };
        if let Err(invalid) = taken {
            effects.push(Effect::Tell(News::Unsound { device, why: invalid.to_string() }));
            self.refuse(device, Refusal::Invalid, effects);
        }
    }

    fn take(
        &mut self,
        device: DeviceKey,
        frame: Frame,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), InvalidFrame> {
        let known = self.sessions.get(&device).and_then(|session| session.brain);
        match (frame, known) {
            (Frame::Hello(hello), None) => self.hello(device, hello, now, effects),
            (Frame::Hello(_), Some(_)) => Err(InvalidFrame::Unsound("second greeting")),
            (Frame::Pair { secret }, None) => {
                self.pair(device, &secret, now, effects);
                Ok(())
            }
            (Frame::Paired, None) => {
                self.paired(device, now, effects);
                Ok(())
            }
            (Frame::Certified { certificate, name }, None) => {
                self.joined(device, certificate, name, effects);
                Ok(())
            }
            (Frame::Refused(reason), _) => {
                effects.push(Effect::Tell(News::Refused { device, reason }));
                effects.push(Effect::Close { device });
                Ok(())
            }
            // Both sides may have said so at once.
            (Frame::Pair { .. } | Frame::Paired, Some(_)) => Ok(()),
            (frame, Some(brain)) => self.exchange(device, brain, frame, now, effects),
            (_, None) => Err(InvalidFrame::Unsound("order")),
        }
    }

    fn hello(
        &mut self,
        device: DeviceKey,
        hello: Hello,
        now: u64,
        effects: &mut Vec<Effect>,
    ) -> Result<(), InvalidFrame> {
        let (brain, certificate) = (hello.certificate.brain(), hello.certificate);
        if certificate.device() != device || device == self.own_device() || !self.fits(&certificate) {
            return Err(InvalidFrame::Unsound("certificate"));
        }
        if hello.newest < OLDEST_VERSION || hello.oldest > NEWEST_VERSION {
            self.refuse(device, Refusal::Version, effects);
            return Ok(());
        }
        match self.peers.get(&brain).cloned() {
            Some(peer) if peer.blocked || !self.is_device_of(device, brain) => {
                self.refuse(device, Refusal::UnknownPeer, effects);
            }
            Some(mut peer) => {
                let known = peer.devices.get(&device);
                let moved = !hello.addresses.is_empty() && known != Some(&hello.addresses);
                // Devices of one brain are called what each was told; the first name stays.
                let several = self.rosters.contains_key(&brain) && !peer.name.is_empty();
                let renamed = !several && peer.name != hello.name;
                let is_new = known.is_none() || moved || renamed;
                self.take_certificate(&certificate, effects);
                if is_new {
                    let addresses = peer.devices.entry(device).or_default();
                    if moved {
                        *addresses = hello.addresses;
                    }
                    if renamed {
                        peer.name = hello.name;
                    }
                    self.peers.insert(brain, peer.clone());
                    effects.push(Effect::KeepPeer { brain, peer, invitation: None });
                }
                self.meet(device, brain, now, effects);
            }
            None if brain == self.brain() => self.refuse(device, Refusal::UnknownPeer, effects),
            None => {
                let stranger =
                    Stranger { epoch: certificate.epoch(), name: hello.name, addresses: hello.addresses };
                self.stranger(device, brain, stranger, now, effects);
            }
        }
        Ok(())
    }

    /// Somebody who is not known: who was invited, or who has invited.
    fn stranger(
        &mut self,
        device: DeviceKey,
        brain: BrainKey,
        stranger: Stranger,
        now: u64,
        effects: &mut Vec<Effect>,
    ) {
        let inviter = self.taken_up.get(&device).filter(|(inviter, _)| *inviter == brain);
        if let Some((_, taken)) = inviter {
            let frame = Frame::Pair { secret: taken.secret.clone() }.to_bytes();
            effects.push(Effect::Send { device, frame });
        } else if !self.is_open(now) {
            self.refuse(device, Refusal::UnknownPeer, effects);
            return;
        }
        if let Some(session) = self.sessions.get_mut(&device) {
            session.stranger = Some((brain, stranger));
        }
    }

    /// Somebody shows the secret of an invitation.
    fn pair(&mut self, device: DeviceKey, secret: &[u8], now: u64, effects: &mut Vec<Effect>) {
        let hash = Hash::of(secret);
        let open = self.invitations.get(&hash).is_some_and(|invitation| now <= invitation.expires_at);
        let stranger = self.sessions.get(&device).and_then(|session| session.stranger.clone());
        let (true, Some((brain, Stranger { epoch, name, addresses }))) = (open, stranger) else {
            self.refuse(device, Refusal::Invitation, effects);
            return;
        };
        if self.invites_device(hash) {
            self.invitations.remove(&hash);
            effects.push(Effect::Tell(News::Joining { device, epoch, invitation: hash }));
            return;
        }
        self.invitations.remove(&hash);
        let peer = Peer { name, devices: BTreeMap::from([(device, addresses)]), blocked: false };
        effects.push(Effect::KeepPeer { brain, peer: peer.clone(), invitation: Some(hash) });
        self.peers.insert(brain, peer);
        effects.push(Effect::Send { device, frame: Frame::Paired.to_bytes() });
        self.meet(device, brain, now, effects);
    }

    /// The invitation that was taken up has been honoured.
    fn paired(&mut self, device: DeviceKey, now: u64, effects: &mut Vec<Effect>) {
        let stranger = self.sessions.get(&device).and_then(|session| session.stranger.clone());
        let Some((brain, Stranger { name, .. })) = stranger else { return };
        let Some((inviter, taken)) = self.taken_up.remove(&device) else { return };
        if inviter == brain && !taken.for_device {
            let devices = BTreeMap::from([(device, taken.addresses)]);
            let peer = Peer { name, devices, blocked: false };
            effects.push(Effect::KeepPeer { brain, peer: peer.clone(), invitation: None });
            self.peers.insert(brain, peer);
            self.meet(device, brain, now, effects);
        }
    }

    /// The invitation that was taken up makes this device one of the inviting brain's.
    fn joined(&mut self, device: DeviceKey, certificate: Certificate, name: String, effects: &mut Vec<Effect>) {
        let is_for_this = certificate.device() == self.own_device();
        let taken = self.taken_up.get(&device);
        let taken =
            taken.filter(|(brain, taken)| is_for_this && taken.for_device && *brain == certificate.brain());
        let Some(addresses) = taken.map(|(_, taken)| taken.addresses.clone()) else { return };
        self.taken_up.remove(&device);
        effects.push(Effect::Tell(News::Joined { certificate, name, by: (device, addresses) }));
    }

    fn meet(&mut self, device: DeviceKey, brain: BrainKey, now: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&device) else { return };
        (session.brain, session.stranger) = (Some(brain), None);
        effects.push(Effect::Tell(News::Online(brain)));
        self.greet(device, now, effects);
        self.tell_devices(device, effects);
    }

    pub(super) fn refuse(&mut self, device: DeviceKey, reason: Refusal, effects: &mut Vec<Effect>) {
        effects.push(Effect::Send { device, frame: Frame::Refused(reason).to_bytes() });
        effects.push(Effect::Close { device });
    }

    pub(super) fn tick(&mut self, now: u64, effects: &mut Vec<Effect>) {
        let silent = self.sessions.iter().filter(|(_, session)| {
            session.brain.is_none() && now > session.opened_at.saturating_add(HELLO_WITHIN_MS)
        });
        effects.extend(silent.map(|(device, _)| Effect::Close { device: *device }));
        self.invitations.retain(|_, invitation| now <= invitation.expires_at);
        self.taken_up.retain(|_, (_, taken)| now <= taken.expires_at);
        self.dial(now, effects);
        self.find_passed_over(effects);
        for device in self.sessions.keys().copied().collect::<Vec<_>>() {
            self.say_again(device, now, effects);
            self.want(device, now, effects);
            self.pump(device, now, effects);
        }
        for ((_, by), received) in &mut self.receipts {
            if !received.unkept.is_empty() && now >= received.kept_at + RECEIPT_EVERY_MS {
                received.kept_at = now;
                for chain in std::mem::take(&mut received.unkept) {
                    let receipt = received.chains[&chain].clone();
                    effects.push(Effect::KeepReceipt { by: *by, receipt });
                }
            }
        }
    }

    /// Gives up what was asked for long ago, and tells again how far this brain is: neither side is to wait for ever for a frame that was lost.
    fn say_again(&mut self, device: DeviceKey, now: u64, effects: &mut Vec<Effect>) {
        let Some(session) = self.sessions.get_mut(&device) else { return };
        // A clock that was put back starts the wait anew.
        session.pulling.retain(|_, asked_at| now.abs_diff(*asked_at) < AGAIN_MS);
        if let Some(brain) = session.brain.filter(|_| now.abs_diff(session.told_at) >= AGAIN_MS) {
            self.greet(device, now, effects);
            match brain == self.brain() {
                true => self.tell_devices(device, effects),
                false => self.tell_keys(device, brain, effects),
            }
        }
    }

    /// Dials whom it knows and does not hear from, each in its turn.
    fn dial(&mut self, now: u64, effects: &mut Vec<Effect>) {
        for (device, dialling) in &mut self.dialling {
            // A clock that was put back starts the wait anew.
            if dialling.under_way.is_some_and(|since| now.abs_diff(since) >= DIALLED_FOR_MS) {
                dialling.failed(*device, now);
            }
        }
        let peers = self.peers.values().filter(|peer| !peer.blocked).flat_map(|peer| &peer.devices);
        let taken = self.taken_up.iter().map(|(device, (_, taken))| (device, &taken.addresses));
        let reachable = peers
            .chain(taken)
            .filter(|(device, addresses)| !addresses.is_empty() && !self.sessions.contains_key(device));
        let due: Vec<_> = reachable
            .filter(|(device, _)| self.dialling.get(device).is_none_or(|dialling| dialling.is_due(now)))
            .map(|(device, addresses)| (*device, addresses.clone()))
            .collect();
        for (device, addresses) in due {
            self.dialling.entry(device).or_default().under_way = Some(now);
            effects.push(Effect::Dial { device, addresses });
        }
    }
}

/// What an invitation that was taken up says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenUp {
    /// What proves that this brain was invited.
    pub secret: Bytes,
    /// Where the inviting device can be found.
    pub addresses: Vec<String>,
    /// Until when, in milliseconds since 1970.
    pub expires_at: u64,
    /// Whether it makes this device one of the inviting brain's, and no peer.
    pub for_device: bool,
}

/// How long to wait after so many failures; another time for each device, so that not all come at once.
fn pause(failures: u32, device: DeviceKey) -> u64 {
    let pause = FIRST_PAUSE_MS.saturating_mul(1 << failures.min(20)).min(LONGEST_PAUSE_MS);
    let jitter = u64::from(device.bytes()[0]) * pause / 1_024;
    pause + jitter
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::super::{Identity, Input};
    use super::*;
    use crate::certificate::Certificate;
    use crate::key::Epoch;

    const ADDRESS: &str = "/ip4/192.0.2.7/udp/7412/quic-v1";

    /// An engine that knows one other device.
    fn engine() -> (Engine, DeviceKey) {
        let [brain, device, other, its_device] = [1, 2, 3, 4].map(|of| SigningKey::from_bytes(&[of; 32]));
        let certificate = Certificate::make(&brain, DeviceKey::of(&device), Epoch([5; 16]), 0);
        let mut engine =
            Engine::new(Identity { device, certificate, name: "A brain".into(), addresses: Vec::new() });
        let its_device = DeviceKey::of(&its_device);
        let devices = BTreeMap::from([(its_device, vec![ADDRESS.to_owned()])]);
        engine.restore_peer(BrainKey::of(&other), Peer { name: "Another".into(), devices, blocked: false });
        (engine, its_device)
    }

    fn dialled(engine: &mut Engine, now: u64) -> Option<Vec<String>> {
        engine.handle(Input::Tick, now).into_iter().find_map(|effect| match effect {
            Effect::Dial { addresses, .. } => Some(addresses),
            _ => None,
        })
    }

    #[test]
    fn a_dial_of_which_nothing_is_heard_is_made_again() {
        let (mut engine, _) = engine();
        let mut now = 1_000_000;
        for _ in 0..5 {
            assert!(dialled(&mut engine, now).is_some());
            assert_eq!(dialled(&mut engine, now + DIALLED_FOR_MS - 1), None, "it is under way");
            now += DIALLED_FOR_MS;
            assert_eq!(dialled(&mut engine, now), None, "taken for failed, there is a pause");
            now += 2 * LONGEST_PAUSE_MS;
        }
    }

    #[test]
    fn who_takes_up_a_peers_invitation_becomes_no_device_of_theirs() {
        let (mut engine, _) = engine();
        let [brain, device] = [7, 8].map(|of| SigningKey::from_bytes(&[of; 32]));
        let theirs = DeviceKey::of(&device);
        let hello = Hello {
            oldest: OLDEST_VERSION,
            newest: NEWEST_VERSION,
            certificate: Certificate::make(&brain, theirs, Epoch([9; 16]), 0),
            name: "Mallory".into(),
            addresses: Vec::new(),
        };
        for for_device in [false, true] {
            let taken = TakenUp {
                secret: Bytes::from_static(b"secret"),
                addresses: Vec::new(),
                expires_at: 10,
                for_device,
            };
            engine.take_up(BrainKey::of(&brain), theirs, taken);
            engine.handle(Input::Connected { device: theirs }, 1);
            let mut hear =
                |frame: Frame| engine.handle(Input::Frame { device: theirs, bytes: frame.to_bytes() }, 1);
            hear(Frame::Hello(hello.clone()));
            let certificate =
                Certificate::make(&brain, DeviceKey::of(&SigningKey::from_bytes(&[2; 32])), Epoch([5; 16]), 0);
            let effects = hear(Frame::Certified { certificate, name: "Mallory".into() });
            let joined = effects.iter().any(|effect| matches!(effect, Effect::Tell(News::Joined { .. })));
            assert_eq!(joined, for_device, "{effects:?}");
            engine.handle(Input::Disconnected { device: theirs }, 1);
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_end_when_something_changed() {
        let (mut engine, device) = engine();
        let mut now = 1_000_000;
        assert!(dialled(&mut engine, now).is_some());
        for _ in 0..20 {
            engine.handle(Input::Disconnected { device }, now);
            assert_eq!(dialled(&mut engine, now), None);
            now += 60_000;
            assert!(dialled(&mut engine, now).is_some());
        }
        engine.handle(Input::Disconnected { device }, now);
        assert_eq!(dialled(&mut engine, now + 20_000), None);
        engine.set_addresses(vec!["/ip4/198.51.100.1/udp/7412/quic-v1".into()]);
        assert!(dialled(&mut engine, now + 20_000).is_some(), "this device is in another network");
        engine.handle(Input::Disconnected { device }, now + 20_000);
        assert_eq!(dialled(&mut engine, now + 20_000), None);
        engine.found(device, vec!["/ip4/10.0.0.7/udp/7412/quic-v1".into()]);
        let addresses = dialled(&mut engine, now + 20_000).expect("it was seen nearby");
        assert_eq!(addresses, ["/ip4/10.0.0.7/udp/7412/quic-v1", ADDRESS], "nothing is forgotten");
        for port in 0..100 {
            engine.found(device, vec![format!("/ip4/10.0.0.7/udp/{port}/quic-v1")]);
        }
        engine.handle(Input::Disconnected { device }, now);
        assert!(dialled(&mut engine, now + 60_000).is_some_and(|addresses| addresses.len() == MAX_ADDRESSES));
    }
}
