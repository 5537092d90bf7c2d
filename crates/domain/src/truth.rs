//! Truth levels: how true a statement may claim to be.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A truth level. A lower number is a higher truth; the order of the variants is the order of truth,
/// so `Truth::User < Truth::Automation` reads "user comes before automation".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Truth {
    /// U1: created or edited by the user.
    User = 1,
    /// A2: structured output of a system (imports, schedules, integrations).
    Automation = 2,
    /// L3: a model on this device.
    LocalAi = 3,
    /// LN4: a model on the local network.
    NetworkAi = 4,
    /// C5: a model in the cloud.
    CloudAi = 5,
}

/// A truth level outside 1 to 5, or a name that is none of the five.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a truth level; use 1 to 5, or one of user, automation, ai-local, ai-network, ai-cloud")]
pub struct InvalidTruth(pub String);

impl Truth {
    /// All five, from the highest truth to the lowest.
    pub const ALL: [Self; 5] = [Self::User, Self::Automation, Self::LocalAi, Self::NetworkAi, Self::CloudAi];

    /// The number, 1 to 5.
    pub const fn level(self) -> u8 {
        self as u8
    }

    /// Whether a statement at this level may stand above one at `other`: strictly higher truth.
    pub fn outranks(self, other: Self) -> bool {
        self < other
    }

    /// The level of a write: what was asked for, never above the ceiling (rule T1).
    /// Asking for nothing gives the ceiling itself.
    pub fn limited(ceiling: Self, asked: Option<Self>) -> Self {
        asked.map_or(ceiling, |asked| asked.max(ceiling))
    }

    /// The name, as tokens and filters spell it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Automation => "automation",
            Self::LocalAi => "ai-local",
            Self::NetworkAi => "ai-network",
            Self::CloudAi => "ai-cloud",
        }
    }

    /// The short code: U1, A2, L3, LN4 or C5.
    pub const fn code(self) -> &'static str {
        match self {
            Self::User => "U1",
            Self::Automation => "A2",
            Self::LocalAi => "L3",
            Self::NetworkAi => "LN4",
            Self::CloudAi => "C5",
        }
    }
}

impl fmt::Display for Truth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl TryFrom<u8> for Truth {
    type Error = InvalidTruth;

    fn try_from(level: u8) -> Result<Self, InvalidTruth> {
        Self::ALL.into_iter().find(|truth| truth.level() == level).ok_or_else(|| InvalidTruth(level.to_string()))
    }
}

impl FromStr for Truth {
    type Err = InvalidTruth;

    fn from_str(text: &str) -> Result<Self, InvalidTruth> {
        Self::ALL
            .into_iter()
            .find(|truth| {
                text.eq_ignore_ascii_case(truth.name())
                    || text.eq_ignore_ascii_case(truth.code())
                    || text.parse() == Ok(truth.level())
            })
            .ok_or_else(|| InvalidTruth(text.chars().take(40).collect()))
    }
}

impl Serialize for Truth {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.level())
    }
}

impl<'de> Deserialize<'de> for Truth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::try_from(u8::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_never_rises_above_its_ceiling() {
        for ceiling in Truth::ALL {
            assert_eq!(Truth::limited(ceiling, None), ceiling);
            for asked in Truth::ALL {
                assert!(!Truth::limited(ceiling, Some(asked)).outranks(ceiling));
            }
        }
    }

    #[test]
    fn every_spelling_reads_back() {
        for truth in Truth::ALL {
            assert_eq!(truth.name().parse(), Ok(truth));
            assert_eq!(truth.code().to_lowercase().parse(), Ok(truth));
            assert_eq!(truth.level().to_string().parse(), Ok(truth));
        }
        assert!("6".parse::<Truth>().is_err());
    }
}
