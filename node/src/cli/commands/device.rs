//! `cairn device`

use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use super::sharing::{Invitation, MEET_PATIENCE, POLL, one, short, show_link};
use crate::cli::args::{DeviceCommand, DeviceRemoveArgs, PeerAcceptArgs, PeerInviteArgs};
use crate::cli::client::{Client, RawPage};
use crate::cli::error::CliError;
use crate::cli::screen::Screen;

#[derive(Debug, Clone, Deserialize)]
struct Device {
    device: String,
    this: bool,
    online: bool,
}

/// Lets in, lists and removes the devices of this brain.
///
/// # Errors
/// When the token in use is not the owner's, there is no such device, or the node cannot be asked.
pub async fn device(client: &Client, screen: &Screen, command: &DeviceCommand) -> Result<(), CliError> {
    match command {
        DeviceCommand::Invite(args) => invite(client, screen, args).await,
        DeviceCommand::Join(args) => join(client, screen, args).await,
        DeviceCommand::List => list(client, screen).await,
        DeviceCommand::Remove(args) => remove(client, screen, args).await,
    }
}

async fn invite(client: &Client, screen: &Screen, args: &PeerInviteArgs) -> Result<(), CliError> {
    let request = client.post(&["devices", "invitations"]).json(json!({ "minutes": args.minutes }));
    let answer = request.send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let Invitation { link } = answer.read()?;
    show_link(screen, &link, args.no_qr)?;
    screen.note(&format!(
        "Whoever has it writes in your name: use it yourself, by `cairn device join <link>` on the other node, within {} minutes. It works once.",
        args.minutes
    ));
    Ok(())
}

async fn join(client: &Client, screen: &Screen, args: &PeerAcceptArgs) -> Result<(), CliError> {
    let answer = client.post(&["devices"]).json(json!({ "link": args.link })).send().await?;
    let began = Instant::now();
    let mut joined = false;
    while !args.no_wait && !joined && began.elapsed() < MEET_PATIENCE {
        sleep(POLL).await;
        joined = devices(client).await?.len() > 1;
    }
    if screen.json {
        return screen.print_json(&answer.data);
    }
    screen.print(match joined {
        true => "This node is a device of that brain from now on, and is in all its spaces.",
        false => {
            "The invitation is kept, and taken up when the other device can be reached; see `cairn device list`."
        }
    })
}

async fn devices(client: &Client) -> Result<Vec<Device>, CliError> {
    #[derive(Deserialize)]
    struct View {
        devices: Vec<Device>,
    }
    let view: View = client.get(&["sharing"]).send().await?.read()?;
    Ok(view.devices)
}

async fn list(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let page: RawPage = client.get(&["devices"]).send().await?.read()?;
    screen.list(&page, "There is no device.", |devices: &[Device]| {
        devices.iter().map(|device| row(screen, device)).collect()
    })
}

fn row(screen: &Screen, device: &Device) -> String {
    if screen.quiet {
        return format!("{}\n", device.device);
    }
    let state = match (device.this, device.online) {
        (true, _) => screen.paint.bold("this one"),
        (false, true) => screen.paint.good("online"),
        (false, false) => screen.paint.dim("offline"),
    };
    format!("{}  {state}\n", short(&device.device))
}

async fn remove(client: &Client, screen: &Screen, args: &DeviceRemoveArgs) -> Result<(), CliError> {
    let found = one(devices(client).await?, "device", &args.device, |device| (&device.device, &device.device))?;
    let answer = client.delete(&["devices", &found.device]).send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    screen.print(&format!("{}  {}", screen.paint.good("removed"), short(&found.device)))
}
