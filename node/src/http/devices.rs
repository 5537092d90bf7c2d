//! The devices of this brain: other nodes that write for it, each with a log of its own. For the owner only.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use cairn_sharing::{DeviceView, InvitationView};
use cairn_sync::key::DeviceKey;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::envelope::{Page, Reply};
use super::error::ApiError;
use super::extract::{Body, Caller};
use super::sharing::{Accept, Accepted, Invite, owner, within};

/// Lists the devices that write for this brain.
#[utoipa::path(get, path = "/devices", tag = "sharing",
    responses((status = 200, description = "The devices", body = super::envelope::Success<Page<DeviceView>>)))]
async fn devices(State(app): State<App>, caller: Caller) -> Result<Reply<Page<DeviceView>>, ApiError> {
    let items = owner(&app, &caller)?.view().await?.devices;
    Ok(Reply::ok(Page { items, next_cursor: None }))
}

/// Makes an invitation for another node to become a device of this brain. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/devices/invitations", tag = "sharing", request_body = Invite,
    responses((status = 201, description = "Made", body = super::envelope::Success<InvitationView>),
    (status = 409, description = "This node does not have the brain's key", body = super::error::Failure)))]
async fn invite(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<Invite>,
) -> Result<Reply<InvitationView>, ApiError> {
    let within = within(&input)?;
    let made = owner(&app, &caller)?.invite_device(within).await?;
    Ok(Reply::ok(made).status(StatusCode::CREATED))
}

/// Has this node become a device of the brain that made an invitation. `/devices` shows when it has.
#[utoipa::path(post, path = "/devices", tag = "sharing", request_body = Accept,
    responses((status = 202, description = "Taken up", body = super::envelope::Success<Accepted>),
    (status = 409, description = "This node shares something already", body = super::error::Failure),
    (status = 422, description = "It is no such invitation, or has expired", body = super::error::Failure)))]
async fn join(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<Accept>,
) -> Result<Reply<Accepted>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let brain = sharing.join(&input.link).await?;
    Ok(Reply::ok(Accepted { brain, words: Vec::new() }).status(StatusCode::ACCEPTED))
}

/// Has a device write for this brain no more. What it has said by now goes on to count.
#[utoipa::path(delete, path = "/devices/{device}", tag = "sharing",
    params(("device" = String, Path, description = "The device's key")),
    responses((status = 200, description = "Done", body = super::envelope::Success<Page<DeviceView>>),
    (status = 404, description = "No such device", body = super::error::Failure),
    (status = 409, description = "This node does not have the brain's key", body = super::error::Failure)))]
async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(device): Path<String>,
) -> Result<Reply<Page<DeviceView>>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let device: DeviceKey = device.parse().map_err(|_| ApiError::not_found("device", &device))?;
    sharing.remove_device(device).await?;
    Ok(Reply::ok(Page { items: sharing.view().await?.devices, next_cursor: None }))
}

/// The routes of devices.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(devices, join)).routes(routes!(invite)).routes(routes!(remove))
}
