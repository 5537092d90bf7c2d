//! Another key of this brain: it is made and named before it is needed, and put in place by its words.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bip39::Mnemonic;
use cairn_sync::engine::Input;
use cairn_sync::key::{BrainKey, Epoch};
use cairn_sync::succession::BrainSecret;
use ed25519_dalek::SigningKey;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::{Service, now, random};
use crate::error::SharingError;

/// Where a node keeps the key that signs for its brain, where that is not the first any more.
pub trait SharingKey: Send + Sync {
    /// The key's seed, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    fn load(&self) -> io::Result<Option<Zeroizing<[u8; 32]>>>;

    /// Keeps a key's seed in place of the one before, durably.
    ///
    /// # Errors
    /// When it cannot be written.
    fn keep(&self, seed: &[u8; 32]) -> io::Result<()>;
}

impl Service {
    /// The key that signs for this brain, if this device has it.
    pub(super) fn secret(&self) -> Option<BrainSecret> {
        let keys = self.engine.succession(self.engine.brain());
        self.secrets.iter().find_map(|key| BrainSecret::of(key.clone(), keys.clone()))
    }

    /// Says the hash of the key that comes next to others.
    pub(super) async fn prepare_key(&mut self, next: BrainKey) -> Result<(), SharingError> {
        let secret = self.secret().ok_or(SharingError::NotTheKey)?;
        let prepared = secret.succession().prepare(secret.key(), next)?;
        let secret = BrainSecret::of(secret.key().clone(), prepared).ok_or(SharingError::NotTheKey)?;
        self.list(&secret, |_| {}).await?;
        info!("the key that comes next is named");
        Ok(())
    }

    /// Puts the key in place that was named to come next; or the one that signs now on this device.
    pub(super) async fn change_key(&mut self, key: SigningKey) -> Result<(), SharingError> {
        let known = self.engine.succession(self.engine.brain());
        let is_current = known.generation() > 0 && known.current() == BrainKey::of(&key);
        let keys = if is_current { known } else { known.change(&key)? };
        let secret = BrainSecret::of(key.clone(), keys).ok_or(SharingError::NotTheKey)?;
        let certificate = secret.certify(self.engine.own_device(), Epoch(random()?), now());
        let own = self.engine.own_device();
        let roster = self.roster(&secret, |devices| devices.push(own));
        keep(&self.config.later, &key).await?;
        self.keeper.keep_change(&roster, &certificate).await?;
        self.secrets.insert(0, key);
        self.engine.set_keys(self.secrets.iter().map(BrainKey::of).collect());
        self.wanted = None;
        info!(key = %secret.succession().current(), "this brain has another key");
        let effects = self.engine.say_roster(roster, now());
        let mut inputs: VecDeque<Input> = self.go_on_in(certificate).await?.into();
        self.carry_out(effects, &mut inputs).await?;
        for input in inputs {
            self.input(input).await?;
        }
        self.succeed().await
    }

    /// Says in the spaces that this device speaks for which brains have another key, as far as that was not said yet.
    pub(super) async fn succeed(&mut self) -> Result<(), SharingError> {
        if let Some(secret) = self.secret().filter(|_| self.engine.lists_by_an_old_key()) {
            // It was restored from a backup of before.
            let own = self.engine.own_device();
            self.list(&secret, |devices| devices.push(own)).await?;
        }
        for (space, brain) in self.engine.to_be_succeeded() {
            match self.engine.succeed(space, brain, self.keeper.stamp().hlc) {
                Ok(entries) => drop(self.say(entries).await?),
                Err(why) => warn!(%space, %brain, %why, "it cannot be said that a brain has another key"),
            }
        }
        Ok(())
    }
}

/// Makes a key that can come next: its secret as 24 words, and itself.
///
/// # Errors
/// When the system gives no random numbers.
pub fn next_key() -> Result<(Zeroizing<String>, BrainKey), SharingError> {
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(random()?);
    let words = Mnemonic::from_entropy(&*seed).expect("32 bytes are 24 words").to_string();
    Ok((Zeroizing::new(words), BrainKey::of(&SigningKey::from_bytes(&seed))))
}

/// The key that 24 words say; none where they say none.
pub fn key_of_words(words: &str) -> Option<SigningKey> {
    let words = Zeroizing::new(words.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
    let seed = Mnemonic::parse_normalized(&words).ok()?;
    let (bytes, length) = seed.to_entropy_array();
    let seed: Zeroizing<[u8; 32]> = Zeroizing::new(bytes[..length].try_into().ok()?);
    Some(SigningKey::from_bytes(&seed))
}

/// The later key that is kept, if there is one.
pub(super) async fn load(place: &Arc<dyn SharingKey>) -> Result<Option<SigningKey>, SharingError> {
    let place = Arc::clone(place);
    let seed = blocking(move || place.load()).await?;
    Ok(seed.map(|seed| SigningKey::from_bytes(&seed)))
}

async fn keep(place: &Arc<dyn SharingKey>, key: &SigningKey) -> Result<(), SharingError> {
    let (place, seed) = (Arc::clone(place), Zeroizing::new(key.to_bytes()));
    blocking(move || place.keep(&seed)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, SharingError> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.and_then(|done| done).map_err(SharingError::KeyNotKept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_say_the_key_whose_they_are_and_others_say_none() {
        let words = Mnemonic::from_entropy(&[7; 32]).expect("made").to_string();
        assert_eq!(words.split(' ').count(), 24);
        assert_eq!(key_of_words(&words).expect("a key").to_bytes(), [7; 32]);
        let spoken = format!("  {}\n", words.to_uppercase().replace(' ', "\n  "));
        assert_eq!(key_of_words(&spoken).expect("a key").to_bytes(), [7; 32], "however they are typed");
        let (first, rest) = words.split_once(' ').expect("several");
        for wrong in ["", rest, &format!("{rest} {first}"), "zoo zoo zoo", &words.replace(first, "cairn")] {
            assert!(key_of_words(wrong).is_none(), "{wrong}");
        }
        // Twelve words are a key of half the length.
        assert!(key_of_words(&Mnemonic::from_entropy(&[7; 16]).expect("made").to_string()).is_none());
    }
}
