//! How long a read of a stream over another one may still wait.
//!
//! Used by the streams that decrypt or unframe, on the thread that reads.

use std::io;
use std::time::{Duration, Instant};

use crate::clock;

/// By so much a read may exceed its wait.
const MOMENT: Duration = Duration::from_millis(1);

/// What is left of the wait of a read that may take several reads of the stream below: half a
/// record, or a frame that is not for the caller, must not make it wait for longer than it asked.
pub(super) struct ReadWait {
    wait: Option<Duration>,
    started: Option<Instant>,
}

impl ReadWait {
    /// A wait that begins now.
    pub(super) fn new(wait: Option<Duration>) -> Self {
        Self { wait, started: wait.map(|_| clock::now()) }
    }

    /// How long the next read below may wait; `WouldBlock` if the time is over. A moment changes
    /// nothing: the socket keeps its time-out.
    pub(super) fn left(&self) -> io::Result<Option<Duration>> {
        let spent = self.started.map_or(Duration::ZERO, clock::since);
        let left = match self.wait {
            Some(wait) if spent >= MOMENT => Some(wait.saturating_sub(spent)),
            wait => wait,
        };
        match left {
            Some(left) if left.is_zero() => Err(io::ErrorKind::WouldBlock.into()),
            left => Ok(left),
        }
    }
}
