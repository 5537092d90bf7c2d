//! What sharing costs between real nodes: the first sync, what a cut costs, how soon a change is seen, what a node needs
//! at rest, and what it takes to find out that nothing is new. See `--help`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cairn_testkit::{Node, Seed, cairn};
use cairn_tests::networks::{Host, Lab, Switch, within};
use cairn_tests::sharing::{add_many, pair, peer, quantile, rename, sees, title, wait};
use rand::Rng;
use serde_json::{Value, json};
use tokio::time::sleep;

const HELP: &str = "\
Measures sharing between real nodes, each in a network namespace of its own, which needs root.

  TEST_CAIRN_BIN=target/release/cairn cargo run --release -p cairn-tests --example sharing -- [OPTIONS]

  --memories N   how many memories are shared (100000)
  --cuts N       how often a first sync is cut in the middle by killing the receiver (2)
  --keep         leaves the nodes running for ten minutes after the first sync, to be looked at
  --json         one JSON object a line
  --help         this text";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(1_200);
/// Between two looks at how far something is.
const LOOK: Duration = Duration::from_millis(100);
/// How many entries a memory has: that it is there, its title, its tag.
const ENTRIES: usize = 3;
/// How many changes are waited for in each direction.
const WATCHED: usize = 200;
/// How long nodes rest before their memory is looked at.
const REST: Duration = Duration::from_secs(10);
/// A node rests when it needs less than this of a processor,
const QUIET: f64 = 0.05;
/// for so many looks one after the other.
const QUIET_LOOKS: usize = 3;
/// How often Linux counts in a second what a process spends.
const TICKS: f64 = 100.0;
const MIB: f64 = 1_048_576.0;
/// How long `--keep` leaves the nodes running.
const KEPT: Duration = Duration::from_secs(600);
/// How long the wire is listened to after two have met.
const LISTENED: Duration = Duration::from_secs(3);
/// Between two looks at what was signed for.
const SIGNED: Duration = Duration::from_secs(1);

struct Options {
    memories: usize,
    cuts: usize,
    keep: bool,
    json: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { memories: 100_000, cuts: 2, keep: false, json: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || {
            let number = words.next().and_then(|number| number.parse().ok());
            number.ok_or_else(|| format!("{word} takes a number"))
        };
        match word.as_str() {
            "--memories" => options.memories = number()?,
            "--cuts" => options.cuts = number()?,
            "--keep" => options.keep = true,
            "--json" => options.json = true,
            "--help" => return Err(HELP.to_owned()),
            unknown => return Err(format!("{unknown} is not known\n\n{HELP}")),
        }
    }
    Ok(options)
}

fn main() {
    match options() {
        Ok(options) => within("sharing", async move |lab| Figures::new(lab, options).measure().await),
        Err(text) => println!("{text}"),
    }
}

/// A node with its host.
struct Party {
    name: &'static str,
    node: Node,
    host: Host,
}

struct Figures {
    lab: Lab,
    switch: Switch,
    plugged: usize,
    options: Options,
}

/// What was seen of a first sync.
struct Synced {
    took: Duration,
    received_bytes: u64,
    entries: u64,
}

impl Figures {
    fn new(lab: Lab, options: Options) -> Self {
        let switch = lab.switch("switch");
        Self { lab, switch, plugged: 0, options }
    }

    fn say(&self, figure: &str, value: f64, unit: &str, wanted: &str) {
        if self.options.json {
            println!("{}", json!({ "figure": figure, "value": value, "unit": unit, "wanted": wanted }));
        } else if wanted.is_empty() {
            println!("{figure}: {value:.1} {unit}");
        } else {
            println!("{figure}: {value:.1} {unit} (wanted {wanted})");
        }
    }

    async fn party(&mut self, name: &'static str) -> Party {
        self.plugged += 1;
        let host = self.lab.host(name);
        let address = format!("10.1.0.{}", self.plugged);
        host.plug(&mut self.switch, "lan", &format!("{address}/24"));
        let mut options = host.options(name);
        let listen = format!("[\"/ip4/{address}/udp/7412/quic-v1\", \"/ip4/{address}/tcp/7412\"]");
        options.environment.push(("CAIRN_FEDERATION__LISTEN".to_owned(), listen));
        let node = Node::start(options).await.unwrap_or_else(|error| panic!("{error}"));
        Party { name, node, host }
    }

    async fn measure(mut self) {
        eprintln!("{}", cairn().display());
        let mut anna = self.party("anna").await;
        let mut bert = self.party("bert").await;
        let memories = self.write(&anna).await;
        pair((&anna.node, "anna"), (&bert.node, "bert"), PATIENCE).await;
        // Both find out where they can be reached, which costs some 100 KB.
        sleep(REST).await;
        let (bare, _) = met_again(&anna, &bert).await;
        // What is written now goes on in the search index for a while, which is not what is looked at here.
        quiet(&anna).await;
        self.publish(&anna).await;
        quiet(&anna).await;
        let whole = self.first_sync(&anna, &bert).await;
        if self.options.keep {
            eprintln!("anna is {}, bert is {}", anna.node.pid(), bert.node.pid());
            sleep(KEPT).await;
        }
        self.seen(&anna, &bert, &memories).await;
        self.at_rest(&mut anna, &mut bert, bare).await;
        for number in 0..self.options.cuts {
            self.cut(&anna, &whole, number).await;
        }
    }

    async fn write(&self, anna: &Party) -> BTreeMap<String, String> {
        let began = Instant::now();
        let titles = (0..self.options.memories).map(|number| format!("What is to be known of thing {number}"));
        let memories = add_many(anna.node.client(), titles, "garden").await;
        self.say("written", memories.len() as f64 / began.elapsed().as_secs_f64(), "memories/s", "");
        memories
    }

    /// Begins the space when everything that is to be in it is there, and waits until all of it is signed.
    async fn publish(&self, anna: &Party) {
        let (began, spent) = (Instant::now(), processor(&anna.node));
        let request = json!({ "name": "garden", "tag": "garden" });
        // With many memories it takes longer than a client waits.
        let _ = anna.node.client().try_post("/spaces", &request).await;
        let asked = began.elapsed();
        self.has(anna, ENTRIES * self.options.memories).await;
        self.say("published", self.options.memories as f64 / began.elapsed().as_secs_f64(), "memories/s", "");
        self.say("published, answered after", asked.as_secs_f64(), "s", "");
        self.say("published, processor", processor(&anna.node) - spent, "s", "");
    }

    /// Waits until a node has so many entries of the space.
    async fn has(&self, party: &Party, wanted: usize) {
        let began = Instant::now();
        loop {
            let count = entries(party).await;
            if count.is_some_and(|count| count >= wanted as u64) {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "{} has {count:?} entries\n{}", party.name, party.node.log());
            sleep(LOOK).await;
        }
    }

    /// Offers the space, accepts it, and waits until everything is there and shown.
    async fn sync(&self, anna: &Party, to: &Party) -> Synced {
        let (began, before) = (Instant::now(), to.host.bytes("lan").0);
        self.accept(anna, to).await;
        self.has(to, ENTRIES * self.options.memories).await;
        let took = began.elapsed();
        self.shown(to).await;
        let received_bytes = to.host.bytes("lan").0 - before;
        Synced { took, received_bytes, entries: received(anna, to).await }
    }

    async fn accept(&self, anna: &Party, to: &Party) {
        cairn_tests::sharing::share(&anna.node, "garden", (&to.node, to.name), 90, PATIENCE).await;
    }

    /// Waits until the read model shows as much as the space has.
    async fn shown(&self, party: &Party) {
        let all = self.options.memories as u64;
        let client = party.node.client();
        let shown = async || {
            sleep(LOOK).await;
            client.get("/tags").await.items().iter().any(|tag| tag["count"] == all || tag["memories"] == all)
        };
        wait("the read model", PATIENCE, shown).await;
    }

    async fn first_sync(&self, anna: &Party, bert: &Party) -> Synced {
        let spent = [anna, bert].map(|party| processor(&party.node));
        let began = Instant::now();
        let synced = self.sync(anna, bert).await;
        let shown = began.elapsed();
        quiet(bert).await;
        let spent = [processor(&anna.node) - spent[0], processor(&bert.node) - spent[1]];
        let entries = synced.entries as f64;
        self.say("first sync", entries / synced.took.as_secs_f64(), "entries/s", "at least 10000");
        self.say("first sync, entries", entries, "", "");
        self.say("first sync, took", synced.took.as_secs_f64(), "s", "");
        self.say("first sync, shown after", shown.as_secs_f64(), "s", "");
        self.say("first sync, processor of the owner", spent[0], "s", "");
        self.say("first sync, processor of the receiver", spent[1], "s", "");
        self.say("first sync, received", synced.received_bytes as f64 / MIB, "MiB", "");
        synced
    }

    /// A first sync whose receiver is killed in the middle and started again.
    async fn cut(&mut self, anna: &Party, whole: &Synced, number: usize) {
        const NAMES: [&str; 8] = ["carl", "dora", "emil", "frida", "gert", "hilde", "ida", "jan"];
        let mut party = self.party(NAMES[number % NAMES.len()]).await;
        pair((&anna.node, "anna"), (&party.node, party.name), PATIENCE).await;
        let before = party.host.bytes("lan").0;
        let share = Seed::take().rng().random_range(0.3..0.7);
        let enough = before + (whole.received_bytes as f64 * share) as u64;
        self.accept(anna, &party).await;
        wait("the middle", PATIENCE, async || party.host.bytes("lan").0 > enough).await;
        let until = party.host.bytes("lan").0 - before;
        party.node.kill9().await;
        let began = Instant::now();
        party.node.launch().await.unwrap_or_else(|error| panic!("{error}"));
        let kept = entries(&party).await.unwrap_or_default();
        wait("that they meet again", PATIENCE, async || sees(&party.node, "anna").await).await;
        let met = began.elapsed();
        self.has(&party, ENTRIES * self.options.memories).await;
        self.shown(&party).await;
        // What came and was not kept comes again.
        let twice = until as f64 - whole.received_bytes as f64 * kept as f64 / whole.entries as f64;
        self.say("cut in the middle, sent twice", twice / 1_024.0, "KiB", "at most 256");
        let more = (party.host.bytes("lan").0 - before) as f64 - whole.received_bytes as f64;
        self.say("cut in the middle, more bytes than without", more / 1_024.0, "KiB", "");
        self.say("cut in the middle, met again", met.as_secs_f64(), "s", "");
    }

    async fn seen(&self, anna: &Party, bert: &Party, memories: &BTreeMap<String, String>) {
        for (from, to) in [(anna, bert), (bert, anna)] {
            let mut times = Vec::new();
            for memory in memories.keys().take(WATCHED) {
                let wanted = format!("{} was here", from.name);
                let began = Instant::now();
                rename(&from.node, memory, &wanted).await;
                let there = async || title(&to.node, memory).await.as_ref() == Some(&wanted);
                wait("a change", PATIENCE, there).await;
                times.push(began.elapsed());
            }
            for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
                let seen = quantile(&mut times, share).as_secs_f64() * 1e3;
                self.say(&format!("seen, {} to {}, {name}", from.name, to.name), seen, "ms", "p99 under 300");
            }
        }
    }

    /// Both meet when nothing is new, start again, and rest.
    async fn at_rest(&self, anna: &mut Party, bert: &mut Party, bare: u64) {
        let (bytes, met) = met_again(anna, bert).await;
        self.say("nothing new, both ways with the handshake", bytes as f64, "bytes", "");
        self.say(
            "nothing new, more than where nothing is shared",
            bytes as f64 - bare as f64,
            "bytes",
            "at most 4096",
        );
        self.say("nothing new, met after", met.as_secs_f64(), "s", "");
        for party in [&mut *anna, &mut *bert] {
            party.node.stop().await;
            let began = Instant::now();
            party.node.launch().await.unwrap_or_else(|error| panic!("{error}"));
            self.say(&format!("{} starts", party.name), began.elapsed().as_secs_f64(), "s", "");
        }
        sleep(REST).await;
        for party in [anna, bert] {
            let what = format!("resident, {}", party.name);
            self.say(&what, resident(&party.node), "MB", "under 200");
        }
    }
}

/// Parts two nodes and lets them meet again, and gives what went over the wire until both were in step, and how long it took to meet.
async fn met_again(anna: &Party, bert: &Party) -> (u64, Duration) {
    let brain = peer(&anna.node, bert.name).await.expect("they have met")["brain"].clone();
    let bert_there = format!("/peers/{}", brain.as_str().expect("a key"));
    anna.node.client().patch(&bert_there, json!({ "blocked": true })).await;
    wait("that Bert is gone", PATIENCE, async || !sees(&anna.node, "bert").await).await;
    let counted = || {
        let (received, sent) = bert.host.bytes("lan");
        received + sent
    };
    let before = counted();
    anna.node.client().patch(&bert_there, json!({ "blocked": false })).await;
    let began = Instant::now();
    let both = async || sees(&anna.node, "bert").await && sees(&bert.node, "anna").await;
    wait("that they meet", PATIENCE, both).await;
    let met = began.elapsed();
    sleep(LISTENED).await;
    (counted() - before, met)
}

/// Waits until a node rests.
async fn quiet(party: &Party) {
    let (began, mut looks) = (Instant::now(), 0);
    while looks < QUIET_LOOKS {
        let spent = processor(&party.node);
        sleep(SIGNED).await;
        looks = if processor(&party.node) - spent < QUIET { looks + 1 } else { 0 };
        assert!(began.elapsed() < PATIENCE, "{} does not rest", party.name);
    }
}

/// How many entries of the space a node has.
async fn entries(party: &Party) -> Option<u64> {
    let answer = party.node.client().try_get("/spaces").await;
    answer.ok()?.body["data"]["items"][0]["entries"].as_u64()
}

/// How many entries somebody has signed for.
async fn received(anna: &Party, by: &Party) -> u64 {
    let brain = peer(&anna.node, by.name).await.expect("they have met")["brain"].clone();
    let mut last = 0;
    // The last one is said when everything is kept.
    loop {
        sleep(SIGNED).await;
        let receipts = anna.node.client().get("/receipts").await;
        let entries = receipts.items().iter().find(|receipt| receipt["by"] == brain);
        let entries = entries.and_then(|receipt| receipt["entries"].as_u64()).unwrap_or_default();
        if entries > 0 && entries == last {
            return entries;
        }
        last = entries;
    }
}

fn of_process(node: &Node, file: &str) -> String {
    let path = PathBuf::from(format!("/proc/{}/{file}", node.pid()));
    std::fs::read_to_string(path).expect("the node is running")
}

/// What a node has spent of the processors, in seconds.
fn processor(node: &Node) -> f64 {
    let stat = of_process(node, "stat");
    // The name of the program, in parentheses, may hold spaces.
    let numbers = stat.rsplit_once(')').expect("a name in parentheses").1;
    let spent = numbers.split_whitespace().skip(11).take(2);
    spent.map(|ticks| ticks.parse::<f64>().expect("a number")).sum::<f64>() / TICKS
}

/// What a node has in memory, in MB.
fn resident(node: &Node) -> f64 {
    let status = of_process(node, "status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says so");
    let kib: Value = serde_json::from_str(line.trim_end_matches("kB").trim()).expect("a number");
    kib.as_f64().expect("a number") * 1_024.0 / 1e6
}
