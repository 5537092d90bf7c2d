//! What every link points to, found over all files at once, so that the order of files does not matter.

mod index;

use std::collections::HashMap;

use cairn_domain::id::MemoryId;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

use crate::markdown::LinkForm;
use crate::reading::{FileReading, LinkReading, LinkTarget, VaultReading};
use index::Index;

/// A text as names are compared: normal form C, lower case, white space as single blanks.
pub fn fold(text: &str) -> String {
    let lower = text.to_lowercase();
    let normal: String =
        if is_nfc_quick(lower.chars()) == IsNormalized::Yes { lower } else { lower.nfc().collect() };
    if normal.split(' ').all(|part| !part.is_empty() && !part.contains(char::is_whitespace)) {
        return normal;
    }
    normal.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What a link points to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The memory of a file, by its index in the reading.
    File(usize),
    /// A memory by its id: a file that was exported says so.
    Memory(MemoryId),
    /// A file of the vault that is no note.
    Attachment,
    /// Nothing in the vault.
    Unresolved,
}

/// A link to something that the vault does not hold.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Unresolved {
    /// The file with the link.
    pub path: String,
    /// The line of the file, counted from one; 0 in the front matter.
    pub line: usize,
    /// The name as it is written.
    pub name: String,
}

/// What the links of one file and of its tasks point to, in the order of [`FileReading`]'s links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileTargets {
    /// One for each link of the memory.
    pub memory: Vec<Target>,
    /// For each task, one for each of its links.
    pub tasks: Vec<Vec<Target>>,
}

/// What every link of a vault points to.
#[derive(Debug, Default)]
pub struct Resolution {
    /// By file, in the order of the reading.
    pub files: Vec<FileTargets>,
    /// The links of memories that point to nothing, in the order of the files. Tags that have no page are not
    /// among them.
    pub unresolved: Vec<Unresolved>,
    /// How many links of memories point to a memory.
    pub resolved: usize,
    /// How many links of memories point to another file of the vault.
    pub attachments: usize,
}

/// Finds what every link points to.
///
/// A name is looked for as an exact path, as the end of a path, as a title, as an alias, as a date of a daily note,
/// and in Logseq at last by the older rules for file names; in Logseq titles come before file names. Case
/// does not matter, except that of several the one in the same case wins, then one in the same folder, then
/// the one with the shortest path.
pub fn resolve(reading: &VaultReading) -> Resolution {
    let index = Index::new(reading);
    let mut resolution = Resolution::default();
    let mut known: HashMap<(String, String), Target> = HashMap::new();
    for (at, file) in reading.files.iter().enumerate() {
        let mut target_of = |link: &LinkReading| {
            let LinkTarget::Name(name) = &link.target else { return index.target(at, file, link) };
            let key = (folder(&file.path).to_owned(), name.clone());
            // Only a name stands for the same in a whole folder; an empty one is the note itself.
            if name.is_empty() {
                return Target::File(at);
            }
            *known.entry(key).or_insert_with(|| index.target(at, file, link))
        };
        let targets = FileTargets {
            memory: file.memory.links.iter().map(&mut target_of).collect(),
            tasks: file.tasks.iter().map(|task| task.links.iter().map(&mut target_of).collect()).collect(),
        };
        resolution.count(file, &targets.memory);
        resolution.files.push(targets);
    }
    resolution
}

pub(crate) fn folder(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Resolution {
    fn count(&mut self, file: &FileReading, targets: &[Target]) {
        for (link, target) in file.memory.links.iter().zip(targets) {
            match target {
                Target::File(_) | Target::Memory(_) => self.resolved += 1,
                Target::Attachment => self.attachments += 1,
                Target::Unresolved if link.form == LinkForm::Tag => {}
                Target::Unresolved => {
                    let name = match &link.target {
                        LinkTarget::Name(name) => name.clone(),
                        LinkTarget::Block(id) => format!("(({id}))"),
                        LinkTarget::Memory(id) => id.to_string(),
                    };
                    self.unresolved.push(Unresolved { path: file.path.clone(), line: link.line, name });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::read;
    use crate::vault::{FileText, Flavour, Settings};

    fn vault(flavour: Flavour, files: &[(&str, &str)]) -> VaultReading {
        let settings = Settings::plain(flavour);
        let file = |(path, text): &(&str, &str)| FileText {
            path: (*path).into(),
            text: (*text).into(),
            digest: String::new(),
            size: 0,
            modified: None,
        };
        let files = files.iter().map(|entry| read(&file(entry), &settings)).collect();
        VaultReading { settings, files, attachments: vec!["Pics/oak.jpg".into()], problems: Vec::new() }
    }

    /// What the links of the first file point to.
    fn targets(flavour: Flavour, files: &[(&str, &str)]) -> Vec<String> {
        let reading = vault(flavour, files);
        let resolution = resolve(&reading);
        resolution.files[0]
            .memory
            .iter()
            .map(|target| match target {
                Target::File(index) => reading.files[*index].path.clone(),
                Target::Memory(id) => id.to_string(),
                Target::Attachment => "attachment".into(),
                Target::Unresolved => "-".into(),
            })
            .collect()
    }

    #[test]
    fn names_are_found_whatever_their_case_or_form() {
        let files = [
            (
                "a.md",
                "[[LÄDER]] [[la\u{308}der]] [[The Log]] [[Boss]] [[wood/läder#x|y]] [[oak.jpg]] [[none]] [[#here]]",
            ),
            ("Wood/Läder.md", "x"),
            ("b.md", "---\ntitle: The log\naliases: [Boss]\n---\n"),
        ];
        assert_eq!(
            targets(Flavour::Obsidian, &files),
            ["Wood/Läder.md", "Wood/Läder.md", "b.md", "b.md", "Wood/Läder.md", "attachment", "-", "a.md"]
        );
    }

    #[test]
    fn of_several_the_nearest_wins() {
        let files = [
            ("x/a.md", "[[Oak]] [[oak]] [[Elm]] [[y/Oak]] [[../z/Elm.md]] [e](../y/Oak.md)"),
            ("Elm.md", ""),
            ("x/Oak.md", ""),
            ("y/Oak.md", ""),
            ("y/oak.md", ""),
            ("z/Elm.md", ""),
        ];
        assert_eq!(
            targets(Flavour::Plain, &files),
            ["x/Oak.md", "y/oak.md", "Elm.md", "y/Oak.md", "z/Elm.md", "y/Oak.md"]
        );
    }

    #[test]
    fn logseq_pages_are_found_by_title_date_and_old_file_names() {
        let files = [
            (
                "pages/a.md",
                "- [[term/page]] [[Sep 20th, 2020]] [[2020-09-20]] [[New?]] [[how to]] [[a.b/c]] #docs [[x/y]]",
            ),
            ("journals/2020_09_20.md", ""),
            ("pages/New%3F.md", ""),
            ("pages/docs.md", ""),
            ("pages/how_to.md", ""),
            ("pages/term___page.md", ""),
            ("pages/x.y.md", ""),
        ];
        assert_eq!(
            targets(Flavour::Logseq, &files),
            [
                "pages/term___page.md",
                "journals/2020_09_20.md",
                "journals/2020_09_20.md",
                "pages/New%3F.md",
                "pages/how_to.md",
                "-",
                "pages/x.y.md",
                "pages/docs.md",
            ]
        );
    }

    #[test]
    fn block_references_lead_to_the_page_of_the_block() {
        let id = "60ab6f5b-4bdc-4ef0-a0f8-6cad9dcad2b2";
        let first = format!("- see (({id}))");
        let second = format!("- here\n  id:: {id}");
        let files = [("pages/a.md", first.as_str()), ("pages/b.md", second.as_str())];
        assert_eq!(targets(Flavour::Logseq, &files), ["pages/b.md"]);
    }
}
