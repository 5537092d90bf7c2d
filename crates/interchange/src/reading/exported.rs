//! Files that [`crate::export`] wrote: their front matter says everything, and exactly.

use cairn_domain::field::FieldName;
use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_domain::value::Value;

use super::{FileReading, LinkReading, LinkTarget, MemoryReading, Reader, names, properties};
use crate::markdown::{self, FrontMatter, LinkForm, Syntax, Yaml, links_in};
use crate::problem::ProblemCode;

/// The property with the memory's id. A file that has it was exported.
pub(crate) const ID_KEY: &str = "cairn";
/// The property with the links, see [`crate::export`].
pub(crate) const LINKS_KEY: &str = "links";
/// The property that says when the memory was made.
pub(crate) const CREATED_KEY: &str = "cairn_created";
/// The property that says when the memory was last changed.
pub(crate) const UPDATED_KEY: &str = "cairn_updated";
/// The property with the start of the body's BLAKE3, by which an edit of the file is noticed.
pub(crate) const BODY_DIGEST_KEY: &str = "cairn_body";
/// The property that says that the tasks in the text are memories with files of their own.
pub(crate) const TASKS_KEY: &str = "cairn_tasks";
/// What stands before the name of a field that would be taken for one of these properties.
pub(crate) const ESCAPE_PREFIX: &str = "field.";

/// Whether a field's name needs [`ESCAPE_PREFIX`].
pub(crate) fn is_reserved(name: &str) -> bool {
    name.starts_with(ID_KEY)
        || name.starts_with(ESCAPE_PREFIX)
        || matches!(name, "title" | "kind" | "archived" | "tags" | LINKS_KEY)
}

/// The digest of a body as [`BODY_DIGEST_KEY`] states it.
pub(crate) fn body_digest(body: &str) -> String {
    // The letter in front keeps YAML from taking the digits for a number.
    format!("b{}", &blake3::hash(body.as_bytes()).to_hex()[..16])
}

/// The id that a front matter states, if it was written by an export.
pub(super) fn stated_id(front: &[(String, Yaml)]) -> Option<MemoryId> {
    front.iter().find_map(|(name, value)| match value {
        Yaml::Text(text) if name == ID_KEY => text.parse().ok(),
        _ => None,
    })
}

impl Reader<'_> {
    pub(super) fn read_exported(mut self, id: MemoryId, front: FrontMatter) -> FileReading {
        let body = self.file.text[front.body_start..].to_owned();
        let key = names::key(&self.file.path);
        let mut memory = MemoryReading {
            title: names::title_of(&key, self.settings.flavour),
            key,
            id: Some(id),
            kind: Kind::Note,
            log_date: None,
            body,
            aliases: Vec::new(),
            fields: Vec::new(),
            tags: Vec::new(),
            links: Vec::new(),
            archived: false,
            times: None,
        };
        let mut stated = Stated::default();
        for (name, value) in front.properties {
            self.take_stated(&mut memory, &mut stated, &name, value);
        }
        memory.times = stated.created.zip(stated.updated);
        let edited = stated.digest.is_none_or(|digest| digest != body_digest(&memory.body));
        let tasks = if edited { self.read_edited(&mut memory, stated.separate_tasks) } else { Vec::new() };
        memory.log_date = memory
            .fields
            .iter()
            .find(|(name, _)| memory.kind == Kind::Daily && name.as_str() == "log_date")
            .and_then(|(_, value)| value.as_text()?.parse().ok());
        self.finish(memory, tasks, Vec::new())
    }

    fn take_stated(&mut self, memory: &mut MemoryReading, stated: &mut Stated, name: &str, value: Yaml) {
        match (name, value) {
            ("title", Yaml::Text(title)) => memory.title = title,
            ("kind", Yaml::Text(word)) => match word.parse() {
                Ok(kind) => memory.kind = kind,
                Err(error) => self.problem(ProblemCode::ValueDoesNotFit, format!("{error}; it went in as a note")),
            },
            ("archived", Yaml::Bool(archived)) => memory.archived = archived,
            ("tags", Yaml::List(tags)) => memory.tags = texts(tags),
            ("tags", Yaml::Text(tag)) => memory.tags = vec![tag],
            (LINKS_KEY, Yaml::List(links)) => {
                memory.links = texts(links).iter().filter_map(|link| stated_link(link)).collect();
            }
            (CREATED_KEY, Yaml::Text(time)) => stated.created = Some(time),
            (UPDATED_KEY, Yaml::Text(time)) => stated.updated = Some(time),
            (BODY_DIGEST_KEY, Yaml::Text(digest)) => stated.digest = Some(digest),
            (TASKS_KEY, _) => stated.separate_tasks = true,
            (name, _) if is_reserved(name) && !name.starts_with(ESCAPE_PREFIX) => {}
            (name, value) => self.take_field(memory, name.strip_prefix(ESCAPE_PREFIX).unwrap_or(name), &value),
        }
    }

    fn take_field(&mut self, memory: &mut MemoryReading, name: &str, value: &Yaml) {
        let (Ok(name), Some(value)) = (name.parse::<FieldName>(), exact(value)) else {
            self.problem(ProblemCode::PropertyNameInvalid, format!("`{name}` cannot be a field and was left out"));
            return;
        };
        if let Err(error) = memory.kind.check(&name, &value) {
            self.problem(ProblemCode::ValueDoesNotFit, format!("{error}; it was left out"));
            return;
        }
        if name.as_str() == "aliases" {
            memory.aliases = match &value {
                Value::List(items) => items.iter().map(Value::display).collect(),
                scalar => vec![scalar.display()],
            };
        }
        memory.fields.push((name, value));
    }

    /// Somebody edited the text after it was exported: what it says now counts beside the front matter.
    fn read_edited(&self, memory: &mut MemoryReading, separate_tasks: bool) -> Vec<super::TaskReading> {
        let text = &self.file.text;
        let start = text.len() - memory.body.len();
        let outline = markdown::outline(text, start, Syntax::Obsidian);
        let properties = properties::Properties::default();
        memory.links.extend(super::body_links(text, &outline, &properties, Syntax::Obsidian));
        for tag in &outline.tags {
            if !memory.tags.contains(tag) {
                memory.tags.push(tag.clone());
            }
        }
        if separate_tasks {
            return Vec::new();
        }
        let lines = text[..start].bytes().filter(|byte| *byte == b'\n').count();
        super::tasks::read(self.file, &memory.key, &outline, Syntax::Obsidian, lines)
    }
}

/// What the front matter says about the export itself.
#[derive(Default)]
struct Stated {
    created: Option<String>,
    updated: Option<String>,
    digest: Option<String>,
    separate_tasks: bool,
}

fn texts(items: Vec<Yaml>) -> Vec<String> {
    items
        .into_iter()
        .filter_map(|item| match item {
            Yaml::Text(text) => Some(text),
            _ => None,
        })
        .collect()
}

/// `[[Folder/Name|relation]]`, or `<id> relation`.
fn stated_link(text: &str) -> Option<LinkReading> {
    const ID_LENGTH: usize = 36;
    let (target, relation) = if text.starts_with("[[") {
        let link = links_in(text, Syntax::Obsidian).pop()?;
        let relation = link.alias.clone().unwrap_or_else(|| super::MENTIONS.to_owned());
        (LinkTarget::Name(link.target), relation)
    } else {
        let (id, relation) = text.split_at_checked(ID_LENGTH)?;
        (LinkTarget::Memory(id.parse().ok()?), relation.strip_prefix(' ')?.to_owned())
    };
    Some(LinkReading { target, form: LinkForm::Wiki, relation, heading: None, alias: None, line: 0 })
}

/// A YAML value as the same field value.
fn exact(value: &Yaml) -> Option<Value> {
    Some(match value {
        Yaml::Null => Value::Empty,
        Yaml::Bool(flag) => Value::Flag(*flag),
        Yaml::Integer(number) => Value::Integer(*number),
        Yaml::Decimal(number) => Value::Decimal(*number),
        Yaml::Text(text) => Value::Text(text.clone()),
        Yaml::List(items) => Value::List(items.iter().map(exact).collect::<Option<_>>()?),
        Yaml::Map(_) => return None,
    })
}
