//! The limits that only this transport has. All others are those of the [libp2p driver](crate::network::limits): of
//! frames, queues, dials, strangers and connections in all.

use std::time::Duration;

/// How long a connection from outside may take to prove its key, and then again to call `Frames`; and how long an
/// address that is dialled may take to prove its key.
pub const HANDSHAKE_TIME: Duration = Duration::from_secs(10);

/// How long a peer may take nothing of what waits to be written to it. Frames that wait for less are only slow.
pub const STALL_TIME: Duration = Duration::from_secs(60);

/// How long a call waits for the one that it would take the place of to be found out as dead. Were the two from
/// dialling at once, the peer takes one of them back long before.
pub const RIVAL_TIME: Duration = Duration::from_secs(2);

/// Connections with one peer: one in use, one from dialling at once, and two that are not known to be dead yet.
pub const MAX_CONNECTIONS_PER_PEER: usize = 4;

/// Addresses of one dial that are tried at the same time, and resolved addresses of one name.
pub const DIALS_AT_ONCE: usize = 4;

/// Calls that one peer may have open on a connection.
pub const MAX_CALLS: u32 = 1;

/// Calls that a peer took back, or made wrongly, which this node has not got rid of yet; one more closes the
/// connection.
pub const MAX_RESET_CALLS: usize = 8;

/// What may be on its way to this node on a connection, in bytes: 40 MB/s at a round trip of 100 ms.
pub const WINDOW: u32 = 4 * 1024 * 1024;

/// How many bytes one DATA frame of HTTP/2 may have.
pub const DATA_FRAME_BYTES: u32 = 64 * 1024;

/// How many bytes of a frame are encoded before the connection has written them, beyond one frame.
pub const SEND_BUFFER: usize = 256 * 1024;

/// How many bytes the headers of a call may have.
pub const HEADER_BYTES: u32 = 8 * 1024;

/// Frames that were taken from a peer's queue and wait to be encoded. Their bytes still count as queued.
pub const ENCODE_FRAMES: usize = 64;

/// What happened on connections and waits for the task that owns them.
pub const HAPPENING_QUEUE: usize = 64;

/// Connections that the system takes in before this program does.
pub const BACKLOG: u32 = 128;

/// The pause after the system could not hand over a connection, for example because too many files are open.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
