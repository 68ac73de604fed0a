//! The reader's way from a sid to a mailbox, without a lock for each message.
//!
//! A [`Router`] belongs to the reader thread. It keeps a copy of the part of the registry that is
//! in use, dropped whenever a subscription leaves, and collects the messages of one read by
//! mailbox, so that each mailbox is locked and its consumer woken once for all of them.
//!
//! `flush` must be called before the reader waits for more bytes.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::registry::Registry;
use super::subscriber::{Admission, Inbox, Item, Subscriber, Target, deposit};
use crate::protocol::Message;
use crate::sync::Arc;

/// What became of a message.
#[derive(Debug)]
pub(crate) enum Routed {
    /// It waits for its consumer, or nobody wants it any more.
    Done,
    /// It is a reply; the caller answers the request.
    Reply(Message),
    /// It was dropped, the first of an episode: the caller reports it.
    Slow(Arc<Subscriber>),
    /// It was dropped, and not the first.
    Dropped,
    /// It was the last that this subscription asked for: the caller flushes, then ends it.
    Last {
        subscriber: Arc<Subscriber>,
        dropped: bool,
        /// It was dropped, the first of an episode.
        slow: bool,
    },
}

/// From sid to mailbox.
#[derive(Debug)]
pub(crate) struct Router {
    version: u64,
    routes: HashMap<u64, Route, BuildHasherDefault<SidHasher>>,
    stages: Vec<Stage>,
    /// The stage of each mailbox, by the mailbox's address.
    by_mailbox: HashMap<usize, usize>,
    /// The stages that hold messages.
    filled: Vec<usize>,
}

/// Spreads sids, which this client gives out in order: a server that sends others finds no route,
/// so none of its choosing is ever a key.
#[derive(Debug, Default)]
struct SidHasher(u64);

impl Hasher for SidHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, sid: u64) {
        // An odd factor near the golden ratio of 2^64; its high bits go where tables look first.
        self.0 = (self.0 ^ sid).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[derive(Debug)]
struct Route {
    subscriber: Arc<Subscriber>,
    /// The index of its mailbox's stage; none for replies.
    stage: Option<usize>,
}

#[derive(Debug)]
struct Stage {
    mailbox: Arc<Inbox>,
    items: Vec<Item>,
}

/// The capacity that a stage keeps between two reads.
const STAGE_KEEP: usize = 1024;

impl Drop for Router {
    /// However the reader ends, what was collected reaches its consumers.
    fn drop(&mut self) {
        self.flush();
    }
}

impl Router {
    pub(crate) fn new() -> Self {
        Self {
            version: 0,
            routes: HashMap::default(),
            stages: Vec::new(),
            by_mailbox: HashMap::new(),
            filled: Vec::new(),
        }
    }

    /// Finds the consumer of a message and puts the message into its stage.
    pub(crate) fn route(&mut self, registry: &Registry, sid: u64, message: Message) -> Routed {
        let version = registry.version();
        if version != self.version {
            self.flush();
            self.routes.clear();
            self.stages.clear();
            self.by_mailbox.clear();
            self.version = version;
        }
        if !self.routes.contains_key(&sid) && !self.learn(registry, sid) {
            return Routed::Done;
        }
        let Some(route) = self.routes.get(&sid) else { return Routed::Done };
        let subscriber = &route.subscriber;
        let stage = route.stage.and_then(|index| Some((index, self.stages.get_mut(index)?)));
        let Some((index, stage)) = stage else { return Routed::Reply(message) };
        match subscriber.admit(message.size() as u64) {
            Admission::Ignore => Routed::Done,
            Admission::Take => {
                if stage.items.is_empty() {
                    self.filled.push(index);
                }
                stage.items.push(Item { subscriber: Arc::clone(subscriber), message });
                if subscriber.is_complete() {
                    Routed::Last { subscriber: Arc::clone(subscriber), dropped: false, slow: false }
                } else {
                    Routed::Done
                }
            }
            Admission::Drop { first } if subscriber.is_complete() => {
                Routed::Last { subscriber: Arc::clone(subscriber), dropped: true, slow: first }
            }
            Admission::Drop { first: true } => Routed::Slow(Arc::clone(subscriber)),
            Admission::Drop { first: false } => Routed::Dropped,
        }
    }

    /// Gives every mailbox what was collected for it.
    pub(crate) fn flush(&mut self) {
        for index in self.filled.drain(..) {
            if let Some(stage) = self.stages.get_mut(index) {
                deposit(&stage.mailbox, &mut stage.items);
                if stage.items.capacity() > STAGE_KEEP {
                    stage.items = Vec::new();
                }
            }
        }
    }

    fn learn(&mut self, registry: &Registry, sid: u64) -> bool {
        let Some(subscriber) = registry.find(sid) else { return false };
        let stage = match subscriber.target() {
            Target::Requests => None,
            Target::Pull(mailbox) | Target::Dispatch(mailbox) => {
                // The stage holds the mailbox, so its address is not used again meanwhile.
                let address = Arc::as_ptr(mailbox) as usize;
                let index = *self.by_mailbox.entry(address).or_insert_with(|| {
                    let mailbox = Arc::clone(mailbox);
                    self.stages.push(Stage { mailbox, items: Vec::new() });
                    self.stages.len() - 1
                });
                Some(index)
            }
        };
        self.routes.insert(sid, Route { subscriber, stage });
        true
    }
}
