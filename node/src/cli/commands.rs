//! The commands, each a request or a few and a view of the answer.

pub mod completions;
pub mod device;
pub mod export;
pub mod follow;
pub mod forget;
pub mod history;
pub mod import;
pub mod key;
pub mod list;
pub mod projections;
pub mod relay;
pub mod replay;
pub mod review;
pub mod search;
pub mod sharing;
pub mod show;
pub mod status;
pub mod token;
pub mod write;
