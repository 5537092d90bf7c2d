//! The tables of the database: made and changed by numbered migrations, each once, under a lock.

use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{PgPool, SqlSafeStr};

use crate::port::StoreError;
use crate::postgres::failure::store_error;

/// Where it is written which migrations were made.
const TABLE: &str = "cairn.migrations";

/// Every migration, in order. None is ever changed once it was released.
const MIGRATIONS: [(i64, &str, &str); 6] = [
    (1, "log", include_str!("../../../../migrations/postgres/0001_log.sql")),
    (2, "read models", include_str!("../../../../migrations/postgres/0002_read_models.sql")),
    (3, "tokens", include_str!("../../../../migrations/postgres/0003_tokens.sql")),
    (4, "projection orders", include_str!("../../../../migrations/postgres/0004_projection_orders.sql")),
    (5, "begin append", include_str!("../../../../migrations/postgres/0005_begin_append.sql")),
    (6, "begin read", include_str!("../../../../migrations/postgres/0006_begin_read.sql")),
];

/// Why the database's tables could not be brought up to this program.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    /// A newer program has changed the tables.
    #[error(
        "the database was migrated to version {found}, this program knows {known}; start a newer cairn, or restore \
         the backup made before the upgrade"
    )]
    Newer {
        /// The version found.
        found: i64,
        /// The last version this program knows.
        known: i64,
    },
    /// A migration was made from another text than this program has.
    #[error("migration {version} of the database is not the one this program has; it is a development build's")]
    Changed {
        /// The migration.
        version: i64,
    },
    /// The database did not let it happen. Nothing of the migration that failed is left.
    #[error("the database could not be migrated")]
    Failed(#[source] StoreError),
}

/// Makes every migration that was not made yet, under a lock, so that several programs may start at once. Returns the
/// version reached.
///
/// # Errors
/// See [`MigrateError`].
pub async fn migrate(pool: &PgPool) -> Result<i64, MigrateError> {
    let migrations = MIGRATIONS.map(|(version, name, sql)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    });
    let mut migrator = Migrator::with_migrations(migrations.into());
    migrator.dangerous_set_table_name(TABLE);
    migrator.create_schema("cairn");
    let known = MIGRATIONS[MIGRATIONS.len() - 1].0;
    match migrator.run(pool).await {
        Ok(()) => Ok(known),
        Err(sqlx::migrate::MigrateError::VersionMissing(found)) => Err(MigrateError::Newer { found, known }),
        Err(sqlx::migrate::MigrateError::VersionMismatch(version)) => Err(MigrateError::Changed { version }),
        Err(
            sqlx::migrate::MigrateError::Execute(error) | sqlx::migrate::MigrateError::ExecuteMigration(error, _),
        ) => Err(MigrateError::Failed(store_error(&error))),
        Err(error) => Err(MigrateError::Failed(StoreError::Unavailable { reason: error.to_string() })),
    }
}
