//! One projection of a projector: its generations, the run that serves and the run that builds.

mod back;
mod check;
mod erasure;
mod orders;
mod report;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cairn_event_store::SharedStore;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::generations::Generations;
use crate::lease::Leases;
use crate::orders::Told;
use crate::projection::{Generation, Projection};
use crate::projector::{ProjectorError, StartError};
use crate::rebuild::Rebuild;
use crate::run::{Purpose, RETRY_PAUSE, Run, Together, pause};
use crate::turns::{Turns, take};
pub(crate) use back::Replaced;

pub(crate) struct Slot {
    pub(crate) projection: Arc<dyn Projection>,
    pub(crate) store: SharedStore,
    pub(crate) generations: Arc<dyn Generations>,
    pub(crate) handle: Handle,
    pub(crate) cancel: CancellationToken,
    /// The builds of this and all other projections.
    pub(crate) together: Arc<Together>,
    shown: watch::Sender<Shown>,
    /// The position of the last erasure that a run has met.
    erased: AtomicU64,
    runs: Mutex<Runs>,
    /// Set while another process runs the projection: the generation that serves, as far as it is known.
    elsewhere: Mutex<Option<Option<u64>>>,
    /// The generation that served before, as long as it is kept.
    kept: Mutex<Option<u64>>,
    /// What the process that runs the projection told the others last.
    told: Mutex<Told>,
    /// Held while a build is begun or cancelled, which takes a while.
    changing: Mutex<()>,
    /// Held while the generation before is opened to serve again, or deleted because something is erased.
    returning: Mutex<()>,
}

/// What queries see.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// Up to where.
    pub(crate) position: u64,
    /// Why it will get no further, if so.
    pub(crate) failed: Option<Arc<str>>,
    /// Whether it gets no further until it is resumed.
    pub(crate) paused: bool,
}

#[derive(Default)]
struct Runs {
    serving: Option<Arc<Run>>,
    building: Option<Arc<Run>>,
    /// Whether the run that serves has taken the place of another one but is not in the register yet.
    swapping: bool,
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
        together: Arc<Together>,
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
            together,
            shown: watch::Sender::default(),
            erased: AtomicU64::new(0),
            runs: Mutex::default(),
            elsewhere: Mutex::default(),
            kept: Mutex::default(),
            told: Mutex::default(),
            changing: Mutex::default(),
            returning: Mutex::default(),
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
        self.listen();
        self.handle.spawn(take(Arc::clone(self), leases));
    }

    /// Sets the runs going. Blocks.
    pub(crate) fn run(self: &Arc<Self>) -> Result<(), StartError> {
        *self.elsewhere() = None;
        let projection = self.projection.name();
        let failed = |source| StartError::Build { projection, source: Box::new(source) };
        self.heed().map_err(failed)?;
        if let Err(error) = self.clear_scraps() {
            tracing::warn!(projection, %error, "what a verification left could not be deleted");
        }
        if !self.resume_serving()? {
            self.build(Rebuild::default()).map_err(failed)?;
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
                *self.kept() = serving.and_then(|serving| serving.previous);
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
        let numbers = self.generations.numbers().map_err(folder)?;
        *self.kept() = serving.previous.filter(|previous| numbers.contains(previous));
        if serving.erased > 0 {
            // Whatever was being brought up when that was noted: a build, or the generation before.
            let unfinished = self.generations.unfinished().map_err(folder)?;
            serving.previous.into_iter().chain(unfinished).for_each(|number| self.forget(number));
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

    /// Builds another generation because somebody asks for it. Blocks.
    pub(crate) fn rebuild(self: &Arc<Self>, rebuild: Rebuild) -> Result<Arc<Run>, ProjectorError> {
        self.check_here()?;
        self.check_going()?;
        self.build(rebuild)
    }

    /// Builds another generation, going on with one that was not finished unless that is not wanted. Blocks.
    fn build(self: &Arc<Self>, rebuild: Rebuild) -> Result<Arc<Run>, ProjectorError> {
        let projection = self.projection.name();
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        self.end_earlier_build()?;
        let folder = |source| ProjectorError::Folder { projection, source };
        let unfinished = self.generations.unfinished().map_err(folder)?.filter(|_| !rebuild.from_scratch);
        let (number, generation) = match unfinished.map(|number| (number, self.resume(number))) {
            Some((number, Some(generation))) => (number, generation),
            _ => self.begin()?,
        };
        self.start_build(number, generation, Purpose::build(&rebuild))
    }

    /// Puts away the build before, which must have ended.
    fn end_earlier_build(&self) -> Result<(), ProjectorError> {
        self.check_settled()?;
        let earlier = self.runs().building.clone();
        if let Some(earlier) = earlier {
            earlier.stop();
        }
        Ok(())
    }

    /// Refuses what would come between a build, or a swap, and its end.
    fn check_settled(&self) -> Result<(), ProjectorError> {
        let runs = self.runs();
        let builds = runs.building.as_ref().is_some_and(|run| !run.progress.borrow().phase.is_over());
        match builds || runs.swapping {
            true => Err(ProjectorError::AlreadyRebuilding { projection: self.projection.name() }),
            false => Ok(()),
        }
    }

    fn start_build(
        self: &Arc<Self>,
        number: u64,
        generation: Box<dyn Generation>,
        purpose: Purpose,
    ) -> Result<Arc<Run>, ProjectorError> {
        let folder = |source| ProjectorError::Folder { projection: self.projection.name(), source };
        let run = Run::start(self, number, generation, purpose).map_err(folder)?;
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
        // Where nothing serves, the generation before is of as little use as the one that should.
        let way_back = if self.runs().serving.is_some() { *self.kept() } else { None };
        let kept: Vec<u64> = way_back.into_iter().chain([number]).collect();
        for surplus in self.generations.surplus(&kept).map_err(folder)? {
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
            Purpose::Build { .. } if is_wanted(&runs.building) => runs.building = Some(run),
            Purpose::Build { .. } => {}
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

    /// Tells waiting readers how far queries see now.
    pub(crate) fn show(&self, position: u64) {
        self.shown.send_modify(|shown| *shown = Shown { position, failed: None, paused: shown.paused });
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
