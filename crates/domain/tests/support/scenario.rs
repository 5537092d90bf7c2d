//! A memory, those who write to it, and the log of what they wrote: what the tests of the rules share.

#![allow(dead_code, reason = "each test uses its own part of this")]

use cairn_domain::body::{Base, BodyChange};
use cairn_domain::claim::{Authorship, Standing};
use cairn_domain::clock::Hlc;
use cairn_domain::event::{FileImported, MemoryEvent};
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::memory::command::{
    BodyText, Command, Context, Decided, Decision, ImportedFile, Outcome, Rejection,
};
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use uuid::Uuid;

/// Somebody who writes, at one level.
#[derive(Debug, Clone)]
pub struct Actor {
    pub principal: PrincipalId,
    pub truth: Truth,
    pub origin: Origin,
}

impl Actor {
    /// The `number`th principal of a level. Two of different levels are different principals.
    pub fn new(truth: Truth, number: u128) -> Self {
        Self {
            principal: PrincipalId::new(Uuid::from_u128(u128::from(truth.level()) << 32 | number)),
            truth,
            origin: Origin::of(truth, &format!("test-{number}")),
        }
    }

    /// The same one writing at a lower truth than it may.
    pub fn at(&self, truth: Truth) -> Self {
        Self { truth, origin: Origin::of(truth, "test"), ..self.clone() }
    }
}

pub fn user() -> Actor {
    Actor::new(Truth::User, 1)
}

pub fn automation() -> Actor {
    Actor::new(Truth::Automation, 1)
}

pub fn local_ai() -> Actor {
    Actor::new(Truth::LocalAi, 1)
}

pub fn cloud_ai() -> Actor {
    Actor::new(Truth::CloudAi, 1)
}

/// Who reads the user's files.
pub fn importer() -> Actor {
    Actor { origin: "user:import".parse().expect("an origin"), ..user() }
}

/// How the ids of new events compare to those of earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Larger, as UUIDv7 mostly are.
    Ascending,
    /// Larger or smaller, as those made from idempotency keys are.
    Scattered,
}

/// A memory and its log.
#[derive(Debug, Clone)]
pub struct World {
    pub memory: Memory,
    pub log: Vec<Decided>,
    pub ids: Ids,
    pub counter: u64,
}

impl World {
    pub fn empty() -> Self {
        Self {
            memory: Memory::new(MemoryId::new(Uuid::from_u128(7))),
            log: Vec::new(),
            ids: Ids::Ascending,
            counter: 0,
        }
    }

    /// A note with a title and a text, by the user.
    pub fn note(body: &str) -> Self {
        Self::note_by(&user(), body)
    }

    pub fn note_by(author: &Actor, body: &str) -> Self {
        let mut world = Self::empty();
        let claims = vec![(FieldName::title(), Value::from("Title"))];
        world.act(author, Command::CreateMemory { kind: Kind::Note, claims, body: body.into() }).expect("created");
        world
    }

    /// Decides without applying.
    pub fn decide(&mut self, actor: &Actor, command: Command) -> Result<Decision, Rejection> {
        self.counter += 1;
        let hlc = Hlc { millis: 1_000 + self.counter, counter: 0 };
        let author = Authorship {
            principal: actor.principal,
            truth: actor.truth,
            origin: actor.origin.clone(),
            hlc,
            command: Uuid::from_u128(0xC0_0000_0000 + u128::from(self.counter)),
            standing: Standing::Full,
        };
        let (counter, kind) = (&mut self.counter, self.ids);
        let mut ids = || {
            *counter += 1;
            EventId::new(Uuid::from_u128(match kind {
                Ids::Ascending => u128::from(*counter),
                // A permutation of 64 bits: multiplication by an odd number.
                Ids::Scattered => u128::from(counter.wrapping_mul(0x9E37_79B9_7F4A_7C15)),
            }))
        };
        self.memory.decide(command, &mut Context { author, ids: &mut ids })
    }

    /// Decides and applies.
    pub fn act(&mut self, actor: &Actor, command: Command) -> Result<Decision, Rejection> {
        let decision = self.decide(actor, command)?;
        for Decided { id, author, event } in decision.events.clone() {
            self.memory.apply(id, author, event)?;
        }
        self.log.extend(decision.events.iter().cloned());
        Ok(decision)
    }

    /// The command of a decision that wrote something.
    pub fn command_of(decision: &Decision) -> Uuid {
        decision.events[0].author.command
    }

    /// The same events folded afresh.
    pub fn refolded(&self) -> Memory {
        self.folded_with(|event| event)
    }

    /// The same events without what edits said of their effect, so that all texts are merged from the edits alone.
    pub fn merged_afresh(&self) -> Memory {
        self.folded_with(|event| match event {
            MemoryEvent::BodyEdited(change) => MemoryEvent::BodyEdited(BodyChange { effect: None, ..change }),
            other => other,
        })
    }

    fn folded_with(&self, shown: impl Fn(MemoryEvent) -> MemoryEvent) -> Memory {
        let mut memory = Memory::new(self.memory.id());
        for Decided { id, author, event } in self.log.clone() {
            memory.apply(id, author, shown(event)).expect("it was folded before");
        }
        memory
    }

    pub fn claim(&mut self, actor: &Actor, field: &str, value: impl Into<Value>) -> Outcome {
        let claims = vec![(name(field), value.into())];
        self.act(actor, Command::ChangeMemory { claims, body: None }).expect("a fitting value").outcome()
    }

    /// Claims, and gives the id of the claim.
    pub fn claimed(&mut self, actor: &Actor, field: &str, value: impl Into<Value>) -> EventId {
        let claims = vec![(name(field), value.into())];
        let decision = self.act(actor, Command::ChangeMemory { claims, body: None }).expect("a fitting value");
        decision.events[0].id
    }

    pub fn write(&mut self, actor: &Actor, text: &str) -> Outcome {
        self.write_from(actor, Base::Effective, text).0
    }

    /// Edits the body; gives the outcome and the edit, if one was written.
    pub fn write_from(&mut self, actor: &Actor, base: Base, text: &str) -> (Outcome, Option<EventId>) {
        let body = Some(BodyText { text: text.into(), base });
        let decision = self.act(actor, Command::ChangeMemory { claims: vec![], body }).expect("an edit");
        (decision.outcome(), decision.events.first().map(|event| event.id))
    }

    pub fn accept(&mut self, suggestion: EventId) -> Decision {
        self.act(&user(), Command::AcceptSuggestion { suggestion, edited: None }).expect("it waits")
    }

    pub fn reject(&mut self, suggestion: EventId) -> Decision {
        self.act(&user(), Command::RejectSuggestion { suggestion }).expect("it waits")
    }

    pub fn undo(&mut self, actor: &Actor) -> Result<Decision, Rejection> {
        self.act(actor, Command::UndoCommand { command: None })
    }

    pub fn undo_command(&mut self, actor: &Actor, command: Uuid) -> Result<Decision, Rejection> {
        self.act(actor, Command::UndoCommand { command: Some(command) })
    }

    pub fn import(&mut self, claims: &[(&str, &str)], body: &str) -> Decision {
        let imported = imported(claims, body);
        self.act(&importer(), Command::ImportFile(imported)).expect("a sound file")
    }

    pub fn text(&self) -> &str {
        self.memory.body().text()
    }

    pub fn value(&self, field: &str) -> Option<Value> {
        self.memory.value(&name(field)).cloned()
    }

    /// The texts of the values that wait for a decision on a field.
    pub fn suggested(&self, field: &str) -> Vec<String> {
        let claims = self.memory.field(&name(field));
        claims
            .map(|claims| claims.suggestions().iter().map(|claim| claim.value.display()).collect())
            .unwrap_or_default()
    }

    /// The edits of the body that wait for a decision.
    pub fn waiting_edits(&self) -> Vec<EventId> {
        self.memory.body().suggestions().map(|edit| edit.id).collect()
    }
}

/// A file with these texts as fields. `digest` stands for its content.
pub fn imported(claims: &[(&str, &str)], body: &str) -> ImportedFile {
    let claims: Vec<_> = claims.iter().map(|(field, value)| (name(field), Value::from(*value))).collect();
    let file = FileImported {
        vault: Uuid::from_u128(9),
        path: "a.md".into(),
        digest: format!("{claims:?}{body}"),
        part: String::new(),
        unresolved: vec![],
        vanished: false,
    };
    ImportedFile { kind: Kind::Note, claims, body: body.into(), archived: false, file }
}

pub fn name(field: &str) -> FieldName {
    field.parse().expect("a field name")
}
