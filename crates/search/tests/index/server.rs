//! What holds for an index on a server alone: its layout, its generations, its checkpoint, whose it is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use cairn_domain::kind::Kind;
use cairn_search::document::Document;
use cairn_search::embedder::StaticEmbedder;
use cairn_search::index::{ApiKey, Checkpoint, SearchError, SearchIndex, Server, Settings, UPSERT_POINTS};
use cairn_search::query::{Filter, Query};
use cairn_testkit::qdrant::Double;
use qdrant_client::qdrant::alias_operations::Action;
use qdrant_client::qdrant::payload_index_params::IndexParams;
use qdrant_client::qdrant::value::Kind as ValueKind;
use qdrant_client::qdrant::vectors_config::Config;
use qdrant_client::qdrant::{AliasOperations, Distance, FieldType, Modifier, PayloadIndexParams, Value};

use crate::stage::{Stage, new_brain, server, server_of, settings};
use crate::support::{at, document, found, memory, numbers, put, query};

async fn connect(server: &Server, generation: u64) -> Result<SearchIndex, SearchError> {
    SearchIndex::connect(server, generation, Arc::new(StaticEmbedder::new())).await
}

async fn serving(server: &Server) -> Option<SearchIndex> {
    SearchIndex::connect_serving(server, Arc::new(StaticEmbedder::new())).await.unwrap()
}

fn params(indexed: Option<&PayloadIndexParams>) -> &IndexParams {
    indexed.and_then(|params| params.index_params.as_ref()).unwrap()
}

#[tokio::test]
async fn a_collection_is_laid_out_as_the_index_in_a_folder() {
    let double = Double::start();
    let server = server(&double.url());
    connect(&server, 7).await.unwrap();
    let held = double.held();
    let kept = &held.collections[&format!("cairn-{}-7", server.brain())];

    let Some(Config::ParamsMap(dense)) = kept.made.vectors_config.as_ref().unwrap().config.as_ref() else {
        panic!("the vector has no name");
    };
    assert_eq!(dense.map.len(), 1);
    assert_eq!((dense.map["dense"].size, dense.map["dense"].distance()), (256, Distance::Cosine));
    let sparse = &kept.made.sparse_vectors_config.as_ref().unwrap().map;
    assert_eq!((sparse.len(), sparse["bm25"].modifier()), (1, Modifier::Idf));
    assert_eq!(kept.made.shard_number, Some(1));

    let indexes: BTreeMap<&str, _> = kept.indexes.iter().map(|index| (index.field_name.as_str(), index)).collect();
    let types: BTreeMap<&str, FieldType> =
        indexes.iter().map(|(name, index)| (*name, index.field_type())).collect();
    let expected = [
        ("archived", FieldType::Bool),
        ("created", FieldType::Integer),
        ("kind", FieldType::Keyword),
        ("links", FieldType::Uuid),
        ("memory", FieldType::Uuid),
        ("ordinal", FieldType::Integer),
        ("tags", FieldType::Keyword),
        ("tenant", FieldType::Keyword),
        ("truth", FieldType::Integer),
        ("updated", FieldType::Integer),
        ("when", FieldType::Integer),
    ];
    assert_eq!(types, BTreeMap::from(expected));
    assert!(kept.indexes.iter().all(|index| index.wait == Some(true)));
    let IndexParams::KeywordIndexParams(tenant) = params(indexes["tenant"].field_index_params.as_ref()) else {
        panic!("the tenant is a word");
    };
    assert_eq!(tenant.is_tenant, Some(true));
    let IndexParams::IntegerIndexParams(truth) = params(indexes["truth"].field_index_params.as_ref()) else {
        panic!("the truth is a number");
    };
    assert_eq!((truth.lookup, truth.range), (Some(false), Some(true)));
}

#[tokio::test]
async fn a_collection_that_was_left_half_made_is_finished() {
    let double = Double::start();
    let server = server(&double.url());
    connect(&server, 1).await.unwrap();
    {
        let mut held = double.held();
        let kept = held.collections.values_mut().next().unwrap();
        kept.points.clear();
        kept.indexes.truncate(3);
    }
    let index = connect(&server, 1).await.unwrap();
    {
        let held = double.held();
        let kept = held.collections.values().next().unwrap();
        assert_eq!((kept.points.len(), kept.indexes.len()), (1, 11));
    }
    index.apply(vec![put(document(1, "One", "alpha"))]).await.unwrap();
    assert_eq!(found(&index, "alpha").await, [1]);
}

#[tokio::test]
async fn the_alias_goes_over_to_another_generation_in_one_request() {
    let double = Double::start();
    let server = server(&double.url());
    assert_eq!((server.serving().await.unwrap(), server.generations().await.unwrap()), (None, vec![]));
    assert!(serving(&server).await.is_none());
    for (generation, word) in [(1, "alpha"), (2, "omega")] {
        let index = connect(&server, generation).await.unwrap();
        index.apply(vec![put(document(1, "One", word))]).await.unwrap();
    }
    server.serve(1).await.unwrap();
    let reader = serving(&server).await.unwrap();
    assert_eq!(found(&reader, "alpha").await, [1]);
    server.serve(2).await.unwrap();
    server.serve(2).await.unwrap();
    assert_eq!(found(&reader, "omega").await, [1]);
    assert!(found(&reader, "alpha").await.is_empty());
    assert_eq!((server.serving().await.unwrap(), server.generations().await.unwrap()), (Some(2), vec![1, 2]));

    let requests = std::mem::take(&mut double.held().alias_requests);
    let [first, second] = requests.as_slice() else { panic!("each switch is one request: {requests:?}") };
    assert!(matches!(first.actions.as_slice(), [AliasOperations { action: Some(Action::CreateAlias(_)) }]));
    let [
        AliasOperations { action: Some(Action::DeleteAlias(delete)) },
        AliasOperations { action: Some(Action::CreateAlias(create)) },
    ] = second.actions.as_slice()
    else {
        panic!("{second:?}");
    };
    let alias = format!("cairn-{}", server.brain());
    assert_eq!((delete.alias_name.as_str(), create.alias_name.as_str()), (alias.as_str(), alias.as_str()));
    assert_eq!(create.collection_name, format!("{alias}-2"));
}

#[tokio::test]
async fn a_generation_that_is_not_there_never_serves() {
    let double = Double::start();
    let server = server(&double.url());
    let index = connect(&server, 1).await.unwrap();
    server.serve(1).await.unwrap();
    let error = server.serve(9).await.unwrap_err();
    assert!(matches!(error, SearchError::Gone { .. }), "{error}");
    assert_eq!(server.serving().await.unwrap(), Some(1));
    server.delete(1).await.unwrap();
    server.delete(1).await.unwrap();
    assert_eq!((server.serving().await.unwrap(), server.generations().await.unwrap()), (None, vec![]));
    let error = index.search(&query("alpha")).await.unwrap_err();
    assert!(matches!(error, SearchError::Gone { .. }), "{error}");
    let error = index.apply(vec![put(document(1, "One", "alpha"))]).await.unwrap_err();
    assert!(matches!(error, SearchError::Gone { .. }) && error.to_string().contains("rebuild"), "{error}");
}

#[tokio::test]
async fn the_checkpoint_stays_with_the_collection_and_is_never_found() {
    let double = Double::start();
    let server = server(&double.url());
    let index = connect(&server, 1).await.unwrap();
    let empty = index.digest().await.unwrap();
    let collection = index.collection().unwrap();
    assert_eq!(collection.load_checkpoint().await.unwrap(), None);
    let checkpoint = Checkpoint { version: 3, position: 1 << 40 };
    collection.save_checkpoint(checkpoint).await.unwrap();
    assert_eq!(index.digest().await.unwrap(), empty);
    assert_eq!(index.stats().await.unwrap().points, 0);
    let everything =
        Query { filter: Filter { include_archived: true, ..Filter::default() }, ..query("checkpoint") };
    assert!(index.search(&everything).await.unwrap().hits.is_empty());

    let elsewhere = connect(&server_of(&double.url(), server.brain()), 1).await.unwrap();
    assert_eq!(elsewhere.collection().unwrap().load_checkpoint().await.unwrap(), Some(checkpoint));
    elsewhere.collection().unwrap().save_checkpoint(Checkpoint { version: 3, position: 2 }).await.unwrap();
    assert_eq!(collection.load_checkpoint().await.unwrap().unwrap().position, 2);
    let other = connect(&server, 2).await.unwrap();
    assert_eq!(other.collection().unwrap().load_checkpoint().await.unwrap(), None);
    let folder = Stage::folder();
    assert!(folder.index().await.collection().is_none());
}

#[tokio::test]
async fn brains_on_one_server_never_meet() {
    let double = Double::start();
    let (ours, theirs) = (server(&double.url()), server(&double.url()));
    let (one, two) = (connect(&ours, 1).await.unwrap(), connect(&theirs, 1).await.unwrap());
    one.apply(vec![put(document(1, "One", "alpha"))]).await.unwrap();
    two.apply(vec![put(document(2, "Two", "alpha"))]).await.unwrap();
    assert_eq!((found(&one, "alpha").await, found(&two, "alpha").await), (vec![1], vec![2]));
    assert_eq!(ours.generations().await.unwrap(), [1]);

    // Even a point of another brain in the same collection is not seen.
    let before = one.digest().await.unwrap();
    {
        let mut held = double.held();
        let stranger = Value { kind: Some(ValueKind::StringValue(new_brain().to_string())) };
        let kept = held.collections.get_mut(&ours.collection(1)).unwrap();
        let mut point = kept.points.values().last().unwrap().clone();
        point.payload.insert("tenant".to_owned(), stranger);
        kept.points.insert(uuid::Uuid::from_u128(5), point);
    }
    assert_eq!(one.digest().await.unwrap(), before);
    assert_eq!(one.stats().await.unwrap().memories, 1);
    assert_eq!(one.search(&query("alpha")).await.unwrap().hits[0].others, 0);
}

#[tokio::test]
async fn a_collection_of_another_layout_is_refused() {
    let double = Double::start();
    let server = server(&double.url());
    connect(&server, 1).await.unwrap();
    {
        let mut held = double.held();
        let kept = held.collections.values_mut().next().unwrap();
        kept.points.clear();
        let config = kept.made.vectors_config.as_mut().unwrap().config.as_mut().unwrap();
        let Config::ParamsMap(dense) = config else { panic!("the vector has no name") };
        dense.map.get_mut("dense").unwrap().size = 384;
    }
    let error = connect(&server, 1).await.unwrap_err();
    assert!(matches!(error, SearchError::OtherCollection { .. }), "{error}");
    assert!(double.held().collections.values().next().unwrap().points.is_empty(), "nothing was written into it");
}

#[tokio::test]
async fn a_server_with_a_key_is_given_it_and_nobody_else() {
    let double = Double::start();
    double.held().api_key = Some("right-key".to_owned());
    let with = |key: Option<&str>| {
        let api_key = key.map(|key| ApiKey::new(key).unwrap());
        Server::new(Settings { api_key, ..settings(&double.url()) }, new_brain()).unwrap()
    };
    for key in [None, Some("wrong-key")] {
        let server = with(key);
        let error = connect(&server, 1).await.unwrap_err();
        assert!(matches!(error, SearchError::Refused { .. }) && error.to_string().contains("key"), "{error}");
        assert!(!format!("{error} {error:?} {server:?}").contains("wrong-key"));
    }
    let server = with(Some("right-key"));
    let index = connect(&server, 1).await.unwrap();
    assert!(!format!("{index:?}").contains("right-key"));
    index.apply(vec![put(document(1, "One", "alpha"))]).await.unwrap();
    assert_eq!(found(&index, "alpha").await, [1]);
}

#[tokio::test]
async fn requests_stay_small_whatever_is_applied() {
    let double = Double::start();
    let index = connect(&server(&double.url()), 1).await.unwrap();
    let long = "Words enough to be cut into very many chunks of a usual size, one after the other. ".repeat(9_000);
    // A thousand chunks, then chunks so large that their number alone would not keep a request below what is taken.
    let large = "word ".repeat(2_000_000);
    index.apply(vec![put(document(1, "Long", &long)), put(document(2, "Large", &large))]).await.unwrap();
    let held = double.held();
    assert!(held.largest_write <= UPSERT_POINTS, "{}", held.largest_write);
    assert!(held.writes > 10, "{}", held.writes);
}

#[tokio::test]
async fn a_server_ranks_as_a_folder_does() {
    let stages = [Stage::folder(), Stage::double()];
    let (folder, double) = (stages[0].index().await, stages[1].index().await);
    let documents = corpus();
    for index in [&folder, &double] {
        index.apply(documents.iter().cloned().map(put).collect()).await.unwrap();
    }
    assert_eq!(folder.digest().await.unwrap(), double.digest().await.unwrap());
    let texts = [
        "rye flour starter",
        "how to keep plants alive",
        "Berlin in March",
        "who mends the bicycle",
        "Wasser für die Tomaten",
        "预算",
        "invoice 4711",
        "the sea and the lighthouse",
        "meeting about money",
        "bread",
    ];
    let filters = [
        Filter::default(),
        Filter { kinds: vec![Kind::Task, Kind::Event], ..Filter::default() },
        Filter { tags: vec!["even".to_owned()], include_archived: true, ..Filter::default() },
    ];
    let mut compared = 0;
    for text in texts {
        for filter in &filters {
            let query = Query { text: text.to_owned(), filter: filter.clone(), limit: 20 };
            let (one, other) = (folder.search(&query).await.unwrap(), double.search(&query).await.unwrap());
            assert_eq!(numbers(&one), numbers(&other), "{query:?}");
            for (one, other) in one.hits.iter().zip(&other.hits) {
                assert!((one.score - other.score).abs() < 1e-3, "{one:?} {other:?}");
                assert_eq!((&one.snippet, &one.range, one.others), (&other.snippet, &other.range, other.others));
            }
            compared += one.hits.len();
        }
    }
    assert!(compared > 200, "{compared}");
}

/// Memories of several kinds and languages, no two of the same words.
fn corpus() -> Vec<Document> {
    let texts = [
        "Feed the sourdough starter with rye flour every evening.",
        "Oil the chain of the bicycle and pump the tyres before the trip.",
        "The lighthouse keeper writes about the sea and the storm.",
        "Die Tomaten brauchen im Juli täglich Wasser.",
        "今天的会议讨论了明年的预算和新办公室。",
        "Invoice 4711 is due in March; call the bank about the money.",
        "Water the fern and the cactus, but not too much.",
        "Train to Berlin at nine, the museum in the afternoon.",
        "The meeting decided to spend less on travel.",
        "Bake the bread for forty minutes in a hot oven.",
    ];
    let mut documents = Vec::new();
    for round in 0..6u128 {
        for (place, text) in (0u128..).zip(texts) {
            let number = round * 10 + place + 1;
            let more = ["garden", "kitchen", "harbour", "office", "archive", "workshop"][round as usize];
            let body =
                format!("{text} {}", format!("It was in the {more}, item {number}. ").repeat(round as usize + 1));
            let mut document = document(number, &format!("Memory {number}"), &body);
            document.kind = Kind::ALL[number as usize % Kind::ALL.len()];
            document.tags = vec![if number.is_multiple_of(2) { "even" } else { "odd" }.to_owned()];
            document.links = vec![memory(number + 1)];
            document.archived = number.is_multiple_of(7);
            document.updated_at = at(i64::try_from(number).unwrap());
            documents.push(document);
        }
    }
    let numbers: BTreeSet<_> = documents.iter().map(|document| document.memory).collect();
    assert_eq!(numbers.len(), documents.len());
    documents
}
