//! Both databases side by side, fed with the same batches.

use cairn_read_model::change::Batch;
use cairn_read_model::database::{Database, Model, digest};
use cairn_read_model::postgres::{self, MIGRATION, PgDatabase, Server};
use cairn_read_model::{Memories, Timeline, memories, timeline};
use sqlx::postgres::PgPoolOptions;
use sqlx::{AssertSqlSafe, PgPool};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use uuid::Uuid;

/// A PostgreSQL database with the control tables.
pub struct Postgres {
    pub runtime: Runtime,
    pub pool: PgPool,
    pub database: cairn_testkit::postgres::Database,
}

impl Postgres {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (database, pool) = runtime.block_on(async {
            let database = cairn_testkit::postgres::database().await;
            let pool = PgPoolOptions::new().max_connections(8).connect(database.url()).await.unwrap();
            sqlx::raw_sql(MIGRATION).execute(&pool).await.unwrap();
            (database, pool)
        });
        Self { runtime, pool, database }
    }

    pub fn server(&self, tenant: Uuid) -> Server {
        Server::new(self.pool.clone(), tenant, self.runtime.handle().clone())
    }

    /// Sends readers to a generation, as a projector would.
    pub fn serve(&self, server: &Server, model: &'static Model, number: u64) {
        self.runtime.block_on(async {
            let mut transaction = self.pool.begin().await.unwrap();
            sqlx::query("SELECT set_config('cairn.tenant', $1, true)")
                .bind(server.tenant().to_string())
                .execute(&mut *transaction)
                .await
                .unwrap();
            sqlx::query(
                "INSERT INTO cairn.serving (projection, generation, schema) VALUES ($1, $2, $3)
                 ON CONFLICT (tenant, projection) DO UPDATE SET generation = excluded.generation,
                 schema = excluded.schema",
            )
            .bind(model.name)
            .bind(number.cast_signed())
            .bind(postgres::schema_name(server, model, number))
            .execute(&mut *transaction)
            .await
            .unwrap();
            transaction.commit().await.unwrap();
        });
    }

    /// Runs a statement as the superuser.
    pub fn admin(&self, sql: &str) {
        self.runtime.block_on(async {
            let pool = PgPool::connect(self.database.admin_url()).await.unwrap();
            sqlx::raw_sql(AssertSqlSafe(sql)).execute(&pool).await.unwrap();
            pool.close().await;
        });
    }
}

/// The generation of each model on each database.
pub struct Stage {
    pub files: Reader,
    pub server: Reader,
    pub sqlite: [Database; 2],
    pub pg: [PgDatabase; 2],
    pub of: Server,
    folders: [TempDir; 2],
    pub postgres: Postgres,
}

/// Both readers of one database.
#[derive(Clone)]
pub struct Reader {
    pub memories: Memories,
    pub timeline: Timeline,
}

pub const MODELS: [&Model; 2] = [&memories::MODEL, &timeline::MODEL];

impl Stage {
    pub fn new() -> Self {
        let postgres = Postgres::new();
        let of = postgres.server(Uuid::now_v7());
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let files = Reader { memories: Memories::default(), timeline: Timeline::default() };
        let server = Reader { memories: Memories::postgres(of.clone()), timeline: Timeline::postgres(of.clone()) };
        let sqlite = [0, 1].map(|model: usize| Database::open(folders[model].path(), MODELS[model]).unwrap());
        let pg = MODELS.map(|model| PgDatabase::create(&of, model, 1).unwrap());
        files.memories.serve(folders[0].path());
        files.timeline.serve(folders[1].path());
        MODELS.into_iter().for_each(|model| postgres.serve(&of, model, 1));
        Self { files, server, sqlite, pg, of, folders, postgres }
    }

    pub fn apply(&mut self, batch: &Batch) {
        self.sqlite.iter_mut().for_each(|generation| generation.apply(batch).unwrap());
        self.pg.iter_mut().for_each(|generation| generation.apply(batch).unwrap());
    }

    pub fn make_ready(&mut self) {
        self.sqlite.iter_mut().for_each(|generation| generation.make_ready().unwrap());
        self.pg.iter_mut().for_each(|generation| generation.make_ready().unwrap());
    }

    /// Position and digest of both models, which both databases agree on.
    pub fn digests(&self) -> [(u64, String); 2] {
        [0, 1].map(|model: usize| {
            let of_file = digest(self.folders[model].path(), MODELS[model]).unwrap();
            assert_eq!(of_file, self.digest(model), "of {}", MODELS[model].name);
            of_file
        })
    }

    /// What PostgreSQL holds of a model.
    pub fn digest(&self, model: usize) -> (u64, String) {
        postgres::digest(&self.of, MODELS[model], 1).unwrap()
    }

    /// Asks both, and answers what both say.
    pub fn both<T: PartialEq + std::fmt::Debug>(&self, ask: impl Fn(&Reader) -> T) -> T {
        let (files, server) = (ask(&self.files), ask(&self.server));
        assert_eq!(files, server, "SQLite on the left, PostgreSQL on the right");
        files
    }
}
