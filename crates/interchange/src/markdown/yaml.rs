//! YAML within bounds: a few bytes that stand for gigabytes are refused before they are unfolded.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess, Visitor};

/// The deepest nesting of lists and mappings.
pub const MAX_YAML_DEPTH: usize = 32;

/// The most scalars, lists and mappings of one document, aliases unfolded.
pub const MAX_YAML_NODES: usize = 200_000;

/// How many times larger than itself a document may get when its aliases are unfolded.
const MAX_AMPLIFICATION: usize = 2;

/// The most that [`scanning_cost`] may be; measured, that is a second at worst. A thousand links in one front
/// matter cost a hundredth of it.
const MAX_SCANNING_COST: usize = 1_000_000_000;

/// A YAML value without anchors and tags. Dates are texts, as YAML 1.2 has them.
#[derive(Debug, Clone, PartialEq)]
pub enum Yaml {
    /// Nothing.
    Null,
    /// Yes or no.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// Another finite number.
    Decimal(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Yaml>),
    /// Names and values in order; a name may come twice.
    Map(Vec<(String, Yaml)>),
}

/// Why a text is not read as YAML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum YamlError {
    /// Too many levels.
    #[error("it is nested deeper than {MAX_YAML_DEPTH} levels")]
    TooDeep,
    /// Too many values, or aliases that unfold to too much.
    #[error("it unfolds to more values than allowed")]
    TooBig,
    /// Not YAML; what the parser said.
    #[error("{0}")]
    Syntax(String),
}

/// Reads one YAML document.
///
/// # Errors
/// When it is no YAML, or is nested too deep or unfolds to too much.
pub fn parse_yaml(text: &str) -> Result<Yaml, YamlError> {
    if is_costly(text) {
        return Err(YamlError::TooBig);
    }
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Yaml::Null);
    }
    let budget = Budget {
        nodes: Cell::new(MAX_YAML_NODES.min(text.len() * MAX_AMPLIFICATION + 64)),
        bytes: Cell::new(text.len() * MAX_AMPLIFICATION + 4096),
        refusal: Cell::new(None),
    };
    let seed = Seed { budget: &budget, depth: 0 };
    seed.deserialize(serde_yaml_ng::Deserializer::from_str(text)).map_err(|error| match budget.refusal.take() {
        Some(refusal) => refusal,
        None => syntax_error(&error.to_string()),
    })
}

fn syntax_error(message: &str) -> YamlError {
    if message.contains("repetition limit") {
        return YamlError::TooBig;
    }
    if message.contains("recursion limit") {
        return YamlError::TooDeep;
    }
    YamlError::Syntax(message.chars().take(200).collect())
}

/// Whether a text would take too long to be read as YAML, whatever it says.
pub(crate) fn is_costly(text: &str) -> bool {
    scanning_cost(text) > MAX_SCANNING_COST
}

/// What finding the tokens may cost: the parser looks at every open bracket again for each token.
///
/// Which brackets are text can only be told by parsing, so all of them count as open to the end.
fn scanning_cost(text: &str) -> usize {
    let (mut open, mut tokens) = (0_usize, 1_usize);
    for byte in text.bytes() {
        open += usize::from(matches!(byte, b'[' | b'{'));
        tokens += usize::from(byte.is_ascii_punctuation() || byte == b'\n');
    }
    open.saturating_mul(tokens)
}

struct Budget {
    nodes: Cell<usize>,
    bytes: Cell<usize>,
    refusal: Cell<Option<YamlError>>,
}

impl Budget {
    fn spend<E: serde::de::Error>(&self, bytes: usize) -> Result<(), E> {
        match (self.nodes.get().checked_sub(1), self.bytes.get().checked_sub(bytes)) {
            (Some(nodes), Some(bytes)) => {
                self.nodes.set(nodes);
                self.bytes.set(bytes);
                Ok(())
            }
            _ => {
                self.refusal.set(Some(YamlError::TooBig));
                Err(E::custom("too big"))
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Seed<'a> {
    budget: &'a Budget,
    depth: usize,
}

impl Seed<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        self.budget.spend(0)?;
        if self.depth == MAX_YAML_DEPTH {
            self.budget.refusal.set(Some(YamlError::TooDeep));
            return Err(E::custom("too deep"));
        }
        Ok(Self { depth: self.depth + 1, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = Yaml;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Yaml, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = Yaml;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Yaml, E> {
        self.budget.spend(0).map(|()| Yaml::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, flag: bool) -> Result<Yaml, E> {
        self.budget.spend(0).map(|()| Yaml::Bool(flag))
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Yaml, E> {
        self.budget.spend(0).map(|()| Yaml::Integer(number))
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Yaml, E> {
        self.budget.spend(0)?;
        Ok(i64::try_from(number).map_or_else(|_| Yaml::Text(number.to_string()), Yaml::Integer))
    }

    fn visit_i128<E: serde::de::Error>(self, number: i128) -> Result<Yaml, E> {
        self.visit_string(number.to_string())
    }

    fn visit_u128<E: serde::de::Error>(self, number: u128) -> Result<Yaml, E> {
        self.visit_string(number.to_string())
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Yaml, E> {
        self.budget.spend(0)?;
        Ok(if number.is_finite() { Yaml::Decimal(number) } else { Yaml::Text(number.to_string()) })
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Yaml, E> {
        self.budget.spend(text.len()).map(|()| Yaml::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Yaml, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Yaml::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Yaml, A::Error> {
        let inner = self.deeper()?;
        let mut map = Vec::new();
        while let Some(key) = entries.next_key_seed(inner)? {
            let name = match key {
                Yaml::Text(name) => name,
                Yaml::Integer(number) => number.to_string(),
                Yaml::Decimal(number) => number.to_string(),
                Yaml::Bool(flag) => flag.to_string(),
                Yaml::Null => String::new(),
                Yaml::List(_) | Yaml::Map(_) => return Err(A::Error::custom("a property's name is a list")),
            };
            map.push((name, entries.next_value_seed(inner)?));
        }
        Ok(Yaml::Map(map))
    }

    /// A value with a tag of its own, `!place Lund`, is the value.
    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Yaml, A::Error> {
        let inner = self.deeper()?;
        let (_, variant) = tagged.variant::<String>()?;
        variant.newtype_variant_seed(inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_keep_their_types() {
        let yaml = parse_yaml("a: 1\nb: 1.5\nc: yes it is\nd: true\ne:\nf: 2026-11-21\ng: \"12\"\n1: x").unwrap();
        let Yaml::Map(map) = yaml else { panic!("a mapping") };
        let values: Vec<_> = map.iter().map(|(_, value)| value.clone()).collect();
        let text = |text: &str| Yaml::Text(text.into());
        assert_eq!(
            values,
            [
                Yaml::Integer(1),
                Yaml::Decimal(1.5),
                text("yes it is"),
                Yaml::Bool(true),
                Yaml::Null,
                text("2026-11-21"),
                text("12"),
                text("x"),
            ]
        );
        assert_eq!(map[7].0, "1");
    }

    #[test]
    fn tags_of_values_are_dropped() {
        assert_eq!(parse_yaml("a: !place Lund"), Ok(Yaml::Map(vec![("a".into(), Yaml::Text("Lund".into()))])));
    }

    #[test]
    fn aliases_that_stay_small_are_fine() {
        let yaml = parse_yaml("a: &home Lund\nb: *home").unwrap();
        assert_eq!(
            yaml,
            Yaml::Map(vec![("a".into(), Yaml::Text("Lund".into())), ("b".into(), Yaml::Text("Lund".into()))])
        );
    }

    #[test]
    fn bombs_are_refused() {
        let mut laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let uses = vec![format!("*a{}", level - 1); 10].join(", ");
            laughs.push_str(&format!("a{level}: &a{level} [{uses}]\n"));
        }
        assert_eq!(parse_yaml(&laughs), Err(YamlError::TooBig));
        let long = format!("a: &a {}\nb: [{}]", "x".repeat(10_000), vec!["*a"; 1_000].join(", "));
        assert_eq!(parse_yaml(&long), Err(YamlError::TooBig));
        assert_eq!(parse_yaml(&"[".repeat(1_000_000)), Err(YamlError::TooBig));
        assert_eq!(parse_yaml(&"[".repeat(1_000)), Err(YamlError::TooDeep));
        assert_eq!(parse_yaml(&"- ".repeat(1_000)), Err(YamlError::TooDeep));
    }
}
