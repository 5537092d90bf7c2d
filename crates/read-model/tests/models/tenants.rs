//! Tenants share a database and see nothing of each other.

use cairn_domain::kind::Kind;
use cairn_domain::memory::command::Command;
use cairn_domain::truth::Truth;
use cairn_domain::value::Value;
use cairn_read_model::memories::Found;
use cairn_read_model::postgres::PgDatabase;
use cairn_read_model::{Memories, Timeline};
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection, Row};
use uuid::Uuid;

use crate::brain::Brain;
use crate::stage::{MODELS, Postgres, Stage};

/// Every table there is, apart from the database's own.
const TABLES: &str = "SELECT n.nspname::text, c.relname::text, c.relrowsecurity, c.relforcerowsecurity
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND n.nspname NOT LIKE 'pg\\_%' AND n.nspname <> 'information_schema'
    ORDER BY 1, 2";

async fn count(connection: &mut PgConnection, table: &str) -> i64 {
    let sql = format!("SELECT count(*) FROM {table}");
    sqlx::query(AssertSqlSafe(sql)).fetch_one(connection).await.unwrap().get(0)
}

#[test]
fn a_query_that_forgets_its_tenant_returns_nothing() {
    let (mut brain, mut stage) = (Brain::new(21), Stage::new());
    // Everything that a table can hold.
    let on = || Value::Flag(true);
    for kind in Kind::ALL {
        let id = brain.create(kind, &[("title", kind.name().into()), ("tag/x", on())], "text");
        brain.dispute(id, Truth::User);
    }
    for truth in Truth::ALL {
        brain.principal(truth, false);
    }
    let erased = brain.create(Kind::Note, &[], "text");
    brain.command(erased, Truth::User, Command::EraseMemory);
    (0..400).for_each(|_| brain.act());
    stage.apply(&brain.batch());
    let runtime = stage.postgres.runtime.handle().clone();
    runtime.block_on(async {
        // One the control tables have no rows in yet.
        let tenant = stage.of.tenant().to_string();
        let mut transaction = stage.postgres.pool.begin().await.unwrap();
        sqlx::query("SELECT set_config('cairn.tenant', $1, true)")
            .bind(&tenant)
            .execute(&mut *transaction)
            .await
            .unwrap();
        let row = "INSERT INTO cairn.generations (projection, number, version) VALUES ('memories', 1, 1)";
        sqlx::query(row).execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();

        let mut admin = PgConnection::connect(stage.postgres.database.admin_url()).await.unwrap();
        let mut owner = PgConnection::connect(stage.postgres.database.url()).await.unwrap();
        let tables = sqlx::query(TABLES).fetch_all(&mut owner).await.unwrap();
        assert!(tables.len() > 20, "{} tables", tables.len());
        for row in tables {
            let table = format!("{}.{}", row.get::<String, _>(0), row.get::<String, _>(1));
            assert!(row.get::<bool, _>(2) && row.get::<bool, _>(3), "{table} is not protected from its owner");
            let all = count(&mut admin, &table).await;
            assert!(all > 0, "{table} has no rows, so seeing none of them proves nothing");
            assert_eq!(count(&mut owner, &table).await, 0, "{table} is seen without a tenant");
            for other in ["", &Uuid::now_v7().to_string()] {
                let mut transaction = owner.begin().await.unwrap();
                let set = sqlx::query("SELECT set_config('cairn.tenant', $1, true)").bind(other);
                set.execute(&mut *transaction).await.unwrap();
                assert_eq!(count(&mut transaction, &table).await, 0, "{table} is seen by {other:?}");
                let sql = format!("DELETE FROM {table}");
                let deleted = sqlx::query(AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap();
                assert_eq!(deleted.rows_affected(), 0, "{table} is deleted from by {other:?}");
                // A row of somebody else's cannot be written either.
                let sql = format!("INSERT INTO {table} (tenant) VALUES ('{tenant}')");
                let refused = sqlx::query(AssertSqlSafe(sql)).execute(&mut *transaction).await.unwrap_err();
                let code =
                    refused.as_database_error().and_then(|error| error.code()).unwrap_or_default().into_owned();
                assert_eq!(code, "42501", "{table}: {refused}");
                transaction.rollback().await.unwrap();
            }
            // And the tenant itself sees its own.
            let mut transaction = owner.begin().await.unwrap();
            let set = sqlx::query("SELECT set_config('cairn.tenant', $1, true)").bind(&tenant);
            set.execute(&mut *transaction).await.unwrap();
            assert_eq!(count(&mut transaction, &table).await, all, "{table}");
            transaction.rollback().await.unwrap();
            // The setting ends with its transaction.
            assert_eq!(count(&mut owner, &table).await, 0, "{table}");
        }
    });
}

#[test]
fn two_tenants_in_one_database_do_not_see_each_other() {
    let postgres = Postgres::new();
    let tenants: Vec<_> = [31, 32]
        .into_iter()
        .map(|seed| {
            let (server, mut brain) = (postgres.server(Uuid::now_v7()), Brain::new(seed));
            (0..30).for_each(|_| brain.act());
            let batch = brain.batch();
            for model in MODELS {
                let mut generation = PgDatabase::create(&server, model, 1).unwrap();
                generation.apply(&batch).unwrap();
                generation.make_ready().unwrap();
                postgres.serve(&server, model, 1);
            }
            (brain, Memories::postgres(server.clone()), Timeline::postgres(server))
        })
        .collect();
    // By turns, so that one connection is now the one's and now the other's.
    for _ in 0..10 {
        for (brain, memories, timeline) in &tenants {
            assert_eq!(memories.position().unwrap(), brain.position());
            let stats = memories.stats().unwrap();
            assert_eq!(stats.memories + stats.erased, brain.ids.len() as u64);
            assert_eq!(timeline.position().unwrap(), brain.position());
        }
    }
    let (first, second) = (&tenants[0], &tenants[1]);
    for id in &first.0.ids {
        assert!(!matches!(first.1.get(*id).unwrap(), Found::Nothing));
        assert!(matches!(second.1.get(*id).unwrap(), Found::Nothing));
    }
}
