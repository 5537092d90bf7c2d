//! What this node relays for others.

use std::collections::BTreeSet;

use libp2p::{PeerId, relay};

#[derive(Default)]
pub(super) struct Relayed {
    reserved: BTreeSet<PeerId>,
    circuits: usize,
}

impl Relayed {
    /// `is_connected` says whether a peer has any connection left: libp2p tells the end of each as that of a
    /// reservation, even of those that had none.
    pub(super) fn on_event(&mut self, event: &relay::Event, is_connected: impl Fn(&PeerId) -> bool) {
        match event {
            relay::Event::ReservationReqAccepted { src_peer_id, .. } => drop(self.reserved.insert(*src_peer_id)),
            relay::Event::ReservationTimedOut { src_peer_id } => drop(self.reserved.remove(src_peer_id)),
            relay::Event::ReservationClosed { src_peer_id } if !is_connected(src_peer_id) => {
                self.reserved.remove(src_peer_id);
            }
            relay::Event::CircuitReqAccepted { .. } => self.circuits += 1,
            relay::Event::CircuitClosed { .. } => self.circuits = self.circuits.saturating_sub(1),
            // What was refused, or failed, changes nothing.
            _ => {}
        }
    }

    pub(super) fn reservations(&self) -> usize {
        self.reserved.len()
    }

    pub(super) fn circuits(&self) -> usize {
        self.circuits
    }
}
