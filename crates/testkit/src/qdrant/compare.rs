//! Compares points with a filter and a vector, one by one, by the definitions that a server documents.

use std::collections::HashMap;

use ::qdrant_client::qdrant::condition::ConditionOneOf;
use ::qdrant_client::qdrant::r#match::MatchValue;
use ::qdrant_client::qdrant::value::Kind;
use ::qdrant_client::qdrant::vectors::VectorsOptions;
use ::qdrant_client::qdrant::vectors_config::Config;
use ::qdrant_client::qdrant::with_payload_selector::SelectorOptions;
use ::qdrant_client::qdrant::*;
use tonic::Status;

use super::Kept;

/// Whether payloads are asked for.
pub fn wants(selector: Option<&WithPayloadSelector>) -> bool {
    let options = selector.and_then(|selector| selector.selector_options.as_ref());
    matches!(options, Some(SelectorOptions::Enable(true)))
}

/// Refuses a filter on a value that has no index.
#[allow(clippy::result_large_err, reason = "the protocol's own type")]
pub fn has_indexes(kept: &Kept, filter: &Filter) -> Result<(), Status> {
    for condition in filter.must.iter().chain(&filter.must_not).chain(&filter.should) {
        let key = &field(condition).key;
        if !kept.indexes.iter().any(|index| index.field_name == *key) {
            return Err(Status::invalid_argument(format!("`{key}` is filtered by but has no index")));
        }
    }
    Ok(())
}

/// Refuses a point with vectors that the collection does not have.
#[allow(clippy::result_large_err, reason = "the protocol's own type")]
pub fn fits(kept: &Kept, point: &PointStruct) -> Result<(), Status> {
    let refuse = |what: &str| Err(Status::invalid_argument(format!("Wrong input: {what}")));
    for (name, vector) in vectors(point) {
        match vector {
            vector::Vector::Dense(dense) if Some(dense.data.len() as u64) != size(kept, name) => {
                return refuse("Vector dimension error");
            }
            vector::Vector::Dense(_) => {}
            vector::Vector::Sparse(sparse)
                if !is_sparse(kept, name) || sparse.indices.len() != sparse.values.len() =>
            {
                return refuse("Not existing vector name error");
            }
            vector::Vector::Sparse(sparse) => {
                let mut indices = sparse.indices.clone();
                indices.sort_unstable();
                indices.dedup();
                if indices.len() != sparse.indices.len() {
                    return refuse("indices: must be unique");
                }
            }
            _ => return refuse("another kind of vector"),
        }
    }
    Ok(())
}

/// The points nearest to a vector, best first.
#[allow(clippy::result_large_err, reason = "the protocol's own type")]
pub fn nearest(kept: &Kept, query: QueryPoints) -> Result<Vec<ScoredPoint>, Status> {
    let filter = query.filter.unwrap_or_default();
    has_indexes(kept, &filter)?;
    let using = query.using.unwrap_or_default();
    let Some(query::Variant::Nearest(VectorInput { variant: Some(wanted) })) =
        query.query.and_then(|query| query.variant)
    else {
        return Err(Status::unimplemented("another query than for the nearest"));
    };
    let scores: Vec<(f32, &PointStruct)> = match wanted {
        vector_input::Variant::Dense(wanted) if size(kept, &using) == Some(wanted.data.len() as u64) => {
            dense_scores(kept, &using, &wanted.data)
        }
        vector_input::Variant::Sparse(wanted) if is_sparse(kept, &using) => sparse_scores(kept, &using, &wanted),
        _ => return Err(Status::invalid_argument("Wrong input: Vector dimension error")),
    };
    let mut scores: Vec<_> = scores.into_iter().filter(|(_, point)| meets(point, &filter)).collect();
    scores.sort_by(|one, other| other.0.total_cmp(&one.0));
    let payload = wants(query.with_payload.as_ref());
    let scored = |(score, point): (f32, &PointStruct)| ScoredPoint {
        id: point.id.clone(),
        payload: if payload { point.payload.clone() } else { HashMap::new() },
        score,
        ..ScoredPoint::default()
    };
    Ok(scores.into_iter().take(query.limit.unwrap_or(10) as usize).map(scored).collect())
}

fn dense_scores<'a>(kept: &'a Kept, using: &str, wanted: &[f32]) -> Vec<(f32, &'a PointStruct)> {
    let length = |vector: &[f32]| vector.iter().map(|number| number * number).sum::<f32>().sqrt();
    let scored = |point: &'a PointStruct| {
        let vector::Vector::Dense(dense) = vector(point, using)? else { return None };
        let dot: f32 = dense.data.iter().zip(wanted).map(|(one, other)| one * other).sum();
        let lengths = length(&dense.data) * length(wanted);
        Some((if lengths == 0.0 { 0.0 } else { dot / lengths }, point))
    };
    kept.points.values().filter_map(scored).collect()
}

/// The product of the weights of the words in common, each multiplied by how rare the word is.
fn sparse_scores<'a>(kept: &'a Kept, using: &str, wanted: &SparseVector) -> Vec<(f32, &'a PointStruct)> {
    let known: Vec<(&PointStruct, HashMap<u32, f32>)> = kept
        .points
        .values()
        .filter_map(|point| {
            let vector::Vector::Sparse(sparse) = vector(point, using)? else { return None };
            Some((point, sparse.indices.iter().copied().zip(sparse.values.iter().copied()).collect()))
        })
        .collect();
    let all = known.len() as f32;
    let weights: Vec<(u32, f32)> = wanted
        .indices
        .iter()
        .zip(&wanted.values)
        .map(|(word, weight)| {
            let having = known.iter().filter(|(_, words)| words.contains_key(word)).count() as f32;
            (*word, weight * ((all - having + 0.5) / (having + 0.5) + 1.0).ln())
        })
        .collect();
    known
        .into_iter()
        .filter(|(_, words)| weights.iter().any(|(word, _)| words.contains_key(word)))
        .map(|(point, words)| {
            (weights.iter().map(|(word, weight)| weight * words.get(word).unwrap_or(&0.0)).sum(), point)
        })
        .collect()
}

/// Whether a point meets a filter.
pub fn meets(point: &PointStruct, filter: &Filter) -> bool {
    let holds = |condition: &Condition| holds(point, field(condition));
    filter.must.iter().all(holds)
        && !filter.must_not.iter().any(holds)
        && (filter.should.is_empty() || filter.should.iter().any(holds))
}

/// Of a list of values, any may meet a condition.
fn holds(point: &PointStruct, condition: &FieldCondition) -> bool {
    let Some(value) = point.payload.get(&condition.key) else { return false };
    match &value.kind {
        Some(Kind::ListValue(list)) => list.values.iter().any(|value| one_holds(value, condition)),
        _ => one_holds(value, condition),
    }
}

fn one_holds(value: &Value, condition: &FieldCondition) -> bool {
    let wanted = condition.r#match.as_ref().and_then(|wanted| wanted.match_value.as_ref());
    let matched = wanted.is_none_or(|wanted| match (wanted, &value.kind) {
        (MatchValue::Keyword(text), Some(Kind::StringValue(value))) => text == value,
        (MatchValue::Keywords(texts), Some(Kind::StringValue(value))) => texts.strings.contains(value),
        (MatchValue::Integer(number), Some(Kind::IntegerValue(value))) => number == value,
        (MatchValue::Boolean(flag), Some(Kind::BoolValue(value))) => flag == value,
        _ => false,
    });
    let within = condition.range.as_ref().is_none_or(|range| match value.kind {
        Some(Kind::IntegerValue(value)) => {
            let value = value as f64;
            range.gte.is_none_or(|from| value >= from)
                && range.gt.is_none_or(|from| value > from)
                && range.lt.is_none_or(|until| value < until)
                && range.lte.is_none_or(|until| value <= until)
        }
        _ => false,
    });
    matched && within
}

fn field(condition: &Condition) -> &FieldCondition {
    match condition.condition_one_of.as_ref() {
        Some(ConditionOneOf::Field(field)) => field,
        other => panic!("the double knows no such condition: {other:?}"),
    }
}

fn vectors(point: &PointStruct) -> impl Iterator<Item = (&str, &vector::Vector)> {
    let named = match point.vectors.as_ref().and_then(|vectors| vectors.vectors_options.as_ref()) {
        Some(VectorsOptions::Vectors(named)) => named,
        other => panic!("a point must have named vectors, if none: {other:?}"),
    };
    named.vectors.iter().map(|(name, vector)| (name.as_str(), vector.vector.as_ref().expect("a vector")))
}

fn vector<'a>(point: &'a PointStruct, using: &str) -> Option<&'a vector::Vector> {
    vectors(point).find(|(name, _)| *name == using).map(|(_, vector)| vector)
}

fn size(kept: &Kept, name: &str) -> Option<u64> {
    match kept.made.vectors_config.as_ref()?.config.as_ref()? {
        Config::ParamsMap(vectors) => Some(vectors.map.get(name)?.size),
        Config::Params(_) => None,
    }
}

fn is_sparse(kept: &Kept, name: &str) -> bool {
    kept.made.sparse_vectors_config.as_ref().is_some_and(|sparse| sparse.map.contains_key(name))
}
