//! The line of the timeline that an event becomes.

use cairn_domain::body::{BodyChange, Splice};
use cairn_domain::claim::{Authorship, Standing};
use cairn_domain::event::{FieldClaimed, MemoryEvent, Shared, StandingChanged};
use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::{EventId, MemoryId};
use cairn_domain::memory::Memory;
use cairn_domain::value::Value;
use cairn_event_store::RecordedEvent;
use cairn_read_model::change::{Entry, EntryOutcome};

/// How many characters of a value a summary shows.
const SHOWN_CHARS: usize = 80;

/// An entry whose outcome is known only after the event is folded in.
pub(super) struct Begun(Entry);

pub(super) fn begin(
    memory: MemoryId,
    recorded: &RecordedEvent,
    author: &Authorship,
    event: &MemoryEvent,
) -> Begun {
    let (field, value) = match event {
        MemoryEvent::FieldClaimed(claimed) => (Some(claimed.field.clone()), Some(claimed.value.clone())),
        MemoryEvent::ClaimRetracted(retracted) => (Some(retracted.field.clone()), None),
        MemoryEvent::SuggestionRejected(rejected) => (Some(rejected.field.clone()), None),
        MemoryEvent::BodyEdited(_) => (Some(FieldName::body()), None),
        MemoryEvent::Created(_)
        | MemoryEvent::CommandUndone(_)
        | MemoryEvent::FileImported(_)
        | MemoryEvent::Shared(_)
        | MemoryEvent::StandingChanged(_)
        | MemoryEvent::Erased(_) => (None, None),
    };
    Begun(Entry {
        position: recorded.position.0,
        memory,
        revision: recorded.revision.0,
        event: EventId::new(recorded.id),
        event_type: event_type(event),
        recorded_at: recorded.recorded_at,
        author: author.clone(),
        field,
        value,
        outcome: None,
        summary: summary(event),
    })
}

impl Begun {
    /// Completes the entry with what the memory says after the event.
    pub(super) fn end(self, memory: &Memory) -> Entry {
        let mut entry = self.0;
        let suggested = match (entry.event_type, &entry.field) {
            ("memory.body_edited", _) => Some(memory.body().is_suggestion(entry.event)),
            ("memory.field_claimed", Some(field)) => memory
                .field(field)
                .map(|claims| claims.suggestions().iter().any(|waiting| waiting.id == entry.event)),
            _ => None,
        };
        entry.outcome =
            suggested.map(|suggested| if suggested { EntryOutcome::Suggested } else { EntryOutcome::Applied });
        if entry.outcome == Some(EntryOutcome::Suggested) {
            entry.summary.insert_str(0, "suggested: ");
        }
        entry
    }
}

fn event_type(event: &MemoryEvent) -> &'static str {
    match event {
        MemoryEvent::Created(_) => "memory.created",
        MemoryEvent::FieldClaimed(_) => "memory.field_claimed",
        MemoryEvent::ClaimRetracted(_) => "memory.claim_retracted",
        MemoryEvent::BodyEdited(_) => "memory.body_edited",
        MemoryEvent::SuggestionRejected(_) => "memory.suggestion_rejected",
        MemoryEvent::CommandUndone(_) => "memory.command_undone",
        MemoryEvent::FileImported(_) => "memory.file_imported",
        MemoryEvent::Erased(_) => "memory.erased",
        MemoryEvent::Shared(_) => "memory.shared",
        MemoryEvent::StandingChanged(_) => "memory.standing_changed",
    }
}

fn summary(event: &MemoryEvent) -> String {
    match event {
        MemoryEvent::Created(created) => format!("created as {}", created.kind),
        MemoryEvent::FieldClaimed(claimed) => claim(claimed),
        MemoryEvent::ClaimRetracted(retracted) => format!("took back what was said of {}", retracted.field),
        MemoryEvent::BodyEdited(change) => edit(change),
        MemoryEvent::SuggestionRejected(rejected) => format!("rejected a suggestion for {}", rejected.field),
        MemoryEvent::CommandUndone(_) => "undid an earlier change".to_owned(),
        MemoryEvent::FileImported(file) if file.vanished => format!("{} is gone from its vault", file.path),
        MemoryEvent::FileImported(file) => format!("imported from {}", file.path),
        MemoryEvent::Erased(_) => "erased".to_owned(),
        MemoryEvent::Shared(Shared { space: Some(_) }) => "came into a shared space".to_owned(),
        MemoryEvent::Shared(Shared { space: None }) => "left the shared space it was in".to_owned(),
        MemoryEvent::StandingChanged(StandingChanged { events, standing }) => match standing {
            Standing::Full => format!("{} changes of another brain count", events.len()),
            Standing::Suggestion => format!("{} changes of another brain count as suggestions", events.len()),
            Standing::Held => format!("{} changes of another brain count for nothing any more", events.len()),
        },
    }
}

fn claim(claimed: &FieldClaimed) -> String {
    let holds = claimed.value == Value::Flag(true);
    let text = match claimed.field.role() {
        FieldRole::Tag(tag) if holds => format!("tagged #{tag}"),
        FieldRole::Tag(tag) => format!("removed the tag #{tag}"),
        FieldRole::Link { relation, target } if holds => format!("linked to {target} ({relation})"),
        FieldRole::Link { relation, target } => format!("unlinked from {target} ({relation})"),
        FieldRole::Archived if holds => "put away".to_owned(),
        FieldRole::Archived => "taken out again".to_owned(),
        _ if claimed.value.is_empty() => format!("cleared {}", claimed.field),
        _ => format!("set {} to {}", claimed.field, shown(&claimed.value)),
    };
    if claimed.accepts.is_some() { format!("accepted a suggestion: {text}") } else { text }
}

fn edit(change: &BodyChange) -> String {
    let splices = change.effect.as_ref().map_or(&change.splices, |effect| &effect.splices);
    let added = splices.iter().map(|splice| splice.insert.chars().count()).sum::<usize>();
    let removed = splices.iter().map(|Splice { delete, .. }| delete).sum::<usize>();
    let text = format!("edited the body (+{added} −{removed} characters)");
    if change.accepts.is_some() { format!("accepted a suggestion: {text}") } else { text }
}

fn shown(value: &Value) -> String {
    let text = value.display();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
