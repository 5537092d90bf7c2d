//! The networks of a node: libp2p, and gRPC for those that reach each other plainly.

use anyhow::{Context, Result, ensure};
use cairn_federation::{
    GrpcConfig, GrpcNetwork, Multiaddr, Network, NetworkConfig, NetworkEvents, Outgoing, PeerKey, Relaying,
    Strangers, grpc,
};
use cairn_sync::key::DeviceKey;
use tokio::sync::watch;
use tracing::{debug, warn};

use super::ways::Way;
use crate::config::FederationConfig;

/// Handles of the networks; clones are the same networks.
#[derive(Clone)]
pub(super) struct Networks {
    libp2p: Option<Network>,
    grpc: GrpcNetwork,
}

/// What happens on them.
pub(super) struct Events {
    pub(super) libp2p: Option<NetworkEvents>,
    pub(super) grpc: NetworkEvents,
}

impl Networks {
    /// Starts them. Whom they know beforehand is let in from the first moment on.
    ///
    /// # Errors
    /// When an address cannot be used.
    pub(super) async fn start(
        secret: [u8; 32],
        config: &FederationConfig,
        port: u16,
        known: &[DeviceKey],
    ) -> Result<(Self, Events)> {
        let announced = config.announce.iter().map(parse).collect::<Result<Vec<_>>>()?;
        let friends: Vec<PeerKey> = known.iter().map(|device| key(*device)).collect();
        let strangers = Strangers::default();
        let listening = GrpcConfig {
            listen: config.grpc_listen.clone(),
            friends: friends.clone(),
            strangers: strangers.clone(),
        };
        let (grpc, of_grpc) = GrpcNetwork::start(secret, listening)
            .context("other brains cannot be listened for over gRPC; see grpc_listen of [federation]")?;
        let (libp2p, of_libp2p) = libp2p(secret, config, port, (friends, strangers))?.unzip();
        let (over_grpc, others): (Vec<_>, Vec<_>) = announced.into_iter().partition(grpc::speaks);
        let unknown = config.grpc_listen.iter().any(|at| at.ip().is_unspecified()) && over_grpc.is_empty();
        if unknown {
            warn!("others are not told where gRPC is answered: say so with announce of [federation]");
        }
        for address in over_grpc {
            grpc.announce(address).await;
        }
        for address in others {
            let libp2p =
                libp2p.as_ref().with_context(|| format!("`{address}` is announced, and libp2p is off"))?;
            libp2p.announce(address).await;
        }
        Ok((Self { libp2p, grpc }, Events { libp2p: of_libp2p, grpc: of_grpc }))
    }

    /// The ways to a device that is found at these addresses, with those of each. What no network speaks is left out.
    pub(super) fn ways(&self, addresses: &[String]) -> Vec<(Way, Vec<Multiaddr>)> {
        let parsed = addresses.iter().filter_map(|address| address.parse::<Multiaddr>().ok());
        let (over_grpc, others): (Vec<_>, Vec<_>) = parsed.partition(grpc::speaks);
        let others = if self.libp2p.is_some() { others } else { Vec::new() };
        [(Way::Libp2p, others), (Way::Grpc, over_grpc)].into_iter().filter(|(_, at)| !at.is_empty()).collect()
    }

    pub(super) async fn dial(&self, way: Way, device: DeviceKey, addresses: Vec<Multiaddr>) {
        match (way, &self.libp2p) {
            (Way::Libp2p, Some(libp2p)) => libp2p.dial(key(device), addresses).await,
            (Way::Libp2p, None) => {}
            (Way::Grpc, _) => self.grpc.dial(key(device), addresses).await,
        }
    }

    pub(super) async fn disconnect(&self, way: Way, device: DeviceKey) {
        match (way, &self.libp2p) {
            (Way::Libp2p, Some(libp2p)) => libp2p.disconnect(key(device)).await,
            (Way::Libp2p, None) => {}
            (Way::Grpc, _) => self.grpc.disconnect(key(device)).await,
        }
    }

    /// The way to a device, as long as the connection lasts of which was heard last.
    pub(super) fn outgoing(&self, way: Way, device: DeviceKey) -> Option<Outgoing> {
        match (way, &self.libp2p) {
            (Way::Libp2p, libp2p) => libp2p.as_ref()?.outgoing(key(device)),
            (Way::Grpc, _) => self.grpc.outgoing(key(device)),
        }
    }

    pub(super) async fn allow(&self, device: DeviceKey) {
        if let Some(libp2p) = &self.libp2p {
            libp2p.allow(key(device)).await;
        }
        self.grpc.allow(key(device)).await;
    }

    pub(super) async fn block(&self, device: DeviceKey) {
        if let Some(libp2p) = &self.libp2p {
            libp2p.block(key(device)).await;
        }
        self.grpc.block(key(device)).await;
    }

    pub(super) async fn admit_strangers(&self, admit: bool) {
        if let Some(libp2p) = &self.libp2p {
            libp2p.admit_strangers(admit).await;
        }
        self.grpc.admit_strangers(admit).await;
    }

    /// Where others can connect, by network.
    pub(super) fn addresses(&self) -> Vec<watch::Receiver<Vec<Multiaddr>>> {
        // Those of gRPC first: they are few, and an invitation has room for some only.
        let libp2p = self.libp2p.iter().map(|libp2p| libp2p.addresses());
        std::iter::once(self.grpc.addresses()).chain(libp2p).collect()
    }

    /// What is relayed, if there is a network that relays.
    pub(super) fn relaying(&self) -> Option<watch::Receiver<Relaying>> {
        self.libp2p.as_ref().map(Network::relaying)
    }

    pub(super) async fn shutdown(&self) {
        let libp2p = async {
            if let Some(libp2p) = &self.libp2p {
                libp2p.shutdown().await;
            }
        };
        tokio::join!(libp2p, self.grpc.shutdown());
    }
}

fn libp2p(
    secret: [u8; 32],
    config: &FederationConfig,
    port: u16,
    (friends, strangers): (Vec<PeerKey>, Strangers),
) -> Result<Option<(Network, NetworkEvents)>> {
    let listen: Vec<Multiaddr> = config.listen.iter().map(parse).collect::<Result<_>>()?;
    if !config.libp2p {
        let unused = listen.is_empty() && config.relays.is_empty() && !config.mdns && !config.relay;
        ensure!(unused, "listen, mdns, relays and relay of [federation] need libp2p, which is off");
        return Ok(None);
    }
    let relays = config.relays.iter().map(parse).collect::<Result<_>>()?;
    let own = |port: u16| NetworkConfig {
        listen: if listen.is_empty() { loopback(port) } else { listen.clone() },
        mdns: config.mdns,
        relay_server: config.relay,
        relays,
        friends,
        strangers,
    };
    let chosen = own(port.checked_add(1).unwrap_or(0));
    match Network::start(secret, chosen.clone()) {
        Ok(started) => Ok(Some(started)),
        // Somebody else has that port; others find this brain where it says it is.
        Err(error) if listen.is_empty() => {
            debug!(%error, "another port is taken for other brains");
            Ok(Some(Network::start(secret, NetworkConfig { listen: loopback(0), ..chosen })?))
        }
        Err(error) => {
            Err(error).context("other brains cannot be listened for; see [federation] in the configuration")
        }
    }
}

/// On this machine alone, unless told otherwise.
fn loopback(port: u16) -> Vec<Multiaddr> {
    let addresses = [format!("/ip4/127.0.0.1/udp/{port}/quic-v1"), format!("/ip4/127.0.0.1/tcp/{port}")];
    addresses.iter().map(|address| address.parse().expect("it is well formed")).collect()
}

fn parse(text: &String) -> Result<Multiaddr> {
    text.parse().with_context(|| format!("`{text}` is no multiaddress"))
}

fn key(device: DeviceKey) -> PeerKey {
    PeerKey::from_bytes(*device.bytes())
}
