//! Closing: from anywhere, more than once, waking whoever waits.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::Happening;
use nats_blocking::{ConnectionEventKind, ConnectionStatus, Consumer, ErrorKind, Headers, Message};

use super::backend::{Backend, Client, LIMIT, kind, numbers, texts};
use crate::support::wait::{Gate, poll};

conformance! {
    many_threads_may_close_and_closed_comes_once,
    closing_writes_what_waits,
    closing_wakes_whoever_waits,
    closing_while_the_server_is_down_gives_up_what_waits_and_counts_it,
    a_listener_may_close_the_connection,
    every_call_on_a_closed_connection_says_closed,
}

fn closed_events(client: &Client) -> usize {
    let closed = |happening: &Happening| {
        matches!(happening.event_kind(), Some(ConnectionEventKind::Closed { .. }))
    };
    client.recorder.count(closed)
}

fn many_threads_may_close_and_closed_comes_once(backend: &Backend) {
    let client = backend.client();
    let _subscription = client.subscribe("a").unwrap();
    thread::scope(|scope| {
        for _ in 0..16 {
            scope.spawn(|| {
                client.close();
                assert!(client.is_closed());
                client.close();
            });
        }
    });
    assert!(client.wait_closed(LIMIT).unwrap().is_none());
    assert_eq!(closed_events(&client), 1);
    let events = client.recorder.events();
    assert_eq!(events.len(), 2, "the program's own close gives Closed alone: {events:?}");
    backend.wait_clients(0);
}

fn closing_writes_what_waits(backend: &Backend) {
    let reader = backend.client();
    let subscription = reader.subscribe("a").unwrap();
    reader.flush().unwrap();
    let client = backend.client_with(|options| options.close_timeout(LIMIT));
    for payload in numbers(5_000) {
        client.publish("a", payload).unwrap();
    }
    client.close();
    assert_eq!(texts(&subscription, 5_000), numbers(5_000));
    assert_eq!(client.statistics().discarded(), 0);
}

fn closing_wakes_whoever_waits(backend: &Backend) {
    let client = backend.client_with(|options| options.close_timeout(Duration::from_millis(500)));
    let subscription = client.subscribe("a").unwrap();
    let pending = client.send_request("a", "").unwrap();
    subscription.next_timeout(LIMIT).unwrap();
    client.flush().unwrap();
    backend.go_silent(true);
    let long = LIMIT * 3;
    let started = Instant::now();
    let pings = client.statistics().pings();
    thread::scope(|scope| {
        let next = scope.spawn(|| kind(subscription.next()));
        let next_timeout = scope.spawn(|| kind(subscription.next_timeout(long)));
        let flush = scope.spawn(|| kind(client.flush_timeout(long)));
        let reply = scope.spawn(|| kind(pending.wait(long)));
        let status =
            scope.spawn(|| kind(client.wait_for_status(ConnectionStatus::Reconnecting, long)));
        let events = scope.spawn(|| client.events().count());
        let closed = scope.spawn(|| client.wait_closed(long));
        // The flush is under way; the others are, or soon will be.
        let flushing = poll(LIMIT, || (client.statistics().pings() > pings).then_some(()));
        assert!(flushing.is_some());
        client.close();
        for waiting in [next, next_timeout, flush, reply, status] {
            assert_eq!(waiting.join().unwrap(), ErrorKind::Closed);
        }
        assert!(events.join().unwrap() <= 1);
        assert!(closed.join().unwrap().unwrap().is_none());
    });
    assert!(started.elapsed() < long);
    backend.go_silent(false);
}

fn closing_while_the_server_is_down_gives_up_what_waits_and_counts_it(backend: &Backend) {
    let client = backend.client();
    backend.go_down();
    client.wait_lost();
    for payload in numbers(10) {
        client.publish("a", payload).unwrap();
    }
    assert_eq!(client.pending_out().0, 10);
    client.close();
    assert_eq!(client.status(), ConnectionStatus::Closed);
    assert_eq!(client.statistics().discarded(), 10);
    assert_eq!(client.pending_out(), (0, 0));
}

fn a_listener_may_close_the_connection(backend: &Backend) {
    let (sender, heard) = mpsc::channel();
    // Closed before `connect` has returned, there would be no connection to look at.
    let gate = Gate::new();
    let at_gate = gate.clone();
    let client = backend.client_with(|options| {
        options.on_connected(move |connection, _| {
            assert!(at_gate.wait(LIMIT));
            connection.close();
            // A second time, and a wait for what this very call holds up.
            connection.close();
            let _ = sender.send(connection.wait_closed(LIMIT).map(|cause| cause.is_none()));
        })
    });
    gate.open();
    assert!(heard.recv_timeout(LIMIT).unwrap().unwrap());
    assert!(client.wait_closed(LIMIT).unwrap().is_none());
    assert_eq!(closed_events(&client), 1);
}

fn every_call_on_a_closed_connection_says_closed(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let dispatcher = client.dispatcher(|_, _| ()).unwrap();
    let sid = dispatcher.subscribe("a").unwrap();
    client.close();
    let request = Message::new("a", "").with_reply("b");
    let refused = [
        kind(client.publish("a", "")),
        kind(client.publish_with_reply("a", "b", "")),
        kind(client.publish_with_headers("a", &Headers::new(), "")),
        kind(client.publish_message(&request)),
        kind(client.respond(&request, "")),
        kind(client.request("a", "", LIMIT)),
        kind(client.request_message(&request, LIMIT)),
        kind(client.send_request("a", "")),
        kind(client.subscribe("a")),
        kind(client.queue_subscribe("a", "q")),
        kind(client.dispatcher(|_, _| ())),
        kind(dispatcher.subscribe("a")),
        kind(dispatcher.drain(LIMIT)),
        kind(subscription.next()),
        kind(subscription.drain(LIMIT)),
        kind(client.flush()),
        kind(client.drain(LIMIT)),
        kind(client.start_drain(LIMIT)),
        kind(client.force_reconnect()),
        kind(client.wait_for_status(ConnectionStatus::Connected, LIMIT)),
    ];
    assert_eq!(refused, [ErrorKind::Closed; 20]);
    client.wait_for_status(ConnectionStatus::Closed, LIMIT).unwrap();
    // What cannot fail does nothing.
    subscription.unsubscribe();
    subscription.unsubscribe_after(1).unwrap();
    dispatcher.unsubscribe(sid);
    assert_eq!(client.events().count(), 0);
    assert_eq!(client.subscription_count(), 0);
    assert_eq!(subscription.delivered(), 0);
    assert!(client.connected_url().is_none() && client.local_addr().is_none());
    assert!(client.rtt().is_err());
}
