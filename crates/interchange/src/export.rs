//! Writers: memories as JSON lines, and as a Markdown vault that reads back to the same memories.

mod front_matter;
mod layout;
mod vault;

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use cairn_domain::id::MemoryId;
use cairn_domain::kind::Kind;
use cairn_domain::value::Value;
use serde::{Deserialize, Serialize};

pub use layout::{ExportHead, Layout, MAX_NAME_BYTES};
pub use vault::{ExportReport, MARKER_FILE, MarkdownExport};

/// A memory as it leaves the brain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExportedMemory {
    /// Its id.
    pub id: MemoryId,
    /// What it is about.
    pub kind: Kind,
    /// Its title.
    pub title: String,
    /// Its text, byte for byte.
    pub body: String,
    /// Typed and free fields by name, each once; not the title, the body, the kind, tags or links.
    pub fields: Vec<(String, Value)>,
    /// Tags without `#`.
    pub tags: Vec<String>,
    /// Links to other memories, exported or not.
    pub links: Vec<ExportedLink>,
    /// When it was made, RFC 3339.
    pub created_at: String,
    /// When it was last changed, RFC 3339.
    pub updated_at: String,
    /// Whether it is put away.
    pub archived: bool,
    /// Who said what, by field name; `body` is the text. In JSON lines only: a vault is the user's own word.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub provenance: BTreeMap<String, ExportedProvenance>,
}

/// Where a value comes from, as it leaves the brain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedProvenance {
    /// The level of truth, 1 to 5.
    pub truth: u8,
    /// Where it came from.
    pub origin: String,
    /// When it was said, RFC 3339.
    pub at: String,
}

/// A link as it leaves the brain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExportedLink {
    /// What it means; never with a slash.
    pub relation: String,
    /// The memory it points to.
    pub target: MemoryId,
    /// That memory's title, for people who read the JSON lines.
    pub target_title: String,
}

/// Why an export fails.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The folder holds something that no export wrote.
    #[error("`{0}` is not empty and was not made by an export; name an empty or a new folder")]
    NotEmpty(PathBuf),
    /// Something in the folder is a link or is no folder where the export needs one.
    #[error("`{0}` is in the way: it is a symbolic link or no folder; move it away")]
    InTheWay(PathBuf),
    /// A memory that was not announced when the export began.
    #[error("the memory {0} was not announced when the export began")]
    Unannounced(MemoryId),
    /// The file system refused.
    #[error("`{path}` cannot be written; check its permissions and the space on the disk")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Writes one memory as one line of JSON.
///
/// # Errors
/// When the output does.
pub fn write_json_line(output: &mut dyn io::Write, memory: &ExportedMemory) -> io::Result<()> {
    // Written in one piece, so that a line is there as a whole or not at all as far as the output can do that.
    let mut line = serde_json::to_vec(memory).map_err(io::Error::other)?;
    line.push(b'\n');
    output.write_all(&line)
}
