//! Exporting: memories as they leave the brain.

use std::collections::BTreeMap;

use cairn_domain::claim::Authorship;
use cairn_domain::field::FieldRole;
use cairn_domain::id::MemoryId;
use cairn_domain::memory::Memory;
use cairn_interchange::export::{ExportedLink, ExportedMemory, ExportedProvenance};
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
        provenance: provenance(memory),
    }
}

/// Who said what: of each field the claim that won, of the body the last edit that counts.
fn provenance(memory: &Memory) -> BTreeMap<String, ExportedProvenance> {
    let said = |author: &Authorship| ExportedProvenance {
        truth: author.truth.level(),
        origin: author.origin.to_string(),
        at: time(author.hlc.millis),
    };
    let fields = memory.fields().iter().filter_map(|(name, claims)| {
        let claim = claims.effective().filter(|claim| !claim.value.is_empty())?;
        Some((name.to_string(), said(&claim.author)))
    });
    let body = memory.body().effective_edits().next_back().map(|edit| ("body".to_owned(), said(&edit.author)));
    fields.chain(body).collect()
}

fn time(millis: u64) -> String {
    let millis = i64::try_from(millis).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(millis).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}
