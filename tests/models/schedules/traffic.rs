//! Requests, handlers and slow consumers.

use std::sync::Arc;

use nats_blocking::PendingLimits;
use nats_blocking::internals::pass_time;
use shuttle::thread::spawn;

use super::scene::{LONG, Scene};
use super::server::{Server, State};
use crate::run::Model;

pub(crate) const MODELS: &[Model] = &[
    ("traffic: a late reply behind a loss", late_reply),
    ("traffic: a request and its time-out", request_and_time),
    ("traffic: requests, forced, answered", requests_forced),
    ("traffic: a slow consumer", slow_consumer),
];

/// A request whose connection is lost at any moment ends with its reply or with the loss; a reply
/// that comes later, over the next connection, changes nothing for the next request.
fn late_reply() {
    let scene = Scene::with(Server::with(State::default()), |options| {
        options.fail_requests_on_disconnect()
    })
    .expect("a connection");
    let cutter = scene.cutter(0);
    let server = Arc::clone(&scene.server);
    let replier = spawn(move || {
        // Whoever is there gets a reply: on the connection of its request, or on the next.
        while let Some((reply, body)) = server.wait(|state| match state.unanswered.pop() {
            Some(request) => Some(Some(request)),
            None => state.over.then_some(None),
        }) {
            server.change(|state| state.live().map(|link| link.send(&reply, &body)));
        }
    });
    let first = scene.connection.request("svc", "first", LONG);
    match &first {
        Ok(message) => assert_eq!(message.payload(), b"first"),
        Err(error) => assert!(error.is_disconnected(), "{error}"),
    }
    cutter.join().unwrap();
    // The loss may still be unknown.
    let mut ask = |body: &str| {
        let outcome = scene.connection.request("svc", body, LONG);
        outcome.inspect(|message| assert_eq!(message.payload(), body.as_bytes()))
    };
    if let Err(error) = ask("second") {
        assert!(error.is_disconnected(), "{error}");
        ask("third").expect("no other loss");
    }
    scene.server.change(|state| state.over = true);
    replier.join().unwrap();
    scene.close();
}

/// The time of a request may be over at any moment: it ends with its own reply, or is told so, and
/// the reply that was late finds nobody.
fn request_and_time() {
    let scene = Scene::open();
    let clock = spawn(pass_time);
    let requests = ["x", "y"].map(|name| {
        scene.thread(move |connection| match connection.request("svc", name, LONG) {
            Ok(message) => assert_eq!(message.payload(), name.as_bytes()),
            Err(error) => assert!(error.is_timeout(), "{error}"),
        })
    });
    for request in requests {
        request.join().unwrap();
    }
    clock.join().unwrap();
    scene.connection.flush_timeout(LONG).expect("a flush");
    let counts = scene.connection.statistics();
    assert_eq!(counts.replies() + counts.late_replies(), 2, "{counts}");
    scene.close();
}

/// Requests of two threads while the program asks for another connection: each ends with its own
/// reply or as disconnected.
fn requests_forced() {
    let scene = Scene::open();
    let requests = ["x", "y"].map(|name| {
        scene.thread(move |connection| match connection.request("svc", name, LONG) {
            Ok(message) => assert_eq!(message.payload(), name.as_bytes()),
            Err(error) => assert!(error.is_disconnected(), "{error}"),
        })
    });
    scene.connection.force_reconnect().expect("open");
    for request in requests {
        request.join().unwrap();
    }
    scene.close();
}

/// More messages than a subscription may hold: the newest are dropped and counted, each episode is
/// told once and ends once it is worked off.
fn slow_consumer() {
    const SENT: u64 = 8;
    let scene = Scene::with(Server::new(), |options| options.pending_limits(PendingLimits::new(2, 0)))
        .expect("a connection");
    let subscription = scene.connection.subscribe("a").expect("open");
    scene.connection.flush_timeout(LONG).expect("a flush");
    let server = Arc::clone(&scene.server);
    let sender = spawn(move || {
        for number in 0..SENT / 2 {
            server.change(|state| {
                let link = state.live().expect("a connection");
                link.send("a", &(2 * number).to_string());
                link.send("a", &(2 * number + 1).to_string())
            });
        }
    });
    let connection = scene.connection.clone();
    let flusher = spawn(move || {
        sender.join().unwrap();
        // What was sent before its PONG has arrived.
        connection.flush_timeout(LONG).expect("a flush");
    });
    let mut numbers = Vec::new();
    let mut take = |message: nats_blocking::Message| {
        numbers.push(message.text().expect("text").parse::<u64>().expect("a number"));
    };
    // The first two are never dropped.
    for _ in 0..2 {
        take(subscription.next_timeout(LONG).expect("a message"));
    }
    flusher.join().unwrap();
    while let Some(message) = subscription.try_next().expect("open") {
        take(message);
    }
    assert!(numbers.is_sorted_by(|one, two| one < two), "{numbers:?}");
    scene.close();
    let counts = scene.connection.statistics();
    assert_eq!(numbers.len() as u64 + counts.dropped(), SENT);
    assert_eq!(scene.heard.count("Recovered"), counts.slow_consumers(), "{:?}", scene.heard);
    let told: Vec<_> = scene.heard.all();
    let told = told.iter().filter(|what| matches!(**what, "SlowConsumer" | "Recovered"));
    for (index, what) in told.enumerate() {
        assert_eq!(*what, ["SlowConsumer", "Recovered"][index % 2], "{:?}", scene.heard);
    }
}
