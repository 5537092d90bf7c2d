//! What runs that serve have folded lately: in a busy log, those a little behind take it instead of folding it again.
//!
//! Those that nobody waits for let the others go first, for as long as they may lag anyway. Apart from that nobody waits here, as
//! builds do ([`super::together`]): a page that is not there is folded by whoever comes to it. So no reader ever waits for
//! another projection. See `docs/decisions/0017-one-fold-for-several-builds.md`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cairn_read_model::change::Batch;
use cairn_telemetry::trace::Origins;
use tokio::sync::watch;

use super::PAGE_EVENTS;

/// A page with fewer events is folded by each for itself: it costs less than the small transactions that would come of taking
/// it from one that goes on more often.
const LEAST_EVENTS: usize = 256;
/// How far behind, in positions, a run may be to be kept anything for.
const REACH: u64 = 4 * PAGE_EVENTS as u64;

/// The runs of one projector that serve, and what they have for each other.
#[derive(Default)]
pub(super) struct Lately {
    state: Mutex<State>,
    /// Tells those that let others go first.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    runs: HashMap<u64, Standing>,
    joined: u64,
    /// By the position that a page comes after.
    pages: BTreeMap<u64, Page>,
}

/// Where a run is.
struct Standing {
    /// It has everything up to here.
    after: u64,
    needs: Needs,
}

/// What a run is like.
#[derive(Debug, Clone, Copy)]
pub(super) struct Needs {
    /// Whether it needs batches to list their events.
    pub(super) entries: bool,
    /// Whether somebody who has written waits for it.
    pub(super) urgent: bool,
}

/// What a run has made of a page.
#[derive(Clone)]
pub(super) struct Page {
    pub(super) batch: Arc<Batch>,
    /// Whether the batch lists its events.
    pub(super) entries: bool,
    /// The traces that the page comes from; none where it was of a log far behind.
    pub(super) origins: Option<Arc<Origins>>,
}

/// A run among those that serve. It counts as one only from when it first asks for a page.
pub(super) struct Place {
    lately: Arc<Lately>,
    number: u64,
    needs: Needs,
}

impl Lately {
    /// Gives a run its place among the others.
    pub(super) fn join(self: &Arc<Self>, needs: Needs) -> Place {
        let mut state = self.state();
        state.joined += 1;
        Place { lately: Arc::clone(self), number: state.joined, needs }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Lets go of the pages that nobody will ask for.
    fn trim(&mut self) {
        let runs = &self.runs;
        self.pages.retain(|&after, _| runs.values().any(|run| run.may_come_to(after)));
    }
}

impl Standing {
    fn may_come_to(&self, after: u64) -> bool {
        self.after <= after && after - self.after <= REACH
    }
}

impl Page {
    fn is_for(&self, needs: Needs) -> bool {
        self.entries || !needs.entries
    }
}

impl Place {
    /// Says where this run is.
    pub(super) fn stand(&self, after: u64) {
        let mut state = self.lately.state();
        state.runs.insert(self.number, Standing { after, needs: self.needs });
        state.trim();
        drop(state);
        self.lately.changed.send_replace(());
    }

    /// Lets those go first that somebody waits for, where they are about to come to the page after a position.
    pub(super) async fn let_others_go_first(&self, after: u64, patience: Duration) {
        if self.needs.urgent {
            return;
        }
        let mut changed = self.lately.changed.subscribe();
        let others = async {
            while self.others_go_first(after) {
                // The sender lives as long as this run.
                let _ = changed.changed().await;
            }
        };
        // One that takes longer is waited for no more: whether it comes to the page or not, this run goes on.
        let _ = tokio::time::timeout(patience, others).await;
    }

    fn others_go_first(&self, after: u64) -> bool {
        let state = self.lately.state();
        let is_there = state.pages.get(&after).is_some_and(|page| page.is_for(self.needs));
        !is_there && state.runs.values().any(|run| run.needs.urgent && run.may_come_to(after))
    }

    /// The page after a position, which is where this run is, where another one has folded it.
    pub(super) fn take(&self, after: u64) -> Option<Page> {
        self.lately.state().pages.get(&after).filter(|page| page.is_for(self.needs)).cloned()
    }

    /// How many events this run had better read after a position: not beyond where a page begins that it can take.
    pub(super) fn limit(&self, after: u64) -> usize {
        let state = self.lately.state();
        let mut later = state.pages.range(after.saturating_add(1)..);
        let next = later.find(|(_, page)| page.is_for(self.needs)).map(|(start, _)| start - after);
        next.and_then(|events| usize::try_from(events).ok()).map_or(PAGE_EVENTS, |events| events.min(PAGE_EVENTS))
    }

    /// Whether another run may come to a page of so many events; if so, whether the batch must list them for any of them.
    pub(super) fn is_wanted(&self, after: u64, events: usize) -> Option<bool> {
        if events < LEAST_EVENTS {
            return None;
        }
        let state = self.lately.state();
        let others = state.runs.iter().filter(|(number, _)| **number != self.number).map(|(_, run)| run);
        let wanting: Vec<bool> =
            others.filter(|run| run.may_come_to(after)).map(|run| run.needs.entries).collect();
        (!wanting.is_empty()).then(|| wanting.contains(&true))
    }

    /// Hands on what came of the page after a position.
    pub(super) fn hand_on(&self, after: u64, page: Page) {
        let mut state = self.lately.state();
        let is_known = state.pages.get(&after).is_some_and(|known| known.entries || !page.entries);
        if !is_known {
            state.pages.insert(after, page);
        }
        state.trim();
        drop(state);
        self.lately.changed.send_replace(());
    }

    /// Wants nothing until it says again where it is: nothing is kept for it meanwhile, and nobody lets it go first.
    pub(super) fn rest(&self) {
        let mut state = self.lately.state();
        state.runs.remove(&self.number);
        state.trim();
        drop(state);
        self.lately.changed.send_replace(());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.rest();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANY: usize = LEAST_EVENTS;
    const ROWS: Needs = Needs { entries: false, urgent: false };
    const HISTORY: Needs = Needs { entries: true, urgent: false };
    const URGENT: Needs = Needs { entries: false, urgent: true };

    fn page(position: u64, entries: bool) -> Page {
        Page { batch: Arc::new(Batch { position, ..Batch::default() }), entries, origins: None }
    }

    fn taken(place: &Place, after: u64) -> Option<u64> {
        place.stand(after);
        place.take(after).map(|page| page.batch.position)
    }

    #[test]
    fn what_one_has_folded_the_other_takes_until_both_have_passed() {
        let lately = Arc::new(Lately::default());
        let (one, other) = (lately.join(ROWS), lately.join(ROWS));
        assert_eq!((taken(&one, 0), taken(&other, 0)), (None, None));
        assert_eq!(one.is_wanted(0, MANY), Some(false));
        one.hand_on(0, page(700, false));
        assert_eq!((taken(&one, 700), taken(&other, 0), taken(&other, 700)), (None, Some(700), None));
        assert!(lately.state().pages.is_empty());
    }

    #[test]
    fn a_page_is_handed_on_only_where_it_is_worth_it_and_somebody_may_come_to_it() {
        let lately = Arc::new(Lately::default());
        let (one, other) = (lately.join(ROWS), lately.join(ROWS));
        one.stand(10);
        assert_eq!(one.is_wanted(10, MANY), None, "the other has not said where it is");
        other.stand(11);
        assert_eq!(one.is_wanted(10, MANY), None, "the other is ahead");
        other.stand(10);
        assert_eq!(one.is_wanted(10, MANY), Some(false));
        assert_eq!(one.is_wanted(10, MANY - 1), None, "it has too few events");
        assert_eq!(one.is_wanted(11 + REACH, MANY), None, "the other is too far behind");
        other.rest();
        assert_eq!(one.is_wanted(10, MANY), None, "the other rests");
    }

    #[test]
    fn a_batch_without_its_events_is_of_no_use_to_one_that_needs_them() {
        let lately = Arc::new(Lately::default());
        let (rows, history) = (lately.join(ROWS), lately.join(HISTORY));
        rows.stand(0);
        history.stand(0);
        rows.hand_on(0, page(700, false));
        assert_eq!(taken(&history, 0), None);
        assert_eq!(history.limit(0), PAGE_EVENTS, "there is nothing to stop at for it");
        assert_eq!(rows.is_wanted(0, MANY), Some(true));
        rows.hand_on(0, page(700, true));
        assert_eq!(taken(&history, 0), Some(700));
        rows.hand_on(0, page(700, false));
        assert_eq!(taken(&history, 0), Some(700), "the better one stays");
    }

    #[test]
    fn one_that_stands_between_two_pages_reads_up_to_the_next() {
        let lately = Arc::new(Lately::default());
        let (one, other) = (lately.join(ROWS), lately.join(ROWS));
        other.stand(5);
        assert_eq!(other.limit(5), PAGE_EVENTS);
        one.stand(20);
        one.hand_on(20, page(700, false));
        assert_eq!((taken(&other, 5), other.limit(5)), (None, 15));
        assert_eq!(taken(&other, 20), Some(700));
    }

    #[test]
    fn nothing_is_kept_for_those_who_are_gone_or_far_behind() {
        let lately = Arc::new(Lately::default());
        let (one, other) = (lately.join(ROWS), lately.join(ROWS));
        other.stand(0);
        one.stand(REACH);
        one.hand_on(REACH, page(REACH + 700, false));
        assert_eq!(lately.state().pages.len(), 1);
        one.stand(REACH + 700);
        one.hand_on(REACH + 700, page(REACH + 900, false));
        assert_eq!(lately.state().pages.len(), 2, "the one that made it has not passed it yet");
        one.stand(REACH + 900);
        assert_eq!(lately.state().pages.len(), 1, "the other is too far behind for the second");
        drop(other);
        assert!(lately.state().pages.is_empty());
    }

    const LONG: Duration = Duration::from_secs(60);

    /// Whether a run goes on by itself.
    async fn goes_on(place: &Place, after: u64) -> bool {
        let waiting = place.let_others_go_first(after, LONG);
        tokio::time::timeout(Duration::from_millis(20), waiting).await.is_ok()
    }

    #[tokio::test]
    async fn the_one_somebody_waits_for_goes_first() {
        let lately = Arc::new(Lately::default());
        let (urgent, other) = (lately.join(URGENT), lately.join(HISTORY));
        other.stand(7);
        assert!(goes_on(&other, 7).await, "the urgent one has not said where it is");
        urgent.stand(7);
        assert!(goes_on(&urgent, 7).await, "it lets nobody go first");
        assert!(!goes_on(&other, 7).await);
        let waiting = other.let_others_go_first(7, LONG);
        tokio::join!(waiting, async { urgent.hand_on(7, page(700, true)) });
        assert_eq!(other.take(7).map(|page| page.batch.position), Some(700));
    }

    #[tokio::test]
    async fn one_that_has_passed_is_far_behind_rests_or_takes_too_long_is_not_waited_for() {
        let lately = Arc::new(Lately::default());
        let (urgent, other) = (lately.join(URGENT), lately.join(ROWS));
        for stand in [8, 7 + REACH] {
            urgent.stand(stand);
            assert!(goes_on(&other, 7).await, "it has passed");
        }
        urgent.stand(7);
        assert!(goes_on(&other, 8 + REACH).await, "it is far behind");
        other.let_others_go_first(7, Duration::from_millis(20)).await;
        urgent.rest();
        assert!(goes_on(&other, 7).await, "it rests");
    }
}
