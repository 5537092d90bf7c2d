//! Builds that run side by side: whoever comes to a page first folds it for those that are not far behind.
//!
//! See `docs/decisions/0017-one-fold-for-several-builds.md`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_read_model::change::Batch;
use tokio::sync::watch;

use super::PAGE_EVENTS;
use super::lately::{Lately, Needs, Place};

/// How far behind, in positions, a build may be to be folded for.
const REACH: u64 = 32 * PAGE_EVENTS as u64;

/// The builds of one projector, and what they have for each other; and the runs that serve.
#[derive(Default)]
pub(crate) struct Together {
    state: Mutex<State>,
    /// Tells those that wait for a page.
    changed: watch::Sender<()>,
    /// The runs that serve.
    serving: Arc<Lately>,
}

#[derive(Default)]
struct State {
    members: HashMap<u64, Standing>,
    joined: u64,
    /// By the position that a page comes after.
    pages: HashMap<u64, Page>,
}

/// Where a build is.
struct Standing {
    /// It has everything up to here.
    after: u64,
    /// Whether it needs batches to list their events.
    entries: bool,
}

enum Page {
    /// Somebody is at it.
    Begun,
    Folded {
        batch: Arc<Batch>,
        entries: bool,
    },
}

/// A build among others.
pub(super) struct Member {
    together: Arc<Together>,
    number: u64,
    entries: bool,
}

/// How a build comes to a page.
pub(super) enum Claim {
    /// Another build has folded it.
    Folded(Arc<Batch>),
    /// It folds the page itself.
    Own(Turn),
}

/// A page that a build folds. Dropped without being handed on, it is free for others again.
pub(super) struct Turn {
    together: Arc<Together>,
    after: u64,
    /// Whether the batch must list its events, because this build or another one needs them.
    pub(super) entries: bool,
    /// Whether anybody may want it.
    shared: bool,
}

impl Together {
    /// Joins the builds, as one that has everything up to a position.
    pub(super) fn join(self: &Arc<Self>, after: u64, entries: bool) -> Member {
        let mut state = self.state();
        state.joined += 1;
        let number = state.joined;
        state.members.insert(number, Standing { after, entries });
        Member { together: Arc::clone(self), number, entries }
    }

    /// Gives a run its place among those that serve, for when it does.
    pub(super) fn serve(&self, needs: Needs) -> Place {
        self.serving.join(needs)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets go of the pages that nobody will ask for.
    fn trim(&mut self) {
        let least = self.members.values().map(|member| member.after).min().unwrap_or(u64::MAX);
        self.pages.retain(|&after, page| match page {
            Page::Begun => true,
            Page::Folded { .. } => {
                after >= least && self.members.values().any(|member| is_in_reach(member, after))
            }
        });
    }
}

/// Whether a build may come to the page after a position soon.
fn is_in_reach(member: &Standing, after: u64) -> bool {
    member.after <= after && after - member.after <= REACH
}

impl Member {
    /// The page after a position, which is where this build is. Waits where another one is at it.
    pub(super) async fn claim(&self, after: u64) -> Claim {
        let mut changed = self.together.changed.subscribe();
        loop {
            if let Some(claim) = self.try_claim(after) {
                return claim;
            }
            // The sender lives as long as this member.
            let _ = changed.changed().await;
        }
    }

    /// Wants nothing until it claims the next page: nothing is kept for it meanwhile.
    pub(super) fn rest(&self) {
        let mut state = self.together.state();
        state.members.insert(self.number, Standing { after: u64::MAX, entries: self.entries });
        state.trim();
    }

    fn try_claim(&self, after: u64) -> Option<Claim> {
        let mut state = self.together.state();
        state.members.insert(self.number, Standing { after, entries: self.entries });
        state.trim();
        match state.pages.get(&after) {
            Some(Page::Begun) => return None,
            Some(Page::Folded { batch, entries }) if *entries || !self.entries => {
                return Some(Claim::Folded(Arc::clone(batch)));
            }
            Some(Page::Folded { .. }) | None => {}
        }
        let others =
            || state.members.iter().filter(|(number, _)| **number != self.number).map(|(_, member)| member);
        let shared = others().any(|member| is_in_reach(member, after));
        let entries = self.entries || (shared && others().any(|member| member.entries));
        if shared {
            state.pages.insert(after, Page::Begun);
        }
        Some(Claim::Own(Turn { together: Arc::clone(&self.together), after, entries, shared }))
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut state = self.together.state();
        state.members.remove(&self.number);
        state.trim();
    }
}

impl Turn {
    /// Hands on what came of the page.
    pub(super) fn hand_on(self, batch: &Arc<Batch>) {
        if self.shared {
            let page = Page::Folded { batch: Arc::clone(batch), entries: self.entries };
            self.together.state().pages.insert(self.after, page);
            // Dropping this tells those that wait.
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.shared {
            let mut state = self.together.state();
            if matches!(state.pages.get(&self.after), Some(Page::Begun)) {
                state.pages.remove(&self.after);
            }
            drop(state);
            self.together.changed.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn batch(position: u64) -> Arc<Batch> {
        Arc::new(Batch { position, ..Batch::default() })
    }

    async fn own(member: &Member, after: u64) -> Turn {
        match member.claim(after).await {
            Claim::Own(turn) => turn,
            Claim::Folded(batch) => panic!("it was folded up to {}", batch.position),
        }
    }

    async fn folded(member: &Member, after: u64) -> u64 {
        match member.claim(after).await {
            Claim::Folded(batch) => batch.position,
            Claim::Own(_) => panic!("nobody has folded the page after {after}"),
        }
    }

    #[tokio::test]
    async fn a_page_is_folded_by_one_and_taken_by_the_other_who_then_folds_the_next() {
        let together = Arc::new(Together::default());
        let (one, other) = (together.join(0, false), together.join(0, false));
        let turn = own(&one, 0).await;
        assert!(timeout(Duration::from_millis(20), other.claim(0)).await.is_err(), "one is at it");
        let (taken, ()) = tokio::join!(folded(&other, 0), async { turn.hand_on(&batch(7)) });
        assert_eq!(taken, 7);
        own(&other, 7).await.hand_on(&batch(9));
        assert_eq!(folded(&one, 7).await, 9);
    }

    #[tokio::test]
    async fn a_page_that_is_given_up_is_free_again() {
        let together = Arc::new(Together::default());
        let (one, other) = (together.join(0, false), together.join(0, false));
        let turn = own(&one, 0).await;
        let (turn, ()) = tokio::join!(own(&other, 0), async { drop(turn) });
        drop(turn);
        own(&one, 0).await;
    }

    #[tokio::test]
    async fn entries_are_listed_where_anybody_needs_them() {
        let together = Arc::new(Together::default());
        let rows = together.join(0, false);
        let early = own(&rows, 0).await;
        let history = together.join(0, true);
        assert!(!early.entries);
        early.hand_on(&batch(7));
        assert!(own(&rows, 7).await.entries);
        assert!(own(&history, 0).await.entries, "the batch without entries is of no use to it");
    }

    #[tokio::test]
    async fn nothing_is_kept_for_those_who_have_passed_or_are_far_behind() {
        let together = Arc::new(Together::default());
        let (one, other) = (together.join(0, false), together.join(0, false));
        own(&one, 0).await.hand_on(&batch(7));
        own(&one, 7).await.hand_on(&batch(9));
        assert_eq!(folded(&other, 0).await, 7);
        assert_eq!(folded(&other, 7).await, 9);
        let _turn = own(&other, 9).await;
        assert!(!together.state().pages.contains_key(&0), "both have passed it");
        let ahead = REACH + 10;
        own(&one, ahead).await.hand_on(&batch(ahead + 5));
        assert!(!together.state().pages.contains_key(&ahead), "the other is too far behind");
        own(&other, 11).await.hand_on(&batch(12));
        own(&one, 11).await;
        assert!(!together.state().pages.contains_key(&11), "one was ahead when it was folded");
        own(&other, 12).await.hand_on(&batch(13));
        assert!(together.state().pages.contains_key(&12));
        one.rest();
        let _turn = own(&other, 13).await;
        assert!(!together.state().pages.contains_key(&12), "the one that wants it is paused");
        drop(one);
        drop(other);
        assert!(together.state().members.is_empty());
    }
}
