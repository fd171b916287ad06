//! The gRPC service: decode, ask the provider, encode. What may go wrong on the way becomes a message, never a status.

mod calls;

use std::{any::Any, collections::BTreeMap, panic::AssertUnwindSafe, sync::Arc};

use tokio_util::task::TaskTracker;
use tonic::{Request, Response, Status};
use tracing::Instrument;

use crate::{Diagnostic, Diagnostics, Provider, Schema, Type, Value, ValueError, async_trait, strip_write_only, wire};

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
        tracing::debug!(parent: &span, "called");
        let begin = std::time::Instant::now();
        let result = self.0.calls.spawn(task.instrument(span.clone())).await;
        let milliseconds = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        tracing::debug!(parent: &span, milliseconds, "answered");
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
