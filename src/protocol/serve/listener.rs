//! Where the process listens: a unix socket in a folder only we can enter, else the loopback interface.

use std::{io, ops::RangeInclusive};

use tokio::net::TcpListener;

use super::connection::Io;

/// Longest path of a unix socket, in bytes. Linux takes 107 and others 103; a little is left for what prints it.
#[cfg(unix)]
const MAX_PATH: usize = 100;

/// A bound listener. Dropping it removes the socket and its folder.
pub(super) struct Listener {
    kind: Kind,
    address: String,
}

enum Kind {
    #[cfg(unix)]
    Unix(tokio::net::UnixListener, tempfile::TempDir),
    Tcp(TcpListener),
}

impl Listener {
    /// `ports` is for TCP; `0..=0` leaves the choice to the system.
    pub(super) fn bind(ports: RangeInclusive<u16>) -> io::Result<Self> {
        #[cfg(unix)]
        if let Some(listener) = Self::unix()? {
            return Ok(listener);
        }
        Self::tcp(ports)
    }

    #[cfg(unix)]
    fn unix() -> io::Result<Option<Self>> {
        use std::os::unix::fs::PermissionsExt;
        let private = std::fs::Permissions::from_mode(0o700); // the default would be readable
        let folder = tempfile::Builder::new().prefix("tfp").permissions(private).tempdir()?;
        let path = folder.path().join("s");
        let Some(address) = path.to_str().filter(|p| p.len() <= MAX_PATH).map(str::to_owned) else {
            return Ok(None);
        };
        let listener = tokio::net::UnixListener::bind(&path)?;
        Ok(Some(Self { kind: Kind::Unix(listener, folder), address }))
    }

    fn tcp(ports: RangeInclusive<u16>) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in ports {
            match std::net::TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => {
                    listener.set_nonblocking(true)?;
                    let listener = TcpListener::from_std(listener)?;
                    let address = listener.local_addr()?.to_string();
                    return Ok(Self { kind: Kind::Tcp(listener), address });
                }
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    pub(super) fn network(&self) -> &'static str {
        match self.kind {
            #[cfg(unix)]
            Kind::Unix(..) => "unix",
            Kind::Tcp(_) => "tcp",
        }
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) async fn accept(&self) -> io::Result<Box<dyn Io>> {
        match &self.kind {
            #[cfg(unix)]
            Kind::Unix(listener, _folder) => Ok(Box::new(listener.accept().await?.0)),
            Kind::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?; // else every call waits 40 ms
                Ok(Box::new(stream))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[tokio::test]
    async fn the_socket_is_in_a_private_folder_that_goes_with_it() {
        use std::os::unix::fs::PermissionsExt;
        let listener = Listener::unix().unwrap().unwrap();
        let folder = std::path::Path::new(listener.address()).parent().unwrap().to_owned();
        assert_eq!(folder.metadata().unwrap().permissions().mode() & 0o777, 0o700);
        drop(listener);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn tcp_takes_a_free_port_of_the_range() {
        let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let end = port.saturating_add(50);
        let listener = Listener::tcp(port..=end).unwrap();
        assert_eq!(listener.network(), "tcp");
        let found: u16 = listener.address().rsplit(':').next().unwrap().parse().unwrap();
        assert!(found > port && found <= end);
        assert!(Listener::tcp(port..=port).is_err());
    }
}
