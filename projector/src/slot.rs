//! One projection of a projector: its generations, the run that serves and the run that builds.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_event_store::{Direction, Filter, Position, SharedStore};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fold::{BUILDING_CACHE_BYTES, Fold};
use crate::generations::{Generations, Place};
use crate::lease::Leases;
use crate::projection::{Generation, Projection};
use crate::projector::{ProjectorError, StartError, Verification};
use crate::run::{PAGE_EVENTS, Purpose, RETRY_PAUSE, Run, pause};
use crate::status::{Phase, Progress, ProjectionStatus, State};
use crate::turns::{Turns, take};

pub(crate) struct Slot {
    pub(crate) projection: Arc<dyn Projection>,
    pub(crate) store: SharedStore,
    pub(crate) generations: Arc<dyn Generations>,
    pub(crate) handle: Handle,
    pub(crate) cancel: CancellationToken,
    shown: watch::Sender<Shown>,
    /// The position of the last erasure that a run has met.
    erased: AtomicU64,
    runs: Mutex<Runs>,
    /// Set while another process runs the projection: the generation that serves, as far as it is known.
    elsewhere: Mutex<Option<Option<u64>>>,
    /// Held while a build is begun or cancelled, which takes a while.
    changing: Mutex<()>,
}

/// What queries see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// Up to where.
    pub(crate) position: u64,
    /// Why it will get no further, if so.
    pub(crate) failed: Option<Arc<str>>,
}

#[derive(Default)]
struct Runs {
    serving: Option<Arc<Run>>,
    building: Option<Arc<Run>>,
}

impl Slot {
    /// Opens a projection's folder and sets its runs going: from the serving generation where there is a usable one,
    /// else from a new one or the one begun before. Blocks.
    pub(crate) fn start(
        projection: Arc<dyn Projection>,
        store: SharedStore,
        root: &Path,
        handle: Handle,
        cancel: CancellationToken,
        turns: &Turns,
    ) -> Result<Arc<Self>, StartError> {
        let name = projection.name();
        let generations =
            projection.generations(root).map_err(|source| StartError::Folder { projection: name, source })?;
        let slot = Arc::new(Self {
            projection,
            store,
            generations,
            handle,
            cancel,
            shown: watch::Sender::default(),
            erased: AtomicU64::new(0),
            runs: Mutex::default(),
            elsewhere: Mutex::default(),
            changing: Mutex::default(),
        });
        match turns {
            Turns::Shared(leases) if slot.projection.is_shared() => slot.take_turns(Some(leases.clone())),
            Turns::Others if slot.projection.is_shared() => slot.take_turns(None),
            Turns::Alone | Turns::Shared(_) | Turns::Others => slot.run()?,
        }
        Ok(slot)
    }

    fn take_turns(self: &Arc<Self>, leases: Option<Leases>) {
        *self.elsewhere() = Some(None);
        self.look();
        self.handle.spawn(take(Arc::clone(self), leases));
    }

    /// Sets the runs going. Blocks.
    pub(crate) fn run(self: &Arc<Self>) -> Result<(), StartError> {
        *self.elsewhere() = None;
        if !self.resume_serving()? {
            let projection = self.projection.name();
            self.build(false).map_err(|source| StartError::Build { projection, source: Box::new(source) })?;
        }
        Ok(())
    }

    /// Ends the runs, because another process may run the projection from now on. Blocks.
    pub(crate) fn stand_by(&self) {
        *self.elsewhere() = Some(None);
        self.stop_runs();
    }

    /// Looks how far the process that runs the projection is. Blocks.
    pub(crate) fn look(&self) {
        let projection = self.projection.name();
        match self.generations.serving() {
            Ok(serving) => {
                if let Some(known) = self.elsewhere().as_mut() {
                    *known = serving.map(|serving| serving.generation);
                }
            }
            Err(error) => return tracing::debug!(projection, %error, "the register cannot be read now"),
        }
        match self.projection.served() {
            Ok(Some(position)) => self.show(position),
            Ok(None) => {}
            Err(error) => tracing::debug!(projection, %error, "a generation's position cannot be read now"),
        }
    }

    fn elsewhere(&self) -> MutexGuard<'_, Option<Option<u64>>> {
        self.elsewhere.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses what only the process that runs the projection can do.
    fn check_here(&self) -> Result<(), ProjectorError> {
        let projection = self.projection.name();
        match *self.elsewhere() {
            Some(_) => Err(ProjectorError::Elsewhere { projection }),
            None => Ok(()),
        }
    }

    /// Serves the generation that served last; says whether it could.
    fn resume_serving(self: &Arc<Self>) -> Result<bool, StartError> {
        let projection = self.projection.name();
        let folder = |source| StartError::Folder { projection, source };
        let failed = |source| StartError::Open { projection, source };
        let Some(serving) = self.generations.serving().map_err(folder)? else { return Ok(false) };
        if serving.erased > 0
            && let Some(number) = self.generations.unfinished().map_err(folder)?
        {
            self.forget(number);
        }
        let mut generation = match self.projection.open(&self.generations.place(serving.generation)) {
            Ok(generation) => generation,
            Err(error) if error.is_unusable() => {
                tracing::warn!(projection, reason = %error, "the serving generation is of no use; building another");
                return Ok(false);
            }
            Err(error) => return Err(failed(error)),
        };
        if generation.checkpoint() > self.head() {
            tracing::warn!(projection, "the serving generation is ahead of the log; building another");
            return Ok(false);
        }
        generation.make_ready().and_then(|()| generation.switch()).map_err(failed)?;
        generation.serve();
        self.show(generation.checkpoint());
        let run = Run::start(self, serving.generation, generation, Purpose::Serve).map_err(folder)?;
        self.runs().serving = Some(run);
        Ok(true)
    }

    /// Builds another generation, going on with one that was not finished unless that is not wanted. Blocks.
    pub(crate) fn build(self: &Arc<Self>, from_scratch: bool) -> Result<Arc<Run>, ProjectorError> {
        self.check_here()?;
        let projection = self.projection.name();
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let earlier = self.runs().building.clone();
        if let Some(earlier) = earlier {
            if !earlier.progress.borrow().phase.is_over() {
                return Err(ProjectorError::AlreadyRebuilding { projection });
            }
            earlier.stop();
        }
        let folder = |source| ProjectorError::Folder { projection, source };
        let unfinished = self.generations.unfinished().map_err(folder)?.filter(|_| !from_scratch);
        let (number, generation) = match unfinished.map(|number| (number, self.resume(number))) {
            Some((number, Some(generation))) => (number, generation),
            _ => self.begin()?,
        };
        let run = Run::start(self, number, generation, Purpose::Build).map_err(folder)?;
        let mut runs = self.runs();
        // It may have been so quick that it serves already.
        if !runs.serving.as_ref().is_some_and(|serving| Arc::ptr_eq(serving, &run)) {
            runs.building = Some(Arc::clone(&run));
        }
        Ok(run)
    }

    /// Opens a generation that was not finished, if it is of any use.
    fn resume(&self, number: u64) -> Option<Box<dyn Generation>> {
        match self.projection.open(&self.generations.place(number)) {
            Ok(generation) if generation.checkpoint() <= self.head() => Some(generation),
            Ok(_) => None,
            Err(error) => {
                let projection = self.projection.name();
                tracing::warn!(projection, number, reason = %error, "an unfinished generation is given up");
                None
            }
        }
    }

    fn begin(&self) -> Result<(u64, Box<dyn Generation>), ProjectorError> {
        let projection = self.projection.name();
        let folder = |source| ProjectorError::Folder { projection, source };
        let number = self.generations.begin().map_err(folder)?;
        for surplus in self.generations.surplus(&[number]).map_err(folder)? {
            self.forget(surplus);
        }
        let generation = self
            .projection
            .begin(&self.generations.place(number))
            .map_err(|source| ProjectorError::Open { projection, source })?;
        Ok((number, generation))
    }

    /// Opens the generation of a run that has ended anew, and goes on with it from where it stands, on a thread of its own:
    /// the run's own is about to end.
    pub(crate) fn go_on(slot: &Arc<Self>, ended: &Arc<Run>, purpose: Purpose) {
        let (slot, ended) = (Arc::clone(slot), Arc::clone(ended));
        let name = format!("{}-reopen", slot.projection.name());
        let started = std::thread::Builder::new().name(name).spawn(move || {
            ended.stop();
            while !slot.cancel.is_cancelled() {
                match slot.reopen(&ended, purpose) {
                    Ok(()) => return,
                    Err(error) => {
                        let projection = slot.projection.name();
                        tracing::warn!(projection, %error, "a generation cannot be opened again yet; trying");
                        pause(&slot.handle, &slot.cancel, RETRY_PAUSE);
                    }
                }
            }
        });
        if let Err(error) = started {
            tracing::error!(%error, "a projection stands still until the next start: no thread could be had");
        }
    }

    fn reopen(self: &Arc<Self>, ended: &Arc<Run>, purpose: Purpose) -> Result<(), ProjectorError> {
        let projection = self.projection.name();
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let is_wanted = |run: &Option<Arc<Run>>| run.as_ref().is_some_and(|run| Arc::ptr_eq(run, ended));
        let number = ended.generation;
        let place = self.generations.place(number);
        let mut generation =
            self.projection.open(&place).map_err(|source| ProjectorError::Open { projection, source })?;
        if purpose == Purpose::Serve {
            generation.make_ready().map_err(|source| ProjectorError::Open { projection, source })?;
        }
        {
            // Another build may have taken its place, or the process may be ending.
            let runs = self.runs();
            let wanted = if purpose == Purpose::Serve { &runs.serving } else { &runs.building };
            if !is_wanted(wanted) {
                return Ok(());
            }
        }
        let reached = generation.checkpoint();
        let run = Run::start(self, number, generation, purpose)
            .map_err(|source| ProjectorError::Folder { projection, source })?;
        let mut runs = self.runs();
        match purpose {
            Purpose::Serve => {
                runs.serving = Some(run);
                drop(runs);
                self.show(reached);
            }
            // It may have been so quick that it serves already.
            Purpose::Build if is_wanted(&runs.building) => runs.building = Some(run),
            Purpose::Build => {}
        }
        Ok(())
    }

    /// Stops the build and keeps what it has got.
    pub(crate) fn cancel_build(&self) -> Result<(), ProjectorError> {
        self.check_here()?;
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let run = {
            // Under this lock a build is promoted: it either serves already, or never will.
            let runs = self.runs();
            let building = runs.building.clone().filter(|run| !run.progress.borrow().phase.is_over());
            building.inspect(|run| run.cancel.cancel())
        };
        let run = run.ok_or(ProjectorError::NotRebuilding { projection: self.projection.name() })?;
        run.stop();
        let reached = run.progress.borrow().position;
        if reached < self.erased.load(Ordering::Acquire) {
            self.forget(run.generation);
        }
        Ok(())
    }

    /// Deletes the generations that nobody keeps up: they hold what the log is about to tell was erased.
    pub(crate) fn forget_erased(&self, run: &Arc<Run>, position: u64) {
        self.erased.fetch_max(position, Ordering::AcqRel);
        let kept: Vec<u64> = {
            let runs = self.runs();
            let live = |run: &&Arc<Run>| !run.progress.borrow().phase.is_over();
            let others = runs.serving.iter().chain(runs.building.iter().filter(live));
            others.map(|run| run.generation).chain([run.generation]).collect()
        };
        self.forget_older(&kept);
        if kept.iter().any(|number| *number > run.generation)
            && let Err(error) = self.generations.note_erasure(position)
        {
            tracing::warn!(projection = self.projection.name(), %error, "an erasure could not be noted");
        }
        // A build that is just begun meets the erasure itself; one that is just cancelled is looked at there.
        if let Ok(_changing) = self.changing.try_lock()
            && let Ok(Some(number)) = self.generations.unfinished()
            && !kept.contains(&number)
        {
            self.forget(number);
        }
    }

    /// After a build has ended without serving: what it holds of something erased goes with it.
    pub(crate) fn given_up(&self, run: &Arc<Run>, position: u64) {
        if position < self.erased.load(Ordering::Acquire) {
            self.forget(run.generation);
        }
    }

    fn forget(&self, number: u64) {
        let projection = self.projection.name();
        if let Err(error) = self.projection.delete(&self.generations.place(number)) {
            // It stays in the register, so that it is tried again.
            tracing::warn!(projection, number, %error, "a generation could not be deleted");
            return;
        }
        if let Err(error) = self.generations.delete(number) {
            tracing::warn!(projection, number, %error, "a generation could not be deleted");
        }
    }

    /// Puts a build in the place of the run that serves, which is stopped. Says whether it may: a build that was to
    /// end must not.
    pub(crate) fn promote(&self, run: &Arc<Run>) -> bool {
        let old = {
            let mut runs = self.runs();
            if run.cancel.is_cancelled() {
                return false;
            }
            runs.building = None;
            runs.serving.replace(Arc::clone(run))
        };
        // Outside of the lock: the old run may take a moment to end, and asking for the status must not wait for it.
        if let Some(old) = old {
            old.stop();
        }
        true
    }

    /// After a switch only the generation before is kept.
    pub(crate) fn tidy(&self) {
        let kept = self.generations.serving().ok().flatten().and_then(|serving| serving.previous);
        self.forget_older(kept.as_slice());
    }

    fn forget_older(&self, kept: &[u64]) {
        match self.generations.older(kept) {
            Ok(older) => older.into_iter().for_each(|number| self.forget(number)),
            Err(error) => {
                tracing::warn!(projection = self.projection.name(), %error, "old generations could not be looked for");
            }
        }
    }

    /// Tells waiting readers how far queries see now.
    pub(crate) fn show(&self, position: u64) {
        self.shown.send_modify(|shown| *shown = Shown { position, failed: None });
    }

    /// Tells waiting readers that queries will see no more, where the run is the one that serves or none does.
    pub(crate) fn fail(&self, run: &Arc<Run>, reason: &str) {
        if self.runs().serving.as_ref().is_some_and(|serving| !Arc::ptr_eq(serving, run)) {
            return;
        }
        self.shown.send_modify(|shown| shown.failed = Some(reason.into()));
    }

    pub(crate) fn shown(&self) -> u64 {
        self.shown.borrow().position
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Shown> {
        self.shown.subscribe()
    }

    /// The log's last position.
    pub(crate) fn head(&self) -> u64 {
        self.store.head().borrow().0
    }

    pub(crate) fn status(&self) -> ProjectionStatus {
        let (serving, building) = {
            let runs = self.runs();
            (runs.serving.clone(), runs.building.clone())
        };
        let progress = |run: &Arc<Run>| run.progress.borrow().clone();
        let (serving, rebuild) = (serving.as_ref().map(progress), building.as_ref().map(progress));
        let shown = self.shown.borrow().clone();
        let head = self.head().max(shown.position);
        let elsewhere = *self.elsewhere();
        let problem = serving.as_ref().or(rebuild.as_ref()).and_then(|progress| progress.problem.clone());
        ProjectionStatus {
            name: self.projection.name(),
            version: self.projection.version(),
            generation: elsewhere.unwrap_or_else(|| serving.as_ref().map(|progress| progress.generation)),
            position: shown.position,
            head,
            lag: head - shown.position,
            events_per_second: serving.as_ref().or(rebuild.as_ref()).map_or(0.0, |run| run.events_per_second),
            state: if elsewhere.is_some() { State::Standby } else { state(serving.as_ref(), rebuild.as_ref()) },
            tidy: serving.as_ref().is_some_and(|progress| progress.tidy),
            problem: shown.failed.map(|reason| reason.to_string()).or(problem),
            rebuild,
        }
    }

    /// The digest of the serving generation, and the position it is of. Blocks.
    pub(crate) fn digest(&self) -> Result<(u64, String), ProjectorError> {
        self.check_here()?;
        let projection = self.projection.name();
        let serving = self.runs().serving.clone();
        let run = serving.ok_or(ProjectorError::NotServing { projection })?;
        (run.digester)().map_err(|source| ProjectorError::Open { projection, source })
    }

    /// Compares the serving generation with a fresh fold of the same events. Blocks.
    pub(crate) fn verify(&self) -> Result<Verification, ProjectorError> {
        let projection = self.projection.name();
        let folder = |source| ProjectorError::Folder { projection, source };
        let scratch = self.generations.scratch().map_err(folder)?;
        let verified = self.verify_in(&scratch);
        let gone = self.projection.delete(&scratch).map_err(|source| ProjectorError::Open { projection, source });
        gone.and_then(|()| self.generations.discard(&scratch).map_err(folder)).unwrap_or_else(|error| {
            tracing::warn!(projection, %error, "what a verification made could not be deleted");
        });
        verified
    }

    fn verify_in(&self, scratch: &Place) -> Result<Verification, ProjectorError> {
        let projection = self.projection.name();
        let failed = |source| ProjectorError::Open { projection, source };
        let (position, serving) = self.digest()?;
        let mut generation = self.projection.begin(scratch).map_err(failed)?;
        let mut fold = Fold::new(Arc::clone(&self.store), BUILDING_CACHE_BYTES, self.projection.entries());
        let mut next = 1;
        while next <= position {
            if self.cancel.is_cancelled() {
                return Err(ProjectorError::ShuttingDown);
            }
            let limit = PAGE_EVENTS.min(usize::try_from(position - next + 1).unwrap_or(PAGE_EVENTS));
            let batch = self.handle.block_on(async {
                let filter = Filter::default();
                let page = self.store.read_all(Position(next), Direction::Forwards, &filter, limit).await?;
                let upto: Vec<_> = page.events.into_iter().filter(|event| event.position.0 <= position).collect();
                fold.batch(&upto).await
            });
            let batch = batch.map_err(|source| ProjectorError::Fold { projection, source })?;
            if batch.events == 0 {
                break;
            }
            next = batch.position + 1;
            generation.apply(&batch).map_err(failed)?;
        }
        let (_, fresh) = (generation.digester())().map_err(failed)?;
        Ok(Verification { projection, position, matches: serving == fresh, serving, fresh })
    }

    /// Ends both runs, each after the batch it is writing. Blocks.
    pub(crate) fn stop(&self) {
        self.cancel.cancel();
        self.stop_runs();
    }

    fn stop_runs(&self) {
        // A build may turn into the serving run meanwhile, so both are looked up again until none is left.
        loop {
            let (serving, building) = {
                let mut runs = self.runs();
                (runs.serving.take(), runs.building.take())
            };
            if serving.is_none() && building.is_none() {
                return;
            }
            serving.iter().chain(&building).for_each(|run| run.stop());
        }
    }

    /// A poisoned lock is taken all the same: runs are only put in or taken out under it.
    fn runs(&self) -> MutexGuard<'_, Runs> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn state(serving: Option<&Progress>, rebuild: Option<&Progress>) -> State {
    if rebuild.is_some_and(|progress| !progress.phase.is_over()) {
        return State::Rebuilding;
    }
    match serving.or(rebuild).map(|progress| progress.phase) {
        Some(Phase::Live) => State::Live,
        Some(Phase::Filling | Phase::Indexing | Phase::CatchingUp) => State::CatchingUp,
        Some(Phase::Failed) => State::Failed,
        Some(Phase::Stopped) | None => State::Stopped,
    }
}
