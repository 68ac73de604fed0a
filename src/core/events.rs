//! From whoever notices something to whoever wants to know.
//!
//! [`Hub::emit`] may be called from any thread, with any lock above `Events` held, and never
//! blocks: it puts the notice into one queue for the callback thread and one for each `events()`
//! iterator. The callback thread takes from its queue ([`Hub::next`]), asks which sinks were there
//! when the notice was emitted ([`Hub::sinks`]) and calls them with no lock held.
//!
//! A queue is bounded. Beyond 1,024 waiting, error notices, changes of the list of servers and
//! whole pairs of `Reconnecting` and `ReconnectFailed` are left out and counted, and the next
//! notice carries the count (in the queue of the callback thread the next event does). The lists
//! are left out too where those that wait name 10,000 servers, and discarded messages where 8 MiB
//! of them wait. Everything else is always delivered, so that the grammar of events holds for the
//! slowest listener too:
//!
//! ```text
//!             Reconnecting, full          ReconnectFailed
//!  Open ─────────────────────▶ Withheld ──────────────────▶ Open (both left out)
//!                                  │ anything else
//!                                  └─▶ Reconnecting is queued first, then that ─▶ Open
//! ```

use std::collections::VecDeque;
use std::sync::OnceLock;
use std::time::Instant;

use super::notice::{ConnectionEventKind, ErrorNotice, Notice};
use crate::bell::Bell;
use crate::clock;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, Rank};

/// How many notices may wait before some are left out.
pub(crate) const QUEUE_LIMIT: usize = 1024;

/// How many servers the waiting changes of their list may name before further ones are left out: a
/// server may send lists for as long as it likes.
const LISTED_LIMIT: usize = 10_000;

/// How many bytes of discarded messages may wait before further ones are left out: what the outbox
/// had no room for must not take as much here.
const HELD_LIMIT: usize = 8 * 1024 * 1024;

/// Names a listener, to remove it by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(u64);

/// What is called for a notice. `C` is whatever the layer above needs to lend a connection.
pub(crate) type SinkFn<C> = dyn Fn(&C, &Notice) + Send + Sync;

/// What the callback thread calls once, in the order in which it was queued among the notices.
pub(crate) type Call<C> = Box<dyn FnOnce(&C) + Send>;

/// What the callback thread does next.
pub(crate) enum Due<C> {
    /// Gives the notice of this number to the sinks.
    Notice(u64, Notice),
    Call(Call<C>),
}

/// A listener as the core sees it.
pub(crate) struct Sink<C> {
    id: ListenerId,
    /// The number of the first notice that it gets.
    from: u64,
    call: Arc<SinkFn<C>>,
}

impl<C> Clone for Sink<C> {
    fn clone(&self) -> Self {
        Self { id: self.id, from: self.from, call: Arc::clone(&self.call) }
    }
}

impl<C> Sink<C> {
    pub(crate) fn id(&self) -> ListenerId {
        self.id
    }

    pub(crate) fn call(&self, connection: &C, notice: &Notice) {
        (self.call)(connection, notice);
    }
}

/// A bounded queue of numbered notices; the rules are in the head of this file.
#[derive(Debug, Default)]
struct Queue {
    items: VecDeque<(u64, Notice)>,
    /// Whether an error carries the count too, or only an event: a method of an error listener has
    /// no place for it.
    errors_carry: bool,
    skipped: u64,
    withheld: Option<(u64, Notice)>,
    /// How many servers the waiting changes of their list name.
    listed: usize,
    /// How many bytes of discarded messages wait.
    held: usize,
    finished: bool,
}

impl Queue {
    /// Returns how many notices were left out by this one.
    fn push(&mut self, number: u64, notice: &Notice) -> u64 {
        use ConnectionEventKind as K;
        let full = self.items.len() >= QUEUE_LIMIT;
        // With room again, an attempt that was withheld takes its place before what follows it.
        if !full {
            self.append_withheld();
        }
        match notice {
            Notice::Error { .. } if full || (held(notice) > 0 && self.held >= HELD_LIMIT) => {
                self.skipped += 1;
                return 1;
            }
            Notice::Error { .. } => {}
            Notice::Event(event) => match event.kind() {
                K::Reconnecting { .. } if full => {
                    self.withheld = Some((number, notice.clone()));
                    return 0;
                }
                K::ReconnectFailed { .. } if self.withheld.take().is_some() => {
                    self.skipped += 2;
                    return 2;
                }
                K::DiscoveredServers { .. } if full || self.listed >= LISTED_LIMIT => {
                    self.skipped += 1;
                    return 1;
                }
                _ => self.append_withheld(),
            },
        }
        self.append(number, notice.clone());
        0
    }

    fn append_withheld(&mut self) {
        if let Some((number, notice)) = self.withheld.take() {
            self.append(number, notice);
        }
    }

    fn append(&mut self, number: u64, notice: Notice) {
        let carries = self.errors_carry || matches!(notice, Notice::Event(_));
        let skipped = if carries { std::mem::take(&mut self.skipped) } else { 0 };
        self.finished = notice.is_end();
        self.listed += listed(&notice);
        self.held += held(&notice);
        self.items.push_back((number, notice.with_skipped(skipped)));
    }

    fn pop(&mut self) -> Option<(u64, Notice)> {
        let item = self.items.pop_front();
        if let Some((_, notice)) = &item {
            self.listed -= listed(notice);
            self.held -= held(notice);
        }
        if self.items.is_empty() && self.items.capacity() > 64 {
            self.items = VecDeque::new();
        }
        item
    }
}

/// How many servers a change of their list names.
fn listed(notice: &Notice) -> usize {
    match notice {
        Notice::Event(event) => match event.kind() {
            ConnectionEventKind::DiscoveredServers { added, removed } => {
                added.len() + removed.len()
            }
            _ => 0,
        },
        Notice::Error { .. } => 0,
    }
}

/// What a notice holds of a message, in bytes.
fn held(notice: &Notice) -> usize {
    match notice {
        Notice::Error { notice: ErrorNotice::MessageDiscarded(message), .. } => message.size(),
        Notice::Error { .. } | Notice::Event(_) => 0,
    }
}

/// The events of one connection on their way to the program.
pub(crate) struct Hub<C> {
    state: Mutex<State<C>>,
    queued: Condvar,
}

struct State<C> {
    /// The number of the next notice.
    next: u64,
    next_listener: u64,
    callbacks: Queue,
    /// Calls between the notices, with their numbers; as many as the program asked for.
    calls: VecDeque<(u64, Call<C>)>,
    sinks: Vec<Sink<C>>,
    taps: Vec<std::sync::Weak<Tap>>,
    /// `Closed` has been emitted: nothing follows it.
    closed: bool,
    /// Nobody is told anything any more.
    muted: bool,
}

impl<C> std::fmt::Debug for Hub<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Hub").finish_non_exhaustive()
    }
}

impl<C> Hub<C> {
    pub(crate) fn new() -> Self {
        let state = State {
            next: 1,
            next_listener: 1,
            callbacks: Queue::default(),
            calls: VecDeque::new(),
            sinks: Vec::new(),
            taps: Vec::new(),
            closed: false,
            muted: false,
        };
        Self { state: Mutex::new(Rank::Events, state), queued: Condvar::new() }
    }

    /// Queues a notice. Returns how many notices were left out. After `Closed` nothing is queued.
    pub(crate) fn emit(&self, notice: &Notice) -> u64 {
        let mut state = self.state.lock();
        if state.closed || (state.muted && !notice.is_end()) {
            return 0;
        }
        let number = state.next;
        state.next += 1;
        let skipped = state.callbacks.push(number, notice);
        state.closed = state.callbacks.finished;
        state.taps.retain(|tap| match tap.upgrade() {
            Some(tap) => {
                tap.push(number, notice);
                true
            }
            None => false,
        });
        drop(state);
        self.queued.notify_one();
        skipped
    }

    /// From now on nobody is told anything: what waits is thrown away, and iterators end. Only the
    /// callback thread still gets `Closed`, to end by.
    pub(crate) fn mute(&self) {
        let mut state = self.state.lock();
        state.muted = true;
        if !state.closed {
            state.callbacks = Queue::default();
        }
        for tap in state.taps.drain(..).filter_map(|tap| tap.upgrade()) {
            tap.finish();
        }
    }

    /// Whether nobody is to be told anything any more.
    pub(crate) fn is_muted(&self) -> bool {
        self.state.lock().muted
    }

    /// Queues a call behind the notices that were emitted before. After `Closed` it is given back.
    pub(crate) fn call(&self, call: Call<C>) -> Result<(), Call<C>> {
        let mut state = self.state.lock();
        if state.closed {
            return Err(call);
        }
        let number = state.next;
        state.next += 1;
        state.calls.push_back((number, call));
        drop(state);
        self.queued.notify_one();
        Ok(())
    }

    /// What is next for the callback thread, which waits for it.
    pub(crate) fn next(&self) -> Due<C> {
        let mut state = self.state.lock();
        loop {
            let notice = state.callbacks.items.front().map(|(number, _)| *number);
            let call = state.calls.front().map(|(number, _)| *number);
            // What was queued first comes first; a queue without anything comes last.
            let call_first = call.is_some_and(|call| notice.is_none_or(|notice| call < notice));
            let due = if call_first {
                state.calls.pop_front().map(|(_, call)| Due::Call(call))
            } else {
                state.callbacks.pop().map(|(number, notice)| Due::Notice(number, notice))
            };
            if let Some(due) = due {
                return due;
            }
            self.queued.wait_until(&mut state, None);
        }
    }

    /// The sinks that get the notice of that number.
    pub(crate) fn sinks(&self, number: u64) -> Vec<Sink<C>> {
        let state = self.state.lock();
        state.sinks.iter().filter(|sink| sink.from <= number).cloned().collect()
    }

    /// Adds a sink, which gets what is emitted from now on. After `Closed` it is dropped at once.
    pub(crate) fn add(&self, call: Arc<SinkFn<C>>) -> ListenerId {
        let mut state = self.state.lock();
        let id = ListenerId(state.next_listener);
        state.next_listener += 1;
        if !state.closed {
            let from = state.next;
            state.sinks.push(Sink { id, from, call });
        }
        id
    }

    /// Whether the sink is still there.
    pub(crate) fn has(&self, id: ListenerId) -> bool {
        self.state.lock().sinks.iter().any(|sink| sink.id == id)
    }

    /// Removes a sink; a call under way still ends. Returns whether it was there.
    pub(crate) fn remove(&self, id: ListenerId) -> bool {
        let removed = {
            let mut state = self.state.lock();
            let index = state.sinks.iter().position(|sink| sink.id == id);
            index.map(|index| state.sinks.remove(index))
        };
        // The listener may be dropped here, outside the lock: it is the program's code.
        removed.is_some()
    }

    /// Takes all sinks out, to be dropped one by one after `Closed` has been delivered.
    pub(crate) fn take_sinks(&self) -> Vec<Sink<C>> {
        std::mem::take(&mut self.state.lock().sinks)
    }

    /// A queue of its own that gets everything emitted from now on.
    pub(crate) fn tap(&self) -> Arc<Tap> {
        let tap = Arc::new(Tap {
            queue: Mutex::new(Rank::Leaf, Queue { errors_carry: true, ..Queue::default() }),
            queued: Condvar::new(),
            bell: OnceLock::new(),
        });
        let mut state = self.state.lock();
        if state.closed || state.muted {
            tap.queue.lock().finished = true;
        } else {
            state.taps.push(Arc::downgrade(&tap));
        }
        tap
    }
}

/// The queue behind one `events()` iterator.
#[derive(Debug)]
pub(crate) struct Tap {
    queue: Mutex<Queue>,
    queued: Condvar,
    bell: OnceLock<Arc<dyn Bell>>,
}

/// What a tap gives.
#[derive(Debug)]
pub(crate) enum Tapped {
    Notice(Notice),
    Timeout,
    /// `Closed` was given out before.
    Finished,
}

impl Tap {
    fn push(&self, number: u64, notice: &Notice) {
        let mut queue = self.queue.lock();
        queue.push(number, notice);
        self.ring(queue);
        // All of them: it may have been two, or the last one, behind which nobody waits any more.
        self.queued.notify_all();
    }

    /// Nothing comes any more, and what waits is thrown away.
    fn finish(&self) {
        let mut queue = self.queue.lock();
        *queue = Queue { finished: true, ..Queue::default() };
        self.queued.notify_all();
        self.ring(queue);
    }

    /// Lets go of the queue, then rings if there is something in it, or nothing follows.
    fn ring(&self, queue: MutexGuard<'_, Queue>) {
        let something = !queue.items.is_empty() || queue.finished;
        drop(queue);
        if let Some(bell) = self.bell.get().filter(|_| something) {
            bell.ring();
        }
    }

    /// Hangs a bell here; the first one stays.
    #[cfg_attr(not(feature = "crossbeam-channel"), allow(dead_code))]
    pub(crate) fn attach(&self, bell: Arc<dyn Bell>) {
        let _ = self.bell.set(bell);
        self.ring(self.queue.lock());
    }

    /// Whether `Closed` has been given out.
    pub(crate) fn is_finished(&self) -> bool {
        let queue = self.queue.lock();
        queue.finished && queue.items.is_empty()
    }

    /// The next notice; waits until the deadline, or without one until there is a notice.
    pub(crate) fn next(&self, deadline: Option<Instant>) -> Tapped {
        let mut queue = self.queue.lock();
        loop {
            if let Some((_, notice)) = queue.pop() {
                self.ring(queue);
                return Tapped::Notice(notice);
            }
            if queue.finished {
                self.ring(queue);
                return Tapped::Finished;
            }
            if deadline.is_some_and(|deadline| clock::now() >= deadline) {
                return Tapped::Timeout;
            }
            self.queued.wait_until(&mut queue, deadline);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::notice::ConnectionEvent;
    use super::*;
    use crate::error::{Error, ErrorKind};

    fn event(kind: ConnectionEventKind) -> Notice {
        Notice::Event(ConnectionEvent::new(None, kind))
    }

    fn error() -> Notice {
        ErrorNotice::Exception(Error::new(ErrorKind::Io, "x")).into()
    }

    fn reconnecting() -> Notice {
        event(ConnectionEventKind::Reconnecting { attempt: 1 })
    }

    fn failed() -> Notice {
        let cause = Error::new(ErrorKind::Io, "x");
        event(ConnectionEventKind::ReconnectFailed { attempt: 1, cause })
    }

    fn texts(queue: &mut Queue) -> Vec<String> {
        std::iter::from_fn(|| queue.pop()).map(|(_, notice)| notice.to_string()).collect()
    }

    fn full() -> Queue {
        let mut queue = Queue::default();
        for number in 0..QUEUE_LIMIT as u64 {
            assert_eq!(queue.push(number, &error()), 0);
        }
        queue
    }

    #[test]
    fn a_full_queue_leaves_out_errors_and_whole_pairs_and_says_how_many() {
        let mut queue = full();
        assert_eq!(queue.push(1, &error()), 1);
        assert_eq!(queue.push(2, &reconnecting()), 0);
        assert_eq!(queue.push(3, &failed()), 2);
        assert_eq!(queue.push(4, &event(ConnectionEventKind::LameDuck)), 0);
        let last = queue.items.back().expect("an event").1.clone();
        assert!(matches!(last, Notice::Event(event) if event.skipped() == 3));
        assert_eq!(queue.items.len(), QUEUE_LIMIT + 1);
    }

    #[test]
    fn the_count_waits_for_a_call_that_can_carry_it() {
        let mut queue = full();
        queue.push(1, &error());
        while queue.pop().is_some() {}
        queue.push(2, &error());
        queue.push(3, &event(ConnectionEventKind::LameDuck));
        assert!(matches!(queue.pop(), Some((_, Notice::Error { skipped: 0, .. }))));
        let last = queue.pop().expect("an event").1;
        assert!(matches!(last, Notice::Event(event) if event.skipped() == 1));

        let mut tapped = Queue { errors_carry: true, ..full() };
        tapped.push(1, &error());
        while tapped.pop().is_some() {}
        tapped.push(2, &error());
        assert!(matches!(tapped.pop(), Some((_, Notice::Error { skipped: 1, .. }))));
    }

    #[test]
    fn what_waits_holds_few_megabytes_of_discarded_messages() {
        use crate::protocol::Message;

        let large: Notice =
            ErrorNotice::MessageDiscarded(Message::new("a", vec![0; HELD_LIMIT / 2])).into();
        let mut queue = Queue { errors_carry: true, ..Queue::default() };
        for (notice, left_out) in [(&large, 0), (&large, 0), (&large, 1), (&error(), 0)] {
            assert_eq!(queue.push(1, notice), left_out);
        }
        assert_eq!(queue.push(2, &event(ConnectionEventKind::LameDuck)), 0, "events always");
        queue.pop();
        assert_eq!(queue.push(3, &large), 0, "there is room again");
        while queue.pop().is_some() {}
        assert_eq!(queue.held, 0);
    }

    #[test]
    fn a_withheld_attempt_that_succeeds_is_delivered_before_its_success() {
        let mut queue = full();
        queue.push(1, &reconnecting());
        queue.push(2, &error());
        queue.push(3, &event(ConnectionEventKind::Connected));
        let texts = texts(&mut queue);
        assert_eq!(
            texts[QUEUE_LIMIT..],
            ["nats: reconnecting, attempt 1", "nats: connection opened"]
        );
    }

    #[test]
    fn an_attempt_announced_before_the_queue_was_full_keeps_its_end() {
        let mut queue = Queue::default();
        queue.push(0, &reconnecting());
        for number in 1..2000 {
            queue.push(number, &error());
        }
        queue.push(2000, &failed());
        let texts = texts(&mut queue);
        assert_eq!(texts.len(), QUEUE_LIMIT + 1);
        assert!(texts[QUEUE_LIMIT].starts_with("nats: reconnect failed"));
    }

    #[test]
    fn a_call_takes_its_place_among_the_notices_and_none_follows_the_end() {
        let hub: Hub<()> = Hub::new();
        hub.emit(&event(ConnectionEventKind::Connected));
        assert!(hub.call(Box::new(|()| ())).is_ok());
        hub.emit(&event(ConnectionEventKind::Closed { cause: None }));
        assert!(hub.call(Box::new(|()| ())).is_err());
        assert!(matches!(hub.next(), Due::Notice(..)));
        assert!(matches!(hub.next(), Due::Call(_)));
        assert!(matches!(hub.next(), Due::Notice(..)));
    }

    #[test]
    fn a_sink_gets_only_what_was_emitted_after_it_was_added() {
        let hub: Hub<()> = Hub::new();
        hub.emit(&event(ConnectionEventKind::Connected));
        let id = hub.add(Arc::new(|(), _| ()));
        let tap = hub.tap();
        hub.emit(&event(ConnectionEventKind::Closed { cause: None }));
        hub.emit(&error());
        let number = || match hub.next() {
            Due::Notice(number, _) => number,
            Due::Call(_) => panic!("nothing was to be called"),
        };
        assert!(hub.sinks(number()).is_empty());
        let second = number();
        assert_eq!(hub.sinks(second).len(), 1);
        assert!(hub.remove(id) && !hub.remove(id));
        assert!(matches!(tap.next(None), Tapped::Notice(_)));
        assert!(matches!(tap.next(None), Tapped::Finished));
        assert!(matches!(hub.tap().next(None), Tapped::Finished));
    }
}
