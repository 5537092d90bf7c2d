//! Tokens: who is asking, told from a secret. Only hashes are kept, and secrets never reach a log.
//!
//! A node that keeps everything in its data folder keeps them in a file there. Processes that share a brain in a database
//! share its tokens too.

mod database;
mod file;
mod known;

use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cairn_domain::id::PrincipalId;
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use cairn_event_store::StoreError;
use chrono::{DateTime, SubsecRound, Utc};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use uuid::Uuid;

use crate::data_folder::DataFolderError;
use database::DatabaseTokens;
use file::FileTokens;

pub use known::Known;

/// What every secret starts with, so that scanners for leaked secrets can know it.
pub const SECRET_PREFIX: &str = "cairn_";

/// The most tokens a brain keeps, revoked ones included.
pub const MAX_TOKENS: usize = 10_000;

/// A token as the node keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// The token's id, which is also that of the principal it stands for.
    pub id: Uuid,
    /// What people call it.
    pub name: String,
    /// The highest truth it may write at.
    pub ceiling: Truth,
    /// Where its writes come from.
    pub origin: Origin,
    /// BLAKE3 of the secret, in hexadecimal.
    hash: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it stops working.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A secret that was just made. It is shown once.
pub struct Secret(String);

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No such token.
    #[error(
        "the token is not known to this brain; take the one in owner.token, or make one with `cairn token create`"
    )]
    Unknown,
    /// It was revoked.
    #[error("the token was revoked; ask the owner for a new one")]
    Revoked,
    /// It expired.
    #[error("the token expired; ask the owner for a new one")]
    Expired,
    /// Nobody can tell: the database that the tokens are in does not answer.
    #[error("tokens cannot be checked now, because the database does not answer; repeat in a moment")]
    Unavailable,
}

/// Why a token cannot be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be written.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nobody can tell who is asking.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// There is no such token.
    #[error("there is no token {0}")]
    NotFound(Uuid),
    /// There are too many.
    #[error("there are {MAX_TOKENS} tokens already")]
    TooMany,
    /// The system gave no random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

/// All tokens of a brain.
pub enum Tokens {
    /// In a file of the data folder.
    File(FileTokens),
    /// In the database that the brain is in.
    Database(DatabaseTokens),
}

impl Secret {
    /// Makes a new one.
    ///
    /// # Errors
    /// When the system gives no random numbers.
    pub fn generate() -> Result<Self, TokenError> {
        let mut bytes = [0_u8; 32];
        getrandom::fill(&mut bytes).map_err(|error| TokenError::Random(error.to_string()))?;
        Ok(Self(format!("{SECRET_PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes))))
    }

    /// The text to hand out.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Secrets have 256 random bits, so a fast hash without salt is enough: there is nothing to guess.
fn hash(secret: &str) -> String {
    blake3::hash(secret.as_bytes()).to_hex().to_string()
}

impl Token {
    /// Makes sure that it works.
    ///
    /// # Errors
    /// When it was revoked or has expired.
    pub fn check(&self, now: DateTime<Utc>) -> Result<(), Denied> {
        if self.revoked_at.is_some() {
            return Err(Denied::Revoked);
        }
        if self.expires_at.is_some_and(|expires| expires <= now) {
            return Err(Denied::Expired);
        }
        Ok(())
    }

    /// The principal it stands for.
    pub fn principal(&self) -> Principal {
        Principal { id: PrincipalId::new(self.id), ceiling: self.ceiling, origin: self.origin.clone() }
    }
}

impl Tokens {
    /// Those in a file; none when it does not exist.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn in_file(path: &Path) -> Result<Self, DataFolderError> {
        Ok(Self::File(FileTokens::open(path)?))
    }

    /// Those in a database.
    ///
    /// # Errors
    /// When the database cannot be used.
    pub async fn in_database(pool: PgPool, brain: Uuid) -> Result<Self, TokenError> {
        Ok(Self::Database(DatabaseTokens::open(pool, brain).await?))
    }

    /// Reads those in a file again, because another has written it.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn reload(&self) -> Result<(), DataFolderError> {
        match self {
            Self::File(tokens) => tokens.reload(),
            Self::Database(_) => Ok(()),
        }
    }

    /// All of them from memory, never older than [`database::TRUSTED_FOR`].
    ///
    /// # Errors
    /// [`Denied::Unavailable`] where that cannot be told.
    pub fn known(&self) -> Result<Arc<Known>, Denied> {
        match self {
            Self::File(tokens) => Ok(tokens.known()),
            Self::Database(tokens) => tokens.known(),
        }
    }

    /// All of them as they are now.
    ///
    /// # Errors
    /// [`Denied::Unavailable`] where that cannot be told.
    pub async fn refreshed(&self) -> Result<Arc<Known>, Denied> {
        match self {
            Self::File(tokens) => Ok(tokens.known()),
            Self::Database(tokens) => tokens.refreshed().await,
        }
    }

    /// Who a secret stands for, now. Memory answers; only where it does not know the secret, which may have been made
    /// elsewhere a moment ago, is the database asked.
    ///
    /// # Errors
    /// When it is unknown, revoked or expired, or that cannot be told.
    pub async fn authenticate(&self, secret: &str, now: DateTime<Utc>) -> Result<Token, Denied> {
        match self.known().and_then(|known| known.authenticate(secret, now)) {
            Err(Denied::Unknown | Denied::Unavailable) => self.refreshed().await?.authenticate(secret, now),
            told => told,
        }
    }

    /// Whether a principal may still act, told from memory.
    ///
    /// # Errors
    /// When its token is unknown, revoked or expired, or that cannot be told.
    pub fn check(&self, principal: PrincipalId, now: DateTime<Utc>) -> Result<(), Denied> {
        self.known()?.check(principal, now)
    }

    /// Keeps a new token. The caller registers its principal in the log.
    ///
    /// # Errors
    /// When it cannot be written.
    pub async fn add(
        &self,
        name: &str,
        ceiling: Truth,
        origin: Origin,
        expires_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Result<(Token, Secret), TokenError> {
        let secret = Secret::generate()?;
        let token = Token {
            id: Uuid::now_v7(),
            name: name.to_owned(),
            ceiling,
            origin,
            hash: hash(secret.expose()),
            // As finely as a database keeps it, so that a token never looks changed.
            created_at: now.trunc_subsecs(6),
            expires_at: expires_at.map(|expires| expires.trunc_subsecs(6)),
            revoked_at: None,
        };
        match self {
            Self::File(tokens) => tokens.add(&token)?,
            Self::Database(tokens) => tokens.add(&token).await?,
        }
        Ok((token, secret))
    }

    /// Revokes a token: from now on this process refuses it, others do within [`database::TRUSTED_FOR`], as a rule at once.
    ///
    /// # Errors
    /// When there is no such token, or it cannot be written.
    pub async fn revoke(&self, id: Uuid, now: DateTime<Utc>) -> Result<Token, TokenError> {
        match self {
            Self::File(tokens) => tokens.revoke(id, now),
            Self::Database(tokens) => tokens.revoke(id, now).await,
        }
    }
}

#[cfg(test)]
mod tests;
