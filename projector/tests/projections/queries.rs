//! Lists: filters, orders, pages that stay put while memories come and go.

use std::collections::BTreeSet;

use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_read_model::memories::{
    DailyFilter, Direction, EventFilter, ListQuery, MemoryFilter, PersonFilter, PlaceFilter, ProjectFilter, Sort,
    TaskFilter, TypedFilter,
};
use cairn_read_model::timeline::TimelineFilter;
use cairn_read_model::{Cursor, QueryError};

use crate::brain;
use crate::stage::Stage;

const SORTS: [Sort; 4] = [Sort::Updated, Sort::Created, Sort::Title, Sort::About];
const DIRECTIONS: [Direction; 2] = [Direction::Ascending, Direction::Descending];

/// All ids in the order of a list, page by page.
fn pages(stage: &Stage, mut query: ListQuery) -> Vec<MemoryId> {
    let mut ids = Vec::new();
    loop {
        let page = stage.memories.list(&query).expect("lists");
        ids.extend(page.items.iter().map(|summary| summary.id));
        match page.next {
            Some(next) => query.cursor = Some(next),
            None => return ids,
        }
    }
}

fn titles(stage: &Stage, filter: MemoryFilter) -> Vec<String> {
    let query = ListQuery { filter, sort: Sort::Title, direction: Direction::Ascending, ..ListQuery::default() };
    stage.memories.list(&query).expect("lists").items.into_iter().map(|summary| summary.title).collect()
}

fn typed(typed: TypedFilter) -> MemoryFilter {
    MemoryFilter { typed: Some(typed), ..MemoryFilter::default() }
}

#[tokio::test]
async fn pages_of_any_order_and_size_hold_every_memory_once() {
    let mut stage = Stage::new().await;
    let all: BTreeSet<MemoryId> = brain::write(&mut stage.log, 60, 10, 7).await.into_iter().collect();
    stage.settle().await;
    for sort in SORTS {
        for direction in DIRECTIONS {
            let whole = pages(&stage, ListQuery { sort, direction, limit: Some(200), ..ListQuery::default() });
            assert_eq!(whole.iter().copied().collect::<BTreeSet<_>>(), all, "{sort:?} {direction:?}");
            for limit in [1, 7, 59] {
                let paged =
                    pages(&stage, ListQuery { sort, direction, limit: Some(limit), ..ListQuery::default() });
                assert_eq!(paged, whole, "{sort:?} {direction:?} by {limit}");
            }
        }
    }
}

#[tokio::test]
async fn a_page_is_not_moved_by_what_comes_before_it() {
    let mut stage = Stage::new().await;
    for number in 0..6 {
        stage.log.create(Kind::Note, &format!("{number}"), "", &[]).await;
    }
    stage.settle().await;
    let query = ListQuery { sort: Sort::Created, limit: Some(3), ..ListQuery::default() };
    let first = stage.memories.list(&query).expect("lists");
    stage.log.create(Kind::Note, "new", "", &[]).await;
    stage.settle().await;
    let second = stage.memories.list(&ListQuery { cursor: first.next, ..query.clone() }).expect("lists");
    let titles: Vec<_> = second.items.iter().map(|summary| summary.title.as_str()).collect();
    assert_eq!(titles, ["2", "1", "0"]);
}

#[tokio::test]
async fn a_cursor_of_another_order_is_refused() {
    let mut stage = Stage::new().await;
    brain::write(&mut stage.log, 5, 5, 1).await;
    stage.settle().await;
    let query = ListQuery { limit: Some(2), ..ListQuery::default() };
    let next = stage.memories.list(&query).expect("lists").next;
    let other = ListQuery { sort: Sort::Title, cursor: next, ..query.clone() };
    assert!(matches!(stage.memories.list(&other), Err(QueryError::InvalidCursor)));
    let odd = ListQuery { cursor: Some(Cursor::given("'; DROP TABLE memories; --")), ..query };
    assert!(matches!(stage.memories.list(&odd), Err(QueryError::InvalidCursor)));
}

#[tokio::test]
async fn what_is_about_no_time_comes_last_in_either_direction() {
    let mut stage = Stage::new().await;
    for (title, due) in [("none", Value::Empty), ("late", "2027-01-01".into()), ("soon", "2026-12-01".into())] {
        stage.log.create(Kind::Task, title, "", &[("due_date", due)]).await;
    }
    stage.settle().await;
    let order = |direction| {
        let query = ListQuery { sort: Sort::About, direction, ..ListQuery::default() };
        let items = stage.memories.list(&query).expect("lists").items;
        items.into_iter().map(|summary| summary.title).collect::<Vec<_>>()
    };
    assert_eq!(order(Direction::Ascending), ["soon", "late", "none"]);
    assert_eq!(order(Direction::Descending), ["late", "soon", "none"]);
}

#[tokio::test]
async fn filters_of_all_kinds_of_memories() {
    let mut stage = Stage::new().await;
    let on = || Value::Flag(true);
    let anna = stage.log.create(Kind::Person, "Anna", "", &[("tag/friend", on())]).await;
    let link = format!("link/mentions/{anna}");
    stage.log.create(Kind::Note, "Ärger im Garten", "", &[("tag/a", on()), ("tag/b", on()), (&link, on())]).await;
    stage.log.create(Kind::Note, "Zebra", "", &[("tag/a", on())]).await;
    let id = stage.log.create(Kind::Note, "Put away", "", &[("archived", on())]).await;
    stage.log.set(id, Truth::CloudAi, &[("title", "Away".into())]).await;
    stage.settle().await;

    let all = MemoryFilter::default;
    assert_eq!(titles(&stage, MemoryFilter { tags: vec!["#A".into()], ..all() }), ["Zebra", "Ärger im Garten"]);
    let both = MemoryFilter { tags: vec!["a".into(), "b".into()], ..all() };
    assert_eq!(titles(&stage, both), ["Ärger im Garten"]);
    assert_eq!(titles(&stage, MemoryFilter { title_prefix: Some("äRG".into()), ..all() }), ["Ärger im Garten"]);
    assert_eq!(titles(&stage, MemoryFilter { title_contains: Some("GARTEN".into()), ..all() }).len(), 1);
    assert_eq!(titles(&stage, MemoryFilter { linked_to: Some(anna), ..all() }), ["Ärger im Garten"]);
    assert_eq!(titles(&stage, MemoryFilter { archived: Some(true), ..all() }), ["Put away"]);
    assert_eq!(titles(&stage, MemoryFilter { has_suggestions: Some(true), ..all() }), ["Put away"]);
    let kinds = MemoryFilter { kinds: vec![Kind::Person, Kind::Task], ..all() };
    assert_eq!(titles(&stage, kinds), ["Anna"]);
    assert_eq!(titles(&stage, MemoryFilter { truth_at_least: Some(Truth::User), ..all() }).len(), 4);
    let now = stage.view(anna).await.summary.created_at;
    assert_eq!(titles(&stage, MemoryFilter { created_before: Some(now), ..all() }).len(), 0);
    assert_eq!(titles(&stage, MemoryFilter { updated_from: Some(now), ..all() }).len(), 4);
    let many = MemoryFilter { tags: vec!["x".into(); 101], ..all() };
    let query = ListQuery { filter: many, ..ListQuery::default() };
    assert!(matches!(stage.memories.list(&query), Err(QueryError::InvalidFilter(_))));
}

#[tokio::test]
async fn filters_of_typed_fields() {
    let mut stage = Stage::new().await;
    let log = &mut stage.log;
    log.create(Kind::Task, "now", "", &[("due_date", "2026-12-01".into()), ("status", "in_progress".into())])
        .await;
    log.create(Kind::Task, "then", "", &[("due_date", "2027-12-01".into()), ("assigned_to", "Anna".into())]).await;
    log.create(Kind::Task, "ever", "", &[("priority", "urgent".into())]).await;
    log.create(Kind::Person, "Anna", "", &[("email", "Anna@example.org".into())]).await;
    log.create(Kind::Project, "house", "", &[("end_date", "2026-06-01".into())]).await;
    log.create(Kind::Project, "garden", "", &[("status", "active".into())]).await;
    log.create(Kind::Event, "party", "", &[("start_time", "2026-12-24T20:00:00+02:00".into())]).await;
    log.create(Kind::Place, "lake", "", &[("latitude", Value::Decimal(47.5)), ("longitude", Value::Integer(9))])
        .await;
    log.create(Kind::Daily, "a day", "", &[("log_date", "2026-11-20".into())]).await;
    stage.settle().await;

    let day = |day: &str| Some(day.parse().expect("a day"));
    let time = |time: &str| Some(time.parse().expect("a time"));
    let titles = |filter| titles(&stage, typed(filter));
    let task = |filter| titles(TypedFilter::Task(filter));
    assert_eq!(task(TaskFilter::default()), ["ever", "now", "then"]);
    assert_eq!(task(TaskFilter { status: vec!["todo".into()], ..TaskFilter::default() }), ["ever", "then"]);
    assert_eq!(task(TaskFilter { due_until: day("2026-12-01"), ..TaskFilter::default() }), ["now"]);
    assert_eq!(task(TaskFilter { due_from: day("2026-12-02"), ..TaskFilter::default() }), ["then"]);
    assert_eq!(task(TaskFilter { assigned_to: Some("Anna".into()), ..TaskFilter::default() }), ["then"]);
    let urgent = TaskFilter { priority: vec!["urgent".into(), "low".into()], ..TaskFilter::default() };
    assert_eq!(task(urgent), ["ever"]);
    let person = PersonFilter { email: Some("anna@example.org".into()), ..PersonFilter::default() };
    assert_eq!(titles(TypedFilter::Person(person)), ["Anna"]);
    let running = ProjectFilter { running_from: day("2026-06-02"), ..ProjectFilter::default() };
    assert_eq!(titles(TypedFilter::Project(running)), ["garden"]);
    let before = EventFilter { start_before: time("2026-12-24T18:30:00Z"), ..EventFilter::default() };
    assert_eq!(titles(TypedFilter::Event(before)), ["party"], "times are compared in UTC");
    let here = PlaceFilter { south: Some(47.0), north: Some(48.0), east: Some(10.0), ..PlaceFilter::default() };
    assert_eq!(titles(TypedFilter::Place(here)), ["lake"]);
    assert_eq!(titles(TypedFilter::Daily(DailyFilter { from: day("2026-11-21"), until: None })), [""; 0]);
    assert_eq!(titles(TypedFilter::Daily(DailyFilter::default())), ["a day"]);
}

#[tokio::test]
async fn backlinks_and_the_timeline_are_paged_too() {
    let mut stage = Stage::new().await;
    let hub = stage.log.create(Kind::Note, "Hub", "", &[]).await;
    let link = format!("link/mentions/{hub}");
    for number in 0..5 {
        stage.log.create(Kind::Note, &format!("{number}"), "", &[(&link, Value::Flag(true))]).await;
    }
    stage.settle().await;
    let (mut cursor, mut found) = (None, BTreeSet::new());
    loop {
        let page = stage.memories.backlinks(hub, Some(2), cursor.as_ref()).expect("lists");
        found.extend(page.items.into_iter().map(|link| link.memory));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found.len(), 5);
    let (mut cursor, mut positions) = (None, Vec::new());
    loop {
        let page = stage.timeline.list(&TimelineFilter::default(), Some(4), cursor.as_ref()).expect("lists");
        positions.extend(page.items.into_iter().map(|row| row.position));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(positions, (1..=stage.log.head().0).rev().collect::<Vec<_>>());
}
