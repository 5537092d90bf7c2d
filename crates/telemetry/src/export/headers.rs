//! The headers a collector wants. Their values are secrets.

use std::fmt;
use std::str::FromStr;

use tonic::metadata::{Ascii, AsciiMetadataKey, MetadataMap, MetadataValue};

/// The most headers.
const MAX_HEADERS: usize = 32;

/// Headers that go with each request to the collector. Their values never appear in `Debug`.
///
/// As text they are `name=value`, one a line or separated by commas.
#[derive(Clone, Default, PartialEq)]
pub struct Headers(Vec<(AsciiMetadataKey, MetadataValue<Ascii>)>);

/// Headers that cannot be sent. They are told by number: what was given is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadersError {
    /// There is one without an equals sign.
    #[error("header {0} of the traces' exporter is not of the form name=value")]
    Form(usize),
    /// The name holds what a header's name must not.
    #[error("header {0} of the traces' exporter has a name that HTTP does not allow")]
    Name(usize),
    /// The value holds what a header's value must not.
    #[error("header {0} of the traces' exporter has a value that HTTP does not allow")]
    Value(usize),
    /// There are too many.
    #[error("the exporter of traces takes at most {MAX_HEADERS} headers")]
    TooMany,
}

impl Headers {
    /// Takes names and values.
    ///
    /// # Errors
    /// When HTTP does not allow one of them, or there are too many.
    pub fn new<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, HeadersError> {
        let mut headers = Vec::new();
        for (number, (name, value)) in (1..).zip(pairs) {
            if number > MAX_HEADERS {
                return Err(HeadersError::TooMany);
            }
            let name = name.trim().to_ascii_lowercase().parse().map_err(|_| HeadersError::Name(number))?;
            let mut value = MetadataValue::try_from(value.trim()).map_err(|_| HeadersError::Value(number))?;
            value.set_sensitive(true);
            headers.push((name, value));
        }
        Ok(Self(headers))
    }

    /// As the exporter takes them.
    pub(super) fn to_metadata(&self) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for (name, value) in &self.0 {
            metadata.insert(name.clone(), value.clone());
        }
        metadata
    }
}

impl FromStr for Headers {
    type Err = HeadersError;

    fn from_str(text: &str) -> Result<Self, HeadersError> {
        let mut pairs = Vec::new();
        let parts = text.split([',', '\n']).map(str::trim).filter(|part| !part.is_empty());
        for (number, part) in (1..).zip(parts) {
            pairs.push(part.split_once('=').ok_or(HeadersError::Form(number))?);
        }
        Self::new(pairs)
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.0.iter().map(|(name, _)| (name.as_str(), "redacted"))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_sent_and_never_shown() {
        let headers: Headers = "Authorization=Basic c2VzYW1l==, x-scope=team\n".parse().expect("well-formed");
        let metadata = headers.to_metadata();
        assert_eq!(metadata.get("authorization").and_then(|value| value.to_str().ok()), Some("Basic c2VzYW1l=="));
        assert_eq!(format!("{headers:?}"), r#"{"authorization": "redacted", "x-scope": "redacted"}"#);
        assert!(!format!("{metadata:?}").contains("c2VzYW1l"), "{metadata:?}");
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_told_by_its_number() {
        let error = |text: &str| text.parse::<Headers>().expect_err(text);
        assert_eq!(error("a=1,sesame"), HeadersError::Form(2));
        assert_eq!(error("se same=1"), HeadersError::Name(1));
        assert_eq!(error("a=ses\u{7}ame"), HeadersError::Value(1));
        assert_eq!(error(&"a=1,".repeat(MAX_HEADERS + 1)), HeadersError::TooMany);
    }
}
