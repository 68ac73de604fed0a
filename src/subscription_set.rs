//! Many pull subscriptions, and one thread that waits on all of them.
//!
//! Each member hangs a [`Bell`] into its subscription's queue. A bell that rings puts its member
//! into the line of [`Ready`], once; a reader takes the first of the line, one message from it, and
//! if more is there the queue rings again and the member goes to the end of the line. So a busy
//! member gives one message a round, and nothing is looked at that has nothing.
//!
//! Locks: `members` may be held while a queue is popped and while a bell rings; a bell takes only
//! the lock of the line. Members are dropped with no lock held: dropping one unsubscribes, and may
//! close its connection. The line does not own members, so no queue keeps its subscription alive.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::bell::Bell;
#[cfg(feature = "crossbeam-channel")]
use crate::bell::Signal;
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::Message;
use crate::subscription::Subscription;
use crate::subscriptions::ConsumerView;
use crate::sync::{self, Arc, Condvar, Mutex, Rank, Weak};

/// Names a subscription of a [`SubscriptionSet`]. A key is never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SetKey(u64);

/// Subscriptions, of one connection or of several, that one thread waits on together.
///
/// [`next`](Self::next) and its like give which subscription it is and what came of it: a message,
/// or an error that belongs to that subscription alone. An error of kind
/// [`Closed`](ErrorKind::Closed) is its end: everything that had arrived has been given out, and it
/// has left the set. After [`PermissionsViolation`](ErrorKind::PermissionsViolation), said once, it
/// stays.
///
/// Subscriptions take turns: one that is busy gives one message, then it is the turn of the others
/// that have something. Within one the order is kept. Subscriptions may be added and removed from
/// any thread, while another waits. Dropping the set unsubscribes all that it holds. It keeps their
/// connections open, as they do: if nothing else holds a connection, the call that gives out the
/// end of its last subscription closes it, and blocks like
/// [`Connection::close`](crate::Connection::close).
///
/// ```
/// # #[cfg(feature = "testing")]
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
///
/// use nats_blocking::{SubscriptionSet, testing::Server};
///
/// let server = Server::start()?;
/// let connection = nats_blocking::connect(server.url())?;
/// let set = SubscriptionSet::new();
/// let orders = set.add(connection.subscribe("orders.*")?);
/// let alarms = set.add(connection.subscribe("alarms")?);
/// connection.publish("orders.eu", "one")?;
/// connection.publish("alarms", "two")?;
/// for _ in 0..2 {
///     let (key, outcome) = set.next_timeout(Duration::from_secs(5))?;
///     let message = outcome?;
///     if key == orders {
///         assert_eq!(message.payload(), b"one");
///     } else {
///         assert_eq!((key, message.payload()), (alarms, &b"two"[..]));
///     }
/// }
/// // At the end of its connection each subscription says so, and then the set is empty.
/// connection.close();
/// for (key, outcome) in &set {
///     println!("{key:?}: {}", outcome.unwrap_err());
/// }
/// assert!(set.is_empty());
/// # Ok(())
/// # }
/// # #[cfg(not(feature = "testing"))]
/// # fn main() {}
/// ```
#[must_use = "dropping it unsubscribes"]
pub struct SubscriptionSet {
    members: Mutex<Members>,
    ready: Arc<Ready>,
    #[cfg(feature = "crossbeam-channel")]
    signal: std::sync::OnceLock<Arc<Signal>>,
}

#[derive(Default)]
struct Members {
    next: u64,
    by_key: BTreeMap<SetKey, Subscription>,
}

/// The line of members that have something.
#[derive(Debug)]
struct Ready {
    line: Mutex<Line>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Line {
    waiting: VecDeque<Arc<MemberBell>>,
    /// How many members there are: without any, nobody waits.
    members: usize,
    /// Rings while something is in the line, or no member is left.
    bell: Option<Arc<dyn Bell>>,
}

impl Line {
    fn bell(&self) -> Option<Arc<dyn Bell>> {
        self.bell.clone().filter(|_| !self.waiting.is_empty() || self.members == 0)
    }
}

/// The bell of one member.
#[derive(Debug)]
struct MemberBell {
    key: SetKey,
    /// Whether the member is in the line.
    in_line: AtomicBool,
    /// Weak, because the line holds bells.
    ready: Weak<Ready>,
}

impl Bell for Arc<MemberBell> {
    fn ring(&self) {
        let Some(ready) = self.ready.upgrade() else { return };
        if !self.in_line.swap(true, Ordering::SeqCst) {
            ready.change(|line| line.waiting.push_back(Self::clone(self)));
            ready.changed.notify_one();
        }
    }
}

impl Ready {
    fn new() -> Self {
        Self { line: Mutex::new(Rank::Leaf, Line::default()), changed: Condvar::new() }
    }

    fn change(&self, change: impl FnOnce(&mut Line)) {
        let bell = {
            let mut line = self.line.lock();
            change(&mut line);
            line.bell()
        };
        if let Some(bell) = bell {
            bell.ring();
        }
    }

    /// The first of the line; waits until the deadline (`None`: until there is one, or no member is
    /// left).
    fn take(&self, deadline: Option<Instant>) -> Result<SetKey> {
        let mut line = self.line.lock();
        loop {
            if let Some(first) = line.waiting.pop_front() {
                drop(line);
                // From here on its queue may ring again: only then is the queue looked at.
                first.in_line.store(false, Ordering::SeqCst);
                return Ok(first.key);
            }
            if line.members == 0 {
                return Err(Error::new(ErrorKind::Closed, "the set has no subscription left"));
            }
            if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                return Err(Error::new(ErrorKind::Timeout, "no message by the deadline"));
            }
            self.changed.wait_until(&mut line, deadline);
        }
    }

    /// One member less; its place in the line is gone too.
    fn leave(&self, key: SetKey) {
        self.change(|line| {
            line.members = line.members.saturating_sub(1);
            line.waiting.retain(|bell| bell.key != key);
        });
        self.changed.notify_all();
    }
}

impl SubscriptionSet {
    /// An empty set.
    pub fn new() -> Self {
        Self {
            members: Mutex::new(Rank::Set, Members::default()),
            ready: Arc::new(Ready::new()),
            #[cfg(feature = "crossbeam-channel")]
            signal: std::sync::OnceLock::new(),
        }
    }

    /// Takes a subscription in, with the messages that wait for it already. Returns its key.
    pub fn add(&self, subscription: Subscription) -> SetKey {
        let mut members = self.members.lock();
        let key = SetKey(members.next);
        members.next += 1;
        self.ready.change(|line| line.members += 1);
        let ready = Arc::downgrade(&self.ready);
        let bell = Arc::new(MemberBell { key, in_line: AtomicBool::new(false), ready });
        subscription.attach(Arc::new(bell));
        members.by_key.insert(key, subscription);
        key
    }

    /// Gives a subscription back, with the messages that wait for it. Dropping it unsubscribes.
    /// None if the key's subscription is not in the set (any more).
    pub fn remove(&self, key: SetKey) -> Option<Subscription> {
        let subscription = self.members.lock().by_key.remove(&key)?;
        subscription.detach();
        self.ready.leave(key);
        Some(subscription)
    }

    /// A look at a subscription of the set: what waits, what was delivered and dropped. The view
    /// stays valid after the subscription has left the set.
    pub fn get(&self, key: SetKey) -> Option<ConsumerView> {
        self.members.lock().by_key.get(&key).map(Subscription::view)
    }

    /// The keys of all subscriptions of the set, in the order in which they were added.
    pub fn keys(&self) -> Vec<SetKey> {
        self.members.lock().by_key.keys().copied().collect()
    }

    /// How many subscriptions the set holds.
    pub fn len(&self) -> usize {
        self.members.lock().by_key.len()
    }

    /// Whether the set holds no subscription.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next message of any subscription, or what else came of one; see
    /// [`SubscriptionSet`].
    ///
    /// # Blocking
    ///
    /// Without a limit: until something comes, or the set is empty. Every subscription ends with
    /// its connection.
    ///
    /// # Errors
    ///
    /// [`Closed`](ErrorKind::Closed) if the set holds no subscription. The inner error belongs to
    /// one subscription, and is one of [`Subscription::next`].
    #[allow(clippy::should_implement_trait, reason = "as in Subscription; `iter` iterates")]
    pub fn next(&self) -> Result<(SetKey, Result<Message>)> {
        if sync::is_essential() {
            // In a callback that a connection waits for: a wait without an end would be for ever.
            let text = "a callback that a connection waits for cannot wait without a deadline";
            return self.try_next()?.ok_or_else(|| Error::new(ErrorKind::Misuse, text));
        }
        self.receive(None)
    }

    /// What is there, without waiting.
    ///
    /// # Errors
    ///
    /// Those of [`next`](Self::next).
    pub fn try_next(&self) -> Result<Option<(SetKey, Result<Message>)>> {
        match self.receive(Some(clock::now())) {
            Err(error) if error.is_timeout() => Ok(None),
            outcome => outcome.map(Some),
        }
    }

    /// Like [`next`](Self::next), for a time.
    ///
    /// # Blocking
    ///
    /// Up to `timeout`.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout), and those of [`next`](Self::next).
    pub fn next_timeout(&self, timeout: Duration) -> Result<(SetKey, Result<Message>)> {
        self.next_deadline(clock::after(timeout))
    }

    /// Like [`next`](Self::next), until a moment.
    ///
    /// # Blocking
    ///
    /// Until `deadline`.
    ///
    /// # Errors
    ///
    /// [`Timeout`](ErrorKind::Timeout), and those of [`next`](Self::next).
    pub fn next_deadline(&self, deadline: Instant) -> Result<(SetKey, Result<Message>)> {
        self.receive(Some(deadline))
    }

    /// Everything that comes, waiting for it, until the set is empty.
    pub fn iter(&self) -> SetIter<'_> {
        SetIter(self)
    }

    /// A receiver for `select!` that has a token whenever [`try_next`](Self::try_next) would give
    /// something, or the set is empty; see [`Subscription::ready`] for its rules. Needs the feature
    /// `crossbeam-channel`.
    #[cfg(feature = "crossbeam-channel")]
    pub fn ready(&self) -> &crossbeam_channel::Receiver<()> {
        let signal = self.signal.get_or_init(|| {
            let signal = Arc::new(Signal::new());
            let bell: Arc<dyn Bell> = Arc::<Signal>::clone(&signal);
            self.ready.change(|line| line.bell = Some(bell));
            signal
        });
        signal.receiver()
    }

    fn receive(&self, deadline: Option<Instant>) -> Result<(SetKey, Result<Message>)> {
        let outcome = self.take_turn(deadline);
        // More may wait behind what was taken: who waits at `ready` looks again.
        self.ready.change(|_| ());
        outcome
    }

    fn take_turn(&self, deadline: Option<Instant>) -> Result<(SetKey, Result<Message>)> {
        loop {
            let key = self.ready.take(deadline)?;
            let mut ended = None;
            let outcome = {
                let mut members = self.members.lock();
                // It may have been removed, or another reader may have taken what was there.
                let Some(subscription) = members.by_key.get(&key) else { continue };
                let Some(outcome) = subscription.try_next().transpose() else { continue };
                if outcome.as_ref().is_err_and(Error::is_closed) {
                    ended = members.by_key.remove(&key);
                }
                outcome
            };
            if let Some(subscription) = ended {
                subscription.detach();
                self.ready.leave(key);
            }
            return Ok((key, outcome));
        }
    }
}

impl Default for SubscriptionSet {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SubscriptionSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(&self.members.lock().by_key).finish()
    }
}

impl<'a> IntoIterator for &'a SubscriptionSet {
    type Item = (SetKey, Result<Message>);
    type IntoIter = SetIter<'a>;

    fn into_iter(self) -> SetIter<'a> {
        self.iter()
    }
}

/// Everything that comes; see [`SubscriptionSet::iter`]. After `None` it goes on where another
/// subscription is added.
#[derive(Debug)]
pub struct SetIter<'a>(&'a SubscriptionSet);

impl Iterator for SetIter<'_> {
    type Item = (SetKey, Result<Message>);

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(ready: &Arc<Ready>, key: u64) -> Arc<MemberBell> {
        ready.change(|line| line.members += 1);
        let ready = Arc::downgrade(ready);
        Arc::new(MemberBell { key: SetKey(key), in_line: AtomicBool::new(false), ready })
    }

    #[test]
    fn a_member_has_one_place_in_the_line_and_goes_to_its_end() {
        let ready = Arc::new(Ready::new());
        let (first, second) = (member(&ready, 1), member(&ready, 2));
        first.ring();
        first.ring();
        second.ring();
        let now = Some(Instant::now());
        assert_eq!(ready.take(now).expect("rung").0, 1);
        first.ring();
        assert_eq!(ready.take(now).expect("rung").0, 2);
        assert_eq!(ready.take(now).expect("rung again").0, 1);
        assert!(ready.take(now).expect_err("an empty line").is_timeout());
    }

    #[test]
    fn a_member_that_leaves_gives_up_its_place() {
        let ready = Arc::new(Ready::new());
        let (first, second) = (member(&ready, 1), member(&ready, 2));
        first.ring();
        second.ring();
        ready.leave(first.key);
        assert_eq!(ready.take(None).expect("rung").0, 2);
        ready.leave(second.key);
        assert!(ready.take(None).expect_err("nobody is left").is_closed());
    }
}
