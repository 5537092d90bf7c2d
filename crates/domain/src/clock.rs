//! Hybrid logical clock: wall time that never goes backwards, with a counter for events of one millisecond.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A hybrid logical clock reading. Orders first by wall time, then by counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hlc {
    /// Milliseconds since the Unix epoch.
    pub millis: u64,
    /// Distinguishes readings within one millisecond, or while the wall clock lags behind.
    pub counter: u32,
}

/// A text that is not a clock reading.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a hybrid clock reading; expected `<milliseconds>.<counter>`")]
pub struct InvalidHlc(pub String);

impl Hlc {
    /// The reading after this one, given the wall clock: always greater than this one.
    #[must_use]
    pub fn tick(self, wall_millis: u64) -> Self {
        if wall_millis > self.millis {
            return Self { millis: wall_millis, counter: 0 };
        }
        match self.counter.checked_add(1) {
            Some(counter) => Self { millis: self.millis, counter },
            None => Self { millis: self.millis + 1, counter: 0 },
        }
    }
}

impl fmt::Display for Hlc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.millis, self.counter)
    }
}

impl FromStr for Hlc {
    type Err = InvalidHlc;

    fn from_str(text: &str) -> Result<Self, InvalidHlc> {
        let invalid = || InvalidHlc(text.chars().take(40).collect());
        let (millis, counter) = text.split_once('.').ok_or_else(invalid)?;
        Ok(Self {
            millis: millis.parse().map_err(|_| invalid())?,
            counter: counter.parse().map_err(|_| invalid())?,
        })
    }
}

/// As text for people, as two numbers for snapshots.
impl Serialize for Hlc {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.collect_str(self)
        } else {
            (self.millis, self.counter).serialize(serializer)
        }
    }
}

impl<'de> Deserialize<'de> for Hlc {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_str(Spelled(PhantomData));
        }
        let (millis, counter) = Deserialize::deserialize(deserializer)?;
        Ok(Self { millis, counter })
    }
}

/// Reads anything that is spelled as text, without copying the text first.
pub(crate) struct Spelled<T>(pub(crate) PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Spelled<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_is_always_later_even_when_the_wall_clock_goes_back() {
        let mut clock = Hlc::default();
        for wall in [5, 5, 3, 9, 9, 0] {
            let next = clock.tick(wall);
            assert!(next > clock);
            clock = next;
        }
        assert_eq!(clock, Hlc { millis: 9, counter: 2 });
    }
}
