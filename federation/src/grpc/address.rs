//! Addresses of this transport: a host, a TCP port, `/tls/http`, and at will `/p2p/` with a peer id.

use std::net::{IpAddr, SocketAddr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::limits::DIALS_AT_ONCE;

/// Where a node can be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    host: Host,
    port: u16,
    /// Who is said to live there.
    pub(super) peer: Option<PeerId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Ip(IpAddr),
    /// A name, and which kind of address it is to be resolved to.
    Name(String, Family),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    Any,
    V4,
    V6,
}

/// How the address of a socket is written.
pub(super) fn of_socket(socket: SocketAddr) -> Multiaddr {
    let port = Protocol::Tcp(socket.port());
    Multiaddr::from(socket.ip()).with(port).with(Protocol::Tls).with(Protocol::Http)
}

impl Target {
    /// `None` if the address is of another transport.
    pub(super) fn parse(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let host = match parts.next()? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(ip.into()),
            Protocol::Dns(name) => Host::Name(name.into_owned(), Family::Any),
            Protocol::Dns4(name) => Host::Name(name.into_owned(), Family::V4),
            Protocol::Dns6(name) => Host::Name(name.into_owned(), Family::V6),
            _ => return None,
        };
        let Protocol::Tcp(port) = parts.next()? else { return None };
        let (Protocol::Tls, Protocol::Http) = (parts.next()?, parts.next()?) else { return None };
        let peer = match parts.next() {
            None => None,
            Some(Protocol::P2p(peer)) => Some(peer),
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self { host, port, peer })
    }

    /// The first few sockets that the host resolves to.
    pub(super) async fn resolve(&self) -> std::io::Result<Vec<SocketAddr>> {
        let (name, family) = match &self.host {
            Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, self.port)]),
            Host::Name(name, family) => (name, family),
        };
        let resolved = tokio::net::lookup_host((name.as_str(), self.port)).await?;
        let wanted = |socket: &SocketAddr| match family {
            Family::Any => true,
            Family::V4 => socket.is_ipv4(),
            Family::V6 => socket.is_ipv6(),
        };
        Ok(resolved.filter(wanted).take(DIALS_AT_ONCE).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(address: &str) -> Option<Target> {
        Target::parse(&address.parse().expect("a multiaddress"))
    }

    #[test]
    fn an_address_of_this_transport_is_told_from_others() {
        let peer = crate::PeerKey::from_bytes([7; 32]).peer_id();
        for host in ["/ip4/127.0.0.1", "/ip6/::1", "/dns/example.org", "/dns4/example.org", "/dns6/example.org"] {
            assert_eq!(parse(&format!("{host}/tcp/7413/tls/http")).map(|target| target.port), Some(7413));
            let named = parse(&format!("{host}/tcp/7413/tls/http/p2p/{peer}"));
            assert_eq!(named.and_then(|target| target.peer), Some(peer));
        }
        let others = [
            "/ip4/127.0.0.1/tcp/7413".to_owned(),
            "/ip4/127.0.0.1/tcp/7413/http".to_owned(),
            "/ip4/127.0.0.1/tcp/7413/tls".to_owned(),
            "/ip4/127.0.0.1/tcp/7413/tls/ws".to_owned(),
            "/ip4/127.0.0.1/udp/7413/quic-v1".to_owned(),
            "/ip4/127.0.0.1/tcp/7413/tls/http/tcp/1".to_owned(),
            format!("/ip4/127.0.0.1/tcp/7413/tls/http/p2p/{peer}/p2p-circuit"),
            "/memory/7".to_owned(),
        ];
        for other in others {
            assert_eq!(parse(&other), None, "{other}");
        }
        assert_eq!(Target::parse(&Multiaddr::empty()), None);
    }

    #[tokio::test]
    async fn an_address_names_the_socket_that_it_was_made_of() {
        for socket in ["127.0.0.1:7413", "[::1]:7413"] {
            let socket: SocketAddr = socket.parse().expect("a socket");
            let target = Target::parse(&of_socket(socket)).expect("an address of this transport");
            assert_eq!(target.resolve().await.expect("nothing to look up"), [socket]);
        }
    }
}
