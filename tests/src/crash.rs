//! What the crash tests write.

pub mod load;
pub mod vault;
