//! Later keys of brains: which are known, and what is said about them in spaces.

use cairn_domain::clock::Hlc;

use super::{CannotSay, Effect, Engine};
use crate::certificate::Certificate;
use crate::control::Control;
use crate::entry::{Entry, Lane};
use crate::key::{BrainKey, DeviceKey, SpaceId};
use crate::roster::Roster;
use crate::succession::Succession;
use crate::wire::Frame;

impl Engine {
    /// The keys of a brain, as far as they are known.
    pub fn succession(&self, brain: BrainKey) -> Succession {
        self.successions.get(&brain).cloned().unwrap_or(Succession::first(brain))
    }

    /// Says which keys this device has. With one that signs for the brain and comes after the key of another device, it takes over the spaces that this one
    /// spoke for.
    pub fn set_keys(&mut self, keys: Vec<BrainKey>) {
        self.keys = keys;
    }

    /// Whether this device has the key that signs for the brain now.
    pub fn has_the_key(&self) -> bool {
        self.keys.contains(&self.succession(self.brain()).current())
    }

    /// Takes note of keys that are kept, or that go on from those that are known.
    pub fn note_succession(&mut self, succession: &Succession) {
        let brain = succession.brain();
        if *succession != Succession::first(brain) && succession.goes_on_from(&self.succession(brain)) {
            self.successions.insert(brain, succession.clone());
        }
    }

    /// Whether keys are others than those that are known: whoever shows them has a key of the brain's and not the one that was named to come next.
    pub(super) fn contradicts(&self, succession: &Succession) -> bool {
        let known = self.succession(succession.brain());
        !succession.goes_on_from(&known) && !known.goes_on_from(succession)
    }

    /// Whether a certificate does not contradict what is known.
    pub(super) fn fits(&self, certificate: &Certificate) -> bool {
        let known = self.certificates.get(&(certificate.brain(), certificate.epoch()));
        known.is_none_or(|known| known.device() == certificate.device())
            && !self.contradicts(certificate.succession())
    }

    /// Takes note of a certificate that came; keeps it where it makes others of the spaces here.
    pub(super) fn take_certificate(&mut self, certificate: &Certificate, effects: &mut Vec<Effect>) {
        for space in self.restore_certificate(certificate.clone()) {
            effects.push(Effect::KeepCertificate { space, certificate: certificate.clone() });
            effects.push(Effect::Restand { before: None, space });
        }
    }

    /// Whether somebody is to hear of a brain's devices though neither is that brain: the owner of a space that all are in has not said which key
    /// it has now, and may never meet it.
    pub(super) fn is_news_for(&self, roster: &Roster, brain: BrainKey) -> bool {
        let (of, generation) = (roster.brain(), roster.succession().generation());
        let spaces = self.replica.spaces().filter(|_| generation > 0);
        spaces
            .filter(|space| generation > space.generation(of))
            .any(|space| [of, brain, self.brain()].iter().all(|member| self.is_member(space.id(), *member)))
    }

    /// Tells somebody again which brains have other keys, as long as it is news.
    pub(super) fn tell_keys(&self, device: DeviceKey, brain: BrainKey, effects: &mut Vec<Effect>) {
        let news = self.rosters.values().filter(|roster| self.is_news_for(roster, brain)).cloned();
        effects.extend(news.map(|roster| Effect::Send { device, frame: Frame::Roster(roster).to_bytes() }));
    }

    /// Whether a brain is in a space that this one knows.
    pub(super) fn shares_with(&self, brain: BrainKey) -> bool {
        self.replica.spaces().any(|space| self.is_member(space.id(), brain))
    }

    /// Whether this device has the key that signs for the brain, and has to list the brain's devices with it: they were listed with an earlier one last, as far
    /// as is known here.
    pub fn lists_by_an_old_key(&self) -> bool {
        let listed = self.roster().map_or(0, |roster| roster.succession().generation());
        self.has_the_key() && listed < self.succession(self.brain()).generation()
    }

    /// Brains that have another key than is said in spaces that this device speaks for.
    pub fn to_be_succeeded(&self) -> Vec<(SpaceId, BrainKey)> {
        // Which of a brain's devices go on to count says the roster by that key.
        let changed = self.rosters.values().filter(|roster| roster.succession().generation() > 0);
        let changed: Vec<(BrainKey, usize)> =
            changed.map(|roster| (roster.brain(), roster.succession().generation())).collect();
        let spaces = self.replica.spaces().filter(|_| !changed.is_empty());
        let spoken_for = spaces.filter(|space| self.speaks_for(space.id()));
        let open = spoken_for.flat_map(|space| {
            let of = |(brain, generation): &(BrainKey, usize)| {
                let is_open = *generation > space.generation(*brain) && self.is_member(space.id(), *brain);
                is_open.then_some((space.id(), *brain))
            };
            changed.iter().filter_map(of).collect::<Vec<_>>()
        });
        open.collect()
    }

    /// Says in a space which key a brain has: what devices that it has not listed under that key had said by now, as far as it came here, goes on to
    /// count, and nothing else of theirs.
    ///
    /// # Errors
    /// See [`CannotSay`].
    pub fn succeed(&self, space: SpaceId, brain: BrainKey, at: Hlc) -> Result<Vec<Entry>, CannotSay> {
        let roster = self.rosters.get(&brain).ok_or(CannotSay::NoKey)?;
        let (key, generation) = (roster.succession().current(), roster.succession().generation());
        let devices = roster.devices().to_vec();
        let said = |lane| {
            let wrote = |writer: crate::certificate::Writer| {
                writer.generation < generation && !devices.contains(&writer.device)
            };
            self.said_by(space, brain, wrote, lane)
        };
        let (accepted, decided) = (said(Lane::Content), said(Lane::Control));
        self.control(space, &Control::Succeeded { brain, key, generation, devices, accepted, decided }, at)
    }
}
