//! A subscription that the program reads from.

use std::fmt;
use std::time::{Duration, Instant};

use crate::bell::Bell;
#[cfg(feature = "crossbeam-channel")]
use crate::bell::Signal;
use crate::clock;
use crate::connection::Connection;
use crate::core::Core;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::Message;
use crate::subscriptions::{
    Consumer, ConsumerStatus, ConsumerView, Empty, EndReason, Inbox, Item, PendingLimits,
    SealedConsumer, Subscriber, SubscriptionEnd, Target,
};
use crate::sync::{self, Arc, Mutex, Rank};

/// Interest in a subject, and the messages that came for it.
///
/// Read with the [`next`](Self::next) family or an iterator, from any number of threads. Dropping
/// it unsubscribes. It keeps its connection open, and survives reconnects with all that it holds.
///
/// When more waits than its [`PendingLimits`], the newest messages are dropped and counted in
/// [`dropped`](Consumer::dropped), and `slow_consumer_detected` is called once; that is never an
/// error here.
#[must_use = "dropping it unsubscribes"]
pub struct Subscription {
    connection: Connection,
    subscriber: Arc<Subscriber>,
    mailbox: Arc<Inbox>,
    /// Why an iterator ended.
    pub(super) last_error: Mutex<Option<Error>>,
    #[cfg(feature = "crossbeam-channel")]
    signal: std::sync::OnceLock<Arc<Signal>>,
}

impl Connection {
    /// Subscribes to a subject, in which `*` stands for one token and a last `>` for one or more.
    ///
    /// Returns without waiting for the server: [`flush`](Self::flush) makes sure that it knows.
    ///
    /// # Errors
    ///
    /// [`InvalidSubject`](ErrorKind::InvalidSubject),
    /// [`MaxControlLine`](ErrorKind::MaxControlLine), [`Draining`](ErrorKind::Draining),
    /// [`Closed`](ErrorKind::Closed).
    ///
    /// ```no_run
    /// # let connection = nats_blocking::connect("nats://127.0.0.1:4222")?;
    /// let subscription = connection.subscribe("greet.*")?;
    /// for message in subscription.iter().take(3) {
    ///     println!("{}", message.subject());
    /// }
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn subscribe(&self, subject: impl AsRef<str>) -> Result<Subscription> {
        self.subscribe_pull(subject.as_ref(), None)
    }

    /// Subscribes as a member of a queue group: each message goes to one member of the group.
    ///
    /// # Errors
    ///
    /// Those of [`subscribe`](Self::subscribe), and
    /// [`InvalidQueueGroup`](ErrorKind::InvalidQueueGroup).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// let timeout = std::time::Duration::from_secs(10);
    /// let members = [
    ///     connection.queue_subscribe("jobs", "workers")?,
    ///     connection.queue_subscribe("jobs", "workers")?,
    /// ];
    /// connection.publish("jobs", "dig")?;
    /// connection.flush_timeout(timeout)?;
    /// let mut got = 0;
    /// for member in &members {
    ///     got += usize::from(member.try_next()?.is_some());
    /// }
    /// assert_eq!(got, 1);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn queue_subscribe(
        &self,
        subject: impl AsRef<str>,
        queue: impl AsRef<str>,
    ) -> Result<Subscription> {
        self.subscribe_pull(subject.as_ref(), Some(queue.as_ref()))
    }

    fn subscribe_pull(&self, subject: &str, queue: Option<&str>) -> Result<Subscription> {
        let mailbox = self.core().registry.inbox();
        let target = Target::Pull(Arc::clone(&mailbox));
        let limits = self.core().config.pending_limits;
        let subscriber = self.core().subscribe(subject, queue, target, limits)?;
        Ok(Subscription {
            connection: self.clone(),
            subscriber,
            mailbox,
            last_error: Mutex::new(Rank::Leaf, None),
            #[cfg(feature = "crossbeam-channel")]
            signal: std::sync::OnceLock::new(),
        })
    }
}

impl Subscription {
    /// The next message.
    ///
    /// # Blocking
    ///
    /// Without a limit: until there is a message, or the end.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) when everything that had arrived has been read and the
    /// subscription or connection has ended;
    /// [`PermissionsViolation`](ErrorKind::PermissionsViolation), once, if the server refused the
    /// subscription: it stays, and is announced again after a reconnect;
    /// [`Misuse`](ErrorKind::Misuse) in a callback that a connection waits for
    /// ([`select_server`](crate::OptionsBuilder::select_server)), if no message is there.
    #[allow(clippy::should_implement_trait, reason = "the NATS clients' name; `iter` iterates")]
    pub fn next(&self) -> Result<Message> {
        if sync::is_essential() {
            // In a callback that a connection waits for: a wait without an end would be for ever.
            let text = "a callback that a connection waits for cannot wait without a deadline";
            return self.try_next()?.ok_or_else(|| Error::new(ErrorKind::Misuse, text));
        }
        self.finish(self.mailbox.pop(None, |item| self.take(item)), "no deadline")
    }

    /// The next message if one is there. Does not wait.
    ///
    /// # Errors
    ///
    /// Those of [`next`](Self::next).
    pub fn try_next(&self) -> Result<Option<Message>> {
        match self.pop_now() {
            Err(Empty::Timeout) => Ok(None),
            outcome => self.finish(outcome, "now").map(Some),
        }
    }

    /// The next message.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout), and those of [`next`](Self::next).
    pub fn next_timeout(&self, timeout: Duration) -> Result<Message> {
        self.next_deadline(clock::after(timeout))
    }

    /// The next message.
    ///
    /// # Blocking
    ///
    /// Until `deadline`.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout), and those of [`next`](Self::next).
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// use std::time::{Duration, Instant};
    ///
    /// let subscription = connection.subscribe("ticks")?;
    /// connection.publish("ticks", "1")?;
    /// let deadline = Instant::now() + Duration::from_secs(10);
    /// assert_eq!(subscription.next_deadline(deadline)?.payload(), b"1");
    ///
    /// // As an iterator, which ends when nothing came for a while.
    /// connection.publish("ticks", "2")?;
    /// connection.publish("ticks", "3")?;
    /// let rest: Vec<_> = subscription.timeout_iter(Duration::from_millis(500)).collect();
    /// assert_eq!(rest.len(), 2);
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn next_deadline(&self, deadline: Instant) -> Result<Message> {
        let next = self.mailbox.pop(Some(deadline), |item| self.take(item));
        self.finish(next, "the deadline")
    }

    /// What is there, without waiting.
    pub(super) fn pop_now(&self) -> Result<Message, Empty> {
        self.mailbox.try_pop(|item| self.take(item))
    }

    /// Takes a message out of its place and counts it, with the queue locked.
    #[inline(always)]
    fn take(&self, item: &mut Item) -> Message {
        self.subscriber.hand_out(item.message.size() as u64);
        item.take()
    }

    #[inline(always)]
    pub(super) fn finish(&self, outcome: Result<Message, Empty>, by: &str) -> Result<Message> {
        match outcome {
            Ok(message) => {
                if self.subscriber.try_recover() {
                    self.connection.core().tell_recovered(&self.subscriber);
                }
                Ok(message)
            }
            Err(empty) => Err(why_none(empty, by)),
        }
    }

    /// Why an iterator gave `None` last.
    pub fn last_error(&self) -> Option<Error> {
        self.last_error.lock().clone()
    }

    /// A receiver for `select!`: it has a token whenever [`try_next`](Self::try_next) would give
    /// something: a message, a refusal or the end.
    ///
    /// The token is no message: messages stay in the subscription, so that their order, the pending
    /// limits and the counts are those of every other way of reading. After each token call
    /// `try_next` once; if more is there, the next token is there too. Now and then `try_next`
    /// gives `None` after a token. At the end the token stays, as in a channel whose senders are
    /// gone: stop when `try_next` fails with [`Closed`](ErrorKind::Closed).
    ///
    /// The type comes from crossbeam-channel 0.5, which is before 1.0: the next version of it will
    /// be another type, and a breaking change of this crate. That is why it needs the feature
    /// `crossbeam-channel`.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use crossbeam_channel::{select, unbounded};
    /// use nats_blocking::testing::Server;
    ///
    /// let server = Server::start()?;
    /// let connection = nats_blocking::connect(server.url())?;
    /// let subscription = connection.subscribe("greet")?;
    /// let (_stop, stopped) = unbounded::<()>();
    /// connection.publish("greet", "hello")?;
    /// loop {
    ///     select! {
    ///         recv(subscription.ready()) -> _ => {
    ///             if let Some(message) = subscription.try_next()? {
    ///                 assert_eq!(message.payload(), b"hello");
    ///                 break;
    ///             }
    ///         }
    ///         recv(stopped) -> _ => break,
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    #[cfg(feature = "crossbeam-channel")]
    pub fn ready(&self) -> &crossbeam_channel::Receiver<()> {
        let signal = self.signal.get_or_init(|| {
            let signal = Arc::new(Signal::new());
            self.mailbox.attach(Some(Arc::<Signal>::clone(&signal)));
            signal
        });
        signal.receiver()
    }

    /// Hangs a bell into the queue, in place of the one behind `ready`.
    pub(crate) fn attach(&self, bell: Arc<dyn Bell>) {
        self.mailbox.attach(Some(bell));
    }

    /// Takes that bell off again.
    pub(crate) fn detach(&self) {
        #[cfg(feature = "crossbeam-channel")]
        let bell =
            self.signal.get().map(|signal| -> Arc<dyn Bell> { Arc::<Signal>::clone(signal) });
        #[cfg(not(feature = "crossbeam-channel"))]
        let bell = None;
        self.mailbox.attach(bell);
    }

    /// A look at it that outlives it.
    pub(crate) fn view(&self) -> ConsumerView {
        ConsumerView::new(Arc::<Subscriber>::clone(&self.subscriber))
    }

    /// The number under which the server knows the subscription; it stays across reconnects.
    pub fn sid(&self) -> u64 {
        self.subscriber.sid()
    }

    /// The queue group, if the subscription is a member of one.
    pub fn queue(&self) -> Option<&str> {
        self.subscriber.queue()
    }

    /// Ends the subscription now; messages that wait are dropped. Dropping the subscription does
    /// the same.
    pub fn unsubscribe(&self) {
        self.connection.core().end_subscription(&self.subscriber, EndReason::Unsubscribed);
    }

    /// Ends the subscription once `max` messages have arrived, counted from its beginning, also
    /// across reconnects. They stay readable. If so many have arrived, it ends now.
    ///
    /// A number may be raised until the server has sent as many as were asked for before: then it
    /// has forgotten the subscription, which goes on with the next reconnect only.
    ///
    /// # Errors
    ///
    /// [`InvalidOption`](ErrorKind::InvalidOption) if `max` is zero.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// let subscription = connection.subscribe("news")?;
    /// subscription.unsubscribe_after(2)?;
    /// for number in 1..=5 {
    ///     connection.publish("news", number.to_string())?;
    /// }
    /// assert_eq!(subscription.iter().count(), 2);
    /// subscription.unsubscribe(); // Has ended already: does nothing.
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn unsubscribe_after(&self, max: u64) -> Result<()> {
        check_max(max)?;
        self.connection.core().limit_subscription(&self.subscriber, max);
        Ok(())
    }

    /// Ends the subscription without losing what the server has sent: unsubscribes, waits for the
    /// server's confirmation, and leaves what has arrived readable until its end. While the
    /// connection is down, or where it is lost meanwhile, nothing is left to confirm: that is a
    /// success.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`, for the confirmation.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout), [`Closed`](ErrorKind::Closed). The subscription has ended
    /// all the same.
    pub fn drain(&self, timeout: Duration) -> Result<()> {
        let deadline = clock::after(timeout);
        self.connection.core().drain_subscription(&self.subscriber, deadline)
    }

    /// Calls a closure once, on the callback thread, when the subscription has ended: by
    /// unsubscribing or dropping it, with the last message it asked for, by a drain, or with its
    /// connection. The end comes with the reason, and a view with the sid, subject and counts.
    ///
    /// The end is that nothing more arrives; what had arrived may still wait to be read. After the
    /// end the closure is called at once. It is never called after
    /// [`Closed`](crate::ConnectionEventKind::Closed), but before it. A panic of it is caught and
    /// told to `exception_occurred`. Several closures are called in the order in which they came.
    /// One that holds a [`Connection`] keeps it open until the subscription ends.
    ///
    /// Returns whether the closure will be called: not if `Closed` has been queued.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    ///
    /// use nats_blocking::{EndReason, testing::Server};
    ///
    /// let server = Server::start()?;
    /// let connection = nats_blocking::connect(server.url())?;
    /// let subscription = connection.subscribe("greet")?;
    /// let (sender, ends) = mpsc::channel();
    /// subscription.on_closed(move |_, end| {
    ///     let _ = sender.send(end.clone());
    /// });
    /// drop(subscription);
    /// let end = ends.recv_timeout(Duration::from_secs(10))?;
    /// assert!(matches!(end.reason(), EndReason::Unsubscribed));
    /// assert_eq!(end.to_string(), "sid 1, subject 'greet': the subscription was unsubscribed");
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn on_closed(
        &self,
        hook: impl FnOnce(&Connection, &SubscriptionEnd) + Send + 'static,
    ) -> bool {
        let hook =
            move |core: &Arc<Core>, end: &SubscriptionEnd| hook(&Connection::lend(core), end);
        self.connection.core().on_subscription_end(&self.subscriber, Box::new(hook))
    }

    /// Sets how much may wait before the newest messages are dropped.
    ///
    /// ```
    /// # #[cfg(feature = "testing")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let server = nats_blocking::testing::Server::start()?;
    /// # let connection = nats_blocking::connect(server.url())?;
    /// use nats_blocking::{Consumer, PendingLimits};
    ///
    /// let subscription = connection.subscribe("flood")?;
    /// subscription.set_pending_limits(PendingLimits::new(2, 0));
    /// for _ in 0..5 {
    ///     connection.publish("flood", "")?;
    /// }
    /// connection.flush()?;
    /// assert_eq!((subscription.pending_messages(), subscription.dropped()), (2, 3));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "testing"))]
    /// # fn main() {}
    /// ```
    pub fn set_pending_limits(&self, limits: PendingLimits) {
        self.subscriber.set_limits(limits);
    }
}

/// Zero messages is no number to wait for.
pub(crate) fn check_max(max: u64) -> Result<()> {
    if max == 0 {
        let text = "a subscription cannot end after 0 messages; unsubscribe ends it now";
        return Err(Error::new(ErrorKind::InvalidOption, text));
    }
    Ok(())
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.unsubscribe();
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("sid", &self.sid())
            .field("subject", &self.subscriber.subject())
            .field("queue", &self.queue())
            .field("pending_messages", &self.pending_messages())
            .field("status", &self.subscriber.status())
            .finish_non_exhaustive()
    }
}

impl SealedConsumer for Subscription {}

impl Consumer for Subscription {
    fn id(&self) -> u64 {
        self.subscriber.id()
    }

    fn subject(&self) -> String {
        Consumer::subject(&*self.subscriber)
    }

    fn queue(&self) -> Option<String> {
        Consumer::queue(&*self.subscriber)
    }

    fn pending_messages(&self) -> u64 {
        self.subscriber.pending_messages()
    }

    fn pending_bytes(&self) -> u64 {
        self.subscriber.pending_bytes()
    }

    fn pending_limits(&self) -> PendingLimits {
        self.subscriber.pending_limits()
    }

    fn delivered(&self) -> u64 {
        self.subscriber.delivered()
    }

    fn dropped(&self) -> u64 {
        self.subscriber.dropped()
    }

    fn status(&self) -> ConsumerStatus {
        Consumer::status(&*self.subscriber)
    }

    fn is_refused(&self) -> bool {
        self.subscriber.is_refused()
    }
}

#[cold]
fn why_none(empty: Empty, by: &str) -> Error {
    match empty {
        Empty::Timeout => Error::new(ErrorKind::Timeout, format!("no message by {by}")),
        Empty::Refused(error) => error.into(),
        Empty::Ended(end) => end.error(),
    }
}
