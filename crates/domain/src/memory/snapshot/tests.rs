//! Snapshots: what comes back is what went in.

use super::*;
use crate::body::BodyChange;
use crate::event::MemoryEvent;
use crate::memory::command::Command;
use crate::scenario::{World, cloud_ai, imported, importer, user};

fn busy() -> World {
    let mut world = World::note("one two");
    world.claim(&cloud_ai(), "title", "Better");
    let suggestion = world.claimed(&cloud_ai(), "mood", "calm");
    world.claim(&user(), "mood", "glad");
    world.write(&cloud_ai(), "one 2");
    world.reject(world.waiting_edits()[0]);
    world.act(&user(), Command::RetractClaim { field: "mood".parse().expect("a name") }).expect("its own");
    world.undo(&user()).expect("undone");
    // A path with nothing unresolved but a part: members that JSON leaves out must not shift the others.
    let mut file = imported(&[("title", "a")], "three");
    file.file.unresolved = vec!["Nobody".into()];
    world.act(&importer(), Command::ImportFile(file)).expect("imported");
    assert!(world.memory.fields()[&"mood".parse().expect("a name")].get(suggestion).is_some());
    world
}

#[test]
fn a_snapshot_reads_back_and_goes_on_like_the_original() {
    let mut world = busy();
    let mut thawed = world.clone();
    thawed.memory = Memory::decode_snapshot(&world.memory.encode_snapshot()).expect("its own snapshot");
    assert_eq!(thawed.memory, world.memory);
    for world in [&mut world, &mut thawed] {
        world.undo(&user()).expect("more to undo");
        world.write(&user(), "four");
        world.claim(&cloud_ai(), "mood", "new");
    }
    assert_eq!(thawed.memory, world.memory);
    assert_eq!(world.memory, world.refolded());
}

#[test]
fn an_empty_and_an_erased_memory_read_back() {
    let mut world = busy();
    world.act(&user(), Command::EraseMemory).expect("erased");
    for memory in [&World::empty().memory, &world.memory] {
        assert_eq!(&Memory::decode_snapshot(&memory.encode_snapshot()).expect("its own snapshot"), memory);
    }
}

#[test]
fn damaged_bytes_are_an_error_and_never_a_panic() {
    let bytes = busy().memory.encode_snapshot();
    for length in 0..bytes.len() {
        assert!(Memory::decode_snapshot(&bytes[..length]).is_err());
    }
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0xFF;
        let _ = Memory::decode_snapshot(&damaged);
    }
}

/// A long text, two branches of a peer that are too long together, and one edit that came before what it was made from.
fn too_long() -> Memory {
    let mut memory = Memory::new(MemoryId::new(Uuid::from_u128(1)));
    let id = |number: u128| EventId::new(Uuid::from_u128(number));
    for (number, parent, length) in [(1, None, 100), (2, Some(1), 900_000), (3, Some(1), 900_000), (9, Some(8), 1)]
    {
        let splices = vec![Splice { at: 0, delete: 0, insert: "é".repeat(length / 2) }];
        let change =
            BodyChange { parents: parent.map(id).into_iter().collect(), splices, accepts: None, effect: None };
        let actor = user();
        let author = Authorship {
            principal: actor.principal,
            truth: actor.truth,
            origin: "peer:anna".parse().expect("an origin"),
            hlc: Hlc { millis: number as u64, counter: 0 },
            command: Uuid::from_u128(number),
            standing: Standing::Full,
        };
        memory.apply(id(number), author, MemoryEvent::BodyEdited(change)).expect("no damage");
    }
    memory
}

#[test]
fn what_waits_because_it_is_too_long_and_what_came_early_read_back() {
    let mut memory = too_long();
    let mut thawed = Memory::decode_snapshot(&memory.encode_snapshot()).expect("its own snapshot");
    assert_eq!(thawed, memory);
    let waiting = |memory: &Memory| memory.body().suggestions().map(|edit| edit.id).collect::<Vec<_>>();
    assert_eq!(waiting(&thawed), [EventId::new(Uuid::from_u128(3))]);
    // What came early goes in, and what waits comes in, as in the original.
    for memory in [&mut memory, &mut thawed] {
        let author = memory.body().edits()[0].author.clone();
        let parents = memory.body().heads().to_vec();
        let splices = vec![Splice { at: 0, delete: 450_000, insert: String::new() }];
        let shorter = BodyChange { parents, splices, accepts: None, effect: None };
        memory
            .apply(EventId::new(Uuid::from_u128(8)), author, MemoryEvent::BodyEdited(shorter))
            .expect("no damage");
        assert_eq!(memory.body().edits().len(), 5);
        assert_eq!(memory.body().text().len(), 100 + 900_000);
        assert!(waiting(memory).is_empty());
    }
    assert_eq!(thawed, memory);
}
