//! Appending frames. Called by any thread; `control` with the registry locked.

use super::frames::Kind;
use super::pongs::Pong;
use super::state::{Batch, Outbox, Phase, Urgency};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{Headers, PING, PONG, encode_publish, publish_len};

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accepted {
    /// It waits to be written, and nothing is to be done: somebody is about to, or begins with the
    /// next connection.
    Queued,
    /// It waits to be written; the caller calls [`Outbox::kick`] next, or nobody may write it.
    Idle,
    /// It was dropped by [`OutboxPolicy::DropNewest`].
    Dropped,
}

/// What is published: a view of the caller's message.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    pub(crate) subject: &'a str,
    pub(crate) reply: Option<&'a str>,
    pub(crate) headers: Option<&'a Headers>,
    pub(crate) payload: &'a [u8],
}

/// The most bytes that the urgent lane holds: a server that pings faster than we can write must not
/// fill our memory.
const URGENT_MOST: usize = 64 * 1024;

impl Outbox {
    /// Appends a message. `may_wait` is false on the library's own threads: user code there gets
    /// the error, not the wait.
    // Its callers have nothing else to do, and what they hand over is a handful of registers.
    #[inline(always)]
    pub(crate) fn publish(
        &self,
        outgoing: Outgoing<'_>,
        urgency: Urgency,
        may_wait: impl FnOnce() -> bool,
    ) -> Result<Accepted> {
        let Outgoing { subject, reply, payload, .. } = outgoing;
        let headers = outgoing.headers.filter(|headers| !headers.is_empty());
        let len = publish_len(subject, reply, headers, payload.len());
        self.check_line_length(len.line)?;
        let mut state = self.state.lock();
        let with_headers = headers.is_some();
        let easy = state.bytes.saturating_add(len.frame) <= self.config.high_water;
        let at_once =
            easy && state.phase == Phase::Up && state.accepts(with_headers, len.announced);
        if !at_once && !self.make_room(&mut state, len, with_headers, may_wait())? {
            return Ok(Accepted::Dropped);
        }
        let leaving = !at_once && state.phase == Phase::Leaving;
        let queue = if leaving { &mut state.later } else { &mut state.pending };
        encode_publish(queue.place(len.frame), len, subject, reply, headers, payload);
        queue.appended(Kind::Data, len.frame);
        state.bytes += len.frame;
        state.messages += 1;
        state.out_messages += 1;
        state.out_bytes += len.frame as u64;
        // In a burst nothing more is to be done. Whatever else follows is not done here, so that a
        // message in a burst does not pay for it.
        Ok(if state.is_attended(urgency) { Accepted::Queued } else { Accepted::Idle })
    }

    /// Checks that a SUB fits into the control line: the server ends the connection for one that
    /// does not, and so would every later one, to which it is sent again.
    pub(crate) fn check_subscribe(&self, subject: &str, queue: Option<&str>) -> Result<()> {
        // With the longest sid, so that a subject does not fit today and not tomorrow.
        let around = "SUB  18446744073709551615\r\n".len();
        let queue = queue.map_or(0, |queue| queue.len() + 1);
        self.check_line_length(around.saturating_add(subject.len()).saturating_add(queue))
    }

    fn check_line_length(&self, line: usize) -> Result<()> {
        if line > self.config.control_line { Err(self.line_too_long(line)) } else { Ok(()) }
    }

    #[cold]
    fn line_too_long(&self, line: usize) -> Error {
        let most = self.config.control_line;
        let text = format!("the protocol line takes {line} bytes, the control line has {most}");
        Error::new(ErrorKind::MaxControlLine, text)
    }

    /// Appends SUB or UNSUB lines, which never wait. Without a server they are not kept: the
    /// registry announces everything to the next one. `kick` begins the write.
    pub(crate) fn control(&self, frame: &[u8]) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Opening | Phase::Up) {
            state.pending.push(Kind::Control, frame);
            state.bytes += frame.len();
        }
    }

    /// Appends a PING whose PONG completes `pong`. Fails when no server is there.
    pub(crate) fn ping(&self, pong: Pong) -> Result<Option<Batch>> {
        let mut state = self.state.lock();
        match state.phase {
            Phase::Up => {}
            Phase::Closing | Phase::Closed => {
                return Err(Error::new(ErrorKind::Closed, "the connection is closed"));
            }
            Phase::Down | Phase::Opening | Phase::Leaving => {
                return Err(Error::new(ErrorKind::Disconnected, "the connection is down"));
            }
        }
        state.pending.push(Kind::Ping, PING);
        state.bytes += PING.len();
        let messages = state.out_messages;
        state.pongs.queue(pong, messages);
        Ok(self.turn(&mut state, Urgency::Now))
    }

    /// A PONG arrived: the flush that it completes, if it is one.
    pub(crate) fn pong(&self) -> Option<Pong> {
        self.state.lock().pongs.arrived()
    }

    /// Answers the server's PING, ahead of what waits.
    pub(crate) fn answer_ping(&self) {
        self.push_urgent(PONG, false);
    }

    /// Sends a keep-alive PING, ahead of what waits.
    pub(crate) fn keep_alive(&self) {
        self.push_urgent(PING, true);
    }

    fn push_urgent(&self, frame: &[u8], is_ping: bool) {
        let mut state = self.state.lock();
        if state.phase.writes() && state.urgent.len() < URGENT_MOST {
            state.urgent.extend_from_slice(frame);
            if is_ping {
                state.pongs.queue_urgent();
            }
            self.wake_flusher(&mut state);
        }
    }
}
