//! Importing a vault: a job that reads a folder, compares it with what was imported before, and writes the rest.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cairn_command::{CommandError, Execute};
use cairn_domain::event::FileImported;
use cairn_domain::field::FieldName;
use cairn_domain::id::MemoryId;
use cairn_domain::memory::command::{Command, ImportedFile, Outcome};
use cairn_domain::memory::import::IMPORT_ORIGIN;
use cairn_domain::principal::{Origin, Principal};
use cairn_domain::value::Value;
use cairn_interchange::ids::{Ids, vault_id};
use cairn_interchange::plan::{Counts, Plan, PlannedMemory};
use cairn_interchange::problem::Problem;
use cairn_interchange::vault::{ScanError, ScanOptions};
use cairn_read_model::memories::FileRow;
use futures::{StreamExt, stream};
use serde::Serialize;
use tracing::{info, warn};
use uuid::Uuid;

use crate::brain::Brain;
use crate::brain::projection::MEMORIES;

/// How many memories are written at a time: enough to share the log's commits.
const CONCURRENT_WRITES: usize = 32;

/// How many finished imports are remembered.
const REMEMBERED_IMPORTS: usize = 100;

/// How long an import waits for the read model to know what was imported before.
const READ_MODEL_PATIENCE: Duration = Duration::from_secs(600);

/// What to import, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportRequest {
    /// The vault's folder.
    pub path: PathBuf,
    /// Archive what has vanished from the vault.
    pub prune: bool,
    /// Write nothing, only report.
    pub dry_run: bool,
}

/// Where an import stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ImportState {
    /// Files are being read.
    Reading,
    /// Memories are being written.
    Writing,
    /// It has ended.
    Done,
    /// It could not go on.
    Failed,
}

/// How an import goes, and what it did.
#[derive(Debug, Clone, Serialize)]
pub struct ImportReport {
    /// Its id.
    pub id: Uuid,
    /// The vault's folder.
    pub path: PathBuf,
    /// Where it stands.
    pub state: ImportState,
    /// How much there is to do in this state: files to read, or memories to write.
    pub total: usize,
    /// How much of it is done.
    pub done: usize,
    /// Files read.
    pub files: usize,
    /// Memories that are new.
    pub created: usize,
    /// Memories that changed.
    pub changed: usize,
    /// Memories that are as they were.
    pub unchanged: usize,
    /// Memories of which a change waits for the user, because they were edited in Cairn meanwhile.
    pub suggested: usize,
    /// Memories that were archived because their file or task is gone.
    pub pruned: usize,
    /// What is gone from the vault since the last import.
    pub vanished: Vec<Vanished>,
    /// Figures of the vault.
    pub counts: Counts,
    /// What could not be read or written, or not as it stands.
    pub problems: Vec<Problem>,
    /// Memories that could not be written.
    pub failures: Vec<ImportFailure>,
    /// Links that point to nothing.
    pub unresolved: Vec<String>,
    /// Why it failed, if it did.
    pub error: Option<String>,
    /// How long it has taken.
    pub elapsed_ms: u64,
    /// Whether nothing was to be written.
    pub dry_run: bool,
    /// The log position after its last write.
    pub position: u64,
}

/// Something that is gone from the vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Vanished {
    /// The memory made of it.
    pub memory: MemoryId,
    /// The file it stood in.
    pub path: String,
    /// The part of the file.
    pub part: String,
}

/// A memory that could not be written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportFailure {
    /// The file.
    pub path: String,
    /// Why not.
    pub message: String,
}

/// Why an import does not start.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// Another one runs.
    #[error("another import is running ({0}); wait for it to end")]
    Running(Uuid),
    /// The folder cannot be used.
    #[error("{path} cannot be imported: {reason}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
}

/// The imports of a brain: at most one runs.
#[derive(Default)]
pub struct Imports {
    jobs: Mutex<BTreeMap<Uuid, Arc<Job>>>,
}

struct Job {
    report: Mutex<ImportReport>,
    started: Instant,
}

impl Imports {
    /// How an import stands.
    pub fn report(&self, id: Uuid) -> Option<ImportReport> {
        self.lock().get(&id).map(|job| job.report())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Arc<Job>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether one is under way.
    pub fn is_running(&self) -> bool {
        self.lock().values().any(|job| job.is_running())
    }

    fn begin(&self, request: &ImportRequest) -> Result<(Uuid, Arc<Job>), ImportError> {
        let mut jobs = self.lock();
        if let Some((id, _)) = jobs.iter().find(|(_, job)| job.is_running()) {
            return Err(ImportError::Running(*id));
        }
        let id = Uuid::now_v7();
        let job = Arc::new(Job::new(id, request));
        jobs.insert(id, Arc::clone(&job));
        while jobs.len() > REMEMBERED_IMPORTS {
            jobs.pop_first();
        }
        Ok((id, job))
    }
}

impl Job {
    fn is_running(&self) -> bool {
        !matches!(self.edit(|report| report.state), ImportState::Done | ImportState::Failed)
    }

    fn new(id: Uuid, request: &ImportRequest) -> Self {
        let report = ImportReport {
            id,
            path: request.path.clone(),
            state: ImportState::Reading,
            total: 0,
            done: 0,
            files: 0,
            created: 0,
            changed: 0,
            unchanged: 0,
            suggested: 0,
            pruned: 0,
            vanished: Vec::new(),
            counts: Counts::default(),
            problems: Vec::new(),
            failures: Vec::new(),
            unresolved: Vec::new(),
            error: None,
            elapsed_ms: 0,
            dry_run: request.dry_run,
            position: 0,
        };
        Self { report: Mutex::new(report), started: Instant::now() }
    }

    fn edit<T>(&self, edit: impl FnOnce(&mut ImportReport) -> T) -> T {
        edit(&mut self.report.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn report(&self) -> ImportReport {
        let elapsed = self.started.elapsed();
        self.edit(|report| {
            if !matches!(report.state, ImportState::Done | ImportState::Failed) {
                report.elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            }
            report.clone()
        })
    }

    fn end(&self, state: ImportState, error: Option<String>) {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.edit(|report| {
            report.state = state;
            report.error = error;
            report.elapsed_ms = elapsed;
        });
    }
}

/// Starts an import in the name of a principal and returns its id; it goes on in the background.
///
/// # Errors
/// When another one runs, or the folder does not exist.
pub fn start(brain: &Arc<Brain>, principal: Principal, request: ImportRequest) -> Result<Uuid, ImportError> {
    let failed = |reason: String| ImportError::Folder { path: request.path.clone(), reason };
    let root = request.path.canonicalize().map_err(|error| failed(error.to_string()))?;
    if !root.is_dir() {
        return Err(failed("it is not a folder".into()));
    }
    let (id, job) = brain.imports.begin(&request)?;
    let brain = Arc::clone(brain);
    tokio::spawn(async move {
        let ended = run(&brain, &principal, &root, &request, &job).await;
        match ended {
            Ok(()) => job.end(ImportState::Done, None),
            Err(error) => {
                warn!(%error, "the import failed");
                job.end(ImportState::Failed, Some(error));
            }
        }
        let report = job.report();
        info!(files = report.files, created = report.created, changed = report.changed, "the import ended");
    });
    Ok(id)
}

async fn run(
    brain: &Arc<Brain>,
    principal: &Principal,
    root: &Path,
    request: &ImportRequest,
    job: &Arc<Job>,
) -> Result<(), String> {
    let vault = vault_id(brain.brain, &root.to_string_lossy());
    let plan = read(brain.brain, vault, root, job).await?;
    let known = known(brain, vault).await?;
    let planned: HashSet<MemoryId> = plan.memories.iter().map(|memory| memory.id).collect();
    let vanished = known
        .values()
        .filter(|row| !planned.contains(&row.memory) && !row.vanished && !plan.is_unseen(&row.path))
        .map(|row| Vanished { memory: row.memory, path: row.path.clone(), part: row.part.clone() });
    let vanished: Vec<Vanished> = vanished.collect();
    let total = plan.memories.len();
    let (same, work): (Vec<_>, Vec<_>) = plan.memories.into_iter().partition(|memory| {
        known.get(&memory.id).is_some_and(|row| row.digest == memory.fingerprint && !row.vanished)
    });
    job.edit(|report| {
        report.state = ImportState::Writing;
        report.total = total;
        report.done = same.len();
        report.unchanged = same.len();
        report.vanished.clone_from(&vanished);
    });
    if request.dry_run {
        job.edit(|report| {
            report.created = work.iter().filter(|memory| !known.contains_key(&memory.id)).count();
            report.changed = work.len() - report.created;
        });
        return Ok(());
    }
    let mut unresolved: HashMap<String, Vec<String>> = HashMap::new();
    for link in plan.unresolved {
        unresolved.entry(link.path).or_default().push(link.name);
    }
    // A file's own memory comes before those of its tasks, so it is the one that keeps the names.
    let work = work.into_iter().map(|memory| {
        let names = unresolved.remove(&memory.path).unwrap_or_default();
        (memory, names)
    });
    let origin = Origin::of(principal.ceiling, IMPORT_ORIGIN);
    let work: Vec<_> = work.collect();
    stream::iter(work)
        .take_while(|_| std::future::ready(!brain.stopping.is_cancelled()))
        .map(|(memory, unresolved)| write(brain, principal, &origin, vault, memory, unresolved, job))
        .buffer_unordered(CONCURRENT_WRITES)
        .collect::<()>()
        .await;
    if brain.stopping.is_cancelled() {
        return Err("it was interrupted, because the node stops; import again to complete it".to_owned());
    }
    if request.prune {
        for gone in &vanished {
            prune(brain, principal, &origin, gone, job).await;
        }
    }
    Ok(())
}

async fn read(brain: Uuid, vault: Uuid, root: &Path, job: &Arc<Job>) -> Result<Plan, String> {
    let (root, reading) = (root.to_owned(), Arc::clone(job));
    let plan = tokio::task::spawn_blocking(move || {
        let ids = Ids { brain, vault };
        cairn_interchange::import(&root, &ScanOptions::default(), &ids, &mut |done, total| {
            reading.edit(|report| {
                report.done = done;
                report.total = total;
                report.files = done;
            });
        })
    });
    let plan: Plan =
        plan.await.map_err(|error| error.to_string())?.map_err(|error: ScanError| error.to_string())?;
    job.edit(|report| {
        report.files = plan.counts.files;
        report.counts = plan.counts.clone();
        report.problems.clone_from(&plan.problems);
        let unresolved =
            plan.unresolved.iter().map(|link| format!("{}:{} [[{}]]", link.path, link.line, link.name));
        report.unresolved = unresolved.collect();
    });
    Ok(plan)
}

/// What was imported from this vault before, by memory.
async fn known(brain: &Arc<Brain>, vault: Uuid) -> Result<HashMap<MemoryId, FileRow>, String> {
    let head = *brain.handler.store().head().borrow();
    let memories = brain.memories.clone();
    brain.projector.wait_for(MEMORIES, head, READ_MODEL_PATIENCE).await.map_err(|error| error.to_string())?;
    let rows = tokio::task::spawn_blocking(move || memories.files(vault));
    let rows = rows.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
    Ok(rows.into_iter().map(|row| (row.memory, row)).collect())
}

async fn write(
    brain: &Arc<Brain>,
    principal: &Principal,
    origin: &Origin,
    vault: Uuid,
    memory: PlannedMemory,
    unresolved: Vec<String>,
    job: &Arc<Job>,
) {
    let (id, path) = (memory.id, memory.path.clone());
    let command = match imported(memory, vault, unresolved) {
        Ok(imported) => Command::ImportFile(imported),
        Err(message) => return fail(job, path, message),
    };
    match execute(brain, principal, origin, id, command).await {
        Ok(done) => job.edit(|report| {
            report.done += 1;
            report.position = report.position.max(done.position.0);
            match (done.outcome, done.revision) {
                (Outcome::Suggested, _) => report.suggested += 1,
                (_, Some(revision)) if revision.0 + 1 == done.events.len() as u64 => report.created += 1,
                _ if done.events.is_empty() => report.unchanged += 1,
                _ => report.changed += 1,
            }
        }),
        // What the end of the node cuts off is told once, for the import as a whole.
        Err(_) if brain.stopping.is_cancelled() => {}
        Err(error) => fail(job, path, error.to_string()),
    }
}

fn fail(job: &Job, path: String, message: String) {
    warn!(%path, %message, "a memory was not imported");
    job.edit(|report| {
        report.done += 1;
        report.failures.push(ImportFailure { path, message });
    });
}

/// What a planned memory says, as the command states it.
fn imported(memory: PlannedMemory, vault: Uuid, unresolved: Vec<String>) -> Result<ImportedFile, String> {
    let mut claims = Vec::with_capacity(1 + memory.fields.len() + memory.tags.len() + memory.links.len());
    if !memory.title.is_empty() {
        claims.push((FieldName::title(), Value::Text(memory.title)));
    }
    claims.extend(memory.fields);
    for tag in &memory.tags {
        claims.push((FieldName::tag(tag).map_err(|error| error.to_string())?, Value::Flag(true)));
    }
    for (relation, target) in &memory.links {
        let link = FieldName::link(relation, *target).map_err(|error| error.to_string())?;
        claims.push((link, Value::Flag(true)));
    }
    let file = FileImported {
        vault,
        path: memory.path,
        digest: memory.fingerprint,
        part: memory.key,
        unresolved,
        vanished: false,
    };
    Ok(ImportedFile { kind: memory.kind, claims, body: memory.body, archived: memory.archived, file })
}

async fn prune(brain: &Arc<Brain>, principal: &Principal, origin: &Origin, gone: &Vanished, job: &Arc<Job>) {
    match execute(brain, principal, origin, gone.memory, Command::PruneFile).await {
        Ok(done) => job.edit(|report| {
            report.pruned += 1;
            report.position = report.position.max(done.position.0);
        }),
        Err(error) => fail(job, gone.path.clone(), error.to_string()),
    }
}

async fn execute(
    brain: &Arc<Brain>,
    principal: &Principal,
    origin: &Origin,
    memory: MemoryId,
    command: Command,
) -> Result<cairn_command::Done, CommandError> {
    let execute = Execute {
        memory,
        command,
        principal,
        truth: None,
        origin: Some(origin.clone()),
        expected: None,
        idempotency: None,
        causation: None,
    };
    brain.handler.execute(execute).await
}
