//! The tokens of a brain in memory, by what they are looked up by.

use std::collections::HashMap;

use cairn_domain::id::PrincipalId;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::{Denied, Token, hash};

/// Every token of a brain, at one moment.
#[derive(Debug, Clone, Default)]
pub struct Known {
    tokens: HashMap<Uuid, Token>,
    by_hash: HashMap<String, Uuid>,
}

impl FromIterator<Token> for Known {
    fn from_iter<I: IntoIterator<Item = Token>>(tokens: I) -> Self {
        let tokens: HashMap<Uuid, Token> = tokens.into_iter().map(|token| (token.id, token)).collect();
        let by_hash = tokens.values().map(|token| (token.hash.clone(), token.id)).collect();
        Self { tokens, by_hash }
    }
}

impl Known {
    /// Who a secret stands for, now.
    ///
    /// # Errors
    /// When it is unknown, revoked or expired.
    pub fn authenticate(&self, secret: &str, now: DateTime<Utc>) -> Result<Token, Denied> {
        let token = self.by_hash.get(&hash(secret)).and_then(|id| self.tokens.get(id)).ok_or(Denied::Unknown)?;
        token.check(now)?;
        Ok(token.clone())
    }

    /// Whether a principal may still act.
    ///
    /// # Errors
    /// When its token is unknown, revoked or expired.
    pub fn check(&self, principal: PrincipalId, now: DateTime<Utc>) -> Result<(), Denied> {
        self.tokens.get(&principal.uuid()).ok_or(Denied::Unknown)?.check(now)
    }

    /// All tokens, the newest last.
    pub fn list(&self) -> Vec<Token> {
        let mut tokens: Vec<Token> = self.tokens.values().cloned().collect();
        tokens.sort_by_key(|token| (token.created_at, token.id));
        tokens
    }

    /// How many there are, revoked ones included.
    pub(super) fn len(&self) -> usize {
        self.tokens.len()
    }

    pub(super) fn get(&self, id: Uuid) -> Option<&Token> {
        self.tokens.get(&id)
    }

    /// The same with one token added or changed.
    pub(super) fn with(&self, token: Token) -> Self {
        // Of two with one id the last counts.
        self.tokens.values().cloned().chain([token]).collect()
    }
}
