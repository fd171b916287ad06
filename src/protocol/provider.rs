//! The trait a provider implements, and what its calls carry.

use crate::{AttributePath, Diagnostics, ProviderSchema, Value, async_trait};

/// What the calling core can do; everything is off when it says nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClientCapabilities {
    /// It accepts "cannot be decided yet".
    pub deferral_allowed: bool,
    /// It keeps write-only attributes out of plan and state.
    pub write_only_attributes_allowed: bool,
    /// It hands `planned_private` of the plan to the plan that runs inside apply (Terraform ≥ 1.16).
    pub store_planned_private: bool,
}

/// The provider block, once per process.
#[derive(Clone)]
pub struct ConfigureRequest {
    /// The configuration; parts may be unknown in a plan.
    pub config: Value,
    /// What core calls its version; not to be decided on, see `plugin-protocol.md` §1.
    pub terraform_version: String,
    /// What core can do.
    pub client: ClientCapabilities,
    /// One process serves all walks of all runs, started by a developer: working directory, environment and parent are
    /// theirs and say nothing about the run.
    pub reattach: bool,
}

/// An object to be refreshed.
#[derive(Clone)]
pub struct ReadRequest {
    /// What state says.
    pub current_state: Value,
    /// What we stored beside it.
    pub private: Vec<u8>,
    /// What core can do.
    pub client: ClientCapabilities,
}

/// A refreshed object.
#[derive(Clone, Default)]
pub struct ReadResponse {
    /// What is; null when the object is gone.
    pub new_state: Value,
    /// What to store beside it; replaces what was there, even when empty.
    pub private: Vec<u8>,
}

/// A change to be planned.
#[derive(Clone)]
pub struct PlanRequest {
    /// What is; null for a create.
    pub prior_state: Value,
    /// What is, overlaid with configuration; null for a destroy.
    pub proposed_new_state: Value,
    /// What the user wrote; null for a destroy.
    pub config: Value,
    /// What we stored beside the state.
    pub prior_private: Vec<u8>,
    /// What the plan of the plan walk stored, in the plan that runs inside apply. Only from cores with
    /// [`ClientCapabilities::store_planned_private`]; empty in the plan walk.
    pub planned_private: Vec<u8>,
    /// What core can do.
    pub client: ClientCapabilities,
}

/// A planned change.
#[derive(Clone, Default)]
pub struct PlanResponse {
    /// What will be; null for a destroy.
    pub planned_state: Value,
    /// Attributes whose change needs a new object.
    pub requires_replace: Vec<AttributePath>,
    /// What apply shall get.
    pub planned_private: Vec<u8>,
}

/// A change to be carried out.
#[derive(Clone)]
pub struct ApplyRequest {
    /// What is; null for a create.
    pub prior_state: Value,
    /// What shall be; null for a destroy.
    pub planned_state: Value,
    /// What the user wrote, with write-only values; null for a destroy.
    pub config: Value,
    /// What the plan left for us.
    pub planned_private: Vec<u8>,
}

/// The outcome of a change.
#[derive(Clone, Default)]
pub struct ApplyResponse {
    /// What is now; null when there is no object. Together with an error, null keeps the prior state and private.
    pub new_state: Value,
    /// What to store beside it.
    pub private: Vec<u8>,
}

/// An object found by its id.
#[derive(Clone)]
pub struct ImportedResource {
    /// Its type.
    pub type_name: String,
    /// As much as refreshing needs.
    pub state: Value,
    /// What to store beside it.
    pub private: Vec<u8>,
}

/// State of another resource type that shall become one of ours.
#[derive(Clone)]
pub struct MoveRequest {
    /// Address of the provider it is from.
    pub source_provider_address: String,
    /// Its type there.
    pub source_type_name: String,
    /// The version of its schema there.
    pub source_schema_version: i64,
    /// The state, read without a schema: objects, tuples, texts, numbers and truth values.
    pub source_state: Value,
    /// What was stored beside it.
    pub source_private: Vec<u8>,
    /// The type it shall become.
    pub target_type_name: String,
}

/// State that was taken over.
#[derive(Clone)]
pub struct MovedResource {
    /// As much as refreshing needs.
    pub state: Value,
    /// What to store beside it.
    pub private: Vec<u8>,
}

/// A provider, in Terraform's terms. Calls come concurrently; only `configure` comes before those that need it.
///
/// Type names are always ones the schema has, and values always fit it. Messages go into `diags`; with an error there
/// core ignores what else is returned, except from `apply_resource`. What is returned is made to fit the schema with
/// [`crate::Type::conform`] and loses its write-only values; a panic becomes an error message.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// Everything the provider has. Asked once, before all else, and must not need configuration.
    fn schema(&self) -> ProviderSchema;

    /// Static checks of the provider block.
    async fn validate_provider(&self, config: Value, diags: &mut Diagnostics) -> ();

    /// Takes the provider block.
    async fn configure(&self, req: ConfigureRequest, diags: &mut Diagnostics);

    /// The user wants to stop: bring what is in flight to a safe point and return. Must itself return at once.
    async fn stop(&self);

    /// Static checks of a resource block. Write-only attributes that core would store were refused before.
    async fn validate_resource(
        &self,
        type_name: &str,
        config: Value,
        client: ClientCapabilities,
        diags: &mut Diagnostics,
    );

    /// Brings stored state to the current schema version; asked for every object in every run.
    ///
    /// `state` is read by the current schema when it fits: at the current `version` attributes the schema does not have
    /// are dropped. Else it comes as read without a schema.
    async fn upgrade_resource(&self, type_name: &str, version: i64, state: Value, diags: &mut Diagnostics) -> Value {
        let _ = (type_name, version, diags);
        state
    }

    /// Refreshes an object.
    async fn read_resource(&self, type_name: &str, req: ReadRequest, diags: &mut Diagnostics) -> ReadResponse;

    /// Plans a change, a create or a destroy. Runs twice: in the plan walk and inside apply.
    async fn plan_resource(&self, type_name: &str, req: PlanRequest, diags: &mut Diagnostics) -> PlanResponse;

    /// Carries a planned change out.
    async fn apply_resource(&self, type_name: &str, req: ApplyRequest, diags: &mut Diagnostics) -> ApplyResponse;

    /// Finds existing objects by an id that the user gave.
    async fn import_resource(&self, type_name: &str, id: &str, diags: &mut Diagnostics) -> Vec<ImportedResource>;

    /// Takes over state of another type, or of another provider's type of the same name; state of this provider's own type under
    /// another address of a registry goes to [`Provider::upgrade_resource`] instead. By default says that this is not possible, and how to import.
    async fn move_resource(&self, req: MoveRequest, diags: &mut Diagnostics) -> Option<MovedResource> {
        diags.error(
            "This resource cannot take over the state of another provider or type",
            format!(
                "A moved block wants to turn {} of provider {} into {} of this one, which it does not do.\n\nNext: replace the \
                 moved block by a removed block for the old resource (with destroy = false) and an import block for \
                 the new one.",
                req.source_type_name, req.source_provider_address, req.target_type_name,
            ),
        );
        None
    }

    /// Static checks of a data block.
    async fn validate_data_source(&self, type_name: &str, config: Value, diags: &mut Diagnostics);

    /// Reads a data source.
    async fn read_data_source(
        &self,
        type_name: &str,
        config: Value,
        client: ClientCapabilities,
        diags: &mut Diagnostics,
    ) -> Value;
}
