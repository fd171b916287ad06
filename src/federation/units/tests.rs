//! Every accepted and refused spelling of the quantities.

use std::time::Duration;

use proptest::prelude::*;

use super::*;

#[test]
fn sizes_are_binary_whatever_the_suffix() {
    for (text, bytes) in [
        ("8G", 8u64 << 30),
        ("8GB", 8 << 30),
        ("8GiB", 8 << 30),
        ("8 gib", 8 << 30),
        ("512K", 512 << 10),
        ("512MB", 512 << 20),
        ("2TB", 2 << 40),
        ("2.5TB", 5 << 39),
        ("1P", 1 << 50),
        ("17B", 17),
        ("0", 0),
    ] {
        assert_eq!(text.parse::<Bytes>(), Ok(Bytes(bytes)), "{text}");
    }
}

#[test]
fn refused_sizes_say_what_is_accepted() {
    for text in ["", "8", "8192", "G", "-8G", "8X", "8GG", "1.2.3G", "8.", "1e9G", "∞", "99999999P"] {
        let error = text.parse::<Bytes>().expect_err(text).to_string();
        assert!(error.contains("accepted:"), "{error}");
    }
    let bare = "8192".parse::<Bytes>().unwrap_err().to_string();
    assert!(bare.contains("no unit"), "{bare}");
}

#[test]
fn sizes_have_one_canonical_spelling_and_round_the_safe_way() {
    assert_eq!(Bytes(8 << 30).to_string(), "8GiB");
    assert_eq!(Bytes(1536 << 20).to_string(), "1536MiB");
    assert_eq!(Bytes(0).to_string(), "0B");
    assert_eq!(Bytes((1 << 30) + 1).as_gib_ceil(), 2);
    assert_eq!(Bytes((1 << 20) + 1).as_mib(), 1);
    assert_eq!(Bytes::from_pve("1024"), Ok(Bytes(1024)));
    assert_eq!(Bytes::from_pve("32G"), Ok(Bytes(32 << 30)));
    assert_eq!(Bytes(41 << 30).human(), "41 GiB");
    assert_eq!(Bytes(3 << 39).human(), "1.5 TiB");
    assert_eq!(Bytes(11_250 << 20).human(), "10.9 GiB");
    assert_eq!(Bytes(11_250 << 20).human_at_least(), "11 GiB");
    assert_eq!(Bytes(128 << 30).scaled(0.85).human(), "108.8 GiB");
}

#[test]
fn bandwidth_is_decimal_bits_and_becomes_kib_once() {
    for (text, bits) in [
        ("500Mbps", 500_000_000u64),
        ("1Gbps", 1_000_000_000),
        ("10 Gbit/s", 10_000_000_000),
        ("64kbps", 64_000),
        ("2.5Gbps", 2_500_000_000),
    ] {
        assert_eq!(text.parse::<Bandwidth>().unwrap().bits_per_second(), bits);
    }
    let limit: Bandwidth = "500Mbps".parse().unwrap();
    assert_eq!(limit.to_kib_per_second(), 500_000_000 / 8 / 1024);
    assert_eq!("1bps".parse::<Bandwidth>().unwrap().to_kib_per_second(), 1, "0 would mean unlimited");
    assert_eq!(limit.time_for(Bytes(62_500_000)), Duration::from_secs(1));
    assert_eq!(limit.to_string(), "500Mbps");
}

#[test]
fn bandwidth_refuses_bytes_and_zero() {
    for text in ["500MBps", "500MB/s", "500", "500M", "0Mbps", "xMbps", "500 parsecs"] {
        let error = text.parse::<Bandwidth>().expect_err(text).to_string();
        assert!(error.contains("Mbps"), "{error}");
    }
}

#[test]
fn spans_parse_and_print() {
    for (text, seconds, canonical) in [
        ("15m", 900, "15m"),
        ("7d", 7 * 86_400, "7d"),
        ("2w", 14 * 86_400, "14d"),
        ("90m", 5_400, "1h30m"),
        ("1h 30m", 5_400, "1h30m"),
        ("5s", 5, "5s"),
        ("0", 0, "0s"),
    ] {
        let span: Span = text.parse().unwrap();
        assert_eq!(span.0, Duration::from_secs(seconds), "{text}");
        assert_eq!(span.to_string(), canonical);
    }
    assert_eq!("1500ms".parse::<Span>().unwrap().as_secs_ceil(), 2);
    for text in ["", "15", "m", "30m1h", "1h1h", "1.5h", "15 minutes", "99999999999w", "-5s"] {
        text.parse::<Span>().expect_err(text);
    }
}

#[test]
fn meaning_not_spelling_is_compared() {
    assert!(same_meaning::<Bytes>("8G", "8192MiB"));
    assert!(same_meaning::<Span>("60m", "1h"));
    assert!(same_meaning::<Bandwidth>("1Gbps", "1000Mbps"));
    assert!(same_meaning::<Bytes>("what", "what"));
    assert!(!same_meaning::<Bytes>("what", "ever"));
    assert!(!same_meaning::<Bytes>("8G", "8T"));
}

proptest! {
    #[test]
    fn canonical_texts_mean_what_they_came_from(bytes: u64, bits in 1u64.., millis in 0u64..(1 << 50)) {
        prop_assert_eq!(Bytes(bytes).to_string().parse::<Bytes>().unwrap(), Bytes(bytes));
        let rate = Bandwidth::from_bits_per_second(bits);
        prop_assert_eq!(rate.to_string().parse::<Bandwidth>().unwrap(), rate);
        let span = Span(Duration::from_millis(millis));
        prop_assert_eq!(span.to_string().parse::<Span>().unwrap(), span);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text: String) {
        let _ = (text.parse::<Bytes>(), text.parse::<Bandwidth>(), text.parse::<Span>());
    }
}
