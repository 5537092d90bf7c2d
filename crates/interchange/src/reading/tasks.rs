//! The tasks of a file as memories of their own.

use std::collections::HashMap;

use cairn_domain::value::Value;
use chrono::NaiveDate;

use super::{LinkReading, MENTIONS, TaskReading, link_reading};
use crate::markdown::{
    Outline, PropertyPlace, Syntax, TaskText, inline_scalar, links_in, outline, read_task_text, shown,
};
use crate::reading::fields::{field_name, value_of};
use crate::vault::FileText;

/// Reads the tasks of an outline. `lines` is how many lines the outline's text starts after.
pub(super) fn read(
    file: &FileText,
    key: &str,
    outline: &Outline,
    syntax: Syntax,
    lines: usize,
) -> Vec<TaskReading> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut properties = outline.properties.iter().peekable();
    let mut links = outline.links.iter().peekable();
    let mut tasks = Vec::with_capacity(outline.tasks.len());
    for (index, item) in outline.tasks.iter().enumerate() {
        let below = &file.text[item.text.end..item.span.end];
        let mut words = read_task_text(&file.text[item.text.clone()], below, syntax);
        while let Some(property) = properties.next_if(|property| property.span.start < item.span.end) {
            // Those on the first line were read with the words.
            if property.place == PropertyPlace::Task(index) && property.span.start >= item.text.end {
                words.set(&property.name, &property.value);
            }
        }
        while links.next_if(|link| link.span.start < item.span.start).is_some() {}
        let mut own = Vec::new();
        while let Some(link) = links.next_if(|link| link.span.start < item.span.end) {
            own.push(link_reading(link, MENTIONS, lines + item.line));
        }
        if words.title.is_empty() {
            continue;
        }
        let normal = words.title.to_lowercase();
        let times = seen.entry(normal.clone()).and_modify(|times| *times += 1).or_insert(1);
        let key = format!("{key}#task/{normal}/{times}");
        let line = &file.text[item.span.clone()];
        tasks.push(task(key, words, item.status.word(), own, tags_of(line, syntax), lines + item.line));
    }
    tasks
}

fn tags_of(line: &str, syntax: Syntax) -> Vec<String> {
    outline(line, 0, syntax).tags
}

fn task(
    key: String,
    words: TaskText,
    status: &'static str,
    links: Vec<LinkReading>,
    tags: Vec<String>,
    line: usize,
) -> TaskReading {
    let day = |day: NaiveDate| Value::Text(day.format("%Y-%m-%d").to_string());
    let mut fields = Vec::new();
    let dates = [
        ("scheduled", words.scheduled),
        ("start", words.start),
        ("created", words.created),
        ("cancelled", words.cancelled),
    ];
    for (name, date) in dates {
        if let (Some(name), Some(date)) = (field_name(name), date) {
            fields.push((name, day(date)));
        }
    }
    if let (Some(name), Some(repeat)) = (field_name("repeat"), words.repeat) {
        fields.push((name, Value::Text(repeat)));
    }
    for (name, value) in words.others {
        let plain =
            if links_in(&value, Syntax::Obsidian).is_empty() { value } else { shown(&value, Syntax::Obsidian) };
        let free = if RESERVED.contains(&name.to_lowercase().as_str()) { format!("vault_{name}") } else { name };
        if let (Some(name), Some((value, _))) = (field_name(&free), value_of(&inline_scalar(&plain)))
            && fields.iter().all(|(other, _)| *other != name)
        {
            fields.push((name, value));
        }
    }
    TaskReading {
        key,
        title: words.title,
        status,
        priority: words.priority.map(crate::markdown::Priority::word),
        due_date: words.due,
        completed_at: words.completed.map(|day| day.format("%Y-%m-%dT00:00:00Z").to_string()),
        fields,
        tags,
        links,
        line,
    }
}

/// Names that a task's own property may not take: typed fields of a task and the fields every memory has.
const RESERVED: [&str; 9] =
    ["status", "priority", "due_date", "completed_at", "assigned_to", "title", "body", "kind", "archived"];
