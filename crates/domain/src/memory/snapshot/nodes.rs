//! What claims and edits have in common, packed into bytes: decoding them one by one takes most of the time otherwise.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use super::InvalidSnapshot;
use crate::id::EventId;

/// An authorship: the place of its writer, the clock, the command.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) struct Written(pub u32, pub u64, pub u32, pub Uuid);

/// A claim or an edit without its content.
pub(super) struct Node {
    pub id: EventId,
    pub written: Written,
    /// What it supersedes, or what it was made from.
    pub before: Vec<EventId>,
    pub accepts: Option<EventId>,
    /// How many pieces its content has.
    pub parts: u32,
}

/// Many of them: of each a mark of [`MARK_BYTES`], and the ids that the marks count.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Nodes {
    pub marks: Packed,
    links: Packed,
}

/// Bytes that are written as bytes, not as a list of numbers.
#[derive(Default)]
pub(super) struct Packed(pub Vec<u8>);

/// Id, writer, clock (8 + 4), command, number of links, whether there is an acceptance, number of parts.
pub(super) const MARK_BYTES: usize = ID_BYTES + 4 + 8 + 4 + ID_BYTES + 4 + 1 + 4;
const ID_BYTES: usize = 16;

impl FromIterator<Node> for Nodes {
    fn from_iter<I: IntoIterator<Item = Node>>(nodes: I) -> Self {
        let mut packed = Self::default();
        for Node { id, written: Written(writer, millis, counter, command), before, accepts, parts } in nodes {
            let marks = &mut packed.marks.0;
            marks.extend_from_slice(id.uuid().as_bytes());
            marks.extend_from_slice(&writer.to_le_bytes());
            marks.extend_from_slice(&millis.to_le_bytes());
            marks.extend_from_slice(&counter.to_le_bytes());
            marks.extend_from_slice(command.as_bytes());
            let links = u32::try_from(before.len()).expect("an event is made from fewer than four billion others");
            marks.extend_from_slice(&links.to_le_bytes());
            marks.push(u8::from(accepts.is_some()));
            marks.extend_from_slice(&parts.to_le_bytes());
            for link in before.iter().chain(&accepts) {
                packed.links.0.extend_from_slice(link.uuid().as_bytes());
            }
        }
        packed
    }
}

impl Nodes {
    /// Takes the nodes apart again, in order.
    pub fn read(&self) -> impl Iterator<Item = Result<Node, InvalidSnapshot>> {
        let mut links = Reader(&self.links.0);
        let mut marks = Reader(&self.marks.0);
        std::iter::from_fn(move || (!marks.0.is_empty()).then(|| node(&mut marks, &mut links)))
            // After the first error there is nothing to go on with.
            .scan(false, |failed, node| {
                let stop = *failed;
                *failed = node.is_err();
                (!stop).then_some(node)
            })
    }
}

fn node(marks: &mut Reader<'_>, links: &mut Reader<'_>) -> Result<Node, InvalidSnapshot> {
    let id = marks.id()?;
    let writer = u32::from_le_bytes(marks.take()?);
    let millis = u64::from_le_bytes(marks.take()?);
    let counter = u32::from_le_bytes(marks.take()?);
    let command = Uuid::from_bytes(marks.take()?);
    let count = u32::from_le_bytes(marks.take()?) as usize;
    let [accepting] = marks.take()?;
    let parts = u32::from_le_bytes(marks.take()?);
    if count > links.0.len() / ID_BYTES {
        return Err(InvalidSnapshot::Dangling("a link"));
    }
    let before = (0..count).map(|_| links.id()).collect::<Result<Vec<_>, _>>()?;
    let accepts = if accepting == 0 { None } else { Some(links.id()?) };
    Ok(Node { id, written: Written(writer, millis, counter, command), before, accepts, parts })
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], InvalidSnapshot> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(InvalidSnapshot::Dangling("a link"))?;
        self.0 = rest;
        Ok(*taken)
    }

    fn id(&mut self) -> Result<EventId, InvalidSnapshot> {
        Ok(EventId::new(Uuid::from_bytes(self.take()?)))
    }
}

impl Serialize for Packed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Packed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_byte_buf(PackedVisitor)
    }
}

struct PackedVisitor;

impl Visitor<'_> for PackedVisitor {
    type Value = Packed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("bytes")
    }

    fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<Packed, E> {
        Ok(Packed(bytes.to_vec()))
    }

    fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<Packed, E> {
        Ok(Packed(bytes))
    }
}
