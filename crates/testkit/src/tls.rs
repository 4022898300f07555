//! Certificates made for a test, and a TLS client that tells which one it was shown.
//!
//! Must not judge a certificate: a test compares what was presented with what it put there. That the server holds its
//! key is checked all the same, as every client does.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use time::{Duration, OffsetDateTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme, SupportedProtocolVersion, version,
};

use crate::http::within_limit;

/// A self-signed certificate and its key.
#[derive(Debug)]
pub struct Pair {
    /// The certificate as PEM.
    pub certificate: String,
    /// Its key as PEM.
    pub key: String,
    /// The certificate as it is presented.
    pub der: Vec<u8>,
}

impl Pair {
    /// For these names, valid since yesterday for so many days; negative ones make an expired certificate.
    ///
    /// # Panics
    /// When there can be no certificate for such names.
    #[must_use]
    pub fn new(names: &[&str], days: i64) -> Self {
        let now = OffsetDateTime::now_utc();
        Self::lasting(names, now - Duration::days(1 + days.abs()), now + Duration::days(days))
    }

    /// For these names and this time.
    ///
    /// # Panics
    /// As [`Self::new`].
    #[must_use]
    pub fn lasting(names: &[&str], from: OffsetDateTime, to: OffsetDateTime) -> Self {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).expect("they are names");
        (params.not_before, params.not_after) = (from, to);
        let key = rcgen::KeyPair::generate().expect("ring makes keys");
        let certificate = params.self_signed(&key).expect("the key is whole");
        Self { certificate: certificate.pem(), key: key.serialize_pem(), der: certificate.der().to_vec() }
    }

    /// Writes `NAME.pem` and `NAME.key`, each replaced as a whole, the key last.
    ///
    /// # Panics
    /// When they cannot be written.
    pub fn put(&self, folder: &Path, name: &str) {
        put(&folder.join(format!("{name}.pem")), &self.certificate);
        put(&folder.join(format!("{name}.key")), &self.key);
    }
}

/// Replaces a file as a whole; one with a key is only for its owner.
///
/// # Panics
/// When it cannot be written.
pub fn put(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let part = path.with_extension("part");
    fs::write(&part, text).expect("the folder is ours");
    fs::set_permissions(&part, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    fs::rename(part, path).expect("the folder is ours");
}

/// How a client greets.
#[derive(Debug, Clone, Copy)]
pub struct Hello<'a> {
    /// The name it asks for.
    pub name: Option<&'a str>,
    /// The protocols it offers.
    pub alpn: &'a [&'a str],
    /// TLS 1.2 only, instead of whatever both speak.
    pub tls12: bool,
}

impl<'a> Hello<'a> {
    /// Asks for a name and offers HTTP/2 and HTTP/1.1, as browsers do.
    #[must_use]
    pub fn to(name: &'a str) -> Self {
        Self { name: Some(name), alpn: &["h2", "http/1.1"], tls12: false }
    }
}

/// Connects.
///
/// # Errors
/// When the server does not take the connection or refuses the handshake.
pub async fn connect(server: SocketAddr, hello: Hello<'_>) -> anyhow::Result<TlsStream<TcpStream>> {
    let provider = Arc::new(ring::default_provider());
    let versions: &[&SupportedProtocolVersion] =
        if hello.tls12 { &[&version::TLS12] } else { &[&version::TLS12, &version::TLS13] };
    let mut config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    config.alpn_protocols = hello.alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
    config.enable_sni = hello.name.is_some();
    let name = ServerName::try_from(hello.name.unwrap_or("unnamed.test").to_owned())?;
    within_limit(async {
        let stream = TcpStream::connect(server).await?;
        stream.set_nodelay(true)?;
        Ok(TlsConnector::from(Arc::new(config)).connect(name, stream).await?)
    })
    .await
}

/// The certificate that a client of this name is shown.
///
/// # Errors
/// As [`connect`].
pub async fn presented(server: SocketAddr, hello: Hello<'_>) -> anyhow::Result<Vec<u8>> {
    let stream = connect(server, hello).await?;
    let chain = stream.get_ref().1.peer_certificates().context("the server presented nothing")?;
    Ok(chain.first().context("an empty chain")?.to_vec())
}

#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
