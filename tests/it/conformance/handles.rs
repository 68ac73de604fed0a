//! Handles: what keeps a connection open, and what happens when the last one goes.

use std::sync::{Mutex, mpsc};

use nats_blocking::testing::Recorder;
use nats_blocking::{Connection, ConnectionEventKind, ErrorKind};

use super::backend::{Backend, LIMIT, kind, numbers, text, texts};

conformance! {
    dropping_the_last_handle_closes_and_delivers_closed,
    dropping_the_last_handle_writes_what_waits,
    a_subscription_keeps_its_connection_open,
    a_dispatcher_keeps_its_connection_open,
    a_weak_handle_gives_a_handle_while_there_is_one,
    a_listener_may_hold_a_handle_of_its_own_connection,
    a_handler_may_hold_the_last_handle,
    a_clone_made_after_the_end_is_a_closed_handle,
    an_event_iterator_does_not_keep_its_connection_open,
}

/// A connection without a guard: the test is about when it ends.
fn connect(backend: &Backend) -> (Connection, Recorder) {
    let recorder = Recorder::new();
    let options = backend.options().connection_listener(recorder.clone());
    (options.error_listener(recorder.clone()).connect().unwrap(), recorder)
}

fn wait_closed(recorder: &Recorder) {
    recorder
        .wait_for_event(LIMIT, |kind| matches!(kind, ConnectionEventKind::Closed { cause: None }))
        .unwrap();
    recorder.check().unwrap();
}

fn dropping_the_last_handle_closes_and_delivers_closed(backend: &Backend) {
    let (connection, recorder) = connect(backend);
    let clone = connection.clone();
    drop(connection);
    clone.flush().unwrap();
    drop(clone);
    wait_closed(&recorder);
    backend.wait_clients(0);
}

fn dropping_the_last_handle_writes_what_waits(backend: &Backend) {
    let reader = backend.client();
    let subscription = reader.subscribe("a").unwrap();
    reader.flush().unwrap();
    let (connection, recorder) = connect(backend);
    for payload in numbers(1_000) {
        connection.publish("a", payload).unwrap();
    }
    drop(connection);
    assert_eq!(texts(&subscription, 1_000), numbers(1_000));
    wait_closed(&recorder);
}

fn a_subscription_keeps_its_connection_open(backend: &Backend) {
    let other = backend.client();
    let (connection, recorder) = connect(backend);
    let subscription = connection.subscribe("a").unwrap();
    connection.flush().unwrap();
    drop(connection);
    other.publish("a", "still here").unwrap();
    assert_eq!(text(&subscription), "still here");
    drop(subscription);
    wait_closed(&recorder);
    backend.wait_clients(1);
}

fn a_dispatcher_keeps_its_connection_open(backend: &Backend) {
    let other = backend.client();
    let (connection, recorder) = connect(backend);
    let dispatcher = connection
        .dispatcher(|connection, message| connection.respond(&message, "still here").unwrap())
        .unwrap();
    dispatcher.subscribe("a").unwrap();
    connection.flush().unwrap();
    drop(connection);
    assert_eq!(other.request("a", "", LIMIT).unwrap().payload(), b"still here");
    drop(dispatcher);
    wait_closed(&recorder);
    backend.wait_clients(1);
}

fn a_weak_handle_gives_a_handle_while_there_is_one(backend: &Backend) {
    let (connection, recorder) = connect(backend);
    let weak = connection.downgrade();
    let upgraded = weak.upgrade().unwrap();
    drop(connection);
    upgraded.flush().unwrap();
    let again = weak.clone().upgrade().unwrap();
    drop(upgraded);
    again.flush().unwrap();
    drop(again);
    assert!(weak.upgrade().is_none());
    wait_closed(&recorder);
}

fn a_listener_may_hold_a_handle_of_its_own_connection(backend: &Backend) {
    let (sender, heard) = mpsc::channel();
    let (connection, recorder) = connect(backend);
    let itself = connection.clone();
    let held = Mutex::new(sender);
    connection.add_connection_listener(
        move |_: &Connection, event: &nats_blocking::ConnectionEvent| {
            let _ = held.lock().unwrap().send((event.kind().clone(), itself.is_closed()));
        },
    );
    // The cycle keeps the connection open until it is closed; then the listener is dropped.
    let weak = connection.downgrade();
    drop(connection);
    let again = weak.upgrade().unwrap();
    again.flush().unwrap();
    again.close();
    drop(again);
    let (event, closed) = heard.recv_timeout(LIMIT).unwrap();
    assert!(matches!(event, ConnectionEventKind::Closed { .. }) && closed);
    assert_eq!(heard.recv_timeout(LIMIT).unwrap_err(), mpsc::RecvTimeoutError::Disconnected);
    wait_closed(&recorder);
}

fn a_handler_may_hold_the_last_handle(backend: &Backend) {
    let (connection, recorder) = connect(backend);
    let itself = connection.clone();
    let dispatcher =
        connection.dispatcher(move |_, message| itself.respond(&message, "mine").unwrap()).unwrap();
    dispatcher.subscribe("a").unwrap();
    assert_eq!(connection.request("a", "", LIMIT).unwrap().payload(), b"mine");
    drop(connection);
    // Its thread drops the handler, and with it the last handle.
    drop(dispatcher);
    wait_closed(&recorder);
    backend.wait_clients(0);
}

fn a_clone_made_after_the_end_is_a_closed_handle(backend: &Backend) {
    let (sender, heard) = mpsc::channel();
    let sender = Mutex::new(sender);
    let connection = backend
        .options()
        .on_closed(move |connection, _| {
            let outcome = (connection.downgrade().upgrade().is_none(), connection.clone());
            let _ = sender.lock().unwrap().send(outcome);
        })
        .connect()
        .unwrap();
    drop(connection);
    let (gone, clone) = heard.recv_timeout(LIMIT).unwrap();
    assert!(gone);
    assert!(clone.is_closed());
    assert_eq!(kind(clone.publish("a", "")), ErrorKind::Closed);
    assert_eq!(kind(clone.subscribe("a")), ErrorKind::Closed);
    let second = clone.clone();
    drop(clone);
    assert!(second.is_closed());
}

fn an_event_iterator_does_not_keep_its_connection_open(backend: &Backend) {
    let (connection, recorder) = connect(backend);
    let events = connection.events();
    drop(connection);
    assert_eq!(events.count(), 1, "Closed, then the end");
    wait_closed(&recorder);
}
