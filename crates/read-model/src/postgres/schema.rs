//! A generation's schema: made as a whole, dropped as a whole.

use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{Server, failed};
use crate::database::{Model, ModelError};

/// How long dropping a generation waits for the queries that still read it, at most.
const DROP_WAIT: &str = "30s";

/// The schema of a generation. It holds nothing but lower-case letters, digits and underscores.
pub fn schema_name(server: &Server, model: &'static Model, number: u64) -> String {
    format!("{}_{}_{number}", model.name, server.tenant.simple())
}

/// Creates the schema of a generation with empty tables and the checkpoint 0.
pub(super) async fn create(
    connection: &mut PgConnection,
    server: &Server,
    model: &'static Model,
    schema: &str,
) -> sqlx::Result<()> {
    let mut transaction = connection.begin().await?;
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(&mut *transaction).await?;
    enter(&mut transaction, server, schema).await?;
    sqlx::raw_sql(
        "CREATE TABLE meta (
             tenant uuid NOT NULL PRIMARY KEY DEFAULT nullif(current_setting('cairn.tenant', true), '')::uuid,
             version bigint NOT NULL,
             checkpoint bigint NOT NULL,
             indexed boolean NOT NULL
         )",
    )
    .execute(&mut *transaction)
    .await?;
    sqlx::raw_sql(model.postgres.tables).execute(&mut *transaction).await?;
    protect(&mut transaction, schema).await?;
    sqlx::query("INSERT INTO meta (version, checkpoint, indexed) VALUES ($1, 0, false)")
        .bind(i64::from(model.version))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await
}

/// Lets the rest of the transaction see the rows of the tenant and the tables of the schema.
///
/// Its commit does not wait for the disk: after a crash of the server the rows are an older fold, and what they lack is
/// folded again. All commits reach the disk in their order, so one that does wait waits for these too.
pub(super) async fn enter(connection: &mut PgConnection, server: &Server, schema: &str) -> sqlx::Result<()> {
    sqlx::query(
        "SELECT set_config('cairn.tenant', $1, true), set_config('search_path', quote_ident($2) || ', pg_temp', true),
                set_config('synchronous_commit', 'off', true)",
    )
    .bind(server.tenant.to_string())
    .bind(schema)
    .execute(connection)
    .await?;
    Ok(())
}

/// The tables of a schema, asked of the catalogue so that none can be forgotten.
pub(super) async fn tables(connection: &mut PgConnection, schema: &str) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = $1 AND c.relkind IN ('r', 'p') ORDER BY c.relname COLLATE \"C\"",
    )
    .bind(schema)
    .fetch_all(connection)
    .await
}

/// Puts row-level security on every table, for its owner too.
async fn protect(connection: &mut PgConnection, schema: &str) -> sqlx::Result<()> {
    // The sub-select lets the setting be read once a statement, not once a row.
    const OWN: &str = "(tenant = (SELECT nullif(current_setting('cairn.tenant', true), '')::uuid))";
    for table in tables(connection, schema).await? {
        let sql = format!(
            "ALTER TABLE {schema}.{table} ENABLE ROW LEVEL SECURITY;
             ALTER TABLE {schema}.{table} FORCE ROW LEVEL SECURITY;
             CREATE POLICY tenant ON {schema}.{table} USING {OWN} WITH CHECK {OWN};"
        );
        sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Deletes a generation with everything in it, when the queries that read it have ended. One that is not there is no
/// error.
///
/// # Errors
/// See [`ModelError`].
pub fn drop_generation(server: &Server, model: &'static Model, number: u64) -> Result<(), ModelError> {
    let schema = schema_name(server, model, number);
    let _entered = server.handle.enter();
    server.handle.block_on(drop_schema(server, &schema)).map_err(failed(&schema))
}

async fn drop_schema(server: &Server, schema: &str) -> sqlx::Result<()> {
    let mut transaction = server.pool.begin().await?;
    sqlx::query("SELECT set_config('lock_timeout', $1, true)").bind(DROP_WAIT).execute(&mut *transaction).await?;
    // The other side of the lock that readers take.
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))")
        .bind(schema)
        .execute(&mut *transaction)
        .await?;
    let sql = format!("DROP SCHEMA IF EXISTS {schema} CASCADE");
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await?;
    transaction.commit().await
}
