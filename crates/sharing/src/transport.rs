//! What carries frames between devices.

use bytes::Bytes;
use cairn_sync::key::DeviceKey;

/// What happens on the way between devices.
#[derive(Debug, Clone)]
pub enum Happening {
    /// A device is at the other end of a new connection; the transport has proven that it has its key.
    Connected {
        /// The device.
        device: DeviceKey,
        /// Where it was reached, or where it came from.
        address: String,
    },
    /// A connection is gone, or could not be made.
    Disconnected {
        /// The device.
        device: DeviceKey,
    },
    /// A frame came.
    Frame {
        /// From whom.
        device: DeviceKey,
        /// What.
        bytes: Bytes,
    },
    /// A device that may connect can be found somewhere.
    Found {
        /// The device.
        device: DeviceKey,
        /// Where.
        addresses: Vec<String>,
    },
}

/// Carries frames between devices, whole and in order, as long as a connection holds. Nothing here waits: what cannot be sent now is lost together
/// with its connection, which is then reported as gone.
pub trait Transport: Send + Sync + 'static {
    /// Sends a frame to a device that is connected.
    fn send(&self, device: DeviceKey, frame: Bytes);
    /// Connects to a device. What becomes of it is reported.
    fn dial(&self, device: DeviceKey, addresses: Vec<String>);
    /// Closes the connection with a device.
    fn close(&self, device: DeviceKey);
    /// Says which devices may connect, and whether strangers may.
    fn admit(&self, devices: Vec<DeviceKey>, strangers: bool);
    /// Where others can connect.
    fn addresses(&self) -> Vec<String>;
}
