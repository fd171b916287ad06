//! Owns what we know of a cluster's own clock.

use std::time::{Duration, Instant, SystemTime};

/// A cluster's clock as last heard in a `Date` header. Dates are compared by it and never by ours (design.md §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerTime {
    date: SystemTime,
    heard: Instant,
}

impl ServerTime {
    /// From the text of a `Date` header that has just arrived.
    pub(crate) fn from_header(text: &str) -> Option<Self> {
        httpdate::parse_http_date(text).ok().map(|date| Self { date, heard: Instant::now() })
    }

    /// Seconds since 1970 when the last answer was written; whole seconds, the entry node's clock.
    pub fn epoch(&self) -> i64 {
        seconds(self.date)
    }

    /// Seconds since 1970 by the cluster's clock now: the last answer's date plus the time gone by since.
    pub fn now(&self) -> i64 {
        seconds(self.date + self.age())
    }

    /// How long ago the last answer came.
    pub fn age(&self) -> Duration {
        self.heard.elapsed()
    }
}

fn seconds(time: SystemTime) -> i64 {
    match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        Err(before) => -i64::try_from(before.duration().as_secs()).unwrap_or(i64::MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_date_header() {
        let time = ServerTime::from_header("Fri, 02 Jan 2026 03:04:05 GMT").unwrap();
        assert_eq!(time.epoch(), 1_767_323_045);
        assert!(time.now() >= time.epoch());
        assert_eq!(ServerTime::from_header("yesterday"), None);
    }
}
