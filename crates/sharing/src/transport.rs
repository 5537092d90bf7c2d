//! What carries frames between devices.

use bytes::Bytes;
use cairn_sync::key::DeviceKey;
use cairn_sync::wire::{Frame, InvalidFrame};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, spawn_blocking};

/// A frame of fewer bytes is read when it is its turn: that takes no longer than handing it over.
const LARGE_BYTES: usize = 8 * 1024;

/// How many frames are read ahead at once. All others are read in their turn: whoever sends many takes no more processors than that.
const AT_ONCE: usize = 2;

static AHEAD: Semaphore = Semaphore::const_new(AT_ONCE);

type Read = Result<Option<Frame>, InvalidFrame>;

/// A frame that came. A large one is read at once, on another thread, while the service keeps what came before it.
#[derive(Debug)]
pub struct Incoming(Reading);

#[derive(Debug)]
enum Reading {
    InItsTurn(Bytes),
    Ahead(JoinHandle<Read>),
}

impl Incoming {
    /// Begins to read it, where that takes long. To be called in a runtime.
    pub fn of(bytes: Bytes) -> Self {
        match AHEAD.try_acquire() {
            Ok(place) if bytes.len() >= LARGE_BYTES => Self(Reading::Ahead(spawn_blocking(move || {
                let read = Frame::read_ahead(bytes);
                drop(place);
                read
            }))),
            Ok(_) | Err(_) => Self(Reading::InItsTurn(bytes)),
        }
    }

    /// What it says.
    pub(crate) async fn read(self) -> Read {
        match self.0 {
            Reading::InItsTurn(bytes) => Frame::parse(bytes),
            Reading::Ahead(reading) => reading.await.unwrap_or(Err(InvalidFrame::Malformed)),
        }
    }
}

/// What happens on the way between devices.
#[derive(Debug)]
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
        frame: Incoming,
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
