//! Followers: other machines of the owner's. For the owner only.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use cairn_follower::{FollowError, Primary, PrimaryView, StandbyStatus, Synchrony};
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::envelope::Reply;
use super::error::ApiError;
use super::extract::{Body, Caller};

/// How long an invitation can be used unless told otherwise, in minutes.
const INVITATION_MINUTES: u32 = 60;
/// The longest, in minutes: a week.
const MAX_INVITATION_MINUTES: u32 = 7 * 24 * 60;

/// An invitation to be made.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteFollower {
    /// For how many minutes it can be used; an hour when left out.
    #[serde(default)]
    pub minutes: Option<u32>,
}

/// An invitation.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FollowerInvitation {
    /// The link. Whoever uses it gets the whole brain.
    pub link: String,
    /// Until when, in milliseconds since 1970.
    pub expires_at: u64,
}

/// This node and its followers.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FollowersView {
    /// `primary`, `standby`, or `replaced`.
    pub role: String,
    /// How many times a follower has taken over.
    pub epoch: u64,
    /// The position of the last event.
    pub head: u64,
    /// Whether appends wait for a follower: its `mode` is `asynchronous`, `synchronous`, or `alone`, when no follower is in step.
    #[schema(value_type = Object)]
    pub synchrony: Synchrony,
    /// Who took over, where somebody did.
    pub replaced_by: Option<String>,
    /// Where followers are answered, if they are.
    pub listen: Option<String>,
    /// The followers.
    pub followers: Vec<FollowerInfo>,
    /// How a standby is doing.
    #[schema(value_type = Option<Object>)]
    pub standby: Option<StandbyStatus>,
}

/// What a node is to its other machines, in short.
#[derive(Debug, Serialize)]
pub struct Standing {
    /// `primary`, `standby`, or `replaced`.
    role: String,
    epoch: u64,
    /// Whom it follows, or who took over from it: writes go there.
    primary: Option<String>,
    synchrony: Synchrony,
    /// How many follow it, and how many of them are connected.
    followers: usize,
    connected: usize,
    /// How many events a standby lacks, and for how long, in milliseconds.
    lag_events: u64,
    lag_ms: u64,
}

/// What a node is to its other machines; none where it has none.
pub fn standing(app: &App) -> Option<Standing> {
    let view = view(app)?;
    let primary = view.standby.as_ref().map(|standby| standby.primary.clone()).or(view.replaced_by);
    let standing = Standing {
        role: view.role,
        epoch: view.epoch,
        primary,
        synchrony: view.synchrony,
        followers: view.followers.len(),
        connected: view.followers.iter().filter(|follower| follower.connected).count(),
        lag_events: view.standby.as_ref().map_or(0, |standby| standby.lag_events),
        lag_ms: view.standby.as_ref().map_or(0, |standby| standby.lag_ms),
    };
    let alone =
        standing.role == "primary" && standing.followers == 0 && standing.synchrony == Synchrony::Asynchronous;
    (!alone).then_some(standing)
}

fn view(app: &App) -> Option<FollowersView> {
    if let Some(standby) = app.standby.get() {
        let standby = standby.status();
        return Some(FollowersView {
            role: "standby".into(),
            epoch: standby.epoch,
            head: standby.has.position,
            synchrony: Synchrony::Asynchronous,
            replaced_by: None,
            listen: None,
            followers: Vec::new(),
            standby: Some(standby),
        });
    }
    Some(app.followers.get()?.view().into())
}

/// A follower.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct FollowerInfo {
    /// Its key.
    pub key: String,
    /// What it is called.
    pub name: String,
    /// Whether it is connected.
    pub connected: bool,
    /// The position up to which it has the log on disk.
    pub position: u64,
    /// How many events it lacks.
    pub lag_events: u64,
    /// For how long it has lacked the oldest of them, in milliseconds, while it is connected.
    pub lag_ms: u64,
    /// When it last said how far it is, in milliseconds since 1970.
    pub heard_at: u64,
}

/// What is left of a follower that was forgotten.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Forgotten {
    /// Its key.
    pub key: String,
}

impl From<PrimaryView> for FollowersView {
    fn from(view: PrimaryView) -> Self {
        let PrimaryView { role, epoch, head, synchrony, replaced_by, listen, followers } = view;
        let info = |follower: cairn_follower::FollowerView| FollowerInfo {
            key: follower.key,
            name: follower.name,
            connected: follower.connected,
            position: follower.position,
            lag_events: follower.lag_events,
            lag_ms: follower.lag_ms,
            heard_at: follower.heard_at,
        };
        let followers = followers.into_iter().map(info).collect();
        Self { role, epoch, head, synchrony, replaced_by, listen, followers, standby: None }
    }
}

fn owner<'a>(app: &'a App, caller: &Caller) -> Result<&'a Primary, ApiError> {
    caller.owner("have other machines follow")?;
    app.followers.get().ok_or_else(nobody_follows)
}

fn nobody_follows() -> ApiError {
    ApiError::new(
        StatusCode::CONFLICT,
        "NO_FOLLOWERS_HERE",
        "only a log in the data folder has followers; this one is in a database, which has replication of its own: for PostgreSQL that \
         is streaming replication",
    )
}

/// Shows how far followers are.
#[utoipa::path(get, path = "/followers", tag = "admin",
    responses((status = 200, description = "This node and its followers", body = super::envelope::Success<FollowersView>),
    (status = 409, description = "The log is in a database, which has means of its own", body = super::error::Failure)))]
async fn followers(State(app): State<App>, caller: Caller) -> Result<Reply<FollowersView>, ApiError> {
    caller.owner("have other machines follow")?;
    view(&app).map(Reply::ok).ok_or_else(nobody_follows)
}

/// Makes a link that one other machine of the owner's can follow by. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/followers/invitations", tag = "admin", request_body = InviteFollower,
    responses((status = 201, description = "Made", body = super::envelope::Success<FollowerInvitation>),
    (status = 409, description = "This node was replaced, or its log is in a database", body = super::error::Failure)))]
async fn invite(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<InviteFollower>,
) -> Result<Reply<FollowerInvitation>, ApiError> {
    let minutes = input.minutes.unwrap_or(INVITATION_MINUTES);
    if !(1..=MAX_INVITATION_MINUTES).contains(&minutes) {
        return Err(ApiError::validation("minutes", format!("takes 1 to {MAX_INVITATION_MINUTES}")));
    }
    let link = owner(&app, &caller)?.invite(Duration::from_secs(u64::from(minutes) * 60))?;
    let made = FollowerInvitation { expires_at: link.expires_at, link: link.to_string() };
    Ok(Reply::ok(made).status(StatusCode::CREATED))
}

/// Forgets a follower: it gets nothing more, and keeps what it has.
#[utoipa::path(delete, path = "/followers/{key}", tag = "admin",
    params(("key" = String, Path, description = "The follower's key")),
    responses((status = 200, description = "Forgotten", body = super::envelope::Success<Forgotten>),
    (status = 404, description = "No such follower", body = super::error::Failure)))]
async fn forget(
    State(app): State<App>,
    caller: Caller,
    Path(key): Path<String>,
) -> Result<Reply<Forgotten>, ApiError> {
    let primary = owner(&app, &caller)?;
    let parsed = key.parse().map_err(|_| ApiError::not_found("follower", &key))?;
    if primary.forget(parsed)? {
        Ok(Reply::ok(Forgotten { key }))
    } else {
        Err(ApiError::not_found("follower", key))
    }
}

impl From<FollowError> for ApiError {
    fn from(error: FollowError) -> Self {
        let message = error.to_string();
        match error {
            FollowError::Refused(_) | FollowError::Diverged { .. } | FollowError::Expired => {
                Self::new(StatusCode::CONFLICT, "FOLLOW_REFUSED", message)
            }
            FollowError::Link(_) => Self::validation("link", message),
            FollowError::Store(error) => Self::from(error),
            FollowError::Unreachable { .. } | FollowError::Cut(_) | FollowError::Network(_) => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "FOLLOW_NETWORK", message)
            }
            FollowError::File { .. }
            | FollowError::Damaged { .. }
            | FollowError::Unsound(_)
            | FollowError::Random(_) => Self::internal(&error),
        }
    }
}

/// The routes of followers.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(followers)).routes(routes!(invite)).routes(routes!(forget))
}
