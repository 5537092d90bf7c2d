//! One connection, in a task of its own: TLS inside TCP, HTTP/2 inside that, and inside that at most one call. Its end
//! is decided by the driver, except where the connection ends by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::FutureExt;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use libp2p::swarm::ConnectionId;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::call;
use super::driver::Happening;
use super::limits::{
    DATA_FRAME_BYTES, HANDSHAKE_TIME, HEADER_BYTES, MAX_CALLS, MAX_RESET_CALLS, SEND_BUFFER, WINDOW,
};
use crate::network::DialFailure;
use crate::network::limits::{CLOSE_TIME, PING_INTERVAL, PING_TIME};

/// What a connection needs of its surroundings.
pub(super) struct Surroundings {
    pub(super) connection: ConnectionId,
    pub(super) happenings: mpsc::Sender<Happening>,
    /// Ends the connection.
    pub(super) close: CancellationToken,
}

/// Serves a connection from outside, whose peer was let in.
pub(super) async fn serve(stream: Box<TlsStream<TcpStream>>, surroundings: Surroundings) {
    let Surroundings { connection, happenings, close } = surroundings;
    let called = Arc::new(AtomicBool::new(false));
    let (to_driver, calls) = (happenings.clone(), Arc::clone(&called));
    let service = service_fn(move |request| {
        let (to_driver, calls) = (to_driver.clone(), Arc::clone(&calls));
        async move {
            let hand_on = async move |asked| {
                // A second call is dropped here, and answered so.
                if !calls.swap(true, Ordering::Relaxed) {
                    let _ = to_driver.send(Happening::Called { connection, asked: Box::new(asked) }).await;
                }
            };
            Ok::<_, std::convert::Infallible>(call::answer(request, hand_on).await)
        }
    });
    let serving = server_options().serve_connection(TokioIo::new(stream), service);
    let mut serving = std::pin::pin!(serving);
    let unused = async {
        sleep(HANDSHAKE_TIME).await;
        if called.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    let ended = tokio::select! {
        result = &mut serving => Some(result),
        () = close.cancelled() => None,
        () = unused => None,
    };
    if ended.is_none() {
        serving.as_mut().graceful_shutdown();
        let _ = timeout(CLOSE_TIME, serving).await;
    }
    tracing::trace!(?connection, ?ended, "a connection from outside is over");
    let _ = happenings.send(Happening::Closed { connection }).await;
}

fn server_options() -> server::conn::http2::Builder<TokioExecutor> {
    let mut options = server::conn::http2::Builder::new(TokioExecutor::new());
    options
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(DATA_FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_BYTES)
        .max_concurrent_streams(MAX_CALLS)
        .max_pending_accept_reset_streams(MAX_RESET_CALLS)
        .max_local_error_reset_streams(MAX_RESET_CALLS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIME);
    options
}

/// Asks the peer at the other end for frames, and keeps the connection.
pub(super) async fn call(stream: Box<TlsStream<TcpStream>>, surroundings: Surroundings) {
    let Surroundings { connection, happenings, close } = surroundings;
    let tasks = Tasks::default();
    // Whatever ends this task ends the connection.
    let _guard = tasks.kill.clone().drop_guard();
    let opened = timeout(HANDSHAKE_TIME, client_options(&tasks).handshake(TokioIo::new(stream)));
    if let Ok(Ok((sender, running))) = opened.await {
        let mut running = std::pin::pin!(running.fuse());
        let asking = call::ask(sender.clone());
        let answer = tokio::select! {
            answer = asking => Some(answer.map_err(|status| refusal(&status))),
            () = close.cancelled() => None,
            _ = &mut running => Some(Err(DialFailure::Refused)),
        };
        let goes_on = matches!(answer, Some(Ok(_)));
        if let Some(answer) = answer {
            let answer = answer.map(Box::new);
            let _ = happenings.send(Happening::Answered { connection, answer }).await;
        }
        if goes_on {
            tokio::select! {
                () = close.cancelled() => {}
                _ = &mut running => {}
            }
        }
        drop(sender);
        tasks.running.close();
        // The last call ends the connection; this gives it the time to.
        let closing = async {
            tokio::select! {
                () = tasks.running.wait() => {}
                () = running.then(|_| std::future::pending()) => {}
            }
        };
        let _ = timeout(CLOSE_TIME, closing).await;
    } else {
        let _ = happenings.send(Happening::Answered { connection, answer: Err(DialFailure::Refused) }).await;
    }
    let _ = happenings.send(Happening::Closed { connection }).await;
}

fn refusal(status: &tonic::Status) -> DialFailure {
    tracing::debug!(%status, "a peer refused a call");
    DialFailure::Refused
}

fn client_options(tasks: &Tasks) -> client::conn::http2::Builder<Tasks> {
    let mut options = client::conn::http2::Builder::new(tasks.clone());
    options
        .timer(TokioTimer::new())
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(DATA_FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(HEADER_BYTES)
        .max_concurrent_reset_streams(MAX_RESET_CALLS)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIME);
    options
}

/// Runs what hyper splits off from a connection that it dialled. Nothing else would end it.
#[derive(Clone, Default)]
struct Tasks {
    running: TaskTracker,
    kill: CancellationToken,
}

impl<F: Future + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, future: F) {
        let kill = self.kill.clone();
        self.running.spawn(async move {
            tokio::select! {
                biased;
                () = kill.cancelled() => {}
                _ = future => {}
            }
        });
    }
}
