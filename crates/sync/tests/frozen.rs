//! An older peer still works: what a build of before has said to another one, byte by byte, is said to this one.
//!
//! `tests/frozen/*.txt` hold such talks, each recorded by the build that its name says. A line is a step of one side's own (`A! offer`), or a
//! frame of one side (`B> 0a…`). A talk is never recorded anew: a new version adds a file.

#[path = "support/brain.rs"]
mod brain;

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use cairn_sync::entry::Lane;

use brain::{Brain, brains, two};

/// What both do, in this order, each after everything before it has arrived.
const STEPS: [&str; 8] =
    ["A! begin", "A! offer", "meet", "B! accept", "A! write", "B! write", "A! revoke", "A! write"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/frozen")
}

/// Lets two talk, and writes down what they say.
fn record() -> String {
    let (mut sides, names, mut talk) = (two(), ["A", "B"], String::new());
    for step in STEPS {
        let mut waiting: VecDeque<(usize, Bytes)> = VecDeque::new();
        talk.push_str(step);
        talk.push('\n');
        match step.split_once("! ") {
            Some((who, what)) => {
                let who = usize::from(who == "B");
                waiting.extend(sides[who].act(what, brains()[1 - who]).into_iter().map(|frame| (who, frame)));
            }
            None => {
                for (who, side) in sides.iter_mut().enumerate() {
                    waiting.extend(side.meet().into_iter().map(|frame| (who, frame)));
                }
            }
        }
        while let Some((from, frame)) = waiting.pop_front() {
            writeln!(talk, "{}> {}", names[from], hex::encode(&frame)).expect("into a string");
            let to = 1 - from;
            waiting.extend(sides[to].hear(frame).into_iter().map(|frame| (to, frame)));
        }
    }
    talk
}

/// This build takes one side of a talk; the other side says what it said then. Gives what it holds at the end.
fn replay(talk: &str, side: &str) -> Brain {
    let who = usize::from(side == "B");
    let mut brain = two().into_iter().nth(who).expect("there are two");
    for line in talk.lines() {
        if line == "meet" {
            brain.meet();
        } else if let Some(what) = line.strip_prefix(&format!("{side}! ")) {
            brain.act(what, brains()[1 - who]);
        } else if let Some((from, frame)) = line.split_once("> ")
            && from != side
        {
            brain.hear(hex::decode(frame).expect("hexadecimal").into());
        }
    }
    brain
}

#[test]
fn this_build_shares_with_those_before_it() {
    let [a, b] = brains();
    let mut talks = 0;
    for file in std::fs::read_dir(folder()).expect("the talks are there") {
        let path = file.expect("it is there").path();
        let talk = std::fs::read_to_string(&path).expect("it reads");
        let owner = replay(&talk, "A").holds();
        assert_eq!(owner[&(b, Lane::Content)], 3, "{}: what the older member wrote", path.display());
        assert_eq!(owner[&(b, Lane::Control)], 1, "{}: that it has accepted", path.display());
        let member = replay(&talk, "B");
        let held = member.holds();
        assert_eq!(
            held[&(a, Lane::Content)],
            3,
            "{}: what the older owner wrote, until it revoked",
            path.display()
        );
        assert_eq!(held[&(a, Lane::Control)], 3, "{}: that it has revoked", path.display());
        let space = member.engine.replica().spaces().next().expect("one is shared");
        assert!(space.grants().values().all(|grant| grant.revoked.is_some()));
        talks += 1;
    }
    assert!(talks > 0, "there are talks");
}

/// Writes down what two of this build say. Run alone, with `--ignored`, once for each version of the protocol.
#[test]
#[ignore = "it writes down a talk of this build"]
fn write_down_a_talk() {
    std::fs::create_dir_all(folder()).expect("a folder");
    std::fs::write(folder().join(concat!("protocol-", env!("CARGO_PKG_VERSION"), ".txt")), record())
        .expect("written");
}
