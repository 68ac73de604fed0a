//! sid to subscription.
//!
//! Any thread subscribes and unsubscribes; the reader thread looks up and, after a reconnect,
//! announces everything. What must be sent is encoded into a closure's buffer *while the lock is
//! held*, so that the order of SUB and UNSUB lines on the wire is the order of the changes here,
//! and so that each subscription is announced exactly once on each connection: either by
//! [`Registry::announce_all`] or by the call that inserted it, never by both.
//!
//! Lock order: Registry → Outbox (through the closure), Registry → the table of a dispatcher.

use std::collections::BTreeMap;

use super::consumer::{ConsumerStatus, EndReason};
use super::spares::Spares;
use super::subscriber::{Inbox, Item, Subscriber};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::{encode_subscribe, encode_unsubscribe};
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{Arc, Mutex, Rank};

/// All live subscriptions of a connection.
#[derive(Debug)]
pub(crate) struct Registry {
    state: Mutex<State>,
    /// Changes whenever a subscription leaves: whoever keeps a copy of a part looks here first.
    version: AtomicU64,
    /// Changes whenever a subscription is given an end; see `take_limited`.
    limits: AtomicU64,
    spares: Arc<Spares<Item>>,
}

/// At most so many sids that have left are remembered, or as many as there are.
const MOST_REMOVED: usize = 4096;

#[derive(Debug)]
struct State {
    /// In the order of the sids, which is the order in which they are announced.
    live: BTreeMap<u64, Arc<Subscriber>>,
    next_sid: u64,
    /// What has left since the reader last asked; none stands for everything.
    removed: Option<Vec<u64>>,
    /// What was given an end since the reader last asked.
    limited: BTreeMap<u64, Arc<Subscriber>>,
    /// Whether a server knows the subscriptions: what changes must be sent.
    announced: bool,
    /// The connection drains: nothing new is let in.
    draining: bool,
    ended: Option<EndReason>,
}

impl Registry {
    pub(crate) fn new() -> Self {
        let state = State {
            live: BTreeMap::new(),
            next_sid: 1,
            removed: None,
            limited: BTreeMap::new(),
            announced: false,
            draining: false,
            ended: None,
        };
        let (version, limits) = (AtomicU64::new(1), AtomicU64::new(1));
        let spares = Arc::default();
        Self { state: Mutex::new(Rank::Registry, state), version, limits, spares }
    }

    /// A queue for subscriptions that are to be inserted.
    pub(crate) fn inbox(&self) -> Arc<Inbox> {
        Arc::new(Inbox::new(&self.spares))
    }

    /// The space of the queues that were emptied.
    pub(super) fn spares(&self) -> &Arc<Spares<Item>> {
        &self.spares
    }

    /// Adds a subscription; `registered` sees it before any message can arrive for it, and `send`
    /// gets the SUB line if a server must be told.
    pub(crate) fn insert(
        &self,
        make: impl FnOnce(u64) -> Subscriber,
        registered: impl FnOnce(&Arc<Subscriber>),
        send: impl FnOnce(&[u8]),
    ) -> Result<Arc<Subscriber>> {
        let mut state = self.state.lock();
        if let Some(end) = &state.ended {
            return Err(end.error());
        }
        if state.draining {
            return Err(Error::new(ErrorKind::Draining, "the connection is draining"));
        }
        let sid = state.next_sid;
        state.next_sid += 1;
        let subscriber = Arc::new(make(sid));
        registered(&subscriber);
        if state.announced {
            let mut line = Vec::with_capacity(64);
            encode_subscribe(&mut line, subscriber.subject(), subscriber.queue(), sid);
            send(&line);
        }
        state.live.insert(sid, Arc::clone(&subscriber));
        Ok(subscriber)
    }

    /// Takes a subscription out; `send` gets the UNSUB line if a server must be told. Returns
    /// whether it was there.
    pub(crate) fn remove(&self, sid: u64, send: impl FnOnce(&[u8])) -> bool {
        let mut state = self.state.lock();
        let Some(subscriber) = state.live.remove(&sid) else { return false };
        state.limited.remove(&sid);
        let most = MOST_REMOVED.max(state.live.len());
        match &mut state.removed {
            Some(removed) if removed.len() < most => removed.push(sid),
            removed => *removed = None,
        }
        self.version.fetch_add(1, Ordering::Release);
        // A draining subscription was unsubscribed at the server when the drain began; a complete
        // one was unsubscribed by the server itself.
        let known = subscriber.status() == ConsumerStatus::Active && !subscriber.is_complete();
        subscriber.set_ended();
        if state.announced && known {
            send_unsubscribe(sid, None, send);
        }
        true
    }

    /// Lets a subscription end after `max` messages, counted from its beginning. Returns whether it
    /// is complete already.
    pub(crate) fn set_max(
        &self,
        subscriber: &Subscriber,
        max: u64,
        send: impl FnOnce(&[u8]),
    ) -> bool {
        let mut state = self.state.lock();
        subscriber.set_max(max);
        let live = state.live.get(&subscriber.sid()).cloned();
        if let Some(live) = &live {
            state.limited.insert(live.sid(), Arc::clone(live));
            self.limits.fetch_add(1, Ordering::SeqCst);
            fence(Ordering::SeqCst);
        }
        let live = live.is_some();
        if live && state.announced && subscriber.status() == ConsumerStatus::Active {
            // The server counts from the SUB that it knows, which after a reconnect is not the
            // first.
            send_unsubscribe(subscriber.sid(), subscriber.server_max(), send);
        }
        live && subscriber.is_complete()
    }

    /// Lets nothing new in: the connection drains.
    pub(crate) fn refuse_new(&self) {
        self.state.lock().draining = true;
    }

    /// Marks a subscription as draining and unsubscribes it at the server. Returns whether it was
    /// active until now.
    pub(crate) fn start_draining(&self, sid: u64, send: impl FnOnce(&[u8])) -> bool {
        let state = self.state.lock();
        let Some(subscriber) = state.live.get(&sid) else { return false };
        if subscriber.status() != ConsumerStatus::Active {
            return false;
        }
        subscriber.set_draining();
        if state.announced {
            send_unsubscribe(sid, None, send);
        }
        true
    }

    pub(crate) fn find(&self, sid: u64) -> Option<Arc<Subscriber>> {
        self.state.lock().live.get(&sid).cloned()
    }

    /// Every live subscription that `wanted` says yes to.
    pub(crate) fn select(&self, wanted: impl Fn(&Subscriber) -> bool) -> Vec<Arc<Subscriber>> {
        let state = self.state.lock();
        state.live.values().filter(|subscriber| wanted(subscriber)).cloned().collect()
    }

    /// Writes the SUB lines of all live subscriptions, each followed by what is left of its number
    /// of messages; from now on changes are sent. Returns how many there are.
    pub(crate) fn announce_all(&self, out: &mut Vec<u8>) -> usize {
        let mut state = self.state.lock();
        state.announced = true;
        let mut count = 0;
        for (sid, subscriber) in &state.live {
            // A draining subscription has what it will get: nothing more may come.
            if subscriber.status() != ConsumerStatus::Active || subscriber.is_complete() {
                continue;
            }
            encode_subscribe(out, subscriber.subject(), subscriber.queue(), *sid);
            if let Some(remaining) = subscriber.announce() {
                encode_unsubscribe(out, *sid, Some(remaining));
            }
            count += 1;
        }
        count
    }

    /// No server knows the subscriptions any more.
    pub(crate) fn forget_announced(&self) {
        self.state.lock().announced = false;
    }

    /// Takes all out, and lets no more in.
    pub(crate) fn end_all(&self, end: EndReason) -> Vec<Arc<Subscriber>> {
        let mut state = self.state.lock();
        state.announced = false;
        state.ended.get_or_insert(end);
        state.removed = None;
        state.limited.clear();
        self.version.fetch_add(1, Ordering::Release);
        let all: Vec<_> = std::mem::take(&mut state.live).into_values().collect();
        for subscriber in &all {
            subscriber.set_ended();
        }
        all
    }

    pub(crate) fn len(&self) -> usize {
        self.state.lock().live.len()
    }

    /// What has left since the last call, none if that is everything, and the version that this
    /// leads to. For the reader alone.
    pub(crate) fn take_removed(&self) -> (u64, Option<Vec<u64>>) {
        let mut state = self.state.lock();
        (self.version(), state.removed.replace(Vec::new()))
    }

    /// What was given an end since the last call, if anything was; for the reader alone, which
    /// calls it after it has counted, and keeps `seen`. The reader counts without waiting for
    /// anybody to see it: whoever sets an end may miss the message with which it is reached, but
    /// then the reader finds the subscription here.
    pub(crate) fn take_limited(&self, seen: &mut u64) -> BTreeMap<u64, Arc<Subscriber>> {
        fence(Ordering::SeqCst);
        let limits = self.limits.load(Ordering::SeqCst);
        if *seen == limits {
            return BTreeMap::new();
        }
        *seen = limits;
        std::mem::take(&mut self.state.lock().limited)
    }

    pub(crate) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }
}

fn send_unsubscribe(sid: u64, max: Option<u64>, send: impl FnOnce(&[u8])) {
    let mut line = Vec::with_capacity(32);
    encode_unsubscribe(&mut line, sid, max);
    send(&line);
}

#[cfg(test)]
mod tests {
    use super::super::consumer::PendingLimits;
    use super::super::subscriber::Target;
    use super::*;

    fn add(registry: &Registry, subject: &str, sent: &mut Vec<u8>) -> Arc<Subscriber> {
        let make = |sid| {
            let limits = PendingLimits::default();
            Subscriber::new(sid, subject.to_owned(), None, Target::Requests, limits)
        };
        registry.insert(make, |_| (), |line| sent.extend_from_slice(line)).expect("open")
    }

    #[test]
    fn each_subscription_is_announced_once_with_what_is_left_of_its_number() {
        let registry = Registry::new();
        let mut sent = Vec::new();
        let first = add(&registry, "a", &mut sent);
        let second = add(&registry, "b", &mut sent);
        assert!(sent.is_empty(), "no server knows anything yet");
        assert!(!registry.set_max(&first, 3, |_| panic!("not announced")));
        let _ = first.admit(1);
        registry.start_draining(second.sid(), |_| panic!("not announced"));
        assert_eq!(registry.announce_all(&mut sent), 1);
        assert_eq!(sent, b"SUB a 1\r\nUNSUB 1 2\r\n");
        sent.clear();
        add(&registry, "c", &mut sent);
        assert!(registry.remove(1, |line| sent.extend_from_slice(line)));
        assert!(registry.remove(2, |_| panic!("its UNSUB went with the drain")));
        assert_eq!(sent, b"SUB c 3\r\nUNSUB 1\r\n");
    }

    #[test]
    fn the_server_is_told_a_number_that_counts_from_its_own_first_message() {
        let registry = Registry::new();
        let mut sent = Vec::new();
        let many = add(&registry, "a", &mut sent);
        registry.announce_all(&mut Vec::new());
        for _ in 0..5 {
            let _ = many.admit(1);
        }
        assert!(!registry.set_max(&many, 10, |line| sent.extend_from_slice(line)));
        assert_eq!(sent, b"UNSUB 1 10\r\n");
        sent.clear();
        registry.announce_all(&mut sent);
        assert_eq!(sent, b"SUB a 1\r\nUNSUB 1 5\r\n");
        sent.clear();
        assert!(!registry.set_max(&many, 7, |line| sent.extend_from_slice(line)));
        assert_eq!(sent, b"UNSUB 1 2\r\n");
    }

    #[test]
    fn a_number_already_reached_ends_the_subscription_at_once() {
        let registry = Registry::new();
        let mut sent = Vec::new();
        let few = add(&registry, "a", &mut sent);
        registry.announce_all(&mut Vec::new());
        let _ = few.admit(1);
        let _ = few.admit(1);
        assert!(registry.set_max(&few, 2, |line| sent.extend_from_slice(line)));
        assert_eq!(sent, b"UNSUB 1\r\n");
    }

    #[test]
    fn a_number_set_later_is_sent_as_the_server_in_use_counts() {
        let registry = Registry::new();
        let mut sent = Vec::new();
        let few = add(&registry, "a", &mut sent);
        registry.announce_all(&mut Vec::new());
        let _ = few.admit(1);
        assert!(!registry.set_max(&few, 5, |line| sent.extend_from_slice(line)));
        registry.forget_announced();
        registry.announce_all(&mut sent);
        let _ = few.admit(1);
        assert!(!registry.set_max(&few, 4, |line| sent.extend_from_slice(line)));
        assert_eq!(sent, b"UNSUB 1 5\r\nSUB a 1\r\nUNSUB 1 4\r\nUNSUB 1 3\r\n");
    }

    #[test]
    fn nothing_is_let_in_after_the_end() {
        let registry = Registry::new();
        add(&registry, "a", &mut Vec::new());
        assert_eq!(registry.end_all(EndReason::Closed(None)).len(), 1);
        let make = |_| panic!("nothing is made");
        assert!(registry.insert(make, |_| (), |_| ()).expect_err("closed").is_closed());
    }
}
