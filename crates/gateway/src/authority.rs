//! Who is calling. The gateway asks; the node, which keeps the tokens, decides.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use tonic::metadata::MetadataMap;
use uuid::Uuid;

/// Turns the credentials of a call into a caller, or refuses it.
///
/// It is asked at the beginning of a call, and every second of a read that goes on, on a thread of the runtime: it must
/// answer from memory.
pub trait Authority: Send + Sync + 'static {
    /// Who has these credentials. `None` where the call carries none at all: clients send none over a connection
    /// without TLS, so whether such a caller is somebody is a matter of policy.
    ///
    /// # Errors
    /// [`Refusal`] where nobody may act with them.
    fn admit(&self, credentials: Option<&Credentials>) -> Result<Caller, Refusal>;
}

/// Who calls, and what may be written in their name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The principal's id.
    pub principal: Uuid,
    /// The highest truth it may write at.
    pub ceiling: Level,
    /// Where its writes come from, such as `automation:importer`.
    pub origin: String,
}

/// A truth level: 1 is the highest truth, 5 the lowest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Level(u8);

/// What a call says of its caller.
#[derive(Clone, PartialEq, Eq)]
pub enum Credentials {
    /// `Authorization: Bearer <token>`.
    Bearer(String),
    /// `Authorization: Basic <name and password>`: what KurrentDB's clients make of a user in the connection string.
    Basic {
        /// The name. It says nothing here.
        user: String,
        /// The token.
        password: String,
    },
}

/// Why a call is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It is not known who calls.
    #[error("{0}")]
    Unauthenticated(String),
    /// It is known, and they may not.
    #[error("{0}")]
    Forbidden(String),
    /// It cannot be told now. The same call may be let in later.
    #[error("{0}")]
    Unavailable(String),
}

impl Level {
    /// A level, if it is one of the five.
    pub const fn new(level: u8) -> Option<Self> {
        if level >= 1 && level <= 5 { Some(Self(level)) } else { None }
    }

    /// Its number.
    pub const fn number(self) -> u8 {
        self.0
    }

    /// The level of a write: what was asked for, never above the ceiling.
    pub fn limited(ceiling: Self, asked: Option<Self>) -> Self {
        asked.map_or(ceiling, |asked| asked.max(ceiling))
    }
}

impl Credentials {
    /// What the metadata of a call carries.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`] where it carries something that is neither of the two forms.
    pub fn of(metadata: &MetadataMap) -> Result<Option<Self>, Refusal> {
        let Some(header) = metadata.get("authorization") else { return Ok(None) };
        let unreadable =
            || Refusal::Unauthenticated("the authorization header is neither `Basic` nor `Bearer`".into());
        let (scheme, value) = header.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(unreadable)?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(Some(Self::Bearer(value.to_owned())));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(unreadable());
        }
        let pair = STANDARD.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let (user, password) = pair.as_deref().and_then(|pair| pair.split_once(':')).ok_or_else(unreadable)?;
        Ok(Some(Self::Basic { user: user.to_owned(), password: password.to_owned() }))
    }

    /// The token.
    pub fn token(&self) -> &str {
        match self {
            Self::Bearer(token) => token,
            Self::Basic { password, .. } => password,
        }
    }
}

/// Tokens do not belong into logs.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bearer(_) => f.write_str("Bearer"),
            Self::Basic { user, .. } => f.debug_struct("Basic").field("user", user).finish_non_exhaustive(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(header: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", header.parse().expect("plain"));
        metadata
    }

    #[test]
    fn the_token_is_found_in_both_forms() {
        let bearer = Credentials::of(&metadata("Bearer cairn_x")).expect("read").expect("some");
        assert_eq!(bearer.token(), "cairn_x");
        let basic = Credentials::of(&metadata(&format!("Basic {}", STANDARD.encode("me:cairn_x:y"))));
        assert_eq!(basic.expect("read").expect("some").token(), "cairn_x:y");
        assert_eq!(Credentials::of(&MetadataMap::new()), Ok(None));
        assert!(Credentials::of(&metadata("Digest x")).is_err());
        assert!(Credentials::of(&metadata("Basic !")).is_err());
    }

    #[test]
    fn a_write_is_never_above_its_ceiling() {
        let level = |number| Level::new(number).expect("a level");
        assert_eq!(Level::limited(level(3), None), level(3));
        assert_eq!(Level::limited(level(3), Some(level(1))), level(3));
        assert_eq!(Level::limited(level(3), Some(level(5))), level(5));
        assert_eq!((Level::new(0), Level::new(6)), (None, None));
    }
}
