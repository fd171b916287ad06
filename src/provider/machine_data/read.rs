//! Owns ReadDataSource of `data.moxxie_virtual_machine`.
use federation::{Bytes, Span};
use operations::{Guest, Interface};
use protocol::{AttributePath, Diagnostics, Value};

use crate::failures::{report, warn};
use crate::placing::Ready;

/// Keys that are not shown: notes have an attribute of their own, and a password is nobody's business, masked or not.
const NOT_SHOWN: [&str; 2] = ["description", "cipassword"];

/// Static checks.
pub(crate) fn validate(config: &Value, diags: &mut Diagnostics) {
    if let Some(Err(error)) = config.attr("wait_for_addresses").as_str().map(str::parse::<Span>) {
        diags.error_at(AttributePath::new("wait_for_addresses"), "Invalid wait_for_addresses", error.to_string());
    }
}

/// Looks at a machine and asks its agent. A machine that isn't there is an error; an agent that doesn't answer is none.
pub(crate) async fn read(ready: Option<&Ready>, config: Value, diags: &mut Diagnostics) -> Value {
    let Some(ready) = ready else {
        diags.warning("The machine is not read", "The provider block holds values that are not known yet.");
        return config;
    };
    let machine = config.attr("machine").as_str().unwrap_or_default();
    let guest = match ready.fleet.look_at(machine).await {
        Ok(guest) => guest,
        Err(failure) => {
            report(&failure, diags);
            return config;
        }
    };
    let wait = config.attr("wait_for_addresses").as_str().and_then(|span| span.parse::<Span>().ok());
    let interfaces = match ready.fleet.interfaces(&guest, wait).await {
        Ok(interfaces) => interfaces,
        Err(failure) => {
            warn(&failure, diags);
            None
        }
    };
    let none = interfaces.iter().flatten().all(|one| one.slot.is_none() || one.addresses.is_empty());
    if let Some(wait) = wait.filter(|_| none && guest.running && guest.config.agent().enabled()) {
        let name = guest.config.name().unwrap_or_default();
        diags.warning(
            format!("No address of {name} is known"),
            format!("{}: its agent has told none within {wait}. Is it installed, and does it run?", guest.place),
        );
    }
    answer(config, &guest, interfaces.as_deref())
}

fn answer(config: Value, guest: &Guest, interfaces: Option<&[Interface]>) -> Value {
    let is = &guest.config;
    let cpu = [
        ("cores", Value::from(is.cores())),
        ("sockets", is.sockets().into()),
        ("type", is.cpu_type().unwrap_or("kvm64").into()),
    ];
    let shown = is.raw().iter().filter(|(key, _)| !NOT_SHOWN.contains(&key.as_str()));
    let uuid = Some(guest.uuid.as_str()).filter(|uuid| !uuid.is_empty());
    config
        .with_attr("id", uuid)
        .with_attr("name", is.name().unwrap_or_default())
        .with_attr("cluster", guest.place.cluster.as_str())
        .with_attr("node", guest.place.node.as_str())
        .with_attr("vmid", guest.place.vmid)
        .with_attr("pool", guest.pool.as_ref().map(|pool| pool.as_str()))
        .with_attr("tags", Value::set(is.tags()))
        .with_attr("description", guest.description.as_str())
        .with_attr("started", guest.running)
        .with_attr("template", is.template())
        .with_attr("cpu", Value::object(cpu))
        .with_attr("memory", Bytes::from_mib(is.memory_mib()).to_string())
        .with_attr("config", Value::map(shown.map(|(key, value)| (key.clone(), Value::from(value.as_str())))))
        .with_attr("waiting", Value::list(guest.waiting.iter().map(|change| Value::from(change.key.as_str()))))
        .with_attr("ipv4_addresses", addresses(interfaces, |ip| ip.is_ipv4()))
        .with_attr("ipv6_addresses", addresses(interfaces, |ip| ip.is_ipv6()))
        .with_attr("network_interfaces", interfaces.map_or(Value::Null, |all| Value::list(all.iter().map(interface))))
}

/// Those of the machine's own devices.
fn addresses(interfaces: Option<&[Interface]>, wanted: fn(&std::net::IpAddr) -> bool) -> Value {
    let Some(interfaces) = interfaces else { return Value::Null };
    let own = interfaces.iter().filter(|one| one.slot.is_some()).flat_map(|one| &one.addresses);
    Value::list(own.filter(|(ip, _)| wanted(ip)).map(|(ip, _)| Value::from(ip.to_string())))
}

fn interface(one: &Interface) -> Value {
    let addresses = one.addresses.iter().map(|(ip, prefix)| Value::from(format!("{ip}/{prefix}")));
    Value::object([
        ("slot", Value::from(one.slot.as_deref())),
        ("name", one.name.as_str().into()),
        ("mac", one.mac.as_deref().into()),
        ("addresses", Value::list(addresses)),
    ])
}
