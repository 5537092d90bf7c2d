//! Running one program after the other, saying which, and how long each took.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, IsTerminal, Read};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// The checkout's root folder.
pub fn root() -> PathBuf {
    // This crate lies in crates/xtask. Cargo says where that is now: another checkout may have compiled it, into the same target folder.
    let folder = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    PathBuf::from(folder).join("../..")
}

/// Cargo, in the checkout's root.
pub fn cargo<const N: usize>(arguments: [&str; N]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    // What `cargo run` set for this program is not meant for the ones it starts.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&*name);
        }
    }
    command
}

/// Runs a step to its end.
///
/// # Errors
/// When it cannot be started, or fails.
pub fn run(title: &str, command: &mut Command) -> Result<()> {
    let started = announce(title, command);
    let status = command.status().with_context(|| format!("cannot start {}", shown(command)))?;
    finish(title, started, status.success())?;
    Ok(())
}

/// Runs a step, passes on what it prints, and gives each line of it to `look`.
///
/// A step whose tests fail is not an error here: the caller counts them, and sees the success apart.
///
/// # Errors
/// When it cannot be started.
pub fn watch(title: &str, command: &mut Command, mut look: impl FnMut(&str)) -> Result<bool> {
    let started = announce(title, command);
    if std::io::stderr().is_terminal() {
        command.env("CARGO_TERM_COLOR", "always");
    }
    let (reader, writer) = std::io::pipe()?;
    command.stdout(writer.try_clone()?).stderr(writer).stdin(Stdio::null());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", shown(command)))?;
    // The command keeps its own copies of the pipe's writing end; without them the reader sees the end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    pass_on(reader, &mut look)?;
    let success = child.wait()?.success();
    let _ = finish(title, started, success);
    Ok(success)
}

fn pass_on(reader: impl Read, look: &mut impl FnMut(&str)) -> Result<()> {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line)? > 0 {
        let text = String::from_utf8_lossy(&line);
        eprint!("{text}");
        look(&plain(&text));
        line.clear();
    }
    Ok(())
}

/// The text without the escape sequences that colour it.
fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("\u{1b}[") {
        plain.push_str(before);
        rest = after.find(|c: char| c.is_ascii_alphabetic()).map_or("", |end| &after[end + 1..]);
    }
    plain.push_str(rest);
    plain
}

fn announce(title: &str, command: &Command) -> Instant {
    eprintln!("\n=== {title}\n    {}", shown(command));
    Instant::now()
}

fn finish(title: &str, started: Instant, success: bool) -> Result<()> {
    let seconds = started.elapsed().as_secs_f64();
    if success {
        eprintln!("--- {title}: done in {seconds:.1} s");
        return Ok(());
    }
    eprintln!("--- {title}: FAILED after {seconds:.1} s");
    bail!("{title} failed")
}

fn shown(command: &Command) -> String {
    let program = PathBuf::from(command.get_program());
    let name = program.file_name().unwrap_or(command.get_program()).to_string_lossy().into_owned();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(name).chain(words).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_taken_out() {
        assert_eq!(plain("\u{1b}[32;1m   Summary\u{1b}[0m 3 tests run"), "   Summary 3 tests run");
        assert_eq!(plain("plain"), "plain");
    }

    #[test]
    fn a_step_that_fails_is_seen_with_what_it_printed() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo err >&2; exit 3"]);
        let success = watch("a step", &mut command, |line| lines.push(line.trim().to_owned())).expect("it starts");
        assert!(!success);
        assert_eq!(lines, ["out", "err"]);
    }
}
