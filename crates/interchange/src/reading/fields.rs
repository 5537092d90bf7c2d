//! Properties as the typed and free fields of a kind.

use std::collections::HashSet;

use cairn_domain::field::{FieldName, FieldRole, MAX_FIELD_NAME_BYTES};
use cairn_domain::kind::{FieldType, Kind};
use cairn_domain::value::{MAX_LIST_ITEMS, MAX_TEXT_BYTES, Value};
use chrono::NaiveDate;

use super::Reader;
use super::dates::{day_of_name, parse_clock, parse_day, parse_time};
use super::kinds::is_name_of;
use super::properties::{Entry, Properties, plain};
use crate::markdown::{Yaml, floor_boundary, priority_word};
use crate::problem::ProblemCode;

/// What a name gets in front when its own name is that of a typed field that cannot hold its value.
const ASIDE: &str = "vault_";

/// The fields of a memory on their way.
struct Fields {
    kind: Kind,
    /// The day an event is on, for the times that it states.
    day: Option<NaiveDate>,
    list: Vec<(FieldName, Value)>,
    names: HashSet<FieldName>,
}

/// Maps properties onto the fields of a kind: typed ones where the value fits, else free ones. A blank property
/// says nothing and gives no field.
pub(super) fn map(
    reader: &mut Reader<'_>,
    kind: Kind,
    log_date: Option<NaiveDate>,
    key: &str,
    mut properties: Properties,
) -> Vec<(FieldName, Value)> {
    let day = (kind == Kind::Event).then(|| event_day(key, &properties)).flatten();
    let mut fields = Fields { kind, day, list: Vec::new(), names: HashSet::new() };
    if let Some(date) = log_date {
        fields.put("log_date", Value::Text(date.format("%Y-%m-%d").to_string()));
    }
    if !properties.aliases.is_empty() {
        properties.aliases.truncate(MAX_LIST_ITEMS);
        fields.put("aliases", Value::List(properties.aliases.into_iter().map(Value::Text).collect()));
    }
    // What bears a typed field's own name comes first, and `date` after what is more exact.
    properties.entries.sort_by_key(|entry| {
        let name = entry.plain_name();
        (!kind.fields().iter().any(|field| field.name == name), matches!(name.as_str(), "date" | "day" | "when"))
    });
    for entry in &properties.entries {
        fields.take(reader, entry);
    }
    if let Some(day) = fields.day {
        fields.put("start_time", Value::Text(day.format("%Y-%m-%dT00:00:00Z").to_string()));
    }
    fields.list
}

/// The day that an event's properties or the start of its name state.
fn event_day(key: &str, properties: &Properties) -> Option<NaiveDate> {
    let stated = properties
        .entries
        .iter()
        .filter(|entry| matches!(entry.plain_name().as_str(), "date" | "day" | "when" | "start_date"));
    let name = key.rsplit('/').next().unwrap_or(key);
    let stated = stated.flat_map(Entry::texts).find_map(|text| parse_day(&text));
    stated.or_else(|| name.get(..10).and_then(day_of_name))
}

impl Fields {
    /// Adds a field unless there is one of the name.
    fn put(&mut self, name: &str, value: Value) -> bool {
        let Some(name) = field_name(name) else { return false };
        let new = self.names.insert(name.clone());
        if new {
            self.list.push((name, value));
        }
        new
    }

    fn take(&mut self, reader: &mut Reader<'_>, entry: &Entry) {
        let name = entry.plain_name();
        let says_kind = matches!(name.as_str(), "kind" | "type") && entry.links.is_empty();
        let texts = entry.texts();
        if says_kind && matches!(texts.as_slice(), [word] if is_name_of(word, self.kind)) {
            return;
        }
        let Some((value, cut)) = value_of(&entry.value) else { return };
        if cut {
            reader.problem(
                ProblemCode::ValueTooLong,
                format!("`{}` is longer than a field may be and was cut", entry.name),
            );
        }
        if self.kind == Kind::Place && self.take_coordinates(&name, &texts) {
            return;
        }
        if let Some(typed) = typed_name(self.kind, &name)
            && let Some(value) = self.typed_value(typed, &texts)
            && self.put(typed, value)
        {
            return;
        }
        if self.is_in_start(&name, &texts) {
            return;
        }
        self.take_free(reader, entry, &name, value);
    }

    /// Whether a property is the day that went into an event's start beside its time.
    fn is_in_start(&self, name: &str, texts: &[String]) -> bool {
        matches!(name, "date" | "day" | "when")
            && self.day.is_some_and(|day| {
                let day = day.format("%Y-%m-%d").to_string();
                texts.len() == 1
                    && parse_day(&texts[0]).is_some_and(|other| other.to_string() == day)
                    && self.list.iter().any(|(name, value)| {
                        name.as_str() == "start_time" && value.as_text().is_some_and(|time| time.starts_with(&day))
                    })
            })
    }

    /// Keeps a property under its own name, or beside it when a typed field has that name.
    fn take_free(&mut self, reader: &mut Reader<'_>, entry: &Entry, plain_name: &str, value: Value) {
        let Some(own) = field_name(&entry.name) else {
            reader.problem(ProblemCode::PropertyNameInvalid, "a property without a usable name was left out");
            return;
        };
        let typed = self.kind.fields().iter().any(|field| field.name == own.as_str() || field.name == plain_name);
        let taken = !matches!(own.role(), FieldRole::Attribute(_)) || self.names.contains(&own);
        if !typed && !taken {
            self.put(own.as_str(), value);
            return;
        }
        let aside = (1..).map(|count| match count {
            1 => format!("{ASIDE}{own}"),
            _ => format!("{ASIDE}{own}_{count}"),
        });
        let free = aside.into_iter().find(|name| field_name(name).is_some_and(|name| !self.names.contains(&name)));
        if let Some(free) = free {
            let message = format!("`{own}` does not take `{}`; it was kept as `{free}`", short(&value.display()));
            reader.problem(ProblemCode::ValueDoesNotFit, message);
            self.put(&free, value);
        }
    }

    /// `coordinates: [55.7, 13.2]` or `"55.7, 13.2"`.
    fn take_coordinates(&mut self, name: &str, texts: &[String]) -> bool {
        if !matches!(name, "coordinates" | "location" | "geo" | "latlng" | "gps") {
            return false;
        }
        let numbers: Option<Vec<f64>> =
            texts.iter().flat_map(|text| text.split(',')).map(|part| part.trim().parse().ok()).collect();
        let Some([latitude, longitude]) =
            numbers.as_deref().and_then(|numbers| <[f64; 2]>::try_from(numbers).ok())
        else {
            return false;
        };
        let fits = latitude.abs() <= 90.0 && longitude.abs() <= 180.0;
        let free = field_name("latitude").is_some_and(|name| !self.names.contains(&name));
        fits && free
            && self.put("latitude", Value::Decimal(latitude))
            && self.put("longitude", Value::Decimal(longitude))
    }

    /// A property's value as the typed field takes it, if it can.
    fn typed_value(&self, typed: &str, texts: &[String]) -> Option<Value> {
        let field = self.kind.fields().iter().find(|field| field.name == typed)?;
        let one = texts.join(", ");
        let value = match field.kind {
            FieldType::Text => Value::Text(one.split_whitespace().collect::<Vec<_>>().join(" ")),
            FieldType::Texts => Value::List(texts.iter().map(|text| Value::Text(text.clone())).collect()),
            FieldType::Date => Value::Text(parse_day(&one)?.format("%Y-%m-%d").to_string()),
            FieldType::Time => Value::Text(parse_time(&one).or_else(|| {
                let time = self.day?.and_time(parse_clock(&one)?);
                Some(time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
            })?),
            FieldType::Number { .. } => Value::Decimal(one.parse().ok()?),
            FieldType::Choice(words) => Value::Text(choice(self.kind, typed, words, &one)?.to_owned()),
            FieldType::Flag => Value::Flag(one.parse().ok()?),
        };
        let name = field_name(typed)?;
        self.kind.check(&name, &value).ok().map(|()| value)
    }
}

fn short(text: &str) -> String {
    let end = floor_boundary(text, 80);
    if end < text.len() { format!("{}…", &text[..end]) } else { text.to_owned() }
}

/// The typed field that a property of this name fills.
fn typed_name(kind: Kind, name: &str) -> Option<&'static str> {
    let names: &[(&'static str, &[&str])] = match kind {
        Kind::Note => &[],
        Kind::Daily => &[("log_date", &[])],
        Kind::Task => &[
            ("status", &["state"]),
            ("priority", &[]),
            ("due_date", &["due", "deadline"]),
            ("completed_at", &["completed", "done", "completion"]),
            ("assigned_to", &["assignee", "assigned", "owner"]),
        ],
        Kind::Person => &[
            ("email", &["mail", "e_mail"]),
            ("phone", &["tel", "telephone", "mobile", "phone_number"]),
            ("organization", &["organisation", "org", "company", "employer"]),
            ("role", &["job", "position", "job_title", "occupation"]),
        ],
        Kind::Project => &[
            ("status", &["state"]),
            ("start_date", &["start", "started", "date"]),
            ("end_date", &["end", "ended", "deadline", "due", "due_date", "finished"]),
        ],
        Kind::Event => &[
            ("start_time", &["start", "start_date", "date", "day", "when", "time"]),
            ("end_time", &["end", "end_date"]),
            ("location", &["loc", "place", "where", "venue"]),
            ("attendees", &["people", "participants", "with", "who"]),
        ],
        Kind::Place => &[
            ("address", &[]),
            ("latitude", &["lat"]),
            ("longitude", &["lng", "lon", "long"]),
            ("place_type", &["type"]),
        ],
    };
    names.iter().find(|(typed, others)| *typed == name || others.contains(&name)).map(|(typed, _)| *typed)
}

/// The word of a choice that a word in use stands for.
fn choice(kind: Kind, field: &str, words: &'static [&'static str], text: &str) -> Option<&'static str> {
    let text = plain(text);
    if let Some(word) = words.iter().find(|word| **word == text) {
        return Some(word);
    }
    if field == "priority" {
        return priority_word(&text).map(crate::markdown::Priority::word);
    }
    let wanted: &[&str] = match text.as_str() {
        "done" | "complete" | "finished" | "shipped" | "closed" => &["completed"],
        "canceled" | "dropped" | "abandoned" => &["cancelled"],
        "doing" | "in_progress" | "ongoing" | "started" | "active" | "wip" | "now" => &["in_progress", "active"],
        "paused" | "waiting" | "someday" | "blocked" | "onhold" if kind == Kind::Project => &["on_hold"],
        "open" | "new" | "next" | "later" | "waiting" | "backlog" | "idea" | "planned" | "not_started" => {
            &["todo", "planning"]
        }
        "todo" => &["planning"],
        _ => return None,
    };
    words.iter().find(|word| wanted.contains(word)).copied()
}

/// A property's name as a field's name: without slashes and control characters, cut to length.
pub(super) fn field_name(name: &str) -> Option<FieldName> {
    let plain: String = name
        .chars()
        .map(|char| if char == '/' { '_' } else { char })
        .map(|char| if char.is_control() { ' ' } else { char })
        .collect();
    let plain = plain.trim();
    plain[..floor_boundary(plain, MAX_FIELD_NAME_BYTES)].trim().parse().ok()
}

/// A property's value as a field's value, and whether it had to be cut. Nothing for a blank one.
pub(super) fn value_of(value: &Yaml) -> Option<(Value, bool)> {
    match value {
        Yaml::Null | Yaml::Map(_) => None,
        Yaml::Bool(flag) => Some((Value::Flag(*flag), false)),
        Yaml::Integer(number) => Some((Value::Integer(*number), false)),
        Yaml::Decimal(number) => Some((Value::Decimal(*number), false)),
        Yaml::Text(text) => {
            let text = text.trim();
            let end = floor_boundary(text, MAX_TEXT_BYTES);
            (!text.is_empty()).then(|| (Value::Text(text[..end].to_owned()), end < text.len()))
        }
        Yaml::List(items) => {
            let (values, cuts): (Vec<_>, Vec<_>) = items.iter().filter_map(value_of).unzip();
            let cut = values.len() > MAX_LIST_ITEMS || cuts.contains(&true);
            let values: Vec<Value> = values.into_iter().take(MAX_LIST_ITEMS).collect();
            (!values.is_empty()).then_some((Value::List(values), cut))
        }
    }
}
