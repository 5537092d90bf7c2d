//! Snapshots: what comes back is what went in.

use super::*;
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
