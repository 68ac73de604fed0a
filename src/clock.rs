//! The one clock of the library, and deadlines from time-outs that a program may choose
//! freely.
//!
//! The clock is the monotonic one; wall time is read in one place, for the time stamp of an event.

use std::time::{Duration, Instant};

use crate::sync::time;

/// Longer than any program runs, and short enough for every clock.
const FOR_EVER: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 30);

/// This moment.
pub(crate) fn now() -> Instant {
    time::now()
}

/// The time since then; zero for a moment that has not come yet.
pub(crate) fn since(moment: Instant) -> Duration {
    now().saturating_duration_since(moment)
}

/// The moment at which a wait of that length is over. `Duration::MAX` is as good as for ever, not a
/// panic.
pub(crate) fn after(timeout: Duration) -> Instant {
    now() + timeout.min(FOR_EVER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_time_out_has_a_deadline() {
        assert!(after(Duration::MAX) > Instant::now() + Duration::from_secs(1_000_000));
        assert!(after(Duration::ZERO) <= Instant::now());
    }
}
