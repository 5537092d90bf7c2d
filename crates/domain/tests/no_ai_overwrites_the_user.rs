//! The promise Cairn makes: whatever anybody writes, nothing of the user's is changed by less truth, and nothing is lost.
//!
//! A million random commands (`TEST_CAIRN_OPS`) by principals of all five levels, from a seed (`TEST_CAIRN_SEED`) that is printed.
//! After each one the rules are checked on what it touched; at the end of each memory its log is folded afresh.

#[path = "support/scenario.rs"]
mod scenario;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display};

use cairn_domain::body::{Base, Splice};
use cairn_domain::event::MemoryEvent;
use cairn_domain::field::FieldName;
use cairn_domain::id::EventId;
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::memory::command::{BodyText, Command, Decided, Decision, Outcome, Rejection};
use cairn_domain::memory::import::IMPORT_ORIGIN;
use cairn_domain::principal::Origin;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use scenario::{Actor, Ids, World, imported, name};

const DEFAULT_OPS: u64 = 1_000_000;
const OPS_A_MEMORY: u64 = 160;
/// Bodies are kept short, because merging is not what is tried here.
const LONGEST_BODY: usize = 120;

const FIELDS: &[&str] = &[
    "title",
    "status",
    "due_date",
    "mood",
    "archived",
    "kind",
    "tag/a",
    "tag/b",
    "link/x/00000000-0000-0000-0000-000000000001",
];
const WORDS: &[&str] = &["stone", "river", "écho", "🪨", "pine", "a", "of", "moss"];

#[test]
fn no_ai_overwrites_the_user() {
    let setting = |key: &str| std::env::var(key).ok().map(|text| text.parse::<u64>().expect("a number"));
    let seed = setting("TEST_CAIRN_SEED").unwrap_or_else(rand::random);
    let ops = setting("TEST_CAIRN_OPS").unwrap_or(DEFAULT_OPS);
    let memories = ops.div_ceil(OPS_A_MEMORY);
    println!("TEST_CAIRN_SEED={seed} TEST_CAIRN_OPS={ops} over {memories} memories");
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get() as u64).min(8);
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let run = |first: u64| {
            move || {
                let mut tally = Tally::default();
                for memory in (first..memories).step_by(threads as usize) {
                    live(seed, memory, &mut tally);
                }
                tally
            }
        };
        let running: Vec<_> = (0..threads).map(|first| scope.spawn(run(first))).collect();
        running.into_iter().map(|thread| thread.join().expect("a rule was broken; see above")).collect()
    });
    let total = tallies.into_iter().fold(Tally::default(), Tally::and);
    println!("{total:?}");
    if ops >= 100_000 {
        // Were one of these rare, the property would say little.
        let Tally { applied, suggested, remembered, accepted, rejected, undone, retracted, merged, .. } = total;
        for (what, count) in [
            ("applied", applied),
            ("suggested", suggested),
            ("remembered", remembered),
            ("accepted", accepted),
            ("rejected", rejected),
            ("undone", undone),
            ("retracted", retracted),
            ("merged", merged),
        ] {
            assert!(count > ops / 2_000, "only {count} were {what}");
        }
    }
}

/// What happened, to see that every path was taken.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    applied: u64,
    suggested: u64,
    unchanged: u64,
    remembered: u64,
    accepted: u64,
    rejected: u64,
    undone: u64,
    retracted: u64,
    merged: u64,
    refused: u64,
}

impl Tally {
    fn and(self, other: Self) -> Self {
        Self {
            applied: self.applied + other.applied,
            suggested: self.suggested + other.suggested,
            unchanged: self.unchanged + other.unchanged,
            remembered: self.remembered + other.remembered,
            accepted: self.accepted + other.accepted,
            rejected: self.rejected + other.rejected,
            undone: self.undone + other.undone,
            retracted: self.retracted + other.retracted,
            merged: self.merged + other.merged,
            refused: self.refused + other.refused,
        }
    }

    fn note(&mut self, result: &Result<Decision, Rejection>) {
        let Ok(decision) = result else {
            self.refused += 1;
            return;
        };
        match decision.outcome() {
            Outcome::Applied => self.applied += 1,
            Outcome::Suggested => self.suggested += 1,
            Outcome::Unchanged => self.unchanged += 1,
            Outcome::RejectedBefore => self.remembered += 1,
        }
        for decided in &decision.events {
            match &decided.event {
                MemoryEvent::FieldClaimed(claimed) => self.accepted += u64::from(claimed.accepts.is_some()),
                MemoryEvent::BodyEdited(change) => {
                    self.accepted += u64::from(change.accepts.is_some());
                    self.merged += u64::from(change.effect.is_some());
                }
                MemoryEvent::ClaimRetracted(_) => self.retracted += 1,
                MemoryEvent::SuggestionRejected(_) => self.rejected += 1,
                MemoryEvent::CommandUndone(_) => self.undone += 1,
                _ => {}
            }
        }
    }
}

/// One memory's life.
fn live(seed: u64, number: u64, tally: &mut Tally) {
    let mut rng = StdRng::seed_from_u64(seed ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut world = World::empty();
    world.ids = if rng.random_bool(0.5) { Ids::Ascending } else { Ids::Scattered };
    let mut written = Written::default();
    for op in 0..OPS_A_MEMORY {
        let (ceiling, mut actor) = any_actor(&mut rng);
        let command = any_command(&mut rng, &world, &actor);
        if matches!(command, Command::ImportFile(_) | Command::PruneFile) {
            actor.origin = Origin::of(actor.truth, IMPORT_ORIGIN);
        }
        let told = Told { seed, number, op, command: &command, actor: &actor };
        let before = Before::of(&world.memory);
        let result = world.act(&actor, command.clone());
        let told: &dyn Display = &told;
        tally.note(&result);
        match result {
            Ok(decision) => {
                check_ceiling(&decision, ceiling, told);
                check_authority(&before, &world.memory, &command, &decision, told);
                check_nothing_vanishes(&before, &world.memory, &decision, told);
                check_user_stands(&before, &world.memory, &decision, told);
                written.note(&decision);
            }
            Err(Rejection::Corrupt(damage)) => panic!("{told}: {damage}"),
            Err(_) => {}
        }
        if world.memory.is_erased() {
            finish(&world, &written, told);
            world = World { ids: world.ids, ..World::empty() };
            written = Written::default();
        }
    }
    finish(&world, &written, &format_args!("TEST_CAIRN_SEED={seed}, memory {number}"));
}

/// Where a rule was broken; spelled out only then.
struct Told<'a> {
    seed: u64,
    number: u64,
    op: u64,
    command: &'a Command,
    actor: &'a Actor,
}

impl Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, number, op, command, actor } = self;
        write!(f, "TEST_CAIRN_SEED={seed}, memory {number}, op {op}: {command:?} by {actor:?}")
    }
}

/// The checks over a whole life.
fn finish(world: &World, written: &Written, told: &dyn Display) {
    if !world.memory.is_erased() {
        written.check(&world.memory, told);
    }
    assert_eq!(world.refolded(), world.memory, "{told}: folded afresh");
    assert_eq!(world.merged_afresh(), world.memory, "{told}: merged afresh");
    let thawed = Memory::decode_snapshot(&world.memory.encode_snapshot()).expect("its own snapshot");
    assert_eq!(thawed, world.memory, "{told}: from its snapshot");
}

/// Everything that was ever written.
#[derive(Default)]
struct Written {
    claims: BTreeMap<EventId, (FieldName, Value)>,
    edits: BTreeMap<EventId, Vec<Splice>>,
}

impl Written {
    fn note(&mut self, decision: &Decision) {
        for Decided { id, event, .. } in &decision.events {
            match event {
                MemoryEvent::FieldClaimed(claimed) => {
                    self.claims.insert(*id, (claimed.field.clone(), claimed.value.clone()));
                }
                MemoryEvent::BodyEdited(change) => {
                    self.edits.insert(*id, change.splices.clone());
                }
                _ => {}
            }
        }
    }

    /// (b) Whatever was written can still be found.
    fn check(&self, memory: &Memory, told: &dyn Display) {
        for (id, (field, value)) in &self.claims {
            let claim = memory.field(field).and_then(|claims| claims.get(*id));
            assert_eq!(claim.map(|claim| &claim.value), Some(value), "{told}: {id} was lost");
        }
        for (id, splices) in &self.edits {
            assert_eq!(memory.body().edit(*id).map(|edit| &edit.splices), Some(splices), "{told}: {id} was lost");
        }
    }
}

/// What a memory looked like before a command.
struct Before {
    fields: BTreeMap<FieldName, FieldBefore>,
    text: String,
    body_truth: Option<Truth>,
    waiting: BTreeSet<EventId>,
}

struct FieldBefore {
    winner: Option<(EventId, Truth, Value)>,
    heads: Vec<(EventId, Truth, Actor, Value)>,
}

impl Before {
    fn of(memory: &Memory) -> Self {
        let field = |(name, claims): (&FieldName, &cairn_domain::claim::FieldClaims)| {
            let winner = claims.effective().map(|claim| (claim.id, claim.author.truth, claim.value.clone()));
            let head = |claim: &&cairn_domain::claim::Claim| {
                let author = &claim.author;
                let actor =
                    Actor { principal: author.principal, truth: author.truth, origin: author.origin.clone() };
                (claim.id, author.truth, actor, claim.value.clone())
            };
            (name.clone(), FieldBefore { winner, heads: claims.heads().iter().map(head).collect() })
        };
        Self {
            fields: memory.fields().iter().map(field).collect(),
            text: memory.body().text().to_owned(),
            body_truth: memory.body().truth(),
            waiting: memory.body().suggestions().map(|edit| edit.id).collect(),
        }
    }
}

/// (c) Nobody writes above their ceiling.
fn check_ceiling(decision: &Decision, ceiling: Truth, told: &dyn Display) {
    for decided in &decision.events {
        assert!(decided.author.truth >= ceiling, "{told}: {decided:?} is above {ceiling}");
    }
}

/// T6: only the user accepts, rejects and erases.
fn check_authority(before: &Before, after: &Memory, command: &Command, decision: &Decision, told: &dyn Display) {
    for Decided { author, event, .. } in &decision.events {
        let decides = match event {
            MemoryEvent::Erased(_) | MemoryEvent::SuggestionRejected(_) => true,
            MemoryEvent::FieldClaimed(claimed) => claimed.accepts.is_some(),
            MemoryEvent::BodyEdited(change) => change.accepts.is_some(),
            _ => false,
        };
        assert!(!decides || author.truth == Truth::User, "{told}: {event:?} by {}", author.truth);
    }
    // A rejected edit is in nobody's way any more, and says so.
    if let Command::RejectSuggestion { suggestion } = command {
        let listed = after.body().is_suggestion(*suggestion)
            || after
                .fields()
                .values()
                .any(|claims| claims.suggestions().iter().any(|claim| claim.id == *suggestion));
        assert!(!listed, "{told}: still listed");
        assert!(!before.waiting.contains(suggestion) || after.body().is_rejected(*suggestion), "{told}");
    }
}

/// (b) What waited still waits, unless it was decided, or replaced for a reason that the rules give;
/// and what does not win waits.
fn check_nothing_vanishes(before: &Before, after: &Memory, decision: &Decision, told: &dyn Display) {
    if after.is_erased() {
        return;
    }
    let mut gone: BTreeSet<EventId> = BTreeSet::new();
    let mut revives = false;
    for Decided { id, author, event } in &decision.events {
        match event {
            MemoryEvent::FieldClaimed(claimed) => {
                let seen = before.fields.get(&claimed.field);
                let heads = seen.map(|seen| seen.heads.as_slice()).unwrap_or_default();
                let winner = seen.and_then(|seen| seen.winner.as_ref());
                for (head, truth, actor, value) in
                    heads.iter().filter(|(head, ..)| claimed.supersedes.contains(head))
                {
                    let (winning, level, shown) = winner.expect("a field with heads has a value");
                    let justified = head == winning
                        || value == shown
                        || truth == level && author.truth == *level
                        || actor.principal == author.principal
                        || claimed.accepts == Some(*head);
                    assert!(justified && !truth.outranks(author.truth), "{told}: {id} replaced {head}");
                    gone.insert(*head);
                }
                check_listed(after, &claimed.field, *id, told);
            }
            MemoryEvent::ClaimRetracted(retracted) => {
                let own = before.fields[&retracted.field].heads.iter().find(|(head, ..)| *head == retracted.claim);
                let own = own.is_some_and(|(_, truth, actor, _)| {
                    actor.principal == author.principal && !truth.outranks(author.truth)
                });
                assert!(own, "{told}: took back what is not its own");
                gone.insert(retracted.claim);
                revives = true;
            }
            MemoryEvent::SuggestionRejected(rejected) => {
                gone.insert(rejected.suggestion);
                revives = true;
            }
            MemoryEvent::CommandUndone(_) => revives = true,
            MemoryEvent::BodyEdited(change) => {
                if before.body_truth.is_some_and(|truth| truth.outranks(author.truth)) {
                    assert!(after.body().is_suggestion(*id), "{told}: {id} is not listed");
                }
                let mut open: Vec<EventId> = change.parents.clone();
                while let Some(parent) = open.pop() {
                    // An accepted edit comes in with those it was built upon.
                    if change.accepts.is_some() && before.waiting.contains(&parent) && gone.insert(parent) {
                        open.extend(
                            after.body().edit(parent).map(|edit| edit.parents.clone()).unwrap_or_default(),
                        );
                    }
                }
            }
            _ => {}
        }
    }
    for (field, seen) in &before.fields {
        let heads: BTreeSet<EventId> = after.fields()[field].heads().iter().map(|head| head.id).collect();
        for (head, ..) in &seen.heads {
            assert!(gone.contains(head) || heads.contains(head) || revives, "{told}: {field} lost {head}");
        }
    }
    let waiting: BTreeSet<EventId> = after.body().suggestions().map(|edit| edit.id).collect();
    for edit in &before.waiting {
        let taken_in = gone.contains(edit) || built_upon(after, decision, *edit);
        // Undoing the undoing of a rejection rejects again.
        let rejected = revives && after.body().is_rejected(*edit);
        assert!(taken_in || rejected || waiting.contains(edit), "{told}: the body lost {edit}");
    }
}

/// Whether somebody went on writing from a suggestion's text, which takes it in.
fn built_upon(after: &Memory, decision: &Decision, edit: EventId) -> bool {
    let writes = decision.events.iter().any(|decided| {
        matches!(&decided.event, MemoryEvent::BodyEdited(_)) && !after.body().is_suggestion(decided.id)
    });
    writes && after.body().effective_edits().any(|effective| effective.id == edit)
}

/// A claim is the value, or says the same, or waits for a decision.
fn check_listed(after: &Memory, field: &FieldName, id: EventId, told: &dyn Display) {
    let claims = after.field(field).expect("it was claimed");
    let claim = claims.get(id).expect("it was written");
    let winner = claims.effective().expect("a field with a claim has a value");
    let listed = claims.suggestions().into_iter().chain(claims.conflict()).any(|head| head.id == id);
    assert!(winner.id == id || winner.value == claim.value || listed, "{told}: {id} is not listed");
}

/// (a) What the user said changes by the user's own word alone.
fn check_user_stands(before: &Before, after: &Memory, decision: &Decision, told: &dyn Display) {
    let by_user = |about: Option<&FieldName>| {
        decision.events.iter().any(|Decided { author, event, .. }| {
            author.truth == Truth::User
                && match (event, about) {
                    (MemoryEvent::FieldClaimed(claimed), Some(field)) => claimed.field == *field,
                    (MemoryEvent::ClaimRetracted(retracted), Some(field)) => retracted.field == *field,
                    (MemoryEvent::SuggestionRejected(rejected), Some(field)) => rejected.field == *field,
                    (MemoryEvent::BodyEdited(_), None) => true,
                    (MemoryEvent::CommandUndone(_) | MemoryEvent::Erased(_), _) => true,
                    _ => false,
                }
        })
    };
    for (field, seen) in &before.fields {
        let Some((_, Truth::User, value)) = &seen.winner else { continue };
        let now = after.field(field).and_then(|claims| claims.effective());
        let stands = now.is_some_and(|claim| claim.value == *value && claim.author.truth == Truth::User);
        assert!(stands || by_user(Some(field)), "{told}: {field} was {value:?} and is {now:?}");
    }
    if before.body_truth == Some(Truth::User) {
        let stands = after.body().text() == before.text && after.body().truth() == Some(Truth::User);
        assert!(stands || by_user(None), "{told}: the text changed to {:?}", after.body().text());
    }
}

/// Somebody, and the highest truth they may write at.
fn any_actor(rng: &mut StdRng) -> (Truth, Actor) {
    let ceiling =
        *[Truth::User, Truth::User].iter().chain(&Truth::ALL).collect::<Vec<_>>().choose(rng).expect("some");
    let actor = Actor::new(*ceiling, rng.random_range(1..=2));
    // Sometimes they write at a lower truth than they may.
    if rng.random_bool(0.1) {
        let lower = *Truth::ALL.choose(rng).expect("some");
        return (*ceiling, actor.at(Truth::limited(*ceiling, Some(lower))));
    }
    (*ceiling, actor)
}

fn any_command(rng: &mut StdRng, world: &World, actor: &Actor) -> Command {
    let memory = &world.memory;
    if memory.created().is_none() {
        let claims = vec![any_claim(rng), any_claim(rng)];
        return Command::CreateMemory {
            kind: any_kind(rng),
            claims,
            body: WORDS.choose(rng).expect("some").to_string(),
        };
    }
    match rng.random_range(0..1000) {
        0..570 => {
            let claims = (0..rng.random_range(1..3)).map(|_| any_claim(rng)).collect();
            Command::ChangeMemory { claims, body: None }
        }
        570..680 => any_edit(rng, memory, Base::Effective),
        680..690 => {
            let base = memory.body().edits().choose(rng).map_or(Base::Effective, |edit| Base::After(edit.id));
            any_edit(rng, memory, base)
        }
        690..750 => Command::AcceptSuggestion {
            suggestion: any_suggestion(rng, memory),
            edited: rng.random_bool(0.1).then(|| Value::from("edited")),
        },
        750..830 => Command::RejectSuggestion { suggestion: any_suggestion(rng, memory) },
        830..890 => Command::RetractClaim { field: name(FIELDS.choose(rng).expect("some")) },
        890..950 => {
            let some = world.log.choose(rng).map(|decided| decided.author.command);
            Command::UndoCommand { command: some.filter(|_| rng.random_bool(0.5)) }
        }
        950..998 if actor.truth <= Truth::Automation => any_import(rng),
        998 => Command::PruneFile,
        999 if rng.random_bool(0.2) => Command::EraseMemory,
        _ => Command::ChangeMemory { claims: vec![any_claim(rng)], body: None },
    }
}

fn any_kind(rng: &mut StdRng) -> Kind {
    *Kind::ALL.choose(rng).expect("some")
}

/// Few values, so that equal ones meet.
fn any_claim(rng: &mut StdRng) -> (FieldName, Value) {
    let field = *FIELDS.choose(rng).expect("some");
    let value = match field {
        "archived" | "tag/a" | "tag/b" => Value::Flag(rng.random()),
        "kind" => Value::from(any_kind(rng).name()),
        "status" => Value::from(*["todo", "completed", "active"].choose(rng).expect("some")),
        "due_date" => Value::from(*["2026-11-21", "2026-11-22"].choose(rng).expect("some")),
        link if link.starts_with("link/") => Value::Flag(rng.random()),
        _ if rng.random_bool(0.1) => Value::Empty,
        _ => Value::from(*WORDS.choose(rng).expect("some")),
    };
    (name(field), value)
}

fn any_edit(rng: &mut StdRng, memory: &Memory, base: Base) -> Command {
    let text = match base {
        Base::Effective => memory.body().text().to_owned(),
        Base::After(edit) => memory.body().text_after(edit).expect("a sound history"),
    };
    let mut words: Vec<&str> = text.split(' ').collect();
    let at = rng.random_range(0..=words.len());
    if text.chars().count() > LONGEST_BODY || at < words.len() && rng.random_bool(0.3) {
        words.remove(at.min(words.len() - 1));
    } else {
        words.insert(at, WORDS.choose(rng).expect("some"));
    }
    Command::ChangeMemory { claims: vec![], body: Some(BodyText { text: words.join(" "), base }) }
}

/// Something that waits, or else something that does not.
fn any_suggestion(rng: &mut StdRng, memory: &Memory) -> EventId {
    let of_fields =
        memory.fields().values().flat_map(|claims| claims.suggestions().into_iter().chain(claims.conflict()));
    let mut waiting: Vec<EventId> = of_fields.map(|claim| claim.id).collect();
    waiting.extend(memory.body().suggestions().map(|edit| edit.id));
    *waiting.choose(rng).unwrap_or(&EventId::new(uuid::Uuid::nil()))
}

fn any_import(rng: &mut StdRng) -> Command {
    let mut claims = Vec::new();
    for field in ["title", "mood"] {
        if rng.random_bool(0.8) {
            claims.push((field, *["stone", "river"].choose(rng).expect("some")));
        }
    }
    let body = format!("{} from a file", WORDS.choose(rng).expect("some"));
    Command::ImportFile(imported(&claims, &body))
}
