//! Listing a vault.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::load::Identity;
use super::{Flavour, MAX_DEPTH, MAX_FILES, Scan, Settings, VaultFile};
use crate::problem::{Problem, ProblemCode};
use crate::resolve::fold;

pub(super) fn walk(root: PathBuf, settings: Settings) -> Scan {
    let mut scan = Scan { root, settings, files: Vec::new(), attachments: Vec::new(), problems: Vec::new() };
    let mut templates = 0_usize;
    let entries = WalkDir::new(&scan.root)
        .follow_links(false)
        .max_depth(MAX_DEPTH)
        .sort_by_file_name()
        .min_depth(1)
        .into_iter()
        .filter_entry({
            let flavour = scan.settings.flavour;
            move |entry| !is_private(entry, flavour)
        });
    let root = scan.root.clone();
    for (count, entry) in entries.enumerate() {
        if count == MAX_FILES {
            let message = format!("the vault has more than {MAX_FILES} entries; the rest was left out");
            scan.problems.push(Problem::new(".", ProblemCode::TooManyFiles, message));
            break;
        }
        match entry {
            Ok(entry) => templates += usize::from(!scan.take(&root, &entry)),
            Err(error) => {
                let path = error.path().map_or_else(|| ".".to_owned(), |path| relative(&root, path));
                let message = "it cannot be read; check its permissions";
                scan.problems.push(Problem::new(&path, ProblemCode::Unreadable, message));
            }
        }
    }
    if let (Some(folder), true) = (&scan.settings.template_folder, templates > 0) {
        let message = format!("{templates} templates were left out, as they are forms and not notes");
        scan.problems.push(Problem::new(folder, ProblemCode::TemplatesSkipped, message));
    }
    report_case_clashes(&mut scan);
    scan
}

/// Hidden files, and what Logseq keeps for itself.
fn is_private(entry: &DirEntry, flavour: Flavour) -> bool {
    let name = entry.file_name().to_string_lossy();
    name.starts_with('.') || (flavour == Flavour::Logseq && entry.depth() == 1 && name == "logseq")
}

impl Scan {
    /// Files one entry away; false for a note that is a template.
    fn take(&mut self, root: &Path, entry: &DirEntry) -> bool {
        let path = relative(root, entry.path());
        let kind = entry.file_type();
        if kind.is_symlink() {
            let message = "a symbolic link, which is not followed; what it points to goes in under its own name if it is in the vault";
            self.problems.push(Problem::new(&path, ProblemCode::SymlinkSkipped, message));
        } else if kind.is_dir() {
            if entry.depth() == MAX_DEPTH {
                let message = format!("folders nested deeper than {MAX_DEPTH} are left out");
                self.problems.push(Problem::new(&path, ProblemCode::TooDeep, message));
            }
        } else if !is_note(&path, self.settings.flavour) {
            self.attachments.push(path);
        } else if !kind.is_file() {
            self.problems.push(Problem::new(&path, ProblemCode::NotAFile, "it is not a regular file"));
        } else if entry.path().to_str().is_none() {
            let message = "the file's name is not valid UTF-8; rename it";
            self.problems.push(Problem::new(&path, ProblemCode::InvalidFileName, message));
        } else if self.is_template(&path) {
            return false;
        } else {
            match entry.metadata() {
                Ok(metadata) => self.files.push(VaultFile {
                    path,
                    size: metadata.len(),
                    modified: metadata.modified().ok(),
                    identity: Identity::of(&metadata),
                }),
                Err(_) => self.problems.push(Problem::new(&path, ProblemCode::Unreadable, "it cannot be read")),
            }
        }
        true
    }

    fn is_template(&self, path: &str) -> bool {
        self.settings
            .template_folder
            .as_ref()
            .and_then(|folder| path.strip_prefix(folder.as_str()))
            .is_some_and(|rest| rest.starts_with('/'))
    }
}

fn is_note(path: &str, flavour: Flavour) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let Some((_, extension)) = name.rsplit_once('.') else { return false };
    extension.eq_ignore_ascii_case("md")
        || extension.eq_ignore_ascii_case("markdown")
        || (flavour == Flavour::Logseq && extension.eq_ignore_ascii_case("org"))
}

fn relative(root: &Path, path: &Path) -> String {
    let inside = path.strip_prefix(root).unwrap_or(path);
    inside.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

fn report_case_clashes(scan: &mut Scan) {
    let mut seen: HashMap<String, &str> = HashMap::with_capacity(scan.files.len());
    for file in &scan.files {
        if let Some(first) = seen.insert(fold(&file.path), &file.path) {
            let message = format!("its name differs from `{first}` in case alone; both went in");
            scan.problems.push(Problem::new(&file.path, ProblemCode::CaseClash, message));
        }
    }
}
