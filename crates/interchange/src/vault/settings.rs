//! What a vault says about itself.

use std::path::Path;

use super::Flavour;

/// The largest settings file that is looked at, in bytes.
const MAX_SETTINGS_BYTES: u64 = 256 * 1024;

/// What a vault says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which program keeps it.
    pub flavour: Flavour,
    /// Obsidian's folder of daily notes, relative to the root; empty for the root itself.
    pub daily_folder: Option<String>,
    /// Obsidian's folder of templates, relative to the root.
    pub template_folder: Option<String>,
}

impl Settings {
    /// A vault without settings of its own.
    pub const fn plain(flavour: Flavour) -> Self {
        Self { flavour, daily_folder: None, template_folder: None }
    }

    pub(super) fn of(root: &Path, flavour: Option<Flavour>) -> Self {
        let flavour = flavour.unwrap_or_else(|| detect(root));
        if flavour != Flavour::Obsidian {
            return Self::plain(flavour);
        }
        // Obsidian puts daily notes into the root until told otherwise.
        let daily = folder_of(&root.join(".obsidian/daily-notes.json")).unwrap_or_default();
        let templates = folder_of(&root.join(".obsidian/templates.json")).filter(|folder| !folder.is_empty());
        Self { flavour, daily_folder: Some(daily), template_folder: templates }
    }
}

fn detect(root: &Path) -> Flavour {
    let has = |name: &str| root.join(name).is_dir();
    if has(".obsidian") {
        Flavour::Obsidian
    } else if root.join("logseq/config.edn").is_file() || (has("pages") && (has("journals") || has("logseq"))) {
        Flavour::Logseq
    } else {
        Flavour::Plain
    }
}

fn folder_of(path: &Path) -> Option<String> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > MAX_SETTINGS_BYTES {
        return None;
    }
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    Some(json.get("folder")?.as_str()?.trim_matches('/').to_owned())
}
