//! Names of fields, and what a name says about the field.

use std::fmt;
use std::marker::PhantomData;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::clock::Spelled;
use crate::id::MemoryId;

/// The longest field name, in bytes.
pub const MAX_FIELD_NAME_BYTES: usize = 200;

/// The name of a field of a memory.
///
/// Tags and links are fields too, so they have truth, provenance and merge for free:
/// `tag/<name>` and `link/<relation>/<memory>`, with the value `true` while they hold.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldName(Arc<str>);

/// What a field's name says about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FieldRole<'a> {
    /// The title or name, which every kind has.
    Title,
    /// The text, which merges instead of being replaced.
    Body,
    /// The memory's kind.
    Kind,
    /// Whether the memory is put away.
    Archived,
    /// A tag, by its name.
    Tag(&'a str),
    /// A link to another memory.
    Link {
        /// What the link means, such as `mentions` or `attendee`.
        relation: &'a str,
        /// The memory it points to.
        target: MemoryId,
    },
    /// A typed field of some kind, or a free one.
    Attribute(&'a str),
}

/// A text that cannot name a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFieldName {
    /// Empty, too long, or with control characters.
    #[error(
        "a field name has 1 to {MAX_FIELD_NAME_BYTES} bytes, no control characters and no white space at its ends: `{0}`"
    )]
    Shape(String),
    /// A slash where none belongs.
    #[error("`{0}` has a slash but is neither `tag/<name>` nor `link/<relation>/<memory id>`")]
    Slash(String),
}

impl FieldName {
    /// The title.
    pub fn title() -> Self {
        Self("title".into())
    }

    /// The body.
    pub fn body() -> Self {
        Self("body".into())
    }

    /// The kind.
    pub fn kind() -> Self {
        Self("kind".into())
    }

    /// Whether the memory is put away.
    pub fn archived() -> Self {
        Self("archived".into())
    }

    /// The field of a tag. Case and a leading `#` do not distinguish tags.
    ///
    /// # Errors
    /// When the name is empty, too long or holds a control character.
    pub fn tag(name: &str) -> Result<Self, InvalidFieldName> {
        format!("tag/{}", name.trim()).parse()
    }

    /// The field of a link to another memory.
    ///
    /// # Errors
    /// When the relation is empty, too long or holds a slash.
    pub fn link(relation: &str, target: MemoryId) -> Result<Self, InvalidFieldName> {
        format!("link/{}/{target}", relation.trim()).parse()
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the name says about the field.
    pub fn role(&self) -> FieldRole<'_> {
        match &*self.0 {
            "title" => FieldRole::Title,
            "body" => FieldRole::Body,
            "kind" => FieldRole::Kind,
            "archived" => FieldRole::Archived,
            name => structured(name).unwrap_or(FieldRole::Attribute(name)),
        }
    }
}

fn structured(name: &str) -> Option<FieldRole<'_>> {
    if let Some(tag) = name.strip_prefix("tag/") {
        return Some(FieldRole::Tag(tag));
    }
    let (relation, target) = name.strip_prefix("link/")?.rsplit_once('/')?;
    Some(FieldRole::Link { relation, target: target.parse().ok()? })
}

impl FromStr for FieldName {
    type Err = InvalidFieldName;

    fn from_str(name: &str) -> Result<Self, InvalidFieldName> {
        let shown = || name.chars().take(80).collect::<String>();
        let sound = !name.is_empty()
            && name.len() <= MAX_FIELD_NAME_BYTES
            && name.trim() == name
            && !name.chars().any(char::is_control);
        if !sound {
            return Err(InvalidFieldName::Shape(shown()));
        }
        // One thing has one spelling, whoever spells it: or it would have two values.
        let (valid, spelling) = match structured(name) {
            Some(FieldRole::Tag(tag)) => {
                let tag = tag.trim().trim_start_matches('#').trim_start().to_lowercase();
                (!tag.is_empty(), format!("tag/{tag}"))
            }
            Some(FieldRole::Link { relation, target }) => {
                let relation = relation.trim();
                (!relation.is_empty() && !relation.contains('/'), format!("link/{relation}/{target}"))
            }
            _ => (!name.contains('/'), name.to_owned()),
        };
        match valid {
            true if spelling.len() <= MAX_FIELD_NAME_BYTES => Ok(Self(spelling.into())),
            true => Err(InvalidFieldName::Shape(shown())),
            false => Err(InvalidFieldName::Slash(shown())),
        }
    }
}

impl fmt::Display for FieldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Serialize for FieldName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for FieldName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(Spelled(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nested_tag_is_one_tag() {
        let field = FieldName::tag("#Work/Cairn").expect("valid");
        assert_eq!(field.role(), FieldRole::Tag("work/cairn"));
    }

    #[test]
    fn one_thing_has_one_spelling() {
        for (given, meant) in [
            ("tag/Work", "tag/work"),
            ("tag/# Work", "tag/work"),
            ("link/a/01920B5E7C1A7D2E9D3F4A5B6C7D8E9F", "link/a/01920b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f"),
        ] {
            assert_eq!(given.parse::<FieldName>().expect("valid").as_str(), meant);
        }
        assert!("tag/#".parse::<FieldName>().is_err());
    }

    #[test]
    fn a_link_names_its_relation_and_target() {
        let target: MemoryId = "01920b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f".parse().expect("uuid");
        let field = FieldName::link("mentions", target).expect("valid");
        assert_eq!(field.role(), FieldRole::Link { relation: "mentions", target });
    }

    #[test]
    fn odd_names_are_refused() {
        for name in
            ["", " a", "a\n", "a/b", "tag/", "link/x/not-an-id", "link//01920b5e-7c1a-7d2e-9d3f-4a5b6c7d8e9f"]
        {
            assert!(name.parse::<FieldName>().is_err(), "{name:?}");
        }
    }
}
