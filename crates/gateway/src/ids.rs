//! The two spellings of an id.

use cairn_proto::event_store::client::{Uuid as WireUuid, uuid::Structured, uuid::Value};
use uuid::Uuid;

use crate::failure::Failure;

/// How a client wants ids spelt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Spelling {
    /// As text.
    Text,
    /// As two numbers.
    Structured,
}

/// Reads an id.
pub(crate) fn parse(id: Option<&WireUuid>) -> Result<Uuid, Failure> {
    match id.and_then(|id| id.value.as_ref()) {
        Some(Value::String(text)) => {
            Uuid::try_parse(text).map_err(|_| Failure::Invalid(format!("`{text:.50}` is not a UUID")))
        }
        Some(Value::Structured(halves)) => Ok(Uuid::from_u64_pair(
            halves.most_significant_bits.cast_unsigned(),
            halves.least_significant_bits.cast_unsigned(),
        )),
        None => Err(Failure::Invalid("an id is missing".into())),
    }
}

/// Writes an id.
pub(crate) fn write(id: Uuid, spelling: Spelling) -> WireUuid {
    let value = match spelling {
        Spelling::Text => Value::String(id.to_string()),
        Spelling::Structured => {
            let (most, least) = id.as_u64_pair();
            Value::Structured(Structured {
                most_significant_bits: most.cast_signed(),
                least_significant_bits: least.cast_signed(),
            })
        }
    };
    WireUuid { value: Some(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_say_the_same() {
        let id = Uuid::from_u128(0xf123_4567_89ab_cdef_8fed_cba9_8765_4321);
        for spelling in [Spelling::Text, Spelling::Structured] {
            assert_eq!(parse(Some(&write(id, spelling))).ok(), Some(id));
        }
        assert!(parse(None).is_err());
        assert!(parse(Some(&WireUuid { value: Some(Value::String("x".into())) })).is_err());
    }
}
