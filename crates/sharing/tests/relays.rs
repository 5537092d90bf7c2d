//! Brains that do not meet: what they share comes by one that keeps it sealed, or by one that passes on what it reads.

#[path = "support/node.rs"]
mod node;

use std::sync::Arc;
use std::time::Instant;

use cairn_domain::event::SelectionChanged;
use cairn_domain::id::MemoryId;
use cairn_event_store::{Direction, Filter, Position};
use cairn_sharing::{Offering, SharingError};
use cairn_sync::control::{Decision, Role};
use cairn_sync::engine::Offer;
use cairn_sync::key::SpaceId;
use node::{Hub, Node, PATIENCE, locked, pair, title, user};

/// Anna's space, which Bert may write in and Rita only keeps; Anna and Bert never meet again.
async fn apart() -> (Node, Node, Node, MemoryId, SpaceId) {
    let hub = Arc::new(Hub::default());
    let (anna, bert, rita) = (Node::start(&hub, 1).await, Node::start(&hub, 2).await, Node::start(&hub, 3).await);
    pair(&anna, &bert).await;
    pair(&anna, &rita).await;
    pair(&bert, &rita).await;
    let memory = anna.note("canary-roses", &["garden"], "canary-text").await;
    let space = anna.share(&rita, "Garden", "garden", Role::Relay).await;
    anna.sharing.offer(write(&bert, space)).await.expect("it is offered");
    hub.part(&anna, &bert);
    bert.shows("the offer", |view| view.spaces.iter().any(|offered| offered.id == space)).await;
    bert.sharing.decide(space, Decision::Accepted).await.expect("it is kept");
    (anna, bert, rita, memory, space)
}

/// Anna's space, which Bert may pass on as far as a role lets him; Carl knows Bert alone.
async fn in_a_row(role: Role) -> (Node, Node, Node, MemoryId, SpaceId) {
    let hub = Arc::new(Hub::default());
    let (anna, bert, carl) = (Node::start(&hub, 1).await, Node::start(&hub, 2).await, Node::start(&hub, 3).await);
    pair(&anna, &bert).await;
    pair(&bert, &carl).await;
    let memory = anna.note("Roses", &["garden"], "").await;
    let selection = SelectionChanged { tag: Some("garden".into()), memories: vec![] };
    let space = anna.sharing.create("Garden".into(), selection).await.expect("it begins");
    let offer = Offer { to: bert.brain(), role, expires_at: None, reshare: true };
    anna.sharing.offer(Offering { space, offer }).await.expect("it is offered");
    bert.shows("the offer", |view| view.spaces.iter().any(|offered| offered.id == space)).await;
    bert.sharing.decide(space, Decision::Accepted).await.expect("it is kept");
    (anna, bert, carl, memory, space)
}

fn write(to: &Node, space: SpaceId) -> Offering {
    Offering { space, offer: Offer { to: to.brain(), role: Role::Write, expires_at: None, reshare: false } }
}

/// Everything in a brain's log, as it reads it.
async fn log(node: &Node) -> Vec<u8> {
    let all = Filter { stream_prefixes: Vec::new(), event_types: Vec::new() };
    let page = node.handler.store().read_all(Position::START.next(), Direction::Forwards, &all, 100_000).await;
    page.expect("it is read").events.iter().flat_map(|event| event.data.to_vec()).collect()
}

fn holds(bytes: &[u8], what: &str) -> bool {
    bytes.windows(what.len()).any(|window| window == what.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_never_meet_share_by_a_relay_that_reads_nothing() {
    let (anna, bert, rita, memory, _) = apart().await;
    bert.until(memory, "the memory", |memory| title(memory) == "canary-roses").await;
    bert.set(memory, "title", "canary-tulips".into()).await;
    anna.until(memory, "the title", |memory| title(memory) == "canary-tulips").await;
    assert!(rita.memory(memory).await.created().is_none(), "it makes no memory of it");
    assert!(holds(&log(&bert).await, "canary"), "the search finds what is there");
    let kept = log(&rita).await;
    assert!(holds(&kept, "\"sealed\"") && !holds(&kept, "canary"), "{}", String::from_utf8_lossy(&kept));
    // What it keeps, it has again when it was off, and gives it to whoever comes.
    let rita = rita.restart().await;
    let later = anna.note("canary-lilies", &["garden"], "").await;
    bert.until(later, "what was said later", |memory| title(memory) == "canary-lilies").await;
    assert!(!holds(&log(&rita).await, "canary"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_erased_everywhere_is_gone_from_a_relay() {
    let (anna, bert, rita, memory, _) = apart().await;
    bert.until(memory, "the memory", |memory| title(memory) == "canary-roses").await;
    assert!(holds(&log(&rita).await, &memory.to_string()) || holds(&log(&rita).await, "\"sealed\""));
    anna.sharing.erase(memory, user()).await.expect("it is hers");
    bert.until(memory, "the erasure", |memory| !memory.is_present()).await;
    let began = Instant::now();
    while holds(&log(&rita).await, "\"sealed\"") {
        assert!(began.elapsed() < PATIENCE, "it still keeps what was erased");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_becomes_a_reader_reads_what_it_has_kept() {
    let (anna, bert, rita, memory, space) = apart().await;
    bert.until(memory, "the memory", |memory| title(memory) == "canary-roses").await;
    anna.offer(&rita, space, Role::Read).await;
    let open = |view: &cairn_sharing::View| view.spaces.iter().any(|space| space.grants.len() > 2);
    rita.shows("the offer", open).await;
    rita.sharing.decide(space, Decision::Accepted).await.expect("it is kept");
    rita.until(memory, "the memory", |memory| {
        title(memory) == "canary-roses" && memory.body().text() == "canary-text"
    })
    .await;
    let rita = rita.restart().await;
    bert.set(memory, "title", "canary-tulips".into()).await;
    rita.until(memory, "what is said since", |memory| title(memory) == "canary-tulips").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_let_passes_on_what_it_reads_to_one_whom_the_owner_does_not_know() {
    let (anna, bert, carl, memory, space) = in_a_row(Role::Write).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Roses").await;
    let admin = Offer { role: Role::Admin, to: carl.brain(), expires_at: None, reshare: false };
    let refused = bert.sharing.offer(Offering { space, offer: admin }).await;
    assert!(matches!(refused, Err(SharingError::CannotSay(_))), "{refused:?}");
    bert.sharing.offer(write(&carl, space)).await.expect("Anna's node is asked");
    carl.shows("the offer", |view| view.spaces.iter().any(|offered| offered.id == space)).await;
    assert!(carl.memory(memory).await.created().is_none(), "nothing comes before it is accepted");
    carl.sharing.decide(space, Decision::Accepted).await.expect("it is kept");
    carl.until(memory, "the memory", |memory| title(memory) == "Roses").await;
    carl.set(memory, "title", "Carl's roses".into()).await;
    anna.until(memory, "the title", |memory| title(memory) == "Carl's roses").await;
    let met = locked(&anna.hub.links).contains(&(anna.device(), carl.device()));
    assert!(!met, "they do not know each other");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_passes_nothing_on() {
    let hub = Arc::new(Hub::default());
    let (anna, bert, carl) = (Node::start(&hub, 1).await, Node::start(&hub, 2).await, Node::start(&hub, 3).await);
    pair(&anna, &bert).await;
    pair(&bert, &carl).await;
    let space = anna.share(&bert, "Garden", "garden", Role::Write).await;
    let refused = bert.sharing.offer(write(&carl, space)).await;
    assert!(matches!(refused, Err(SharingError::CannotSay(_))), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_passes_on_what_it_reads_where_it_is_let() {
    let (_anna, bert, carl, memory, space) = in_a_row(Role::Read).await;
    let refused = bert.sharing.offer(write(&carl, space)).await;
    assert!(matches!(refused, Err(SharingError::CannotSay(_))), "no more than it may itself: {refused:?}");
    bert.offer(&carl, space, Role::Read).await;
    carl.shows("the offer", |view| view.spaces.iter().any(|offered| offered.id == space)).await;
    carl.sharing.decide(space, Decision::Accepted).await.expect("it is kept");
    carl.until(memory, "the memory", |memory| title(memory) == "Roses").await;
}
