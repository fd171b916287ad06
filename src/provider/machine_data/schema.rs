//! Owns the shape of `data.moxxie_virtual_machine`.
use protocol::{Attribute, NestingMode, Schema, Type};

/// The schema, in the order the documentation shows it.
pub(crate) fn schema() -> Schema {
    let cpu = vec![
        Attribute::number("cores").computed().describe("Cores per socket."),
        Attribute::number("sockets").computed().describe("Sockets."),
        Attribute::string("type").computed().describe("CPU model."),
    ];
    let interface = vec![
        Attribute::string("slot").computed().describe(
            "The network device that it is, by its MAC address: `net0`. Null for what the guest made itself.",
        ),
        Attribute::string("name").computed().describe("The guest's name for it, for example `eth0`."),
        Attribute::string("mac").computed().describe("MAC address, as the guest tells it."),
        Attribute::new("addresses", Type::list(Type::String))
            .computed()
            .describe("Addresses with their prefixes (`10.1.2.3/24`), without loopback and link-local ones."),
    ];
    let addresses = |version: &str| {
        format!(
            "{version} addresses of the network devices, by slot and in the guest's order, without prefix, loopback and \
             link-local ones. Null where no agent answers."
        )
    };
    Schema::new(
        "One machine as it is now, managed here or not, and the addresses that its guest agent tells. `moxxie_virtual_machine` \
         itself has none: they would cost a call for each machine in each refresh, and change without anybody's doing. Where \
         `machine` refers to a resource with a change pending, core reads it after the apply.",
        vec![
            Attribute::string("machine").required().describe(
                "The machine: `cluster/vmid` (two calls), or a UUID or name that is unique in the federation (a UUID asks about \
                 each machine).",
            ),
            Attribute::string("wait_for_addresses").optional().describe(
                "How long to ask until a network device has an address, for example `2m`, where the machine runs and its agent is \
                 configured. Asked once unless set; when the time is over there are none, and a warning.",
            ),
            Attribute::string("id").computed().describe("SMBIOS UUID; null where it has none."),
            Attribute::string("name").computed().describe("Name."),
            Attribute::string("cluster").computed().describe("Cluster."),
            Attribute::string("node").computed().describe("Node inside the cluster."),
            Attribute::number("vmid").computed().describe("VMID."),
            Attribute::string("pool").computed().describe("Pool; null where it is in none, or the token sees none."),
            Attribute::new("tags", Type::set(Type::String)).computed().describe("Tags."),
            Attribute::string("description").computed().describe("Notes, without what moxxie keeps there."),
            Attribute::bool("started").computed().describe("Whether it runs."),
            Attribute::bool("template").computed().describe("Whether it is a template."),
            Attribute::nested("cpu", NestingMode::Single, cpu).computed().describe("Processor."),
            Attribute::string("memory").computed().describe("Memory, for example `4GiB`."),
            Attribute::new("config", Type::map(Type::String)).computed().describe(
                "Its configuration by Proxmox VE's keys, with changes that wait for a restart, without notes and cloud-init's \
                 password.",
            ),
            Attribute::new("waiting", Type::list(Type::String))
                .computed()
                .describe("Keys whose change waits until it is stopped and started through Proxmox VE."),
            Attribute::new("ipv4_addresses", Type::list(Type::String)).computed().describe(addresses("IPv4")),
            Attribute::new("ipv6_addresses", Type::list(Type::String)).computed().describe(addresses("IPv6")),
            Attribute::nested("network_interfaces", NestingMode::List, interface).computed().describe(
                "What the agent tells of each interface but the loopback one. Null where no agent answers: it is off, not \
                 configured (`agent`), or not installed. Needs VM.GuestAgent.Audit (Proxmox VE 8: VM.Monitor); without it there is \
                 a warning.",
            ),
        ],
    )
}
