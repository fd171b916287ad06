//! Owns who a process is: machine, boot, pid and start time, so that a dead holder is told from a living one.
use std::fs;

use serde::{Deserialize, Serialize};

/// A process of some machine. Two values are equal only if they mean the same process: a pid that was given out again
/// has another start time, and after a reboot another boot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The machine's id, or its host name where there is none.
    pub machine: String,
    /// The boot's id; empty where the system has none.
    pub boot: String,
    /// Process id.
    pub pid: u32,
    /// Start time in the system's clock ticks since boot; 0 where the system doesn't tell.
    pub start: u64,
}

impl Process {
    /// This process.
    pub fn me() -> Process {
        Process::of(std::process::id())
    }

    /// The process that started this one, as far as it is still there.
    pub fn parent() -> Process {
        Process::of(parent_pid())
    }

    fn of(pid: u32) -> Process {
        Process { machine: machine(), boot: boot(), pid, start: start_of(pid).unwrap_or(0) }
    }

    /// Whether the process is known to be gone: only said of a process of this machine and boot. One of another
    /// machine may live, and so may one whose start time can't be compared.
    pub fn is_known_dead(&self) -> bool {
        if self.machine != machine() {
            return false;
        }
        if self.boot != boot() {
            return !self.boot.is_empty() && !boot().is_empty();
        }
        match start_of(self.pid) {
            Some(start) => self.start != 0 && start != self.start,
            None => cfg!(target_os = "linux"),
        }
    }

    /// Whether the process runs on this machine now.
    pub fn is_alive_here(&self) -> bool {
        self.machine == machine() && self.boot == boot() && start_of(self.pid) == Some(self.start)
    }

    /// A short name that differs for different processes: for file names and journals.
    pub fn short(&self) -> String {
        use sha2::{Digest, Sha256};
        let digest = Sha256::digest(format!("{} {} {} {}", self.machine, self.boot, self.pid, self.start));
        digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
    }
}

fn read_line(file: &str) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

fn machine() -> String {
    read_line("/etc/machine-id")
        .or_else(|| read_line("/proc/sys/kernel/hostname"))
        .or_else(|| std::env::var("HOSTNAME").ok())
        .or_else(|| std::env::var("COMPUTERNAME").ok())
        .unwrap_or_default()
}

fn boot() -> String {
    read_line("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

/// Field 22 of `/proc/PID/stat`; the second field may hold spaces and brackets, so counting starts behind its last bracket.
fn start_of(pid: u32) -> Option<u64> {
    let (_, fields) = stat_of(pid)?;
    let state = fields.first()?;
    if state == "Z" || state == "X" {
        return None;
    }
    fields.get(19)?.parse().ok()
}

fn stat_of(pid: u32) -> Option<(String, Vec<String>)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (head, tail) = text.rsplit_once(')')?;
    Some((head.to_owned(), tail.split_whitespace().map(str::to_owned).collect()))
}

#[cfg(unix)]
fn parent_pid() -> u32 {
    std::os::unix::process::parent_id()
}

#[cfg(not(unix))]
fn parent_pid() -> u32 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_and_its_parent_live() {
        assert!(Process::me().is_alive_here());
        assert!(!Process::me().is_known_dead());
        assert!(Process::parent().is_alive_here());
        assert_ne!(Process::me().short(), Process::parent().short());
    }

    #[test]
    fn a_process_that_ended_is_dead_and_one_elsewhere_is_unknown() {
        let mut child = std::process::Command::new("true").spawn().expect("a child");
        let process = Process::of(child.id());
        child.wait().expect("its end");
        assert!(process.is_known_dead());
        let elsewhere = Process { machine: "another".into(), ..process };
        assert!(!elsewhere.is_known_dead());
    }

    #[test]
    fn a_pid_that_was_given_out_again_is_another_process() {
        let me = Process::me();
        let before = Process { start: me.start + 1, ..me };
        assert!(before.is_known_dead());
    }
}
