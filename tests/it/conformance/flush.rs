//! Flushing: success is the server's own answer, failure comes at once or in time.

use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::{ConnectionStatus, ErrorKind};

use super::backend::{Backend, LIMIT, kind, numbers, text};
use crate::support::wait::poll;

conformance! {
    many_threads_flush_at_once_and_each_gets_its_answer,
    after_a_flush_the_server_has_everything,
    a_flush_keeps_to_its_time,
    a_flush_waits_for_the_server_to_come_back,
    a_flush_ends_at_once_when_the_server_is_lost,
    a_round_trip_takes_some_time,
}

fn many_threads_flush_at_once_and_each_gets_its_answer(backend: &Backend) {
    let client = backend.client();
    let other = backend.client();
    thread::scope(|scope| {
        for flusher in 0..100 {
            let (client, other) = (&client, &other);
            scope.spawn(move || {
                for number in 0..10 {
                    let subject = format!("flush.{flusher}.{number}");
                    let subscription = client.subscribe(&subject).unwrap();
                    client.flush_timeout(LIMIT * 3).unwrap();
                    // The server knows the subscription: nothing that is sent now is missed.
                    other.publish(&subject, &subject).unwrap();
                    assert_eq!(text(&subscription), subject);
                }
            });
        }
    });
    assert_eq!(client.statistics().flushes(), 1_000);
}

fn after_a_flush_the_server_has_everything(backend: &Backend) {
    let client = backend.client();
    let reader = backend.client();
    let subscription = reader.subscribe("a").unwrap();
    reader.flush().unwrap();
    for payload in numbers(1_000) {
        client.publish("a", payload).unwrap();
    }
    client.flush().unwrap();
    client.wait_written();
    reader.flush().unwrap();
    assert_eq!(subscription.try_iter().count(), 1_000);
}

fn a_flush_keeps_to_its_time(backend: &Backend) {
    let client = backend.client();
    backend.go_silent(true);
    let timeout = Duration::from_millis(50);
    for _ in 0..3 {
        let started = Instant::now();
        assert_eq!(kind(client.flush_timeout(timeout)), ErrorKind::Timeout);
        assert!(started.elapsed() >= timeout);
        assert!(started.elapsed() < LIMIT);
    }
    assert_eq!(kind(client.flush_timeout(Duration::ZERO)), ErrorKind::Timeout);
    assert_eq!(client.status(), ConnectionStatus::Connected);
    backend.go_silent(false);
    // The answers to those that gave up come first, and are not taken for this one's.
    client.flush_timeout(LIMIT).unwrap();
    assert_eq!(client.statistics().flushes(), 1);
}

fn a_flush_waits_for_the_server_to_come_back(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    backend.go_down();
    client.wait_lost();
    assert_eq!(kind(client.flush_timeout(Duration::from_millis(20))), ErrorKind::Timeout);
    client.publish("a", "waits").unwrap();
    thread::scope(|scope| {
        let flush = scope.spawn(|| client.flush_timeout(LIMIT));
        backend.come_up();
        flush.join().unwrap().unwrap();
    });
    assert_eq!(subscription.try_next().unwrap().unwrap().payload(), b"waits");
}

fn a_flush_ends_at_once_when_the_server_is_lost(backend: &Backend) {
    let client = backend.client();
    client.flush().unwrap();
    backend.go_silent(true);
    let long = LIMIT * 3;
    let started = Instant::now();
    thread::scope(|scope| {
        let pings = client.statistics().pings();
        let flushes: Vec<_> =
            (0..3).map(|_| scope.spawn(|| kind(client.flush_timeout(long)))).collect();
        let sent = poll(LIMIT, || (client.statistics().pings() >= pings + 3).then_some(()));
        assert!(sent.is_some());
        backend.go_down();
        for flush in flushes {
            assert_eq!(flush.join().unwrap(), ErrorKind::Disconnected);
        }
    });
    assert!(started.elapsed() < long);
    backend.come_up();
    client.flush_timeout(LIMIT).unwrap();
}

fn a_round_trip_takes_some_time(backend: &Backend) {
    let client = backend.client();
    let rtt = client.rtt().unwrap();
    assert!(rtt > Duration::ZERO && rtt < LIMIT, "{rtt:?}");
    backend.go_down();
    client.wait_lost();
    assert_eq!(kind(client.rtt()), ErrorKind::Disconnected);
    client.close();
    assert!(client.rtt().is_err());
}
