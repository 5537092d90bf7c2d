//! What a search found.

use super::text::{cut, line, marked, short_id, title};
use crate::cli::model::{Found, Hit};
use crate::cli::screen::Screen;

/// How many lines of a snippet are shown.
const SNIPPET_ROWS: usize = 2;

/// How far what belongs to a hit is moved in.
const INDENT: &str = "    ";

/// How wide a snippet is where nothing limits it.
const PIPE_WIDTH: usize = 200;

/// The hits, best first.
pub fn found(screen: &Screen, found: &Found) -> String {
    found.hits.iter().map(|hit| one(screen, hit)).collect::<Vec<_>>().join("\n")
}

fn one(screen: &Screen, hit: &Hit) -> String {
    let paint = screen.paint;
    let about = format!("  {}  ", line(&hit.kind));
    let rest = format!("  {}  {}", screen.when(hit.updated_at), short_id(&hit.memory));
    let code = paint.truth(hit.truth);
    let used = [&about, &rest, &code].iter().map(|text| console::measure_text_width(text)).sum::<usize>();
    let name = cut(&title(&hit.title), screen.width.saturating_sub(used).max(20));
    let mut out = format!("{}{}{code}{}\n", paint.bold(&name), paint.dim(&about), paint.dim(&rest));
    let width = screen.width.min(PIPE_WIDTH).saturating_sub(INDENT.len());
    for row in marked(&hit.snippet, &hit.marks, paint, width, SNIPPET_ROWS) {
        out.push_str(&format!("{INDENT}{row}\n"));
    }
    let place = hit.headings.iter().map(|heading| line(heading)).collect::<Vec<_>>().join(" › ");
    let tags = hit.tags.iter().map(|tag| format!("#{}", line(tag))).collect::<Vec<_>>().join(" ");
    let sides = [("words", &hit.why.bm25), ("meaning", &hit.why.dense)];
    let why = sides.iter().filter_map(|(side, place)| Some(format!("{side} #{}", place.as_ref()?.rank)));
    let why = why.collect::<Vec<_>>().join(", ");
    let notes = [paint.dim(&why), paint.dim(&place), paint.tag(&tags)].into_iter().filter(|text| !text.is_empty());
    let notes = notes.collect::<Vec<_>>().join("  ");
    if !notes.is_empty() {
        out.push_str(&format!("{INDENT}{}\n", cut(&notes, width)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_hit_says_what_it_is_and_why_it_was_found() {
        let screen = Screen::fixed(60, chrono::DateTime::from_timestamp(1_795_000_000, 0).expect("valid"));
        let answer: Found = serde_json::from_value(json!({ "query": "drip", "took_ms": 1.0, "hits": [{
            "memory": "0192a3f2-77aa-7000-8000-000000000001", "title": "Garden plan", "kind": "note", "score": 1.0,
            "truth": 1, "origin": "user:cli", "event": "0192a3f2-77aa-7000-8000-000000000002",
            "headings": ["Water"], "snippet": "the drip line", "marks": [[4, 8]], "tags": ["garden"],
            "updated_at": "2026-11-18T11:46:40Z", "why": { "dense": null, "bm25": { "rank": 1, "score": 2.0 } },
        }]}))
        .expect("an answer");
        let text = found(&screen, &answer);
        let expected = "Garden plan  note  U1  ";
        assert!(text.starts_with(expected), "{text}");
        assert!(text.contains("0192a3f2-77aa\n    the drip line\n    words #1  Water  #garden\n"), "{text}");
    }
}
