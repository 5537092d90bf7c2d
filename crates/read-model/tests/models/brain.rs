//! A brain at work: commands, their events, and the batches that a projector would make of these.

use std::collections::HashMap;
use std::sync::Arc;

use cairn_domain::body::Base;
use cairn_domain::claim::{Authorship, Standing};
use cairn_domain::clock::Hlc;
use cairn_domain::event::{FileImported, MemoryEvent, PrincipalEvent, PrincipalRegistered, PrincipalRevoked};
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::memory::command::{BodyText, Command, Context, Decided, ImportedFile};
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_read_model::change::{Batch, Entry, EntryOutcome, MemoryChange, PrincipalChange, Touched};
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

const WORDS: [&str; 16] = [
    "meeting",
    "Garten",
    "release",
    "budget",
    "Anna",
    "Zug",
    "museum",
    "recipe",
    "İnvoice",
    "_doc%",
    "Ärger",
    "sketch",
    "🚲",
    "letter",
    "\u{10ffff}",
    "a\\b",
];

/// Everything is drawn from one seed, ids included.
pub struct Brain {
    random: StdRng,
    memories: HashMap<MemoryId, (Memory, u64)>,
    pub ids: Vec<MemoryId>,
    pub principals: HashMap<Truth, PrincipalId>,
    pub commands: Vec<Uuid>,
    pub vault: Uuid,
    millis: u64,
    position: u64,
    pending: Batch,
}

impl Brain {
    pub fn new(seed: u64) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let principals = Truth::ALL.into_iter().map(|truth| (truth, PrincipalId::new(id(&mut random)))).collect();
        Self {
            vault: id(&mut random),
            random,
            memories: HashMap::new(),
            ids: Vec::new(),
            principals,
            commands: Vec::new(),
            millis: 1_790_000_000_000,
            position: 0,
            pending: Batch::default(),
        }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    pub fn memory(&self, id: MemoryId) -> &Memory {
        &self.memories[&id].0
    }

    /// What happened since the last batch.
    pub fn batch(&mut self) -> Batch {
        let mut batch = std::mem::take(&mut self.pending);
        for change in &mut batch.memories {
            change.memory = Arc::new(self.memories[&change.memory.id()].0.clone());
        }
        batch.memories.retain(|change| change.memory.is_present() || change.memory.is_erased());
        batch
    }

    /// Carries a command out; whether the rules let it.
    pub fn command(&mut self, target: MemoryId, truth: Truth, command: Command) -> bool {
        let Some(events) = self.decide(target, truth, command) else { return false };
        events.into_iter().for_each(|event| self.happen(target, event));
        true
    }

    /// Two who do not know of each other say what a field is.
    pub fn dispute(&mut self, target: MemoryId, truth: Truth) {
        let (name, value) = self.claim();
        let (_, other) = self.claim();
        let said = [value, other].map(|value| {
            let claims = vec![(name.parse().unwrap(), value)];
            self.decide(target, truth, Command::ChangeMemory { claims, body: None })
        });
        said.into_iter().flatten().flatten().for_each(|event| self.happen(target, event));
    }

    fn decide(&mut self, target: MemoryId, truth: Truth, command: Command) -> Option<Vec<Decided>> {
        self.millis += self.random.random_range(0..40_000_000);
        let author = Authorship {
            principal: self.principals[&truth],
            truth,
            origin: Origin::of(truth, "test"),
            hlc: Hlc { millis: self.millis, counter: 0 },
            command: id(&mut self.random),
            standing: Standing::Full,
        };
        self.commands.push(author.command);
        let (memory, _) = self.memories.entry(target).or_insert_with(|| (Memory::new(target), 0));
        let random = &mut self.random;
        let mut ids = || EventId::new(id(random));
        Some(memory.decide(command, &mut Context { author, ids: &mut ids }).ok()?.events)
    }

    pub fn happen(&mut self, target: MemoryId, decided: Decided) {
        let Decided { id: event, author, event: data } = decided;
        self.position += 1;
        let (memory, next) = self.memories.get_mut(&target).unwrap();
        let (revision, position, recorded_at) = (*next, self.position, time(self.millis));
        *next += 1;
        memory.apply(event, author.clone(), data.clone()).unwrap();
        let entry = entry(memory, event, &author, &data);
        self.pending.entries.push(Entry { position, revision, recorded_at, ..entry });
        let touched = match self.pending.memories.iter_mut().find(|change| change.memory.id() == target) {
            Some(change) => {
                (change.revision, change.position, change.recorded_at) = (revision, position, recorded_at);
                &mut change.touched
            }
            None => {
                self.pending.memories.push(MemoryChange {
                    memory: Arc::new(Memory::new(target)),
                    first_revision: revision,
                    first_position: position,
                    revision,
                    position,
                    recorded_at,
                    touched: Touched::default(),
                });
                &mut self.pending.memories.last_mut().unwrap().touched
            }
        };
        touched.note(&data);
        self.took(recorded_at);
    }

    fn took(&mut self, recorded_at: DateTime<Utc>) {
        self.pending.position = self.position;
        self.pending.events += 1;
        self.pending.recorded_at = recorded_at;
    }

    pub fn principal(&mut self, truth: Truth, revoked: bool) {
        self.position += 1;
        self.millis += 5;
        let (name, origin) = (format!("someone {truth}"), Origin::of(truth, "test"));
        let event = match revoked {
            true => PrincipalEvent::Revoked(PrincipalRevoked {}),
            false => PrincipalEvent::Registered(PrincipalRegistered { name, ceiling: truth, origin }),
        };
        let (principal, position, recorded_at) = (self.principals[&truth], self.position, time(self.millis));
        self.pending.principals.push(PrincipalChange { principal, event, position, recorded_at });
        self.took(recorded_at);
    }

    pub fn create(&mut self, kind: Kind, claims: &[(&str, Value)], body: &str) -> MemoryId {
        let target = MemoryId::new(id(&mut self.random));
        let claims = claims.iter().map(|(name, value)| (name.parse().unwrap(), value.clone())).collect();
        let created = self.command(target, Truth::User, Command::CreateMemory { kind, claims, body: body.into() });
        assert!(created, "a memory is made");
        self.ids.push(target);
        target
    }

    /// A memory of which the claims come before it, as a peer's may. Gives what is to happen for it to be there.
    pub fn claim_first(&mut self, claims: &[(&str, Value)]) -> (MemoryId, Decided) {
        let target = MemoryId::new(id(&mut self.random));
        let claims = claims.iter().map(|(name, value)| (name.parse().unwrap(), value.clone())).collect();
        let command = Command::CreateMemory { kind: Kind::Note, claims, body: String::new() };
        let mut events = self.decide(target, Truth::User, command).unwrap();
        let created = events.remove(0);
        events.into_iter().for_each(|event| self.happen(target, event));
        (target, created)
    }

    /// Does something that somebody might do.
    pub fn act(&mut self) {
        let Some(target) = self.ids.choose(&mut self.random).copied().filter(|_| self.random.random_bool(0.75))
        else {
            let (kind, body) = (*Kind::ALL.choose(&mut self.random).unwrap(), self.text(20));
            let count = self.random.random_range(1..7);
            let mut claims: Vec<_> = (0..count).map(|_| self.claim()).collect();
            claims.push(("title".to_owned(), Value::Text(self.text(3))));
            let claims: Vec<_> = claims.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
            // Some values do not fit the kind; those are left for later.
            let fits = |(name, value): &&(&str, Value)| kind.check(&name.parse().unwrap(), value).is_ok();
            let claims: Vec<_> = claims.iter().filter(fits).cloned().collect();
            self.create(kind, &claims, &body);
            return;
        };
        let truth = *Truth::ALL.choose(&mut self.random).unwrap();
        if self.random.random_bool(0.1) {
            return self.dispute(target, truth);
        }
        if self.random.random_bool(0.02) {
            self.command(target, Truth::User, Command::EraseMemory);
            return;
        }
        let command = self.any_command(target, truth);
        self.command(target, truth, command);
    }

    fn any_command(&mut self, target: MemoryId, truth: Truth) -> Command {
        match self.random.random_range(0..40) {
            0..16 => {
                let (name, value) = self.claim();
                Command::ChangeMemory { claims: vec![(name.parse().unwrap(), value)], body: None }
            }
            16..22 => {
                let more = self.text(6);
                let text = format!("{}\n{more}", self.memory(target).body().text());
                Command::ChangeMemory { claims: Vec::new(), body: Some(BodyText { text, base: Base::Effective }) }
            }
            22..24 => {
                let (name, _) = self.claim();
                Command::RetractClaim { field: name.parse().unwrap() }
            }
            24..32 => match self.suggestion(target) {
                Some(suggestion) if self.random.random_bool(0.6) => {
                    Command::AcceptSuggestion { suggestion, edited: None }
                }
                Some(suggestion) => Command::RejectSuggestion { suggestion },
                None => self.archive(),
            },
            32..34 => Command::UndoCommand { command: None },
            34..36 => {
                let kind = self.memory(target).kind().name();
                let kind = if truth == Truth::User {
                    *["note", "task", "event"].choose(&mut self.random).unwrap()
                } else {
                    kind
                };
                Command::ChangeMemory { claims: vec![(FieldName::kind(), kind.into())], body: None }
            }
            36..38 => Command::ImportFile(self.file()),
            38 => Command::PruneFile,
            _ => self.archive(),
        }
    }

    fn archive(&mut self) -> Command {
        let claims = vec![(FieldName::archived(), Value::Flag(self.random.random_bool(0.5)))];
        Command::ChangeMemory { claims, body: None }
    }

    fn suggestion(&mut self, target: MemoryId) -> Option<EventId> {
        let memory = &self.memories[&target].0;
        let fields = memory
            .fields()
            .values()
            .flat_map(|claims| claims.suggestions().iter().map(|claim| claim.id).collect::<Vec<_>>());
        let all: Vec<_> = fields.chain(memory.body().suggestions().map(|edit| edit.id)).collect();
        all.choose(&mut self.random).copied()
    }

    fn file(&mut self) -> ImportedFile {
        let (path, unresolved) = (format!("folder/{}.md", self.text(1)), vec![self.text(1)]);
        ImportedFile {
            kind: Kind::Note,
            claims: vec![(FieldName::title(), Value::Text(self.text(2)))],
            body: self.text(5),
            archived: false,
            file: FileImported {
                vault: self.vault,
                path,
                digest: format!("{:064x}", self.position),
                part: String::new(),
                unresolved,
                vanished: false,
            },
        }
    }

    /// A field with a value that mostly suits it.
    fn claim(&mut self) -> (String, Value) {
        let day = format!(
            "20{}-{:02}-{:02}",
            self.random.random_range(24..28),
            self.random.random_range(1..13),
            self.random.random_range(1..29)
        );
        let word = self.text(1);
        let other = self.ids.choose(&mut self.random).copied().unwrap_or(MemoryId::new(self.vault));
        let flag = Value::Flag(self.random.random_bool(0.7));
        let number = self.random.random_range(-80..80);
        let (name, value): (&str, Value) = match self.random.random_range(0..16) {
            0 | 1 => ("title", Value::Text(self.text(3))),
            2 => ("due_date", day.as_str().into()),
            3 => ("status", (*["todo", "in_progress", "done", "active"].choose(&mut self.random).unwrap()).into()),
            4 => ("priority", (*["low", "high", "urgent"].choose(&mut self.random).unwrap()).into()),
            5 => ("start_time", format!("{day}T09:30:00.123+02:00").as_str().into()),
            6 => ("email", format!("{word}@Example.org").as_str().into()),
            7 => ("latitude", Value::Decimal(f64::from(number) + 0.25)),
            8 => ("longitude", Value::Integer(number.into())),
            9 => ("location", word.as_str().into()),
            10 => ("log_date", day.as_str().into()),
            11 => ("start_date", day.as_str().into()),
            12 => ("mood", if number < 0 { Value::Empty } else { word.as_str().into() }),
            13 => return (format!("link/mentions/{other}"), flag),
            _ => return (format!("tag/{}", WORDS.choose(&mut self.random).unwrap()), flag),
        };
        (name.to_owned(), value)
    }

    fn text(&mut self, words: usize) -> String {
        let words: Vec<_> = (0..words).map(|_| *WORDS.choose(&mut self.random).unwrap()).collect();
        words.join(" ")
    }

    /// What a note of the usual size is made of.
    pub fn note(&mut self, words: usize) {
        let (title, body, tag) = (self.text(4), self.text(words), self.claim().0);
        let other = self.ids.choose(&mut self.random).copied().unwrap_or(MemoryId::new(self.vault));
        let (tag, link) =
            (if tag.starts_with("tag/") { tag } else { "tag/plain".into() }, format!("link/mentions/{other}"));
        let stars = Value::Integer(self.random.random_range(0..6));
        let claims = [
            ("title", title.as_str().into()),
            ("mood", "calm".into()),
            ("stars", stars),
            (tag.as_str(), Value::Flag(true)),
            (link.as_str(), Value::Flag(true)),
        ];
        self.create(Kind::Note, &claims, &body);
    }

    /// A later change of a memory, more likely of a late one.
    pub fn change(&mut self) {
        let late = self.ids.len().saturating_sub(300);
        let from = if self.random.random_bool(0.7) { late } else { 0 };
        let target = self.ids[self.random.random_range(from..self.ids.len())];
        match self.random.random_range(0..10) {
            0..4 => {
                let more = self.text(8);
                let text = format!("{} {more}", self.memory(target).body().text());
                let body = Some(BodyText { text, base: Base::Effective });
                self.command(target, Truth::User, Command::ChangeMemory { claims: Vec::new(), body });
            }
            4..8 => {
                let claims = vec![("stars".parse().unwrap(), Value::Integer(self.random.random_range(0..1_000)))];
                self.command(target, Truth::User, Command::ChangeMemory { claims, body: None });
            }
            _ => {
                let claims = vec![(FieldName::title(), Value::Text(self.text(3)))];
                self.command(target, Truth::CloudAi, Command::ChangeMemory { claims, body: None });
            }
        }
    }
}

fn id(random: &mut StdRng) -> Uuid {
    Uuid::from_u128(random.random())
}

fn time(millis: u64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(millis.cast_signed()).unwrap()
}

fn entry(memory: &Memory, event: EventId, author: &Authorship, data: &MemoryEvent) -> Entry {
    let (field, value) = match data {
        MemoryEvent::FieldClaimed(claimed) => (Some(claimed.field.clone()), Some(claimed.value.clone())),
        MemoryEvent::ClaimRetracted(retracted) => (Some(retracted.field.clone()), None),
        MemoryEvent::BodyEdited(_) => (Some(FieldName::body()), None),
        _ => (None, None),
    };
    let claims = field.as_ref().and_then(|field| memory.field(field));
    let waits = claims.map(|claims| claims.suggestions().iter().any(|claim| claim.id == event));
    let outcome = waits.map(|waits| if waits { EntryOutcome::Suggested } else { EntryOutcome::Applied });
    Entry {
        position: 0,
        memory: memory.id(),
        revision: 0,
        event,
        event_type: cairn_domain::event::Event::Memory(data.clone()).event_type(),
        recorded_at: time(0),
        author: author.clone(),
        summary: format!("{} of {:?}", memory.title(), field.as_ref().map(FieldName::as_str)),
        field,
        value,
        outcome,
    }
}
