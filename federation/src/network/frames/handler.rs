//! One connection's part in [`super::Behaviour`]: it negotiates the substream and hands it over. Frames are read and
//! written by a session, in a task of its own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use libp2p::StreamProtocol;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{ConnectionEvent, ProtocolsChange};
use libp2p::swarm::{ConnectionHandler, ConnectionHandlerEvent, Stream, SubstreamProtocol};

/// The protocol of the substream that carries frames.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/cairn/sync/1");

pub(crate) struct Handler {
    serves: bool,
    wants_stream: bool,
    pending: VecDeque<Out>,
}

/// What the behaviour asks of a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) enum In {
    /// Whether a substream of the remote is taken from now on.
    Serve(bool),
    /// Open a substream.
    Open,
}

/// What a connection reports.
#[derive(Debug)]
pub(crate) enum Out {
    /// A substream is open that this side asked for.
    Opened(Stream),
    /// A substream is open that the remote asked for.
    Asked(Stream),
    /// The remote does not speak the protocol, or did not answer.
    Declined,
    /// The remote speaks the protocol after all.
    Offered,
}

/// The protocol, if it is spoken, with nothing to be exchanged before the first frame.
pub(crate) struct Upgrade(Option<StreamProtocol>);

impl Handler {
    pub(super) fn new(serves: bool) -> Self {
        Self { serves, wants_stream: false, pending: VecDeque::new() }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = In;
    type ToBehaviour = Out;
    type InboundProtocol = Upgrade;
    type OutboundProtocol = Upgrade;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
        SubstreamProtocol::new(Upgrade(self.serves.then_some(PROTOCOL)), ())
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Upgrade, (), Out>> {
        // No waker is kept: whatever changes this state is followed by another poll of the connection.
        if let Some(out) = self.pending.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(out));
        }
        if std::mem::take(&mut self.wants_stream) {
            let protocol = SubstreamProtocol::new(Upgrade(Some(PROTOCOL)), ());
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, event: In) {
        match event {
            In::Serve(serves) => self.serves = serves,
            In::Open => self.wants_stream = true,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Upgrade, Upgrade>) {
        let out = match event {
            ConnectionEvent::FullyNegotiatedInbound(inbound) => Out::Asked(inbound.protocol),
            ConnectionEvent::FullyNegotiatedOutbound(outbound) => Out::Opened(outbound.protocol),
            ConnectionEvent::DialUpgradeError(failed) => {
                tracing::debug!(error = %failed.error, "no substream for frames");
                Out::Declined
            }
            ConnectionEvent::RemoteProtocolsChange(ProtocolsChange::Added(mut added)) => {
                if !added.any(|protocol| *protocol == PROTOCOL) {
                    return;
                }
                Out::Offered
            }
            // Addresses, and what this node speaks; libp2p may add more at any time.
            _ => return,
        };
        self.pending.push_back(out);
    }
}

impl UpgradeInfo for Upgrade {
    type Info = StreamProtocol;
    type InfoIter = std::option::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Upgrade {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl OutboundUpgrade<Stream> for Upgrade {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Stream, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}
