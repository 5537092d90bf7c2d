//! `cairn peer`, `cairn space`, `cairn share`, `cairn shares`, `cairn receipts`

use std::time::Duration;

use chrono::DateTime;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::cli::args::{
    PeerAcceptArgs, PeerCommand, PeerInviteArgs, ShareArgs, ShareCommand, ShareRevokeArgs, SpaceChooseArgs,
    SpaceCommand,
};
use crate::cli::client::{Client, RawPage};
use crate::cli::error::{Candidate, CliError};
use crate::cli::reference;
use crate::cli::screen::Screen;
use crate::cli::view::text::{line, number};

/// How long is waited until an invited brain is met.
pub(super) const MEET_PATIENCE: Duration = Duration::from_secs(30);
/// How often it is looked whether it was.
pub(super) const POLL: Duration = Duration::from_millis(250);
/// How many names are told where one fits none.
const NEAR: usize = 3;
/// How many digits of a key or an id are shown to people.
const SHORT: usize = 12;

#[derive(Debug, Clone, Deserialize)]
struct Peer {
    brain: String,
    name: String,
    words: Vec<String>,
    online: bool,
    blocked: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct Space {
    id: String,
    name: String,
    owner: String,
    own: bool,
    memories: u64,
    #[serde(default)]
    pending: u64,
    grants: Vec<Grant>,
    #[serde(default)]
    selection: Selection,
    #[serde(default)]
    wishes: Vec<Wish>,
}

#[derive(Debug, Clone, Deserialize)]
struct Wish {
    id: String,
    by: String,
    name: Option<String>,
    wish: Wished,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Wished {
    Erased {
        memory: String,
    },
    #[serde(other)]
    Other,
}

#[derive(Debug, Clone, Deserialize)]
struct Erasure {
    space: String,
    memory: String,
    members: Vec<Asked>,
}

#[derive(Debug, Clone, Deserialize)]
struct Asked {
    brain: String,
    name: Option<String>,
    acknowledged_at: Option<i64>,
    blocked: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Selection {
    #[serde(default)]
    tag: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Grant {
    id: String,
    to: String,
    name: Option<String>,
    role: String,
    expires_at: Option<i64>,
    decision: Option<String>,
    revoked: bool,
}

#[derive(Debug, Clone, Deserialize)]
struct Receipt {
    space: String,
    by: String,
    at: i64,
    entries: u64,
    /// A node before this one does not say.
    #[serde(default)]
    of: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Invitation {
    pub link: String,
}

#[derive(Debug, Deserialize)]
struct Accepted {
    brain: String,
    words: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct View {
    peers: Vec<Peer>,
    spaces: Vec<Space>,
    #[serde(default)]
    erasures: Vec<Erasure>,
}

/// Invites, meets and blocks other brains.
///
/// # Errors
/// When the token in use is not the owner's, there is no such peer, or the node cannot be asked.
pub async fn peer(client: &Client, screen: &Screen, command: &PeerCommand) -> Result<(), CliError> {
    match command {
        PeerCommand::Invite(args) => invite(client, screen, args).await,
        PeerCommand::Accept(args) => accept(client, screen, args).await,
        PeerCommand::List => peers(client, screen).await,
        PeerCommand::Block(args) => block(client, screen, &args.peer, true).await,
        PeerCommand::Unblock(args) => block(client, screen, &args.peer, false).await,
    }
}

async fn invite(client: &Client, screen: &Screen, args: &PeerInviteArgs) -> Result<(), CliError> {
    let request = client.post(&["peers", "invitations"]).json(json!({ "minutes": args.minutes }));
    let answer = request.send().await?;
    if screen.json {
        return screen.print_json(&answer.data);
    }
    let Invitation { link } = answer.read()?;
    show_link(screen, &link, args.no_qr)?;
    screen.note(&format!(
        "Pass it on to one person, who runs `cairn peer accept <link>` within {} minutes. It works once.",
        args.minutes
    ));
    Ok(())
}

/// Prints a link, on a terminal with a QR code.
pub(super) fn show_link(screen: &Screen, link: &str, no_qr: bool) -> Result<(), CliError> {
    if screen.terminal && !no_qr && !screen.quiet {
        screen.print(&qr(link))?;
    }
    // The link alone goes to standard output, so that it can be caught in a variable.
    screen.print(link)
}

/// A QR code of half blocks; nothing where the text is too long for one.
fn qr(text: &str) -> String {
    qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L)
        .map(|code| code.render::<qrcode::render::unicode::Dense1x2>().build())
        .unwrap_or_default()
}

async fn accept(client: &Client, screen: &Screen, args: &PeerAcceptArgs) -> Result<(), CliError> {
    let answer = client.post(&["peers"]).json(json!({ "link": args.link })).send().await?;
    let accepted: Accepted = answer.read()?;
    let mut met = None;
    let began = Instant::now();
    while !args.no_wait && met.is_none() && began.elapsed() < MEET_PATIENCE {
        sleep(POLL).await;
        let known = all_peers(client).await?;
        met = known.into_iter().find(|peer| peer.brain == accepted.brain && peer.online);
    }
    if screen.json {
        return screen.print_json(&answer.data);
    }
    match met {
        Some(peer) => screen.print(&format!(
            "Met {}. Compare these words with those on the other side (`cairn peer list`):\n  {}",
            screen.paint.bold(&line(&peer.name)),
            accepted.words.join(" ")
        )),
        None => screen.print(&format!(
            "The invitation is kept, and {} is met when it can be reached; see `cairn peer list`.",
            short(&accepted.brain)
        )),
    }
}

async fn all_peers(client: &Client) -> Result<Vec<Peer>, CliError> {
    let view: View = client.get(&["sharing"]).send().await?.read()?;
    Ok(view.peers)
}

/// Lists the brains that are known.
///
/// # Errors
/// When the token in use is not the owner's, or the node cannot be asked.
pub async fn peers(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let page: RawPage = client.get(&["peers"]).send().await?.read()?;
    screen.list(&page, "No other brain is known. `cairn peer invite` invites one.", |peers: &[Peer]| {
        let row = |peer: &Peer| {
            if screen.quiet {
                return format!("{}\n", peer.brain);
            }
            let state = match (peer.blocked, peer.online) {
                (true, _) => screen.paint.warning("blocked"),
                (false, true) => screen.paint.good("online"),
                (false, false) => screen.paint.dim("offline"),
            };
            let (name, words) = (screen.paint.bold(&line(&peer.name)), peer.words.join(" "));
            format!("{name}  {state}  {}\n  {}\n", screen.paint.dim(short(&peer.brain)), screen.paint.dim(&words))
        };
        peers.iter().map(row).collect()
    })
}

async fn block(client: &Client, screen: &Screen, name: &str, blocked: bool) -> Result<(), CliError> {
    let peer = find_peer(client, name).await?;
    let answer = client.patch(&["peers", &peer.brain]).json(json!({ "blocked": blocked })).send().await?;
    screen.answer(&answer, |peer: &Peer| {
        let done = if blocked { "blocked" } else { "unblocked" };
        format!("{}  {}  {}", screen.paint.good(done), line(&peer.name), screen.paint.dim(short(&peer.brain)))
    })
}

/// Begins and lists spaces, and chooses what is in them.
///
/// # Errors
/// When the token in use is not the owner's, there is no such space, or the node cannot be asked.
pub async fn space(client: &Client, screen: &Screen, command: &SpaceCommand) -> Result<(), CliError> {
    match command {
        SpaceCommand::Create(args) => {
            let (tag, memories) = chosen(client, args).await?;
            let request = json!({ "name": args.space, "tag": tag, "memories": memories });
            let answer = client.post(&["spaces"]).json(request).send().await?;
            screen.answer(&answer, |space: &Space| told(screen, space, "begun"))
        }
        SpaceCommand::Choose(args) => {
            let space = find_space(client, &args.space).await?;
            let (tag, memories) = chosen(client, args).await?;
            let request = client.put(&["spaces", &space.id, "selection"]);
            let answer = request.json(json!({ "tag": tag, "memories": memories })).send().await?;
            screen.answer(&answer, |space: &Space| told(screen, space, "chosen"))
        }
        SpaceCommand::List => shares(client, screen).await,
    }
}

async fn chosen(client: &Client, args: &SpaceChooseArgs) -> Result<(Option<String>, Vec<String>), CliError> {
    let mut memories = Vec::with_capacity(args.memory.len());
    for memory in &args.memory {
        memories.push(reference::memory(client, memory).await?);
    }
    Ok((args.tag.clone(), memories))
}

fn told(screen: &Screen, space: &Space, done: &str) -> String {
    if screen.quiet {
        return space.id.clone();
    }
    let name = line(&space.name);
    format!("{}  {name}  {}", screen.paint.good(done), screen.paint.dim(short(&space.id)))
}

/// Shares a space, takes and declines what is offered, and ends what was granted.
///
/// # Errors
/// When the token in use is not the owner's, there is no such space or peer, or the node cannot be asked.
pub async fn share(client: &Client, screen: &Screen, args: &ShareArgs) -> Result<(), CliError> {
    match &args.command {
        Some(ShareCommand::Accept(args)) => decide(client, screen, &args.space, true).await,
        Some(ShareCommand::Decline(args)) => decide(client, screen, &args.space, false).await,
        Some(ShareCommand::Revoke(args)) => revoke(client, screen, args).await,
        Some(ShareCommand::Grant(args)) => answer(client, screen, &args.wish, true).await,
        Some(ShareCommand::Deny(args)) => answer(client, screen, &args.wish, false).await,
        None => offer(client, screen, args).await,
    }
}

async fn offer(client: &Client, screen: &Screen, args: &ShareArgs) -> Result<(), CliError> {
    let space = find_space(client, args.space.as_deref().unwrap_or_default()).await?;
    let peer = find_peer(client, args.with.as_deref().unwrap_or_default()).await?;
    let space_is_own = space.own;
    let request = json!({
        "with": peer.brain,
        "role": args.role.name(),
        "expires_in_days": args.expires,
        "reshare": args.reshare,
    });
    let answer = client.post(&["spaces", &space.id, "grants"]).json(request).send().await?;
    screen.answer(&answer, |grant: &Grant| {
        if screen.quiet {
            return grant.id.clone();
        }
        let (space, peer) = (line(&space.name), line(&peer.name));
        let done = if space_is_own { "offered" } else { "asked" };
        format!("{}  {space} to {peer}, who may {}; it has to accept", screen.paint.good(done), grant.role)
    })
}

async fn decide(client: &Client, screen: &Screen, name: &str, accepted: bool) -> Result<(), CliError> {
    let space = find_space(client, name).await?;
    let request = client.post(&["spaces", &space.id, "decision"]);
    let answer = request.json(json!({ "accepted": accepted })).send().await?;
    screen.answer(&answer, |space: &Space| told(screen, space, if accepted { "accepted" } else { "declined" }))
}

async fn answer(client: &Client, screen: &Screen, wish: &str, granted: bool) -> Result<(), CliError> {
    let view: View = client.get(&["sharing"]).send().await?.read()?;
    let wishes = view
        .spaces
        .into_iter()
        .flat_map(|space| space.wishes.into_iter().map(move |wish| (space.id.clone(), wish)));
    let (space, wish) = one(wishes.collect(), "wish", wish, |(_, wish)| (&wish.id, &wish.by))?;
    let request = client.post(&["spaces", &space, "wishes", &wish.id]).json(json!({ "granted": granted }));
    let answer = request.send().await?;
    screen.answer(&answer, |space: &Space| told(screen, space, if granted { "granted" } else { "denied" }))
}

async fn revoke(client: &Client, screen: &Screen, args: &ShareRevokeArgs) -> Result<(), CliError> {
    let space = find_space(client, &args.space).await?;
    let peer = find_peer(client, &args.with).await?;
    let grants: Vec<&Grant> =
        space.grants.iter().filter(|grant| grant.to == peer.brain && !grant.revoked).collect();
    if grants.is_empty() {
        let name = format!("of {} in {}", peer.name, space.name);
        return Err(CliError::NotFound { what: "grant", name, near: Vec::new() });
    }
    let mut last = None;
    for grant in grants {
        last = Some(client.delete(&["spaces", &space.id, "grants", &grant.id]).send().await?);
    }
    let Some(answer) = last else { return Ok(()) };
    screen.answer(&answer, |space: &Space| {
        let (name, peer) = (line(&space.name), line(&peer.name));
        format!(
            "{}  {name} for {peer}; what was delivered stays there, see `cairn receipts`",
            screen.paint.good(if space.own { "revoked" } else { "asked to revoke" })
        )
    })
}

/// Lists spaces with who may do what in them.
///
/// # Errors
/// When the token in use is not the owner's, or the node cannot be asked.
pub async fn shares(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let page: RawPage = client.get(&["spaces"]).send().await?.read()?;
    let known = all_peers(client).await?;
    screen.list(&page, "Nothing is shared. `cairn space create` begins a space.", |spaces: &[Space]| {
        spaces.iter().map(|space| space_lines(screen, space, &known)).collect()
    })
}

fn space_lines(screen: &Screen, space: &Space, known: &[Peer]) -> String {
    if screen.quiet {
        return format!("{}\n", space.id);
    }
    let of = known.iter().find(|peer| peer.brain == space.owner).map(|peer| line(&peer.name));
    let owner = match (space.own, of) {
        (true, _) => "yours".to_owned(),
        (false, Some(name)) => format!("of {name}"),
        (false, None) => format!("of {}", short(&space.owner)),
    };
    let tag =
        space.selection.tag.as_ref().map(|tag| format!(", all with the tag {}", line(tag))).unwrap_or_default();
    let pending = match space.pending {
        0 => String::new(),
        pending => format!(", {} more to be looked at", number(pending)),
    };
    let mut lines = format!(
        "{}  {owner}, {} memories{pending}{tag}  {}\n",
        screen.paint.bold(&line(&space.name)),
        number(space.memories),
        screen.paint.dim(short(&space.id))
    );
    for grant in &space.grants {
        let who = grant.name.as_ref().map_or_else(|| "you".to_owned(), |name| line(name));
        let state = match (grant.revoked, grant.decision.as_deref()) {
            (true, _) => "ended",
            (false, Some("accepted")) => "accepted",
            (false, Some("declined")) => "declined",
            (false, _) => "not answered yet",
        };
        let until = grant.expires_at.and_then(DateTime::from_timestamp_millis);
        let until = until.map(|until| format!(" until {}", until.format("%Y-%m-%d"))).unwrap_or_default();
        lines.push_str(&format!("  {who} may {}{until}: {state}\n", grant.role));
    }
    for wish in &space.wishes {
        let who = wish.name.as_ref().map_or_else(|| short(&wish.by).to_owned(), |name| line(name));
        let what = match &wish.wish {
            Wished::Erased { memory } => format!("that {} is destroyed everywhere", short(memory)),
            Wished::Other => "a change of the space".to_owned(),
        };
        let id = short(&wish.id);
        lines.push_str(&format!("  {who} wishes {what}: `cairn share grant {id}` or `cairn share deny {id}`\n"));
    }
    lines
}

/// Lists who has received how much of which space.
///
/// # Errors
/// When the token in use is not the owner's, or the node cannot be asked.
pub async fn receipts(client: &Client, screen: &Screen) -> Result<(), CliError> {
    let page: RawPage = client.get(&["receipts"]).send().await?.read()?;
    let view: View = client.get(&["sharing"]).send().await?.read()?;
    screen.list(&page, "Nobody has received anything.", |receipts: &[Receipt]| {
        let row = |receipt: &Receipt| {
            let space = view.spaces.iter().find(|space| space.id == receipt.space);
            let peer = view.peers.iter().find(|peer| peer.brain == receipt.by);
            let all = receipt.of.filter(|all| *all > receipt.entries);
            let all = all.map_or_else(String::new, |all| format!("of {} ", number(all)));
            let space = space.map_or_else(|| short(&receipt.space).to_owned(), |space| line(&space.name));
            let peer = peer.map_or_else(|| short(&receipt.by).to_owned(), |peer| line(&peer.name));
            let at = DateTime::from_timestamp_millis(receipt.at).unwrap_or_default();
            format!(
                "{peer} has {} {all}entries of {space}, last at {}\n",
                number(receipt.entries),
                at.format("%Y-%m-%d %H:%M:%S")
            )
        };
        let erasures = view.erasures.iter().map(|erasure| erasure_lines(&view, erasure));
        receipts.iter().map(row).chain(erasures).collect()
    })
}

fn erasure_lines(view: &View, erasure: &Erasure) -> String {
    let space = view.spaces.iter().find(|space| space.id == erasure.space);
    let space = space.map_or_else(|| short(&erasure.space).to_owned(), |space| line(&space.name));
    let mut lines = String::new();
    for asked in &erasure.members {
        let who = asked.name.as_ref().map_or_else(|| short(&asked.brain).to_owned(), |name| line(name));
        let at = asked.acknowledged_at.and_then(DateTime::from_timestamp_millis);
        let state = match at {
            Some(at) => format!("knows since {}", at.format("%Y-%m-%d %H:%M:%S")),
            None if asked.blocked => "is blocked, and hears nothing".to_owned(),
            None => "has not answered yet".to_owned(),
        };
        lines.push_str(&format!("{who} {state}: {} of {space} is to be destroyed\n", short(&erasure.memory)));
    }
    lines
}

async fn find_peer(client: &Client, name: &str) -> Result<Peer, CliError> {
    let peers = all_peers(client).await?;
    one(peers, "peer", name, |peer| (&peer.brain, &peer.name))
}

async fn find_space(client: &Client, name: &str) -> Result<Space, CliError> {
    let view: View = client.get(&["sharing"]).send().await?.read()?;
    one(view.spaces, "space", name, |space| (&space.id, &space.name))
}

/// The one thing that a name, or the start of an id, fits.
pub(super) fn one<T>(
    items: Vec<T>,
    what: &'static str,
    name: &str,
    keys: impl Fn(&T) -> (&String, &String),
) -> Result<T, CliError> {
    let fits = |item: &T| {
        let (id, called) = keys(item);
        called.eq_ignore_ascii_case(name) || name.len() >= 4 && id.starts_with(name)
    };
    let all: Vec<(String, String)> =
        items.iter().take(NEAR).map(&keys).map(|(id, called)| (id.clone(), called.clone())).collect();
    let mut found: Vec<T> = items.into_iter().filter(fits).collect();
    match found.len() {
        0 => {
            let near = all.into_iter().map(|(id, label)| Candidate { id, label }).collect();
            Err(CliError::NotFound { what, name: name.to_owned(), near })
        }
        1 => Ok(found.remove(0)),
        _ => {
            let candidate = |item: &T| {
                let (id, called) = keys(item);
                Candidate { id: id.clone(), label: called.clone() }
            };
            Err(CliError::Ambiguous {
                what,
                name: name.to_owned(),
                candidates: found.iter().map(candidate).collect(),
            })
        }
    }
}

pub(super) fn short(key: &str) -> &str {
    key.get(..SHORT).unwrap_or(key)
}
