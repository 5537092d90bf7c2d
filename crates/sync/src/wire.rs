//! Between what brains say to each other and what it means. Limits are looked at before anything is read, and nothing that comes out has not been
//! checked alone.

mod batch;
mod known;
mod receipt;

use bytes::Bytes;
use cairn_proto::sync as proto;
use prost::Message;

use crate::certificate::Certificate;
use crate::chain::Fork;
use crate::entry::{Entry, Header, InvalidEntry};
use crate::key::{Epoch, Hash, SpaceId, Tag};
use crate::roster::Roster;

pub use batch::Batch;
use batch::read_batch;
pub use known::KnownPeer;
use known::{known_peer, read_known_peer};
pub use receipt::Receipt;
use receipt::{read_receipt, receipt};

/// The versions of the protocol that this program speaks.
pub const OLDEST_VERSION: u32 = 1;
/// The newest of them.
pub const NEWEST_VERSION: u32 = 1;
/// The most bytes of a frame.
pub const MAX_FRAME_BYTES: usize = 384 * 1024;
/// The most entries of one batch: their signatures take some 50 ms to check.
pub const MAX_BATCH_ENTRIES: usize = 1_000;
/// A batch is full when its entries have this many bytes. With what was sent without being asked for, it is what is sent twice after a cut.
pub const BATCH_BYTES: usize = 112 * 1024;
/// The most spaces that a frame speaks of.
pub const MAX_SPACES: usize = 1_024;
/// The most chains of a space that a frame speaks of.
pub const MAX_CHAINS: usize = 1_024;
/// The most addresses of a device.
pub const MAX_ADDRESSES: usize = 16;
/// The most bytes of an address.
pub const MAX_ADDRESS_BYTES: usize = 512;
/// The most bytes of a brain's name.
pub const MAX_NAME_BYTES: usize = 200;
/// The most brains that a device tells another one of the same brain about in a frame.
pub const MAX_KNOWN_PEERS: usize = 16;
/// What stands for the first number in a pull that asks for a proof. The first entry of a chain has number 1.
pub const PROOF: u64 = 0;
/// What a head has on the wire.
const HEAD_BYTES: usize = 40;
/// About what an entry has on the wire besides its payload.
const ENTRY_BYTES: usize = 120;

/// Why a frame is refused. Its sender has no sound program, or means harm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFrame {
    /// It is too large, or holds too much.
    #[error("it holds more than the {limit} {what} allowed")]
    TooMuch {
        /// What there is too much of.
        what: &'static str,
        /// How much there may be.
        limit: usize,
    },
    /// It cannot be read.
    #[error("it cannot be read")]
    Malformed,
    /// It says what nobody can say.
    #[error("its {0} is not sound")]
    Unsound(&'static str),
    /// An entry in it is not what it should be.
    #[error("entry {number} is not sound")]
    Entry {
        /// Its number.
        number: u64,
        /// What is wrong.
        source: InvalidEntry,
    },
}

/// A frame, read.
#[derive(Debug, Clone, PartialEq)]
pub enum Frame {
    /// Who is there.
    Hello(Hello),
    /// Asks to be known, with the secret of an invitation.
    Pair {
        /// The secret.
        secret: Bytes,
    },
    /// The invitation was taken up.
    Paired,
    /// How far the sender has the chains of some spaces.
    Heads(Vec<SpaceHeads>),
    /// Asks for entries.
    Pull(Pull),
    /// Entries, not read yet: which chain they are of tells whether they are wanted.
    Batch(Batch),
    /// What the sender has kept.
    Receipt(Receipt),
    /// A fork of a chain, with the certificate of the device that made it.
    Proof(Fork, Certificate),
    /// The sender will not go on.
    Refused(Refusal),
    /// The devices of a brain.
    Roster(Roster),
    /// Brains that another device of this brain knows.
    KnownPeers(Vec<KnownPeer>),
    /// Asks for a certificate for another epoch of the sender's, a device of this brain.
    Certify {
        /// The epoch.
        epoch: Epoch,
    },
    /// The certificate that makes the receiver a device of the sender's brain.
    Certified {
        /// The certificate.
        certificate: Certificate,
        /// What the brain's owner calls it.
        name: String,
    },
}

/// The first frame of both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The oldest version that the sender speaks.
    pub oldest: u32,
    /// The newest one.
    pub newest: u32,
    /// What makes the device the brain's.
    pub certificate: Certificate,
    /// What its owner calls the brain.
    pub name: String,
    /// Where the device can be found.
    pub addresses: Vec<String>,
}

/// How far somebody has the chains of a space.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpaceHeads {
    /// The space.
    pub space: SpaceId,
    /// The chains.
    pub heads: Vec<Head>,
    /// Those of which a fork can be proven.
    pub forked: Vec<Tag>,
}

/// How far somebody has a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Which chain.
    pub chain: Tag,
    /// The number of the last entry.
    pub number: u64,
    /// The first half of that entry's hash.
    pub hash: Tag,
}

/// Asks for entries of a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pull {
    /// The space.
    pub space: SpaceId,
    /// The chain.
    pub chain: Tag,
    /// The first number wanted; [`PROOF`] for the proof that the chain has forked.
    pub from: u64,
}

/// Why somebody will not go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// There is no version that both speak.
    Version,
    /// The sender does not know the receiver.
    UnknownPeer,
    /// There is no such invitation, or it was used, or has expired.
    Invitation,
    /// The receiver asked for too much.
    Limit,
    /// The receiver sent what is not sound.
    Invalid,
    /// Something that this program does not know.
    Other,
}

impl Frame {
    /// As it goes over the wire.
    pub fn to_bytes(&self) -> Bytes {
        use proto::frame::Body;
        let body = match self {
            Self::Hello(hello) => Body::Hello(proto::Hello {
                oldest: hello.oldest,
                newest: hello.newest,
                certificate: Bytes::copy_from_slice(&hello.certificate.to_bytes()),
                name: hello.name.clone(),
                addresses: hello.addresses.iter().take(MAX_ADDRESSES).cloned().collect(),
            }),
            Self::Pair { secret } => Body::Pair(proto::Pair { secret: secret.clone() }),
            Self::Paired => Body::Paired(proto::Paired {}),
            Self::Heads(spaces) => Body::Heads(proto::Heads { spaces: spaces.iter().map(space_heads).collect() }),
            Self::Pull(Pull { space, chain, from }) => {
                Body::Pull(proto::Pull { space: copy(space.bytes()), chain: copy(&chain.0), from: *from })
            }
            Self::Batch(batch) => Body::Batch(proto::Batch {
                space: copy(batch.space.bytes()),
                chain: copy(&batch.chain.0),
                certificate: batch.certificate.as_ref().map(|made| copy(&made.to_bytes())).unwrap_or_default(),
                first: batch.first,
                previous: if batch.previous == Hash::NONE { Bytes::new() } else { copy(batch.previous.bytes()) },
                entries: batch.packed().to_vec(),
                more: batch.more,
                asked: batch.asked,
            }),
            Self::Receipt(given) => Body::Receipt(receipt(given)),
            Self::Proof(fork, certificate) => Body::Proof(proto::Proof {
                space: copy(fork.known.space().bytes()),
                certificate: copy(&certificate.to_bytes()),
                known: Some(signed_header(&fork.known)),
                other: Some(signed_header(&fork.other)),
            }),
            Self::Refused(refusal) => Body::Refused(proto::Refused { reason: refusal.code().into() }),
            Self::Roster(roster) => Body::Roster(proto::Roster {
                roster: roster.to_bytes().into(),
                succession: roster.succession().to_bytes().into(),
            }),
            Self::KnownPeers(known) => {
                Body::KnownPeers(proto::KnownPeers { peers: known.iter().map(known_peer).collect() })
            }
            Self::Certify { epoch } => Body::Certify(proto::Certify { epoch: copy(&epoch.0) }),
            Self::Certified { certificate, name } => Body::Certified(proto::Certified {
                certificate: copy(&certificate.to_bytes()),
                name: name.clone(),
            }),
        };
        proto::Frame { body: Some(body) }.encode_to_vec().into()
    }

    /// Reads a frame, and checks the entries of a batch that brings the certificate for it: what takes long need not wait for its turn.
    ///
    /// # Errors
    /// See [`InvalidFrame`].
    pub fn read_ahead(bytes: Bytes) -> Result<Option<Self>, InvalidFrame> {
        let mut read = Self::parse(bytes);
        if let Ok(Some(Self::Batch(batch))) = &mut read {
            batch.check_ahead();
        }
        read
    }

    /// Reads a frame. `None` where it is of a kind that this program does not know: a newer one says more.
    ///
    /// # Errors
    /// See [`InvalidFrame`].
    pub fn parse(bytes: Bytes) -> Result<Option<Self>, InvalidFrame> {
        use proto::frame::Body;
        if bytes.len() > MAX_FRAME_BYTES {
            return Err(InvalidFrame::TooMuch { what: "bytes", limit: MAX_FRAME_BYTES });
        }
        let frame = proto::Frame::decode(bytes).map_err(|_| InvalidFrame::Malformed)?;
        let Some(body) = frame.body else { return Ok(None) };
        Ok(Some(match body {
            Body::Hello(hello) => Self::Hello(read_hello(hello)?),
            Body::Pair(pair) => Self::Pair { secret: pair.secret },
            Body::Paired(_) => Self::Paired,
            Body::Heads(heads) => {
                limited(heads.spaces.len(), MAX_SPACES, "spaces")?;
                Self::Heads(heads.spaces.into_iter().map(read_space_heads).collect::<Result<_, _>>()?)
            }
            Body::Pull(pull) => Self::Pull(Pull {
                space: space(&pull.space)?,
                chain: Tag(array(&pull.chain, "chain")?),
                from: pull.from,
            }),
            Body::Batch(batch) => Self::Batch(read_batch(batch)?),
            Body::Receipt(receipt) => Self::Receipt(read_receipt(receipt)?),
            Body::Proof(proof) => {
                let (fork, certificate) = read_proof(proof)?;
                Self::Proof(fork, certificate)
            }
            Body::Refused(refused) => Self::Refused(Refusal::of(refused.reason())),
            Body::Roster(roster) => Roster::parse(&roster.roster, &roster.succession)
                .map(Self::Roster)
                .map_err(|_| InvalidFrame::Unsound("list of devices"))?,
            Body::KnownPeers(known) => {
                limited(known.peers.len(), MAX_KNOWN_PEERS, "brains")?;
                Self::KnownPeers(known.peers.into_iter().map(read_known_peer).collect::<Result<_, _>>()?)
            }
            Body::Certify(certify) => Self::Certify { epoch: Epoch(array(&certify.epoch, "epoch")?) },
            Body::Certified(certified) => {
                limited(certified.name.len(), MAX_NAME_BYTES, "bytes of a name")?;
                Self::Certified { certificate: certificate(&certified.certificate)?, name: certified.name }
            }
        }))
    }
}

impl Refusal {
    const fn code(self) -> proto::refused::Reason {
        use proto::refused::Reason;
        match self {
            Self::Version => Reason::Version,
            Self::UnknownPeer => Reason::UnknownPeer,
            Self::Invitation => Reason::Invitation,
            Self::Limit => Reason::Limit,
            Self::Invalid => Reason::Invalid,
            Self::Other => Reason::Unspecified,
        }
    }

    const fn of(reason: proto::refused::Reason) -> Self {
        use proto::refused::Reason;
        match reason {
            Reason::Version => Self::Version,
            Reason::UnknownPeer => Self::UnknownPeer,
            Reason::Invitation => Self::Invitation,
            Reason::Limit => Self::Limit,
            Reason::Invalid => Self::Invalid,
            Reason::Unspecified => Self::Other,
        }
    }
}

fn copy(bytes: &[u8]) -> Bytes {
    Bytes::copy_from_slice(bytes)
}

fn array<const N: usize>(bytes: &[u8], what: &'static str) -> Result<[u8; N], InvalidFrame> {
    bytes.try_into().map_err(|_| InvalidFrame::Unsound(what))
}

fn space(bytes: &[u8]) -> Result<SpaceId, InvalidFrame> {
    Ok(SpaceId::new(Hash::new(array(bytes, "space")?)))
}

const fn limited(count: usize, limit: usize, what: &'static str) -> Result<(), InvalidFrame> {
    if count > limit { Err(InvalidFrame::TooMuch { what, limit }) } else { Ok(()) }
}

fn certificate(bytes: &[u8]) -> Result<Certificate, InvalidFrame> {
    Certificate::parse(bytes).map_err(|_| InvalidFrame::Unsound("certificate"))
}

fn limited_addresses(addresses: &[String]) -> Result<(), InvalidFrame> {
    limited(addresses.len(), MAX_ADDRESSES, "addresses")?;
    addresses.iter().try_for_each(|address| limited(address.len(), MAX_ADDRESS_BYTES, "bytes of an address"))
}

fn read_hello(hello: proto::Hello) -> Result<Hello, InvalidFrame> {
    limited(hello.name.len(), MAX_NAME_BYTES, "bytes of a name")?;
    let certificate = certificate(&hello.certificate)?;
    limited_addresses(&hello.addresses)?;
    let (name, addresses) = (hello.name, hello.addresses);
    Ok(Hello { oldest: hello.oldest, newest: hello.newest, certificate, name, addresses })
}

fn packed(heads: &[Head]) -> Vec<u8> {
    let pack = |head: &Head| [head.chain.0.as_slice(), &head.number.to_be_bytes(), &head.hash.0].concat();
    heads.iter().flat_map(pack).collect()
}

fn unpacked(bytes: &[u8]) -> Result<Vec<Head>, InvalidFrame> {
    let (heads, rest) = bytes.as_chunks::<HEAD_BYTES>();
    limited(heads.len(), MAX_CHAINS, "chains")?;
    let head = |bytes: &[u8; HEAD_BYTES]| {
        let (chain, rest) = bytes.split_first_chunk().expect("it is long enough");
        let (number, hash) = rest.split_first_chunk().expect("it is long enough");
        let hash = Tag(hash.try_into().expect("it is long enough"));
        // No chain is so long; adding to such a number must not overflow.
        Head { chain: Tag(*chain), number: u64::from_be_bytes(*number).min(u64::MAX / 2), hash }
    };
    match rest {
        [] => Ok(heads.iter().map(head).collect()),
        _ => Err(InvalidFrame::Unsound("heads")),
    }
}

fn space_heads(heads: &SpaceHeads) -> proto::SpaceHeads {
    proto::SpaceHeads {
        space: copy(heads.space.bytes()),
        chains: packed(&heads.heads).into(),
        forked: heads.forked.iter().flat_map(|tag| tag.0).collect::<Vec<u8>>().into(),
    }
}

fn read_space_heads(heads: proto::SpaceHeads) -> Result<SpaceHeads, InvalidFrame> {
    let (forked, rest) = heads.forked.as_chunks::<16>();
    limited(forked.len(), MAX_CHAINS, "chains")?;
    if !rest.is_empty() {
        return Err(InvalidFrame::Unsound("forks"));
    }
    let forked = forked.iter().copied().map(Tag).collect();
    Ok(SpaceHeads { space: space(&heads.space)?, heads: unpacked(&heads.chains)?, forked })
}

fn signed_header(entry: &Entry) -> proto::SignedHeader {
    proto::SignedHeader { header: copy(&entry.header().to_bytes()), signature: copy(entry.signature()) }
}

fn read_proof(proof: proto::Proof) -> Result<(Fork, Certificate), InvalidFrame> {
    let certificate = certificate(&proof.certificate)?;
    let read = |signed: Option<proto::SignedHeader>| {
        let signed = signed.ok_or(InvalidFrame::Unsound("proof"))?;
        let header = Header::parse(&signed.header).map_err(|_| InvalidFrame::Unsound("header"))?;
        let number = header.number;
        let signature = array(&signed.signature, "signature")?;
        Entry::check(header, signature, None, &certificate)
            .map_err(|source| InvalidFrame::Entry { number, source })
    };
    let (known, other) = (Box::new(read(proof.known)?), Box::new(read(proof.other)?));
    let fork = Fork { known, other };
    match fork.is_proof() && fork.known.space() == space(&proof.space)? {
        true => Ok((fork, certificate)),
        false => Err(InvalidFrame::Unsound("proof")),
    }
}
