//! A load generator: connections that send prepared requests one after the other and read the answers.
//! It understands as much of HTTP/1.1 as the node's JSON answers use, and costs little beside the node.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most bytes an answer may have.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// A connection that is kept open.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer: its status and body.
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// What a load saw.
pub struct Load {
    /// Answers a second.
    pub rate: f64,
    /// The time each request took, in milliseconds.
    pub samples: Vec<f64>,
}

/// A request as it goes over the wire.
pub fn request(method: &str, path: &str, token: &str, body: Option<&str>) -> Vec<u8> {
    let body = body.unwrap_or_default();
    format!(
        "{method} {path} HTTP/1.1\r\nhost: bench\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(16 * 1024) })
    }

    /// Sends a request and waits for its answer.
    pub async fn send(&mut self, request: &[u8]) -> Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                break end + 4;
            }
            self.read().await?;
        };
        let text = std::str::from_utf8(&self.buffer[..head])?;
        let status = text.get(9..12).context("no status line")?.parse()?;
        let length = text
            .lines()
            .find_map(|line| line.split_once(':').filter(|(name, _)| name.eq_ignore_ascii_case("content-length")))
            .context("the answer has no length")?;
        let length: usize = length.1.trim().parse()?;
        if length > MAX_ANSWER_BYTES {
            bail!("an answer of {length} bytes");
        }
        while self.buffer.len() < head + length {
            self.read().await?;
        }
        Ok(Answer { status, body: self.buffer[head..head + length].to_vec() })
    }

    async fn read(&mut self) -> Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the node closed the connection");
        }
        Ok(())
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

/// Sends requests over several connections for a while. `make` gives the n-th request of a connection.
pub async fn load(
    address: SocketAddr,
    connections: usize,
    time: Duration,
    make: impl Fn(usize, usize) -> Vec<u8> + Clone + Send + 'static,
) -> Result<Load> {
    let started = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|number| {
            let make = make.clone();
            tokio::spawn(async move {
                let mut connection = Connection::open(address).await?;
                let mut samples = Vec::new();
                while started.elapsed() < time {
                    let request = make(number, samples.len());
                    let start = Instant::now();
                    let answer = connection.send(&request).await?;
                    if answer.status >= 300 {
                        bail!("status {}: {}", answer.status, String::from_utf8_lossy(&answer.body));
                    }
                    samples.push(start.elapsed().as_secs_f64() * 1e3);
                }
                Ok(samples)
            })
        })
        .collect();
    let mut samples = Vec::new();
    for task in tasks {
        samples.extend(task.await??);
    }
    Ok(Load { rate: samples.len() as f64 / started.elapsed().as_secs_f64(), samples })
}
