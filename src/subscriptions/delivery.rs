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

/// Hands out messages, in order, until the mailbox ends; returns after the current message if it
/// was cut short. `handle` gives back whose message it was; `last` is called for a subscription
/// that has ended, after each further message of it.
pub(crate) fn deliver(
    inbox: &Inbox,
    mut handle: impl FnMut(Item) -> Arc<Subscriber>,
    mut last: impl FnMut(&Arc<Subscriber>),
) {
    let _delivered = Delivered(inbox);
    let mut batch = VecDeque::new();
    while inbox.take_all(&mut batch) {
        while let Some(item) = batch.pop_front() {
            if inbox.is_cut_short() {
                release([item]);
                release(batch.drain(..));
                return;
            }
            // Unsubscribing one subject of a dispatcher drops what waits for it.
            let subscriber = if item.subscriber.take_in_hand() {
                assert_unlocked("running a handler");
                handle(item)
            } else {
                let subscriber = Arc::clone(&item.subscriber);
                release([item]);
                subscriber
            };
            if subscriber.put_down() {
                last(&subscriber);
            }
        }
    }
}
