//! What this node relays for others, and which relays keep it reachable. For the owner only.

use axum::extract::State;
use cairn_federation::{RelayOrigin, Relaying, UsedRelay};
use serde::Serialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::App;
use super::envelope::Reply;
use super::error::ApiError;
use super::extract::Caller;

/// What a node does as a relay, and by which relays it is reached itself.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct RelayView {
    /// Whether it relays between brains that it knows, and is a place where they find each other.
    pub relays: bool,
    /// What others can put among their `relays`: none unless it relays and has been told where it can be reached.
    pub addresses: Vec<String>,
    /// Devices that it keeps reachable.
    pub reservations: usize,
    /// Connections between two others that pass it.
    pub circuits: usize,
    /// The relays that it uses itself.
    pub uses: Vec<UsedRelayView>,
}

/// A relay that a node uses, or would use if it answered.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct UsedRelayView {
    /// The device that relays.
    pub device: String,
    /// Where it is.
    pub address: String,
    /// Whether it was configured; otherwise it is a peer that relays.
    pub configured: bool,
    /// Whether this node can be reached through it now.
    pub reserved: bool,
}

impl From<Relaying> for RelayView {
    fn from(relaying: Relaying) -> Self {
        let Relaying { relays, addresses, reservations, circuits, uses } = relaying;
        let addresses = addresses.iter().map(ToString::to_string).collect();
        let uses = uses.into_iter().map(UsedRelayView::from).collect();
        Self { relays, addresses, reservations, circuits, uses }
    }
}

impl From<UsedRelay> for UsedRelayView {
    fn from(used: UsedRelay) -> Self {
        let configured = match used.origin {
            RelayOrigin::Configured => true,
            RelayOrigin::Friend => false,
        };
        let (device, address) = (used.relay.to_string(), used.address.to_string());
        Self { device, address, configured, reserved: used.reserved }
    }
}

/// Shows what this node relays for others, and which relays keep it reachable.
#[utoipa::path(get, path = "/relay", tag = "sharing",
    responses((status = 200, description = "What it relays and uses", body = super::envelope::Success<RelayView>)))]
async fn relay(State(app): State<App>, caller: Caller) -> Result<Reply<RelayView>, ApiError> {
    super::sharing::owner(&app, &caller)?;
    Ok(Reply::ok(app.relaying().into()))
}

/// The route of relaying.
pub fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(relay))
}
