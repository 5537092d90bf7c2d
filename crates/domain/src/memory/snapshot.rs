//! A memory as bytes, so that one with many events need not be folded anew.
//!
//! A snapshot is a cache: who cannot read one folds the events instead. So its format follows the code, and
//! [`SNAPSHOT_FORMAT`] goes up with each change of either. What writers have in common (principal, truth, origin)
//! is written once, and what can be told from the rest is not written at all.

mod nodes;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use self::nodes::{MARK_BYTES, Node, Nodes, Written};
use super::{Memory, Undo};
use crate::body::{Body, Edit, Effective, Splice};
use crate::claim::{Authorship, Claim, FieldClaims, Standing};
use crate::clock::Hlc;
use crate::event::FileImported;
use crate::field::FieldName;
use crate::id::{EventId, MemoryId, PrincipalId};
use crate::principal::Origin;
use crate::truth::Truth;
use crate::value::Value;
use crate::verdict::{Verdict, Verdicts};

/// The format of the snapshots this program writes; it reads no other.
pub const SNAPSHOT_FORMAT: u32 = 3;

/// Bytes that are no snapshot of this format.
#[derive(Debug, thiserror::Error)]
pub enum InvalidSnapshot {
    /// They do not decode.
    #[error("the bytes are no snapshot of format {SNAPSHOT_FORMAT}")]
    Malformed(#[from] rmp_serde::decode::Error),
    /// They decode, but refer to something that is not in them.
    #[error("the snapshot refers to {0} that it does not hold")]
    Dangling(&'static str),
}

#[derive(Serialize, Deserialize)]
struct Frozen {
    memory: MemoryId,
    writers: Vec<Writer>,
    creations: Vec<(EventId, Written)>,
    fields: Vec<Field>,
    edits: Nodes,
    early: Nodes,
    /// The splices of all edits, one edit after the other; those that came early last.
    splices: Vec<(usize, usize, String)>,
    rejected_edits: Vec<FrozenVerdict>,
    effective: Effective,
    file: Option<File>,
    undos: Vec<(EventId, Written, Uuid)>,
    updated: Hlc,
    erased: bool,
    space: Option<String>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Writer(PrincipalId, Truth, Origin, Standing);

/// Event, target, author, whether it is void.
#[derive(Serialize, Deserialize)]
struct FrozenVerdict(EventId, EventId, Written, bool);

#[derive(Serialize, Deserialize)]
struct Field {
    name: FieldName,
    claims: Nodes,
    values: Vec<Value>,
    heads: Vec<usize>,
    retractions: Vec<FrozenVerdict>,
    rejections: Vec<FrozenVerdict>,
    unseen: Vec<EventId>,
}

/// A [`FileImported`] with every member present, because this format tells members by their place.
#[derive(Serialize, Deserialize)]
struct File(Uuid, String, String, String, Vec<String>, bool);

impl Memory {
    /// The memory as bytes.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        let mut freezer = Freezer::default();
        let undos = self.undos.iter().map(|undo| (undo.event, freezer.written(&undo.by), undo.undone)).collect();
        let frozen = Frozen {
            memory: self.id,
            creations: self.creations.iter().map(|(id, author)| (*id, freezer.written(author))).collect(),
            fields: self.fields.iter().map(|(name, claims)| freezer.field(name, claims)).collect(),
            edits: self.body.edits.iter().map(|edit| freezer.edit(edit)).collect(),
            early: self.body.early.values().flatten().map(|edit| freezer.edit(edit)).collect(),
            splices: self
                .body
                .edits
                .iter()
                .chain(self.body.early.values().flatten())
                .flat_map(|edit| &edit.splices)
                .map(freeze_splice)
                .collect(),
            rejected_edits: freezer.verdicts(&self.body.rejections),
            effective: self.body.effective().clone(),
            file: self.file.as_ref().map(freeze_file),
            undos,
            updated: self.updated,
            erased: self.erased,
            space: self.space.clone(),
            writers: freezer.writers,
        };
        rmp_serde::to_vec(&frozen).expect("a memory holds nothing that MessagePack cannot")
    }

    /// The memory that [`Self::encode_snapshot`] made the bytes from.
    ///
    /// # Errors
    /// When they are not such bytes, or of another [`SNAPSHOT_FORMAT`].
    pub fn decode_snapshot(bytes: &[u8]) -> Result<Self, InvalidSnapshot> {
        let frozen: Frozen = rmp_serde::from_slice(bytes)?;
        let writers = frozen.writers;
        let thaw = Thaw { writers: &writers };
        let mut fields = BTreeMap::new();
        for field in frozen.fields {
            let (name, claims) = thaw.field(field)?;
            fields.insert(name, claims);
        }
        let splices = frozen.splices.into_iter().map(|(at, delete, insert)| Splice { at, delete, insert });
        let mut splices = splices.collect::<Vec<_>>().into_iter();
        let edits = thaw.edits(&frozen.edits, &mut splices)?;
        let early = thaw.edits(&frozen.early, &mut splices)?;
        let rejections = thaw.verdicts(frozen.rejected_edits)?;
        let body =
            Body::kept(edits, early, rejections, frozen.effective).ok_or(InvalidSnapshot::Dangling("an edit"))?;
        let undo = |(event, by, undone)| Ok(Undo { event, by: thaw.author(by)?, undone });
        Ok(Self {
            id: frozen.memory,
            creations: frozen
                .creations
                .into_iter()
                .map(|(id, written)| Ok((id, thaw.author(written)?)))
                .collect::<Result<_, InvalidSnapshot>>()?,
            fields,
            body,
            file: frozen.file.map(thaw_file),
            undos: frozen.undos.into_iter().map(undo).collect::<Result<_, InvalidSnapshot>>()?,
            updated: frozen.updated,
            erased: frozen.erased,
            space: frozen.space,
        })
    }
}

/// Collects the writers while a memory is taken apart.
#[derive(Default)]
struct Freezer {
    writers: Vec<Writer>,
    places: BTreeMap<Writer, u32>,
    /// The writer of the last authorship: mostly that of the next one, too.
    last: Option<(Writer, u32)>,
}

impl Freezer {
    fn written(&mut self, author: &Authorship) -> Written {
        let at = match &self.last {
            Some((Writer(principal, truth, origin, standing), at))
                if *principal == author.principal
                    && (*truth, *standing) == (author.truth, author.standing)
                    && *origin == author.origin =>
            {
                *at
            }
            _ => self.place(Writer(author.principal, author.truth, author.origin.clone(), author.standing)),
        };
        Written(at, author.hlc.millis, author.hlc.counter, author.command)
    }

    fn place(&mut self, writer: Writer) -> u32 {
        let next = u32::try_from(self.writers.len()).expect("a memory has fewer than four billion writers");
        let at = *self.places.entry(writer.clone()).or_insert(next);
        if at == next {
            self.writers.push(writer.clone());
        }
        self.last = Some((writer, at));
        at
    }

    fn verdicts(&mut self, verdicts: &Verdicts) -> Vec<FrozenVerdict> {
        let mut frozen = Vec::new();
        for (target, verdicts) in verdicts.entries() {
            let written = |verdict: &Verdict| {
                FrozenVerdict(verdict.event, target, self.written(&verdict.author), verdict.void)
            };
            frozen.extend(verdicts.iter().map(written));
        }
        frozen
    }

    fn field(&mut self, name: &FieldName, field: &FieldClaims) -> Field {
        let claim = |claim: &Claim| Node {
            id: claim.id,
            written: self.written(&claim.author),
            before: claim.supersedes.clone(),
            accepts: claim.accepts,
            parts: 0,
        };
        Field {
            name: name.clone(),
            claims: field.claims.iter().map(claim).collect(),
            values: field.claims.iter().map(|claim| claim.value.clone()).collect(),
            heads: field.heads.clone(),
            retractions: self.verdicts(&field.retractions),
            rejections: self.verdicts(&field.rejections),
            unseen: field.unseen.iter().copied().collect(),
        }
    }

    fn edit(&mut self, edit: &Edit) -> Node {
        Node {
            id: edit.id,
            written: self.written(&edit.author),
            before: edit.parents.clone(),
            accepts: edit.accepts,
            parts: u32::try_from(edit.splices.len()).expect("an edit has fewer than four billion splices"),
        }
    }
}

/// Puts a memory together again.
struct Thaw<'a> {
    writers: &'a [Writer],
}

impl Thaw<'_> {
    fn author(&self, written: Written) -> Result<Authorship, InvalidSnapshot> {
        let Written(at, millis, counter, command) = written;
        let Writer(principal, truth, origin, standing) =
            self.writers.get(at as usize).ok_or(InvalidSnapshot::Dangling("a writer"))?;
        let hlc = Hlc { millis, counter };
        let (principal, truth, origin, standing) = (*principal, *truth, origin.clone(), *standing);
        Ok(Authorship { principal, truth, origin, hlc, command, standing })
    }

    fn verdicts(&self, frozen: Vec<FrozenVerdict>) -> Result<Verdicts, InvalidSnapshot> {
        let mut by_target: BTreeMap<EventId, Vec<Verdict>> = BTreeMap::new();
        for FrozenVerdict(event, target, written, void) in frozen {
            by_target.entry(target).or_default().push(Verdict { event, author: self.author(written)?, void });
        }
        Ok(Verdicts::from_entries(by_target.into_iter()))
    }

    fn field(&self, field: Field) -> Result<(FieldName, FieldClaims), InvalidSnapshot> {
        let mut claims = Vec::with_capacity(field.values.len());
        let mut values = field.values.into_iter();
        for node in field.claims.read() {
            let Node { id, written, before: supersedes, accepts, .. } = node?;
            let value = values.next().ok_or(InvalidSnapshot::Dangling("a value"))?;
            claims.push(Claim { id, value, author: self.author(written)?, supersedes, accepts });
        }
        if field.heads.iter().any(|&head| head >= claims.len()) {
            return Err(InvalidSnapshot::Dangling("a claim"));
        }
        let index = claims.iter().enumerate().map(|(at, claim)| (claim.id, at)).collect();
        let claims = FieldClaims {
            claims,
            index,
            retractions: self.verdicts(field.retractions)?,
            rejections: self.verdicts(field.rejections)?,
            heads: field.heads,
            unseen: field.unseen.into_iter().collect(),
        };
        Ok((field.name, claims))
    }

    fn edits(
        &self,
        nodes: &Nodes,
        splices: &mut impl Iterator<Item = Splice>,
    ) -> Result<Vec<Edit>, InvalidSnapshot> {
        let mut edits = Vec::with_capacity(nodes.marks.0.len() / MARK_BYTES);
        for node in nodes.read() {
            let Node { id, written, before: parents, accepts, parts } = node?;
            let own: Vec<Splice> = splices.by_ref().take(parts as usize).collect();
            if own.len() != parts as usize {
                return Err(InvalidSnapshot::Dangling("a splice"));
            }
            edits.push(Edit { id, author: self.author(written)?, parents, splices: own, accepts });
        }
        Ok(edits)
    }
}

fn freeze_splice(splice: &Splice) -> (usize, usize, String) {
    (splice.at, splice.delete, splice.insert.clone())
}

fn freeze_file(file: &FileImported) -> File {
    let FileImported { vault, path, digest, part, unresolved, vanished } = file.clone();
    File(vault, path, digest, part, unresolved, vanished)
}

fn thaw_file(File(vault, path, digest, part, unresolved, vanished): File) -> FileImported {
    FileImported { vault, path, digest, part, unresolved, vanished }
}

#[cfg(test)]
mod tests;
