//! The text that Automerge makes of a graph, to compare with: it is what bodies were merged with at first, and logs hold what it gave.
//!
//! The section of the graph that branches is played into Automerge documents, each edit upon exactly the edits it was made from.

use std::collections::{BTreeMap, BTreeSet};

use automerge::transaction::{CommitOptions, Transactable};
use automerge::{ActorId, Automerge, AutomergeError, ObjType, ROOT, ReadDoc, TextEncoding};

use crate::body::splice::{apply_to, byte_offset};
use crate::body::{Body, CorruptBody, Splice};
use crate::claim::Authorship;
use crate::id::EventId;

/// The property of the Automerge document's root that holds the text.
const TEXT: &str = "body";

/// Who writes the text that a section starts from: shorter than any edit's id, so none can be the same.
const BASE_ACTOR: &[u8] = &[0];

/// How many bytes name who wrote a change to Automerge.
const ACTOR_BYTES: usize = 16;

/// An edit as merging sees it.
#[derive(Clone, Copy)]
struct Node<'a> {
    id: EventId,
    author: &'a Authorship,
    parents: &'a [EventId],
    splices: &'a [Splice],
}

/// Why a section of the graph cannot be merged.
#[derive(Debug, thiserror::Error)]
enum Unmergeable {
    #[error("a splice reaches past the end of the text")]
    PastTheEnd,
    #[error(transparent)]
    Automerge(#[from] AutomergeError),
}

/// Some edits and everything they were made from.
fn closure(body: &Body, from: &[EventId]) -> BTreeSet<EventId> {
    let mut inside = BTreeSet::new();
    let mut open = from.to_vec();
    while let Some(id) = open.pop() {
        if inside.insert(id)
            && let Some(edit) = body.edit(id)
        {
            open.extend(&edit.parents);
        }
    }
    inside
}

/// The merged text of some edits.
pub(super) fn text_at(body: &Body, heads: &[EventId]) -> Result<String, CorruptBody> {
    let inside = closure(body, heads);
    let mut places = Vec::with_capacity(inside.len());
    for id in &inside {
        match body.index.get(id) {
            Some(&at) => places.push(at),
            None => return Err(CorruptBody { event: *id, reason: "the edit is not part of the history".into() }),
        }
    }
    places.sort_unstable();
    let edits = places.into_iter().map(|at| &body.edits[at]);
    let nodes: Vec<Node<'_>> = edits
        .map(|edit| Node { id: edit.id, author: &edit.author, parents: &edit.parents, splices: &edit.splices })
        .collect();
    let mut text = String::new();
    let mut start = 0;
    let joints = joints(&nodes);
    // Where the history is a line, nothing is merged and nobody needs a name.
    let names = if joints.len() == nodes.len() { BTreeMap::new() } else { names(&nodes) };
    for end in joints {
        match &nodes[start..end] {
            [edit] => {
                apply_to(&mut text, edit.splices).map_err(|reason| CorruptBody { event: edit.id, reason })?;
            }
            section => {
                let event = section[section.len() - 1].id;
                text = merged(&text, section, &names).map_err(|e| CorruptBody { event, reason: e.to_string() })?;
            }
        }
        start = end;
    }
    Ok(text)
}

/// Cuts the edits into sections: each ends where everything before is an ancestor of everything after.
fn joints(nodes: &[Node<'_>]) -> Vec<usize> {
    let index: BTreeMap<EventId, usize> = nodes.iter().enumerate().map(|(at, node)| (node.id, at)).collect();
    // The earliest edit that each edit or a later one was made from; an edit made from nothing reaches before the first.
    let mut reach = vec![usize::MAX; nodes.len() + 1];
    for (at, node) in nodes.iter().enumerate().rev() {
        let earliest = node.parents.iter().map(|parent| index[parent] + 1).min().unwrap_or(0);
        reach[at] = reach[at + 1].min(earliest);
    }
    let mut open: BTreeSet<usize> = BTreeSet::new();
    let mut joints = Vec::new();
    for (at, node) in nodes.iter().enumerate() {
        for parent in node.parents {
            open.remove(&index[parent]);
        }
        open.insert(at);
        if open.len() == 1 && reach[at + 1] > at {
            joints.push(at + 1);
        }
    }
    if joints.last() != Some(&nodes.len()) && !nodes.is_empty() {
        joints.push(nodes.len());
    }
    joints
}

/// Plays a section of the graph upon the text before it.
///
/// Each edit is written into a document that holds its ancestors and nothing else: so it is quick, because nothing
/// has to be hidden from it, and what Automerge makes of it follows from the graph alone. What comes before all that
/// the section touches stays out of the documents, because Automerge seeks each place from the start.
fn merged(text: &str, section: &[Node<'_>], names: &Names) -> Result<String, Unmergeable> {
    let section = &named(section, names);
    let touched = section.iter().flat_map(|edit| edit.splices).map(|splice| splice.at).min();
    let Some(untouched) = touched else { return Ok(text.to_owned()) };
    let (before, text) = text.split_at(byte_offset(text, untouched).ok_or(Unmergeable::PastTheEnd)?);
    let untimed = || CommitOptions::default().with_time(0);
    let mut base =
        Automerge::new_with_encoding(TextEncoding::UnicodeCodePoint).with_actor(ActorId::from(BASE_ACTOR));
    let mut opening = base.transaction();
    let object = opening.put_object(ROOT, TEXT, ObjType::Text)?;
    opening.splice_text(&object, 0, 0, text)?;
    opening.commit_with(untimed());
    let mut branches = Branches::new(section);
    for edit in section {
        let mut doc = branches.at(edit)?.unwrap_or_else(|| base.clone());
        doc.set_actor(ActorId::from(edit.actor.as_slice()));
        let mut transaction = doc.transaction();
        for splice in edit.splices {
            let at = splice.at - untouched;
            let after = transaction.length(&object).checked_sub(at).ok_or(Unmergeable::PastTheEnd)?;
            if splice.delete > after {
                return Err(Unmergeable::PastTheEnd);
            }
            let delete = isize::try_from(splice.delete).map_err(|_| Unmergeable::PastTheEnd)?;
            transaction.splice_text(&object, at, delete, &splice.insert)?;
        }
        transaction.commit_with(untimed());
        branches.grow(edit.id, doc);
    }
    let doc = branches.joined()?.unwrap_or(base);
    Ok(before.to_owned() + &doc.text(&object)?)
}

/// An edit of a section with the name that its change has for Automerge.
struct Named<'a> {
    id: EventId,
    actor: [u8; ACTOR_BYTES],
    parents: BTreeSet<EventId>,
    splices: &'a [Splice],
}

/// What the change of each edit is called for Automerge.
type Names = BTreeMap<EventId, [u8; ACTOR_BYTES]>;

/// Names edits, of which all that they were made from are among them. A name follows from what the edit says, when it was said and upon
/// what, and not from its id: that differs from one brain to another, and who comes first where two insert at one place must not.
fn names(nodes: &[Node<'_>]) -> Names {
    let mut names = Names::new();
    for edit in nodes {
        let parents: BTreeSet<_> = edit.parents.iter().filter_map(|parent| names.get(parent).copied()).collect();
        names.insert(edit.id, name(edit, parents.iter()));
    }
    names
}

/// The edits of a section with their names. Edits with one name are one edit.
fn named<'a>(section: &[Node<'a>], names: &Names) -> Vec<Named<'a>> {
    let mut firsts: BTreeMap<[u8; ACTOR_BYTES], EventId> = BTreeMap::new();
    let mut same: BTreeMap<EventId, EventId> = BTreeMap::new();
    let mut named = Vec::with_capacity(section.len());
    for edit in section {
        let actor = names[&edit.id];
        let first = *firsts.entry(actor).or_insert(edit.id);
        same.insert(edit.id, first);
        if first == edit.id {
            let parents = edit.parents.iter().filter_map(|parent| same.get(parent).copied()).collect();
            named.push(Named { id: edit.id, actor, parents, splices: edit.splices });
        }
    }
    named
}

fn name<'a>(edit: &Node<'_>, parents: impl Iterator<Item = &'a [u8; ACTOR_BYTES]>) -> [u8; ACTOR_BYTES] {
    let Authorship { truth, hlc, .. } = edit.author;
    let mut hash = blake3::Hasher::new();
    hash.update(&hlc.millis.to_be_bytes()).update(&hlc.counter.to_be_bytes()).update(&[truth.level()]);
    for parent in parents {
        hash.update(parent);
    }
    for Splice { at, delete, insert } in edit.splices {
        for number in [*at, *delete, insert.len()] {
            hash.update(&(number as u64).to_be_bytes());
        }
        hash.update(insert.as_bytes());
    }
    let hash = hash.finalize();
    *hash.as_bytes().first_chunk().expect("a hash is longer")
}

/// The document after each edit of a section that others are yet to be made from.
struct Branches {
    /// How many edits of the section are made from each one.
    children: BTreeMap<EventId, usize>,
    docs: BTreeMap<EventId, Automerge>,
    /// Those that no edit of the section is made from.
    ends: Vec<Automerge>,
}

impl Branches {
    fn new(section: &[Named<'_>]) -> Self {
        let mut children: BTreeMap<EventId, usize> = section.iter().map(|node| (node.id, 0)).collect();
        for parent in section.iter().flat_map(|node| &node.parents) {
            children.entry(*parent).and_modify(|count| *count += 1);
        }
        Self { children, docs: BTreeMap::new(), ends: Vec::new() }
    }

    /// The document that an edit is made in; none when it is made from the text before the section.
    fn at(&mut self, edit: &Named<'_>) -> Result<Option<Automerge>, AutomergeError> {
        let mut joined: Option<Automerge> = None;
        for parent in &edit.parents {
            let Some(left) = self.children.get_mut(parent) else { continue };
            *left -= 1;
            // The last of its children needs no copy of its own.
            let doc = if *left == 0 { self.docs.remove(parent) } else { self.docs.get(parent).cloned() };
            let Some(mut doc) = doc else { continue };
            match &mut joined {
                Some(joined) => {
                    joined.merge(&mut doc)?;
                }
                None => joined = Some(doc),
            }
        }
        Ok(joined)
    }

    fn grow(&mut self, edit: EventId, doc: Automerge) {
        if self.children[&edit] == 0 {
            self.ends.push(doc);
        } else {
            self.docs.insert(edit, doc);
        }
    }

    fn joined(self) -> Result<Option<Automerge>, AutomergeError> {
        let mut ends = self.ends.into_iter();
        let Some(mut joined) = ends.next() else { return Ok(None) };
        for mut end in ends {
            joined.merge(&mut end)?;
        }
        Ok(Some(joined))
    }
}
