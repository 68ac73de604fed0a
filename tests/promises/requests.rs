//! Requests and flushes: each ends once, on time, with what belongs to it.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::{Connection, Dispatcher, ErrorKind, Message, Options, Result};

use crate::Tier;
use crate::support::nats_server::NatsServer;
use crate::support::wait::poll;

const LIMIT: Duration = Duration::from_secs(60);
const THREADS: u64 = 16;
/// What a request waits; the late replies come after that.
const PATIENCE: Duration = Duration::from_secs(3);
/// By so much a wait ends after its deadline, half of the time.
const SOON: Duration = Duration::from_millis(50);
/// And at worst: a single wait of thousands may come up while the machine does something else.
const LATE: Duration = Duration::from_secs(3);

/// How late the ends of waits were.
#[derive(Default)]
struct Lateness {
    all: AtomicU64,
    soon: AtomicU64,
    latest: AtomicU64,
}

impl Lateness {
    fn take(&self, over: Duration) {
        assert!(over < LATE, "a deadline was missed by {over:?}");
        self.all.fetch_add(1, Ordering::Relaxed);
        if over <= SOON {
            self.soon.fetch_add(1, Ordering::Relaxed);
        }
        self.latest.fetch_max(over.as_micros() as u64, Ordering::Relaxed);
    }

    /// The figure, if half of them have been soon enough.
    fn told(&self) -> String {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (all, soon) = (count(&self.all), count(&self.soon));
        let latest = count(&self.latest).div_ceil(1_000);
        assert!(soon * 2 >= all, "only {soon} of {all} within {SOON:?}, at most {latest} ms");
        let late = all - soon;
        format!("{late} of them more than {} ms late, at most {latest} ms", SOON.as_millis())
    }
}

fn connect(url: &str) -> Connection {
    Options::builder().server(url).connect().unwrap()
}

/// What a responder does with a request, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Once,
    Twice,
    Late,
    Never,
}

fn answer(number: u64) -> Answer {
    // Multiplied so that neighbours differ.
    match number.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0x3fff {
        0 => Answer::Never,
        1 => Answer::Late,
        2..=1_000 => Answer::Twice,
        _ => Answer::Once,
    }
}

fn number_of(message: &Message) -> u64 {
    message.payload().try_into().map(u64::from_be_bytes).expect("eight bytes")
}

/// Replies that are held back, and when they go.
type Held = Arc<Mutex<VecDeque<(Instant, Message)>>>;

fn respond(connection: &Connection, message: &Message) {
    if let Err(error) = connection.respond(message, message.payload()) {
        panic!("respond: {error}");
    }
}

fn responder(connection: &Connection, held: &Held) -> Dispatcher {
    let held = Arc::clone(held);
    let dispatcher = connection
        .dispatcher(move |connection, message| match answer(number_of(&message)) {
            Answer::Never => {}
            Answer::Once => respond(connection, &message),
            Answer::Twice => {
                respond(connection, &message);
                respond(connection, &message);
            }
            Answer::Late => {
                held.lock().unwrap().push_back((Instant::now() + PATIENCE + PATIENCE / 2, message));
            }
        })
        .unwrap();
    dispatcher.subscribe("ask.*").unwrap();
    connection.flush().unwrap();
    dispatcher
}

/// What has been counted over all threads.
#[derive(Default)]
struct Counts {
    answered: AtomicU64,
    timed_out: AtomicU64,
    crossed: AtomicU64,
    lateness: Lateness,
}

impl Counts {
    fn outcome(&self, number: u64, outcome: Result<Message>, waited: Duration) {
        match outcome {
            Ok(reply) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                if number_of(&reply) != number {
                    self.crossed.fetch_add(1, Ordering::Relaxed);
                }
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
                let unanswered = matches!(answer(number), Answer::Never | Answer::Late);
                assert!(unanswered, "request {number} was answered and timed out");
                self.timed_out.fetch_add(1, Ordering::Relaxed);
                self.lateness.take(waited.saturating_sub(PATIENCE));
            }
        }
    }
}

/// One thread's share: half of it one by one, half of it eight under way at once.
fn ask(connection: &Connection, numbers: std::ops::Range<u64>, counts: &Counts) {
    let half = numbers.start + (numbers.end - numbers.start) / 2;
    for number in numbers.start..half {
        let begun = Instant::now();
        let outcome = connection.request("ask.one", number.to_be_bytes(), PATIENCE);
        counts.outcome(number, outcome, begun.elapsed());
    }
    let mut next = half;
    while next < numbers.end {
        let batch: Vec<u64> = (next..numbers.end.min(next + 8)).collect();
        next += batch.len() as u64;
        let pending: Vec<_> = batch
            .iter()
            .map(|number| connection.send_request("ask.many", number.to_be_bytes()).unwrap())
            .collect();
        for (number, pending) in batch.into_iter().zip(pending) {
            let begun = Instant::now();
            counts.outcome(number, pending.wait(PATIENCE), begun.elapsed());
        }
    }
}

/// A responder answers at once, twice, too late or never.
pub(crate) fn end_once(tier: Tier) -> String {
    let total: u64 = tier.choose(1_000_000, 10_000_000);
    let server = NatsServer::start_plain();
    let held: Held = Arc::default();
    let answering = connect(&server.url());
    let _responder = responder(&answering, &held);
    let over = Arc::new(AtomicBool::new(false));
    let late = {
        let (held, over, answering) = (Arc::clone(&held), Arc::clone(&over), answering.clone());
        thread::spawn(move || {
            while !over.load(Ordering::SeqCst) {
                let due = {
                    let mut held = held.lock().unwrap();
                    let due = held.front().is_some_and(|(when, _)| *when <= Instant::now());
                    due.then(|| held.pop_front()).flatten()
                };
                match due {
                    Some((_, message)) => respond(&answering, &message),
                    // Paces: the looks at the clock.
                    None => thread::sleep(Duration::from_millis(5)),
                }
            }
        })
    };
    let asking = connect(&server.url());
    let counts = Arc::new(Counts::default());
    let share = total / THREADS;
    let threads: Vec<_> = (0..THREADS)
        .map(|at| {
            let (asking, counts) = (asking.clone(), Arc::clone(&counts));
            thread::spawn(move || ask(&asking, at * share..(at + 1) * share, &counts))
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let empty = poll(LIMIT, || (asking.pending_requests() == 0).then_some(()));
    assert!(empty.is_some(), "{} requests stay behind", asking.pending_requests());
    over.store(true, Ordering::SeqCst);
    late.join().unwrap();
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (answered, timed_out) = (count(&counts.answered), count(&counts.timed_out));
    assert_eq!(count(&counts.crossed), 0, "crossed");
    assert_eq!(answered + timed_out, share * THREADS, "each ends once");
    format!(
        "{} requests from {THREADS} threads: {answered} answered, {timed_out} timed out, {}, \
         crossed 0, left behind 0",
        share * THREADS,
        counts.lateness.told()
    )
}

/// A flush that succeeds has brought everything before it to the server, and from there to a
/// subscriber that flushes after it; one without an answer ends at its deadline.
pub(crate) fn flushes(tier: Tier) -> String {
    let rounds: u64 = tier.choose(25_000, 250_000);
    let server = NatsServer::start_plain();
    let threads: Vec<_> = (0..4_u64)
        .map(|at| {
            let (publishing, counting) = (connect(&server.url()), connect(&server.url()));
            thread::spawn(move || {
                let subject = format!("count.{at}");
                let subscription = counting.subscribe(&subject).unwrap();
                counting.flush().unwrap();
                for round in 0..rounds {
                    let count = round % 4;
                    for _ in 0..count {
                        publishing.publish(&subject, "").unwrap();
                    }
                    publishing.flush().unwrap();
                    counting.flush().unwrap();
                    let there = subscription.try_iter().count() as u64;
                    assert_eq!(there, count, "a flush answered before its messages");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let silent = connect(&server.url());
    silent.flush().unwrap();
    server.stop();
    let lateness = Arc::new(Lateness::default());
    let threads: Vec<_> = (0..20)
        .map(|_| {
            let (silent, lateness) = (silent.clone(), Arc::clone(&lateness));
            thread::spawn(move || {
                for _ in 0..50 {
                    let (begun, timeout) = (Instant::now(), Duration::from_millis(20));
                    let error = silent.flush_timeout(timeout).expect_err("nobody answers");
                    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
                    lateness.take(begun.elapsed().saturating_sub(timeout));
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    server.cont();
    format!(
        "{} flushes, everything before each had arrived; 1000 at a stopped server, each ended at \
         its deadline, {}",
        rounds * 8,
        lateness.told()
    )
}
