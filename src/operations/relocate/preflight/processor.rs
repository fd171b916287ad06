//! Owns what a machine's processor and machine type need of the target's node.
use proxmox::VmConfig;

use super::{Findings, Preflight, finding};
use crate::failure::Failure;

/// Flags that a model needs beyond what every processor of PVE has, as `/proc/cpuinfo` names them.
const V2: [&str; 7] = ["cx16", "lahf_lm", "popcnt", "pni", "sse4_1", "sse4_2", "ssse3"];
const V3: [&str; 9] = ["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"];
const V4: [&str; 5] = ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"];

fn flags_of(model: &str) -> Vec<&'static str> {
    let (v2, aes, v3, v4) = match model {
        "x86-64-v2" => (true, false, false, false),
        "x86-64-v2-AES" => (true, true, false, false),
        "x86-64-v3" => (true, true, true, false),
        "x86-64-v4" => (true, true, true, true),
        _ => (false, false, false, false),
    };
    let parts: [(bool, &[&str]); 4] = [(v2, &V2), (aes, &["aes"]), (v3, &V3), (v4, &V4)];
    parts.into_iter().filter(|(wanted, _)| *wanted).flat_map(|(_, flags)| flags.iter().copied()).collect()
}

/// Keys that need something of the processor, with the flag of it: encrypted memory, and pages of 1 GiB.
fn features(config: &VmConfig) -> Vec<(&'static str, &'static str)> {
    let kind = |key: &str| {
        let first = config.get(key)?.split(',').next()?;
        Some(first.strip_prefix("type=").unwrap_or(first))
    };
    let sev = kind("amd-sev").map(|kind| match kind {
        "es" => ("amd-sev", "sev_es"),
        "snp" => ("amd-sev", "sev_snp"),
        _ => ("amd-sev", "sev"),
    });
    let tdx = kind("intel-tdx").map(|_| ("intel-tdx", "tdx_host_platform"));
    let pages = (config.get("hugepages") == Some("1024")).then_some(("hugepages", "pdpe1gb"));
    [sev, tdx, pages].into_iter().flatten().collect()
}

/// The highest number in a list of processors: 11 of `0,5,8-11`.
fn highest(processors: &str) -> Option<u64> {
    processors.split(|c: char| !c.is_ascii_digit()).filter_map(|number| number.parse().ok()).max()
}

/// A version of a machine type: major, minor, and Proxmox VE's own revision of it.
type MachineVersion = (u32, u32, u32);

/// The version that a machine type is pinned to: `9.2+pve1` of `pc-q35-9.2+pve1`; none where the newest is meant.
fn pinned(machine: &str) -> Option<MachineVersion> {
    let kind = machine.split(',').next()?;
    let kind = kind.strip_prefix("type=").unwrap_or(kind);
    version(kind.rsplit('-').next()?)
}

fn version(text: &str) -> Option<MachineVersion> {
    let (numbers, revision) = text.split_once("+pve").unwrap_or((text, "0"));
    let (major, minor) = numbers.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?, revision.parse().ok()?))
}

/// Whether a QEMU that knows `known` is too old for `wanted`. Revisions count only where the list has any of that version.
fn too_old(wanted: MachineVersion, known: impl Iterator<Item = MachineVersion> + Clone) -> bool {
    let (major, minor, revision) = wanted;
    let Some(newest) = known.clone().map(|(major, minor, _)| (major, minor)).max() else { return false };
    let revisions = known.filter(|known| (known.0, known.1) == (major, minor)).map(|known| known.2).max();
    (major, minor) > newest || revisions.is_some_and(|most| most > 0 && revision > most)
}

impl Preflight<'_> {
    /// A machine type that is newer than the target's QEMU fails at the start only, past the point of no return
    /// (`proxmox-ve.md` A15).
    pub(super) async fn machine_type(&self, config: &VmConfig, findings: &mut Findings) {
        let Some((machine, wanted)) = config.machine().and_then(|machine| Some((machine, pinned(machine)?))) else {
            return;
        };
        let types = match self.target.client.machine_types(&self.to.node).await {
            Ok(types) => types,
            Err(error) => {
                let next = "see why the node doesn't tell its machine types";
                return findings.push(finding("machine_type", error.to_string(), next));
            }
        };
        let known = types.iter().filter_map(|one| version(&one.version));
        if too_old(wanted, known.clone()) {
            let newest = known.max().map(|(major, minor, _)| format!("{major}.{minor}")).unwrap_or_default();
            let text = format!(
                "{}, node {}: its QEMU knows machine types up to {newest}, the machine is pinned to {machine}",
                self.target.name, self.to.node
            );
            let next = "upgrade the node, or set `machine` to one that both know, and restart the machine first";
            findings.push(finding("machine_type", text, next));
        }
    }

    /// What is bound to processors by number, or needs of them what no model has a word for: it fails at the start only.
    pub(super) async fn bound(&self, config: &VmConfig, findings: &mut Findings) {
        let (needed, most) = (features(config), config.get("affinity").and_then(highest));
        if needed.is_empty() && most.is_none() {
            return;
        }
        // Without Sys.Audit on the node it can't be told.
        let Ok(status) = self.target.client.node_status(&self.to.node).await else { return };
        let node = format!("{}, node {}", self.target.name, self.to.node);
        let there: Vec<&str> = status.cpuinfo.flags.split_whitespace().collect();
        for (key, flag) in needed.into_iter().filter(|(_, flag)| !there.is_empty() && !there.contains(flag)) {
            let text = format!("{node}: {key} needs {flag}, which its processor lacks");
            findings.push(finding("cpu_flags", text, format!("remove {key}, or move it to a node that has that")));
        }
        let processors = status.cpuinfo.cpus;
        if most.is_some_and(|most| processors > 0 && most >= processors) {
            let text =
                format!("{node}: affinity binds it to processors that the node lacks: it has {processors}, from 0 on");
            findings.push(finding("passthrough", text, "remove `affinity`, or name other processors"));
        }
    }

    /// A model that the target's processor lacks fails at the start only, past the point of no return (hazards.md OR 35).
    pub(super) async fn processor(&self, config: &VmConfig, findings: &mut Findings, warnings: &mut Vec<Failure>) {
        let model = config.cpu_type().unwrap_or("kvm64");
        if model == "host" {
            let text = format!("{}: what its guest sees of the processor changes with the node", self.guest.place);
            warnings.push(Failure::new("The machine has CPU type host (cpu_flags)").at(text));
        }
        let needed = flags_of(model);
        if needed.is_empty() {
            return;
        }
        // Without Sys.Audit on the node it can't be told.
        let Ok(status) = self.target.client.node_status(&self.to.node).await else { return };
        let there: Vec<&str> = status.cpuinfo.flags.split_whitespace().collect();
        let missing: Vec<&str> = needed.into_iter().filter(|flag| !there.contains(flag)).collect();
        if !there.is_empty() && !missing.is_empty() {
            let text = format!(
                "{}, node {}: its processor lacks {} for CPU type {model}",
                self.target.name,
                self.to.node,
                missing.join(", ")
            );
            findings.push(finding(
                "cpu_flags",
                text,
                "set `cpu.type` to one that both have, and restart the machine first",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_type_is_too_new_by_its_version_and_then_by_its_revision() {
        let known = |texts: &[&str]| texts.iter().filter_map(|text| version(text)).collect::<Vec<_>>();
        let plain = known(&["8.1", "9.0", "9.2"]);
        let revised = known(&["9.2", "9.2+pve1", "10.1+pve0"]);
        let too_old = |machine: &str, known: &[MachineVersion]| {
            pinned(machine).is_some_and(|wanted| too_old(wanted, known.iter().copied()))
        };
        for machine in ["pc-q35-10.0", "pc-i440fx-9.3", "type=pc-q35-10.1+pve0,viommu=virtio"] {
            assert!(too_old(machine, &plain), "{machine}");
        }
        for machine in ["q35", "pc", "pc-q35-9.2", "pc-q35-9.2+pve1", "pc-i440fx-8.0", "pc-q35-10.0"] {
            assert!(
                !too_old(machine, &if machine.ends_with("10.0") { revised.clone() } else { plain.clone() }),
                "{machine}"
            );
        }
        assert!(too_old("pc-q35-9.2+pve2", &revised) && !too_old("pc-q35-9.2+pve1", &revised));
        assert!(!too_old("pc-q35-9.2", &[]), "a node that lists none says nothing");
    }

    #[test]
    fn newer_models_need_what_older_ones_need() {
        let models = ["kvm64", "x86-64-v2", "x86-64-v2-AES", "x86-64-v3", "x86-64-v4"];
        for pair in models.windows(2) {
            let (less, more) = (flags_of(pair[0]), flags_of(pair[1]));
            assert!(more.len() > less.len() && more.starts_with(&less), "{pair:?}");
        }
    }
}
