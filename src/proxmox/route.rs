//! Owns the way to an endpoint: straight, or through the tunnel of an HTTP proxy. TLS goes from end to end either way, so what is
//! trusted (fingerprints, CA) is the cluster's own certificate.
use std::net::IpAddr;

use secrecy::{ExposeSecret, SecretString};

/// How the endpoints of a cluster are reached.
#[derive(Clone, Debug, Default)]
pub enum Route {
    /// Straight, whatever the environment says.
    #[default]
    Direct,
    /// Through this proxy, whatever the endpoint.
    Through(Proxy),
    /// As the environment has it: through its proxy, but for the endpoints that its exceptions name.
    Environment {
        /// The proxy.
        proxy: Proxy,
        /// What is reached straight.
        except: NoProxy,
    },
}

/// An HTTP proxy. Debug and texts show no user and no password.
#[derive(Clone, Debug)]
pub struct Proxy {
    url: SecretString,
    shown: String,
}

impl Proxy {
    /// Reads a proxy's address: `http://proxy.example:3128`, with or without `http://`, `user:password@` before the host. `from`
    /// says in messages where it was written: `HTTPS_PROXY`.
    ///
    /// # Errors
    /// What is wrong, in words that repeat no user and no password.
    pub fn parse(text: &str, from: &str) -> Result<Proxy, String> {
        let accepted = "accepted: http://host:port, with user:password@ before the host where the proxy asks for it";
        let text = text.trim();
        let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
        let url = reqwest::Url::parse(&full).map_err(|error| format!("it is no address ({error}); {accepted}"))?;
        if url.scheme() != "http" {
            return Err(format!("a proxy of the kind {}:// is not supported; {accepted}", url.scheme()));
        }
        if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
            return Err(format!("something stands behind its port; {accepted}"));
        }
        let host =
            url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| format!("it has no host; {accepted}"))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let shown = format!("proxy http://{host}:{port} of {from}");
        Ok(Proxy { url: String::from(url).into(), shown })
    }

    /// Whether it carries a user or a password.
    pub fn has_credentials(&self) -> bool {
        self.url.expose_secret().contains('@')
    }
}

/// What is reached without the environment's proxy, by the rules that Terraform's own programs have for `NO_PROXY`.
#[derive(Clone, Debug, Default)]
pub struct NoProxy(Vec<Exception>);

#[derive(Clone, Debug)]
enum Exception {
    Everything,
    Network(IpAddr, u8),
    /// A name with all below it, or with `only_below` what is below it alone; and maybe one port only.
    Name {
        name: String,
        only_below: bool,
        port: Option<u16>,
    },
    Address(IpAddr, Option<u16>),
}

impl NoProxy {
    /// Reads a list of exceptions, joined by commas: `*`, an address, a network (`10.0.0.0/8`), a name (`example.com`, and all
    /// below it), what is below a name (`.example.com`, `*.example.com`); a name or an address with `:port` for that port alone.
    pub fn parse(text: &str) -> NoProxy {
        NoProxy(text.split(',').map(str::trim).filter(|part| !part.is_empty()).filter_map(exception).collect())
    }

    fn covers(&self, host: &str, port: u16) -> bool {
        let address: Option<IpAddr> = host.parse().ok();
        self.0.iter().any(|exception| match exception {
            Exception::Everything => true,
            Exception::Network(network, bits) => address.is_some_and(|address| within(address, *network, *bits)),
            Exception::Address(one, only) => address == Some(*one) && only.is_none_or(|only| only == port),
            Exception::Name { name, only_below, port: only } => {
                let below = host.strip_suffix(name.as_str()).is_some_and(|front| front.ends_with('.'));
                (below || (!only_below && host == name)) && only.is_none_or(|only| only == port)
            }
        })
    }
}

fn exception(part: &str) -> Option<Exception> {
    if part == "*" {
        return Some(Exception::Everything);
    }
    if let Some((network, bits)) = part.split_once('/') {
        let (network, bits): (IpAddr, u8) = (network.parse().ok()?, bits.parse().ok()?);
        return Some(Exception::Network(network, bits));
    }
    let bare = |text: &str| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    if let Ok(address) = bare(part) {
        return Some(Exception::Address(address, None));
    }
    let (name, port) = match part.rsplit_once(':') {
        Some((name, port)) => (name, Some(port.parse().ok()?)),
        None => (part, None),
    };
    if let Ok(address) = bare(name) {
        return Some(Exception::Address(address, port));
    }
    let name = name.strip_prefix('*').unwrap_or(name).to_lowercase();
    let below = name.strip_prefix('.');
    Some(Exception::Name { name: below.unwrap_or(&name).to_owned(), only_below: below.is_some(), port })
}

fn within(address: IpAddr, network: IpAddr, bits: u8) -> bool {
    let (address, network, width) = match (address.to_canonical(), network.to_canonical()) {
        (IpAddr::V4(a), IpAddr::V4(n)) => (u128::from(a.to_bits()), u128::from(n.to_bits()), 32u32),
        (IpAddr::V6(a), IpAddr::V6(n)) => (a.to_bits(), n.to_bits(), 128),
        _ => return false,
    };
    match width.checked_sub(u32::from(bits)) {
        Some(128) => true,
        Some(rest) => address >> rest == network >> rest,
        None => false,
    }
}

impl Route {
    /// The proxy that leads to `url`, if one does.
    fn proxy(&self, url: &reqwest::Url) -> Option<&Proxy> {
        match self {
            Route::Direct => None,
            Route::Through(proxy) => Some(proxy),
            Route::Environment { proxy, except } => {
                let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_lowercase();
                let loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
                let port = url.port_or_known_default()?;
                (!loopback && !except.covers(&host, port)).then_some(proxy)
            }
        }
    }

    /// How the proxy that leads to `endpoint` is called in messages, if one does.
    pub(crate) fn shown(&self, endpoint: &str) -> Option<&str> {
        self.proxy(&reqwest::Url::parse(endpoint).ok()?).map(|proxy| proxy.shown.as_str())
    }

    /// The same for the HTTP client.
    pub(crate) fn reqwest(&self) -> Option<reqwest::Proxy> {
        if matches!(self, Route::Direct) {
            return None;
        }
        let route = self.clone();
        Some(reqwest::Proxy::custom(move |url| route.proxy(url).map(|proxy| proxy.url.expose_secret().to_owned())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(route: &Route, endpoint: &str) -> bool {
        route.shown(endpoint).is_some()
    }

    #[test]
    fn the_environments_exceptions_are_read_as_terraform_reads_them() {
        let proxy = Proxy::parse("proxy.example:3128", "HTTPS_PROXY").unwrap();
        for (except, endpoint, proxied) in [
            ("", "https://pve1:8006", true),
            ("", "https://localhost:8006", false),
            ("", "https://127.0.0.9:8006", false),
            ("", "https://[::1]:8006", false),
            ("*", "https://pve1:8006", false),
            ("example.com", "https://example.com:8006", false),
            ("example.com", "https://pve1.EXAMPLE.com:8006", false),
            ("Example.com", "https://notexample.com:8006", true),
            (".example.com", "https://example.com:8006", true),
            (".example.com", "https://pve1.example.com:8006", false),
            ("*.example.com", "https://a.b.example.com:8006", false),
            ("10.0.0.0/8, other", "https://10.9.8.7:8006", false),
            ("10.0.0.0/8", "https://11.9.8.7:8006", true),
            ("0.0.0.0/0", "https://11.9.8.7:8006", false),
            ("fd00::/8", "https://[fd00::1]:8006", false),
            ("fd00::1", "https://[fd00::1]:8006", false),
            ("fd00::/8", "https://[fe80::1]:8006", true),
            ("10.0.0.1", "https://10.0.0.1:8006", false),
            ("10.0.0.1:8006", "https://10.0.0.1:8006", false),
            ("10.0.0.1:443", "https://10.0.0.1:8006", true),
            ("pve1:8006", "https://pve1:8006", false),
            ("pve1:443", "https://pve1:8006", true),
            ("pve1:443", "https://pve1", false),
            ("10.0.0.0/99, [nonsense, x:y", "https://10.0.0.1:8006", true),
        ] {
            let route = Route::Environment { proxy: proxy.clone(), except: NoProxy::parse(except) };
            assert_eq!(through(&route, endpoint), proxied, "NO_PROXY={except} {endpoint}");
        }
    }

    #[test]
    fn a_proxy_of_ones_own_has_no_exceptions_and_direct_has_no_proxy() {
        let proxy = Proxy::parse("http://10.0.0.1:3128", "`proxy`").unwrap();
        assert!(through(&Route::Through(proxy), "https://127.0.0.1:8006"));
        assert!(!through(&Route::Direct, "https://pve1:8006"));
    }

    #[test]
    fn what_is_no_http_proxy_is_refused_without_its_password() {
        for (text, says) in [
            ("socks5://u:hunter2@h:1080", "socks5:// is not supported"),
            ("https://u:hunter2@h:3128", "https:// is not supported"),
            ("http://u:hunter2@h:3128/path", "behind its port"),
            ("http://u:hunter2@:3128", "address"),
            ("http://u:hunter2@h:99999", "address"),
            ("", "address"),
        ] {
            let error = Proxy::parse(text, "x").unwrap_err();
            assert!(
                error.contains(says) && error.contains("accepted") && !error.contains("hunter2"),
                "{text}: {error}"
            );
        }
        let proxy = Proxy::parse("http://u:hunter2@h:3128", "HTTPS_PROXY").unwrap();
        assert!(proxy.has_credentials() && !format!("{proxy:?}").contains("hunter2"), "{proxy:?}");
        assert_eq!(proxy.shown, "proxy http://h:3128 of HTTPS_PROXY");
        assert!(!Proxy::parse("h", "x").unwrap().has_credentials());
    }
}
