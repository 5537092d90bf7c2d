//! What the notary writes: a file of leaves, and a file of signed checkpoints beside it.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, SecondsFormat, Utc};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize};

use super::tree::{HASH_BYTES, Hash, Tree};

/// The file that holds the hash of each event, in the order of the log.
const LEAVES_FILE: &str = "leaves";
/// The file that holds the checkpoints, one a line.
const CHECKPOINTS_FILE: &str = "checkpoints.jsonl";
/// No line of it is longer.
const MAX_LINE_BYTES: u64 = 4_096;

/// What the brain has signed: the log's first `size` events have this root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// How many events it covers: those up to this position.
    pub size: u64,
    /// The root of the Merkle tree over them, as hexadecimal.
    pub root: String,
    /// When it was signed.
    pub time: DateTime<Utc>,
    /// The brain's ed25519 signature, as hexadecimal.
    pub signature: String,
}

impl Checkpoint {
    pub(super) fn sign(tree: &Tree, time: DateTime<Utc>, key: &SigningKey) -> Self {
        let (size, root) = (tree.size(), blake3::Hash::from_bytes(tree.root()).to_hex().to_string());
        let signature =
            key.sign(&signed(size, &root, time)).to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        Self { size, root, time, signature }
    }

    /// Whether the brain signed it.
    pub(super) fn is_signed_by(&self, key: &VerifyingKey) -> bool {
        let signature = bytes(&self.signature).and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature
            .is_some_and(|signature| key.verify(&signed(self.size, &self.root, self.time), &signature).is_ok())
    }

    pub(super) fn has_root(&self, root: &Hash) -> bool {
        self.root == blake3::Hash::from_bytes(*root).to_hex().as_str()
    }
}

/// The text that is signed.
fn signed(size: u64, root: &str, time: DateTime<Utc>) -> Vec<u8> {
    let time = time.to_rfc3339_opts(SecondsFormat::AutoSi, true);
    format!("cairn log checkpoint 1\n{size}\n{root}\n{time}\n").into_bytes()
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits = hex.as_bytes();
    let pairs = digits.len().is_multiple_of(2).then(|| digits.chunks_exact(2))?;
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}

/// The files, open for adding to them.
#[derive(Debug)]
pub(super) struct Record {
    leaves: File,
    checkpoints: File,
}

impl Record {
    /// Opens the files in a folder, which is made where it is missing.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(folder)?;
        let open = |name: &str| OpenOptions::new().create(true).read(true).append(true).open(folder.join(name));
        let mut record = Self { leaves: open(LEAVES_FILE)?, checkpoints: open(CHECKPOINTS_FILE)? };
        record.drop_half_a_line()?;
        Ok(record)
    }

    /// A crash may have cut the last checkpoint off.
    fn drop_half_a_line(&mut self) -> io::Result<()> {
        let length = self.checkpoints.metadata()?.len();
        let start = length.saturating_sub(MAX_LINE_BYTES);
        let mut end = Vec::new();
        self.checkpoints.seek(SeekFrom::Start(start))?;
        self.checkpoints.read_to_end(&mut end)?;
        let whole = end.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline as u64 + 1);
        if start + whole < length { self.checkpoints.set_len(start + whole) } else { Ok(()) }
    }

    /// Keeps so many leaves, for when the log has no more.
    pub(super) fn truncate(&self, size: u64) -> io::Result<()> {
        self.leaves.set_len(size * HASH_BYTES as u64)
    }

    pub(super) fn add(&mut self, leaves: &[Hash]) -> io::Result<()> {
        self.leaves.write_all(leaves.as_flattened())
    }

    /// Adds a checkpoint once its leaves are durable.
    pub(super) fn close_with(&mut self, checkpoint: &Checkpoint) -> io::Result<()> {
        self.leaves.sync_data()?;
        let mut line = serde_json::to_vec(checkpoint).expect("a checkpoint is plain JSON");
        line.push(b'\n');
        self.checkpoints.write_all(&line)?;
        self.checkpoints.sync_data()
    }
}

/// Reads the leaves one after the other; ends for good where the file did when its end was met.
pub(super) struct Leaves {
    file: Option<BufReader<File>>,
}

impl Leaves {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self { file: open(folder.join(LEAVES_FILE))? })
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Hash>> {
        let Some(file) = &mut self.file else { return Ok(None) };
        let mut hash = [0; HASH_BYTES];
        match file.read_exact(&mut hash) {
            Ok(()) => Ok(Some(hash)),
            // What a crash has cut off, or what the notary is about to write: what comes later stands for later events.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                self.file = None;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Reads the checkpoints one after the other.
pub(super) struct Checkpoints {
    lines: Option<BufReader<File>>,
}

impl Checkpoints {
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        Ok(Self { lines: open(folder.join(CHECKPOINTS_FILE))? })
    }

    /// The next one; a line that is none is told as such, unless it is the last and was cut off by a crash.
    pub(super) fn next(&mut self) -> io::Result<Option<Result<Checkpoint, String>>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        let mut line = String::new();
        lines.read_line(&mut line)?;
        if !line.ends_with('\n') {
            return Ok(None);
        }
        Ok(Some(serde_json::from_str(&line).map_err(|error| error.to_string())))
    }
}

fn open(path: PathBuf) -> io::Result<Option<BufReader<File>>> {
    match File::open(path) {
        Ok(file) => Ok(Some(BufReader::with_capacity(64 * 1024, file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
