//! What ends the process, and what does not.

use std::{fmt, io, time::Duration};

use tokio_util::sync::CancellationToken;

/// How often the parent process is looked at.
#[cfg(unix)]
const PARENT_POLL: Duration = Duration::from_secs(1);
/// How long running calls may take to stop when nobody is left to wait for them.
const DEFAULT_GRACE: Duration = Duration::from_secs(30);

/// Why the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Core has said so.
    Shutdown,
    /// SIGTERM.
    Terminated,
    /// Ctrl-C, in reattach mode.
    Interrupted,
    /// The parent process is gone.
    Orphaned,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Shutdown => "core is done",
            End::Terminated => "the process was asked to terminate",
            End::Interrupted => "the process was interrupted",
            End::Orphaned => "the program that started this process is gone",
        })
    }
}

/// The signals we answer to. They are handled, not ignored: what is ignored is inherited by child processes.
pub(super) struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    #[cfg(unix)]
    pub(super) fn install() -> io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    #[cfg(not(unix))]
    pub(super) fn install() -> io::Result<Self> {
        Ok(Self {})
    }

    /// Waits for a signal that ends the process. An interrupt does so only in reattach mode: the terminal sends it to
    /// core too, which then asks us to stop.
    #[cfg(unix)]
    pub(super) async fn end(&mut self, reattach: bool) -> End {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return End::Terminated,
                _ = self.interrupt.recv() => {
                    if reattach {
                        return End::Interrupted;
                    }
                    tracing::debug!("interrupt ignored: core will ask us to stop");
                }
            }
        }
    }

    #[cfg(not(unix))]
    pub(super) async fn end(&mut self, reattach: bool) -> End {
        loop {
            let _ = tokio::signal::ctrl_c().await;
            if reattach {
                return End::Interrupted;
            }
        }
    }
}

/// Returns some time after core has said that it is done.
pub(super) async fn goodbye(shutdown: &CancellationToken, after: Duration) {
    shutdown.cancelled().await;
    tokio::time::sleep(after).await;
}

/// The process that started this one. Number 1 means nothing: in a container that is core itself (`hazards.md` F25).
pub(super) struct Parent {
    #[cfg(unix)]
    id: u32,
}

impl Parent {
    /// To be asked first thing, before the parent can be gone.
    pub(super) fn now() -> Self {
        Self {
            #[cfg(unix)]
            id: std::os::unix::process::parent_id(),
        }
    }

    /// Returns when it is another one than at the start.
    #[cfg(unix)]
    pub(super) async fn gone(&self) {
        while std::os::unix::process::parent_id() == self.id {
            tokio::time::sleep(PARENT_POLL).await;
        }
    }

    /// Nobody tells us here.
    #[cfg(not(unix))]
    pub(super) async fn gone(&self) {
        std::future::pending().await
    }
}

/// The setting `<TYPE>_SHUTDOWN_GRACE`, in seconds.
pub(super) fn grace(type_name: &str) -> Duration {
    let name = format!("{}_SHUTDOWN_GRACE", crate::logging::environment_name(type_name));
    let Some(text) = std::env::var(&name).ok().filter(|text| !text.is_empty()) else { return DEFAULT_GRACE };
    match text.trim().parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            tracing::warn!(setting = name, "not a number of seconds; 30 is used");
            DEFAULT_GRACE
        }
    }
}
