//! A brain with two devices, each with a log of its own.

#[path = "support/node.rs"]
mod node;

use std::time::Duration;

use cairn_sharing::{Offering, SharingError};
use cairn_sync::control::{Decision, Role};
use cairn_sync::engine::Offer;
use node::{three, title};

#[tokio::test(flavor = "multi_thread")]
async fn another_device_is_in_all_spaces_and_known_to_all_peers() {
    let (anna, phone, bert, _, memory) = three().await;
    assert_eq!(phone.brain(), anna.brain());
    phone.set(memory, "title", "Tulips".into()).await;
    for node in [&anna, &bert] {
        node.until(memory, "what the phone said", |memory| title(memory) == "Tulips").await;
    }
    // Bert and the phone know each other by now, and do not need the first device.
    let knows = |view: &cairn_sharing::View| view.peers.iter().any(|peer| peer.devices.len() == 2);
    bert.shows("both devices", knows).await;
    anna.hub.part(&anna, &bert);
    anna.hub.part(&anna, &phone);
    bert.set(memory, "title", "Bert's tulips".into()).await;
    phone.until(memory, "what Bert said", |memory| title(memory) == "Bert's tulips").await;
    let phone = phone.restart().await;
    assert_eq!(phone.brain(), anna.brain(), "it stays what it is");
    phone.set(memory, "title", "Lilies".into()).await;
    bert.until(memory, "what the phone said", |memory| title(memory) == "Lilies").await;
    let view = phone.sharing.view().await.expect("it answers");
    assert_eq!(view.peers.len(), 1, "its own brain is no peer: {:#?}", view.peers);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_device_has_the_first_one_speak_for_its_spaces_and_speaks_for_those_it_begins() {
    let (anna, phone, bert, space, _) = three().await;
    let offer = Offer { to: bert.brain(), role: Role::Admin, expires_at: None, reshare: false };
    phone.sharing.offer(Offering { space, offer }).await.expect("the first device is asked");
    bert.shows("the offer", |view| view.spaces.iter().any(|space| space.grants.len() == 2)).await;
    let memory = phone.note("Hats", &["attic"], "").await;
    let attic = phone.share(&bert, "Attic", "attic", Role::Write).await;
    bert.until(memory, "the memory", |memory| title(memory) == "Hats").await;
    anna.until(memory, "the memory", |memory| title(memory) == "Hats").await;
    let view = anna.sharing.view().await.expect("it answers");
    let grant = view.spaces.iter().find(|space| space.id == attic).expect("it has it").grants[0].id;
    anna.sharing.revoke(attic, grant).await.expect("the other device is asked");
    let revoked = |view: &cairn_sharing::View| {
        view.spaces.iter().any(|space| space.grants.iter().any(|grant| grant.revoked))
    };
    bert.shows("the revocation", revoked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_device_says_counts_for_nothing_more() {
    let (anna, phone, bert, _, memory) = three().await;
    phone.set(memory, "title", "Before".into()).await;
    for node in [&anna, &bert] {
        node.until(memory, "what the phone said", |memory| title(memory) == "Before").await;
    }
    let refused = phone.sharing.remove_device(anna.device()).await;
    assert!(matches!(refused, Err(SharingError::NotTheKey)), "{refused:?}");
    anna.sharing.remove_device(phone.device()).await.expect("it is removed");
    let alone = |view: &cairn_sharing::View| view.peers.iter().any(|peer| peer.devices.len() == 1);
    bert.shows("that it is gone", alone).await;
    phone.set(memory, "title", "After".into()).await;
    anna.set(memory, "body_color", "red".into()).await;
    bert.until(memory, "the marker", |memory| memory.value(&"body_color".parse().expect("a field")).is_some())
        .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    for node in [&anna, &bert] {
        assert_eq!(title(&node.memory(memory).await), "Before");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_shares_already_does_not_become_anothers_device() {
    let (anna, _, bert, _, _) = three().await;
    let link = anna.sharing.invite_device(Duration::from_secs(600)).await.expect("it is made").link;
    let refused = bert.sharing.join(&link).await;
    assert!(matches!(refused, Err(SharingError::SharesAlready)), "{refused:?}");
    bert.sharing
        .decide(bert.sharing.view().await.expect("it answers").spaces[0].id, Decision::Accepted)
        .await
        .expect("still works");
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    for file in std::fs::read_dir(from).expect("a folder") {
        let file = file.expect("a file");
        std::fs::copy(file.path(), to.join(file.file_name())).expect("it is copied");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_device_says_nothing_before_the_first_one_has_given_it_another_epoch() {
    let (anna, phone, bert, _, memory) = three().await;
    let backup = tempfile::tempdir().expect("a folder");
    let phone = phone.restart_after(|folder| copy(folder, backup.path())).await;
    phone.set(memory, "title", "After the backup".into()).await;
    bert.until(memory, "what the phone said", |memory| title(memory) == "After the backup").await;
    anna.until(memory, "what the phone said", |memory| title(memory) == "After the backup").await;
    anna.hub.part(&anna, &phone);
    let phone = phone.restart_after(|folder| copy(backup.path(), folder)).await;
    phone.until(memory, "what it had said", |memory| title(memory) == "After the backup").await;
    phone.set(memory, "title", "In vain".into()).await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    // It waits, also when it starts again.
    let _phone = phone.restart().await;
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(title(&bert.memory(memory).await), "After the backup");
    anna.hub.meet_again();
    bert.until(memory, "what waited", |memory| title(memory) == "In vain").await;
    let view = bert.sharing.view().await.expect("it answers");
    assert!(view.spaces[0].forked.is_empty(), "nobody stands accused");
}
