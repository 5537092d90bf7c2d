//! What a slot tells of itself.

use std::sync::Arc;
use std::time::Duration;

use cairn_event_store::{Direction, Filter, Position};
use chrono::Utc;

use super::Slot;
use crate::run::Run;
use crate::status::{Phase, Progress, ProjectionStatus, State};

/// How long the log may take to tell an age: whoever asks how a process stands must not wait for a database that is away.
const AGE_WITHIN: Duration = Duration::from_millis(300);

impl Slot {
    /// How it fares. The log is asked how old the first event is that queries lack.
    pub(crate) async fn status(&self) -> ProjectionStatus {
        let mut status = self.standing();
        status.lag_seconds = if status.lag == 0 { Some(0.0) } else { self.age_of(status.position + 1).await };
        status
    }

    /// The same but for the age, which only the log knows.
    pub(crate) fn standing(&self) -> ProjectionStatus {
        let (serving, building) = {
            let runs = self.runs();
            (runs.serving.clone(), runs.building.clone())
        };
        let progress = |run: &Arc<Run>| run.progress.borrow().clone();
        let (serving, rebuild) = (serving.as_ref().map(progress), building.as_ref().map(progress));
        let shown = self.shown.borrow().clone();
        let head = self.head().max(shown.position);
        let elsewhere = *self.elsewhere();
        let told = elsewhere.map(|_| self.told().clone()).unwrap_or_default();
        let problem = serving.as_ref().or(rebuild.as_ref()).and_then(|progress| progress.problem.clone());
        let state = match elsewhere {
            _ if shown.paused => State::Paused,
            Some(_) => State::Standby,
            None => state(serving.as_ref(), rebuild.as_ref()),
        };
        ProjectionStatus {
            name: self.projection.name(),
            version: self.projection.version(),
            generation: elsewhere.unwrap_or_else(|| serving.as_ref().map(|progress| progress.generation)),
            previous: *self.kept(),
            position: shown.position,
            head,
            lag: head - shown.position,
            lag_seconds: None,
            events_per_second: serving.as_ref().or(rebuild.as_ref()).map_or(0.0, |run| run.events_per_second),
            state,
            tidy: told.tidy || serving.as_ref().is_some_and(|progress| progress.tidy),
            problem: shown.failed.map(|reason| reason.to_string()).or(problem).or(told.problem),
            rebuild: rebuild.or(told.rebuild),
        }
    }

    async fn age_of(&self, position: u64) -> Option<f64> {
        let filter = Filter::default();
        let reading = self.store.read_all(Position(position), Direction::Forwards, &filter, 1);
        let read = tokio::time::timeout(AGE_WITHIN, reading).await;
        let event = read.ok()?.ok()?.events.pop()?;
        Some((Utc::now() - event.recorded_at).as_seconds_f64().max(0.0))
    }
}

fn state(serving: Option<&Progress>, rebuild: Option<&Progress>) -> State {
    if rebuild.is_some_and(|progress| !progress.phase.is_over()) {
        return State::Rebuilding;
    }
    match serving.or(rebuild).map(|progress| progress.phase) {
        Some(Phase::Live) => State::Live,
        Some(Phase::Filling | Phase::Indexing | Phase::Verifying | Phase::CatchingUp) => State::CatchingUp,
        Some(Phase::Failed) => State::Failed,
        Some(Phase::Stopped) | None => State::Stopped,
    }
}
