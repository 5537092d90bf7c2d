//! The properties of a file, wherever they stand in it.

use std::ops::Range;

use super::{LinkReading, link_reading};
use crate::markdown::{
    LinkForm, Outline, PropertyPlace, Syntax, Wikilink, Yaml, inline_scalar, links_in, relation_name, shown,
    tag_list,
};

/// The properties of a file. Those that say something about the file itself stand apart.
#[derive(Debug, Default)]
pub(super) struct Properties {
    /// `title`.
    pub title: Option<String>,
    /// `aliases`, `alias`.
    pub aliases: Vec<String>,
    /// `tags`, `tag`.
    pub tags: Vec<String>,
    /// What `kind`, `type`, `categories` and `category` say, in this order.
    pub kind_words: Vec<String>,
    /// Whether `archived` is true.
    pub archived: bool,
    /// All others, `type` and its like included, each name once.
    pub entries: Vec<Entry>,
    /// Where the values of page properties stand in the text, in order.
    pub spans: Vec<Range<usize>>,
}

/// A property: a scalar or a list of scalars, without the brackets of links.
#[derive(Debug)]
pub(super) struct Entry {
    /// As it is written.
    pub name: String,
    /// [`Yaml::Map`] does not occur, nor lists in lists.
    pub value: Yaml,
    /// The links in its value.
    pub links: Vec<Wikilink>,
}

impl Entry {
    /// The name as names are compared: lower case, words joined by `_`.
    pub fn plain_name(&self) -> String {
        plain(&self.name)
    }

    /// The value as one or more texts.
    pub fn texts(&self) -> Vec<String> {
        match &self.value {
            Yaml::List(items) => items.iter().map(scalar_text).collect(),
            scalar => vec![scalar_text(scalar)],
        }
    }
}

pub(super) fn plain(name: &str) -> String {
    name.trim().to_lowercase().replace([' ', '-'], "_")
}

fn scalar_text(value: &Yaml) -> String {
    match value {
        Yaml::Null => String::new(),
        Yaml::Bool(flag) => flag.to_string(),
        Yaml::Integer(number) => number.to_string(),
        Yaml::Decimal(number) => number.to_string(),
        Yaml::Text(text) => text.trim().to_owned(),
        Yaml::List(_) | Yaml::Map(_) => json(value).to_string(),
    }
}

/// Brings together the properties of the front matter and of the text.
pub(super) fn gather(front: Vec<(String, Yaml)>, outline: &Outline, syntax: Syntax) -> Properties {
    let mut gathered = Properties::default();
    for (name, value) in front {
        flatten(&mut gathered, &name, value, syntax);
    }
    for property in outline.properties.iter().filter(|property| property.place == PropertyPlace::Page) {
        gathered.spans.push(property.span.clone());
        gathered.add(&property.name, inline_value(&property.value), syntax);
    }
    for name in ["kind", "type", "categories", "category"] {
        let words = gathered.entries.iter().filter(|entry| entry.plain_name() == name).flat_map(Entry::texts);
        let words: Vec<String> =
            words.map(|word| word.rsplit('/').next().unwrap_or_default().to_owned()).collect();
        gathered.kind_words.extend(words);
    }
    gathered
}

/// `[[a]], [[b]]` is a list; anything else is one value.
fn inline_value(text: &str) -> Yaml {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let linked = |part: &&str| part.starts_with("[[") && part.ends_with("]]");
    if parts.len() > 1 && parts.iter().all(linked) {
        Yaml::List(parts.into_iter().map(|part| Yaml::Text(part.to_owned())).collect())
    } else {
        inline_scalar(text)
    }
}

/// A mapping within a property becomes several properties, `address.city` and so on.
fn flatten(gathered: &mut Properties, name: &str, value: Yaml, syntax: Syntax) {
    match value {
        Yaml::Map(map) => {
            for (inner, value) in map {
                flatten(gathered, &format!("{name}.{inner}"), value, syntax);
            }
        }
        Yaml::List(items) => gathered.add(name, Yaml::List(items.into_iter().map(item).collect()), syntax),
        scalar => gathered.add(name, scalar, syntax),
    }
}

/// What stands in a list: a scalar. YAML reads a link without quotes as a list in a list.
fn item(value: Yaml) -> Yaml {
    match value {
        Yaml::List(inner) => match inner.as_slice() {
            [Yaml::Text(name)] => Yaml::Text(format!("[[{name}]]")),
            _ => match inner.first() {
                Some(Yaml::List(innermost)) if inner.len() == 1 && innermost.len() == 1 => {
                    Yaml::Text(format!("[[{}]]", scalar_text(&innermost[0])))
                }
                _ => Yaml::Text(json(&Yaml::List(inner)).to_string()),
            },
        },
        map @ Yaml::Map(_) => Yaml::Text(json(&map).to_string()),
        scalar => scalar,
    }
}

fn json(value: &Yaml) -> serde_json::Value {
    match value {
        Yaml::Null => serde_json::Value::Null,
        Yaml::Bool(flag) => (*flag).into(),
        Yaml::Integer(number) => (*number).into(),
        Yaml::Decimal(number) => (*number).into(),
        Yaml::Text(text) => text.as_str().into(),
        Yaml::List(items) => items.iter().map(json).collect(),
        Yaml::Map(map) => map.iter().map(|(name, value)| (name.clone(), json(value))).collect(),
    }
}

impl Properties {
    fn add(&mut self, name: &str, value: Yaml, syntax: Syntax) {
        match (plain(name).as_str(), &value) {
            ("title", Yaml::List(_) | Yaml::Null) => {}
            ("title", scalar) => {
                let title = shown(&scalar_text(scalar), syntax).replace(['\n', '\r'], " ");
                self.title = self.title.take().or(Some(title)).filter(|title| !title.is_empty());
            }
            ("alias" | "aliases", _) => self.aliases.extend(names(&value, &|text| comma_list(text))),
            ("tag" | "tags", Yaml::List(_)) => self.add_tags(names(&value, &|text| tag_list(text, false))),
            ("tag" | "tags", _) => {
                self.add_tags(names(&value, &|text| tag_list(text, syntax == Syntax::Obsidian)));
            }
            ("archived", Yaml::Bool(archived)) => self.archived = *archived,
            ("collapsed", _) if syntax == Syntax::Logseq => {}
            _ => self.add_entry(name, value, syntax),
        }
    }

    fn add_tags(&mut self, tags: Vec<String>) {
        for tag in tags {
            if !self.tags.contains(&tag) {
                self.tags.push(tag);
            }
        }
    }

    fn add_entry(&mut self, name: &str, value: Yaml, syntax: Syntax) {
        let mut links = Vec::new();
        let mut unlinked = |value: Yaml| match value {
            Yaml::Text(text) if syntax == Syntax::Logseq && quoted(&text) => Yaml::Text(text),
            Yaml::Text(text) => {
                let found = links_in(&text, syntax);
                let bare = if found.is_empty() { text } else { shown(&text, syntax) };
                links.extend(found);
                Yaml::Text(bare)
            }
            scalar => scalar,
        };
        let value = match value {
            Yaml::List(items) => Yaml::List(items.into_iter().map(unlinked).collect()),
            scalar => unlinked(scalar),
        };
        let same = plain(name);
        match self.entries.iter_mut().find(|entry| entry.plain_name() == same) {
            None => self.entries.push(Entry { name: name.to_owned(), value, links }),
            Some(entry) => {
                entry.links.extend(links);
                let mut items = as_list(std::mem::replace(&mut entry.value, Yaml::Null));
                items.extend(as_list(value));
                entry.value = Yaml::List(items);
            }
        }
    }
}

fn as_list(value: Yaml) -> Vec<Yaml> {
    match value {
        Yaml::List(items) => items,
        Yaml::Null => Vec::new(),
        scalar => vec![scalar],
    }
}

/// Logseq takes a value in quotation marks as it is.
fn quoted(text: &str) -> bool {
    text.len() >= 2 && text.starts_with('"') && text.ends_with('"')
}

fn names(value: &Yaml, split: &dyn Fn(&str) -> Vec<String>) -> Vec<String> {
    match value {
        Yaml::List(items) => items.iter().flat_map(|item| names(item, split)).collect(),
        scalar => split(&scalar_text(scalar)),
    }
}

fn comma_list(text: &str) -> Vec<String> {
    text.replace("[[", "")
        .replace("]]", "")
        .split(',')
        .map(|name| name.trim().trim_matches('"').to_owned())
        .filter(|name| !name.is_empty())
        .collect()
}

/// The links in the values of properties; their relation is the property's name.
pub(super) fn links(properties: &Properties) -> Vec<LinkReading> {
    let mut links = Vec::new();
    for entry in &properties.entries {
        let relation = relation_name(&entry.name);
        if relation.is_empty() {
            continue;
        }
        for link in &entry.links {
            let mut link = link_reading(link, &relation, 0);
            // `type:: #[[Feature]]` states a relation, and no tag.
            if link.form == LinkForm::Tag {
                link.form = LinkForm::Wiki;
            }
            links.push(link);
        }
    }
    links
}
