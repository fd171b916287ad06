//! Owns the recognition of PVE's error texts: PVE has few status codes, so the words decide (`proxmox-ve.md` §1.3–§10).

use crate::{Missing, PermissionDenied};

/// Most characters of a command that an error repeats.
const COMMAND: usize = 80;

/// The text as people read it: of a long command that failed (QEMU's has forty lines) its program alone. The task's log has all of it.
pub(crate) fn brief(text: &str) -> String {
    let Some((before, rest)) = text.split_once("command '") else { return text.to_owned() };
    // The command may hold quotes of its own.
    let Some((command, after)) = rest.rsplit_once("' failed") else { return text.to_owned() };
    if command.chars().count() <= COMMAND {
        return text.to_owned();
    }
    let program = command.split_whitespace().next().unwrap_or_default();
    format!("{before}command '{program} …' failed{after} (its log has the whole command)")
}

/// The text between `before` and the next `after`.
fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(before)?;
    rest.split_once(after).map(|(found, _)| found)
}

/// What the text says does not exist.
pub(crate) fn missing(text: &str) -> Option<Missing> {
    let text = text.trim();
    let named = |what: &str| between(text, &format!("{what} '"), "' does not exist").map(str::to_owned);
    if text.starts_with("Configuration file '") {
        return named("Configuration file").map(Missing::Guest);
    }
    if text.starts_with("hostname lookup '") {
        return between(text, "hostname lookup '", "' failed").map(|node| Missing::Node(node.to_owned()));
    }
    if text == "no such task" {
        return Some(Missing::Task);
    }
    if text == "No such storage." {
        return Some(Missing::Storage(String::new()));
    }
    if text.contains("parent '") {
        return None;
    }
    named("pool")
        .map(Missing::Pool)
        .or_else(|| named("volume").map(Missing::Volume))
        .or_else(|| named("storage").map(Missing::Storage))
}

/// The right the text says is missing. Tasks put `403 ` before it (`proxmox-ve.md` §17.c4).
pub(crate) fn permission_denied(text: &str) -> Option<PermissionDenied> {
    let (_, rest) = text.split_once("Permission check failed")?;
    let Some(inner) = rest.trim().strip_prefix('(').map(|inner| inner.trim_end().trim_end_matches(')').trim()) else {
        return Some(PermissionDenied::default());
    };
    match inner.split_once(", ") {
        Some((path, privileges)) if path.starts_with('/') => {
            let (privileges, detail) = match privileges.split_once(' ') {
                Some((privileges, detail)) => (privileges, Some(detail.to_owned())),
                None => (privileges, None),
            };
            Some(PermissionDenied {
                path: Some(path.to_owned()),
                privileges: privileges.split('|').map(str::to_owned).collect(),
                detail,
            })
        }
        _ => Some(PermissionDenied { detail: Some(inner.to_owned()), ..PermissionDenied::default() }),
    }
}

/// The lock of a guest.
pub(crate) fn lock(text: &str) -> Option<&str> {
    between(text, "VM is locked (", ")").or_else(|| between(text, "CT is locked (", ")"))
}

/// `VM 100 already exists on node 'pve1'`, `pool 'x' already exists`, `config file already exists`, `already defined`.
pub(crate) fn is_already_exists(text: &str) -> bool {
    text.contains("already exists") || text.contains("already defined")
}

/// Things no privilege allows to a token (`proxmox-ve.md` §1.2, §17.c8).
pub(crate) fn is_root_only(text: &str) -> bool {
    ["only root can set '", "only root can modify '", "Only root can pass arbitrary", "Only root may use this option"]
        .iter()
        .any(|known| text.contains(known))
        || text.contains("(user != root@pam)")
}

/// The several ways a write fails without quorum.
pub(crate) fn is_no_quorum(text: &str) -> bool {
    text.contains("no quorum")
        || (text.contains("unable to open file '/etc/pve/") && text.contains("Permission denied"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn denied(path: &str, privileges: &[&str], detail: Option<&str>) -> PermissionDenied {
        PermissionDenied {
            path: (!path.is_empty()).then(|| path.to_owned()),
            privileges: privileges.iter().map(|&p| p.to_owned()).collect(),
            detail: detail.map(str::to_owned),
        }
    }

    #[test]
    fn permissions_are_taken_apart() {
        for (text, expected) in [
            ("Permission check failed (/vms/100, VM.Backup)", denied("/vms/100", &["VM.Backup"], None)),
            ("403 Permission check failed (/vms/100, VM.Backup)", denied("/vms/100", &["VM.Backup"], None)),
            (
                "Permission check failed (/storage/nfs, Datastore.Audit|Datastore.AllocateSpace)",
                denied("/storage/nfs", &["Datastore.Audit", "Datastore.AllocateSpace"], None),
            ),
            ("Permission check failed", denied("", &[], None)),
            ("Permission check failed (pool 'x' does not exist)", denied("", &[], Some("pool 'x' does not exist"))),
            (
                "Permission check failed (/, Sys.Modify for modifying tag 'x')",
                denied("/", &["Sys.Modify"], Some("for modifying tag 'x'")),
            ),
            (
                "Permission check failed (URI '/access/ticket' not available with API token, need proper ticket.\n)",
                denied("", &[], Some("URI '/access/ticket' not available with API token, need proper ticket.")),
            ),
        ] {
            assert_eq!(permission_denied(text), Some(expected), "{text}");
        }
        assert_eq!(permission_denied("VM is locked (backup)"), None);
    }

    #[test]
    fn of_a_long_command_the_program_stands_for_all() {
        let qemu = format!("/usr/bin/kvm -id 100 -name 'web-1,debug-threads=on' {}", "-device x ".repeat(300));
        let text = brief(&format!("start failed: command '{qemu}' failed: exit code 1"));
        assert_eq!(text, "start failed: command '/usr/bin/kvm …' failed: exit code 1 (its log has the whole command)");
        for short in ["command 'zcat x | vma extract' failed: exit code 1", "no space", "command 'x"] {
            assert_eq!(brief(short), short);
        }
    }

    #[test]
    fn absence_is_narrow() {
        let file = "nodes/pve1/qemu-server/100.conf";
        for (text, expected) in [
            (format!("Configuration file '{file}' does not exist"), Some(Missing::Guest(file.into()))),
            ("volume 'nfs:backup/x' does not exist".into(), Some(Missing::Volume("nfs:backup/x".into()))),
            ("storage 'x' does not exist".into(), Some(Missing::Storage("x".into()))),
            ("delete pool failed: pool 'x/y' does not exist".into(), Some(Missing::Pool("x/y".into()))),
            ("create pool failed: parent 'a' of pool 'a/b' does not exist".into(), None),
            ("bridge 'vmbr9' does not exist".into(), None),
            ("no such task".into(), Some(Missing::Task)),
            (
                "hostname lookup 'pve9' failed - failed to get address info for: pve9: Name or service not known"
                    .into(),
                Some(Missing::Node("pve9".into())),
            ),
        ] {
            assert_eq!(missing(&text), expected, "{text}");
        }
    }

    #[test]
    fn the_rest_is_told_by_its_words() {
        assert_eq!(lock("VM is locked (snapshot-delete)"), Some("snapshot-delete"));
        assert!(is_already_exists("unable to restore VM 100 - VM 100 already exists on node 'pve2'"));
        assert!(is_already_exists("create resource failed: resource ID 'vm:100' already defined"));
        assert!(is_root_only("only root can set 'hostpci0' config for non-mapped devices"));
        assert!(is_no_quorum("cluster not ready - no quorum?"));
        assert!(is_no_quorum("cfs-lock 'file-user_cfg' error: no quorum!"));
        assert!(is_no_quorum("unable to open file '/etc/pve/nodes/t/qemu-server/101.conf.tmp.7' - Permission denied"));
    }
}
