//! When moves may run: windows of migration paths, asked with a time that is given.

use std::fmt;

use jiff::civil::{Time, Weekday as Day};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Zoned};

use super::path::{Weekday, Window};

impl Window {
    /// Whether `zone` is a time zone of the IANA database, which is built in.
    pub fn knows_zone(zone: &str) -> bool {
        TimeZone::get(zone).is_ok()
    }

    /// Whether it is open at `now`, in seconds since 1970. A window over midnight belongs to the day it opens on. One whose
    /// zone or times can't be read is never open.
    pub fn is_open(&self, now: i64) -> bool {
        let Some((from, to, now)) = self.read(now) else { return false };
        let today = now.time() >= from && (to <= from || now.time() < to);
        let since_yesterday = to <= from && now.time() < to;
        let yesterday = now.date().checked_sub(1.day()).map(jiff::civil::Date::weekday);
        (today && self.opens_on(now.weekday())) || (since_yesterday && yesterday.is_ok_and(|day| self.opens_on(day)))
    }

    fn read(&self, now: i64) -> Option<(Time, Time, Zoned)> {
        let time = |text: &str| {
            let (hours, minutes) = text.split_once(':')?;
            Time::new(hours.parse().ok()?, minutes.parse().ok()?, 0, 0).ok()
        };
        let zone = TimeZone::get(&self.zone).ok()?;
        Some((time(&self.from)?, time(&self.to)?, Timestamp::from_second(now).ok()?.to_zoned(zone)))
    }

    fn opens_on(&self, day: Day) -> bool {
        let day = match day {
            Day::Monday => Weekday::Monday,
            Day::Tuesday => Weekday::Tuesday,
            Day::Wednesday => Weekday::Wednesday,
            Day::Thursday => Weekday::Thursday,
            Day::Friday => Weekday::Friday,
            Day::Saturday => Weekday::Saturday,
            Day::Sunday => Weekday::Sunday,
        };
        self.days.is_empty() || self.days.contains(&day)
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<&str> = self.days.iter().map(|day| day.as_str()).collect();
        let days = if days.is_empty() { "every day".to_owned() } else { days.join(", ") };
        write!(f, "{days} {}–{} {}", self.from, self.to, self.zone)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(days: &[Weekday], from: &str, to: &str, zone: &str) -> Window {
        Window { days: days.iter().copied().collect(), from: from.into(), to: to.into(), zone: zone.into() }
    }

    fn at(text: &str) -> i64 {
        text.parse::<Timestamp>().unwrap().as_second()
    }

    #[test]
    fn a_window_is_open_between_its_times_in_its_zone() {
        let night = window(&[Weekday::Saturday], "22:00", "04:00", "Europe/Amsterdam");
        // 2026-11-28 is a Saturday; Amsterdam is an hour ahead of UTC then, and two in July.
        for (time, open) in [
            ("2026-11-28T20:59:59Z", false),
            ("2026-11-28T21:00:00Z", true),
            ("2026-11-29T02:59:59Z", true),
            ("2026-11-29T03:00:00Z", false),
            ("2026-11-27T22:00:00Z", false),
            ("2026-11-28T01:00:00Z", false),
            ("2026-07-04T20:00:00Z", true),
        ] {
            assert_eq!(night.is_open(at(time)), open, "{time}");
        }
        let day = window(&[], "09:00", "17:00", "UTC");
        assert!(day.is_open(at("2026-11-25T09:00:00Z")) && !day.is_open(at("2026-11-25T17:00:00Z")));
        let whole = window(&[Weekday::Wednesday], "00:00", "00:00", "UTC");
        assert!(whole.is_open(at("2026-11-25T23:59:59Z")) && !whole.is_open(at("2026-11-26T00:00:00Z")));
        assert_eq!(night.to_string(), "sat 22:00–04:00 Europe/Amsterdam");
        assert_eq!(day.to_string(), "every day 09:00–17:00 UTC");
    }

    #[test]
    fn what_can_not_be_read_is_never_open() {
        assert!(!Window::knows_zone("Europe/Amsterdm") && Window::knows_zone("Europe/Amsterdam"));
        assert!(!window(&[], "00:00", "23:59", "Nowhere/Land").is_open(at("2026-11-25T12:00:00Z")));
        assert!(!window(&[], "24:00", "23:59", "UTC").is_open(at("2026-11-25T12:00:00Z")));
    }
}
