//! Randomness that can be repeated.

use rand::SeedableRng;
use rand::rngs::StdRng;

/// The seed of a test's randomness. Printed when it is made, so that a failure can be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed that `TEST_CAIRN_SEED` names, else a new one.
    ///
    /// # Panics
    /// When `TEST_CAIRN_SEED` is set and not a number.
    pub fn take() -> Self {
        let seed = match std::env::var("TEST_CAIRN_SEED") {
            Ok(text) => text.parse().expect("TEST_CAIRN_SEED is a number"),
            Err(_) => rand::random(),
        };
        eprintln!("TEST_CAIRN_SEED={seed}");
        Self(seed)
    }

    /// The generator that starts from it.
    pub fn rng(self) -> StdRng {
        StdRng::seed_from_u64(self.0)
    }
}

/// Whether long tests should take a short cut: `TEST_CAIRN_FAST` is set (by `cargo xtask test --fast`).
pub fn fast() -> bool {
    std::env::var_os("TEST_CAIRN_FAST").is_some_and(|value| !value.is_empty() && value != "0")
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let (mut first, mut second) = (Seed(7).rng(), Seed(7).rng());
        assert_eq!(first.random::<u64>(), second.random::<u64>());
    }
}
