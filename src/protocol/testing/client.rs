//! A client with core's view of a provider: typed calls over real gRPC, checked by core's rules.

use std::{collections::BTreeMap, io, sync::Mutex};

use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint};

use super::{object_compatible, plan_valid, proposed_new};
use crate::{
    AttributePath, ClientCapabilities, Diagnostics, ImportedResource, Provider, ProviderSchema, Schema, Value, plugin,
    wire,
};

/// Largest message in either direction, in bytes.
const MAX_MESSAGE: usize = 1 << 30;

/// An object as core stores it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// The object; null when there is none.
    pub value: Value,
    /// What the provider stored beside it.
    pub private: Vec<u8>,
}

/// The answer to a plan.
#[derive(Debug, Clone, Default)]
pub struct Planned {
    /// What will be.
    pub planned_state: Value,
    /// What the provider wants back at apply.
    pub planned_private: Vec<u8>,
    /// Attributes whose change needs a new object. Core then plans a destroy, and a create with a null prior state.
    pub requires_replace: Vec<AttributePath>,
    /// The provider's messages.
    pub diagnostics: Diagnostics,
    /// Rules of core that the plan breaks; not looked for when there are errors.
    pub violations: Vec<String>,
}

/// The answer to an apply.
#[derive(Debug, Clone, Default)]
pub struct Applied {
    /// What core stores: the answer, or the prior state when the answer is null with an error.
    pub state: State,
    /// A create that failed and left an object: core would replace it next time.
    pub tainted: bool,
    /// The provider's messages.
    pub diagnostics: Diagnostics,
    /// Rules of core that the result breaks; not looked for when there are errors.
    pub violations: Vec<String>,
}

/// Plays core against one provider process, real or in this process.
///
/// A status instead of an answer, which a provider must never give, is an [`io::Error`].
pub struct CoreClient {
    provider: wire::provider_client::ProviderClient<Channel>,
    controller: plugin::grpc_controller_client::GrpcControllerClient<Channel>,
    schema: ProviderSchema,
    capabilities: ClientCapabilities,
    server: Option<tokio::task::AbortHandle>,
}

impl Drop for CoreClient {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl CoreClient {
    /// Serves the provider inside this process and connects to it.
    ///
    /// # Errors
    /// What the transport says, and the messages of a schema that is not sound.
    pub async fn start(provider: impl Provider) -> io::Result<Self> {
        let (ours, theirs) = tokio::io::duplex(1 << 20);
        let server = tokio::spawn(crate::serve_on(provider, tokio_stream::once(Ok(theirs))));
        let mut client = Self::connect(ours).await?;
        client.server = Some(server.abort_handle());
        Ok(client)
    }

    /// Talks to a provider over a connection, and asks for its schema.
    ///
    /// # Errors
    /// What the transport says, and the messages of a schema that is not sound.
    pub async fn connect(io: impl AsyncRead + AsyncWrite + Send + Unpin + 'static) -> io::Result<Self> {
        let slot = Mutex::new(Some(io));
        let connector = tower::service_fn(move |_: tonic::transport::Uri| {
            let io = slot.lock().ok().and_then(|mut slot| slot.take());
            // There is one connection; when it is gone the provider is.
            std::future::ready(io.map(hyper_util::rt::TokioIo::new).ok_or(io::ErrorKind::ConnectionReset))
        });
        let connector = tower::ServiceExt::map_err(connector, io::Error::from);
        let channel = Endpoint::from_static("http://localhost").connect_with_connector(connector).await;
        let channel = channel.map_err(io::Error::other)?;
        let mut client = Self {
            provider: wire::provider_client::ProviderClient::new(channel.clone())
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
            controller: plugin::grpc_controller_client::GrpcControllerClient::new(channel),
            schema: ProviderSchema::default(),
            capabilities: ClientCapabilities { write_only_attributes_allowed: true, ..Default::default() },
            server: None,
        };
        client.schema = client.get_schema().await?;
        Ok(client)
    }

    /// What this core can do; by default write-only attributes, as Terraform 1.11. In [`CoreClient::replan`] and
    /// [`CoreClient::apply`] deferral is always allowed, as measured there.
    pub fn set_capabilities(&mut self, capabilities: ClientCapabilities) {
        self.capabilities = capabilities;
    }

    /// The schemas, as they came over the wire.
    pub fn schema(&self) -> &ProviderSchema {
        &self.schema
    }

    async fn get_schema(&self) -> io::Result<ProviderSchema> {
        let answer = self.provider.clone().get_provider_schema(wire::get_provider_schema::Request {}).await;
        let answer = answer.map_err(io::Error::other)?.into_inner();
        let diagnostics = Diagnostics::from_wire(answer.diagnostics);
        if diagnostics.has_errors() {
            return Err(io::Error::other(format!("{diagnostics:?}")));
        }
        let all = |schemas: std::collections::HashMap<String, wire::Schema>| {
            schemas.into_iter().map(|(name, schema)| (name, Schema::from_wire(schema))).collect()
        };
        Ok(ProviderSchema {
            provider: Schema::from_wire(answer.provider.unwrap_or_default()),
            resources: all(answer.resource_schemas),
            data_sources: all(answer.data_source_schemas),
        })
    }

    /// ValidateProviderConfig.
    ///
    /// # Errors
    /// A configuration that does not fit the schema; what the transport says.
    pub async fn validate_provider(&self, config: Value) -> io::Result<Diagnostics> {
        let request = wire::validate_provider_config::Request { config: encode(&self.schema.provider, &config)? };
        let answer = self.provider.clone().validate_provider_config(request).await.map_err(io::Error::other)?;
        Ok(Diagnostics::from_wire(answer.into_inner().diagnostics))
    }

    /// ConfigureProvider.
    ///
    /// # Errors
    /// A configuration that does not fit the schema; what the transport says.
    pub async fn configure(&self, config: Value) -> io::Result<Diagnostics> {
        let request = wire::configure_provider::Request {
            terraform_version: "1.11.4".into(),
            config: encode(&self.schema.provider, &config)?,
            client_capabilities: self.capabilities.into(),
        };
        let answer = self.provider.clone().configure_provider(request).await.map_err(io::Error::other)?;
        Ok(Diagnostics::from_wire(answer.into_inner().diagnostics))
    }

    /// ValidateResourceConfig.
    ///
    /// # Errors
    /// A configuration that does not fit the schema; what the transport says.
    pub async fn validate(&self, type_name: &str, config: Value) -> io::Result<Diagnostics> {
        let request = wire::validate_resource_config::Request {
            type_name: type_name.into(),
            config: encode(self.resource(type_name)?, &config)?,
            client_capabilities: self.capabilities.into(),
        };
        let answer = self.provider.clone().validate_resource_config(request).await.map_err(io::Error::other)?;
        Ok(Diagnostics::from_wire(answer.into_inner().diagnostics))
    }

    /// ValidateDataResourceConfig.
    ///
    /// # Errors
    /// A configuration that does not fit the schema; what the transport says.
    pub async fn validate_data_source(&self, type_name: &str, config: Value) -> io::Result<Diagnostics> {
        let schema = find(&self.schema.data_sources, type_name)?;
        let config = encode(schema, &config)?;
        let request = wire::validate_data_resource_config::Request { type_name: type_name.into(), config };
        let answer = self.provider.clone().validate_data_resource_config(request).await.map_err(io::Error::other)?;
        Ok(Diagnostics::from_wire(answer.into_inner().diagnostics))
    }

    /// PlanResourceChange of the plan walk. A null configuration plans a destroy.
    ///
    /// # Errors
    /// Values that do not fit the schema; what the transport says.
    pub async fn plan(&self, type_name: &str, prior: &State, config: &Value) -> io::Result<Planned> {
        self.plan_with(type_name, prior, config, &[], self.capabilities).await
    }

    /// PlanResourceChange as it runs inside apply: with the private of the first plan where this core stores it, and
    /// held to everything the first plan promised.
    ///
    /// # Errors
    /// Values that do not fit the schema; what the transport says.
    pub async fn replan(&self, type_name: &str, prior: &State, config: &Value, first: &Planned) -> io::Result<Planned> {
        let stored = if self.capabilities.store_planned_private { first.planned_private.as_slice() } else { &[] };
        let capabilities = ClientCapabilities { deferral_allowed: true, ..self.capabilities };
        let mut again = self.plan_with(type_name, prior, config, stored, capabilities).await?;
        if !again.diagnostics.has_errors() {
            let schema = self.resource(type_name)?;
            again.violations.extend(object_compatible(schema, &first.planned_state, &again.planned_state));
        }
        Ok(again)
    }

    async fn plan_with(
        &self,
        type_name: &str,
        prior: &State,
        config: &Value,
        planned_private: &[u8],
        capabilities: ClientCapabilities,
    ) -> io::Result<Planned> {
        let schema = self.resource(type_name)?;
        let config = &conform(schema, config)?;
        let request = wire::plan_resource_change::Request {
            type_name: type_name.into(),
            prior_state: encode(schema, &prior.value)?,
            proposed_new_state: encode(schema, &proposed_new(schema, &prior.value, config))?,
            config: encode(schema, config)?,
            prior_private: prior.private.clone().into(),
            planned_private: planned_private.to_vec().into(),
            client_capabilities: capabilities.into(),
            ..Default::default()
        };
        let answer = self.provider.clone().plan_resource_change(request).await.map_err(io::Error::other)?.into_inner();
        let mut planned = Planned {
            planned_state: decode(schema, answer.planned_state.as_ref())?,
            planned_private: answer.planned_private.to_vec(),
            requires_replace: answer.requires_replace.into_iter().map(AttributePath::from_wire).collect(),
            diagnostics: Diagnostics::from_wire(answer.diagnostics),
            violations: Vec::new(),
        };
        if !planned.diagnostics.has_errors() {
            planned.violations = plan_valid(schema, &prior.value, config, &planned.planned_state);
        }
        Ok(planned)
    }

    /// ApplyResourceChange, held to what the plan promised.
    ///
    /// # Errors
    /// Values that do not fit the schema; what the transport says.
    pub async fn apply(
        &self,
        type_name: &str,
        prior: &State,
        config: &Value,
        planned: &Planned,
    ) -> io::Result<Applied> {
        let schema = self.resource(type_name)?;
        let request = wire::apply_resource_change::Request {
            type_name: type_name.into(),
            prior_state: encode(schema, &prior.value)?,
            planned_state: encode(schema, &planned.planned_state)?,
            config: encode(schema, config)?,
            planned_private: planned.planned_private.clone().into(),
            ..Default::default()
        };
        let answer = self.provider.clone().apply_resource_change(request).await.map_err(io::Error::other)?.into_inner();
        let diagnostics = Diagnostics::from_wire(answer.diagnostics);
        let value = decode(schema, answer.new_state.as_ref())?;
        if diagnostics.has_errors() {
            let state = if value.is_null() { prior.clone() } else { State { value, private: answer.private.to_vec() } };
            let tainted = prior.value.is_null() && !state.value.is_null();
            return Ok(Applied { state, tainted, diagnostics, violations: Vec::new() });
        }
        let mut violations = object_compatible(schema, &planned.planned_state, &value);
        value.walk(&mut |path, part| {
            if matches!(part, Value::Unknown(_)) {
                violations.push(format!("{path}: is still unknown after apply"));
            }
        });
        let private = if value.is_null() { Vec::new() } else { answer.private.to_vec() };
        Ok(Applied { state: State { value, private }, tainted: false, diagnostics, violations })
    }

    /// ReadResource.
    ///
    /// # Errors
    /// Values that do not fit the schema; what the transport says.
    pub async fn read(&self, type_name: &str, state: &State) -> io::Result<(State, Diagnostics)> {
        let schema = self.resource(type_name)?;
        let request = wire::read_resource::Request {
            type_name: type_name.into(),
            current_state: encode(schema, &state.value)?,
            private: state.private.clone().into(),
            client_capabilities: self.capabilities.into(),
            ..Default::default()
        };
        let answer = self.provider.clone().read_resource(request).await.map_err(io::Error::other)?.into_inner();
        let value = decode(schema, answer.new_state.as_ref())?;
        let state = State { value, private: answer.private.to_vec() };
        Ok((state, Diagnostics::from_wire(answer.diagnostics)))
    }

    /// UpgradeResourceState from stored JSON.
    ///
    /// # Errors
    /// An answer that does not fit the schema; what the transport says.
    pub async fn upgrade(&self, type_name: &str, version: i64, json: &[u8]) -> io::Result<(Value, Diagnostics)> {
        let schema = self.resource(type_name)?;
        let raw = wire::RawState { json: json.to_vec().into(), ..Default::default() };
        let request =
            wire::upgrade_resource_state::Request { type_name: type_name.into(), version, raw_state: Some(raw) };
        let answer =
            self.provider.clone().upgrade_resource_state(request).await.map_err(io::Error::other)?.into_inner();
        let value = decode(schema, answer.upgraded_state.as_ref())?;
        Ok((value, Diagnostics::from_wire(answer.diagnostics)))
    }

    /// ImportResourceState by id.
    ///
    /// # Errors
    /// An answer that does not fit the schema; what the transport says.
    pub async fn import(&self, type_name: &str, id: &str) -> io::Result<(Vec<ImportedResource>, Diagnostics)> {
        let request = wire::import_resource_state::Request {
            type_name: type_name.into(),
            id: id.into(),
            client_capabilities: self.capabilities.into(),
            identity: None,
        };
        let answer = self.provider.clone().import_resource_state(request).await.map_err(io::Error::other)?.into_inner();
        let convert = |object: wire::import_resource_state::ImportedResource| {
            let state = decode(self.resource(&object.type_name)?, object.state.as_ref())?;
            Ok(ImportedResource { type_name: object.type_name, state, private: object.private.to_vec() })
        };
        let found = answer.imported_resources.into_iter().map(convert).collect::<io::Result<_>>()?;
        Ok((found, Diagnostics::from_wire(answer.diagnostics)))
    }

    /// MoveResourceState from the stored JSON of `source_type_name` at version 0 of the provider `source_provider`, an address.
    ///
    /// # Errors
    /// An answer that does not fit the schema; what the transport says.
    pub async fn move_state(
        &self,
        source_provider: &str,
        source_type_name: &str,
        json: &[u8],
        target_type_name: &str,
    ) -> io::Result<(State, Diagnostics)> {
        let request = wire::move_resource_state::Request {
            source_provider_address: source_provider.into(),
            source_private: b"kept beside it".to_vec().into(),
            source_type_name: source_type_name.into(),
            source_state: Some(wire::RawState { json: json.to_vec().into(), ..Default::default() }),
            target_type_name: target_type_name.into(),
            ..Default::default()
        };
        let answer = self.provider.clone().move_resource_state(request).await.map_err(io::Error::other)?.into_inner();
        let value = decode(self.resource(target_type_name)?, answer.target_state.as_ref())?;
        let state = State { value, private: answer.target_private.to_vec() };
        Ok((state, Diagnostics::from_wire(answer.diagnostics)))
    }

    /// ReadDataSource.
    ///
    /// # Errors
    /// Values that do not fit the schema; what the transport says.
    pub async fn read_data_source(&self, type_name: &str, config: Value) -> io::Result<(Value, Diagnostics)> {
        let schema = find(&self.schema.data_sources, type_name)?;
        let request = wire::read_data_source::Request {
            type_name: type_name.into(),
            config: encode(schema, &config)?,
            client_capabilities: self.capabilities.into(),
            ..Default::default()
        };
        let answer = self.provider.clone().read_data_source(request).await.map_err(io::Error::other)?.into_inner();
        Ok((decode(schema, answer.state.as_ref())?, Diagnostics::from_wire(answer.diagnostics)))
    }

    /// StopProvider; the answer is the provider's error text, empty when there is none.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn stop(&self) -> io::Result<String> {
        let answer = self.provider.clone().stop_provider(wire::stop_provider::Request {}).await;
        Ok(answer.map_err(io::Error::other)?.into_inner().error)
    }

    /// go-plugin's Shutdown.
    ///
    /// # Errors
    /// What the transport says.
    pub async fn shutdown(&self) -> io::Result<()> {
        self.controller.clone().shutdown(plugin::Empty {}).await.map(drop).map_err(io::Error::other)
    }

    fn resource(&self, type_name: &str) -> io::Result<&Schema> {
        find(&self.schema.resources, type_name)
    }
}

fn find<'a>(schemas: &'a BTreeMap<String, Schema>, type_name: &str) -> io::Result<&'a Schema> {
    schemas.get(type_name).ok_or_else(|| io::Error::other(format!("the provider has no {type_name}")))
}

fn conform(schema: &Schema, value: &Value) -> io::Result<Value> {
    schema.ty().conform(value.clone()).map_err(io::Error::other)
}

fn encode(schema: &Schema, value: &Value) -> io::Result<Option<wire::DynamicValue>> {
    wire::DynamicValue::of(value, &schema.ty()).map(Some).map_err(io::Error::other)
}

fn decode(schema: &Schema, value: Option<&wire::DynamicValue>) -> io::Result<Value> {
    wire::DynamicValue::read(value, &schema.ty()).map_err(io::Error::other)
}
