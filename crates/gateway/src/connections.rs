//! The connections of clients: so many at once and no more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{Stream, stream};
use metrics::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::server::{Connected, TcpConnectInfo};

/// The connections that are open at once. Further clients wait in the system's queue until one is closed.
pub const MAX_CONNECTIONS: usize = 1_024;
/// The pause after a connection could not be taken, such as when the process has no file descriptor left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A connection, counted as long as it lives.
pub(crate) struct Connection {
    stream: TcpStream,
    open: Gauge,
    _place: OwnedSemaphorePermit,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.open.decrement(1.0);
    }
}

/// The connections of a listener.
pub(crate) fn incoming(listener: TcpListener, most: usize) -> impl Stream<Item = io::Result<Connection>> {
    let places = Arc::new(Semaphore::new(most));
    let open = metrics::gauge!("cairn_gateway_connections");
    stream::unfold((listener, places, open), |(listener, places, open)| async move {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        let stream = accept(&listener).await;
        open.increment(1.0);
        let connection = Connection { stream, open: open.clone(), _place: place };
        Some((Ok(connection), (listener, places, open)))
    })
}

/// The next connection. One that was given up before it was taken is none, and a shortage passes.
async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // Answers are small and awaited. A socket that cannot do this is a little slower.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                tracing::warn!(%error, "the gateway could not take a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    use super::*;

    async fn dial(address: SocketAddr) -> TcpStream {
        TcpStream::connect(address).await.expect("the system's queue has room")
    }

    #[tokio::test]
    async fn a_client_too_many_waits_until_another_has_gone() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut incoming = std::pin::pin!(incoming(listener, 2));
        let (_first, _second, mut third) = (dial(address).await, dial(address).await, dial(address).await);
        let first = incoming.next().await.expect("taken").expect("sound");
        let _second = incoming.next().await.expect("taken").expect("sound");
        assert!(timeout(Duration::from_millis(200), incoming.next()).await.is_err(), "two are the most");
        drop(first);
        let mut taken = incoming.next().await.expect("taken").expect("sound");
        third.write_all(b"hello").await.expect("it is open");
        let mut heard = [0; 5];
        taken.read_exact(&mut heard).await.expect("it was the third that was taken");
        assert_eq!(&heard, b"hello");
    }
}
