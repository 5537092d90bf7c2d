//! How fast a run gets on.

use std::time::{Duration, Instant};

/// The time over which a speed is taken.
const WINDOW: Duration = Duration::from_millis(500);

#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    events: u64,
    rate: f64,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), events: 0, rate: 0.0 }
    }

    /// Counts events; gives the speed in events per second.
    pub(super) fn count(&mut self, events: u64) -> f64 {
        self.events += events;
        let elapsed = self.since.elapsed();
        if elapsed >= WINDOW {
            self.rate = self.events as f64 / elapsed.as_secs_f64();
            self.events = 0;
            self.since = Instant::now();
        } else if self.rate == 0.0 {
            // The first window gives a first idea before it is over.
            return self.events as f64 / elapsed.as_secs_f64().max(0.001);
        }
        self.rate
    }

    /// Nothing happens any more.
    pub(super) fn rest(&mut self) {
        *self = Self::new();
    }
}

/// How many seconds some events take at a speed; `None` where nothing moves.
pub(super) fn eta(events: u64, rate: f64) -> Option<u64> {
    (events == 0 || rate > 0.0).then(|| (events as f64 / rate.max(f64::MIN_POSITIVE)).ceil() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_the_speed() {
        assert_eq!(eta(100, 40.0), Some(3));
        assert_eq!(eta(100, 0.0), None);
        assert_eq!(eta(0, 0.0), Some(0));
    }
}
