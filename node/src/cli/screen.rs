//! What the command line prints on: for whom, how wide, with which colours.

mod json;
pub mod paint;

use std::io::{self, BufRead, IsTerminal, Write};

use chrono::{DateTime, Local, Utc};
use serde_json::value::RawValue;

use self::paint::Paint;
use super::args::{ColorChoice, Global};
use super::client::{Answer, RawPage};
use super::error::CliError;

/// The width of text for people on a terminal wider than anyone likes to read.
const MAX_WIDTH: usize = 120;

/// The width where there is no terminal: nothing is cut in a pipe.
const UNLIMITED: usize = usize::MAX;

/// Ages longer than this are shown as dates, in days.
const LONGEST_AGE_DAYS: i64 = 60;

/// What is printed on.
#[derive(Debug, Clone)]
pub struct Screen {
    /// Whether to print JSON.
    pub json: bool,
    /// Whether to print ids alone.
    pub quiet: bool,
    /// Whether a person looks at standard output.
    pub terminal: bool,
    /// How wide a line may be.
    pub width: usize,
    /// The colours.
    pub paint: Paint,
    /// When the program was started.
    pub now: DateTime<Utc>,
    absolute: bool,
}

impl Screen {
    /// What the options and the terminal ask for.
    pub fn of(global: &Global) -> Self {
        let terminal = io::stdout().is_terminal();
        let width = if terminal { terminal_width() } else { UNLIMITED };
        Self {
            json: global.json,
            quiet: global.quiet,
            terminal,
            width,
            paint: paint_for(global.color, terminal),
            now: Utc::now(),
            absolute: global.absolute,
        }
    }

    /// Prints text. A missing end of the last line is added.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print(&self, text: &str) -> Result<(), CliError> {
        if text.is_empty() {
            return Ok(());
        }
        let mut out = io::stdout().lock();
        let end = if text.ends_with('\n') { "" } else { "\n" };
        out.write_all(text.as_bytes())
            .and_then(|()| out.write_all(end.as_bytes()))
            .and_then(|()| out.flush())
            .map_err(CliError::Output)
    }

    /// Prints JSON: in one line, or indented when a person looks at it.
    ///
    /// # Errors
    /// When standard output cannot be written.
    pub fn print_json(&self, raw: &RawValue) -> Result<(), CliError> {
        if self.terminal { self.print(&json::indented(raw.get())) } else { self.print(raw.get()) }
    }

    /// Prints an answer: its data with `--json`, else what `view` makes of it.
    ///
    /// # Errors
    /// When the answer is not understood or cannot be written.
    pub fn answer<T: serde::de::DeserializeOwned>(
        &self,
        answer: &Answer,
        view: impl FnOnce(&T) -> String,
    ) -> Result<(), CliError> {
        if self.json {
            return self.print_json(&answer.data);
        }
        self.print(&view(&answer.read()?))
    }

    /// Prints a list: the API's page with `--json`, else what `view` makes of the items, and how to see more.
    ///
    /// # Errors
    /// When the answer is not understood or cannot be written.
    pub fn list<T: serde::de::DeserializeOwned>(
        &self,
        page: &RawPage,
        nothing: &str,
        view: impl FnOnce(&[T]) -> String,
    ) -> Result<(), CliError> {
        if self.json {
            return self.print_json(&page.to_json());
        }
        let items: Vec<T> = page.read()?;
        if items.is_empty() {
            self.note(nothing);
            return Ok(());
        }
        self.print(&view(&items))?;
        if page.next_cursor.is_some() {
            self.note(&format!("There are more; see them with --limit {}.", items.len().saturating_mul(5)));
        }
        Ok(())
    }

    /// Tells a person something beside the output, on stderr.
    pub fn note(&self, text: &str) {
        if !self.json && !self.quiet {
            // When stderr is gone there is nobody left to tell.
            let _ = writeln!(io::stderr(), "{text}");
        }
    }

    /// Whether progress may be drawn: a person looks at stderr and did not ask for silence.
    pub fn shows_progress(&self) -> bool {
        !self.quiet && !self.json && self.terminal && io::stderr().is_terminal()
    }

    /// A time: an age, or a date where that says more.
    pub fn when(&self, time: DateTime<Utc>) -> String {
        if self.absolute { date_and_time(time) } else { age(time, self.now) }
    }

    /// Asks a question and reads the answer, a line.
    ///
    /// # Errors
    /// When nobody is there to answer; `instead` says what to type then.
    pub fn ask(&self, question: &str, instead: &str) -> Result<String, CliError> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(CliError::usage("nobody is there to answer a question", instead));
        }
        let mut stderr = io::stderr();
        let written = write!(stderr, "{question} ").and_then(|()| stderr.flush());
        written.map_err(CliError::Output)?;
        let mut line = String::new();
        io::stdin().lock().read_line(&mut line).map_err(|error| CliError::file("standard input", error))?;
        Ok(line.trim().to_owned())
    }

    /// Asks whether to go on.
    ///
    /// # Errors
    /// When the answer is no, or nobody is there to answer.
    pub fn confirm(&self, question: &str) -> Result<(), CliError> {
        let answer = self.ask(&format!("{question} [y/N]"), "add --yes")?;
        if matches!(answer.to_ascii_lowercase().as_str(), "y" | "yes") {
            return Ok(());
        }
        Err(CliError::Interrupted { message: "Nothing was changed.".to_owned(), hint: String::new() })
    }
}

/// The colours of standard error.
pub fn stderr_paint(global: &Global) -> Paint {
    paint_for(global.color, io::stderr().is_terminal())
}

fn paint_for(choice: ColorChoice, terminal: bool) -> Paint {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match choice {
        ColorChoice::Always => Paint::coloured(),
        ColorChoice::Never => Paint::plain(),
        ColorChoice::Auto if terminal && !set("NO_COLOR") && !dumb => Paint::coloured(),
        ColorChoice::Auto => Paint::plain(),
    }
}

fn terminal_width() -> usize {
    let (_, columns) = console::Term::stdout().size();
    usize::from(columns).clamp(40, MAX_WIDTH)
}

/// A date and a time on this machine's clock.
pub fn date_and_time(time: DateTime<Utc>) -> String {
    time.with_timezone(&Local).format("%Y-%m-%d %H:%M").to_string()
}

fn age(time: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let age = now - time;
    let (days, hours, minutes) = (age.num_days(), age.num_hours(), age.num_minutes());
    match () {
        () if days > LONGEST_AGE_DAYS => time.with_timezone(&Local).format("%Y-%m-%d").to_string(),
        () if days >= 14 => format!("{}w ago", days / 7),
        () if days >= 1 => format!("{days}d ago"),
        () if hours >= 1 => format!("{hours}h ago"),
        () if minutes >= 1 => format!("{minutes}m ago"),
        () if age.num_seconds() >= 1 => format!("{}s ago", age.num_seconds()),
        () if age.num_seconds() > -60 => "now".to_owned(),
        () => date_and_time(time),
    }
}

#[cfg(test)]
impl Screen {
    /// A screen of a width without colours, at a fixed time.
    pub fn fixed(width: usize, now: DateTime<Utc>) -> Self {
        Self { json: false, quiet: false, terminal: true, width, paint: Paint::plain(), now, absolute: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    #[test]
    fn ages_are_short_and_old_things_have_dates() {
        let now = DateTime::from_timestamp(1_795_000_000, 0).expect("valid");
        let ago = |seconds| age(now - TimeDelta::seconds(seconds), now);
        assert_eq!(ago(0), "now");
        assert_eq!(ago(42), "42s ago");
        assert_eq!(ago(300), "5m ago");
        assert_eq!(ago(3 * 3_600), "3h ago");
        assert_eq!(ago(86_400 * 2), "2d ago");
        assert_eq!(ago(86_400 * 21), "3w ago");
        assert_eq!(ago(86_400 * 100).len(), "2026-08-10".len());
        assert_eq!(ago(-5), "now");
    }

    #[test]
    fn colour_is_for_terminals_or_on_demand() {
        assert_eq!(paint_for(ColorChoice::Always, false), Paint::coloured());
        assert_eq!(paint_for(ColorChoice::Never, true), Paint::plain());
        assert_eq!(paint_for(ColorChoice::Auto, false), Paint::plain());
    }
}
