//! What a dispatcher's thread does: it calls the handlers, one run of messages after the other.

use super::table::{Handler, Shared};
use crate::connection::Connection;
use crate::core::Core;
use crate::error::{Error, ErrorKind};
use crate::protocol::Message;
use crate::subscriptions::{Consumer, ConsumerStatus, EndReason, First, Subscriber, Work, deliver};
use crate::sync::{Arc, guarded};

/// The body of a dispatcher's thread.
pub(super) fn run(core: &Arc<Core>, shared: &Shared, default: impl FnMut(&Connection, Message)) {
    let connection = Connection::lend(core);
    let mut hands = Hands { core, shared, connection, default, own: None };
    deliver(&shared.mailbox, &mut hands);
    // No handler runs any more, whatever may still be on its way to this queue.
    for subscriber in shared.subscribers() {
        if subscriber.status() != ConsumerStatus::Ended {
            // It was added while the queue ended, behind the look at what is to be ended.
            let end = shared.mailbox.ended().unwrap_or(EndReason::Closed(None));
            core.end_subscription(&subscriber, end);
        }
        core.finish_subscription(&subscriber);
    }
    // Handlers are dropped here, on the thread on which they ran, with no lock held.
    guarded(|| drop(shared.take_out(|_| true)));
}

/// What a dispatcher's thread works with.
struct Hands<'a, F> {
    core: &'a Arc<Core>,
    shared: &'a Shared,
    connection: Connection,
    default: F,
    /// The own handler of the subscription whose messages are handled now.
    own: Option<Handler>,
}

impl<F: FnMut(&Connection, Message)> Work for Hands<'_, F> {
    fn begin(&mut self, subscriber: &Arc<Subscriber>) {
        // Before a message is handed out: once nothing waits, an ended entry may be swept.
        self.own = self.shared.take_handler(subscriber.sid());
    }

    #[inline(always)]
    fn handle(&mut self, subscriber: &Arc<Subscriber>, size: u64, first: First<'_>) {
        subscriber.hand_out(size);
        if subscriber.try_recover() {
            self.core.tell_recovered(subscriber);
        }
        let Self { connection, default, own, .. } = self;
        let fine = guarded(|| {
            let message = first.take();
            match own {
                None => default(connection, message),
                Some(handler) => handler(connection, message),
            }
        });
        if !fine {
            self.panicked(subscriber);
        }
    }

    fn end(&mut self, subscriber: &Arc<Subscriber>, ended: bool) {
        if let Some(handler) = self.own.take() {
            self.shared.return_handler(subscriber.sid(), handler);
        }
        // The last message may have been handed out while the notice of a slow episode was queued.
        if subscriber.try_recover() {
            self.core.tell_recovered(subscriber);
        }
        // The reader may not have come to it yet.
        if !ended && subscriber.is_complete() && subscriber.pending_messages() == 0 {
            self.core.end_subscription(subscriber, EndReason::Completed);
        }
        // Looked at again: whoever ended it meanwhile found the handler out of its place.
        if subscriber.status() == ConsumerStatus::Ended {
            self.core.settle(subscriber);
            if subscriber.is_finished() && !guarded(|| self.shared.retire(subscriber.sid())) {
                self.panicked(subscriber);
            }
        }
    }
}

impl<F> Hands<'_, F> {
    #[cold]
    fn panicked(&self, subscriber: &Subscriber) {
        self.core.counters.panics.add(1);
        let (subject, sid) = (subscriber.subject(), subscriber.sid());
        let text = format!("a handler of '{subject}' (sid {sid}) panicked");
        self.core.exception(Error::new(ErrorKind::UserPanic, text));
    }
}
