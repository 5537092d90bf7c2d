//! Tokens in a file of the data folder: for a node that shares its brain with no other process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::known::Known;
use super::{MAX_TOKENS, Token, TokenError};
use crate::data_folder::{DataFolderError, write_private};

/// The tokens of a brain, in a file.
pub struct FileTokens {
    path: PathBuf,
    /// Held while a change is written, so that readers never wait for the disk.
    changing: Mutex<()>,
    known: RwLock<Arc<Known>>,
}

impl FileTokens {
    /// Reads the file; there are no tokens when it does not exist.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn open(path: &Path) -> Result<Self, DataFolderError> {
        let known = RwLock::new(Arc::new(read(path)?));
        Ok(Self { path: path.to_owned(), changing: Mutex::new(()), known })
    }

    /// Reads the file again: that of a standby is written as its primary's changes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn reload(&self) -> Result<(), DataFolderError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(read(&self.path)?);
        Ok(())
    }

    /// All of them.
    pub fn known(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Keeps a new token.
    ///
    /// # Errors
    /// When there are too many, or it cannot be written.
    pub fn add(&self, token: &Token) -> Result<(), TokenError> {
        self.change(|known| {
            if known.len() >= MAX_TOKENS {
                return Err(TokenError::TooMany);
            }
            Ok(token.clone())
        })?;
        Ok(())
    }

    /// Revokes a token. One that was revoked stays so, since when it was.
    ///
    /// # Errors
    /// When there is no such token, or it cannot be written.
    pub fn revoke(&self, id: Uuid, now: DateTime<Utc>) -> Result<Token, TokenError> {
        self.change(|known| {
            let mut token = known.get(id).cloned().ok_or(TokenError::NotFound(id))?;
            token.revoked_at.get_or_insert(now);
            Ok(token)
        })
    }

    /// Adds or changes a token: durable first, then in force.
    fn change(&self, change: impl FnOnce(&Known) -> Result<Token, TokenError>) -> Result<Token, TokenError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.known();
        let token = change(&known)?;
        let changed = known.with(token.clone());
        write_private(&self.path, &serde_json::to_vec_pretty(&changed.list()).expect("plain fields"))?;
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(changed);
        Ok(token)
    }
}

fn read(path: &Path) -> Result<Known, DataFolderError> {
    let tokens: Vec<Token> = match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| DataFolderError::Damaged { path: path.to_owned(), reason: error.to_string() })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(source) => return Err(DataFolderError::Io { path: path.to_owned(), source }),
    };
    Ok(tokens.into_iter().collect())
}
