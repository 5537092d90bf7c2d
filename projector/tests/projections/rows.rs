//! What each kind of event does to the rows.

use cairn_domain::event::FileImported;
use cairn_domain::field::FieldName;
use cairn_domain::id::{EventId, MemoryId, PrincipalId};
use cairn_domain::kind::Kind;
use cairn_domain::memory::command::{Command, ImportedFile};
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_read_model::change::EntryOutcome;
use cairn_read_model::memories::{ListQuery, MemoryFilter, SuggestionFilter};
use cairn_read_model::timeline::TimelineFilter;
use uuid::Uuid;

use crate::stage::Stage;

fn name(name: &str) -> FieldName {
    name.parse().expect("a field name")
}

#[tokio::test]
async fn a_created_memory_has_its_fields_with_provenance() {
    let mut stage = Stage::new().await;
    let friend = stage.log.create(Kind::Person, "Anna", "", &[]).await;
    let link = format!("link/mentions/{friend}");
    let flag = Value::Flag(true);
    let claims = [("due_date", "2026-12-01".into()), ("tag/work", flag.clone()), (link.as_str(), flag)];
    let id = stage.log.create(Kind::Task, "Call Anna", "Ask about  the\ngarden", &claims).await;

    let view = stage.view(id).await;
    let summary = &view.summary;
    assert_eq!((summary.kind, summary.title.as_str()), (Kind::Task, "Call Anna"));
    assert_eq!(summary.body.as_deref(), Some("Ask about  the\ngarden"));
    assert_eq!(summary.excerpt, "Ask about the garden");
    assert_eq!(summary.tags, ["work"]);
    assert_eq!(summary.fields[&name("status")], "todo".into(), "a default nobody has claimed");
    assert_eq!(summary.fields[&name("due_date")], "2026-12-01".into());
    assert_eq!(summary.about_at.map(|at| at.to_rfc3339()), Some("2026-12-01T00:00:00+00:00".into()));
    assert_eq!(summary.truth, Truth::User);
    assert_eq!(summary.position, stage.log.head().0);
    let due = view.provenance.iter().find(|row| row.field == name("due_date")).expect("is there");
    assert_eq!(due.provenance.principal, stage.log.principal(Truth::User));
    assert!(view.provenance.iter().any(|row| row.field == FieldName::body() && row.value.is_none()));
    assert_eq!(view.links[0].memory, friend);
    assert_eq!(view.links[0].title.as_deref(), Some("Anna"));
    let back = stage.view(friend).await.backlinks;
    assert_eq!((back[0].memory, back[0].relation.as_str()), (id, "mentions"));
}

#[tokio::test]
async fn a_suggestion_waits_until_it_is_accepted_and_then_is_named() {
    let mut stage = Stage::new().await;
    let id = stage.log.create(Kind::Note, "Rivers", "One line.", &[]).await;
    let field = stage.log.set(id, Truth::CloudAi, &[("title", "Rivers of Europe".into())]).await[0];
    let body = stage.log.write(id, Truth::LocalAi, "One line.\nAnother line.").await[0];

    let view = stage.view(id).await;
    assert_eq!(view.summary.title, "Rivers");
    assert_eq!(view.summary.suggestions, 2);
    assert_eq!(view.waiting[0].value, Some("Rivers of Europe".into()));
    assert!(view.waiting[1].diff.as_ref().expect("a diff").contains("+Another line."));
    let page = stage.memories.suggestions(&SuggestionFilter::default(), None, None).expect("lists");
    assert_eq!(page.items.len(), 2);
    let filter = SuggestionFilter { truth: Some(Truth::CloudAi), ..SuggestionFilter::default() };
    assert_eq!(stage.memories.suggestions(&filter, None, None).expect("lists").items[0].provenance.event, field);
    assert!(stage.memories.suggestion(body).expect("reads").is_some());

    for suggestion in [field, body] {
        stage.log.command(id, Truth::User, Command::AcceptSuggestion { suggestion, edited: None }).await;
    }
    let view = stage.view(id).await;
    assert_eq!(view.summary.title, "Rivers of Europe");
    assert_eq!(view.summary.body.as_deref(), Some("One line.\nAnother line."));
    assert_eq!((view.summary.suggestions, view.waiting.len()), (0, 0));
    assert_eq!(view.summary.truth, Truth::User);
    for (field, event) in [(FieldName::title(), field), (FieldName::body(), body)] {
        let row = view.provenance.iter().find(|row| row.field == field).expect("is there");
        assert_eq!(row.accepted.as_ref().map(|accepted| accepted.event), Some(event));
    }
}

#[tokio::test]
async fn a_rejected_suggestion_goes_and_comes_back_when_the_rejection_is_undone() {
    let mut stage = Stage::new().await;
    let id = stage.log.create(Kind::Note, "Rivers", "", &[]).await;
    let suggestion = stage.log.set(id, Truth::CloudAi, &[("title", "Lakes".into())]).await[0];
    stage.log.command(id, Truth::User, Command::RejectSuggestion { suggestion }).await;
    assert_eq!(stage.view(id).await.waiting, []);

    stage.log.command(id, Truth::User, Command::UndoCommand { command: None }).await;
    let view = stage.view(id).await;
    assert_eq!(view.waiting.len(), 1, "the undo brings back what the command turned down");
    assert_eq!(view.summary.suggestions, 1);
}

#[tokio::test]
async fn rows_go_when_what_they_say_does() {
    let mut stage = Stage::new().await;
    let other = stage.log.create(Kind::Note, "Other", "", &[]).await;
    let link = format!("link/mentions/{other}");
    let on = |flag| [("tag/a", Value::Flag(flag)), (link.as_str(), Value::Flag(flag)), ("mood", "calm".into())];
    let id = stage.log.create(Kind::Note, "One", "", &on(true)).await;
    assert_eq!(stage.view(id).await.tag_claims.len(), 1);
    assert_eq!(stage.memories.tags("").expect("reads").len(), 1);

    stage.log.set(id, Truth::User, &on(false)).await;
    stage.log.command(id, Truth::User, Command::RetractClaim { field: name("mood") }).await;
    let view = stage.view(id).await;
    assert!(view.tag_claims.is_empty() && view.links.is_empty());
    assert!(!view.summary.fields.contains_key(&name("mood")));
    assert!(stage.view(other).await.backlinks.is_empty());
    assert!(stage.memories.tags("").expect("reads").is_empty());
}

#[tokio::test]
async fn a_change_of_kind_moves_the_typed_row() {
    let mut stage = Stage::new().await;
    let id = stage.log.create(Kind::Note, "Call", "", &[]).await;
    stage.log.set(id, Truth::User, &[("kind", "task".into()), ("priority", "urgent".into())]).await;
    let view = stage.view(id).await;
    assert_eq!(view.summary.kind, Kind::Task);
    assert_eq!(view.summary.fields[&name("priority")], "urgent".into());
    let tasks = MemoryFilter { kinds: vec![Kind::Task], ..MemoryFilter::default() };
    assert_eq!(stage.memories.count(&tasks).expect("counts"), 1);
    let stats = stage.memories.stats().expect("counts");
    assert_eq!((stats.memories, stats.by_kind.get(&Kind::Note), stats.by_kind[&Kind::Task]), (1, None, 1));
}

#[tokio::test]
async fn an_imported_file_is_listed_with_its_vault() {
    let mut stage = Stage::new().await;
    let (vault, id) = (Uuid::now_v7(), MemoryId::new(Uuid::now_v7()));
    let file = |vanished| FileImported {
        vault,
        path: "journal/2026-11-20.md".into(),
        digest: "00".into(),
        part: String::new(),
        unresolved: vec!["Nobody".into()],
        vanished,
    };
    let import = |vanished| {
        Command::ImportFile(ImportedFile {
            kind: Kind::Daily,
            claims: vec![(name("log_date"), "2026-11-20".into())],
            body: "Rain.".into(),
            archived: false,
            file: file(vanished),
        })
    };
    stage.log.command(id, Truth::User, import(false)).await;
    stage.settle().await;
    let files = stage.memories.files(vault).expect("reads");
    assert_eq!((files[0].memory, files[0].vanished), (id, false));
    assert_eq!(files[0].unresolved, ["Nobody"]);
    assert_eq!(stage.memories.files(Uuid::now_v7()).expect("reads"), []);

    stage.log.command(id, Truth::User, import(true)).await;
    assert!(stage.view(id).await.file.expect("a file").vanished);
}

#[tokio::test]
async fn principals_come_and_go() {
    let stage = Stage::new().await;
    let id = PrincipalId::new(Uuid::now_v7());
    stage.log.register(id, "claude", Truth::CloudAi).await;
    stage.settle().await;
    let row = stage.memories.principal(id).expect("reads").expect("is there");
    assert_eq!((row.name.as_str(), row.ceiling, row.revoked_at), ("claude", Truth::CloudAi, None));
    stage.log.revoke(id).await;
    stage.settle().await;
    assert!(stage.memories.principals().expect("reads")[0].revoked_at.is_some());
}

#[tokio::test]
async fn rivals_of_one_truth_are_a_conflict_until_somebody_settles_it() {
    let mut stage = Stage::new().await;
    let id = stage.log.create(Kind::Note, "Colours", "", &[("colour", "red".into())]).await;
    // A rival that has not seen the first claim, as a peer's would be.
    let stream = cairn_domain::id::memory_stream(id);
    let data = r#"{"field":"colour","value":"blue"}"#;
    let head = stage.log.raw(&stream, "memory.field_claimed", data).await;
    stage.settle().await;
    let conflicts = stage.memories.conflicts(Some(id), 10).expect("reads");
    assert_eq!(conflicts.len(), 1);
    assert_eq!(conflicts[0].sides.len(), 2);
    assert_eq!(stage.view(id).await.summary.conflicts, 1);

    let seen: Vec<EventId> = conflicts[0].sides.iter().map(|side| side.provenance.event).collect();
    let claimed = serde_json::json!({ "field": "colour", "value": "green", "supersedes": seen });
    assert!(stage.log.raw(&stream, "memory.field_claimed", &claimed.to_string()).await > head);
    let view = stage.view(id).await;
    assert!(view.disputed.is_empty());
    assert_eq!(view.summary.fields[&name("colour")], "green".into());
}

#[tokio::test]
async fn the_timeline_tells_what_happened_and_what_became_of_it() {
    let mut stage = Stage::new().await;
    let id = stage.log.create(Kind::Note, "Rivers", "Text.", &[("tag/geo", Value::Flag(true))]).await;
    stage.log.set(id, Truth::CloudAi, &[("title", "Lakes".into())]).await;
    stage.settle().await;
    let filter = TimelineFilter { memory: Some(id), ..TimelineFilter::default() };
    let page = stage.timeline.list(&filter, None, None).expect("lists");
    let lines: Vec<&str> = page.items.iter().map(|row| row.summary.as_str()).collect();
    assert_eq!(
        lines,
        [
            "suggested: set title to Lakes",
            "edited the body (+5 −0 characters)",
            "tagged #geo",
            "set title to Rivers",
            "created as note",
        ]
    );
    assert_eq!(page.items.iter().map(|row| row.revision).collect::<Vec<_>>(), [4, 3, 2, 1, 0]);
    assert_eq!(page.items[0].outcome, Some(EntryOutcome::Suggested));
    assert_eq!(page.items[3].outcome, Some(EntryOutcome::Applied));
    let activity = stage.timeline.activity(None, None).expect("reads");
    assert_eq!((activity.iter().map(|day| day.events).sum::<u64>(), activity[0].memories), (5, 1));
    let nothing = TimelineFilter { from: Some(chrono::Utc::now() + chrono::Days::new(1)), ..filter };
    assert_eq!(stage.timeline.list(&nothing, None, None).expect("lists").items, []);
}

#[tokio::test]
async fn an_archived_memory_is_told_apart() {
    let mut stage = Stage::new().await;
    let id = stage.log.create(Kind::Note, "Old", "", &[]).await;
    stage.log.set(id, Truth::User, &[("archived", Value::Flag(true))]).await;
    assert!(stage.view(id).await.summary.archived);
    let active = MemoryFilter { archived: Some(false), ..MemoryFilter::default() };
    assert_eq!(
        stage.memories.list(&ListQuery { filter: active, ..ListQuery::default() }).expect("lists").items,
        []
    );
}
