//! A provider of things that exist only in the state.

use protocol::{
    ApplyRequest, ApplyResponse, Attribute, AttributePath, ClientCapabilities, ConfigureRequest, Diagnostics,
    ImportedResource, PlanRequest, PlanResponse, Provider, ProviderSchema, ReadRequest, ReadResponse, Schema, Type,
    Value, async_trait,
};
use tokio_util::sync::CancellationToken;

/// The type of its resource.
pub const THING: &str = "smallest_thing";
/// The type of its data source.
pub const ECHO: &str = "smallest_echo";

/// The provider. What a thing is called decides how it behaves: see `apply_resource`.
#[derive(Default)]
pub struct Smallest {
    stopped: CancellationToken,
}

#[async_trait]
impl Provider for Smallest {
    fn schema(&self) -> ProviderSchema {
        let thing = Schema {
            version: 1,
            ..Schema::new(
                "A thing.",
                vec![
                    Attribute::string("id").computed().describe("Given by the provider."),
                    Attribute::string("name").required().describe("What it is called."),
                    Attribute::number("size").optional().describe("How big it is."),
                    Attribute::new("tags", Type::set(Type::String)).optional(),
                    Attribute::string("secret_wo").optional().write_only(),
                ],
            )
        };
        let echo = Schema::new("What was said.", vec![Attribute::string("say").required()]);
        ProviderSchema {
            provider: Schema::new("The smallest provider.", vec![Attribute::string("greeting").optional()]),
            resources: [(THING.to_owned(), thing)].into(),
            data_sources: [(ECHO.to_owned(), echo)].into(),
        }
    }

    async fn validate_provider(&self, _: Value, _: &mut Diagnostics) {}

    async fn configure(&self, req: ConfigureRequest, diags: &mut Diagnostics) {
        if req.reattach {
            diags.warning("Reattached", "Whoever started this process is not who uses it.");
        }
    }

    async fn stop(&self) {
        self.stopped.cancel();
    }

    async fn validate_resource(&self, _: &str, config: Value, _: ClientCapabilities, diags: &mut Diagnostics) {
        match config.attr("name").as_str() {
            Some("bad") => diags.error_at("name", "A bad name", "Call it something else."),
            Some("bad tag") => diags.error_at(AttributePath::new("tags").index(0), "A bad tag", ""),
            Some("panic") => panic!("boom in validate"),
            _ => {}
        }
    }

    async fn read_resource(&self, _: &str, req: ReadRequest, _: &mut Diagnostics) -> ReadResponse {
        assert!(req.current_state.attr("name").as_str() != Some("unreadable"), "boom in read");
        ReadResponse { new_state: req.current_state, private: req.private }
    }

    async fn plan_resource(&self, _: &str, req: PlanRequest, _: &mut Diagnostics) -> PlanResponse {
        if req.proposed_new_state.is_null() {
            return PlanResponse { planned_private: req.prior_private, ..PlanResponse::default() };
        }
        let mut planned = req.proposed_new_state;
        let mut requires_replace = Vec::new();
        if req.prior_state.is_null() {
            planned.set_attr("id", Value::unknown_not_null());
        } else if planned.attr("name") != req.prior_state.attr("name") {
            requires_replace.push("name".into());
        }
        if planned.attr("name").as_str() == Some("misfit") {
            planned.set_attr("size", "not a number");
        }
        let planned_private = match req.planned_private {
            first if first.is_empty() => b"planned once".to_vec(),
            first => first,
        };
        PlanResponse { planned_state: planned, requires_replace, planned_private }
    }

    async fn apply_resource(&self, _: &str, req: ApplyRequest, diags: &mut Diagnostics) -> ApplyResponse {
        if req.planned_state.is_null() {
            return ApplyResponse::default();
        }
        match req.planned_state.attr("name").as_str() {
            Some("panic at apply") => panic!("boom in apply"),
            Some("slow") => {
                self.stopped.cancelled().await;
                diags.error("Stopped", "Apply again to go on.");
                return ApplyResponse::default();
            }
            _ => {}
        }
        let id = format!("id of {}", req.planned_state.attr("name").as_str().unwrap_or_default());
        ApplyResponse { new_state: req.planned_state.with_attr("id", id), private: req.planned_private }
    }

    async fn import_resource(&self, _: &str, id: &str, _: &mut Diagnostics) -> Vec<ImportedResource> {
        let state = Value::object([("id", id), ("name", "imported")]);
        vec![ImportedResource { type_name: THING.into(), state, private: Vec::new() }]
    }

    async fn validate_data_source(&self, _: &str, _: Value, _: &mut Diagnostics) {}

    async fn read_data_source(&self, _: &str, config: Value, _: ClientCapabilities, _: &mut Diagnostics) -> Value {
        config
    }
}
