//! Owns how a remedy is typed: the commands and blocks of the CLI that started this process.
use operations::{Object, Remedy};

use crate::{cluster, parent, resource_pool, virtual_machine};

/// The name of an object's resource type.
fn type_of(object: Object) -> &'static str {
    match object {
        Object::Cluster => cluster::TYPE,
        Object::Pool => resource_pool::TYPE,
        Object::Machine => virtual_machine::TYPE,
    }
}

/// What to type.
pub(crate) fn in_words(remedy: &Remedy) -> String {
    words(remedy, &parent::program())
}

fn words(remedy: &Remedy, cli: &str) -> String {
    match remedy {
        Remedy::Import(object, id) => {
            format!("{cli} import {}.<label> {id}, or an import block with id = \"{id}\"", type_of(*object))
        }
        Remedy::Forget(object) => {
            let address = format!("{}.<label>", type_of(*object));
            format!("{cli} state rm {address}, or a removed block with from = {address} and destroy = false")
        }
        Remedy::TakeInAgain(object, id) => {
            let address = format!("{}.<label>", type_of(*object));
            format!("{cli} state rm {address}, {cli} import {address} {id}, {cli} apply")
        }
        Remedy::Follow => format!("{cli} apply -refresh-only"),
        Remedy::Refer(object) => {
            format!("refer to it as {}.<label>.name, so that the order is known", type_of(*object))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_is_what_is_typed_with_the_cli_at_hand() {
        let said = |remedy| words(&remedy, "tofu");
        assert_eq!(
            said(Remedy::Import(Object::Pool, "team".into())),
            "tofu import moxxie_resource_pool.<label> team, or an import block with id = \"team\""
        );
        assert_eq!(
            said(Remedy::Forget(Object::Machine)),
            "tofu state rm moxxie_virtual_machine.<label>, or a removed block with from = moxxie_virtual_machine.<label> and \
             destroy = false"
        );
        assert_eq!(
            said(Remedy::TakeInAgain(Object::Cluster, "prod".into())),
            "tofu state rm moxxie_cluster.<label>, tofu import moxxie_cluster.<label> prod, tofu apply"
        );
        assert_eq!(said(Remedy::Follow), "tofu apply -refresh-only");
        assert!(said(Remedy::Refer(Object::Cluster)).contains("moxxie_cluster.<label>.name"));
    }
}
