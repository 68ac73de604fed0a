//! Appending frames. Called by any thread; `control` with the registry locked.

use std::time::{Duration, Instant};

use super::frames::Kind;
use super::pongs::Pong;
use super::state::{Batch, Outbox, OutboxPolicy, Phase, ReconnectBuffer, State, Urgency};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{Headers, PING, PONG, PublishLen, encode_publish, publish_len};
use crate::sync::MutexGuard;

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

enum Room {
    Yes,
    /// There is room, but the writer is behind. It has at most so long.
    Behind(Duration),
    Drop,
    Wait(Duration),
}

/// What a publisher gives a writer that is behind, again for each high water that it takes: one on
/// the same machine or network does. For a slower one a burst must not wait.
pub(super) const BRIEFLY: Duration = Duration::from_millis(10);

/// How long a writer counts as slow that was waited for in vain: a moment without the processor
/// must not cost the rest of a long burst what it gains.
const SLOW_FOR: Duration = Duration::from_secs(1);

/// A publisher's wait for a writer that is behind.
struct CatchUp {
    /// What had been written when it was looked at last, and when it is looked at again.
    mark: u64,
    look: Instant,
}

impl CatchUp {
    fn begin(state: &mut State) -> Self {
        // The writer gets another chance.
        state.overrun = None;
        Self { mark: state.written, look: clock::after(BRIEFLY) }
    }

    /// Until when to wait; none if it is in vain.
    fn until(&mut self, state: &mut State, high_water: usize, end: Instant) -> Option<Instant> {
        let now = clock::now();
        if now >= self.look {
            let taken = state.written - self.mark;
            if taken < high_water as u64 {
                state.overrun = Some(now + SLOW_FOR);
                return None;
            }
            (self.mark, self.look) = (state.written, now + BRIEFLY);
        }
        (now < end).then_some(self.look.min(end))
    }
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

    /// Whether a message may be queued, and waits for room if the policy says so; false if it is to
    /// be dropped.
    #[cold]
    fn make_room(
        &self,
        state: &mut MutexGuard<'_, State>,
        len: PublishLen,
        with_headers: bool,
        may_wait: bool,
    ) -> Result<bool> {
        let (mut catch_up, mut deadline) = (None, None);
        loop {
            // Between two waits the connection may end, or another server may accept less.
            state.admits(with_headers, len.announced)?;
            let until = match self.room_for(state, len.frame, may_wait)? {
                Room::Yes => return Ok(true),
                Room::Behind(patience) => {
                    let end = *deadline.get_or_insert_with(|| clock::after(patience));
                    let wait = catch_up.get_or_insert_with(|| CatchUp::begin(state));
                    match wait.until(state, self.config.high_water, end) {
                        Some(until) => until,
                        None => return Ok(true),
                    }
                }
                Room::Drop => {
                    state.discarded += 1;
                    return Ok(false);
                }
                Room::Wait(patience) => {
                    let until = *deadline.get_or_insert_with(|| clock::after(patience));
                    if !may_wait || clock::now() >= until {
                        return Err(self.full());
                    }
                    state.overrun = Some(clock::after(SLOW_FOR));
                    until
                }
            };
            state.waiting += 1;
            // Room comes from what is written: whoever appended last may not have begun.
            self.wake_flusher(state);
            self.room.wait_until(state, Some(until));
            state.waiting -= 1;
        }
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

    /// Whether there is room for a frame of that length. A frame larger than the limit is let in
    /// when nothing else waits, or it could never be sent.
    fn room_for(&self, state: &State, length: usize, may_wait: bool) -> Result<Room> {
        if state.phase == Phase::Up {
            if state.bytes == 0 || state.bytes.saturating_add(length) <= self.config.limit {
                let behind = may_wait && state.is_behind(self.config.high_water);
                return Ok(match self.config.policy {
                    OutboxPolicy::Block(patience) if behind => Room::Behind(patience),
                    _ => Room::Yes,
                });
            }
            return match self.config.policy {
                OutboxPolicy::Block(patience) => Ok(Room::Wait(patience)),
                OutboxPolicy::Error => Err(self.full()),
                OutboxPolicy::DropNewest => Ok(Room::Drop),
            };
        }
        let refuse = |text: String| Err(Error::new(ErrorKind::ReconnectBufferFull, text));
        match self.config.reconnect_buffer {
            ReconnectBuffer::Off => {
                refuse("the connection is down and the reconnect buffer is off".to_owned())
            }
            ReconnectBuffer::Bytes(most) if state.bytes.saturating_add(length) > most => refuse(
                format!("the connection is down and the reconnect buffer of {most} bytes is full"),
            ),
            ReconnectBuffer::Bytes(_) => Ok(Room::Yes),
        }
    }

    fn full(&self) -> Error {
        let text = format!("the outbox of {} bytes is full", self.config.limit);
        Error::new(ErrorKind::OutboxFull, text)
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

#[cfg(test)]
mod tests {
    use super::super::state::OutboxConfig;
    use super::*;

    #[test]
    fn a_quick_writer_is_waited_for_again_and_a_slow_one_is_not() {
        let outbox = Outbox::new(OutboxConfig {
            limit: 1 << 20,
            high_water: 1000,
            policy: OutboxPolicy::Block(Duration::from_secs(60)),
            reconnect_buffer: ReconnectBuffer::Off,
            control_line: 4096,
        });
        let mut state = outbox.state.lock();
        let end = Instant::now() + Duration::from_secs(60);
        state.overrun = Some(end);
        let mut wait = CatchUp::begin(&mut state);
        assert_eq!(state.overrun, None, "another chance");
        let look = wait.look;
        assert_eq!(wait.until(&mut state, 1000, end), Some(look));
        for _ in 0..3 {
            state.written += 1000;
            wait.look = Instant::now();
            let again = wait.until(&mut state, 1000, end).expect("it is quick");
            assert!(again > look && again <= end && state.overrun.is_none());
        }
        // The patience is over, which says nothing of the writer.
        state.written += 1000;
        wait.look = Instant::now();
        assert_eq!(wait.until(&mut state, 1000, Instant::now()), None);
        assert_eq!(state.overrun, None);
        state.written += 999;
        wait.look = Instant::now();
        assert_eq!(wait.until(&mut state, 1000, end), None);
        assert!(state.overrun.is_some_and(|until| until > look));
    }
}
