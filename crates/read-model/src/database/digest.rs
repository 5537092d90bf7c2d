//! A digest of everything a generation holds.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::types::ValueRef;
use sha2::{Digest, Sha256};

use super::{FILE_NAME, Model, ModelError, checkpoint, open_reader};

/// SHA-256, in hexadecimal, over all rows of all tables in the order of their primary keys, and the position it is
/// of. Two generations of one version at one position have the same. It reads beside the writer and holds nobody up.
///
/// # Errors
/// See [`ModelError`].
pub fn digest(folder: &Path, model: &'static Model) -> Result<(u64, String), ModelError> {
    let path = folder.join(FILE_NAME);
    tracing::debug!(model = model.name, path = %path.display(), "digesting");
    read(&path).map_err(|source| ModelError::sqlite(&path, source))
}

fn read(path: &Path) -> rusqlite::Result<(u64, String)> {
    let connection = open_reader(path)?;
    // One transaction, so that rows and position are of one moment.
    let transaction = connection.unchecked_transaction()?;
    let position = checkpoint(&transaction)?;
    let mut hasher = Sha256::new();
    for table in tables(&transaction)? {
        table_into(&transaction, &table, &mut hasher)?;
    }
    Ok((position, finish(hasher)))
}

/// All tables but `meta`, asked of the file itself so that none can be forgotten.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<String>> {
    connection
        .prepare(
            "SELECT name FROM sqlite_schema
             WHERE type = 'table' AND name <> 'meta' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name",
        )?
        .query_map([], |row| row.get(0))?
        .collect()
}

fn table_into(connection: &Connection, table: &str, hasher: &mut Sha256) -> rusqlite::Result<()> {
    let keys: Vec<String> = connection
        .prepare("SELECT name FROM pragma_table_info(?1) WHERE pk > 0 ORDER BY pk")?
        .query_map([table], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    text_into(hasher, table);
    let mut statement =
        connection.prepare(&format!("SELECT * FROM \"{table}\" ORDER BY \"{}\"", keys.join("\", \"")))?;
    let columns = statement.column_count();
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        for column in 0..columns {
            raw_into(hasher, row.get_ref(column)?)?;
        }
    }
    Ok(())
}

/// A value with the type that it is told apart by.
pub(crate) enum Tagged<'a> {
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Bytes(&'a [u8]),
}

fn raw_into(hasher: &mut Sha256, value: ValueRef<'_>) -> rusqlite::Result<()> {
    let value = match value {
        ValueRef::Null => None,
        ValueRef::Integer(number) => Some(Tagged::Integer(number)),
        ValueRef::Real(number) => Some(Tagged::Real(number)),
        ValueRef::Text(_) => Some(Tagged::Text(value.as_str()?)),
        ValueRef::Blob(bytes) => Some(Tagged::Bytes(bytes)),
    };
    value_into(hasher, value);
    Ok(())
}

/// Every value carries its type and length, so that no two rows can read alike.
pub(crate) fn value_into(hasher: &mut Sha256, value: Option<Tagged<'_>>) {
    match value {
        None => hasher.update([0]),
        Some(Tagged::Integer(number)) => {
            hasher.update([1]);
            hasher.update(number.to_be_bytes());
        }
        Some(Tagged::Real(number)) => {
            hasher.update([2]);
            hasher.update(number.to_bits().to_be_bytes());
        }
        Some(Tagged::Text(text)) => bytes_into(hasher, 3, text.as_bytes()),
        Some(Tagged::Bytes(bytes)) => bytes_into(hasher, 4, bytes),
    }
}

pub(crate) fn text_into(hasher: &mut Sha256, text: &str) {
    bytes_into(hasher, 5, text.as_bytes());
}

fn bytes_into(hasher: &mut Sha256, kind: u8, bytes: &[u8]) {
    hasher.update([kind]);
    hasher.update((bytes.len() as u64).to_be_bytes());
    hasher.update(bytes);
}

pub(crate) fn finish(hasher: Sha256) -> String {
    hex::encode(hasher.finalize())
}
