//! Terraform's nouns: the provider block, resources and data sources, one folder each.
//!
//! This crate decides nothing: it translates between Terraform's values and the federation's rules and operations, and pins
//! what was decided so that apply does what plan showed (`placing.rs`, design.md §5). It must not know HTTP, Proxmox VE's
//! calls, or the plugin's wire format.

mod block;
mod cluster;
mod decisions;
mod failures;
mod federation_data;
mod layers;
mod machine_data;
mod migration_data;
mod parent;
mod placement_data;
mod placing;
mod private;
mod proposals;
mod reading;
mod remedies;
mod resource_pool;
mod slips;
mod snapshot;
mod validation_data;
mod values;
mod virtual_machine;
mod walks;

use std::collections::BTreeMap;
use std::sync::Arc;

use federation::placement::Ledger;
use operations::connections::{Here, Outside};
use operations::{Audit, Fleet, Settings};
use protocol::{
    ApplyRequest, ApplyResponse, ClientCapabilities, ConfigureRequest, Diagnostics, ImportedResource, PlanRequest,
    PlanResponse, Provider, ProviderSchema, ReadRequest, ReadResponse, Value, async_trait,
};
use tokio::sync::{Mutex, RwLock};

use crate::decisions::Decisions;
use crate::failures::report;
use crate::layers::Layers;
use crate::parent::Parent;
use crate::placing::Ready;
use crate::snapshot::Snapshot;
use crate::walks::{Configured, Walks};

/// The provider.
#[derive(Debug, Default)]
pub struct Moxxie {
    /// `None` before it is configured, and while the provider block holds values that are not known yet.
    ready: RwLock<Option<Arc<Ready>>>,
    /// Which walk this is; held while the next one is set up, so that none of its calls sees the last one's facts.
    walks: Mutex<Walks>,
}

impl Moxxie {
    /// An unconfigured provider.
    pub fn new() -> Moxxie {
        Moxxie::default()
    }

    async fn ready(&self) -> Option<Arc<Ready>> {
        self.ready.read().await.clone()
    }

    /// The same, for what looks at machines: with the clusters' enrolled facts.
    async fn warm(&self) -> Option<Arc<Ready>> {
        let ready = self.ready().await?;
        ready.fleet.warm().await;
        Some(ready)
    }

    /// Takes note of a plan or read. Where a new walk begins with it, everything that is known once per walk begins anew.
    async fn walk(&self, client: ClientCapabilities, diags: &mut Diagnostics) {
        let mut walks = self.walks.lock().await;
        if !walks.begins(client) {
            return;
        }
        let Some(Configured(request)) = &walks.configured else { return };
        let mut said = Diagnostics::new();
        self.set_up(request, &mut said).await;
        // Its warnings were said when it was configured; a mistake can only be of what lies outside: a file, a variable.
        let failed = said.has_errors();
        said.iter().filter(|diag| diag.is_error()).for_each(|diag| diags.push(diag.clone()));
        if !failed {
            walks.begun();
        }
    }

    /// Sets up what a walk decides with. Nothing is set up where the block can't be used or isn't wholly known.
    async fn set_up(&self, req: &ConfigureRequest, diags: &mut Diagnostics) {
        if !req.config.is_wholly_known() {
            diags.warning(
                "The provider block holds values that are not known yet",
                "Machines that exist are planned as they are; clusters of new ones are decided at apply.",
            );
            return;
        }
        let Some(block) = block::read(&req.config, &Here, diags) else { return };
        let snapshot = match block.inventory.as_deref().map(|text| snapshot(text, diags)) {
            Some(None) => return,
            Some(some) => some,
            None => None,
        };
        let plan_identity = block.plan_id.clone().or_else(|| block.inventory.as_deref().map(Snapshot::identity));
        let settings = Settings { lease: block.lease, concurrency: block.concurrency, ..Settings::default() };
        let fleet = match Fleet::new(block.connections, block.federation, settings) {
            Ok(fleet) if req.reattach => fleet.with_lost(block.lost),
            Ok(fleet) => fleet.with_lost(block.lost).remembering_in(decisions::folder(), decisions::workspace()),
            Err(failures) => {
                failures.iter().for_each(|failure| report(failure, diags));
                return;
            }
        };
        let audit = match block.audit_file.as_deref().map(|path| Audit::open(path.as_ref())).transpose() {
            Ok(audit) => audit.unwrap_or_default(),
            Err(error) => {
                let at = protocol::AttributePath::new("audit_file");
                diags.error_at(at, "The audit trail can't be opened", error.to_string());
                return;
            }
        };
        let fleet = Arc::new(fleet.audited(audit));
        let decisions = (!req.reattach).then(Decisions::here);
        if let Some(decisions) = &decisions {
            decisions.sweep();
        }
        let parent = if req.reattach { Parent::default() } else { Parent::here() };
        let ready = Ready {
            config_file: block.config_file,
            fleet,
            decisions,
            plan_identity,
            snapshot,
            ledger: Mutex::new(Ledger::new()),
            layers: Layers::default(),
            parent,
            told: Default::default(),
        };
        *self.ready.write().await = Some(Arc::new(ready));
    }

    fn unknown_type(name: &str, diags: &mut Diagnostics) {
        diags.error("Unknown type", format!("This provider has no {name}."));
    }
}

/// Everything that the provider has: what core is told of, and what `federate lint` reads configurations against.
pub fn schema() -> ProviderSchema {
    ProviderSchema {
        provider: block::schema(),
        resources: BTreeMap::from([
            (cluster::TYPE.to_owned(), cluster::schema::schema()),
            (resource_pool::TYPE.to_owned(), resource_pool::schema::schema()),
            (virtual_machine::TYPE.to_owned(), virtual_machine::schema::schema()),
        ]),
        data_sources: BTreeMap::from([
            (federation_data::TYPE.to_owned(), federation_data::schema::schema()),
            (machine_data::TYPE.to_owned(), machine_data::schema::schema()),
            (migration_data::TYPE.to_owned(), migration_data::schema::schema()),
            (placement_data::TYPE.to_owned(), placement_data::schema::schema()),
            (validation_data::TYPE.to_owned(), validation_data::schema::schema()),
        ]),
    }
}

/// Static checks of a provider block: what is wrong whatever the clusters say. Unknown values pass. `outside`: where the
/// files come from that it names.
pub fn check_provider(config: &Value, outside: &dyn Outside, diags: &mut Diagnostics) {
    block::validate(config, outside, diags);
}

/// Static checks of a resource block; unknown values pass.
pub fn check_resource(type_name: &str, config: &Value, diags: &mut Diagnostics) {
    match type_name {
        virtual_machine::TYPE => {
            slips::refuse(&virtual_machine::schema::schema(), config, diags);
            virtual_machine::model::validate(config, diags);
        }
        cluster::TYPE => {
            slips::refuse(&cluster::schema::schema(), config, diags);
            cluster::parse::validate(config, diags);
        }
        resource_pool::TYPE => {
            slips::refuse(&resource_pool::schema::schema(), config, diags);
            resource_pool::model::validate(config, diags);
        }
        other => Moxxie::unknown_type(other, diags),
    }
}

/// Static checks of a data block; unknown values pass.
pub fn check_data_source(type_name: &str, config: &Value, diags: &mut Diagnostics) {
    match type_name {
        federation_data::TYPE => federation_data::read::validate(config, diags),
        machine_data::TYPE => machine_data::read::validate(config, diags),
        migration_data::TYPE => migration_data::read::validate(config, diags),
        placement_data::TYPE => {
            slips::refuse(&placement_data::schema::schema(), config, diags);
            placement_data::read::validate(config, diags);
        }
        validation_data::TYPE => {}
        other => Moxxie::unknown_type(other, diags),
    }
}

/// The facts of `inventory`.
fn snapshot(text: &str, diags: &mut Diagnostics) -> Option<Snapshot> {
    match Snapshot::read(text) {
        Ok(snapshot) => Some(snapshot),
        Err(error) => {
            diags.error_at(
                protocol::AttributePath::new("inventory"),
                "The inventory can't be read",
                format!("It is what data.moxxie_federation of an aliased provider reports, whole: {error}"),
            );
            None
        }
    }
}

#[async_trait]
impl Provider for Moxxie {
    fn schema(&self) -> ProviderSchema {
        schema()
    }

    async fn validate_provider(&self, config: Value, diags: &mut Diagnostics) {
        block::validate(&config, &Here, diags);
    }

    async fn configure(&self, req: ConfigureRequest, diags: &mut Diagnostics) {
        self.set_up(&req, diags).await;
        self.walks.lock().await.configured = Some(Configured(req));
    }

    async fn stop(&self) {
        if let Some(ready) = self.ready().await {
            ready.fleet.stop();
        }
    }

    async fn validate_resource(&self, type_name: &str, config: Value, _: ClientCapabilities, diags: &mut Diagnostics) {
        if type_name == virtual_machine::TYPE && self.ready().await.is_none() {
            // The validate walk has an unconfigured process of its own (`plugin-protocol.md` §5).
            Decisions::here().saw_validate();
        }
        check_resource(type_name, &config, diags);
    }

    async fn read_resource(&self, type_name: &str, req: ReadRequest, diags: &mut Diagnostics) -> ReadResponse {
        self.walk(req.client, diags).await;
        match type_name {
            virtual_machine::TYPE => virtual_machine::read::read(self.warm().await.as_deref(), req, diags).await,
            cluster::TYPE => cluster::read::read(self.ready().await.as_deref(), req, diags).await,
            resource_pool::TYPE => resource_pool::read::read(self.ready().await.as_deref(), req, diags).await,
            other => {
                Moxxie::unknown_type(other, diags);
                ReadResponse::default()
            }
        }
    }

    async fn plan_resource(&self, type_name: &str, req: PlanRequest, diags: &mut Diagnostics) -> PlanResponse {
        self.walk(req.client, diags).await;
        match type_name {
            virtual_machine::TYPE => virtual_machine::plan::plan(self.warm().await.as_deref(), req, diags).await,
            cluster::TYPE => cluster::plan::plan(self.ready().await.as_deref(), req, diags).await,
            resource_pool::TYPE => resource_pool::plan::plan(self.ready().await.as_deref(), req, diags).await,
            other => {
                Moxxie::unknown_type(other, diags);
                PlanResponse::default()
            }
        }
    }

    async fn apply_resource(&self, type_name: &str, req: ApplyRequest, diags: &mut Diagnostics) -> ApplyResponse {
        let Some(ready) = self.ready().await else {
            diags.error("The provider is not configured", "Its block holds values that are not known even at apply.");
            return ApplyResponse { new_state: req.prior_state, private: req.planned_private };
        };
        self.walks.lock().await.applied();
        // What is enrolled of clusters counts in everything that is carried out.
        ready.fleet.warm().await;
        match type_name {
            virtual_machine::TYPE => virtual_machine::apply::apply(&ready, req, diags).await,
            cluster::TYPE => cluster::apply::apply(&ready, req, diags).await,
            resource_pool::TYPE => resource_pool::apply::apply(&ready, req, diags).await,
            other => {
                Moxxie::unknown_type(other, diags);
                ApplyResponse { new_state: req.prior_state, private: req.planned_private }
            }
        }
    }

    async fn import_resource(&self, type_name: &str, id: &str, diags: &mut Diagnostics) -> Vec<ImportedResource> {
        match type_name {
            virtual_machine::TYPE => virtual_machine::read::import(self.warm().await.as_deref(), id, diags).await,
            cluster::TYPE => cluster::read::import(self.ready().await.as_deref(), id, diags).await,
            resource_pool::TYPE => resource_pool::read::import(self.ready().await.as_deref(), id, diags).await,
            other => {
                Moxxie::unknown_type(other, diags);
                Vec::new()
            }
        }
    }

    async fn validate_data_source(&self, type_name: &str, config: Value, diags: &mut Diagnostics) {
        check_data_source(type_name, &config, diags);
    }

    async fn read_data_source(
        &self,
        type_name: &str,
        config: Value,
        client: ClientCapabilities,
        diags: &mut Diagnostics,
    ) -> Value {
        self.walk(client, diags).await;
        match type_name {
            federation_data::TYPE => federation_data::read::read(self.ready().await.as_deref(), config, diags).await,
            machine_data::TYPE => machine_data::read::read(self.ready().await.as_deref(), config, diags).await,
            migration_data::TYPE => migration_data::read::read(self.ready().await.as_deref(), config, diags).await,
            placement_data::TYPE => placement_data::read::read(self.ready().await.as_deref(), config, diags).await,
            validation_data::TYPE => {
                validation_data::read::read(self.ready().await.as_deref(), &config, &Here, diags).await
            }
            other => {
                Moxxie::unknown_type(other, diags);
                Value::Null
            }
        }
    }
}
