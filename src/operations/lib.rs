//! Carries decisions out on the clusters: inventory, identity, operations and their interpreter.
//!
//! It asks `federation` for the rules and acts through `proxmox`. It must not know Terraform (no schema, no state, no plan)
//! nor HTTP (no request, no status code: errors are asked by predicate).
//!
//! Start at [`Fleet`]: the clusters of one process. A machine is created by [`Fleet::create`], found by [`Fleet::find`],
//! changed by [`Fleet::update`], moved by [`Fleet::relocate`], removed by [`Fleet::destroy`]. What the clusters keep for
//! everybody is read by [`Fleet::rules`] and written by [`Fleet::create_pool`] and its siblings. Whatever takes more than one
//! call is an operation with a journal on the clusters (`operation.rs`, `journal.rs`), so that the next process knows.

mod absence;
mod addresses;
mod adopt;
mod audit;
mod births;
mod claims;
mod clone;
pub mod connections;
mod create;
mod destroy;
mod difference;
pub mod disks;
mod enrolment;
mod failure;
mod fleet;
mod guest;
mod ha;
mod identity;
mod inventory;
mod journal;
mod kept;
mod made;
pub mod moves;
mod notes;
mod operation;
mod parameters;
mod process;
mod recover;
pub mod rehearsal;
mod relocate;
mod resolve;
pub mod restart;
mod rights;
mod room;
mod site;
mod spec;
mod status;
mod update;
pub mod validation;
mod vmid;

pub use addresses::Interface;
pub use audit::Audit;
pub use create::Outcome;
pub use enrolment::{ClusterFound, ClusterRecord, ClusterWritten};
pub use enrolment::{PoolCopies, PoolFound, PoolWritten, Revision};
pub use failure::{Failure, FailureKind, Object, Parts, Remedy};
pub use fleet::{Fleet, Settings};
pub use guest::{Guest, Record, RetiredCopy};
pub use identity::Found;
pub use journal::{Holder, Journal, Kind, Place, Undo};
pub use notes::{Copy, Kept, Mark, MarkFound, Origin, Retired};
pub use process::Process;
pub use recover::{Backup, Backups, Made, Recovery};
pub use rehearsal::Cleared;
pub use relocate::{Checked, Finding, Mapping, MigrationPlan, Outlook, Preview};
pub use site::{Overview, Site};
pub use spec::{
    AddressWish, CloneWish, CloudInitWish, Cpu, DiskWish, HealthWish, MigrationWish, NicPlace, NicWish, OnUnhealthy,
    Password, RebootPolicy, Resolved, Source, VmSpec,
};
pub use status::{ClusterStatus, Open, Status};

/// What is needed to connect, for callers that read it from a user.
pub use proxmox::{Auth, ClusterConnection, DiskSpec, Fingerprint, NIC_MODELS, NicSpec, Stored, TlsTrust};
pub use secrecy::SecretString;
