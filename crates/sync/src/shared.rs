//! What is shared of a memory: its events, under names that mean the same on every brain.

use bytes::Bytes;
use cairn_domain::body::{BodyChange, MAX_SPLICES};
use cairn_domain::event::{
    ClaimRetracted, CommandUndone, Created, DecodeError, Event, FieldClaimed, MemoryEvent, SuggestionRejected,
};
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::principal::Origin;
use cairn_domain::value::InvalidValue;
use uuid::Uuid;

use crate::entry::{EntryKind, MAX_PAYLOAD_BYTES};
use crate::key::BrainKey;

/// The most other events that one event may refer to.
pub const MAX_REFERENCES: usize = 256;
/// How many characters of a brain's key stand for it in an origin.
const ORIGIN_DIGITS: usize = 16;
/// Where the version of the data stands in a payload: after the event's id and its type's code.
const PREFIX_BYTES: usize = 16 + 1 + 1;

/// An event of a memory as a payload holds it: 16 bytes of its id on the brain that wrote it, one of its type, one of its data's version,
/// and its data as JSON. All events that it refers to have their shared names.
#[derive(Debug, Clone, PartialEq)]
pub struct SharedEvent {
    /// Its id on the brain that wrote it.
    pub id: EventId,
    /// What it says.
    pub event: MemoryEvent,
}

/// Why a payload says nothing about a memory.
#[derive(Debug, thiserror::Error)]
pub enum InvalidShared {
    /// It is cut short.
    #[error("it is cut short")]
    Short,
    /// It is of a type that is not shared, or that this program does not know.
    #[error("events of type {0} are not shared")]
    Type(u8),
    /// Its data cannot be read.
    #[error("its data cannot be read")]
    Data(#[from] DecodeError),
    /// It holds a value that no field may have.
    #[error("it holds a value that no field may have")]
    Value(#[from] InvalidValue),
    /// It refers to too many events.
    #[error("it refers to more than {MAX_REFERENCES} events")]
    References,
    /// It makes too many changes to a text at once.
    #[error("it makes more than {MAX_SPLICES} changes to a text")]
    Splices,
    /// It does not fit into an entry.
    #[error("{bytes} bytes do not fit into an entry, which holds {MAX_PAYLOAD_BYTES}")]
    TooLarge {
        /// What it has.
        bytes: usize,
    },
}

/// The types of events that are shared, with the codes they have in a payload. A code is never used again for something else.
const TYPES: [(u8, &str); 6] = [
    (1, "memory.created"),
    (2, "memory.field_claimed"),
    (3, "memory.claim_retracted"),
    (4, "memory.body_edited"),
    (5, "memory.suggestion_rejected"),
    (6, "memory.command_undone"),
];

impl SharedEvent {
    /// What is shared of an event: nothing of most types.
    pub fn of(id: EventId, event: MemoryEvent) -> Option<Self> {
        let event = match event {
            // What merging it did to the text of its brain is that brain's own affair.
            MemoryEvent::BodyEdited(change) => MemoryEvent::BodyEdited(BodyChange { effect: None, ..change }),
            event => event,
        };
        let event_type = Event::Memory(event.clone()).event_type();
        TYPES.iter().any(|(_, shared)| *shared == event_type).then_some(Self { id, event })
    }

    /// The kind of entry that holds it.
    pub fn kind(&self) -> EntryKind {
        match self.event {
            MemoryEvent::BodyEdited(_) => EntryKind::Change,
            _ => EntryKind::Claim,
        }
    }

    /// The same with every event it refers to under another name.
    #[must_use]
    pub fn renamed(self, mut name: impl FnMut(&FieldName, EventId) -> EventId) -> Self {
        let body = FieldName::body();
        let event = match self.event {
            MemoryEvent::FieldClaimed(FieldClaimed { field, value, supersedes, accepts }) => {
                let supersedes = supersedes.into_iter().map(|id| name(&field, id)).collect();
                let accepts = accepts.map(|id| name(&field, id));
                MemoryEvent::FieldClaimed(FieldClaimed { field, value, supersedes, accepts })
            }
            MemoryEvent::ClaimRetracted(ClaimRetracted { field, claim }) => {
                let claim = name(&field, claim);
                MemoryEvent::ClaimRetracted(ClaimRetracted { field, claim })
            }
            MemoryEvent::SuggestionRejected(SuggestionRejected { field, suggestion }) => {
                let suggestion = name(&field, suggestion);
                MemoryEvent::SuggestionRejected(SuggestionRejected { field, suggestion })
            }
            MemoryEvent::BodyEdited(BodyChange { parents, splices, accepts, effect }) => {
                let parents = parents.into_iter().map(|id| name(&body, id)).collect();
                let accepts = accepts.map(|id| name(&body, id));
                MemoryEvent::BodyEdited(BodyChange { parents, splices, accepts, effect })
            }
            other => other,
        };
        Self { event, ..self }
    }

    /// The command that it undoes, if it undoes one.
    pub fn undoes(&self) -> Option<Uuid> {
        match self.event {
            MemoryEvent::CommandUndone(CommandUndone { command }) => Some(command),
            _ => None,
        }
    }

    /// The same about a command under another name ([`command_of`]).
    #[must_use]
    pub fn about(self, command: Uuid) -> Self {
        Self { event: MemoryEvent::CommandUndone(CommandUndone { command }), ..self }
    }

    /// The field it is about; none where it is about the memory as a whole.
    pub fn field(&self) -> Option<FieldName> {
        match &self.event {
            MemoryEvent::FieldClaimed(FieldClaimed { field, .. })
            | MemoryEvent::ClaimRetracted(ClaimRetracted { field, .. })
            | MemoryEvent::SuggestionRejected(SuggestionRejected { field, .. }) => Some(field.clone()),
            MemoryEvent::BodyEdited(_) => Some(FieldName::body()),
            _ => None,
        }
    }

    /// Whether it refers to other events.
    pub fn refers(&self) -> bool {
        self.references() > 0
    }

    fn references(&self) -> usize {
        match &self.event {
            MemoryEvent::FieldClaimed(claimed) => {
                claimed.supersedes.len() + usize::from(claimed.accepts.is_some())
            }
            MemoryEvent::BodyEdited(change) => change.parents.len() + usize::from(change.accepts.is_some()),
            MemoryEvent::ClaimRetracted(_) | MemoryEvent::SuggestionRejected(_) => 1,
            _ => 0,
        }
    }

    /// As a payload.
    ///
    /// # Errors
    /// [`InvalidShared::TooLarge`], [`InvalidShared::References`] or [`InvalidShared::Splices`]: it cannot be shared.
    pub fn to_bytes(&self) -> Result<Bytes, InvalidShared> {
        self.check()?;
        let event = Event::Memory(self.event.clone());
        let code = TYPES.iter().find(|(_, shared)| *shared == event.event_type()).map_or(0, |(code, _)| *code);
        let version = u8::try_from(event.schema_version()).map_err(|_| InvalidShared::Type(code))?;
        let payload = [self.id.uuid().as_bytes().as_slice(), &[code, version], &event.data()].concat();
        match payload.len() {
            bytes if bytes > MAX_PAYLOAD_BYTES => Err(InvalidShared::TooLarge { bytes }),
            _ => Ok(payload.into()),
        }
    }

    /// Reads a payload. Everything about it that can be checked alone is checked.
    ///
    /// # Errors
    /// See [`InvalidShared`].
    pub fn parse(payload: &[u8]) -> Result<Self, InvalidShared> {
        let (prefix, data) = payload.split_first_chunk::<PREFIX_BYTES>().ok_or(InvalidShared::Short)?;
        let (id, [code, version]) = prefix
            .split_first_chunk::<16>()
            .ok_or(InvalidShared::Short)
            .map(|(id, rest)| (EventId::new(Uuid::from_bytes(*id)), [rest[0], rest[1]]))?;
        let (_, event_type) = TYPES.iter().find(|(known, _)| *known == code).ok_or(InvalidShared::Type(code))?;
        match Event::decode(event_type, u16::from(version), data)? {
            Event::Memory(event) => {
                let shared = Self::of(id, event).ok_or(InvalidShared::Type(code))?;
                shared.check()?;
                Ok(shared)
            }
            Event::Principal(_) | Event::Space(_) | Event::Peer(_) => Err(InvalidShared::Type(code)),
        }
    }

    fn check(&self) -> Result<(), InvalidShared> {
        if self.references() > MAX_REFERENCES {
            return Err(InvalidShared::References);
        }
        match &self.event {
            MemoryEvent::FieldClaimed(claimed) => Ok(claimed.value.check_limits()?),
            MemoryEvent::BodyEdited(change) if change.splices.len() > MAX_SPLICES => Err(InvalidShared::Splices),
            _ => Ok(()),
        }
    }
}

/// The name that an event about a memory, of a brain's own, has on all others. It begins like the event's own id, so that what was written together
/// lies together there as well, and the rest binds it to the brain: nobody can make another one's.
pub fn shared_name(author: BrainKey, memory: MemoryId, id: EventId) -> EventId {
    let hash = hash(b"cairn event 1\0", &[author.bytes(), memory.uuid().as_bytes(), id.uuid().as_bytes()]);
    let mut bytes: [u8; 16] = *hash.first_chunk().expect("a hash is longer");
    bytes[..6].copy_from_slice(&id.uuid().as_bytes()[..6]);
    EventId::new(uuid::Builder::from_custom_bytes(bytes).into_uuid())
}

/// Who writes here what a brain wrote there.
pub fn principal_of(brain: BrainKey) -> PrincipalId {
    let hash = hash(b"cairn peer 1\0", &[brain.bytes()]);
    PrincipalId::new(custom(&hash))
}

/// Where it comes from.
pub fn origin_of(brain: BrainKey) -> Origin {
    let digits = brain.to_string();
    format!("peer:{}", &digits[..ORIGIN_DIGITS]).parse().expect("it is plain and short")
}

/// The command that events of one brain belong to: those of one memory that were said at the same moment.
pub fn command_of(author: BrainKey, memory: Uuid, at: cairn_domain::clock::Hlc) -> Uuid {
    let moment = [at.millis.to_be_bytes().as_slice(), &at.counter.to_be_bytes()].concat();
    custom(&hash(b"cairn command 1\0", &[author.bytes(), memory.as_bytes(), &moment]))
}

/// The id under which a brain keeps the entry by which it published an event of its own in a space.
pub fn publication_of(space: crate::key::SpaceId, event: EventId) -> Uuid {
    custom(&hash(b"cairn publication 1\0", &[space.bytes(), event.uuid().as_bytes()]))
}

/// The id under which a brain keeps an entry of another one.
pub fn entry_id(entry: crate::key::Hash) -> Uuid {
    custom(entry.bytes())
}

fn hash(domain: &[u8], parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(domain);
    for part in parts {
        hasher.update(part);
    }
    hasher.finalize().into()
}

fn custom(hash: &[u8; 32]) -> Uuid {
    uuid::Builder::from_custom_bytes(*hash.first_chunk().expect("a hash is longer")).into_uuid()
}

/// Whether somebody creates a memory with it.
pub fn creates(event: &MemoryEvent) -> bool {
    matches!(event, MemoryEvent::Created(Created { .. }))
}

#[cfg(test)]
mod tests {
    use cairn_domain::body::Splice;
    use cairn_domain::value::Value;
    use ed25519_dalek::SigningKey;
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn brain(of: u8) -> BrainKey {
        BrainKey::of(&SigningKey::from_bytes(&[of; 32]))
    }

    fn id(number: u128) -> EventId {
        EventId::new(Uuid::from_u128(number))
    }

    fn claimed(supersedes: Vec<EventId>) -> SharedEvent {
        let (field, value) = (FieldName::title(), Value::from("Tomatoes"));
        let event = MemoryEvent::FieldClaimed(FieldClaimed { field, value, supersedes, accepts: None });
        SharedEvent::of(id(7), event).expect("it is shared")
    }

    #[test]
    fn a_payload_is_read_as_it_was_written() {
        let claimed = claimed(vec![id(1)]);
        let payload = claimed.to_bytes().expect("small");
        assert_eq!(SharedEvent::parse(&payload).expect("reads"), claimed);
        assert!(matches!(SharedEvent::parse(&payload[..17]), Err(InvalidShared::Short)));
        let unknown = [&payload[..16], &[99], &payload[17..]].concat();
        assert!(matches!(SharedEvent::parse(&unknown), Err(InvalidShared::Type(99))));
        let newer = [&payload[..17], &[9], &payload[18..]].concat();
        assert!(matches!(SharedEvent::parse(&newer), Err(InvalidShared::Data(_))));
    }

    #[test]
    fn what_is_the_brains_own_affair_is_not_shared() {
        assert_eq!(SharedEvent::of(id(7), MemoryEvent::Erased(cairn_domain::event::Erased {})), None);
        let effect = Some(cairn_domain::body::Effect { onto: vec![id(1)], splices: vec![] });
        let change = BodyChange { parents: vec![], splices: vec![], accepts: None, effect };
        let shared = SharedEvent::of(id(7), MemoryEvent::BodyEdited(change)).expect("it is shared");
        assert!(matches!(shared.event, MemoryEvent::BodyEdited(BodyChange { effect: None, .. })));
    }

    #[test]
    fn what_would_cost_too_much_is_refused() {
        assert!(matches!(claimed(vec![id(1); MAX_REFERENCES + 1]).to_bytes(), Err(InvalidShared::References)));
        let splices = vec![Splice { at: 0, delete: 0, insert: "x".into() }; MAX_SPLICES + 1];
        let change = BodyChange { parents: vec![], splices, accepts: None, effect: None };
        let shared = SharedEvent::of(id(7), MemoryEvent::BodyEdited(change)).expect("it is shared");
        assert!(matches!(shared.to_bytes(), Err(InvalidShared::Splices)));
    }

    #[test]
    fn a_name_is_its_brains_and_sorts_like_the_id() {
        let (one, other) = (id(0x019a_0b5e_7c1a_7d2e_9d3f_4a5b_6c7d_8e9f), id(7));
        let (here, there) = (MemoryId::new(Uuid::from_u128(1)), MemoryId::new(Uuid::from_u128(2)));
        assert_ne!(shared_name(brain(1), here, one), shared_name(brain(2), here, one));
        assert_ne!(shared_name(brain(1), here, one), shared_name(brain(1), there, one));
        assert_ne!(shared_name(brain(1), here, one), shared_name(brain(1), here, other));
        assert_eq!(shared_name(brain(1), here, one).uuid().as_bytes()[..6], one.uuid().as_bytes()[..6]);
        assert_ne!(principal_of(brain(1)), principal_of(brain(2)));
    }

    proptest! {
        /// Whatever a peer sends is refused, or is one event that can be kept.
        #[test]
        fn any_payload_is_refused_or_read(bytes in vec(any::<u8>(), 0..200), code in 0_u8..8) {
            let mut bytes = bytes;
            if let Some(at) = bytes.get_mut(16) {
                *at = code;
            }
            if let Ok(shared) = SharedEvent::parse(&bytes) {
                prop_assert_eq!(SharedEvent::parse(&shared.to_bytes().expect("it was read")).expect("reads"), shared);
            }
        }
    }
}
