//! `cairn relay`

use serde::Deserialize;

use crate::cli::client::Client;
use crate::cli::error::CliError;
use crate::cli::screen::Screen;
use crate::cli::view::text::number;

/// How to become one.
const HOW: &str =
    "To relay between peers, set `relay = true`, `listen` and `announce` under [federation] in cairn.toml.";

#[derive(Debug, Clone, Deserialize)]
struct Relay {
    relays: bool,
    addresses: Vec<String>,
    reservations: u64,
    circuits: u64,
    uses: Vec<Used>,
}

#[derive(Debug, Clone, Deserialize)]
struct Used {
    address: String,
    configured: bool,
    reserved: bool,
}

/// Shows what the node relays for others, and which relays keep it reachable.
///
/// # Errors
/// When the token in use is not the owner's, or the node cannot be asked.
pub async fn run(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let reply = client.get(&["relay"]).send().await?;
    screen.answer(&reply, |relay: &Relay| shown(screen, relay))
}

fn shown(screen: &Screen, relay: &Relay) -> String {
    let mut lines = match (relay.relays, relay.addresses.is_empty()) {
        (false, _) => format!("This node does not relay. {HOW}\n"),
        (true, true) => {
            "This node relays as soon as it is known where others can reach it; say so with `announce`.\n"
                .to_owned()
        }
        (true, false) => format!(
            "{} for {} peers, {} connections\n",
            screen.paint.good("relays"),
            number(relay.reservations),
            number(relay.circuits)
        ),
    };
    if !relay.addresses.is_empty() {
        lines.push_str(
            "Peers use it by themselves. Others that you know put this into `relays` of [federation]:\n",
        );
    }
    lines.extend(relay.addresses.iter().map(|address| format!("  {address}\n")));
    for used in &relay.uses {
        let (verb, whose) = (
            if used.reserved { screen.paint.good("reached through") } else { screen.paint.dim("asks") },
            if used.configured { "configured" } else { "a peer" },
        );
        lines.push_str(&format!("{verb} {} ({whose})\n", used.address));
    }
    lines
}
