//! Owns the shape of the provider block (formats.md).
use protocol::{Attribute, NestingMode, Schema, Type};

/// The schema, in the order the documentation shows it.
pub(crate) fn schema() -> Schema {
    let connection = vec![
        Attribute::new("endpoints", Type::list(Type::String))
            .required()
            .describe("Addresses of the cluster's nodes, tried in turn: `https://10.0.0.10:8006`."),
        Attribute::string("api_token").optional().sensitive().describe(
            "API token, `USER@REALM!TOKENID=UUID`. An ordinary root variable stands in the plan file in clear, sensitive \
             or not: use `api_token_env` or an ephemeral variable.",
        ),
        Attribute::string("api_token_env").optional().describe("Name of the environment variable that holds the API token."),
        Attribute::string("username").optional().describe("User, `USER@REALM`, where no token is used."),
        Attribute::string("password").optional().sensitive().describe("The user's password; see `api_token` for why not."),
        Attribute::string("password_env").optional().describe("Name of the environment variable that holds the password."),
        Attribute::string("migration_token").optional().sensitive().describe(
            "Token of this cluster that moves with method `offline` or `storage-migration` hand to the cluster they come from: \
             Proxmox VE's `remote_migrate` logs in with it. Root of that cluster can read it, so give it a user of its own, \
             Sys.Incoming on `/` and an expiry; without one such moves into this cluster are refused. Form and caution as with `api_token`.",
        ),
        Attribute::string("migration_token_env")
            .optional()
            .describe("Name of the environment variable that holds `migration_token`."),
        Attribute::new("fingerprints", Type::list(Type::String))
            .optional()
            .describe("SHA-256 fingerprints of the nodes' certificates, one per node: `A1:B2:…`. Nothing else is believed then."),
        Attribute::string("ca_file").optional().describe("PEM file of the cluster's CA, relative to the working directory."),
        Attribute::bool("insecure")
            .optional()
            .describe("Believe any certificate (false). Anybody on the way can then read the credentials; warned about."),
        Attribute::string("connect_timeout").optional().describe("Time to reach one endpoint (`5s`)."),
        Attribute::string("proxy").optional().sensitive().describe(
            "HTTP proxy whose tunnel leads to the cluster: `http://proxy.example:3128`, with `user:password@` before the host where it \
             asks for that. Unset, `HTTPS_PROXY` and `NO_PROXY` of the environment hold, as they do for Terraform itself: loopback \
             addresses are always reached straight. TLS goes from end to end, so `fingerprints` and `ca_file` are the cluster's.",
        ),
        Attribute::bool("direct")
            .optional()
            .describe("Reach the cluster straight, whatever the environment says of proxies (false)."),
    ];
    Schema::new(
        "Federated Proxmox VE: several independent clusters at several sites as one declarative thing.",
        vec![
            Attribute::string("config_file").optional().describe(
                "The federation's facts, pools, policies and migration paths: a YAML file in the multi-site guide's format. \
                 Relative to the working directory; use `${path.root}/…`.",
            ),
            Attribute::nested("clusters", NestingMode::Map, connection).optional().describe(
                "Connections by cluster name. A key here wins over the same key of the file's connection.",
            ),
            Attribute::new("lost_clusters", Type::set(Type::String)).optional().describe(
                "Clusters whose sites are gone, for good or for too long. While one doesn't answer, machines that state has there are planned \
                 on another cluster of their pool, restored from the newest backup that is seen there; what they wrote since is lost.",
            ),
            Attribute::string("inventory").optional().describe(
                "What `data.moxxie_federation` of an aliased provider reported. It travels in the plan file, so that apply \
                 decides from the very facts the plan saw.",
            ),
            Attribute::string("plan_id").optional().describe(
                "Identity of the plan, where several plans of one folder are applied out of order. The digest of `inventory` \
                 where that is set. `plantimestamp()` works, but breaks the `import` command.",
            ),
            Attribute::string("operation_lease").optional().describe(
                "How long the holder of an unfinished operation on another machine may be silent before it is taken over (`15m`).",
            ),
            Attribute::string("audit_file").optional().describe(
                "File to which every step of a move is appended, one JSON line each: who, what, when, from, to, bytes, seconds, \
                 outcome, downtime. A file that can't be opened is an error.",
            ),
            Attribute::number("concurrency").optional().describe("Most calls under way at once, all clusters together (32)."),
        ],
    )
}
