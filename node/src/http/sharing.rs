//! Sharing with other brains. For the owner only.

use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use cairn_domain::event::SelectionChanged;
use cairn_domain::field::{FieldName, FieldRole};
use cairn_domain::id::MemoryId;
use cairn_sharing::{
    ErasureView, GrantView, InvitationView, Offering, PeerView, ReceiptView, Selecting, Sharing, SharingError,
    SpaceView, View,
};
use cairn_sync::control::{Decision, Role};
use cairn_sync::engine::{CannotSay, Offer};
use cairn_sync::key::{BrainKey, Hash, SpaceId};
use chrono::Utc;
use serde::{Deserialize, Serialize};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::envelope::{Page, Reply};
use super::error::ApiError;
use super::extract::{Body, Caller};

/// How long an invitation can be taken up unless told otherwise, in minutes.
const INVITATION_MINUTES: u32 = 60;
/// The longest, in minutes: a week.
const MAX_INVITATION_MINUTES: u32 = 7 * 24 * 60;
/// The longest life of a grant that expires, in days.
const MAX_GRANT_DAYS: u32 = 3_650;
/// The most memories that are chosen one by one for a space.
const MAX_CHOSEN: usize = 10_000;

/// An invitation to be made.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Invite {
    /// For how many minutes it can be taken up; an hour when left out.
    #[serde(default)]
    pub minutes: Option<u32>,
}

/// Another brain's invitation.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Accept {
    /// The link.
    #[schema(example = "cairn://pair/...")]
    pub link: String,
}

/// Whose invitation was taken up.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Accepted {
    /// The inviting brain.
    #[schema(value_type = String)]
    pub brain: BrainKey,
    /// Words that its owner sees as well, once they are paired.
    #[schema(value_type = Vec<String>)]
    pub words: Vec<&'static str>,
}

/// Whether to have nothing to do with a brain.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// Whether.
    pub blocked: bool,
}

/// Which memories are in a space.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Choose {
    /// All that have this tag, as long as they have it.
    #[serde(default)]
    pub tag: Option<String>,
    /// And these.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub memories: Vec<MemoryId>,
}

/// A space to be begun.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSpace {
    /// What people call it.
    #[schema(example = "Garden")]
    pub name: String,
    /// All memories with this tag are in it.
    #[serde(default)]
    pub tag: Option<String>,
    /// And these.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub memories: Vec<MemoryId>,
}

/// A part in a space to be offered.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The brain.
    #[schema(value_type = String)]
    pub with: BrainKey,
    /// What it may do: relay, read, suggest, write or admin.
    #[schema(value_type = String, example = "write")]
    pub role: Role,
    /// After how many days it ends; never when left out.
    #[serde(default)]
    pub expires_in_days: Option<u32>,
    /// Whether it may pass on what it reads.
    #[serde(default)]
    pub reshare: bool,
}

/// What is said to the offers of a space.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Decide {
    /// Whether they are taken.
    pub accepted: bool,
}

/// A shared memory to be destroyed everywhere.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Erase {
    /// The memory.
    #[schema(value_type = String)]
    pub memory: MemoryId,
}

/// A memory that was destroyed here, and is to be destroyed everywhere.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ErasedEverywhere {
    /// The memory.
    #[schema(value_type = String)]
    pub memory: MemoryId,
    /// The space that it was in.
    pub space: SpaceView,
    /// Who is asked to destroy it; nothing where the space is another brain's, whose node says so to the others.
    pub erasure: Option<ErasureView>,
}

/// What is said to a member's wish.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AnswerWish {
    /// Whether it is done.
    pub granted: bool,
}

fn sharing(app: &App) -> Result<Sharing, ApiError> {
    app.sharing().ok_or_else(|| {
        ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "SHARING_OFF",
            "this process meets no other brains: another one of the brain does, and `answered_at` in [federation] tells nodes where it is; or \
             `enabled = false` stands there; the log says more",
        )
    })
}

pub(super) fn owner(app: &App, caller: &Caller) -> Result<Sharing, ApiError> {
    caller.owner("share memories with others")?;
    sharing(app)
}

/// Shows all about sharing: this brain, those it knows, spaces, and who has received what.
#[utoipa::path(get, path = "/sharing", tag = "sharing",
    responses((status = 200, description = "All of it", body = super::envelope::Success<View>)))]
async fn view(State(app): State<App>, caller: Caller) -> Result<Reply<View>, ApiError> {
    Ok(Reply::ok(owner(&app, &caller)?.view().await?))
}

/// Lists the brains that this one knows.
#[utoipa::path(get, path = "/peers", tag = "sharing",
    responses((status = 200, description = "The brains", body = super::envelope::Success<Page<PeerView>>)))]
async fn peers(State(app): State<App>, caller: Caller) -> Result<Reply<Page<PeerView>>, ApiError> {
    let items = owner(&app, &caller)?.view().await?.peers;
    Ok(Reply::ok(Page { items, next_cursor: None }))
}

/// Takes up another brain's invitation. It is met as soon as it can be reached; `/peers` shows when.
#[utoipa::path(post, path = "/peers", tag = "sharing", request_body = Accept,
    responses((status = 202, description = "Taken up", body = super::envelope::Success<Accepted>),
    (status = 422, description = "It is no invitation, or has expired", body = super::error::Failure)))]
async fn accept(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<Accept>,
) -> Result<Reply<Accepted>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let brain = sharing.accept(&input.link).await?;
    let words = cairn_sharing::words(sharing.brain(), brain);
    Ok(Reply::ok(Accepted { brain, words }).status(StatusCode::ACCEPTED))
}

/// How long an invitation can be taken up.
pub(super) fn within(input: &Invite) -> Result<Duration, ApiError> {
    let minutes = input.minutes.unwrap_or(INVITATION_MINUTES);
    match minutes {
        1..=MAX_INVITATION_MINUTES => Ok(Duration::from_secs(u64::from(minutes) * 60)),
        _ => Err(ApiError::validation("minutes", format!("takes 1 to {MAX_INVITATION_MINUTES}"))),
    }
}

/// Makes an invitation that can be taken up once. Its secret is in this answer and nowhere else.
#[utoipa::path(post, path = "/peers/invitations", tag = "sharing", request_body = Invite,
    responses((status = 201, description = "Made", body = super::envelope::Success<InvitationView>)))]
async fn invite(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<Invite>,
) -> Result<Reply<InvitationView>, ApiError> {
    let within = within(&input)?;
    let made = owner(&app, &caller)?.invite(within).await?;
    Ok(Reply::ok(made).status(StatusCode::CREATED))
}

/// Has nothing to do with a brain any more, or has again. Connections are cut at once.
#[utoipa::path(patch, path = "/peers/{brain}", tag = "sharing", request_body = Block,
    params(("brain" = String, Path, description = "The brain's key")),
    responses((status = 200, description = "Done", body = super::envelope::Success<PeerView>),
    (status = 404, description = "No such brain", body = super::error::Failure)))]
async fn block(
    State(app): State<App>,
    caller: Caller,
    Path(brain): Path<String>,
    Body(input): Body<Block>,
) -> Result<Reply<PeerView>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let brain: BrainKey = brain.parse().map_err(|_| ApiError::not_found("peer", &brain))?;
    sharing.block(brain, input.blocked).await?;
    let peer = sharing.view().await?.peers.into_iter().find(|peer| peer.brain == brain);
    Ok(Reply::ok(peer.ok_or_else(|| ApiError::not_found("peer", brain))?))
}

/// Lists the spaces that this brain has, is in, or is offered.
#[utoipa::path(get, path = "/spaces", tag = "sharing",
    responses((status = 200, description = "The spaces", body = super::envelope::Success<Page<SpaceView>>)))]
async fn spaces(State(app): State<App>, caller: Caller) -> Result<Reply<Page<SpaceView>>, ApiError> {
    let items = owner(&app, &caller)?.view().await?.spaces;
    Ok(Reply::ok(Page { items, next_cursor: None }))
}

/// Begins a space.
#[utoipa::path(post, path = "/spaces", tag = "sharing", request_body = CreateSpace,
    responses((status = 201, description = "Begun", body = super::envelope::Success<SpaceView>)))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<CreateSpace>,
) -> Result<Reply<SpaceView>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let selection = selection(Choose { tag: input.tag, memories: input.memories })?;
    let space = sharing.create(input.name, selection).await?;
    Ok(Reply::ok(space_view(&sharing, space).await?).status(StatusCode::CREATED))
}

/// Chooses which memories are in a space, in place of what was chosen before.
#[utoipa::path(put, path = "/spaces/{space}/selection", tag = "sharing", request_body = Choose,
    params(("space" = String, Path, description = "The space")),
    responses((status = 200, description = "Chosen", body = super::envelope::Success<SpaceView>),
    (status = 404, description = "No such space", body = super::error::Failure)))]
async fn choose(
    State(app): State<App>,
    caller: Caller,
    Path(space): Path<String>,
    Body(input): Body<Choose>,
) -> Result<Reply<SpaceView>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let (space, selection) = (parse_space(&space)?, selection(input)?);
    sharing.select(Selecting { space, selection }).await?;
    Ok(Reply::ok(space_view(&sharing, space).await?))
}

/// Offers a brain a part in a space. It has to accept. Where this brain is an admin in another brain's space, that brain's node offers it.
#[utoipa::path(post, path = "/spaces/{space}/grants", tag = "sharing", request_body = Share,
    params(("space" = String, Path, description = "The space")),
    responses((status = 201, description = "Offered", body = super::envelope::Success<GrantView>),
    (status = 202, description = "The owner's node is asked to offer it; the id is that of the wish", body = super::envelope::Success<GrantView>),
    (status = 403, description = "The space is another brain's, and this one no admin in it", body = super::error::Failure),
    (status = 404, description = "No such space or brain", body = super::error::Failure)))]
async fn share(
    State(app): State<App>,
    caller: Caller,
    Path(space): Path<String>,
    Body(input): Body<Share>,
) -> Result<Reply<GrantView>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let space = parse_space(&space)?;
    let expires_at = match input.expires_in_days {
        Some(days @ 1..=MAX_GRANT_DAYS) => {
            Some(Utc::now().timestamp_millis().unsigned_abs() + u64::from(days) * 86_400_000)
        }
        Some(_) => return Err(ApiError::validation("expires_in_days", format!("takes 1 to {MAX_GRANT_DAYS}"))),
        None => None,
    };
    let offer = Offer { to: input.with, role: input.role, expires_at, reshare: input.reshare };
    let said = sharing.offer(Offering { space, offer }).await?;
    let view = sharing.view().await?;
    let grants = view.spaces.into_iter().filter(|view| view.id == space).flat_map(|view| view.grants);
    if let Some(grant) = grants.into_iter().find(|grant| grant.id == said) {
        return Ok(Reply::ok(grant).status(StatusCode::CREATED));
    }
    // The owner's node makes the grant, under another id.
    let Offer { to, role, expires_at, reshare } = offer;
    let name = view.peers.into_iter().find(|peer| peer.brain == to).map(|peer| peer.name);
    let wished = GrantView { id: said, to, name, role, expires_at, reshare, decision: None, revoked: false };
    Ok(Reply::ok(wished).status(StatusCode::ACCEPTED))
}

/// Ends a grant. Where this brain is an admin in another brain's space, that brain's node ends it. What was delivered stays where it is; `/receipts` says what that was.
#[utoipa::path(delete, path = "/spaces/{space}/grants/{grant}", tag = "sharing",
    params(("space" = String, Path, description = "The space"), ("grant" = String, Path, description = "The grant")),
    responses((status = 200, description = "Ended", body = super::envelope::Success<SpaceView>),
    (status = 404, description = "No such space or grant", body = super::error::Failure)))]
async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path((space, grant)): Path<(String, String)>,
) -> Result<Reply<SpaceView>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let space = parse_space(&space)?;
    let grant: Hash = grant.parse().map_err(|_| ApiError::not_found("grant", &grant))?;
    sharing.revoke(space, grant).await?;
    Ok(Reply::ok(space_view(&sharing, space).await?))
}

/// Says to the offers of a space whether they are taken.
#[utoipa::path(post, path = "/spaces/{space}/decision", tag = "sharing", request_body = Decide,
    params(("space" = String, Path, description = "The space")),
    responses((status = 200, description = "Said", body = super::envelope::Success<SpaceView>),
    (status = 404, description = "No such space", body = super::error::Failure)))]
async fn decide(
    State(app): State<App>,
    caller: Caller,
    Path(space): Path<String>,
    Body(input): Body<Decide>,
) -> Result<Reply<SpaceView>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let space = parse_space(&space)?;
    let decision = if input.accepted { Decision::Accepted } else { Decision::Declined };
    sharing.decide(space, decision).await?;
    Ok(Reply::ok(space_view(&sharing, space).await?))
}

/// Destroys a shared memory here, for good, and has everybody destroy it who has the space. The owner of the space can erase all that is in it,
/// others what they have begun; what the owner erases stays with the brain that began it. `/sharing` says who knows of it.
#[utoipa::path(post, path = "/sharing/erasures", tag = "sharing", request_body = Erase,
    responses((status = 202, description = "Destroyed here; the others are told", body = super::envelope::Success<ErasedEverywhere>),
    (status = 403, description = "Neither the space nor the memory is this brain's", body = super::error::Failure),
    (status = 409, description = "The memory is not shared", body = super::error::Failure)))]
async fn erase(
    State(app): State<App>,
    caller: Caller,
    Body(input): Body<Erase>,
) -> Result<Reply<ErasedEverywhere>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let memory = input.memory;
    let loaded = app.handler.load(memory).await.map_err(SharingError::Command)?;
    if loaded.memory.is_erased() {
        return Err(cairn_domain::memory::command::Rejection::Erased { memory }.into());
    }
    let space = sharing.erase(memory, caller.0).await?;
    let view = sharing.view().await?;
    let erasure = view.erasures.into_iter().find(|erasure| (erasure.space, erasure.memory) == (space, memory));
    let space = view.spaces.into_iter().find(|view| view.id == space);
    let space = space.ok_or_else(|| ApiError::not_found("memory", memory))?;
    Ok(Reply::ok(ErasedEverywhere { memory, space, erasure }).status(StatusCode::ACCEPTED))
}

/// Does what a member of a space wishes, or does not. What can be done without the owner is done already.
#[utoipa::path(post, path = "/spaces/{space}/wishes/{wish}", tag = "sharing", request_body = AnswerWish,
    params(("space" = String, Path, description = "The space"), ("wish" = String, Path, description = "The wish")),
    responses((status = 200, description = "Answered", body = super::envelope::Success<SpaceView>),
    (status = 404, description = "No such space or wish", body = super::error::Failure)))]
async fn answer(
    State(app): State<App>,
    caller: Caller,
    Path((space, wish)): Path<(String, String)>,
    Body(input): Body<AnswerWish>,
) -> Result<Reply<SpaceView>, ApiError> {
    let sharing = owner(&app, &caller)?;
    let space = parse_space(&space)?;
    let wish: Hash = wish.parse().map_err(|_| ApiError::not_found("wish", &wish))?;
    sharing.answer(wish, input.granted).await?;
    Ok(Reply::ok(space_view(&sharing, space).await?))
}

/// Lists who has received how much of which space, as their devices have signed it.
#[utoipa::path(get, path = "/receipts", tag = "sharing",
    responses((status = 200, description = "The receipts", body = super::envelope::Success<Page<ReceiptView>>)))]
async fn receipts(State(app): State<App>, caller: Caller) -> Result<Reply<Page<ReceiptView>>, ApiError> {
    let items = owner(&app, &caller)?.view().await?.receipts;
    Ok(Reply::ok(Page { items, next_cursor: None }))
}

fn parse_space(text: &str) -> Result<SpaceId, ApiError> {
    text.parse().map_err(|_| ApiError::not_found("space", text))
}

fn selection(input: Choose) -> Result<SelectionChanged, ApiError> {
    if input.memories.len() > MAX_CHOSEN {
        return Err(ApiError::validation("memories", format!("takes at most {MAX_CHOSEN}")));
    }
    // Spelled as tags are.
    let tag = input.tag.map(|tag| {
        let field = FieldName::tag(&tag).map_err(|error| ApiError::validation("tag", error.to_string()))?;
        match field.role() {
            FieldRole::Tag(tag) => Ok(tag.to_owned()),
            _ => Err(ApiError::validation("tag", "is no tag")),
        }
    });
    Ok(SelectionChanged { tag: tag.transpose()?, memories: input.memories })
}

async fn space_view(sharing: &Sharing, space: SpaceId) -> Result<SpaceView, ApiError> {
    let found = sharing.view().await?.spaces.into_iter().find(|view| view.id == space);
    found.ok_or_else(|| ApiError::not_found("space", space))
}

impl From<SharingError> for ApiError {
    fn from(error: SharingError) -> Self {
        let message = error.to_string();
        match error {
            SharingError::Store(error) => Self::from(error),
            SharingError::Command(error) => Self::from(error),
            SharingError::Append(_) | SharingError::Load(_) | SharingError::Damaged { .. } => {
                Self::internal(&error)
            }
            SharingError::NotShared(_) => Self::new(StatusCode::CONFLICT, "NOT_SHARED", message),
            SharingError::NotBegunHere(_) => Self::new(StatusCode::FORBIDDEN, "NOT_GRANTED", message),
            SharingError::NoPeer(_)
            | SharingError::NoDevice(_)
            | SharingError::NoSpace(_)
            | SharingError::NoWish(_) => Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message),
            SharingError::InvalidInvitation
            | SharingError::Expired
            | SharingError::Own
            | SharingError::OtherInvitation(_) => Self::validation("link", message),
            SharingError::TooManyDevices => Self::new(StatusCode::CONFLICT, "TOO_MANY_DEVICES", message),
            SharingError::InvalidWords => Self::validation("words", message),
            SharingError::Succession(_) => Self::new(StatusCode::CONFLICT, "OTHER_KEY", message),
            SharingError::KeyNotKept(_) => Self::new(StatusCode::CONFLICT, "KEY_NOT_KEPT", message),
            SharingError::NotTheKey => Self::new(StatusCode::CONFLICT, "NOT_THE_KEY", message),
            SharingError::SharesAlready => Self::new(StatusCode::CONFLICT, "SHARES_ALREADY", message),
            SharingError::Stopped => Self::new(StatusCode::SERVICE_UNAVAILABLE, "SHARING_STOPPED", message),
            SharingError::CannotSay(cannot) => match cannot {
                CannotSay::NoSpace | CannotSay::NoGrant | CannotSay::NoKey => {
                    Self::new(StatusCode::NOT_FOUND, "NOT_FOUND", message)
                }
                CannotSay::OwnerOnly | CannotSay::Role => Self::new(StatusCode::FORBIDDEN, "NOT_GRANTED", message),
                CannotSay::Control(_) => Self::validation("name", message),
                CannotSay::TooLarge(_) | CannotSay::Shared(_) | CannotSay::TooMany | CannotSay::EpochFull => {
                    Self::new(StatusCode::UNPROCESSABLE_ENTITY, "CANNOT_BE_SHARED", message)
                }
                CannotSay::EpochLost | CannotSay::Forked => Self::new(StatusCode::CONFLICT, "EPOCH_LOST", message),
            },
        }
    }
}

/// The routes of sharing.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(view))
        .routes(routes!(peers, accept))
        .routes(routes!(invite))
        .routes(routes!(block))
        .routes(routes!(spaces, create))
        .routes(routes!(choose))
        .routes(routes!(share))
        .routes(routes!(revoke))
        .routes(routes!(decide))
        .routes(routes!(erase))
        .routes(routes!(answer))
        .routes(routes!(receipts))
}
