//! What a brain holds.

use metrics::gauge;

use super::names::{CLAIMS, SUGGESTIONS};

/// So many suggestions wait for the user's decision.
pub fn suggestions_waiting(suggestions: u64) {
    gauge!(SUGGESTIONS).set(suggestions as f64);
}

/// There are so many claims at a truth level, which is named as in the API: `user`, `automation` and so on.
pub fn claims(truth: &'static str, claims: u64) {
    gauge!(CLAIMS, "truth" => truth).set(claims as f64);
}
