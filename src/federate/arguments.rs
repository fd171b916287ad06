//! Owns the command line: its words, as a shell or as the guide's quoted form gives them.
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use federation::model::{Capability, Method};
use federation::{Bytes, ClusterName, PoolName, Span, Tag, VmName};

const EXIT_CODES: &str = "\
Exit codes:
  0  nothing is wrong; every machine has a cluster
  1  something is wrong: mistakes in a file, a cluster that does not answer, no cluster for a machine, a move that
     is refused or failed
  2  the command can't be carried out as it was given: unknown words, a file that can't be read";

/// `federate`: several independent Proxmox VE clusters as one federation.
#[derive(Debug, Clone, Parser)]
#[command(
    name = "federate",
    version,
    about = "Several independent Proxmox VE clusters as one federation",
    long_about = "Looks at a federation of independent Proxmox VE clusters: whether its file is right, how it is, and where a \
                  machine would go. Only `migrate` without --dry-run changes anything, and `rehearse`, which removes \
                  what it makes.",
    after_help = EXIT_CODES
)]
pub struct Arguments {
    /// What every verb takes.
    #[command(flatten)]
    pub common: Common,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
}

/// What every verb takes; it may stand before or behind the verb.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The federation file; multi-site.yaml in the working directory where not given
    #[arg(short, long, global = true, value_name = "FILE", env = "MOXXIE_CONFIG_FILE")]
    pub config: Option<PathBuf>,
    /// Connections by cluster name that win over the file's: YAML or JSON in the shape of the provider block's `clusters`,
    /// without secrets (name environment variables)
    #[arg(long, global = true, value_name = "FILE", env = "MOXXIE_CONNECTIONS")]
    pub connections: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Clone, Subcommand)]
pub enum Verb {
    /// Check the file, and on request whether every cluster answers and is as declared
    #[command(after_help = EXIT_CODES)]
    Validate(Validate),
    /// Show every cluster and pool: health, capacity, use
    #[command(after_help = EXIT_CODES)]
    Status,
    /// Check Terraform configurations against the provider's schema and the federation file: what core drops without a word
    #[command(after_help = EXIT_CODES)]
    Lint(Lint),
    /// Show where machines would go, and why
    #[command(after_help = EXIT_CODES)]
    Allocate(Box<Allocate>),
    /// Move a machine to another cluster, or show what that would be
    #[command(after_help = EXIT_CODES)]
    Migrate(Box<Migrate>),
    /// Prove on your own clusters what moves rely on, with a machine that is made for it and removed
    #[command(after_help = EXIT_CODES)]
    Rehearse(Rehearse),
}

/// `federate validate`.
#[derive(Debug, Clone, Args)]
pub struct Validate {
    /// Log in to every cluster; check its quorum and what the file declares of it
    #[arg(long)]
    pub check_connectivity: bool,
}

/// `federate lint`.
#[derive(Debug, Clone, Args)]
pub struct Lint {
    /// Folder with the configuration; every .tf, .tofu, .tftest.hcl and .tofutest.hcl file in it and below it is read
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// `federate allocate`.
#[derive(Debug, Clone, Args)]
pub struct Allocate {
    /// The pool whose policy decides
    #[arg(short, long, value_name = "POOL")]
    pub pool: PoolName,
    /// Cores of each machine
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8192))]
    pub cpu: u32,
    /// Memory of each machine, with its unit
    #[arg(long, value_name = "SIZE", default_value = "2GB")]
    pub memory: Bytes,
    /// A disk of each machine, with its unit; repeat for more
    #[arg(long, value_name = "SIZE")]
    pub disk: Vec<Bytes>,
    /// Storage of the disks, by its federation name
    #[arg(long, value_name = "NAME")]
    pub storage: Option<String>,
    /// Network, by its federation name; repeat for more
    #[arg(long, value_name = "NAME")]
    pub network: Vec<String>,
    /// Tag of each machine; repeat for more
    #[arg(long, value_name = "TAG")]
    pub tag: Vec<Tag>,
    /// Ability that the cluster must declare (supports_ha, supports_ceph, nested_virtualization, …); repeat for more
    #[arg(long, value_name = "ABILITY")]
    pub needs: Vec<Capability>,
    /// Where it should be: a city, country, cluster or LATITUDE,LONGITUDE
    #[arg(long, value_name = "PLACE", allow_hyphen_values = true)]
    pub location: Option<String>,
    /// Take only this cluster
    #[arg(long, value_name = "CLUSTER")]
    pub cluster: Option<ClusterName>,
    /// Name of the machine, whose number is its place in the sequence; of the first one where --count is given
    #[arg(long, value_name = "NAME", default_value = "vm-1")]
    pub name: VmName,
    /// How many machines, placed together
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub count: u32,
    /// Show every candidate with what counts for it, or every reason against it
    #[arg(long)]
    pub explain: bool,
}

/// `federate migrate`.
#[derive(Debug, Clone, Args)]
pub struct Migrate {
    /// The machine: its name, or its VMID as 100 or vm-100
    pub vm: String,
    /// The cluster it is on
    #[arg(long, value_name = "CLUSTER")]
    pub from: String,
    /// The cluster it is to go to
    #[arg(long, value_name = "CLUSTER")]
    pub to: String,
    /// Show steps, checks, mappings, bytes and predicted downtime; do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Remove the source once the target is well, instead of keeping it fenced
    #[arg(long)]
    pub delete_source: bool,
    /// How long a kept source stays (7d)
    #[arg(long, value_name = "SPAN")]
    pub keep_source: Option<Span>,
    /// How long the archive stays (7d)
    #[arg(long, value_name = "SPAN")]
    pub keep_archive: Option<Span>,
    /// Refuse where more downtime is predicted
    #[arg(long, value_name = "SPAN")]
    pub max_downtime: Option<Span>,
    /// Method in place of the path's
    #[arg(long, value_name = "METHOD")]
    pub method: Option<Method>,
    /// How long the guest may take to shut down (10m)
    #[arg(long, value_name = "SPAN")]
    pub shutdown_timeout: Option<Span>,
    /// Stop a guest hard that doesn't shut down in that time, instead of taking the move back
    #[arg(long)]
    pub force_stop: bool,
    /// What the move may leave behind; repeat for more
    #[arg(long, value_name = "WHAT", value_parser = federation::migration::ACCEPTED_LOSSES)]
    pub accept_loss: Vec<String>,
    /// VMID on the target; the same as here where it is free
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(100..=999_999_999))]
    pub vmid: Option<u32>,
    /// Node of the target; the roomiest where not given
    #[arg(long, value_name = "NODE")]
    pub node: Option<String>,
    /// Also list the checks that have nothing against a refused move
    #[arg(long)]
    pub verbose: bool,
    /// Append one JSON line per step to this file
    #[arg(long, value_name = "FILE")]
    pub audit_file: Option<PathBuf>,
    /// Not there: a move is carried out by the process that began it
    #[arg(long = "async", hide = true)]
    pub asynchronous: bool,
}

/// `federate rehearse`.
#[derive(Debug, Clone, Args)]
pub struct Rehearse {
    /// The cluster that the machine is made on
    #[arg(long, value_name = "CLUSTER")]
    pub from: String,
    /// The cluster it moves to, and back from
    #[arg(long, value_name = "CLUSTER")]
    pub to: String,
    /// The pool it is made in; its limits, rules and rights count
    #[arg(short, long, value_name = "POOL")]
    pub pool: PoolName,
    /// Storage of a disk, by its federation name; repeat for more. Two disks on the clusters' primary storage where not given
    #[arg(long, value_name = "NAME")]
    pub storage: Vec<String>,
    /// Network, by its federation name; the first one that both clusters have where not given
    #[arg(long, value_name = "NAME")]
    pub network: Option<String>,
    /// Append one JSON line per step of its moves to this file
    #[arg(long, value_name = "FILE")]
    pub audit_file: Option<PathBuf>,
}

/// The words of a command line. The guide's form, the whole command in one quoted argument that begins with `federate`, is
/// taken apart as a shell would, a backslash at the end of a line included.
pub fn words(given: impl IntoIterator<Item = String>) -> Vec<String> {
    let given: Vec<String> = given.into_iter().collect();
    match given.as_slice() {
        [program, whole] if whole.trim().contains(char::is_whitespace) => {
            let mut words = split(whole);
            if words.first().is_some_and(|word| word == "federate") {
                words.remove(0);
            }
            std::iter::once(program.clone()).chain(words).collect()
        }
        _ => given,
    }
}

fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some('"') | None, '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(next) => word.get_or_insert_default().push(next),
            },
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    //! The guide's commands, typed as the guide types them.

    use super::*;

    fn parse(line: &[&str]) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(words(line.iter().map(|word| (*word).to_owned())))
    }

    #[test]
    fn the_guides_quoted_commands_parse() {
        let allocate = parse(&[
            "federate",
            "federate allocate -c multi-site.yaml \\\n  -p production-pool --cpu 4 --memory 8GB --location Amsterdam",
        ]);
        let allocate = allocate.unwrap();
        assert_eq!(allocate.common.config, Some("multi-site.yaml".into()));
        let Verb::Allocate(asked) = allocate.verb else { panic!("{allocate:?}") };
        assert_eq!((asked.pool.as_str(), asked.cpu, asked.memory), ("production-pool", 4, Bytes::from_gib(8)));
        assert_eq!(asked.location.as_deref(), Some("Amsterdam"));
        for line in [
            "federate status -c multi-site.yaml",
            "federate migrate -c multi-site.yaml \\\n  vm-100 --from worldstream-prod --to databarn-dr",
            "federate validate -c multi-site.yaml",
            "federate validate -c config.yaml --check-connectivity",
            "federate migrate vm-100 --from source --to target --dry-run",
            "federate allocate -p pool --explain",
            "federate -c multi-site.yaml status",
            "federate rehearse --from source --to target -p pool",
        ] {
            parse(&["federate", line]).unwrap_or_else(|error| panic!("{line}: {error}"));
            let words: Vec<String> = split(line);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            parse(&words).unwrap_or_else(|error| panic!("{line}: {error}"));
        }
    }

    #[test]
    fn quotes_keep_words_together() {
        assert_eq!(split(r#"a "b c" 'd "e' f\ g """#), ["a", "b c", "d \"e", "f g", ""]);
        assert_eq!(words(["x".into(), "status".into()]), ["x", "status"]);
    }

    #[test]
    fn what_is_no_size_or_number_is_refused_in_the_units_words() {
        for (option, value, word) in [
            ("--memory", "8192", "no unit"),
            ("--memory", "lots", "size"),
            ("--cpu", "0", "1..=8192"),
            ("--count", "-1", ""),
            ("-p", "moxxie-x", "reserved"),
        ] {
            let line = ["federate", "allocate", "-p", "pool", option, value];
            let line = if option == "-p" { vec!["federate", "allocate", "-p", value] } else { line.to_vec() };
            let error = parse(&line).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(word), "{option} {value}: {error}");
        }
    }
}
