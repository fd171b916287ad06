//! When moves may run: windows of migration paths, asked with a time that is given.

use std::fmt;

use jiff::civil::{Time, Weekday as Day};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan, Zoned};

use super::path::{Weekday, Window};

/// Days that are looked ahead: a week, and the day on which the window may be closed.
const AHEAD: i64 = 8;

impl Window {
    /// Whether `zone` is a time zone of the IANA database, which is built in.
    pub fn knows_zone(zone: &str) -> bool {
        TimeZone::get(zone).is_ok()
    }

    /// Why a move that begins at `now` and takes `seconds` can't be made inside it, in words with the times; none where it can.
    /// Openings that touch count as one. A window over midnight belongs to the day it opens on. One whose zone or times can't be read is
    /// never open.
    pub fn misfit(&self, now: i64, seconds: u64) -> Option<String> {
        let Some((_, _, at)) = self.read(now) else { return Some("its zone or times can't be read".to_owned()) };
        let openings = self.openings(&at);
        let text = |at: &Zoned| format!("{} {}", at.strftime("%Y-%m-%d %H:%M"), self.zone);
        let Some((_, closes)) = openings.iter().find(|(from, to)| *from <= at && at < *to) else {
            let next = openings.iter().map(|(from, _)| from).find(|from| **from > at);
            let next = next.map(|next| format!(", and opens next at {}", text(next))).unwrap_or_default();
            return Some(format!("it is closed now ({}){next}", text(&at)));
        };
        let ends = at.checked_add(SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX)));
        match ends {
            Ok(ends) if ends <= *closes => None,
            // Open all the time, as far as anybody looks.
            _ if openings.len() == 1 && *closes >= &at + AHEAD.days() => None,
            Ok(ends) => Some(format!(
                "it closes at {}, and a move that begins now ({}) is predicted to end at {}",
                text(closes),
                text(&at),
                text(&ends)
            )),
            Err(_) => Some(format!("it closes at {}, long before the predicted end", text(closes))),
        }
    }

    /// Its openings from yesterday on, for [`AHEAD`] days and a bit, those that touch in one piece.
    fn openings(&self, now: &Zoned) -> Vec<(Zoned, Zoned)> {
        let Some((from, to, _)) = self.read(now.timestamp().as_second()) else { return Vec::new() };
        let mut found: Vec<(Zoned, Zoned)> = Vec::new();
        for day in -1..=AHEAD {
            let Ok(date) = now.date().checked_add(day.days()) else { continue };
            let until = if to <= from { date.checked_add(1.day()) } else { Ok(date) };
            let zoned = |date: jiff::civil::Date, time| date.to_datetime(time).to_zoned(now.time_zone().clone());
            let (Ok(opens), Ok(closes)) = (zoned(date, from), until.and_then(|date| zoned(date, to))) else { continue };
            if !self.opens_on(date.weekday()) {
                continue;
            }
            match found.last_mut() {
                Some((_, last)) if *last >= opens => *last = closes,
                _ => found.push((opens, closes)),
            }
        }
        found
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

    fn is_open(window: &Window, time: &str) -> bool {
        window.misfit(at(time), 0).is_none()
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
            assert_eq!(is_open(&night, time), open, "{time}");
        }
        let day = window(&[], "09:00", "17:00", "UTC");
        assert!(is_open(&day, "2026-11-25T09:00:00Z") && !is_open(&day, "2026-11-25T17:00:00Z"));
        let whole = window(&[Weekday::Wednesday], "00:00", "00:00", "UTC");
        assert!(is_open(&whole, "2026-11-25T23:59:59Z") && !is_open(&whole, "2026-11-26T00:00:00Z"));
        assert_eq!(night.to_string(), "sat 22:00–04:00 Europe/Amsterdam");
        assert_eq!(day.to_string(), "every day 09:00–17:00 UTC");
    }

    #[test]
    fn a_move_fits_where_it_begins_and_ends_inside() {
        let night = window(&[Weekday::Saturday], "22:00", "04:00", "Europe/Amsterdam");
        let hours = |hours: u64| hours * 3600;
        assert_eq!(night.misfit(at("2026-11-28T21:00:00Z"), hours(6)), None);
        assert_eq!(
            night.misfit(at("2026-11-28T21:00:01Z"), hours(6)).unwrap(),
            "it closes at 2026-11-29 04:00 Europe/Amsterdam, and a move that begins now (2026-11-28 22:00 Europe/Amsterdam) is \
             predicted to end at 2026-11-29 04:00 Europe/Amsterdam"
        );
        assert_eq!(
            night.misfit(at("2026-11-28T20:59:59Z"), 0).unwrap(),
            "it is closed now (2026-11-28 21:59 Europe/Amsterdam), and opens next at 2026-11-28 22:00 Europe/Amsterdam"
        );
        let after = night.misfit(at("2026-11-29T03:00:00Z"), 0).unwrap();
        assert!(after.ends_with("opens next at 2026-12-05 22:00 Europe/Amsterdam"), "{after}");
        assert_eq!(night.misfit(at("2026-11-29T02:00:00Z"), hours(1)), None, "over midnight");
        assert!(night.misfit(at("2026-11-28T22:00:00Z"), u64::MAX).is_some());
    }

    #[test]
    fn openings_that_touch_are_one_and_one_that_never_closes_takes_any_move() {
        let days = window(&[Weekday::Friday, Weekday::Saturday], "00:00", "00:00", "UTC");
        // Friday noon to the end of Saturday.
        assert_eq!(days.misfit(at("2026-11-27T12:00:00Z"), 36 * 3600), None);
        assert!(days.misfit(at("2026-11-27T12:00:00Z"), 36 * 3600 + 1).is_some());
        let always = window(&[], "06:00", "06:00", "UTC");
        assert_eq!(always.misfit(at("2026-11-27T12:00:00Z"), 40 * 24 * 3600), None);
        // A day of 25 hours.
        let zone = window(&[Weekday::Sunday], "00:00", "12:00", "Europe/Amsterdam");
        assert_eq!(zone.misfit(at("2026-10-24T22:00:00Z"), 13 * 3600), None);
        assert!(window(&[], "25:00", "23:59", "UTC").misfit(0, 0).is_some());
    }

    #[test]
    fn what_can_not_be_read_is_never_open() {
        assert!(!Window::knows_zone("Europe/Amsterdm") && Window::knows_zone("Europe/Amsterdam"));
        assert!(!is_open(&window(&[], "00:00", "23:59", "Nowhere/Land"), "2026-11-25T12:00:00Z"));
        assert!(!is_open(&window(&[], "24:00", "23:59", "UTC"), "2026-11-25T12:00:00Z"));
    }
}
