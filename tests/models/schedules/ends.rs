//! Ends: drains, closes from everywhere, and what is under way then.

use std::sync::{Arc, Mutex};

use nats_blocking::{ConnectionEventKind, ConnectionStatus, EndReason, ErrorKind, RetryConnect};
use shuttle::thread::spawn;

use super::scene::{LONG, Scene};
use super::server::Server;
use crate::run::Model;

pub(crate) const MODELS: &[Model] = &[
    ("ends: a drain beside a loss", drained_beside_a_loss),
    ("ends: a handler beside a close", handler_beside_close),
    ("ends: closed by three", closed_by_three),
    ("ends: closed in an outage", closed_in_an_outage),
    ("ends: closed while connecting", closed_while_connecting),
    ("ends: told once, before the end", ends_told_once),
    ("ends: the last handle goes anywhere", last_handle),
    ("ends: barriers beside a close", barriers_beside_close),
    ("ends: events that are waited for", events_waited_for),
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

/// Closed by two threads and by a listener at once, with calls that wait: all return, and `Closed`
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
    let scene = Scene::open();
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
    scene.assert_order("a", &[accepted]);
}

/// The first connection is made in the background, and its first attempt refused: what asks for
/// another attempt and the close come at any moment, and whoever waits is told.
fn closed_while_connecting() {
    let server = Server::new();
    server.change(|state| state.refusing = 1);
    let scene =
        Scene::with(server, |options| options.retry_on_failed_connect(RetryConnect::InBackground))
            .expect("it is made in the background");
    let hurrier = scene.thread(|connection| drop(connection.force_reconnect()));
    let publisher = scene.publisher("x", "a", 1);
    let waiter =
        scene.thread(|connection| connection.wait_for_status(ConnectionStatus::Connected, LONG));
    hurrier.join().unwrap();
    scene.connection.close();
    let accepted = publisher.join().unwrap();
    if let Err(error) = waiter.join().unwrap() {
        assert!(error.is_closed(), "{error}");
    }
    scene.assert_over();
    scene.assert_written("a", &[accepted]);
}

/// Three subscriptions end in three ways beside a close: the end of each is told once, before
/// `Closed`, with a reason that fits.
fn ends_told_once() {
    let scene = Scene::open();
    let told = ["a", "b", "c"].map(|subject| {
        let subscription = scene.connection.subscribe(subject).expect("open");
        let ears = Arc::new(Mutex::new(Vec::new()));
        let (ear, heard) = (Arc::clone(&ears), Arc::clone(&scene.heard));
        assert!(subscription.on_closed(move |_, end| {
            assert_eq!(heard.count("Closed"), 0, "told after the end");
            ear.lock().unwrap().push(end.reason().clone());
        }));
        (subscription, ears)
    });
    let [(one, one_told), (two, two_told), (three, three_told)] = told;
    let unsubscriber = spawn(move || one.unsubscribe());
    let drainer = spawn(move || drop(two.drain(LONG)));
    let server = Arc::clone(&scene.server);
    let sender = spawn(move || {
        server.change(|state| state.live().map(|link| link.send("c", "1")));
    });
    let _ = three.unsubscribe_after(1);
    let closer = scene.thread(nats_blocking::Connection::close);
    unsubscriber.join().unwrap();
    drainer.join().unwrap();
    sender.join().unwrap();
    closer.join().unwrap();
    scene.assert_over();
    let reason = |told: &Arc<Mutex<Vec<EndReason>>>| {
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        told[0].clone()
    };
    use EndReason as E;
    assert!(matches!(reason(&one_told), E::Unsubscribed | E::Closed(None)));
    assert!(matches!(reason(&two_told), E::Drained | E::Closed(None)));
    assert!(matches!(reason(&three_told), E::Completed | E::Closed(None)));
}

/// Handles are dropped in a handler, in a listener, and by two threads, one beside a loss: the last
/// one closes, and nothing is left running.
fn last_handle() {
    let Scene { server, heard, connection } = Scene::open();
    let (one, two) = (connection.clone(), connection.clone());
    let held = Mutex::new(Some(connection.clone()));
    connection.add_connection_listener(
        move |_: &nats_blocking::Connection, event: &nats_blocking::ConnectionEvent| {
            if matches!(event.kind(), ConnectionEventKind::Disconnected { .. }) {
                let handle = held.lock().unwrap().take();
                drop(handle);
            }
        },
    );
    let cutting = Arc::clone(&server);
    let cutter = spawn(move || cutting.cut(0));
    let dropper = spawn(move || drop(one));
    let publisher = spawn(move || two.publish("a", "x").expect("it is open"));
    drop(connection);
    cutter.join().unwrap();
    dropper.join().unwrap();
    publisher.join().unwrap();
    // The listener has its handle until it hears of the loss. A thread that did not end would be a
    // deadlock.
    drop(heard);
}

/// Barriers of two threads beside a handler, a loss and a close: each is reached or given up, and
/// behind one that is reached everything before it has been handled.
fn barriers_beside_close() {
    let scene = Scene::open();
    let handled = Arc::new(Mutex::new(0));
    let hand = Arc::clone(&handled);
    let dispatcher =
        scene.connection.dispatcher(move |_, _| *hand.lock().unwrap() += 1).expect("open");
    dispatcher.subscribe("a").expect("open");
    let waiters = [0, 1].map(|_| {
        let handled = Arc::clone(&handled);
        scene.thread(move |connection| {
            let sent = connection.publish("a", "").and_then(|()| connection.flush_timeout(LONG));
            match sent.and_then(|()| connection.barrier(LONG)) {
                Ok(()) => assert!(*handled.lock().unwrap() > 0, "not handled yet"),
                Err(error) => assert!(error.is_closed(), "{error}"),
            }
        })
    });
    scene.connection.barrier(LONG).expect("nobody has closed");
    let closer = scene.thread(nats_blocking::Connection::close);
    for waiter in waiters {
        waiter.join().unwrap();
    }
    closer.join().unwrap();
    scene.assert_over();
}

/// Two threads wait for events beside a loss and a close: both get the same ones, in the order in
/// which the listener hears them, and both come to an end.
fn events_waited_for() {
    let scene = Scene::open();
    let cutter = scene.cutter(0);
    let waiters = [(); 2].map(|()| {
        let events = scene.connection.events();
        spawn(move || events.map(|notice| notice.to_string()).collect::<Vec<_>>())
    });
    cutter.join().unwrap();
    scene.close();
    let [one, two] = waiters.map(|waiter| waiter.join().unwrap());
    let common = one.len().min(two.len());
    // They begin where they were made.
    assert_eq!(one[one.len() - common..], two[two.len() - common..]);
    assert!(one.last().is_some_and(|last| last.contains("closed")), "{one:?}");
}
