//! Databases of a test's own.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};

use super::{CLUSTER_VARIABLE, Cluster, ROLE, Settings};

/// An empty database of a test's own. Dropping it removes it.
#[derive(Debug)]
pub struct Database {
    name: String,
    url: String,
    admin: String,
}

impl Database {
    /// The URL for [`ROLE`], which owns the database.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The URL of a superuser for the same database.
    pub fn admin_url(&self) -> &str {
        &self.admin
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let sql = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let server = in_database(&self.admin, "postgres");
        // On a thread of its own, because this may run inside of a runtime. A server that is gone took it along.
        let dropped = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(&server).await.ok()?;
                connection.execute(AssertSqlSafe(sql)).await.ok()
            })
        });
        let _ = dropped.join();
    }
}

/// An empty database on the cluster of this run.
///
/// # Panics
/// When there is no PostgreSQL on the machine, or it does not work.
pub async fn database() -> Database {
    static OWN: OnceLock<Cluster> = OnceLock::new();
    let server = match std::env::var(CLUSTER_VARIABLE) {
        Ok(server) if !server.is_empty() => server,
        _ => OWN.get_or_init(|| Cluster::start(&Settings::default()).expect("a private PostgreSQL starts")).url(),
    };
    create_database(&server).await
}

impl Cluster {
    /// An empty database on this cluster.
    ///
    /// # Panics
    /// When the server does not work.
    pub async fn database(&self) -> Database {
        create_database(&self.url()).await
    }
}

async fn create_database(server: &str) -> Database {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let name = format!("test_{}_{count}_{:08x}", std::process::id(), rand::random::<u32>());
    let mut connection = PgConnection::connect(server).await.expect("the private PostgreSQL answers");
    let sql = format!("CREATE DATABASE {name} OWNER {ROLE}");
    connection.execute(AssertSqlSafe(sql)).await.expect("a database is made");
    let admin = in_database(server, &name);
    let url = admin.replacen("postgres://postgres@", &format!("postgres://{ROLE}@"), 1);
    Database { name, url, admin }
}

fn in_database(server: &str, database: &str) -> String {
    let (base, _) = server.rsplit_once('/').expect("the URL names a database");
    format!("{base}/{database}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_private_server_can_be_killed_and_goes_on() {
        let cluster = Cluster::start(&Settings::default()).expect("it starts");
        let database = cluster.database().await;
        let mut connection = PgConnection::connect(database.url()).await.expect("it answers");
        connection.execute("CREATE TABLE kept (x int)").await.expect("the role may make tables");
        cluster.kill();
        assert!(connection.execute("SELECT 1").await.is_err());
        cluster.resume().expect("it starts again");
        let mut connection = PgConnection::connect(database.url()).await.expect("it answers again");
        connection.execute("SELECT * FROM kept").await.expect("what was committed is there");
    }
}
