//! The outbox in the life of the connection. Called by the reader thread; `close`, `wait_written`
//! and `mark_broken` by others too, `refuse_publishing` by the thread of a drain.

use std::time::{Duration, Instant};

use super::frames::{Frames, Kind};
use super::pongs::Pong;
use super::state::{Outbox, Phase, Remains, ServerLimits};
use crate::clock;
use crate::protocol::PING;
use crate::sync::Arc;
use crate::transport::Stream;

impl Outbox {
    /// A server is about to be told the subscriptions: from now on changes of them are kept.
    pub(crate) fn open(&self) {
        let mut state = self.state.lock();
        if state.phase == Phase::Down {
            state.phase = Phase::Opening;
        }
    }

    /// The connection is up. Messages that this server would refuse for their size or headers are
    /// taken out; their number is returned.
    pub(crate) fn begin(&self, epoch: u64, stream: Arc<dyn Stream>, limits: ServerLimits) -> u64 {
        let mut state = self.state.lock();
        if state.phase != Phase::Opening {
            return 0;
        }
        state.phase = Phase::Up;
        state.epoch = epoch;
        state.stream = Some(stream);
        state.limits = limits;
        state.broken = false;
        let dropped = state.drop_refused();
        if !state.is_empty() {
            self.wake_flusher(&mut state);
        }
        dropped
    }

    /// The server changed what it accepts.
    pub(crate) fn set_limits(&self, limits: ServerLimits) {
        self.state.lock().limits = limits;
    }

    /// The server is to be left: what is there is still written, with a PING behind it whose PONG
    /// completes `pong`; what is published from now on is kept for the next connection. Returns
    /// false, and does nothing, if the connection is not up.
    pub(crate) fn leave(&self, pong: Pong) -> bool {
        let mut state = self.state.lock();
        if state.phase != Phase::Up {
            return false;
        }
        state.pending.push(Kind::Ping, PING);
        state.bytes += PING.len();
        let messages = state.out_messages;
        state.pongs.queue(pong, messages);
        state.phase = Phase::Leaving;
        self.wake_flusher(&mut state);
        self.room.notify_all();
        true
    }

    /// The connection is lost: from now on publishing is buffered, and nothing new is written.
    /// `end` follows.
    pub(crate) fn suspend(&self) {
        let mut state = self.state.lock();
        if matches!(state.phase, Phase::Up | Phase::Opening | Phase::Leaving) {
            state.phase = Phase::Down;
        }
        // What is published from now on follows what was published while leaving.
        let mut later = std::mem::take(&mut state.later);
        later.drain(&mut state.pending, |_, _| true);
        // A close before `end` lets writing go on, and a stream that encrypts or frames takes bytes
        // although nobody reads them any more: they would count as written.
        state.stream = None;
        self.room.notify_all();
    }

    /// The connection is lost and its stream shut down: waits for the turn to come back, keeps the
    /// messages, drops the torn one and all control frames.
    ///
    /// The write under way ends at once, because the stream is shut down; should it not, after
    /// `patience` what the writer holds is given up.
    pub(crate) fn end(&self, patience: Duration) -> Remains {
        let deadline = clock::now() + patience;
        self.suspend();
        let mut state = self.state.lock();
        self.turn_back.notify_all();
        while state.writing && clock::now() < deadline {
            self.turn_back.wait_until(&mut state, Some(deadline));
        }
        let remains = state.collect_remains();
        self.turn_back.notify_all();
        remains
    }

    /// No more publishing; the flusher writes what is there.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        if state.phase != Phase::Closed {
            state.phase = Phase::Closing;
        }
        // There is no next connection for it.
        let mut later = std::mem::take(&mut state.later);
        later.drain(&mut state.pending, |_, _| true);
        if !state.is_empty() {
            self.wake_flusher(&mut state);
        }
        self.room.notify_all();
    }

    /// After `close`: waits until everything is written, the connection is lost, or the deadline.
    pub(crate) fn wait_written(&self, deadline: Instant) {
        let mut state = self.state.lock();
        while state.phase == Phase::Closing
            && state.stream.is_some()
            && !state.broken
            && (state.writing || !state.is_empty())
            && clock::now() < deadline
        {
            self.turn_back.wait_until(&mut state, Some(deadline));
        }
    }

    /// Whether a server is known to have seen every message: a PONG came to a PING behind the last.
    pub(crate) fn is_confirmed(&self) -> bool {
        let state = self.state.lock();
        state.pongs.confirmed() == state.out_messages
    }

    /// The connection failed: no more turns, and whoever waits for the last write looks again.
    pub(crate) fn mark_broken(&self, epoch: u64) {
        let mut state = self.state.lock();
        if state.epoch == epoch {
            state.broken = true;
        }
        self.turn_back.notify_all();
    }

    /// The end: what was not written is given up and counted. The flusher ends.
    pub(crate) fn finish(&self) {
        let mut state = self.state.lock();
        state.phase = Phase::Closed;
        state.discarded += state.messages;
        (state.messages, state.bytes) = (0, 0);
        state.pending = Frames::new();
        state.later = Frames::new();
        state.taken = Frames::new();
        state.flusher_sleeps = false;
        self.work.notify_all();
        self.room.notify_all();
        self.turn_back.notify_all();
    }

    /// Refuses publishing from now on: the connection drains.
    pub(crate) fn refuse_publishing(&self) {
        self.state.lock().draining = true;
        self.room.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    use super::super::append::{Accepted, Outgoing};
    use super::super::pongs::Pong;
    use super::super::state::{
        BRIEFLY, Batch, HIGH_WATER, OutboxConfig, OutboxPolicy, ReconnectBuffer, Urgency,
    };
    use super::*;
    use crate::error::ErrorKind;
    use crate::outcome::Outcome;
    use crate::protocol::{Headers, publish_frame_len};
    use crate::sync::{Mutex, Rank};

    /// A stream that takes so many bytes a write, then fails or is full.
    #[derive(Debug)]
    struct Slot {
        taken: Mutex<Vec<u8>>,
        room: Mutex<VecDeque<io::Result<usize>>>,
        /// Takes everything, and gives it away with the writes that follow.
        held: Option<Mutex<Vec<u8>>>,
    }

    impl Slot {
        fn new(room: impl IntoIterator<Item = io::Result<usize>>) -> Arc<Self> {
            let room = Mutex::new(Rank::Leaf, room.into_iter().collect());
            Arc::new(Self { taken: Mutex::new(Rank::Leaf, Vec::new()), room, held: None })
        }

        fn text(&self) -> String {
            String::from_utf8_lossy(&self.taken.lock()).into_owned()
        }
    }

    impl Stream for Slot {
        fn read(&self, _: &mut [u8], _: Option<Duration>) -> io::Result<usize> {
            Ok(0)
        }

        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            self.try_write(bytes)
        }

        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            if let Some(held) = &self.held {
                let room = self.room.lock().pop_front().unwrap_or(Ok(usize::MAX))?;
                let mut held = held.lock();
                let count = room.min(held.len());
                let given: Vec<u8> = held.drain(..count).collect();
                self.taken.lock().extend_from_slice(&given);
                // Only what it has taken before is given away: it takes more when that is gone.
                let accepts = held.is_empty();
                held.extend_from_slice(if accepts { bytes } else { &[] });
                return Ok(if accepts { bytes.len() } else { 0 });
            }
            let count = self.room.lock().pop_front().unwrap_or(Ok(usize::MAX))?;
            let count = count.min(bytes.len());
            self.taken.lock().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn holds_back(&self) -> bool {
            self.held.as_ref().is_some_and(|held| !held.lock().is_empty())
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

    fn outbox(limit: usize, policy: OutboxPolicy) -> Outbox {
        let reconnect_buffer = ReconnectBuffer::Bytes(64);
        let high_water = HIGH_WATER;
        let control_line = 4096;
        Outbox::new(OutboxConfig { limit, high_water, policy, reconnect_buffer, control_line })
    }

    fn up(outbox: &Outbox, epoch: u64, stream: &Arc<Slot>) {
        let limits = ServerLimits { max_payload: 1024, headers: true };
        outbox.open();
        outbox.begin(epoch, Arc::<Slot>::clone(stream), limits);
    }

    fn publish(outbox: &Outbox, payload: &str) -> crate::error::Result<Accepted> {
        publish_from(outbox, payload, false)
    }

    fn publish_from(
        outbox: &Outbox,
        payload: &str,
        may_wait: bool,
    ) -> crate::error::Result<Accepted> {
        let outgoing =
            Outgoing { subject: "a", reply: None, headers: None, payload: payload.as_bytes() };
        outbox.publish(outgoing, Urgency::Idle, || may_wait)
    }

    /// What the flusher does, without its waits: writes until nothing is left or a write fails.
    fn flush(outbox: &Outbox) {
        loop {
            let Some(mut batch) = outbox.state.lock().take_batch() else { return };
            let broken = write(&mut batch);
            outbox.give_back(batch, broken);
        }
    }

    fn write(batch: &mut Batch) -> bool {
        while !batch.is_done() {
            match batch.stream.write(batch.bytes()) {
                Ok(count) => batch.wrote(count),
                Err(_) => return true,
            }
        }
        false
    }

    fn reset() -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }

    #[test]
    fn after_a_loss_the_torn_frame_is_dropped_and_the_rest_follows_in_order() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let first = Slot::new([Ok(17), reset()]);
        up(&outbox, 1, &first);
        for payload in ["1", "2", "3"] {
            publish(&outbox, payload).expect("room");
        }
        outbox.control(b"SUB b 1\r\n");
        let pong = Pong::new(Outcome::new());
        outbox.ping(Arc::clone(&pong)).expect("up");
        flush(&outbox);
        assert_eq!(first.text(), "PUB a 1\r\n1\r\nPUB a");
        let remains = outbox.end(Duration::ZERO);
        assert_eq!(remains.pongs.len(), 1);
        publish(&outbox, "4").expect("the reconnect buffer has room");
        let second = Slot::new([]);
        up(&outbox, 2, &second);
        flush(&outbox);
        assert_eq!(second.text(), "PUB a 1\r\n3\r\nPUB a 1\r\n4\r\n");
        let counts = outbox.counts();
        assert_eq!((counts.torn, counts.discarded, counts.messages), (1, 0, 4));
        assert_eq!(outbox.pending(), (0, 0));
    }

    #[test]
    fn a_close_in_the_middle_of_a_loss_writes_nothing_to_the_lost_stream() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let stream = holding([]);
        up(&outbox, 1, &stream);
        outbox.suspend();
        publish(&outbox, "1").expect("the reconnect buffer has room");
        outbox.close();
        flush(&outbox);
        assert_eq!(outbox.pending(), (1, 12));
        outbox.end(Duration::ZERO);
        outbox.finish();
        let counts = outbox.counts();
        assert_eq!((counts.discarded, outbox.pending()), (1, (0, 0)));
    }

    /// A stream that encrypts.
    fn holding(room: impl IntoIterator<Item = io::Result<usize>>) -> Arc<Slot> {
        let mut slot = Arc::into_inner(Slot::new(room)).expect("one reference");
        slot.held = Some(Mutex::new(Rank::Session, Vec::new()));
        Arc::new(slot)
    }

    #[test]
    fn what_a_stream_holds_back_is_written_before_the_batch_is_done_and_with_no_frame_left() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let stream = holding([Ok(0), Ok(0), Ok(3), Ok(0)]);
        up(&outbox, 1, &stream);
        publish(&outbox, "1").expect("room");
        let batch = outbox.state.lock().take_batch().expect("something to write");
        outbox.write_inline(batch, Urgency::Now).expect("no error");
        // The frame counts as written; the bytes wait for the next turn.
        assert_eq!((stream.text().as_str(), outbox.pending()), ("", (0, 0)));
        outbox.answer_ping();
        flush(&outbox);
        assert_eq!(stream.text(), "PUB a 1\r\n1\r\nPONG\r\n");
        assert!(outbox.state.lock().take_batch().is_none());
        // What the stream has of its own is a batch of nothing.
        let own = stream.held.as_ref().expect("it holds back");
        own.lock().extend_from_slice(b"key update");
        flush(&outbox);
        assert!(stream.text().ends_with("key update"));
    }

    #[test]
    fn what_is_published_beside_a_loss_that_the_reader_has_seen_is_kept() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        // It takes what it can encrypt, though its socket is shut down.
        let first = holding([Ok(0), reset()]);
        up(&outbox, 1, &first);
        outbox.mark_broken(1);
        publish(&outbox, "1").expect("room");
        assert!(outbox.kick(Urgency::Now).is_none(), "it would count as written");
        flush(&outbox);
        let _ = outbox.end(Duration::ZERO);
        let second = Slot::new([]);
        up(&outbox, 2, &second);
        flush(&outbox);
        assert_eq!((first.text().as_str(), second.text().as_str()), ("", "PUB a 1\r\n1\r\n"));
        let counts = outbox.counts();
        assert_eq!((counts.messages, counts.torn, counts.discarded), (1, 0, 0));
    }

    #[test]
    fn what_was_encrypted_is_lost_with_its_connection_and_never_sent_twice() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let first = holding([Ok(0), Ok(3), reset()]);
        up(&outbox, 1, &first);
        publish(&outbox, "1").expect("room");
        publish(&outbox, "2").expect("room");
        flush(&outbox);
        publish(&outbox, "3").expect("room");
        let _ = outbox.end(Duration::ZERO);
        let second = Slot::new([]);
        up(&outbox, 2, &second);
        flush(&outbox);
        assert_eq!(first.text(), "PUB");
        assert_eq!(second.text(), "PUB a 1\r\n3\r\n");
    }

    #[test]
    fn a_pong_goes_between_two_frames_and_never_into_one() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let stream = Slot::new([Ok(4), Ok(0)]);
        up(&outbox, 1, &stream);
        publish(&outbox, "1").expect("room");
        publish(&outbox, "2").expect("room");
        let batch = outbox.state.lock().take_batch().expect("something to write");
        outbox.write_inline(batch, Urgency::Idle).expect("no error");
        outbox.answer_ping();
        flush(&outbox);
        assert_eq!(stream.text(), "PUB a 1\r\n1\r\nPUB a 1\r\n2\r\nPONG\r\n");
    }

    #[test]
    fn a_writer_of_an_earlier_connection_changes_nothing() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let first = Slot::new([]);
        up(&outbox, 1, &first);
        publish(&outbox, "1").expect("room");
        let late = outbox.state.lock().take_batch().expect("something to write");
        let _ = outbox.end(Duration::ZERO);
        let second = Slot::new([]);
        up(&outbox, 2, &second);
        outbox.give_back(late, true);
        publish(&outbox, "2").expect("room");
        flush(&outbox);
        assert_eq!(second.text(), "PUB a 1\r\n2\r\n");
        assert_eq!(outbox.pending(), (0, 0));
        assert_eq!(outbox.counts().discarded, 1, "what the late writer held");
    }

    #[test]
    fn pongs_keep_their_order_across_partial_writes_and_keep_alive_pings() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let stream = Slot::new([Ok(3), Ok(0), Ok(3), Ok(0)]);
        up(&outbox, 1, &stream);
        let (first, second) = (Pong::new(Outcome::new()), Pong::new(Outcome::new()));
        outbox.ping(Arc::clone(&first)).expect("up");
        outbox.ping(Arc::clone(&second)).expect("up");
        for _ in 0..2 {
            let batch = outbox.state.lock().take_batch().expect("something to write");
            outbox.write_inline(batch, Urgency::Idle).expect("no error");
        }
        outbox.keep_alive();
        flush(&outbox);
        assert_eq!(stream.text(), "PING\r\nPING\r\nPING\r\n");
        assert!(outbox.is_confirmed(), "no message, nothing to confirm");
        assert!(Arc::ptr_eq(&outbox.pong().expect("the first flush"), &first));
        assert!(Arc::ptr_eq(&outbox.pong().expect("the second flush"), &second));
        assert!(outbox.pong().is_none(), "the keep-alive ping");
        assert!(outbox.pong().is_none(), "a surplus PONG");
    }

    #[test]
    fn what_was_published_behind_a_flush_is_not_confirmed_by_its_pong() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        up(&outbox, 1, &Slot::new([]));
        let (first, second) = (Pong::new(Outcome::new()), Pong::new(Outcome::new()));
        publish(&outbox, "1").expect("room");
        outbox.ping(first).expect("up");
        publish(&outbox, "2").expect("room");
        outbox.ping(second).expect("up");
        flush(&outbox);
        assert!(!outbox.is_confirmed());
        assert!(outbox.pong().is_some() && !outbox.is_confirmed());
        assert!(outbox.pong().is_some() && outbox.is_confirmed());
        publish(&outbox, "3").expect("room");
        outbox.keep_alive();
        flush(&outbox);
        assert!(outbox.pong().is_none() && !outbox.is_confirmed(), "a keep-alive may overtake");
    }

    #[test]
    fn a_keep_alive_ping_never_overtakes_a_flush_whose_batch_was_begun() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let stream = Slot::new([Ok(0)]);
        up(&outbox, 1, &stream);
        publish(&outbox, "1").expect("room");
        let flush_pong = Pong::new(Outcome::new());
        outbox.ping(Arc::clone(&flush_pong)).expect("up");
        let batch = outbox.state.lock().take_batch().expect("something to write");
        outbox.write_inline(batch, Urgency::Now).expect("no room, no error");
        outbox.keep_alive();
        outbox.answer_ping();
        flush(&outbox);
        assert_eq!(stream.text(), "PUB a 1\r\n1\r\nPING\r\nPING\r\nPONG\r\n");
        assert!(outbox.pong().is_some() && outbox.pong().is_none());
    }

    #[test]
    fn what_was_subscribed_while_opening_reaches_the_server_beside_a_refused_message() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        publish(&outbox, "larger than ten").expect("room");
        outbox.open();
        outbox.control(b"SUB b 1\r\n");
        let stream = Slot::new([]);
        let limits = ServerLimits { max_payload: 10, headers: true };
        assert_eq!(outbox.begin(1, Arc::<Slot>::clone(&stream), limits), 1);
        flush(&outbox);
        assert_eq!(stream.text(), "SUB b 1\r\n");
        assert_eq!(outbox.pending(), (0, 0));
    }

    #[test]
    fn a_kept_message_with_headers_does_not_go_to_a_server_without() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let mut headers = Headers::new();
        headers.append("a", "b").expect("a header");
        let outgoing =
            Outgoing { subject: "a", reply: None, headers: Some(&headers), payload: b"" };
        outbox.publish(outgoing, Urgency::Idle, || false).expect("room");
        publish(&outbox, "plain").expect("room");
        outbox.open();
        let stream = Slot::new([]);
        let limits = ServerLimits { max_payload: 0, headers: false };
        assert_eq!(outbox.begin(1, Arc::<Slot>::clone(&stream), limits), 1);
        flush(&outbox);
        assert_eq!(stream.text(), "PUB a 5\r\nplain\r\n");
    }

    #[test]
    fn each_policy_does_what_it_says_when_the_outbox_is_full() {
        let full = |policy| {
            let outbox = outbox(20, policy);
            up(&outbox, 1, &Slot::new([]));
            publish(&outbox, "larger than the whole limit").expect("alone it is let in");
            let second = publish(&outbox, "2");
            (second, outbox.counts().discarded)
        };
        let patience = Duration::from_secs(60);
        let (blocked, _) = full(OutboxPolicy::Block(patience));
        assert_eq!(blocked.expect_err("may not wait").kind(), ErrorKind::OutboxFull);
        assert_eq!(full(OutboxPolicy::Error).0.expect_err("full").kind(), ErrorKind::OutboxFull);
        let (dropped, count) = full(OutboxPolicy::DropNewest);
        assert!(matches!(dropped, Ok(Accepted::Dropped)));
        assert_eq!(count, 1);
    }

    #[test]
    fn while_down_messages_are_kept_up_to_the_limit_and_control_frames_are_not() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        outbox.control(b"SUB b 1\r\n");
        for _ in 0..5 {
            publish(&outbox, "1").expect("12 bytes each");
        }
        let error = publish(&outbox, "1").expect_err("64 bytes");
        assert_eq!(error.kind(), ErrorKind::ReconnectBufferFull);
        let error = outbox.ping(Pong::new(Outcome::new())).expect_err("nobody there");
        assert!(error.is_disconnected());
        let stream = Slot::new([]);
        up(&outbox, 1, &stream);
        flush(&outbox);
        assert_eq!(stream.text(), "PUB a 1\r\n1\r\n".repeat(5));
    }

    #[test]
    fn a_kept_message_that_the_next_server_would_refuse_is_taken_out_and_counted() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        publish(&outbox, "small").expect("room");
        publish(&outbox, &"x".repeat(30)).expect("room");
        outbox.open();
        let stream = Slot::new([]);
        let limits = ServerLimits { max_payload: 10, headers: true };
        assert_eq!(outbox.begin(1, Arc::<Slot>::clone(&stream), limits), 1);
        flush(&outbox);
        assert_eq!(stream.text(), "PUB a 5\r\nsmall\r\n");
        assert_eq!(outbox.counts().discarded, 1);
    }

    #[test]
    fn after_close_what_is_there_is_written_and_nothing_is_added() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let stream = Slot::new([]);
        up(&outbox, 1, &stream);
        publish(&outbox, "1").expect("room");
        outbox.close();
        assert!(publish(&outbox, "2").expect_err("closing").is_closed());
        flush(&outbox);
        outbox.wait_written(Instant::now() + Duration::from_secs(60));
        assert_eq!(stream.text(), "PUB a 1\r\n1\r\n");
        outbox.finish();
        assert!(outbox.next_batch().is_none());
    }

    #[test]
    fn what_is_published_while_leaving_goes_to_the_next_server_behind_all_else() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let first = Slot::new([]);
        up(&outbox, 1, &first);
        publish(&outbox, "1").expect("queued");
        let pong = Pong::new(Outcome::new());
        assert!(outbox.leave(pong.clone()));
        assert!(!outbox.leave(Pong::new(Outcome::new())), "once is enough");
        publish(&outbox, "2").expect("kept");
        outbox.control(b"SUB a 1\r\n");
        assert!(outbox.ping(Pong::new(Outcome::new())).expect_err("leaving").is_disconnected());
        flush(&outbox);
        assert_eq!(first.text(), "PUB a 1\r\n1\r\nPING\r\n");
        outbox.pong().expect("its own PONG").complete(Ok(()));
        assert!(pong.get().is_some());
        outbox.end(Duration::ZERO);
        let second = Slot::new([]);
        up(&outbox, 2, &second);
        publish(&outbox, "3").expect("queued");
        flush(&outbox);
        assert_eq!(second.text(), "PUB a 1\r\n2\r\nPUB a 1\r\n3\r\n");
        assert_eq!(outbox.pending(), (0, 0));
    }

    #[test]
    fn what_is_published_behind_the_loss_of_a_server_that_was_left_stays_behind_what_was_before() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        up(&outbox, 1, &Slot::new([]));
        assert!(outbox.leave(Pong::new(Outcome::new())));
        publish(&outbox, "1").expect("kept");
        outbox.suspend();
        publish(&outbox, "2").expect("kept");
        outbox.end(Duration::ZERO);
        let second = Slot::new([]);
        up(&outbox, 2, &second);
        flush(&outbox);
        assert_eq!(second.text(), "PUB a 1\r\n1\r\nPUB a 1\r\n2\r\n");
    }

    #[test]
    fn a_publisher_that_fills_a_batch_writes_it_and_leaves_what_is_not_taken_to_the_flusher() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let stream = Slot::new([Ok(5), Ok(0)]);
        up(&outbox, 1, &stream);
        let payload = "x".repeat(1000);
        while publish(&outbox, &payload).expect("room") == Accepted::Queued {}
        let (messages, bytes) = outbox.pending();
        assert!((64 * 1024..66 * 1024).contains(&bytes), "{bytes}");
        let batch = outbox.kick(Urgency::Idle).expect("the turn");
        assert!(outbox.kick(Urgency::Idle).is_none(), "one writes");
        outbox.write_inline(batch, Urgency::Idle).expect("no error");
        assert_eq!(outbox.pending(), (messages, bytes), "no message was written whole");
        assert_eq!(publish(&outbox, &payload).expect("room"), Accepted::Queued);
        assert!(outbox.kick(Urgency::Idle).is_none());
        flush(&outbox);
        let frame = format!("PUB a 1000\r\n{payload}\r\n");
        assert!(stream.text() == frame.repeat(messages as usize + 1));
        assert_eq!(outbox.pending(), (0, 0));
    }

    #[test]
    fn where_a_publisher_could_not_write_full_batches_are_the_flushers_until_all_is_written() {
        for stream in [Slot::new([Ok(0)]), Slot::new([Ok(5), Ok(0)]), holding([Ok(0), Ok(0)])] {
            let outbox = outbox(1 << 20, OutboxPolicy::Error);
            up(&outbox, 1, &stream);
            let payload = "x".repeat(1000);
            let append = || publish(&outbox, &payload).expect("room");
            while append() == Accepted::Queued {}
            let batch = outbox.kick(Urgency::Idle).expect("the turn");
            outbox.write_inline(batch, Urgency::Idle).expect("no error");
            // Three more batches, each of which the flusher writes behind the one that was left.
            for _ in 0..200 {
                assert_eq!(append(), Accepted::Queued);
            }
            while outbox.pending().1 > 70_000 {
                let mut batch = outbox.state.lock().take_batch().expect("something to write");
                let broken = write(&mut batch);
                outbox.give_back(batch, broken);
                assert_eq!(append(), Accepted::Queued);
                assert!(outbox.kick(Urgency::Idle).is_none(), "the flusher is at it");
            }
            flush(&outbox);
            while append() == Accepted::Queued {}
            let batch = outbox.kick(Urgency::Idle).expect("the turn, now that all was written");
            outbox.write_inline(batch, Urgency::Idle).expect("no error");
            assert!(outbox.pending().1 < 2000, "the stream takes everything again");
        }
    }

    #[test]
    fn a_writer_that_does_not_write_is_waited_for_once_and_briefly() {
        let outbox = outbox(8 << 20, OutboxPolicy::Block(Duration::from_secs(60)));
        let payload = "x".repeat(1000);
        // One publisher waits, and the others go on up to the limit.
        up(&outbox, 1, &Slot::new([]));
        let start = Instant::now();
        for _ in 0..8000 {
            publish_from(&outbox, &payload, true).expect("room");
        }
        assert!(start.elapsed() >= BRIEFLY && start.elapsed() < Duration::from_secs(60));
        assert!(outbox.state.lock().overrun.is_some());
        flush(&outbox);
        assert!(outbox.state.lock().overrun.is_none(), "the writer has caught up");
    }

    /// Publishes beside a writer. Returns the most that waited, and whether the writer was found
    /// slow.
    fn publish_beside_a_writer() -> (usize, bool) {
        let outbox = outbox(8 << 20, OutboxPolicy::Block(Duration::from_secs(60)));
        let stream = Slot::new([]);
        up(&outbox, 1, &stream);
        let payload = "x".repeat(1000);
        let (mut most, mut slow) = (0, false);
        std::thread::scope(|scope| {
            scope.spawn(|| write_batches(&outbox));
            for _ in 0..3000 {
                publish_from(&outbox, &payload, true).expect("room");
                most = most.max(outbox.pending().1);
                slow |= outbox.state.lock().overrun.is_some();
            }
            outbox.close();
            outbox.wait_written(Instant::now() + Duration::from_secs(60));
            outbox.finish();
        });
        assert_eq!((outbox.pending(), stream.taken.lock().len()), ((0, 0), 3000 * 1014));
        (most, slow)
    }

    #[test]
    fn beside_a_quick_writer_no_more_waits_than_it_finds_in_the_caches() {
        // On a busy machine the writer may be slow, and then more waits.
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            match publish_beside_a_writer() {
                (most, false) => return assert!(most <= HIGH_WATER + 1100, "{most} bytes"),
                _ => assert!(Instant::now() < deadline, "slow each time"),
            }
        }
    }

    #[test]
    fn whoever_may_not_wait_and_policies_that_do_not_use_the_outbox_whole() {
        for (policy, may_wait) in [
            (OutboxPolicy::Block(Duration::from_secs(60)), false),
            (OutboxPolicy::Block(Duration::ZERO), true),
            (OutboxPolicy::Error, true),
            (OutboxPolicy::DropNewest, true),
        ] {
            let outbox = outbox(4 << 20, policy);
            up(&outbox, 1, &Slot::new([]));
            let payload = "x".repeat(1000);
            let one = || publish_from(&outbox, &payload, may_wait);
            while matches!(one(), Ok(Accepted::Queued | Accepted::Idle)) {}
            let (_, bytes) = outbox.pending();
            assert!(bytes > (4 << 20) - 1100, "{policy:?}: {bytes} bytes");
        }
    }

    #[test]
    fn that_a_publisher_could_not_write_is_forgotten_with_the_connection() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        up(&outbox, 1, &Slot::new([Ok(0)]));
        let payload = "x".repeat(1000);
        while publish(&outbox, &payload).expect("room") == Accepted::Queued {}
        let batch = outbox.kick(Urgency::Idle).expect("the turn");
        outbox.write_inline(batch, Urgency::Idle).expect("no error");
        let _ = outbox.end(Duration::ZERO);
        up(&outbox, 2, &Slot::new([]));
        assert_eq!(publish(&outbox, &payload).expect("room"), Accepted::Idle);
        assert!(outbox.kick(Urgency::Idle).is_some());
    }

    #[test]
    fn a_close_while_leaving_writes_everything_to_the_server_that_is_there() {
        let outbox = outbox(1 << 20, OutboxPolicy::Error);
        let stream = Slot::new([]);
        up(&outbox, 1, &stream);
        assert!(outbox.leave(Pong::new(Outcome::new())));
        publish(&outbox, "1").expect("kept");
        assert!(publish(&outbox, &"x".repeat(100)).is_err(), "more than the reconnect buffer");
        outbox.close();
        flush(&outbox);
        assert_eq!(stream.text(), "PING\r\nPUB a 1\r\n1\r\n");
    }

    /// Takes a few bytes a write, as the seed says, and resets when it is shut down or has had
    /// enough.
    #[derive(Debug)]
    struct Brittle {
        taken: Mutex<Vec<u8>>,
        dice: Mutex<u64>,
        left: AtomicUsize,
    }

    impl Brittle {
        fn new(seed: u64) -> Arc<Self> {
            let left =
                AtomicUsize::new(usize::try_from(draw(&mut { seed }) % 400_000).unwrap_or(0));
            let taken = Mutex::new(Rank::Leaf, Vec::new());
            Arc::new(Self { taken, dice: Mutex::new(Rank::Session, seed), left })
        }
    }

    fn draw(dice: &mut u64) -> u64 {
        *dice ^= *dice << 13;
        *dice ^= *dice >> 7;
        *dice ^= *dice << 17;
        *dice
    }

    impl Stream for Brittle {
        fn read(&self, _: &mut [u8], _: Option<Duration>) -> io::Result<usize> {
            Ok(0)
        }

        fn write(&self, bytes: &[u8]) -> io::Result<usize> {
            loop {
                match self.try_write(bytes) {
                    Ok(0) => std::thread::yield_now(),
                    outcome => return outcome,
                }
            }
        }

        fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
            let left = self.left.load(Ordering::SeqCst);
            if left == 0 {
                return Err(io::ErrorKind::ConnectionReset.into());
            }
            let most = match draw(&mut self.dice.lock()) % 4 {
                0 => return Ok(0),
                1 => 100,
                2 => 10_000,
                _ => usize::MAX,
            };
            let part = bytes.get(..most.min(left)).unwrap_or(bytes);
            let part = part.get(..left).unwrap_or(part);
            self.taken.lock().extend_from_slice(part);
            let _ = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                Some(left.saturating_sub(part.len()))
            });
            Ok(part.len())
        }

        fn shutdown(&self) {
            self.left.store(0, Ordering::SeqCst);
        }

        fn finish(&self) {}

        fn local_addr(&self) -> Option<SocketAddr> {
            None
        }

        fn peer_addr(&self) -> Option<SocketAddr> {
            None
        }
    }

    const PUBLISHERS: usize = 3;

    /// Publishes numbers until told to stop, as the connection does it: with the turn where it is
    /// given.
    fn publish_numbers(outbox: &Outbox, id: usize, stop: &AtomicBool) -> u64 {
        let subject = format!("p{id}");
        let mut number = 0u64;
        while !stop.load(Ordering::SeqCst) {
            let payload = format!("{number:0width$}", width = 8 + number as usize % 900);
            let outgoing = Outgoing {
                subject: &subject,
                reply: None,
                headers: None,
                payload: payload.as_bytes(),
            };
            let urgency = if number % 7 == 0 { Urgency::Now } else { Urgency::Idle };
            match outbox.publish(outgoing, urgency, || true) {
                Ok(Accepted::Idle) => {
                    let batch = outbox.kick(urgency);
                    let broken = batch.and_then(|batch| outbox.write_inline(batch, urgency).err());
                    if let Some(broken) = broken {
                        outbox.mark_broken(broken.epoch);
                    }
                    number += 1;
                }
                Ok(_) => number += 1,
                Err(_) => std::thread::yield_now(),
            }
        }
        number
    }

    /// What the flusher does.
    fn write_batches(outbox: &Outbox) {
        while let Some(mut batch) = outbox.next_batch() {
            let (epoch, broken) = (batch.epoch, write(&mut batch));
            outbox.give_back(batch, broken);
            if broken {
                outbox.mark_broken(epoch);
            }
        }
    }

    /// Checks that the whole messages of a stream follow those of the earlier ones, each of its
    /// publisher's in order. Returns whether the stream ends in the middle of one.
    fn check_order(bytes: &[u8], next: &mut [u64; PUBLISHERS]) -> bool {
        let mut rest = bytes;
        while !rest.is_empty() {
            // The PING of a server that is left comes last.
            if rest.starts_with(b"PI") {
                return false;
            }
            let Some(length) = publish_frame_len(rest) else { return true };
            let Some((frame, behind)) = rest.split_at_checked(length) else { return true };
            rest = behind;
            let text = std::str::from_utf8(frame).expect("text");
            let id: usize = text[5..6].parse().expect("a publisher");
            let number: u64 = text.lines().nth(1).expect("a number").parse().expect("a number");
            assert!(number >= next[id], "{id}: {number} behind {}", next[id]);
            next[id] = number + 1;
        }
        false
    }

    #[test]
    fn whoever_writes_and_whenever_connections_end_each_publisher_keeps_its_order() {
        let outbox = Outbox::new(OutboxConfig {
            limit: 1 << 18,
            high_water: 1 << 17,
            policy: OutboxPolicy::Block(Duration::from_secs(10)),
            reconnect_buffer: ReconnectBuffer::Bytes(1 << 18),
            control_line: 4096,
        });
        // Until somebody has published, if there is room.
        let let_publish = || {
            let before = outbox.counts().messages;
            let deadline = Instant::now() + Duration::from_millis(2);
            while outbox.counts().messages == before && Instant::now() < deadline {
                std::thread::yield_now();
            }
        };
        let stop = AtomicBool::new(false);
        let (mut streams, mut sent) = (Vec::new(), Vec::new());
        std::thread::scope(|scope| {
            scope.spawn(|| write_batches(&outbox));
            let publishers: Vec<_> = (0..PUBLISHERS)
                .map(|id| {
                    let (outbox, stop) = (&outbox, &stop);
                    scope.spawn(move || publish_numbers(outbox, id, stop))
                })
                .collect();
            for epoch in 1..=60 {
                let stream = Brittle::new(epoch * 0x9e37_79b9);
                let limits = ServerLimits { max_payload: 0, headers: true };
                outbox.open();
                outbox.begin(epoch, Arc::<Brittle>::clone(&stream), limits);
                let deadline = Instant::now() + Duration::from_millis(20);
                while stream.left.load(Ordering::SeqCst) > 0 && Instant::now() < deadline {
                    std::thread::yield_now();
                }
                if epoch % 3 == 0 {
                    outbox.leave(Pong::new(Outcome::new()));
                    let_publish();
                }
                stream.shutdown();
                outbox.suspend();
                let_publish();
                outbox.end(Duration::from_secs(10));
                streams.push(stream);
            }
            stop.store(true, Ordering::SeqCst);
            outbox.close();
            sent.extend(publishers.into_iter().map(|thread| thread.join().expect("no panic")));
            outbox.finish();
        });
        // Only now: a thread that is left would keep the test from its end.
        let mut next = [0; PUBLISHERS];
        let (mut busy, mut torn) = (0, 0);
        for stream in streams {
            let before = next;
            torn += u64::from(check_order(&stream.taken.lock(), &mut next));
            busy += u64::from(before != next);
        }
        assert!(sent.iter().zip(next).all(|(sent, next)| *sent >= next));
        assert!(busy > 15 && torn > 3, "{busy} streams with messages, {torn} torn");
        assert_eq!(outbox.counts().torn, torn);
    }
}
