//! A digest of everything a generation holds.

use futures::TryStreamExt;
use sha2::Sha256;
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Column, Row, TypeInfo};

use super::{Server, failed, schema};
use crate::database::digest::{Tagged, finish, text_into, value_into};
use crate::database::{Model, ModelError};

/// SHA-256, in hexadecimal, over all rows of all tables in the order of their primary keys, and the position it is
/// of. Two generations of one version at one position have the same, also where the other one is on SQLite. It reads
/// beside the writer and holds nobody up.
///
/// Two things are kept otherwise than on SQLite and give another digest there: texts with U+0000, and times beyond
/// what PostgreSQL knows.
///
/// # Errors
/// See [`ModelError`].
pub fn digest(server: &Server, model: &'static Model, number: u64) -> Result<(u64, String), ModelError> {
    let schema = schema::schema_name(server, model, number);
    tracing::debug!(model = model.name, schema, "digesting");
    let _entered = server.handle.enter();
    server.handle.block_on(read(server, &schema)).map_err(failed(&schema))
}

async fn read(server: &Server, schema: &str) -> sqlx::Result<(u64, String)> {
    // One snapshot, so that rows and position are of one moment.
    let mut transaction =
        server.pool.begin_with("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY").await?;
    schema::enter(&mut transaction, server, schema).await?;
    let position: i64 = sqlx::query_scalar("SELECT checkpoint FROM meta").fetch_one(&mut *transaction).await?;
    let mut hasher = Sha256::default();
    for table in schema::tables(&mut transaction, schema).await? {
        if table != "meta" {
            table_into(&mut transaction, schema, &table, &mut hasher).await?;
        }
    }
    transaction.rollback().await?;
    Ok((position.cast_unsigned(), finish(hasher)))
}

async fn table_into(
    connection: &mut PgConnection,
    schema: &str,
    table: &str,
    hasher: &mut Sha256,
) -> sqlx::Result<()> {
    let keys: Vec<String> = sqlx::query_scalar(
        "SELECT a.attname::text FROM pg_index i
         JOIN LATERAL unnest(i.indkey) WITH ORDINALITY AS k (number, place) ON true
         JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number
         WHERE i.indisprimary AND i.indrelid = format('%I.%I', $1, $2)::regclass ORDER BY k.place",
    )
    .bind(schema)
    .bind(table)
    .fetch_all(&mut *connection)
    .await?;
    text_into(hasher, table);
    let sql = format!("SELECT * FROM \"{schema}\".\"{table}\" ORDER BY \"{}\"", keys.join("\", \""));
    let mut rows = sqlx::query(AssertSqlSafe(sql)).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        for column in row.columns().iter().filter(|column| column.name() != "tenant") {
            column_into(hasher, &row, column.ordinal(), column.type_info().name())?;
        }
    }
    Ok(())
}

/// Every value is digested as SQLite keeps it.
fn column_into(hasher: &mut Sha256, row: &PgRow, column: usize, type_name: &str) -> sqlx::Result<()> {
    match type_name {
        "UUID" => {
            let id = row.try_get::<Option<uuid::Uuid>, _>(column)?;
            value_into(hasher, id.as_ref().map(|id| Tagged::Bytes(id.as_bytes())));
        }
        "BOOL" => {
            let flag = row.try_get::<Option<bool>, _>(column)?;
            value_into(hasher, flag.map(|flag| Tagged::Integer(i64::from(flag))));
        }
        "INT2" => {
            let level = row.try_get::<Option<i16>, _>(column)?;
            value_into(hasher, level.map(|level| Tagged::Integer(i64::from(level))));
        }
        "INT8" => value_into(hasher, row.try_get::<Option<i64>, _>(column)?.map(Tagged::Integer)),
        "TIMESTAMPTZ" => {
            let time = row.try_get::<Option<chrono::DateTime<chrono::Utc>>, _>(column)?;
            value_into(hasher, time.map(|time| Tagged::Integer(time.timestamp_millis())));
        }
        "FLOAT8" => value_into(hasher, row.try_get::<Option<f64>, _>(column)?.map(Tagged::Real)),
        "TEXT" => value_into(hasher, row.try_get::<Option<&str>, _>(column)?.map(Tagged::Text)),
        other => {
            let unknown = format!("no digest is defined for columns of type {other}");
            return Err(sqlx::Error::Decode(unknown.into()));
        }
    }
    Ok(())
}
