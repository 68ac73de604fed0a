//! Ends: drains, closes from everywhere, and what is under way then.

use std::sync::{Arc, Mutex};

use nats_blocking::{ConnectionEventKind, ErrorKind};
use shuttle::thread::spawn;

use super::scene::{LONG, Scene};
use super::server::{Server, State};
use crate::run::Model;

pub(crate) const MODELS: &[Model] = &[
    ("ends: a drain beside a loss", drained_beside_a_loss),
    ("ends: a handler beside a close", handler_beside_close),
    ("ends: closed by three", closed_by_three),
    ("ends: closed in an outage", closed_in_an_outage),
];

/// A drain while the connection is lost at any moment: it ends, and the connection with it.
fn drained_beside_a_loss() {
    let scene = Scene::open();
    let subscription = scene.connection.subscribe("a").expect("open");
    let cutter = scene.cutter(0);
    let publisher = scene.publisher("x", "b", 2);
    let accepted = publisher.join().unwrap();
    let drained = scene.connection.drain(LONG);
    cutter.join().unwrap();
    match drained {
        Ok(()) => {}
        Err(error) => assert!(error.is_disconnected(), "{error}"),
    }
    scene.close();
    assert!(subscription.next_timeout(LONG).is_err(), "nothing was sent");
    scene.assert_written("b", &[accepted]);
}

/// Messages on their way to a handler beside a close: those that are handled come in order, and
/// none behind the close.
fn handler_beside_close() {
    let scene = Scene::open();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let hand = Arc::clone(&handled);
    let dispatcher = scene
        .connection
        .dispatcher(move |connection, message| {
            hand.lock().unwrap().push(message.text().expect("text").to_owned());
            // A handler may be anywhere in the library when the end comes.
            let _ = connection.publish("b", message.payload());
        })
        .expect("open");
    dispatcher.subscribe("a").expect("open");
    scene.connection.flush_timeout(LONG).expect("a flush");
    let server = Arc::clone(&scene.server);
    let sender = spawn(move || {
        for number in ["1", "2", "3"] {
            server.change(|state| state.live().map(|link| link.send("a", number)));
        }
    });
    scene.close();
    let before = handled.lock().unwrap().clone();
    sender.join().unwrap();
    assert!(["1", "2", "3"].starts_with(&before.iter().map(String::as_str).collect::<Vec<_>>()));
    drop(dispatcher);
    assert_eq!(before, *handled.lock().unwrap(), "handled after the close");
    let published = scene.server.state().payloads("b");
    assert!(before.starts_with(&published), "{published:?} of {before:?}");
}

/// Closed by two threads and by a listener at once, with a call that waits: all return, and `Closed`
/// is told once.
pub(crate) fn closed_by_three() {
    let scene = Scene::with(Server::new(), |options| {
        options.on_event(|connection, event| {
            if matches!(event.kind(), ConnectionEventKind::Connected) {
                connection.close();
            }
        })
    });
    // The listener may be faster than the call that connects.
    let scene = match scene {
        Ok(scene) => scene,
        Err(error) => return assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
    };
    let closers = [0, 1].map(|_| scene.thread(nats_blocking::Connection::close));
    let flusher = scene.thread(|connection| connection.flush_timeout(LONG));
    let waiter = scene.thread(|connection| connection.wait_closed(LONG));
    for closer in closers {
        closer.join().unwrap();
    }
    if let Err(error) = flusher.join().unwrap() {
        assert!(error.is_closed(), "{error}");
    }
    assert!(waiter.join().unwrap().is_ok());
    scene.assert_over();
    assert_eq!(scene.heard.count("Closed"), 1);
}

/// Lost, and refused afterwards: a close at any moment of the outage ends it, with what waits then.
fn closed_in_an_outage() {
    let server = Server::with(State { answering: true, ..State::default() });
    let scene = Scene::with(server, |options| options).expect("a connection");
    scene.server.change(|state| state.refusing = 1);
    let cutter = scene.cutter(0);
    let publisher = scene.publisher("x", "a", 2);
    let flusher = scene.thread(|connection| connection.flush_timeout(LONG));
    let request = scene.thread(|connection| connection.request("svc", "x", LONG).map(drop));
    cutter.join().unwrap();
    scene.connection.close();
    let accepted = publisher.join().unwrap();
    for outcome in [flusher.join().unwrap(), request.join().unwrap()] {
        if let Err(error) = outcome {
            assert!(error.is_closed() || error.is_disconnected(), "{error}");
        }
    }
    scene.assert_over();
    drop(accepted);
}
