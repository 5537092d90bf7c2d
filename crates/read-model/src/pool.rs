//! The connections that queries run on, and the switch from one generation to the next.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use crate::database::{FILE_NAME, Model, open_reader};
use crate::page::QueryError;
use crate::postgres::Server;
use crate::sql::{Answer, Connection, Failure};

/// The most connections that read one generation at once; further queries wait for one.
pub const READ_CONNECTIONS: usize = 8;

/// Answers queries from whichever generation serves.
#[derive(Debug)]
pub(crate) struct Switch {
    model: &'static Model,
    source: Source,
}

/// Who says which generation serves.
#[derive(Debug)]
enum Source {
    /// This process: a file.
    Files(RwLock<Option<Arc<Pool>>>),
    /// The database: a schema. Readers in any process follow it.
    Server(Server),
}

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<rusqlite::Connection>,
    lent: usize,
}

impl Switch {
    pub(crate) fn new(model: &'static Model) -> Self {
        Self { model, source: Source::Files(RwLock::new(None)) }
    }

    pub(crate) fn on_server(model: &'static Model, server: Server) -> Self {
        Self { model, source: Source::Server(server) }
    }

    /// From now on queries are answered from this generation; those under way end on the earlier one.
    pub(crate) fn serve(&self, folder: &Path) {
        let Source::Files(current) = &self.source else { return };
        let pool = Pool { path: folder.join(FILE_NAME), state: Mutex::default(), returned: Condvar::new() };
        *current.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(pool));
    }

    /// Whether a generation serves.
    pub(crate) fn is_ready(&self) -> bool {
        match &self.source {
            Source::Files(pool) => current(pool).is_some(),
            Source::Server(_) => self.position().is_ok(),
        }
    }

    /// Runs queries in one read transaction, so that they all see one moment.
    pub(crate) fn read<T>(&self, query: impl Fn(&mut Connection<'_>) -> Answer<T>) -> Result<T, QueryError> {
        match &self.source {
            Source::Files(pool) => {
                let pool = current(pool).ok_or(QueryError::NotReady { model: self.model.name })?;
                pool.read(query).map_err(|failure| QueryError::of(self.model.name, failure))
            }
            Source::Server(server) => server.read(self.model.name, query),
        }
    }

    /// The position that queries are answered at.
    pub(crate) fn position(&self) -> Result<u64, QueryError> {
        self.read(|connection| {
            let position = connection.first("SELECT checkpoint FROM meta", &[], |row| row.number(0))?;
            Ok(position.unwrap_or_default())
        })
    }
}

fn current(pool: &RwLock<Option<Arc<Pool>>>) -> Option<Arc<Pool>> {
    pool.read().unwrap_or_else(PoisonError::into_inner).clone()
}

impl Pool {
    fn read<T>(&self, query: impl Fn(&mut Connection<'_>) -> Answer<T>) -> Answer<T> {
        let mut lent = Lent::take(self)?;
        let connection = lent.connection.take().expect("a connection was just lent");
        let answer = (|| {
            let transaction = connection.unchecked_transaction().map_err(Failure::Sqlite)?;
            query(&mut Connection::Sqlite(&transaction))
        })();
        // A connection that failed may be in a bad state; a new one costs little.
        lent.connection = Some(connection).filter(|_| answer.is_ok());
        answer
    }

    /// A poisoned lock is taken all the same: nothing that could panic runs under it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection lent to one query; it goes back when this is dropped.
struct Lent<'a> {
    pool: &'a Pool,
    connection: Option<rusqlite::Connection>,
}

impl<'a> Lent<'a> {
    fn take(pool: &'a Pool) -> rusqlite::Result<Self> {
        let mut state = pool
            .returned
            .wait_while(pool.state(), |state| state.lent == READ_CONNECTIONS)
            .unwrap_or_else(PoisonError::into_inner);
        state.lent += 1;
        let idle = state.idle.pop();
        drop(state);
        // From here on the loan ends when it is dropped, also where opening fails.
        let mut lent = Self { pool, connection: idle };
        if lent.connection.is_none() {
            lent.connection = Some(open_reader(&pool.path)?);
        }
        Ok(lent)
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.state();
        state.lent -= 1;
        state.idle.extend(self.connection.take());
        drop(state);
        self.pool.returned.notify_one();
    }
}
