//! Memories made up for measuring: the same every time.

use std::sync::{Arc, LazyLock};

use anyhow::Result;
use cairn_command::envelope;
use cairn_domain::claim::{Authorship, Standing};
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
use cairn_search::embedder::StaticEmbedder;
use rand::distr::Distribution;
use rand::distr::weighted::WeightedIndex;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

/// How many memories are appended at a time.
const MEMORIES_AN_APPEND: usize = 200;

/// Words this common carry no meaning; nobody searches for them.
const COMMON_WORDS: usize = 150;
/// How many different tags the memories have.
const TAGS: usize = 40;

/// English words, drawn as often as language uses them: the n-th commonest with a weight of about 1/n (Zipf).
struct Language {
    words: Vec<String>,
    chosen: WeightedIndex<f64>,
}

static LANGUAGE: LazyLock<Language> = LazyLock::new(|| {
    let words = StaticEmbedder::words();
    let weights = (0..words.len()).map(|rank| 1.0 / (rank as f64 + 2.7));
    let chosen = WeightedIndex::new(weights).expect("there are words, and no weight is negative");
    Language { words, chosen }
});

/// Text: as many words as asked for, in sentences.
pub fn text(random: &mut StdRng, words: usize) -> String {
    let mut text = String::with_capacity(words * 8);
    for word in 0..words {
        let chosen = &LANGUAGE.words[LANGUAGE.chosen.sample(random)];
        match word % 11 {
            0 => text.extend(chosen.chars().take(1).flat_map(char::to_uppercase).chain(chosen.chars().skip(1))),
            _ => text.push_str(chosen),
        }
        text.push_str(if word % 11 == 10 { ". " } else { " " });
    }
    text.trim_end().to_owned()
}

/// What somebody might search for: words as texts use them, but for the commonest.
pub fn query(random: &mut StdRng, words: usize) -> String {
    let ranks = std::iter::repeat_with(|| LANGUAGE.chosen.sample(random)).filter(|rank| *rank >= COMMON_WORDS);
    ranks.take(words).map(|rank| LANGUAGE.words[rank].as_str()).collect::<Vec<_>>().join(" ")
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
        (FieldName::tag(&LANGUAGE.words[COMMON_WORDS + number % TAGS])?, Value::Flag(true)),
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
        standing: Standing::Full,
    };
    let metadata = Metadata {
        principal: author.principal,
        truth: author.truth,
        origin: author.origin.clone(),
        hlc,
        correlation_id: author.command,
        causation_id: None,
        request: None,
        traceparent: None,
        standing: Standing::Full,
        memory: None,
        entry: None,
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
