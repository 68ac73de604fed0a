//! How long a connection waits before it tries again. Pure: the random numbers and the times are
//! arguments.
//!
//! Two loops must not spin, whatever the options say: attempts that are refused at once (a pass
//! over all servers takes at least [`SHORTEST`]), and servers that take us in only to throw us out
//! (after [`QUICK_LOSSES`] such connections in a row the first attempt waits, too).

use std::time::Duration;

use super::servers::{Pause, Random};

/// A connection that lasted so long, or as long as the reconnect wait, did last.
const LASTING: Duration = Duration::from_secs(1);

/// What a reconnect wait of zero means: short, and no busy loop.
const SHORTEST: Duration = Duration::from_millis(10);

/// After so many connections in a row that did not last the first attempt waits too.
const QUICK_LOSSES: u32 = 5;

impl Pause {
    /// The length of this pause, with a fresh jitter of less than `jitter`; a jitter of zero is
    /// none.
    pub(crate) fn length(self, wait: Duration, jitter: Duration, random: Random<'_>) -> Duration {
        let mut jitter = || {
            Duration::from_nanos(match u64::try_from(jitter.as_nanos()).unwrap_or(u64::MAX) {
                0 => 0,
                nanos => random() % nanos,
            })
        };
        match self {
            Self::None => Duration::ZERO,
            Self::Jitter => jitter(),
            Self::Pass(_) => wait.max(SHORTEST).saturating_add(jitter()),
        }
    }
}

/// The connections in a row that did not last.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    quick: u32,
}

impl Losses {
    /// A connection was lost after `lasted`; one that the program left counts as one that did last.
    /// Returns whether the first attempt of the outage is made at once.
    pub(crate) fn lost(&mut self, lasted: Duration, left: bool, wait: Duration) -> bool {
        let quick = !left && lasted < wait.clamp(SHORTEST, LASTING);
        self.quick = if quick { self.quick.saturating_add(1) } else { 0 };
        self.quick < QUICK_LOSSES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_pause_is_the_wait_and_less_than_the_jitter() {
        let most = &mut || u64::MAX;
        assert_eq!(Pause::None.length(SECOND, SECOND, most), Duration::ZERO);
        assert!(Pause::Jitter.length(SECOND, SECOND, most) < SECOND);
        let whole = Pause::Pass(1).length(SECOND, SECOND, most);
        assert!(whole >= SECOND && whole < 2 * SECOND);
        assert_eq!(Pause::Jitter.length(SECOND, Duration::ZERO, most), Duration::ZERO);
    }

    #[test]
    fn waits_of_zero_are_no_busy_loop() {
        let zero = Duration::ZERO;
        assert_eq!(Pause::Pass(1).length(zero, zero, &mut || 7), SHORTEST);
        let mut losses = Losses::default();
        let at_once: Vec<_> = (0..6).map(|_| losses.lost(zero, false, zero)).collect();
        assert_eq!(at_once, [true, true, true, true, false, false]);
        assert!(losses.lost(zero, true, zero), "the program left it");
        assert!(losses.lost(SECOND, false, Duration::from_secs(9)), "it lasted");
    }
}
