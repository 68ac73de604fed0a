//! What a dispatcher's thread does: take messages from a mailbox and hand them to a closure.
//!
//! Runs on the dispatcher's own thread and holds no lock while the closure runs. The closure
//! catches panics itself; here nothing can tell whose they are.

use std::collections::VecDeque;

use super::subscriber::{Inbox, Item, Subscriber, release};
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

    /// A message of the run, the first of the items, is taken out and handled.
    fn handle(&mut self, subscriber: &Arc<Subscriber>, size: u64, items: &mut VecDeque<Item>);

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
        // Looked at where it lies: a message that is moved about costs more than the rest of this.
        while let Some(item) = batch.front_mut() {
            if let Some(next) = item.subscriber.take() {
                if let Some(past) = run.take() {
                    finish(&past, work);
                }
                next.take_in_hand();
                work.begin(&next);
                run = Some(next);
            }
            let size = item.message.size() as u64;
            // A batch begins with a name: a barrier stands between two reads only.
            let Some(subscriber) = &run else {
                batch.pop_front();
                continue;
            };
            if inbox.is_cut_short() {
                release(Some(subscriber), batch.drain(..));
                break;
            }
            // Unsubscribing one subject of a dispatcher drops what waits for it.
            if subscriber.is_wanted() {
                assert_unlocked("running a handler");
                work.handle(subscriber, size, &mut batch);
            } else {
                batch.pop_front();
                subscriber.release(size);
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
