//! Tasks: `- [ ] text`, and Logseq's and Org's `TODO text`.

use std::ops::Range;

use chrono::NaiveDate;

use super::code::CodeMask;
use super::properties::{bracketed_parts, floor_boundary};
use super::{Syntax, lines, links, list_item};
use crate::reading::dates::parse_day;

/// The most lines that belong to a task after its first.
const MAX_TASK_LINES: usize = 50;

/// The most of a task's first line that is looked at for dates and the like, in bytes.
const MAX_WORDS_BYTES: usize = 8 * 1024;

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Open.
    Todo,
    /// Begun.
    InProgress,
    /// Done.
    Completed,
    /// Given up.
    Cancelled,
}

impl Status {
    /// The word of the typed field `status`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Todo => "todo",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// How pressing a task is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// `🔽`, `⏬`, `[#C]`.
    Low,
    /// `🔼`, `[#B]`.
    Medium,
    /// `⏫`, `[#A]`.
    High,
    /// `🔺`.
    Urgent,
}

impl Priority {
    /// The word of the typed field `priority`.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Urgent => "urgent",
        }
    }
}

/// A task as it stands in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskItem {
    /// The line it starts on, counted from one at the start of the outline.
    pub line: usize,
    /// Its lines: the first one and those indented below it that are no items of their own.
    pub span: Range<usize>,
    /// Its first line's text after the marker.
    pub text: Range<usize>,
    /// What its marker says.
    pub status: Status,
}

/// What a task's words say.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskText {
    /// The words without dates, priorities, trailing tags and brackets. May be empty.
    pub title: String,
    /// How pressing it is, if it says.
    pub priority: Option<Priority>,
    /// The day it is due: `📅`, `due::`, `DEADLINE:`.
    pub due: Option<NaiveDate>,
    /// The day it is planned for: `⏳`, `scheduled::`, `SCHEDULED:`.
    pub scheduled: Option<NaiveDate>,
    /// The day before which it cannot start: `🛫`, `start::`.
    pub start: Option<NaiveDate>,
    /// The day it was made: `➕`, `created::`.
    pub created: Option<NaiveDate>,
    /// The day it was done: `✅`, `completion::`.
    pub completed: Option<NaiveDate>,
    /// The day it was given up: `❌`, `cancelled::`.
    pub cancelled: Option<NaiveDate>,
    /// How it repeats: `🔁 every week`, `.+1d`.
    pub repeat: Option<String>,
    /// Bracketed properties that are none of the above.
    pub others: Vec<(String, String)>,
}

pub(super) fn scan(text: &str, start: usize, mask: &CodeMask, syntax: Syntax) -> Vec<TaskItem> {
    let mut tasks: Vec<TaskItem> = Vec::new();
    let mut open: Option<(usize, usize)> = None;
    for line in lines(text, start..text.len(), 1) {
        let end = line.start + line.text.len();
        let indent = line.text.len() - line.text.trim_start().len();
        let Some(item) = list_item(line.text, syntax) else {
            open = open.filter(|(bullet, count)| {
                let deeper = indent > *bullet || syntax == Syntax::Org;
                !line.text.trim().is_empty() && deeper && *count < MAX_TASK_LINES
            });
            if let (Some((_, count)), Some(task)) = (&mut open, tasks.last_mut()) {
                *count += 1;
                task.span.end = end;
            }
            continue;
        };
        open = None;
        let content = &line.text[item.content..];
        let Some((status, words)) = marker(content, syntax) else { continue };
        if words.trim().is_empty() || mask.covers(line.start + item.bullet) {
            continue;
        }
        let from = end - words.len();
        tasks.push(TaskItem { line: line.number, span: line.start..end, text: from..end, status });
        open = Some((item.bullet, 0));
    }
    tasks
}

/// A task's status and the words after its marker.
fn marker(content: &str, syntax: Syntax) -> Option<(Status, &str)> {
    if syntax != Syntax::Org
        && let Some(rest) = content.strip_prefix('[')
    {
        let state = rest.chars().next()?;
        let words = rest[state.len_utf8()..].strip_prefix(']')?;
        // `[x](url)` is a link.
        return words.starts_with([' ', '\t']).then_some((checkbox(state), words));
    }
    if syntax == Syntax::Obsidian {
        return None;
    }
    let heading = content.trim_start_matches('#');
    let content = if heading.len() < content.len() { heading.strip_prefix(' ')? } else { content };
    let (word, words) = content.split_once(' ')?;
    let status = match word {
        "TODO" | "LATER" | "WAITING" | "WAIT" => Status::Todo,
        "DOING" | "NOW" | "IN-PROGRESS" => Status::InProgress,
        "DONE" => Status::Completed,
        "CANCELED" | "CANCELLED" => Status::Cancelled,
        _ => return None,
    };
    Some((status, words))
}

fn checkbox(state: char) -> Status {
    match state {
        'x' | 'X' => Status::Completed,
        '/' => Status::InProgress,
        '-' => Status::Cancelled,
        _ => Status::Todo,
    }
}

/// Reads a task's words and the lines below them.
pub fn read_task_text(words: &str, below: &str, syntax: Syntax) -> TaskText {
    let mut task = TaskText::default();
    let mut words = words[..floor_boundary(words, MAX_WORDS_BYTES)].to_owned();
    take_bracketed(&mut words, &mut task);
    take_priority(&mut words, &mut task);
    take_emoji(&mut words, &mut task);
    take_named_dates(&mut words, &mut task);
    for text in [below, words.clone().as_str()] {
        take_org_dates(text, &mut task);
    }
    for name in ["DEADLINE:", "SCHEDULED:"] {
        if let Some(at) = words.find(name) {
            words.truncate(at);
        }
    }
    task.title = title(&words, syntax);
    task
}

fn take_bracketed(words: &mut String, task: &mut TaskText) {
    for part in bracketed_parts(words).into_iter().rev() {
        let (name, value) =
            (words[part.name.clone()].trim().to_owned(), words[part.value.clone()].trim().to_owned());
        task.set(&name, &value);
        words.replace_range(part.whole, "");
    }
    task.others.reverse();
}

impl TaskText {
    /// Takes in a property of the task by its name, in any of the words in use for it.
    pub fn set(&mut self, name: &str, value: &str) {
        let plain = name.to_lowercase().replace([' ', '_'], "-");
        let day = parse_day(value);
        let slot = match plain.as_str() {
            "due" | "due-date" | "deadline" => &mut self.due,
            "scheduled" => &mut self.scheduled,
            "start" | "start-date" => &mut self.start,
            "created" | "created-at" => &mut self.created,
            "completion" | "completed" | "completed-at" | "done" | "done-at" => &mut self.completed,
            "cancelled" | "canceled" => &mut self.cancelled,
            "repeat" | "recurrence" => {
                self.repeat.get_or_insert_with(|| value.to_owned());
                return;
            }
            "priority" => {
                match priority_word(value) {
                    Some(priority) => self.priority = self.priority.or(Some(priority)),
                    None => self.others.push((name.to_owned(), value.to_owned())),
                }
                return;
            }
            _ => {
                self.others.push((name.to_owned(), value.to_owned()));
                return;
            }
        };
        match (day, &slot) {
            (Some(day), None) => *slot = Some(day),
            _ => self.others.push((name.to_owned(), value.to_owned())),
        }
    }
}

/// The priority that a word names.
pub(crate) fn priority_word(word: &str) -> Option<Priority> {
    Some(match word.trim().to_lowercase().as_str() {
        "urgent" | "highest" | "critical" | "p0" => Priority::Urgent,
        "high" | "a" | "p1" => Priority::High,
        "medium" | "normal" | "b" | "p2" => Priority::Medium,
        "low" | "lowest" | "c" | "p3" | "p4" => Priority::Low,
        _ => return None,
    })
}

fn take_priority(words: &mut String, task: &mut TaskText) {
    const SIGNS: [(&str, Priority); 8] = [
        ("[#A]", Priority::High),
        ("[#B]", Priority::Medium),
        ("[#C]", Priority::Low),
        ("🔺", Priority::Urgent),
        ("⏫", Priority::High),
        ("🔼", Priority::Medium),
        ("🔽", Priority::Low),
        ("⏬", Priority::Low),
    ];
    for (sign, priority) in SIGNS {
        if let Some(at) = words.find(sign) {
            task.priority = task.priority.or(Some(priority));
            words.replace_range(at..at + sign.len(), "");
        }
    }
}

/// The signs of Obsidian's Tasks plugin.
fn take_emoji(words: &mut String, task: &mut TaskText) {
    // The repetition comes first: it ends where the next sign stands.
    const SIGNS: [(&str, &str); 8] = [
        ("🔁", "repeat"),
        ("📅", "due"),
        ("🗓", "due"),
        ("⏳", "scheduled"),
        ("🛫", "start"),
        ("➕", "created"),
        ("✅", "completed"),
        ("❌", "cancelled"),
    ];
    for (sign, name) in SIGNS {
        let Some(at) = words.find(sign) else { continue };
        let rest = &words[at + sign.len()..];
        let skipped = rest.len() - rest.trim_start_matches(['\u{fe0f}', ' ']).len();
        let value = &rest[skipped..];
        let length = match name {
            "repeat" => {
                let signs = SIGNS.iter().map(|(sign, _)| *sign).chain([" #", " ^"]);
                signs.filter_map(|sign| value.find(sign)).min().unwrap_or(value.len())
            }
            _ => value.find(|char: char| !char.is_ascii_digit() && char != '-').unwrap_or(value.len()),
        };
        let value = value[..length].trim().to_owned();
        if name == "repeat" || parse_day(&value).is_some() {
            task.set(name, &value);
            words.replace_range(at..at + sign.len() + skipped + length, " ");
        }
    }
}

/// `due:: 2026-11-21` and `due:2026-11-21` without brackets.
fn take_named_dates(words: &mut String, task: &mut TaskText) {
    const NAMES: [&str; 5] = ["due:", "scheduled:", "deadline:", "completed:", "completion:"];
    const DAY: usize = 10;
    for name in NAMES {
        let Some(at) = find_ascii(words, name) else { continue };
        if words[..at].chars().next_back().is_some_and(char::is_alphanumeric) {
            continue;
        }
        let rest = words[at + name.len()..].trim_start_matches([':', ' ', '[']);
        let from = words.len() - rest.len();
        if let Some(value) = rest.get(..DAY).filter(|day| parse_day(day).is_some()) {
            task.set(name.trim_end_matches(':'), value);
            let after = &words[from + DAY..];
            let end = words.len() - after.trim_start_matches(']').len();
            words.replace_range(at..end, " ");
        }
    }
}

/// Finds an ASCII word whatever its case.
fn find_ascii(text: &str, word: &str) -> Option<usize> {
    text.as_bytes().windows(word.len()).position(|bytes| bytes.eq_ignore_ascii_case(word.as_bytes()))
}

/// `DEADLINE: <2026-11-21 Sat .+1d>` and `SCHEDULED: <…>`.
fn take_org_dates(text: &str, task: &mut TaskText) {
    for (name, key) in [("DEADLINE:", "due"), ("SCHEDULED:", "scheduled")] {
        let Some(stamp) = text.find(name).and_then(|at| text[at + name.len()..].trim_start().strip_prefix('<'))
        else {
            continue;
        };
        let stamp = stamp.split(['>', '\n']).next().unwrap_or_default();
        let mut parts = stamp.split_whitespace();
        if let Some(day) = parts.next().filter(|day| parse_day(day).is_some()) {
            task.set(key, day);
        }
        if let Some(repeat) = parts.find(|part| part.starts_with(['+', '.'])) {
            task.repeat.get_or_insert_with(|| repeat.to_owned());
        }
    }
}

fn title(words: &str, syntax: Syntax) -> String {
    let shown = links::shown(words, syntax);
    let mut parts: Vec<&str> = shown.split_whitespace().collect();
    // A block's id and tags at the end are about the task, not of it.
    while parts.len() > 1 && parts.last().is_some_and(|last| last.starts_with('^') || is_tag(last)) {
        parts.pop();
    }
    let title = parts.join(" ");
    let end = floor_boundary(&title, MAX_TITLE_BYTES);
    if end < title.len() { format!("{}…", title[..end].trim_end()) } else { title }
}

/// The longest title of a task, in bytes; the whole of it stays in the note's text.
const MAX_TITLE_BYTES: usize = 500;

fn is_tag(word: &str) -> bool {
    word.strip_prefix('#').is_some_and(|tag| {
        !tag.is_empty() && !tag.starts_with('#') && !tag.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str, syntax: Syntax) -> Vec<(Status, String)> {
        let outline = super::super::outline(text, 0, syntax);
        outline.tasks.into_iter().map(|task| (task.status, text[task.text].trim().to_owned())).collect()
    }

    fn day(text: &str) -> Option<NaiveDate> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn checkboxes_have_four_states() {
        let text =
            "- [ ] a\n* [x] b\n\t- [-] c\n1. [/] d\n> - [?] e\n- [x](url)\n- [ ]\n- []\n```\n- [ ] f\n```\n";
        let states: Vec<_> = found(text, Syntax::Obsidian).into_iter().map(|(status, _)| status).collect();
        assert_eq!(states, [Status::Todo, Status::Completed, Status::Cancelled, Status::InProgress, Status::Todo]);
    }

    #[test]
    fn markers_count_in_outlines_only() {
        let text = "- TODO a\n\t- NOW b\n- ### DONE c\n- WAIT d\n- CANCELED e\n- Todo f\n- TODOs g\n";
        assert_eq!(found(text, Syntax::Logseq).len(), 5);
        assert_eq!(found(text, Syntax::Obsidian), []);
        assert_eq!(found("** TODO a\n* DONE b\n", Syntax::Org).len(), 2);
    }

    #[test]
    fn the_tasks_plugin_is_understood() {
        let task = read_task_text(
            "Tar the [[Oak|keel]] ⏫ 🔁 every week 📅 2026-11-21 ✅ 2026-11-20 #boat ^x1",
            "",
            Syntax::Obsidian,
        );
        assert_eq!(task.title, "Tar the keel");
        assert_eq!((task.due, task.completed), (day("2026-11-21"), day("2026-11-20")));
        assert_eq!((task.priority, task.repeat.as_deref()), (Some(Priority::High), Some("every week")));
    }

    #[test]
    fn inline_properties_are_understood() {
        let task =
            read_task_text("Call [due:: 2026-11-21] #mum now [priority:: low] (who:: me)", "", Syntax::Obsidian);
        assert_eq!((task.title.as_str(), task.due), ("Call #mum now", day("2026-11-21")));
        assert_eq!((task.priority, task.others), (Some(Priority::Low), vec![("who".into(), "me".into())]));
        assert_eq!(read_task_text("Pay due:: 2026-11-21", "", Syntax::Obsidian).due, day("2026-11-21"));
        assert_eq!(read_task_text("Pay (Due: 2026-11-21)", "", Syntax::Obsidian).due, day("2026-11-21"));
    }

    #[test]
    fn logseq_writes_dates_below() {
        let text =
            "- LATER [#A] big thing\n  DEADLINE: <2026-11-21 Sat .+1d>\n  SCHEDULED: <2026-11-20 Fri>\n\t- child";
        let outline = super::super::outline(text, 0, Syntax::Logseq);
        let item = &outline.tasks[0];
        let task = read_task_text(&text[item.text.clone()], &text[item.text.end..item.span.end], Syntax::Logseq);
        assert_eq!((task.title.as_str(), task.priority), ("big thing", Some(Priority::High)));
        assert_eq!((task.due, task.scheduled), (day("2026-11-21"), day("2026-11-20")));
        assert_eq!(task.repeat.as_deref(), Some(".+1d"));
    }
}
