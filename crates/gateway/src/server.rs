//! The gateway as a server.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cairn_event_store::SharedStore;
use cairn_proto::event_store::client::gossip::gossip_server::GossipServer;
use cairn_proto::event_store::client::server_features::server_features_server::ServerFeaturesServer;
use cairn_proto::event_store::client::streams::streams_server::StreamsServer;
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;
use tonic::transport::{Identity, Server, ServerTlsConfig};
use uuid::Uuid;

use crate::authority::Authority;
use crate::connections::{MAX_CONNECTIONS, incoming};
use crate::lifecycle::Lifecycles;
use crate::meter::Meter;
use crate::service::{Core, Service};
use crate::write::{MAX_APPEND_BYTES, Writer};

/// The largest message that is decoded: an append's most bytes, and what is around them.
pub const MAX_MESSAGE_BYTES: usize = MAX_APPEND_BYTES + 1024 * 1024;
/// The calls that one connection may have open at once.
pub const MAX_CALLS: u32 = 1_000;
/// What a client may have sent of one call, and on one connection, that has not been taken yet.
const WINDOWS: (u32, u32) = (1024 * 1024, 8 * 1024 * 1024);
/// How often a silent connection is asked whether it is still there, and how long the answer may take.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));
/// How much of a message clients may send in one piece. Those that leave Nagle's algorithm on hold every further piece back
/// until the one before is acknowledged, which may take 40 ms.
const MAX_FRAME_BYTES: u32 = 1024 * 1024;
/// How long calls may take to end once the gateway is told to.
const GRACE: Duration = Duration::from_secs(5);

/// How a gateway presents itself.
#[derive(Debug, Clone)]
pub struct Options {
    /// The address and port by which clients that ask for the members of the cluster find this node.
    pub advertised: (String, u16),
    /// The key and certificate of a server with TLS. Clients send credentials only to such a one.
    pub tls: Option<Tls>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Tls {
    /// The certificate, with those it rests on.
    pub certificate: Vec<u8>,
    /// The certificate's private key.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Options {
    /// A gateway that is reached by this address, without TLS.
    pub fn plain(address: SocketAddr) -> Self {
        Self { advertised: (address.ip().to_string(), address.port()), tls: None }
    }
}

/// Why a gateway cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Something is wrong with the certificate, or with the socket.
    #[error("the gateway cannot serve")]
    Transport(#[from] tonic::transport::Error),
}

/// KurrentDB's protocol over an event store.
pub struct Gateway {
    core: Arc<Core>,
    tls: Option<Tls>,
    /// Ends what follows the log, and all subscriptions, once nobody serves any more.
    end: DropGuard,
}

impl Gateway {
    /// A gateway to a store. Must be called within a runtime: it follows the log from here on.
    pub fn new(store: SharedStore, authority: Arc<dyn Authority>, options: Options) -> Self {
        let end = CancellationToken::new();
        let lifecycles = Lifecycles::begin(Arc::clone(&store), end.clone());
        let core = Core {
            writer: Writer { store: Arc::clone(&store), lifecycles, meter: Meter::new() },
            store,
            authority,
            end: end.clone(),
            instance: Uuid::now_v7(),
            advertised: options.advertised,
        };
        Self { core: Arc::new(core), tls: options.tls, end: end.drop_guard() }
    }

    /// The services, to be put beside others. They work as long as the gateway is kept; once it is dropped,
    /// subscriptions end.
    pub fn routes(&self) -> Routes {
        let service = Service(Arc::clone(&self.core));
        let streams = StreamsServer::new(service.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES);
        Routes::new(streams)
            .add_service(ServerFeaturesServer::new(service.clone()))
            .add_service(GossipServer::new(service))
    }

    /// Serves the connections of a listener until `shutdown` ends. Subscriptions are ended then, and other calls are
    /// given a moment.
    ///
    /// # Errors
    /// [`ServeError`] where it cannot begin or go on.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send,
    ) -> Result<(), ServeError> {
        let mut server = Server::builder()
            .initial_stream_window_size(WINDOWS.0)
            .initial_connection_window_size(WINDOWS.1)
            .max_concurrent_streams(MAX_CALLS)
            .max_frame_size(Some(MAX_FRAME_BYTES))
            .http2_keepalive_interval(Some(KEEP_ALIVE.0))
            .http2_keepalive_timeout(Some(KEEP_ALIVE.1));
        if let Some(tls) = &self.tls {
            // Where more than one provider is compiled in, the library does not choose. Whoever chose before has chosen.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let identity = Identity::from_pem(&tls.certificate, &tls.key);
            server = server.tls_config(ServerTlsConfig::new().identity(identity))?;
        }
        let routes = self.routes();
        let ended = self.core.end.clone();
        let token = ended.clone();
        let end = self.end;
        let stopping = async move {
            shutdown.await;
            drop(end);
        };
        let incoming = incoming(listener, MAX_CONNECTIONS);
        let serving = server.add_routes(routes).serve_with_incoming_shutdown(incoming, stopping);
        let overdue = async {
            token.cancelled().await;
            tokio::time::sleep(GRACE).await;
        };
        tokio::select! {
            served = serving => served.map_err(ServeError::from),
            () = overdue => Ok(()),
        }
    }
}
