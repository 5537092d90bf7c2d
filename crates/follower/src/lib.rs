//! Followers: a second machine of one's own that has the whole brain, and can take over.
//!
//! A primary sends its log, the keys of its memories and its tokens to followers, over QUIC, to keys it knows. A follower
//! writes the same events at the same positions, and says how far it has them on disk. [`Primary`] and [`Standby`] are the two
//! sides, [`Guarded`] is the log of a node that may be followed: it waits for a follower where it is told to, and takes
//! nothing more once the node was replaced. `docs/decisions/0020-followers.md` says why it is so.
//!
//! Invariants:
//!
//! - What a follower has is always the beginning of what its primary has: each segment says what it goes on from, by a hash over
//!   everything before it, and one that does not fit is not written.
//! - A follower acknowledges what is durable, nothing else.
//! - A key is there before an event that needs it, and a key that was destroyed never comes back.
//! - Of two nodes, the one with the lower epoch stops as soon as it hears of the other, and for good.

mod aside;
mod chain;
mod error;
mod gate;
mod key;
mod keys;
mod link;
mod primary;
mod standby;
mod state;
#[cfg(test)]
mod tests;
mod tls;
mod wire;

pub use aside::{Kept, kept_aside};
pub use chain::{Chain, Mark};
pub use error::FollowError;
pub use gate::{Gate, Guarded, SYNC_PATIENCE, Shut, Synchrony};
pub use key::{Machine, MachineKey};
pub use link::FollowLink;
pub use primary::{FollowerView, Primary, PrimaryConfig, PrimaryView};
pub use standby::{Paired, Standby, StandbyConfig, StandbyStatus, TakenOver, pair};
pub use state::{Folder, Predecessor, PrimaryOf, Replaced, Role, State};
pub use wire::{ALPN, MAX_MESSAGE_BYTES, MAX_SEGMENT_BYTES};
