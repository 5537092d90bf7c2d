//! One generation of an index: a collection on a server.

use prost::Message;
use qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use qdrant_client::qdrant::{
    CollectionInfo, CountPoints, DeletePoints, GetPoints, PointStruct, PointsIdsList, PointsOperationResponse,
    PointsSelector, Query, QueryBatchPoints, QueryPoints, ScoredPoint, ScrollPoints, UpdateStatus, UpsertPoints,
    VectorInput, WriteOrdering, WriteOrderingType, query, vector_input,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::{Server, layout, wire};
use crate::index::engine::{Entry, Near, Page, Question, Sides};
use crate::index::filter::{Condition, Test};
use crate::index::layout::{BM25, DENSE, Identity};
use crate::index::points::key;
use crate::index::{SearchError, Stats};

/// How many points one request writes at most.
pub const UPSERT_POINTS: usize = 256;

/// How many bytes one request to write has at most, unless a single point has more. Servers and what stands before
/// them take 4 MiB without being told to.
pub const UPSERT_BYTES: usize = 2 * 1024 * 1024;

/// How many points one request deletes at most.
pub const DELETE_POINTS: usize = 10_000;

/// The point that says what the collection was made with and how far it has got. It names no tenant, so nothing that
/// is asked of the collection, which always names one, meets it.
const LABEL: Uuid = Uuid::from_u128(0xca17_0000_0000_8000_8000_0000_0000_0001);

/// How far a collection has got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The version of the projection that fills it.
    pub version: u32,
    /// The position in the log up to which everything is in it.
    pub position: u64,
}

/// What stands in [`LABEL`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Label {
    made_with: Identity,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    checkpoint: Option<Checkpoint>,
}

/// A collection that holds one generation of a brain's index.
#[derive(Debug, Clone)]
pub struct Collection {
    server: Server,
    /// Its name, or the alias.
    name: String,
    tenant: String,
    identity: Identity,
}

impl Collection {
    /// The name that the server knows it by, which may be the alias.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server that holds it.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// How far it has got; `None` before the first checkpoint.
    ///
    /// # Errors
    /// When the server cannot be had.
    pub async fn load_checkpoint(&self) -> Result<Option<Checkpoint>, SearchError> {
        Ok(self.label().await?.and_then(|label| label.checkpoint))
    }

    /// Notes how far it has got, durably, beside what it holds, so that whoever fills it next finds it. Everything
    /// applied so far has been acknowledged by the server, so a position that was applied may be noted at once.
    ///
    /// # Errors
    /// When the server cannot be had; the earlier checkpoint or this one holds then.
    pub async fn save_checkpoint(&self, checkpoint: Checkpoint) -> Result<(), SearchError> {
        self.write_label(Some(checkpoint)).await
    }

    /// Opens a generation, or makes it, or finishes making it.
    pub(in crate::index) async fn open(
        server: &Server,
        generation: u64,
        identity: Identity,
    ) -> Result<Self, SearchError> {
        let collection = Self::named(server, server.collection(generation), identity);
        let info = match server.info(&collection.name).await {
            Err(SearchError::Gone { .. }) => collection.create().await?,
            known => known?,
        };
        let label = collection.label().await?;
        collection.check(&info, label.as_ref())?;
        collection.index_fields(&info).await?;
        if label.is_none() {
            collection.write_label(None).await?;
        }
        Ok(collection)
    }

    /// Opens the generation that serves, by the alias.
    pub(in crate::index) async fn open_serving(
        server: &Server,
        identity: Identity,
    ) -> Result<Option<Self>, SearchError> {
        let collection = Self::named(server, server.alias(), identity);
        let info = match server.info(&collection.name).await {
            Err(SearchError::Gone { .. }) => return Ok(None),
            known => known?,
        };
        let label = collection.label().await?;
        collection.check(&info, label.as_ref())?;
        Ok(Some(collection))
    }

    fn named(server: &Server, name: String, identity: Identity) -> Self {
        Self { server: server.clone(), name, tenant: server.brain().to_string(), identity }
    }

    /// Makes the collection, without its label: until that is written, it counts as half made.
    async fn create(&self) -> Result<CollectionInfo, SearchError> {
        let mut client = self.server.collections();
        let create = client.create(layout::create(&self.name, &self.identity));
        // The request is large, with all that it can say; callers should not carry it around.
        let created = self.server.manage("making a collection", &self.name, Box::pin(create)).await;
        let done = created.and_then(|answer| self.server.done("making a collection", &answer));
        match done {
            Ok(()) => self.server.info(&self.name).await,
            // Another process may have been quicker.
            Err(error) => self.server.info(&self.name).await.map_err(|_| error),
        }
    }

    async fn index_fields(&self, info: &CollectionInfo) -> Result<(), SearchError> {
        for request in layout::missing_indexes(&self.name, info) {
            let mut client = self.server.points();
            let answer = client.create_field_index(request);
            self.applied("indexing a value", answer).await?;
        }
        Ok(())
    }

    /// Checks that it was made for what is configured.
    fn check(&self, info: &CollectionInfo, label: Option<&Label>) -> Result<(), SearchError> {
        let other = |found: String| {
            let (collection, expected) = (self.name.clone(), self.identity.to_string());
            Err(SearchError::OtherCollection { collection, found, expected })
        };
        match label {
            Some(label) if label.made_with != self.identity => other(label.made_with.to_string()),
            _ => layout::check(info, self.identity.dimensions).or_else(|found| other(found.to_owned())),
        }
    }

    async fn label(&self) -> Result<Option<Label>, SearchError> {
        let mut client = self.server.points();
        let get = client.get(GetPoints {
            collection_name: self.name.clone(),
            ids: vec![wire::point_id(LABEL)],
            with_payload: Some(true.into()),
            ..GetPoints::default()
        });
        let answer = self.server.manage("reading the checkpoint", &self.name, get).await?;
        let Some(point) = answer.result.into_iter().next() else { return Ok(None) };
        let stored = Value::Object(wire::stored(point.payload));
        serde_json::from_value(stored).map(Some).map_err(|error| SearchError::OtherCollection {
            collection: self.name.clone(),
            found: format!("a label that cannot be read ({error})"),
            expected: self.identity.to_string(),
        })
    }

    async fn write_label(&self, checkpoint: Option<Checkpoint>) -> Result<(), SearchError> {
        let label = Label { made_with: self.identity.clone(), checkpoint };
        let Ok(Value::Object(stored)) = serde_json::to_value(label) else {
            unreachable!("a label is a JSON object");
        };
        self.write("moving the checkpoint", vec![wire::bare_point(LABEL, stored)]).await
    }

    pub(in crate::index) async fn upsert(&self, entries: Vec<Entry>) -> Result<(), SearchError> {
        let mut part = Vec::new();
        let mut bytes = 0;
        for entry in entries {
            let point = wire::point(entry, &self.tenant);
            let length = point.encoded_len();
            if part.len() == UPSERT_POINTS || (bytes + length > UPSERT_BYTES && !part.is_empty()) {
                self.write("writing", std::mem::take(&mut part)).await?;
                bytes = 0;
            }
            bytes += length;
            part.push(point);
        }
        if part.is_empty() { Ok(()) } else { self.write("writing", part).await }
    }

    async fn write(&self, doing: &'static str, points: Vec<PointStruct>) -> Result<(), SearchError> {
        let mut client = self.server.points();
        let answer = client.upsert(UpsertPoints {
            collection_name: self.name.clone(),
            wait: Some(true),
            points,
            ordering: Some(in_order()),
            ..UpsertPoints::default()
        });
        self.applied(doing, answer).await
    }

    pub(in crate::index) async fn delete(&self, ids: &[Uuid]) -> Result<(), SearchError> {
        for part in ids.chunks(DELETE_POINTS) {
            let ids = PointsIdsList { ids: part.iter().map(|id| wire::point_id(*id)).collect() };
            let mut client = self.server.points();
            let answer = client.delete(DeletePoints {
                collection_name: self.name.clone(),
                wait: Some(true),
                points: Some(PointsSelector { points_selector_one_of: Some(PointsSelectorOneOf::Points(ids)) }),
                ordering: Some(in_order()),
                ..DeletePoints::default()
            });
            self.applied("deleting", answer).await?;
        }
        Ok(())
    }

    /// Waits for a write, and checks that it has been applied: that the server has only taken note of it, which it
    /// says when it takes too long, is not enough for a checkpoint to move.
    async fn applied(
        &self,
        doing: &'static str,
        answer: impl Future<Output = Result<tonic::Response<PointsOperationResponse>, tonic::Status>>,
    ) -> Result<(), SearchError> {
        let answer = self.server.manage(doing, &self.name, answer).await?;
        let status = answer.result.map(|result| result.status());
        match status {
            Some(UpdateStatus::Completed) => Ok(()),
            other => {
                let said = other.map_or("nothing", |status| status.as_str_name());
                Err(self.server.unavailable(doing, format!("the write is not applied yet: {said}")))
            }
        }
    }

    pub(in crate::index) async fn page(
        &self,
        filter: &[Condition],
        payload: bool,
        from: Option<Uuid>,
        limit: usize,
    ) -> Result<Page, SearchError> {
        let mut client = self.server.points();
        let scroll = client.scroll(ScrollPoints {
            collection_name: self.name.clone(),
            filter: Some(wire::filter(filter, &self.tenant)),
            offset: from.map(wire::point_id),
            limit: Some(u32::try_from(limit).unwrap_or(u32::MAX)),
            with_payload: Some(payload.into()),
            with_vectors: Some(false.into()),
            ..ScrollPoints::default()
        });
        let answer = self.server.manage("reading the index", &self.name, scroll).await?;
        let points = answer
            .result
            .into_iter()
            .filter_map(|point| Some((wire::uuid(point.id)?, wire::stored(point.payload))))
            .collect();
        Ok(Page { points, next: wire::uuid(answer.next_page_offset) })
    }

    /// Asks both sides in one request.
    pub(in crate::index) async fn nearest(&self, question: Question) -> Result<Sides, SearchError> {
        let Question { dense, words, filter, depth } = question;
        let ask = |using: &str, variant| QueryPoints {
            collection_name: self.name.clone(),
            query: Some(Query { variant: Some(query::Variant::Nearest(VectorInput { variant: Some(variant) })) }),
            using: Some(using.to_owned()),
            filter: Some(wire::filter(&filter, &self.tenant)),
            limit: Some(depth as u64),
            with_payload: Some(true.into()),
            ..QueryPoints::default()
        };
        let dense = dense.map(|vector| ask(DENSE, vector_input::Variant::Dense(wire::dense(vector))));
        let words = words.map(|words| ask(BM25, vector_input::Variant::Sparse(wire::sparse(words))));
        let (by_meaning, by_words) = (dense.is_some(), words.is_some());
        let query_points: Vec<_> = dense.into_iter().chain(words).collect();
        if query_points.is_empty() {
            return Ok(Sides::default());
        }
        let mut client = self.server.points();
        let name = self.name.clone();
        let asked = client.query_batch(QueryBatchPoints {
            collection_name: name,
            query_points,
            ..QueryBatchPoints::default()
        });
        let answer = self.server.read("searching", &self.name, asked).await?;
        let mut sides = answer.result.into_iter().map(|side| side.result.into_iter().filter_map(near).collect());
        let mut next = |asked: bool| asked.then(|| sides.next()).flatten().unwrap_or_default();
        Ok(Sides { dense: next(by_meaning), words: next(by_words) })
    }

    pub(in crate::index) async fn stats(&self) -> Result<Stats, SearchError> {
        let info = self.server.info(&self.name).await?;
        let points = self.count(&[]).await?;
        let indexed = usize::try_from(info.indexed_vectors_count()).unwrap_or(usize::MAX);
        Ok(Stats {
            memories: self.count(&[Condition { key: key::ORDINAL, test: Test::Number(0) }]).await?,
            points,
            // Every point counts as indexed once for its words, and again when it is in a graph.
            unindexed: (points * 2).saturating_sub(indexed).min(points),
            segments: usize::try_from(info.segments_count).unwrap_or(usize::MAX),
        })
    }

    async fn count(&self, filter: &[Condition]) -> Result<usize, SearchError> {
        let mut client = self.server.points();
        let count = client.count(CountPoints {
            collection_name: self.name.clone(),
            filter: Some(wire::filter(filter, &self.tenant)),
            exact: Some(true),
            ..CountPoints::default()
        });
        let answer = self.server.manage("counting", &self.name, count).await?;
        Ok(answer.result.map_or(0, |result| usize::try_from(result.count).unwrap_or(usize::MAX)))
    }
}

/// Writes go through one leader, in the order that they are sent: on a cluster they could overtake each other.
fn in_order() -> WriteOrdering {
    WriteOrdering { r#type: WriteOrderingType::Strong.into() }
}

fn near(point: ScoredPoint) -> Option<Near> {
    Some(Near { id: wire::uuid(point.id)?, score: point.score, payload: wire::stored(point.payload) })
}
