//! Friends that relay, of which some are asked to.

use std::collections::BTreeMap;
use std::time::Instant;

use libp2p::{Multiaddr, PeerId};

use crate::network::limits::{FRIENDLY_RELAY_PAUSE, MAX_FRIENDLY_RELAYS};

/// How often a friend is asked in vain before another one is.
pub(super) const TRIES: usize = 3;

#[derive(Default)]
pub(super) struct Offers(BTreeMap<PeerId, Offer>);

struct Offer {
    address: Multiaddr,
    /// It is left alone until then.
    not_before: Instant,
}

impl Offers {
    /// Takes note of one. When it may be asked does not change by that, so that one which says so again and again and
    /// refuses is not asked all the time.
    pub(super) fn insert(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        if let Some(offer) = self.0.get_mut(&peer) {
            offer.address = address;
        } else if self.0.len() < MAX_FRIENDLY_RELAYS {
            self.0.insert(peer, Offer { address, not_before: now });
        }
    }

    /// Leaves one alone for a while.
    pub(super) fn put_off(&mut self, peer: PeerId, address: Multiaddr, now: Instant) {
        if self.0.len() < MAX_FRIENDLY_RELAYS || self.0.contains_key(&peer) {
            self.0.insert(peer, Offer { address, not_before: now + FRIENDLY_RELAY_PAUSE });
        }
    }

    /// Forgets others.
    pub(super) fn retain(&mut self, is_friend: impl Fn(&PeerId) -> bool) {
        self.0.retain(|peer, _| is_friend(peer));
    }

    /// Takes out one that may be asked and is there.
    pub(super) fn take(
        &mut self,
        now: Instant,
        is_there: impl Fn(&PeerId) -> bool,
    ) -> Option<(PeerId, Multiaddr)> {
        let mut due = self.0.iter().filter(|(peer, offer)| offer.not_before <= now && is_there(peer));
        let peer = due.next().map(|(peer, _)| *peer)?;
        self.0.remove(&peer).map(|offer| (peer, offer.address))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerKey;

    #[test]
    fn one_that_was_asked_in_vain_is_left_alone_for_a_while() {
        let peer = PeerKey::from_bytes([1; 32]).peer_id();
        let address: Multiaddr = "/ip4/192.0.2.1/tcp/1".parse().expect("an address");
        let (mut offers, now) = (Offers::default(), Instant::now());
        offers.insert(peer, address.clone(), now);
        assert_eq!(offers.take(now, |_| false), None, "it is not there");
        assert_eq!(offers.take(now, |_| true), Some((peer, address.clone())));
        offers.put_off(peer, address.clone(), now);
        offers.insert(peer, address.clone(), now);
        assert_eq!(offers.take(now, |_| true), None);
        assert_eq!(offers.take(now + FRIENDLY_RELAY_PAUSE, |_| true), Some((peer, address)));
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let (mut offers, now) = (Offers::default(), Instant::now());
        for number in 0..=MAX_FRIENDLY_RELAYS {
            let peer = PeerKey::from_bytes([number as u8; 32]).peer_id();
            offers.insert(peer, Multiaddr::empty(), now);
        }
        assert_eq!(offers.0.len(), MAX_FRIENDLY_RELAYS);
    }
}
