//! What brains share, kept in the log: entries as they were signed, the memories that are made of them, and what this brain itself has said.
//!
//! Start at [`Sharing`], which drives the engine of the crate `cairn-sync` over a [`Transport`]. `docs/federation.md` explains what it does.

mod erasing;
mod error;
mod invitation;
mod keeper;
mod linking;
mod names;
mod publishing;
mod relaying;
mod restore;
mod service;
mod transport;
mod view;

pub use error::SharingError;
pub use invitation::{InvitationLink, words};
pub use keeper::Keeper;
pub use restore::Selections;
pub use service::{Offering, Resume, Selecting, Sharing, SharingConfig, SharingKey, key_of_words, next_key};
pub use transport::{Happening, Incoming, Transport};
pub use view::{
    AskedView, DeviceView, ErasureView, GrantView, InvitationView, KeyView, PeerView, ReceiptView, SpaceView,
    View, WishView,
};
