//! Which handler answers which call of the table.

use crate::http::Handler;
use crate::{auth, backup, content, firewall, ha, ha_rules, jobs, pools, qemu, reads, replication, tasks};

/// The handler of a method and a path template.
pub(crate) fn handler(method: &str, path: &str) -> Option<Handler> {
    let rest = path.strip_prefix("/nodes/{node}/qemu/{vmid}");
    if let Some(rest) = rest {
        return of_vm(method, rest);
    }
    if let Some(rest) = path.strip_prefix("/nodes/{node}") {
        return of_node(method, rest);
    }
    Some(match (method, path) {
        ("GET", "/version") => reads::version,
        ("GET", "/access/permissions") => auth::permissions,
        ("GET", "/access/ticket") => auth::no_ticket,
        ("POST", "/access/ticket") => auth::ticket,
        ("GET", "/access/users/{userid}/token") => auth::tokens,
        ("GET", "/access/users/{userid}/token/{tokenid}") => auth::token,
        ("POST", "/access/users/{userid}/token/{tokenid}") => auth::add_token,
        ("DELETE", "/access/users/{userid}/token/{tokenid}") => auth::remove_token,
        ("GET", "/cluster/status") => reads::cluster_status,
        ("GET", "/cluster/resources") => reads::resources,
        ("GET", "/cluster/nextid") => reads::next_id,
        ("GET", "/cluster/options") => reads::options,
        ("PUT", "/cluster/options") => reads::set_options,
        ("GET", "/cluster/tasks") => tasks::recent,
        ("GET", "/access/acl") => auth::acl,
        ("GET", "/cluster/backup") => jobs::list,
        ("GET", "/cluster/firewall/options") => firewall::options,
        ("GET", "/cluster/firewall/groups") => firewall::groups,
        ("GET", "/cluster/firewall/refs") => firewall::refs,
        ("GET", "/cluster/replication") => replication::list,
        ("DELETE", "/cluster/replication/{id}") => replication::remove,
        ("GET", "/cluster/ha/rules") => ha_rules::list,
        ("GET", "/cluster/ha/rules/{rule}") => ha_rules::one,
        ("PUT", "/cluster/ha/rules/{rule}") => ha_rules::update,
        ("GET", "/cluster/ha/groups") => ha_rules::groups,
        ("GET", "/cluster/ha/resources") => ha::list,
        ("POST", "/cluster/ha/resources") => ha::create,
        ("GET", "/cluster/ha/resources/{sid}") => ha::one,
        ("PUT", "/cluster/ha/resources/{sid}") => ha::update,
        ("DELETE", "/cluster/ha/resources/{sid}") => ha::remove,
        ("GET", "/cluster/ha/status/current") => ha::status,
        ("GET", "/nodes") => reads::nodes,
        ("GET", "/pools") => pools::list,
        ("POST", "/pools") => pools::create,
        ("PUT", "/pools" | "/pools/{poolid}") => pools::update,
        ("DELETE", "/pools" | "/pools/{poolid}") => pools::remove,
        ("GET", "/pools/{poolid}") => pools::one,
        ("GET", "/storage") => content::index,
        ("GET", "/storage/{storage}") => content::one,
        _ => return None,
    })
}

fn of_node(method: &str, rest: &str) -> Option<Handler> {
    Some(match (method, rest) {
        ("GET", "/status") => reads::node_status,
        ("GET", "/version") => reads::version,
        ("GET", "/network") => reads::network,
        ("GET", "/network/{iface}") => reads::network_one,
        ("GET", "/certificates/info") => reads::certificates,
        ("GET", "/capabilities/qemu/machines") => qemu::machines::list,
        ("GET", "/lxc" | "/replication") => reads::empty,
        ("GET", "/storage") => content::on_node,
        ("GET", "/storage/{storage}/status") => content::status,
        ("GET", "/storage/{storage}/content") => content::list,
        ("GET", "/storage/{storage}/content/{volume}") => content::attributes,
        ("PUT", "/storage/{storage}/content/{volume}") => content::update,
        ("DELETE", "/storage/{storage}/content/{volume}") => content::remove,
        ("GET", "/qemu") => qemu::read::list,
        ("POST", "/qemu") => qemu::create::post,
        ("POST", "/vzdump") => backup::vzdump::post,
        ("GET", "/vzdump/defaults") => backup::vzdump::defaults,
        ("GET", "/vzdump/extractconfig") => backup::restore::extract_config,
        ("GET", "/tasks") => tasks::list,
        ("GET", "/tasks/{upid}/status") => tasks::status,
        ("GET", "/tasks/{upid}/log") => tasks::log,
        ("DELETE", "/tasks/{upid}") => tasks::stop,
        _ => return None,
    })
}

fn of_vm(method: &str, rest: &str) -> Option<Handler> {
    Some(match (method, rest) {
        ("DELETE", "") => qemu::destroy::delete,
        ("GET", "/config") => qemu::read::config,
        ("PUT", "/config") => qemu::config::put,
        ("POST", "/config") => qemu::config::post,
        ("GET", "/pending") => qemu::read::pending,
        ("PUT", "/resize") => qemu::config::resize,
        ("POST", "/move_disk") => qemu::move_disk::post,
        ("POST", "/remote_migrate") => qemu::remote_migrate::post,
        ("GET", "/status/current") => qemu::read::status,
        ("POST", "/status/start") => qemu::power::post_start,
        ("POST", "/status/stop") => qemu::power::post_stop,
        ("POST", "/status/shutdown") => qemu::power::post_shutdown,
        ("POST", "/status/reboot") => qemu::power::post_reboot,
        ("POST", "/status/suspend") => qemu::power::post_suspend,
        ("POST", "/status/resume") => qemu::power::post_resume,
        ("POST", "/clone") => qemu::disks::clone,
        ("POST", "/template") => qemu::disks::template,
        ("GET", "/snapshot") => qemu::read::snapshots,
        ("GET", "/firewall/options") => firewall::guest_options,
        ("GET", "/firewall/rules") => firewall::guest_rules,
        ("POST", "/agent/ping") => qemu::read::agent_ping,
        ("GET", "/agent/network-get-interfaces") => qemu::read::agent_network,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::table;

    #[test]
    fn every_call_of_the_table_has_a_handler() {
        for endpoint in &table().endpoints {
            assert!(handler(&endpoint.method, &endpoint.path).is_some(), "{} {}", endpoint.method, endpoint.path);
        }
    }
}
