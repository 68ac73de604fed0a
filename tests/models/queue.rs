//! The queue of a subscription: the reader pushes, consumers pull, somebody ends it.

use std::sync::Arc;
use std::time::Duration;

use loom::thread;
use nats_blocking::ErrorKind;
use nats_blocking::internals::{Queue, Seen, pass_time};

use crate::run::Model;

pub(crate) const MODELS: &[Model] = &[
    ("queue: two pull, drained", pulled_by_two),
    ("queue: pulled, unsubscribed", unsubscribed),
    ("queue: a timed and a patient pull", a_timed_pull_beside_a_patient_one),
    ("queue: a slow consumer recovers", slow_and_recovered),
    ("queue: dispatched, drained", dispatched),
    ("queue: a slow handler recovers", slow_handler),
    ("queue: dispatched, unsubscribed", dispatched_and_unsubscribed),
    ("queue: dispatched, end of a drain", dispatched_and_drained),
    ("queue: dispatched, completed", dispatched_and_completed),
    ("queue: between others, drained", dispatched_between_others),
    ("queue: between others, unsubscribed", unsubscribed_between_others),
    ("queue: a number set late", number_set_late),
];

const SECOND: Duration = Duration::from_secs(1);

fn pull_all(queue: &Queue) -> Vec<u64> {
    let mut taken = Vec::new();
    loop {
        match queue.next(None) {
            Ok(number) => taken.push(number),
            Err(ErrorKind::Closed) => return taken,
            Err(kind) => panic!("{kind:?}"),
        }
    }
}

/// Starts the thread of a consumer, which returns what it got by the end.
fn puller(queue: &Arc<Queue>) -> thread::JoinHandle<Vec<u64>> {
    let queue = Arc::clone(queue);
    thread::spawn(move || pull_all(&queue))
}

/// Starts the thread of a reader, to which three messages come in two reads.
fn read_three(queue: &Arc<Queue>) -> thread::JoinHandle<()> {
    let queue = Arc::clone(queue);
    thread::spawn(move || {
        let mut arrivals = queue.arrivals();
        arrivals.read(&[1, 2]);
        arrivals.read(&[3]);
    })
}

fn assert_at_rest(queue: &Queue, delivered: u64) {
    let counts = queue.counts();
    assert_eq!((counts.pending, counts.pending_bytes), (0, 0));
    assert_eq!(counts.delivered, delivered);
}

/// Two consumers and a drain at any moment: everything that was admitted comes out once, in order.
pub(crate) fn pulled_by_two() {
    let queue = Queue::new(0, |_| ());
    let pullers: Vec<_> = (0..2).map(|_| puller(&queue)).collect();
    let reader = read_three(&queue);
    queue.end_drained();
    reader.join().unwrap();
    let taken: Vec<_> = pullers.into_iter().map(|puller| puller.join().unwrap()).collect();
    assert!(taken.iter().all(|taken| taken.is_sorted()), "out of order: {taken:?}");
    let mut all = taken.concat();
    all.sort_unstable();
    let count = all.len() as u64;
    assert_eq!(all, (1..=count).collect::<Vec<_>>(), "lost or doubled");
    assert_at_rest(&queue, count);
}

/// Unsubscribing at any moment: the consumer ends, and the counts go back to nothing.
fn unsubscribed() {
    let queue = Queue::new(0, |_| ());
    let puller = puller(&queue);
    let reader = read_three(&queue);
    queue.unsubscribe();
    reader.join().unwrap();
    let taken = puller.join().unwrap();
    assert_eq!(taken, (1..=taken.len() as u64).collect::<Vec<_>>());
    assert_at_rest(&queue, taken.len() as u64);
}

/// A wait that ends by time never swallows the wake-up that another consumer needs.
fn a_timed_pull_beside_a_patient_one() {
    let queue = Queue::new(0, |_| ());
    let patient = puller(&queue);
    let timed = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || queue.next(Some(SECOND)))
    };
    let clock = thread::spawn(pass_time);
    queue.arrivals().read(&[1]);
    clock.join().unwrap();
    // An end wakes everybody, and would hide a wake-up that was lost: it comes only now. A timed
    // wait that began before the clock moved goes on until then.
    while queue.counts().delivered == 0 {
        thread::yield_now();
    }
    queue.close();
    let first = timed.join().unwrap();
    let second = patient.join().unwrap();
    assert!(matches!(first, Ok(1) | Err(ErrorKind::Timeout | ErrorKind::Closed)), "{first:?}");
    assert_eq!(second.len() + usize::from(first.is_ok()), 1);
    assert_at_rest(&queue, 1);
}

/// What listeners were told, in order.
#[derive(Clone)]
struct Told(Arc<loom::sync::Mutex<Vec<Seen>>>);

impl Told {
    fn new() -> Self {
        Self(Arc::new(loom::sync::Mutex::new(Vec::new())))
    }

    /// For a queue to tell.
    fn ear(&self) -> impl Fn(Seen) + Send + Sync + 'static {
        let told = self.clone();
        move |seen| told.0.lock().unwrap().push(seen)
    }

    fn all(&self) -> Vec<Seen> {
        self.0.lock().unwrap().clone()
    }

    /// Notices alternate, and the last one says that it is over.
    fn assert_recovered(&self, dropped: u64) {
        let log = self.all();
        let expected = [Seen::Slow, Seen::Recovered].into_iter().cycle();
        assert!(log.iter().copied().eq(expected.take(log.len())), "out of order: {log:?}");
        assert_eq!(log.len() % 2, 0, "nobody said that it is over: {log:?}");
        assert_eq!(log.is_empty(), dropped == 0);
    }
}

/// Notices alternate, and once everything is taken the last one says that it is over.
fn slow_and_recovered() {
    let told = Told::new();
    let queue = Queue::new(2, told.ear());
    let puller = puller(&queue);
    let mut arrivals = queue.arrivals();
    arrivals.read(&[1, 2, 3]);
    arrivals.read(&[4]);
    queue.close();
    let taken = puller.join().unwrap();
    let counts = queue.counts();
    assert_eq!(taken.len() as u64 + counts.dropped, 4);
    told.assert_recovered(counts.dropped);
}

/// Starts the thread of a dispatcher; it returns what its handler got.
fn dispatch(queue: &Arc<Queue>) -> thread::JoinHandle<Vec<u64>> {
    let queue = Arc::clone(queue);
    thread::spawn(move || {
        let mut handled = Vec::new();
        queue.dispatch(|number| handled.push(number));
        handled
    })
}

/// A dispatcher's handler sees everything that had arrived before a drain is told done.
fn dispatched() {
    let queue = Queue::dispatched(0, |_| ());
    let handled = Arc::new(loom::sync::Mutex::new(Vec::new()));
    let dispatcher = {
        let (queue, handled) = (Arc::clone(&queue), Arc::clone(&handled));
        thread::spawn(move || queue.dispatch(|number| handled.lock().unwrap().push(number)))
    };
    let reader = read_three(&queue);
    queue.end_drained();
    reader.join().unwrap();
    queue.end_dispatcher();
    assert!(queue.wait_delivered(SECOND));
    let count = {
        let handled = handled.lock().unwrap();
        assert_eq!(*handled, (1..=handled.len() as u64).collect::<Vec<_>>());
        handled.len() as u64
    };
    dispatcher.join().unwrap();
    assert_at_rest(&queue, count);
}

/// The counts of a dispatcher's thread are its own, without a lock: the recovery is told all the
/// same, by the thread or by the reader.
fn slow_handler() {
    let told = Told::new();
    let queue = Queue::dispatched(2, told.ear());
    let dispatcher = dispatch(&queue);
    let mut arrivals = queue.arrivals();
    arrivals.read(&[1, 2, 3]);
    queue.end_dispatcher();
    let handled = dispatcher.join().unwrap();
    let counts = queue.counts();
    assert_eq!(handled.len() as u64 + counts.dropped, 3);
    assert_at_rest(&queue, handled.len() as u64);
    told.assert_recovered(counts.dropped);
}

/// Starts the thread of a dispatcher whose handler must not run once the end has been told.
fn dispatch_before_the_end(queue: &Arc<Queue>, told: &Told) -> thread::JoinHandle<()> {
    let (queue, told) = (Arc::clone(queue), told.clone());
    thread::spawn(move || {
        queue.dispatch(|_| assert!(told.all().is_empty(), "handled after its end"));
    })
}

/// The end is told once, by whoever is last to know of it, although nobody waits for the other.
fn dispatched_and_unsubscribed() {
    let told = Told::new();
    let queue = Queue::dispatched(0, told.ear());
    let dispatcher = dispatch_before_the_end(&queue, &told);
    let reader = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || {
            let mut arrivals = queue.arrivals();
            arrivals.read(&[1]);
            arrivals.read(&[2]);
        })
    };
    queue.unsubscribe();
    reader.join().unwrap();
    queue.end_dispatcher();
    dispatcher.join().unwrap();
    assert_eq!(queue.counts().pending, 0);
    assert_eq!(told.all(), [Seen::Ended]);
}

/// A drain ends once the server sends no more: what waits or is in hand is handled before the one
/// end is told.
fn dispatched_and_drained() {
    let told = Told::new();
    let queue = Queue::dispatched(0, told.ear());
    let dispatcher = dispatch_before_the_end(&queue, &told);
    let mut arrivals = queue.arrivals();
    arrivals.read(&[1]);
    arrivals.read(&[2]);
    queue.end_drained();
    queue.end_dispatcher();
    dispatcher.join().unwrap();
    assert_at_rest(&queue, 2);
    assert_eq!(told.all(), [Seen::Ended]);
}

/// The number of messages is set at any moment, of a subscription whose handler runs: both are
/// handled before the one end is told.
fn dispatched_and_completed() {
    let told = Told::new();
    let queue = Queue::dispatched(0, told.ear());
    let dispatcher = dispatch_before_the_end(&queue, &told);
    let reader = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || queue.arrivals().read(&[1, 2]))
    };
    queue.unsubscribe_after(2);
    reader.join().unwrap();
    queue.end_dispatcher();
    dispatcher.join().unwrap();
    assert_at_rest(&queue, 2);
    assert_eq!(told.all(), [Seen::Ended]);
}

/// Reads messages in turn of two subscriptions of a dispatcher, so that the first is in hand, is
/// not, and is again, while it ends as `end` says. Returns what was handled of it: nothing may be
/// once its end has been told. The end is told once, and everything of the other is handled.
fn alternate(end: impl FnOnce(&Queue)) -> Vec<u64> {
    let told = Told::new();
    let queue = Queue::dispatched_pair(told.ear());
    let dispatcher = {
        let (queue, told) = (Arc::clone(&queue), told.clone());
        thread::spawn(move || {
            let mut handled = Vec::new();
            queue.dispatch(|number| {
                let of_the_other = number % 2 == 0;
                assert!(of_the_other || told.all().is_empty(), "handled after its end");
                handled.push(number);
            });
            handled
        })
    };
    queue.arrivals().read_alternating(&[1, 2, 3]);
    end(&queue);
    queue.end_dispatcher();
    let (of_the_other, handled) =
        dispatcher.join().unwrap().into_iter().partition::<Vec<_>, _>(|number| number % 2 == 0);
    assert_eq!(of_the_other, [2]);
    assert_at_rest(&queue, handled.len() as u64);
    assert_eq!(told.all(), [Seen::Ended]);
    handled
}

/// The end of a drain, while the messages of another subscription go between those of this one.
fn dispatched_between_others() {
    assert_eq!(alternate(Queue::end_drained), [1, 3]);
}

/// The same for unsubscribing, which throws away what waits, and nothing of the other.
fn unsubscribed_between_others() {
    let handled = alternate(Queue::unsubscribe);
    assert!([1, 3].starts_with(&handled), "{handled:?}");
}

/// The number of messages is set while the last of them arrives: one side at least sees it, or the
/// consumer would wait for ever.
fn number_set_late() {
    let told = Told::new();
    let queue = Queue::new(0, told.ear());
    let puller = puller(&queue);
    let reader = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || {
            // With the first read it has looked for numbers; only a new one makes it look again.
            let mut arrivals = queue.arrivals();
            arrivals.read(&[1]);
            arrivals.read(&[2]);
        })
    };
    queue.unsubscribe_after(2);
    reader.join().unwrap();
    assert_eq!(puller.join().unwrap(), [1, 2]);
    assert_at_rest(&queue, 2);
    assert_eq!(told.all(), [Seen::Ended]);
}
