//! The plan of an import: every memory with its stable id, ready to be turned into commands.

use std::collections::{BTreeMap, HashSet};

use cairn_domain::field::FieldName;
use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_domain::value::Value;
use serde::Serialize;

use crate::ids::Ids;
use crate::problem::{Problem, ProblemCode};
use crate::reading::{FileReading, LinkReading, PART_OF, TaskReading, VaultReading};
use crate::resolve::{FileTargets, Resolution, Target, Unresolved};

/// A memory that the vault states.
#[derive(Debug, Clone, PartialEq)]
pub struct PlannedMemory {
    /// Its stable id.
    pub id: MemoryId,
    /// Its identity inside the vault.
    pub key: String,
    /// The file it stands in.
    pub path: String,
    /// BLAKE3 of everything below, in hexadecimal. As long as it is the same, importing again has nothing to do
    /// for this memory; it changes too when a link finds its target because another file has come.
    pub fingerprint: String,
    /// What it is about.
    pub kind: Kind,
    /// Its title.
    pub title: String,
    /// Its text; empty for a task, whose words are its title.
    pub body: String,
    /// Typed and free fields, each name once.
    pub fields: Vec<(FieldName, Value)>,
    /// Tags without `#`, each once.
    pub tags: Vec<String>,
    /// Relation and target, each pair once.
    pub links: Vec<(String, MemoryId)>,
    /// Whether it is put away.
    pub archived: bool,
    /// When it was made and last changed, RFC 3339, if an export says so.
    pub times: Option<(String, String)>,
}

/// Everything a vault states.
#[derive(Debug)]
pub struct Plan {
    /// The memories: each file's, followed by its tasks.
    pub memories: Vec<PlannedMemory>,
    /// What could not be read, or not as it was written.
    pub problems: Vec<Problem>,
    /// The links that point to nothing.
    pub unresolved: Vec<Unresolved>,
    /// The figures of the import.
    pub counts: Counts,
}

/// The figures of an import.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Files that went in.
    pub files: usize,
    /// Files and folders that were named and left out.
    pub skipped: usize,
    /// Files that are no notes.
    pub attachments: usize,
    /// Memories by kind; tasks within notes are tasks.
    pub memories: BTreeMap<&'static str, usize>,
    /// Tasks found in the text of notes.
    pub tasks: usize,
    /// Links that point to a memory, as they are written.
    pub links_resolved: usize,
    /// Links that point to another file of the vault.
    pub links_to_attachments: usize,
    /// Links that point to nothing.
    pub links_unresolved: usize,
    /// Different tags.
    pub tags: usize,
}

/// Gives every memory its id and its links theirs.
pub fn plan(reading: VaultReading, resolution: &Resolution, ids: &Ids) -> Plan {
    let by_file: Vec<MemoryId> = reading.files.iter().map(|file| ids.of(&file.memory)).collect();
    let mut counts = Counts {
        files: reading.files.len(),
        skipped: reading.problems.iter().filter(|problem| problem.code.skipped()).count(),
        attachments: reading.attachments.len(),
        links_resolved: resolution.resolved,
        links_to_attachments: resolution.attachments,
        links_unresolved: resolution.unresolved.len(),
        ..Counts::default()
    };
    let mut memories = Vec::with_capacity(reading.files.len());
    for ((file, targets), id) in reading.files.into_iter().zip(&resolution.files).zip(&by_file) {
        counts.tasks += file.tasks.len();
        add_file(&mut memories, file, targets, *id, &by_file, ids);
    }
    let mut tags = HashSet::new();
    for memory in &memories {
        *counts.memories.entry(memory.kind.name()).or_default() += 1;
        tags.extend(memory.tags.iter().map(String::as_str));
    }
    counts.tags = tags.len();
    Plan { memories, problems: reading.problems, unresolved: resolution.unresolved.clone(), counts }
}

fn add_file(
    memories: &mut Vec<PlannedMemory>,
    file: FileReading,
    targets: &FileTargets,
    id: MemoryId,
    by_file: &[MemoryId],
    ids: &Ids,
) {
    let path = file.path;
    let memory = file.memory;
    let mut planned = PlannedMemory {
        id,
        key: memory.key,
        path: path.clone(),
        fingerprint: String::new(),
        kind: memory.kind,
        title: memory.title,
        body: memory.body,
        fields: memory.fields,
        tags: memory.tags,
        links: links(&memory.links, &targets.memory, by_file),
        archived: memory.archived,
        times: memory.times,
    };
    planned.fingerprint = planned.digest();
    memories.push(planned);
    for (task, targets) in file.tasks.into_iter().zip(&targets.tasks) {
        let task_id = ids.of_task(&task);
        let mut own = links(&task.links, targets, by_file);
        own.insert(0, (PART_OF.to_owned(), id));
        memories.push(planned_task(task, task_id, path.clone(), own));
    }
}

fn planned_task(task: TaskReading, id: MemoryId, path: String, links: Vec<(String, MemoryId)>) -> PlannedMemory {
    let mut fields = vec![("status", Some(task.status.to_owned()))];
    fields.push(("priority", task.priority.map(str::to_owned)));
    fields.push(("due_date", task.due_date.map(|day| day.format("%Y-%m-%d").to_string())));
    fields.push(("completed_at", task.completed_at));
    let typed = fields.into_iter().filter_map(|(name, value)| {
        Some((name.parse().expect("the names of typed fields are valid"), Value::Text(value?)))
    });
    let mut planned = PlannedMemory {
        id,
        key: task.key,
        path,
        fingerprint: String::new(),
        kind: Kind::Task,
        title: task.title,
        body: String::new(),
        fields: typed.chain(task.fields).collect(),
        tags: task.tags,
        links,
        archived: false,
        times: None,
    };
    planned.fingerprint = planned.digest();
    planned
}

fn links(links: &[LinkReading], targets: &[Target], by_file: &[MemoryId]) -> Vec<(String, MemoryId)> {
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    for (link, target) in links.iter().zip(targets) {
        let id = match target {
            Target::File(file) => by_file[*file],
            Target::Memory(id) => *id,
            Target::Attachment | Target::Unresolved => continue,
        };
        if seen.insert((link.relation.as_str(), id)) {
            found.push((link.relation.clone(), id));
        }
    }
    found
}

impl Plan {
    /// Whether a path may be there although no memory was made of it: it, a folder above it or the rest of the vault was
    /// left out. Only what is not unseen can have vanished.
    pub fn is_unseen(&self, path: &str) -> bool {
        self.problems.iter().filter(|problem| problem.code.skipped()).any(|problem| {
            problem.code == ProblemCode::TooManyFiles
                || path.strip_prefix(&problem.path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        })
    }
}

impl PlannedMemory {
    /// A digest of what the memory states, each part with its length so that no two states look alike.
    fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        let mut part = |text: &str| {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        };
        part(self.kind.name());
        part(&self.title);
        part(&self.body);
        part(if self.archived { "archived" } else { "" });
        for (name, value) in &self.fields {
            part(name.as_str());
            part(&serde_json::Value::from(value).to_string());
        }
        part("tags");
        for tag in &self.tags {
            part(tag);
        }
        part("links");
        for (relation, target) in &self.links {
            part(relation);
            part(&target.to_string());
        }
        hasher.finalize().to_hex().to_string()
    }
}
