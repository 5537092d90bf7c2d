//! Who follows, who may, and how far each is.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use subtle::ConstantTimeEq;
use tokio_util::sync::CancellationToken;

use super::FollowerView;
use crate::chain::Mark;
use crate::error::FollowError;
use crate::gate::Synchrony;
use crate::key::MachineKey;
use crate::state::{Folder, Follower, Followers, Invitation, now};

/// The most followers.
const MAX_FOLLOWERS: usize = 8;
/// The most invitations that wait.
const MAX_INVITATIONS: usize = 64;
/// The segments of one follower that it is remembered of when they were sent.
const MAX_REMEMBERED: usize = 4_096;

pub(super) struct Roster {
    folder: Folder,
    held: Mutex<Held>,
}

struct Held {
    kept: Followers,
    /// Whether `kept` is not written down yet.
    changed: bool,
    live: HashMap<MachineKey, Live>,
}

/// A connected follower.
struct Live {
    /// Ends the connection.
    cut: CancellationToken,
    /// What was sent and is not acknowledged, with when.
    sent: VecDeque<(Mark, Instant)>,
}

impl Roster {
    pub(super) fn open(folder: Folder) -> Result<Self, FollowError> {
        let kept = folder.followers()?;
        Ok(Self { folder, held: Mutex::new(Held { kept, changed: false, live: HashMap::new() }) })
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.held().kept.followers.is_empty()
    }

    pub(super) fn port(&self) -> Option<u16> {
        self.held().kept.port
    }

    pub(super) fn set_port(&self, port: u16) -> Result<(), FollowError> {
        self.change(|kept| kept.port = Some(port))
    }

    pub(super) fn knows(&self, key: MachineKey) -> bool {
        self.held().kept.followers.iter().any(|follower| follower.key == key)
    }

    /// Where followers that are not connected answer if they have taken over.
    pub(super) fn addresses(&self) -> Vec<(MachineKey, String)> {
        let held = self.held();
        let listening = held.kept.followers.iter();
        let away = listening.filter(|follower| !held.live.contains_key(&follower.key));
        away.filter_map(|follower| Some((follower.key, follower.listen.clone()?))).collect()
    }

    pub(super) fn invite(&self, secret: &[u8; 16], expires_at: u64) -> Result<(), FollowError> {
        self.change(|kept| {
            kept.invitations.retain(|invitation| invitation.expires_at > now());
            let surplus = (kept.invitations.len() + 1).saturating_sub(MAX_INVITATIONS);
            kept.invitations.drain(..surplus);
            kept.invitations.push(Invitation { secret: hashed(secret), expires_at, used_by: None });
        })
    }

    /// Whether an invitation is open, so that machines that are not known may say something.
    pub(super) fn awaits_somebody(&self) -> bool {
        self.held().kept.invitations.iter().any(|invitation| invitation.expires_at > now())
    }

    /// Takes a machine in that shows the secret of an invitation, which works once. Says whether it was.
    pub(super) fn pair(&self, secret: &[u8; 16], key: MachineKey, name: &str) -> Result<bool, FollowError> {
        let hash = hashed(secret);
        let fits = |invitation: &Invitation| {
            bool::from(invitation.secret.as_bytes().ct_eq(hash.as_bytes()))
                && invitation.expires_at > now()
                && invitation.used_by.is_none_or(|by| by == key)
        };
        let mut done = false;
        self.change(|kept| {
            let full = kept.followers.len() >= MAX_FOLLOWERS && !kept.followers.iter().any(|f| f.key == key);
            let Some(invitation) = kept.invitations.iter_mut().find(|invitation| fits(invitation)) else { return };
            if full {
                return;
            }
            invitation.used_by = Some(key);
            kept.followers.retain(|follower| follower.key != key);
            kept.followers.push(Follower {
                key,
                name: name.chars().take(100).collect(),
                listen: None,
                paired_at: now(),
                has: Mark::default(),
                has_at: now(),
            });
            done = true;
        })?;
        Ok(done)
    }

    pub(super) fn forget(&self, key: MachineKey) -> Result<bool, FollowError> {
        let known = self.knows(key);
        self.change(|kept| kept.followers.retain(|follower| follower.key != key))?;
        if let Some(live) = self.held().live.remove(&key) {
            live.cut.cancel();
        }
        Ok(known)
    }

    /// What a follower was known to have.
    pub(super) fn had(&self, key: MachineKey) -> Mark {
        let held = self.held();
        let found = held.kept.followers.iter().find(|follower| follower.key == key);
        found.map_or_else(Mark::default, |follower| follower.has)
    }

    /// A follower is connected from now on. An earlier connection of it is cut.
    pub(super) fn connected(
        &self,
        key: MachineKey,
        name: &str,
        listen: Option<String>,
        has: Mark,
    ) -> Result<CancellationToken, FollowError> {
        let cut = CancellationToken::new();
        let live = Live { cut: cut.clone(), sent: VecDeque::new() };
        if let Some(earlier) = self.held().live.insert(key, live) {
            earlier.cut.cancel();
        }
        self.change(|kept| {
            if let Some(follower) = kept.followers.iter_mut().find(|follower| follower.key == key) {
                follower.name = name.chars().take(100).collect();
                follower.listen = listen.filter(|listen| listen.len() <= 255);
                (follower.has, follower.has_at) = (has, now());
            }
        })?;
        Ok(cut)
    }

    pub(super) fn disconnected(&self, key: MachineKey, cut: &CancellationToken) {
        // Another connection may have taken its place.
        if !cut.is_cancelled() {
            self.held().live.remove(&key);
        }
    }

    pub(super) fn sent(&self, key: MachineKey, mark: Mark) {
        if let Some(live) = self.held().live.get_mut(&key)
            && live.sent.len() < MAX_REMEMBERED
        {
            live.sent.push_back((mark, Instant::now()));
        }
    }

    /// A follower has what it was sent up to a position.
    pub(super) fn has(&self, key: MachineKey, position: u64) {
        let mut held = self.held();
        let mut last = None;
        if let Some(live) = held.live.get_mut(&key) {
            while let Some((mark, _)) = live.sent.front().filter(|(mark, _)| mark.position <= position) {
                last = Some(*mark);
                live.sent.pop_front();
            }
        }
        if let Some(follower) = held.kept.followers.iter_mut().find(|follower| follower.key == key) {
            follower.has = last.unwrap_or(follower.has);
            follower.has_at = now();
            held.changed = true;
        }
    }

    /// Writes down how far followers are, where that has changed.
    pub(super) fn note(&self) -> Result<(), FollowError> {
        let mut held = self.held();
        if std::mem::take(&mut held.changed) {
            self.folder.set_followers(&held.kept)?;
        }
        Ok(())
    }

    fn change(&self, change: impl FnOnce(&mut Followers)) -> Result<(), FollowError> {
        let mut held = self.held();
        let mut kept = held.kept.clone();
        change(&mut kept);
        self.folder.set_followers(&kept)?;
        (held.kept, held.changed) = (kept, false);
        Ok(())
    }

    pub(super) fn view(&self, head: u64) -> Vec<FollowerView> {
        let held = self.held();
        let view = |follower: &Follower| {
            let live = held.live.get(&follower.key);
            let oldest = live.and_then(|live| live.sent.front());
            FollowerView {
                key: follower.key.to_string(),
                name: follower.name.clone(),
                connected: live.is_some(),
                position: follower.has.position,
                lag_events: head.saturating_sub(follower.has.position),
                lag_ms: oldest.map_or(0, |(_, at)| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX)),
                heard_at: follower.has_at,
            }
        };
        held.kept.followers.iter().map(view).collect()
    }

    /// Publishes the followers as metrics.
    pub(super) fn measure(&self, head: u64, synchrony: &Synchrony) {
        let synchronous = match synchrony {
            Synchrony::Synchronous => 1.0,
            Synchrony::Asynchronous | Synchrony::Alone { .. } => 0.0,
        };
        let followers = self.view(head);
        if followers.is_empty() {
            return;
        }
        metrics::gauge!("cairn_follower_synchronous").set(synchronous);
        for follower in followers {
            let name = follower.name.clone();
            metrics::gauge!("cairn_follower_connected", "follower" => name.clone()).set(if follower.connected {
                1.0
            } else {
                0.0
            });
            metrics::gauge!("cairn_follower_lag_events", "follower" => name.clone())
                .set(follower.lag_events as f64);
            metrics::gauge!("cairn_follower_lag_seconds", "follower" => name)
                .set(follower.lag_ms as f64 / 1_000.0);
        }
    }
}

fn hashed(secret: &[u8; 16]) -> String {
    blake3::Hash::from(blake3::derive_key("cairn 2026-11 follow secret", secret)).to_hex().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invitation_works_once_and_in_time() {
        let folder = tempfile::tempdir().expect("a folder");
        let roster = Roster::open(Folder::of(folder.path())).expect("opens");
        let (one, other) = (MachineKey([1; 32]), MachineKey([2; 32]));
        roster.invite(&[7; 16], now() + 60_000).expect("invited");
        roster.invite(&[8; 16], now().saturating_sub(1)).expect("invited");
        assert!(!roster.pair(&[9; 16], one, "one").expect("looked at"), "no such secret");
        assert!(!roster.pair(&[8; 16], one, "one").expect("looked at"), "too late");
        assert!(roster.pair(&[7; 16], one, "one").expect("looked at"));
        let again = Roster::open(Folder::of(folder.path())).expect("opens");
        assert!(!again.pair(&[7; 16], other, "other").expect("looked at"), "it is used");
        assert!(again.pair(&[7; 16], one, "one").expect("looked at"), "the answer may have been lost");
        assert!(again.knows(one) && !again.knows(other));
        assert!(again.forget(one).expect("forgotten") && !again.knows(one));
    }
}
