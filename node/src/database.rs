//! The PostgreSQL database, where the configuration names one.

use anyhow::{Context, Result};
use cairn_event_store::StoreError;
use cairn_event_store::postgres::{self, MigrateError};
use cairn_read_model::postgres::{RoleError, check_role};
use sqlx::PgPool;

use crate::cli::args::{Global, MigrateArgs};
use crate::config::{Config, DatabaseConfig, default_data_folder};

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// It does not answer.
    #[error(transparent)]
    Connect(#[from] StoreError),
    /// Its role could see what is another brain's.
    #[error(transparent)]
    Role(#[from] RoleError),
    /// Its tables are not those of this program.
    #[error(transparent)]
    Migrate(#[from] MigrateError),
}

/// Connects, makes sure that row-level security holds, and brings the tables up to this program.
///
/// # Errors
/// See [`DatabaseError`].
pub async fn open(config: &DatabaseConfig) -> Result<PgPool, DatabaseError> {
    let pool = postgres::connect(config.url.expose(), config.connections).await?;
    check_role(&pool).await?;
    postgres::migrate(&pool).await?;
    Ok(pool)
}

/// `cairn migrate`: brings the database's tables up to this program, and ends.
///
/// # Errors
/// When no database is configured, or it cannot be migrated.
pub async fn migrate(global: &Global, args: &MigrateArgs) -> Result<()> {
    let data = match &global.data {
        Some(data) => data.clone(),
        None => default_data_folder()?,
    };
    let config = Config::load(&data, args.config.as_deref())?;
    let database = config.database.context(
        "no database is configured; set DATABASE_URL. A node that keeps everything in its data folder needs no migration",
    )?;
    let pool = postgres::connect(database.url.expose(), 2).await?;
    check_role(&pool).await?;
    let version = postgres::migrate(&pool).await?;
    match global.json {
        true => println!("{}", serde_json::json!({ "version": version })),
        false if global.quiet => {}
        false => println!("The database is at version {version}."),
    }
    Ok(())
}
