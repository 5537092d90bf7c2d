//! Every limit of the network, in one place. Nothing here is configurable: a limit that can be raised by whoever runs
//! a node is not one that a peer can rely on.

use std::time::Duration;

/// The largest frame, in bytes, without its 4-byte length. A longer one closes the connection.
pub const MAX_FRAME_BYTES: usize = 1024 * 1024;

/// How many frames wait to be written to one peer, before [`Handle::send`](super::Handle::send) waits.
pub const OUTGOING_FRAMES: usize = 1024;

/// How many bytes of frames wait to be written to one peer, before [`Handle::send`](super::Handle::send) waits.
pub const OUTGOING_BYTES: usize = 4 * 1024 * 1024;

/// How many bytes of frames from one peer wait to be received, before its substream is no longer read.
pub const INCOMING_BYTES: usize = 2 * 1024 * 1024;

/// How many events of all peers wait to be received, before no substream is read any more.
pub const EVENT_QUEUE: usize = 256;

/// How many discoveries and failed dials wait to enter the queue of events; beyond it the oldest is forgotten.
/// Frames, connections and disconnections never are.
pub const HINT_QUEUE: usize = 1024;

/// How many commands of [`Handle`](super::Handle) wait for the task that owns the swarm.
pub const COMMAND_QUEUE: usize = 64;

/// How many addresses of one dial are tried; the rest is ignored.
pub const MAX_DIAL_ADDRESSES: usize = 16;

/// How long a dial may take, from the first packet to an open substream for frames.
pub const DIAL_TIME: Duration = Duration::from_secs(12);

/// How long a peer that does not lead waits for a substream before it asks for one: longer than the leader's takes to
/// come, unless the leader still believes in another connection.
pub const ASK_AFTER: Duration = Duration::from_secs(1);

/// How long a substream may take to open before a newer connection is asked for one too.
pub const OPEN_PATIENCE: Duration = Duration::from_secs(1);

/// How long after frames began to pass a relay a new attempt is made to get through directly; it doubles with each.
pub const FIRST_PUNCH: Duration = Duration::from_secs(2);
/// The longest pause between two such attempts.
pub const LONGEST_PUNCH_PAUSE: Duration = Duration::from_secs(5 * 60);

/// How long a connection without any open substream stays. It must outlast the detection of a dead peer, so that a
/// peer which restarted and dialled again still has its connection when the old one is found dead.
pub const IDLE_TIME: Duration = Duration::from_secs(30);

/// How often a peer is asked for a sign of life, and how long it may take to answer.
pub const PING_INTERVAL: Duration = Duration::from_secs(10);
/// See [`PING_INTERVAL`].
pub const PING_TIME: Duration = Duration::from_secs(10);

/// How long frames that were queued may still be written when a connection is closed by `disconnect` or `shutdown`.
pub const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How long frames that have arrived may still be received from a connection that a newer one of the peer replaces.
pub const YIELD_TIME: Duration = Duration::from_millis(250);

/// How long `shutdown` waits for connections to close, after they were drained.
pub const CLOSE_TIME: Duration = Duration::from_secs(2);

/// Connections from outside whose keys are not known yet.
pub const MAX_PENDING_INCOMING: u32 = 32;
/// Connections being dialled.
pub const MAX_PENDING_OUTGOING: u32 = 32;
/// Connections in all.
pub const MAX_ESTABLISHED: u32 = 256;
/// Connections from outside: some are left for those that this node dials.
pub const MAX_ESTABLISHED_INCOMING: u32 = 192;
/// Connections with one peer. Two from a simultaneous dial, one over a relay, two from punching a hole and one from a
/// check of reachability can exist at once, and a dead one may linger.
pub const MAX_ESTABLISHED_PER_PEER: u32 = 8;
/// Connections with one peer beyond which the oldest that is not in use is closed when a new one comes: below
/// [`MAX_ESTABLISHED_PER_PEER`], so that a peer which was killed again and again is not kept out by what it left behind.
pub const MAX_LINKS_PER_PEER: usize = 5;
/// Streams of all protocols that one peer may have open on a connection.
pub const MAX_STREAMS: u32 = 64;
/// The share of the machine's memory beyond which no connection is made.
pub const MEMORY_SHARE: f64 = 0.9;

/// What may be on its way on one stream of a QUIC connection, in bytes: 40 MB/s at a round trip of 100 ms.
pub const QUIC_STREAM_WINDOW: u32 = 4 * 1024 * 1024;
/// What may be on its way on a QUIC connection, in bytes.
pub const QUIC_CONNECTION_WINDOW: u32 = 6 * 1024 * 1024;

/// Connections of strangers at one time while the door is open.
pub const MAX_STRANGERS: usize = 4;
/// How long a stranger may stay without being allowed.
pub const STRANGER_TIME: Duration = Duration::from_secs(60);
/// How many frames a stranger may send.
pub const STRANGER_FRAMES: usize = 64;
/// The largest frame of a stranger, in bytes.
pub const STRANGER_FRAME_BYTES: usize = 64 * 1024;
/// How many bytes a stranger may send in all its frames.
pub const STRANGER_BYTES: usize = 256 * 1024;

/// How long after a relay was lost, or could not be reached, the next attempt is made.
pub const RELAY_RETRY: Duration = Duration::from_secs(15);
/// Friends that relay are asked to as long as fewer relays than this keep this node reachable: should one go away, there
/// is another.
pub const RELAYS_WANTED: usize = 2;
/// How many friends that relay are remembered, of which some are asked.
pub const MAX_FRIENDLY_RELAYS: usize = 16;
/// How long a friend that relays and has refused a few times, or was not there, is left alone.
pub const FRIENDLY_RELAY_PAUSE: Duration = Duration::from_secs(10 * 60);
/// How often registrations of others are asked for at a rendezvous point, and the own one is made anew if need be.
pub const RENDEZVOUS_INTERVAL: Duration = Duration::from_secs(15);
/// How long a registration at a rendezvous point lasts, in seconds: the least that the protocol permits.
pub const REGISTRATION_SECONDS: u64 = 2 * 60 * 60;
/// How many registrations of others are asked for at once.
pub const MAX_DISCOVERED: u64 = 256;

/// Peers that this node keeps reachable as a relay.
pub const RELAY_RESERVATIONS: usize = 128;
/// Connections relayed at one time.
pub const RELAY_CIRCUITS: usize = 64;
/// Connections relayed at one time for one peer.
pub const RELAY_CIRCUITS_PER_PEER: usize = 8;
/// How long one connection is relayed. libp2p's own default is 2 minutes.
pub const RELAY_CIRCUIT_TIME: Duration = Duration::from_secs(60 * 60);
/// How many bytes one connection relays in each direction. libp2p's own default is 128 KiB.
pub const RELAY_CIRCUIT_BYTES: u64 = 1024 * 1024 * 1024;
/// Registrations that this node keeps as a rendezvous point, for one peer and in all.
pub const REGISTRATIONS_PER_PEER: usize = 4;
/// See [`REGISTRATIONS_PER_PEER`].
pub const REGISTRATIONS: usize = 1_000;
