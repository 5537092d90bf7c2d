//! Whatever was done, both databases answer every question alike.

use cairn_domain::body::Base;
use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_domain::memory::command::{BodyText, Command};
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_read_model::change::EntryOutcome;
use cairn_read_model::memories::{
    DailyFilter, Direction, EventFilter, ListQuery, MemoryFilter, PersonFilter, PlaceFilter, ProjectFilter, Sort,
    SuggestionFilter, TaskFilter, TypedFilter,
};
use cairn_read_model::timeline::TimelineFilter;
use cairn_read_model::{Cursor, Paged};
use chrono::{DateTime, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;

use crate::brain::Brain;
use crate::stage::{Reader, Stage};

#[test]
fn both_databases_answer_alike_whatever_was_done() {
    let seed = std::env::var("TEST_CAIRN_SEED").ok().and_then(|it| it.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}");
    let (mut brain, mut random) = (Brain::new(seed), StdRng::seed_from_u64(seed));
    let mut stage = Stage::new();
    for round in 0..40 {
        for truth in Truth::ALL.into_iter().take(random.random_range(0..3)) {
            brain.principal(truth, random.random_bool(0.3));
        }
        for _ in 0..random.random_range(1..40) {
            brain.act();
        }
        stage.apply(&brain.batch());
        stage.digests();
        if round == 20 {
            stage.make_ready();
        }
        if round % 10 == 9 {
            everything(&stage, &brain);
        }
    }
}

#[test]
fn what_was_claimed_of_a_memory_before_it_was_there_shows_when_it_is() {
    let (mut brain, mut stage) = (Brain::new(1), Stage::new());
    let (late, created) = brain.claim_first(&[("title", "Tomatoes".into()), ("tag/garden", Value::Flag(true))]);
    brain.create(Kind::Note, &[("tag/garden", Value::Flag(true))], "");
    stage.apply(&brain.batch());
    let tagged = |stage: &Stage| stage.both(|it| it.memories.tags("garden").unwrap())[0].memories;
    assert_eq!(tagged(&stage), 1);
    brain.happen(late, created);
    stage.apply(&brain.batch());
    assert_eq!(tagged(&stage), 2);
    stage.digests();
}

#[test]
fn of_very_many_suggestions_about_a_long_text_the_first_are_shown_with_what_they_would_do() {
    let (mut brain, mut stage) = (Brain::new(1), Stage::new());
    let text = "words ".repeat(150_000);
    let id = brain.create(Kind::Note, &[], &text);
    for number in 0..8 {
        let body = Some(BodyText { text: format!("{text}{number}"), base: Base::Effective });
        brain.command(id, Truth::CloudAi, Command::ChangeMemory { claims: Vec::new(), body });
    }
    stage.apply(&brain.batch());
    let filter = SuggestionFilter::default();
    let waiting = stage.both(|it| all(|cursor| it.memories.suggestions(&filter, Some(10), cursor).unwrap()));
    let shown = waiting.iter().filter(|row| row.diff.as_deref().is_some_and(|diff| !diff.is_empty())).count();
    assert_eq!((waiting.len(), shown), (8, 5));
}

fn everything(stage: &Stage, brain: &Brain) {
    stage.both(|it| (it.memories.position().unwrap(), it.timeline.position().unwrap()));
    stage.both(|it| it.memories.stats().unwrap());
    stage.both(|it| it.memories.principals().unwrap());
    for principal in brain.principals.values().copied() {
        stage.both(|it| it.memories.principal(principal).unwrap());
    }
    for id in brain.ids.iter().copied().chain([MemoryId::new(Uuid::nil())]) {
        stage.both(|it| it.memories.get(id).unwrap());
        stage.both(|it| it.memories.links(id).unwrap());
        stage.both(|it| it.memories.conflicts(Some(id), 10).unwrap());
        stage.both(|it| all(|cursor| it.memories.backlinks(id, Some(2), cursor).unwrap()));
    }
    let twice: Vec<_> = brain.ids.iter().chain(brain.ids.iter().take(3)).copied().collect();
    stage.both(|it| it.memories.summaries(&twice).unwrap());
    stage.both(|it| it.memories.summaries(&[]).unwrap());
    for prefix in ["", "a", "#Ä", "\u{10ffff}", "zz"] {
        stage.both(|it| it.memories.tags(prefix).unwrap());
    }
    for limit in [0, 1, 2, usize::MAX] {
        stage.both(|it| it.memories.conflicts(None, limit).unwrap());
    }
    stage.both(|it| it.memories.files(brain.vault).unwrap());
    lists(stage, brain);
    suggestions(stage, brain);
    timelines(stage, brain);
}

/// All pages, one after the other.
fn all<T>(page: impl Fn(Option<&Cursor>) -> Paged<T>) -> Vec<T> {
    let (mut items, mut cursor) = (Vec::new(), None);
    loop {
        let page = page(cursor.as_ref());
        items.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return items;
        }
    }
}

/// A time that about half of everything lies before.
fn middle(brain: &Brain) -> Option<DateTime<Utc>> {
    let mut times: Vec<_> = brain.ids.iter().map(|id| brain.memory(*id).updated().millis).collect();
    times.sort_unstable();
    DateTime::from_timestamp_millis(times[times.len() / 2].cast_signed())
}

fn lists(stage: &Stage, brain: &Brain) {
    for sort in [Sort::Updated, Sort::Created, Sort::Title, Sort::About] {
        for direction in [Direction::Ascending, Direction::Descending] {
            let query = ListQuery { sort, direction, limit: Some(7), ..ListQuery::default() };
            let filters =
                [MemoryFilter::default(), MemoryFilter { kinds: vec![Kind::Task], ..MemoryFilter::default() }];
            for filter in filters {
                let whole = stage.both(|it| pages(it, &ListQuery { filter: filter.clone(), ..query.clone() }));
                let count = stage.both(|it| it.memories.count(&filter).unwrap());
                assert_eq!(whole.len() as u64, count, "{sort:?} {direction:?}");
            }
        }
    }
    let mut found = 0;
    for filter in filters(brain) {
        let query = ListQuery { filter, sort: Sort::Title, limit: Some(50), bodies: true, ..ListQuery::default() };
        found += stage.both(|it| pages(it, &query)).len();
        stage.both(|it| it.memories.count(&query.filter).unwrap());
    }
    assert!(found > 0, "the filters let something through");
    let extremes = [DateTime::<Utc>::MIN_UTC, DateTime::<Utc>::MAX_UTC];
    for time in extremes {
        let filter = MemoryFilter { created_from: Some(time), ..MemoryFilter::default() };
        stage.both(|it| it.memories.count(&filter).unwrap());
    }
}

fn pages(reader: &Reader, query: &ListQuery) -> Vec<cairn_read_model::memories::MemorySummary> {
    all(|cursor| reader.memories.list(&ListQuery { cursor: cursor.cloned(), ..query.clone() }).unwrap())
}

fn filters(brain: &Brain) -> Vec<MemoryFilter> {
    let (any, middle) = (MemoryFilter::default, middle(brain));
    let day = |day: &str| Some(day.parse().unwrap());
    let mut filters = vec![
        MemoryFilter { kinds: vec![Kind::Note, Kind::Person], ..any() },
        MemoryFilter { tags: vec!["#Anna".into()], ..any() },
        MemoryFilter { tags: vec!["anna".into(), "budget".into()], ..any() },
        MemoryFilter { archived: Some(true), ..any() },
        MemoryFilter { archived: Some(false), truth_at_least: Some(Truth::LocalAi), ..any() },
        MemoryFilter { created_from: middle, ..any() },
        MemoryFilter { created_before: middle, updated_from: middle, ..any() },
        MemoryFilter { updated_before: middle, ..any() },
        MemoryFilter { about_from: middle, ..any() },
        MemoryFilter { about_before: middle, ..any() },
        MemoryFilter { has_suggestions: Some(true), ..any() },
        MemoryFilter { has_conflicts: Some(true), ..any() },
        MemoryFilter { has_conflicts: Some(false), has_suggestions: Some(false), ..any() },
    ];
    for words in ["", "a", "Ä", "i̇", "_", "%", "\\", "\u{10ffff}", "\0", "garten Zug"] {
        filters.push(MemoryFilter { title_prefix: Some(words.into()), ..any() });
        filters.push(MemoryFilter { title_contains: Some(words.into()), ..any() });
    }
    for id in brain.ids.iter().take(5) {
        filters.push(MemoryFilter { linked_to: Some(*id), ..any() });
        filters.push(MemoryFilter { linked_from: Some(*id), ..any() });
    }
    let typed = [
        TypedFilter::Task(TaskFilter::default()),
        TypedFilter::Task(TaskFilter { status: vec!["todo".into(), "done".into()], ..TaskFilter::default() }),
        TypedFilter::Task(TaskFilter {
            due_from: day("2025-06-01"),
            due_until: day("2026-12-01"),
            ..TaskFilter::default()
        }),
        TypedFilter::Task(TaskFilter {
            priority: vec!["high".into()],
            assigned_to: None,
            ..TaskFilter::default()
        }),
        TypedFilter::Person(PersonFilter { email: Some("ANNA@example.ORG".into()), ..PersonFilter::default() }),
        TypedFilter::Person(PersonFilter { email: Some("Ärger@example.org".into()), ..PersonFilter::default() }),
        TypedFilter::Project(ProjectFilter { running_from: day("2026-01-01"), ..ProjectFilter::default() }),
        TypedFilter::Project(ProjectFilter { started_until: day("2026-01-01"), ..ProjectFilter::default() }),
        TypedFilter::Event(EventFilter { start_from: middle, ..EventFilter::default() }),
        TypedFilter::Event(EventFilter { start_before: middle, location: Some("Zug".into()), start_from: None }),
        TypedFilter::Place(PlaceFilter { south: Some(-20.0), north: Some(20.25), ..PlaceFilter::default() }),
        TypedFilter::Place(PlaceFilter { west: Some(-40.0), east: Some(40.0), ..PlaceFilter::default() }),
        TypedFilter::Daily(DailyFilter { from: day("2026-01-01"), until: None }),
    ];
    filters.extend(typed.map(|typed| MemoryFilter { typed: Some(typed), ..any() }));
    filters
}

fn suggestions(stage: &Stage, brain: &Brain) {
    let any = SuggestionFilter::default;
    let filters = [
        any(),
        SuggestionFilter { field: Some("title".into()), ..any() },
        SuggestionFilter { field: Some("body".into()), truth: Some(Truth::CloudAi), ..any() },
        SuggestionFilter { principal: Some(brain.principals[&Truth::LocalAi]), ..any() },
        SuggestionFilter { from: middle(brain), ..any() },
        SuggestionFilter { before: middle(brain), origin: Some("automation:test".into()), ..any() },
        SuggestionFilter { memory: brain.ids.first().copied(), ..any() },
    ];
    for filter in filters {
        let waiting = stage.both(|it| all(|cursor| it.memories.suggestions(&filter, Some(3), cursor).unwrap()));
        for row in waiting.iter().take(5) {
            stage.both(|it| it.memories.suggestion(row.provenance.event).unwrap());
        }
    }
}

fn timelines(stage: &Stage, brain: &Brain) {
    let any = TimelineFilter::default;
    let filters = [
        any(),
        TimelineFilter { memory: brain.ids.first().copied(), ..any() },
        TimelineFilter {
            memory: brain.ids.first().copied(),
            principal: Some(brain.principals[&Truth::User]),
            ..any()
        },
        TimelineFilter { principal: Some(brain.principals[&Truth::CloudAi]), ..any() },
        TimelineFilter { command: brain.commands.first().copied(), ..any() },
        TimelineFilter { truth: Some(Truth::Automation), outcome: Some(EntryOutcome::Suggested), ..any() },
        TimelineFilter { event_types: vec!["memory.created".into(), "memory.erased".into()], ..any() },
        TimelineFilter { field: Some("title".into()), ..any() },
        TimelineFilter { from: middle(brain), ..any() },
        TimelineFilter { before: middle(brain), ..any() },
        TimelineFilter { from: Some(DateTime::<Utc>::MAX_UTC), ..any() },
        TimelineFilter { before: Some(DateTime::<Utc>::MIN_UTC), ..any() },
        TimelineFilter { after_position: Some(20), until_position: Some(90), ..any() },
    ];
    for filter in filters {
        stage.both(|it| all(|cursor| it.timeline.list(&filter, Some(60), cursor).unwrap()));
    }
    stage.both(|it| it.timeline.activity(None, None).unwrap());
    stage.both(|it| it.timeline.activity(middle(brain), Some(DateTime::<Utc>::MAX_UTC)).unwrap());
}

#[test]
fn a_batch_that_comes_again_changes_nothing() {
    let (mut brain, mut stage) = (Brain::new(5), Stage::new());
    (0..60).for_each(|_| brain.act());
    let first = brain.batch();
    stage.apply(&first);
    (0..60).for_each(|_| brain.act());
    let second = brain.batch();
    stage.apply(&second);
    let digests = stage.digests();
    stage.apply(&first);
    stage.apply(&second);
    assert_eq!(stage.digests(), digests);
    // One that begins before the checkpoint and ends after it writes only what is new.
    (0..60).for_each(|_| brain.act());
    let mut third = brain.batch();
    third.entries.splice(0..0, second.entries);
    stage.apply(&third);
    assert_ne!(stage.digests(), digests);
}

#[test]
fn a_text_with_a_nul_is_kept_as_far_as_it_can_be() {
    let (mut brain, mut stage) = (Brain::new(6), Stage::new());
    let claims = [("title", "a\0b".into()), ("mood", Value::Text("x\0y".into()))];
    let id = brain.create(Kind::Note, &claims, "one\0two");
    stage.apply(&brain.batch());
    let get = |reader: &Reader| reader.memories.summaries(&[id]).unwrap().remove(0);
    assert_eq!(get(&stage.files).title, "a\0b");
    assert_eq!(get(&stage.server).title, "a\u{fffd}b");
    // JSON writes it out.
    assert_eq!(get(&stage.server).fields, get(&stage.files).fields);
    let filter = MemoryFilter { title_contains: Some("A\0".into()), ..MemoryFilter::default() };
    assert_eq!(stage.both(|it| it.memories.count(&filter).unwrap()), 1);
}

#[test]
fn what_is_erased_is_gone_from_every_table() {
    let (mut brain, mut stage) = (Brain::new(7), Stage::new());
    (0..80).for_each(|_| brain.act());
    stage.apply(&brain.batch());
    let ids = brain.ids.clone();
    for id in ids {
        brain.command(id, Truth::User, Command::EraseMemory);
    }
    stage.apply(&brain.batch());
    let stats = stage.both(|it| it.memories.stats().unwrap());
    assert_eq!((stats.memories, stats.erased), (0, brain.ids.len() as u64));
    assert!(stage.both(|it| it.timeline.list(&TimelineFilter::default(), None, None).unwrap().items).is_empty());
    stage.digests();
    for generation in &mut stage.pg {
        assert!(!generation.settle().unwrap(), "nothing reads, so nothing is left to do");
    }
    stage.digests();
}
