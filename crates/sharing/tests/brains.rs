//! Brains that share, each with a log of its own, over wires in memory: through the service, as a node runs it.

#[path = "support/node.rs"]
mod node;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_domain::event::SelectionChanged;
use cairn_domain::field::FieldName;
use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_domain::memory::Memory;
use cairn_domain::memory::command::Command;
use cairn_domain::value::Value;
use cairn_event_store::{Direction, Filter, Position};
use cairn_sharing::{Offering, Selecting, SharingError, View};
use cairn_sync::control::{Decision, Role};
use cairn_sync::engine::Offer;
use cairn_sync::key::SpaceId;
use uuid::Uuid;

use node::*;

#[tokio::test(flavor = "multi_thread")]
async fn two_brains_share_a_memory_and_both_go_on_writing() {
    let (anna, bert) = two().await;
    let memory = anna.note("Tomatoes", &["garden"], "Water them.").await;
    let hidden = anna.note("Diary", &[], "Nobody's business.").await;
    anna.share(&bert, "Garden", "garden", Role::Write).await;
    bert.until(memory, "the memory", |memory| {
        title(memory) == "Tomatoes" && memory.body().text() == "Water them."
    })
    .await;
    let seen = bert.memory(memory).await;
    assert!(seen.tags().any(|(tag, _)| tag == "garden"));
    let author = &seen.created().expect("created").origin;
    assert!(author.is_peer(), "{author}");
    bert.set(memory, "title", "Tomatoes and beans".into()).await;
    anna.until(memory, "the title", |memory| title(memory) == "Tomatoes and beans").await;
    bert.write(memory, "Water them. Not at noon.").await;
    anna.until(memory, "the text", |memory| memory.body().text() == "Water them. Not at noon.").await;
    anna.write(memory, "Water them in the evening. Not at noon.").await;
    bert.until(memory, "the text", |memory| memory.body().text() == "Water them in the evening. Not at noon.")
        .await;
    assert!(bert.memory(hidden).await.created().is_none());
    // What is new and has the tag comes by itself.
    let later = anna.note("Beans", &["garden"], "").await;
    bert.until(later, "the new memory", |memory| title(memory) == "Beans").await;
    let chain = anna.memory(memory).await.origin_chain(&FieldName::title());
    assert!(chain[0].author.origin.is_peer() && !chain[1].author.origin.is_peer(), "{chain:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_both_changed_without_a_network_is_a_conflict_and_texts_merge() {
    let (anna, bert) = two().await;
    let memory = anna.note("Tomatoes", &["garden"], "One.\nTwo.\nThree.\n").await;
    anna.share(&bert, "Garden", "garden", Role::Write).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    anna.hub.set_cut(true);
    anna.set(memory, "title", "Anna's".into()).await;
    bert.set(memory, "title", "Bert's".into()).await;
    anna.write(memory, "One!\nTwo.\nThree.\n").await;
    bert.write(memory, "One.\nTwo.\nThree?\n").await;
    anna.hub.set_cut(false);
    for node in [&anna, &bert] {
        node.until(memory, "both", |memory| {
            memory.body().text() == "One!\nTwo.\nThree?\n"
                && memory.field(&FieldName::title()).is_some_and(|title| title.conflict().len() == 2)
        })
        .await;
    }
    assert_eq!(title(&anna.memory(memory).await), title(&bert.memory(memory).await), "both see the same value");
    anna.set(memory, "title", "Ours".into()).await;
    for node in [&anna, &bert] {
        node.until(memory, "the end of the conflict", |memory| {
            title(memory) == "Ours"
                && memory.field(&FieldName::title()).is_some_and(|title| title.conflict().is_empty())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_only_suggest_suggests_and_who_may_only_read_is_not_heard() {
    let (anna, bert) = two().await;
    let memory = anna.note("Tomatoes", &["garden"], "").await;
    let space = anna.share(&bert, "Garden", "garden", Role::Suggest).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    bert.set(memory, "title", "Bert's".into()).await;
    let waits =
        |memory: &Memory| memory.field(&FieldName::title()).is_some_and(|title| title.suggestions().len() == 1);
    anna.until(memory, "the suggestion", waits).await;
    assert_eq!(title(&anna.memory(memory).await), "Tomatoes");
    let suggestion = anna.memory(memory).await.field(&FieldName::title()).expect("a title").suggestions()[0].id;
    anna.run(memory, Command::AcceptSuggestion { suggestion, edited: None }).await;
    bert.until(memory, "the acceptance", |memory| {
        let title = memory.field(&FieldName::title()).and_then(|claims| claims.effective());
        title.is_some_and(|claim| claim.author.origin.is_peer() && claim.value == Value::from("Bert's"))
    })
    .await;
    let _ = space;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_turned_down_and_waits_again_does_so_on_all_sides() {
    let (anna, bert) = two().await;
    let carl = Node::start(&anna.hub, 3).await;
    pair(&anna, &carl).await;
    let memory = anna.note("Tomatoes", &["garden"], "").await;
    let space = anna.share(&bert, "Garden", "garden", Role::Suggest).await;
    anna.offer(&carl, space, Role::Read).await;
    carl.shows("the offer", |view| view.spaces.iter().any(|offered| offered.id == space)).await;
    carl.sharing.decide(space, Decision::Accepted).await.expect("it is kept");
    bert.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    bert.set(memory, "title", "Beans".into()).await;
    let waits = |memory: &Memory| {
        let title = memory.field(&FieldName::title());
        title.and_then(|title| title.suggestions().first().map(|claim| claim.id))
    };
    for node in [&anna, &carl] {
        node.until(memory, "the suggestion", |memory| waits(memory).is_some()).await;
    }
    let suggestion = waits(&anna.memory(memory).await).expect("it waits");
    for _ in 0..2 {
        anna.run(memory, Command::RejectSuggestion { suggestion }).await;
        carl.until(memory, "that it was turned down", |memory| waits(memory).is_none()).await;
        anna.run(memory, Command::UndoCommand { command: None }).await;
        carl.until(memory, "that it waits again", |memory| waits(memory).is_some()).await;
        assert!(waits(&anna.memory(memory).await).is_some());
    }
    // Who may only suggest undoes nothing of hers.
    anna.run(memory, Command::RejectSuggestion { suggestion }).await;
    bert.set(memory, "marker", "here".into()).await;
    let marker: FieldName = "marker".parse().expect("a field");
    carl.until(memory, "the marker", |memory| memory.field(&marker).is_some()).await;
    assert_eq!(waits(&carl.memory(memory).await), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revocation_stops_what_comes_after_it_on_both_sides() {
    let (anna, bert) = two().await;
    let memory = anna.note("Tomatoes", &["garden"], "").await;
    let space = anna.share(&bert, "Garden", "garden", Role::Write).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    bert.set(memory, "title", "Before".into()).await;
    anna.until(memory, "what was in time", |memory| title(memory) == "Before").await;
    let grant = anna.sharing.view().await.expect("it answers").spaces[0].grants[0].id;
    anna.sharing.revoke(space, grant).await.expect("it is revoked");
    bert.shows("the revocation", |view| view.spaces[0].grants[0].revoked).await;
    bert.set(memory, "title", "After".into()).await;
    anna.set(memory, "title", "Anna's own".into()).await;
    let marker = anna.note("Marker", &["garden"], "").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(title(&anna.memory(memory).await), "Anna's own");
    assert_eq!(title(&bert.memory(memory).await), "After", "what was delivered stays, and is one's own to change");
    assert!(bert.memory(marker).await.created().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_private_is_ever_sent() {
    let (anna, bert) = two().await;
    let canary = "canary-7f3a";
    let memory = anna.note("Tomatoes", &["garden"], "").await;
    anna.set(memory, "private_note", canary.into()).await;
    let other = anna.note(canary, &[], canary).await;
    let kept = anna.note("Kept", &[], canary).await;
    anna.set(kept, "private", Value::Flag(true)).await;
    anna.set(kept, "tag/garden", Value::Flag(true)).await;
    anna.set(memory, &format!("link/mentions/{other}"), Value::Flag(true)).await;
    anna.share(&bert, "Garden", "garden", Role::Write).await;
    anna.set(memory, "private_note", format!("{canary} again").as_str().into()).await;
    anna.set(memory, "title", "Last".into()).await;
    bert.until(memory, "the last change", |memory| title(memory) == "Last").await;
    let sent = locked(&anna.hub.sent).concat();
    let leaks = |what: &[u8]| sent.windows(what.len()).any(|window| window == what);
    assert!(leaks(b"Tomatoes"), "the search finds what was sent");
    assert!(!leaks(canary.as_bytes()));
    assert!(!leaks(other.to_string().as_bytes()) && !leaks(other.uuid().as_bytes()));
    assert!(!leaks(kept.uuid().as_bytes()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_told_when_its_target_comes_in() {
    let (anna, bert) = two().await;
    let tomatoes = anna.note("Tomatoes", &["garden"], "").await;
    let (soil, water, shed) =
        (anna.note("Soil", &[], "").await, anna.note("Water", &[], "").await, MemoryId::new(Uuid::now_v7()));
    let to = |target: MemoryId| format!("link/mentions/{target}");
    anna.set(tomatoes, &to(soil), Value::Flag(true)).await;
    anna.share(&bert, "Garden", "garden", Role::Write).await;
    bert.until(tomatoes, "the memory", |memory| title(memory) == "Tomatoes").await;
    // What Bert writes about Anna's memory is his to tell.
    let fence = bert.note("Fence", &[], "").await;
    bert.set(tomatoes, &to(fence), Value::Flag(true)).await;
    // One link was made before the node started, one since then, and one leads nowhere.
    let anna = anna.restart().await;
    anna.set(tomatoes, &to(water), Value::Flag(true)).await;
    anna.set(tomatoes, &to(shed), Value::Flag(true)).await;
    anna.set(soil, "tag/garden", Value::Flag(true)).await;
    let links = |memory: &Memory| memory.links().map(|(_, target, _)| target).collect::<BTreeSet<_>>();
    bert.until(tomatoes, "the link to the soil", |memory| links(memory).contains(&soil)).await;
    assert_eq!(links(&bert.memory(tomatoes).await), BTreeSet::from([soil, fence]));
    anna.set(water, "tag/garden", Value::Flag(true)).await;
    bert.until(tomatoes, "the link to the water", |memory| links(memory).contains(&water)).await;
    let selection = SelectionChanged { tag: None, memories: vec![fence] };
    let space = bert.sharing.view().await.expect("it is there").spaces.remove(0).id;
    bert.sharing.select(Selecting { space, selection }).await.expect("he may write");
    anna.until(tomatoes, "Bert's link", |memory| links(memory).contains(&fence)).await;
    assert_eq!(links(&bert.memory(tomatoes).await), BTreeSet::from([soil, fence, water]));
    assert_eq!(links(&anna.memory(tomatoes).await), BTreeSet::from([soil, fence, water, shed]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_that_loses_its_tag_leaves_the_space_from_then_on() {
    let (anna, bert) = two().await;
    let memory = anna.note("Tomatoes", &["garden"], "").await;
    anna.share(&bert, "Garden", "garden", Role::Write).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    anna.set(memory, "tag/garden", Value::Flag(false)).await;
    let began = Instant::now();
    while anna.memory(memory).await.space().is_some() {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anna.set(memory, "title", "Alone".into()).await;
    let marker = anna.note("Marker", &["garden"], "").await;
    bert.until(marker, "the marker", |memory| title(memory) == "Marker").await;
    assert_eq!(title(&bert.memory(memory).await), "Tomatoes");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_wrote_while_a_memory_was_out_of_the_space_comes_when_it_is_back() {
    let (anna, bert) = two().await;
    let memory = anna.note("Tomatoes", &["garden"], "").await;
    let space = anna.share(&bert, "Garden", "garden", Role::Write).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    anna.set(memory, "tag/garden", Value::Flag(false)).await;
    anna.until(memory, "that it is out", |memory| memory.space().is_none()).await;
    bert.set(memory, "title", "Of Bert".into()).await;
    let marker = bert.note("Marker", &["shed"], "").await;
    let selection = SelectionChanged { tag: Some("shed".into()), memories: vec![] };
    bert.sharing.select(Selecting { space, selection }).await.expect("he may");
    anna.until(marker, "what Bert said after it", |memory| title(memory) == "Marker").await;
    assert_eq!(title(&anna.memory(memory).await), "Tomatoes");
    let anna = anna.restart().await;
    anna.set(memory, "tag/garden", Value::Flag(true)).await;
    anna.until(memory, "what Bert said meanwhile", |memory| title(memory) == "Of Bert").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_starts_again_goes_on_where_it_was_and_says_nothing_twice() {
    let (anna, bert) = two().await;
    let memory = anna.note("Tomatoes", &["garden"], "").await;
    let space = anna.share(&bert, "Garden", "garden", Role::Write).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    let anna = anna.restart().await;
    anna.set(memory, "title", "Again".into()).await;
    bert.until(memory, "the title", |memory| title(memory) == "Again").await;
    let bert = bert.restart().await;
    bert.set(memory, "title", "And again".into()).await;
    anna.until(memory, "the title", |memory| title(memory) == "And again").await;
    for node in [&anna, &bert] {
        let filter = Filter { stream_prefixes: vec![], event_types: vec!["space.entry".into()] };
        let store = node.handler.store();
        let page =
            store.read_all(Position::START.next(), Direction::Forwards, &filter, 1_000).await.expect("reads");
        let ids: BTreeSet<Uuid> = page.events.iter().map(|event| event.id).collect();
        // Created, title, tag; three titles more, and nothing besides.
        assert_eq!((page.events.len(), ids.len()), (5, 5), "brain {}", node.number);
    }
    let receipts =
        anna.shows("the receipt", |view| view.receipts.iter().any(|receipt| receipt.space == space)).await;
    assert_eq!(receipts.receipts[0].by, bert.brain());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_space_over_many_memories_is_made_between_all_else_and_goes_on_after_a_restart() {
    const MANY: usize = 2_500;
    let hub = Arc::new(Hub::default());
    let anna = Node::start(&hub, 1).await;
    let mut memories = Vec::new();
    for number in 0..MANY {
        memories.push(anna.note(&format!("Tomato {number}"), &["garden"], "").await);
    }
    // From the first that is looked at to the last, and back.
    for (from, to) in [(memories[0], memories[MANY - 1]), (memories[MANY - 1], memories[0])] {
        anna.set(from, &format!("link/mentions/{to}"), Value::Flag(true)).await;
    }
    let selection = SelectionChanged { tag: Some("garden".into()), memories: vec![] };
    anna.sharing.create("Garden".into(), selection).await.expect("it may");
    let view = anna.sharing.view().await.expect("it is there").spaces.remove(0);
    assert!(view.pending > 0 && view.memories >= 256, "{} of {MANY}, {} left", view.memories, view.pending);
    let anna = anna.restart().await;
    let done = |view: &View| (view.spaces[0].memories, view.spaces[0].pending) == (MANY, 0);
    anna.shows("all memories", done).await;
    // Created, title and tag of each, and the links.
    anna.shows("all entries", |view| view.spaces[0].entries == 3 * MANY as u64 + 2).await;
    let anna = anna.restart().await;
    let view = anna.sharing.view().await.expect("it is there").spaces.remove(0);
    assert_eq!((view.memories, view.pending), (MANY, 0), "nothing is looked at twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_works_once_and_a_blocked_brain_is_cut_off() {
    let hub = Arc::new(Hub::default());
    let (anna, bert, carl) = (Node::start(&hub, 1).await, Node::start(&hub, 2).await, Node::start(&hub, 3).await);
    let invitation = anna.sharing.invite(Duration::from_secs(600)).await.expect("it is made");
    bert.sharing.accept(&invitation.link).await.expect("it is taken up");
    anna.shows("Bert", |view| view.peers.len() == 1).await;
    carl.sharing.accept(&invitation.link).await.expect("it is well formed");
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert!(carl.sharing.view().await.expect("it answers").peers.is_empty());
    assert_eq!(anna.sharing.view().await.expect("it answers").peers.len(), 1);
    let words = |view: &View| view.peers[0].words.clone();
    let (ours, theirs) =
        (anna.sharing.view().await.expect("answers"), bert.sharing.view().await.expect("answers"));
    assert_eq!(words(&ours), words(&theirs));
    anna.sharing.block(bert.brain(), true).await.expect("it is blocked");
    bert.shows("the cut", |view| !view.peers[0].online).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(!anna.sharing.view().await.expect("it answers").peers[0].online);
    assert!(anna.sharing.accept("cairn://pair/nonsense").await.is_err());
    let own = anna.sharing.invite(Duration::from_secs(600)).await.expect("it is made");
    assert!(anna.sharing.accept(&own.link).await.is_err());
}

/// Anna, who owns the space, with Bert and Carl, who write in it.
async fn three() -> (Node, Node, Node, SpaceId) {
    let (anna, bert) = two().await;
    let carl = Node::start(&anna.hub, 3).await;
    pair(&anna, &carl).await;
    let space = anna.share(&bert, "Garden", "garden", Role::Write).await;
    anna.offer(&carl, space, Role::Write).await;
    carl.shows("the offer", |view| view.spaces.iter().any(|offered| offered.id == space)).await;
    carl.sharing.decide(space, Decision::Accepted).await.expect("it is kept");
    (anna, bert, carl, space)
}

/// A memory of one of them in the space, which the others have.
async fn shared_by(one: &Node, space: SpaceId, others: [&Node; 2]) -> MemoryId {
    let memory = one.note("Tomatoes", &["garden"], "Plant them in May.").await;
    let selection = SelectionChanged { tag: Some("garden".into()), memories: vec![] };
    one.sharing.select(Selecting { space, selection }).await.expect("it is chosen");
    for other in others {
        other.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    }
    memory
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_erases_everywhere_is_gone_everywhere_and_stays_so() {
    let (anna, bert, carl, space) = three().await;
    let memory = shared_by(&anna, space, [&bert, &carl]).await;
    bert.set(memory, "title", "Bert's tomatoes".into()).await;
    carl.until(memory, "Bert's word", |memory| title(memory) == "Bert's tomatoes").await;
    let carl = {
        // Carl hears of it only when he is back.
        carl.hub.set_cut(true);
        anna.sharing.erase(memory, user()).await.expect("it is erased");
        carl.hub.set_cut(false);
        carl
    };
    for node in [&anna, &bert, &carl] {
        node.until(memory, "its end", Memory::is_erased).await;
    }
    let all_know = |view: &View| {
        view.erasures.len() == 1 && view.erasures[0].members.iter().all(|asked| asked.acknowledged_at.is_some())
    };
    let view = anna.shows("their acknowledgements", all_know).await;
    assert_eq!(view.erasures[0].members.len(), 2);
    let carl = carl.restart().await;
    assert!(carl.memory(memory).await.is_erased());
    // Who comes later hears nothing of it.
    let dora = Node::start(&anna.hub, 4).await;
    pair(&anna, &dora).await;
    let marker = anna.note("Marker", &["garden"], "").await;
    anna.offer(&dora, space, Role::Read).await;
    dora.shows("the offer", |view| view.spaces.iter().any(|offered| offered.id == space)).await;
    dora.sharing.decide(space, Decision::Accepted).await.expect("it is kept");
    dora.until(marker, "the marker", |memory| title(memory) == "Marker").await;
    assert!(dora.memory(memory).await.created().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_has_erased_everywhere_what_it_began_and_nothing_else() {
    let (anna, bert, carl, space) = three().await;
    let memory = shared_by(&bert, space, [&anna, &carl]).await;
    let refused = carl.sharing.erase(memory, user()).await;
    assert!(matches!(refused, Err(SharingError::NotBegunHere(_))), "{refused:?}");
    let kept = shared_by(&bert, space, [&anna, &carl]).await;
    bert.sharing.erase(memory, user()).await.expect("it is erased");
    for node in [&anna, &bert, &carl] {
        node.until(memory, "its end", Memory::is_erased).await;
    }
    for node in [&bert, &carl] {
        assert_eq!(title(&node.memory(kept).await), "Tomatoes", "what nobody has erased stays");
    }
    let unshared = bert.note("Apples", &[], "").await;
    assert!(matches!(bert.sharing.erase(unshared, user()).await, Err(SharingError::NotShared(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_erase_what_the_owner_has_written_in_waits_for_the_owner() {
    let (anna, bert, carl, space) = three().await;
    let memory = shared_by(&bert, space, [&anna, &carl]).await;
    anna.set(memory, "title", "Anna's tomatoes".into()).await;
    carl.until(memory, "Anna's word", |memory| title(memory) == "Anna's tomatoes").await;
    bert.sharing.erase(memory, user()).await.expect("it is wished");
    let view = anna.shows("the wish", |view| view.spaces[0].wishes.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(title(&anna.memory(memory).await), "Anna's tomatoes", "nobody has decided");
    assert!(bert.memory(memory).await.is_erased(), "it is gone where it was begun");
    let wish = view.spaces[0].wishes[0].id;
    anna.sharing.answer(wish, true).await.expect("it is granted");
    for node in [&anna, &carl] {
        node.until(memory, "its end", Memory::is_erased).await;
    }
    assert!(matches!(anna.sharing.answer(wish, true).await, Err(SharingError::NoWish(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_erases_stays_with_who_began_it_and_out_of_the_space() {
    let (anna, bert, carl, space) = three().await;
    let memory = shared_by(&bert, space, [&anna, &carl]).await;
    anna.sharing.erase(memory, user()).await.expect("it is erased");
    for node in [&anna, &carl] {
        node.until(memory, "its end", Memory::is_erased).await;
    }
    bert.until(memory, "its leaving", |memory| memory.space().is_none()).await;
    assert_eq!(title(&bert.memory(memory).await), "Tomatoes");
    bert.set(memory, "title", "Mine".into()).await;
    let bert = bert.restart().await;
    bert.set(memory, "tag:again", Value::Flag(true)).await;
    let marker = bert.note("Marker", &["garden"], "").await;
    anna.until(marker, "what came after it", |memory| title(memory) == "Marker").await;
    let state = bert.memory(memory).await;
    assert_eq!((title(&state), state.space()), ("Mine", None), "it does not come back into the space");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admin_shares_and_revokes_in_the_owners_name_and_makes_nobody_an_admin() {
    let (anna, bert) = two().await;
    let carl = Node::start(&anna.hub, 3).await;
    pair(&anna, &carl).await;
    pair(&bert, &carl).await;
    let memory = anna.note("Tomatoes", &["garden"], "").await;
    let space = anna.share(&bert, "Garden", "garden", Role::Admin).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    let offer = |role| Offer { to: carl.brain(), role, expires_at: None, reshare: false };
    let refused = bert.sharing.offer(Offering { space, offer: offer(Role::Admin) }).await;
    assert!(refused.is_err(), "an admin makes no admins");
    bert.sharing.offer(Offering { space, offer: offer(Role::Write) }).await.expect("it is wished");
    carl.shows("the offer", |view| view.spaces.iter().any(|offered| offered.id == space)).await;
    carl.sharing.decide(space, Decision::Accepted).await.expect("it is kept");
    carl.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    let refused =
        carl.sharing.offer(Offering { space, offer: Offer { to: bert.brain(), ..offer(Role::Read) } }).await;
    assert!(refused.is_err(), "who only writes offers nothing");
    let of_carl = |view: &View| view.spaces[0].grants.iter().find(|grant| grant.to == carl.brain()).cloned();
    let grant = of_carl(&bert.sharing.view().await.expect("it answers")).expect("it is granted").id;
    bert.sharing.revoke(space, grant).await.expect("it is wished");
    carl.shows("the revocation", |view| of_carl(view).is_some_and(|grant| grant.revoked)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_is_taken_of_a_brain_than_a_days_share_and_what_it_decides_is_heard_all_the_same() {
    let hub = Arc::new(Hub::default());
    let (anna, bert) = (Node::start(&hub, 1).await, Node::start_with(&hub, 2, 1_500).await);
    pair(&anna, &bert).await;
    let memory = anna.note("Tomatoes", &["garden"], "").await;
    let space = anna.share(&bert, "Garden", "garden", Role::Read).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Tomatoes").await;
    let large = anna.note("Large", &["garden"], &"x".repeat(4_000)).await;
    bert.until(large, "what uses it up", |memory| title(memory) == "Large").await;
    let more = anna.note("More", &["garden"], "").await;
    anna.offer(&bert, space, Role::Write).await;
    bert.shows("the other offer", |view| view.spaces[0].grants.len() == 2).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(bert.memory(more).await.created().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_names_a_memory_that_is_anothers_own_does_not_get_at_it() {
    let (anna, bert) = two().await;
    let diary = bert.note("Diary", &[], "Nobody's business.").await;
    let claims = vec![
        (FieldName::title(), Value::from("Anna's")),
        (FieldName::tag("garden").expect("a tag"), Value::Flag(true)),
    ];
    anna.run(diary, Command::CreateMemory { kind: Kind::Note, claims, body: String::new() }).await;
    let marker = anna.note("Marker", &["garden"], "").await;
    anna.share(&bert, "Garden", "garden", Role::Write).await;
    bert.until(marker, "what is new", |memory| title(memory) == "Marker").await;
    anna.set(diary, "title", "Anna's again".into()).await;
    anna.set(marker, "title", "Last".into()).await;
    bert.until(marker, "the last change", |memory| title(memory) == "Last").await;
    assert_eq!(title(&bert.memory(diary).await), "Diary");
    bert.set(diary, "title", "Diary of Bert".into()).await;
    bert.set(marker, "title", "Bert's".into()).await;
    anna.until(marker, "what Bert said", |memory| title(memory) == "Bert's").await;
    assert_eq!(title(&anna.memory(diary).await), "Anna's again", "what is Bert's own stays with him");
}
