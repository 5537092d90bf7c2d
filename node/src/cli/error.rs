//! What goes wrong on the command line: for people with what to do next, for scripts as a code and an exit code.

use std::io;
use std::path::PathBuf;

use serde_json::{Value as Json, json};

use super::screen::paint::Paint;

/// The codes that the program exits with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done.
    Done = 0,
    /// It failed.
    Failed = 1,
    /// The command line is wrong, or a name fits more than one memory.
    Usage = 2,
    /// No node is running.
    NoNode = 3,
    /// There is no such thing.
    NotFound = 4,
    /// The token is missing, unknown, expired or not allowed to.
    Refused = 5,
    /// It was changed meanwhile.
    Conflict = 6,
    /// Ctrl-C.
    Interrupted = 130,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// An error answer of the API.
#[derive(Debug, Clone, PartialEq)]
pub struct ApiFailure {
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: String,
    /// What went wrong, for people.
    pub message: String,
    /// Particulars.
    pub details: Option<Json>,
}

/// A memory, a suggestion or a token that a name could mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Its whole id.
    pub id: String,
    /// What people call it.
    pub label: String,
}

/// Why a command did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The command line is wrong in a way that its grammar cannot tell.
    #[error("{message}")]
    Usage {
        /// What is wrong.
        message: String,
        /// What to type instead.
        hint: String,
    },
    /// No node announces itself in the data folder.
    #[error("no node is running on {}", folder.display())]
    NoNode {
        /// The data folder.
        folder: PathBuf,
    },
    /// Nobody answers at the node's address.
    #[error("no node answers at {url}")]
    Unreachable {
        /// The address.
        url: String,
        /// What happened.
        source: reqwest::Error,
    },
    /// There is no token to act with.
    #[error("no token: {reason}")]
    NoToken {
        /// Where it was looked for.
        reason: String,
    },
    /// The node refused or failed.
    #[error("{}", .0.message)]
    Api(ApiFailure),
    /// Nothing has this name.
    #[error("there is no {what} `{name}`")]
    NotFound {
        /// What was looked for.
        what: &'static str,
        /// The name as it was typed.
        name: String,
        /// What comes closest.
        near: Vec<Candidate>,
    },
    /// More than one thing has this name.
    #[error("`{name}` fits more than one {what}")]
    Ambiguous {
        /// What was looked for.
        what: &'static str,
        /// The name as it was typed.
        name: String,
        /// What it fits.
        candidates: Vec<Candidate>,
    },
    /// The answer is not one of a Cairn node, or of one that this program does not understand.
    #[error("{url} gave an answer that this program does not understand: {reason}")]
    Protocol {
        /// The address asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The connection broke while an answer came in.
    #[error("the connection to the node broke")]
    Broken {
        /// What happened.
        source: reqwest::Error,
    },
    /// A file could not be read or written.
    #[error("{what}: {source}")]
    File {
        /// Which one, and what for.
        what: String,
        /// Why not.
        source: io::Error,
    },
    /// Standard output could not be written.
    #[error("the output could not be written: {0}")]
    Output(#[source] io::Error),
    /// It was done, and the answer is bad news.
    #[error("{message}")]
    Failed {
        /// The news.
        message: String,
        /// What to do next.
        hint: String,
    },
    /// The person pressed Ctrl-C, or said no.
    #[error("{message}")]
    Interrupted {
        /// What goes on without us.
        message: String,
        /// How to look at it.
        hint: String,
    },
}

impl CliError {
    /// A wrong command line.
    pub fn usage(message: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: hint.into() }
    }

    /// A file that could not be used.
    pub fn file(what: impl Into<String>, source: io::Error) -> Self {
        Self::File { what: what.into(), source }
    }

    /// Whether there is nothing to tell: whoever read the output has seen enough.
    pub fn is_silent(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The code to exit with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Usage { .. } | Self::Ambiguous { .. } => ExitCode::Usage,
            Self::NoNode { .. } | Self::Unreachable { .. } => ExitCode::NoNode,
            Self::NotFound { .. } => ExitCode::NotFound,
            Self::NoToken { .. } => ExitCode::Refused,
            Self::Api(failure) => match failure.status {
                401 | 403 => ExitCode::Refused,
                404 | 410 => ExitCode::NotFound,
                409 | 412 => ExitCode::Conflict,
                _ => ExitCode::Failed,
            },
            Self::Output(_) if self.is_silent() => ExitCode::Done,
            Self::Protocol { .. }
            | Self::Broken { .. }
            | Self::File { .. }
            | Self::Output(_)
            | Self::Failed { .. } => ExitCode::Failed,
            Self::Interrupted { .. } => ExitCode::Interrupted,
        }
    }

    /// A stable code, for programs: the API's own where it gave one.
    pub fn code(&self) -> &str {
        match self {
            Self::Usage { .. } => "USAGE",
            Self::NoNode { .. } => "NO_NODE",
            Self::Unreachable { .. } => "NODE_UNREACHABLE",
            Self::NoToken { .. } => "TOKEN_MISSING",
            Self::Api(failure) => &failure.code,
            Self::NotFound { .. } => "NOT_FOUND",
            Self::Ambiguous { .. } => "AMBIGUOUS",
            Self::Protocol { .. } => "NOT_UNDERSTOOD",
            Self::Broken { .. } => "CONNECTION_BROKEN",
            Self::File { .. } | Self::Output(_) => "IO_ERROR",
            Self::Failed { .. } => "FAILED",
            Self::Interrupted { .. } => "INTERRUPTED",
        }
    }

    /// What to do next, where there is something.
    pub fn hint(&self) -> Option<String> {
        let hint = match self {
            Self::Usage { hint, .. } | Self::Failed { hint, .. } | Self::Interrupted { hint, .. } => hint.clone(),
            Self::NoNode { .. } => {
                "start one with `cairn up`, or name its data folder with --data or its address with --url"
                    .to_owned()
            }
            Self::Unreachable { .. } => {
                "it may have stopped without saying so; start it again with `cairn up`".to_owned()
            }
            Self::NoToken { .. } => {
                "give one with --token or CAIRN_TOKEN; the owner makes them with `cairn token create`".to_owned()
            }
            Self::Api(failure) => api_hint(failure)?.to_owned(),
            Self::NotFound { near, .. } if near.is_empty() => {
                "`cairn search` and `cairn list` show what there is".to_owned()
            }
            Self::NotFound { near, .. } => format!("did you mean one of these?{}", listed(near)),
            Self::Ambiguous { candidates, .. } => format!("name it by its id: {}", listed(candidates)),
            Self::Protocol { .. } => {
                "check that the address is a Cairn node's and that `cairn --version` matches it".to_owned()
            }
            Self::Broken { .. } => "`cairn status` tells whether the node still runs; then try again".to_owned(),
            Self::File { .. } | Self::Output(_) => return None,
        };
        Some(hint).filter(|hint| !hint.is_empty())
    }

    /// For people: `error: …`, and `hint: …` where there is one.
    pub fn to_text(&self, paint: Paint) -> String {
        let mut text = match self {
            Self::Interrupted { .. } => self.to_string(),
            _ => format!("{} {self}", paint.error("error:")),
        };
        if let Some(hint) = self.hint() {
            text.push_str(&format!("\n{} {hint}", paint.hint("hint:")));
        }
        text
    }

    /// For programs: one JSON document.
    pub fn to_json(&self) -> String {
        let mut error = json!({ "code": self.code(), "message": self.to_string() });
        if let Some(hint) = self.hint() {
            error["hint"] = hint.into();
        }
        if let Self::Api(ApiFailure { details: Some(details), .. }) = self {
            error["details"] = details.clone();
        }
        if let Self::Ambiguous { candidates: list, .. } | Self::NotFound { near: list, .. } = self {
            error["candidates"] = list.iter().map(|one| json!({ "id": one.id, "label": one.label })).collect();
        }
        json!({ "error": error }).to_string()
    }
}

/// The messages of the API say what to do where they can; this adds what only the command line knows.
fn api_hint(failure: &ApiFailure) -> Option<&'static str> {
    match failure.code.as_str() {
        "USER_ONLY" => Some("leave --token and CAIRN_TOKEN out to act as the owner"),
        "STALE_REVISION" => Some("`cairn show` tells the revision it has now"),
        "CHANGED_SINCE" => Some("`cairn history` lists the commands, `cairn undo --command` undoes a later one"),
        "NOTHING_TO_UNDO" => Some("`cairn history` shows what happened to it"),
        "NO_SUCH_SUGGESTION" => Some("`cairn suggestions` lists what waits"),
        "IMPORT_RUNNING" => Some("wait until it is done, then try again"),
        "READ_MODEL_BEHIND" => Some("`cairn projections` shows how far behind it is; try again soon"),
        "READ_MODEL_PAUSED" | "PROJECTION_PAUSED" => Some("`cairn projections resume NAME` lets it go on"),
        "NO_PREVIOUS_GENERATION" => Some("`cairn projections rebuild NAME` builds another from the log"),
        "PREVIOUS_GENERATION_USELESS" => Some("`cairn projections drop-previous NAME` deletes it"),
        "ERASED" => Some("nothing brings it back; `cairn history` still shows that it existed"),
        _ => None,
    }
}

fn listed(candidates: &[Candidate]) -> String {
    /// Longer lists help nobody to choose.
    const SHOWN: usize = 8;
    let mut lines: String =
        candidates.iter().take(SHOWN).map(|one| format!("\n  {}  {}", one.id, one.label)).collect();
    if candidates.len() > SHOWN {
        lines.push_str(&format!("\n  and {} more", candidates.len() - SHOWN));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(status: u16, code: &str) -> CliError {
        CliError::Api(ApiFailure { status, code: code.into(), message: "no".into(), details: None })
    }

    #[test]
    fn each_cause_has_its_exit_code() {
        let cases = [
            (api(401, "TOKEN_EXPIRED"), ExitCode::Refused),
            (api(403, "USER_ONLY"), ExitCode::Refused),
            (api(404, "NOT_FOUND"), ExitCode::NotFound),
            (api(410, "ERASED"), ExitCode::NotFound),
            (api(409, "CONTENDED"), ExitCode::Conflict),
            (api(412, "STALE_REVISION"), ExitCode::Conflict),
            (api(422, "VALIDATION_ERROR"), ExitCode::Failed),
            (api(503, "READ_MODEL_BEHIND"), ExitCode::Failed),
            (CliError::NoNode { folder: "/x".into() }, ExitCode::NoNode),
            (CliError::usage("a", "b"), ExitCode::Usage),
            (CliError::NoToken { reason: "x".into() }, ExitCode::Refused),
        ];
        for (error, code) in cases {
            assert_eq!(error.exit_code(), code, "{error}");
        }
    }

    #[test]
    fn people_get_a_hint_and_programs_the_code() {
        let error = api(412, "STALE_REVISION");
        assert_eq!(error.to_text(Paint::plain()), "error: no\nhint: `cairn show` tells the revision it has now");
        let json: Json = serde_json::from_str(&error.to_json()).expect("JSON");
        assert_eq!(json["error"]["code"], "STALE_REVISION");
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_error() {
        let closed = CliError::Output(io::ErrorKind::BrokenPipe.into());
        assert!(closed.is_silent());
        assert_eq!(closed.exit_code(), ExitCode::Done);
    }

    #[test]
    fn an_ambiguous_name_lists_what_it_fits() {
        let candidates = vec![Candidate { id: "0192".into(), label: "Garden".into() }; 10];
        let error = CliError::Ambiguous { what: "memory", name: "garden".into(), candidates };
        let text = error.to_text(Paint::plain());
        assert!(text.contains("0192  Garden") && text.ends_with("and 2 more"), "{text}");
    }
}
