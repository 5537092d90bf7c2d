//! Writers that remember what they were promised.

use std::sync::{Arc, Mutex};

use cairn_testkit::{Answer, Client};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

use crate::log::History;

/// The memories that the writers of a round share.
#[derive(Clone, Default)]
pub struct Load {
    memories: Arc<Mutex<Vec<String>>>,
}

/// A write: its path, what it asks for and the key under which it can be repeated.
#[derive(Debug, Clone)]
pub struct Request {
    path: Option<String>,
    body: Value,
    key: String,
    mark: u64,
}

/// What an answer promised.
#[derive(Debug, Clone)]
pub struct Promise {
    memory: String,
    events: Vec<String>,
    position: u64,
    /// The value written; the event that holds it must be among those promised.
    mark: u64,
}

/// What a writer was left with.
#[derive(Debug, Default)]
pub struct Kept {
    /// What was promised.
    pub promises: Vec<Promise>,
    /// What was asked for last, and not answered.
    pub unanswered: Option<Request>,
}

/// One writer.
pub struct Writer {
    client: Client,
    load: Load,
    rng: StdRng,
}

impl Writer {
    /// A writer with randomness of its own.
    pub fn new(client: Client, load: Load, seed: u64) -> Self {
        Self { client, load, rng: StdRng::seed_from_u64(seed) }
    }

    /// Writes until the node answers no more. Gives what was promised, and what was asked last.
    ///
    /// # Panics
    /// When an answer is a refusal: these writes are sound.
    pub async fn run(mut self) -> Kept {
        let mut promises = Vec::new();
        loop {
            let request = self.request();
            let answer = match request.send(&self.client).await {
                Ok(answer) => answer,
                Err(_) => return Kept { promises, unanswered: Some(request) },
            };
            // A node that is going down may still say so.
            if answer.status >= 500 {
                return Kept { promises, unanswered: Some(request) };
            }
            if answer.status == 409 {
                continue;
            }
            let promise = Promise::of(&answer, request.mark);
            if request.path.is_none() {
                self.load.memories.lock().expect("no writer panics with it").push(promise.memory.clone());
            }
            promises.push(promise);
        }
    }

    fn request(&mut self) -> Request {
        let mark = self.rng.random::<u32>().into();
        let key = format!("key-{:032x}", self.rng.random::<u128>());
        let known = self.load.memories.lock().expect("no writer panics with it").clone();
        if known.is_empty() || self.rng.random_bool(0.3) {
            let body = json!({ "title": format!("Memory {mark}"), "body": "It was written down.", "fields": { "mark": mark } });
            return Request { path: None, body, key, mark };
        }
        let memory = &known[self.rng.random_range(0..known.len())];
        let mut body = json!({ "fields": { "mark": mark } });
        match self.rng.random_range(0..4) {
            0 => body["body"] = json!(format!("It was written down.\nAnd again: {mark}.")),
            1 => body["add_tags"] = json!([format!("tag-{}", mark % 7)]),
            2 => body["archived"] = json!(mark % 2 == 0),
            _ => {}
        }
        Request { path: Some(format!("/memories/{memory}")), body, key, mark }
    }
}

impl Request {
    async fn send(&self, client: &Client) -> reqwest::Result<Answer> {
        let request = match &self.path {
            Some(path) => client.request(reqwest::Method::PATCH, path),
            None => client.request(reqwest::Method::POST, "/memories"),
        };
        client.send(request.header("Idempotency-Key", &self.key).json(&self.body)).await
    }

    /// Asks again, twice: whatever became of the first time, the log holds it once and both answers name the same
    /// events.
    ///
    /// # Panics
    /// When they do not.
    pub async fn repeat(&self, client: &Client) {
        let first = self.send(client).await.expect("the node is up again");
        let second = self.send(client).await.expect("the node is up again");
        if first.status == 404 {
            // The memory it was about had not been promised to anybody either.
            return;
        }
        assert_eq!(first.ok()["events"], second.ok()["events"], "{self:?}");
        assert_eq!(second.ok()["repeated"], true, "{self:?}");
    }
}

impl Promise {
    fn of(answer: &Answer, mark: u64) -> Self {
        let written = answer.ok();
        let text = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no id: {}", answer.text)).to_owned();
        Self {
            memory: text(&written["id"]),
            events: written["events"].as_array().expect("a list of events").iter().map(text).collect(),
            position: answer.position(),
            mark,
        }
    }

    /// Checks that the log holds every promised event, and in one of them what was written.
    ///
    /// # Panics
    /// When it does not.
    pub fn is_kept(&self, history: &History) {
        let events = self.events.iter().map(|id| {
            history.event(id).unwrap_or_else(|| panic!("event {id} was acknowledged and is lost: {self:?}"))
        });
        let events: Vec<_> = events.collect();
        for event in &events {
            assert_eq!(event.stream, format!("memory-{}", self.memory), "{event:?}");
            assert!(event.position <= self.position, "{self:?} holds {event:?}");
        }
        let holds = |value: &Value| value["field"] == "mark" && value["value"] == self.mark;
        assert!(events.iter().any(|event| holds(&event.envelope["data"])), "{self:?} holds {events:?}");
    }

    /// Checks that the read model knows the memory and a mark somebody gave it.
    ///
    /// # Panics
    /// When it does not.
    pub async fn shows(&self, client: &Client) {
        let answer = client.get(&format!("/memories/{}?min_position={}", self.memory, self.position)).await;
        assert!(answer.data(200)["values"]["mark"].is_u64(), "{self:?}: {}", answer.text);
    }
}
