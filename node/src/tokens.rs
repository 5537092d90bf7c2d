//! Tokens: who is asking, told from a secret. Only hashes are kept, and secrets never reach a log.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use cairn_domain::id::PrincipalId;
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::truth::Truth;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::data_folder::{DataFolderError, write_private};

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
}

/// Why a token cannot be made or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be written.
    #[error(transparent)]
    Folder(#[from] DataFolderError),
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
pub struct Tokens {
    path: PathBuf,
    /// Held while a change is written, so that readers never wait for the disk.
    changing: Mutex<()>,
    by_hash: RwLock<HashMap<String, Token>>,
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
    /// Whether it was neither revoked nor has expired.
    pub fn is_valid(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires| expires > now)
    }

    /// The principal it stands for.
    pub fn principal(&self) -> Principal {
        Principal { id: PrincipalId::new(self.id), ceiling: self.ceiling, origin: self.origin.clone() }
    }
}

impl Tokens {
    /// Reads the tokens of a brain; none when the file does not exist.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, DataFolderError> {
        let tokens: Vec<Token> = match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|error| DataFolderError::Damaged { path: path.to_owned(), reason: error.to_string() })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(source) => return Err(DataFolderError::Io { path: path.to_owned(), source }),
        };
        let by_hash = tokens.into_iter().map(|token| (token.hash.clone(), token)).collect();
        Ok(Self { path: path.to_owned(), changing: Mutex::new(()), by_hash: RwLock::new(by_hash) })
    }

    /// Whether a principal may still act: it has a token that was neither revoked nor has expired.
    pub fn is_live(&self, principal: PrincipalId, now: DateTime<Utc>) -> bool {
        self.read().values().any(|token| token.id == principal.uuid() && token.is_valid(now))
    }

    /// Who a secret stands for, now.
    ///
    /// # Errors
    /// When it is unknown, revoked or expired.
    pub fn authenticate(&self, secret: &str, now: DateTime<Utc>) -> Result<Token, Denied> {
        let tokens = self.read();
        let token = tokens.get(&hash(secret)).ok_or(Denied::Unknown)?;
        if token.revoked_at.is_some() {
            return Err(Denied::Revoked);
        }
        if token.expires_at.is_some_and(|expires| expires <= now) {
            return Err(Denied::Expired);
        }
        Ok(token.clone())
    }

    /// Keeps a new token. The caller registers its principal in the log.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(
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
            created_at: now,
            expires_at,
            revoked_at: None,
        };
        self.change(|tokens| {
            if tokens.len() >= MAX_TOKENS {
                return Err(TokenError::TooMany);
            }
            tokens.insert(token.hash.clone(), token.clone());
            Ok(())
        })?;
        Ok((token, secret))
    }

    /// Revokes a token: from now on it is refused.
    ///
    /// # Errors
    /// When there is no such token, or it cannot be written.
    pub fn revoke(&self, id: Uuid, now: DateTime<Utc>) -> Result<Token, TokenError> {
        self.change(|tokens| {
            let token = tokens.values_mut().find(|token| token.id == id).ok_or(TokenError::NotFound(id))?;
            token.revoked_at.get_or_insert(now);
            Ok(token.clone())
        })
    }

    /// All tokens, the newest last.
    pub fn list(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = self.read().values().cloned().collect();
        tokens.sort_by_key(|token| (token.created_at, token.id));
        tokens
    }

    /// Changes the tokens: durable first, then in force.
    fn change<T>(
        &self,
        change: impl FnOnce(&mut HashMap<String, Token>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = self.read().clone();
        let result = change(&mut changed)?;
        let mut list: Vec<&Token> = changed.values().collect();
        list.sort_by_key(|token| (token.created_at, token.id));
        write_private(&self.path, &serde_json::to_vec_pretty(&list).expect("plain fields"))?;
        *self.by_hash.write().unwrap_or_else(PoisonError::into_inner) = changed;
        Ok(result)
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, Token>> {
        self.by_hash.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).expect("valid time")
    }

    #[test]
    fn a_token_works_until_it_expires_or_is_revoked_and_survives_a_restart() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("tokens.json");
        let tokens = Tokens::open(&path).expect("opens");
        let origin = Origin::of(Truth::CloudAi, "claude");
        let expires = Some(at(100) + TimeDelta::seconds(10));
        let (token, secret) = tokens.add("claude", Truth::CloudAi, origin, expires, at(100)).expect("kept");
        let reopened = Tokens::open(&path).expect("opens");
        assert_eq!(reopened.authenticate(secret.expose(), at(105)).map(|token| token.id), Ok(token.id));
        assert_eq!(reopened.authenticate(secret.expose(), at(110)), Err(Denied::Expired));
        assert_eq!(reopened.authenticate("cairn_guess", at(105)), Err(Denied::Unknown));
        reopened.revoke(token.id, at(106)).expect("revoked");
        assert_eq!(reopened.authenticate(secret.expose(), at(107)), Err(Denied::Revoked));
    }

    #[test]
    fn the_secret_is_not_in_the_file() {
        let folder = tempfile::tempdir().expect("temporary folder");
        let path = folder.path().join("tokens.json");
        let tokens = Tokens::open(&path).expect("opens");
        let origin = Origin::of(Truth::User, "owner");
        let (_, secret) = tokens.add("owner", Truth::User, origin, None, at(1)).expect("kept");
        let file = std::fs::read_to_string(&path).expect("reads");
        assert!(!file.contains(secret.expose().trim_start_matches(SECRET_PREFIX)));
    }
}
