//! What a standby costs and gives between real nodes: how far behind it is at a rate of events, what a write costs that waits for it, and
//! how soon it has taken over. See `--help`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cairn_testkit::{Client, Node, cairn};
use cairn_tests::followers::{Load, Mode, head, in_step, missing, primary, promote, standby, view};
use cairn_tests::sharing::{quantile, wait};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

const HELP: &str = "\
Measures a primary and its standby, both on this machine, over loopback.

  TEST_CAIRN_BIN=target/release/cairn cargo run --release -p cairn-tests --example followers -- [OPTIONS]

  --rate N       events a second (5000)
  --seconds N    for how long (20)
  --rounds N     how often the primary is killed and the standby takes over (5)
  --json         one JSON object a line
  --help         this text";

const PATIENCE: Duration = Duration::from_secs(300);
/// The tags of a memory that is written: each is an event, and two more say that the memory is there and what it is called.
const TAGS: usize = 18;
/// Between two looks at how far the standby is.
const LOOK: Duration = Duration::from_millis(5);
/// The writes under way at once.
const AT_ONCE: usize = 32;
/// How many writes are timed one after the other.
const TIMED: usize = 300;

struct Options {
    rate: usize,
    seconds: u64,
    rounds: usize,
    json: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { rate: 5_000, seconds: 20, rounds: 5, json: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let number = words.next().and_then(|number| number.parse().ok());
            number.ok_or_else(|| format!("{word} takes a number"))
        };
        match word.as_str() {
            "--rate" => options.rate = number()?,
            "--seconds" => options.seconds = number()? as u64,
            "--rounds" => options.rounds = number()?,
            "--json" => options.json = true,
            "--help" => return Err(HELP.to_owned()),
            unknown => return Err(format!("{unknown} is not known\n\n{HELP}")),
        }
    }
    Ok(options)
}

#[tokio::main]
async fn main() {
    match options() {
        Ok(options) => measure(&options).await,
        Err(text) => println!("{text}"),
    }
}

impl Options {
    fn say(&self, figure: &str, value: f64, unit: &str, wanted: &str) {
        if self.json {
            println!("{}", json!({ "figure": figure, "value": value, "unit": unit, "wanted": wanted }));
        } else if wanted.is_empty() {
            println!("{figure}: {value:.1} {unit}");
        } else {
            println!("{figure}: {value:.1} {unit} (wanted {wanted})");
        }
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

async fn measure(options: &Options) {
    eprintln!("{}", cairn().display());
    lag(options).await;
    waiting(options).await;
    for mode in [Mode::Synchronous, Mode::Asynchronous] {
        taking_over(options, mode).await;
    }
}

fn memory(number: usize) -> Value {
    let tags: Vec<String> = (0..TAGS).map(|tag| format!("tag-{number}-{tag}")).collect();
    json!({ "kind": "note", "title": format!("What is to be known of thing {number}"), "tags": tags })
}

/// How far the standby is behind what was acknowledged, at a rate.
async fn lag(options: &Options) {
    let anna = primary("anna", Mode::Asynchronous).await;
    let bert = standby("bert", Mode::Asynchronous, &anna).await;
    let before = head(&anna).await;
    anna.client().post("/memories", memory(0)).await.data(201);
    let each = (head(&anna).await - before).max(1);
    let (acknowledged, seen) = mpsc::unbounded_channel();
    let watched = tokio::spawn(watch(bert.client().clone(), seen));
    let (began, first) = (Instant::now(), head(&anna).await);
    write_at(anna.client(), options, each, acknowledged).await;
    let (took, last) = (began.elapsed(), head(&anna).await);
    let mut lags = watched.await.expect("no panic");
    options.say("events written", (last - first) as f64 / took.as_secs_f64(), "/s", &format!("{}", options.rate));
    options.say("lag, median", ms(quantile(&mut lags, 0.5)), "ms", "");
    options.say("lag, 99 of 100", ms(quantile(&mut lags, 0.99)), "ms", "");
    options.say("lag, the longest", ms(quantile(&mut lags, 1.0)), "ms", "1000");
    let began = Instant::now();
    in_step(&anna, &bert).await;
    options.say("everything there after the last write", ms(began.elapsed()), "ms", "");
}

/// Writes at a rate, and says of each write when and up to where it was acknowledged.
async fn write_at(
    client: &Client,
    options: &Options,
    each: u64,
    acknowledged: mpsc::UnboundedSender<(u64, Instant)>,
) {
    let every = Duration::from_secs_f64(each as f64 / options.rate as f64);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let permits = Arc::new(tokio::sync::Semaphore::new(AT_ONCE));
    let (began, mut writes, mut number) = (Instant::now(), JoinSet::new(), 0);
    while began.elapsed() < Duration::from_secs(options.seconds) {
        ticks.tick().await;
        number += 1;
        let permit = Arc::clone(&permits).acquire_owned().await.expect("it is never closed");
        let (client, acknowledged, memory) = (client.clone(), acknowledged.clone(), memory(number));
        writes.spawn(async move {
            let answer = client.post("/memories", memory).await;
            answer.data(201);
            let position = answer.body["meta"]["position"].as_u64().expect("a write has a position");
            // The one who watches ends last.
            let _ = acknowledged.send((position, Instant::now()));
            drop(permit);
        });
    }
    while writes.join_next().await.is_some() {}
}

/// Looks again and again how far the standby is on disk; gives for how long it lacked what was acknowledged.
async fn watch(client: Client, mut seen: mpsc::UnboundedReceiver<(u64, Instant)>) -> Vec<Duration> {
    let (mut waiting, mut lags, mut open) = (VecDeque::new(), Vec::new(), true);
    while open || !waiting.is_empty() {
        loop {
            match seen.try_recv() {
                Ok(one) => waiting.push_back(one),
                Err(mpsc::error::TryRecvError::Empty) => break,
                Err(mpsc::error::TryRecvError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        let has = client.get("/followers").await.data(200)["head"].as_u64().unwrap_or_default();
        let now = Instant::now();
        waiting.retain(|(position, at)| {
            let there = *position <= has;
            if there {
                lags.push(now.duration_since(*at));
            }
            !there
        });
        sleep(LOOK).await;
    }
    lags
}

/// What a write costs that waits for the standby's disk, beside one that does not.
async fn waiting(options: &Options) {
    for (mode, name) in [
        (Mode::Asynchronous, "a write that waits for nobody"),
        (Mode::Synchronous, "a write that waits for the standby"),
    ] {
        let anna = primary("anna", mode).await;
        let _bert = standby("bert", mode, &anna).await;
        settled(&anna, mode).await;
        let mut times = Vec::new();
        for number in 0..TIMED {
            let began = Instant::now();
            anna.client()
                .post("/memories", json!({ "kind": "note", "title": format!("Thing {number}") }))
                .await
                .data(201);
            times.push(began.elapsed());
        }
        options.say(&format!("{name}, median"), ms(quantile(&mut times, 0.5)), "ms", "");
        options.say(&format!("{name}, 99 of 100"), ms(quantile(&mut times, 0.99)), "ms", "");
    }
}

async fn settled(primary: &Node, mode: Mode) {
    let wanted = if mode == Mode::Synchronous { "synchronous" } else { "asynchronous" };
    wait("the mode", PATIENCE, async || view(primary).await["synchrony"]["mode"] == wanted).await;
}

/// How long it takes from the command until the new primary has taken a write, and what is lost, when the old one is killed under load.
async fn taking_over(options: &Options, mode: Mode) {
    let name = if mode == Mode::Synchronous { "synchronous" } else { "asynchronous" };
    let (mut longest, mut written, mut lost) = (0.0_f64, 0, 0);
    for _ in 0..options.rounds {
        let mut anna = primary("anna", mode).await;
        let bert = standby("bert", mode, &anna).await;
        settled(&anna, mode).await;
        let load = Load::start(anna.client(), AT_ONCE, "Thing");
        load.until(2_000).await;
        anna.kill9().await;
        let promised = load.ended().await;
        let began = Instant::now();
        promote(&bert, &[]).await.ok();
        bert.client().post("/memories", json!({ "kind": "note", "title": "It goes on" })).await.data(201);
        longest = longest.max(began.elapsed().as_secs_f64());
        written += promised.len();
        lost += missing(bert.client(), &promised).await.len();
    }
    options.say(&format!("taking over when the primary was {name} and killed, the longest"), longest, "s", "10");
    let wanted = if mode == Mode::Synchronous { "0" } else { "" };
    options.say(
        &format!("lost when it was {name}, of {written} acknowledged memories"),
        lost as f64,
        "memories",
        wanted,
    );
}
