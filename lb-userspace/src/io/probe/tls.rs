//! TLS of HTTPS checks. Alerts that go by HTTPS share its settings.
//!
//! Certificates are not verified unless that is asked for: a probe asks whether the server answers, and one that went out
//! of service because its certificate ran out would help nobody. Where they are, the host's own trust store decides, read
//! once per run of the daemon.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::Resumption;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{Deadline, LOCAL, tcp};
use crate::config::model::TlsProbe;

/// Shakes hands. Without a server name none is sent, and a certificate that is verified must be for the address.
pub(super) async fn connect(
    stream: TcpStream,
    tls: &TlsProbe,
    to: SocketAddr,
    deadline: Deadline,
) -> Result<TlsStream<TcpStream>, String> {
    let name = match &tls.server_name {
        Some(name) => ServerName::try_from(name.clone()).map_err(|e| format!("{LOCAL}server name {name:?}: {e}"))?,
        None => ServerName::IpAddress(to.ip().into()),
    };
    let connector = TlsConnector::from(config(tls.verify)?);
    let shaken = deadline.within("TLS handshake", connector.connect(name, stream)).await?;
    shaken.map_err(|error| match error.get_ref().and_then(|e| e.downcast_ref::<Error>()) {
        Some(error) => format!("TLS: {error}"),
        None => format!("TLS: {}", tcp::words(&error)),
    })
}

/// Settings of a client that verifies certificates by the host's trust store, or none.
pub(crate) fn config(verify: bool) -> Result<Arc<ClientConfig>, String> {
    static VERIFYING: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    static ACCEPTING: OnceLock<Result<Arc<ClientConfig>, String>> = OnceLock::new();
    let cell = if verify { &VERIFYING } else { &ACCEPTING };
    cell.get_or_init(|| build(verify).map(Arc::new)).clone()
}

fn build(verify: bool) -> Result<ClientConfig, String> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("{LOCAL}TLS cannot be used: {e}"))?;
    let mut config = if verify {
        let mut roots = RootCertStore::empty();
        // Certificates that cannot be parsed are left out, as every TLS client does with an old one in the bundle.
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(format!("{LOCAL}no trusted certificates on this host; install ca-certificates"));
        }
        builder.with_root_certificates(roots).with_no_client_auth()
    } else {
        let verifier = Arc::new(AcceptAll(provider));
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    };
    // Each check is a whole handshake, by which the server shows that it can.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// Accepts every certificate and every signature by one: nothing secret is sent, and nothing is believed but the answer.
#[derive(Debug)]
struct AcceptAll(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
