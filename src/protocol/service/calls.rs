//! The calls: what each RPC decodes, asks of the provider, and encodes. `Err` is what went wrong outside the provider.

use std::collections::BTreeMap;

use super::{Entry, NOTHING_CHANGED, STATE_KEPT, Service, unreadable};
use crate::{
    ApplyRequest, ConfigureRequest, Diagnostic, Diagnostics, MoveRequest, PlanRequest, Provider, ReadRequest, Value,
    wire,
};

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
    pub(super) async fn validate_provider(
        &self,
        r: wire::validate_provider_config::Request,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostic> {
        let config = self.schemas()?.provider.decode(r.config.as_ref(), "provider configuration")?;
        call!(self, diags, "ValidateProviderConfig", NOTHING_CHANGED, |p, d| p.validate_provider(config, d));
        Ok(())
    }

    pub(super) async fn configure(
        &self,
        r: wire::configure_provider::Request,
        diags: &mut Diagnostics,
    ) -> Result<(), Diagnostic> {
        let req = ConfigureRequest {
            config: self.schemas()?.provider.decode(r.config.as_ref(), "provider configuration")?,
            terraform_version: r.terraform_version,
            client: r.client_capabilities.into(),
            reattach: self.0.reattach,
        };
        call!(self, diags, "ConfigureProvider", NOTHING_CHANGED, |p, d| p.configure(req, d));
        Ok(())
    }

    pub(super) async fn validate_resource(
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

    pub(super) async fn validate_data_source(
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

    pub(super) async fn upgrade(
        &self,
        r: wire::upgrade_resource_state::Request,
        diags: &mut Diagnostics,
    ) -> Result<wire::DynamicValue, Diagnostic> {
        let raw = r.raw_state.unwrap_or_default();
        let state = self.upgraded(&r.type_name, r.version, &raw, diags).await?;
        self.resource(&r.type_name)?.encode(state, "upgraded state")
    }

    /// Stored state of one of our types, brought to the current schema.
    async fn upgraded(
        &self,
        type_name: &str,
        version: i64,
        raw: &wire::RawState,
        diags: &mut Diagnostics,
    ) -> Result<Value, Diagnostic> {
        let entry = self.resource(type_name)?;
        if raw.json.is_empty() {
            let detail = format!("It is not JSON, as Terraform 0.12 and later write it. {NOTHING_CHANGED}");
            return Err(Diagnostic::error("The stored state cannot be read", detail));
        }
        let typed = if version == entry.schema.version {
            Value::from_json_dropping_extra(&raw.json, &entry.ty)
        } else {
            // What an older version had more is for the provider to see.
            Value::from_json(&raw.json, &entry.ty)
        };
        let state =
            typed.or_else(|_| Value::from_json_untyped(&raw.json)).map_err(|e| unreadable("stored state", e))?;
        let name = type_name.to_owned();
        let state = call!(self, diags, "UpgradeResourceState", NOTHING_CHANGED, |p, d| p
            .upgrade_resource(&name, version, state, d));
        entry.ty.conform_dropping_extra(state).map_err(|e| unreadable("stored state", e))
    }

    pub(super) async fn read(
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

    pub(super) async fn plan(
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

    pub(super) async fn apply(
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

    pub(super) async fn import(
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

    pub(super) async fn move_state(
        &self,
        r: wire::move_resource_state::Request,
        diags: &mut Diagnostics,
    ) -> Result<wire::move_resource_state::Response, Diagnostic> {
        let entry = self.resource(&r.target_type_name)?;
        let raw = r.source_state.unwrap_or_default();
        if r.source_type_name == r.target_type_name && is_ours(&r.source_provider_address, &r.target_type_name) {
            // Not another type's: the registry's address changed, and older OpenTofu sends the type's prefix for any address.
            let state = self.upgraded(&r.target_type_name, r.source_schema_version, &raw, diags).await?;
            return Ok(wire::move_resource_state::Response {
                target_state: Some(entry.encode(state, "moved state")?),
                target_private: r.source_private,
                ..Default::default()
            });
        }
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

    pub(super) async fn read_data(
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

    pub(super) fn declared(&self, diags: &mut Diagnostics) -> Result<wire::get_provider_schema::Response, Diagnostic> {
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

/// Whether a provider's address is that of the provider that has this type, whatever the registry and the namespace: its last
/// segment is the type's prefix. Older OpenTofu sends that segment alone.
fn is_ours(address: &str, type_name: &str) -> bool {
    let last = address.rsplit('/').next().unwrap_or_default();
    last.is_empty() || Some(last) == type_name.split('_').next()
}
