//! The committed wire code is what the .proto files give, and those are protocol 6.11. `MOXXIE_BLESS=1` rewrites it.

use std::{collections::BTreeMap, path::Path};

use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    field_descriptor_proto::{Label, Type},
};
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

fn compile(file: &str) -> FileDescriptorSet {
    protox::compile([file], [root().join("proto")]).unwrap()
}

#[test]
fn committed_code_is_generated_from_the_proto_files() {
    for (file, package) in [("tfplugin6.proto", "tfplugin6"), ("grpc_controller.proto", "plugin")] {
        let out = tempfile::tempdir().unwrap();
        tonic_prost_build::configure()
            .out_dir(out.path())
            .build_transport(false)
            .client_mod_attribute(".", r#"#[cfg(feature = "client")]"#)
            .generate_default_stubs(true)
            .bytes(".")
            .emit_rerun_if_changed(false)
            .compile_fds(compile(file))
            .unwrap();
        let generated = std::fs::read_to_string(out.path().join(format!("{package}.rs"))).unwrap();
        let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("gen").join(format!("{package}.rs"));
        if std::env::var_os("MOXXIE_BLESS").is_some_and(|v| v == "1") {
            std::fs::write(&committed, &generated).unwrap();
        }
        let committed = std::fs::read_to_string(committed).unwrap_or_default();
        assert!(committed == generated, "gen/{package}.rs is not what {file} gives; run with MOXXIE_BLESS=1");
    }
}

#[test]
fn the_protocol_is_6_11() {
    let expected: Value = serde_json::from_str(include_str!("../../../proto/tfplugin6-6.11.json")).unwrap();

    let set = compile("tfplugin6.proto");
    let file = set.file.iter().find(|f| f.package() == "tfplugin6").unwrap();
    let mut found = Facts::default();
    found.file(file);
    for (what, facts) in [("messages", found.messages), ("enums", found.enums), ("services", found.services)] {
        let expected = expected[what].as_object().unwrap();
        for name in facts.keys().chain(expected.keys()) {
            assert_eq!(facts.get(name), expected.get(name), "{what} {name}");
        }
    }
}

/// The facts of a descriptor, in the form of the reference.
#[derive(Default)]
struct Facts {
    messages: BTreeMap<String, Value>,
    enums: BTreeMap<String, Value>,
    services: BTreeMap<String, Value>,
}

impl Facts {
    fn file(&mut self, file: &FileDescriptorProto) {
        file.message_type.iter().for_each(|m| self.message("", m));
        file.enum_type.iter().for_each(|e| self.enumeration("", e));
        for service in &file.service {
            let methods = service.method.iter().map(|m| {
                let facts = json!({
                    "request": m.input_type().trim_start_matches('.'),
                    "response": m.output_type().trim_start_matches('.'),
                    "client_streaming": m.client_streaming(),
                    "server_streaming": m.server_streaming(),
                });
                (m.name().to_owned(), facts)
            });
            self.services.insert(service.name().to_owned(), methods.collect());
        }
    }

    fn message(&mut self, prefix: &str, message: &DescriptorProto) {
        let name = format!("{prefix}{}", message.name());
        let mut facts: serde_json::Map<_, _> =
            message.field.iter().map(|f| (f.name().to_owned(), field(message, f))).collect();
        if message.options.as_ref().is_some_and(|o| o.map_entry()) {
            facts.insert("map_entry".into(), true.into());
        }
        self.messages.insert(name.clone(), facts.into());
        let prefix = format!("{name}.");
        message.nested_type.iter().for_each(|m| self.message(&prefix, m));
        message.enum_type.iter().for_each(|e| self.enumeration(&prefix, e));
    }

    fn enumeration(&mut self, prefix: &str, e: &EnumDescriptorProto) {
        let values = e.value.iter().map(|v| (v.name().to_owned(), v.number().into()));
        self.enums.insert(format!("{prefix}{}", e.name()), Value::Object(values.collect()));
    }
}

fn field(message: &DescriptorProto, field: &FieldDescriptorProto) -> Value {
    let ty = match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar.as_str_name().trim_start_matches("TYPE_").to_lowercase(),
    };
    let mut facts = json!({ "number": field.number(), "type": ty });
    if field.label() == Label::Repeated {
        facts["repeated"] = true.into();
    }
    if field.proto3_optional() {
        facts["optional"] = true.into();
    } else if let Some(index) = field.oneof_index {
        facts["oneof"] = message.oneof_decl[index as usize].name().into();
    }
    if field.options.as_ref().is_some_and(|o| o.deprecated()) {
        facts["deprecated"] = true.into();
    }
    facts
}
