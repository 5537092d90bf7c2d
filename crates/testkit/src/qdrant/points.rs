//! Points: written, deleted, listed, counted and searched.

use ::qdrant_client::qdrant::points_selector::PointsSelectorOneOf;
use ::qdrant_client::qdrant::points_server::Points;
use ::qdrant_client::qdrant::*;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Fault, Held, Kept, Shared, compare};

macro_rules! points {
    ({ $($known:tt)* } $($unknown:ident: $asked:ty => $answer:ty;)*) => {
        #[tonic::async_trait]
        impl Points for Shared {
            $($known)*
            $(async fn $unknown(&self, _: Request<$asked>) -> Result<Response<$answer>, Status> {
                Err(Status::unimplemented(stringify!($unknown)))
            })*
        }
    };
}

points! {
    {
        async fn upsert(&self, request: Request<UpsertPoints>) -> Result<Response<PointsOperationResponse>, Status> {
            let UpsertPoints { collection_name, wait, points, ordering, .. } = request.into_inner();
            self.write(wait, ordering, points, |held, points| {
                held.largest_write = held.largest_write.max(points.len());
                put(held.collection(&collection_name)?, points)
            })
            .await
        }

        async fn delete(&self, request: Request<DeletePoints>) -> Result<Response<PointsOperationResponse>, Status> {
            let DeletePoints { collection_name, wait, points, ordering, .. } = request.into_inner();
            let Some(PointsSelectorOneOf::Points(list)) = points.and_then(|points| points.points_selector_one_of)
            else {
                return Err(Status::unimplemented("deleting by a filter"));
            };
            self.write(wait, ordering, list.ids, |held, ids| {
                let kept = held.collection(&collection_name)?;
                for id in ids {
                    kept.points.remove(&uuid(Some(&id))?);
                }
                Ok(())
            })
            .await
        }

        async fn get(&self, request: Request<GetPoints>) -> Result<Response<GetResponse>, Status> {
            let GetPoints { collection_name, ids, .. } = request.into_inner();
            let mut held = self.held();
            let kept = held.collection(&collection_name)?;
            let mut result = Vec::new();
            for id in ids {
                result.extend(kept.points.get(&uuid(Some(&id))?).map(|point| retrieved(point, true)));
            }
            Ok(Response::new(GetResponse { result, ..GetResponse::default() }))
        }

        async fn create_field_index(
            &self,
            request: Request<CreateFieldIndexCollection>,
        ) -> Result<Response<PointsOperationResponse>, Status> {
            let index = request.into_inner();
            let mut held = self.held();
            let kept = held.collection(&index.collection_name)?;
            kept.indexes.retain(|known| known.field_name != index.field_name);
            kept.indexes.push(index);
            Ok(completed(UpdateStatus::Completed))
        }

        async fn scroll(&self, request: Request<ScrollPoints>) -> Result<Response<ScrollResponse>, Status> {
            let request = request.into_inner();
            let mut held = self.held();
            let kept = held.collection(&request.collection_name)?;
            let filter = request.filter.unwrap_or_default();
            compare::has_indexes(kept, &filter)?;
            let from = request.offset.as_ref().map_or(Ok(Uuid::nil()), |offset| uuid(Some(offset)))?;
            let limit = request.limit.unwrap_or(10) as usize;
            let payload = compare::wants(request.with_payload.as_ref());
            let mut found = kept.points.range(from..).filter(|(_, point)| compare::meets(point, &filter));
            let result = found.by_ref().take(limit).map(|(_, point)| retrieved(point, payload)).collect();
            let next_page_offset = found.next().and_then(|(_, point)| point.id.clone());
            Ok(Response::new(ScrollResponse { next_page_offset, result, ..ScrollResponse::default() }))
        }

        async fn count(&self, request: Request<CountPoints>) -> Result<Response<CountResponse>, Status> {
            let request = request.into_inner();
            let mut held = self.held();
            let kept = held.collection(&request.collection_name)?;
            let filter = request.filter.unwrap_or_default();
            compare::has_indexes(kept, &filter)?;
            let count = kept.points.values().filter(|point| compare::meets(point, &filter)).count() as u64;
            Ok(Response::new(CountResponse { result: Some(CountResult { count }), ..CountResponse::default() }))
        }

        async fn query_batch(
            &self,
            request: Request<QueryBatchPoints>,
        ) -> Result<Response<QueryBatchResponse>, Status> {
            let request = request.into_inner();
            let mut held = self.held();
            let kept = held.collection(&request.collection_name)?;
            let answers: Result<Vec<_>, _> =
                request.query_points.into_iter().map(|query| compare::nearest(kept, query)).collect();
            let result = answers?.into_iter().map(|result| BatchResult { result }).collect();
            Ok(Response::new(QueryBatchResponse { result, ..QueryBatchResponse::default() }))
        }
    }
    update_vectors: UpdatePointVectors => PointsOperationResponse;
    delete_vectors: DeletePointVectors => PointsOperationResponse;
    set_payload: SetPayloadPoints => PointsOperationResponse;
    overwrite_payload: SetPayloadPoints => PointsOperationResponse;
    delete_payload: DeletePayloadPoints => PointsOperationResponse;
    clear_payload: ClearPayloadPoints => PointsOperationResponse;
    delete_field_index: DeleteFieldIndexCollection => PointsOperationResponse;
    create_vector_name: CreateVectorNameRequest => PointsOperationResponse;
    delete_vector_name: DeleteVectorNameRequest => PointsOperationResponse;
    search: SearchPoints => SearchResponse;
    search_batch: SearchBatchPoints => SearchBatchResponse;
    search_groups: SearchPointGroups => SearchGroupsResponse;
    recommend: RecommendPoints => RecommendResponse;
    recommend_batch: RecommendBatchPoints => RecommendBatchResponse;
    recommend_groups: RecommendPointGroups => RecommendGroupsResponse;
    discover: DiscoverPoints => DiscoverResponse;
    discover_batch: DiscoverBatchPoints => DiscoverBatchResponse;
    update_batch: UpdateBatchPoints => UpdateBatchResponse;
    query: QueryPoints => QueryResponse;
    query_groups: QueryPointGroups => QueryGroupsResponse;
    facet: FacetCounts => FacetResponse;
    search_matrix_pairs: SearchMatrixPoints => SearchMatrixPairsResponse;
    search_matrix_offsets: SearchMatrixPoints => SearchMatrixOffsetsResponse;
}

impl Shared {
    /// Writes, or fails in the way that is next.
    async fn write<T>(
        &self,
        wait: Option<bool>,
        ordering: Option<WriteOrdering>,
        mut parts: Vec<T>,
        write: impl FnOnce(&mut Held, Vec<T>) -> Result<(), Status>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        if wait != Some(true) || ordering.map(|ordering| ordering.r#type()) != Some(WriteOrderingType::Strong) {
            return Err(Status::invalid_argument("a write that is not waited for, or may overtake another"));
        }
        let fault = {
            let mut held = self.held();
            held.writes += 1;
            let fault = held.faults.pop_front().unwrap_or(Fault::None);
            match fault {
                Fault::Unavailable | Fault::Overloaded | Fault::Silence | Fault::NotYetDone => parts.clear(),
                Fault::Half => parts.truncate(parts.len() / 2),
                Fault::None | Fault::LostAnswer | Fault::LateAnswer => {}
            }
            write(&mut held, parts)?;
            fault
        };
        match fault {
            Fault::None => Ok(completed(UpdateStatus::Completed)),
            Fault::NotYetDone => Ok(completed(UpdateStatus::WaitTimeout)),
            Fault::Unavailable | Fault::LostAnswer => Err(Status::unavailable("as the test wants")),
            Fault::Half => Err(Status::internal("as the test wants")),
            Fault::Overloaded => Err(Status::resource_exhausted("as the test wants")),
            Fault::Silence | Fault::LateAnswer => std::future::pending().await,
        }
    }
}

fn completed(status: UpdateStatus) -> Response<PointsOperationResponse> {
    let result = Some(UpdateResult { operation_id: Some(0), status: status.into() });
    Response::new(PointsOperationResponse { result, ..PointsOperationResponse::default() })
}

#[allow(clippy::result_large_err, reason = "the protocol's own type")]
fn put(kept: &mut Kept, points: Vec<PointStruct>) -> Result<(), Status> {
    for point in points {
        compare::fits(kept, &point)?;
        kept.points.insert(uuid(point.id.as_ref())?, point);
    }
    Ok(())
}

#[allow(clippy::result_large_err, reason = "the protocol's own type")]
fn uuid(id: Option<&PointId>) -> Result<Uuid, Status> {
    match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(point_id::PointIdOptions::Uuid(uuid)) => {
            uuid.parse().map_err(|_| Status::invalid_argument("not a UUID"))
        }
        _ => Err(Status::invalid_argument("an id that is no UUID")),
    }
}

fn retrieved(point: &PointStruct, payload: bool) -> RetrievedPoint {
    let payload = if payload { point.payload.clone() } else { Default::default() };
    RetrievedPoint { id: point.id.clone(), payload, ..RetrievedPoint::default() }
}
