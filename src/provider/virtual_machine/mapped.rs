//! Owns what may stand beside the network of a device: the bridge and the VLAN that a cluster made of it.
//!
//! They are computed. Configuration that a CLI generates for an import repeats every value of state all the same, and has to
//! plan nothing; so they may stand there as long as they say what is.
use protocol::{AttributePath, Diagnostics, Value};

use crate::private::{Private, nic_path};

const NAMES: [&str; 2] = ["bridge", "vlan"];

/// The devices whose configuration names a network and, beside it, what a cluster made of it.
fn repeated(config: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let devices = config.attr("network_devices").as_map().into_iter().flatten();
    devices.filter(|(_, nic)| {
        nic.attr("network").as_str().is_some() && NAMES.into_iter().any(|name| !nic.attr(name).is_null())
    })
}

/// Whether a configuration says what a cluster made of a network, so that only its own edit can move the machine.
pub(super) fn is_repeated(config: &Value) -> bool {
    repeated(config).next().is_some()
}

/// Reports what the bridge or VLAN beside a network can't be. `moving`: the configuration's own edit moves the machine.
pub(super) fn check(config: &Value, prior: &Value, private: &Private, moving: bool, diags: &mut Diagnostics) {
    for (slot, nic) in repeated(config) {
        let had = prior.attr("network_devices").attr(slot);
        let other_network = !had.attr("network").is_null() && had.attr("network") != nic.attr("network");
        for name in NAMES {
            let value = nic.attr(name);
            if value.is_null() {
                continue;
            }
            let is_so = value == had.attr(name) && !had.is_null();
            let drifted = private.is_drift(&nic_path(slot, name), value);
            if (is_so || drifted) && !other_network && !moving {
                continue;
            }
            let word = if name == "vlan" { "VLAN" } else { name };
            diags.error_at(
                AttributePath::new("network_devices").key(slot.as_str()).attribute(name),
                format!("A network device has a network and a {word}"),
                format!(
                    "`{name}` is what a cluster makes of `network`, another one on each: leave it out, or name a `bridge` \
                     instead of the network."
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(network: &str, bridge: &str, vlan: i64) -> Value {
        let nic = Value::object([("network", Value::from(network)), ("bridge", bridge.into()), ("vlan", vlan.into())]);
        Value::object([("network_devices", Value::map([("net0", nic)]))])
    }

    fn wrong(config: &Value, prior: &Value, moving: bool) -> Vec<String> {
        let mut diags = Diagnostics::new();
        check(config, prior, &Private::default(), moving, &mut diags);
        diags.iter().map(|diag| diag.summary.clone()).collect()
    }

    #[test]
    fn a_bridge_and_a_vlan_beside_a_network_may_only_repeat_what_is() {
        let state = vm("app", "vmbr0", 120);
        assert_eq!(wrong(&state, &state, false), Vec::<String>::new());
        let unmapped = vm("", "vmbr0", 120).with_attr("network_devices", {
            let nic = Value::object([("network", Value::Null), ("bridge", Value::from("vmbr0")), ("vlan", 120.into())]);
            Value::map([("net0", nic)])
        });
        assert_eq!(wrong(&state, &unmapped, false), Vec::<String>::new(), "the mapping changed, which is a fact");
        assert_eq!(wrong(&state, &Value::Null, false).len(), 2, "a new machine");
        assert_eq!(wrong(&state, &state, true).len(), 2, "another cluster makes something else of it");
        assert_eq!(wrong(&vm("db", "vmbr0", 120), &state, false).len(), 2, "another network");
        assert_eq!(wrong(&vm("app", "vmbr1", 120), &state, false), ["A network device has a network and a bridge"]);
        assert_eq!(wrong(&vm("app", "vmbr0", 130), &state, false), ["A network device has a network and a VLAN"]);
    }

    #[test]
    fn what_somebody_else_changed_is_no_mistake_of_the_configuration() {
        let mut private = Private::default();
        private.note_drift(&vm("app", "vmbr0", 120), &vm("app", "vmbr0", 130));
        let mut diags = Diagnostics::new();
        check(&vm("app", "vmbr0", 120), &vm("app", "vmbr0", 130), &private, false, &mut diags);
        assert!(!diags.has_errors(), "{diags:?}");
    }
}
