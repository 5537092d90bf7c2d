//! Saying what a run left out.

use std::fs::OpenOptions;
use std::io::Write;

/// Records that something could not be tested here, and why.
///
/// A test that cannot run on a machine passes, which must not read as if it had run: `cargo xtask test` names a
/// file in `TEST_CAIRN_NOT_TESTED`, and its last lines repeat what stands there.
pub fn not_tested(what: &str, why: &str) {
    eprintln!("not tested: {what}: {why}");
    let Some(path) = std::env::var_os("TEST_CAIRN_NOT_TESTED") else { return };
    let written = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(format!("{what}: {why}\n").as_bytes()));
    if let Err(error) = written {
        eprintln!("{} cannot be written: {error}", path.display());
    }
}
