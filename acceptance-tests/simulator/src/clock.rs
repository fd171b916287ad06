//! The simulator's own time: every date, age and duration comes from here.

use std::time::{Duration, Instant};

/// How time goes by.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Time stands still except where it is looked at (each request, each poll of a task) or advanced by hand.
    Stepped,
    /// Real time times `scale` (greater than 0; 60 makes a minute of the clusters out of a second).
    Wall {
        /// Seconds of the clusters per real second.
        scale: f64,
    },
}

/// Milliseconds since 1970 on the clusters' clocks.
pub(crate) type Millis = i64;

/// Where stepped time begins: 2026-01-05 08:00:00 UTC, a Monday.
const STEPPED_EPOCH: Millis = 1_767_600_000_000;

pub(crate) struct Clock {
    pace: Pace,
    now: Millis,
    started: Instant,
    base: Millis,
    skipped: Millis,
}

impl Clock {
    pub(crate) fn new(pace: Pace) -> Self {
        let base = match pace {
            Pace::Stepped => STEPPED_EPOCH,
            Pace::Wall { .. } => std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(STEPPED_EPOCH, |since| i64::try_from(since.as_millis()).unwrap_or(STEPPED_EPOCH)),
        };
        Clock { pace, now: base, started: Instant::now(), base, skipped: 0 }
    }

    pub(crate) fn now(&self) -> Millis {
        self.now
    }

    pub(crate) fn is_stepped(&self) -> bool {
        self.pace == Pace::Stepped
    }

    /// Where time should be after being looked at with the given step (which wall time ignores).
    pub(crate) fn target(&self, step: Duration) -> Millis {
        match self.pace {
            Pace::Stepped => self.now + i64::try_from(step.as_millis()).unwrap_or(0),
            Pace::Wall { scale } => {
                let elapsed = self.started.elapsed().as_secs_f64() * scale * 1000.0;
                (self.base + self.skipped + elapsed as i64).max(self.now)
            }
        }
    }

    /// Where time should be after an advance by hand.
    pub(crate) fn skip(&mut self, by: Duration) -> Millis {
        let by = i64::try_from(by.as_millis()).unwrap_or(0);
        self.skipped += by;
        match self.pace {
            Pace::Stepped => self.now + by,
            Pace::Wall { .. } => self.target(Duration::ZERO),
        }
    }

    /// Real time that a time of the clusters takes.
    pub(crate) fn real(&self, time: Duration) -> Duration {
        match self.pace {
            Pace::Stepped => Duration::ZERO,
            Pace::Wall { scale } => time.div_f64(scale.max(0.001)),
        }
    }

    /// Moves to an instant; never back.
    pub(crate) fn set(&mut self, to: Millis) {
        self.now = self.now.max(to);
    }
}
