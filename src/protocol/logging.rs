//! Log lines in the form go-plugin reads from stderr (`plugin-protocol.md` §9), and what a panic prints.

use std::{
    fmt,
    io::Write,
    time::{SystemTime, UNIX_EPOCH},
};

use serde_json::{Map, Value};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    level_filters::LevelFilter,
};
use tracing_subscriber::{
    filter::Targets,
    fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields, format::Writer},
    layer::SubscriberExt,
    registry::LookupSpan,
};

/// Longest text of one field, in bytes: a line must stay under 64 KiB even with a few of them.
const MAX_TEXT: usize = 12 << 10;
/// What the libraries below us have to say is of interest only when it is a warning.
const LIBRARIES: [&str; 8] = ["h2", "hyper", "hyper_util", "reqwest", "rustls", "tokio_rustls", "tonic", "tower"];

/// Writes log lines and panics to stderr from now on. Does nothing where logging is installed already.
pub(crate) fn install(type_name: &str, environment: impl Fn(&str) -> Option<String>) {
    let level = level(type_name, environment);
    let quiet = level.min(LevelFilter::WARN);
    let filter = Targets::new().with_default(level).with_targets(LIBRARIES.map(|library| (library, quiet)));
    let layer = tracing_subscriber::fmt::layer().with_ansi(false).event_format(HcLog).with_writer(std::io::stderr);
    let _ = tracing::subscriber::set_global_default(tracing_subscriber::registry().with(filter).with(layer));
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(|s| &**s));
        let text = text.unwrap_or("without text");
        let place = info.location().map(|place| format!(" at {place}")).unwrap_or_default();
        // Core shows lines that begin so as the crash of the provider. No backtrace: it may show values.
        let _ = std::io::stderr().write_all(format!("panic: {text}{place}\n").as_bytes());
    }));
}

/// How a provider type is spelled in the names of its settings.
pub(crate) fn environment_name(type_name: &str) -> String {
    type_name.to_uppercase().replace(|c: char| !c.is_ascii_alphanumeric(), "_")
}

/// The first setting that is there decides. Without one, warnings: core throws them away unless it crashes.
fn level(type_name: &str, environment: impl Fn(&str) -> Option<String>) -> LevelFilter {
    let own = format!("TF_LOG_PROVIDER_{}", environment_name(type_name));
    let names = [own.as_str(), "TF_LOG_PROVIDER", "TF_LOG"];
    let set = names.iter().find_map(|name| environment(name).filter(|value| !value.is_empty()));
    match set.unwrap_or_default().to_ascii_uppercase().as_str() {
        "OFF" => LevelFilter::OFF,
        "ERROR" => LevelFilter::ERROR,
        "INFO" => LevelFilter::INFO,
        "DEBUG" => LevelFilter::DEBUG,
        "" | "WARN" => LevelFilter::WARN,
        _ => LevelFilter::TRACE, // also JSON, and as core does with what it does not know
    }
}

/// One JSON object per line.
struct HcLog;

impl<S, N> FormatEvent<S, N> for HcLog
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = Map::new();
        for span in context.event_scope().into_iter().flatten() {
            if let Some(fields) = span.extensions().get::<FormattedFields<N>>()
                && !fields.fields.is_empty()
            {
                line.insert(span.name().to_owned(), shortened(&fields.fields).into());
            }
        }
        event.record(&mut Fields(&mut line));
        let metadata = event.metadata();
        line.entry("@message").or_insert_with(|| "".into());
        line.insert("@level".into(), metadata.level().as_str().to_ascii_lowercase().into());
        line.insert("@module".into(), format!("provider.{}", metadata.target().replace("::", ".")).into());
        line.insert("@timestamp".into(), timestamp(SystemTime::now()).into());
        writeln!(out, "{}", Value::Object(line))
    }
}

/// Takes the fields of an event. `@message` must be a JSON string: core crashes on anything else.
struct Fields<'a>(&'a mut Map<String, Value>);

impl Fields<'_> {
    fn put(&mut self, field: &Field, value: Value) {
        if field.name() == "message" {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            self.0.insert("@message".into(), text.into());
        } else {
            self.0.insert(field.name().trim_start_matches('@').to_owned(), value);
        }
    }
}

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, shortened(&format!("{value:?}")).into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, shortened(value).into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }
}

fn shortened(text: &str) -> String {
    match crate::value::head(text, MAX_TEXT) {
        head if head.len() < text.len() => format!("{head}… ({} bytes)", text.len()),
        whole => whole.to_owned(),
    }
}

/// UTC with exactly six digits after the point; with any other number core takes the line for plain text.
fn timestamp(at: SystemTime) -> String {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, micros) = (since.as_secs(), since.subsec_micros());
    let (year, month, day) = civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z")
}

/// Year, month and day of a day since 1970, after Howard Hinnant's `civil_from_days`.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153; // 0 is March
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(log: impl FnOnce()) -> String {
        let sink = Sink::default();
        let writer = sink.clone();
        let layer =
            tracing_subscriber::fmt::layer().with_ansi(false).event_format(HcLog).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), log);
        String::from_utf8(sink.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn a_line_is_what_hclog_reads() {
        let text = logged(|| {
            let span = tracing::info_span!("rpc", tf_rpc = "ReadResource");
            span.in_scope(|| tracing::warn!(vmid = 100, ok = true, node = "a", "hello\n{}", "x"));
        });
        assert_eq!(text.matches('\n').count(), 1, "one line");
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["@message"], "hello\nx");
        assert_eq!(line["@level"], "warn");
        assert_eq!(line["vmid"], 100);
        assert_eq!(line["ok"], true);
        assert!(line["rpc"].as_str().unwrap().contains("ReadResource"));
        let time = line["@timestamp"].as_str().unwrap();
        let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
        assert_eq!(shape, "0000-00-00T00:00:00.000000Z");
    }

    #[test]
    fn a_message_is_a_string_and_a_line_is_short() {
        let text = logged(|| tracing::error!(message = 7, big = "x".repeat(1 << 20)));
        let line: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["@message"], "7");
        assert!(text.len() < 64 << 10);
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00.000007Z"),
            (951_782_400, "2000-02-29T00:00:00.000007Z"),
            (1_795_564_799, "2026-11-24T23:59:59.000007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.000007Z"),
        ] {
            let at = UNIX_EPOCH + Duration::from_secs(seconds) + Duration::from_micros(7);
            assert_eq!(timestamp(at), expected);
        }
    }

    #[test]
    fn the_nearest_setting_decides() {
        let with = |pairs: &'static [(&str, &str)]| {
            level("my-cloud", |name| pairs.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()))
        };
        assert_eq!(with(&[]), LevelFilter::WARN);
        assert_eq!(with(&[("TF_LOG", "debug")]), LevelFilter::DEBUG);
        assert_eq!(with(&[("TF_LOG", "JSON")]), LevelFilter::TRACE);
        assert_eq!(with(&[("TF_LOG", "TRACE"), ("TF_LOG_PROVIDER", "ERROR")]), LevelFilter::ERROR);
        assert_eq!(with(&[("TF_LOG_PROVIDER", "ERROR"), ("TF_LOG_PROVIDER_MY_CLOUD", "OFF")]), LevelFilter::OFF);
    }
}
