//! Points in time and in the log, as people type them.

use std::str::FromStr;

use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, NaiveTime, SecondsFormat, TimeDelta, TimeZone, Utc};

/// A point as it was typed. What is relative stays so until it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// A bare number: a position of the log, or for `diff` a revision.
    Number(u64),
    /// `position:1041`
    Position(u64),
    /// `r7`
    Revision(u64),
    /// A point in time.
    Time(DateTime<Utc>),
    /// A whole day on this machine's calendar.
    Day(NaiveDate),
    /// A time ago.
    Ago(TimeDelta),
    /// So many days before today.
    DaysBack(u16),
}

/// A text that is no point in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a time; use 2026-11-21, 2026-11-21T09:30:00Z, 09:30, today, yesterday, or an age such as 2h, 3d, 4w"
)]
pub struct InvalidMoment(String);

/// Which end of a day is meant where a day is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DayEnd {
    /// Its first moment.
    Start,
    /// Its last moment.
    End,
}

impl Moment {
    /// The point in time. `None` for a position or a revision.
    pub fn time(self, end: DayEnd, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let today = now.with_timezone(&Local).date_naive();
        match self {
            Self::Number(_) | Self::Position(_) | Self::Revision(_) => None,
            Self::Time(time) => Some(time),
            Self::Ago(age) => Some(now - age),
            Self::Day(day) => Some(at_end(day, end)),
            Self::DaysBack(days) => Some(at_end(today - TimeDelta::days(i64::from(days)), end)),
        }
    }

    /// As a query parameter that takes a time.
    ///
    /// # Errors
    /// When it is a position or a revision.
    pub fn to_time(self, end: DayEnd, now: DateTime<Utc>) -> Result<String, InvalidMoment> {
        self.time(end, now).map(rfc3339).ok_or_else(|| InvalidMoment(self.plain()))
    }

    /// As a query parameter that takes a position or a time; a day means its end.
    pub fn to_point(self, now: DateTime<Utc>) -> String {
        self.time(DayEnd::End, now).map_or_else(|| self.plain(), rfc3339)
    }

    /// As a parameter of `diff`, where a bare number is a revision; a day means its end.
    pub fn to_diff_point(self, now: DateTime<Utc>) -> String {
        match self {
            Self::Number(revision) => Self::Revision(revision).to_point(now),
            other => other.to_point(now),
        }
    }

    fn plain(self) -> String {
        match self {
            Self::Number(number) | Self::Position(number) => number.to_string(),
            Self::Revision(number) => format!("r{number}"),
            Self::Time(_) | Self::Day(_) | Self::Ago(_) | Self::DaysBack(_) => String::new(),
        }
    }
}

fn rfc3339(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::Micros, true)
}

fn at_end(day: NaiveDate, end: DayEnd) -> DateTime<Utc> {
    match end {
        DayEnd::Start => local(day.and_time(NaiveTime::MIN)),
        DayEnd::End => local((day + TimeDelta::days(1)).and_time(NaiveTime::MIN)) - TimeDelta::microseconds(1),
    }
}

/// A time on this machine's clock. One that daylight saving skips is read as universal time.
fn local(time: NaiveDateTime) -> DateTime<Utc> {
    Local.from_local_datetime(&time).earliest().map_or_else(|| time.and_utc(), |time| time.to_utc())
}

impl FromStr for Moment {
    type Err = InvalidMoment;

    fn from_str(text: &str) -> Result<Self, InvalidMoment> {
        let text = text.trim();
        parse_numbered(text)
            .or_else(|| parse_time(text))
            .or_else(|| parse_age(text))
            .ok_or_else(|| InvalidMoment(text.chars().take(40).collect()))
    }
}

fn parse_numbered(text: &str) -> Option<Moment> {
    if let Ok(number) = text.parse() {
        return Some(Moment::Number(number));
    }
    if let Some(position) = text.strip_prefix("position:") {
        return position.parse().ok().map(Moment::Position);
    }
    text.strip_prefix('r').and_then(|digits| digits.parse().ok()).map(Moment::Revision)
}

fn parse_time(text: &str) -> Option<Moment> {
    match text.to_ascii_lowercase().as_str() {
        "now" => return Some(Moment::Ago(TimeDelta::zero())),
        "today" => return Some(Moment::DaysBack(0)),
        "yesterday" => return Some(Moment::DaysBack(1)),
        _ => {}
    }
    if let Ok(day) = text.parse() {
        return Some(Moment::Day(day));
    }
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(Moment::Time(time.to_utc()));
    }
    if let Ok(time) = NaiveTime::parse_from_str(text, "%H:%M") {
        return Some(Moment::Time(local(Local::now().date_naive().and_time(time))));
    }
    ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"]
        .into_iter()
        .find_map(|format| NaiveDateTime::parse_from_str(text, format).ok())
        .map(|time| Moment::Time(local(time)))
}

/// `90s`, `5m`, `2h`, `3d`, `4w`, `1y`, also spelt out and with `ago`: `3 days ago`.
fn parse_age(text: &str) -> Option<Moment> {
    let lower = text.to_ascii_lowercase();
    let text = lower.strip_suffix("ago").unwrap_or(&lower).trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: i64 = number.parse().ok()?;
    let unit = unit.trim();
    let seconds = match unit.strip_suffix('s').filter(|unit| unit.len() > 1).unwrap_or(unit) {
        "s" | "sec" | "second" => 1,
        "m" | "min" | "minute" => 60,
        "h" | "hour" => 3_600,
        "d" | "day" => 86_400,
        "w" | "week" => 604_800,
        "month" => 2_592_000,
        "y" | "year" => 31_536_000,
        _ => return None,
    };
    // Ages beyond a thousand years are mistakes, and would overflow the calendar.
    let age = number.checked_mul(seconds).filter(|age| *age < 31_536_000_000)?;
    Some(Moment::Ago(TimeDelta::seconds(age)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Moment {
        text.parse().expect("a moment")
    }

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 21, 12, 0, 0).single().expect("valid")
    }

    #[test]
    fn ages_are_read_in_every_spelling() {
        for (text, seconds) in [
            ("90s", 90),
            ("5m", 300),
            ("2h", 7_200),
            ("3d", 259_200),
            ("3 days ago", 259_200),
            ("1 week", 604_800),
        ] {
            assert_eq!(parse(text), Moment::Ago(TimeDelta::seconds(seconds)), "{text}");
        }
        assert_eq!(parse("2h").to_time(DayEnd::Start, now()).expect("time"), "2026-11-21T10:00:00.000000Z");
    }

    #[test]
    fn numbers_are_positions_and_for_diff_revisions() {
        assert_eq!(parse("1041").to_point(now()), "1041");
        assert_eq!(parse("7").to_diff_point(now()), "r7");
        assert_eq!(parse("r7").to_point(now()), "r7");
        assert_eq!(parse("position:1041").to_diff_point(now()), "1041");
        assert!(parse("1041").to_time(DayEnd::Start, now()).is_err());
    }

    #[test]
    fn a_day_is_from_its_start_to_its_end() {
        let day = parse("2026-11-08");
        let (start, end) = (day.time(DayEnd::Start, now()), day.time(DayEnd::End, now()));
        let length = end.expect("time") - start.expect("time");
        assert_eq!(length.num_hours(), 23);
        assert_eq!(parse("yesterday").time(DayEnd::Start, now()), parse("2026-11-20").time(DayEnd::Start, now()));
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_to_type() {
        for text in ["", "soon", "5 parsecs", "2026-13-01", "r", "position:x", "99999999999999y"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
        assert!("soon".parse::<Moment>().expect_err("no time").to_string().contains("yesterday"));
    }
}
