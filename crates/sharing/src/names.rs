//! Where in the log what is shared is kept, and how it is spelled there.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use cairn_domain::event::{Metadata, SpaceEntry};
use cairn_domain::id::{PEER_STREAM_PREFIX, SPACE_STREAM_PREFIX};
use cairn_event_store::RecordedEvent;
use cairn_sync::chain::ChainId;
use cairn_sync::entry::{Entry, HEADER_BYTES, Header, Lane};
use cairn_sync::key::{BrainKey, SpaceId};

use crate::error::SharingError;

/// The stream that holds the entries of a chain: entry *n* at revision *n* - 1.
pub fn chain_stream(chain: ChainId) -> Arc<str> {
    let lane = match chain.lane {
        Lane::Control => "control",
        Lane::Content => "content",
    };
    let epoch = hex::encode(chain.epoch.0);
    format!("{SPACE_STREAM_PREFIX}{}/{lane}/{}/{epoch}", chain.space, chain.author).into()
}

/// The stream that holds what else is known of a space.
pub fn space_stream(space: SpaceId) -> Arc<str> {
    format!("{SPACE_STREAM_PREFIX}{space}").into()
}

/// The space of such a stream, or of a chain's.
pub fn space_of_stream(stream: &str) -> Option<SpaceId> {
    stream.strip_prefix(SPACE_STREAM_PREFIX)?.split('/').next()?.parse().ok()
}

/// The stream that holds this device's epochs.
pub fn epoch_stream() -> Arc<str> {
    format!("{SPACE_STREAM_PREFIX}epochs").into()
}

/// The stream that holds what is known of another brain.
pub fn peer_stream(brain: BrainKey) -> Arc<str> {
    format!("{PEER_STREAM_PREFIX}{brain}").into()
}

/// The brain of such a stream.
pub fn brain_of_stream(stream: &str) -> Option<BrainKey> {
    stream.strip_prefix(PEER_STREAM_PREFIX)?.parse().ok()
}

/// The stream that holds this brain's invitations.
pub fn invitation_stream() -> Arc<str> {
    format!("{PEER_STREAM_PREFIX}invitations").into()
}

/// Bytes as the log's JSON holds them.
pub fn encode(bytes: &[u8]) -> String {
    BASE64_STANDARD.encode(bytes)
}

/// What [`encode`] wrote.
pub fn decode(text: &str) -> Option<Vec<u8>> {
    BASE64_STANDARD.decode(text).ok()
}

/// A header with its signature.
pub fn encode_header(entry: &Entry) -> String {
    encode(&[entry.header().to_bytes().as_slice(), entry.signature()].concat())
}

/// What [`encode_header`] wrote, as an entry without its payload.
pub fn decode_header(text: &str) -> Option<Entry> {
    let bytes = decode(text)?;
    let (header, signature) = bytes.split_at_checked(HEADER_BYTES)?;
    Some(Entry::kept(Header::parse(header).ok()?, signature.try_into().ok()?, None))
}

/// The entry that an event keeps.
///
/// # Errors
/// When the event holds none: the log is damaged.
pub fn read_entry(event: &RecordedEvent) -> Result<Entry, SharingError> {
    let damaged = || SharingError::Damaged { position: event.position };
    let metadata: Metadata = serde_json::from_slice(&event.metadata).map_err(|_| damaged())?;
    let header = metadata.entry.as_deref().and_then(decode_header).ok_or_else(damaged)?;
    if event.erased {
        return Ok(header);
    }
    let data: SpaceEntry = serde_json::from_slice(&event.data).map_err(|_| damaged())?;
    let payload = data.payload.map(|payload| decode(&payload).ok_or_else(damaged)).transpose()?;
    let sealed = data.sealed.map(|sealed| decode(&sealed).ok_or_else(damaged)).transpose()?;
    let entry = Entry::kept(header.header().clone(), *header.signature(), payload.map(Bytes::from));
    Ok(if entry.payload().is_none() { entry.with_sealed(sealed.map(Bytes::from)) } else { entry })
}
