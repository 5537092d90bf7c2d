//! TLS between devices: both sides show a certificate made of their ed25519 key, and nothing of it counts but that key,
//! which the handshake proves. There is no authority, no name and no date to trust.

use std::sync::Arc;

use libp2p::Multiaddr;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, ServerConfig};
use rustls::version::TLS13;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, PeerIncompatible, PeerMisbehaved, SignatureScheme,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::GrpcError;
use crate::PeerKey;
use crate::network::DialFailure;

/// What stands before the 32 bytes of an ed25519 seed in PKCS #8 (RFC 8410, section 7).
const SECRET_PREFIX: [u8; 16] =
    [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];

/// What stands before the 32 bytes of an ed25519 public key in a certificate (RFC 8410, section 4).
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// HTTP/2, the only protocol spoken inside.
const ALPN: &[u8] = b"h2";

/// The name that a certificate is for. TLS wants one; nobody looks at it.
const NAME: &str = "cairn.invalid";

/// What this device shows of itself.
#[derive(Clone)]
pub(super) struct Identity {
    key: PeerKey,
    provider: Arc<CryptoProvider>,
    certificate: CertificateDer<'static>,
    secret: Arc<PrivateKeyDer<'static>>,
    server: Arc<ServerConfig>,
}

impl Identity {
    /// The device with the ed25519 secret key `secret` (the seed of RFC 8032).
    pub(super) fn new(secret: [u8; 32]) -> Result<Self, GrpcError> {
        let encoded = PrivatePkcs8KeyDer::from([&SECRET_PREFIX[..], &secret].concat());
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&encoded, &PKCS_ED25519)?;
        let key = <[u8; 32]>::try_from(pair.public_key_raw()).expect("an ed25519 public key has 32 bytes");
        let certificate = CertificateParams::new([NAME.to_owned()])?.self_signed(&pair)?.der().clone();
        let secret = PrivateKeyDer::from(encoded);
        let provider = Arc::new(ring::default_provider());
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(Verifier::new(&provider, None)))
            .with_single_cert(vec![certificate.clone()], secret.clone_key())?;
        server.alpn_protocols = vec![ALPN.to_vec()];
        // Every connection proves both keys anew.
        server.session_storage = Arc::new(NoServerSessionStorage {});
        server.send_tls13_tickets = 0;
        let (secret, server) = (Arc::new(secret), Arc::new(server));
        Ok(Self { key: PeerKey::from_bytes(key), provider, certificate, secret, server })
    }

    pub(super) fn key(&self) -> PeerKey {
        self.key
    }

    /// Takes connections from every device with an ed25519 key. Whether it may stay is decided afterwards.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.server))
    }

    /// Connects to this device and no other.
    pub(super) fn connector(&self, peer: PeerKey) -> Result<TlsConnector, rustls::Error> {
        let mut client = ClientConfig::builder_with_provider(Arc::clone(&self.provider))
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Verifier::new(&self.provider, Some(peer))))
            .with_client_auth_cert(vec![self.certificate.clone()], self.secret.clone_key())?;
        client.alpn_protocols = vec![ALPN.to_vec()];
        client.enable_sni = false;
        client.resumption = Resumption::disabled();
        Ok(TlsConnector::from(Arc::new(client)))
    }

    pub(super) fn server_name() -> ServerName<'static> {
        ServerName::try_from(NAME).expect("a constant name")
    }
}

/// The key that a handshake has proven; `None` if it has proven none, which the verifier does not let happen.
pub(super) fn proven_key(certificates: Option<&[CertificateDer<'_>]>) -> Option<PeerKey> {
    certificates?.first().and_then(|certificate| key_of(certificate).ok())
}

/// Why no connection came of a handshake with whoever answers at `address`.
pub(super) fn failure(error: &std::io::Error, address: &Multiaddr) -> Option<DialFailure> {
    let error = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let other_key = rustls::Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure);
    (*error == other_key).then(|| DialFailure::WrongPeer(address.clone()))
}

fn key_of(certificate: &CertificateDer<'_>) -> Result<PeerKey, rustls::Error> {
    let info = ParsedCertificate::try_from(certificate)?.subject_public_key_info();
    let key = info.strip_prefix(&PUBLIC_PREFIX[..]).and_then(|key| <[u8; 32]>::try_from(key).ok());
    key.map(PeerKey::from_bytes).ok_or(rustls::Error::InvalidCertificate(CertificateError::BadEncoding))
}

/// Verifies both sides alike.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// The one key that is right, if it is known beforehand.
    pinned: Option<PeerKey>,
}

impl Verifier {
    fn new(provider: &Arc<CryptoProvider>, pinned: Option<PeerKey>) -> Self {
        Self { provider: Arc::clone(provider), pinned }
    }

    fn check(&self, certificate: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), rustls::Error> {
        if !others.is_empty() {
            return Err(CertificateError::UnknownIssuer.into());
        }
        let key = key_of(certificate)?;
        match self.pinned {
            Some(pinned) if pinned != key => Err(CertificateError::ApplicationVerificationFailure.into()),
            _ => Ok(()),
        }
    }

    fn check_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        key_of(certificate)?;
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    /// TLS 1.2 is not offered.
    fn refuse_tls12() -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(PeerIncompatible::Tls12NotOffered.into())
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.check(certificate, others).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.check(certificate, others).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Self::refuse_tls12()
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

#[cfg(test)]
mod tests {
    use libp2p::identity::Keypair;

    use super::*;

    #[test]
    fn a_certificate_names_the_key_that_libp2p_knows_the_device_by() {
        for seed in 0..32 {
            let identity = Identity::new([seed; 32]).expect("any 32 bytes are a secret key");
            let pair = Keypair::ed25519_from_bytes([seed; 32]).expect("any 32 bytes are a secret key");
            assert_eq!(identity.key().peer_id(), pair.public().to_peer_id());
            assert_eq!(key_of(&identity.certificate), Ok(identity.key()));
        }
    }

    #[test]
    fn a_certificate_of_another_kind_of_key_names_none() {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a key can be made");
        let params = CertificateParams::new([NAME.to_owned()]).expect("a name");
        let certificate = params.self_signed(&pair).expect("it can be signed").der().clone();
        assert!(key_of(&certificate).is_err());
        assert!(key_of(&CertificateDer::from(vec![0x30, 0])).is_err());
    }
}
