//! What the read models are fed with: memories as they stand after some events, and the events themselves.

use std::collections::BTreeSet;
use std::sync::Arc;

use cairn_domain::claim::Authorship;
use cairn_domain::event::{MemoryEvent, PrincipalEvent};
use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::memory::Memory;
use cairn_domain::value::Value;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// What a run of consecutive events changed.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    /// The position of the last event of the run: everything up to it is folded in.
    pub position: u64,
    /// How many events the run has.
    pub events: usize,
    /// When the log took the last of them.
    pub recorded_at: DateTime<Utc>,
    /// The memories that changed, each once.
    pub memories: Vec<MemoryChange>,
    /// The principals that changed, in the order of the log.
    pub principals: Vec<PrincipalChange>,
    /// The events of memories in the order of the log, where the reader asked for them.
    pub entries: Vec<Entry>,
}

/// A memory after the events of a batch.
#[derive(Debug, Clone)]
pub struct MemoryChange {
    /// The memory as it stands.
    pub memory: Arc<Memory>,
    /// The revision of the first event of this batch; 0 when the memory is new.
    pub first_revision: u64,
    /// The position of the first event of this batch.
    pub first_position: u64,
    /// The revision of the last event.
    pub revision: u64,
    /// The position of the last event.
    pub position: u64,
    /// When the log took the last event.
    pub recorded_at: DateTime<Utc>,
    /// What the events were about; nothing else of the memory changed.
    pub touched: Touched,
}

/// The parts of a memory that some events were about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Touched {
    /// Fields, tags and links.
    pub fields: BTreeSet<FieldName>,
    /// The body.
    pub body: bool,
    /// The file it was imported from.
    pub file: bool,
    /// That there is such a memory. What a peer wrote about it may have come before that, and shows from then on.
    pub begun: bool,
    /// Anything: undoing a command may bring back what it turned down in any field, and what a peer wrote may count for nothing any more.
    pub everything: bool,
}

impl Touched {
    /// Notes what an event is about.
    pub fn note(&mut self, event: &MemoryEvent) {
        match event {
            MemoryEvent::Created(_) => {
                self.begun = true;
                self.fields.insert(FieldName::kind());
                self.fields.insert(FieldName::archived());
            }
            MemoryEvent::FieldClaimed(claimed) => self.field(&claimed.field),
            MemoryEvent::ClaimRetracted(retracted) => self.field(&retracted.field),
            MemoryEvent::SuggestionRejected(rejected) => self.field(&rejected.field),
            MemoryEvent::BodyEdited(_) => self.body = true,
            MemoryEvent::FileImported(_) => self.file = true,
            MemoryEvent::CommandUndone(_) | MemoryEvent::StandingChanged(_) => self.everything = true,
            // It is seen on the memory itself.
            MemoryEvent::Erased(_) | MemoryEvent::Shared(_) => {}
        }
    }

    fn field(&mut self, name: &FieldName) {
        match name.role() {
            FieldRole::Body => self.body = true,
            _ => {
                self.fields.insert(name.clone());
            }
        }
    }
}

/// An event about a principal.
#[derive(Debug, Clone, PartialEq)]
pub struct PrincipalChange {
    /// The principal.
    pub principal: PrincipalId,
    /// What happened.
    pub event: PrincipalEvent,
    /// The event's position.
    pub position: u64,
    /// When the log took it.
    pub recorded_at: DateTime<Utc>,
}

/// An event of a memory, as a reader of the history sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its position in the log.
    pub position: u64,
    /// The memory.
    pub memory: MemoryId,
    /// Its number in the memory's stream.
    pub revision: u64,
    /// The event.
    pub event: EventId,
    /// Its type, as the wire table names it.
    pub event_type: &'static str,
    /// When the log took it.
    pub recorded_at: DateTime<Utc>,
    /// Who made it, how true, from where, in which command.
    pub author: Authorship,
    /// The field it is about.
    pub field: Option<FieldName>,
    /// The value it states.
    pub value: Option<Value>,
    /// What became of it at that moment.
    pub outcome: Option<EntryOutcome>,
    /// One line for a person.
    pub summary: String,
}

/// What became of a statement when it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryOutcome {
    /// It became the value, or part of the text.
    Applied,
    /// It waited for the user's decision.
    Suggested,
}

impl EntryOutcome {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::Suggested => "suggested",
        }
    }

    /// The outcome that a word names.
    pub fn named(name: &str) -> Option<Self> {
        [Self::Applied, Self::Suggested].into_iter().find(|outcome| outcome.name() == name)
    }
}
