//! The outbox: publishers append, the write turn goes from hand to hand, the reader ends and begins
//! connections.

use std::sync::Arc;
use std::time::Duration;

use loom::thread::{self, JoinHandle};
use nats_blocking::internals::{Outbox, Pipe, pass_time};
use nats_blocking::{ErrorKind, OutboxPolicy};

use crate::run::Model;
use crate::wire::Wire;

pub(crate) const MODELS: &[Model] = &[
    ("outbox: two publishers, closed", two_publishers),
    ("outbox: a write cut short", cut_short),
    ("outbox: lost and begun again", lost_and_begun),
    ("outbox: lost twice", lost_twice),
    ("outbox: lost without patience", lost_without_patience),
    ("outbox: waiting for room", waiting_for_room),
    ("outbox: waiting for room, timed", waiting_for_room_timed),
    ("outbox: a writer that is behind", writer_behind),
    ("outbox: a writer that is behind, timed", writer_behind_timed),
    ("outbox: a writer that is behind, lost", writer_behind_lost),
    ("outbox: behind, and no room", behind_and_no_room),
    ("outbox: finished while publishing", finished_while_publishing),
    ("outbox: finished without patience", finished_without_patience),
];

const SECOND: Duration = Duration::from_secs(1);

fn publisher(outbox: &Arc<Outbox>, payloads: &'static [&'static str]) -> JoinHandle<()> {
    let outbox = Arc::clone(outbox);
    thread::spawn(move || {
        for payload in payloads {
            outbox.publish(payload).expect("room");
        }
    })
}

fn flusher(outbox: &Arc<Outbox>) -> JoinHandle<()> {
    let outbox = Arc::clone(outbox);
    thread::spawn(move || outbox.flusher())
}

/// The payloads, of one byte each, in the order in which they were written.
fn payloads(text: &str) -> String {
    let mut payloads = String::new();
    let mut rest = text;
    while let Some(frame) = rest.strip_prefix("PUB a 1\r\n") {
        payloads.push_str(&frame[..1]);
        rest = &frame[3..];
    }
    assert_eq!(rest, "", "not whole frames: {text:?}");
    payloads
}

fn only(text: &str, of: &str) -> String {
    text.chars().filter(|payload| of.contains(*payload)).collect()
}

/// Each message once, those of one publisher in order; and the end of the close waits for no time.
pub(crate) fn two_publishers() {
    publish_and_close(Outbox::new(1 << 20, OutboxPolicy::Error), &Wire::new());
}

/// The same where the first write of a caller does not fit.
fn cut_short() {
    publish_and_close(Outbox::new(1 << 20, OutboxPolicy::Error), &Wire::with_room(4));
}

fn publish_and_close(outbox: Outbox, wire: &Arc<Wire>) {
    let outbox = Arc::new(outbox);
    outbox.begin(1, &wire.pipe());
    let flusher = flusher(&outbox);
    let first = publisher(&outbox, &["1", "2"]);
    let second = publisher(&outbox, &["a"]);
    first.join().unwrap();
    second.join().unwrap();
    outbox.close();
    // No time passes in this model: it returns only if the last write wakes it.
    outbox.wait_written(SECOND);
    let written = payloads(&wire.text());
    assert_eq!(only(&written, "12"), "12");
    assert_eq!(only(&written, "a"), "a");
    assert_eq!(outbox.pending(), (0, 0));
    outbox.finish();
    flusher.join().unwrap();
}

/// A loss at any moment: what was not written goes to the next connection, in order, nothing twice.
fn lost_and_begun() {
    lose_and_begin(Outbox::new(1 << 20, OutboxPolicy::Error));
}

/// The same while a publisher lets the writer catch up: the loss wakes it, if no write does.
fn writer_behind_lost() {
    lose_and_begin(Outbox::with_high_water(1 << 20, 12, OutboxPolicy::Block(SECOND)));
}

fn lose_and_begin(outbox: Outbox) {
    let outbox = Arc::new(outbox);
    let (one, two) = (Wire::new(), Wire::new());
    outbox.begin(1, &one.pipe());
    let flusher = flusher(&outbox);
    let publisher = publisher(&outbox, &["1", "2"]);
    one.shutdown();
    outbox.end(SECOND);
    outbox.begin(2, &two.pipe());
    publisher.join().unwrap();
    outbox.close();
    outbox.wait_written(SECOND);
    assert_eq!(payloads(&one.text()) + &payloads(&two.text()), "12");
    assert_eq!((outbox.pending(), outbox.lost()), ((0, 0), (0, 0)));
    outbox.finish();
    flusher.join().unwrap();
}

/// A loss right after a loss.
fn lost_twice() {
    let (written, lost) = lose(2);
    assert_eq!((written.as_str(), lost), ("12", 0));
}

/// One loss with the patience of the teardown over at any moment: a writer of an earlier connection
/// changes nothing in a later one, and what it held is counted.
fn lost_without_patience() {
    let clock = thread::spawn(pass_time);
    let (written, lost) = lose(1);
    clock.join().unwrap();
    assert!(["", "1", "2", "12"].contains(&written.as_str()), "{written}");
    assert!(written.len() as u64 + lost >= 2, "{written}, {lost} lost");
}

/// Returns what was written, and how many messages were given up.
fn lose(times: usize) -> (String, u64) {
    let outbox = Arc::new(Outbox::new(1 << 20, OutboxPolicy::Error));
    let wires: Vec<_> = (0..=times).map(|_| Wire::new()).collect();
    outbox.begin(1, &wires[0].pipe());
    let flusher = flusher(&outbox);
    let publisher = publisher(&outbox, &["1", "2"]);
    for (epoch, pair) in (2..).zip(wires.windows(2)) {
        pair[0].shutdown();
        outbox.end(SECOND);
        outbox.begin(epoch, &pair[1].pipe());
    }
    publisher.join().unwrap();
    outbox.close();
    outbox.wait_written(SECOND);
    while outbox.pending() != (0, 0) {
        thread::yield_now();
    }
    outbox.finish();
    flusher.join().unwrap();
    let written = wires.iter().map(|wire| payloads(&wire.text())).collect();
    let (discarded, torn) = outbox.lost();
    (written, discarded + torn)
}

/// The outbox holds one message: the others wait for room, and are woken by the writes.
fn waiting_for_room() {
    publish_and_close(Outbox::new(12, OutboxPolicy::Block(SECOND)), &Wire::new());
}

/// There is room, but the publishers let the writer catch up, whose writes wake them.
fn writer_behind() {
    let outbox = Outbox::with_high_water(1 << 20, 12, OutboxPolicy::Block(SECOND));
    publish_and_close(outbox, &Wire::new());
}

/// Of three messages two fit, and one lets the writer catch up: each publisher is woken for its own
/// reason.
fn behind_and_no_room() {
    let outbox = Outbox::with_high_water(24, 12, OutboxPolicy::Block(SECOND));
    publish_and_close(outbox, &Wire::new());
}

/// What a publisher gives the writer may be over at any moment: its message is taken all the same.
fn writer_behind_timed() {
    let outbox = Outbox::with_high_water(1 << 20, 12, OutboxPolicy::Block(SECOND));
    assert_eq!(publish_while_time_passes(outbox), "12");
}

/// The patience of a publisher may be over at any moment: its message is written, or refused.
fn waiting_for_room_timed() {
    publish_while_time_passes(Outbox::new(12, OutboxPolicy::Block(SECOND)));
}

/// Returns what was accepted, all of which is written.
fn publish_while_time_passes(outbox: Outbox) -> String {
    let outbox = Arc::new(outbox);
    let wire = Wire::new();
    outbox.begin(1, &wire.pipe());
    let flusher = flusher(&outbox);
    let publisher = {
        let outbox = Arc::clone(&outbox);
        thread::spawn(move || {
            let publish = |payload: &&str| match outbox.publish(payload) {
                Ok(()) => true,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::OutboxFull);
                    false
                }
            };
            ["1", "2"].into_iter().filter(publish).collect::<String>()
        })
    };
    let clock = thread::spawn(pass_time);
    let accepted = publisher.join().unwrap();
    clock.join().unwrap();
    outbox.close();
    while outbox.pending() != (0, 0) {
        thread::yield_now();
    }
    assert_eq!(payloads(&wire.text()), accepted);
    outbox.finish();
    flusher.join().unwrap();
    accepted
}

/// The end at any moment: a message is refused, written, or counted as given up.
fn finished_while_publishing() {
    let outbox = Arc::new(Outbox::new(1 << 20, OutboxPolicy::Error));
    let wire = Wire::new();
    outbox.begin(1, &wire.pipe());
    let flusher = flusher(&outbox);
    let publisher = counting_publisher(&outbox);
    outbox.close();
    wire.shutdown();
    outbox.end(SECOND);
    outbox.finish();
    flusher.join().unwrap();
    let accepted = publisher.join().unwrap();
    let written = payloads(&wire.text());
    assert!("12".starts_with(&written), "{written}");
    let (discarded, torn) = outbox.lost();
    assert_eq!(written.len() as u64 + discarded + torn, accepted);
    assert_eq!(outbox.pending(), (0, 0));
}

/// The same without waiting for the writer: what it holds is given up, and counted.
fn finished_without_patience() {
    let outbox = Arc::new(Outbox::new(1 << 20, OutboxPolicy::Error));
    let wire = Wire::new();
    outbox.begin(1, &wire.pipe());
    let flusher = flusher(&outbox);
    let publisher = counting_publisher(&outbox);
    wire.shutdown();
    outbox.finish();
    flusher.join().unwrap();
    let accepted = publisher.join().unwrap();
    let written = payloads(&wire.text()).len() as u64;
    let (discarded, torn) = outbox.lost();
    // What was written in that very moment is counted twice, nothing is counted never.
    assert!((accepted..=accepted + written).contains(&(written + discarded + torn)));
    assert_eq!(outbox.pending(), (0, 0));
}

/// Publishes two messages and says how many were accepted.
fn counting_publisher(outbox: &Arc<Outbox>) -> JoinHandle<u64> {
    let outbox = Arc::clone(outbox);
    thread::spawn(move || {
        ["1", "2"].into_iter().filter(|payload| outbox.publish(payload).is_ok()).count() as u64
    })
}
