//! What holds for an index in a folder alone.

use std::path::Path;
use std::sync::Arc;

use cairn_search::document::Change;
use cairn_search::embedder::StaticEmbedder;
use cairn_search::index::{SearchError, SearchIndex};
use tempfile::TempDir;

use crate::support::{document, found, memory, put};

async fn index() -> (TempDir, SearchIndex) {
    let folder = tempfile::tempdir().unwrap();
    let index = open(folder.path()).await.unwrap();
    (folder, index)
}

async fn open(folder: &Path) -> Result<SearchIndex, SearchError> {
    SearchIndex::open(&folder.join("index"), Arc::new(StaticEmbedder::new())).await
}

#[tokio::test]
async fn the_index_is_optimised_while_searches_and_changes_go_on() {
    let (_folder, index) = index().await;
    // Vacuuming is due once a fifth of more than a thousand points is gone.
    let put_all = |from: u128, to: u128| -> Vec<Change> {
        (from..to).map(|number| put(document(number, "Note", &format!("number {number} of many")))).collect()
    };
    index.apply(put_all(1, 2_001)).await.unwrap();
    index.apply((1..801).map(|number| Change::Remove(memory(number))).collect()).await.unwrap();
    let optimizing = tokio::spawn({
        let index = index.clone();
        async move { index.optimize().await }
    });
    for number in 2_001..2_021u128 {
        index.apply(put_all(number, number + 1)).await.unwrap();
        assert_eq!(found(&index, &format!("{number}")).await[0], number);
        index.flush().await.unwrap();
    }
    assert!(optimizing.await.unwrap().unwrap());
    assert_eq!(index.stats().await.unwrap().memories, 1_220);
    assert_eq!(found(&index, "1500").await[0], 1_500);
    assert!(!index.optimize().await.unwrap(), "nothing is left to do");
}

#[tokio::test]
async fn foreign_busy_and_damaged_folders_are_told_apart() {
    let (folder, index) = index().await;
    let error = open(folder.path()).await.unwrap_err();
    assert!(matches!(error, SearchError::InUse { .. }), "{error}");
    index.apply(vec![put(document(1, "One", "alpha"))]).await.unwrap();
    index.flush().await.unwrap();
    drop(index);

    let segments = folder.path().join("index/segments");
    let segment = std::fs::read_dir(segments).unwrap().next().unwrap().unwrap().path();
    std::fs::write(segment.join("segment.json"), b"{ not json").unwrap();
    let error = open(folder.path()).await.unwrap_err();
    assert!(matches!(error, SearchError::Corrupt { .. }) && error.to_string().contains("rebuild"), "{error}");

    std::fs::create_dir_all(folder.path().join("photos")).unwrap();
    std::fs::write(folder.path().join("photos/cat.jpg"), b"miaow").unwrap();
    let photos = folder.path().join("photos");
    let error = SearchIndex::open(&photos, Arc::new(StaticEmbedder::new())).await.unwrap_err();
    assert!(matches!(error, SearchError::Foreign { .. }), "{error}");
    assert!(photos.join("cat.jpg").exists());
}
