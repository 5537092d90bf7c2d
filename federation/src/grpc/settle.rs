//! Which of two calls counts, where both devices dialled at once.
//!
//! Of two devices the one with the smaller key *leads*. The other one takes every call of the leader's, in place of
//! whatever it has or dials. The leader holds a call of the other one's back while it has another one that may be
//! good: if that is so, the other one takes its own back as soon as it takes the leader's. If it does not take it back
//! within [`RIVAL_TIME`](super::limits::RIVAL_TIME), it does not know of the other call any more, and so that one
//! gives way. Thus both keep the same one, and no device is locked out by a connection that only this side believes
//! to be alive.

use crate::PeerKey;

/// What a device has with a peer that calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Have {
    Nothing,
    /// A dial that has not asked for frames yet.
    Reaching,
    /// A dial that has asked for frames, and waits for the answer.
    Asking,
    /// Frames are exchanged.
    Session,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It takes the place of what there is.
    Take,
    /// It waits.
    Hold,
}

/// What `local` does about a call of `peer`'s.
pub(super) fn on_call(local: PeerKey, peer: PeerKey, have: Have) -> Verdict {
    match have {
        Have::Asking | Have::Session if local < peer => Verdict::Hold,
        Have::Nothing | Have::Reaching | Have::Asking | Have::Session => Verdict::Take,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: PeerKey = PeerKey::from_bytes([1; 32]);
    const LARGE: PeerKey = PeerKey::from_bytes([2; 32]);

    #[test]
    fn of_two_calls_that_cross_the_one_of_the_smaller_key_counts() {
        assert_eq!(on_call(SMALL, LARGE, Have::Asking), Verdict::Hold);
        assert_eq!(on_call(LARGE, SMALL, Have::Asking), Verdict::Take);
    }

    #[test]
    fn a_dial_that_has_asked_for_nothing_gives_way() {
        for have in [Have::Nothing, Have::Reaching] {
            assert_eq!(on_call(SMALL, LARGE, have), Verdict::Take);
            assert_eq!(on_call(LARGE, SMALL, have), Verdict::Take);
        }
    }

    #[test]
    fn the_leader_alone_keeps_a_session_for_a_while() {
        assert_eq!(on_call(SMALL, LARGE, Have::Session), Verdict::Hold);
        assert_eq!(on_call(LARGE, SMALL, Have::Session), Verdict::Take);
    }
}
