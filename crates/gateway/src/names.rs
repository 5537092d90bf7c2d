//! What the name of a stream says about it.

use std::sync::Arc;

use cairn_event_store::event::MAX_STREAM_NAME_BYTES;

use crate::failure::Failure;

/// How the names of the streams begin that Cairn's own commands write. The protocol may read them, never write them.
pub const OWNED_PREFIXES: [&str; 4] = ["memory-", "principal-", "space-", "peer-"];

/// How the name of the stream begins that holds another one's metadata.
pub(crate) const METADATA_PREFIX: &str = "$$";

/// How the names of the system's streams begin.
const SYSTEM_PREFIX: char = '$';

/// Whose a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A client's.
    Plain,
    /// The metadata of a client's stream.
    MetadataOf(Arc<str>),
    /// Cairn's or the system's.
    ReadOnly,
}

/// Reads a stream's name.
pub(crate) fn parse(
    name: Option<cairn_proto::event_store::client::StreamIdentifier>,
) -> Result<Arc<str>, Failure> {
    let name = name.unwrap_or_default().stream_name;
    match std::str::from_utf8(&name) {
        Ok(name) if !name.is_empty() && name.len() <= MAX_STREAM_NAME_BYTES => Ok(name.into()),
        _ => Err(Failure::Invalid(format!("a stream's name has 1 to {MAX_STREAM_NAME_BYTES} bytes of UTF-8"))),
    }
}

impl Kind {
    pub(crate) fn of(stream: &str) -> Self {
        if let Some(of) = stream.strip_prefix(METADATA_PREFIX) {
            return if is_plain(of) { Self::MetadataOf(of.into()) } else { Self::ReadOnly };
        }
        if is_plain(stream) { Self::Plain } else { Self::ReadOnly }
    }
}

/// Whether Cairn's own commands write the stream.
pub(crate) fn is_owned(stream: &str) -> bool {
    OWNED_PREFIXES.iter().any(|prefix| stream.starts_with(prefix))
}

/// The stream that holds this one's metadata.
pub(crate) fn metadata_stream(stream: &str) -> Arc<str> {
    format!("{METADATA_PREFIX}{stream}").into()
}

fn is_plain(stream: &str) -> bool {
    !stream.is_empty() && !stream.starts_with(SYSTEM_PREFIX) && !is_owned(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clients_streams_and_their_metadata_can_be_written() {
        assert_eq!(Kind::of("orders-1"), Kind::Plain);
        assert_eq!(Kind::of("$$orders-1"), Kind::MetadataOf("orders-1".into()));
        for name in ["memory-1", "principal-1", "$$memory-1", "$ce-orders", "$$$ce-orders", "$$", "$"] {
            assert_eq!(Kind::of(name), Kind::ReadOnly, "{name}");
        }
    }
}
