//! The queue of messages between the reader and one consumer.
//!
//! The reader pushes what one read brought in one locked step, and wakes one waiter for one
//! message, all of them for several. A pull subscription pops one by one, from any number of
//! threads; a dispatcher's thread takes all there is. The space of a large queue that is emptied
//! goes to the connection's [`Spares`]. Limits are not here but in `consumer.rs`: a mailbox takes
//! what it is given.
//!
//! Who waits on more than this queue hangs a [`Bell`] here. A [`Barrier`] put into a dispatcher's
//! queue is reached when everything added before it has been handled: the dispatcher's thread takes
//! no further than to the next barrier, and comes back when it has handled what it took.
//!
//! Invariants: past the end nothing is added; what is there is handed out unless `end` threw it
//! away; every waiter is woken by `end`. An end that keeps lies behind the messages on their way.

use std::collections::VecDeque;
use std::time::Instant;

use super::consumer::EndReason;
use super::spares::{KEEP, Spares};
use crate::bell::Bell;
use crate::clock;
use crate::outcome::Barrier;
use crate::server_error::ServerError;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, Rank};

/// Why there is no message.
#[derive(Debug)]
pub(crate) enum Empty {
    /// The deadline passed.
    Timeout,
    /// The server refused the subscription; said once.
    Refused(ServerError),
    Ended(EndReason),
}

/// What becomes of the messages of a queue that ends.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rest {
    /// They are still handed out, also those on their way, until so many have been added.
    Keep { until: u64 },
    /// They are thrown away.
    Drop,
}

/// The queue of one consumer.
#[derive(Debug)]
pub(crate) struct Mailbox<T> {
    state: Mutex<State<T>>,
    arrived: Condvar,
    /// Set with `State::end`, readable without the lock between two messages of a batch.
    cut_short: AtomicBool,
    spares: Arc<Spares<T>>,
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    waiting: usize,
    refused: Option<ServerError>,
    end: Option<EndReason>,
    /// Messages added so far, and the number with which a keeping end is reached.
    added: u64,
    end_at: u64,
    /// The dispatcher's thread has handed out everything and is done.
    delivered: bool,
    /// Messages that the dispatcher's thread has taken, or that were thrown away.
    taken: u64,
    /// What is to be reached when so many have been taken and handled; in order.
    barriers: VecDeque<(u64, Arc<Barrier>)>,
    bell: Option<Arc<dyn Bell>>,
}

impl<T> State<T> {
    /// Takes the next message, where there is one, out of its place.
    #[inline(always)]
    fn take<R>(&mut self, spares: &Spares<T>, take: impl FnOnce(&mut T) -> R) -> Option<R> {
        let taken = take(self.items.front_mut()?);
        self.items.pop_front();
        spares.take_in(&mut self.items);
        Some(taken)
    }

    /// The refusal, or the end; none while there may be more.
    fn last_word(&mut self) -> Option<Empty> {
        if let Some(error) = self.refused.take() {
            return Some(Empty::Refused(error));
        }
        self.reached_end().map(|end| Empty::Ended(end.clone()))
    }

    /// The bell, if there is something to take.
    #[inline(always)]
    fn bell(&self) -> Option<Arc<dyn Bell>> {
        let bell = self.bell.as_ref()?;
        let something =
            !self.items.is_empty() || self.refused.is_some() || self.reached_end().is_some();
        something.then(|| Arc::clone(bell))
    }

    /// The barriers up to which everything has been taken.
    fn reached_barriers(&mut self) -> Vec<Arc<Barrier>> {
        let count = self.barriers.iter().take_while(|(at, _)| *at <= self.taken).count();
        self.barriers.drain(..count).map(|(_, barrier)| barrier).collect()
    }

    /// Why nothing more comes, once everything on its way has arrived.
    fn reached_end(&self) -> Option<&EndReason> {
        self.end.as_ref().filter(|_| self.added >= self.end_at)
    }
}

impl<T> Mailbox<T> {
    /// A queue of a connection, whose spares these are.
    pub(crate) fn new(spares: &Arc<Spares<T>>) -> Self {
        let state = State {
            items: VecDeque::new(),
            waiting: 0,
            refused: None,
            end: None,
            added: 0,
            end_at: 0,
            delivered: false,
            taken: 0,
            barriers: VecDeque::new(),
            bell: None,
        };
        Self {
            state: Mutex::new(Rank::Mailbox, state),
            arrived: Condvar::new(),
            cut_short: AtomicBool::new(false),
            spares: Arc::clone(spares),
        }
    }

    /// Adds messages, in order, and leaves `items` empty. Past the end it does nothing and returns
    /// false.
    pub(crate) fn push_all(&self, items: &mut Vec<T>) -> bool {
        let mut state = self.state.lock();
        if state.end.is_some() && (self.is_cut_short() || state.added >= state.end_at) {
            return false;
        }
        let several = items.len() > 1;
        state.added += items.len() as u64;
        // Few messages do not keep the space of many from whoever is next.
        let fits = items.capacity() <= KEEP.max(4 * items.len());
        // Nothing is moved for that: a list is a queue that begins at its place.
        let mut more = VecDeque::from(std::mem::take(items));
        if fits && state.items.is_empty() {
            std::mem::swap(&mut state.items, &mut more);
        } else {
            state.items.append(&mut more);
        }
        *items = more.into();
        // With the last message the end is reached: every waiter must see it.
        let all = several || state.reached_end().is_some();
        let waiting = state.waiting;
        ring(state);
        match waiting {
            0 => {}
            1 => self.arrived.notify_one(),
            _ if all => self.arrived.notify_all(),
            _ => self.arrived.notify_one(),
        }
        true
    }

    /// The next message. Waits until the deadline (`None`: until there is one or the end). `take`
    /// takes it out of its place with the queue locked: what it counts has one writer at a time.
    // In each of its callers, to which it hands the message: one that is moved about costs more
    // than the rest of what is done for it.
    #[inline(always)]
    pub(crate) fn pop<R>(
        &self,
        deadline: Option<Instant>,
        take: impl FnOnce(&mut T) -> R,
    ) -> Result<R, Empty> {
        let mut state = self.state.lock();
        if state.items.is_empty() {
            state = self.await_item(state, deadline)?;
        }
        let taken = state.take(&self.spares, take);
        ring(state);
        taken.ok_or(Empty::Timeout)
    }

    /// Waits for a message.
    #[inline(never)]
    fn await_item<'a>(
        &self,
        mut state: MutexGuard<'a, State<T>>,
        deadline: Option<Instant>,
    ) -> Result<MutexGuard<'a, State<T>>, Empty> {
        while state.items.is_empty() {
            if let Some(empty) = state.last_word() {
                ring(state);
                return Err(empty);
            }
            if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                return Err(Empty::Timeout);
            }
            state.waiting += 1;
            self.arrived.wait_until(&mut state, deadline);
            state.waiting -= 1;
        }
        Ok(state)
    }

    /// The next message if one is there, without waiting; otherwise like `pop`.
    pub(crate) fn try_pop<R>(&self, take: impl FnOnce(&mut T) -> R) -> Result<R, Empty> {
        let mut state = self.state.lock();
        let outcome = match state.take(&self.spares, take) {
            Some(taken) => Ok(taken),
            None => Err(state.last_word().unwrap_or(Empty::Timeout)),
        };
        ring(state);
        outcome
    }

    /// Takes everything there is up to the next barrier, waiting for something; false once the end
    /// is reached and nothing is left. `batch` must be empty, and what was in it handled.
    pub(crate) fn take_all(&self, batch: &mut VecDeque<T>) -> bool {
        self.spares.take_in(batch);
        let mut state = self.state.lock();
        loop {
            let reached = state.reached_barriers();
            if !reached.is_empty() {
                drop(state);
                reached.iter().for_each(|barrier| barrier.arrive());
                state = self.state.lock();
                continue;
            }
            if !state.items.is_empty() {
                let next = state.barriers.front().map(|(at, _)| at.saturating_sub(state.taken));
                match next.and_then(|next| usize::try_from(next).ok()) {
                    Some(next) if next < state.items.len() => {
                        batch.extend(state.items.drain(..next))
                    }
                    _ => std::mem::swap(&mut state.items, batch),
                }
                state.taken += batch.len() as u64;
                return true;
            }
            if state.reached_end().is_some() {
                return false;
            }
            state.waiting += 1;
            self.arrived.wait_until(&mut state, None);
            state.waiting -= 1;
        }
    }

    /// Lets the barrier be reached once everything that is in the queue, or in the hands of the
    /// dispatcher's thread, has been handled.
    pub(crate) fn put_barrier(&self, barrier: &Arc<Barrier>) {
        let mut state = self.state.lock();
        // A thread that waits for messages has handled all that it took.
        let idle = state.waiting > 0 && state.items.is_empty();
        if !idle && !state.delivered {
            let at = state.taken + state.items.len() as u64;
            state.barriers.push_back((at, Arc::clone(barrier)));
            return;
        }
        drop(state);
        barrier.arrive();
    }

    /// Hangs a bell here in place of the one there was; it rings if there is something to take.
    pub(crate) fn attach(&self, bell: Option<Arc<dyn Bell>>) {
        let mut state = self.state.lock();
        state.bell = bell;
        ring(state);
    }

    /// Ends the queue; what is thrown away is returned.
    #[must_use]
    pub(crate) fn end(&self, end: EndReason, rest: Rest) -> VecDeque<T> {
        let dropped = {
            let mut state = self.state.lock();
            let first = state.end.is_none();
            state.end.get_or_insert(end);
            let dropped = match rest {
                Rest::Keep { until } => {
                    state.end_at = if first { until } else { state.end_at.min(until) };
                    VecDeque::new()
                }
                Rest::Drop => {
                    self.cut_short.store(true, Ordering::Release);
                    // What is on its way is refused from here on: the end is reached now.
                    state.end_at = 0;
                    state.taken += state.items.len() as u64;
                    std::mem::take(&mut state.items)
                }
            };
            ring(state);
            dropped
        };
        self.arrived.notify_all();
        dropped
    }

    /// The server refused the subscription: the next call of `pop` that finds nothing says so,
    /// once.
    pub(crate) fn refuse(&self, error: ServerError) {
        let mut state = self.state.lock();
        state.refused = Some(error);
        ring(state);
        self.arrived.notify_all();
    }

    /// The dispatcher's thread is done with this queue.
    pub(crate) fn mark_delivered(&self) {
        let left = {
            let mut state = self.state.lock();
            state.delivered = true;
            std::mem::take(&mut state.barriers)
        };
        left.iter().for_each(|(_, barrier)| barrier.arrive());
        self.arrived.notify_all();
    }

    /// Waits until the dispatcher's thread is done; false if the deadline came first.
    pub(crate) fn wait_delivered(&self, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        while !state.delivered && clock::now() < deadline {
            self.arrived.wait_until(&mut state, Some(deadline));
        }
        state.delivered
    }

    /// Waits until nobody holds the queue: what a consumer has counted with it locked is seen, or
    /// the next consumer sees what the caller did before.
    pub(crate) fn pass(&self) {
        drop(self.state.lock());
    }

    /// Whether the queue ended and threw away what was there.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short.load(Ordering::Acquire)
    }

    /// How much space it has, in messages.
    #[cfg(test)]
    pub(super) fn space(&self) -> usize {
        self.state.lock().items.capacity()
    }

    /// Why the queue ended, if it has.
    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.state.lock().end.clone()
    }
}

/// Lets go of a queue, then rings its bell if there is something to take.
#[inline(always)]
fn ring<T>(state: MutexGuard<'_, State<T>>) {
    let bell = state.bell();
    drop(state);
    if let Some(bell) = bell {
        bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::Arc;
    use std::time::Duration;

    #[test]
    fn messages_come_out_in_order_and_stay_readable_after_a_keeping_end() {
        let mailbox = Mailbox::new(&Arc::default());
        assert!(mailbox.push_all(&mut [1, 2].into()));
        assert!(mailbox.end(EndReason::Drained, Rest::Keep { until: 3 }).is_empty());
        assert_eq!(mailbox.pop(None, |item| *item).expect("first"), 1);
        assert_eq!(mailbox.try_pop(|item| *item).expect("second"), 2);
        assert!(matches!(mailbox.try_pop(|item| *item), Err(Empty::Timeout)), "one is on its way");
        assert!(mailbox.push_all(&mut [3].into()));
        let mut late = vec![4];
        assert!(!mailbox.push_all(&mut late) && late == [4]);
        assert_eq!(mailbox.try_pop(|item| *item).expect("third"), 3);
        assert!(matches!(mailbox.pop(None, |item| *item), Err(Empty::Ended(EndReason::Drained))));
    }

    #[test]
    fn an_emptied_queue_keeps_little_and_few_messages_take_no_space_from_many() {
        let spares = Arc::default();
        let (pulled, handled) = (Mailbox::new(&spares), Mailbox::new(&spares));
        for mailbox in [&pulled, &handled] {
            assert!(mailbox.push_all(&mut (0..2000).collect()));
            assert!(mailbox.space() >= 2000);
        }
        assert!(
            (0..2000)
                .all(|item| matches!(pulled.try_pop(|item| *item), Ok(taken) if taken == item))
        );
        assert_eq!(pulled.space(), 0);
        let mut batch = VecDeque::new();
        assert!(handled.take_all(&mut batch));
        assert_eq!((batch.len(), handled.space()), (2000, 0));
        batch.clear();
        assert!(handled.push_all(&mut [1].into()));
        assert!(handled.take_all(&mut batch));
        assert!(batch.capacity() <= KEEP && handled.space() <= KEEP);
        assert!((4000..=5000).contains(&spares.space()), "{}", spares.space());
        let mut large = spares.take();
        large.push(2);
        assert!(handled.push_all(&mut large));
        assert!(handled.space() <= KEEP && large.capacity() >= 2000);
    }

    #[test]
    fn unsubscribing_ends_a_queue_that_still_waited_for_its_last_messages() {
        let mailbox = Mailbox::new(&Arc::default());
        let _ = mailbox.end(EndReason::Completed, Rest::Keep { until: 2 });
        assert!(mailbox.push_all(&mut [1].into()));
        assert_eq!(mailbox.end(EndReason::Unsubscribed, Rest::Drop), [1]);
        assert!(!mailbox.push_all(&mut [2].into()));
        assert!(matches!(mailbox.try_pop(|item| *item), Err(Empty::Ended(_))));
    }

    #[test]
    fn the_message_with_which_the_end_is_reached_wakes_every_waiter() {
        let mailbox = Arc::new(Mailbox::new(&Arc::default()));
        let far = Instant::now() + Duration::from_secs(60);
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let mailbox = Arc::clone(&mailbox);
                std::thread::Builder::new()
                    .spawn(move || mailbox.pop(Some(far), |item| *item))
                    .expect("a thread")
            })
            .collect();
        while mailbox.state.lock().waiting < 2 {
            std::thread::yield_now();
        }
        let _ = mailbox.end(EndReason::Completed, Rest::Keep { until: 1 });
        assert!(mailbox.push_all(&mut [1].into()));
        let outcomes: Vec<_> = waiters.into_iter().map(|w| w.join().expect("no panic")).collect();
        assert!(outcomes.iter().any(|outcome| matches!(outcome, Ok(1))));
        assert!(outcomes.iter().any(|outcome| matches!(outcome, Err(Empty::Ended(_)))));
        assert!(Instant::now() < far);
    }

    #[test]
    fn an_end_that_does_not_keep_gives_back_what_waited() {
        let mailbox = Mailbox::new(&Arc::default());
        assert!(mailbox.push_all(&mut [1, 2].into()));
        assert_eq!(mailbox.end(EndReason::Unsubscribed, Rest::Drop), [1, 2]);
        assert!(mailbox.is_cut_short());
        assert!(!mailbox.take_all(&mut VecDeque::new()));
    }

    #[test]
    fn a_barrier_is_reached_when_what_was_there_has_been_handled() {
        let mailbox = Mailbox::new(&Arc::default());
        let barrier = Arc::new(Barrier::new(1));
        let reached = |barrier: &Barrier| barrier.wait(Instant::now()) == Some(true);
        assert!(mailbox.push_all(&mut [1, 2].into()));
        mailbox.put_barrier(&barrier);
        assert!(mailbox.push_all(&mut [3].into()));
        let mut batch = VecDeque::new();
        assert!(mailbox.take_all(&mut batch));
        assert_eq!(batch.drain(..).collect::<Vec<_>>(), [1, 2], "no further than the barrier");
        assert!(!reached(&barrier), "the two are in hand");
        assert!(mailbox.take_all(&mut batch));
        assert!(reached(&barrier));
        assert_eq!(batch, [3]);
        let second = Arc::new(Barrier::new(1));
        mailbox.put_barrier(&second);
        assert!(!reached(&second), "the third is in hand");
        mailbox.mark_delivered();
        assert!(reached(&second), "the thread is done");
        let third = Arc::new(Barrier::new(1));
        mailbox.put_barrier(&third);
        assert!(reached(&third));
    }

    #[test]
    fn a_bell_rings_as_long_as_there_is_something_to_take() {
        #[derive(Debug, Default)]
        struct Count(std::sync::atomic::AtomicU64);
        impl Bell for Count {
            fn ring(&self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let mailbox = Mailbox::new(&Arc::default());
        let count = Arc::new(Count::default());
        assert!(mailbox.push_all(&mut [1, 2].into()));
        let rings = || count.0.swap(0, Ordering::SeqCst);
        mailbox.attach(Some(Arc::<Count>::clone(&count)));
        assert_eq!(rings(), 1, "there is something already");
        assert_eq!(mailbox.try_pop(|item| *item).expect("first"), 1);
        assert_eq!(rings(), 1, "one is left");
        assert_eq!(mailbox.try_pop(|item| *item).expect("second"), 2);
        assert_eq!(rings(), 0);
        assert!(mailbox.push_all(&mut [3, 4, 5].into()));
        assert_eq!(rings(), 1, "once for a batch");
        assert_eq!(mailbox.pop(None, |item| *item).expect("third"), 3);
        assert_eq!(rings(), 1, "waiting for it is another way to take one");
        mailbox.attach(None);
        let _ = mailbox.end(EndReason::Drained, Rest::Keep { until: 0 });
        assert_eq!(rings(), 0, "it was taken off");
    }

    #[test]
    fn a_refusal_is_said_once() {
        let mailbox: Mailbox<u8> = Mailbox::new(&Arc::default());
        mailbox.refuse(ServerError::parse("Permissions Violation for Subscription to \"a\""));
        assert!(matches!(mailbox.try_pop(|item| *item), Err(Empty::Refused(_))));
        assert!(matches!(mailbox.try_pop(|item| *item), Err(Empty::Timeout)));
    }

    #[test]
    fn the_end_wakes_every_waiter() {
        let mailbox: Arc<Mailbox<u8>> = Arc::new(Mailbox::new(&Arc::default()));
        let waiters: Vec<_> = (0..4)
            .map(|_| {
                let mailbox = Arc::clone(&mailbox);
                let far = Instant::now() + Duration::from_secs(60);
                std::thread::Builder::new()
                    .spawn(move || mailbox.pop(Some(far), |item| *item))
                    .expect("a thread")
            })
            .collect();
        let _ = mailbox.end(EndReason::Unsubscribed, Rest::Drop);
        for waiter in waiters {
            let result = waiter.join().expect("no panic");
            assert!(matches!(result, Err(Empty::Ended(EndReason::Unsubscribed))));
        }
    }
}
