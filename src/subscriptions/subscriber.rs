//! One subscription as the library sees it, and its messages on their way.
//!
//! A [`Subscriber`] is shared by the registry, the reader, the consumer's queue and the handle. Its
//! counts are atomics with one writer a direction: the reader adds, the consumer takes away. They
//! are exact once both are at rest; nothing but the pending limits is decided by them.
//!
//! Slow consumer: the flag goes `QUICK → SLOW` by the reader when it drops the first message,
//! `SLOW → ANNOUNCED` by the reader once the notice is queued, to `RECOVERING` by whoever first
//! sees that half of the limit is free again, and back to `QUICK` once that notice is queued. So
//! notices of two episodes never change places; a first drop while `RECOVERING` stays untold.

use std::fmt;
use std::sync::OnceLock;

use super::consumer::sealed::Sealed as SealedConsumer;
use super::consumer::{Consumer, ConsumerStatus, EndReason, PendingLimits};
use super::mailbox::{Mailbox, Rest};
use crate::protocol::Message;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

/// A message and whose it is.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) subscriber: Arc<Subscriber>,
    pub(crate) message: Message,
}

/// The queue of one consumer.
pub(crate) type Inbox = Mailbox<Item>;

/// Adds messages to a queue, in order, and leaves the vector empty. After the end of the queue they
/// are taken off their subscription's counts instead.
pub(super) fn deposit(inbox: &Inbox, items: &mut Vec<Item>) {
    if !inbox.push_all(items) {
        release(items.drain(..));
    }
}

/// Ends a queue; `rest` says what becomes of what is there.
pub(crate) fn end_inbox(inbox: &Inbox, end: EndReason, rest: Rest) {
    release(inbox.end(end, rest));
}

/// Takes messages that nobody will read off their subscription's counts.
pub(super) fn release(items: impl IntoIterator<Item = Item>) {
    for item in items {
        item.subscriber.release(item.message.size() as u64);
    }
}

/// Where the messages of a subscription go.
#[derive(Debug)]
pub(crate) enum Target {
    /// A queue of its own, read with `next`.
    Pull(Arc<Inbox>),
    /// The queue of a dispatcher, shared with its other subscriptions.
    Dispatch(Arc<Inbox>),
    /// The waiting requests.
    Requests,
}

const ACTIVE: u8 = 0;
const DRAINING: u8 = 1;
const ENDED: u8 = 2;

const QUICK: u8 = 0;
const SLOW: u8 = 1;
const ANNOUNCED: u8 = 2;
const RECOVERING: u8 = 3;

/// What to do with a message that has arrived.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Take,
    /// At the limit: drop it.
    Drop {
        /// It is the first of an episode.
        first: bool,
    },
    /// Beyond the number asked for: the server's count and ours crossed.
    Ignore,
}

/// One subscription.
pub(crate) struct Subscriber {
    sid: u64,
    subject: String,
    queue: Option<String>,
    target: Target,
    most_messages: AtomicU64,
    most_bytes: AtomicU64,
    pending_messages: AtomicU64,
    pending_bytes: AtomicU64,
    delivered: AtomicU64,
    dropped: AtomicU64,
    /// Messages that the server has sent, dropped ones included: what its own count says.
    received: AtomicU64,
    /// What `received` was when the server in use was told of the subscription: it counts from
    /// there.
    base: AtomicU64,
    /// Messages that went to the queue.
    admitted: AtomicU64,
    /// The number of messages after which the subscription ends; 0 is no end.
    max: AtomicU64,
    slow: AtomicU8,
    state: AtomicU8,
    /// What waits is thrown away: the program unsubscribed.
    discarding: AtomicBool,
    /// A handler of it runs. Set before `discarding` and `state` are looked at, as these are set
    /// before it is looked at, so that the end is seen by one side at least.
    in_hand: AtomicBool,
    /// Why it ends; the first reason counts.
    reason: OnceLock<EndReason>,
    /// Its end has been told: nothing of it is handled any more.
    finished: AtomicBool,
}

impl Subscriber {
    pub(crate) fn new(
        sid: u64,
        subject: String,
        queue: Option<String>,
        target: Target,
        limits: PendingLimits,
    ) -> Self {
        Self {
            sid,
            subject,
            queue,
            target,
            most_messages: AtomicU64::new(limits.messages),
            most_bytes: AtomicU64::new(limits.bytes),
            pending_messages: AtomicU64::new(0),
            pending_bytes: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            received: AtomicU64::new(0),
            base: AtomicU64::new(0),
            admitted: AtomicU64::new(0),
            max: AtomicU64::new(0),
            slow: AtomicU8::new(QUICK),
            state: AtomicU8::new(ACTIVE),
            discarding: AtomicBool::new(false),
            in_hand: AtomicBool::new(false),
            reason: OnceLock::new(),
            finished: AtomicBool::new(false),
        }
    }

    pub(crate) fn sid(&self) -> u64 {
        self.sid
    }

    pub(crate) fn subject(&self) -> &str {
        &self.subject
    }

    pub(crate) fn queue(&self) -> Option<&str> {
        self.queue.as_deref()
    }

    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// Counts a message that has arrived and says what to do with it. Reader thread only.
    pub(crate) fn admit(&self, size: u64) -> Admission {
        let received = self.received.load(Ordering::Relaxed).wrapping_add(1);
        let max = self.max.load(Ordering::SeqCst);
        if max != 0 && received > max {
            return Admission::Ignore;
        }
        // `received` comes last: whoever sees the number complete must see the message admitted.
        if self.pending_messages.load(Ordering::Acquire)
            >= self.most_messages.load(Ordering::Relaxed)
            || self.pending_bytes.load(Ordering::Acquire) >= self.most_bytes.load(Ordering::Relaxed)
        {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            self.received.store(received, Ordering::SeqCst);
            let first = self.slow.compare_exchange(QUICK, SLOW, Ordering::SeqCst, Ordering::SeqCst);
            return Admission::Drop { first: first.is_ok() };
        }
        self.admitted.fetch_add(1, Ordering::SeqCst);
        self.pending_messages.fetch_add(1, Ordering::AcqRel);
        self.pending_bytes.fetch_add(size, Ordering::AcqRel);
        self.received.store(received, Ordering::SeqCst);
        Admission::Take
    }

    /// Whether the number of messages asked for has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        let max = self.max.load(Ordering::SeqCst);
        max != 0 && self.received.load(Ordering::SeqCst) >= max
    }

    /// Sets the number of messages after which the subscription ends.
    pub(crate) fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::SeqCst);
    }

    /// A server is told of the subscription now and counts from here. Returns what it still has to
    /// send before the subscription ends, if it is to end. Reader thread only.
    pub(crate) fn announce(&self) -> Option<u64> {
        let received = self.received.load(Ordering::SeqCst);
        self.base.store(received, Ordering::SeqCst);
        let max = self.max.load(Ordering::SeqCst);
        (max != 0).then(|| max.saturating_sub(received))
    }

    /// The number of messages, as the server in use counts them, after which the subscription ends;
    /// none if so many have been sent already.
    pub(crate) fn server_max(&self) -> Option<u64> {
        let max = self.max.load(Ordering::SeqCst);
        let open = max > self.received.load(Ordering::SeqCst);
        open.then(|| max.saturating_sub(self.base.load(Ordering::SeqCst)))
    }

    /// Messages that went, or are on their way, to the queue.
    pub(crate) fn admitted(&self) -> u64 {
        self.admitted.load(Ordering::SeqCst)
    }

    /// A message leaves the queue for the program. Returns whether that ends a slow episode: the
    /// caller tells so, then calls `recovered`.
    #[must_use]
    pub(crate) fn hand_out(&self, size: u64) -> bool {
        self.delivered.fetch_add(1, Ordering::Relaxed);
        self.release(size);
        self.try_recover()
    }

    /// A message leaves the queue unread.
    pub(crate) fn release(&self, size: u64) {
        self.pending_messages.fetch_sub(1, Ordering::AcqRel);
        self.pending_bytes.fetch_sub(size, Ordering::AcqRel);
    }

    /// The notice of a recovery is queued.
    pub(crate) fn recovered(&self) {
        self.slow.store(QUICK, Ordering::SeqCst);
    }

    /// The notice of a slow episode is queued. Returns whether the episode is over already.
    #[must_use]
    pub(crate) fn announced(&self) -> bool {
        self.slow.store(ANNOUNCED, Ordering::SeqCst);
        // A consumer that takes the last message right now must see the flag, or we must see what
        // it took, or neither would tell the recovery: changing the counts, by nothing, puts the
        // two threads into one order, which loading them does not.
        self.pending_messages.fetch_add(0, Ordering::AcqRel);
        self.pending_bytes.fetch_add(0, Ordering::AcqRel);
        self.try_recover()
    }

    fn try_recover(&self) -> bool {
        if self.slow.load(Ordering::SeqCst) != ANNOUNCED {
            return false;
        }
        let half = |limit: &AtomicU64| limit.load(Ordering::Relaxed) / 2;
        self.pending_messages.load(Ordering::SeqCst) <= half(&self.most_messages)
            && self.pending_bytes.load(Ordering::SeqCst) <= half(&self.most_bytes)
            && self
                .slow
                .compare_exchange(ANNOUNCED, RECOVERING, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }

    pub(crate) fn set_limits(&self, limits: PendingLimits) {
        self.most_messages.store(limits.messages, Ordering::Relaxed);
        self.most_bytes.store(limits.bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_draining(&self) {
        let _ = self.state.compare_exchange(ACTIVE, DRAINING, Ordering::SeqCst, Ordering::SeqCst);
    }

    pub(crate) fn set_ended(&self) {
        self.state.store(ENDED, Ordering::SeqCst);
    }

    /// The program unsubscribed: what waits is thrown away.
    pub(crate) fn discard(&self) {
        self.discarding.store(true, Ordering::SeqCst);
    }

    /// The handler's thread takes a message of it in hand, and says whether it is to be handled.
    #[must_use]
    pub(super) fn take_in_hand(&self) -> bool {
        self.in_hand.store(true, Ordering::SeqCst);
        !self.discarding.load(Ordering::SeqCst) && !self.is_finished()
    }

    /// The handler has returned. Returns whether the subscription has ended meanwhile: the caller
    /// then sees whether that was its last message.
    #[must_use]
    pub(super) fn put_down(&self) -> bool {
        self.in_hand.store(false, Ordering::SeqCst);
        self.status() == ConsumerStatus::Ended
    }

    /// Says why it ends; the first reason counts.
    pub(crate) fn ends_by(&self, reason: EndReason) {
        let _ = self.reason.set(reason);
    }

    pub(crate) fn reason(&self) -> Option<&EndReason> {
        self.reason.get()
    }

    /// Whether it has ended and the last of its messages has been handled. One that is read by the
    /// program is over as soon as nothing more comes: nobody knows when, or if, it is read.
    pub(crate) fn is_over(&self) -> bool {
        let handled = || match &self.target {
            Target::Dispatch(_) => {
                !self.in_hand.load(Ordering::SeqCst)
                    && (self.discarding.load(Ordering::SeqCst)
                        || self.pending_messages.load(Ordering::SeqCst) == 0)
            }
            Target::Pull(_) | Target::Requests => true,
        };
        self.status() == ConsumerStatus::Ended && handled()
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finished.load(Ordering::SeqCst)
    }

    /// Its end is told now. Returns whether that is the first time.
    pub(crate) fn finish(&self) -> bool {
        !self.finished.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn status(&self) -> ConsumerStatus {
        match self.state.load(Ordering::SeqCst) {
            ACTIVE => ConsumerStatus::Active,
            DRAINING => ConsumerStatus::Draining,
            _ => ConsumerStatus::Ended,
        }
    }
}

impl fmt::Debug for Subscriber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscriber")
            .field("sid", &self.sid)
            .field("subject", &self.subject)
            .field("queue", &self.queue)
            .field("pending_messages", &self.pending_messages.load(Ordering::Relaxed))
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl SealedConsumer for Subscriber {}

impl Consumer for Subscriber {
    fn id(&self) -> u64 {
        self.sid
    }

    fn subject(&self) -> String {
        self.subject.clone()
    }

    fn pending_messages(&self) -> u64 {
        self.pending_messages.load(Ordering::Acquire)
    }

    fn pending_bytes(&self) -> u64 {
        self.pending_bytes.load(Ordering::Acquire)
    }

    fn pending_limits(&self) -> PendingLimits {
        PendingLimits {
            messages: self.most_messages.load(Ordering::Relaxed),
            bytes: self.most_bytes.load(Ordering::Relaxed),
        }
    }

    fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn status(&self) -> ConsumerStatus {
        Self::status(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subscriber(messages: u64) -> Subscriber {
        let limits = PendingLimits::new(messages, 0);
        Subscriber::new(1, "a".to_owned(), None, Target::Requests, limits)
    }

    #[test]
    fn one_episode_is_announced_once_and_ends_at_half_of_the_limit() {
        let slow = subscriber(4);
        for _ in 0..4 {
            assert_eq!(slow.admit(10), Admission::Take);
        }
        assert_eq!(slow.admit(10), Admission::Drop { first: true });
        assert!(!slow.announced());
        assert_eq!(slow.admit(10), Admission::Drop { first: false });
        assert!(!slow.hand_out(10));
        assert_eq!(slow.admit(10), Admission::Take);
        assert_eq!(slow.admit(10), Admission::Drop { first: false });
        assert!(!slow.hand_out(10));
        assert!(slow.hand_out(10), "two of four are left");
        assert!(!slow.hand_out(10));
        assert_eq!((slow.dropped(), slow.delivered()), (3, 4));
    }

    #[test]
    fn a_recovery_that_came_before_the_notice_is_told_after_it() {
        let slow = subscriber(2);
        assert_eq!(slow.admit(1), Admission::Take);
        assert_eq!(slow.admit(1), Admission::Take);
        assert_eq!(slow.admit(1), Admission::Drop { first: true });
        assert!(!slow.hand_out(1) && !slow.hand_out(1), "nothing is told before the notice");
        assert!(slow.announced());
    }

    #[test]
    fn the_number_asked_for_counts_what_the_server_sent() {
        let few = subscriber(1);
        few.set_max(3);
        assert_eq!(few.admit(1), Admission::Take);
        assert_eq!(few.admit(1), Admission::Drop { first: true });
        assert_eq!(few.server_max(), Some(3));
        assert_eq!(few.announce(), Some(1));
        assert_eq!(few.server_max(), Some(1));
        assert!(!few.is_complete());
        assert_eq!(few.admit(1), Admission::Drop { first: false });
        assert!(few.is_complete());
        assert_eq!(few.admit(1), Admission::Ignore);
    }
}
