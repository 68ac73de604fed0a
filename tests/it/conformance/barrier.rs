//! Waiting until handlers and listeners have worked off what there was.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use nats_blocking::ErrorKind;

use super::backend::{Backend, LIMIT, kind, numbers, text_of};
use crate::support::wait::Gate;

conformance! {
    a_barrier_waits_for_every_handler_of_what_had_arrived,
    a_handler_that_takes_too_long_is_a_time_out,
    a_barrier_waits_for_what_listeners_were_told,
    a_barrier_without_handlers_returns_at_once,
    a_barrier_in_a_handler_or_listener_is_misuse,
    a_barrier_ends_with_its_connection,
    a_barrier_passes_a_dispatcher_that_ends,
}

fn a_barrier_waits_for_every_handler_of_what_had_arrived(backend: &Backend) {
    let client = backend.client();
    let (sender, handled) = mpsc::channel();
    let mut dispatchers = Vec::new();
    for _ in 0..3 {
        let sender = sender.clone();
        let dispatcher = client
            .dispatcher(move |_, message| {
                let _ = sender.send(text_of(&message));
            })
            .unwrap();
        dispatcher.subscribe("a").unwrap();
        dispatchers.push(dispatcher);
    }
    for round in 1..=20 {
        for payload in numbers(100) {
            client.publish("a", payload).unwrap();
        }
        client.flush().unwrap();
        client.barrier(LIMIT).unwrap();
        assert_eq!(handled.try_iter().count(), 300, "round {round}");
    }
}

fn a_handler_that_takes_too_long_is_a_time_out(backend: &Backend) {
    let client = backend.client();
    let (sender, handled) = mpsc::channel();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let dispatcher = client
        .dispatcher(move |_, message| {
            assert!(at_gate.wait(LIMIT));
            let _ = sender.send(text_of(&message));
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    client.publish("a", "0").unwrap();
    client.flush().unwrap();
    assert_eq!(kind(client.barrier(Duration::from_millis(20))), ErrorKind::Timeout);
    gate.open();
    client.barrier(LIMIT).unwrap();
    assert_eq!(handled.try_recv().unwrap(), "0");
}

fn a_barrier_waits_for_what_listeners_were_told(backend: &Backend) {
    let gate = Gate::new();
    let (sender, told) = mpsc::channel();
    let at_gate = gate.clone();
    let client = backend.client_with(|options| {
        options.on_connected(move |_, _| {
            assert!(at_gate.wait(LIMIT));
            let _ = sender.send(());
        })
    });
    assert_eq!(kind(client.barrier(Duration::from_millis(20))), ErrorKind::Timeout);
    gate.open();
    client.barrier(LIMIT).unwrap();
    told.try_recv().unwrap();
}

fn a_barrier_without_handlers_returns_at_once(backend: &Backend) {
    let client = backend.client();
    client.barrier(LIMIT).unwrap();
    let _idle = client.dispatcher(|_, _| ()).unwrap();
    client.barrier(LIMIT).unwrap();
    client.close();
    assert_eq!(kind(client.barrier(LIMIT)), ErrorKind::Closed);
}

fn a_barrier_in_a_handler_or_listener_is_misuse(backend: &Backend) {
    let (sender, outcomes) = mpsc::channel();
    let in_listener = sender.clone();
    let client = backend.client_with(|options| {
        options.on_connected(move |connection, _| {
            let _ = in_listener.send(kind(connection.barrier(LIMIT)));
        })
    });
    let dispatcher = client
        .dispatcher(move |connection, _| {
            let _ = sender.send(kind(connection.barrier(LIMIT)));
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    client.publish("a", "").unwrap();
    for _ in 0..2 {
        assert_eq!(outcomes.recv_timeout(LIMIT).unwrap(), ErrorKind::Misuse);
    }
}

fn a_barrier_ends_with_its_connection(backend: &Backend) {
    let gate = Gate::new();
    let at_gate = gate.clone();
    let client = backend.client_with(|options| options.close_timeout(Duration::from_millis(200)));
    let (sender, begins) = mpsc::channel();
    let dispatcher = client
        .dispatcher(move |_, _| {
            sender.send(()).unwrap();
            assert!(at_gate.wait(LIMIT));
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    client.publish("a", "").unwrap();
    begins.recv_timeout(LIMIT).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| kind(client.barrier(LIMIT * 3)));
        client.close();
        // The handler still runs: the barrier does not wait for it.
        assert_eq!(waiting.join().unwrap(), ErrorKind::Closed);
    });
    gate.open();
}

fn a_barrier_passes_a_dispatcher_that_ends(backend: &Backend) {
    let client = backend.client();
    let gate = Gate::new();
    let at_gate = gate.clone();
    let (sender, begins) = mpsc::channel();
    let dispatcher = client
        .dispatcher(move |_, _| {
            sender.send(()).unwrap();
            assert!(at_gate.wait(LIMIT));
        })
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    for payload in numbers(10) {
        client.publish("a", payload).unwrap();
    }
    begins.recv_timeout(LIMIT).unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.barrier(LIMIT));
        drop(dispatcher);
        gate.open();
        waiting.join().unwrap().unwrap();
    });
    client.barrier(LIMIT).unwrap();
}
