//! Events that nothing depends on, waiting for room in the queue of events: discoveries and failed dials.

use std::collections::{BTreeMap, VecDeque};

use libp2p::{Multiaddr, PeerId};

use crate::network::limits::{HINT_QUEUE, MAX_DIAL_ADDRESSES};
use crate::network::{NetworkEvent, PeerKey};

#[derive(Default)]
pub(crate) struct Hints(VecDeque<NetworkEvent>);

impl Hints {
    pub(crate) fn push(&mut self, event: NetworkEvent) {
        // What is already waiting need not be said twice.
        if self.0.contains(&event) {
            return;
        }
        if self.0.len() == HINT_QUEUE {
            tracing::debug!("events are received too slowly, the oldest hint is forgotten");
            self.0.pop_front();
        }
        self.0.push_back(event);
    }

    /// Takes in what a peer claims about itself; peers without an ed25519 key are passed over.
    pub(crate) fn discovered(&mut self, found: impl IntoIterator<Item = (PeerId, Multiaddr)>) {
        let mut peers: BTreeMap<PeerKey, Vec<Multiaddr>> = BTreeMap::new();
        for (peer, address) in found {
            let Ok(peer) = PeerKey::try_from(peer) else { continue };
            let addresses = peers.entry(peer).or_default();
            if addresses.len() < MAX_DIAL_ADDRESSES {
                addresses.push(address);
            }
        }
        for (peer, addresses) in peers {
            self.push(NetworkEvent::Discovered { peer, addresses });
        }
    }

    pub(crate) fn pop(&mut self) -> Option<NetworkEvent> {
        self.0.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_merged_and_bounded_and_the_oldest_goes_first() {
        let peer = |number: usize| PeerKey::from_bytes([number as u8; 32]).peer_id();
        let address = |port: usize| format!("/ip4/127.0.0.1/tcp/{port}").parse::<Multiaddr>().expect("an address");
        let mut hints = Hints::default();
        hints.discovered((0..2 * MAX_DIAL_ADDRESSES).map(|port| (peer(1), address(port))));
        hints.discovered((0..2 * MAX_DIAL_ADDRESSES).map(|port| (peer(1), address(port))));
        let Some(NetworkEvent::Discovered { addresses, .. }) = hints.pop() else { panic!("one was found") };
        assert_eq!(addresses.len(), MAX_DIAL_ADDRESSES);
        assert!(hints.is_empty(), "the same is said once");
        for port in 0..=HINT_QUEUE {
            hints.discovered([(peer(2), address(port))]);
        }
        let Some(NetworkEvent::Discovered { addresses, .. }) = hints.pop() else { panic!("many were found") };
        assert_eq!(addresses, [address(1)]);
        assert_eq!(hints.0.len(), HINT_QUEUE - 1);
    }
}
