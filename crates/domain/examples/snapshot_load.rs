//! Measures what a long history costs: `cargo run --release -p cairn-domain --example snapshot_load`.
//!
//! Each figure is the quickest of 25 runs and stands beside the limit it is meant to keep; the program fails when
//! one is missed.

use std::hint::black_box;
use std::time::{Duration, Instant};

#[path = "../tests/support/scenario.rs"]
mod scenario;

use cairn_domain::body::{Base, BodyChange, Splice};
use cairn_domain::claim::{Authorship, Standing};
use cairn_domain::clock::Hlc;
use cairn_domain::event::{Created, FieldClaimed, MemoryEvent, SuggestionRejected};
use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::memory::command::{BodyText, Command, Context, Decision};
use cairn_domain::value::Value;
use scenario::{Actor, cloud_ai, local_ai, name, user};
use uuid::Uuid;

type Written = (EventId, Authorship, MemoryEvent);

fn main() {
    let mut report = Report { missed: false };
    let mixed = mixed_history(5_000, 5_000);
    let memory = folded(&mixed);
    println!("a memory with 10,000 edits: 5,000 claims on 20 fields, 5,000 edits of the body");
    let bytes = memory.encode_snapshot();
    println!("  {:<44} {:>9}", "snapshot", format!("{} KiB", bytes.len() / 1024));
    report.limit("loading the snapshot", Duration::from_millis(5), || {
        Memory::decode_snapshot(&bytes).expect("sound")
    });
    report.figure("writing the snapshot", || memory.encode_snapshot());
    report.figure("folding its 10,001 events", || folded(&mixed));
    assert_eq!(Memory::decode_snapshot(&bytes).expect("sound"), memory);
    report.limit("deciding a claim on it", Duration::from_micros(50), || {
        decide(&memory, &user(), claim("field-3", "x"))
    });
    report.limit("deciding a suggestion on it", Duration::from_micros(50), || {
        decide(&memory, &cloud_ai(), claim("field-3", "x"))
    });
    let longer = format!("{} more", memory.body().text());
    report.limit("deciding an edit of its body", Duration::from_micros(200), || {
        decide(&memory, &user(), edit(&longer))
    });
    let oldest = memory.body().edits()[10].id;
    report.figure("reading its text after the 10th edit", || memory.body().text_after(oldest));
    let newest = memory.body().edits()[4_990].id;
    report.figure("reading its text after the 4,990th edit", || memory.body().text_after(newest));
    report.figure("undoing its last command", || decide(&memory, &user(), Command::UndoCommand { command: None }));

    println!("one field");
    for (what, scattered) in [("folding 10,000 claims on it", false), ("the same with scattered ids", true)] {
        let history = claims_on_one_field(10_000, scattered);
        report.limit(what, Duration::from_millis(20), || folded(&history));
    }
    let suggestions = suggestions_on_one_field(10_000);
    report.limit("folding 10,000 suggestions, each rejected", Duration::from_millis(40), || folded(&suggestions));

    println!("small things");
    let body = "A heron stood in the reeds, and did not move. ".repeat(7)[..300].to_owned();
    report.limit("deciding and applying a creation, 300 characters", Duration::from_micros(30), || {
        let mut memory = Memory::new(MemoryId::new(Uuid::from_u128(1)));
        let claims = vec![(name("title"), Value::from("Heron")), (name("tag/bird"), Value::Flag(true))];
        act(&mut memory, &user(), Command::CreateMemory { kind: Kind::Note, claims, body: body.clone() });
        memory
    });
    ten_kilobytes(&mut report);
    if report.missed {
        std::process::exit(1);
    }
}

/// Edits and merges of a body of 10 KB.
fn ten_kilobytes(report: &mut Report) {
    println!("a body of 10 KB");
    let text = "A heron stood in the reeds, and did not move.\n".repeat(220);
    let mut memory = Memory::new(MemoryId::new(Uuid::from_u128(1)));
    act(&mut memory, &user(), Command::CreateMemory { kind: Kind::Note, claims: vec![], body: text.clone() });
    let edited = text.replacen("reeds", "tall reeds", 1);
    report.limit("deciding and applying an edit", Duration::from_micros(200), || {
        let mut memory = memory.clone();
        act(&mut memory, &user(), edit(&edited));
        memory
    });
    let rewritten: String = text.lines().enumerate().map(|(at, line)| format!("{at}: {line}!\n")).collect();
    report.figure("deciding a rewriting of every line", || decide(&memory, &user(), edit(&rewritten)));
    act(&mut memory, &local_ai(), edit(&edited));
    let suggestion = memory.body().suggestions().next().expect("it waits").id;
    report.figure("accepting a suggestion on the text it was made from", || {
        decide(&memory, &user(), Command::AcceptSuggestion { suggestion, edited: None })
    });
    let seen = memory.body().heads()[0];
    for line in 0..20 {
        let typed = format!("{}line {line}\n", memory.body().text());
        act(&mut memory, &user(), edit(&typed));
    }
    report.figure("showing it after 20 more edits by the user", || {
        memory.body().preview(suggestion).expect("sound")
    });
    report.figure("accepting it then", || {
        decide(&memory, &user(), Command::AcceptSuggestion { suggestion, edited: None })
    });
    let stale = BodyText { text: text.replacen("move", "stir", 1), base: Base::After(seen) };
    report.figure("an edit from the text before those 20", || {
        decide(&memory, &user(), Command::ChangeMemory { claims: vec![], body: Some(stale.clone()) })
    });
}

struct Report {
    missed: bool,
}

impl Report {
    /// The quickest of several runs, beside its limit.
    fn limit<T>(&mut self, what: &str, limit: Duration, run: impl FnMut() -> T) {
        let took = quickest(run);
        let verdict = if took <= limit { "" } else { "  MISSED" };
        self.missed |= took > limit;
        println!("  {what:<44} {:>9}   limit {:>7}{verdict}", shown(took), shown(limit));
    }

    fn figure<T>(&mut self, what: &str, run: impl FnMut() -> T) {
        println!("  {what:<44} {:>9}", shown(quickest(run)));
    }
}

#[expect(clippy::disallowed_methods, reason = "this program measures time")]
fn quickest<T>(mut run: impl FnMut() -> T) -> Duration {
    let time = |_| {
        let start = Instant::now();
        let result = black_box(run());
        let took = start.elapsed();
        drop(result);
        took
    };
    // Other programs on the machine only ever add to what a run takes.
    (0..25).map(time).min().expect("it ran")
}

fn shown(took: Duration) -> String {
    match took.as_micros() {
        0..10_000 => format!("{:.1} µs", took.as_nanos() as f64 / 1e3),
        _ => format!("{:.1} ms", took.as_micros() as f64 / 1e3),
    }
}

fn author(actor: &Actor, at: u64) -> Authorship {
    let hlc = Hlc { millis: 1_700_000_000_000 + at, counter: 0 };
    let command = Uuid::from_u128(u128::from(at) << 64 | 0xC0);
    Authorship {
        principal: actor.principal,
        truth: actor.truth,
        origin: actor.origin.clone(),
        hlc,
        command,
        standing: Standing::Full,
    }
}

fn id(at: u64) -> EventId {
    EventId::new(Uuid::from_u128(u128::from(at) << 32))
}

fn folded(history: &[Written]) -> Memory {
    let mut memory = Memory::new(MemoryId::new(Uuid::from_u128(1)));
    for (id, author, event) in history.iter().cloned() {
        memory.apply(id, author, event).expect("sound");
    }
    memory
}

fn created() -> Written {
    (id(1), author(&user(), 1), MemoryEvent::Created(Created { kind: Kind::Note }))
}

/// Claims and edits in turn, by the user and two others. The body stays near 2 KB.
fn mixed_history(claims: u64, edits: u64) -> Vec<Written> {
    let mut history = vec![created()];
    let mut last: Vec<Option<EventId>> = vec![None; 20];
    let mut previous: Option<EventId> = None;
    for at in 0..claims.max(edits) {
        if at < claims {
            let field = (at % 20) as usize;
            let actor = [user(), local_ai(), cloud_ai()][(at % 7 / 3) as usize].clone();
            let event_id = id(2 * at + 2);
            let wins = actor.truth == user().truth || last[field].is_none();
            let supersedes = if wins { last[field].into_iter().collect() } else { vec![] };
            let value = Value::Text(format!("value {at} of a field"));
            let claimed =
                FieldClaimed { field: name(&format!("field-{field}")), value, supersedes, accepts: None };
            history.push((event_id, author(&actor, 2 * at + 2), MemoryEvent::FieldClaimed(claimed)));
            if wins {
                last[field] = Some(event_id);
            }
        }
        if at < edits {
            let event_id = id(2 * at + 3);
            let insert = format!("words of edit {at:05}. ");
            let length = insert.chars().count();
            let delete = if at >= 100 { length } else { 0 };
            let splices =
                vec![Splice { at: (at as usize * 7) % (1 + at.min(60) as usize) * length, delete, insert }];
            let change =
                BodyChange { parents: previous.into_iter().collect(), splices, accepts: None, effect: None };
            history.push((event_id, author(&user(), 2 * at + 3), MemoryEvent::BodyEdited(change)));
            previous = Some(event_id);
        }
    }
    history
}

fn claims_on_one_field(claims: u64, scattered: bool) -> Vec<Written> {
    let mut history = vec![created()];
    let mut previous = None;
    for at in 2..claims + 2 {
        let event_id = if scattered { id(at.wrapping_mul(0x9E37_79B9_7F4A_7C15)) } else { id(at) };
        let supersedes = previous.into_iter().collect();
        let claimed =
            FieldClaimed { field: name("mood"), value: Value::Integer(at as i64), supersedes, accepts: None };
        history.push((event_id, author(&user(), at), MemoryEvent::FieldClaimed(claimed)));
        previous = Some(event_id);
    }
    history
}

fn suggestions_on_one_field(suggestions: u64) -> Vec<Written> {
    let mut history = claims_on_one_field(1, false);
    for at in 10..suggestions + 10 {
        let supersedes = Vec::new();
        let claimed =
            FieldClaimed { field: name("mood"), value: Value::Integer(at as i64), supersedes, accepts: None };
        history.push((id(2 * at), author(&cloud_ai(), 2 * at), MemoryEvent::FieldClaimed(claimed)));
        let rejected = SuggestionRejected { field: name("mood"), suggestion: id(2 * at) };
        history.push((id(2 * at + 1), author(&user(), 2 * at + 1), MemoryEvent::SuggestionRejected(rejected)));
    }
    history
}

fn claim(field: &str, value: &str) -> Command {
    Command::ChangeMemory { claims: vec![(name(field), Value::from(value))], body: None }
}

fn edit(text: &str) -> Command {
    let body = Some(BodyText { text: text.into(), base: Base::Effective });
    Command::ChangeMemory { claims: vec![], body }
}

fn decide(memory: &Memory, actor: &Actor, command: Command) -> Decision {
    let mut next = memory.updated().millis + 1_000_000;
    let author = author(actor, next);
    let mut ids = || {
        next += 1;
        id(next)
    };
    memory.decide(command, &mut Context { author, ids: &mut ids }).expect("sound")
}

fn act(memory: &mut Memory, actor: &Actor, command: Command) {
    for decided in decide(memory, actor, command).events {
        memory.apply(decided.id, decided.author, decided.event).expect("sound");
    }
}
