//! QUIC between two machines that know each other's keys: TLS 1.3 with raw public keys (RFC 7250), no certificates.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{Connection, Endpoint, IdleTimeout, TransportConfig, VarInt};
use rustls::client::AlwaysResolvesClientRawPublicKeys;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime};
use rustls::server::AlwaysResolvesServerRawPublicKeys;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible, SignatureScheme,
};

use crate::error::FollowError;
use crate::key::{Machine, MachineKey};
use crate::wire::ALPN;

/// How long one who says nothing is taken to be there.
const SILENCE: Duration = Duration::from_secs(6);
/// How often something is said, so that the other side knows.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How long a machine that is called gets to answer.
pub(crate) const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// The segments under way at once: enough for the disk of one side and the network to work side by side.
pub(crate) const SEGMENTS_UNDER_WAY: u32 = 4;
/// The bytes under way at once.
const WINDOW_BYTES: u32 = 32 * 1024 * 1024;

/// A socket that answers those who call.
pub(crate) fn listen(machine: &Machine, address: SocketAddr) -> Result<Endpoint, FollowError> {
    let verifier = Arc::new(AnyKey(algorithms()));
    let mut tls = rustls::ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(network)?
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(certified(machine)?)));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicServerConfig::try_from(tls).map_err(network)?;
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    // Who calls speaks on one stream and sends nothing else.
    config.transport_config(Arc::new(transport(1, 0)));
    Endpoint::server(config, address).map_err(network)
}

/// Calls a machine at the first of its addresses where it answers, as nobody else can.
pub(crate) async fn call(
    machine: &Machine,
    key: MachineKey,
    addresses: &[String],
) -> Result<(Endpoint, Connection), FollowError> {
    let mut last = FollowError::Network("no address is known".into());
    for address in addresses {
        match tokio::time::timeout(CONNECT_PATIENCE, call_at(machine, key, address)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => last = error,
            Err(_) => last = unreachable(address, "it does not answer"),
        }
    }
    Err(last)
}

async fn call_at(
    machine: &Machine,
    key: MachineKey,
    address: &str,
) -> Result<(Endpoint, Connection), FollowError> {
    let mut found = tokio::net::lookup_host(address).await.map_err(|error| unreachable(address, error))?;
    let found = found.next().ok_or_else(|| unreachable(address, "no such host"))?;
    let verifier = Arc::new(Pinned { key, algorithms: algorithms() });
    let mut tls = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(network)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(certified(machine)?)));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).map_err(network)?;
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport(0, SEGMENTS_UNDER_WAY)));
    let own: SocketAddr = match found {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let endpoint = Endpoint::client(own).map_err(network)?;
    // The name is not looked at: the key is the name.
    let connecting = endpoint.connect_with(config, found, "cairn").map_err(network)?;
    let connection = connecting.await.map_err(|error| unreachable(address, error))?;
    Ok((endpoint, connection))
}

/// Whom a connection is with.
pub(crate) fn peer(connection: &Connection) -> Option<MachineKey> {
    let shown = connection.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    MachineKey::of_spki(shown.first()?)
}

fn transport(bidirectional: u32, unidirectional: u32) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(bidirectional.into())
        .max_concurrent_uni_streams(unidirectional.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(WINDOW_BYTES.into())
        .receive_window(WINDOW_BYTES.into())
        .send_window(u64::from(WINDOW_BYTES))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(SILENCE.as_millis() as u32))));
    transport
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn algorithms() -> WebPkiSupportedAlgorithms {
    provider().signature_verification_algorithms
}

fn certified(machine: &Machine) -> Result<Arc<CertifiedKey>, FollowError> {
    let key = PrivatePkcs8KeyDer::from(machine.pkcs8());
    let key = rustls::crypto::ring::sign::any_eddsa_type(&key).map_err(network)?;
    let public = key.public_key().ok_or_else(|| FollowError::Network("the key has no public half".into()))?;
    let shown = CertificateDer::from(public.to_vec());
    Ok(Arc::new(CertifiedKey::new(vec![shown], key)))
}

fn network(error: impl std::fmt::Display) -> FollowError {
    FollowError::Network(error.to_string())
}

fn unreachable(address: &str, error: impl std::fmt::Display) -> FollowError {
    FollowError::Unreachable { address: address.to_owned(), reason: error.to_string() }
}

/// Lets one key through.
#[derive(Debug)]
struct Pinned {
    key: MachineKey,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if MachineKey::of_spki(end_entity) == Some(self.key) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

/// Lets whoever proves to have a key through as far as the first message, which tells whether the key is known.
#[derive(Debug)]
struct AnyKey(WebPkiSupportedAlgorithms);

impl ClientCertVerifier for AnyKey {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        match MachineKey::of_spki(end_entity) {
            Some(_) => Ok(ClientCertVerified::assertion()),
            None => Err(Error::InvalidCertificate(CertificateError::BadEncoding)),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let key = SubjectPublicKeyInfoDer::from(cert.as_ref());
        verify_tls13_signature_with_raw_key(message, &key, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}
