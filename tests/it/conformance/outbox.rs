//! Publishing to a server that has stopped to read: the outbox fills, and its policy decides.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::Happening;
use nats_blocking::{
    Connection, ErrorKind, Gather, Headers, Message, OptionsBuilder, OutboxPolicy, PendingLimits,
    Result,
};

use super::backend::{Backend, Client, LIMIT};
use crate::support::wait::{Gate, poll};

conformance! {
    a_full_outbox_refuses_at_once_if_the_program_wants_that,
    a_full_outbox_lets_the_publisher_wait_and_then_says_full,
    a_waiting_publisher_goes_on_when_the_server_reads_again,
    a_full_outbox_drops_the_newest_message_and_tells_which,
    a_handler_never_waits_for_room,
    a_waiting_publisher_is_woken_by_close,
    a_message_larger_than_the_outbox_is_sent_when_nothing_waits,
    the_first_request_may_fill_the_outbox,
}

const SIZE: usize = 256 * 1024;
const PAYLOAD: usize = 32 * 1024;
/// What nobody's kernel holds, in messages.
const TOO_MANY: usize = 4_000;

fn small(options: OptionsBuilder, policy: OutboxPolicy) -> OptionsBuilder {
    options
        .outbox_size(SIZE)
        .outbox_policy(policy)
        .send_buffer_size(64 * 1024)
        .close_timeout(Duration::from_millis(500))
}

/// A payload that begins with its number.
fn payload(number: usize) -> Vec<u8> {
    let mut payload = format!("{number} ").into_bytes();
    payload.resize(PAYLOAD, b'x');
    payload
}

fn number(message: &Message) -> usize {
    let text = message.text().unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Publishes until the outbox is full and stays so: kernels take a little more now and then. Gives
/// the number of messages that were accepted, and the refusal.
fn fill(
    connection: &Connection,
    publish: impl Fn(Vec<u8>) -> Result<()>,
) -> (usize, nats_blocking::Error) {
    let mut accepted = 0;
    while accepted < TOO_MANY {
        match publish(payload(accepted)) {
            Ok(()) => accepted += 1,
            Err(error) if error.kind() != ErrorKind::OutboxFull => return (accepted, error),
            Err(error) if stays_full(connection) => return (accepted, error),
            Err(_) => {}
        }
    }
    panic!("the outbox is never full");
}

/// Whether the outbox has no room for one more message for a while.
fn stays_full(connection: &Connection) -> bool {
    let full = || connection.pending_out().1 + PAYLOAD > SIZE;
    poll(Duration::from_millis(300), || (!full()).then_some(())).is_none()
}

fn a_full_outbox_refuses_at_once_if_the_program_wants_that(backend: &Backend) {
    let client = backend.client_with(|options| small(options, OutboxPolicy::Error));
    let subscription = client.subscribe("a").unwrap();
    client.flush().unwrap();
    backend.go_silent(true);
    let (accepted, error) = fill(&client, |payload| client.publish("a", payload));
    assert_eq!(error.kind(), ErrorKind::OutboxFull);
    assert!(client.pending_out().1 <= SIZE);
    assert_eq!(client.request("a", payload(0), LIMIT).unwrap_err().kind(), ErrorKind::OutboxFull);
    assert_eq!(client.pending_requests(), 0);
    backend.go_silent(false);
    client.flush_timeout(LIMIT).unwrap();
    for expected in 0..accepted {
        assert_eq!(number(&subscription.next_timeout(LIMIT).unwrap()), expected);
    }
    assert!(subscription.try_next().unwrap().is_none());
    assert_eq!(client.statistics().discarded(), 0);
}

fn a_full_outbox_lets_the_publisher_wait_and_then_says_full(backend: &Backend) {
    let patience = Duration::from_millis(100);
    let client = backend.client_with(|options| small(options, OutboxPolicy::Block(patience)));
    backend.go_silent(true);
    let (_, error) = fill(&client, |payload| client.publish("a", payload));
    assert_eq!(error.kind(), ErrorKind::OutboxFull);
    // The kernel may have found a little more room meanwhile.
    let started = Instant::now();
    let (_, refused) = fill(&client, |payload| client.publish("a", payload));
    assert_eq!(refused.kind(), ErrorKind::OutboxFull);
    assert!(started.elapsed() >= patience && started.elapsed() < LIMIT);
    backend.go_silent(false);
    client.flush_timeout(LIMIT).unwrap();
    client.publish("a", "room again").unwrap();
}

fn a_waiting_publisher_goes_on_when_the_server_reads_again(backend: &Backend) {
    let policy = OutboxPolicy::Block(LIMIT * 4);
    let client = backend.client_with(|options| small(options, policy));
    let subscription = client.subscribe("a").unwrap();
    subscription.set_pending_limits(PendingLimits::UNLIMITED);
    client.flush().unwrap();
    backend.go_silent(true);
    let over = Gate::new();
    thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            for count in 0..TOO_MANY {
                client.publish("a", payload(count)).unwrap();
                if over.is_open() {
                    return count + 1;
                }
            }
            panic!("the outbox is never full");
        });
        wait_full(&client);
        over.open();
        backend.go_silent(false);
        let published = publisher.join().unwrap();
        for expected in 0..published {
            assert_eq!(number(&subscription.next_timeout(LIMIT).unwrap()), expected);
        }
    });
    client.flush().unwrap();
    assert!(subscription.try_next().unwrap().is_none());
}

/// Waits until the outbox is full and stays so.
fn wait_full(client: &Client) {
    let full = poll(LIMIT, || stays_full(client).then_some(()));
    assert!(full.is_some(), "{:?} wait to be written", client.pending_out());
}

fn a_full_outbox_drops_the_newest_message_and_tells_which(backend: &Backend) {
    let client = backend.client_with(|options| small(options, OutboxPolicy::DropNewest));
    let subscription = client.subscribe("a").unwrap();
    client.flush().unwrap();
    backend.go_silent(true);
    let mut headers = Headers::new();
    headers.append("Kind", "test").unwrap();
    let mut sent = 0;
    while client.statistics().discarded() < 5 || !stays_full(&client) {
        let message = Message::new("a", payload(sent)).with_reply("answers");
        client.publish_message(&message.with_headers(headers.clone())).unwrap();
        sent += 1;
        assert!(sent < TOO_MANY, "the outbox is never full");
    }
    let discarded = |happening: &Happening| matches!(happening, Happening::MessageDiscarded(_));
    let count = client.statistics().discarded() as usize;
    client.recorder.wait_for_count(LIMIT, count, discarded).unwrap();
    let mut dropped = Vec::new();
    for record in client.recorder.records() {
        if let Happening::MessageDiscarded(message) = record.happening() {
            assert_eq!((message.subject(), message.payload().len()), ("a", PAYLOAD));
            assert_eq!(message.reply(), Some("answers"));
            assert_eq!(message.headers(), &headers);
            dropped.push(number(message));
        }
    }
    assert_eq!(dropped.len(), count);
    let refused = client.request("a", vec![0; 2 * PAYLOAD], LIMIT).unwrap_err();
    assert_eq!((refused.kind(), client.pending_requests()), (ErrorKind::OutboxFull, 0));
    let gather = Gather::for_at_most(LIMIT);
    let refused = client.request_many("a", vec![0; 2 * PAYLOAD], gather).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::OutboxFull);
    backend.go_silent(false);
    client.flush_timeout(LIMIT).unwrap();
    let arrived: Vec<usize> = subscription.try_iter().map(|message| number(&message)).collect();
    let kept: Vec<usize> = (0..sent).filter(|number| !dropped.contains(number)).collect();
    assert_eq!(arrived, kept);
    assert_eq!(client.statistics().discarded() as usize, count + 2);
}

fn a_handler_never_waits_for_room(backend: &Backend) {
    let client = backend.client_with(|options| small(options, OutboxPolicy::Block(LIMIT * 4)));
    let gate = Gate::new();
    let at_gate = gate.clone();
    let (sender, handled) = mpsc::channel();
    let dispatcher = client
        .dispatcher(move |connection, _| {
            assert!(at_gate.wait(LIMIT));
            let _ =
                sender.send(fill(connection, |payload| connection.publish("a", payload)).1.kind());
        })
        .unwrap();
    dispatcher.subscribe("begin").unwrap();
    client.publish("begin", "").unwrap();
    client.flush().unwrap();
    backend.go_silent(true);
    gate.open();
    assert_eq!(handled.recv_timeout(LIMIT).unwrap(), ErrorKind::OutboxFull);
    backend.go_silent(false);
}

fn a_waiting_publisher_is_woken_by_close(backend: &Backend) {
    let client = backend.client_with(|options| small(options, OutboxPolicy::Block(LIMIT * 4)));
    backend.go_silent(true);
    let started = Instant::now();
    thread::scope(|scope| {
        let publisher =
            scope.spawn(|| fill(&client, |payload| client.publish("a", payload)).1.kind());
        wait_full(&client);
        client.close();
        assert_eq!(publisher.join().unwrap(), ErrorKind::Closed);
    });
    assert!(started.elapsed() < LIMIT * 2);
    assert!(client.statistics().discarded() + client.statistics().torn() > 0);
    backend.go_silent(false);
}

fn a_message_larger_than_the_outbox_is_sent_when_nothing_waits(backend: &Backend) {
    let client = backend
        .client_with(|options| small(options, OutboxPolicy::Block(LIMIT)).outbox_size(1_000));
    let subscription = client.subscribe("a").unwrap();
    for count in 0..20 {
        client.publish("a", payload(count)).unwrap();
    }
    for expected in 0..20 {
        assert_eq!(number(&subscription.next_timeout(LIMIT).unwrap()), expected);
    }
}

/// What the first request subscribes to takes no room from it.
fn the_first_request_may_fill_the_outbox(backend: &Backend) {
    let block = OutboxPolicy::Block(LIMIT * 3);
    let client = backend.client_with(|options| options.outbox_size(64 * 1024).outbox_policy(block));
    let other = backend.client();
    let responder = other.dispatcher(|connection, message| {
        connection.respond(&message, message.payload().len().to_string()).unwrap();
    });
    let responder = responder.unwrap();
    responder.subscribe("length").unwrap();
    other.flush().unwrap();
    let started = Instant::now();
    let reply = client.request("length", vec![0; 64 * 1024], LIMIT * 4).unwrap();
    assert_eq!(reply.payload(), b"65536");
    assert!(started.elapsed() < LIMIT * 2, "{:?}", started.elapsed());
}
