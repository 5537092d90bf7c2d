//! Days and times as people write them in notes.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Weekday};

/// The longest text that is read as a date, in bytes.
const MAX_DATE_BYTES: usize = 64;

/// Reads a day.
///
/// `2026-11-21`, `2026_11_21`, `2026/11/21`, `20261121`, `21.11.2026`, `Nov 21st, 2026`, `21 November 2026`, each
/// also with a weekday and within `[[ ]]` or `< >`; a time behind the day is left aside. `05/14/2020` counts
/// when its weekday or a number above twelve tells the month from the day.
pub fn parse_day(text: &str) -> Option<NaiveDate> {
    let text = bare(text)?;
    let day = text.split(['T', ' ']).next().unwrap_or(text);
    if let Some(date) = numeric(day) {
        return Some(date);
    }
    let lower = text.to_lowercase();
    let words: Vec<&str> =
        lower.split(|char: char| !char.is_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let (weekday, words) = match words.split_first() {
        Some((first, rest)) => match first.parse::<Weekday>() {
            Ok(weekday) => (Some(weekday), rest),
            Err(_) => (None, words.as_slice()),
        },
        None => return None,
    };
    let [first, second, third] = words else { return None };
    let date = match (month(first), month(second)) {
        (Some(month), _) => date(year(third)?, month, ordinal(second)?),
        (None, Some(month)) => date(year(third)?, month, ordinal(first)?),
        (None, None) if first.len() == 4 => date(year(first)?, second.parse().ok()?, third.parse().ok()?),
        (None, None) => ambiguous(first.parse().ok()?, second.parse().ok()?, year(third)?, weekday, text),
    }?;
    weekday.is_none_or(|weekday| weekday == date.weekday()).then_some(date)
}

/// Reads a day that a file's name states: one that is nothing but a day.
pub fn day_of_name(name: &str) -> Option<NaiveDate> {
    numeric(name)
}

/// Reads a point in time and writes it as RFC 3339. Without a zone it is taken as UTC, and a day alone as
/// its midnight.
pub fn parse_time(text: &str) -> Option<String> {
    let text = bare(text)?;
    if DateTime::parse_from_rfc3339(text).is_ok() && text.contains('T') {
        return Some(text.to_owned());
    }
    const FORMATS: [&str; 4] = ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"];
    let time = FORMATS.iter().find_map(|format| NaiveDateTime::parse_from_str(text, format).ok());
    let time = time.or_else(|| parse_day(text).map(|day| day.and_time(NaiveTime::MIN)))?;
    Some(time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}

/// Reads `9:30`, `09:30` or `09:30:15`.
pub fn parse_clock(text: &str) -> Option<NaiveTime> {
    let text = text.trim();
    ["%H:%M", "%H:%M:%S"].iter().find_map(|format| NaiveTime::parse_from_str(text, format).ok())
}

fn bare(text: &str) -> Option<&str> {
    let text = text.trim();
    if text.len() > MAX_DATE_BYTES {
        return None;
    }
    let text = text.strip_prefix("[[").and_then(|text| text.strip_suffix("]]")).unwrap_or(text);
    Some(text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or(text).trim())
}

/// Years first, separated by one kind of sign or by none; or days first, separated by dots.
fn numeric(text: &str) -> Option<NaiveDate> {
    let bytes = text.as_bytes();
    if !bytes.iter().all(|byte| byte.is_ascii_digit() || b"-_/.".contains(byte)) {
        return None;
    }
    match bytes {
        [_, _, _, _, a, _, _, b, _, _] if a == b && b"-_/.".contains(a) => {
            date(text[..4].parse().ok()?, text[5..7].parse().ok()?, text[8..].parse().ok()?)
        }
        [_, _, b'.', _, _, b'.', _, _, _, _] => {
            date(text[6..].parse().ok()?, text[3..5].parse().ok()?, text[..2].parse().ok()?)
        }
        _ if bytes.len() == 8 && bytes.iter().all(u8::is_ascii_digit) => {
            date(text[..4].parse().ok()?, text[4..6].parse().ok()?, text[6..].parse().ok()?)
        }
        _ => None,
    }
}

/// A day of a year that somebody alive may write about.
fn date(year: i32, month: u32, day: u32) -> Option<NaiveDate> {
    (1000..=9999).contains(&year).then(|| NaiveDate::from_ymd_opt(year, month, day))?
}

fn month(word: &str) -> Option<u32> {
    const MONTHS: [&str; 12] = [
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ];
    let index = MONTHS.iter().position(|month| word.len() >= 3 && month.starts_with(word))?;
    u32::try_from(index + 1).ok()
}

fn year(word: &str) -> Option<i32> {
    (word.len() == 4).then(|| word.parse().ok())?
}

fn ordinal(word: &str) -> Option<u32> {
    let digits = ["st", "nd", "rd", "th"].iter().find_map(|end| word.strip_suffix(end)).unwrap_or(word);
    (digits.len() <= 2).then(|| digits.parse().ok())?
}

/// Month and day in either order, if only one order is a date or only one falls on the weekday.
fn ambiguous(first: u32, second: u32, year: i32, weekday: Option<Weekday>, text: &str) -> Option<NaiveDate> {
    if !text.contains('/') && !text.contains('-') {
        return None;
    }
    let fits = |date: &NaiveDate| weekday.is_none_or(|weekday| weekday == date.weekday());
    let mut dates = [date(year, first, second), date(year, second, first)].into_iter().flatten().filter(fits);
    match (dates.next(), dates.next()) {
        (Some(one), None) => Some(one),
        (Some(one), Some(other)) if one == other => Some(one),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_as_people_write_them() {
        let day: NaiveDate = "2026-11-21".parse().unwrap();
        for text in [
            "2026-11-21",
            "2026_11_21",
            "2026/11/21",
            "20261121",
            "21.11.2026",
            "Nov 21st, 2026",
            "november 21, 2026",
            "21 November 2026",
            "21st Nov 2026",
            "Saturday, 11/21/2026",
            "Sat, 21-11-2026",
            "11/21/2026",
            "[[2026-11-21]]",
            "<2026-11-21 Sat .+1d>",
            "2026-11-21T09:30",
        ] {
            assert_eq!(parse_day(text), Some(day), "{text}");
        }
        for text in
            ["", "2026-11", "2026-11-31", "Sun, 11/21/2026", "05/06/2026", "someday", "1 2 3", "Mary 3 2026"]
        {
            assert_eq!(parse_day(text), None, "{text}");
        }
    }

    #[test]
    fn times_become_rfc_3339() {
        assert_eq!(parse_time("2026-11-21").as_deref(), Some("2026-11-21T00:00:00Z"));
        assert_eq!(parse_time("2026-11-21 09:30").as_deref(), Some("2026-11-21T09:30:00Z"));
        assert_eq!(parse_time("2026-11-21T09:30:00+01:00").as_deref(), Some("2026-11-21T09:30:00+01:00"));
        assert_eq!(parse_time("half past nine"), None);
    }
}
