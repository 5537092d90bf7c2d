//! Whether an append may go through: the rules that every adapter with a log of its own shares.

use std::collections::HashSet;

use uuid::Uuid;

use crate::event::{
    Appended, ExpectedRevision, MAX_APPEND_BYTES, MAX_APPEND_EVENTS, MAX_EVENT_BYTES, MAX_STREAM_NAME_BYTES,
    NewAppend, NewEvent, Position, RecordedEvent, Revision,
};
use crate::port::{AppendError, StoreError};

/// What the rules need to know of a log, as it stands at the moment of the append.
pub(crate) trait LogView {
    /// The event with this id.
    fn event(&mut self, id: Uuid) -> Result<Option<RecordedEvent>, StoreError>;
    /// The stream's last revision.
    fn revision(&mut self, stream: &str) -> Result<Option<Revision>, StoreError>;
    /// The position recorded last for an upstream source.
    fn tracked(&mut self, source: &str) -> Result<Option<u64>, StoreError>;
}

/// What is to be done with an append that is not refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Write its events.
    Write,
    /// Nothing: it was made before, with this result.
    Repeated(Appended),
}

/// Refuses what no state of the log could make acceptable.
pub(crate) fn check_limits(append: &NewAppend) -> Result<(), AppendError> {
    if append.streams.is_empty() && append.tracking.is_none() {
        return Err(AppendError::Invalid("it holds nothing".into()));
    }
    let events = append.streams.iter().map(|entry| entry.events.len()).sum::<usize>();
    if events > MAX_APPEND_EVENTS {
        return Err(AppendError::Invalid(format!("{events} events are more than {MAX_APPEND_EVENTS}")));
    }
    let mut total = 0;
    for event in append.streams.iter().flat_map(|entry| &entry.events) {
        total += check_event(event)?;
    }
    if total > MAX_APPEND_BYTES {
        return Err(AppendError::Invalid(format!("{total} bytes are more than {MAX_APPEND_BYTES}")));
    }
    check_names(append)?;
    check_ids(append)
}

fn check_event(event: &NewEvent) -> Result<usize, AppendError> {
    let bytes = event.data.len() + event.metadata.len();
    if bytes > MAX_EVENT_BYTES {
        return Err(AppendError::Invalid(format!(
            "event {} has {bytes} bytes, more than {MAX_EVENT_BYTES}",
            event.id
        )));
    }
    let name = event.event_type.len();
    if name == 0 || name > MAX_STREAM_NAME_BYTES {
        return Err(AppendError::Invalid(format!(
            "the type of event {} has {name} bytes, not 1 to {MAX_STREAM_NAME_BYTES}",
            event.id
        )));
    }
    check_text(&event.event_type)?;
    Ok(bytes)
}

/// Not every store can keep the character U+0000 in a text.
fn check_text(name: &str) -> Result<(), AppendError> {
    if name.contains('\0') {
        return Err(AppendError::Invalid("a name holds the character U+0000".into()));
    }
    Ok(())
}

fn check_names(append: &NewAppend) -> Result<(), AppendError> {
    let sources = append.tracking.iter().map(|tracking| &tracking.source);
    for name in append.streams.iter().map(|entry| &entry.stream).chain(sources) {
        if name.is_empty() || name.len() > MAX_STREAM_NAME_BYTES {
            let bytes = name.len();
            return Err(AppendError::Invalid(format!(
                "a name has {bytes} bytes, not 1 to {MAX_STREAM_NAME_BYTES}"
            )));
        }
        check_text(name)?;
    }
    // One stream is by far the most common, and needs no set.
    if append.streams.len() > 1 {
        let mut seen = HashSet::with_capacity(append.streams.len());
        if let Some(twice) = append.streams.iter().find(|entry| !seen.insert(&entry.stream)) {
            return Err(AppendError::Invalid(format!("it names stream {} twice", twice.stream)));
        }
    }
    if append.tracking.as_ref().is_some_and(|tracking| i64::try_from(tracking.position).is_err()) {
        return Err(AppendError::Invalid("the upstream position is beyond 2^63".into()));
    }
    Ok(())
}

fn check_ids(append: &NewAppend) -> Result<(), AppendError> {
    let mut ids = append.streams.iter().flat_map(|entry| &entry.events).map(|event| event.id);
    if ids.clone().nth(1).is_some() {
        let mut seen = HashSet::new();
        if let Some(twice) = ids.find(|id| !seen.insert(*id)) {
            return Err(AppendError::Invalid(format!("it names event {twice} twice")));
        }
    }
    Ok(())
}

/// Judges an append: a repetition is recognised before its conditions are looked at.
pub(crate) fn judge(view: &mut impl LogView, append: &NewAppend) -> Result<Verdict, AppendError> {
    if let Some(first) = find_repeated(view, append)? {
        return Ok(Verdict::Repeated(first));
    }
    check_conditions(view, append)?;
    Ok(Verdict::Write)
}

/// Judges as [`judge`] does, but looks the event ids up only where the conditions fail. The caller must have another
/// way of noticing that an id exists, and must then judge again with [`judge`].
pub(crate) fn judge_hopefully(view: &mut impl LogView, append: &NewAppend) -> Result<Verdict, AppendError> {
    let Err(refusal) = check_conditions(view, append) else {
        return Ok(Verdict::Write);
    };
    Ok(Verdict::Repeated(find_repeated(view, append)?.ok_or(refusal)?))
}

fn check_conditions(view: &mut impl LogView, append: &NewAppend) -> Result<(), AppendError> {
    for entry in &append.streams {
        if entry.expected == ExpectedRevision::Any {
            continue;
        }
        let actual = view.revision(&entry.stream)?;
        let holds = match entry.expected {
            ExpectedRevision::Any => true,
            ExpectedRevision::NoStream => actual.is_none(),
            ExpectedRevision::StreamExists => actual.is_some(),
            ExpectedRevision::Exact(revision) => actual == Some(revision),
        };
        if !holds {
            let (stream, expected) = (entry.stream.clone(), entry.expected);
            return Err(AppendError::WrongExpectedRevision { stream, expected, actual });
        }
    }
    if let Some(tracking) = &append.tracking
        && let Some(recorded) = view.tracked(&tracking.source)?
        && tracking.position <= recorded
    {
        let (source_name, given) = (tracking.source.clone(), tracking.position);
        return Err(AppendError::TrackingConflict { source_name, given, recorded });
    }
    Ok(())
}

/// The first result, if all of the append's events exist as they are given here, and in this order.
fn find_repeated(view: &mut impl LogView, append: &NewAppend) -> Result<Option<Appended>, AppendError> {
    let mut revisions = Vec::new();
    let mut position = Position::START;
    let mut missing = false;
    let mut found = None;
    for entry in &append.streams {
        for event in &entry.events {
            let Some(recorded) = view.event(event.id)? else {
                missing = true;
                continue;
            };
            if !is_same(&recorded, &entry.stream, event) || recorded.position <= position {
                return Err(AppendError::EventIdReused { id: event.id });
            }
            position = recorded.position;
            found = Some((event.id, recorded.revision));
        }
        if let (Some((_, revision)), false) = (found, entry.events.is_empty()) {
            revisions.push(revision);
        }
    }
    match found {
        None => Ok(None),
        Some((id, _)) if missing => Err(AppendError::EventIdReused { id }),
        Some(_) => Ok(Some(Appended { position, revisions, repeated: true })),
    }
}

fn is_same(recorded: &RecordedEvent, stream: &str, event: &NewEvent) -> bool {
    *recorded.stream == *stream
        && recorded.event_type == event.event_type
        && recorded.schema_version == event.schema_version
        && recorded.data == event.data
        && recorded.metadata == event.metadata
}
