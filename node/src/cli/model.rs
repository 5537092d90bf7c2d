//! Answers of the API as far as they are shown to people. With `--json` none of this is used.
//!
//! Fields that this program does not show are ignored, so that a newer node can be asked too.

use cairn_domain::clock::Hlc;
use cairn_domain::truth::Truth;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::Value as Json;

/// A memory in a list.
#[derive(Debug, Clone, Deserialize)]
pub struct Summary {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Its title; empty when it has none.
    #[serde(default)]
    pub title: String,
    /// The first words of its body.
    #[serde(default)]
    pub excerpt: String,
    /// Whether it is put away.
    #[serde(default)]
    pub archived: bool,
    /// The truth of what a reader sees first.
    #[serde(default)]
    pub truth: Option<Truth>,
    /// When something of it changed last.
    pub updated_at: DateTime<Utc>,
}

/// A memory with everything that is shown of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Memory {
    /// Its id.
    pub id: String,
    /// Its kind.
    pub kind: String,
    /// Its title.
    #[serde(default)]
    pub title: String,
    /// Its text.
    #[serde(default)]
    pub body: String,
    /// The truth of what a reader sees first.
    pub truth: Truth,
    /// What a reader sees first came from here.
    #[serde(default)]
    pub source: Option<Source>,
    /// Whether it is put away.
    #[serde(default)]
    pub archived: bool,
    /// When it changed last.
    pub updated_at: DateTime<Utc>,
    /// The revision of its last event.
    pub revision: u64,
    /// Its fields, tags and links apart.
    #[serde(default)]
    pub fields: Vec<Field>,
    /// Its tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// What it links to.
    #[serde(default)]
    pub links: Vec<Link>,
    /// What links to it.
    #[serde(default)]
    pub backlinks: Vec<Link>,
    /// What waits for a decision.
    #[serde(default)]
    pub suggestions: Vec<Suggestion>,
    /// The values of its fields, with the defaults of its kind.
    #[serde(default)]
    pub values: serde_json::Map<String, Json>,
    /// The file it was imported from.
    #[serde(default)]
    pub file: Option<String>,
}

/// Where something came from.
#[derive(Debug, Clone, Deserialize)]
pub struct Source {
    /// The origin, such as `user:owner`.
    #[serde(default)]
    pub origin: String,
}

/// A field with where its value came from.
#[derive(Debug, Clone, Deserialize)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: Json,
    /// The level it was written at.
    pub truth: Truth,
    /// Where it came from.
    #[serde(default)]
    pub origin: String,
    /// When it was written.
    pub at: DateTime<Utc>,
    /// Whether equally true values disagree.
    #[serde(default)]
    pub conflict: bool,
}

/// A link to or from another memory.
#[derive(Debug, Clone, Deserialize)]
pub struct Link {
    /// What it means.
    pub relation: String,
    /// The memory at the other end.
    pub memory: String,
    /// Its title; none when there is no such memory.
    #[serde(default)]
    pub title: Option<String>,
    /// How true the link is.
    pub truth: Truth,
}

/// A statement that waits for a decision.
#[derive(Debug, Clone, Deserialize)]
pub struct Suggestion {
    /// The event that made it.
    pub id: String,
    /// Its title.
    #[serde(default)]
    pub memory_title: Option<String>,
    /// The field; `body` for the text.
    pub field: String,
    /// What is suggested.
    #[serde(default)]
    pub value: Json,
    /// What is there now.
    #[serde(default)]
    pub current: Json,
    /// The change of the text, as a unified diff.
    #[serde(default)]
    pub diff: Option<String>,
    /// The level it was written at.
    pub truth: Truth,
    /// Where it came from.
    pub origin: String,
    /// When it was written.
    pub at: DateTime<Utc>,
}

/// A field on which equally true values disagree.
#[derive(Debug, Clone, Deserialize)]
pub struct Conflict {
    /// The memory.
    pub memory: String,
    /// Its title.
    #[serde(default)]
    pub memory_title: Option<String>,
    /// The field.
    pub field: String,
    /// The values.
    pub sides: Vec<Side>,
}

/// One value of a conflict.
#[derive(Debug, Clone, Deserialize)]
pub struct Side {
    /// The event that stated it.
    pub event: String,
    /// The value.
    #[serde(default)]
    pub value: Json,
    /// The level it was written at.
    pub truth: Truth,
    /// Where it came from.
    pub origin: String,
    /// When it was written.
    pub at: DateTime<Utc>,
}

/// What a write did.
#[derive(Debug, Clone, Deserialize)]
pub struct Written {
    /// The memory.
    pub id: String,
    /// What became of it as a whole.
    pub outcome: Outcome,
    /// What became of each field.
    #[serde(default)]
    pub fields: Vec<FieldOutcome>,
    /// Reads that have this position see it.
    pub position: u64,
}

/// What became of a field.
#[derive(Debug, Clone, Deserialize)]
pub struct FieldOutcome {
    /// The field.
    pub field: String,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It is so now.
    Applied,
    /// It waits for a decision.
    Suggested,
    /// It was so already.
    Unchanged,
    /// The same was turned down before.
    RejectedBefore,
}

/// What a search found.
#[derive(Debug, Clone, Deserialize)]
pub struct Found {
    /// The memories, best first.
    pub hits: Vec<Hit>,
    /// Why only words were compared, if so.
    #[serde(default)]
    pub degraded: Option<String>,
}

/// A memory that was found.
#[derive(Debug, Clone, Deserialize)]
pub struct Hit {
    /// The memory.
    pub memory: String,
    /// Its title.
    #[serde(default)]
    pub title: String,
    /// Its kind.
    pub kind: String,
    /// The level of the text that was found.
    pub truth: Truth,
    /// The headings it stands under, outermost first.
    #[serde(default)]
    pub headings: Vec<String>,
    /// The part that shows best why it was found.
    #[serde(default)]
    pub snippet: String,
    /// The words that match, in bytes of the snippet.
    #[serde(default)]
    pub marks: Vec<[usize; 2]>,
    /// The memory's tags.
    #[serde(default)]
    pub tags: Vec<String>,
    /// When the memory changed last.
    pub updated_at: DateTime<Utc>,
    /// Which side of the search found it.
    #[serde(default)]
    pub why: Why,
}

/// Why a search found something.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Why {
    /// Its place among what is like the query by meaning.
    #[serde(default)]
    pub dense: Option<Place>,
    /// Its place among what has the words of the query.
    #[serde(default)]
    pub bm25: Option<Place>,
}

/// A place in a list.
#[derive(Debug, Clone, Deserialize)]
pub struct Place {
    /// From 1.
    pub rank: u64,
}

/// Something that happened, in a history or the timeline.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    /// Its position in the log.
    pub position: u64,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// The level it was written at.
    pub truth: Truth,
    /// Where it came from.
    #[serde(default)]
    pub origin: String,
    /// The command it was part of.
    #[serde(default)]
    pub command: String,
    /// The memory.
    pub memory: String,
    /// The memory's title, in the timeline.
    #[serde(default)]
    pub title: Option<String>,
    /// What became of it: `applied` or `suggested`, where that can be said.
    #[serde(default)]
    pub outcome: Option<String>,
    /// What happened, in a few words.
    #[serde(default)]
    pub summary: String,
}

/// How a field came to its value.
#[derive(Debug, Clone, Deserialize)]
pub struct FieldHistory {
    /// The field.
    pub name: String,
    /// Its value.
    #[serde(default)]
    pub value: Json,
    /// The steps, newest first.
    pub chain: Vec<Step>,
}

/// A step in how a field came to its value.
#[derive(Debug, Clone, Deserialize)]
pub struct Step {
    /// The event.
    pub event: String,
    /// The level it was written at.
    pub truth: Truth,
    /// Where it came from.
    pub origin: String,
    /// When, by the writer's clock.
    pub hlc: Hlc,
    /// The value stated; nothing for an edit of the text.
    #[serde(default)]
    pub value: Json,
    /// The suggestion it accepted.
    #[serde(default)]
    pub accepted: Option<String>,
}

impl Projection {
    /// The build that goes on beside the serving one.
    pub fn building(&self) -> Option<&Rebuild> {
        self.rebuild.as_ref().filter(|build| !matches!(build.phase.as_str(), "live" | "stopped" | "failed"))
    }
}

impl Step {
    /// When it was written.
    pub fn at(&self) -> DateTime<Utc> {
        i64::try_from(self.hlc.millis).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default()
    }
}

/// What changed between two points.
#[derive(Debug, Clone, Deserialize)]
pub struct Diff {
    /// The revision it starts from.
    #[serde(default)]
    pub from: Option<u64>,
    /// The revision it ends at.
    #[serde(default)]
    pub to: Option<u64>,
    /// The fields that differ.
    #[serde(default)]
    pub fields: Vec<FieldDiff>,
    /// The change of the text, as a unified diff.
    #[serde(default)]
    pub body: String,
}

/// A field that differs.
#[derive(Debug, Clone, Deserialize)]
pub struct FieldDiff {
    /// Its name.
    pub name: String,
    /// Its value at the earlier point.
    #[serde(default)]
    pub before: Json,
    /// Its value at the later point.
    #[serde(default)]
    pub after: Json,
}

/// A tag with how many memories have it.
#[derive(Debug, Clone, Deserialize)]
pub struct TagCount {
    /// The tag.
    pub tag: String,
    /// How many have it.
    pub memories: u64,
}

/// A token, without its secret but in the answer that makes it.
#[derive(Debug, Clone, Deserialize)]
pub struct Token {
    /// Its id.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The highest truth it may write at.
    pub ceiling: String,
    /// Where its writes come from.
    #[serde(default)]
    pub origin: String,
    /// When it stops working.
    #[serde(default)]
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    #[serde(default)]
    pub revoked_at: Option<DateTime<Utc>>,
    /// The secret, shown once.
    #[serde(default)]
    pub token: Option<String>,
}

/// A read model.
#[derive(Debug, Clone, Deserialize)]
pub struct Projection {
    /// Its name.
    pub name: String,
    /// Which build of it serves; none while the first one is made.
    #[serde(default)]
    pub generation: Option<u64>,
    /// The build before it, where it is kept.
    #[serde(default)]
    pub previous: Option<u64>,
    /// How far it has read.
    #[serde(default)]
    pub position: u64,
    /// How many events it is behind.
    #[serde(default)]
    pub lag: u64,
    /// How old the first event is that it lacks, in seconds.
    #[serde(default)]
    pub lag_seconds: Option<f64>,
    /// How fast it is.
    #[serde(default)]
    pub events_per_second: f64,
    /// What it is doing: `live`, `catching_up`, `rebuilding`, `paused`, `standby`, `failed` or `stopped`.
    #[serde(default)]
    pub state: String,
    /// Whether nothing waits for a quiet moment, such as what was erased and must leave the files.
    #[serde(default)]
    pub tidy: bool,
    /// Why it does not get on.
    #[serde(default)]
    pub problem: Option<String>,
    /// The build beside it, or the last one since the start.
    #[serde(default)]
    pub rebuild: Option<Rebuild>,
}

/// A build of a read model.
#[derive(Debug, Clone, Deserialize)]
pub struct Rebuild {
    /// What it does now: `filling`, `indexing`, `verifying`, `catching_up`, `live`, `stopped` or `failed`.
    #[serde(default)]
    pub phase: String,
    /// Why it does not get on.
    #[serde(default)]
    pub problem: Option<String>,
    /// How far it is.
    pub position: u64,
    /// How far it has to go.
    pub target: u64,
    /// How fast it is.
    #[serde(default)]
    pub events_per_second: f64,
    /// What is left, in seconds.
    #[serde(default)]
    pub eta_seconds: Option<f64>,
}

/// How an import goes.
#[derive(Debug, Clone, Deserialize)]
pub struct ImportReport {
    /// `reading`, `writing`, `done` or `failed`.
    pub state: String,
    /// How much there is to do in this state.
    #[serde(default)]
    pub total: u64,
    /// How much of it is done.
    #[serde(default)]
    pub done: u64,
    /// Files read.
    #[serde(default)]
    pub files: u64,
    /// Memories that are new.
    #[serde(default)]
    pub created: u64,
    /// Memories that changed.
    #[serde(default)]
    pub changed: u64,
    /// Memories that are as they were.
    #[serde(default)]
    pub unchanged: u64,
    /// Memories of which a change waits for a decision.
    #[serde(default)]
    pub suggested: u64,
    /// Memories that were put away.
    #[serde(default)]
    pub pruned: u64,
    /// What is gone from the folder.
    #[serde(default)]
    pub vanished: Vec<Json>,
    /// What could not be read, or not as it stands.
    #[serde(default)]
    pub problems: Vec<Problem>,
    /// What could not be written.
    #[serde(default)]
    pub failures: Vec<Problem>,
    /// Links that point to nothing.
    #[serde(default)]
    pub unresolved: Vec<String>,
    /// Why it failed.
    #[serde(default)]
    pub error: Option<String>,
    /// How long it took.
    #[serde(default)]
    pub elapsed_ms: u64,
    /// Whether nothing was to be written.
    #[serde(default)]
    pub dry_run: bool,
    /// The log position after its last write.
    #[serde(default)]
    pub position: u64,
}

/// A file that did not go in, or not as it stands.
#[derive(Debug, Clone, Deserialize)]
pub struct Problem {
    /// The file.
    pub path: String,
    /// What is wrong.
    pub message: String,
}

/// What publishes to Kafka and reads from it.
#[derive(Debug, Clone, Deserialize)]
pub struct Kafka {
    /// The publisher.
    #[serde(default)]
    pub publisher: Option<KafkaWork>,
    /// The sources.
    #[serde(default)]
    pub sources: Vec<KafkaWork>,
}

/// How a publisher or a source fares.
#[derive(Debug, Clone, Deserialize)]
pub struct KafkaWork {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: String,
    /// Why it does not get on.
    #[serde(default)]
    pub problem: Option<String>,
}

/// What a node is to its other machines.
#[derive(Debug, Clone, Deserialize)]
pub struct Replication {
    /// `primary`, `standby` or `replaced`.
    pub role: String,
    /// How many times a follower has taken over.
    pub epoch: u64,
    /// Where writes go, if not here.
    pub primary: Option<String>,
    /// Whether its writes wait for a follower.
    pub synchrony: cairn_follower::Synchrony,
    /// How many follow it.
    pub followers: u64,
    /// How many of them are connected.
    pub connected: u64,
    /// How many events a standby lacks.
    pub lag_events: u64,
    /// For how long it has lacked any, in milliseconds.
    pub lag_ms: u64,
}

/// How a node is doing.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    /// Its brain.
    #[serde(default)]
    pub brain: String,
    /// Its version.
    #[serde(default)]
    pub version: String,
    /// Its data folder.
    #[serde(default)]
    pub data: String,
    /// The last position of its log.
    #[serde(default)]
    pub position: u64,
    /// How many memories there are.
    #[serde(default)]
    pub memories: u64,
    /// How long it has been up.
    #[serde(default)]
    pub uptime_seconds: f64,
    /// Its read models.
    #[serde(default)]
    pub projections: Vec<Projection>,
    /// Suggestions that wait.
    #[serde(default)]
    pub suggestions: u64,
    /// Fields in conflict.
    #[serde(default)]
    pub conflicts: u64,
    /// What turns text into vectors.
    #[serde(default)]
    pub embedder: String,
    /// How much memory it uses.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// How it gets on with Kafka.
    #[serde(default)]
    pub kafka: Option<Kafka>,
    /// What it is to its other machines.
    #[serde(default)]
    pub replication: Option<Replication>,
    /// What it has signed of its log.
    #[serde(default)]
    pub signed: Option<Signed>,
    /// Why it signs no more.
    #[serde(default)]
    pub signing_problem: Option<String>,
}

/// What a brain has signed of its log.
#[derive(Debug, Clone, Deserialize)]
pub struct Signed {
    /// How many events.
    pub size: u64,
    /// The hash over them.
    pub root: String,
}
