//! Memories made up for measuring: the same every time.

use std::sync::Arc;

use anyhow::Result;
use cairn_command::envelope;
use cairn_domain::claim::Authorship;
use cairn_domain::clock::Hlc;
use cairn_domain::event::{Event, Metadata};
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId, PrincipalId, memory_stream};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::memory::command::{Command, Context};
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_event_store::{ExpectedRevision, NewAppend, NewEvent, SharedStore, StreamAppend};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

/// How many memories are appended at a time.
const MEMORIES_AN_APPEND: usize = 200;

const WORDS: &[&str] = &[
    "garden",
    "river",
    "ledger",
    "meeting",
    "harvest",
    "engine",
    "letter",
    "window",
    "budget",
    "journey",
    "kitchen",
    "library",
    "mountain",
    "neighbour",
    "orchard",
    "paper",
    "question",
    "repair",
    "season",
    "teacher",
    "umbrella",
    "village",
    "weather",
    "workshop",
    "bridge",
    "candle",
    "decision",
    "evening",
    "festival",
    "glass",
    "harbour",
    "insurance",
    "jacket",
    "kettle",
    "lantern",
    "market",
    "notebook",
    "opinion",
    "plan",
    "quarter",
    "recipe",
    "schedule",
    "ticket",
    "update",
    "visit",
    "winter",
    "bicycle",
    "contract",
    "delivery",
    "estimate",
    "frame",
    "guide",
    "hinge",
    "invoice",
    "journal",
    "keeper",
    "limit",
    "manual",
    "note",
    "offer",
    "pump",
    "quote",
    "report",
    "sample",
    "timber",
    "usage",
    "valve",
    "wheel",
    "yard",
    "zone",
    "anchor",
    "barrel",
    "cabin",
    "drawing",
    "effort",
];

/// Text made of common words: as many as asked for, in sentences.
pub fn text(random: &mut StdRng, words: usize) -> String {
    let mut text = String::with_capacity(words * 8);
    for word in 0..words {
        let chosen = WORDS.choose(random).expect("there are words");
        match word % 11 {
            0 => text.extend(chosen.chars().take(1).flat_map(char::to_uppercase).chain(chosen.chars().skip(1))),
            _ => text.push_str(chosen),
        }
        text.push_str(if word % 11 == 10 { ". " } else { " " });
    }
    text.trim_end().to_owned()
}

/// A random number generator that is the same in every run.
pub fn random(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// Appends made-up memories, five events each and some more; returns their ids.
pub async fn fill(store: &SharedStore, memories: usize) -> Result<Vec<MemoryId>> {
    let mut random = random(7);
    let mut made = Vec::with_capacity(memories);
    let mut streams = Vec::with_capacity(MEMORIES_AN_APPEND);
    for number in 0..memories {
        let (memory, stream) = memory(&mut random, number, &made)?;
        made.push(memory);
        streams.push(stream);
        if streams.len() == MEMORIES_AN_APPEND || number + 1 == memories {
            store.append(NewAppend { streams: std::mem::take(&mut streams), tracking: None }).await?;
        }
    }
    Ok(made)
}

fn memory(random: &mut StdRng, number: usize, made: &[MemoryId]) -> Result<(MemoryId, StreamAppend)> {
    let id = MemoryId::new(Uuid::now_v7());
    let kind = Kind::ALL[number % 5];
    let mut claims = vec![
        (FieldName::title(), Value::Text(text(random, 4))),
        (FieldName::tag(WORDS[number % 40])?, Value::Flag(true)),
    ];
    if let Some(target) = made.choose(random) {
        claims.push((FieldName::link("mentions", *target)?, Value::Flag(true)));
    }
    if kind == Kind::Task && random.random_bool(0.5) {
        claims.push(("priority".parse()?, Value::from("high")));
    }
    let words = random.random_range(20..60);
    let command = Command::CreateMemory { kind, claims, body: text(random, words) };
    let hlc = Hlc { millis: 1_760_000_000_000 + number as u64 * 1_000, counter: 0 };
    let author = Authorship {
        principal: PrincipalId::new(Uuid::from_u128(7)),
        truth: Truth::User,
        origin: Origin::of(Truth::User, "bench"),
        hlc,
        command: Uuid::now_v7(),
    };
    let metadata = Metadata {
        principal: author.principal,
        truth: author.truth,
        origin: author.origin.clone(),
        hlc,
        correlation_id: author.command,
        causation_id: None,
        request: None,
    };
    let mut ids = || EventId::new(Uuid::now_v7());
    let decision = Memory::new(id).decide(command, &mut Context { author, ids: &mut ids })?;
    let events: Vec<NewEvent> = decision
        .events
        .into_iter()
        .map(|decided| envelope(decided.id, &Event::Memory(decided.event), &metadata))
        .collect();
    let stream: Arc<str> = memory_stream(id).into();
    Ok((id, StreamAppend { stream, expected: ExpectedRevision::NoStream, events }))
}
