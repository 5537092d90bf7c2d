//! Which branches make up the text when all of them together would be too long (ADR 26).
//!
//! Every edit by itself leaves a text within the limit; those of several who did not see each other's may not, merged. Then the
//! branches are taken in one after the other, the one that began first before the others, each with all it was made from. One that
//! would make the text too long is left out, whole, and waits for the user's decision. All of this follows from the set
//! of edits, and not from the order in which they came.

use std::collections::BTreeSet;

use super::Edit;
use super::weave::{Places, Weave};

/// After so many branches that are too long, no more are tried: each costs a walk through all that was written.
const TRIED: usize = 8;

/// Those of some edits, which have all they were made from with them, whose merged text is no longer than a limit; and that text.
/// At least one branch stays: each is within the limit by itself.
pub(super) fn within(weave: &Weave, edits: &[Edit], inside: Places, limit: usize) -> (Places, String) {
    if let Some(text) = weave.text_within(edits, &inside, limit) {
        return (inside, text);
    }
    let branches = in_order(weave, edits, &inside);
    let mut taken = Places::new();
    let mut left = branches.as_slice();
    for _ in 0..TRIED {
        let first = usize::from(left.len() == branches.len());
        let most = fitting(weave, edits, &taken, left, limit).max(first);
        weave.take_in(&mut taken, left[..most].iter().copied());
        let Some(rest) = left.get(most + 1..) else { break };
        left = rest;
    }
    let text = weave.text(edits, &taken);
    (taken, text)
}

/// How many branches can be taken in, one after the other, beside what is taken, before one makes the text too long.
fn fitting(weave: &Weave, edits: &[Edit], taken: &Places, branches: &[usize], limit: usize) -> usize {
    // With which branch an edit comes in; what is taken comes in before the first.
    let mut with: Vec<Option<usize>> = (0..edits.len()).map(|at| taken.get(at)?.then_some(0)).collect();
    for (number, end) in (1..).zip(branches) {
        let mut open = vec![*end];
        while let Some(at) = open.pop() {
            if with[at].is_none() {
                with[at] = Some(number);
                open.extend(weave.parents(at));
            }
        }
    }
    let growth = weave.growth(edits, &with, branches.len() + 1);
    let lengths = growth.into_iter().scan((0, 0), |(more, less), (inserted, deleted)| {
        (*more, *less) = (*more + inserted, *less + deleted);
        Some(*more - *less)
    });
    lengths.skip(1).take_while(|bytes| *bytes <= limit).count()
}

/// The edits that no other one is made from: those whose branch began first come first.
///
/// An edit belongs to the branch that its earliest child goes on with. So what is added to the end of a branch leaves it where it was.
fn in_order(weave: &Weave, edits: &[Edit], inside: &Places) -> Vec<usize> {
    let all = || (0..edits.len()).filter(|at| inside[*at] && weave.same(*at) == *at);
    let mut goes_on: Vec<Option<usize>> = vec![None; edits.len()];
    for at in all() {
        for &parent in weave.parents(at) {
            let first = goes_on[parent].is_none_or(|other| weave.age(edits, at) < weave.age(edits, other));
            if first {
                goes_on[parent] = Some(at);
            }
        }
    }
    // Children stand after their parents.
    let mut end: Vec<usize> = (0..edits.len()).collect();
    for at in (0..edits.len()).rev() {
        end[at] = goes_on[at].map_or(at, |next| end[next]);
    }
    let by_age: BTreeSet<_> = all().map(|at| (weave.age(edits, at), at)).collect();
    let mut seen = Places::new();
    seen.resize(edits.len(), false);
    let mut branches = Vec::new();
    for (_, at) in by_age {
        if !seen[at] {
            branches.push(end[at]);
            weave.take_in(&mut seen, [end[at]]);
        }
    }
    branches
}
