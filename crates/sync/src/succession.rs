//! The keys of a brain, one after the other. Each names the next by its hash before that is needed, so that whoever steals one cannot go on
//! with another one of their own, and whoever loses one can go on with the next.

use ed25519_dalek::{Signer, SigningKey};

use crate::certificate::Certificate;
use crate::key::{BrainKey, DeviceKey, Epoch, Hash};
use crate::roster::Roster;

/// What the signed bytes begin with.
const DOMAIN: &[u8] = b"cairn succession 1\0";
/// What is hashed with a key to name it.
const NEXT_DOMAIN: &[u8] = b"cairn next key 1\0";
/// The most keys of a brain.
pub const MAX_KEYS: usize = 16;
/// How many bytes a step has: the key, the hash of the next one and the signature.
pub const STEP_BYTES: usize = 32 + 32 + 64;

/// The keys of a brain, as each has signed which one comes next. One that exists is sound: its signatures were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Succession {
    brain: BrainKey,
    /// None where the brain has only its first key and has named no other.
    steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    key: BrainKey,
    /// The hash of the key that comes next; [`Hash::NONE`] where none is named.
    next: Hash,
    signature: [u8; 64],
}

/// Why keys do not follow each other so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSuccession {
    /// The bytes are none, or are not signed as they should be.
    #[error("it is no succession of keys that a brain has signed")]
    Unsound,
    /// The key that comes next was named before.
    #[error("the key that comes next is named already, and no other one can take its place")]
    NamedAlready,
    /// The key is not the one that was named.
    #[error("it is not the key that was named to come next")]
    OtherKey,
    /// There were too many.
    #[error("a brain has at most {MAX_KEYS} keys, one after the other")]
    TooMany,
}

impl Succession {
    /// That of a brain which has only its first key.
    pub const fn first(brain: BrainKey) -> Self {
        Self { brain, steps: Vec::new() }
    }

    /// The brain: its first key.
    pub fn brain(&self) -> BrainKey {
        self.brain
    }

    /// The key that signs for the brain now.
    pub fn current(&self) -> BrainKey {
        self.steps.last().map_or(self.brain, |step| step.key)
    }

    /// How many keys were before that one.
    pub fn generation(&self) -> usize {
        self.steps.len().saturating_sub(1)
    }

    /// Whether the key that comes next is named.
    pub fn is_prepared(&self) -> bool {
        self.steps.last().is_some_and(|step| step.next != Hash::NONE)
    }

    /// Whether a key is the one that comes next.
    pub fn is_next(&self, key: BrainKey) -> bool {
        self.is_prepared() && self.steps.last().is_some_and(|step| step.next == name(key))
    }

    /// Whether it goes on from another one, or is the same: nothing that the other says is otherwise here.
    pub fn goes_on_from(&self, other: &Self) -> bool {
        let same = |(own, other): (&Step, &Step)| {
            own.key == other.key && (own.next == other.next || other.next == Hash::NONE)
        };
        self.brain == other.brain
            && self.steps.len() >= other.steps.len()
            && self.steps.iter().zip(&other.steps).all(same)
    }

    /// Names the key that comes next.
    ///
    /// # Errors
    /// When one is named, `key` is not the one that signs now, or there were too many.
    pub fn prepare(&self, key: &SigningKey, next: BrainKey) -> Result<Self, InvalidSuccession> {
        let mut made = self.clone();
        if self.current() != BrainKey::of(key) {
            return Err(InvalidSuccession::OtherKey);
        }
        if self.is_prepared() {
            return Err(InvalidSuccession::NamedAlready);
        }
        if self.generation() + 1 >= MAX_KEYS {
            return Err(InvalidSuccession::TooMany);
        }
        made.steps.pop();
        made.push(key, name(next));
        Ok(made)
    }

    /// Puts the key in place that was named to come next.
    ///
    /// # Errors
    /// When it is not that one.
    pub fn change(&self, key: &SigningKey) -> Result<Self, InvalidSuccession> {
        let mut made = self.clone();
        if !self.is_next(BrainKey::of(key)) {
            return Err(InvalidSuccession::OtherKey);
        }
        made.push(key, Hash::NONE);
        Ok(made)
    }

    fn push(&mut self, key: &SigningKey, next: Hash) {
        let step = signed(self.brain, self.steps.len(), BrainKey::of(key), next);
        self.steps.push(Step { key: BrainKey::of(key), next, signature: key.sign(&step).to_bytes() });
    }

    /// As it goes over the wire, and as it is kept; nothing where the brain has only its first key and has named no other.
    pub fn to_bytes(&self) -> Vec<u8> {
        let step = |step: &Step| [step.key.bytes().as_slice(), step.next.bytes(), &step.signature].concat();
        self.steps.iter().flat_map(step).collect()
    }

    /// Reads that of a brain, and checks its signatures.
    ///
    /// # Errors
    /// [`InvalidSuccession::Unsound`].
    pub fn parse(brain: BrainKey, bytes: &[u8]) -> Result<Self, InvalidSuccession> {
        let (steps, []) = bytes.as_chunks::<STEP_BYTES>() else { return Err(InvalidSuccession::Unsound) };
        if steps.len() > MAX_KEYS {
            return Err(InvalidSuccession::Unsound);
        }
        let mut read = Self::first(brain);
        for (number, bytes) in steps.iter().enumerate() {
            let (key, rest) = bytes.split_first_chunk().expect("it is long enough");
            let (next, signature) = rest.split_first_chunk().expect("it is long enough");
            let signature = signature.try_into().expect("it is long enough");
            let next = Hash::new(*next);
            let key = BrainKey::parse(*key).ok_or(InvalidSuccession::Unsound)?;
            let follows = if number == 0 { key == brain } else { read.is_next(key) };
            if !follows || !key.has_signed(&signed(brain, number, key, next), &signature) {
                return Err(InvalidSuccession::Unsound);
            }
            read.steps.push(Step { key, next, signature });
        }
        Ok(read)
    }
}

/// A brain's secret key, with the keys that it comes after.
pub struct BrainSecret {
    key: SigningKey,
    succession: Succession,
}

impl BrainSecret {
    /// The first key of a brain.
    pub fn first(key: SigningKey) -> Self {
        Self { succession: Succession::first(BrainKey::of(&key)), key }
    }

    /// A key that signs for a brain now; none where it does not.
    pub fn of(key: SigningKey, succession: Succession) -> Option<Self> {
        (succession.current() == BrainKey::of(&key)).then_some(Self { key, succession })
    }

    /// The brain.
    pub fn brain(&self) -> BrainKey {
        self.succession.brain()
    }

    /// The secret itself.
    pub fn key(&self) -> &SigningKey {
        &self.key
    }

    /// The keys up to this one.
    pub fn succession(&self) -> &Succession {
        &self.succession
    }

    /// Certifies a device for an epoch, at a moment in milliseconds since 1970.
    pub fn certify(&self, device: DeviceKey, epoch: Epoch, made_at: u64) -> Certificate {
        Certificate::signed_by(self, device, epoch, made_at)
    }

    /// Lists the brain's devices.
    pub fn list(&self, number: u64, devices: Vec<DeviceKey>) -> Roster {
        Roster::signed_by(self, number, devices)
    }
}

/// What a key is named by before it is shown.
fn name(key: BrainKey) -> Hash {
    Hash::of(&[NEXT_DOMAIN, key.bytes()].concat())
}

fn signed(brain: BrainKey, number: usize, key: BrainKey, next: Hash) -> Vec<u8> {
    let number = u8::try_from(number).expect("there are fewer");
    [DOMAIN, brain.bytes(), &[number], key.bytes(), next.bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(of: u8) -> SigningKey {
        SigningKey::from_bytes(&[of; 32])
    }

    fn key(of: u8) -> BrainKey {
        BrainKey::of(&secret(of))
    }

    /// The first key names the second, which is put in place, and so on up to a number of keys.
    fn changed(times: u8) -> Succession {
        (1..=times).fold(Succession::first(key(1)), |known, of| {
            let prepared = known.prepare(&secret(of), key(of + 1)).expect("prepared");
            prepared.change(&secret(of + 1)).expect("changed")
        })
    }

    #[test]
    fn keys_follow_each_other_as_they_were_named_and_no_byte_otherwise() {
        let made = changed(2);
        assert_eq!((made.current(), made.generation(), made.brain()), (key(3), 2, key(1)));
        let bytes = made.to_bytes();
        assert_eq!(Succession::parse(key(1), &bytes), Ok(made));
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(Succession::parse(key(1), &changed), Err(InvalidSuccession::Unsound), "byte {at}");
        }
        assert_eq!(Succession::parse(key(2), &bytes), Err(InvalidSuccession::Unsound), "another brain's");
        assert_eq!(Succession::parse(key(1), &bytes[1..]), Err(InvalidSuccession::Unsound));
        assert_eq!(Succession::parse(key(1), &[]), Ok(Succession::first(key(1))));
    }

    #[test]
    fn who_has_a_key_alone_puts_no_other_one_in_the_place_of_the_one_that_was_named() {
        let prepared = Succession::first(key(1)).prepare(&secret(1), key(2)).expect("prepared");
        assert_eq!(prepared.prepare(&secret(1), key(9)), Err(InvalidSuccession::NamedAlready));
        assert_eq!(prepared.change(&secret(9)), Err(InvalidSuccession::OtherKey));
        assert_eq!(prepared.prepare(&secret(9), key(2)), Err(InvalidSuccession::OtherKey));
        // Who names another one behind its back contradicts what is known.
        let forged = Succession::first(key(1)).prepare(&secret(1), key(9)).expect("signed");
        let forged = forged.change(&secret(9)).expect("signed");
        assert!(!forged.goes_on_from(&prepared) && !prepared.goes_on_from(&forged));
    }

    #[test]
    fn one_goes_on_from_all_that_it_was_before() {
        let first = Succession::first(key(1));
        let prepared = first.prepare(&secret(1), key(2)).expect("prepared");
        let line =
            [first, prepared, changed(1), changed(1).prepare(&secret(2), key(3)).expect("prepared"), changed(2)];
        for (at, one) in line.iter().enumerate() {
            for (before, other) in line.iter().enumerate() {
                assert_eq!(one.goes_on_from(other), before <= at, "{at} from {before}");
            }
        }
    }

    #[test]
    fn there_is_an_end_to_it() {
        let last = changed(u8::try_from(MAX_KEYS).expect("few") - 1);
        let of = u8::try_from(MAX_KEYS).expect("few");
        assert_eq!(last.prepare(&secret(of), key(of + 1)), Err(InvalidSuccession::TooMany));
        assert_eq!(Succession::parse(key(1), &last.to_bytes()), Ok(last));
    }
}
