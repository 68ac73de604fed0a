//! What a dispatcher's thread does: take messages from its queue and hand them to a [`Work`].
//!
//! Runs on the dispatcher's own thread and holds no lock while the work is done. The work catches
//! the panics of handlers itself; here nothing can tell whose they are.
//!
//! Invariants: what is taken at once begins with a name, so each message has a subscription, on
//! whose counts it is handed out or thrown away.

use std::collections::VecDeque;
use std::mem;

use super::subscriber::{Inbox, Item, Subscriber, release};
use crate::protocol::Message;
use crate::sync::{Arc, assert_unlocked};

/// Tells the queue that its thread is done, however it ends.
struct Delivered<'a>(&'a Inbox);

impl Drop for Delivered<'_> {
    fn drop(&mut self) {
        self.0.mark_delivered();
    }
}

/// The message that comes next, where it lies: one that is moved about costs more than the rest of
/// what is done for it.
pub(crate) struct First<'a>(&'a mut Message);

impl First<'_> {
    /// Takes it out.
    #[inline(always)]
    pub(crate) fn take(self) -> Message {
        mem::replace(self.0, Message::NOTHING)
    }
}

/// What is done with the messages of a dispatcher's queue, run by run: a run is what follows each
/// other of one subscription.
pub(crate) trait Work {
    /// A run begins.
    fn begin(&mut self, subscriber: &Arc<Subscriber>);

    /// A message of the run, of that size, is taken out and handled.
    fn handle(&mut self, subscriber: &Arc<Subscriber>, size: u64, first: First<'_>);

    /// The run is over; whether the subscription has ended.
    fn end(&mut self, subscriber: &Arc<Subscriber>, ended: bool);
}

/// Hands out messages, in order, until the mailbox ends; returns after the current message if it
/// was cut short.
pub(crate) fn deliver(inbox: &Inbox, work: &mut impl Work) {
    let _delivered = Delivered(inbox);
    let mut batch = VecDeque::new();
    while inbox.take_all(&mut batch) {
        let mut run: Option<Arc<Subscriber>> = None;
        let mut items = batch.iter_mut();
        while let Some(item) = items.next() {
            if let Some(next) = item.subscriber.take() {
                if let Some(past) = run.take() {
                    finish(&past, work);
                }
                next.take_in_hand();
                work.begin(&next);
                run = Some(next);
            }
            let size = item.message.size() as u64;
            let Some(subscriber) = &run else {
                // Each read begins with a name, and a barrier stands between two reads only.
                debug_assert!(false, "a message without a name, and none before it");
                continue;
            };
            if inbox.is_cut_short() {
                subscriber.release(size);
                release(Some(subscriber), items.map(|item| mem::replace(item, Item::NOTHING)));
                break;
            }
            // Unsubscribing one subject of a dispatcher drops what waits for it.
            if subscriber.is_wanted() {
                assert_unlocked("running a handler");
                work.handle(subscriber, size, First(&mut item.message));
            } else {
                item.message = Message::NOTHING;
                subscriber.release(size);
            }
        }
        batch.clear();
        if let Some(past) = run {
            finish(&past, work);
        }
    }
}

fn finish(subscriber: &Arc<Subscriber>, work: &mut impl Work) {
    let ended = subscriber.put_down();
    work.end(subscriber, ended);
}
