//! The wire table: every event ever written reads back, for ever.
//!
//! `golden/<event type>.v<version>.json` holds real data of that version, case by case. A file is never changed once
//! its version has been released; a new shape gets a new version, an upcaster and a new file.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use cairn_domain::body::{BodyChange, Effect, Splice};
use cairn_domain::claim::Standing;
use cairn_domain::clock::Hlc;
use cairn_domain::event::{
    ChainBegun, ClaimRetracted, CommandUndone, Created, DevicesListed, EpochBegun, EpochWanted, Erased, Event,
    FieldClaimed, FileImported, ForkProven, InvitationEnded, MemoryEvent, Metadata, PeerEvent, PeerInvited,
    PeerKnown, PrincipalEvent, PrincipalRegistered, PrincipalRevoked, SelectionChanged, Shared, SpaceEntry,
    SpaceEvent, SpaceReceived, StandingChanged, SuggestionRejected, WIRE,
};
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use proptest::prelude::*;
use serde_json::Value as Json;
use uuid::Uuid;

/// Cases of one golden file: what each is called, and the data.
type Cases = BTreeMap<String, Json>;

fn here(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(path)
}

fn id(text: &str) -> EventId {
    text.parse().expect("a UUID")
}

fn splice(at: usize, delete: usize, insert: &str) -> Splice {
    Splice { at, delete, insert: insert.into() }
}

const FIRST: &str = "019a0b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f";
const SECOND: &str = "019a0b5e-7c1b-7000-8000-000000000001";
const COMMAND: &str = "019a0b5e-7c00-7000-8000-0000000000c0";
const SPACE: &str = "5f1d7a84db00d2fce00b31a7fc73224c2ff8b20ee5d2f2ef39a5c1bc3b1b7f0a";

/// What each case means today: file, case, event.
fn meanings() -> Vec<(&'static str, &'static str, Event)> {
    [memory_meanings(), body_meanings(), other_meanings(), sharing_meanings()].concat()
}

fn memory_meanings() -> Vec<(&'static str, &'static str, Event)> {
    let created = |kind| Event::Memory(MemoryEvent::Created(Created { kind }));
    let claimed = |field: &str, value: Value| FieldClaimed {
        field: field.parse().expect("a field name"),
        value,
        supersedes: vec![],
        accepts: None,
    };
    let event = |claimed| Event::Memory(MemoryEvent::FieldClaimed(claimed));
    let link = format!("link/attendee/{FIRST}");
    let words = Value::List(vec!["Ada".into(), Value::Integer(2), Value::Empty]);
    let replacing = FieldClaimed { supersedes: vec![id(FIRST), id(SECOND)], ..claimed("title", "Heron".into()) };
    let accepting = FieldClaimed { accepts: Some(id(SECOND)), ..replacing.clone() };
    let claims = "memory.field_claimed.v1";
    vec![
        ("memory.created.v1", "note", created(Kind::Note)),
        ("memory.created.v1", "daily", created(Kind::Daily)),
        (claims, "text", event(claimed("title", "Heron 🪨".into()))),
        (claims, "cleared", event(claimed("due_date", Value::Empty))),
        (claims, "tag", event(claimed("tag/work/cairn", Value::Flag(true)))),
        (claims, "link", event(claimed(&link, Value::Flag(true)))),
        (claims, "integer", event(claimed("age", Value::Integer(-7)))),
        (claims, "decimal", event(claimed("latitude", Value::Decimal(52.520_008)))),
        (claims, "list", event(claimed("attendees", words))),
        (claims, "replacing", event(replacing)),
        (claims, "accepting", event(accepting)),
        (
            "memory.claim_retracted.v1",
            "title",
            Event::Memory(MemoryEvent::ClaimRetracted(ClaimRetracted {
                field: FieldName::title(),
                claim: id(FIRST),
            })),
        ),
        (
            "memory.suggestion_rejected.v1",
            "title",
            Event::Memory(MemoryEvent::SuggestionRejected(SuggestionRejected {
                field: FieldName::title(),
                suggestion: id(FIRST),
            })),
        ),
        (
            "memory.suggestion_rejected.v1",
            "body",
            Event::Memory(MemoryEvent::SuggestionRejected(SuggestionRejected {
                field: FieldName::body(),
                suggestion: id(SECOND),
            })),
        ),
    ]
}

fn body_meanings() -> Vec<(&'static str, &'static str, Event)> {
    let event = |change| Event::Memory(MemoryEvent::BodyEdited(change));
    let edit = |parents, splices| BodyChange { parents, splices, accepts: None, effect: None };
    let effect = |splices| Some(Effect { onto: vec![id(SECOND)], splices });
    let stale =
        BodyChange { effect: effect(vec![splice(9, 0, "!")]), ..edit(vec![id(FIRST)], vec![splice(4, 0, "!")]) };
    let accepted = BodyChange {
        accepts: Some(id(FIRST)),
        effect: effect(vec![splice(0, 3, "A")]),
        ..edit(vec![id(SECOND), id(FIRST)], vec![])
    };
    let file = "memory.body_edited.v1";
    vec![
        (file, "first", event(edit(vec![], vec![splice(0, 0, "# Heron\n\nécho 🪨\n")]))),
        (file, "next", event(edit(vec![id(FIRST)], vec![splice(2, 5, "Grey heron"), splice(0, 2, "")]))),
        (file, "stale", event(stale)),
        (file, "accepting", event(accepted)),
    ]
}

fn other_meanings() -> Vec<(&'static str, &'static str, Event)> {
    let plain = FileImported {
        vault: id(FIRST).uuid(),
        path: "People/Ada.md".into(),
        digest: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262".into(),
        part: String::new(),
        unresolved: vec![],
        vanished: false,
    };
    let full = FileImported {
        part: "task-3".into(),
        unresolved: vec!["Nobody".into(), "Niemand".into()],
        vanished: true,
        ..plain.clone()
    };
    let undone = CommandUndone { command: COMMAND.parse().expect("a UUID") };
    let registered = PrincipalRegistered {
        name: "claude".into(),
        ceiling: Truth::CloudAi,
        origin: "ai-cloud:anthropic/claude".parse().expect("an origin"),
    };
    let shared =
        |space: Option<&str>| Event::Memory(MemoryEvent::Shared(Shared { space: space.map(str::to_owned) }));
    let held = StandingChanged { events: vec![id(FIRST), id(SECOND)], standing: Standing::Held };
    vec![
        ("memory.shared.v1", "in a space", shared(Some(SPACE))),
        ("memory.shared.v1", "in none", shared(None)),
        ("memory.standing_changed.v1", "held", Event::Memory(MemoryEvent::StandingChanged(held))),
        ("memory.command_undone.v1", "undone", Event::Memory(MemoryEvent::CommandUndone(undone))),
        ("memory.file_imported.v1", "plain", Event::Memory(MemoryEvent::FileImported(plain))),
        ("memory.file_imported.v1", "full", Event::Memory(MemoryEvent::FileImported(full))),
        ("memory.erased.v1", "erased", Event::Memory(MemoryEvent::Erased(Erased {}))),
        ("principal.registered.v1", "agent", Event::Principal(PrincipalEvent::Registered(registered))),
        ("principal.revoked.v1", "revoked", Event::Principal(PrincipalEvent::Revoked(PrincipalRevoked {}))),
    ]
}

/// What is shared, and with whom.
fn sharing_meanings() -> Vec<(&'static str, &'static str, Event)> {
    let bytes = || "Y2Fpcm4=".to_owned();
    let space = |event: SpaceEvent| Event::Space(event);
    let payload = SpaceEntry { payload: Some(bytes()), sealed: None };
    let known = PeerKnown {
        name: "Anna".into(),
        devices: BTreeMap::from([(SPACE.into(), vec!["/ip4/192.0.2.7/udp/7402/quic-v1".into()])]),
        blocked: false,
    };
    let listed = DevicesListed { roster: bytes(), certificate: None, succession: None };
    let invited = PeerInvited { secret: SPACE.into(), expires_at: 1_790_000_000_000, device: false };
    let blocked = PeerKnown { blocked: true, devices: BTreeMap::new(), ..known.clone() };
    let selection =
        SelectionChanged { tag: Some("garden".into()), memories: vec![MemoryId::new(id(FIRST).uuid())] };
    vec![
        ("space.entry.v1", "with a payload", space(SpaceEvent::Entry(payload.clone()))),
        (
            "space.entry.v1",
            "sealed",
            space(SpaceEvent::Entry(SpaceEntry { payload: None, sealed: Some(bytes()) })),
        ),
        ("space.entry.v1", "without", space(SpaceEvent::Entry(SpaceEntry { payload: None, sealed: None }))),
        ("space.control.v1", "control", space(SpaceEvent::Control(payload))),
        ("space.chain_begun.v1", "begun", space(SpaceEvent::ChainBegun(ChainBegun { certificate: bytes() }))),
        (
            "space.fork_proven.v1",
            "proven",
            space(SpaceEvent::ForkProven(ForkProven { known: bytes(), other: bytes() })),
        ),
        (
            "space.received.v1",
            "received",
            space(SpaceEvent::Received(SpaceReceived { by: SPACE.into(), receipt: bytes() })),
        ),
        ("space.selection_changed.v1", "some", space(SpaceEvent::SelectionChanged(selection))),
        ("space.selection_changed.v1", "none", space(SpaceEvent::SelectionChanged(SelectionChanged::default()))),
        ("space.epoch_begun.v1", "begun", space(SpaceEvent::EpochBegun(EpochBegun { certificate: bytes() }))),
        ("peer.known.v1", "known", Event::Peer(PeerEvent::Known(known))),
        ("peer.known.v1", "blocked", Event::Peer(PeerEvent::Known(blocked))),
        ("peer.invited.v1", "invited", Event::Peer(PeerEvent::Invited(invited.clone()))),
        ("peer.invited.v1", "device", Event::Peer(PeerEvent::Invited(PeerInvited { device: true, ..invited }))),
        ("peer.devices_listed.v1", "listed", Event::Peer(PeerEvent::DevicesListed(listed.clone()))),
        (
            "peer.devices_listed.v1",
            "certified",
            Event::Peer(PeerEvent::DevicesListed(DevicesListed { certificate: Some(bytes()), ..listed.clone() })),
        ),
        (
            "peer.devices_listed.v1",
            "succeeded",
            Event::Peer(PeerEvent::DevicesListed(DevicesListed { succession: Some(bytes()), ..listed })),
        ),
        (
            "space.epoch_wanted.v1",
            "wanted",
            space(SpaceEvent::EpochWanted(EpochWanted { epoch: "03".repeat(16) })),
        ),
        (
            "peer.invitation_ended.v1",
            "ended",
            Event::Peer(PeerEvent::InvitationEnded(InvitationEnded { secret: SPACE.into() })),
        ),
    ]
}

fn golden(file: &str) -> Cases {
    let path = here("golden").join(format!("{file}.json"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

#[test]
fn every_golden_case_means_what_it_meant() {
    let mut read = 0;
    for (file, case, meaning) in meanings() {
        let (event_type, version) = file.rsplit_once(".v").expect("type and version");
        let version: u16 = version.parse().expect("a number");
        let cases = golden(file);
        let data = cases.get(case).unwrap_or_else(|| panic!("{file} has no case `{case}`"));
        let bytes = serde_json::to_vec(data).expect("it is JSON");
        let event = Event::decode(event_type, version, &bytes).unwrap_or_else(|e| panic!("{file}, {case}: {e:?}"));
        assert_eq!(event, meaning, "{file}, {case}");
        assert_eq!(event.event_type(), event_type);
        if version == event.schema_version() {
            let again: Json = serde_json::from_slice(&event.data()).expect("it is JSON");
            assert_eq!(&again, data, "{file}, {case}: written again");
        }
        read += 1;
    }
    let held: usize = golden_files().iter().map(|file| golden(file).len()).sum();
    assert_eq!(read, held, "a case in the files has no meaning in this test");
}

#[test]
fn every_version_of_every_event_has_a_golden_file() {
    let held = golden_files();
    for (event_type, current) in WIRE {
        for version in 1..=*current {
            let file = format!("{event_type}.v{version}");
            assert!(held.contains(&file), "tests/golden/{file}.json is missing");
            assert!(!golden(&file).is_empty(), "tests/golden/{file}.json is empty");
        }
    }
    assert_eq!(held.len(), WIRE.iter().map(|(_, version)| usize::from(*version)).sum::<usize>(), "{held:?}");
}

fn golden_files() -> Vec<String> {
    let entries = fs::read_dir(here("golden")).expect("the folder is there");
    let name =
        |entry: std::io::Result<fs::DirEntry>| entry.expect("readable").file_name().into_string().expect("UTF-8");
    entries.map(|entry| name(entry).trim_end_matches(".json").to_owned()).collect()
}

fn event_id() -> impl Strategy<Value = EventId> {
    any::<u128>().prop_map(|id| EventId::new(Uuid::from_u128(id)))
}

fn event_ids() -> impl Strategy<Value = Vec<EventId>> {
    prop::collection::vec(event_id(), 0..4)
}

fn field_name() -> impl Strategy<Value = FieldName> {
    let free = "[a-zé🪨_][a-zA-Z0-9é🪨 _.-]{0,20}[a-z]";
    let link = ("[a-z]{1,8}", any::<u128>())
        .prop_map(|(relation, id)| format!("link/{relation}/{}", Uuid::from_u128(id)));
    prop_oneof![free, "tag/[A-Zéa-zß/Σΐİ-]{1,20}[a-z]", link].prop_map(|name| name.parse().expect("sound"))
}

fn value() -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![
        Just(Value::Empty),
        any::<bool>().prop_map(Value::Flag),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Decimal),
        ".{0,40}".prop_map(Value::Text),
    ];
    prop_oneof![scalar.clone(), prop::collection::vec(scalar, 0..6).prop_map(Value::List)]
}

fn splices() -> impl Strategy<Value = Vec<Splice>> {
    let splice = (any::<u32>(), any::<u32>(), ".{0,20}");
    let splice =
        splice.prop_map(|(at, delete, insert)| Splice { at: at as usize, delete: delete as usize, insert });
    prop::collection::vec(splice, 0..4)
}

fn standing() -> impl Strategy<Value = Standing> {
    prop::sample::select(vec![Standing::Full, Standing::Suggestion, Standing::Held])
}

fn truth() -> impl Strategy<Value = Truth> {
    prop::sample::select(Truth::ALL.to_vec())
}

fn origin() -> impl Strategy<Value = Origin> {
    (truth(), ".{0,80}").prop_map(|(truth, name)| Origin::of(truth, &name))
}

fn memory_event() -> impl Strategy<Value = MemoryEvent> {
    let claimed = (field_name(), value(), event_ids(), prop::option::of(event_id())).prop_map(
        |(field, value, supersedes, accepts)| {
            MemoryEvent::FieldClaimed(FieldClaimed { field, value, supersedes, accepts })
        },
    );
    let effect = (event_ids(), splices()).prop_map(|(onto, splices)| Effect { onto, splices });
    let edited = (event_ids(), splices(), prop::option::of(event_id()), prop::option::of(effect)).prop_map(
        |(parents, splices, accepts, effect)| {
            MemoryEvent::BodyEdited(BodyChange { parents, splices, accepts, effect })
        },
    );
    let imported =
        (any::<u128>(), ".{0,20}", ".{0,9}", ".{0,9}", prop::collection::vec(".{0,9}", 0..3), any::<bool>());
    let imported = imported.prop_map(|(vault, path, digest, part, unresolved, vanished)| {
        let vault = Uuid::from_u128(vault);
        MemoryEvent::FileImported(FileImported { vault, path, digest, part, unresolved, vanished })
    });
    prop_oneof![
        prop::sample::select(Kind::ALL.to_vec()).prop_map(|kind| MemoryEvent::Created(Created { kind })),
        claimed,
        edited,
        imported,
        (field_name(), event_id())
            .prop_map(|(field, claim)| MemoryEvent::ClaimRetracted(ClaimRetracted { field, claim })),
        (field_name(), event_id()).prop_map(|(field, suggestion)| {
            MemoryEvent::SuggestionRejected(SuggestionRejected { field, suggestion })
        }),
        any::<u128>().prop_map(|id| MemoryEvent::CommandUndone(CommandUndone { command: Uuid::from_u128(id) })),
        Just(MemoryEvent::Erased(Erased {})),
        prop::option::of("[0-9a-f]{64}").prop_map(|space| MemoryEvent::Shared(Shared { space })),
        (event_ids(), standing())
            .prop_map(|(events, standing)| { MemoryEvent::StandingChanged(StandingChanged { events, standing }) }),
    ]
}

fn event() -> impl Strategy<Value = Event> {
    let registered = (".{0,20}", truth(), origin()).prop_map(|(name, ceiling, origin)| {
        Event::Principal(PrincipalEvent::Registered(PrincipalRegistered { name, ceiling, origin }))
    });
    prop_oneof![
        8 => memory_event().prop_map(Event::Memory),
        1 => registered,
        1 => Just(Event::Principal(PrincipalEvent::Revoked(PrincipalRevoked {}))),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let ids = (any::<u128>(), any::<u128>(), prop::option::of(any::<u128>()));
    (ids, (truth(), standing()), origin(), any::<u64>(), any::<u32>(), prop::option::of(".{0,20}")).prop_map(
        |((principal, command, cause), (truth, standing), origin, millis, counter, request)| Metadata {
            principal: PrincipalId::new(Uuid::from_u128(principal)),
            truth,
            origin,
            hlc: Hlc { millis, counter },
            correlation_id: Uuid::from_u128(command),
            causation_id: cause.map(Uuid::from_u128),
            request,
            traceparent: None,
            standing,
            memory: None,
            entry: None,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn every_event_reads_back_as_it_was_written(event in event()) {
        let read = Event::decode(event.event_type(), event.schema_version(), &event.data());
        prop_assert_eq!(read.expect("its own data"), event);
    }

    #[test]
    fn t8_metadata_reads_back_from_text_and_from_bytes(metadata in metadata()) {
        let text = serde_json::to_string(&metadata).expect("written");
        prop_assert_eq!(&serde_json::from_str::<Metadata>(&text).expect("read"), &metadata);
        let bytes = rmp_serde::to_vec_named(&metadata).expect("written");
        prop_assert_eq!(rmp_serde::from_slice::<Metadata>(&bytes).expect("read"), metadata);
    }

    #[test]
    fn a_field_name_has_one_spelling(name in ".{0,40}|tag/.{0,20}|link/[a-z ]{0,5}/[0-9A-F-]{32,36}") {
        if let Ok(field) = name.parse::<FieldName>() {
            prop_assert_eq!(field.as_str().parse::<FieldName>().expect("its own spelling"), field);
        }
    }

    #[test]
    fn an_origin_and_a_clock_reading_read_back(origin in origin(), millis in any::<u64>(), counter in any::<u32>()) {
        prop_assert_eq!(origin.as_str().parse::<Origin>().expect("its own spelling"), origin);
        let hlc = Hlc { millis, counter };
        prop_assert_eq!(hlc.to_string().parse::<Hlc>().expect("its own spelling"), hlc);
    }

    #[test]
    fn arbitrary_bytes_are_an_error_and_never_a_panic(
        (event_type, version) in (prop::sample::select(WIRE.iter().map(|(name, _)| *name).collect::<Vec<_>>()), 0..3_u16),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Event::decode(event_type, version, &bytes);
        let _ = Event::decode(&String::from_utf8_lossy(&bytes), version, &bytes);
    }

    #[test]
    fn damaged_events_are_an_error_or_another_event_and_never_a_panic(
        event in event(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut data = event.data();
        for (at, byte) in damage {
            let at = at.index(data.len());
            data[at] = byte;
        }
        if let Ok(other) = Event::decode(event.event_type(), event.schema_version(), &data) {
            let again = Event::decode(other.event_type(), other.schema_version(), &other.data());
            prop_assert_eq!(again.expect("its own data"), other);
        }
    }
}

/// Each file of the corpus is tried as every event: what once broke a decoder, and what might.
#[test]
fn the_corpus_never_panics() {
    let files = fs::read_dir(here("corpus/event")).expect("the folder is there");
    let mut tried = 0;
    for file in files {
        let data = fs::read(file.expect("readable").path()).expect("readable");
        for (event_type, version) in WIRE {
            if let Ok(event) = Event::decode(event_type, *version, &data) {
                let again = Event::decode(event_type, *version, &event.data());
                assert_eq!(again.expect("its own data"), event);
            }
        }
        tried += 1;
    }
    assert!(tried >= 10, "the corpus holds {tried} files");
}
