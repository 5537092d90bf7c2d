//! Which of its ways to a device a node uses: two nodes may reach each other over libp2p and over gRPC.

use std::collections::{BTreeMap, BTreeSet};

use cairn_sync::key::DeviceKey;

/// A network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    Libp2p,
    Grpc,
}

/// How good a connection is; the least is the best. Both sides see the same, and so keep the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Libp2p,
    Grpc,
    Relayed,
}

/// What is to be done when a connection came up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Come {
    /// It is used.
    Use,
    /// It is used in place of another one, which is to be closed.
    Instead(Way),
    /// It is to be closed: there is one that is better.
    Close,
}

/// The ways to each device, and the dials that are under way.
#[derive(Debug, Default)]
pub(super) struct Ways {
    used: BTreeMap<DeviceKey, (Way, Rank)>,
    dialled: BTreeMap<DeviceKey, BTreeSet<Way>>,
}

impl Ways {
    pub(super) fn connected(&mut self, device: DeviceKey, way: Way, relayed: bool) -> Come {
        self.dialled.remove(&device);
        let rank = match way {
            Way::Grpc => Rank::Grpc,
            Way::Libp2p if relayed => Rank::Relayed,
            Way::Libp2p => Rank::Libp2p,
        };
        let come = match self.used.get(&device) {
            Some((_, used)) if *used <= rank => return Come::Close,
            Some((used, _)) => Come::Instead(*used),
            None => Come::Use,
        };
        self.used.insert(device, (way, rank));
        come
    }

    /// Says whether it was the one in use.
    pub(super) fn disconnected(&mut self, device: DeviceKey, way: Way) -> bool {
        let was_used = self.uses(device) == Some(way);
        if was_used {
            self.used.remove(&device);
        }
        was_used
    }

    /// Which one is used.
    pub(super) fn uses(&self, device: DeviceKey) -> Option<Way> {
        self.used.get(&device).map(|(way, _)| *way)
    }

    /// Takes note of a dial.
    pub(super) fn dialled(&mut self, device: DeviceKey, ways: BTreeSet<Way>) {
        self.dialled.insert(device, ways);
    }

    /// Whether a dial is under way that goes this way too.
    pub(super) fn waits_for(&self, device: DeviceKey, way: Way) -> bool {
        self.dialled.get(&device).is_some_and(|ways| ways.contains(&way))
    }

    /// A dial has failed one way. Says whether it has failed as a whole: nothing is left of it, and the device is not connected otherwise.
    pub(super) fn dial_failed(&mut self, device: DeviceKey, way: Way) -> bool {
        let Some(ways) = self.dialled.get_mut(&device) else { return !self.used.contains_key(&device) };
        ways.remove(&way);
        let failed = ways.is_empty();
        if failed {
            self.dialled.remove(&device);
        }
        failed && !self.used.contains_key(&device)
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    fn device() -> DeviceKey {
        DeviceKey::of(&SigningKey::from_bytes(&[1; 32]))
    }

    #[test]
    fn the_best_connection_is_used_in_whatever_order_they_come() {
        let device = device();
        let mut ways = Ways::default();
        assert_eq!(ways.connected(device, Way::Libp2p, true), Come::Use);
        assert_eq!(ways.connected(device, Way::Grpc, false), Come::Instead(Way::Libp2p), "a relay is worse");
        assert!(!ways.disconnected(device, Way::Libp2p), "it is not used any more");
        assert_eq!(ways.connected(device, Way::Libp2p, false), Come::Instead(Way::Grpc));
        assert_eq!(ways.connected(device, Way::Grpc, false), Come::Close);
        assert!(!ways.disconnected(device, Way::Grpc));
        assert_eq!(ways.uses(device), Some(Way::Libp2p));
        assert!(ways.disconnected(device, Way::Libp2p));
        assert_eq!(ways.uses(device), None);
    }

    #[test]
    fn a_dial_fails_when_every_way_has_failed_and_never_while_there_is_a_connection() {
        let device = device();
        let both = BTreeSet::from([Way::Libp2p, Way::Grpc]);
        let mut ways = Ways::default();
        ways.dialled(device, both.clone());
        assert!(!ways.dial_failed(device, Way::Libp2p));
        assert!(ways.waits_for(device, Way::Grpc));
        assert!(ways.dial_failed(device, Way::Grpc));
        ways.dialled(device, both);
        assert_eq!(ways.connected(device, Way::Grpc, false), Come::Use);
        assert!(!ways.dial_failed(device, Way::Libp2p), "it is connected");
        assert!(ways.disconnected(device, Way::Grpc));
        assert!(ways.dial_failed(device, Way::Libp2p), "it was dialled, whoever remembers");
    }
}
