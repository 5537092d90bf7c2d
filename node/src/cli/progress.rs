//! Progress of work that goes on in the node: drawn for people, silent in pipes.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::error::CliError;
use super::screen::Screen;

/// How often the node is asked how far its work is.
pub const POLL_EVERY: Duration = Duration::from_millis(200);

/// A bar on stderr, or nothing.
#[derive(Debug)]
pub struct Progress(ProgressBar);

impl Progress {
    /// A bar for a person who looks, nothing otherwise.
    pub fn new(screen: &Screen, what: &str) -> Self {
        let bar = ProgressBar::new(0);
        bar.set_draw_target(if screen.shows_progress() {
            ProgressDrawTarget::stderr()
        } else {
            ProgressDrawTarget::hidden()
        });
        let template = "{msg:14} {wide_bar} {human_pos}/{human_len}  {prefix}";
        bar.set_style(ProgressStyle::with_template(template).expect("the template above is valid"));
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// How far it is, and what to say beside the bar.
    pub fn at(&self, done: u64, total: u64, beside: &str) {
        self.0.set_length(total);
        self.0.set_position(done);
        self.0.set_prefix(beside.to_owned());
    }

    /// What is being done now.
    pub fn doing(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// Waits for work, or for Ctrl-C: then `interrupted` says what goes on without us.
///
/// # Errors
/// When the work fails, or the person pressed Ctrl-C.
pub async fn until_interrupted<T>(
    work: impl Future<Output = Result<T, CliError>>,
    interrupted: impl FnOnce() -> CliError,
) -> Result<T, CliError> {
    tokio::select! {
        result = work => result,
        _ = tokio::signal::ctrl_c() => Err(interrupted()),
    }
}
