//! Measures what concurrent edits of one text cost: `cargo run --release -p cairn-domain --example concurrent_edits [edits]`.
//!
//! Each edit is of a peer and changes a text of 10 KB. Time is that of folding them in, one after the other, and of reading the
//! text once at the end.

use std::time::{Duration, Instant};

use cairn_domain::body::{Body, BodyChange, MAX_BODY_BYTES, Splice};
use cairn_domain::claim::{Authorship, Standing};
use cairn_domain::clock::Hlc;
use cairn_domain::id::{EventId, PrincipalId};
use cairn_domain::truth::Truth;
use uuid::Uuid;

/// The edit that all begin with.
const BASE: u128 = 1;

type Written = (EventId, Authorship, BodyChange);

fn main() {
    let most: u64 = std::env::args().nth(1).map_or(5_000, |edits| edits.parse().expect("a number"));
    let step = (most / 5).max(1);
    for edits in [step, most] {
        println!("{edits} edits");
        report("two lines, one after the other", two_lines(edits, false));
        report("two lines in turn", two_lines(edits, true));
        report("a star", star(edits));
        report("a line whose every edit has a branch", comb(edits));
        report("two who merge what the other wrote", ladder(edits));
        report("children before their parents", two_lines(edits, true).into_iter().rev().collect());
    }
    println!("hostile");
    if std::env::args().nth(2).is_some() {
        return;
    }
    report("64 insertions of 200 KiB", insertions(64, 200 * 1024));
    report("5,000 insertions of 1 KiB", insertions(5_000, 1024));
    report("100 edits of 512 splices, in a star", many_splices(100));
}

#[expect(clippy::disallowed_methods, reason = "this program measures time")]
fn report(what: &str, edits: Vec<Written>) {
    let mut body = Body::default();
    let base = "A heron stood in the reeds, and did not move.\n".repeat(220);
    body.add(id(BASE), author(0), change(&[], 0, 0, &base)).expect("it fits");
    let count = u32::try_from(edits.len()).expect("few");
    let mut slowest = Duration::ZERO;
    let start = Instant::now();
    for (id, author, change) in edits {
        let start = Instant::now();
        body.add(id, author, change).expect("a peer's edit damages nothing");
        slowest = slowest.max(start.elapsed());
    }
    let folded = start.elapsed();
    let bytes = body.text().len();
    let read = start.elapsed() - folded;
    assert!(bytes <= MAX_BODY_BYTES, "{bytes} bytes");
    println!(
        "  {what:<40} {:>9.1} ms, {:>7.1} µs each, slowest {:>7.2} ms, read {:>6.2} ms, {bytes} bytes",
        millis(folded),
        millis(folded / count) * 1e3,
        millis(slowest),
        millis(read),
    );
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1e3
}

fn id(number: u128) -> EventId {
    EventId::new(Uuid::from_u128(number))
}

fn author(at: u64) -> Authorship {
    Authorship {
        principal: PrincipalId::new(Uuid::from_u128(7)),
        truth: Truth::User,
        origin: "peer:anna".parse().expect("an origin"),
        hlc: Hlc { millis: at, counter: 0 },
        command: Uuid::from_u128(at.into()),
        standing: Standing::Full,
    }
}

fn change(parents: &[u128], at: usize, delete: usize, insert: &str) -> BodyChange {
    let splices = vec![Splice { at, delete, insert: insert.into() }];
    BodyChange { parents: parents.iter().copied().map(id).collect(), splices, accepts: None, effect: None }
}

/// Somewhere in the first 10,000 characters.
fn place(number: u64) -> usize {
    (number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % 10_000
}

/// Half of the edits in one line from the base, half in another one.
fn two_lines(edits: u64, in_turn: bool) -> Vec<Written> {
    let line = |side: u64| {
        (0..edits / 2).map(move |at| {
            let number = u128::from(2 * at + side + 2);
            let parent = if at == 0 { BASE } else { number - 2 };
            (id(number), author(2 * at + side + 1), change(&[parent], place(2 * at + side), 1, "word "))
        })
    };
    match in_turn {
        true => line(0).zip(line(1)).flat_map(|(one, other)| [one, other]).collect(),
        false => line(0).chain(line(1)).collect(),
    }
}

/// All from the base.
fn star(edits: u64) -> Vec<Written> {
    let edit = |at| (id(u128::from(at) + 2), author(at + 1), change(&[BASE], place(at), 1, "word "));
    (0..edits).map(edit).collect()
}

/// Half of the edits in a line, and then one upon each of these.
fn comb(edits: u64) -> Vec<Written> {
    let half = u128::from(edits / 2);
    let line = (2..half + 2).map(|number| (number, number - 1));
    let teeth = (2..half + 2).map(|number| (number + half, number));
    let edit = |(number, parent): (u128, u128)| {
        let at = number as u64;
        (id(number), author(at), change(&[parent], place(at), 1, "word "))
    };
    line.chain(teeth).map(edit).collect()
}

/// Two edits on each rung, both made from the two before.
fn ladder(edits: u64) -> Vec<Written> {
    let edit = |at: u64| {
        let (number, rung) = (u128::from(at) + 2, u128::from(at / 2));
        let parents = if rung == 0 { vec![BASE] } else { vec![2 * rung, 2 * rung + 1] };
        (id(number), author(at + 1), change(&parents, place(at), 1, "word "))
    };
    (0..edits).map(edit).collect()
}

fn insertions(edits: u64, bytes: usize) -> Vec<Written> {
    let text = "x".repeat(bytes);
    let edit = |at| (id(u128::from(at) + 2), author(at + 1), change(&[BASE], place(at), 1, &text));
    (0..edits).map(edit).collect()
}

fn many_splices(edits: u64) -> Vec<Written> {
    let edit = |at: u64| {
        let splices =
            (0..512).map(|number| Splice { at: place(at * 512 + number), delete: 1, insert: "é".into() });
        let change = BodyChange { splices: splices.collect(), ..change(&[BASE], 0, 0, "") };
        (id(u128::from(at) + 2), author(at + 1), change)
    };
    (0..edits).map(edit).collect()
}
