//! The provider as a process of its own, started the way go-plugin does it.
#![cfg(unix)]

use std::{
    io::{BufRead, BufReader, Read},
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::Arc,
};

use base64::Engine;
use protocol::{Value, testing::CoreClient};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName},
};
use tokio::net::UnixStream;

const COOKIE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";

/// The example `smallest`, which cargo builds beside the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().unwrap().parent().unwrap().join("examples/smallest");
    assert!(program.exists(), "{} is missing: cargo build -p protocol --examples", program.display());
    program
}

fn command() -> Command {
    let mut command = Command::new(program());
    for name in ["TF_PLUGIN_MAGIC_COOKIE", "PLUGIN_CLIENT_CERT", "PLUGIN_PROTOCOL_VERSIONS", "TF_LOG"] {
        command.env_remove(name);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// A process that is killed when the test ends.
struct Plugin {
    child: Child,
    /// The fields of the handshake line.
    fields: Vec<String>,
    /// Where it puts its socket; one that is killed cannot clean up.
    temporary: tempfile::TempDir,
    _stdout: BufReader<std::process::ChildStdout>,
}

impl Plugin {
    fn start(command: &mut Command) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), command)
    }

    fn start_in(temporary: tempfile::TempDir, command: &mut Command) -> Self {
        if !command.get_envs().any(|(name, _)| name == "TMPDIR") {
            command.env("TMPDIR", temporary.path());
        }
        let mut child = command.spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let fields = line.trim_end_matches('\n').split('|').map(str::to_owned).collect();
        Self { child, fields, temporary, _stdout: stdout }
    }

    fn started_by_core(client: &Identity) -> Self {
        let mut command = command();
        command.env("TF_PLUGIN_MAGIC_COOKIE", COOKIE).env("PLUGIN_PROTOCOL_VERSIONS", "5,6");
        Self::start(command.env("PLUGIN_CLIENT_CERT", &client.pem))
    }

    async fn connect(&self, client: Option<&Identity>) -> std::io::Result<CoreClient> {
        let certificate = base64::engine::general_purpose::STANDARD_NO_PAD.decode(&self.fields[5]).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(certificate)).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match client {
            None => config.with_no_client_auth(),
            Some(c) => {
                let key = PrivateKeyDer::try_from(c.key.clone()).unwrap();
                config.with_client_auth_cert(vec![c.certificate.clone()], key).unwrap()
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let socket = UnixStream::connect(&self.fields[3]).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        CoreClient::connect(stream).await
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    async fn ended(&mut self) -> ExitStatus {
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A client certificate like go-plugin's: P-521, and its own authority.
struct Identity {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
    pem: String,
}

impl Identity {
    fn new() -> Self {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        Self { certificate: certificate.der().clone(), key: key.serialize_der(), pem: certificate.pem() }
    }
}

#[test]
fn run_by_hand_it_says_what_it_is() {
    let output = command().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("not meant to be run by hand"), "{text}");
}

#[test]
fn a_core_of_another_protocol_is_told() {
    let output =
        command().env("TF_PLUGIN_MAGIC_COOKIE", COOKIE).env("PLUGIN_PROTOCOL_VERSIONS", "4,5").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8(output.stderr).unwrap().contains("only offers 4,5"));
}

#[test]
fn without_a_client_that_can_be_checked_nothing_is_served() {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = command();
    command.env("TF_PLUGIN_MAGIC_COOKIE", COOKIE).env("PLUGIN_CLIENT_CERT", "no certificate");
    let output = command.env("TMPDIR", temporary.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8(output.stderr).unwrap().contains("PLUGIN_CLIENT_CERT"));
    assert_eq!(temporary.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn the_schema_is_served_over_mutual_tls() {
    let client = Identity::new();
    let plugin = Plugin::started_by_core(&client);
    assert_eq!(plugin.fields[..3], ["1", "6", "unix"]);
    assert_eq!(plugin.fields[4], "grpc");
    let core = plugin.connect(Some(&client)).await.unwrap();
    assert!(core.schema().resources.contains_key("smallest_thing"));
}

#[tokio::test]
async fn every_other_client_is_refused() {
    let client = Identity::new();
    let plugin = Plugin::started_by_core(&client);
    assert!(plugin.connect(None).await.is_err(), "no certificate");
    assert!(plugin.connect(Some(&Identity::new())).await.is_err(), "another certificate");
    let socket = UnixStream::connect(&plugin.fields[3]).await.unwrap();
    assert!(CoreClient::connect(socket).await.is_err(), "no TLS");
    assert!(plugin.connect(Some(&client)).await.is_ok(), "the right one still is");
}

#[tokio::test]
async fn an_interrupt_is_swallowed_and_shutdown_ends_the_process() {
    let client = Identity::new();
    let mut plugin = Plugin::started_by_core(&client);
    let core = plugin.connect(Some(&client)).await.unwrap();
    for _ in 0..3 {
        plugin.signal("INT");
        assert!(core.configure(Value::object::<&str, Value>([])).await.unwrap().is_empty());
    }
    core.shutdown().await.unwrap();
    assert!(plugin.ended().await.success());
    assert_eq!(plugin.temporary.path().read_dir().unwrap().count(), 0, "something is left behind");
}

#[tokio::test]
async fn sigterm_winds_down_running_calls() {
    let client = Identity::new();
    let mut plugin = Plugin::started_by_core(&client);
    let core = plugin.connect(Some(&client)).await.unwrap();
    let none = protocol::testing::State::default();
    let config = Value::object([("name", "slow")]);
    let planned = core.plan("smallest_thing", &none, &config).await.unwrap();
    // The apply runs until it is told to stop; only then can the process end, and not before its answer is out.
    let apply = core.apply("smallest_thing", &none, &config, &planned);
    let ended = async {
        // Answered after the apply was received, on the same connection.
        core.configure(Value::object::<&str, Value>([])).await.unwrap();
        plugin.signal("TERM");
        plugin.ended().await
    };
    let (applied, status) = tokio::join!(apply, ended);
    assert_eq!(applied.unwrap().diagnostics.iter().next().map(|d| d.summary.as_str()), Some("Stopped"));
    assert!(status.success());
}

#[tokio::test]
async fn an_orphan_ends_itself() {
    // A shell starts the plugin, waits until it serves and goes away.
    let mut shell = Command::new("sh");
    shell.args(["-c", "\"$0\" >\"$1/line\" 2>/dev/null & until [ -s \"$1/line\" ]; do sleep 0.01; done"]);
    let folder = tempfile::tempdir().unwrap();
    shell.arg(program()).arg(folder.path()).env("TF_PLUGIN_MAGIC_COOKIE", COOKIE).env_remove("PLUGIN_CLIENT_CERT");
    let output = shell.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success());
    let line = std::fs::read_to_string(folder.path().join("line")).unwrap();
    let socket = PathBuf::from(line.split('|').nth(3).unwrap());
    while socket.exists() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_long_path_falls_back_to_loopback() {
    let folder = tempfile::tempdir().unwrap();
    let long = folder.path().join("x".repeat(90));
    std::fs::create_dir(&long).unwrap();
    let mut command = command();
    command.env("TF_PLUGIN_MAGIC_COOKIE", COOKIE).env("TMPDIR", &long);
    command.env("PLUGIN_MIN_PORT", "10000").env("PLUGIN_MAX_PORT", "25000");
    let plugin = Plugin::start_in(folder, &mut command);
    assert_eq!(plugin.fields[2], "tcp");
    assert_eq!(plugin.fields[5], "", "no client certificate, no TLS");
    let port: u16 = plugin.fields[3].strip_prefix("127.0.0.1:").unwrap().parse().unwrap();
    assert!((10000..=25000).contains(&port));
    let socket = tokio::net::TcpStream::connect(&plugin.fields[3]).await.unwrap();
    assert!(CoreClient::connect(socket).await.is_ok());
}

#[tokio::test]
async fn a_developer_gets_a_line_for_the_environment() {
    let mut plugin = Plugin::start(command().arg("-debug"));
    let line = plugin.fields.join("|");
    let json = line.strip_prefix("TF_REATTACH_PROVIDERS='").unwrap().strip_suffix('\'').unwrap();
    let providers: serde_json::Value = serde_json::from_str(json).unwrap();
    let provider = &providers["example.com/example/smallest"];
    assert_eq!(provider["Pid"], plugin.child.id());
    for _run in 0..2 {
        let socket = UnixStream::connect(provider["Addr"]["String"].as_str().unwrap()).await.unwrap();
        let core = CoreClient::connect(socket).await.unwrap();
        let diagnostics = core.configure(Value::Null).await.unwrap();
        assert_eq!(diagnostics.iter().next().map(|d| d.summary.as_str()), Some("Reattached"));
    }
    plugin.signal("INT");
    assert!(plugin.ended().await.success());
}

#[tokio::test]
async fn a_panic_prints_one_line_that_core_shows() {
    let client = Identity::new();
    let mut plugin = Plugin::started_by_core(&client);
    let core = plugin.connect(Some(&client)).await.unwrap();
    let diagnostics = core.validate("smallest_thing", Value::object([("name", "panic")])).await.unwrap();
    assert!(diagnostics.has_errors());
    core.shutdown().await.unwrap();
    plugin.ended().await;
    let mut text = String::new();
    plugin.child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(text.starts_with("panic: boom in validate at "), "{text}");
}
