//! One connection's part in [`super::FriendsOnly`]: it offers the protocol while the connection is served.

use std::iter::Flatten;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use libp2p::core::upgrade::{InboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend, ListenUpgradeError, UpgradeInfoSend,
};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, SubstreamProtocol};

pub(crate) struct Handler<H> {
    inner: H,
    served: Arc<AtomicBool>,
}

/// The protocols of another upgrade, if they are offered.
pub(crate) struct Offered<U>(Option<U>);

impl<H> Handler<H> {
    pub(super) fn new(inner: H, served: Arc<AtomicBool>) -> Self {
        Self { inner, served }
    }
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = H::FromBehaviour;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = Offered<H::InboundProtocol>;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        let served = self.served.load(Ordering::Relaxed);
        self.inner.listen_protocol().map_upgrade(|upgrade| Offered(served.then_some(upgrade)))
    }

    fn connection_keep_alive(&self) -> bool {
        self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<H::OutboundProtocol, H::OutboundOpenInfo, H::ToBehaviour>> {
        self.inner.poll(cx)
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<H::ToBehaviour>> {
        self.inner.poll_close(cx)
    }

    fn on_behaviour_event(&mut self, event: H::FromBehaviour) {
        self.inner.on_behaviour_event(event);
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            H::OutboundProtocol,
            H::InboundOpenInfo,
            H::OutboundOpenInfo,
        >,
    ) {
        let event = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info }) => {
                ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol, info })
            }
            ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error }) => {
                ConnectionEvent::ListenUpgradeError(ListenUpgradeError { info, error })
            }
            ConnectionEvent::FullyNegotiatedOutbound(made) => ConnectionEvent::FullyNegotiatedOutbound(made),
            ConnectionEvent::DialUpgradeError(failed) => ConnectionEvent::DialUpgradeError(failed),
            ConnectionEvent::AddressChange(change) => ConnectionEvent::AddressChange(change),
            ConnectionEvent::LocalProtocolsChange(change) => ConnectionEvent::LocalProtocolsChange(change),
            ConnectionEvent::RemoteProtocolsChange(change) => ConnectionEvent::RemoteProtocolsChange(change),
            // libp2p may add more at any time.
            _ => return,
        };
        self.inner.on_connection_event(event);
    }
}

impl<U: UpgradeInfoSend> UpgradeInfo for Offered<U> {
    type Info = U::Info;
    type InfoIter = Flatten<std::option::IntoIter<U::InfoIter>>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.as_ref().map(U::protocol_info).into_iter().flatten()
    }
}

impl<U: InboundUpgradeSend> InboundUpgrade<Stream> for Offered<U> {
    type Output = U::Output;
    type Error = U::Error;
    type Future = U::Future;

    fn upgrade_inbound(self, stream: Stream, info: U::Info) -> U::Future {
        let Self(upgrade) = self;
        upgrade.expect("what is not offered is not agreed on").upgrade_inbound(stream, info)
    }
}
