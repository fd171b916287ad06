//! Values survive the wire and the state, and no bytes bring the decoders down.

use proptest::{collection::btree_map, collection::vec, prelude::*};
use protocol::{Number, Refinement, Type, Value};

fn types() -> impl Strategy<Value = Type> {
    let leaf = prop_oneof![Just(Type::Bool), Just(Type::Number), Just(Type::String), Just(Type::Dynamic)];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(Type::list),
            inner.clone().prop_map(Type::set),
            inner.clone().prop_map(Type::map),
            btree_map("[a-z]{1,4}", inner.clone(), 0..4).prop_map(Type::Object),
            vec(inner, 0..4).prop_map(Type::Tuple),
        ]
    })
}

fn numbers() -> impl Strategy<Value = Number> {
    prop_oneof![
        any::<i64>().prop_map(Number::from),
        any::<f64>().prop_filter_map("finite", Number::from_f64),
        "-?[0-9]{1,40}(\\.[0-9]{1,40})?(e-?[0-9]{1,2})?".prop_map(|s| s.parse().unwrap()),
    ]
}

fn refinements() -> impl Strategy<Value = Value> {
    (any::<bool>(), any::<Option<u64>>(), prop::option::of((numbers(), any::<bool>())), ".{0,40}").prop_map(
        |(not_null, length_min, number_max, prefix)| {
            let prefix = (!prefix.is_empty()).then_some(prefix);
            let null = not_null.then_some(false);
            let r = Refinement { null, length_min, number_max, prefix, ..Refinement::default() };
            Value::Unknown((r != Refinement::default()).then(|| Box::new(r)))
        },
    )
}

/// A value of the type; with unknown parts if `unknowns`.
fn values(ty: &Type, unknowns: bool) -> BoxedStrategy<Value> {
    let known = match ty {
        Type::Bool => any::<bool>().prop_map(Value::from).boxed(),
        Type::Number => numbers().prop_map(Value::from).boxed(),
        Type::String => any::<String>().prop_map(Value::from).boxed(),
        Type::List(t) => vec(values(t, unknowns), 0..4).prop_map(Value::List).boxed(),
        Type::Set(t) => vec(values(t, unknowns), 0..4).prop_map(Value::Set).boxed(),
        Type::Map(t) => btree_map(any::<String>(), values(t, unknowns), 0..4).prop_map(Value::Map).boxed(),
        Type::Object(ts) => ts.iter().fold(Just(Value::object::<&str, Value>([])).boxed(), |object, (k, t)| {
            let k = k.clone();
            (object, values(t, unknowns)).prop_map(move |(o, v)| o.with_attr(k.clone(), v)).boxed()
        }),
        Type::Tuple(ts) => ts.iter().map(|t| values(t, unknowns)).collect::<Vec<_>>().prop_map(Value::Tuple).boxed(),
        Type::Dynamic => prop_oneof![
            any::<String>().prop_map(Value::from),
            numbers().prop_map(Value::from),
            vec(any::<bool>(), 0..3).prop_map(Value::from),
            btree_map(any::<String>(), any::<bool>(), 0..3).prop_map(Value::object),
        ]
        .boxed(),
    };
    if unknowns {
        prop_oneof![6 => known, 1 => Just(Value::Null), 1 => refinements()].boxed()
    } else {
        prop_oneof![6 => known, 1 => Just(Value::Null)].boxed()
    }
}

fn typed(unknowns: bool) -> impl Strategy<Value = (Type, Value)> {
    types().prop_flat_map(move |ty| values(&ty, unknowns).prop_map(move |v| (ty.clone(), v)))
}

proptest! {
    // A failing value is printed; it becomes a test of its own, not a file of seeds.
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn types_survive_their_json_form(ty in types()) {
        prop_assert_eq!(Type::from_json(&ty.to_json()).unwrap(), ty);
    }

    #[test]
    fn values_survive_the_wire((ty, value) in typed(true)) {
        let value = ty.conform(value).unwrap();
        let bytes = value.to_msgpack(&ty).unwrap();
        prop_assert_eq!(Value::from_msgpack(&bytes, &ty).unwrap(), value);
    }

    #[test]
    fn known_values_survive_the_state((ty, value) in typed(false)) {
        let value = ty.conform(value).unwrap();
        let bytes = value.to_json(&ty).unwrap();
        prop_assert_eq!(Value::from_json(&bytes, &ty).unwrap(), value);
    }

    #[test]
    fn any_bytes_are_a_value_or_an_error(ty in types(), bytes in vec(any::<u8>(), 0..200)) {
        let _ = Value::from_msgpack(&bytes, &ty);
        let _ = Value::from_json(&bytes, &ty);
        let _ = Value::from_json_untyped(&bytes);
    }

    #[test]
    fn damaged_values_are_a_value_or_an_error((ty, value) in typed(true), at in any::<prop::sample::Index>(), by in 1u8..) {
        let mut bytes = value.to_msgpack(&ty).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= by;
        let _ = Value::from_msgpack(&bytes, &ty);
        let _ = Value::from_msgpack(&bytes[..at], &ty);
    }

    #[test]
    fn values_of_one_type_for_another_are_a_value_or_an_error((_, value) in typed(true), ty in types()) {
        let _ = value.to_msgpack(&ty);
        let _ = ty.conform(value);
    }

    #[test]
    fn numbers_that_are_equal_have_one_order(a in numbers(), b in numbers()) {
        prop_assert_eq!(a == b, a.cmp(&b).is_eq());
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
    }
}
