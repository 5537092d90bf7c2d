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

/// Takes what the service says to the networks.
pub(super) struct Wires {
    orders: mpsc::Sender<Order>,
    queues: Mutex<BTreeMap<DeviceKey, mpsc::Sender<Bytes>>>,
    addresses: watch::Sender<Vec<String>>,
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
