//! Hostile input: no decoder panics, no message of a peer's brings the engine to fall, and none costs much.
//!
//! The same checks run under a fuzzer (`fuzz/`), whose finds are the corpus here.

#[path = "support/hostile.rs"]
mod hostile;

use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cairn_proto::sync as proto;
use cairn_sync::wire::{Frame, MAX_FRAME_BYTES};
use proptest::prelude::*;
use prost::Message;

/// The most heap that one message may cost.
const MAX_HEAP_BYTES: usize = 64 * 1024 * 1024;
/// The most time that one message may cost. This is several times that of the optimized program on a machine of its own.
const MAX_TIME: Duration = Duration::from_secs(1);
/// Of how many things is measured what one takes.
const SAMPLE: usize = 10_000;

#[global_allocator]
static HEAP: dhat::Alloc = dhat::Alloc;

fn corpus(of: &str, check: impl Fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(of);
    let mut read = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus is there") {
        check(&std::fs::read(entry.expect("it is there").path()).expect("it reads"));
        read += 1;
    }
    assert!(read >= 10, "the corpus is there");
}

#[test]
fn the_corpus_brings_nothing_to_fall() {
    corpus("frame", hostile::frame);
    corpus("payload", hostile::payload);
    corpus("engine", hostile::engine);
}

proptest! {
    #[test]
    fn no_bytes_are_a_frame_that_brings_it_to_fall(data in prop::collection::vec(any::<u8>(), 0..512)) {
        hostile::frame(&data);
        hostile::payload(&data);
    }

    #[test]
    fn no_peer_brings_the_engine_to_fall(data in prop::collection::vec(any::<u8>(), 0..512)) {
        hostile::engine(&data);
    }
}

/// As much of something as fits into a frame.
fn bomb(body: impl Fn(usize) -> proto::frame::Body) -> Bytes {
    let frame = |count| proto::Frame { body: Some(body(count)) }.encode_to_vec();
    let (none, some) = (frame(0).len(), frame(SAMPLE).len());
    // Lengths that stand before it take a few bytes more.
    let fits = (MAX_FRAME_BYTES - none - 16) * SAMPLE / (some - none);
    frame(fits).into()
}

#[test]
#[allow(clippy::disallowed_methods, reason = "what is measured is time")]
fn no_message_costs_much() {
    use proto::frame::Body;
    let bombs = [
        ("spaces", bomb(|count| Body::Heads(proto::Heads { spaces: vec![proto::SpaceHeads::default(); count] }))),
        (
            "heads",
            bomb(|count| {
                let chains = vec![0; count].into();
                let spaces = vec![proto::SpaceHeads { space: vec![1; 32].into(), chains, ..Default::default() }];
                Body::Heads(proto::Heads { spaces })
            }),
        ),
        (
            "entries",
            bomb(|count| Body::Batch(proto::Batch { entries: vec![Bytes::new(); count], ..Default::default() })),
        ),
        (
            "addresses",
            bomb(|count| {
                Body::Hello(proto::Hello { addresses: vec![String::new(); count], ..Default::default() })
            }),
        ),
        (
            "receipt",
            bomb(|count| Body::Receipt(proto::Receipt { chains: vec![0; count].into(), ..Default::default() })),
        ),
    ];
    let heap = dhat::Profiler::builder().testing().build();
    for (of, bytes) in bombs {
        assert!(bytes.len() > MAX_FRAME_BYTES / 2, "{of}: the bomb is one");
        let (began, before) = (Instant::now(), dhat::HeapStats::get().curr_bytes);
        let _ = Frame::parse(bytes);
        let (took, peak) = (began.elapsed(), dhat::HeapStats::get().max_bytes - before);
        assert!(took < MAX_TIME, "{of} took {took:?}");
        assert!(peak < MAX_HEAP_BYTES, "{of} cost {peak} bytes");
    }
    drop(heap);
}

/// Writes what the fuzzers begin with. Run alone, with `--ignored`.
#[test]
#[ignore = "it writes the seeds of the corpus"]
fn write_seeds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus");
    for (of, seeds) in hostile::seeds() {
        std::fs::create_dir_all(folder.join(of)).expect("a folder");
        for (number, seed) in seeds.into_iter().enumerate() {
            std::fs::write(folder.join(of).join(format!("seed-{number:02}")), seed).expect("it is written");
        }
    }
}
