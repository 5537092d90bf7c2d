//! The wire table: every event Cairn writes, its name, its version, and how its JSON is read.
//!
//! An event's shape never changes under one version. When it must change, the version goes up, an [`Upcaster`]
//! turns the old shape into the new one on reading, and the golden files of the old version stay in the tests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use uuid::Uuid;

use crate::body::BodyChange;
use crate::claim::{Authorship, Standing};
use crate::clock::Hlc;
use crate::field::FieldName;
use crate::id::{EventId, MemoryId, PrincipalId};
use crate::kind::Kind;
use crate::principal::Origin;
use crate::truth::Truth;
use crate::value::Value;

/// A fact about a memory.
#[derive(Debug, Clone, PartialEq)]
pub enum MemoryEvent {
    /// The memory exists. Also its author's claim of its kind, and that it is not archived.
    Created(Created),
    /// A principal stated that a field has a value.
    FieldClaimed(FieldClaimed),
    /// A principal took back a claim of its own.
    ClaimRetracted(ClaimRetracted),
    /// A principal edited the body.
    BodyEdited(BodyChange),
    /// The user turned a suggestion down.
    SuggestionRejected(SuggestionRejected),
    /// The events of an earlier command were undone by those beside this one.
    CommandUndone(CommandUndone),
    /// What the memory holds was read from a file.
    FileImported(FileImported),
    /// The memory's content was destroyed for good.
    Erased(Erased),
    /// The memory is in a space from here on, or in none any more.
    Shared(Shared),
    /// What peers wrote counts for something else from here on.
    StandingChanged(StandingChanged),
}

/// `memory.created`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Created {
    /// The kind it starts as.
    pub kind: Kind,
}

/// `memory.field_claimed`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldClaimed {
    /// The field.
    pub field: FieldName,
    /// The value; `null` clears the field.
    pub value: Value,
    /// The claims it saw and replaces.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supersedes: Vec<EventId>,
    /// The suggestion it accepts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepts: Option<EventId>,
}

/// `memory.claim_retracted`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClaimRetracted {
    /// The field.
    pub field: FieldName,
    /// The claim, by its event.
    pub claim: EventId,
}

/// `memory.suggestion_rejected`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SuggestionRejected {
    /// The field; `body` for an edit of the body.
    pub field: FieldName,
    /// The suggestion, by its event.
    pub suggestion: EventId,
}

/// `memory.command_undone`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandUndone {
    /// The command whose events were undone.
    pub command: Uuid,
}

/// `memory.file_imported`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileImported {
    /// The vault the file belongs to.
    pub vault: Uuid,
    /// The file's path inside the vault, with `/` between folders.
    pub path: String,
    /// BLAKE3 of the file's bytes, in hexadecimal.
    pub digest: String,
    /// What inside the file became this memory: empty for the file itself, else a key such as a task's.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub part: String,
    /// Names that the file links to and that no note of the vault has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unresolved: Vec<String>,
    /// Whether the file or the part is gone from the vault.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vanished: bool,
}

/// `memory.erased`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Erased {}

/// `memory.shared`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shared {
    /// The space it is in: 64 hexadecimal digits. None when it has left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space: Option<String>,
}

/// `memory.standing_changed`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StandingChanged {
    /// Events of this memory's stream that peers wrote.
    pub events: Vec<EventId>,
    /// What they count for.
    pub standing: Standing,
}

/// A fact about who may act.
#[derive(Debug, Clone, PartialEq)]
pub enum PrincipalEvent {
    /// A principal may act from now on.
    Registered(PrincipalRegistered),
    /// A principal may act no longer.
    Revoked(PrincipalRevoked),
}

/// `principal.registered`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalRegistered {
    /// What people call it.
    pub name: String,
    /// The highest truth it may write at.
    pub ceiling: Truth,
    /// Where its writes come from unless they say more precisely.
    pub origin: Origin,
}

/// `principal.revoked`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalRevoked {}

/// A fact about what this brain shares with others: what was signed, as it was signed, and what this brain decided for itself. What the
/// bytes in it mean is the affair of the crate `sync`; here they are in base 64.
#[derive(Debug, Clone, PartialEq)]
pub enum SpaceEvent {
    /// An entry about a shared memory is kept.
    Entry(SpaceEntry),
    /// An entry about a space itself is kept.
    Control(SpaceEntry),
    /// Entries of an author's epoch are kept from here on.
    ChainBegun(ChainBegun),
    /// An author has said two things at once.
    ForkProven(ForkProven),
    /// Somebody has received entries.
    Received(SpaceReceived),
    /// Other memories are to be in a space of this brain's.
    SelectionChanged(SelectionChanged),
    /// This device says what it says in another epoch from here on.
    EpochBegun(EpochBegun),
    /// This device wants to go on in another epoch.
    EpochWanted(EpochWanted),
}

/// `space.entry` and `space.control`: the payload. The signed header is in the metadata.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceEntry {
    /// The payload. None where it was erased before it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The payload as only readers of the space can open it, where this brain keeps it for others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sealed: Option<String>,
}

/// `space.chain_begun`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainBegun {
    /// The certificate of the author's device and epoch.
    pub certificate: String,
}

/// `space.fork_proven`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ForkProven {
    /// A header with its signature.
    pub known: String,
    /// Another one of the same chain and number.
    pub other: String,
}

/// `space.received`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpaceReceived {
    /// The brain that has received them: 64 hexadecimal digits.
    pub by: String,
    /// Its signed receipt.
    pub receipt: String,
}

/// `space.selection_changed`
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelectionChanged {
    /// All memories with this tag are in it, as long as they have it; none for none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<String>,
    /// Memories that are in it besides.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub memories: Vec<MemoryId>,
}

/// `space.epoch_begun`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochBegun {
    /// The brain's certificate for it.
    pub certificate: String,
}

/// A fact about other brains.
#[derive(Debug, Clone, PartialEq)]
pub enum PeerEvent {
    /// This is what is known of one from here on.
    Known(PeerKnown),
    /// Somebody was invited.
    Invited(PeerInvited),
    /// An invitation was used, or called back.
    InvitationEnded(InvitationEnded),
    /// A brain has said which devices write for it.
    DevicesListed(DevicesListed),
}

/// `peer.known`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerKnown {
    /// What its owner calls it.
    pub name: String,
    /// Its devices by their keys, 64 hexadecimal digits each, with where each was last found.
    pub devices: BTreeMap<String, Vec<String>>,
    /// Whether this brain will have nothing to do with it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub blocked: bool,
}

/// `peer.invited`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PeerInvited {
    /// The hash of the invitation's secret: 64 hexadecimal digits.
    pub secret: String,
    /// Until when it can be taken up, in milliseconds since 1970.
    pub expires_at: u64,
    /// Whether whoever takes it up becomes a device of this brain, and no peer.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub device: bool,
}

/// `peer.invitation_ended`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InvitationEnded {
    /// The hash of the invitation's secret.
    pub secret: String,
}

/// `peer.devices_listed`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicesListed {
    /// The list, signed with the brain's key.
    pub roster: String,
    /// A certificate that this brain has made for one of its devices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The brain's keys, one after the other, the last of which has signed the list; none where that is its first and no other is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succession: Option<String>,
}

/// `space.epoch_wanted`
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EpochWanted {
    /// The epoch that this device wants to go on in: 32 hexadecimal digits. Until it has a certificate for it, it says nothing.
    pub epoch: String,
}

/// Any event.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// About a memory.
    Memory(MemoryEvent),
    /// About a principal.
    Principal(PrincipalEvent),
    /// About what is shared.
    Space(SpaceEvent),
    /// About another brain.
    Peer(PeerEvent),
}

/// What every event says about its making, as the envelope's metadata holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Who made it.
    pub principal: PrincipalId,
    /// The level it was written at.
    pub truth: Truth,
    /// Where it came from.
    pub origin: Origin,
    /// When, by the hybrid clock.
    pub hlc: Hlc,
    /// The command: all events of one command share it.
    pub correlation_id: Uuid,
    /// What made the command happen, where that is known: another event or command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub causation_id: Option<Uuid>,
    /// A digest of the request, where the caller gave an idempotency key: repeats are told from misuse by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The place in a trace where it was made, as W3C's `traceparent`: whatever it sets off joins the trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// What it counts for when it came from a peer.
    #[serde(default, skip_serializing_if = "Standing::is_full")]
    pub standing: Standing,
    /// The memory that an entry of a shared space is about: what it says is sealed with that memory's key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryId>,
    /// The signed header of such an entry with its signature, in base 64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
}

impl Metadata {
    /// The part that the rules of truth work on.
    pub fn authorship(&self) -> Authorship {
        Authorship {
            principal: self.principal,
            truth: self.truth,
            origin: self.origin.clone(),
            hlc: self.hlc,
            command: self.correlation_id,
            standing: self.standing,
        }
    }
}

/// Turns the data of one version of an event into that of the next.
pub struct Upcaster {
    /// The event's name.
    pub event_type: &'static str,
    /// The version it reads; it writes the next one.
    pub from: u16,
    /// What it does.
    pub upcast: fn(Json) -> Json,
}

/// Every upcaster, oldest versions first. Empty while every event is at its first version.
const UPCASTERS: &[Upcaster] = &[];

/// Data that cannot be read as the event it claims to be.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// No such event is known: it was written by a newer version, or by another program.
    #[error("event type `{event_type}` is unknown; a newer version of Cairn may have written it")]
    UnknownType {
        /// The name.
        event_type: String,
    },
    /// The event is known, but not in this version.
    #[error("`{event_type}` version {version} is newer than version {known}, the newest this program reads")]
    UnknownVersion {
        /// The name.
        event_type: String,
        /// The version it has.
        version: u16,
        /// The newest known.
        known: u16,
    },
    /// The data does not have the shape of its version.
    #[error("`{event_type}` version {version} is malformed")]
    Malformed {
        /// The name.
        event_type: String,
        /// The version.
        version: u16,
        /// What is wrong.
        source: serde_json::Error,
    },
}

macro_rules! wire_table {
    ($($name:literal $version:literal => $family:ident $events:ident::$variant:ident),+ $(,)?) => {
        /// Every event type with the version that is written now.
        pub const WIRE: &[(&str, u16)] = &[$(($name, $version)),+];

        impl Event {
            /// Its name on the wire.
            pub const fn event_type(&self) -> &'static str {
                match self { $(Self::$family($events::$variant(_)) => $name),+ }
            }

            /// The version of the shape that is written now.
            pub const fn schema_version(&self) -> u16 {
                match self { $(Self::$family($events::$variant(_)) => $version),+ }
            }

            /// Its data as JSON.
            pub fn data(&self) -> Vec<u8> {
                match self {
                    $(Self::$family($events::$variant(data)) => serde_json::to_vec(data)),+
                }
                .expect("events hold nothing that JSON cannot")
            }

            fn decode_current(event_type: &str, data: Data<'_>) -> Result<Self, serde_json::Error> {
                match event_type {
                    $($name => data.read().map(|data| Self::$family($events::$variant(data))),)+
                    _ => unreachable!("the caller looked the type up in the wire table"),
                }
            }
        }
    };
}

wire_table! {
    "memory.created" 1 => Memory MemoryEvent::Created,
    "memory.field_claimed" 1 => Memory MemoryEvent::FieldClaimed,
    "memory.claim_retracted" 1 => Memory MemoryEvent::ClaimRetracted,
    "memory.body_edited" 1 => Memory MemoryEvent::BodyEdited,
    "memory.suggestion_rejected" 1 => Memory MemoryEvent::SuggestionRejected,
    "memory.command_undone" 1 => Memory MemoryEvent::CommandUndone,
    "memory.file_imported" 1 => Memory MemoryEvent::FileImported,
    "memory.erased" 1 => Memory MemoryEvent::Erased,
    "memory.shared" 1 => Memory MemoryEvent::Shared,
    "memory.standing_changed" 1 => Memory MemoryEvent::StandingChanged,
    "principal.registered" 1 => Principal PrincipalEvent::Registered,
    "principal.revoked" 1 => Principal PrincipalEvent::Revoked,
    "space.entry" 1 => Space SpaceEvent::Entry,
    "space.control" 1 => Space SpaceEvent::Control,
    "space.chain_begun" 1 => Space SpaceEvent::ChainBegun,
    "space.fork_proven" 1 => Space SpaceEvent::ForkProven,
    "space.received" 1 => Space SpaceEvent::Received,
    "space.selection_changed" 1 => Space SpaceEvent::SelectionChanged,
    "space.epoch_wanted" 1 => Space SpaceEvent::EpochWanted,
    "space.epoch_begun" 1 => Space SpaceEvent::EpochBegun,
    "peer.known" 1 => Peer PeerEvent::Known,
    "peer.invited" 1 => Peer PeerEvent::Invited,
    "peer.devices_listed" 1 => Peer PeerEvent::DevicesListed,
    "peer.invitation_ended" 1 => Peer PeerEvent::InvitationEnded,
}

enum Data<'a> {
    Bytes(&'a [u8]),
    Upcast(Json),
}

impl Data<'_> {
    fn read<T: serde::de::DeserializeOwned>(self) -> Result<T, serde_json::Error> {
        match self {
            Self::Bytes(bytes) => serde_json::from_slice(bytes),
            Self::Upcast(json) => serde_json::from_value(json),
        }
    }
}

/// Checks that events of a type and version can be read by this program, for one who has no use for what they say.
///
/// # Errors
/// [`DecodeError::UnknownType`] or [`DecodeError::UnknownVersion`].
pub fn check_known(event_type: &str, version: u16) -> Result<(), DecodeError> {
    known(WIRE, event_type, version).map(|_| ())
}

impl Event {
    /// Reads an event of any version ever written.
    ///
    /// # Errors
    /// See [`DecodeError`]. A reader stops at an error; it never skips the event.
    pub fn decode(event_type: &str, version: u16, data: &[u8]) -> Result<Self, DecodeError> {
        decode_with(UPCASTERS, WIRE, event_type, version, data)
    }
}

/// The version of a type that is written now, if the one given can be read.
fn known(wire: &[(&str, u16)], event_type: &str, version: u16) -> Result<u16, DecodeError> {
    let Some(&(_, current)) = wire.iter().find(|(name, _)| *name == event_type) else {
        return Err(DecodeError::UnknownType { event_type: event_type.chars().take(80).collect() });
    };
    match version {
        1.. if version <= current => Ok(current),
        _ => Err(DecodeError::UnknownVersion { event_type: event_type.to_owned(), version, known: current }),
    }
}

fn decode_with(
    upcasters: &[Upcaster],
    wire: &[(&str, u16)],
    event_type: &str,
    version: u16,
    data: &[u8],
) -> Result<Event, DecodeError> {
    let current = known(wire, event_type, version)?;
    let malformed = |source| DecodeError::Malformed { event_type: event_type.to_owned(), version, source };
    if version == current {
        return Event::decode_current(event_type, Data::Bytes(data)).map_err(malformed);
    }
    let json: Json = serde_json::from_slice(data).map_err(malformed)?;
    let upcast = (version..current).fold(json, |json, from| {
        upcasters
            .iter()
            .find(|upcaster| upcaster.event_type == event_type && upcaster.from == from)
            .map_or(json.clone(), |upcaster| (upcaster.upcast)(json))
    });
    Event::decode_current(event_type, Data::Upcast(upcast)).map_err(malformed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_version_is_read_as_the_new_one() {
        let upcasters = [Upcaster {
            event_type: "memory.created",
            from: 1,
            upcast: |old| serde_json::json!({ "kind": old["type"] }),
        }];
        let event = decode_with(&upcasters, &[("memory.created", 2)], "memory.created", 1, br#"{"type":"task"}"#);
        assert_eq!(event.expect("upcast"), Event::Memory(MemoryEvent::Created(Created { kind: Kind::Task })));
    }

    #[test]
    fn what_is_not_known_is_an_error_and_never_skipped() {
        let unknown = Event::decode("memory.teleported", 1, b"{}");
        assert!(matches!(unknown, Err(DecodeError::UnknownType { .. })));
        let newer = Event::decode("memory.created", 2, br#"{"kind":"task"}"#);
        assert!(matches!(newer, Err(DecodeError::UnknownVersion { known: 1, .. })));
        let malformed = Event::decode("memory.created", 1, br#"{"kind":"task","extra":1}"#);
        assert!(matches!(malformed, Err(DecodeError::Malformed { .. })));
    }
}
