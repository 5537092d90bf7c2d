//! Two people who meet and share, over the API of their nodes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use cairn_testkit::{Answer, Client, Node};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::sleep;

/// Between two looks.
const POLL: Duration = Duration::from_millis(5);
/// How many items a page of a list has.
const PAGE: usize = 200;
/// How many requests are under way at once where many are made.
const AT_ONCE: usize = 16;

/// Waits until something holds, and says how long that took.
///
/// # Panics
/// When it does not within `patience`.
pub async fn wait(what: &str, patience: Duration, mut holds: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !holds().await {
        assert!(began.elapsed() < patience, "{what}: not within {patience:?}");
        sleep(POLL).await;
    }
    began.elapsed()
}

/// The items of a list of one page.
async fn items(client: &Client, path: &str) -> Vec<Value> {
    client.get(path).await.items().to_vec()
}

async fn named(client: &Client, path: &str, name: &str) -> Option<Value> {
    items(client, path).await.into_iter().find(|item| item["name"] == name)
}

/// A peer as a node shows it.
pub async fn peer(node: &Node, name: &str) -> Option<Value> {
    named(node.client(), "/peers", name).await
}

/// Whether a node is connected with a peer.
pub async fn sees(node: &Node, name: &str) -> bool {
    peer(node, name).await.is_some_and(|peer| peer["online"] == true)
}

/// A space as a node shows it.
pub async fn space(node: &Node, name: &str) -> Option<Value> {
    named(node.client(), "/spaces", name).await
}

/// Makes two nodes known to each other, and waits until both are online. Gives how long that took.
///
/// # Panics
/// When they do not meet in time.
pub async fn pair(one: (&Node, &str), other: (&Node, &str), patience: Duration) -> Duration {
    let began = Instant::now();
    let invitation = one.0.client().post("/peers/invitations", json!({})).await;
    let link = invitation.data(201)["link"].clone();
    other.0.client().post("/peers", json!({ "link": link })).await.data(202);
    wait("pairing", patience, async || sees(one.0, other.1).await && sees(other.0, one.1).await).await;
    began.elapsed()
}

/// Begins a space of all memories with a tag, which is named after it.
pub async fn create(node: &Node, tag: &str) {
    node.client().post("/spaces", json!({ "name": tag, "tag": tag })).await.data(201);
}

/// Offers a space, and accepts it on the other side.
///
/// # Panics
/// When the offer does not come in time.
pub async fn share(owner: &Node, name: &str, with: (&Node, &str), days: u32, patience: Duration) {
    let own = space(owner, name).await.expect("the space was made");
    let brain = peer(owner, with.1).await.expect("they have met")["brain"].clone();
    let grants = format!("/spaces/{}/grants", own["id"].as_str().expect("a space has an id"));
    let offer = json!({ "with": brain, "role": "write", "expires_in_days": days });
    owner.client().post(&grants, offer).await.ok();
    wait("the offer", patience, async || space(with.0, name).await.is_some()).await;
    let decision = format!("/spaces/{}/decision", own["id"].as_str().expect("a space has an id"));
    with.0.client().post(&decision, json!({ "accepted": true })).await.ok();
}

/// What a memory with a tag and a title is made of.
pub fn note(title: &str, tag: &str) -> Value {
    json!({ "kind": "note", "title": title, "tags": [tag] })
}

/// Adds a memory; gives its id.
///
/// # Panics
/// When the node refuses.
pub async fn add(node: &Node, title: &str, tag: &str) -> String {
    let answer = node.client().post("/memories", note(title, tag)).await;
    answer.ok()["id"].as_str().expect("a memory has an id").to_owned()
}

/// Gives a memory another title.
pub async fn rename(node: &Node, memory: &str, title: &str) {
    node.client().patch(&format!("/memories/{memory}"), json!({ "title": title })).await.ok();
}

/// Adds many memories, several at once; gives the titles that were acknowledged, by id.
///
/// # Panics
/// When the node refuses one.
pub async fn add_many(
    client: &Client,
    titles: impl IntoIterator<Item = String>,
    tag: &str,
) -> BTreeMap<String, String> {
    let mut under_way: JoinSet<(String, Answer)> = JoinSet::new();
    let mut added = BTreeMap::new();
    let mut take = |done: (String, Answer)| {
        let id = done.1.ok()["id"].as_str().expect("a memory has an id").to_owned();
        added.insert(id, done.0);
    };
    for title in titles {
        if under_way.len() == AT_ONCE
            && let Some(done) = under_way.join_next().await
        {
            take(done.expect("it does not panic"));
        }
        let (client, request) = (client.clone(), note(&title, tag));
        under_way.spawn(async move { (title, client.post("/memories", request).await) });
    }
    while let Some(done) = under_way.join_next().await {
        take(done.expect("it does not panic"));
    }
    added
}

/// Gives many memories other titles, one after another; gives the titles that were acknowledged, by id.
pub async fn rename_many<'a>(
    node: &Node,
    memories: impl IntoIterator<Item = &'a String>,
    what: &str,
) -> BTreeMap<String, String> {
    let mut renamed = BTreeMap::new();
    for (number, memory) in memories.into_iter().enumerate() {
        let title = format!("{what} {number}");
        rename(node, memory, &title).await;
        renamed.insert(memory.clone(), title);
    }
    renamed
}

/// The title that a node shows of a memory; none where it does not know it.
pub async fn title(node: &Node, memory: &str) -> Option<String> {
    let answer = node.client().get(&format!("/memories/{memory}")).await;
    (answer.status == 200).then(|| answer.body["data"]["title"].as_str().unwrap_or_default().to_owned())
}

/// All titles of memories with a tag, by id.
pub async fn titles(node: &Node, tag: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut cursor = String::new();
    loop {
        let answer = node.client().get(&format!("/memories?tag={tag}&limit={PAGE}{cursor}")).await;
        for item in answer.items() {
            let text = |name: &str| item[name].as_str().unwrap_or_default().to_owned();
            found.insert(text("id"), text("title"));
        }
        match answer.body["data"]["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return found,
        }
    }
}

/// The value below which a share of these lies, by the nearest rank.
///
/// # Panics
/// When there is none.
pub fn quantile(times: &mut [Duration], share: f64) -> Duration {
    times.sort_unstable();
    let rank = (share * times.len() as f64).ceil() as usize;
    times[rank.clamp(1, times.len()) - 1]
}

/// The name of a device on the network, as addresses end with it: the base 58 of its key behind what says that it is one.
///
/// # Panics
/// When it is no key in hexadecimal.
pub fn peer_id(device: &str) -> String {
    let key = (0..device.len()).step_by(2);
    let key = key.map(|at| u8::from_str_radix(&device[at..at + 2], 16).expect("hexadecimal digits"));
    let name: Vec<u8> = [0, 0x24, 8, 1, 0x12, 0x20].into_iter().chain(key).collect();
    bs58::encode(name).into_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_id_is_what_libp2p_makes_of_a_key() {
        // The second of RFC 8032's test vectors for Ed25519; the name is how libp2p writes it.
        let name = peer_id("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c");
        assert!(name.starts_with("12D3KooW") && name.len() == 52, "{name}");
    }

    #[test]
    fn a_quantile_is_one_of_the_times() {
        let mut times: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        assert_eq!(quantile(&mut times, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&mut times, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&mut times, 1.0), Duration::from_millis(100));
    }
}
