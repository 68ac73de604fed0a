//! The subscriptions of a dispatcher, with their handlers.
//!
//! Any thread adds, removes and looks; the dispatcher's own takes a handler out for as long as a
//! run of its messages is handled, so no lock is held then. A handler is dropped by whoever takes
//! its entry out, with the table unlocked: it is the program's code.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::connection::Connection;
use crate::protocol::Message;
use crate::subscriptions::{Consumer, ConsumerStatus, Inbox, PendingLimits, Subscriber};
use crate::sync::{Arc, Mutex, Rank};

pub(super) type Handler = Box<dyn FnMut(&Connection, Message) + Send>;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) number: u64,
    pub(super) mailbox: Arc<Inbox>,
    /// By sid; looked at once a run. Few programs give each dispatcher more than a few.
    pub(super) table: Mutex<BTreeMap<u64, Entry>>,
    /// Subscriptions with a handler of their own; without any the table is not looked at.
    pub(super) own_handlers: AtomicUsize,
    pub(super) limits: Mutex<PendingLimits>,
    /// The size of the table from which on it is looked through for subscriptions that have ended.
    pub(super) sweep_at: AtomicUsize,
    /// Counts of subscriptions that have left the table; they change with the table locked.
    pub(super) past_delivered: AtomicU64,
    pub(super) past_dropped: AtomicU64,
}

pub(super) struct Entry {
    pub(super) subscriber: Arc<Subscriber>,
    /// None: the dispatcher's handler. `Some(None)`: its own, running now.
    pub(super) handler: Option<Option<Handler>>,
}

impl Entry {
    /// Whether it has ended, has nothing left to hand out, and does not run.
    fn is_over(&self) -> bool {
        self.subscriber.status() == ConsumerStatus::Ended
            && self.subscriber.pending_messages() == 0
            && !matches!(self.handler, Some(None))
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.subscriber.fmt(f)
    }
}

/// A table smaller than this is not looked through when a subscription is added.
const SWEEP_LEAST: usize = 64;

/// The number of the next dispatcher of this process.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

impl Shared {
    pub(super) fn new(mailbox: Arc<Inbox>, limits: PendingLimits) -> Self {
        Self {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            mailbox,
            table: Mutex::new(Rank::Leaf, BTreeMap::new()),
            own_handlers: AtomicUsize::new(0),
            sweep_at: AtomicUsize::new(SWEEP_LEAST),
            limits: Mutex::new(Rank::Leaf, limits),
            past_delivered: AtomicU64::new(0),
            past_dropped: AtomicU64::new(0),
        }
    }

    pub(super) fn take_handler(&self, sid: u64) -> Option<Handler> {
        if self.own_handlers.load(Ordering::Acquire) == 0 {
            return None;
        }
        self.table.lock().get_mut(&sid)?.handler.as_mut()?.take()
    }

    /// Its place is there: one whose handler runs is not swept.
    pub(super) fn return_handler(&self, sid: u64, handler: Handler) {
        let unused = {
            let mut table = self.table.lock();
            match table.get_mut(&sid).and_then(|entry| entry.handler.as_mut()) {
                Some(place) => place.replace(handler),
                None => Some(handler),
            }
        };
        drop(unused);
    }

    /// Drops the own handler, which may hold much, of a subscription whose end has been told:
    /// nothing of it is handled any more. What else is known of it stays to be looked at.
    pub(super) fn retire(&self, sid: u64) {
        let handler = {
            let mut table = self.table.lock();
            let handler = table.get_mut(&sid).map(|entry| &mut entry.handler);
            match handler {
                Some(own @ Some(Some(_))) => {
                    self.own_handlers.fetch_sub(1, Ordering::AcqRel);
                    own.take()
                }
                _ => None,
            }
        };
        drop(handler);
    }

    pub(super) fn subscribers(&self) -> Vec<Arc<Subscriber>> {
        let table = self.table.lock();
        table.values().map(|entry| Arc::clone(&entry.subscriber)).collect()
    }

    /// Forgets subscriptions that have ended and have nothing left to hand out. The whole table is
    /// looked through only when it has doubled: adding many costs the same for each.
    pub(super) fn sweep_if_grown(&self) {
        if self.table.lock().len() < self.sweep_at.load(Ordering::Relaxed) {
            return;
        }
        drop(self.take_out(Entry::is_over));
        let left = self.table.lock().len();
        self.sweep_at.store(SWEEP_LEAST.max(2 * left), Ordering::Relaxed);
    }

    /// Forgets one subscription if it is over.
    pub(super) fn sweep_one(&self, sid: u64) {
        let gone = {
            let mut table = self.table.lock();
            let over = table.get(&sid).is_some_and(Entry::is_over);
            if over { self.remove(&mut table, sid) } else { None }
        };
        drop(gone);
    }

    /// Takes entries out of the table and keeps their counts. The caller drops them, and with them
    /// the program's handlers, with no lock held.
    pub(super) fn take_out(&self, over: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let mut table = self.table.lock();
        let sids: Vec<u64> =
            table.iter().filter(|(_, entry)| over(entry)).map(|(sid, _)| *sid).collect();
        sids.into_iter().filter_map(|sid| self.remove(&mut table, sid)).collect()
    }

    fn remove(&self, table: &mut BTreeMap<u64, Entry>, sid: u64) -> Option<Entry> {
        let entry = table.remove(&sid)?;
        self.past_delivered.fetch_add(entry.subscriber.delivered(), Ordering::Relaxed);
        self.past_dropped.fetch_add(entry.subscriber.dropped(), Ordering::Relaxed);
        if entry.handler.is_some() {
            self.own_handlers.fetch_sub(1, Ordering::AcqRel);
        }
        Some(entry)
    }

    /// A count over all subscriptions, with `past` for those that have left the table.
    pub(super) fn count(&self, past: &AtomicU64, what: impl Fn(&Subscriber) -> u64) -> u64 {
        let table = self.table.lock();
        let present: u64 = table.values().map(|entry| what(&entry.subscriber)).sum();
        present + past.load(Ordering::Relaxed)
    }
}
