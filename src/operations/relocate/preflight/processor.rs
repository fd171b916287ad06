//! Owns what a machine's processor needs of the target's node.
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

impl Preflight<'_> {
    /// A model that the target's processor lacks fails at the start only, past the point of no return (operations-review 35).
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
    fn newer_models_need_what_older_ones_need() {
        let models = ["kvm64", "x86-64-v2", "x86-64-v2-AES", "x86-64-v3", "x86-64-v4"];
        for pair in models.windows(2) {
            let (less, more) = (flags_of(pair[0]), flags_of(pair[1]));
            assert!(more.len() > less.len() && more.starts_with(&less), "{pair:?}");
        }
    }
}
