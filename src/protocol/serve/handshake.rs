//! What go-plugin tells the process at its start, and the one line it is answered with (`plugin-protocol.md` §6).

use std::{fmt, ops::RangeInclusive};

use base64::Engine;

/// The value of TF_PLUGIN_MAGIC_COOKIE by which Terraform and OpenTofu say that they are the ones.
const COOKIE: &str = "d602bf8f470bc67ca7faa0386276bbdd4330efaf76d1a219cb4d6991ca9872b2";
/// The major version of the plugin protocol.
const PROTOCOL: &str = "6";

/// How the process was started.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Start {
    /// By core.
    Plugin {
        /// The certificate the client will present, as PEM; none means no TLS.
        client_certificate: Option<String>,
        /// Ports that may be used where there are no unix sockets.
        ports: RangeInclusive<u16>,
    },
    /// By a developer, for every core that comes.
    Reattach,
}

/// Why the process will not serve.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Not started by Terraform or OpenTofu.
    ByHand,
    /// Core does not speak protocol 6; what it speaks.
    Protocol(String),
    /// A setting that is not a port.
    Port(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::ByHand => f.write_str(
                "This program is a provider plugin for Terraform and OpenTofu. They start it themselves; it is not \
                 meant to be run by hand.\n\nTo use it, name it in required_providers and run init. To debug it, start \
                 it with -debug and give the line it prints to the environment of Terraform or OpenTofu.",
            ),
            Refusal::Protocol(offered) => write!(
                f,
                "This provider speaks plugin protocol version {PROTOCOL}, and the program that started it only offers \
                 {offered}. Next: use Terraform 1.5 or later, or OpenTofu 1.6 or later."
            ),
            Refusal::Port(name) => write!(f, "{name} is not a port number, or the range is empty."),
        }
    }
}

impl Start {
    pub(super) fn ports(&self) -> RangeInclusive<u16> {
        match self {
            Start::Plugin { ports, .. } => ports.clone(),
            Start::Reattach => 0..=0,
        }
    }

    pub(super) fn client_certificate(&self) -> Option<&str> {
        match self {
            Start::Plugin { client_certificate, .. } => client_certificate.as_deref(),
            Start::Reattach => None,
        }
    }
}

/// Reads the environment.
pub(super) fn start(environment: impl Fn(&str) -> Option<String>, debug: bool) -> Result<Start, Refusal> {
    if debug {
        return Ok(Start::Reattach);
    }
    let get = |name: &str| environment(name).filter(|value| !value.is_empty());
    if get("TF_PLUGIN_MAGIC_COOKIE").as_deref() != Some(COOKIE) {
        return Err(Refusal::ByHand);
    }
    if let Some(versions) = get("PLUGIN_PROTOCOL_VERSIONS")
        && !versions.split(',').any(|v| v.trim() == PROTOCOL)
    {
        return Err(Refusal::Protocol(versions));
    }
    let port = |name: &'static str| match get(name) {
        None => Ok(0),
        Some(text) => text.trim().parse::<u16>().map_err(|_| Refusal::Port(name)),
    };
    let (min, max) = (port("PLUGIN_MIN_PORT")?, port("PLUGIN_MAX_PORT")?);
    let ports = if min == 0 && max == 0 { 0..=0 } else { min.max(1)..=if max == 0 { u16::MAX } else { max } };
    if ports.is_empty() {
        return Err(Refusal::Port("PLUGIN_MAX_PORT"));
    }
    Ok(Start::Plugin { client_certificate: get("PLUGIN_CLIENT_CERT"), ports })
}

/// The line core waits for. An empty certificate says that there is no TLS.
pub(super) fn line(network: &str, address: &str, certificate: &[u8]) -> String {
    // go-plugin refuses padding.
    let certificate = base64::engine::general_purpose::STANDARD_NO_PAD.encode(certificate);
    format!("1|{PROTOCOL}|{network}|{address}|grpc|{certificate}")
}

/// The line a developer puts into the environment of core.
pub(super) fn reattach_line(name: &str, network: &str, address: &str) -> String {
    let providers = serde_json::json!({ name: {
        "Protocol": "grpc",
        "ProtocolVersion": 6,
        "Pid": std::process::id(),
        "Test": true,
        "Addr": { "Network": network, "String": address },
    }});
    format!("TF_REATTACH_PROVIDERS='{providers}'")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(pairs: &[(&str, &str)]) -> Result<Start, Refusal> {
        let mut all = vec![("TF_PLUGIN_MAGIC_COOKIE", COOKIE)];
        all.extend(pairs);
        start(|name| all.iter().rev().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()), false)
    }

    #[test]
    fn only_core_is_served() {
        assert_eq!(start(|_| None, false), Err(Refusal::ByHand));
        assert_eq!(with(&[("TF_PLUGIN_MAGIC_COOKIE", "else")]), Err(Refusal::ByHand));
        assert_eq!(start(|_| None, true), Ok(Start::Reattach));
    }

    #[test]
    fn protocol_6_must_be_among_those_offered() {
        assert!(with(&[]).is_ok());
        assert!(with(&[("PLUGIN_PROTOCOL_VERSIONS", "6,5")]).is_ok());
        assert_eq!(with(&[("PLUGIN_PROTOCOL_VERSIONS", "5,16")]), Err(Refusal::Protocol("5,16".into())));
    }

    #[test]
    fn the_range_of_ports_is_respected() {
        assert_eq!(with(&[("PLUGIN_MIN_PORT", "10000"), ("PLUGIN_MAX_PORT", "25000")]).unwrap().ports(), 10000..=25000);
        assert_eq!(with(&[]).unwrap().ports(), 0..=0);
        assert_eq!(with(&[("PLUGIN_MIN_PORT", "x")]), Err(Refusal::Port("PLUGIN_MIN_PORT")));
        let empty = with(&[("PLUGIN_MIN_PORT", "9"), ("PLUGIN_MAX_PORT", "8")]);
        assert_eq!(empty, Err(Refusal::Port("PLUGIN_MAX_PORT")));
    }

    #[test]
    fn the_line_has_six_fields_and_no_padding() {
        assert_eq!(line("unix", "/tmp/s", b"a"), "1|6|unix|/tmp/s|grpc|YQ");
        assert_eq!(line("tcp", "127.0.0.1:1", b""), "1|6|tcp|127.0.0.1:1|grpc|");
        assert!(reattach_line("a/b/c", "unix", "/s").contains(r#""ProtocolVersion":6"#));
    }
}
