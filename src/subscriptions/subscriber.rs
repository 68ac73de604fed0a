//! One subscription as the library sees it, and its messages on their way.
//!
//! A [`Subscriber`] is shared by the registry, the reader, the consumer's queue and the handle. Its
//! counts only grow, and each has one writer: the reader counts what arrives, the consumer what it
//! hands out (in the lock of its queue, or on the dispatcher's only thread), so no message costs a
//! locked instruction. What waits is the difference; it is exact once both are at rest, and nothing
//! but the pending limits is decided by it. What one side writes for each message lies in cache
//! lines of its own.
//!
//! Each side publishes with a fence what the other must not miss: the dispatcher's thread before
//! and after each run of messages of one subscription, the reader after each read.
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
use crate::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering, fence};

/// A message in a queue.
#[derive(Debug)]
pub(crate) struct Item {
    /// Whose it is, in the queue of a dispatcher; none if it is of the same subscription as the one
    /// in front of it. Each read begins with a name. The queue of one subscription needs none.
    pub(crate) subscriber: Option<Arc<Subscriber>>,
    pub(crate) message: Message,
}

impl Item {
    /// The place of a message.
    pub(super) const NOTHING: Self = Self { subscriber: None, message: Message::NOTHING };

    /// Takes the message out of its place.
    #[inline(always)]
    pub(crate) fn take(&mut self) -> Message {
        std::mem::replace(&mut self.message, Message::NOTHING)
    }
}

/// The queue of one consumer.
pub(crate) type Inbox = Mailbox<Item>;

/// Adds messages to a queue, in order, and leaves them empty. After the end of the queue they are
/// taken off their subscription's counts instead. `owner` is whose they are if they bear no name.
pub(super) fn deposit(inbox: &Inbox, owner: Option<&Subscriber>, items: &mut Vec<Item>) {
    if !inbox.push_all(items) {
        release(owner, items.drain(..));
    }
}

/// Ends the queue of a dispatcher, in which each run of messages bears a name; `rest` says what
/// becomes of what is there. [`Subscriber::end_queue`] ends that of one subscription.
pub(crate) fn end_dispatcher_queue(inbox: &Inbox, end: EndReason, rest: Rest) {
    release(None, inbox.end(end, rest));
}

/// Takes messages that nobody will read off their subscription's counts.
pub(super) fn release(owner: Option<&Subscriber>, items: impl IntoIterator<Item = Item>) {
    let mut current = None;
    for Item { subscriber, message } in items {
        current = subscriber.or(current);
        debug_assert!(current.is_some() || owner.is_some(), "a message of nobody");
        if let Some(subscriber) = current.as_deref().or(owner) {
            subscriber.release(message.size() as u64);
        }
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
///
/// In this order: what each message changes stands in two places, one for each side, with what
/// seldom changes between them. So within one subscription neither side waits for a cache line that
/// the other writes, and no line is filled up with nothing: there may be many. The count of
/// references is in front; it changes with each run of messages of a dispatcher, as what the reader
/// counts does.
#[repr(C)]
pub(crate) struct Subscriber {
    arrived: Arrived,
    /// The number of messages after which the subscription ends; 0 is no end. Seldom written.
    max: AtomicU64,
    sid: u64,
    target: Target,
    subject: String,
    queue: Option<String>,
    /// Why it ends; the first reason counts.
    reason: OnceLock<EndReason>,
    taken: Taken,
}

/// What the reader looks at and counts for each message. It alone writes here, but for the limits.
#[derive(Debug, Default)]
struct Arrived {
    /// Messages that the server has sent, dropped ones included: what its own count says.
    received: AtomicU64,
    /// Messages that went to the queue, and their bytes.
    admitted: AtomicU64,
    admitted_bytes: AtomicU64,
    /// Messages that did not.
    dropped: AtomicU64,
    /// What had left the queue when the reader last had to look: at most what has left by now.
    gone: AtomicU64,
    gone_bytes: AtomicU64,
    most_messages: AtomicU64,
    most_bytes: AtomicU64,
}

/// What seldom changes, then what the consumer looks at and counts for each message.
#[derive(Debug, Default)]
#[repr(C)]
struct Taken {
    /// Messages that left the queue unread, and their bytes; counted by any thread.
    thrown: AtomicU64,
    thrown_bytes: AtomicU64,
    /// What `received` was when the server in use was told of the subscription: it counts from
    /// there.
    base: AtomicU64,
    delivered: AtomicU64,
    delivered_bytes: AtomicU64,
    slow: AtomicU8,
    state: AtomicU8,
    /// What waits is thrown away: the program unsubscribed.
    discarding: AtomicBool,
    /// A run of its messages is with the handler. Set, with a fence, before `discarding` and
    /// `state` are looked at, as these are set before it is looked at, so that the end is seen by
    /// one side at least.
    in_hand: AtomicBool,
    /// Its end has been told: nothing of it is handled any more.
    finished: AtomicBool,
    /// The server in use has refused it. The reader alone writes it.
    refused: AtomicBool,
}

/// Adds to a count that has one writer.
#[inline(always)]
fn add(count: &AtomicU64, amount: u64) {
    count.store(count.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Release);
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
            max: AtomicU64::new(0),
            arrived: Arrived {
                most_messages: AtomicU64::new(limits.messages),
                most_bytes: AtomicU64::new(limits.bytes),
                ..Arrived::default()
            },
            taken: Taken::default(),
            reason: OnceLock::new(),
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

    /// Ends its own queue, if it has one; `rest` says what becomes of what is there.
    pub(crate) fn end_queue(&self, end: EndReason, rest: Rest) {
        if let Target::Pull(mailbox) = &self.target {
            release(Some(self), mailbox.end(end, rest));
        }
    }

    /// Counts a message that has arrived and says what to do with it. Reader thread only.
    pub(crate) fn admit(&self, size: u64) -> Admission {
        let arrived = &self.arrived;
        let received = arrived.received.load(Ordering::Relaxed).wrapping_add(1);
        let max = self.max.load(Ordering::SeqCst);
        if max != 0 && received > max {
            return Admission::Ignore;
        }
        // `received` comes last: whoever sees the number complete must see the message admitted.
        if self.is_full() && {
            self.look_what_is_gone();
            self.is_full()
        } {
            add(&arrived.dropped, 1);
            arrived.received.store(received, Ordering::Release);
            // In an episode it is looked at only: the flag lies in the consumer's line.
            let slow = &self.taken.slow;
            let first = slow.load(Ordering::SeqCst) == QUICK
                && slow.compare_exchange(QUICK, SLOW, Ordering::SeqCst, Ordering::SeqCst).is_ok();
            return Admission::Drop { first };
        }
        add(&arrived.admitted_bytes, size);
        add(&arrived.admitted, 1);
        arrived.received.store(received, Ordering::Release);
        Admission::Take
    }

    /// Whether it is at a limit, as far as the reader has looked.
    fn is_full(&self) -> bool {
        let Arrived {
            admitted, admitted_bytes, gone, gone_bytes, most_messages, most_bytes, ..
        } = &self.arrived;
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        load(admitted).wrapping_sub(load(gone)) >= load(most_messages)
            || load(admitted_bytes).wrapping_sub(load(gone_bytes)) >= load(most_bytes)
    }

    fn look_what_is_gone(&self) {
        let (messages, bytes) = self.gone();
        self.arrived.gone.store(messages, Ordering::Relaxed);
        self.arrived.gone_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Messages that have left the queue, and their bytes.
    fn gone(&self) -> (u64, u64) {
        let load = |count: &AtomicU64| count.load(Ordering::Acquire);
        let Taken { delivered, delivered_bytes, thrown, thrown_bytes, .. } = &self.taken;
        (
            load(delivered).wrapping_add(load(thrown)),
            load(delivered_bytes).wrapping_add(load(thrown_bytes)),
        )
    }

    /// Messages that wait, and their bytes. What has gone is read first: it was admitted before.
    fn pending(&self) -> (u64, u64) {
        let (messages, bytes) = self.gone();
        let admitted = self.arrived.admitted.load(Ordering::Acquire);
        let admitted_bytes = self.arrived.admitted_bytes.load(Ordering::Acquire);
        (admitted.saturating_sub(messages), admitted_bytes.saturating_sub(bytes))
    }

    /// Whether the number of messages asked for has arrived.
    pub(crate) fn is_complete(&self) -> bool {
        let max = self.max.load(Ordering::SeqCst);
        max != 0 && self.arrived.received.load(Ordering::SeqCst) >= max
    }

    /// Sets the number of messages after which the subscription ends.
    pub(crate) fn set_max(&self, max: u64) {
        self.max.store(max, Ordering::SeqCst);
    }

    /// A server is told of the subscription now and counts from here. Returns what it still has to
    /// send before the subscription ends, if it is to end. Reader thread only.
    pub(crate) fn announce(&self) -> Option<u64> {
        let received = self.arrived.received.load(Ordering::SeqCst);
        self.taken.base.store(received, Ordering::SeqCst);
        self.taken.refused.store(false, Ordering::Release);
        let max = self.max.load(Ordering::SeqCst);
        (max != 0).then(|| max.saturating_sub(received))
    }

    /// The server in use refuses it. Returns whether it had not done so before. Reader thread only.
    pub(crate) fn refuse(&self) -> bool {
        !self.taken.refused.swap(true, Ordering::Release)
    }

    /// The number of messages, as the server in use counts them, after which the subscription ends;
    /// none if so many have been sent already.
    pub(crate) fn server_max(&self) -> Option<u64> {
        let max = self.max.load(Ordering::SeqCst);
        let open = max > self.arrived.received.load(Ordering::SeqCst);
        open.then(|| max.saturating_sub(self.taken.base.load(Ordering::SeqCst)))
    }

    /// Messages that went, or are on their way, to the queue.
    pub(crate) fn admitted(&self) -> u64 {
        self.arrived.admitted.load(Ordering::SeqCst)
    }

    /// A message leaves the queue for the program: called with the queue locked, or on the only
    /// thread that takes from it. `try_recover` follows.
    #[inline]
    pub(crate) fn hand_out(&self, size: u64) {
        add(&self.taken.delivered_bytes, size);
        add(&self.taken.delivered, 1);
    }

    /// A message leaves the queue unread.
    pub(crate) fn release(&self, size: u64) {
        self.taken.thrown_bytes.fetch_add(size, Ordering::AcqRel);
        self.taken.thrown.fetch_add(1, Ordering::AcqRel);
    }

    /// The notice of a recovery is queued.
    pub(crate) fn recovered(&self) {
        self.taken.slow.store(QUICK, Ordering::SeqCst);
    }

    /// The notice of a slow episode is queued. Returns whether the episode is over already.
    #[must_use]
    pub(crate) fn announced(&self) -> bool {
        self.taken.slow.store(ANNOUNCED, Ordering::SeqCst);
        // A consumer that takes the last message right now must see the flag, or we must see what
        // it took, or neither would tell the recovery. It counts with its queue locked, or has a
        // fence behind its run.
        fence(Ordering::SeqCst);
        if let Target::Pull(mailbox) = &self.target {
            mailbox.pass();
        }
        self.try_recover()
    }

    /// Whether a slow episode is over: the caller tells so, then calls `recovered`.
    #[inline]
    #[must_use]
    pub(crate) fn try_recover(&self) -> bool {
        self.taken.slow.load(Ordering::SeqCst) == ANNOUNCED && self.recover()
    }

    #[cold]
    fn recover(&self) -> bool {
        let half = |limit: &AtomicU64| limit.load(Ordering::Relaxed) / 2;
        let (messages, bytes) = self.pending();
        let slow = &self.taken.slow;
        messages <= half(&self.arrived.most_messages)
            && bytes <= half(&self.arrived.most_bytes)
            && slow
                .compare_exchange(ANNOUNCED, RECOVERING, Ordering::SeqCst, Ordering::SeqCst)
                .is_ok()
    }

    pub(crate) fn set_limits(&self, limits: PendingLimits) {
        self.arrived.most_messages.store(limits.messages, Ordering::Relaxed);
        self.arrived.most_bytes.store(limits.bytes, Ordering::Relaxed);
    }

    pub(crate) fn set_draining(&self) {
        let _ =
            self.taken.state.compare_exchange(ACTIVE, DRAINING, Ordering::SeqCst, Ordering::SeqCst);
    }

    pub(crate) fn set_ended(&self) {
        self.taken.state.store(ENDED, Ordering::SeqCst);
    }

    /// The program unsubscribed: what waits is thrown away.
    pub(crate) fn discard(&self) {
        self.taken.discarding.store(true, Ordering::SeqCst);
    }

    /// What waits is, or was, thrown away because the program unsubscribed.
    pub(crate) fn is_discarding(&self) -> bool {
        self.taken.discarding.load(Ordering::SeqCst)
    }

    /// Whether messages that were for a handler have not come to it, once nothing more will.
    pub(crate) fn is_cut_short(&self) -> bool {
        let handled = self.taken.delivered.load(Ordering::SeqCst);
        matches!(self.target, Target::Dispatch(_)) && handled < self.admitted()
    }

    /// The handler's thread takes a run of messages of it in hand.
    pub(super) fn take_in_hand(&self) {
        self.taken.in_hand.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Whether a message that is in hand is to be handled.
    #[inline]
    pub(super) fn is_wanted(&self) -> bool {
        !self.taken.discarding.load(Ordering::Acquire) && !self.is_finished()
    }

    /// The run has been handled. Returns whether the subscription has ended meanwhile: the caller
    /// then sees whether that was its last message.
    #[must_use]
    pub(super) fn put_down(&self) -> bool {
        self.taken.in_hand.store(false, Ordering::Release);
        fence(Ordering::SeqCst);
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
                fence(Ordering::SeqCst);
                // In this order: what has left the queue was in hand before.
                (self.taken.discarding.load(Ordering::SeqCst) || self.pending().0 == 0)
                    && !self.taken.in_hand.load(Ordering::SeqCst)
            }
            Target::Pull(_) | Target::Requests => true,
        };
        self.status() == ConsumerStatus::Ended && handled()
    }

    #[inline]
    pub(crate) fn is_finished(&self) -> bool {
        self.taken.finished.load(Ordering::SeqCst)
    }

    /// Its end is told now. Returns whether that is the first time.
    pub(crate) fn finish(&self) -> bool {
        !self.taken.finished.swap(true, Ordering::SeqCst)
    }

    pub(crate) fn status(&self) -> ConsumerStatus {
        match self.taken.state.load(Ordering::SeqCst) {
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
            .field("pending_messages", &self.pending().0)
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

    fn queue(&self) -> Option<String> {
        self.queue.clone()
    }

    fn pending_messages(&self) -> u64 {
        self.pending().0
    }

    fn pending_bytes(&self) -> u64 {
        self.pending().1
    }

    fn pending_limits(&self) -> PendingLimits {
        PendingLimits {
            messages: self.arrived.most_messages.load(Ordering::Relaxed),
            bytes: self.arrived.most_bytes.load(Ordering::Relaxed),
        }
    }

    fn delivered(&self) -> u64 {
        self.taken.delivered.load(Ordering::Relaxed)
    }

    fn dropped(&self) -> u64 {
        self.arrived.dropped.load(Ordering::Relaxed)
    }

    fn status(&self) -> ConsumerStatus {
        Self::status(self)
    }

    fn is_refused(&self) -> bool {
        self.taken.refused.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(not(loom), target_pointer_width = "64"))]
    fn what_each_side_changes_lies_in_cache_lines_of_its_own() {
        use std::mem::offset_of;

        // An allocation begins at a multiple of 16, with two counts of references.
        let counts = 2 * size_of::<usize>();
        let reader_end = counts + offset_of!(Subscriber, sid);
        let consumer = counts + offset_of!(Subscriber, taken) + offset_of!(Taken, delivered);
        let gap = consumer / 16 * 16 - reader_end.next_multiple_of(16);
        assert!(gap >= 64 - 16, "{gap} bytes");
        assert!(counts + size_of::<Subscriber>() <= 240);
    }

    fn subscriber(messages: u64) -> Subscriber {
        let limits = PendingLimits::new(messages, 0);
        Subscriber::new(1, "a".to_owned(), None, Target::Requests, limits)
    }

    fn take(subscriber: &Subscriber, size: u64) -> bool {
        subscriber.hand_out(size);
        subscriber.try_recover()
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
        assert!(!take(&slow, 10));
        assert_eq!(slow.admit(10), Admission::Take);
        assert_eq!(slow.admit(10), Admission::Drop { first: false });
        assert!(!take(&slow, 10));
        assert!(take(&slow, 10), "two of four are left");
        assert!(!take(&slow, 10));
        assert_eq!((slow.dropped(), slow.delivered()), (3, 4));
    }

    #[test]
    fn a_recovery_that_came_before_the_notice_is_told_after_it() {
        let slow = subscriber(2);
        assert_eq!(slow.admit(1), Admission::Take);
        assert_eq!(slow.admit(1), Admission::Take);
        assert_eq!(slow.admit(1), Admission::Drop { first: true });
        assert!(!take(&slow, 1) && !take(&slow, 1), "nothing is told before the notice");
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
