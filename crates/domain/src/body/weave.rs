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

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use super::rope::{Piece, Rope};
use super::runs::{Name, Place, Run, Runs};
use super::splice::{Splice, byte_offset};
use super::{Edit, MAX_BODY_BYTES, MAX_SPLICES};
use crate::claim::Authorship;
use crate::id::EventId;

/// How many pieces the texts kept for edits to come may have of their own, together: some 16 MB.
const KEPT_PIECES: usize = 128 * 1024;

/// How many texts are kept: as many lines of edits can grow in turn without a walk for each.
const KEPT_TEXTS: usize = 64;

/// How many edits are looked at to join two texts, before a walk is made instead.
const JOINED_EDITS: usize = 64;

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
    runs: Runs,
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
    /// The runs it inserts: from, until.
    runs: (usize, usize),
    /// What it deletes: run, from, until.
    gone: Vec<(usize, usize, usize)>,
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
            self.edits.push(Woven { name, same, parents, number, runs: (0, 0), gone: Vec::new() });
            return Ok(());
        }
        if limits.is_some_and(|(splices, _)| edit.splices.len() > splices) {
            return Err(Misfit::TooMuch);
        }
        let text = self.text_of(edits, &parents);
        let number = parents.iter().map(|parent| self.edits[*parent].number).max().unwrap_or(0);
        let mut draft = Draft { text, number, runs: Vec::new(), gone: Vec::new() };
        for (splice, said) in edit.splices.iter().enumerate() {
            draft.take(self, edits, (at, splice, name), said)?;
        }
        if limits.is_some_and(|(_, bytes)| draft.text.bytes() > bytes) {
            return Err(Misfit::TooMuch);
        }
        let first = self.runs.len();
        draft.runs.into_iter().for_each(|run| self.runs.push(run));
        let own = (edit.splices.len() * path(&draft.text)).min(draft.text.pieces());
        self.kept.keep(vec![at], draft.text, own);
        self.by_name.insert(name, at);
        self.edits.push(Woven {
            name,
            same: at,
            parents,
            number: draft.number,
            runs: (first, self.runs.len()),
            gone: draft.gone,
        });
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

    /// How many bytes come and go with each of some steps, where `with` tells with which one an edit comes in, if with any.
    /// What an edit was made from comes in with it or before.
    pub(super) fn growth(&self, edits: &[Edit], with: &[Option<usize>], steps: usize) -> Vec<(usize, usize)> {
        let mut growth = vec![(0, 0); steps];
        let mut gone = Vec::new();
        for (edit, step) in self.edits.iter().zip(with).filter_map(|(edit, step)| Some((edit, (*step)?))) {
            let (from, until) = edit.runs;
            growth[step].0 += (from..until).map(|run| self.run(edits, run).len()).sum::<usize>();
            gone.extend(edit.gone.iter().map(|&(run, from, until)| (run, step, from, until)));
        }
        gone.sort_unstable();
        for gone in gone.chunk_by(|one, other| one.0 == other.0) {
            let mut cuts: Vec<usize> = gone.iter().flat_map(|(.., from, until)| [*from, *until]).collect();
            cuts.sort_unstable();
            cuts.dedup();
            let (mut rest, mut last, mut sizes) = (self.run(edits, gone[0].0), 0, Vec::new());
            for cut in &cuts {
                let bytes = byte_offset(rest, cut - last).expect("the run is longer");
                sizes.push(bytes);
                (rest, last) = (&rest[bytes..], *cut);
            }
            // What is deleted twice goes with the first: each part names the next that is still there.
            let mut next: Vec<usize> = (0..=cuts.len()).collect();
            for &(_, step, from, until) in gone {
                let end = cuts.partition_point(|cut| *cut < until);
                let mut part = cuts.partition_point(|cut| *cut < from);
                while part < end {
                    let after = next[part];
                    if after == part {
                        growth[step].1 += sizes[part + 1];
                        next[part] = part + 1;
                    } else {
                        // A shorter way for whoever comes next.
                        next[part] = next[after];
                    }
                    part = next[part];
                }
            }
        }
        growth
    }

    /// The text at some edits.
    pub(super) fn text(&self, edits: &[Edit], inside: &Places) -> String {
        self.text_within(edits, inside, usize::MAX).unwrap_or_default()
    }

    /// The text at some edits, unless it has more bytes than that.
    pub(super) fn text_within(&self, edits: &[Edit], inside: &Places, limit: usize) -> Option<String> {
        let pieces = self.pieces(edits, inside);
        let bytes = pieces.iter().map(|piece| piece.bytes).sum();
        let text = |piece: &Piece| &self.run(edits, piece.run)[piece.byte..piece.byte + piece.bytes];
        (bytes <= limit).then(|| {
            let mut all = String::with_capacity(bytes);
            pieces.iter().for_each(|piece| all.push_str(text(piece)));
            all
        })
    }

    /// The text that an edit is made upon, to cut it.
    fn text_of(&mut self, edits: &[Edit], parents: &[usize]) -> Rope {
        if parents.is_empty() {
            return Rope::default();
        }
        if let Some(text) = self.kept.find(parents) {
            return text;
        }
        let (text, own) = self.joined(edits, parents).unwrap_or_else(|| {
            let mut inside = Places::new();
            self.take_in(&mut inside, parents.iter().copied());
            let text = Rope::of(&self.pieces(edits, &inside));
            let own = text.pieces();
            (text, own)
        });
        self.kept.keep(parents.to_vec(), text.clone(), own);
        text
    }

    /// The text at several edits, made from that at one of them if it was made lately and the others add little to it.
    fn joined(&mut self, edits: &[Edit], parents: &[usize]) -> Option<(Rope, usize)> {
        let (at, mut text) = parents.iter().find_map(|at| Some((*at, self.kept.find(&[*at])?)))?;
        let mut own = 0;
        for edit in self.beyond(at, parents)? {
            let Woven { runs: (from, until), gone, .. } = &self.edits[edit];
            let bytes = |piece: Piece, chars: usize| self.bytes_of(edits, piece, chars);
            for run in *from..*until {
                let piece = self.runs.whole(run, self.run(edits, run).len());
                let (before, after) = text.split_where(&|piece| self.runs.before(piece, (run, 0), false), &bytes);
                text = Rope::joined(&before, piece, &after);
            }
            for &(run, from, until) in gone {
                let (before, rest) =
                    text.split_where(&|piece| self.runs.before(piece, (run, from), false), &bytes);
                let (cut, after) =
                    rest.split_where(&|piece| self.runs.before(piece, (run, until - 1), true), &bytes);
                let mut kept = Vec::new();
                cut.each(&mut |piece| kept.extend((piece.run != run).then_some(piece)));
                text = before.then(&Rope::of(&kept)).then(&after);
            }
            own += (until - from + gone.len()) * path(&text);
        }
        let own = own.min(text.pieces());
        Some((text, own))
    }

    /// What some edits have before them that one has not, with themselves, in order; `None` when that is a lot.
    fn beyond(&self, at: usize, edits: &[usize]) -> Option<Vec<usize>> {
        const ONE: u8 = 1;
        const OTHER: u8 = 2;
        let mut open: BTreeMap<usize, u8> = edits.iter().map(|edit| (*edit, OTHER)).collect();
        *open.entry(at).or_default() |= ONE;
        let mut beyond = Vec::new();
        // What an edit was made from stands before it, so that all that leads to the last one is known.
        for _ in 0..JOINED_EDITS {
            if !open.values().any(|by| *by == OTHER) {
                beyond.reverse();
                return Some(beyond);
            }
            let (edit, by) = open.pop_last()?;
            if by == OTHER {
                beyond.push(edit);
            }
            self.edits[edit].parents.iter().for_each(|parent| *open.entry(*parent).or_default() |= by);
        }
        None
    }

    fn bytes_of(&self, edits: &[Edit], piece: Piece, chars: usize) -> usize {
        if piece.chars == piece.bytes {
            return chars;
        }
        let text = &self.run(edits, piece.run)[piece.byte..piece.byte + piece.bytes];
        byte_offset(text, chars).expect("the piece is longer")
    }

    fn run<'a>(&self, edits: &'a [Edit], run: usize) -> &'a str {
        let Run { edit, splice, .. } = *self.runs.get(run);
        &edits[edit].splices[splice].insert
    }

    /// Walks through all that some edits and those before them wrote, in order.
    fn pieces(&self, edits: &[Edit], inside: &Places) -> Vec<Piece> {
        #[cfg(test)]
        WALKS.with(|walks| walks.set(walks.get() + 1));
        let counts = self.edits.iter().zip(inside).filter(|(_, inside)| **inside).map(|(edit, _)| edit);
        let mut gone: Vec<(usize, usize, usize)> = counts.flat_map(|edit| edit.gone.iter().copied()).collect();
        gone.sort_unstable();
        let mut pieces = Vec::new();
        let mut roots = self.runs.roots();
        let mut open: Vec<Walk<'_>> = Vec::new();
        loop {
            let inside = |(_, run): &(&Place, &usize)| inside[self.runs.get(**run).edit];
            let next = match open.last_mut() {
                Some(walk) => walk.runs.find(inside),
                None => roots.find(inside),
            };
            match (next, open.last_mut()) {
                (Some((place, &run)), walk) => {
                    if let Some(walk) = walk {
                        walk.go_on(place.offset() + 1, &mut pieces);
                    }
                    let (text, Run { chars, after, .. }) = (self.run(edits, run), self.runs.get(run));
                    let start = gone.partition_point(|(other, ..)| *other < run);
                    let gone = &gone[start..];
                    open.push(Walk { run, text, chars: *chars, at: 0, byte: 0, gone, runs: after.iter() });
                }
                (None, Some(walk)) => {
                    walk.go_on(walk.chars, &mut pieces);
                    open.pop();
                }
                (None, None) => return pieces,
            }
        }
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

/// About how many pieces of its own a text has after one splice: a splice makes a path to each of its ends anew.
fn path(text: &Rope) -> usize {
    4 * (usize::BITS - text.pieces().leading_zeros()) as usize + 4
}

/// An edit on its way in.
struct Draft {
    text: Rope,
    number: u64,
    runs: Vec<Run>,
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
            let Some(own) = piece.run.checked_sub(known) else { return weave.bytes_of(edits, piece, chars) };
            let run = &edits[edit].splices[runs[own].splice].insert;
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
            let after_which = before.last().map(|last| (last.run, last.from + last.chars - 1));
            runs.push(Run::new(Place::new(after_which, *number + 1, name), edit, splice, chars));
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
    /// What is deleted of it and of those of higher number, by where that begins.
    gone: &'a [(usize, usize, usize)],
    /// What stands after its characters.
    runs: Iter<'a, Place, usize>,
}

impl Walk<'_> {
    /// Goes on to a character and notes what is there on the way.
    fn go_on(&mut self, until: usize, pieces: &mut Vec<Piece>) {
        while self.at < until {
            let (there, next) = match self.gone.first() {
                Some(&(run, _, end)) if run == self.run && end <= self.at => {
                    self.gone = &self.gone[1..];
                    continue;
                }
                Some(&(run, start, end)) if run == self.run && start <= self.at => (false, end.min(until)),
                Some(&(run, start, _)) if run == self.run => (true, start.min(until)),
                _ => (true, until),
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
