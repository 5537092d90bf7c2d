//! Collections and aliases.

use ::qdrant_client::qdrant::alias_operations::Action;
use ::qdrant_client::qdrant::collections_server::Collections;
use ::qdrant_client::qdrant::*;
use tonic::{Request, Response, Status};

use super::{Held, Kept, Shared};

/// Answers to everything that the double does not know that it does not.
macro_rules! collections {
    ({ $($known:tt)* } $($unknown:ident: $asked:ty => $answer:ty;)*) => {
        #[tonic::async_trait]
        impl Collections for Shared {
            $($known)*
            $(async fn $unknown(&self, _: Request<$asked>) -> Result<Response<$answer>, Status> {
                Err(Status::unimplemented(stringify!($unknown)))
            })*
        }
    };
}

collections! {
    {
        async fn get(
            &self,
            request: Request<GetCollectionInfoRequest>,
        ) -> Result<Response<GetCollectionInfoResponse>, Status> {
            let mut held = self.held();
            let info = info(held.collection(&request.get_ref().collection_name)?);
            Ok(Response::new(GetCollectionInfoResponse { result: Some(info), time: 0.0 }))
        }

        async fn list(
            &self,
            _: Request<ListCollectionsRequest>,
        ) -> Result<Response<ListCollectionsResponse>, Status> {
            let names = self.held().collections.keys().cloned().collect::<Vec<_>>();
            let collections = names.into_iter().map(|name| CollectionDescription { name }).collect();
            Ok(Response::new(ListCollectionsResponse { collections, time: 0.0 }))
        }

        async fn create(
            &self,
            request: Request<CreateCollection>,
        ) -> Result<Response<CollectionOperationResponse>, Status> {
            let made = request.into_inner();
            let mut held = self.held();
            if held.collections.contains_key(&made.collection_name) {
                return Err(Status::already_exists("Wrong input: Collection already exists!"));
            }
            let kept = Kept { made: made.clone(), indexes: Vec::new(), points: Default::default() };
            held.collections.insert(made.collection_name, kept);
            Ok(done(true))
        }

        async fn delete(
            &self,
            request: Request<DeleteCollection>,
        ) -> Result<Response<CollectionOperationResponse>, Status> {
            let name = request.into_inner().collection_name;
            let mut held = self.held();
            held.aliases.retain(|_, aliased| *aliased != name);
            Ok(done(held.collections.remove(&name).is_some()))
        }

        async fn update_aliases(
            &self,
            request: Request<ChangeAliases>,
        ) -> Result<Response<CollectionOperationResponse>, Status> {
            let request = request.into_inner();
            let mut held = self.held();
            held.alias_requests.push(request.clone());
            for action in request.actions {
                change(&mut held, action)?;
            }
            Ok(done(true))
        }

        async fn list_aliases(
            &self,
            _: Request<ListAliasesRequest>,
        ) -> Result<Response<ListAliasesResponse>, Status> {
            let aliases = self.held().aliases.clone().into_iter();
            let aliases = aliases
                .map(|(alias_name, collection_name)| AliasDescription { alias_name, collection_name })
                .collect();
            Ok(Response::new(ListAliasesResponse { aliases, time: 0.0 }))
        }
    }
    update: UpdateCollection => CollectionOperationResponse;
    list_collection_aliases: ListCollectionAliasesRequest => ListAliasesResponse;
    collection_cluster_info: CollectionClusterInfoRequest => CollectionClusterInfoResponse;
    collection_exists: CollectionExistsRequest => CollectionExistsResponse;
    update_collection_cluster_setup: UpdateCollectionClusterSetupRequest => UpdateCollectionClusterSetupResponse;
    create_shard_key: CreateShardKeyRequest => CreateShardKeyResponse;
    delete_shard_key: DeleteShardKeyRequest => DeleteShardKeyResponse;
    list_shard_keys: ListShardKeysRequest => ListShardKeysResponse;
}

fn done(result: bool) -> Response<CollectionOperationResponse> {
    Response::new(CollectionOperationResponse { result, time: 0.0 })
}

#[allow(clippy::result_large_err, reason = "the protocol's own type")]
fn change(held: &mut Held, operation: AliasOperations) -> Result<(), Status> {
    match operation.action {
        Some(Action::CreateAlias(create)) => {
            held.collection(&create.collection_name)?;
            held.aliases.insert(create.alias_name, create.collection_name);
        }
        Some(Action::DeleteAlias(delete)) => {
            held.aliases.remove(&delete.alias_name);
        }
        Some(Action::RenameAlias(_)) | None => return Err(Status::unimplemented("renaming")),
    }
    Ok(())
}

fn info(kept: &Kept) -> CollectionInfo {
    let params = CollectionParams {
        shard_number: kept.made.shard_number.unwrap_or(1),
        vectors_config: kept.made.vectors_config.clone(),
        sparse_vectors_config: kept.made.sparse_vectors_config.clone(),
        ..CollectionParams::default()
    };
    let schema = kept.indexes.iter().map(|index| {
        let data_type = index.field_type().as_str_name().trim_start_matches("FieldType");
        let data_type = PayloadSchemaType::from_str_name(data_type).unwrap_or_default().into();
        let params = index.field_index_params.clone();
        (index.field_name.clone(), PayloadSchemaInfo { data_type, params, points: None })
    });
    CollectionInfo {
        status: CollectionStatus::Green.into(),
        segments_count: 1,
        config: Some(CollectionConfig { params: Some(params), ..CollectionConfig::default() }),
        payload_schema: schema.collect(),
        points_count: Some(kept.points.len() as u64),
        indexed_vectors_count: Some(kept.points.len() as u64),
        ..CollectionInfo::default()
    }
}
