//! Requests, handlers and slow consumers.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_blocking::internals::pass_time;
use nats_blocking::{ErrorKind, PendingLimits, SubscriptionSet};
use shuttle::thread::spawn;

use super::scene::{LONG, Scene};
use super::server::{Server, State};
use crate::run::Model;

pub(crate) const MODELS: &[Model] = &[
    ("traffic: a late reply behind a loss", late_reply),
    ("traffic: a request and its time-out", request_and_time),
    ("traffic: requests, forced, answered", requests_forced),
    ("traffic: requests, no inbox", requests_without_inbox),
    ("traffic: a slow consumer", slow_consumer),
    ("traffic: a slow handler", slow_handler),
    ("traffic: drained with messages", drained_with_messages),
    ("traffic: a set beside a close", set_beside_close),
];

/// Longer than any passing of time.
const DECADE: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 10);

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
    let ask = |body: &str| {
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
    // No write takes that long: the connection stays.
    let scene = Scene::with(Server::new(), |options| options.socket_write_timeout(DECADE))
        .expect("a connection");
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

/// Requests of two threads whose inbox the server refuses, before or after they are sent: each ends
/// with the refusal, and none waits for a reply that cannot come.
fn requests_without_inbox() {
    let state = State { answering: true, forbidding: true, ..State::default() };
    let scene = Scene::with(Server::with(state), |options| options).expect("a connection");
    let requests = ["x", "y"].map(|name| {
        scene.thread(move |connection| {
            for _ in 0..2 {
                let error = connection.request("svc", name, LONG).expect_err("no inbox");
                assert_eq!(error.kind(), ErrorKind::PermissionsViolation, "{error}");
            }
        })
    });
    for request in requests {
        request.join().unwrap();
    }
    scene.close();
}

/// More messages than a subscription may hold: the newest are dropped and counted, each episode is
/// told once and ends once it is worked off.
fn slow_consumer() {
    const SENT: u64 = 8;
    let scene =
        Scene::with(Server::new(), |options| options.pending_limits(PendingLimits::new(2, 0)))
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
    assert_episodes(&scene, numbers.len() as u64, SENT);
}

/// The same with a handler, and a close once all has arrived: what waits then is not handled.
fn slow_handler() {
    const SENT: u64 = 6;
    let scene =
        Scene::with(Server::new(), |options| options.pending_limits(PendingLimits::new(2, 0)))
            .expect("a connection");
    let numbers = Arc::new(Mutex::new(Vec::new()));
    let hand = Arc::clone(&numbers);
    let dispatcher = scene
        .connection
        .dispatcher(move |_, message| {
            let number = message.text().expect("text").parse::<u64>().expect("a number");
            hand.lock().unwrap().push(number);
        })
        .expect("open");
    dispatcher.subscribe("a").expect("open");
    scene.connection.flush_timeout(LONG).expect("a flush");
    let server = Arc::clone(&scene.server);
    let sender = spawn(move || {
        for number in 0..SENT {
            server.change(|state| state.live().map(|link| link.send("a", &number.to_string())));
        }
    });
    sender.join().unwrap();
    scene.connection.flush_timeout(LONG).expect("a flush");
    scene.connection.barrier(LONG).expect("open");
    scene.close();
    let numbers = numbers.lock().unwrap().clone();
    assert!(numbers.is_sorted_by(|one, two| one < two), "{numbers:?}");
    assert_episodes(&scene, numbers.len() as u64, SENT);
}

fn assert_episodes(scene: &Scene, received: u64, sent: u64) {
    let counts = scene.connection.statistics();
    assert_eq!(received + counts.dropped(), sent);
    assert_eq!(scene.heard.count("Recovered"), counts.slow_consumers(), "{:?}", scene.heard);
    let told: Vec<_> = scene.heard.all();
    let told = told.iter().filter(|what| matches!(**what, "SlowConsumer" | "Recovered"));
    for (index, what) in told.enumerate() {
        assert_eq!(*what, ["SlowConsumer", "Recovered"][index % 2], "{:?}", scene.heard);
    }
}

/// A subscription and a dispatcher are drained while the server sends: what it sent before it heard
/// of the end is handed out, in order, and nothing else.
fn drained_with_messages() {
    let scene = Scene::open();
    let handled = Arc::new(Mutex::new(Vec::new()));
    let hand = Arc::clone(&handled);
    let dispatcher = scene
        .connection
        .dispatcher(move |_, message| {
            hand.lock().unwrap().push(message.text().expect("text").to_owned());
        })
        .expect("open");
    dispatcher.subscribe("b").expect("open");
    let subscription = scene.connection.subscribe("a").expect("open");
    scene.connection.flush_timeout(LONG).expect("a flush");
    let server = Arc::clone(&scene.server);
    let sender = spawn(move || {
        let mut sent = [Vec::new(), Vec::new()];
        for number in ["1", "2", "3"] {
            for (subject, sent) in ["a", "b"].iter().zip(&mut sent) {
                if server
                    .change(|state| state.live().is_some_and(|link| link.send(subject, number)))
                {
                    sent.push(number.to_owned());
                }
            }
        }
        sent
    });
    let drainer = spawn(move || dispatcher.drain(LONG).expect("a drain"));
    subscription.drain(LONG).expect("a drain");
    let mut received = Vec::new();
    while let Ok(message) = subscription.next_timeout(LONG) {
        received.push(message.text().expect("text").to_owned());
    }
    drainer.join().unwrap();
    let [to_subscription, to_dispatcher] = sender.join().unwrap();
    assert_eq!(received, to_subscription);
    assert_eq!(*handled.lock().unwrap(), to_dispatcher);
    scene.close();
}

/// One thread waits on a set of two subscriptions while messages come, one is removed, and the
/// connection ends: what had arrived is given out, in order, and the end of each once.
fn set_beside_close() {
    let scene = Scene::open();
    let set = Arc::new(SubscriptionSet::new());
    let one = set.add(scene.connection.subscribe("a").expect("open"));
    let two = set.add(scene.connection.subscribe("b").expect("open"));
    scene.connection.flush_timeout(LONG).expect("a flush");
    let server = Arc::clone(&scene.server);
    let sender = spawn(move || {
        for number in ["1", "2"] {
            server.change(|state| {
                state.live().map(|link| (link.send("a", number), link.send("b", number)))
            });
        }
    });
    let waiting = Arc::clone(&set);
    let waiter = spawn(move || {
        let mut given = Vec::new();
        // None of the set is left: an error that belongs to no subscription.
        while let Ok((key, outcome)) = waiting.next_timeout(LONG) {
            given.push((key, outcome.map(|message| message.text().expect("text").to_owned())));
        }
        given
    });
    let removing = Arc::clone(&set);
    let remover = spawn(move || removing.remove(two).is_some());
    sender.join().unwrap();
    let removed = remover.join().unwrap();
    scene.close();
    let given = waiter.join().unwrap();
    let of = |key| given.iter().filter(move |(known, _)| *known == key).map(|(_, what)| what);
    for key in [one, two] {
        let texts: Vec<_> = of(key).filter_map(|what| what.as_deref().ok()).collect();
        assert!(["1", "2"].starts_with(&texts), "{given:?}");
        let ends = of(key).filter(|what| what.is_err()).count();
        assert_eq!(ends, usize::from(key == one || !removed), "{given:?}");
    }
}
