//! Spells a filter the way Qdrant, embedded or server, reads it.

use serde_json::{Value, json};

use super::points::key;
use crate::query::{Filter, Period};

/// The filter as Qdrant's JSON; none when it leaves nothing out.
pub(super) fn conditions(filter: &Filter) -> Option<Value> {
    let mut must = Vec::new();
    if !filter.kinds.is_empty() {
        must.push(json!({ "key": key::KIND, "match": { "any": filter.kinds } }));
    }
    for tag in &filter.tags {
        must.push(json!({ "key": key::TAGS, "match": { "value": tag } }));
    }
    for memory in &filter.linked_to {
        must.push(json!({ "key": key::LINKS, "match": { "value": memory } }));
    }
    if let Some(truth) = filter.truth_at_least {
        must.push(json!({ "key": key::TRUTH, "range": { "lte": truth.level() } }));
    }
    for (key, period) in [(key::CREATED, filter.created), (key::UPDATED, filter.updated), (key::WHEN, filter.when)]
    {
        if !period.is_open() {
            must.push(json!({ "key": key, "range": range(period) }));
        }
    }
    let must_not: Vec<Value> = (!filter.include_archived)
        .then(|| json!({ "key": key::ARCHIVED, "match": { "value": true } }))
        .into_iter()
        .collect();
    (!must.is_empty() || !must_not.is_empty()).then(|| json!({ "must": must, "must_not": must_not }))
}

fn range(period: Period) -> Value {
    json!({
        "gte": period.from.map(|from| from.timestamp_millis()),
        "lt": period.until.map(|until| until.timestamp_millis()),
    })
}
