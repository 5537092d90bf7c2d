//! Spells points, filters and layouts as the server's messages, and reads them back.

use std::collections::HashMap;

use qdrant_client::qdrant::alias_operations::Action;
use qdrant_client::qdrant::condition::ConditionOneOf;
use qdrant_client::qdrant::r#match::MatchValue;
use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::point_id::PointIdOptions;
use qdrant_client::qdrant::value::Kind;
use qdrant_client::qdrant::vectors::VectorsOptions;
use qdrant_client::qdrant::{
    AliasOperations, BoolIndexParams, Condition as WireCondition, CreateAlias, DeleteAlias, DenseVector,
    FieldCondition, FieldType, Filter, IntegerIndexParams, KeywordIndexParams, ListValue, Match, NamedVectors,
    PayloadIndexParams, PointId, PointStruct, Range, RepeatedStrings, SparseVector, Struct, UuidIndexParams,
    Value as WireValue, Vector, Vectors, vector,
};
use qdrant_edge::SparseVector as Words;
use serde_json::Value;
use uuid::Uuid;

use crate::index::engine::{Entry, Payload};
use crate::index::filter::{Condition, Test};
use crate::index::layout::{BM25, DENSE, FieldIndex};
use crate::index::points::key;

/// One request that takes the alias from whatever it names to a collection.
pub(super) fn alias_switch(alias: &str, exists: bool, collection: &str) -> Vec<AliasOperations> {
    let delete = exists.then(|| Action::DeleteAlias(DeleteAlias { alias_name: alias.to_owned() }));
    let create =
        Action::CreateAlias(CreateAlias { collection_name: collection.to_owned(), alias_name: alias.to_owned() });
    delete.into_iter().chain([create]).map(|action| AliasOperations { action: Some(action) }).collect()
}

pub(super) fn point_id(id: Uuid) -> PointId {
    PointId { point_id_options: Some(PointIdOptions::Uuid(id.to_string())) }
}

/// The id of a point; none for a number, which would be somebody else's.
pub(super) fn uuid(id: Option<PointId>) -> Option<Uuid> {
    match id?.point_id_options? {
        PointIdOptions::Uuid(uuid) => uuid.parse().ok(),
        PointIdOptions::Num(_) => None,
    }
}

/// A chunk as a point of the brain's.
pub(super) fn point(entry: Entry, tenant: &str) -> PointStruct {
    let words = sparse(entry.words);
    let vectors = [(DENSE, vector::Vector::Dense(dense(entry.dense))), (BM25, vector::Vector::Sparse(words))];
    let mut payload = payload(entry.payload);
    payload.insert(key::TENANT.to_owned(), value(Value::from(tenant)));
    PointStruct {
        id: Some(point_id(entry.id)),
        payload,
        vectors: Some(named(vectors.into_iter().map(|(name, vector)| (name.to_owned(), vector)).collect())),
    }
}

/// A point that only stores something: without vectors, no search finds it.
pub(super) fn bare_point(id: Uuid, stored: Payload) -> PointStruct {
    PointStruct { id: Some(point_id(id)), payload: payload(stored), vectors: Some(named(HashMap::new())) }
}

fn named(vectors: HashMap<String, vector::Vector>) -> Vectors {
    let vectors = vectors
        .into_iter()
        .map(|(name, vector)| (name, Vector { vector: Some(vector), ..Vector::default() }))
        .collect();
    Vectors { vectors_options: Some(VectorsOptions::Vectors(NamedVectors { vectors })) }
}

pub(super) fn dense(data: Vec<f32>) -> DenseVector {
    DenseVector { data }
}

pub(super) fn sparse(words: Words) -> SparseVector {
    SparseVector { values: words.values, indices: words.indices }
}

/// What is stored beside a point, without what says whose it is.
pub(super) fn stored(payload: HashMap<String, WireValue>) -> Payload {
    payload.into_iter().filter(|(name, _)| name != key::TENANT).map(|(name, value)| (name, json(value))).collect()
}

fn payload(stored: Payload) -> HashMap<String, WireValue> {
    stored.into_iter().map(|(name, stored)| (name, value(stored))).collect()
}

fn value(json: Value) -> WireValue {
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(flag),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Kind::IntegerValue(integer),
            None => Kind::DoubleValue(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Kind::StringValue(text),
        Value::Array(values) => Kind::ListValue(ListValue { values: values.into_iter().map(value).collect() }),
        Value::Object(fields) => Kind::StructValue(Struct { fields: payload(fields) }),
    };
    WireValue { kind: Some(kind) }
}

fn json(value: WireValue) -> Value {
    match value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(flag)) => Value::Bool(flag),
        Some(Kind::IntegerValue(integer)) => Value::from(integer),
        Some(Kind::DoubleValue(number)) => Value::from(number),
        Some(Kind::StringValue(text)) => Value::String(text),
        Some(Kind::ListValue(list)) => Value::Array(list.values.into_iter().map(json).collect()),
        Some(Kind::StructValue(object)) => {
            Value::Object(object.fields.into_iter().map(|(name, value)| (name, json(value))).collect())
        }
    }
}

/// The conditions on points of one brain.
pub(super) fn filter(conditions: &[Condition], tenant: &str) -> Filter {
    let own = WireCondition::from(field(key::TENANT, Some(one_of(&[tenant.to_owned()])), None));
    let mut filter = Filter { must: vec![own], ..Filter::default() };
    for Condition { key, test } in conditions {
        let (wanted, range) = match test {
            Test::OneOf(texts) => (Some(one_of(texts)), None),
            Test::Number(number) => (Some(MatchValue::Integer(*number)), None),
            Test::AtMost(number) => (None, Some(Range { lte: Some(float(*number)), ..Range::default() })),
            Test::Within(from, until) => {
                (None, Some(Range { gte: from.map(float), lt: until.map(float), ..Range::default() }))
            }
            Test::NotTrue => {
                filter.must_not.push(field(key, Some(MatchValue::Boolean(true)), None).into());
                continue;
            }
        };
        filter.must.push(field(key, wanted, range).into());
    }
    filter
}

fn one_of(texts: &[String]) -> MatchValue {
    match texts {
        [text] => MatchValue::Keyword(text.clone()),
        texts => MatchValue::Keywords(RepeatedStrings { strings: texts.to_vec() }),
    }
}

/// The protocol's bounds are floating; levels and milliseconds of this age fit without loss.
#[allow(clippy::cast_precision_loss, reason = "milliseconds stay below 2^53 for 285,000 years")]
fn float(number: i64) -> f64 {
    number as f64
}

fn field(key: &str, wanted: Option<MatchValue>, range: Option<Range>) -> ConditionOneOf {
    ConditionOneOf::Field(FieldCondition {
        key: key.to_owned(),
        r#match: wanted.map(|wanted| Match { match_value: Some(wanted) }),
        range,
        ..FieldCondition::default()
    })
}

/// How a stored value is indexed.
pub(super) fn field_index(index: FieldIndex) -> (FieldType, PayloadIndexParams) {
    let number = |lookup| IntegerIndexParams {
        lookup: Some(lookup),
        range: Some(!lookup),
        enable_hnsw: Some(false),
        ..IntegerIndexParams::default()
    };
    let (kind, params) = match index {
        FieldIndex::Id => {
            let params = UuidIndexParams { enable_hnsw: Some(false), ..UuidIndexParams::default() };
            (FieldType::Uuid, IndexParams::UuidIndexParams(params))
        }
        FieldIndex::Equal => (FieldType::Integer, IndexParams::IntegerIndexParams(number(true))),
        FieldIndex::Between => (FieldType::Integer, IndexParams::IntegerIndexParams(number(false))),
        FieldIndex::Word => (FieldType::Keyword, IndexParams::KeywordIndexParams(KeywordIndexParams::default())),
        FieldIndex::Flag => {
            let params = BoolIndexParams { enable_hnsw: Some(false), ..BoolIndexParams::default() };
            (FieldType::Bool, IndexParams::BoolIndexParams(params))
        }
    };
    (kind, PayloadIndexParams { index_params: Some(params) })
}

/// How the name of the brain is indexed: the server keeps each tenant's points together.
pub(super) fn tenant_index() -> (FieldType, PayloadIndexParams) {
    let params = KeywordIndexParams { is_tenant: Some(true), ..KeywordIndexParams::default() };
    (FieldType::Keyword, PayloadIndexParams { index_params: Some(IndexParams::KeywordIndexParams(params)) })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_stored_comes_back_without_the_tenant() {
        let Value::Object(object) = json!({ "a": [1, -2], "b": { "c": null, "d": true }, "e": "text", "f": 0.5, "g": 1_700_000_000_000_i64 })
        else {
            unreachable!("it is an object");
        };
        let mut sent = payload(object.clone());
        sent.insert(key::TENANT.to_owned(), value(json!("somebody")));
        assert_eq!(stored(sent), object);
    }

    #[test]
    fn every_filter_names_the_tenant() {
        let all = filter(&[], "brain");
        assert_eq!((all.must.len(), all.must_not.len()), (1, 0));
        let some = filter(&[Condition { key: key::ARCHIVED, test: Test::NotTrue }], "brain");
        assert_eq!((some.must, some.must_not.len()), (all.must, 1));
    }
}
