//! What two say to each other while they greet.

#[path = "support/brain.rs"]
mod brain;

use std::collections::VecDeque;

use bytes::Bytes;
use cairn_domain::clock::Hlc;
use cairn_sync::certificate::Certificate;
use cairn_sync::chain::{Fork, chain_of};
use cairn_sync::control::Role;
use cairn_sync::engine::{CannotSay, Effect, Input, News, Offer};
use cairn_sync::entry::{Entry, Header, Lane};
use cairn_sync::key::{DeviceKey, Epoch};
use cairn_sync::wire::Frame;

use brain::{Brain, NOW, brains, keys, two};

fn talk_on(sides: &mut [Brain; 2], mut waiting: VecDeque<(usize, Bytes)>) {
    while let Some((from, frame)) = waiting.pop_front() {
        let to = 1 - from;
        waiting.extend(sides[to].hear(frame).into_iter().map(|frame| (to, frame)));
    }
}

/// Two who share a space, in which the first has written.
fn sharing() -> [Brain; 2] {
    let mut sides = two();
    let mut waiting = VecDeque::new();
    for step in ["begin", "offer"] {
        sides[0].act(step, brains()[1]);
    }
    for who in [0, 1] {
        waiting.extend(sides[who].meet().into_iter().map(|frame| (who, frame)));
    }
    talk_on(&mut sides, waiting);
    for (who, step) in [(1, "accept"), (0, "write")] {
        let waiting = sides[who].act(step, brains()[1 - who]).into_iter().map(|frame| (who, frame)).collect();
        talk_on(&mut sides, waiting);
    }
    sides
}

/// Each has heard of another fork of one chain, while they did not meet.
#[test]
fn who_can_prove_an_earlier_fork_shows_it_to_one_who_can_prove_a_later_one() {
    let mut sides = sharing();
    let entries: Vec<Entry> = sides[0].kept.values().cloned().collect();
    let of_content = |entry: &&Entry| entry.header().kind.lane() == Lane::Content;
    let content: Vec<&Entry> = entries.iter().filter(of_content).collect();
    for (side, known) in sides.iter_mut().zip([content[2], content[1]]) {
        let other =
            Entry::sign(known.header().clone(), Bytes::from_static(b"another"), &keys(1).1).expect("small");
        side.engine.restore_fork(&Fork { known: Box::new(known.clone()), other: Box::new(other) });
    }
    let chain = chain_of(content[0]);
    let mut hellos = VecDeque::new();
    for who in [0, 1] {
        let device = sides[who].other;
        sides[who].input(Input::Disconnected { device });
        hellos.extend(sides[who].meet().into_iter().map(|frame| (who, frame)));
    }
    talk_on(&mut sides, hellos);
    let proven = sides.each_ref().map(|side| side.engine.replica().chain(chain)?.fork().map(Fork::number));
    assert_eq!(proven, [Some(2), Some(2)]);
}

/// An author can sign a header that says of itself what it likes.
#[test]
fn what_a_later_fork_took_away_and_an_earlier_one_gives_back_is_counted_again() {
    let mut sides = sharing();
    let waiting = sides[0].act("write", brains()[1]).into_iter().map(|frame| (0, frame)).collect();
    talk_on(&mut sides, waiting);
    let [_, bert] = &mut sides;
    let entries: Vec<Entry> = bert.kept.values().cloned().collect();
    let of_content = |entry: &&Entry| entry.header().kind.lane() == Lane::Content;
    let content: Vec<&Entry> = entries.iter().filter(of_content).collect();
    let chain = chain_of(content[0]);
    let certificate = bert.engine.certificate(chain.author, chain.epoch).cloned().expect("it has entries by it");
    let mut recounted = Vec::new();
    for (at, preceding) in [(4, 4), (3, 0)] {
        let header = Header { preceding, ..content[at].header().clone() };
        let other = Entry::sign(header, Bytes::from_static(b"another"), &keys(1).1).expect("small");
        let fork = Fork { known: Box::new(content[at].clone()), other: Box::new(other) };
        let bytes = Frame::Proof(fork, certificate.clone()).to_bytes();
        let effects = bert.engine.handle(Input::Frame { device: bert.other, bytes }, NOW);
        recounted.extend(effects.into_iter().find_map(|effect| match effect {
            Effect::Recount { from, to, .. } => Some((from, to)),
            _ => None,
        }));
    }
    assert_eq!(recounted, [(1, 6), (1, 3)]);
}

/// It was restored with its clock behind, and went on before it heard what it had said in its other life.
#[test]
fn an_owner_whose_words_count_for_nothing_begins_another_epoch() {
    let [mut anna, _] = sharing();
    let space = anna.space.expect("it has begun");
    let (brain, device) = keys(1);
    let epoch = |of: u8| Certificate::make(&brain, DeviceKey::of(&device), Epoch([of; 16]), NOW);
    let at = |millis| Hlc { millis: NOW + millis, counter: 0 };
    let offer = Offer { to: brains()[1], role: Role::Read, expires_at: None, reshare: false };
    let mut other = Brain::new(1, 2);
    anna.kept.values().for_each(|entry| other.engine.restore_control(entry.clone()));
    other.engine.renew(epoch(50));
    let resumed = other.engine.resume(space, at(500)).expect("it may");
    anna.engine.renew(epoch(60));
    let own = anna.engine.resume(space, at(100)).expect("it may");
    anna.keep(&own);
    anna.input(Input::Said(own));
    anna.engine.offer(space, offer, at(101)).expect("it speaks");
    let lost = |anna: &mut Brain| anna.engine.handle(Input::Tick, NOW).contains(&Effect::Tell(News::EpochLost));
    assert!(!lost(&mut anna));
    anna.engine.restore_certificate(epoch(50));
    resumed.into_iter().for_each(|entry| anna.engine.restore_control(entry));
    assert!(matches!(anna.engine.offer(space, offer, at(501)), Err(CannotSay::EpochLost)));
    assert!(lost(&mut anna) && !lost(&mut anna), "it is told once");
    anna.engine.renew(epoch(70));
    let own = anna.engine.resume(space, at(502)).expect("it may");
    anna.input(Input::Said(own));
    let offered = anna.engine.offer(space, offer, at(503)).expect("it may");
    let grant = offered.last().expect("one").hash();
    anna.input(Input::Said(offered));
    assert!(anna.engine.replica().space(space).expect("it goes on").grants().contains_key(&grant));
    assert!(!lost(&mut anna));
}

#[test]
fn what_is_said_while_two_greet_each_other_comes() {
    let mut sides = sharing();
    let a = brains()[0];
    assert_eq!(sides[1].holds()[&(a, Lane::Content)], 3);
    // Another connection in place of this one.
    let mut hellos = Vec::new();
    for who in [0, 1] {
        let device = sides[who].other;
        sides[who].input(Input::Disconnected { device });
        hellos.push(sides[who].meet());
    }
    let mut waiting: VecDeque<(usize, Bytes)> = VecDeque::new();
    let heads_of_a = sides[0].hear(hellos[1][0].clone());
    let heads_of_b = sides[1].hear(hellos[0][0].clone());
    waiting.extend(heads_of_a.into_iter().map(|frame| (0, frame)));
    // While the heads of B are on their way.
    waiting.extend(sides[0].act("write", brains()[1]).into_iter().map(|frame| (0, frame)));
    waiting.extend(heads_of_b.into_iter().map(|frame| (1, frame)));
    talk_on(&mut sides, waiting);
    assert_eq!(sides[1].holds()[&(a, Lane::Content)], 6, "at once, and not when heads are told again");
    let waiting = sides[0].act("write", brains()[1]).into_iter().map(|frame| (0, frame)).collect();
    talk_on(&mut sides, waiting);
    assert_eq!(sides[1].holds()[&(a, Lane::Content)], 9);
}
