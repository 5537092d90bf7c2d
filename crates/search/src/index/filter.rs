//! Spells a filter as conditions on stored values, which each engine then reads in its own way.

use serde_json::{Value, json};

use super::points::key;
use crate::query::{Filter, Period};

/// A condition on one stored value. Of a list of values, any may meet it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    pub(super) key: &'static str,
    pub(super) test: Test,
}

/// What is asked of the value. Times are milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Test {
    /// It is one of these texts.
    OneOf(Vec<String>),
    /// It is this number.
    Number(i64),
    /// It is at most this number.
    AtMost(i64),
    /// It is a number from the first, up to but without the second.
    Within(Option<i64>, Option<i64>),
    /// It is not `true`.
    NotTrue,
}

/// What a filter demands; nothing when it leaves nothing out.
pub(super) fn conditions(filter: &Filter) -> Vec<Condition> {
    let mut all = Vec::new();
    let mut demand = |key, test| all.push(Condition { key, test });
    if !filter.kinds.is_empty() {
        demand(key::KIND, Test::OneOf(filter.kinds.iter().map(|kind| kind.name().to_owned()).collect()));
    }
    for tag in &filter.tags {
        demand(key::TAGS, Test::OneOf(vec![tag.clone()]));
    }
    for memory in &filter.linked_to {
        demand(key::LINKS, Test::OneOf(vec![memory.to_string()]));
    }
    if let Some(truth) = filter.truth_at_least {
        demand(key::TRUTH, Test::AtMost(i64::from(truth.level())));
    }
    for (key, period) in [(key::CREATED, filter.created), (key::UPDATED, filter.updated), (key::WHEN, filter.when)]
    {
        if !period.is_open() {
            demand(key, within(period));
        }
    }
    if !filter.include_archived {
        demand(key::ARCHIVED, Test::NotTrue);
    }
    all
}

/// The conditions as the JSON that Qdrant Edge reads; none when there are none.
pub(super) fn json(conditions: &[Condition]) -> Option<Value> {
    let mut must = Vec::new();
    let mut must_not = Vec::new();
    for Condition { key, test } in conditions {
        match test {
            Test::OneOf(texts) => must.push(json!({ "key": key, "match": { "any": texts } })),
            Test::Number(number) => must.push(json!({ "key": key, "match": { "value": number } })),
            Test::AtMost(number) => must.push(json!({ "key": key, "range": { "lte": number } })),
            Test::Within(from, until) => must.push(json!({ "key": key, "range": { "gte": from, "lt": until } })),
            Test::NotTrue => must_not.push(json!({ "key": key, "match": { "value": true } })),
        }
    }
    (!conditions.is_empty()).then(|| json!({ "must": must, "must_not": must_not }))
}

fn within(period: Period) -> Test {
    Test::Within(
        period.from.map(|from| from.timestamp_millis()),
        period.until.map(|until| until.timestamp_millis()),
    )
}
