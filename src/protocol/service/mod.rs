//! The gRPC service: decode, ask the provider, encode. What may go wrong on the way becomes a message, never a status.

use std::{any::Any, collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::{
    ApplyRequest, ConfigureRequest, Diagnostic, Diagnostics, MoveRequest, PlanRequest, Provider, ReadRequest, Schema,
    Type, Value, ValueError, async_trait, strip_write_only, wire,
};

/// What follows a crash or a value that cannot be read, where nothing was changed.
const NOTHING_CHANGED: &str = "Nothing was changed.";
/// The same for apply, where the provider may have been half-way.
const STATE_KEPT: &str = "The state is kept as it was before this change (for a new object: nothing is stored). If the \
                          provider had begun, the next plan shows how far it got.";

type Answer<T> = Result<Response<T>, Status>;

/// Serves one provider on any number of connections.
pub(crate) struct Service<P>(Arc<Shared<P>>);

struct Shared<P> {
    provider: P,
    schemas: Result<Schemas, String>,
    reattach: bool,
    calls: TaskTracker,
}

struct Schemas {
    provider: Entry,
    resources: BTreeMap<String, Entry>,
    data_sources: BTreeMap<String, Entry>,
}

/// A schema with what is derived from it.
struct Entry {
    schema: Schema,
    ty: Type,
}

impl<P> Clone for Service<P> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

/// Calls a method of the provider in a task of its own: a panic stays there, and a caller that goes away does not cut
/// the work off half-way. Messages are added to `$diags`.
macro_rules! call {
    ($service:expr, $diags:expr, $rpc:literal, $after:expr, |$provider:ident, $d:ident| $call:expr) => {{
        let shared = $service.0.clone();
        let task = async move {
            let $provider = &shared.provider;
            let mut messages = Diagnostics::new();
            let $d = &mut messages;
            let out = $call.await;
            (out, messages)
        };
        let (out, messages) = $service.guarded($rpc, $after, task).await?;
        $diags.extend(messages);
        out
    }};
}

impl<P: Provider> Service<P> {
    pub(crate) fn new(provider: P, reattach: bool) -> Self {
        let schemas = std::panic::catch_unwind(AssertUnwindSafe(|| provider.schema()))
            .map(|all| {
                let entries = |schemas: BTreeMap<String, Schema>| {
                    schemas.into_iter().map(|(name, schema)| (name, Entry::new(schema))).collect()
                };
                Schemas {
                    provider: Entry::new(all.provider),
                    resources: entries(all.resources),
                    data_sources: entries(all.data_sources),
                }
            })
            .map_err(|panic| panic_text(&*panic));
        Self(Arc::new(Shared { provider, schemas, reattach, calls: TaskTracker::new() }))
    }

    /// Asks the provider to stop and waits until no call is running.
    pub(crate) async fn wind_down(&self) {
        let shared = self.0.clone();
        let stopped = self.0.calls.spawn(async move { shared.provider.stop().await });
        if stopped.await.is_err() {
            tracing::error!("the provider crashed in stop");
        }
        self.0.calls.close();
        self.0.calls.wait().await;
    }

    async fn guarded<T: Send + 'static>(
        &self,
        rpc: &'static str,
        after: &str,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Diagnostic> {
        let span = tracing::debug_span!("rpc", tf_rpc = rpc);
        let result = self.0.calls.spawn(task.instrument(span)).await;
        result.map_err(|e| {
            let text = match e.try_into_panic() {
                Ok(panic) => panic_text(&*panic),
                Err(_) => "the call was ended from inside".into(),
            };
            Diagnostic::error(
                "The provider crashed",
                format!("In {rpc}: {text}\n\n{after} This is an error in the provider; please report it."),
            )
        })
    }

    fn schemas(&self) -> Result<&Schemas, Diagnostic> {
        self.0.schemas.as_ref().map_err(|text| {
            Diagnostic::error(
                "The provider crashed",
                format!("While declaring its schemas: {text}\n\n{NOTHING_CHANGED}"),
            )
        })
    }

    fn resource(&self, type_name: &str) -> Result<&Entry, Diagnostic> {
        self.schemas()?.resources.get(type_name).ok_or_else(|| unknown_type("resource", type_name))
    }

    fn data_source(&self, type_name: &str) -> Result<&Entry, Diagnostic> {
        self.schemas()?.data_sources.get(type_name).ok_or_else(|| unknown_type("data source", type_name))
    }

    /// Answers with the messages, their paths cut to what the type can express.
    fn messages(diags: Diagnostics, entry: Result<&Entry, Diagnostic>) -> Vec<wire::Diagnostic> {
        diags.into_wire(entry.ok().map(|e| &e.ty))
    }
}

impl Entry {
    fn new(schema: Schema) -> Self {
        Self { ty: schema.ty(), schema }
    }

    fn decode(&self, sent: Option<&wire::DynamicValue>, what: &str) -> Result<Value, Diagnostic> {
        wire::DynamicValue::read(sent, &self.ty).map_err(|e| unreadable(what, e))
    }

    /// Encodes what the provider returned; write-only values are never stored.
    fn encode(&self, value: Value, what: &str) -> Result<wire::DynamicValue, Diagnostic> {
        wire::DynamicValue::of(&strip_write_only(&self.schema, value), &self.ty).map_err(|e| {
            let detail = format!(
                "The {what} that the provider made does not fit its schema: {e}\n\nThis is an error in the provider; \
                 please report it."
            );
            Diagnostic::error("The provider made an invalid value", detail).at(e.path)
        })
    }
}

fn unreadable(what: &str, e: ValueError) -> Diagnostic {
    let detail = format!("The {what} cannot be read: {e}\n\n{NOTHING_CHANGED}");
    Diagnostic::error("A value does not fit the schema of the provider", detail).at(e.path)
}

fn unknown_type(kind: &str, type_name: &str) -> Diagnostic {
    Diagnostic::error(
        format!("Unknown {kind} type"),
        format!("This provider has no {kind} {type_name:?}. {NOTHING_CHANGED}"),
    )
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without text".into())
}

fn capabilities() -> Option<wire::ServerCapabilities> {
    Some(wire::ServerCapabilities {
        plan_destroy: true,
        get_provider_schema_optional: true,
        // So that a moved block gets our message, which names import.
        move_resource_state: true,
        generate_resource_config: false,
    })
}

// One function per RPC that says what it does; `Err` is what went wrong outside the provider.
impl<P: Provider> Service<P> {
    async fn validate_provider(
        &self,
        r: wire::validate_provider_config::Request,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostic> {
        let config = self.schemas()?.provider.decode(r.config.as_ref(), "provider configuration")?;
        call!(self, diags, "ValidateProviderConfig", NOTHING_CHANGED, |p, d| p.validate_provider(config, d));
        Ok(())
    }

    async fn configure(&self, r: wire::configure_provider::Request, diags: &mut Diagnostics) -> Result<(), Diagnostic> {
        let req = ConfigureRequest {
            config: self.schemas()?.provider.decode(r.config.as_ref(), "provider configuration")?,
            terraform_version: r.terraform_version,
            client: r.client_capabilities.into(),
            reattach: self.0.reattach,
        };
        call!(self, diags, "ConfigureProvider", NOTHING_CHANGED, |p, d| p.configure(req, d));
        Ok(())
    }

    async fn validate_resource(
        &self,
        r: wire::validate_resource_config::Request,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostic> {
        let entry = self.resource(&r.type_name)?;
        let config = entry.decode(r.config.as_ref(), "configuration")?;
        let client: crate::ClientCapabilities = r.client_capabilities.into();
        if !client.write_only_attributes_allowed {
            for path in entry.schema.write_only_set(&config) {
                diags.error_at(
                    path.clone(),
                    "Write-only attributes are not supported here",
                    format!(
                        "This Terraform or OpenTofu would store the value of {path} in its state. Next: use Terraform \
                         or OpenTofu 1.11 or later, or leave the attribute out."
                    ),
                );
            }
        }
        call!(self, diags, "ValidateResourceConfig", NOTHING_CHANGED, |p, d| p.validate_resource(
            &r.type_name,
            config,
            client,
            d
        ));
        Ok(())
    }

    async fn validate_data_source(
        &self,
        r: wire::validate_data_resource_config::Request,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostic> {
        let config = self.data_source(&r.type_name)?.decode(r.config.as_ref(), "configuration")?;
        call!(self, diags, "ValidateDataResourceConfig", NOTHING_CHANGED, |p, d| p.validate_data_source(
            &r.type_name,
            config,
            d
        ));
        Ok(())
    }

    async fn upgrade(
        &self,
        r: wire::upgrade_resource_state::Request,
        diags: &mut Diagnostics,
    ) -> Result<wire::DynamicValue, Diagnostic> {
        let entry = self.resource(&r.type_name)?;
        let raw = r.raw_state.unwrap_or_default();
        if raw.json.is_empty() {
            let detail = format!("It is not JSON, as Terraform 0.12 and later write it. {NOTHING_CHANGED}");
            return Err(Diagnostic::error("The stored state cannot be read", detail));
        }
        let typed = if r.version == entry.schema.version {
            Value::from_json_dropping_extra(&raw.json, &entry.ty)
        } else {
            // What an older version had more is for the provider to see.
            Value::from_json(&raw.json, &entry.ty)
        };
        let state =
            typed.or_else(|_| Value::from_json_untyped(&raw.json)).map_err(|e| unreadable("stored state", e))?;
        let state = call!(self, diags, "UpgradeResourceState", NOTHING_CHANGED, |p, d| p.upgrade_resource(
            &r.type_name,
            r.version,
            state,
            d
        ));
        let state = entry.ty.conform_dropping_extra(state).map_err(|e| unreadable("stored state", e))?;
        entry.encode(state, "upgraded state")
    }

    async fn read(
        &self,
        r: &wire::read_resource::Request,
        diags: &mut Diagnostics,
    ) -> Result<wire::read_resource::Response, Diagnostic> {
        let entry = self.resource(&r.type_name)?;
        let req = ReadRequest {
            current_state: entry.decode(r.current_state.as_ref(), "state")?,
            private: r.private.to_vec(),
            client: r.client_capabilities.into(),
        };
        let type_name = r.type_name.clone();
        let out = call!(self, diags, "ReadResource", NOTHING_CHANGED, |p, d| p.read_resource(&type_name, req, d));
        Ok(wire::read_resource::Response {
            new_state: Some(entry.encode(out.new_state, "state")?),
            private: out.private.into(),
            ..Default::default()
        })
    }

    async fn plan(
        &self,
        r: wire::plan_resource_change::Request,
        diags: &mut Diagnostics,
    ) -> Result<wire::plan_resource_change::Response, Diagnostic> {
        let entry = self.resource(&r.type_name)?;
        let req = PlanRequest {
            prior_state: entry.decode(r.prior_state.as_ref(), "prior state")?,
            proposed_new_state: entry.decode(r.proposed_new_state.as_ref(), "proposed state")?,
            config: entry.decode(r.config.as_ref(), "configuration")?,
            prior_private: r.prior_private.to_vec(),
            planned_private: r.planned_private.to_vec(),
            client: r.client_capabilities.into(),
        };
        let out =
            call!(self, diags, "PlanResourceChange", NOTHING_CHANGED, |p, d| p.plan_resource(&r.type_name, req, d));
        Ok(wire::plan_resource_change::Response {
            planned_state: Some(entry.encode(out.planned_state, "planned state")?),
            requires_replace: out.requires_replace.iter().map(|path| entry.ty.clip(path).to_wire()).collect(),
            planned_private: out.planned_private.into(),
            ..Default::default()
        })
    }

    async fn apply(
        &self,
        r: &wire::apply_resource_change::Request,
        diags: &mut Diagnostics,
    ) -> Result<wire::apply_resource_change::Response, Diagnostic> {
        let entry = self.resource(&r.type_name)?;
        let req = ApplyRequest {
            prior_state: entry.decode(r.prior_state.as_ref(), "prior state")?,
            planned_state: entry.decode(r.planned_state.as_ref(), "planned state")?,
            config: entry.decode(r.config.as_ref(), "configuration")?,
            planned_private: r.planned_private.to_vec(),
        };
        let type_name = r.type_name.clone();
        let out = call!(self, diags, "ApplyResourceChange", STATE_KEPT, |p, d| p.apply_resource(&type_name, req, d));
        Ok(wire::apply_resource_change::Response {
            new_state: Some(entry.encode(out.new_state, "new state")?),
            private: out.private.into(),
            ..Default::default()
        })
    }

    async fn import(
        &self,
        r: wire::import_resource_state::Request,
        diags: &mut Diagnostics,
    ) -> Result<Vec<wire::import_resource_state::ImportedResource>, Diagnostic> {
        self.resource(&r.type_name)?;
        let found = call!(self, diags, "ImportResourceState", NOTHING_CHANGED, |p, d| p.import_resource(
            &r.type_name,
            &r.id,
            d
        ));
        let convert = |object: crate::ImportedResource| {
            let entry = self.resource(&object.type_name)?;
            Ok(wire::import_resource_state::ImportedResource {
                state: Some(entry.encode(object.state, "imported state")?),
                type_name: object.type_name,
                private: object.private.into(),
                identity: None,
            })
        };
        found.into_iter().map(convert).collect()
    }

    async fn move_state(
        &self,
        r: wire::move_resource_state::Request,
        diags: &mut Diagnostics,
    ) -> Result<wire::move_resource_state::Response, Diagnostic> {
        let entry = self.resource(&r.target_type_name)?;
        let raw = r.source_state.unwrap_or_default();
        let source_state = Value::from_json_untyped(&raw.json).map_err(|e| unreadable("state to be moved", e))?;
        let req = MoveRequest {
            source_provider_address: r.source_provider_address,
            source_type_name: r.source_type_name,
            source_schema_version: r.source_schema_version,
            source_state,
            source_private: r.source_private.to_vec(),
            target_type_name: r.target_type_name,
        };
        let moved = call!(self, diags, "MoveResourceState", NOTHING_CHANGED, |p, d| p.move_resource(req, d));
        let Some(moved) = moved else { return Ok(Default::default()) };
        Ok(wire::move_resource_state::Response {
            target_state: Some(entry.encode(moved.state, "moved state")?),
            target_private: moved.private.into(),
            ..Default::default()
        })
    }

    async fn read_data(
        &self,
        r: wire::read_data_source::Request,
        diags: &mut Diagnostics,
    ) -> Result<wire::DynamicValue, Diagnostic> {
        let entry = self.data_source(&r.type_name)?;
        let config = entry.decode(r.config.as_ref(), "configuration")?;
        let client = r.client_capabilities.into();
        let state = call!(self, diags, "ReadDataSource", NOTHING_CHANGED, |p, d| p.read_data_source(
            &r.type_name,
            config,
            client,
            d
        ));
        entry.encode(state, "state")
    }

    fn declared(&self, diags: &mut Diagnostics) -> Result<wire::get_provider_schema::Response, Diagnostic> {
        let all = self.schemas()?;
        let kinds = [("resource ", &all.resources), ("data source ", &all.data_sources)];
        let named = kinds.into_iter().flat_map(|(kind, map)| map.iter().map(move |(n, e)| (format!("{kind}{n}"), e)));
        for (name, entry) in named.chain([("provider".to_owned(), &all.provider)]) {
            for problem in entry.schema.problems() {
                diags.error("The schema of the provider is not sound", format!("{name}: {problem}"));
            }
        }
        let schemas = |map: &BTreeMap<String, Entry>| {
            map.iter().map(|(name, entry)| (name.clone(), entry.schema.to_wire())).collect()
        };
        Ok(wire::get_provider_schema::Response {
            provider: Some(all.provider.schema.to_wire()),
            resource_schemas: schemas(&all.resources),
            data_source_schemas: schemas(&all.data_sources),
            ..Default::default()
        })
    }
}

/// The value, or its default with one more message.
fn or_message<T: Default>(result: Result<T, Diagnostic>, diags: &mut Diagnostics) -> T {
    result.unwrap_or_else(|message| {
        diags.push(message);
        T::default()
    })
}

#[async_trait]
impl<P: Provider> wire::provider_server::Provider for Service<P> {
    async fn get_metadata(&self, _: Request<wire::get_metadata::Request>) -> Answer<wire::get_metadata::Response> {
        use wire::get_metadata::{DataSourceMetadata, ResourceMetadata};
        let mut response = wire::get_metadata::Response { server_capabilities: capabilities(), ..Default::default() };
        match self.schemas() {
            Ok(all) => {
                let names = |map: &BTreeMap<String, Entry>| map.keys().cloned().collect::<Vec<_>>();
                let resources = names(&all.resources).into_iter();
                response.resources = resources.map(|type_name| ResourceMetadata { type_name }).collect();
                let data_sources = names(&all.data_sources).into_iter();
                response.data_sources = data_sources.map(|type_name| DataSourceMetadata { type_name }).collect();
            }
            Err(message) => response.diagnostics = Diagnostics::from_iter([message]).into_wire(None),
        }
        Ok(Response::new(response))
    }

    async fn get_provider_schema(
        &self,
        _: Request<wire::get_provider_schema::Request>,
    ) -> Answer<wire::get_provider_schema::Response> {
        let mut diags = Diagnostics::new();
        let mut response = or_message(self.declared(&mut diags), &mut diags);
        response.server_capabilities = capabilities();
        response.diagnostics = diags.into_wire(None);
        Ok(Response::new(response))
    }

    async fn validate_provider_config(
        &self,
        r: Request<wire::validate_provider_config::Request>,
    ) -> Answer<wire::validate_provider_config::Response> {
        let mut diags = Diagnostics::new();
        or_message(self.validate_provider(r.into_inner(), &mut diags).await, &mut diags);
        let diagnostics = Self::messages(diags, self.schemas().map(|all| &all.provider));
        Ok(Response::new(wire::validate_provider_config::Response { diagnostics }))
    }

    async fn configure_provider(
        &self,
        r: Request<wire::configure_provider::Request>,
    ) -> Answer<wire::configure_provider::Response> {
        let mut diags = Diagnostics::new();
        or_message(self.configure(r.into_inner(), &mut diags).await, &mut diags);
        let diagnostics = Self::messages(diags, self.schemas().map(|all| &all.provider));
        Ok(Response::new(wire::configure_provider::Response { diagnostics }))
    }

    async fn validate_resource_config(
        &self,
        r: Request<wire::validate_resource_config::Request>,
    ) -> Answer<wire::validate_resource_config::Response> {
        let r = r.into_inner();
        let entry = self.resource(&r.type_name.clone());
        let mut diags = Diagnostics::new();
        or_message(self.validate_resource(r, &mut diags).await, &mut diags);
        let diagnostics = Self::messages(diags, entry);
        Ok(Response::new(wire::validate_resource_config::Response { diagnostics }))
    }

    async fn validate_data_resource_config(
        &self,
        r: Request<wire::validate_data_resource_config::Request>,
    ) -> Answer<wire::validate_data_resource_config::Response> {
        let r = r.into_inner();
        let entry = self.data_source(&r.type_name.clone());
        let mut diags = Diagnostics::new();
        or_message(self.validate_data_source(r, &mut diags).await, &mut diags);
        let diagnostics = Self::messages(diags, entry);
        Ok(Response::new(wire::validate_data_resource_config::Response { diagnostics }))
    }

    async fn upgrade_resource_state(
        &self,
        r: Request<wire::upgrade_resource_state::Request>,
    ) -> Answer<wire::upgrade_resource_state::Response> {
        let r = r.into_inner();
        let entry = self.resource(&r.type_name.clone());
        let mut diags = Diagnostics::new();
        let upgraded_state = or_message(self.upgrade(r, &mut diags).await.map(Some), &mut diags);
        let diagnostics = Self::messages(diags, entry);
        Ok(Response::new(wire::upgrade_resource_state::Response { upgraded_state, diagnostics }))
    }

    async fn read_resource(&self, r: Request<wire::read_resource::Request>) -> Answer<wire::read_resource::Response> {
        let r = r.into_inner();
        let mut diags = Diagnostics::new();
        let mut response = self.read(&r, &mut diags).await.unwrap_or_else(|message| {
            diags.push(message);
            let (new_state, private) = (r.current_state.clone(), r.private.clone());
            wire::read_resource::Response { new_state, private, ..Default::default() }
        });
        response.diagnostics = Self::messages(diags, self.resource(&r.type_name));
        Ok(Response::new(response))
    }

    async fn plan_resource_change(
        &self,
        r: Request<wire::plan_resource_change::Request>,
    ) -> Answer<wire::plan_resource_change::Response> {
        let r = r.into_inner();
        let entry = self.resource(&r.type_name.clone());
        let mut diags = Diagnostics::new();
        let mut response = or_message(self.plan(r, &mut diags).await, &mut diags);
        response.diagnostics = Self::messages(diags, entry);
        Ok(Response::new(response))
    }

    async fn apply_resource_change(
        &self,
        r: Request<wire::apply_resource_change::Request>,
    ) -> Answer<wire::apply_resource_change::Response> {
        let r = r.into_inner();
        let mut diags = Diagnostics::new();
        let mut response = self.apply(&r, &mut diags).await.unwrap_or_else(|message| {
            diags.push(message);
            // The prior private is not in the request; what the plan made of it is the nearest there is.
            let (new_state, private) = (r.prior_state.clone(), r.planned_private.clone());
            wire::apply_resource_change::Response { new_state, private, ..Default::default() }
        });
        response.diagnostics = Self::messages(diags, self.resource(&r.type_name));
        Ok(Response::new(response))
    }

    async fn import_resource_state(
        &self,
        r: Request<wire::import_resource_state::Request>,
    ) -> Answer<wire::import_resource_state::Response> {
        let mut diags = Diagnostics::new();
        let imported_resources = or_message(self.import(r.into_inner(), &mut diags).await, &mut diags);
        let diagnostics = diags.into_wire(None);
        Ok(Response::new(wire::import_resource_state::Response { imported_resources, diagnostics, deferred: None }))
    }

    async fn move_resource_state(
        &self,
        r: Request<wire::move_resource_state::Request>,
    ) -> Answer<wire::move_resource_state::Response> {
        let mut diags = Diagnostics::new();
        let mut response = or_message(self.move_state(r.into_inner(), &mut diags).await, &mut diags);
        response.diagnostics = diags.into_wire(None);
        Ok(Response::new(response))
    }

    async fn read_data_source(
        &self,
        r: Request<wire::read_data_source::Request>,
    ) -> Answer<wire::read_data_source::Response> {
        let r = r.into_inner();
        let entry = self.data_source(&r.type_name.clone());
        let mut diags = Diagnostics::new();
        let state = or_message(self.read_data(r, &mut diags).await.map(Some), &mut diags);
        let diagnostics = Self::messages(diags, entry);
        Ok(Response::new(wire::read_data_source::Response { state, diagnostics, deferred: None }))
    }

    async fn get_functions(&self, _: Request<wire::get_functions::Request>) -> Answer<wire::get_functions::Response> {
        Ok(Response::new(Default::default()))
    }

    async fn get_resource_identity_schemas(
        &self,
        _: Request<wire::get_resource_identity_schemas::Request>,
    ) -> Answer<wire::get_resource_identity_schemas::Response> {
        Ok(Response::new(Default::default()))
    }

    async fn stop_provider(&self, _: Request<wire::stop_provider::Request>) -> Answer<wire::stop_provider::Response> {
        let shared = self.0.clone();
        let stopped = self.guarded("StopProvider", "", async move { shared.provider.stop().await }).await;
        let error = stopped.err().map(|message| message.detail).unwrap_or_default();
        Ok(Response::new(wire::stop_provider::Response { error }))
    }
}
