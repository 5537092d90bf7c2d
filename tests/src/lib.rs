//! What the end-to-end tests in `tests/` share: reading the log with suspicion, waiting, importing, looking
//! through files, networks of their own, two people who share, and a standby. The layering test stands beside them.

pub mod crash;
pub mod files;
pub mod followers;
pub mod kafka;
pub mod log;
pub mod networks;
pub mod projections;
pub mod sharing;
pub mod vaults;

/// The checkout's root folder.
pub fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the checkout is there")
}
