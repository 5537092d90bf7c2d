//! How a collection is made, so that it is laid out as the index in a folder is, and how that is checked.

use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{
    CollectionInfo, CreateCollection, CreateFieldIndexCollection, Datatype, Distance, Modifier,
    OptimizersConfigDiff, SparseVectorConfig, SparseVectorParams, VectorParams, VectorParamsMap, VectorsConfig,
    WriteOrdering, WriteOrderingType,
};

use super::wire;
use crate::index::layout::{BM25, DENSE, FIELDS, Identity, indexing_threshold};
use crate::index::points::key;

/// The request that makes a collection. How often it is replicated, and what of it is kept in memory, is left to the
/// server's own configuration.
pub(super) fn create(name: &str, identity: &Identity) -> CreateCollection {
    let dense = VectorParams {
        size: identity.dimensions as u64,
        distance: Distance::Cosine.into(),
        datatype: Some(Datatype::Float32.into()),
        ..VectorParams::default()
    };
    let sparse = SparseVectorParams { modifier: Some(Modifier::Idf.into()), ..SparseVectorParams::default() };
    CreateCollection {
        collection_name: name.to_owned(),
        vectors_config: Some(VectorsConfig {
            config: Some(Config::ParamsMap(VectorParamsMap { map: [(DENSE.to_owned(), dense)].into() })),
        }),
        sparse_vectors_config: Some(SparseVectorConfig { map: [(BM25.to_owned(), sparse)].into() }),
        optimizers_config: Some(OptimizersConfigDiff {
            indexing_threshold: Some(indexing_threshold(identity.dimensions) as u64),
            ..OptimizersConfigDiff::default()
        }),
        // How rare a word is, is counted in each shard apart: with several, a search would rank otherwise than an
        // index in a folder does.
        shard_number: Some(1),
        ..CreateCollection::default()
    }
}

/// The requests that make the indexes of stored values that a collection lacks.
pub(super) fn missing_indexes(name: &str, info: &CollectionInfo) -> Vec<CreateFieldIndexCollection> {
    let fields = FIELDS.map(|(field, index)| (field, wire::field_index(index)));
    [(key::TENANT, wire::tenant_index())]
        .into_iter()
        .chain(fields)
        .filter(|(field, _)| !info.payload_schema.contains_key(*field))
        .map(|(field, (kind, params))| CreateFieldIndexCollection {
            collection_name: name.to_owned(),
            wait: Some(true),
            field_name: field.to_owned(),
            field_type: Some(kind.into()),
            field_index_params: Some(params),
            ordering: Some(WriteOrdering { r#type: WriteOrderingType::Strong.into() }),
            timeout: None,
        })
        .collect()
}

/// Checks that a collection has the two vectors, or says what it has instead.
pub(super) fn check(info: &CollectionInfo, dimensions: usize) -> Result<(), &'static str> {
    let params = info.config.as_ref().and_then(|config| config.params.as_ref());
    let dense = params.and_then(|params| match params.vectors_config.as_ref()?.config.as_ref()? {
        Config::ParamsMap(vectors) => vectors.map.get(DENSE),
        Config::Params(_) => None,
    });
    let sparse = params.and_then(|params| params.sparse_vectors_config.as_ref()?.map.get(BM25));
    match (dense, sparse) {
        (None, _) => Err("no vector for meaning"),
        (_, None) => Err("no vector for words"),
        (Some(dense), _) if dense.size != dimensions as u64 => Err("vectors of another size"),
        (Some(dense), _) if dense.distance() != Distance::Cosine => Err("another measure of distance"),
        (_, Some(sparse)) if sparse.modifier() != Modifier::Idf => {
            Err("words that are not weighed by their rarity")
        }
        _ => Ok(()),
    }
}
