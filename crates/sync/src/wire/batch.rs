//! Entries on the wire: without what their place says, which the receiver puts back.

use bytes::Bytes;
use cairn_domain::clock::Hlc;
use cairn_domain::id::MemoryId;
use cairn_domain::truth::Truth;
use cairn_proto::sync as proto;
use prost::Message;
use uuid::Uuid;

use super::{BATCH_BYTES, ENTRY_BYTES, InvalidFrame, MAX_BATCH_ENTRIES, Pull, array, certificate, limited, space};
use crate::certificate::Certificate;
use crate::chain::ChainId;
use crate::entry::{Entry, EntryKind, Header};
use crate::key::{Hash, SpaceId, Tag};

/// Entries as they came.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The space.
    pub space: SpaceId,
    /// The chain.
    pub chain: Tag,
    /// The author's certificate, if it came along.
    pub certificate: Option<Certificate>,
    /// The number of the first entry.
    pub first: u64,
    /// The hash of the header before it.
    pub previous: Hash,
    /// Whether there is more.
    pub more: bool,
    /// Whether it was asked for.
    pub asked: bool,
    entries: Vec<Bytes>,
    /// What came of checking them ahead of their turn, by the certificate that they came with.
    checked: Option<Checked>,
}

type Checked = Result<Vec<Entry>, InvalidFrame>;

impl Batch {
    /// Entries of a chain, one after the other, as far as they fit into one batch. Gives how many did.
    pub fn of(chain: ChainId, entries: &[Entry], certificate: Option<Certificate>, asked: bool) -> (Self, usize) {
        let first = entries.first().map(Entry::header);
        let mut packed = Vec::with_capacity(entries.len().min(MAX_BATCH_ENTRIES));
        let (mut bytes, mut before) = (0, None);
        for entry in entries.iter().take(MAX_BATCH_ENTRIES) {
            bytes += ENTRY_BYTES + entry.payload().or(entry.sealed()).map_or(0, Bytes::len);
            if bytes > BATCH_BYTES && !packed.is_empty() {
                break;
            }
            packed.push(pack(entry, before).encode_to_vec().into());
            before = Some(entry.header());
        }
        let count = packed.len();
        let batch = Self {
            space: chain.space,
            chain: chain.tag(),
            certificate,
            first: first.map_or(0, |header| header.number),
            previous: first.map_or(Hash::NONE, |header| header.previous),
            more: count < entries.len(),
            asked,
            entries: packed,
            checked: None,
        };
        (batch, count)
    }

    /// The answer to who asks for what there is not, or what they may not read.
    pub fn nothing(pull: Pull) -> Self {
        Self {
            space: pull.space,
            chain: pull.chain,
            certificate: None,
            first: 0,
            previous: Hash::NONE,
            more: false,
            asked: true,
            entries: Vec::new(),
            checked: None,
        }
    }

    /// The entries as they go over the wire.
    pub(super) fn packed(&self) -> &[Bytes] {
        &self.entries
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Checks its entries ahead of their turn, if it brings the certificate for that.
    pub(super) fn check_ahead(&mut self) {
        self.checked = self.certificate.as_ref().map(|certificate| self.check(certificate));
    }

    /// Reads and checks its entries.
    ///
    /// # Errors
    /// See [`InvalidFrame`]. None of them is to be taken then.
    pub fn open(&mut self, certificate: &Certificate) -> Result<Vec<Entry>, InvalidFrame> {
        match self.checked.take().filter(|_| self.certificate.as_ref() == Some(certificate)) {
            Some(checked) => checked,
            None => self.check(certificate),
        }
    }

    fn check(&self, certificate: &Certificate) -> Result<Vec<Entry>, InvalidFrame> {
        let mut entries: Vec<Entry> = Vec::with_capacity(self.entries.len());
        for (number, packed) in (self.first..).zip(&self.entries) {
            let wire = proto::Entry::decode(packed.clone()).map_err(|_| InvalidFrame::Malformed)?;
            let before = entries.last();
            let sealed = Some(wire.sealed.clone()).filter(|sealed| !sealed.is_empty());
            let (header, signature, payload) = unpack(self, number, before, wire, certificate)?;
            let id = ChainId {
                space: self.space,
                author: header.author,
                epoch: header.epoch,
                lane: header.kind.lane(),
            };
            if id.tag() != self.chain {
                return Err(InvalidFrame::Unsound("chain"));
            }
            let entry = Entry::check(header, signature, payload, certificate)
                .map_err(|source| InvalidFrame::Entry { number, source })?;
            if entry.space() != self.space {
                return Err(InvalidFrame::Unsound("space"));
            }
            let entry = if entry.payload().is_none() { entry.with_sealed(sealed) } else { entry };
            entries.push(entry);
        }
        Ok(entries)
    }
}

/// An entry without what its place says.
fn pack(entry: &Entry, before: Option<&Header>) -> proto::Entry {
    let header = entry.header();
    let memory = header.memory.uuid();
    let same_memory = before.map_or(memory.is_nil(), |before| before.memory == header.memory);
    let same_grant = before.map_or(header.grant == Hash::NONE, |before| before.grant == header.grant);
    let millis = before.map_or(0, |before| before.at.millis);
    proto::Entry {
        signature: Bytes::copy_from_slice(entry.signature()),
        millis: header.at.millis.wrapping_sub(millis).cast_signed(),
        counter: header.at.counter,
        truth: u32::from(header.truth.level()),
        kind: u32::from(header.kind.code()),
        memory: if same_memory { Bytes::new() } else { Bytes::copy_from_slice(memory.as_bytes()) },
        preceding: u32::from(header.preceding),
        following: u32::from(header.following),
        grant: if same_grant { Bytes::new() } else { Bytes::copy_from_slice(header.grant.bytes()) },
        payload: entry.payload().cloned().unwrap_or_default(),
        payload_hash: match entry.payload() {
            Some(_) => Bytes::new(),
            None => Bytes::copy_from_slice(header.payload.bytes()),
        },
        payload_bytes: if entry.payload().is_some() { 0 } else { header.payload_bytes },
        begins: header.space.is_none(),
        sealed: entry.sealed().cloned().unwrap_or_default(),
    }
}

type Unpacked = (Header, [u8; 64], Option<Bytes>);

/// The entry with what its place says.
fn unpack(
    batch: &Batch,
    number: u64,
    before: Option<&Entry>,
    wire: proto::Entry,
    certificate: &Certificate,
) -> Result<Unpacked, InvalidFrame> {
    let signature = array(&wire.signature, "signature")?;
    let last = before.map(Entry::header);
    let memory = match wire.memory.is_empty() {
        true => last.map_or(MemoryId::new(Uuid::nil()), |last| last.memory),
        false => MemoryId::new(Uuid::from_bytes(array(&wire.memory, "memory")?)),
    };
    let grant = match wire.grant.is_empty() {
        true => last.map_or(Hash::NONE, |last| last.grant),
        false => Hash::new(array(&wire.grant, "grant")?),
    };
    let payload = wire.payload_hash.is_empty().then_some(wire.payload);
    let (payload_hash, payload_bytes) = match &payload {
        Some(payload) => (Hash::of(payload), u32::try_from(payload.len()).unwrap_or(u32::MAX)),
        None => (Hash::new(array(&wire.payload_hash, "payload's hash")?), wire.payload_bytes),
    };
    let small = |number: u32, what| u16::try_from(number).map_err(|_| InvalidFrame::Unsound(what));
    let byte = |number: u32, what| u8::try_from(number).map_err(|_| InvalidFrame::Unsound(what));
    let millis = last.map_or(0, |last| last.at.millis).wrapping_add_signed(wire.millis);
    let header = Header {
        space: (!wire.begins).then_some(batch.space),
        author: certificate.brain(),
        epoch: certificate.epoch(),
        number,
        previous: before.map_or(batch.previous, Entry::hash),
        grant,
        at: Hlc { millis, counter: wire.counter },
        truth: Truth::try_from(byte(wire.truth, "truth")?).map_err(|_| InvalidFrame::Unsound("truth"))?,
        kind: EntryKind::of(byte(wire.kind, "kind")?),
        memory,
        preceding: small(wire.preceding, "publication")?,
        following: small(wire.following, "publication")?,
        payload_bytes,
        payload: payload_hash,
    };
    Ok((header, signature, payload))
}

pub(super) fn read_batch(batch: proto::Batch) -> Result<Batch, InvalidFrame> {
    limited(batch.entries.len(), MAX_BATCH_ENTRIES, "entries")?;
    if batch.first == 0 && !batch.entries.is_empty() || batch.first > u64::MAX / 2 {
        return Err(InvalidFrame::Unsound("number"));
    }
    Ok(Batch {
        space: space(&batch.space)?,
        chain: Tag(array(&batch.chain, "chain")?),
        certificate: (!batch.certificate.is_empty()).then(|| certificate(&batch.certificate)).transpose()?,
        first: batch.first,
        previous: match batch.previous.is_empty() {
            true => Hash::NONE,
            false => Hash::new(array(&batch.previous, "hash")?),
        },
        more: batch.more,
        asked: batch.asked,
        entries: batch.entries,
        checked: None,
    })
}
