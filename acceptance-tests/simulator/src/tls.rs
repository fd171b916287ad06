//! One certificate authority per cluster and a leaf per node, made anew at every start.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

use crate::util::fingerprint;
use crate::{Result, SimulatorError};

/// A cluster's own CA (`/etc/pve/pve-root-ca.pem`).
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A node's certificate (`/etc/pve/local/pve-ssl.pem`).
pub(crate) struct Leaf {
    pub(crate) pem: String,
    pub(crate) fingerprint: String,
    pub(crate) config: Arc<ServerConfig>,
}

impl Authority {
    pub(crate) fn new(cluster: &str) -> Result<Self> {
        let mut params = CertificateParams::new(Vec::<String>::new()).map_err(tls)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.distinguished_name.push(DnType::CommonName, format!("Proxmox Virtual Environment {cluster}"));
        params.distinguished_name.push(DnType::OrganizationName, "PVE Cluster Manager CA");
        let key = KeyPair::generate().map_err(tls)?;
        Ok(Authority { issuer: CertifiedIssuer::self_signed(params, key).map_err(tls)? })
    }

    pub(crate) fn pem(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn fingerprint(&self) -> String {
        fingerprint(self.issuer.der())
    }

    pub(crate) fn leaf(&self, node: &str) -> Result<Leaf> {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned(), node.to_owned()];
        let mut params = CertificateParams::new(names).map_err(tls)?;
        params.distinguished_name.push(DnType::CommonName, node);
        let key = KeyPair::generate().map_err(tls)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(tls)?;
        let der: CertificateDer<'static> = certificate.der().clone();
        let fingerprint = fingerprint(&der);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(tls)?
            .with_no_client_auth()
            .with_single_cert(vec![der], PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der())))
            .map_err(tls)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Leaf { pem: certificate.pem(), fingerprint, config: Arc::new(config) })
    }
}

fn tls(error: impl std::fmt::Display) -> SimulatorError {
    SimulatorError(format!("certificates: {error}"))
}
