//! What a dispatcher's thread does: take messages from a mailbox and hand them to a closure.
//!
//! Runs on the dispatcher's own thread and holds no lock while the closure runs. The closure
//! catches panics itself; here nothing can tell whose they are.

use std::collections::VecDeque;

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

/// What is done with the messages of a dispatcher's queue, run by run: a run is what follows each
/// other of one subscription.
pub(crate) trait Work {
    /// A run begins.
    fn begin(&mut self, subscriber: &Arc<Subscriber>);

    /// A message of the run.
    fn handle(&mut self, subscriber: &Arc<Subscriber>, message: Message);

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
        let mut items = batch.drain(..);
        while let Some(Item { subscriber, message }) = items.next() {
            if let Some(next) = subscriber {
                if let Some(past) = run.take() {
                    finish(&past, work);
                }
                next.take_in_hand();
                work.begin(&next);
                run = Some(next);
            }
            // A batch begins with a name: a barrier stands between two reads only.
            let Some(subscriber) = &run else { continue };
            if inbox.is_cut_short() {
                subscriber.release(message.size() as u64);
                release(Some(subscriber), items);
                break;
            }
            // Unsubscribing one subject of a dispatcher drops what waits for it.
            if subscriber.is_wanted() {
                assert_unlocked("running a handler");
                work.handle(subscriber, message);
            } else {
                subscriber.release(message.size() as u64);
            }
        }
        if let Some(past) = run {
            finish(&past, work);
        }
    }
}

fn finish(subscriber: &Arc<Subscriber>, work: &mut impl Work) {
    let ended = subscriber.put_down();
    work.end(subscriber, ended);
}
