//! The line of PONGs: a flush succeeds with its own PONG only, fails with the connection, and may
//! give up at its deadline.

use std::sync::Arc;
use std::time::Duration;

use loom::sync::{Condvar, Mutex};
use loom::thread;
use nats_blocking::internals::{Outbox, Pipe, pass_time};
use nats_blocking::{ErrorKind, OutboxPolicy};

use crate::run::Model;
use crate::wire::Wire;

pub(crate) const MODELS: &[Model] = &[
    ("pongs: two flushes", two_flushes),
    ("pongs: a flush beside a keep-alive", beside_a_keep_alive),
    ("pongs: lost at any moment", lost),
    ("pongs: the time is over", timed),
];

const SECOND: Duration = Duration::from_secs(1);

fn start() -> (Arc<Outbox>, Arc<Wire>, thread::JoinHandle<()>) {
    let outbox = Arc::new(Outbox::new(1 << 20, OutboxPolicy::Error));
    let wire = Wire::new();
    outbox.begin(1, &wire.pipe());
    let flusher = {
        let outbox = Arc::clone(&outbox);
        thread::spawn(move || outbox.flusher())
    };
    (outbox, wire, flusher)
}

/// The reader: a PONG for each of so many PINGs, as they come.
fn answer(outbox: &Outbox, wire: &Wire, pings: usize) {
    let mut answered = 0;
    while answered < pings {
        let seen = wire.wait_pings(answered + 1).min(pings);
        for _ in answered..seen {
            outbox.pong();
        }
        answered = seen;
    }
}

/// Two threads flush at once: each wait is registered before its PING can be answered.
fn two_flushes() {
    let (outbox, wire, flusher) = start();
    let flushes: Vec<_> = (0..2)
        .map(|_| {
            let outbox = Arc::clone(&outbox);
            thread::spawn(move || outbox.ping().expect("up").wait(SECOND))
        })
        .collect();
    answer(&outbox, &wire, 2);
    for flush in flushes {
        flush.join().unwrap().expect("no time passes").expect("a PONG");
    }
    outbox.finish();
    flusher.join().unwrap();
}

/// The PONG of a keep-alive PING never completes a flush whose own PING was not answered.
fn beside_a_keep_alive() {
    let (outbox, wire, flusher) = start();
    outbox.publish("1").expect("room");
    let flush = {
        let (outbox, wire) = (Arc::clone(&outbox), Arc::clone(&wire));
        thread::spawn(move || {
            outbox.ping().expect("up").wait(SECOND).expect("no time").expect("a PONG");
            // What was published before has left.
            assert!(wire.text().contains("PUB a 1\r\n1\r\n"));
        })
    };
    outbox.keep_alive();
    answer(&outbox, &wire, 2);
    flush.join().unwrap();
    assert_eq!(wire.text().matches("PING\r\n").count(), 2);
    outbox.finish();
    flusher.join().unwrap();
}

/// The connection is lost at any moment: the flush fails or has succeeded, and never hangs.
fn lost() {
    let (outbox, wire, flusher) = start();
    let flush = {
        let outbox = Arc::clone(&outbox);
        thread::spawn(move || match outbox.ping() {
            Ok(waiting) => waiting.wait(SECOND).expect("no time passes"),
            Err(error) => Err(error),
        })
    };
    let reader = {
        let (outbox, wire) = (Arc::clone(&outbox), Arc::clone(&wire));
        thread::spawn(move || {
            if wire.wait_pings(1) > 0 {
                outbox.pong();
            }
            outbox.end(SECOND);
        })
    };
    wire.shutdown();
    reader.join().unwrap();
    if let Err(error) = flush.join().unwrap() {
        assert_eq!(error.kind(), ErrorKind::Disconnected);
    }
    outbox.finish();
    flusher.join().unwrap();
}

/// A flush gives up at its deadline: its PONG, when it comes, does not count for the next flush.
fn timed() {
    let (outbox, wire, flusher) = start();
    let clock = thread::spawn(pass_time);
    let flush = {
        let outbox = Arc::clone(&outbox);
        thread::spawn(move || {
            let first = outbox.ping().expect("up").wait(SECOND);
            let second = outbox.ping().expect("up");
            (first, second)
        })
    };
    let seen = wire.wait_pings(1);
    outbox.pong();
    let (first, second) = flush.join().unwrap();
    if let Some(outcome) = first {
        outcome.expect("a PONG");
    }
    if seen == 1 {
        assert!(second.get().is_none(), "the PONG of the first flush");
    }
    wire.wait_pings(2);
    outbox.pong();
    second.get().expect("its own PONG").expect("fine");
    clock.join().unwrap();
    outbox.finish();
    flusher.join().unwrap();
}

/// A control: the waiter is known only after its PING can have been answered.
pub(crate) fn waiter_after_ping() {
    let line = Arc::new((Mutex::new(None::<bool>), Condvar::new()));
    let wire = Wire::new();
    let flush = {
        let (line, wire) = (Arc::clone(&line), Arc::clone(&wire));
        thread::spawn(move || {
            wire.write(b"PING\r\n", true).expect("up");
            let mut state = line.0.lock().unwrap();
            state.get_or_insert(false);
            while *state != Some(true) {
                state = line.1.wait(state).unwrap();
            }
        })
    };
    wire.wait_pings(1);
    {
        let mut state = line.0.lock().unwrap();
        if state.is_some() {
            *state = Some(true);
            line.1.notify_all();
        }
    }
    flush.join().unwrap();
}
