//! One pull subscription: the reader's router, the queue, the counts and the slow-consumer flag.
//!
//! A message is its number. One thread holds the [`Arrivals`], any thread calls the [`Queue`].

use std::time::Duration;

use crate::clock;
use crate::error::ErrorKind;
use crate::protocol::Message;
use crate::subscriptions::{
    Consumer, Empty, EndReason, Inbox, Item, PendingLimits, Registry, Rest, Routed, Router,
    Subscriber, Target, end_inbox,
};
use crate::sync::Arc;

/// A subscription without a connection.
pub struct Queue {
    registry: Registry,
    inbox: Arc<Inbox>,
    subscriber: Arc<Subscriber>,
    tell: Box<dyn Fn(Seen) + Send + Sync>,
}

/// What listeners are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    Slow,
    Recovered,
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
    /// At most so many messages wait; `tell` gets the notices, where the connection queues them.
    pub fn new(limit: u64, tell: impl Fn(Seen) + Send + Sync + 'static) -> Arc<Self> {
        let (registry, inbox) = (Registry::new(), Arc::new(Inbox::new()));
        let target = Target::Pull(Arc::clone(&inbox));
        let limits = PendingLimits::new(limit, 0);
        let make = |sid| Subscriber::new(sid, "a".to_owned(), None, target, limits);
        let inserted = registry.insert(make, |_| (), |_| ());
        #[allow(clippy::expect_used)]
        // Invariant: a new registry is neither draining nor ended.
        let subscriber = inserted.expect("open");
        Arc::new(Self { registry, inbox, subscriber, tell: Box::new(tell) })
    }

    /// The reader's side.
    pub fn arrivals(self: &Arc<Self>) -> Arrivals {
        Arrivals { queue: Arc::clone(self), router: Router::new() }
    }

    /// The next message; `None` waits for ever.
    pub fn next(&self, timeout: Option<Duration>) -> Result<u64, ErrorKind> {
        self.finish(self.inbox.pop(timeout.map(clock::after)))
    }

    /// The next message if it is there.
    pub fn try_next(&self) -> Result<u64, ErrorKind> {
        self.finish(self.inbox.try_pop())
    }

    fn finish(&self, outcome: Result<Item, Empty>) -> Result<u64, ErrorKind> {
        match outcome {
            Ok(Item { subscriber, message }) => {
                if subscriber.hand_out(message.size() as u64) {
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
    pub fn dispatch(&self, mut handle: impl FnMut(u64)) {
        let handle = |Item { subscriber, message }: Item| {
            if subscriber.hand_out(message.size() as u64) {
                self.recovered();
            }
            handle(number(&message));
            subscriber
        };
        crate::subscriptions::deliver(&self.inbox, handle, |_| ());
    }

    /// Waits until the dispatcher's thread is done.
    pub fn wait_delivered(&self, timeout: Duration) -> bool {
        self.inbox.wait_delivered(clock::after(timeout))
    }

    /// Like `Subscription::unsubscribe`: what waits is thrown away.
    pub fn unsubscribe(&self) {
        self.subscriber.discard();
        self.registry.remove(self.subscriber.sid(), |_| ());
        end_inbox(&self.inbox, EndReason::Unsubscribed, Rest::Drop);
    }

    /// The end of a drain: what was admitted is still handed out.
    pub fn end_drained(&self) {
        self.registry.remove(self.subscriber.sid(), |_| ());
        let rest = Rest::Keep { until: self.subscriber.admitted() };
        end_inbox(&self.inbox, EndReason::Drained, rest);
    }

    /// Like `Connection::close`, on the reader's thread: what has arrived stays readable.
    pub fn close(&self) {
        self.registry.end_all(EndReason::Closed(None));
        end_inbox(&self.inbox, EndReason::Closed(None), Rest::Keep { until: 0 });
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

/// The side of the reader thread.
pub struct Arrivals {
    queue: Arc<Queue>,
    router: Router,
}

impl Arrivals {
    /// One read brought these messages.
    pub fn read(&mut self, numbers: &[u64]) {
        for number in numbers {
            let message = Message::new("a", number.to_string());
            let sid = self.queue.subscriber.sid();
            if let Routed::Slow(subscriber) = self.router.route(&self.queue.registry, sid, message)
            {
                self.router.flush();
                (self.queue.tell)(Seen::Slow);
                if subscriber.announced() {
                    self.queue.recovered();
                }
            }
        }
        self.router.flush();
    }
}

fn number(message: &Message) -> u64 {
    let text = std::str::from_utf8(message.payload()).ok();
    text.and_then(|text| text.parse().ok()).unwrap_or(u64::MAX)
}
