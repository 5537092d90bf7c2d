//! Another key of a brain in place of one that was lost, or that somebody else has.

#[path = "support/node.rs"]
mod node;

use std::time::Duration;

use cairn_domain::field::FieldName;
use cairn_sharing::{Offering, SharingError, View, next_key};
use cairn_sync::control::Role;
use cairn_sync::engine::Offer;
use cairn_sync::succession::InvalidSuccession;
use node::{Node, three, title};

fn grants(view: &View) -> usize {
    view.spaces.iter().map(|space| space.grants.len()).sum()
}

async fn offer(by: &Node, to: &Node, role: Role) {
    let space = by.sharing.view().await.expect("it answers").spaces[0].id;
    let offer = Offer { to: to.brain(), role, expires_at: None, reshare: false };
    by.sharing.offer(Offering { space, offer }).await.expect("it is offered");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_named_once_and_put_in_place_by_its_words_alone() {
    let (anna, phone, bert, _, memory) = three().await;
    let (words, next) = next_key().expect("made");
    let (other, _) = next_key().expect("made");
    let early = anna.sharing.change_key(&words).await;
    assert!(matches!(early, Err(SharingError::Succession(InvalidSuccession::OtherKey))), "{early:?}");
    let not_here = phone.sharing.prepare_key(next).await;
    assert!(matches!(not_here, Err(SharingError::NotTheKey)), "{not_here:?}");
    anna.sharing.prepare_key(next).await.expect("it is named");
    let twice = anna.sharing.prepare_key(next).await;
    assert!(matches!(twice, Err(SharingError::Succession(InvalidSuccession::NamedAlready))), "{twice:?}");
    let wrong = anna.sharing.change_key(&other).await;
    assert!(matches!(wrong, Err(SharingError::Succession(InvalidSuccession::OtherKey))), "{wrong:?}");
    let none = anna.sharing.change_key("these are no words").await;
    assert!(matches!(none, Err(SharingError::InvalidWords)), "{none:?}");
    let anna = anna.restart().await;
    anna.sharing.change_key(&words).await.expect("it is put in place");
    let anna = anna.restart().await;
    let key = anna.sharing.view().await.expect("it answers").key;
    assert_eq!((key.key, key.before, key.prepared, key.here), (next, 1, false, true));
    // Everybody goes on, also the device that has no new certificate.
    phone.shows("the key", |view| view.key.key == next && !view.key.here).await;
    for (from, to, said) in
        [(&anna, &bert, "Anna"), (&phone, &anna, "Phone"), (&phone, &bert, "Phone"), (&bert, &phone, "Bert")]
    {
        from.set(memory, "title", said.into()).await;
        to.until(memory, said, |memory| title(memory) == said).await;
    }
    offer(&anna, &bert, Role::Admin).await;
    bert.shows("the offer", |view| grants(view) == 2).await;
    // And the next.
    let (words, next) = next_key().expect("made");
    anna.sharing.prepare_key(next).await.expect("it is named");
    anna.sharing.change_key(&words).await.expect("it is put in place");
    anna.set(memory, "title", "Again".into()).await;
    bert.until(memory, "what came with the third key", |memory| title(memory) == "Again").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_device_takes_over_with_the_words_when_the_first_one_is_lost() {
    let (anna, phone, bert, _, memory) = three().await;
    let (words, next) = next_key().expect("made");
    anna.sharing.prepare_key(next).await.expect("it is named");
    phone.shows("that it is named", |view| view.key.prepared).await;
    for lost in [&phone, &bert] {
        anna.hub.part(&anna, lost);
    }
    phone.sharing.change_key(&words).await.expect("it is put in place");
    phone.sharing.remove_device(anna.device()).await.expect("it has the key now");
    offer(&phone, &bert, Role::Admin).await;
    bert.shows("the offer", |view| grants(view) == 2).await;
    let phone = phone.restart().await;
    phone.set(memory, "title", "Phone".into()).await;
    bert.until(memory, "what the phone said", |memory| title(memory) == "Phone").await;
    bert.set(memory, "title", "Bert".into()).await;
    phone.until(memory, "what Bert said", |memory| title(memory) == "Bert").await;
    // Whoever has the first device says what they like.
    anna.set(memory, "title", "Thief".into()).await;
    offer(&anna, &bert, Role::Relay).await;
    anna.hub.meet_again();
    phone.set(memory, "marker", "here".into()).await;
    let marker: FieldName = "marker".parse().expect("a field");
    bert.until(memory, "the marker", |memory| memory.value(&marker).is_some()).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    for node in [&phone, &bert] {
        assert_eq!(title(&node.memory(memory).await), "Bert");
        assert_eq!(grants(&node.sharing.view().await.expect("it answers")), 2);
    }
    // It can let in another one.
    phone.sharing.invite_device(Duration::from_secs(600)).await.expect("it has the key");
}
