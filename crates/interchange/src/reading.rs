//! What one file says, as plain data.

pub mod dates;
mod exported;
mod fields;
mod kinds;
mod names;
mod properties;
mod tasks;

use std::time::SystemTime;

use cairn_domain::field::FieldName;
use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_domain::value::Value;
use chrono::NaiveDate;

use crate::markdown::{self, FrontMatterProblem, LinkForm, Outline, Syntax, Wikilink};
use crate::problem::{Problem, ProblemCode};
use crate::vault::{FileText, Flavour, Scan, Settings};

pub(crate) use exported::{
    BODY_DIGEST_KEY, CREATED_KEY, ESCAPE_PREFIX, ID_KEY, LINKS_KEY, TASKS_KEY, UPDATED_KEY, body_digest,
    is_reserved,
};
pub(crate) use names::alternative_names;

/// The relation of a link in the text.
pub const MENTIONS: &str = "mentions";
/// The relation of a task to the memory whose text it stands in.
pub const PART_OF: &str = "part_of";
/// The relation of a Logseq tag to the page of its name.
pub const TAGGED: &str = "tagged";

/// What one file says.
#[derive(Debug, Clone, PartialEq)]
pub struct FileReading {
    /// Relative to the vault, with `/` between its parts.
    pub path: String,
    /// BLAKE3 of the file's bytes, in hexadecimal.
    pub digest: String,
    /// The file's length in bytes.
    pub size: u64,
    /// When the file was last modified, if the file system says.
    pub modified: Option<SystemTime>,
    /// The memory that the file is.
    pub memory: MemoryReading,
    /// The tasks in its text.
    pub tasks: Vec<TaskReading>,
    /// The ids of its blocks, which block references point to.
    pub block_ids: Vec<String>,
    /// What could not be read as it was written.
    pub problems: Vec<Problem>,
}

/// What a file says as one memory.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryReading {
    /// The memory's identity inside the vault: the path without its extension, in normal form C.
    pub key: String,
    /// The id that a file written by [`crate::export`] states.
    pub id: Option<MemoryId>,
    /// What it is about.
    pub kind: Kind,
    /// The day, of a day's log.
    pub log_date: Option<NaiveDate>,
    /// Its title.
    pub title: String,
    /// Its text without the front matter; byte for byte in a file that was exported, else without
    /// the blank lines at its start.
    pub body: String,
    /// Other names of it. They are in `fields` as well.
    pub aliases: Vec<String>,
    /// Its typed and free fields, each name once. Every value passes [`Kind::check`].
    pub fields: Vec<(FieldName, Value)>,
    /// Its tags, without `#`, each once.
    pub tags: Vec<String>,
    /// Its links, in the order of the file; one target may come several times.
    pub links: Vec<LinkReading>,
    /// Whether it was put away, in a file that was exported.
    pub archived: bool,
    /// When it was made and last changed, RFC 3339, in a file that was exported.
    pub times: Option<(String, String)>,
}

/// A task in a file's text.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskReading {
    /// The task's identity inside the vault: the file's key, the task's words and which of several with the
    /// same words it is. Ticking it off or moving it within the file does not change it.
    pub key: String,
    /// Its words.
    pub title: String,
    /// `todo`, `in_progress`, `completed` or `cancelled`.
    pub status: &'static str,
    /// `low`, `medium`, `high` or `urgent`, if it says.
    pub priority: Option<&'static str>,
    /// The day it is due.
    pub due_date: Option<NaiveDate>,
    /// When it was completed, RFC 3339; midnight UTC, as vaults note the day alone.
    pub completed_at: Option<String>,
    /// Free fields: `scheduled`, `start`, `created`, `cancelled`, `repeat` and whatever else it states.
    pub fields: Vec<(FieldName, Value)>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its links; the one to the file's memory ([`PART_OF`]) goes without saying.
    pub links: Vec<LinkReading>,
    /// The line of the file, counted from one.
    pub line: usize,
}

/// What a link points to, as it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkTarget {
    /// A name or a path, for [`crate::resolve`] to find. Empty: the note itself.
    Name(String),
    /// The id of a block.
    Block(String),
    /// A memory's id, in a file that was exported.
    Memory(MemoryId),
}

/// A link of a memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkReading {
    /// What it points to.
    pub target: LinkTarget,
    /// How it is written.
    pub form: LinkForm,
    /// What it means: [`MENTIONS`], or the name of the property it stands in.
    pub relation: String,
    /// The heading it points to.
    pub heading: Option<String>,
    /// What is shown in its place.
    pub alias: Option<String>,
    /// The line of the file, counted from one; 0 in the front matter.
    pub line: usize,
}

/// Everything a vault says.
#[derive(Debug)]
pub struct VaultReading {
    /// What the vault says about itself.
    pub settings: Settings,
    /// The files that could be read, by path.
    pub files: Vec<FileReading>,
    /// Every other file, by path.
    pub attachments: Vec<String>,
    /// All problems: of the scan, of reading, and those of each file again.
    pub problems: Vec<Problem>,
}

/// Reads every file of a scan.
///
/// `progress` is called with the number of files read and the number there are, after each file.
pub fn read_all(scan: &Scan, progress: &mut dyn FnMut(usize, usize)) -> VaultReading {
    let mut reading = VaultReading {
        settings: scan.settings.clone(),
        files: Vec::with_capacity(scan.files.len()),
        attachments: scan.attachments.clone(),
        problems: scan.problems.clone(),
    };
    for (index, file) in scan.files.iter().enumerate() {
        match scan.read(file) {
            Ok(text) => reading.files.push(read(&text, &scan.settings)),
            Err(problem) => reading.problems.push(problem),
        }
        progress(index + 1, scan.files.len());
    }
    names::make_unique(&mut reading.files);
    for file in &reading.files {
        reading.problems.extend(file.problems.iter().cloned());
    }
    reading
}

/// Says what one file states. Pure, and linear in the length of the text.
pub fn read(file: &FileText, settings: &Settings) -> FileReading {
    Reader::new(file, settings).read()
}

/// One file on its way from text to plain data.
struct Reader<'a> {
    file: &'a FileText,
    settings: &'a Settings,
    syntax: Syntax,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a FileText, settings: &'a Settings) -> Self {
        let org = file.path.rsplit('.').next().is_some_and(|end| end.eq_ignore_ascii_case("org"));
        let syntax = match (org, settings.flavour) {
            (true, _) => Syntax::Org,
            (false, Flavour::Logseq) => Syntax::Logseq,
            (false, Flavour::Obsidian | Flavour::Plain) => Syntax::Obsidian,
        };
        Self { file, settings, syntax, problems: Vec::new() }
    }

    fn problem(&mut self, code: ProblemCode, message: impl Into<String>) {
        self.problems.push(Problem::new(&self.file.path, code, message));
    }

    fn read(mut self) -> FileReading {
        let text = &self.file.text;
        let front = markdown::split_front_matter(text);
        if let Some(problem) = &front.problem {
            let code = match problem {
                FrontMatterProblem::Unclosed => ProblemCode::FrontMatterUnclosed,
                FrontMatterProblem::TooLarge(_) => ProblemCode::FrontMatterTooLarge,
                FrontMatterProblem::Malformed(_) | FrontMatterProblem::NotProperties => {
                    ProblemCode::FrontMatterMalformed
                }
            };
            self.problem(code, problem.to_string());
        }
        if let Some(id) = exported::stated_id(&front.properties) {
            return self.read_exported(id, front);
        }
        let outline = markdown::outline(text, front.body_start, self.syntax);
        if let Some(what) = outline.over_limit {
            self.problem(ProblemCode::TooManyItems, format!("it has more {what} than are read of one file"));
        }
        let line_offset = front.lines;
        let properties = properties::gather(front.properties, &outline, self.syntax);
        let body = text[outline.page_properties_end..].trim_start_matches(['\n', '\r']).to_owned();
        let mut memory = self.memory(properties, &outline, body);
        let tasks = tasks::read(self.file, &memory.key, &outline, self.syntax, line_offset);
        memory.tags.truncate(markdown::MAX_TAGS);
        self.finish(memory, tasks, outline.block_ids)
    }

    fn finish(self, memory: MemoryReading, tasks: Vec<TaskReading>, block_ids: Vec<String>) -> FileReading {
        FileReading {
            path: self.file.path.clone(),
            digest: self.file.digest.clone(),
            size: self.file.size,
            modified: self.file.modified,
            memory,
            tasks,
            block_ids,
            problems: self.problems,
        }
    }

    fn memory(&mut self, properties: properties::Properties, outline: &Outline, body: String) -> MemoryReading {
        let key = names::key(&self.file.path);
        let (kind, log_date) = kinds::infer(&key, &properties, self.settings);
        let title = self.title(&properties, &key, log_date);
        let mut links = properties::links(&properties);
        links.extend(body_links(&self.file.text, outline, &properties, self.syntax));
        let mut tags = properties.tags.clone();
        for tag in &outline.tags {
            if !tags.contains(tag) {
                tags.push(tag.clone());
            }
        }
        if self.syntax == Syntax::Logseq {
            links.extend(tag_links(&tags, &links));
        }
        let aliases = properties.aliases.clone();
        let archived = properties.archived;
        let fields = fields::map(self, kind, log_date, &key, properties);
        MemoryReading {
            key,
            id: None,
            kind,
            log_date,
            title,
            body,
            aliases,
            fields,
            tags,
            links,
            archived,
            times: None,
        }
    }

    fn title(&self, properties: &properties::Properties, key: &str, log_date: Option<NaiveDate>) -> String {
        match (&properties.title, log_date) {
            (Some(title), _) => title.clone(),
            (None, Some(date)) => date.format("%Y-%m-%d").to_string(),
            (None, None) => names::title_of(key, self.settings.flavour),
        }
    }
}

/// The links of the text, except those in the values of page properties, which have relations of their own.
fn body_links(
    text: &str,
    outline: &Outline,
    properties: &properties::Properties,
    syntax: Syntax,
) -> Vec<LinkReading> {
    let mut line = LineCounter { text, at: 0, line: 1 };
    let mut spans = properties.spans.iter().peekable();
    let mut links = Vec::with_capacity(outline.links.len());
    for link in &outline.links {
        while spans.next_if(|span| span.end <= link.span.start).is_some() {}
        if spans.peek().is_some_and(|span| span.start <= link.span.start) {
            continue;
        }
        let number = line.at(link.span.start);
        let relation = if link.form == LinkForm::Tag && syntax == Syntax::Logseq { TAGGED } else { MENTIONS };
        links.push(link_reading(link, relation, number));
    }
    links
}

/// Counts lines while going forward through a text.
struct LineCounter<'a> {
    text: &'a str,
    at: usize,
    line: usize,
}

impl LineCounter<'_> {
    fn at(&mut self, offset: usize) -> usize {
        if offset > self.at {
            self.line += self.text.as_bytes()[self.at..offset].iter().filter(|byte| **byte == b'\n').count();
            self.at = offset;
        }
        self.line
    }
}

fn link_reading(link: &Wikilink, relation: &str, line: usize) -> LinkReading {
    let target = match link.form {
        LinkForm::Block => LinkTarget::Block(link.target.clone()),
        _ => LinkTarget::Name(link.target.clone()),
    };
    LinkReading {
        target,
        form: link.form,
        relation: relation.to_owned(),
        heading: link.heading.clone(),
        alias: link.alias.clone(),
        line,
    }
}

/// In Logseq a tag is a page; those written `#[[so]]` are among the links already.
fn tag_links(tags: &[String], links: &[LinkReading]) -> Vec<LinkReading> {
    let linked: std::collections::HashSet<String> = links
        .iter()
        .filter(|link| link.form == LinkForm::Tag)
        .filter_map(|link| match &link.target {
            LinkTarget::Name(name) => Some(name.to_lowercase()),
            LinkTarget::Block(_) | LinkTarget::Memory(_) => None,
        })
        .collect();
    tags.iter()
        .filter(|tag| !linked.contains(*tag))
        .map(|tag| LinkReading {
            target: LinkTarget::Name(tag.clone()),
            form: LinkForm::Tag,
            relation: TAGGED.to_owned(),
            heading: None,
            alias: None,
            line: 0,
        })
        .collect()
}
