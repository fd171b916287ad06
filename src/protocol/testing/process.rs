//! Owns starting a provider the way go-plugin does, as a process of its own behind mutual TLS.

use std::{
    io::{self, BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use base64::Engine;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::net::UnixStream;

use super::CoreClient;

/// go-plugin's magic cookie of Terraform providers: name and value.
const COOKIE: (&str, &str) =
    ("TF_PLUGIN_MAGIC_COOKIE", "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2");

/// A provider process that a core started; killed when dropped.
#[derive(Debug)]
pub struct PluginProcess {
    child: Child,
    began: Instant,
    handshake: Duration,
    /// The fields of the handshake line.
    fields: Vec<String>,
    identity: Identity,
    // The socket's folder; removed with the process.
    _temporary: tempfile::TempDir,
    _stdout: BufReader<ChildStdout>,
}

/// A core's client certificate as go-plugin makes it: P-521, and its own authority. Making one takes milliseconds, so several
/// starts may share one.
#[derive(Clone)]
pub struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    pem: String,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").finish_non_exhaustive()
    }
}

impl Identity {
    /// A new one.
    ///
    /// # Errors
    /// What the crypto library says.
    pub fn new() -> io::Result<Self> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).map_err(io::Error::other)?;
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).map_err(io::Error::other)?;
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).map_err(io::Error::other)?;
        Ok(Self { certificate: certificate.der().clone(), key: key.serialize_der(), pem: certificate.pem() })
    }
}

impl PluginProcess {
    /// Starts `command` with core's environment, and waits for the handshake line.
    ///
    /// # Errors
    /// When it can't be started, or doesn't say where it listens.
    pub fn start(mut command: Command, identity: &Identity) -> io::Result<Self> {
        let temporary = tempfile::tempdir()?;
        command.env(COOKIE.0, COOKIE.1).env("PLUGIN_PROTOCOL_VERSIONS", "5,6").env("PLUGIN_CLIENT_CERT", &identity.pem);
        command.env("TMPDIR", temporary.path()).env_remove("TF_LOG").stdin(Stdio::null()).stdout(Stdio::piped());
        let began = Instant::now();
        let mut child = command.spawn()?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("no pipe"))?;
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let handshake = began.elapsed();
        let fields: Vec<String> = line.trim_end().split('|').map(str::to_owned).collect();
        let process = Self {
            child,
            began,
            handshake,
            fields,
            identity: identity.clone(),
            _temporary: temporary,
            _stdout: stdout,
        };
        if process.fields.len() < 6 {
            return Err(io::Error::other(format!("no handshake: {line:?}")));
        }
        Ok(process)
    }

    /// Time from the start to the handshake line.
    pub fn handshake(&self) -> Duration {
        self.handshake
    }

    /// Time since the start.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Connects as the core that started it; the schema is asked for.
    ///
    /// # Errors
    /// What TLS and the provider say.
    pub async fn connect(&self) -> io::Result<CoreClient> {
        let engine = base64::engine::general_purpose::STANDARD_NO_PAD;
        let certificate = engine.decode(&self.fields[5]).map_err(io::Error::other)?;
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate)).map_err(io::Error::other)?;
        let key = PrivateKeyDer::try_from(self.identity.key.clone()).map_err(io::Error::other)?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![self.identity.certificate.clone()], key)
            .map_err(io::Error::other)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = UnixStream::connect(&self.fields[3]).await?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        CoreClient::connect(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await?).await
    }
}

impl Drop for PluginProcess {
    fn drop(&mut self) {
        // One that has ended already is as dead as can be.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
