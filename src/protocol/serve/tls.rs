//! Mutual TLS with exactly one client: the one whose certificate core put into our environment.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::connection::Io;

/// Our certificate, and whom we talk to.
pub(super) struct Tls {
    acceptor: TlsAcceptor,
    certificate: Vec<u8>,
}

impl Tls {
    /// Makes a key and a certificate that live as long as the process, for the client with this certificate alone.
    pub(super) fn pinned_to(client_pem: &str) -> io::Result<Self> {
        let client = CertificateDer::from_pem_slice(client_pem.as_bytes())
            .map_err(|_| io::Error::other("PLUGIN_CLIENT_CERT holds no certificate"))?;
        // P-256: an RSA key would cost 80 ms at every start.
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(io::Error::other)?;
        // go-plugin expects this name and nothing else.
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).map_err(io::Error::other)?;
        let certificate = params.self_signed(&key).map_err(io::Error::other)?.der().to_vec();
        let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(io::Error::other)?;

        let crypto = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(OneClient { certificate: client, crypto: crypto.clone() });
        let mut config = rustls::ServerConfig::builder_with_provider(crypto)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(vec![CertificateDer::from(certificate.clone())], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), certificate })
    }

    /// Our certificate, as DER.
    pub(super) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub(super) async fn accept(&self, io: Box<dyn Io>) -> io::Result<TlsStream<Box<dyn Io>>> {
        self.acceptor.accept(io).await
    }
}

/// Accepts one certificate, byte for byte.
///
/// The usual verification against a root cannot be used: go-plugin's client certificate is its own authority, which
/// rustls refuses as the certificate of an end entity (`plugin-protocol.md` §7).
#[derive(Debug)]
struct OneClient {
    certificate: CertificateDer<'static>,
    crypto: Arc<CryptoProvider>,
}

impl ClientCertVerifier for OneClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        presented: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if *presented == self.certificate {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.crypto.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.crypto.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.crypto.signature_verification_algorithms.supported_schemes()
    }
}
