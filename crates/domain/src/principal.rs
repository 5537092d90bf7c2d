//! Who acts, how true they may claim to be, and where their writes come from.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Spelled;
use crate::id::PrincipalId;
use crate::truth::Truth;

/// An authenticated actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// Its id, the same in every event it causes.
    pub id: PrincipalId,
    /// The highest truth it may write at.
    pub ceiling: Truth,
    /// Where its writes come from unless the request says more precisely.
    pub origin: Origin,
}

/// Where a write came from, as provenance shows it.
///
/// Spelled `user:web`, `automation:<id>`, `ai-local:<model>`, `ai-network:<host>/<model>`,
/// `ai-cloud:<provider>/<model>` or `peer:<brain>`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin(Arc<str>);

/// A text that is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an origin; expected `<class>:<detail>` with class user, automation, ai-local, ai-network, ai-cloud or peer and a detail of 1 to {MAX_ORIGIN_BYTES} bytes"
)]
pub struct InvalidOrigin(pub String);

/// The longest origin that is accepted, in bytes.
pub const MAX_ORIGIN_BYTES: usize = 200;

/// How much of a principal's name goes into the origin that is made from it, in bytes.
const MAX_NAME_BYTES: usize = 120;

const CLASSES: [&str; 6] = ["user", "automation", "ai-local", "ai-network", "ai-cloud", "peer"];

impl Origin {
    /// The text, `class:detail`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it came from another brain.
    pub fn is_peer(&self) -> bool {
        self.0.starts_with("peer:")
    }

    /// The origin of a principal that says no more than its name, by its ceiling.
    /// A name that no origin can hold is made to fit.
    pub fn of(ceiling: Truth, name: &str) -> Self {
        let plain = |c: char| if c.is_whitespace() || c.is_control() { '-' } else { c };
        let name = &name[..name.floor_char_boundary(MAX_NAME_BYTES)];
        let detail: String =
            if name.is_empty() { "unnamed".to_owned() } else { name.chars().map(plain).collect() };
        Self(format!("{}:{detail}", ceiling.name()).into())
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Origin {
    type Err = InvalidOrigin;

    fn from_str(text: &str) -> Result<Self, InvalidOrigin> {
        let invalid = || InvalidOrigin(text.chars().take(80).collect());
        let (class, detail) = text.split_once(':').ok_or_else(invalid)?;
        let plain = !detail.is_empty() && !detail.chars().any(|c| c.is_control() || c.is_whitespace());
        if !CLASSES.contains(&class) || !plain || text.len() > MAX_ORIGIN_BYTES {
            return Err(invalid());
        }
        Ok(Self(text.into()))
    }
}

impl Serialize for Origin {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Origin {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Spelled(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t8_an_origin_made_from_any_name_reads_back() {
        for name in ["", "phone", "two words", "\u{7}", &"é".repeat(500), &"🪨".repeat(61)] {
            let origin = Origin::of(Truth::NetworkAi, name);
            assert_eq!(origin.as_str().parse(), Ok(origin.clone()), "{name:?}");
        }
    }
}
