use super::Scene;
use crate::event::{Revision, Snapshot};

pub async fn snapshots_are_kept_replaced_and_deleted(scene: Scene) {
    scene.fill("x", 3).await;
    let (x, y) = (scene.name("x"), scene.name("y"));
    let snapshot =
        |revision, data: &'static str| Snapshot { revision: Revision(revision), format: 2, data: data.into() };
    assert_eq!(scene.store.load_snapshot(&x).await.unwrap(), None);

    scene.store.save_snapshot(&x, Some(snapshot(1, "one"))).await.unwrap();
    assert_eq!(scene.store.load_snapshot(&x).await.unwrap(), Some(snapshot(1, "one")));
    scene.store.save_snapshot(&x, Some(snapshot(2, "two"))).await.unwrap();
    assert_eq!(scene.store.load_snapshot(&x).await.unwrap(), Some(snapshot(2, "two")));
    assert_eq!(scene.store.load_snapshot(&y).await.unwrap(), None);

    scene.store.save_snapshot(&x, None).await.unwrap();
    scene.store.save_snapshot(&y, None).await.unwrap();
    assert_eq!(scene.store.load_snapshot(&x).await.unwrap(), None);
    assert_eq!(scene.log().await.len(), 3);
}
