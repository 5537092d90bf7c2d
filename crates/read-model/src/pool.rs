//! The connections that queries run on, and the switch from one generation to the next.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

use rusqlite::Connection;

use crate::database::{FILE_NAME, Model, checkpoint, open_reader};
use crate::page::QueryError;

/// The most connections that read one generation at once; further queries wait for one.
pub const READ_CONNECTIONS: usize = 8;

/// Answers queries from whichever generation serves.
#[derive(Debug)]
pub(crate) struct Switch {
    model: &'static Model,
    pool: RwLock<Option<Arc<Pool>>>,
}

#[derive(Debug)]
struct Pool {
    path: PathBuf,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug, Default)]
struct State {
    idle: Vec<Connection>,
    lent: usize,
}

impl Switch {
    pub(crate) fn new(model: &'static Model) -> Self {
        Self { model, pool: RwLock::new(None) }
    }

    /// From now on queries are answered from this generation; those under way end on the earlier one.
    pub(crate) fn serve(&self, folder: &Path) {
        let pool = Pool { path: folder.join(FILE_NAME), state: Mutex::default(), returned: Condvar::new() };
        *self.pool.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(pool));
    }

    /// Whether a generation serves.
    pub(crate) fn is_ready(&self) -> bool {
        self.current().is_some()
    }

    /// Runs queries in one read transaction, so that they all see one moment.
    pub(crate) fn read<T>(
        &self,
        query: impl FnOnce(&Connection) -> Result<T, QueryError>,
    ) -> Result<T, QueryError> {
        let pool = self.current().ok_or(QueryError::NotReady { model: self.model.name })?;
        let mut lent = Lent::take(&pool).map_err(|source| self.failed(source))?;
        let connection = lent.connection.take().expect("a connection was just lent");
        let answer = (|| {
            let transaction = connection.unchecked_transaction().map_err(|source| self.failed(source))?;
            query(&transaction)
        })();
        // A connection that failed may be in a bad state; a new one costs little.
        lent.connection = Some(connection).filter(|_| answer.is_ok());
        answer
    }

    /// The position that queries are answered at.
    pub(crate) fn position(&self) -> Result<u64, QueryError> {
        self.read(|connection| checkpoint(connection).map_err(|source| self.failed(source)))
    }

    pub(crate) fn failed(&self, source: rusqlite::Error) -> QueryError {
        QueryError::from_sqlite(self.model.name, source)
    }

    fn current(&self) -> Option<Arc<Pool>> {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Pool {
    /// A poisoned lock is taken all the same: nothing that could panic runs under it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection lent to one query; it goes back when this is dropped.
struct Lent<'a> {
    pool: &'a Pool,
    connection: Option<Connection>,
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
