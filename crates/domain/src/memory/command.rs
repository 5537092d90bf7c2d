//! Commands about a memory, and what can become of them.

use serde::Serialize;
use uuid::Uuid;

use crate::body::{Base, CorruptBody, MAX_BODY_BYTES};
use crate::claim::Authorship;
use crate::event::{FileImported, MemoryEvent};
use crate::field::FieldName;
use crate::id::{EventId, MemoryId};
use crate::kind::{InvalidFieldValue, Kind};
use crate::truth::Truth;
use crate::value::Value;

/// The most fields one command may change.
pub const MAX_CHANGED_FIELDS: usize = 1_000;

/// What somebody wants done to a memory.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Bring it into being, with its first fields and text.
    CreateMemory {
        /// Its kind.
        kind: Kind,
        /// Fields, tags and links.
        claims: Vec<(FieldName, Value)>,
        /// Its text.
        body: String,
    },
    /// State values of fields, and change the text.
    ChangeMemory {
        /// Fields, tags and links.
        claims: Vec<(FieldName, Value)>,
        /// The text as it should read.
        body: Option<BodyText>,
    },
    /// Take back one's own latest claim about a field, so that the next one shows through.
    RetractClaim {
        /// The field.
        field: FieldName,
    },
    /// Make a suggestion the user's own, as it is or changed.
    AcceptSuggestion {
        /// The event that made it.
        suggestion: EventId,
        /// What to accept instead of the suggested value, or the text the body should then have.
        edited: Option<Value>,
    },
    /// Turn a suggestion down.
    RejectSuggestion {
        /// The event that made it.
        suggestion: EventId,
    },
    /// Undo what one command did and keep what came after it.
    UndoCommand {
        /// The command; the latest one that was not undone when `None`.
        command: Option<Uuid>,
    },
    /// Take over what a file says now.
    ImportFile(ImportedFile),
    /// Put the memory away because its file is gone from the vault; it comes back when the file does.
    PruneFile,
    /// Destroy the content for good.
    EraseMemory,
}

impl Command {
    /// Its name, for logs and measurements.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateMemory { .. } => "CreateMemory",
            Self::ChangeMemory { .. } => "ChangeMemory",
            Self::RetractClaim { .. } => "RetractClaim",
            Self::AcceptSuggestion { .. } => "AcceptSuggestion",
            Self::RejectSuggestion { .. } => "RejectSuggestion",
            Self::UndoCommand { .. } => "UndoCommand",
            Self::ImportFile(_) => "ImportFile",
            Self::PruneFile => "PruneFile",
            Self::EraseMemory => "EraseMemory",
        }
    }
}

/// A text as somebody wants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BodyText {
    /// The whole text.
    pub text: String,
    /// The text it was made from.
    pub base: Base,
}

/// What a file says, for [`Command::ImportFile`].
#[derive(Debug, Clone, PartialEq)]
pub struct ImportedFile {
    /// The kind of memory it describes.
    pub kind: Kind,
    /// Fields, tags and links.
    pub claims: Vec<(FieldName, Value)>,
    /// The text.
    pub body: String,
    /// Whether the file says that the memory is put away.
    pub archived: bool,
    /// Which file, and what it looked like.
    pub file: FileImported,
}

/// Who commands, at which level, when, and in which command.
pub struct Context<'a> {
    /// The authorship of every event that the command causes.
    pub author: Authorship,
    /// Gives a new event id at each call.
    pub ids: &'a mut dyn FnMut() -> EventId,
}

/// What became of a command, or of one field of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything was so already.
    Unchanged,
    /// It is the value now.
    Applied,
    /// The user turned the same down before; nothing was written (rule T6).
    RejectedBefore,
    /// It cannot win; it waits for the user's decision (rule T5).
    Suggested,
}

/// An event to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Decided {
    /// Its id.
    pub id: EventId,
    /// Its author: the command's, at the level the rules give this event.
    pub author: Authorship,
    /// What it says.
    pub event: MemoryEvent,
}

/// The events of a command and what became of each field.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Decision {
    /// The events, in order. None when nothing changes.
    pub events: Vec<Decided>,
    /// What became of each field.
    pub fields: Vec<(FieldName, Outcome)>,
    /// An event id that was drawn before it was known whether its event would be written; the next event has it.
    pub(super) reserved: Option<EventId>,
}

/// Why a command cannot be carried out. Nothing is written.
#[derive(Debug, thiserror::Error)]
pub enum Rejection {
    /// There is no such memory.
    #[error("memory {memory} does not exist")]
    NotFound {
        /// Its id.
        memory: MemoryId,
    },
    /// It exists already.
    #[error("memory {memory} exists already")]
    AlreadyExists {
        /// Its id.
        memory: MemoryId,
    },
    /// It was erased.
    #[error("memory {memory} was erased; what it held is gone")]
    Erased {
        /// Its id.
        memory: MemoryId,
    },
    /// Only a principal of level 1 may do this (rule T6).
    #[error("only the user may {action}; this principal writes at {truth}")]
    UserOnly {
        /// What was asked for.
        action: &'static str,
        /// The level it writes at.
        truth: Truth,
    },
    /// The value does not fit the field.
    #[error(transparent)]
    InvalidValue(#[from] InvalidFieldValue),
    /// The text is too long.
    #[error("a body of {bytes} bytes is longer than the {MAX_BODY_BYTES} allowed")]
    BodyTooLong {
        /// Its length.
        bytes: usize,
    },
    /// Too many fields at once.
    #[error("{fields} fields in one command are more than the {MAX_CHANGED_FIELDS} allowed")]
    TooManyFields {
        /// How many.
        fields: usize,
    },
    /// The principal has no claim to take back.
    #[error("this principal has no claim about `{field}` that could be retracted")]
    NothingToRetract {
        /// The field.
        field: FieldName,
    },
    /// No such suggestion waits.
    #[error("no suggestion {suggestion} waits on memory {memory}; it may have been decided already")]
    NoSuchSuggestion {
        /// The memory.
        memory: MemoryId,
        /// The suggestion.
        suggestion: EventId,
    },
    /// It was not made of a file.
    #[error("memory {memory} was not imported from a file")]
    NotImported {
        /// Its id.
        memory: MemoryId,
    },
    /// There is nothing to undo.
    #[error("memory {memory} has nothing to undo")]
    NothingToUndo {
        /// The memory.
        memory: MemoryId,
    },
    /// A later command changed the same field.
    #[error("`{field}` was changed again after that command; undo the later change first")]
    ChangedSince {
        /// The field.
        field: FieldName,
    },
    /// The edit that the text is said to be made from is not one of this memory.
    #[error("the body has no edit {edit} to start from")]
    UnknownBase {
        /// The edit.
        edit: EventId,
    },
    /// The log is damaged.
    #[error(transparent)]
    Corrupt(#[from] CorruptBody),
}

impl Decision {
    /// What became of the command as a whole: suggested if any part of it was.
    pub fn outcome(&self) -> Outcome {
        self.fields.iter().map(|(_, outcome)| *outcome).max().unwrap_or(Outcome::Applied)
    }

    pub(super) fn push(&mut self, context: &mut Context<'_>, event: MemoryEvent) {
        let author = context.author.clone();
        self.push_as(context, author, event);
    }

    pub(super) fn push_as(&mut self, context: &mut Context<'_>, author: Authorship, event: MemoryEvent) {
        let id = self.reserve(context);
        self.reserved = None;
        self.events.push(Decided { id, author, event });
    }

    /// The id that the next event will have.
    pub(super) fn reserve(&mut self, context: &mut Context<'_>) -> EventId {
        *self.reserved.get_or_insert_with(|| (context.ids)())
    }
}
