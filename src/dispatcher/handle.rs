//! The handle of a dispatcher.

use std::fmt;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::table::{Entry, Handler, Shared};
use super::thread::run;
use crate::clock;
use crate::connection::Connection;
use crate::core::{Core, Runs};
use crate::error::Result;
use crate::protocol::{Message, check_subscribe};
use crate::subscription::check_max;
use crate::subscriptions::{
    Consumer, ConsumerStatus, ConsumerView, EndReason, PendingLimits, Rest, SealedConsumer,
    Subscriber, SubscriptionEnd, Target, end_dispatcher_queue,
};
use crate::sync::Arc;

/// A thread of its own that calls a handler for every message of its subscriptions, in order.
///
/// Dropping it unsubscribes all of them and ends the thread after the present message, or, once it
/// has been drained, after the last one. It keeps its connection open.
///
/// A handler may block, and call anything on the connection that it is lent; while it runs,
/// messages wait, up to the limits of each subscription. A panic of a handler is caught and told
/// to `exception_occurred`; the next message is handled.
///
/// ```no_run
/// # let connection = nats_blocking::connect("nats://127.0.0.1:4222")?;
/// let dispatcher = connection.dispatcher(|connection, message| {
///     if let Err(error) = connection.respond(&message, "pong") {
///         eprintln!("{error}");
///     }
/// })?;
/// dispatcher.subscribe("ping")?;
/// dispatcher.subscribe_with("log.>", |_, message| println!("{}", message.subject()))?;
/// # Ok::<(), nats_blocking::Error>(())
/// ```
#[must_use = "dropping it unsubscribes"]
pub struct Dispatcher {
    connection: Connection,
    shared: Arc<Shared>,
}

impl Connection {
    /// Starts a dispatcher: a thread (`nats-…-dispatch…`) that calls `handler` for every message of
    /// the subscriptions that it is given, except those with a handler of their own.
    ///
    /// # Errors
    ///
    /// [`Io`](crate::ErrorKind::Io) if the thread cannot be started,
    /// [`Draining`](crate::ErrorKind::Draining), [`Closed`](crate::ErrorKind::Closed).
    pub fn dispatcher(
        &self,
        handler: impl FnMut(&Self, Message) + Send + 'static,
    ) -> Result<Dispatcher> {
        let core = self.core();
        core.check_open()?;
        let shared = Arc::new(Shared::new(core.registry.inbox(), core.config.pending_limits));
        core.adopt_dispatcher(&shared.mailbox);
        let name = core.thread_name(&format!("dispatch{}", shared.number));
        let (thread_core, thread_shared) = (Arc::clone(core), Arc::clone(&shared));
        let body = move || run(&thread_core, &thread_shared, handler);
        core.threads.start(name, core.id, Runs::Program, body)?;
        // The connection may have ended before it knew of this queue.
        if let Err(error) = core.check_open() {
            end_dispatcher_queue(&shared.mailbox, EndReason::Closed(None), Rest::Drop);
            return Err(error);
        }
        Ok(Dispatcher { connection: self.clone(), shared })
    }
}

impl Dispatcher {
    /// Subscribes to a subject; its messages go to the dispatcher's handler. Returns the sid.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::subscribe`].
    pub fn subscribe(&self, subject: impl AsRef<str>) -> Result<u64> {
        self.add(subject.as_ref(), None, None)
    }

    /// Subscribes as a member of a queue group; otherwise like [`subscribe`](Self::subscribe).
    ///
    /// # Errors
    ///
    /// Those of [`Connection::queue_subscribe`].
    pub fn queue_subscribe(&self, subject: impl AsRef<str>, queue: impl AsRef<str>) -> Result<u64> {
        self.add(subject.as_ref(), Some(queue.as_ref()), None)
    }

    /// Subscribes with a handler of its own, which runs on the same thread. Returns the sid.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::subscribe`].
    pub fn subscribe_with(
        &self,
        subject: impl AsRef<str>,
        handler: impl FnMut(&Connection, Message) + Send + 'static,
    ) -> Result<u64> {
        self.add(subject.as_ref(), None, Some(Box::new(handler)))
    }

    /// Subscribes as a member of a queue group with a handler of its own. Returns the sid.
    ///
    /// # Errors
    ///
    /// Those of [`Connection::queue_subscribe`].
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// let dispatcher = connection.dispatcher(|_, message| println!("{}", message.subject()))?;
    /// let jobs = dispatcher.queue_subscribe("jobs", "workers")?;
    /// let news = dispatcher.queue_subscribe_with("news", "readers", |_, _| println!("news"))?;
    /// dispatcher.unsubscribe_after(news, 10)?;
    /// assert!(dispatcher.unsubscribe(jobs));
    /// dispatcher.set_pending_limits(nats_blocking::PendingLimits::new(1_000, 0));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn queue_subscribe_with(
        &self,
        subject: impl AsRef<str>,
        queue: impl AsRef<str>,
        handler: impl FnMut(&Connection, Message) + Send + 'static,
    ) -> Result<u64> {
        self.add(subject.as_ref(), Some(queue.as_ref()), Some(Box::new(handler)))
    }

    fn add(&self, subject: &str, queue: Option<&str>, handler: Option<Handler>) -> Result<u64> {
        check_subscribe(subject)?;
        self.shared.sweep_if_grown();
        if let Some(end) = self.shared.mailbox.ended() {
            return Err(end.error());
        }
        let target = Target::Dispatch(Arc::clone(&self.shared.mailbox));
        let limits = *self.shared.limits.lock();
        let own = handler.is_some();
        // The handler must be in the table before the first message can arrive.
        let mut handler = handler.map(Some);
        let registered = |subscriber: &Arc<Subscriber>| {
            if own {
                self.shared.own_handlers.fetch_add(1, Ordering::AcqRel);
            }
            let entry = Entry { subscriber: Arc::clone(subscriber), handler: handler.take() };
            self.shared.table.lock().insert(subscriber.sid(), entry);
        };
        let core = self.connection.core();
        let subscriber = core.subscribe_then(subject, queue, target, limits, registered)?;
        // A drain of this dispatcher may have come between: its queue takes nothing any more.
        if let Some(end) = self.shared.mailbox.ended() {
            core.end_subscription(&subscriber, EndReason::Unsubscribed);
            return Err(end.error());
        }
        Ok(subscriber.sid())
    }

    /// Ends one subscription now; its messages that wait are dropped, a handler that runs ends its
    /// message. Returns whether it was one of this dispatcher's.
    pub fn unsubscribe(&self, sid: u64) -> bool {
        let entry = self.find(sid);
        if let Some(subscriber) = &entry {
            self.connection.core().end_subscription(subscriber, EndReason::Unsubscribed);
            self.shared.sweep_one(sid);
        }
        entry.is_some()
    }

    /// Ends one subscription once `max` messages have arrived for it, counted from its beginning;
    /// they are still handled. Returns whether it was one of this dispatcher's.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`](crate::ErrorKind::InvalidOption) if `max` is zero.
    pub fn unsubscribe_after(&self, sid: u64, max: u64) -> Result<bool> {
        check_max(max)?;
        let entry = self.find(sid);
        if let Some(subscriber) = &entry {
            self.connection.core().limit_subscription(subscriber, max);
            // So many may have been handled already.
            if subscriber.is_finished() {
                self.shared.retire(sid);
            }
        }
        Ok(entry.is_some())
    }

    /// Calls a closure once, on the callback thread, when that subscription has ended and the last
    /// call of its handler has returned; otherwise like
    /// [`Subscription::on_closed`](crate::Subscription::on_closed). At the end of the connection a
    /// handler that still runs is not waited for.
    ///
    /// Returns whether the closure will be called: not if the subscription is none of this
    /// dispatcher's (any more), and not after [`Closed`](crate::ConnectionEventKind::Closed).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// use nats_blocking::testing::Server;
    ///
    /// let server = Server::start()?;
    /// let connection = nats_blocking::connect(server.url())?;
    /// let dispatcher = connection.dispatcher(|_, message| println!("{}", message.subject()))?;
    /// let sid = dispatcher.subscribe("jobs")?;
    /// dispatcher.unsubscribe_after(sid, 2)?;
    /// let (sender, ended) = mpsc::channel();
    /// dispatcher.on_closed(sid, move |_, end| {
    ///     let _ = sender.send(end.consumer().delivered());
    /// });
    /// connection.publish("jobs", "one")?;
    /// connection.publish("jobs", "two")?;
    /// assert_eq!(ended.recv_timeout(Duration::from_secs(10))?, 2);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn on_closed(
        &self,
        sid: u64,
        hook: impl FnOnce(&Connection, &SubscriptionEnd) + Send + 'static,
    ) -> bool {
        let Some(subscriber) = self.find(sid) else { return false };
        let hook =
            move |core: &Arc<Core>, end: &SubscriptionEnd| hook(&Connection::lend(core), end);
        self.connection.core().on_subscription_end(&subscriber, Box::new(hook))
    }

    /// A look at one subscription: what waits, what was handled and dropped. It stays valid after
    /// the end. None if the subscription is none of this dispatcher's (any more).
    pub fn subscription(&self, sid: u64) -> Option<ConsumerView> {
        Some(ConsumerView::new(self.find(sid)?))
    }

    /// Sets how much may wait for one subscription; until
    /// [`set_pending_limits`](Self::set_pending_limits) sets it for all. Returns whether it was one
    /// of this dispatcher's.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// use nats_blocking::{Consumer, PendingLimits};
    ///
    /// let dispatcher = connection.dispatcher(|_, _| {})?;
    /// let sid = dispatcher.subscribe("log.>")?;
    /// assert!(dispatcher.set_pending_limits_of(sid, PendingLimits::new(1_000, 0)));
    /// let subscription = dispatcher.subscription(sid).ok_or("not there")?;
    /// assert_eq!((subscription.subject().as_str(), subscription.dropped()), ("log.>", 0));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn set_pending_limits_of(&self, sid: u64, limits: PendingLimits) -> bool {
        let subscriber = self.find(sid);
        if let Some(subscriber) = &subscriber {
            subscriber.set_limits(limits);
        }
        subscriber.is_some()
    }

    fn find(&self, sid: u64) -> Option<Arc<Subscriber>> {
        self.shared.table.lock().get(&sid).map(|entry| Arc::clone(&entry.subscriber))
    }

    /// Ends the dispatcher without losing what the server has sent: unsubscribes everything, waits
    /// for the server's confirmation and for the handlers. From a listener or handler of this
    /// connection it does not wait for the handlers. While the connection is down, or where it is
    /// lost meanwhile, nothing is left for the server to confirm.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    ///
    /// # Errors
    ///
    /// [`Timeout`](crate::ErrorKind::Timeout) if the server or the handlers took longer; what waits
    /// is still handled. [`Closed`](crate::ErrorKind::Closed), also if that comes first and what
    /// waits is thrown away.
    pub fn drain(&self, timeout: Duration) -> Result<()> {
        let core = self.connection.core();
        let deadline = clock::after(timeout);
        let subscribers = self.shared.subscribers();
        let wait = !core.on_own_thread();
        core.drain_dispatcher(&self.shared.mailbox, &subscribers, deadline, wait)
    }

    /// Sets how much may wait for each subscription before its newest messages are dropped; for
    /// those that there are and those to come.
    pub fn set_pending_limits(&self, limits: PendingLimits) {
        *self.shared.limits.lock() = limits;
        for subscriber in self.shared.subscribers() {
            subscriber.set_limits(limits);
        }
    }

    fn sum(&self, what: impl Fn(&Subscriber) -> u64) -> u64 {
        self.shared.subscribers().iter().map(|subscriber| what(subscriber)).sum()
    }
}

impl Drop for Dispatcher {
    fn drop(&mut self) {
        // What drains is still handled: the queue has its end, or gets it from the connection's
        // drain. Only what is neither ended nor draining is unsubscribed.
        let subscribers = self.shared.subscribers();
        let drains = |one: &Subscriber| {
            one.status() == ConsumerStatus::Draining
                || matches!(one.reason(), Some(EndReason::Drained))
        };
        let draining =
            self.shared.mailbox.ended().is_some() || subscribers.iter().any(|one| drains(one));
        for subscriber in subscribers.iter().filter(|one| one.status() == ConsumerStatus::Active) {
            self.connection.core().end_subscription(subscriber, EndReason::Unsubscribed);
        }
        if draining {
            return;
        }
        end_dispatcher_queue(&self.shared.mailbox, EndReason::Unsubscribed, Rest::Drop);
    }
}

impl fmt::Debug for Dispatcher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Dispatcher")
            .field("number", &self.shared.number)
            .field("subscriptions", &self.shared.subscribers())
            .finish_non_exhaustive()
    }
}

impl SealedConsumer for Dispatcher {}

impl Consumer for Dispatcher {
    fn id(&self) -> u64 {
        self.shared.number
    }

    fn subject(&self) -> String {
        let subscribers = self.shared.subscribers();
        let subjects: Vec<_> = subscribers.iter().map(|s| s.subject()).collect();
        subjects.join(", ")
    }

    fn queue(&self) -> Option<String> {
        None
    }

    fn pending_messages(&self) -> u64 {
        self.sum(Consumer::pending_messages)
    }

    fn pending_bytes(&self) -> u64 {
        self.sum(Consumer::pending_bytes)
    }

    fn pending_limits(&self) -> PendingLimits {
        *self.shared.limits.lock()
    }

    fn delivered(&self) -> u64 {
        self.shared.count(&self.shared.past_delivered, Consumer::delivered)
    }

    fn dropped(&self) -> u64 {
        self.shared.count(&self.shared.past_dropped, Consumer::dropped)
    }

    fn status(&self) -> ConsumerStatus {
        match self.shared.mailbox.ended() {
            None => ConsumerStatus::Active,
            Some(EndReason::Drained) if self.pending_messages() > 0 => ConsumerStatus::Draining,
            Some(_) => ConsumerStatus::Ended,
        }
    }

    fn is_refused(&self) -> bool {
        self.shared.subscribers().iter().any(|subscriber| subscriber.is_refused())
    }
}
