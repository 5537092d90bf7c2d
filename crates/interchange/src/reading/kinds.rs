//! What kind of memory a file is.

use cairn_domain::kind::Kind;
use chrono::NaiveDate;

use super::dates::day_of_name;
use super::properties::Properties;
use crate::resolve::fold;
use crate::vault::{Flavour, Settings};

/// A day's log by its place and name; else what its properties say; else what its folder says; else a note.
pub(super) fn infer(key: &str, properties: &Properties, settings: &Settings) -> (Kind, Option<NaiveDate>) {
    if let Some(day) = journal_day(key, properties, settings) {
        return (Kind::Daily, Some(day));
    }
    let by_property = properties.kind_words.iter().find_map(|word| kind_of_word(word));
    let kind = by_property.or_else(|| kind_of_folder(key)).unwrap_or(Kind::Note);
    // Without a day of its own, a note about days is a note.
    (if kind == Kind::Daily { Kind::Note } else { kind }, None)
}

fn journal_day(key: &str, properties: &Properties, settings: &Settings) -> Option<NaiveDate> {
    let (folder, name) = key.rsplit_once('/').unwrap_or(("", key));
    let stated = properties.kind_words.iter().any(|word| kind_of_word(word) == Some(Kind::Daily));
    let top = folder.split('/').next().unwrap_or_default();
    let journal = match settings.flavour {
        Flavour::Logseq => top == "journals",
        Flavour::Obsidian | Flavour::Plain => {
            let set = settings.daily_folder.as_deref().is_some_and(|daily| {
                daily == folder
                    || (!daily.is_empty() && folder.strip_prefix(daily).is_some_and(|rest| rest.starts_with('/')))
            });
            set || folder.split('/').any(|part| kind_of_folder_name(part) == Some(Kind::Daily))
        }
    };
    (journal || stated).then(|| day_of_name(name))?
}

/// The deepest folder whose name is that of a kind decides.
fn kind_of_folder(key: &str) -> Option<Kind> {
    let (folders, _) = key.rsplit_once('/')?;
    folders.rsplit('/').find_map(kind_of_folder_name)
}

fn kind_of_folder_name(folder: &str) -> Option<Kind> {
    // Numbers in front keep folders in order: `20 People`, `03-projects`.
    kind_of_word(
        folder.trim_start_matches(|char: char| char.is_ascii_digit() || matches!(char, ' ' | '-' | '_' | '.')),
    )
}

/// The kind that a word names, in the singular or the plural.
pub(super) fn kind_of_word(word: &str) -> Option<Kind> {
    Some(match fold(word.trim().trim_start_matches('#')).as_str() {
        "note" | "notes" => Kind::Note,
        "task" | "tasks" | "todo" | "todos" | "to-do" => Kind::Task,
        "person" | "persons" | "people" | "contact" | "contacts" => Kind::Person,
        "project" | "projects" => Kind::Project,
        "event" | "events" | "meeting" | "meetings" | "appointment" | "appointments" | "trip" | "trips" => {
            Kind::Event
        }
        "place" | "places" | "location" | "locations" => Kind::Place,
        "daily" | "dailies" | "daily note" | "daily notes" | "journal" | "journals" | "diary" | "day" => {
            Kind::Daily
        }
        _ => return None,
    })
}

/// Whether a word says no more than the kind itself does.
pub(super) fn is_name_of(word: &str, kind: Kind) -> bool {
    let word = fold(word.trim());
    word == kind.name()
        || word.strip_suffix('s') == Some(kind.name())
        || (kind == Kind::Person && word == "people")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(key: &str, words: &[&str], settings: &Settings) -> (Kind, Option<String>) {
        let properties =
            Properties { kind_words: words.iter().map(|word| (*word).into()).collect(), ..Properties::default() };
        let (kind, day) = infer(key, &properties, settings);
        (kind, day.map(|day| day.to_string()))
    }

    #[test]
    fn journals_are_dailies() {
        let day = |day: &str| (Kind::Daily, Some(day.to_owned()));
        let mut obsidian = Settings::plain(Flavour::Obsidian);
        assert_eq!(kind("Daily/2026/2026-11-21", &[], &obsidian), day("2026-11-21"));
        assert_eq!(kind("journals/2026_11_21", &[], &Settings::plain(Flavour::Logseq)), day("2026-11-21"));
        assert_eq!(kind("Log/2026-11-21", &[], &obsidian), (Kind::Note, None));
        obsidian.daily_folder = Some("Log".into());
        assert_eq!(kind("Log/2026-11-21", &[], &obsidian), day("2026-11-21"));
        assert_eq!(kind("Log/2026-11-21 walk", &["daily"], &obsidian), (Kind::Note, None));
        assert_eq!(kind("pages/2026-11-21", &[], &Settings::plain(Flavour::Logseq)), (Kind::Note, None));
    }

    #[test]
    fn a_property_counts_before_a_folder() {
        let plain = Settings::plain(Flavour::Plain);
        assert_eq!(kind("People/Åsa", &[], &plain).0, Kind::Person);
        assert_eq!(kind("20 People/Family/Åsa", &[], &plain).0, Kind::Person);
        assert_eq!(kind("People/Lund", &["Cities", "Places"], &plain).0, Kind::Place);
        assert_eq!(kind("Other/Lund", &["essay"], &plain).0, Kind::Note);
    }
}
