//! Which memory goes into which file.

use std::collections::{HashMap, HashSet};

use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use unicode_normalization::UnicodeNormalization;

use crate::markdown::floor_boundary;
use crate::resolve::fold;

/// The longest name of a file without its extension and what tells it from others of the name, in bytes. File systems
/// take 255.
pub const MAX_NAME_BYTES: usize = 120;

/// What has to be known of every memory before the first one is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExportHead {
    /// Its id.
    pub id: MemoryId,
    /// What it is about.
    pub kind: Kind,
    /// Its title.
    pub title: String,
}

/// Where each memory goes: a path relative to the vault, without extension.
///
/// Paths depend on the set of memories alone, not on its order. A title that two memories share goes to
/// the smaller id; the other file's name has the end of its id behind it.
#[derive(Debug)]
pub struct Layout {
    paths: HashMap<MemoryId, String>,
}

impl Layout {
    /// Finds a place for every memory.
    pub fn new(heads: impl IntoIterator<Item = ExportHead>) -> Self {
        let mut heads: Vec<ExportHead> = heads.into_iter().collect();
        heads.sort_by_key(|head| head.id);
        let mut taken = HashSet::with_capacity(heads.len());
        let mut paths = HashMap::with_capacity(heads.len());
        for head in heads {
            let id = head.id.to_string();
            let plain = format!("{}/{}", folder(head.kind), file_name(&head.title));
            // Titles may be made up to look like names with ids, so it has to go on until one is free.
            let mut candidates = (0_usize..).map(|count| match count {
                0 => plain.clone(),
                1 => format!("{plain} {}", &id[id.len() - 8..]),
                _ => format!("{plain} {id} {count}"),
            });
            if let Some(free) = candidates.find(|path| taken.insert(fold(path))) {
                paths.insert(head.id, free);
            }
        }
        Self { paths }
    }

    /// The path of a memory, if it has a place.
    pub fn path(&self, memory: MemoryId) -> Option<&str> {
        self.paths.get(&memory).map(String::as_str)
    }

    /// All paths, in no order.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.values().map(String::as_str)
    }
}

/// The folder of a kind.
pub(super) const fn folder(kind: Kind) -> &'static str {
    match kind {
        Kind::Note => "Notes",
        Kind::Task => "Tasks",
        Kind::Person => "People",
        Kind::Project => "Projects",
        Kind::Event => "Events",
        Kind::Place => "Places",
        Kind::Daily => "Daily",
    }
}

/// A title as a file's name that every system takes and a link in brackets can hold.
fn file_name(title: &str) -> String {
    let plain: String = title
        .nfc()
        .map(|char| match char {
            '<' | '>' | ':' | '"' | '/' | '\\' | '|' | '?' | '*' | '[' | ']' | '#' | '^' | '%' => '-',
            // Marks that turn the direction of writing would hide what a name ends in.
            '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}' => '-',
            char if char.is_control() || char.is_whitespace() => ' ',
            char => char,
        })
        .collect();
    let words = plain.split_whitespace().collect::<Vec<_>>().join(" ");
    let cut = &words[..floor_boundary(&words, MAX_NAME_BYTES)];
    let name = cut.trim_matches(['.', ' ']);
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_uppercase();
    let device = matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL")
        || (stem.len() == 4 && ["COM", "LPT"].iter().any(|port| stem.starts_with(port)));
    match name {
        "" => "untitled".to_owned(),
        name if device => format!("_{name}"),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_suit_every_system() {
        for (title, name) in [
            ("Oak & tar", "Oak & tar"),
            ("a/b: [c]?", "a-b- -c--"),
            ("../../etc/passwd", "-..-etc-passwd"),
            ("  ", "untitled"),
            ("...", "untitled"),
            ("nul.txt", "_nul.txt"),
            ("A\u{30a}sa\n\t2", "\u{c5}sa 2"),
        ] {
            assert_eq!(file_name(title), name);
        }
        assert!(file_name(&"ö".repeat(500)).len() <= MAX_NAME_BYTES);
    }

    #[test]
    fn places_do_not_depend_on_the_order() {
        let head = |id: u128, title: &str| ExportHead {
            id: MemoryId::new(uuid::Uuid::from_u128(id)),
            kind: Kind::Note,
            title: title.into(),
        };
        let heads = [head(3, "Oak"), head(1, "oak"), head(2, "Oak 00000003")];
        let forwards = Layout::new(heads.clone());
        let backwards = Layout::new(heads.iter().rev().cloned());
        let mut seen = HashSet::new();
        for head in &heads {
            assert_eq!(forwards.path(head.id), backwards.path(head.id));
            assert!(seen.insert(fold(forwards.path(head.id).unwrap())));
        }
        assert_eq!(forwards.path(heads[1].id), Some("Notes/oak"));
    }
}
