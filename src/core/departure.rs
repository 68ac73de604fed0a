//! Leaving a server that has announced its end, before it throws us out.
//!
//! ```text
//!  lame duck, and there is another server
//!     ─▶ what was published is written, then a PING; what is published from now on is kept
//!     ─▶ its PONG: the server has taken everything in; replies have a moment to come
//!     ─▶ the reader ends this connection, and the outage begins
//! ```
//!
//! Runs on the reader thread, between two reads. The subscriptions stay at the server to the end:
//! what it sends until then is delivered, once.

use std::time::{Duration, Instant};

use super::life::ConnectionStatus;
use super::shared::Core;
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::outbox::Pong;
use crate::outcome::Outcome;
use crate::subscriptions::Mark;

/// How long replies to requests under way may take before the server is left. Publishing is held
/// back meanwhile, so it is short.
const REPLIES: Duration = Duration::from_millis(250);

/// How long to wait at least before looking again.
const SLICE: Duration = Duration::from_millis(5);

/// A server that is being left.
pub(super) struct Departure {
    pong: Pong,
    /// Requests that were made before it began.
    mark: Mark,
    /// Since the PONG is there.
    replies_until: Option<Instant>,
    until: Instant,
}

impl Departure {
    /// Begins to leave the server in use, if it is to be left.
    pub(super) fn begin(core: &Core) -> Option<Self> {
        if !core.config.reconnect_on_lame_duck {
            return None;
        }
        let pong = Pong::new(Outcome::new());
        let mark = {
            let mut life = core.life();
            let stays = life.closing || life.drain.is_some() || life.failure.is_some();
            if !life.lame_duck || stays || !life.pool.has_other() {
                return None;
            }
            if !core.outbox.leave(Pong::clone(&pong)) {
                return None;
            }
            let mark = core.requests.mark();
            life.leaving = Some(mark);
            life.status = ConnectionStatus::Reconnecting;
            mark
        };
        core.changed.notify_all();
        let until = clock::after(core.config.connect_timeout);
        Some(Self { pong, mark, replies_until: None, until })
    }

    /// How long the next read may take, or none if it is time to go.
    pub(super) fn left(&mut self, core: &Core) -> Option<Duration> {
        let now = clock::now();
        if now >= self.until {
            return None;
        }
        if self.pong.get().is_none() {
            return Some((self.until - now).max(SLICE));
        }
        // Not since the begin: behind a long backlog, or far away, the PONG itself takes longer.
        let until = *self.replies_until.get_or_insert_with(|| self.until.min(now + REPLIES));
        let waits = now < until && core.requests.wait_before(self.mark);
        waits.then(|| (until - now).max(SLICE))
    }

    /// Why the connection ends.
    pub(super) fn cause(&self) -> Error {
        let confirmed = if self.pong.get().is_some() { "" } else { " unconfirmed" };
        let text = format!("the server announced its end and was left{confirmed}");
        Error::new(ErrorKind::LameDuck, text)
    }
}
