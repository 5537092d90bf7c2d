use std::time::Duration;

use super::{Scene, ids, typed};
use crate::event::{ExpectedRevision, Filter, Position, RecordedEvent};
use crate::subscription::{Subscription, subscribe};

/// Long enough for any machine; only a failure waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

async fn take(subscription: &mut Subscription, count: usize, max: usize) -> Vec<RecordedEvent> {
    let mut events = Vec::new();
    while events.len() < count {
        let next = tokio::time::timeout(PATIENCE, subscription.next_batch(max)).await;
        let batch = next.expect("a subscription stalled").unwrap();
        assert!(batch.events.len() <= max);
        assert!(batch.events.iter().all(|event| event.position <= batch.position));
        events.extend(batch.events);
    }
    events
}

pub async fn a_subscription_catches_up_and_goes_live(scene: Scene) {
    scene.fill("before", 50).await;
    let mut subscriptions =
        [0, 20, 50].map(|after| subscribe(scene.store.clone(), Position(after), Filter::default()));
    let writing = tokio::spawn({
        let scene = scene.clone();
        async move { scene.fill("during", 300).await }
    });
    for (subscription, after) in subscriptions.iter_mut().zip([0, 20, 50]) {
        let events = take(subscription, 350 - after, 16).await;
        assert!(events.iter().map(|event| event.position.0).eq(after as u64 + 1..=350));
        assert_eq!(subscription.position(), Position(350));
    }
    writing.await.unwrap();

    // At the head it waits, and wakes for the next event.
    let [waiting, ..] = &mut subscriptions;
    assert!(tokio::time::timeout(Duration::from_millis(20), waiting.next_batch(10)).await.is_err());
    let (batch, written) =
        tokio::join!(tokio::time::timeout(PATIENCE, waiting.next_batch(10)), scene.fill("x", 1));
    let batch = batch.expect("a subscription stalled").unwrap();
    assert_eq!((ids(&batch.events), batch.position, batch.live), (vec![written[0].id], Position(351), true));
}

pub async fn a_filtered_subscription_tells_its_progress(scene: Scene) {
    let rare = Filter { event_types: vec!["rare.".into()], ..Filter::default() };
    scene.fill("x", 30).await;
    let mut subscription = subscribe(scene.store.clone(), Position::START, rare);
    let batch = subscription.next_batch(10).await.unwrap();
    assert_eq!((batch.events, batch.position, batch.live), (vec![], Position(30), true));

    let wanted = typed("rare.one", "x");
    scene.append("x", ExpectedRevision::Any, vec![wanted.clone()]).await.unwrap();
    let batch = subscription.next_batch(10).await.unwrap();
    assert_eq!((ids(&batch.events), batch.position), (vec![wanted.id], Position(31)));
}

pub async fn a_slow_subscription_misses_nothing(scene: Scene) {
    let mut slow = subscribe(scene.store.clone(), Position::START, Filter::default());
    scene.fill("x", 1).await;
    assert!(slow.next_batch(1).await.unwrap().live);
    // Nobody waits for it.
    for _ in 0..10 {
        let events = (0..2_000).map(|_| typed("memory.noted", "x")).collect();
        scene.append("x", ExpectedRevision::Any, events).await.unwrap();
    }
    assert!(!slow.next_batch(1).await.unwrap().live);
    let events = take(&mut slow, 19_999, 3_000).await;
    assert!(events.iter().map(|event| event.position.0).eq(3..=20_001));
}

pub async fn a_cancelled_wait_loses_nothing(scene: Scene) {
    let mut subscription = subscribe(scene.store.clone(), Position::START, Filter::default());
    let writing = tokio::spawn({
        let scene = scene.clone();
        async move { scene.fill("x", 200).await }
    });
    let mut seen = Vec::new();
    let mut wait = 0;
    while seen.len() < 200 {
        wait = (wait + 37) % 400;
        if let Ok(batch) = tokio::time::timeout(Duration::from_micros(wait), subscription.next_batch(5)).await {
            seen.extend(batch.unwrap().events.into_iter().map(|event| event.position.0));
        }
    }
    writing.await.unwrap();
    assert!(seen.into_iter().eq(1..=200));
}
