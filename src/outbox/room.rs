//! Room for a message, and the two waits of a publisher.
//!
//! Called with the state locked: by whoever publishes, which lets go of the lock while it waits,
//! and by whoever gives the write turn back, which wakes.
//!
//! | a publisher waits | because | until | or, at the latest |
//! | --- | --- | --- | --- |
//! | *for room* | the limit is reached | an eighth of the limit is free | its patience is over: it gets the error |
//! | *behind* | the high water is reached | what was there is written, but for half of it | the writer is found slow, or its patience is over: the message is appended |
//!
//! Both are woken by whatever ends or changes the connection, too, and then look again. Only
//! programs' threads wait, and not those of handlers and listeners, which append in between: so
//! whoever is behind waits for what was there when it came, not for how much is there.
//!
//! Invariants: `short` says how many wait for room. While somebody is behind, `goal` is at most the
//! least that one of them waits for. Whoever waits has seen to it that the flusher is awake.

use std::time::{Duration, Instant};

use super::state::{BRIEFLY, Outbox, OutboxPolicy, Phase, ReconnectBuffer, State};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::PublishLen;
use crate::sync::MutexGuard;

enum Room {
    Yes,
    /// There is room, but the writer is behind. The publisher has so much patience.
    Behind(Duration),
    Drop,
    Wait(Duration),
}

/// How long a writer counts as slow that was waited for in vain: a moment without the processor
/// must not cost the rest of a long burst what it gains.
const SLOW_FOR: Duration = Duration::from_secs(1);

/// A publisher's wait for a writer that is behind.
struct CatchUp {
    /// How much will have been written when that was which was there before.
    goal: u64,
    /// What had been written when it was looked at last, and when it is looked at again.
    mark: u64,
    look: Instant,
}

impl CatchUp {
    fn begin(state: &State) -> Self {
        Self { goal: u64::MAX, mark: state.written, look: clock::after(BRIEFLY) }
    }

    /// Until when to wait; none if it is over, or in vain.
    fn until(&mut self, state: &mut State, high_water: usize, end: Instant) -> Option<Instant> {
        // It only falls: what is lost with a connection is not written.
        let ahead = state.bytes.saturating_sub(high_water / 2) as u64;
        self.goal = self.goal.min(state.written.saturating_add(ahead));
        if state.written >= self.goal {
            return None;
        }
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

impl State {
    /// So much waits that a publisher lets the writer catch up, which is not known to be slow.
    fn is_behind(&self, high_water: usize) -> bool {
        let slow = self.overrun.is_some_and(|until| clock::now() < until);
        self.bytes >= high_water && !slow
    }

    /// After a write: whether publishers that wait can go on.
    pub(super) fn room_came(&mut self, limit: usize) -> bool {
        let written = self.written;
        let caught_up = self.goal.take_if(|goal| written >= *goal).is_some();
        // Not for each batch: a publisher that is woken for room for a few messages sleeps again at
        // once, and each time costs two switches of threads.
        caught_up || (self.short > 0 && self.bytes <= limit / 8 * 7)
    }
}

impl Outbox {
    /// Whether a message may be queued, and waits for room if the policy says so; false if it is to
    /// be dropped.
    #[cold]
    pub(super) fn make_room(
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
            match self.room_for(state, len.frame, may_wait)? {
                Room::Yes => return Ok(true),
                Room::Drop => {
                    state.discarded += 1;
                    return Ok(false);
                }
                Room::Behind(patience) => {
                    let end = *deadline.get_or_insert_with(|| clock::after(patience));
                    let wait = catch_up.get_or_insert_with(|| CatchUp::begin(state));
                    let Some(until) = wait.until(state, self.config.high_water, end) else {
                        return Ok(true);
                    };
                    state.goal = Some(state.goal.map_or(wait.goal, |least| least.min(wait.goal)));
                    self.wait_for_writer(state, until);
                }
                Room::Wait(patience) => {
                    let until = *deadline.get_or_insert_with(|| clock::after(patience));
                    if !may_wait || clock::now() >= until {
                        return Err(self.full());
                    }
                    state.short += 1;
                    self.wait_for_writer(state, until);
                    state.short -= 1;
                }
            }
        }
    }

    fn wait_for_writer(&self, state: &mut MutexGuard<'_, State>, until: Instant) {
        // Room comes from what is written: whoever appended last may not have begun.
        self.wake_flusher(state);
        self.room.wait_until(state, Some(until));
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
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::SocketAddr;
    use std::thread::{scope, yield_now};

    use super::super::append::Outgoing;
    use super::super::state::{OutboxConfig, ServerLimits, Urgency};
    use super::*;
    use crate::sync::Arc;
    use crate::transport::Stream;

    /// Takes everything.
    #[derive(Debug)]
    struct Void;

    impl Stream for Void {
        fn read(&self, _: &mut [u8], _: Option<Duration>) -> io::Result<usize> {
            Ok(0)
        }

        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            Ok(bytes.len())
        }

        fn shutdown(&self) {}

        fn finish(&self) {}

        fn local_addr(&self) -> Option<SocketAddr> {
            None
        }

        fn peer_addr(&self) -> Option<SocketAddr> {
            None
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    fn up(limit: usize, high_water: usize, patience: Duration) -> Outbox {
        let outbox = Outbox::new(OutboxConfig {
            limit,
            high_water,
            policy: OutboxPolicy::Block(patience),
            reconnect_buffer: ReconnectBuffer::Off,
            control_line: 4096,
        });
        outbox.open();
        outbox.begin(1, Arc::new(Void), ServerLimits { max_payload: 0, headers: true });
        outbox
    }

    fn publish(outbox: &Outbox, len: usize, may_wait: bool) {
        let payload = vec![b'x'; len];
        let outgoing = Outgoing { subject: "a", reply: None, headers: None, payload: &payload };
        outbox.publish(outgoing, Urgency::Idle, || may_wait).expect("room");
    }

    /// What a writer does that never waits, for one batch.
    fn write(outbox: &Outbox) {
        let mut batch = outbox.state.lock().take_batch().expect("something to write");
        let len = batch.bytes().len();
        batch.wrote(len);
        outbox.give_back(batch, false);
    }

    fn until(what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !done() {
            assert!(Instant::now() < deadline, "{what}");
            yield_now();
        }
    }

    #[test]
    fn a_quick_writer_is_waited_for_again_and_a_slow_one_is_not() {
        let outbox = up(1 << 20, 1000, LONG);
        let mut state = outbox.state.lock();
        state.bytes = 10_500;
        let end = Instant::now() + LONG;
        let mut wait = CatchUp::begin(&state);
        let look = wait.look;
        assert_eq!(wait.until(&mut state, 1000, end), Some(look));
        assert_eq!(wait.goal, 10_000);
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
        assert!(!state.is_behind(1000), "it is known to be slow");
        state.overrun = Some(Instant::now());
        assert!(state.is_behind(1000), "it gets another chance");
    }

    #[test]
    fn what_is_lost_is_not_waited_for() {
        let outbox = up(1 << 20, 1000, LONG);
        let mut state = outbox.state.lock();
        state.bytes = 10_500;
        let end = Instant::now() + LONG;
        let mut wait = CatchUp::begin(&state);
        assert!(wait.until(&mut state, 1000, end).is_some());
        state.bytes = 1200;
        assert!(wait.until(&mut state, 1000, end).is_some());
        assert_eq!(wait.goal, 700);
        state.written = 700;
        state.bytes = 9000;
        assert_eq!(wait.until(&mut state, 1000, end), None);
    }

    #[test]
    fn whoever_is_behind_does_not_wait_for_what_others_append_behind_it() {
        let outbox = up(1 << 22, 200_000, LONG);
        let fill = || {
            while outbox.pending().1 < 1 << 20 {
                publish(&outbox, 1000, false);
            }
        };
        fill();
        scope(|scope| {
            let publisher = scope.spawn(|| publish(&outbox, 1, true));
            // The writer is quick, and the handlers, which may not wait, are as quick.
            until("a publisher that waits for ever", || {
                write(&outbox);
                fill();
                publisher.is_finished()
            });
        });
        assert!(outbox.state.lock().goal.is_none() || outbox.state.lock().overrun.is_some());
    }

    #[test]
    fn whoever_waits_for_room_is_woken_whatever_becomes_of_those_who_are_behind() {
        let outbox = up(100_000, 1000, LONG);
        while outbox.pending().1 < 80_000 {
            publish(&outbox, 1000, false);
        }
        scope(|scope| {
            let large = scope.spawn(|| publish(&outbox, 50_000, true));
            until("nobody waits for room", || outbox.state.lock().short == 1);
            let small = scope.spawn(|| publish(&outbox, 1, true));
            until("nobody is behind", || outbox.state.lock().goal.is_some() || small.is_finished());
            // One batch of 64 KiB: far more than the high water is left, and nothing follows.
            write(&outbox);
            until("there is room, and nobody said so", || large.is_finished());
            until("the small one was not found room for", || small.is_finished());
        });
        let state = outbox.state.lock();
        assert_eq!(state.short, 0);
    }

    #[test]
    fn a_patience_too_short_to_judge_a_writer_is_for_room_alone() {
        let outbox = up(8 << 20, 512 * 1024, BRIEFLY / 2);
        let start = Instant::now();
        while outbox.pending().1 < 8_000_000 {
            publish(&outbox, 1000, true);
        }
        // About 7,500 messages above the high water.
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }
}
