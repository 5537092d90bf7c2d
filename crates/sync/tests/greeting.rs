//! What two say to each other while they greet.

#[path = "support/brain.rs"]
mod brain;

use std::collections::VecDeque;

use bytes::Bytes;
use cairn_sync::engine::Input;
use cairn_sync::entry::Lane;

use brain::{Brain, brains, two};

fn talk_on(sides: &mut [Brain; 2], mut waiting: VecDeque<(usize, Bytes)>) {
    while let Some((from, frame)) = waiting.pop_front() {
        let to = 1 - from;
        waiting.extend(sides[to].hear(frame).into_iter().map(|frame| (to, frame)));
    }
}

#[test]
fn what_is_said_while_two_greet_each_other_comes() {
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
