//! Owns which server certificates are believed, and what is said of one that is not.

use std::{error::Error as StdError, fmt, io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, OtherError, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

use crate::{Fingerprint, TlsTrust};

/// A server certificate that was not believed. PVE renews certificates by itself, so both prints are named
/// (`proxmox-ve.md` §13 A6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFailure {
    /// The fingerprint of the certificate the server presented.
    pub presented: Fingerprint,
    /// The pinned fingerprints; empty if trust is by CA.
    pub expected: Vec<Fingerprint>,
    /// Why it was not believed.
    pub reason: String,
}

impl fmt::Display for TlsFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the server presented the certificate with fingerprint {}", self.reason, self.presented)?;
        match self.expected.as_slice() {
            [] => Ok(()),
            [one] => write!(f, ", expected was {one}"),
            several => {
                f.write_str(", expected was one of")?;
                several.iter().try_for_each(|print| write!(f, " {print}"))
            }
        }
    }
}

impl StdError for TlsFailure {}

/// The TLS side of a client, from what the user trusts.
///
/// # Errors
/// A text: a CA file without certificate, an empty list of pins, no trust store on this system.
pub(crate) fn client_config(trust: &TlsTrust) -> Result<ClientConfig, String> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Verifier { check: check(trust, &provider)?, algorithms: provider.signature_verification_algorithms };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("TLS cannot be set up: {e}"))?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

fn check(trust: &TlsTrust, provider: &Arc<CryptoProvider>) -> Result<Check, String> {
    match trust {
        TlsTrust::System => rustls_platform_verifier::Verifier::new(provider.clone())
            .map(|verifier| Check::Chain(Arc::new(verifier), "not trusted by this system"))
            .map_err(|e| format!("the system's trusted certificates cannot be used: {e}")),
        TlsTrust::Ca(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|e| format!("the CA file is not valid PEM: {e}"))?;
                roots.add(certificate).map_err(|e| format!("the CA file holds an unusable certificate: {e}"))?;
            }
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone())
                .build()
                .map(|verifier| Check::Chain(verifier, "not signed by the configured CA for this name"))
                .map_err(|_| "the CA file holds no certificate".to_owned())
        }
        TlsTrust::Fingerprints(pins) if pins.is_empty() => Err("the list of fingerprints is empty".to_owned()),
        TlsTrust::Fingerprints(pins) => Ok(Check::Pins(pins.clone())),
        TlsTrust::Insecure => Ok(Check::Anything),
    }
}

/// How a certificate is judged. Signatures of the handshake are always checked by the provider's algorithms.
#[derive(Debug)]
enum Check {
    Pins(Vec<Fingerprint>),
    Chain(Arc<dyn ServerCertVerifier>, &'static str),
    Anything,
}

#[derive(Debug)]
struct Verifier {
    check: Check,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let presented = Fingerprint::of_der(end_entity);
        let refuse = |expected: &[Fingerprint], reason: String| {
            let failure = TlsFailure { presented, expected: expected.to_vec(), reason };
            Err(TlsError::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(failure)))))
        };
        match &self.check {
            Check::Anything => Ok(ServerCertVerified::assertion()),
            Check::Pins(pins) if pins.contains(&presented) => Ok(ServerCertVerified::assertion()),
            Check::Pins(pins) => refuse(pins, "the certificate is not one of the pinned".to_owned()),
            Check::Chain(chain, what) => chain
                .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
                .or_else(|why| refuse(&[], format!("the certificate is {what} ({why})"))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The refused certificate behind a connection error, if that is what it was.
pub(crate) fn find_failure(error: &(dyn StdError + 'static)) -> Option<TlsFailure> {
    let mut next = Some(error);
    while let Some(current) = next {
        if let Some(TlsError::InvalidCertificate(CertificateError::Other(other))) = current.downcast_ref() {
            return other.0.downcast_ref::<TlsFailure>().cloned();
        }
        // The source of an io::Error is that of the error inside it, so the inner one has to be asked for.
        next = match current.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => current.source(),
        };
    }
    None
}
