//! Exporting: memories as they leave the brain.

use std::collections::BTreeMap;

use cairn_domain::field::FieldRole;
use cairn_domain::id::MemoryId;
use cairn_domain::memory::Memory;
use cairn_interchange::export::{ExportedLink, ExportedMemory};
use chrono::{DateTime, SecondsFormat};

/// A memory as it leaves the brain; `titles` knows the memories it links to.
pub fn exported(memory: &Memory, titles: &BTreeMap<MemoryId, String>) -> ExportedMemory {
    let attributes = memory.fields().iter().filter_map(|(name, claims)| {
        let FieldRole::Attribute(name) = name.role() else { return None };
        let value = &claims.effective()?.value;
        (!value.is_empty()).then(|| (name.to_owned(), value.clone()))
    });
    let links = memory.links().map(|(relation, target, _)| ExportedLink {
        relation: relation.to_owned(),
        target,
        target_title: titles.get(&target).cloned().unwrap_or_default(),
    });
    ExportedMemory {
        id: memory.id(),
        kind: memory.kind(),
        title: memory.title().to_owned(),
        body: memory.body().text().to_owned(),
        fields: attributes.collect(),
        tags: memory.tags().map(|(tag, _)| tag.to_owned()).collect(),
        links: links.collect(),
        created_at: time(memory.created().map_or(0, |author| author.hlc.millis)),
        updated_at: time(memory.updated().millis),
        archived: memory.is_archived(),
    }
}

fn time(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(millis).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}
