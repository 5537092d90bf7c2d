//! Generations noted in a PostgreSQL database, where every process that serves or projects a brain sees the choice.

use std::io;
use std::path::PathBuf;

use cairn_read_model::postgres::Server;
use sqlx::{Postgres, Row, Transaction};

use super::{Generations, Place, Serving};
use crate::orders::Orders;

/// What is noted of a generation that is built to serve.
const BUILD: i32 = 0;
/// What is noted of one that never serves, so that nobody takes it for an unfinished build.
const SCRATCH: i32 = -1;

/// The generations of one projection of one brain.
#[derive(Debug, Clone)]
pub struct PostgresGenerations {
    server: Server,
    projection: &'static str,
    /// Where a projection may keep what belongs to this machine alone.
    folder: PathBuf,
}

impl PostgresGenerations {
    /// Those of a projection in the database that the server is.
    pub fn new(server: Server, projection: &'static str, root: &std::path::Path) -> Self {
        Self { server, projection, folder: root.join(projection) }
    }

    fn run<T>(
        &self,
        work: impl AsyncFnOnce(&mut Transaction<'static, Postgres>) -> sqlx::Result<T>,
    ) -> io::Result<T> {
        transaction(&self.server, work)
    }

    async fn noted_as(
        &self,
        version: i32,
        transaction: &mut Transaction<'static, Postgres>,
    ) -> sqlx::Result<Vec<u64>> {
        let select = "SELECT number FROM cairn.generations WHERE projection = $1 AND version = $2";
        let select = sqlx::query_scalar(select).bind(self.projection).bind(version);
        let numbers: Vec<i64> = select.fetch_all(&mut **transaction).await?;
        Ok(numbers.into_iter().map(i64::cast_unsigned).collect())
    }

    fn note(&self, version: i32) -> io::Result<u64> {
        let number = self.run(async |transaction| {
            let number: i64 = sqlx::query_scalar(
                "INSERT INTO cairn.generations (projection, number, version)
                 SELECT $1, 1 + greatest(
                     (SELECT coalesce(max(number), 0) FROM cairn.generations WHERE projection = $1),
                     (SELECT coalesce(max(generation), 0) FROM cairn.serving WHERE projection = $1)), $2
                 RETURNING number",
            )
            .bind(self.projection)
            .bind(version)
            .fetch_one(&mut **transaction)
            .await?;
            Ok(number.cast_unsigned())
        })?;
        std::fs::create_dir_all(self.place(number).folder)?;
        Ok(number)
    }

    fn schema(&self, generation: u64) -> String {
        format!("{}_{}_{generation}", self.projection, self.server.tenant().simple())
    }
}

/// Does something in one transaction, for the tenant of a server.
pub(crate) fn transaction<T>(
    server: &Server,
    work: impl AsyncFnOnce(&mut Transaction<'static, Postgres>) -> sqlx::Result<T>,
) -> io::Result<T> {
    let done = server.handle().block_on(async {
        let mut transaction = server.pool().begin().await?;
        let set = sqlx::query("SELECT set_config('cairn.tenant', $1, true)");
        set.bind(server.tenant().to_string()).execute(&mut *transaction).await?;
        let done = work(&mut transaction).await?;
        transaction.commit().await?;
        Ok(done)
    });
    done.map_err(|error: sqlx::Error| io::Error::other(error))
}

impl Generations for PostgresGenerations {
    fn serving(&self) -> io::Result<Option<Serving>> {
        self.run(async |transaction| {
            let select = "SELECT generation, previous, erased FROM cairn.serving WHERE projection = $1";
            let row = sqlx::query(select).bind(self.projection).fetch_optional(&mut **transaction).await?;
            let Some(row) = row else { return Ok(None) };
            let (generation, previous, erased): (i64, Option<i64>, i64) =
                (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
            Ok(Some(Serving {
                generation: generation.cast_unsigned(),
                previous: previous.map(i64::cast_unsigned),
                erased: erased.cast_unsigned(),
            }))
        })
    }

    fn choose(&self, serving: Serving) -> io::Result<()> {
        self.run(async |transaction| {
            // What serves must be on the disk, with all that was committed before it.
            sqlx::query("SELECT set_config('synchronous_commit', 'on', true)").execute(&mut **transaction).await?;
            sqlx::query(
                "INSERT INTO cairn.serving (projection, generation, previous, erased, schema)
                 VALUES ($1, $2, $3, $4, $5)
                 ON CONFLICT (tenant, projection)
                 DO UPDATE SET generation = $2, previous = $3, erased = $4, schema = $5",
            )
            .bind(self.projection)
            .bind(serving.generation.cast_signed())
            .bind(serving.previous.map(u64::cast_signed))
            .bind(serving.erased.cast_signed())
            .bind(self.schema(serving.generation))
            .execute(&mut **transaction)
            .await?;
            Ok(())
        })
    }

    fn numbers(&self) -> io::Result<Vec<u64>> {
        self.run(async |transaction| self.noted_as(BUILD, transaction).await)
    }

    fn begin(&self) -> io::Result<u64> {
        self.note(BUILD)
    }

    fn delete(&self, generation: u64) -> io::Result<()> {
        self.run(async |transaction| {
            let delete = "DELETE FROM cairn.generations WHERE projection = $1 AND number = $2";
            let delete = sqlx::query(delete).bind(self.projection).bind(generation.cast_signed());
            delete.execute(&mut **transaction).await?;
            Ok(())
        })?;
        match std::fs::remove_dir_all(self.place(generation).folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn place(&self, generation: u64) -> Place {
        Place { folder: self.folder.join(generation.to_string()), number: generation }
    }

    fn scratch(&self) -> io::Result<Place> {
        Ok(self.place(self.note(SCRATCH)?))
    }

    fn discard(&self, scratch: &Place) -> io::Result<()> {
        self.delete(scratch.number)
    }

    fn scraps(&self) -> io::Result<Vec<Place>> {
        let numbers = self.run(async |transaction| self.noted_as(SCRATCH, transaction).await)?;
        Ok(numbers.into_iter().map(|number| self.place(number)).collect())
    }

    fn orders(&self) -> Option<Orders> {
        Some(Orders::new(self.server.clone(), self.projection))
    }

    fn is_paused(&self) -> io::Result<bool> {
        self.run(async |transaction| {
            let select = sqlx::query_scalar("SELECT paused FROM cairn.projections WHERE projection = $1");
            let paused: Option<bool> = select.bind(self.projection).fetch_optional(&mut **transaction).await?;
            Ok(paused.unwrap_or_default())
        })
    }

    fn set_paused(&self, paused: bool) -> io::Result<()> {
        self.run(async |transaction| {
            let upsert = "INSERT INTO cairn.projections (projection, paused) VALUES ($1, $2)
                 ON CONFLICT (tenant, projection) DO UPDATE SET paused = $2";
            sqlx::query(upsert).bind(self.projection).bind(paused).execute(&mut **transaction).await?;
            Ok(())
        })
    }
}
