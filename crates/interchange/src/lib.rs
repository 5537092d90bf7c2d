//! Readers and writers of what people already have: Markdown vaults and JSON lines.
//!
//! Reading happens in steps, of which only the first touches the disk:
//!
//! 1. [`vault::Vault::scan`] lists a folder and [`vault::Scan::read`] reads one file of it, safely;
//! 2. [`reading::read`] says what one file states, as plain data;
//! 3. [`resolve::resolve`] finds what every link points to, over all files at once;
//! 4. [`plan::plan`] gives every memory its stable id, ready to be turned into commands.
//!
//! [`import()`] does all four. Nothing here writes to a brain: who imports compares the plan with what is
//! already there. [`export`] writes memories out again, in a form that step 1 reads back to the same memories.

pub mod export;
pub mod ids;
pub mod markdown;
pub mod plan;
pub mod problem;
pub mod reading;
pub mod resolve;
pub mod vault;

use std::path::Path;

use crate::ids::Ids;
use crate::plan::Plan;
use crate::vault::{ScanError, ScanOptions, Vault};

/// Reads a whole vault: scan, read, resolve and plan.
///
/// `progress` is called with the number of files read and the number there are, after each file.
///
/// # Errors
/// Only when the folder itself cannot be read; a broken file is a [`problem::Problem`] of the plan.
pub fn import(
    root: &Path,
    options: &ScanOptions,
    ids: &Ids,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Plan, ScanError> {
    let scan = Vault::scan(root, options)?;
    let read = reading::read_all(&scan, progress);
    let resolution = resolve::resolve(&read);
    Ok(plan::plan(read, &resolution, ids))
}
