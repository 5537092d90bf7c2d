//! When to try again to get through to a peer directly, while frames pass a relay.
//!
//! libp2p tries once, when a relayed connection comes up. That is too early for two that are only getting to know each
//! other, since strangers are not dialled; and it may fail like any packet. A new relayed connection is another try.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use libp2p::PeerId;

use crate::network::limits::{FIRST_PUNCH, LONGEST_PUNCH_PAUSE};

#[derive(Default)]
pub(super) struct Punches(HashMap<PeerId, Punch>);

struct Punch {
    next: Instant,
    pause: Duration,
}

impl Punches {
    /// Which of the peers that are reached by a relay alone are due. Others are forgotten.
    pub(super) fn due(&mut self, relayed: &[PeerId], now: Instant) -> Vec<PeerId> {
        self.0.retain(|peer, _| relayed.contains(peer));
        relayed.iter().filter(|peer| self.is_due(**peer, now)).copied().collect()
    }

    fn is_due(&mut self, peer: PeerId, now: Instant) -> bool {
        let first = || Punch { next: now + FIRST_PUNCH, pause: FIRST_PUNCH };
        let punch = self.0.entry(peer).or_insert_with(first);
        let is_due = now >= punch.next;
        if is_due {
            punch.pause = (2 * punch.pause).min(LONGEST_PUNCH_PAUSE);
            punch.next = now + punch.pause;
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PeerKey;

    #[test]
    fn pauses_grow_up_to_a_limit_and_begin_anew_with_another_session() {
        let peer = PeerKey::from_bytes([1; 32]).peer_id();
        let (mut punches, mut now) = (Punches::default(), Instant::now());
        assert_eq!(punches.due(&[peer], now), []);
        let mut pause = FIRST_PUNCH;
        for _ in 0..12 {
            assert_eq!(punches.due(&[peer], now + pause / 2), []);
            now += pause;
            assert_eq!(punches.due(&[peer], now), [peer]);
            pause = (2 * pause).min(LONGEST_PUNCH_PAUSE);
        }
        assert_eq!(pause, LONGEST_PUNCH_PAUSE);
        assert_eq!(punches.due(&[], now), []);
        assert_eq!(punches.due(&[peer], now), []);
        assert_eq!(punches.due(&[peer], now + FIRST_PUNCH), [peer]);
    }
}
