//! The queue of messages between the reader and one consumer.
//!
//! The reader pushes what one read brought in one locked step and wakes at most one waiter. A pull
//! subscription pops one by one, from any number of threads; a dispatcher's thread takes all there
//! is. Limits are not here but in `consumer.rs`: a mailbox takes what it is given.
//!
//! Invariants: after `end` nothing is added; what is there is handed out unless `end` threw it away;
//! every waiter is woken by `end`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::consumer::{End, Subscriber};
use crate::protocol::Message;
use crate::server_error::ServerError;
use crate::sync::{Arc, Condvar, Mutex, Rank};

/// A message and whose it is.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) subscriber: Arc<Subscriber>,
    pub(crate) message: Message,
}

/// Why there is no message.
#[derive(Debug)]
pub(crate) enum Empty {
    /// The deadline passed.
    Timeout,
    /// The server refused the subscription; said once.
    Refused(ServerError),
    Ended(End),
}

/// The queue of one consumer.
#[derive(Debug)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
    arrived: Condvar,
    /// Set with `State::end`, readable without the lock between two messages of a batch.
    cut_short: AtomicBool,
}

#[derive(Debug)]
struct State {
    items: VecDeque<Item>,
    waiting: usize,
    refused: Option<ServerError>,
    end: Option<End>,
    /// The dispatcher's thread has handed out everything and is done.
    delivered: bool,
}

impl Mailbox {
    pub(crate) fn new() -> Self {
        let state = State {
            items: VecDeque::new(),
            waiting: 0,
            refused: None,
            end: None,
            delivered: false,
        };
        Self {
            state: Mutex::new(Rank::Mailbox, state),
            arrived: Condvar::new(),
            cut_short: AtomicBool::new(false),
        }
    }

    /// Adds messages, in order, and leaves the vector empty. After the end they are released.
    pub(crate) fn push_all(&self, items: &mut Vec<Item>) {
        let mut state = self.state.lock();
        if state.end.is_some() {
            drop(state);
            release(items.drain(..));
            return;
        }
        let several = items.len() > 1;
        state.items.extend(items.drain(..));
        let waiting = state.waiting;
        drop(state);
        match waiting {
            0 => {}
            1 => self.arrived.notify_one(),
            _ if several => self.arrived.notify_all(),
            _ => self.arrived.notify_one(),
        }
    }

    /// The next message. Waits until the deadline (`None`: until there is one or the end).
    pub(crate) fn pop(&self, deadline: Option<Instant>) -> Result<Item, Empty> {
        let mut state = self.state.lock();
        loop {
            if let Some(item) = state.items.pop_front() {
                shrink(&mut state.items);
                return Ok(item);
            }
            if let Some(error) = state.refused.take() {
                return Err(Empty::Refused(error));
            }
            if let Some(end) = &state.end {
                return Err(Empty::Ended(end.clone()));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(Empty::Timeout);
            }
            state.waiting += 1;
            self.arrived.wait_until(&mut state, deadline);
            state.waiting -= 1;
        }
    }

    /// The next message if one is there, without waiting.
    pub(crate) fn try_pop(&self) -> Result<Item, Empty> {
        let mut state = self.state.lock();
        if let Some(item) = state.items.pop_front() {
            shrink(&mut state.items);
            return Ok(item);
        }
        if let Some(error) = state.refused.take() {
            return Err(Empty::Refused(error));
        }
        match &state.end {
            Some(end) => Err(Empty::Ended(end.clone())),
            None => Err(Empty::Timeout),
        }
    }

    /// Takes everything there is, waiting for something; false once the end is reached and nothing
    /// is left. `batch` must be empty.
    pub(crate) fn take_all(&self, batch: &mut VecDeque<Item>) -> bool {
        let mut state = self.state.lock();
        loop {
            if !state.items.is_empty() {
                std::mem::swap(&mut state.items, batch);
                shrink(&mut state.items);
                return true;
            }
            if state.end.is_some() {
                return false;
            }
            state.waiting += 1;
            self.arrived.wait_until(&mut state, None);
            state.waiting -= 1;
        }
    }

    /// Ends the queue. `keep` says whether what is there is still handed out.
    pub(crate) fn end(&self, end: End, keep: bool) {
        let dropped = {
            let mut state = self.state.lock();
            if state.end.is_none() {
                state.end = Some(end);
            }
            if keep { VecDeque::new() } else { std::mem::take(&mut state.items) }
        };
        if !keep {
            self.cut_short.store(true, Ordering::Release);
        }
        self.arrived.notify_all();
        release(dropped);
    }

    /// The server refused the subscription: the next call of `pop` that finds nothing says so, once.
    pub(crate) fn refuse(&self, error: ServerError) {
        self.state.lock().refused = Some(error);
        self.arrived.notify_all();
    }

    /// The dispatcher's thread is done with this queue.
    pub(crate) fn mark_delivered(&self) {
        self.state.lock().delivered = true;
        self.arrived.notify_all();
    }

    /// Waits until the dispatcher's thread is done; false if the deadline came first.
    pub(crate) fn wait_delivered(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.delivered && Instant::now() < deadline {
            self.arrived.wait_until(&mut state, Some(deadline));
        }
        state.delivered
    }

    /// Whether the queue ended and threw away what was there.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short.load(Ordering::Acquire)
    }

    /// Why the queue ended, if it has.
    pub(crate) fn ended(&self) -> Option<End> {
        self.state.lock().end.clone()
    }
}

/// Gives back the memory of a peak once nothing waits.
fn shrink(items: &mut VecDeque<Item>) {
    if items.is_empty() && items.capacity() > 1024 {
        *items = VecDeque::new();
    }
}

/// Takes messages that nobody will read off their subscription's counts.
pub(crate) fn release(items: impl IntoIterator<Item = Item>) {
    for item in items {
        item.subscriber.release(item.message.size() as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::super::consumer::{Consumer, PendingLimits, Target};
    use super::*;
    use std::time::Duration;

    fn item(subscriber: &Arc<Subscriber>, payload: &'static str) -> Item {
        let message = Message::new("a", payload);
        let _ = subscriber.admit(message.size() as u64);
        Item { subscriber: Arc::clone(subscriber), message }
    }

    fn subscriber() -> Arc<Subscriber> {
        let limits = PendingLimits::default();
        Arc::new(Subscriber::new(1, "a".to_owned(), None, Target::Requests, limits))
    }

    #[test]
    fn messages_come_out_in_order_and_stay_readable_after_a_keeping_end() {
        let (mailbox, subscriber) = (Mailbox::new(), subscriber());
        mailbox.push_all(&mut vec![item(&subscriber, "1"), item(&subscriber, "2")]);
        mailbox.end(End::Drained, true);
        mailbox.push_all(&mut vec![item(&subscriber, "3")]);
        assert_eq!(mailbox.pop(None).expect("first").message.payload(), b"1");
        assert_eq!(mailbox.try_pop().expect("second").message.payload(), b"2");
        assert!(matches!(mailbox.pop(None), Err(Empty::Ended(End::Drained))));
        assert_eq!(subscriber.pending_messages(), 2, "only the late one was released");
    }

    #[test]
    fn a_refusal_is_said_once() {
        let mailbox = Mailbox::new();
        mailbox.refuse(ServerError::parse("Permissions Violation for Subscription to \"a\""));
        assert!(matches!(mailbox.try_pop(), Err(Empty::Refused(_))));
        assert!(matches!(mailbox.try_pop(), Err(Empty::Timeout)));
    }

    #[test]
    fn the_end_wakes_every_waiter() {
        let mailbox = Arc::new(Mailbox::new());
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let mailbox = Arc::clone(&mailbox);
                let far = Instant::now() + Duration::from_secs(60);
                std::thread::Builder::new()
                    .spawn(move || mailbox.pop(Some(far)).map(|_| ()))
                    .expect("a thread")
            })
            .collect();
        mailbox.end(End::Unsubscribed, false);
        for waiter in waiters {
            let result = waiter.join().expect("no panic");
            assert!(matches!(result, Err(Empty::Ended(End::Unsubscribed))));
        }
    }
}
