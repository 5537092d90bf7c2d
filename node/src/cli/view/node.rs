//! How the node is doing, its read models, its tokens, its imports.

use cairn_domain::truth::Truth;
use cairn_follower::Synchrony;
use chrono::{DateTime, Utc};

use super::table::Table;
use super::text::{bytes, count, duration, line, number, short_id};
use crate::cli::model::{ImportReport, KafkaWork, Projection, Replication, Status, Token};
use crate::cli::screen::{Screen, date_and_time};

/// How many problems of an import are listed; the rest is counted.
const SHOWN_PROBLEMS: usize = 20;

/// How the node is doing.
pub fn status(screen: &Screen, status: &Status) -> String {
    let mut table = Table::new(1);
    let mut row = |name: &str, text: String| table.row([screen.paint.dim(name), text]);
    row("brain", line(&status.brain));
    row("version", line(&status.version));
    row("data", line(&status.data));
    row("up", duration(status.uptime_seconds));
    row("memories", number(status.memories));
    row("log", count(status.position, "event", "events"));
    if let Some(replication) = &status.replication {
        row("machines", self::replication(screen, replication));
    }
    if let Some(signed) = &status.signed {
        // The start is enough to compare by eye; `--json` has all of it.
        let root: String = signed.root.chars().take(16).collect();
        row("signed", format!("{}  root {}", count(signed.size, "event", "events"), line(&root)));
    }
    if let Some(problem) = &status.signing_problem {
        row("signing", screen.paint.removed(&line(problem)));
    }
    let waiting = |how_many: u64, command: &str| match how_many {
        0 => "none".to_owned(),
        _ => format!("{}  see `{command}`", screen.paint.warning(&number(how_many))),
    };
    row("suggestions", waiting(status.suggestions, "cairn suggestions"));
    row("conflicts", waiting(status.conflicts, "cairn conflicts"));
    row("embedder", line(&status.embedder));
    if let Some(used) = status.memory_bytes {
        row("memory", bytes(used));
    }
    if let Some(kafka) = &status.kafka {
        let publisher = kafka.publisher.iter().map(|work| ("kafka, out", work));
        for (direction, work) in publisher.chain(kafka.sources.iter().map(|work| ("kafka, in", work))) {
            row(direction, kafka_work(screen, work));
        }
    }
    let mut out = table.render(screen.width);
    if !status.projections.is_empty() {
        out.push('\n');
        out.push_str(&projections(screen, &status.projections));
    }
    out
}

/// What the node is to its other machines, in a line.
fn replication(screen: &Screen, replication: &Replication) -> String {
    let Replication { role, epoch, primary, synchrony, followers, connected, lag_events, lag_ms } = replication;
    let primary = line(primary.as_deref().unwrap_or("another node"));
    match role.as_str() {
        "standby" => format!(
            "{} of {primary}: read only, {} behind ({} ms)",
            screen.paint.warning("standby"),
            count(*lag_events, "event", "events"),
            number(*lag_ms)
        ),
        "replaced" => format!("{} by {primary} (epoch {epoch}): read only", screen.paint.removed("replaced")),
        _ => {
            let waits = match synchrony {
                Synchrony::Asynchronous => String::new(),
                Synchrony::Synchronous => ", writes wait for one".to_owned(),
                Synchrony::Alone { .. } => {
                    format!(
                        ", {}: none is in step, so writes wait for none",
                        screen.paint.removed("NOT synchronous")
                    )
                }
            };
            format!("{connected} of {} connected{waits}", count(*followers, "follower", "followers"))
        }
    }
}

/// A publisher or a source in a line.
fn kafka_work(screen: &Screen, work: &KafkaWork) -> String {
    let state = match work.state.as_str() {
        "running" => screen.paint.good("running"),
        "failed" => screen.paint.removed("failed"),
        other => line(other),
    };
    let problem = work.problem.as_deref().map(|problem| format!("  {}", line(problem))).unwrap_or_default();
    format!("{}  {state}{problem}", line(&work.name))
}

/// Read models with how far they are.
pub fn projections(screen: &Screen, projections: &[Projection]) -> String {
    let paint = screen.paint;
    let mut table = Table::new(5).right(&[2, 3, 4]);
    table.row(["NAME", "BUILD", "POSITION", "BEHIND", "EVENTS/S", "STATE"].map(|head| paint.dim(head)));
    for projection in projections {
        let age = projection.lag_seconds.filter(|age| projection.lag > 0 && *age >= 1.0);
        let age = age.map(|age| format!(" ({})", duration(age))).unwrap_or_default();
        let behind = format!("{}{age}", number(projection.lag));
        let rebuild = projection.building().map(|build| {
            let left = build.eta_seconds.map(|left| format!(", {} left", duration(left))).unwrap_or_default();
            let done = build.position.saturating_mul(100).checked_div(build.target).unwrap_or(100);
            format!("  {done} %{left}")
        });
        let state = match projection.state.as_str() {
            "live" if projection.tidy => paint.good("live"),
            "live" => format!("{}{}", paint.good("live"), paint.dim(", tidying up")),
            "failed" => paint.removed("failed"),
            "paused" => paint.warning("paused"),
            other => line(other).replace('_', " "),
        };
        let problem =
            projection.problem.as_deref().map(|problem| format!("  {}", line(problem))).unwrap_or_default();
        table.row([
            line(&projection.name),
            build_of(projection),
            number(projection.position),
            if projection.lag > 0 { paint.warning(&behind) } else { behind },
            number(projection.events_per_second.max(0.0) as u64),
            format!("{state}{}{}", paint.warning(&rebuild.unwrap_or_default()), paint.removed(&problem)),
        ]);
    }
    table.render(screen.width)
}

/// The build that serves, and the one to go back to.
fn build_of(projection: &Projection) -> String {
    let serving = projection.generation.map_or_else(|| "—".to_owned(), |generation| generation.to_string());
    match projection.previous {
        Some(previous) => format!("{serving} (back: {previous})"),
        None => serving,
    }
}

/// Tokens, without their secrets.
pub fn tokens(screen: &Screen, tokens: &[Token]) -> String {
    let paint = screen.paint;
    let mut table = Table::new(3);
    for token in tokens {
        let ceiling =
            token.ceiling.parse::<Truth>().map_or_else(|_| line(&token.ceiling), |truth| paint.truth(truth));
        table.row([
            paint.dim(short_id(&token.id)),
            line(&token.name),
            ceiling,
            paint.dim(&line(&token.origin)),
            life(screen, token),
        ]);
    }
    table.render(screen.width)
}

fn life(screen: &Screen, token: &Token) -> String {
    let expired = |at: DateTime<Utc>| at <= screen.now;
    match (token.revoked_at, token.expires_at) {
        (Some(at), _) => screen.paint.removed(&format!("revoked {}", screen.when(at))),
        (None, Some(at)) if expired(at) => screen.paint.removed(&format!("expired {}", screen.when(at))),
        (None, Some(at)) => format!("until {}", date_and_time(at)),
        (None, None) => String::new(),
    }
}

/// What an import did.
pub fn import(screen: &Screen, report: &ImportReport) -> String {
    let paint = screen.paint;
    let would = if report.dry_run { "would have " } else { "" };
    let mut out = format!(
        "{} in {}: {would}{} new, {} changed, {} unchanged\n",
        count(report.files, "file", "files"),
        duration(report.elapsed_ms as f64 / 1_000.0),
        paint.good(&number(report.created)),
        number(report.changed),
        number(report.unchanged),
    );
    if report.suggested > 0 {
        let waits = count(report.suggested, "change waits", "changes wait");
        out.push_str(&format!("{}: you edited them in Cairn; see `cairn suggestions`\n", paint.warning(&waits)));
    }
    if report.pruned > 0 {
        out.push_str(&format!("{} put away\n", number(report.pruned)));
    } else if !report.vanished.is_empty() {
        let gone = count(report.vanished.len() as u64, "memory's file is", "memories' files are");
        out.push_str(&format!("{gone} gone from the folder; import with --prune to put them away\n"));
    }
    if !report.unresolved.is_empty() {
        let links = count(report.unresolved.len() as u64, "link points", "links point");
        out.push_str(&format!("{links} to notes that are not there\n"));
    }
    let problems: Vec<String> = report
        .failures
        .iter()
        .chain(&report.problems)
        .map(|problem| format!("  {}: {}\n", line(&problem.path), line(&problem.message)))
        .collect();
    if !problems.is_empty() {
        out.push_str(&format!("{}\n", paint.warning(&count(problems.len() as u64, "problem:", "problems:"))));
        out.extend(problems.iter().take(SHOWN_PROBLEMS).map(String::as_str));
    }
    if problems.len() > SHOWN_PROBLEMS {
        out.push_str(&format!("  and {} more; --json lists them all\n", problems.len() - SHOWN_PROBLEMS));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_paused_read_model_says_how_far_behind_it_is_and_where_the_way_back_leads() {
        let listed: Vec<Projection> = serde_json::from_value(json!([
            { "name": "memories", "generation": 3, "previous": 1, "position": 1_200, "lag": 40, "lag_seconds": 61.0,
              "state": "paused", "events_per_second": 0.0, "tidy": true,
              "rebuild": { "phase": "filling", "position": 310, "target": 1_240, "eta_seconds": 3.0 } },
            { "name": "search", "generation": 1, "position": 1_240, "lag": 0, "lag_seconds": 0.0, "state": "live",
              "tidy": true },
        ]))
        .expect("read models");
        let shown = projections(&Screen::fixed(100, DateTime::UNIX_EPOCH), &listed);
        let lines: Vec<&str> = shown.lines().map(str::trim_end).collect();
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(words(lines[1]), "memories 3 (back: 1) 1 200 40 (1m 1s) 0 paused 25 %, 3.0s left");
        assert_eq!(words(lines[2]), "search 1 1 240 0 0 live");
    }

    #[test]
    fn an_import_says_what_it_did_and_what_needs_a_look() {
        let report: ImportReport = serde_json::from_value(json!({
            "state": "done", "files": 3, "created": 2, "unchanged": 1, "suggested": 1, "elapsed_ms": 1_500,
            "vanished": [{ "memory": "m", "path": "old.md", "part": "" }],
            "problems": [{ "path": "bad.md", "code": "invalid-utf8", "message": "is not UTF-8" }],
        }))
        .expect("a report");
        let expected = "\
3 files in 1.5s: 2 new, 0 changed, 1 unchanged
1 change waits: you edited them in Cairn; see `cairn suggestions`
1 memory's file is gone from the folder; import with --prune to put them away
1 problem:
  bad.md: is not UTF-8
";
        assert_eq!(import(&Screen::fixed(80, DateTime::UNIX_EPOCH), &report), expected);
    }
}
