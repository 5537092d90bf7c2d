//! What an author says in a space: a signed header of fixed layout, and a payload that can go while the header stays.

use bytes::Bytes;
use cairn_domain::clock::Hlc;
use cairn_domain::id::MemoryId;
use cairn_domain::truth::Truth;
use ed25519_dalek::{Signer, SigningKey};
use uuid::Uuid;

use crate::certificate::Certificate;
use crate::key::{BrainKey, Epoch, Hash, SpaceId};
use crate::sealing;

/// What the signed bytes begin with, so that nothing else that a device signs can pass for an entry.
const DOMAIN: &[u8] = b"cairn entry 1\0";
/// How many bytes a header has when it is signed.
pub const HEADER_BYTES: usize = 14 + 32 + 32 + 16 + 8 + 32 + 32 + 8 + 4 + 1 + 1 + 16 + 2 + 2 + 4 + 32;
/// The most bytes that a payload may have.
pub const MAX_PAYLOAD_BYTES: usize = 256 * 1024;
/// The most entries that one publication may have. Those of one that is not complete wait in memory.
pub const MAX_PUBLICATION_ENTRIES: u16 = 1_024;
/// The most bytes that the payloads of one publication may have together.
pub const MAX_PUBLICATION_BYTES: usize = 8 * 1024 * 1024;

/// What an entry is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// The space itself: who may do what in it. The owner's alone.
    Control,
    /// A grant that was offered to the author: whether it was accepted.
    Decision,
    /// A memory's fields: claims, retractions, rejections.
    Claim,
    /// A change of a memory's text.
    Change,
    /// What a member would like the owner to say about the space.
    Wish,
    /// A kind of a newer program: kept and passed on, not shown.
    Unknown(u8),
}

/// Who shares a space has two chains in it for each epoch, so that one who was only offered the space can be told about it without
/// being told what is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// About the space itself.
    Control,
    /// What is shared in it.
    Content,
}

/// Everything that is signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// The space. In its very first entry, which is what the space is named by, the bytes are zero.
    pub space: Option<SpaceId>,
    /// The brain that says it.
    pub author: BrainKey,
    /// The device's run of writing.
    pub epoch: Epoch,
    /// Its number in the chain of space, author and epoch, from 1.
    pub number: u64,
    /// The hash of the header before it; [`Hash::NONE`] for the first.
    pub previous: Hash,
    /// The control entry that grants it; [`Hash::NONE`] for the owner, who needs none.
    pub grant: Hash,
    /// When it was said, by the author's clock.
    pub at: Hlc,
    /// How true it is, as the author says.
    pub truth: Truth,
    /// What it is about.
    pub kind: EntryKind,
    /// The memory it is about; the nil id where it is about none.
    pub memory: MemoryId,
    /// How many entries before it belong to the same publication: readers see all of one or nothing.
    pub preceding: u16,
    /// How many entries after it belong to the same publication.
    pub following: u16,
    /// The payload's length in bytes.
    pub payload_bytes: u32,
    /// The payload's hash.
    pub payload: Hash,
}

/// A header with its signature, and the payload where it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    header: Header,
    hash: Hash,
    signature: [u8; 64],
    payload: Option<Bytes>,
    /// The payload as only readers of the space can open it, with one who may not read it.
    sealed: Option<Bytes>,
}

/// Why bytes are no entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEntry {
    /// The header is cut short or holds what no header can.
    #[error("its header cannot be read")]
    Header,
    /// It is of another device, epoch or brain than the certificate.
    #[error("its certificate is another's")]
    Certificate,
    /// The device has not signed it.
    #[error("its device has not signed it")]
    Signature,
    /// The payload is not the one that was signed.
    #[error("its payload is not the one that was signed")]
    Payload,
    /// The payload is larger than [`MAX_PAYLOAD_BYTES`].
    #[error("its payload is larger than {MAX_PAYLOAD_BYTES} bytes")]
    TooLarge,
}

impl EntryKind {
    /// In which of an author's chains such entries are.
    pub const fn lane(self) -> Lane {
        match self {
            Self::Control | Self::Decision | Self::Wish => Lane::Control,
            Self::Claim | Self::Change | Self::Unknown(_) => Lane::Content,
        }
    }

    /// As a byte.
    pub const fn code(self) -> u8 {
        match self {
            Self::Control => 1,
            Self::Decision => 2,
            Self::Claim => 3,
            Self::Change => 4,
            Self::Wish => 5,
            Self::Unknown(code) => code,
        }
    }

    /// What a byte says.
    pub const fn of(code: u8) -> Self {
        match code {
            1 => Self::Control,
            2 => Self::Decision,
            3 => Self::Claim,
            4 => Self::Change,
            5 => Self::Wish,
            code => Self::Unknown(code),
        }
    }
}

impl Header {
    /// The bytes that are signed.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let memory = self.memory.uuid();
        let parts: [&[u8]; 16] = [
            DOMAIN,
            self.space.as_ref().map_or(&[0_u8; 32], SpaceId::bytes).as_slice(),
            self.author.bytes(),
            &self.epoch.0,
            &self.number.to_be_bytes(),
            self.previous.bytes(),
            self.grant.bytes(),
            &self.at.millis.to_be_bytes(),
            &self.at.counter.to_be_bytes(),
            &[self.truth.level()],
            &[self.kind.code()],
            memory.as_bytes(),
            &self.preceding.to_be_bytes(),
            &self.following.to_be_bytes(),
            &self.payload_bytes.to_be_bytes(),
            self.payload.bytes(),
        ];
        parts.concat().try_into().expect("the parts add up")
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote. No two headers have the same bytes, and no two spellings are one header.
    ///
    /// # Errors
    /// [`InvalidEntry::Header`].
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidEntry> {
        let mut rest = Rest(bytes.strip_prefix(DOMAIN).ok_or(InvalidEntry::Header)?);
        let space = rest.hash()?;
        let header = Self {
            space: (space != Hash::NONE).then(|| SpaceId::new(space)),
            // Who has signed it shows whether it is a key ([`Entry::check`]).
            author: BrainKey::named(rest.take()?),
            epoch: Epoch(rest.take()?),
            number: u64::from_be_bytes(rest.take()?),
            previous: rest.hash()?,
            grant: rest.hash()?,
            at: Hlc { millis: u64::from_be_bytes(rest.take()?), counter: u32::from_be_bytes(rest.take()?) },
            truth: Truth::try_from(rest.byte()?).map_err(|_| InvalidEntry::Header)?,
            kind: EntryKind::of(rest.byte()?),
            memory: MemoryId::new(Uuid::from_bytes(rest.take()?)),
            preceding: u16::from_be_bytes(rest.take()?),
            following: u16::from_be_bytes(rest.take()?),
            payload_bytes: u32::from_be_bytes(rest.take()?),
            payload: rest.hash()?,
        };
        match rest.0 {
            [] => Ok(header),
            _ => Err(InvalidEntry::Header),
        }
    }
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], InvalidEntry> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(InvalidEntry::Header)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn byte(&mut self) -> Result<u8, InvalidEntry> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn hash(&mut self) -> Result<Hash, InvalidEntry> {
        self.take().map(Hash::new)
    }
}

impl Entry {
    /// Signs an entry. Its payload's length and hash are set here.
    ///
    /// # Errors
    /// [`InvalidEntry::TooLarge`].
    pub fn sign(mut header: Header, payload: Bytes, device: &SigningKey) -> Result<Self, InvalidEntry> {
        if payload.len() > MAX_PAYLOAD_BYTES {
            return Err(InvalidEntry::TooLarge);
        }
        header.payload_bytes = u32::try_from(payload.len()).map_err(|_| InvalidEntry::TooLarge)?;
        header.payload = Hash::of(&payload);
        let bytes = header.to_bytes();
        let signature = device.sign(&bytes).to_bytes();
        Ok(Self { header, hash: Hash::of(&bytes), signature, payload: Some(payload), sealed: None })
    }

    /// Takes what came from elsewhere, once everything about it that can be checked alone holds: the certificate is the author's,
    /// the device has signed the header, and the payload, where there is one, is the one that was signed.
    ///
    /// # Errors
    /// See [`InvalidEntry`].
    pub fn check(
        header: Header,
        signature: [u8; 64],
        payload: Option<Bytes>,
        certificate: &Certificate,
    ) -> Result<Self, InvalidEntry> {
        if header.payload_bytes as usize > MAX_PAYLOAD_BYTES {
            return Err(InvalidEntry::TooLarge);
        }
        if (header.author, header.epoch) != (certificate.brain(), certificate.epoch()) {
            return Err(InvalidEntry::Certificate);
        }
        let bytes = header.to_bytes();
        if !certificate.has_signed(&bytes, &signature) {
            return Err(InvalidEntry::Signature);
        }
        if let Some(payload) = &payload
            && (payload.len() != header.payload_bytes as usize || Hash::of(payload) != header.payload)
        {
            return Err(InvalidEntry::Payload);
        }
        Ok(Self { header, hash: Hash::of(&bytes), signature, payload, sealed: None })
    }

    /// Takes what this brain has kept, which was checked when it came.
    pub fn kept(header: Header, signature: [u8; 64], payload: Option<Bytes>) -> Self {
        let hash = Hash::of(&header.to_bytes());
        Self { header, hash, signature, payload, sealed: None }
    }

    /// What was signed.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The hash of the header: what the next entry names, and what a grant is named by.
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// The device's signature over the header.
    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    /// The payload; `None` where it was erased, or has not come yet.
    pub fn payload(&self) -> Option<&Bytes> {
        self.payload.as_ref()
    }

    /// The payload as only readers of the space can open it, where that is all there is of it here.
    pub fn sealed(&self) -> Option<&Bytes> {
        self.sealed.as_ref()
    }

    /// The same entry with its payload sealed. One of another length is none.
    #[must_use]
    pub fn with_sealed(self, sealed: Option<Bytes>) -> Self {
        let sealed = sealed.filter(|sealed| sealing::fits(&self.header, sealed));
        Self { payload: None, sealed, ..self }
    }

    /// The same entry with the payload that was sealed; none where it is not the one that was signed.
    pub fn opened(self, payload: Bytes) -> Option<Self> {
        let is_signed = Hash::of(&payload) == self.header.payload;
        is_signed.then_some(Self { payload: Some(payload), sealed: None, ..self })
    }

    /// The space it is in: the one it names, or the one that it begins.
    pub fn space(&self) -> SpaceId {
        self.header.space.unwrap_or(SpaceId::new(self.hash))
    }

    /// The same entry without its payload.
    #[must_use]
    pub fn erased(self) -> Self {
        Self { payload: None, sealed: None, ..self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::key::DeviceKey;

    fn device() -> SigningKey {
        SigningKey::from_bytes(&[2; 32])
    }

    fn certificate() -> Certificate {
        Certificate::make(&SigningKey::from_bytes(&[1; 32]), DeviceKey::of(&device()), Epoch([3; 16]), 0)
    }

    fn header() -> Header {
        Header {
            space: Some(SpaceId::new(Hash::of(b"garden"))),
            author: certificate().brain(),
            epoch: Epoch([3; 16]),
            number: 7,
            previous: Hash::of(b"six"),
            grant: Hash::of(b"grant"),
            at: Hlc { millis: 1_790_000_000_000, counter: 3 },
            truth: Truth::User,
            kind: EntryKind::Claim,
            memory: MemoryId::new(Uuid::from_u128(9)),
            preceding: 1,
            following: 2,
            payload_bytes: 0,
            payload: Hash::NONE,
        }
    }

    #[test]
    fn a_header_is_its_bytes_and_no_others() {
        let header = header();
        let bytes = header.to_bytes();
        assert_eq!(Header::parse(&bytes), Ok(header.clone()));
        assert_eq!(Header::parse(&bytes[..HEADER_BYTES - 1]), Err(InvalidEntry::Header));
        assert_eq!(Header::parse(&[&bytes[..], &[0]].concat()), Err(InvalidEntry::Header));
        for at in 0..HEADER_BYTES {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_ne!(Header::parse(&changed), Ok(header.clone()), "byte {at}");
        }
    }

    proptest! {
        /// Whatever a peer sends: it is refused, or it is the one spelling of what it says.
        #[test]
        fn any_bytes_are_refused_or_are_one_header(bytes in vec(any::<u8>(), HEADER_BYTES - DOMAIN.len())) {
            let mut bytes = [DOMAIN, &bytes].concat();
            if let Ok(header) = Header::parse(&bytes) {
                prop_assert_eq!(&header.to_bytes()[..], &bytes[..]);
            }
            // An author and a level that can be, so that the rest is looked at.
            bytes[46..78].copy_from_slice(certificate().brain().bytes());
            bytes[178] = bytes[178] % 5 + 1;
            let header = Header::parse(&bytes).expect("nothing else is refused");
            prop_assert_eq!(&header.to_bytes()[..], &bytes[..]);
        }
    }

    #[test]
    fn an_entry_holds_as_it_was_signed_with_or_without_its_payload() {
        let made = Entry::sign(header(), Bytes::from_static(b"words"), &device()).expect("it is small");
        let check =
            |header: &Header, signature, payload| Entry::check(header.clone(), signature, payload, &certificate());
        let (header, signature) = (made.header().clone(), *made.signature());
        assert_eq!(check(&header, signature, Some(Bytes::from_static(b"words"))), Ok(made.clone()));
        let without = check(&header, signature, None).expect("the header proves itself");
        assert_eq!((without.hash(), without.payload()), (made.hash(), None));
        assert_eq!(without, made.erased());
        assert_eq!(check(&header, signature, Some(Bytes::from_static(b"sword"))), Err(InvalidEntry::Payload));
        let elsewhere = Header { space: Some(SpaceId::new(Hash::of(b"cellar"))), ..header.clone() };
        assert_eq!(
            check(&elsewhere, signature, None),
            Err(InvalidEntry::Signature),
            "it is worth nothing elsewhere"
        );
        let truer = Header { truth: Truth::CloudAi, ..header.clone() };
        assert_eq!(check(&truer, signature, None), Err(InvalidEntry::Signature));
        let later = Header { epoch: Epoch([4; 16]), ..header };
        assert_eq!(check(&later, signature, None), Err(InvalidEntry::Certificate));
    }

    #[test]
    fn what_is_too_large_is_refused_before_it_is_hashed() {
        let large = Bytes::from(vec![0; MAX_PAYLOAD_BYTES + 1]);
        assert_eq!(Entry::sign(header(), large, &device()), Err(InvalidEntry::TooLarge));
        let claimed = Header { payload_bytes: u32::MAX, ..header() };
        assert_eq!(Entry::check(claimed, [0; 64], None, &certificate()), Err(InvalidEntry::TooLarge));
    }
}
