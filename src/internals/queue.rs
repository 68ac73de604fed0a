//! One subscription: the reader's router, the queue, the counts, the slow-consumer flag, the end. A
//! dispatcher may have a second one beside it, whose messages go between those of the first.
//!
//! A message is its number. One thread holds the [`Arrivals`], at most one is in
//! [`Queue::dispatch`], any thread calls the rest of [`Queue`].

use std::time::Duration;

use crate::clock;
use crate::error::ErrorKind;
use crate::protocol::Message;
use crate::subscriptions::{
    Consumer, Empty, EndReason, First, Inbox, Item, PendingLimits, Registry, Rest, Routed, Router,
    Subscriber, Target, Work, deliver, end_dispatcher_queue,
};
use crate::sync::Arc;

/// A subscription without a connection.
pub struct Queue {
    registry: Registry,
    inbox: Arc<Inbox>,
    subscriber: Arc<Subscriber>,
    /// Another subscription with the same queue.
    other: Option<Arc<Subscriber>>,
    tell: Box<dyn Fn(Seen) + Send + Sync>,
}

/// What listeners are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Slow,
    Recovered,
    /// The subscription has ended, and nothing of it is handled any more.
    Ended,
}

/// The counts of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub pending: u64,
    pub pending_bytes: u64,
    pub delivered: u64,
    pub dropped: u64,
}

impl Queue {
    /// A subscription that is read with `next`. At most so many messages wait; `tell` gets the
    /// notices, where the connection queues them.
    pub fn new(limit: u64, tell: impl Fn(Seen) + Send + Sync + 'static) -> Arc<Self> {
        Self::make(Target::Pull, limit, false, tell)
    }

    /// A subscription of a dispatcher, for `dispatch`; otherwise like `new`.
    pub fn dispatched(limit: u64, tell: impl Fn(Seen) + Send + Sync + 'static) -> Arc<Self> {
        Self::make(Target::Dispatch, limit, false, tell)
    }

    /// Two subscriptions of a dispatcher: all that is done here is done to the first, but that
    /// [`Arrivals::read_alternating`] brings messages of both. `dispatch` hands out both.
    pub fn dispatched_pair(tell: impl Fn(Seen) + Send + Sync + 'static) -> Arc<Self> {
        Self::make(Target::Dispatch, 0, true, tell)
    }

    fn make(
        target: fn(Arc<Inbox>) -> Target,
        limit: u64,
        pair: bool,
        tell: impl Fn(Seen) + Send + Sync + 'static,
    ) -> Arc<Self> {
        let registry = Registry::new();
        let inbox = registry.inbox();
        let limits = PendingLimits::new(limit, 0);
        let subscribe = || {
            let target = target(Arc::clone(&inbox));
            let make = |sid| Subscriber::new(sid, "a".to_owned(), None, target, limits);
            let inserted = registry.insert(make, |_| (), |_| ());
            #[allow(clippy::expect_used)]
            // Invariant: a new registry is neither draining nor ended.
            inserted.expect("open")
        };
        let subscriber = subscribe();
        let other = pair.then(subscribe);
        Arc::new(Self { registry, inbox, subscriber, other, tell: Box::new(tell) })
    }

    /// The reader's side.
    pub fn arrivals(self: &Arc<Self>) -> Arrivals {
        Arrivals { queue: Arc::clone(self), router: Router::new(&self.registry) }
    }

    /// The next message; `None` waits for ever.
    pub fn next(&self, timeout: Option<Duration>) -> Result<u64, ErrorKind> {
        self.finish(self.inbox.pop(timeout.map(clock::after), |item| self.take(item)))
    }

    /// The next message if it is there.
    pub fn try_next(&self) -> Result<u64, ErrorKind> {
        self.finish(self.inbox.try_pop(|item| self.take(item)))
    }

    fn take(&self, item: &mut Item) -> Message {
        self.subscriber.hand_out(item.message.size() as u64);
        item.take()
    }

    fn finish(&self, outcome: Result<Message, Empty>) -> Result<u64, ErrorKind> {
        match outcome {
            Ok(message) => {
                if self.subscriber.try_recover() {
                    self.recovered();
                }
                Ok(number(&message))
            }
            Err(Empty::Timeout) => Err(ErrorKind::Timeout),
            Err(Empty::Refused(_)) => Err(ErrorKind::PermissionsViolation),
            Err(Empty::Ended(_)) => Err(ErrorKind::Closed),
        }
    }

    fn recovered(&self) {
        (self.tell)(Seen::Recovered);
        self.subscriber.recovered();
    }

    /// What a dispatcher's thread does, with a handler that gets every number.
    pub fn dispatch(&self, handle: impl FnMut(u64)) {
        deliver(&self.inbox, &mut Hands { queue: self, handle });
    }

    /// Waits until the dispatcher's thread is done.
    pub fn wait_delivered(&self, timeout: Duration) -> bool {
        self.inbox.wait_delivered(clock::after(timeout))
    }

    /// The program unsubscribes: what waits is thrown away.
    pub fn unsubscribe(&self) {
        self.subscriber.discard();
        self.finish_with(EndReason::Unsubscribed);
    }

    /// The end of a drain: what was admitted is still handed out.
    pub fn end_drained(&self) {
        self.finish_with(EndReason::Drained);
    }

    /// It ends after so many messages.
    pub fn unsubscribe_after(&self, max: u64) {
        if self.registry.set_max(&self.subscriber, max, |_| ()) {
            self.finish_with(EndReason::Completed);
        }
    }

    fn finish_with(&self, end: EndReason) {
        self.registry.remove(self.subscriber.sid(), |_| ());
        let rest = match end {
            EndReason::Unsubscribed => Rest::Drop,
            _ => Rest::Keep { until: self.subscriber.admitted() },
        };
        self.subscriber.end_queue(end, rest);
        self.settle();
    }

    fn settle(&self) {
        if self.subscriber.is_over() && self.subscriber.finish() {
            (self.tell)(Seen::Ended);
        }
    }

    /// The dispatcher ends: what was admitted is still handled.
    pub fn end_dispatcher(&self) {
        let other = self.other.as_ref().map_or(0, |other| other.admitted());
        let rest = Rest::Keep { until: self.subscriber.admitted() + other };
        end_dispatcher_queue(&self.inbox, EndReason::Drained, rest);
    }

    /// Like `Connection::close`, on the reader's thread: what has arrived stays readable.
    pub fn close(&self) {
        self.registry.end_all(EndReason::Closed(None));
        self.subscriber.end_queue(EndReason::Closed(None), Rest::Keep { until: 0 });
    }

    pub fn counts(&self) -> Counts {
        let consumer: &dyn Consumer = &*self.subscriber;
        Counts {
            pending: consumer.pending_messages(),
            pending_bytes: consumer.pending_bytes(),
            delivered: consumer.delivered(),
            dropped: consumer.dropped(),
        }
    }
}

/// What a dispatcher's thread works with.
struct Hands<'a, F> {
    queue: &'a Queue,
    handle: F,
}

impl<F: FnMut(u64)> Work for Hands<'_, F> {
    fn begin(&mut self, _: &Arc<Subscriber>) {}

    fn handle(&mut self, subscriber: &Arc<Subscriber>, size: u64, first: First<'_>) {
        subscriber.hand_out(size);
        if subscriber.try_recover() {
            self.queue.recovered();
        }
        (self.handle)(number(&first.take()));
    }

    fn end(&mut self, subscriber: &Arc<Subscriber>, ended: bool) {
        if subscriber.try_recover() {
            self.queue.recovered();
        }
        if ended {
            self.queue.settle();
        }
    }
}

/// The side of the reader thread.
pub struct Arrivals {
    queue: Arc<Queue>,
    router: Router,
}

impl Arrivals {
    /// One read brought these messages.
    pub fn read(&mut self, numbers: &[u64]) {
        let sid = self.queue.subscriber.sid();
        self.read_for(&mut std::iter::repeat(sid), numbers);
    }

    /// One read brought these messages, in turn for the first and for the other subscription.
    pub fn read_alternating(&mut self, numbers: &[u64]) {
        let first = self.queue.subscriber.sid();
        let other = self.queue.other.as_ref().map_or(first, |other| other.sid());
        self.read_for(&mut [first, other].into_iter().cycle(), numbers);
    }

    fn read_for(&mut self, sids: &mut dyn Iterator<Item = u64>, numbers: &[u64]) {
        for (sid, number) in sids.zip(numbers) {
            let message = Message::new("a", number.to_string());
            let size = message.size() as u64;
            match self.router.route(&self.queue.registry, sid, size, |place| *place = message) {
                Routed::Slow(_) => self.slow(),
                Routed::Last { slow, .. } => {
                    if slow {
                        self.slow();
                    }
                    self.router.flush();
                    self.queue.finish_with(EndReason::Completed);
                }
                Routed::Done | Routed::Dropped | Routed::Reply(_) => {}
            }
        }
        self.router.flush();
        for _ in self.router.completed(&self.queue.registry) {
            self.queue.finish_with(EndReason::Completed);
        }
    }

    fn slow(&mut self) {
        self.router.flush();
        (self.queue.tell)(Seen::Slow);
        if self.queue.subscriber.announced() {
            self.queue.recovered();
        }
    }
}

fn number(message: &Message) -> u64 {
    let text = std::str::from_utf8(message.payload()).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}
