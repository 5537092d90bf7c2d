//! All edits of a body woven into one tree, from which the text at any of them can be read.
//!
//! Every insertion is a *run* of characters. It stands after the character that it was made after, and where several were made after
//! one, the later comes first: the one with the higher number, then the larger name. Numbers count what the edits before have
//! inserted and deleted, names follow from what an edit says and upon what. So the order of all characters ever written follows
//! from the graph alone, and the text at some edits is what these and those before them have inserted and not deleted.
//!
//! These are the rules of a list in Automerge, character by character; `tests/automerge.rs` compares the two.
//! An edit costs its splices and the logarithm of the text's pieces where it goes on from a text that was made lately, and else
//! a walk through the tree.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::btree_map::Range;

use super::rope::{Piece, Rope};
use super::{Edit, MAX_BODY_BYTES, MAX_SPLICES, Splice, byte_offset};
use crate::claim::Authorship;
use crate::id::EventId;

/// How many pieces the texts kept for edits to come may have of their own, together: some 16 MB.
const KEPT_PIECES: usize = 128 * 1024;

/// How many texts are kept: as many lines of edits can grow in turn without a walk for each.
const KEPT_TEXTS: usize = 64;

/// What an edit is called: follows from what it says, when it was said and upon what, and not from its id, which differs from one
/// brain to another. Who comes first where two insert at one place must not.
type Name = [u8; 16];

/// Which edits, by their places.
pub(super) type Places = Vec<bool>;

/// Why an edit cannot be woven in.
#[derive(Debug, thiserror::Error)]
pub(super) enum Misfit {
    #[error("a splice reaches past the end of the text")]
    PastTheEnd,
    #[error("it was made from an edit that is not there")]
    Unknown,
    #[error("it has more splices, or leaves a longer text, than is allowed")]
    TooMuch,
}

/// The edits of a body, in its order.
#[derive(Debug, Clone, Default)]
pub(super) struct Weave {
    edits: Vec<Woven>,
    by_name: BTreeMap<Name, usize>,
    runs: Vec<Run>,
    /// The run at each place of the order.
    order: BTreeMap<Place, usize>,
    kept: Kept,
}

#[derive(Debug, Clone)]
struct Woven {
    name: Name,
    /// The first edit of this name: edits of one name are one edit.
    same: usize,
    /// The first of each name among those it was made from, ascending.
    parents: Vec<usize>,
    /// The highest number given so far.
    number: u64,
    /// What it deletes: run, from, until.
    gone: Vec<(usize, usize, usize)>,
}

/// Characters inserted by one splice.
#[derive(Debug, Clone, Copy)]
struct Run {
    edit: usize,
    splice: usize,
    chars: usize,
}

/// Where a run stands: after which character of which run (the one after it in number, so that 0 is the start of the text).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    after: (usize, usize),
    number: Reverse<u64>,
    name: Reverse<Name>,
}

impl Weave {
    /// All edits of a body; of which one cannot be woven in, the place and why.
    pub(super) fn of(edits: &[Edit], index: &BTreeMap<EventId, usize>) -> Result<Self, (usize, Misfit)> {
        let mut weave = Self::default();
        for at in 0..edits.len() {
            // What counts was found fit when it came.
            weave.push(edits, index, None).map_err(|misfit| (at, misfit))?;
        }
        Ok(weave)
    }

    /// Weaves the next edit in, within limits if there are any: how many splices it may have, and bytes its text.
    /// What it was made from must be there.
    pub(super) fn push(
        &mut self,
        edits: &[Edit],
        index: &BTreeMap<EventId, usize>,
        limits: Option<(usize, usize)>,
    ) -> Result<(), Misfit> {
        let at = self.edits.len();
        let edit = &edits[at];
        let parent = |id: &EventId| self.edits.get(*index.get(id)?).map(|parent| parent.same);
        let parents: Option<Vec<usize>> = edit.parents.iter().map(parent).collect();
        let mut parents = parents.ok_or(Misfit::Unknown)?;
        parents.sort_unstable();
        parents.dedup();
        let name = self.name(edit, &parents);
        if let Some(&same) = self.by_name.get(&name) {
            let Woven { number, ref parents, .. } = self.edits[same];
            let parents = parents.clone();
            self.edits.push(Woven { name, same, parents, number, gone: Vec::new() });
            return Ok(());
        }
        if limits.is_some_and(|(splices, _)| edit.splices.len() > splices) {
            return Err(Misfit::TooMuch);
        }
        let text = self.text_of(edits, &parents);
        let number = parents.iter().map(|parent| self.edits[*parent].number).max().unwrap_or(0);
        let start = (number, text.pieces());
        let mut draft = Draft { text, number, runs: Vec::new(), gone: Vec::new() };
        for (splice, said) in edit.splices.iter().enumerate() {
            draft.take(self, edits, (at, splice, name), said)?;
        }
        if limits.is_some_and(|(_, bytes)| draft.text.bytes() > bytes) {
            return Err(Misfit::TooMuch);
        }
        for (place, run) in draft.runs {
            self.order.insert(place, self.runs.len());
            self.runs.push(run);
        }
        // A splice makes a path to each of its ends anew.
        let path = 4 * (usize::BITS - start.1.leading_zeros()) as usize + 4;
        let own = (path * edit.splices.len()).min(draft.text.pieces());
        self.kept.keep(vec![at], draft.text, own);
        self.by_name.insert(name, at);
        self.edits.push(Woven { name, same: at, parents, number: draft.number, gone: draft.gone });
        Ok(())
    }

    /// The first edit of the name that an edit has.
    pub(super) fn same(&self, at: usize) -> usize {
        self.edits[at].same
    }

    /// When an edit was said, with its name to tell it from others of that time.
    pub(super) fn age(&self, edits: &[Edit], at: usize) -> (crate::clock::Hlc, Name) {
        (edits[at].author.hlc, self.edits[at].name)
    }

    pub(super) fn parents(&self, at: usize) -> &[usize] {
        &self.edits[at].parents
    }

    /// Adds edits, and all they were made from, to some.
    pub(super) fn take_in(&self, inside: &mut Places, from: impl IntoIterator<Item = usize>) {
        let mut open: Vec<usize> = from.into_iter().map(|at| self.edits[at].same).collect();
        inside.resize(self.edits.len(), false);
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut inside[at], true) {
                open.extend(&self.edits[at].parents);
            }
        }
    }

    /// How many bytes the text at some edits has.
    pub(super) fn bytes(&self, edits: &[Edit], inside: &Places) -> usize {
        self.pieces(edits, inside).iter().map(|piece| piece.bytes).sum()
    }

    /// The text at some edits.
    pub(super) fn text(&self, edits: &[Edit], inside: &Places) -> String {
        let pieces = self.pieces(edits, inside);
        let mut text = String::with_capacity(pieces.iter().map(|piece| piece.bytes).sum());
        for piece in pieces {
            text.push_str(&self.run(edits, piece.run)[piece.byte..piece.byte + piece.bytes]);
        }
        text
    }

    /// The text that an edit is made upon, to cut it.
    fn text_of(&mut self, edits: &[Edit], parents: &[usize]) -> Rope {
        if parents.is_empty() {
            return Rope::default();
        }
        if let Some(text) = self.kept.find(parents) {
            return text;
        }
        let mut inside = Places::new();
        self.take_in(&mut inside, parents.iter().copied());
        let text = Rope::of(&self.pieces(edits, &inside));
        self.kept.keep(parents.to_vec(), text.clone(), text.pieces());
        text
    }

    fn run<'a>(&self, edits: &'a [Edit], run: usize) -> &'a str {
        let Run { edit, splice, .. } = self.runs[run];
        &edits[edit].splices[splice].insert
    }

    /// Walks through all that some edits and those before them wrote, in order.
    fn pieces(&self, edits: &[Edit], inside: &Places) -> Vec<Piece> {
        #[cfg(test)]
        WALKS.with(|walks| walks.set(walks.get() + 1));
        let mut gone: Vec<Vec<(usize, usize)>> = vec![Vec::new(); self.runs.len()];
        for (edit, _) in self.edits.iter().zip(inside).filter(|(_, inside)| **inside) {
            edit.gone.iter().for_each(|(run, from, until)| gone[*run].push((*from, *until)));
        }
        gone.iter_mut().for_each(|gone| gone.sort_unstable());
        let mut pieces = Vec::new();
        let mut roots = self.after(0, 0);
        let mut open: Vec<Walk<'_>> = Vec::new();
        loop {
            let next = match open.last_mut() {
                Some(walk) => walk.runs.find(|(_, run)| inside[self.runs[**run].edit]),
                None => roots.find(|(_, run)| inside[self.runs[**run].edit]),
            };
            match (next, open.last_mut()) {
                (Some((place, &run)), walk) => {
                    if let Some(walk) = walk {
                        walk.go_on(place.after.1 + 1, &mut pieces);
                    }
                    let (text, chars) = (self.run(edits, run), self.runs[run].chars);
                    let runs = self.after(run + 1, chars);
                    open.push(Walk { run, text, chars, at: 0, byte: 0, gone: &gone[run], runs });
                }
                (None, Some(walk)) => {
                    walk.go_on(walk.chars, &mut pieces);
                    open.pop();
                }
                (None, None) => return pieces,
            }
        }
    }

    /// What stands after the characters of a run.
    fn after(&self, run: usize, chars: usize) -> Range<'_, Place, usize> {
        let from = Place { after: (run, 0), number: Reverse(u64::MAX), name: Reverse([u8::MAX; 16]) };
        let until = Place { after: (run, chars + 1), ..from };
        self.order.range(from..until)
    }

    fn name(&self, edit: &Edit, parents: &[usize]) -> Name {
        let Authorship { truth, hlc, .. } = &edit.author;
        let mut hash = blake3::Hasher::new();
        hash.update(&hlc.millis.to_be_bytes()).update(&hlc.counter.to_be_bytes()).update(&[truth.level()]);
        let mut names: Vec<Name> = parents.iter().map(|parent| self.edits[*parent].name).collect();
        names.sort_unstable();
        names.iter().for_each(|name| {
            hash.update(name);
        });
        for Splice { at, delete, insert } in &edit.splices {
            for number in [*at, *delete, insert.len()] {
                hash.update(&(number as u64).to_be_bytes());
            }
            hash.update(insert.as_bytes());
        }
        *hash.finalize().as_bytes().first_chunk().expect("a hash is longer")
    }
}

#[cfg(test)]
thread_local! {
    /// How many walks this thread has made: what grows with all that was written.
    pub(super) static WALKS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// What a peer's edit may do.
pub(super) const PEERS: Option<(usize, usize)> = Some((MAX_SPLICES, MAX_BODY_BYTES));

/// An edit on its way in.
struct Draft {
    text: Rope,
    number: u64,
    runs: Vec<(Place, Run)>,
    gone: Vec<(usize, usize, usize)>,
}

impl Draft {
    fn take(
        &mut self,
        weave: &Weave,
        edits: &[Edit],
        (edit, splice, name): (usize, usize, Name),
        said: &Splice,
    ) -> Result<(), Misfit> {
        if said.at > self.text.chars() || said.delete > self.text.chars() - said.at {
            return Err(Misfit::PastTheEnd);
        }
        let Self { text, number, runs, gone } = self;
        let known = weave.runs.len();
        let bytes = |piece: Piece, chars: usize| {
            if piece.chars == piece.bytes {
                return chars;
            }
            let own = piece.run.checked_sub(known).map(|own| runs[own].1.splice);
            let run = own.map_or_else(|| weave.run(edits, piece.run), |own| &edits[edit].splices[own].insert);
            byte_offset(&run[piece.byte..piece.byte + piece.bytes], chars).expect("the piece is longer")
        };
        let (before, rest) = text.split(said.at, &bytes);
        let (cut, after) = rest.split(said.delete, &bytes);
        cut.each(&mut |piece| gone.push((piece.run, piece.from, piece.from + piece.chars)));
        let chars = said.insert.chars().count();
        if chars == 0 {
            *text = before.then(&after);
        } else {
            let piece = Piece { run: known + runs.len(), from: 0, chars, byte: 0, bytes: said.insert.len() };
            let after_which = before.last().map_or((0, 0), |last| (last.run + 1, last.from + last.chars - 1));
            let place = Place { after: after_which, number: Reverse(*number + 1), name: Reverse(name) };
            runs.push((place, Run { edit, splice, chars }));
            *text = Rope::joined(&before, piece, &after);
        }
        *number += (chars + said.delete) as u64;
        Ok(())
    }
}

/// How far a walk has come in a run.
struct Walk<'a> {
    run: usize,
    text: &'a str,
    chars: usize,
    at: usize,
    byte: usize,
    /// What is deleted of it, by where that begins.
    gone: &'a [(usize, usize)],
    /// What stands after its characters.
    runs: Range<'a, Place, usize>,
}

impl Walk<'_> {
    /// Goes on to a character and notes what is there on the way.
    fn go_on(&mut self, until: usize, pieces: &mut Vec<Piece>) {
        while self.at < until {
            let (there, next) = match self.gone.first() {
                Some(&(_, end)) if end <= self.at => {
                    self.gone = &self.gone[1..];
                    continue;
                }
                Some(&(start, end)) if start <= self.at => (false, end.min(until)),
                Some(&(start, _)) => (true, start.min(until)),
                None => (true, until),
            };
            let chars = next - self.at;
            let rest = &self.text[self.byte..];
            // Characters of one byte each need not be counted.
            let plain = rest.len() == self.chars - self.at;
            let bytes = if plain { chars } else { byte_offset(rest, chars).expect("the run is longer") };
            if there {
                note(pieces, Piece { run: self.run, from: self.at, chars, byte: self.byte, bytes });
            }
            self.at = next;
            self.byte += bytes;
        }
    }
}

/// Adds a piece, to the last one if it continues that.
fn note(pieces: &mut Vec<Piece>, piece: Piece) {
    match pieces.last_mut() {
        Some(last) if last.run == piece.run && last.from + last.chars == piece.from => {
            last.chars += piece.chars;
            last.bytes += piece.bytes;
        }
        _ => pieces.push(piece),
    }
}

/// Texts that were made or needed lately, the latest last.
#[derive(Debug, Clone, Default)]
struct Kept {
    texts: Vec<(Vec<usize>, Rope, usize)>,
    pieces: usize,
}

impl Kept {
    fn find(&mut self, at: &[usize]) -> Option<Rope> {
        let found = self.texts.iter().rposition(|(edits, ..)| edits == at)?;
        self.texts[found..].rotate_left(1);
        self.texts.last().map(|(_, text, _)| text.clone())
    }

    /// Keeps a text that has some pieces of its own, in place of older ones.
    fn keep(&mut self, at: Vec<usize>, text: Rope, own: usize) {
        self.pieces += own;
        self.texts.push((at, text, own));
        let mut old = 0;
        while self.texts.len() - old > KEPT_TEXTS || (self.pieces > KEPT_PIECES && self.texts.len() - old > 1) {
            self.pieces -= self.texts[old].2;
            old += 1;
        }
        self.texts.drain(..old);
    }
}
