//! The networks as the service sees them: nothing here waits.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cairn_sharing::Transport;
use cairn_sync::key::DeviceKey;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::{mpsc, watch};
use tracing::warn;

/// What the service orders.
pub(super) enum Order {
    Dial(DeviceKey, Vec<String>),
    Close(DeviceKey),
    Admit(Vec<DeviceKey>, bool),
}

/// What was ordered before there were networks, in its order.
pub(super) struct Early(Vec<Order>);

/// Takes what the service says to the networks.
pub(super) struct Wires {
    orders: mpsc::Sender<Order>,
    queues: Mutex<BTreeMap<DeviceKey, mpsc::Sender<Bytes>>>,
    addresses: watch::Sender<Vec<String>>,
}

impl Early {
    /// Takes all that was ordered by now.
    pub(super) fn take(orders: &mut mpsc::Receiver<Order>) -> Self {
        Self(std::iter::from_fn(|| orders.try_recv().ok()).collect())
    }

    /// The devices that may connect, by what was said last.
    pub(super) fn known(&self) -> &[DeviceKey] {
        let admitted = self.0.iter().rev().find_map(|order| match order {
            Order::Admit(devices, _) => Some(devices.as_slice()),
            Order::Dial(..) | Order::Close(_) => None,
        });
        admitted.unwrap_or_default()
    }

    pub(super) fn into_orders(self) -> Vec<Order> {
        self.0
    }
}

impl Wires {
    pub(super) fn new(orders: mpsc::Sender<Order>) -> Self {
        Self { orders, queues: Mutex::default(), addresses: watch::Sender::default() }
    }

    /// Frames for a device go there from now on; with none, nowhere.
    pub(super) fn set_queue(&self, device: DeviceKey, queue: Option<mpsc::Sender<Bytes>>) {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        match queue {
            Some(queue) => drop(queues.insert(device, queue)),
            None => drop(queues.remove(&device)),
        }
    }

    pub(super) fn set_addresses(&self, addresses: Vec<String>) {
        self.addresses.send_replace(addresses);
    }

    /// Waits until there is an address, or for so long.
    pub(super) async fn addresses_known(&self, within: Duration) {
        let mut addresses = self.addresses.subscribe();
        // A node that only dials has none.
        let _ = tokio::time::timeout(within, addresses.wait_for(|addresses| !addresses.is_empty())).await;
    }

    fn order(&self, order: Order) {
        if self.orders.try_send(order).is_err() {
            warn!("the network does not keep up with what it is told");
        }
    }
}

impl Transport for Wires {
    fn send(&self, device: DeviceKey, frame: Bytes) {
        let queue = self.queues.lock().unwrap_or_else(PoisonError::into_inner).get(&device).cloned();
        match queue.map(|queue| queue.try_send(frame)) {
            Some(Err(TrySendError::Full(_))) => self.close(device),
            // Its connection has ended, which is about to be told. To close it now could hit the one that follows.
            Some(Err(TrySendError::Closed(_)) | Ok(())) | None => {}
        }
    }

    fn dial(&self, device: DeviceKey, addresses: Vec<String>) {
        self.order(Order::Dial(device, addresses));
    }

    fn close(&self, device: DeviceKey) {
        self.order(Order::Close(device));
    }

    fn admit(&self, devices: Vec<DeviceKey>, strangers: bool) {
        self.order(Order::Admit(devices, strangers));
    }

    fn addresses(&self) -> Vec<String> {
        self.addresses.borrow().clone()
    }
}

#[cfg(test)]
mod tests {
    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn nothing_that_is_ordered_early_is_lost() {
        let [one, other] = [1, 2].map(|byte| DeviceKey::of(&SigningKey::from_bytes(&[byte; 32])));
        let (orders, mut taken) = mpsc::channel(8);
        let wires = Wires::new(orders);
        wires.dial(one, vec!["/ip4/192.0.2.1/tcp/1".to_owned()]);
        wires.admit(vec![one], false);
        wires.admit(vec![one, other], true);
        wires.dial(other, Vec::new());
        let early = Early::take(&mut taken);
        assert_eq!(early.known(), [one, other]);
        let dialled = early.into_orders().into_iter().filter_map(|order| match order {
            Order::Dial(device, _) => Some(device),
            Order::Admit(..) | Order::Close(_) => None,
        });
        assert_eq!(dialled.collect::<Vec<_>>(), [one, other]);
        assert!(taken.try_recv().is_err());
    }
}
