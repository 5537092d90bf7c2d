//! What could not be read, or not as it was written; the rest goes in.

use std::fmt;

use serde::Serialize;

/// Something a person may want to put right in their vault.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The file or folder, relative to the vault, with `/` between its parts.
    pub path: String,
    /// What kind of problem it is.
    pub code: ProblemCode,
    /// One sentence for a person.
    pub message: String,
}

/// The kinds of problems. Their spelling ([`ProblemCode::as_str`]) is stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProblemCode {
    /// The file is larger than [`crate::vault::MAX_FILE_BYTES`] and was skipped.
    TooLarge,
    /// The file is not UTF-8 and was skipped.
    InvalidUtf8,
    /// The file's name is not UTF-8 and the file was skipped.
    InvalidFileName,
    /// The file changed while it was read, twice, and was skipped.
    ChangedWhileRead,
    /// The file or folder could not be read and was skipped.
    Unreadable,
    /// A symbolic link; links are never followed.
    SymlinkSkipped,
    /// A pipe, a socket or a device with the name of a note.
    NotAFile,
    /// Folders nested deeper than [`crate::vault::MAX_DEPTH`] were left out.
    TooDeep,
    /// The vault has more than [`crate::vault::MAX_FILES`] files; the rest was left out.
    TooManyFiles,
    /// The folder that the vault's settings name as its templates was left out.
    TemplatesSkipped,
    /// Two files whose names differ in case alone; both went in.
    CaseClash,
    /// The front matter is no YAML mapping; it stays in the text.
    FrontMatterMalformed,
    /// The front matter is larger or deeper than allowed; it stays in the text.
    FrontMatterTooLarge,
    /// The front matter has no end; it stays in the text.
    FrontMatterUnclosed,
    /// A value does not fit the typed field of its name; it was kept under another name.
    ValueDoesNotFit,
    /// A value is longer than a field may hold and was cut.
    ValueTooLong,
    /// A property has no usable name and was left out.
    PropertyNameInvalid,
    /// More links, tags or tasks in one file than allowed; the rest was left out.
    TooManyItems,
    /// Two files state one id; the later one got an id of its own.
    DuplicateId,
    /// Two files are about one day; the later one went in as a note.
    DuplicateDaily,
}

impl ProblemCode {
    /// The stable spelling, such as `too-large`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::TooLarge => "too-large",
            Self::InvalidUtf8 => "invalid-utf8",
            Self::InvalidFileName => "invalid-file-name",
            Self::ChangedWhileRead => "changed-while-read",
            Self::Unreadable => "unreadable",
            Self::SymlinkSkipped => "symlink-skipped",
            Self::NotAFile => "not-a-file",
            Self::TooDeep => "too-deep",
            Self::TooManyFiles => "too-many-files",
            Self::TemplatesSkipped => "templates-skipped",
            Self::CaseClash => "case-clash",
            Self::FrontMatterMalformed => "front-matter-malformed",
            Self::FrontMatterTooLarge => "front-matter-too-large",
            Self::FrontMatterUnclosed => "front-matter-unclosed",
            Self::ValueDoesNotFit => "value-does-not-fit",
            Self::ValueTooLong => "value-too-long",
            Self::PropertyNameInvalid => "property-name-invalid",
            Self::TooManyItems => "too-many-items",
            Self::DuplicateId => "duplicate-id",
            Self::DuplicateDaily => "duplicate-daily",
        }
    }

    /// Whether the file or folder as a whole was left out.
    pub const fn skipped(self) -> bool {
        matches!(
            self,
            Self::TooLarge
                | Self::InvalidUtf8
                | Self::InvalidFileName
                | Self::ChangedWhileRead
                | Self::Unreadable
                | Self::SymlinkSkipped
                | Self::NotAFile
                | Self::TooDeep
                | Self::TooManyFiles
                | Self::TemplatesSkipped
        )
    }
}

impl fmt::Display for ProblemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Problem {
    pub(crate) fn new(path: &str, code: ProblemCode, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), code, message: message.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.path, self.message, self.code)
    }
}
