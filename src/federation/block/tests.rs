//! Blocks survive what people and the GUI do to texts, and say so when they do not.

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn a_block_keeps_the_text_around_it() {
    let value = json!({"id": "AB", "rev": 7, "by": "ann", "at": 5});
    let first = write("Production, ask Ann", &value).unwrap();
    assert!(first.starts_with("Production, ask Ann [moxxie v1 {\"at\":5,\"by\":\"ann\""), "{first}");
    let edited = format!("{first} (and Bob)");
    let second = write(&edited, &json!({"rev": 8})).unwrap();
    assert!(second.starts_with("Production, ask Ann [moxxie v1 {\"rev\":8} "), "{second}");
    assert!(second.ends_with("] (and Bob)"), "{second}");
    assert_eq!(read(&second).unwrap().value, json!({"rev": 8}));
    assert_eq!(remove(&second), "Production, ask Ann (and Bob)");
    assert_eq!(remove(&first), "Production, ask Ann");
    assert_eq!(remove("nothing of ours"), "nothing of ours");
}

#[test]
fn the_three_errors_are_three() {
    assert_eq!(read("free text"), Err(BlockError::Missing));
    assert_eq!(read("see [moxxie v1 docs]"), Err(BlockError::Missing), "a phrase is no block");
    let good = write("", &json!({"rev": 1})).unwrap();
    let broken = |text: &str| matches!(read(text), Err(BlockError::Broken { .. }));
    assert!(broken(&good.replace("\"rev\":1", "\"rev\":2")), "edited");
    assert!(broken(&good[..good.len() - 1]), "cut at the end");
    assert!(broken(&good[..16]), "cut inside");
    assert!(broken(&good.replace("moxxie v1", "moxxie v2")), "newer");
    let big = json!({"text": "x".repeat(POOL_BLOCK_LIMIT)});
    assert!(matches!(write("", &big), Err(BlockError::TooBig { .. })));
}

#[test]
fn the_last_block_counts_and_values_cannot_pose_as_one() {
    let one = write("", &json!({"rev": 1})).unwrap();
    let two = write("", &json!({"rev": 2})).unwrap();
    assert_eq!(read(&format!("{one} {two}")).unwrap().value, json!({"rev": 2}));
    let nested = write("", &json!({"text": one.clone(), "rev": 3})).unwrap();
    assert_eq!(read(&nested).unwrap().value["rev"], json!(3));
}

#[test]
fn notes_give_the_description_back() {
    let value = json!({"op": "x --> y"});
    let notes = write_notes("My VM\n\nsecond paragraph\n", Some("being moved, do not start"), &value).unwrap();
    assert!(notes.starts_with("being moved, do not start\nMy VM"), "{notes}");
    assert_eq!(notes.matches("-->").count(), 1, "no value ends the HTML comment: {notes}");
    for text in [notes.clone(), notes.replace('\n', " ")] {
        let back = read_notes(&text);
        assert!(back.description.starts_with("My VM"), "{back:?}");
        assert_eq!(back.block.unwrap().value["op"], json!("x --> y"));
    }
    assert_eq!(read_notes(&notes).description, "My VM\n\nsecond paragraph");
    assert_eq!(read_notes("plain  ").description, "plain");
    assert_eq!(read_notes("plain").block, Err(BlockError::Missing));
    let too_long = write_notes(&"x".repeat(NOTES_LIMIT), None, &value);
    assert!(matches!(too_long, Err(BlockError::TooBig { .. })));
}

#[test]
fn envelopes_and_revisions() {
    let body = json!({"tier": "primary", "coordinates": {"latitude": 52.37, "longitude": 4.9}});
    let body: crate::Cluster = serde_json::from_value(body).unwrap();
    let envelope = Envelope { id: "AB:CD".into(), rev: 3, by: "ann".into(), at: 17, body };
    let comment = write("text", &envelope.to_value().unwrap()).unwrap();
    let back: Envelope<crate::Cluster> = Envelope::from_block(&read(&comment).unwrap()).unwrap();
    assert_eq!(back, envelope);

    assert_eq!(newest(&[]), Ok(None));
    assert_eq!(newest(&[("a", 1, "x"), ("b", 2, "y"), ("c", 2, "y")]), Ok(Some("b")));
    let conflict = newest(&[("a", 2, "x"), ("b", 2, "y")]).unwrap_err();
    assert!(conflict.to_string().contains("on a and on b"), "{conflict}");
}

proptest! {
    #[test]
    fn any_text_around_any_value_round_trips(before in "[^\\[]{0,40}", after in "[^\\[]{0,40}", text: String, rev: u64) {
        let value = json!({"text": text, "rev": rev});
        let block = write("", &value).unwrap();
        let comment = format!("{before}{block}{after}");
        for text in [comment.clone(), comment.replace(['\n', '\r'], "")] {
            prop_assert_eq!(&read(&text).unwrap().value, &value);
        }
        let again = write(&comment, &json!({"rev": 0})).unwrap();
        prop_assert!(again.starts_with(&before) && again.ends_with(&after));
    }

    #[test]
    fn notes_round_trip(description in "[a-zA-Z0-9 <>!\n-]{0,200}", text: String) {
        let value = json!({"op": text.chars().take(100).collect::<String>()});
        if let Ok(notes) = write_notes(&description, Some("moving"), &value) {
            let back = read_notes(&notes);
            prop_assert_eq!(&back.block.unwrap().value["op"], &value["op"]);
            prop_assert_eq!(back.description, description.trim());
        }
    }

    #[test]
    fn nothing_makes_the_reader_panic(text: String, inner in ".{0,60}") {
        let _ = (read(&text), remove(&text), read_notes(&text));
        let near = format!("{text}[moxxie v1 {{{inner}");
        let _ = (read(&near), read_notes(&near.replace("[moxxie", "<!-- moxxie")));
    }
}
