//! Friends that relay, of which some are asked to.

use std::collections::BTreeMap;
use std::time::Instant;

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::network::limits::{FRIENDLY_RELAY_PAUSE, MAX_FRIENDLY_RELAYS};

/// How often a friend is asked in vain before another one is.
pub(super) const TRIES: usize = 3;

#[derive(Default)]
pub(super) struct Offers(BTreeMap<PeerId, Offer>);

/// Where a friend that relays can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Addresses {
    pub(super) best: Multiaddr,
    /// Over another transport.
    pub(super) other: Option<Multiaddr>,
}

struct Offer {
    addresses: Addresses,
    /// It is left alone until then.
    not_before: Instant,
}

impl Addresses {
    /// Of at least one address, the best first.
    pub(super) fn of(addresses: Vec<Multiaddr>) -> Self {
        let is_quic = |address: &Multiaddr| address.iter().any(|part| part == Protocol::QuicV1);
        let mut addresses = addresses.into_iter();
        let best = addresses.next().expect("there is an address");
        let other = addresses.find(|address| is_quic(address) != is_quic(&best));
        Self { best, other }
    }
}

impl Offers {
    /// Takes note of one. When it may be asked does not change by that, so that one which says so again and again and
    /// refuses is not asked all the time.
    pub(super) fn insert(&mut self, peer: PeerId, addresses: Addresses, now: Instant) {
        if let Some(offer) = self.0.get_mut(&peer) {
            offer.addresses = addresses;
        } else if self.0.len() < MAX_FRIENDLY_RELAYS {
            self.0.insert(peer, Offer { addresses, not_before: now });
        }
    }

    /// Leaves one alone for a while.
    pub(super) fn put_off(&mut self, peer: PeerId, addresses: Addresses, now: Instant) {
        if self.0.len() < MAX_FRIENDLY_RELAYS || self.0.contains_key(&peer) {
            self.0.insert(peer, Offer { addresses, not_before: now + FRIENDLY_RELAY_PAUSE });
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
    ) -> Option<(PeerId, Addresses)> {
        let mut due = self.0.iter().filter(|(peer, offer)| offer.not_before <= now && is_there(peer));
        let peer = due.next().map(|(peer, _)| *peer)?;
        self.0.remove(&peer).map(|offer| (peer, offer.addresses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerKey;

    fn at(addresses: &[&str]) -> Addresses {
        Addresses::of(addresses.iter().map(|address| address.parse().expect("an address")).collect())
    }

    #[test]
    fn of_several_addresses_one_of_another_transport_is_kept_beside_the_best() {
        let [tcp, more, quic] = ["/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1", "/ip4/192.0.2.1/udp/1/quic-v1"];
        let parsed = |address: &str| address.parse::<Multiaddr>().expect("an address");
        assert_eq!(at(&[tcp, more, quic]), Addresses { best: parsed(tcp), other: Some(parsed(quic)) });
        assert_eq!(at(&[quic, quic, more]), Addresses { best: parsed(quic), other: Some(parsed(more)) });
        assert_eq!(at(&[tcp, more]).other, None);
    }

    #[test]
    fn one_that_was_asked_in_vain_is_left_alone_for_a_while() {
        let peer = PeerKey::from_bytes([1; 32]).peer_id();
        let address = at(&["/ip4/192.0.2.1/tcp/1"]);
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
            offers.insert(peer, at(&["/ip4/192.0.2.1/tcp/1"]), now);
        }
        assert_eq!(offers.0.len(), MAX_FRIENDLY_RELAYS);
    }
}
