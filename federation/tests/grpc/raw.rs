//! A peer whose every byte is decided by the test. It speaks gRPC by the code that is made of the .proto file, as any
//! other program would.

use std::sync::Arc;

use cairn_federation::PeerKey;
use cairn_proto::sync::Frame;
use cairn_proto::sync::link_client::LinkClient;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, ResolvesClientCert};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::body::Body;
use tonic::{Status, Streaming};

use super::node::{Node, in_time};

/// What a client shows and signs with, which need not belong together.
#[derive(Debug)]
pub struct Shown(pub Option<Arc<CertifiedKey>>);

impl Shown {
    pub fn nothing() -> Self {
        Self(None)
    }

    /// The certificate of one key, signed with another one if need be.
    pub fn certificate_of(pair: &KeyPair, signing: &KeyPair) -> Self {
        let params = CertificateParams::new(["anybody".to_owned()]).expect("a name");
        let certificate = params.self_signed(pair).expect("it can be signed").der().clone();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(signing.serialize_der()));
        let key = ring::sign::any_supported_type(&key).expect("a kind of key that can sign");
        Self(Some(Arc::new(CertifiedKey::new(vec![certificate], key))))
    }

    pub fn of(pair: &KeyPair) -> Self {
        Self::certificate_of(pair, pair)
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.0.clone()
    }

    fn has_certs(&self) -> bool {
        self.0.is_some()
    }
}

/// Takes whoever answers.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

pub fn ed25519() -> KeyPair {
    KeyPair::generate_for(&PKCS_ED25519).expect("a key can be made")
}

pub fn key_of(pair: &KeyPair) -> PeerKey {
    PeerKey::from_bytes(pair.public_key_raw().try_into().expect("an ed25519 key has 32 bytes"))
}

/// A key that leads, or does not, beside that of the node.
pub fn beside(node: &Node, leads: bool) -> KeyPair {
    std::iter::repeat_with(ed25519).find(|pair| (key_of(pair) < node.key()) == leads).expect("it is one of two")
}

/// A TLS connection to the node. In TLS 1.3 that says nothing of whether the node takes the certificate.
pub async fn tls(node: &Node, shown: Shown) -> TlsStream<TcpStream> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("a version that is there")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_client_cert_resolver(Arc::new(shown));
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(node.socket()).await.expect("the node listens");
    let name = ServerName::try_from("anybody").expect("a name");
    in_time(TlsConnector::from(Arc::new(config)).connect(name, stream)).await.expect("the node speaks TLS")
}

/// A way to send requests, and what ends when the node has closed the connection.
pub async fn http(node: &Node, pair: &KeyPair) -> (hyper::client::conn::http2::SendRequest<Body>, JoinHandle<()>) {
    let stream = TokioIo::new(tls(node, Shown::of(pair)).await);
    let (sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake(stream)
        .await
        .expect("nothing is waited for");
    let closed = tokio::spawn(async move {
        let _ = connection.await;
    });
    (sender, closed)
}

/// A call that the node took.
pub struct Call {
    pub frames: mpsc::Sender<Frame>,
    pub answers: Streaming<Frame>,
    pub closed: JoinHandle<()>,
}

pub async fn call(node: &Node, pair: &KeyPair) -> Result<Call, Status> {
    let (sender, closed) = http(node, pair).await;
    let service = tower::service_fn(move |request| {
        let mut sender = sender.clone();
        async move { sender.send_request(request).await }
    });
    let mut client = LinkClient::with_origin(service, http::Uri::from_static("https://anybody"));
    let (frames, queued) = mpsc::channel::<Frame>(1);
    let queued =
        futures::stream::unfold(queued, |mut queued| async { queued.recv().await.map(|frame| (frame, queued)) });
    let answers = in_time(client.frames(queued)).await?.into_inner();
    Ok(Call { frames, answers, closed })
}
