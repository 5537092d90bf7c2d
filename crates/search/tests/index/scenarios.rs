//! What holds for an index wherever its points live: put, replace, remove, filter, group, mark, reopen, rebuild.

use std::sync::Arc;

use cairn_domain::kind::Kind;
use cairn_domain::truth::Truth;
use cairn_search::document::Change;
use cairn_search::index::SearchError;
use cairn_search::query::{Filter, Period, Query};

use crate::stage::Stage;
use crate::support::{Broken, Unsteady, at, document, found, memory, numbers, put, query};

pub async fn a_memory_is_found_by_words_and_by_meaning(stage: Stage) {
    let index = stage.index().await;
    index
        .apply(vec![
            put(document(1, "Sourdough", "Feed the starter with rye flour every evening.")),
            put(document(2, "Bicycle", "Oil the chain and pump the tyres before the trip.")),
        ])
        .await
        .unwrap();
    assert_eq!(found(&index, "rye flour").await, [1]);
    let answer = index.search(&query("baking bread")).await.unwrap();
    assert_eq!(answer.hits[0].memory, memory(1));
    assert!(answer.hits[0].dense.is_some() && answer.hits[0].bm25.is_none());
    assert_eq!(answer.degraded, None);
}

pub async fn a_hit_carries_where_it_came_from(stage: Stage) {
    let index = stage.index().await;
    let written = document(1, "Sourdough", "# Care\n\nFeed the starter.");
    index.apply(vec![put(written.clone())]).await.unwrap();
    let hit = index.search(&query("starter")).await.unwrap().hits.remove(0);
    assert_eq!(
        (hit.title, hit.kind, hit.truth, hit.origin, hit.event, hit.updated_at),
        (written.title, written.kind, written.truth, written.origin, written.event, written.updated_at)
    );
    assert_eq!(hit.headings, ["Care"]);
    assert_eq!(hit.range, Some(0..written.body.len()));
    assert_eq!(hit.bm25.map(|place| place.rank), Some(1));
}

pub async fn replacing_leaves_nothing_of_the_old_text(stage: Stage) {
    let index = stage.index().await;
    let long = "Zeppelin facts fill this paragraph with many words. ".repeat(100);
    index.apply(vec![put(document(1, "Airships", &long))]).await.unwrap();
    assert!(index.stats().await.unwrap().points > 3);
    index.apply(vec![put(document(1, "Airships", "Short now."))]).await.unwrap();
    let stats = index.stats().await.unwrap();
    assert_eq!((stats.memories, stats.points), (1, 1));
    let hits = index.search(&query("zeppelin")).await.unwrap().hits;
    assert!(hits.iter().all(|hit| hit.bm25.is_none()), "the old word is still found");
}

pub async fn removing_takes_everything_and_spares_the_others(stage: Stage) {
    let index = stage.index().await;
    index.apply(vec![put(document(1, "One", "alpha")), put(document(2, "Two", "alpha"))]).await.unwrap();
    index.apply(vec![Change::Remove(memory(1)), Change::Remove(memory(9))]).await.unwrap();
    assert_eq!(found(&index, "alpha").await, [2]);
    assert_eq!(index.stats().await.unwrap().memories, 1);
}

pub async fn of_several_changes_to_one_memory_the_last_counts(stage: Stage) {
    let index = stage.index().await;
    index
        .apply(vec![
            put(document(1, "One", "alpha")),
            Change::Remove(memory(1)),
            put(document(2, "Two", "alpha")),
            put(document(1, "One", "omega")),
            Change::Remove(memory(2)),
        ])
        .await
        .unwrap();
    assert_eq!(found(&index, "omega").await, [1]);
    assert_eq!(index.stats().await.unwrap().memories, 1);
}

pub async fn every_filter_lets_the_right_memories_through(stage: Stage) {
    let index = stage.index().await;
    let mut one = document(1, "Tea with Ada", "tea");
    one.kind = Kind::Event;
    one.tags = vec!["friends".to_owned(), "tea".to_owned()];
    one.links = vec![memory(7), memory(8)];
    one.truth = Truth::Automation;
    one.created_at = at(10);
    one.updated_at = at(20);
    one.when = Some(at(30));
    let mut two = document(2, "Tea stock", "tea");
    two.tags = vec!["tea".to_owned()];
    two.created_at = at(11);
    two.updated_at = at(21);
    let mut three = document(3, "Old tea", "tea");
    three.archived = true;
    three.truth = Truth::CloudAi;
    index.apply(vec![put(one), put(two), put(three)]).await.unwrap();

    let period = |from: i64, until: i64| Period { from: Some(at(from)), until: Some(at(until)) };
    let cases: [(Filter, &[u128]); 13] = [
        (Filter::default(), &[1, 2]),
        (Filter { include_archived: true, ..Filter::default() }, &[1, 2, 3]),
        (Filter { kinds: vec![Kind::Event], ..Filter::default() }, &[1]),
        (Filter { kinds: vec![Kind::Event, Kind::Note], ..Filter::default() }, &[1, 2]),
        (Filter { tags: vec!["tea".to_owned()], ..Filter::default() }, &[1, 2]),
        (Filter { tags: vec!["tea".to_owned(), "friends".to_owned()], ..Filter::default() }, &[1]),
        (Filter { linked_to: vec![memory(7), memory(8)], ..Filter::default() }, &[1]),
        (Filter { linked_to: vec![memory(7), memory(9)], ..Filter::default() }, &[]),
        (Filter { truth_at_least: Some(Truth::User), ..Filter::default() }, &[2]),
        (Filter { truth_at_least: Some(Truth::LocalAi), include_archived: true, ..Filter::default() }, &[1, 2]),
        (Filter { created: period(10, 11), ..Filter::default() }, &[1]),
        (Filter { updated: period(21, 22), ..Filter::default() }, &[2]),
        (Filter { when: period(0, 100), ..Filter::default() }, &[1]),
    ];
    for (filter, expected) in cases {
        let query = Query { filter: filter.clone(), ..query("tea") };
        let mut found = numbers(&index.search(&query).await.unwrap());
        found.sort_unstable();
        assert_eq!(found, expected, "{filter:?}");
    }
}

pub async fn a_memory_is_listed_once_however_many_of_its_chunks_match(stage: Stage) {
    let index = stage.index().await;
    let long = "The lighthouse keeper writes about the lighthouse and the sea. ".repeat(1_500);
    index.apply(vec![put(document(1, "Lighthouse", &long))]).await.unwrap();
    index
        .apply((2..12).map(|number| put(document(number, "Visit", "We saw the lighthouse."))).collect())
        .await
        .unwrap();
    // The first memory alone has more matching chunks than a side is asked for at first.
    let answer = index.search(&query("lighthouse keeper")).await.unwrap();
    assert_eq!(answer.hits.len(), 10);
    assert_eq!(answer.hits[0].memory, memory(1));
    assert!(answer.hits[0].others > 10);
}

pub async fn matching_words_are_marked_by_their_stems(stage: Stage) {
    let index = stage.index().await;
    let body =
        format!("{} He connected the connectors. {}", "Filler words. ".repeat(10), "More of it. ".repeat(10));
    index.apply(vec![put(document(1, "Plugs", &body))]).await.unwrap();
    let hit = index.search(&query("what is the connection of a connector")).await.unwrap().hits.remove(0);
    let marked: Vec<_> = hit.snippet.marks.iter().map(|mark| &hit.snippet.text[mark.clone()]).collect();
    assert_eq!(marked, ["connected", "connectors"]);
}

pub async fn the_title_and_other_fields_are_searched_too(stage: Stage) {
    let index = stage.index().await;
    let mut person = document(1, "Grace Hopper", "");
    person.extra = "organization: Harvard\nemail: grace@example.org".to_owned();
    index.apply(vec![put(person), put(document(2, "Only a title", ""))]).await.unwrap();
    assert_eq!(found(&index, "harvard").await[0], 1);
    assert_eq!(found(&index, "hopper").await[0], 1);
    assert_eq!(found(&index, "only a title").await[0], 2);
}

pub async fn two_builds_in_different_batches_have_one_digest(stage: Stage) {
    let documents: Vec<_> = (1..60)
        .map(|number| {
            let body = format!("# Part {number}\n\n{}", "Some text that is long enough. ".repeat(number as usize));
            document(number, &format!("Memory {number}"), &body)
        })
        .collect();
    let one = stage.index().await;
    one.apply(documents.iter().cloned().map(put).collect()).await.unwrap();
    let two = stage.index().await;
    for document in documents.iter().rev() {
        let mut before = document.clone();
        before.body.push_str(&"\n\nA paragraph that goes away again. ".repeat(50));
        two.apply(vec![put(before)]).await.unwrap();
    }
    for part in documents.chunks(7) {
        two.apply(part.iter().cloned().map(put).collect()).await.unwrap();
        // Again, as after a crash before the checkpoint moved.
        two.apply(part.iter().cloned().map(put).collect()).await.unwrap();
    }
    assert_eq!(one.digest().await.unwrap(), two.digest().await.unwrap());
    two.apply(vec![Change::Remove(memory(3))]).await.unwrap();
    assert_ne!(one.digest().await.unwrap(), two.digest().await.unwrap());
}

pub async fn queries_out_of_bounds_are_refused_and_odd_ones_answered(stage: Stage) {
    let index = stage.index().await;
    index.apply(vec![put(document(1, "One", "alpha"))]).await.unwrap();
    for text in ["", "  \n", "?!…", &"x".repeat(1_001)] {
        assert!(matches!(index.search(&query(text)).await, Err(SearchError::Query(_))), "{text:?}");
    }
    for limit in [0, 201] {
        let query = Query { limit, ..query("alpha") };
        assert!(matches!(index.search(&query).await, Err(SearchError::Query(_))));
    }
    for text in ["the", "what is it", "\u{0}a\u{7f}", "\"(alpha", "a AND OR NOT *", &"ü".repeat(1_000)] {
        index.search(&query(text)).await.unwrap();
    }
    assert_eq!(found(&index, "alpha\u{0}\n").await, [1]);
}

pub async fn an_empty_index_finds_nothing(stage: Stage) {
    let index = stage.index().await;
    assert!(found(&index, "anything").await.is_empty());
    assert!(!index.optimize().await.unwrap());
    index.flush().await.unwrap();
    assert_eq!(index.stats().await.unwrap().points, 0);
}

pub async fn other_languages_are_found_by_their_words(stage: Stage) {
    let index = stage.index().await;
    index
        .apply(vec![
            put(document(1, "Garten", "Die Tomaten brauchen im Juli täglich Wasser.")),
            put(document(2, "Küche", "Der Kühlschrank ist leer.")),
            put(document(3, "Сад", "Поливать помидоры каждый вечер.")),
            put(document(4, "会议记录", "今天的会议讨论了明年的预算和新办公室。")),
        ])
        .await
        .unwrap();
    assert_eq!(found(&index, "Tomaten Wasser").await[0], 1);
    assert_eq!(found(&index, "Kühlschrank").await[0], 2);
    assert_eq!(found(&index, "помидоры").await[0], 3);
    assert_eq!(found(&index, "预算").await[0], 4);
}

pub async fn hostile_texts_are_taken_in(stage: Stage) {
    let index = stage.index().await;
    let bodies = [
        "word ".repeat(200_000),
        "x".repeat(1_000_000),
        "\u{0}\u{1}\u{1b}[31m\u{202e}alpha\u{feff}".repeat(1_000),
        format!("{}alpha", "- ".repeat(100_000)),
        "`".repeat(100_000),
        "#\u{a0}".repeat(50_000),
        "😀".repeat(100_000),
    ];
    for (number, body) in (1..).zip(&bodies) {
        index.apply(vec![put(document(number, &"t".repeat(10_000), body))]).await.unwrap();
    }
    assert_eq!(index.stats().await.unwrap().memories, bodies.len());
    assert!(!found(&index, "alpha").await.is_empty());
}

pub async fn many_tasks_search_while_others_write(stage: Stage) {
    let index = stage.index().await;
    index.apply((1..200).map(|n| put(document(n, "Note", &format!("word{n} common")))).collect()).await.unwrap();
    let searchers: Vec<_> = (0..16)
        .map(|_| {
            let index = index.clone();
            tokio::spawn(async move {
                for number in 1..50u128 {
                    assert_eq!(found(&index, &format!("word{number}")).await[0], number);
                }
            })
        })
        .collect();
    for round in 0..20 {
        index
            .apply((1..200).map(|n| put(document(n, "Note", &format!("word{n} common {round}")))).collect())
            .await
            .unwrap();
        index.flush().await.unwrap();
    }
    for searcher in searchers {
        searcher.await.unwrap();
    }
}

pub async fn numbers_dates_and_accents_are_words_too(stage: Stage) {
    let index = stage.index().await;
    index
        .apply(vec![
            put(document(1, "Invoice", "Number 4711, due 2026-11-21, call +49 30 1234.")),
            put(document(2, "Café", "Crème brûlée.")),
        ])
        .await
        .unwrap();
    for (text, expected) in [("4711", 1), ("2026-11-21", 1), ("1234", 1), ("cafe", 2), ("creme", 2)] {
        assert_eq!(found(&index, text).await, [expected], "{text}");
    }
}

pub async fn what_was_flushed_is_there_after_reopening(stage: Stage) {
    let index = stage.index().await;
    index.apply(vec![put(document(1, "One", "alpha"))]).await.unwrap();
    index.flush().await.unwrap();
    let digest = index.digest().await.unwrap();
    drop(index);
    let index = stage.reopen().await.unwrap();
    assert_eq!(index.digest().await.unwrap(), digest);
    assert_eq!(found(&index, "alpha").await, [1]);
    index.apply(vec![put(document(1, "One", "omega"))]).await.unwrap();
    assert_eq!(found(&index, "omega").await, [1]);
}

pub async fn an_index_of_another_model_says_to_rebuild(stage: Stage) {
    drop(stage.index().await);
    let error = stage.open(1, Arc::new(Broken)).await.unwrap_err();
    let other = matches!(error, SearchError::OtherIndex { .. } | SearchError::OtherCollection { .. });
    assert!(other && error.to_string().contains("rebuild"), "{error}");
}

pub async fn words_alone_are_compared_while_the_embedder_is_away(stage: Stage) {
    let embedder = Arc::new(Unsteady::default());
    let index = stage.open(1, embedder.clone()).await.unwrap();
    index.apply(vec![put(document(1, "One", "alpha")), put(document(2, "Two", "beta"))]).await.unwrap();
    embedder.fail(true);
    let answer = index.search(&query("alpha")).await.unwrap();
    assert_eq!(numbers(&answer), [1]);
    assert!(answer.degraded.is_some());
    let failed = index.apply(vec![put(document(3, "Three", "gamma"))]).await;
    assert!(matches!(failed, Err(SearchError::Embed(_))));
    embedder.fail(false);
    index.apply(vec![put(document(3, "Three", "gamma"))]).await.unwrap();
    assert_eq!(found(&index, "gamma").await[0], 3);
}

pub async fn many_memories_are_removed_at_once(stage: Stage) {
    let index = stage.index().await;
    let long = "A paragraph that is long enough to be cut into several pieces. ".repeat(60);
    index.apply((1..40).map(|number| put(document(number, "Long", &long))).collect()).await.unwrap();
    // More than one question asks for, most of them unknown.
    index.apply((1..3_000).map(|number| Change::Remove(memory(number))).collect()).await.unwrap();
    assert_eq!(index.stats().await.unwrap().points, 0);
}
