//! What a [`Proxy`](super::proxy::Proxy) does to the bytes of one direction.

use std::time::Duration;

/// How a link ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both sides read the end of the stream.
    Close,
    /// Both sides get a reset; what they have not read is lost.
    Reset,
}

/// The faults of one direction; the default is none. They may be changed at any time and hold for
/// all links, but where a number of bytes is named it counts from the beginning of each link.
#[derive(Debug, Clone, Default)]
pub(crate) struct Faults {
    /// Each piece that was read waits so long.
    pub(crate) delay: Duration,
    /// And at random up to so much longer.
    pub(crate) jitter: Duration,
    pub(crate) bytes_per_second: Option<u64>,
    /// Nothing is read: the writer feels back-pressure.
    pub(crate) stopped: bool,
    /// What is read waits until this is false again.
    pub(crate) held: bool,
    /// What is read is thrown away: a black hole that acknowledges.
    pub(crate) swallowed: bool,
    /// At most so many bytes go on at once.
    pub(crate) slice: Option<usize>,
    /// After so many bytes of a link it ends.
    pub(crate) cut_after: Option<(u64, Cut)>,
    /// The byte at this place of a link goes on with one bit turned.
    pub(crate) flip_at: Option<u64>,
    /// Changes the first line, which from a server is its INFO.
    pub(crate) edit_first_line: Option<fn(&str) -> String>,
}

impl Faults {
    pub(crate) fn stopped() -> Self {
        Self { stopped: true, ..Self::default() }
    }

    pub(crate) fn swallowed() -> Self {
        Self { swallowed: true, ..Self::default() }
    }

    pub(crate) fn cut_after(bytes: u64, how: Cut) -> Self {
        Self { cut_after: Some((bytes, how)), ..Self::default() }
    }
}
