//! The names that a vault's files answer to.

use std::collections::{HashMap, HashSet};

use chrono::NaiveDate;

use super::{Target, fold, folder};
use crate::reading::dates::parse_day;
use crate::reading::{FileReading, LinkReading, LinkTarget, VaultReading, alternative_names};
use crate::vault::Flavour;

type Names = HashMap<String, Vec<usize>>;

/// The most parts of a path, counted from its end, that a link is looked up by.
const MAX_TAIL_PARTS: usize = 8;

pub(super) struct Index<'a> {
    reading: &'a VaultReading,
    paths: Names,
    tails: Names,
    titles: Names,
    aliases: Names,
    older: Names,
    days: HashMap<NaiveDate, usize>,
    blocks: HashMap<&'a str, usize>,
    attachments: HashSet<String>,
}

impl<'a> Index<'a> {
    pub(super) fn new(reading: &'a VaultReading) -> Self {
        let mut index = Self {
            reading,
            paths: Names::new(),
            tails: Names::new(),
            titles: Names::new(),
            aliases: Names::new(),
            older: Names::new(),
            days: HashMap::new(),
            blocks: HashMap::new(),
            attachments: HashSet::new(),
        };
        for (at, file) in reading.files.iter().enumerate() {
            index.add(at, file);
        }
        for path in &reading.attachments {
            let path = fold(path);
            index.attachments.extend(tails(&path).map(str::to_owned));
        }
        index
    }

    fn add(&mut self, at: usize, file: &'a FileReading) {
        let memory = &file.memory;
        let add = |names: &mut Names, name: String| {
            let files = names.entry(name).or_default();
            if files.last() != Some(&at) {
                files.push(at);
            }
        };
        let path = fold(&memory.key);
        for tail in tails(&path) {
            add(&mut self.tails, tail.to_owned());
        }
        add(&mut self.paths, path);
        add(&mut self.paths, fold(&file.path));
        add(&mut self.titles, fold(&memory.title));
        for alias in &memory.aliases {
            add(&mut self.aliases, fold(alias));
        }
        if self.reading.settings.flavour == Flavour::Logseq {
            for name in alternative_names(&memory.key) {
                add(&mut self.older, fold(&name));
            }
        }
        if let Some(day) = memory.log_date {
            self.days.entry(day).or_insert(at);
        }
        for id in &file.block_ids {
            self.blocks.entry(id).or_insert(at);
        }
    }

    pub(super) fn target(&self, at: usize, file: &FileReading, link: &LinkReading) -> Target {
        match &link.target {
            LinkTarget::Memory(id) => Target::Memory(*id),
            LinkTarget::Block(id) => {
                self.blocks.get(id.as_str()).map_or(Target::Unresolved, |file| Target::File(*file))
            }
            LinkTarget::Name(name) if name.is_empty() => Target::File(at),
            LinkTarget::Name(name) => self.named(name, folder(&file.path)),
        }
    }

    fn named(&self, name: &str, from: &str) -> Target {
        let bare = without_extension(name.trim());
        if bare.starts_with("./") || bare.starts_with("../") {
            return match joined(from, bare) {
                Some(path) => self.best(&self.paths, &path, from).unwrap_or_else(|| self.attachment(&path)),
                None => Target::Unresolved,
            };
        }
        let bare = bare.trim_start_matches('/');
        // A link that spells its folder out from where it stands counts before the same name elsewhere.
        let beside = (bare.contains('/') && !from.is_empty()).then(|| format!("{from}/{bare}"));
        let titles_first = self.reading.settings.flavour == Flavour::Logseq;
        let (first, second) = if titles_first { (&self.titles, &self.tails) } else { (&self.tails, &self.titles) };
        self.best(&self.paths, bare, from)
            .or_else(|| self.best(&self.paths, name.trim(), from))
            .or_else(|| self.best(&self.paths, &beside?, from))
            .or_else(|| self.best(first, bare, from))
            .or_else(|| self.best(second, bare, from))
            .or_else(|| self.best(&self.aliases, bare, from))
            .or_else(|| self.days.get(&parse_day(bare)?).map(|at| Target::File(*at)))
            .or_else(|| self.best(&self.older, bare, from))
            .unwrap_or_else(|| self.attachment(name))
    }

    /// Of the files that answer to a name the one that is spelt the same, is in the folder the link comes
    /// from, or has the shortest path, in this order.
    fn best(&self, names: &Names, name: &str, from: &str) -> Option<Target> {
        let files = names.get(&fold(name))?;
        let rank = |at: &usize| {
            let file = &self.reading.files[*at];
            let key = &file.memory.key;
            let same_case = key.ends_with(name)
                || file.memory.title == name
                || file.memory.aliases.iter().any(|alias| alias == name);
            (!same_case, folder(&file.path) != from, key.matches('/').count(), key.len(), key)
        };
        files.iter().min_by(|one, other| rank(one).cmp(&rank(other))).map(|at| Target::File(*at))
    }

    fn attachment(&self, name: &str) -> Target {
        let name = name.trim_start_matches("../").trim_start_matches("./").trim_matches('/');
        if self.attachments.contains(&fold(name)) { Target::Attachment } else { Target::Unresolved }
    }
}

/// A path and what is left of it when folders are taken off its front.
fn tails(path: &str) -> impl Iterator<Item = &str> {
    let starts = path.match_indices('/').map(|(at, _)| at + 1);
    let starts: Vec<usize> = std::iter::once(0).chain(starts).collect();
    let skipped = starts.len().saturating_sub(MAX_TAIL_PARTS);
    starts.into_iter().skip(skipped).map(move |at| &path[at..])
}

fn without_extension(name: &str) -> &str {
    [".md", ".markdown", ".org"]
        .iter()
        .find_map(|end| {
            let stem = name.len().checked_sub(end.len()).filter(|stem| name.is_char_boundary(*stem))?;
            (stem > 0 && name[stem..].eq_ignore_ascii_case(end)).then_some(&name[..stem])
        })
        .unwrap_or(name)
}

/// A relative path from a folder; nothing when it leaves the vault.
fn joined(from: &str, path: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}
