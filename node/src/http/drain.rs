//! Reads what a refused request still sends, so that its client comes to read the answer.
//!
//! A connection that is closed while bytes wait in it is reset, and a reset throws away an answer that the client has not
//! read yet: without this, whoever sends a body that is too large sees a broken connection rather than the reason.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use futures::StreamExt;
use http_body::{Frame, SizeHint};

/// The most that is read of a refused body, in bytes. Whoever sends more finds the connection closed.
pub const MAX_DRAINED_BYTES: usize = 64 * 1024 * 1024;

/// How long a refused body is read at most.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// A request's body that its handler reads and that can be drained afterwards.
#[derive(Clone)]
pub struct Drainable {
    shared: Arc<Mutex<Shared>>,
    /// The client waits for a sign before it sends the body.
    waits: bool,
}

struct Shared {
    body: Body,
    read: bool,
}

impl Drainable {
    /// Wraps a body; `headers` are those of its request.
    pub fn new(body: Body, headers: &HeaderMap) -> Self {
        let shared = Arc::new(Mutex::new(Shared { body, read: false }));
        Self { shared, waits: headers.contains_key(header::EXPECT) }
    }

    /// Reads what the handler left, within bounds.
    pub async fn drain(self) {
        let untouched = self.waits && !self.lock().read;
        if untouched || self.is_end_stream() {
            return;
        }
        let reading = async {
            let mut left = MAX_DRAINED_BYTES;
            let mut chunks = Body::new(self).into_data_stream();
            while let Some(Ok(chunk)) = chunks.next().await {
                match left.checked_sub(chunk.len()) {
                    Some(rest) => left = rest,
                    None => return,
                }
            }
        };
        // Whoever is slower than that gets the answer all the same, if the connection lives so long.
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, reading).await;
    }

    /// Nothing panics while it is held.
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl HttpBody for Drainable {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let mut shared = self.lock();
        shared.read = true;
        Pin::new(&mut shared.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.lock().body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.lock().body.size_hint()
    }
}
