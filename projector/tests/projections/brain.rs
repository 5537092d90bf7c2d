//! A log that looks like that of a brain in use.

use cairn_domain::field::FieldName;
use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_domain::memory::command::Command;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::log::{Log, change, edit, fields};

const WORDS: [&str; 24] = [
    "meeting", "garden", "release", "budget", "Anna", "train", "museum", "recipe", "invoice", "doctor", "roadmap",
    "sketch", "bicycle", "letter", "harvest", "kitchen", "lecture", "review", "summer", "contract", "river",
    "notes", "backup", "piano",
];
/// How many events one append holds.
const APPEND_EVENTS: usize = 4_000;

/// Writes `memories` memories: each with a title, a text of about `words` words, two fields, a tag and a link, and on
/// average two later changes, most of them to something recent.
pub async fn write(log: &mut Log, memories: usize, words: usize, seed: u64) -> Vec<MemoryId> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut ids: Vec<MemoryId> = Vec::with_capacity(memories);
    for _ in 0..memories {
        let id = MemoryId::new(Uuid::now_v7());
        let other = ids.get(random.random_range(0..=ids.len().saturating_sub(1))).copied();
        log.decide(id, Truth::User, creation(&mut random, other.unwrap_or(id), words));
        ids.push(id);
        for _ in 0..2 {
            let target = match random.random_bool(0.7) {
                true => ids[random.random_range(ids.len().saturating_sub(300)..ids.len())],
                false => ids[random.random_range(0..ids.len())],
            };
            later(log, &mut random, target);
        }
        if log.waiting() >= APPEND_EVENTS {
            log.append().await;
        }
    }
    log.append().await;
    ids
}

fn text(random: &mut StdRng, words: usize) -> String {
    let words: Vec<_> = (0..words).map(|_| WORDS[random.random_range(0..WORDS.len())]).collect();
    words.chunks(12).map(|line| line.join(" ")).collect::<Vec<_>>().join(".\n")
}

fn creation(random: &mut StdRng, other: MemoryId, words: usize) -> Command {
    let kind = [Kind::Note, Kind::Note, Kind::Task, Kind::Person, Kind::Event][random.random_range(0..5)];
    let day = format!("2026-{:02}-{:02}", random.random_range(1..13), random.random_range(1..29));
    let two: Vec<(&str, Value)> = match kind {
        Kind::Task => vec![("due_date", day.as_str().into()), ("priority", "high".into())],
        Kind::Person => vec![("email", "someone@example.org".into()), ("role", "friend".into())],
        Kind::Event => {
            vec![("location", "here".into()), ("start_time", format!("{day}T09:30:00Z").as_str().into())]
        }
        _ => vec![("mood", "calm".into()), ("stars", Value::Integer(random.random_range(0..6)))],
    };
    let mut claims = fields(&two);
    let title = text(random, 4);
    claims.insert(0, (FieldName::title(), title.as_str().into()));
    let tag = WORDS[random.random_range(0..WORDS.len())];
    claims.push((FieldName::tag(tag).expect("a tag"), Value::Flag(true)));
    claims.push((FieldName::link("mentions", other).expect("a link"), Value::Flag(true)));
    Command::CreateMemory { kind, claims, body: text(random, words) }
}

fn later(log: &mut Log, random: &mut StdRng, target: MemoryId) {
    match random.random_range(0..10) {
        0..4 => {
            let mut body = log.memory(target).body().text().to_owned();
            body.push_str(&text(random, 8));
            log.decide(target, Truth::User, edit(&body));
        }
        4..7 => {
            let claim = ("stars", Value::Integer(random.random_range(0..1_000)));
            log.decide(target, Truth::User, change(&[claim]));
        }
        7 => {
            let tag = format!("tag/{}", WORDS[random.random_range(0..WORDS.len())].to_lowercase());
            log.decide(target, Truth::User, change(&[(&tag, Value::Flag(random.random_bool(0.7)))]));
        }
        _ => {
            let title = text(random, 3);
            log.decide(target, Truth::CloudAi, change(&[("title", title.as_str().into())]));
        }
    }
}
