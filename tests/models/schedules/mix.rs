//! Programs that are drawn: a few threads call anything, beside losses and a close at any moment.

use std::sync::Arc;
use std::sync::Mutex;

use nats_blocking::internals::pass_time;
use nats_blocking::{
    Connection, ConnectionStatus, Dispatcher, Error, ErrorKind, Message, OutboxPolicy,
    PendingLimits, Result, Subscription,
};
use shuttle::rand::{Rng, thread_rng};
use shuttle::thread::{JoinHandle, spawn, yield_now};

use super::scene::{LONG, Scene};
use super::server::Server;
use crate::run::Model;

pub(crate) const MODELS: &[Model] = &[
    ("mix: anything, lost and closed", anything),
    ("mix: anything in callbacks", in_callbacks),
    ("mix: anything, and time passes", while_time_passes),
];

/// Three threads call what is drawn. Each message is written once, or counted.
fn anything() {
    let Accounts { accepted, written, lost } = run(drawn_scene(), 3);
    assert_eq!(written + lost, accepted, "{lost} lost, {written} written");
}

/// The same, and at some moment every deadline that was set is over: of calls, of writes, of
/// attempts and of the close. What a writer holds that nobody waits for is counted, and may be
/// written yet.
fn while_time_passes() {
    let scene = drawn_scene();
    let clock = spawn(|| {
        dawdle();
        pass_time();
    });
    let Accounts { accepted, written, lost } = run(scene, 3);
    clock.join().unwrap();
    assert!(written + lost >= accepted, "{lost} lost, {written} written of {accepted}");
}

/// So do a handler and the listeners.
fn in_callbacks() {
    let scene = drawn_scene();
    let left = Mutex::new(4_u32);
    scene.connection.add_connection_listener(
        move |connection: &Connection, _: &nats_blocking::ConnectionEvent| {
            // The lock is not held in the call.
            let more = {
                let mut left = left.lock().unwrap();
                *left = left.saturating_sub(1);
                *left > 0
            };
            if more {
                call(connection, &mut Held::default(), "l").unwrap_or_else(expected);
            }
        },
    );
    let Accounts { accepted, written, lost } = run(scene, 2);
    assert_eq!(written + lost, accepted, "{lost} lost, {written} written");
}

fn drawn_scene() -> Scene {
    let server = Server::new();
    Scene::with(server, |options| {
        let options = options.fail_requests_on_disconnect();
        let options = match thread_rng().gen_range(0..3) {
            0 => options,
            1 => options.outbox_size(16).outbox_policy(OutboxPolicy::Block(LONG)),
            _ => options.outbox_size(64).outbox_policy(OutboxPolicy::Error),
        };
        options.pending_limits(PendingLimits::new(2, 0))
    })
    .expect("a connection")
}

/// What a thread holds until its end.
#[derive(Default)]
struct Held {
    subscriptions: Vec<Subscription>,
    dispatchers: Vec<Dispatcher>,
    published: u32,
}

/// What became of the messages that were accepted.
struct Accounts {
    accepted: u64,
    written: u64,
    lost: u64,
}

/// A few steps, or many, in which the others go on.
fn dawdle() {
    for _ in 0..[0, 40, 400][thread_rng().gen_range(0..3)] {
        yield_now();
    }
}

fn run(scene: Scene, threads: usize) -> Accounts {
    scene.server.change(|state| state.refusing = thread_rng().gen_range(0..2));
    let cutters = [scene.cutter(0), scene.cutter(1)];
    let names = ["x", "y", "z"];
    let callers: Vec<JoinHandle<()>> = names
        .into_iter()
        .take(threads)
        .map(|name| {
            scene.thread(move |connection| {
                let mut held = Held::default();
                for _ in 0..thread_rng().gen_range(1..5) {
                    call(connection, &mut held, name).unwrap_or_else(expected);
                }
            })
        })
        .collect();
    let server = Arc::clone(&scene.server);
    let sender = spawn(move || {
        for number in ["1", "2", "3"] {
            server.change(|state| {
                state.live().map(|link| (link.send("a", number), link.send("b", number)))
            });
        }
    });
    // Late enough that the others have come far, or at once.
    dawdle();
    scene.connection.close();
    scene.server.change(|state| state.over = true);
    for caller in callers {
        caller.join().unwrap();
    }
    for cutter in cutters {
        cutter.join().unwrap();
    }
    sender.join().unwrap();
    scene.assert_over();
    let state = scene.server.state();
    for name in names {
        let all = state.payloads("p");
        let numbers = all.iter().filter_map(|body| body.strip_prefix(name)?.parse::<u32>().ok());
        assert!(numbers.is_sorted_by(|one, two| one < two), "twice, or out of order: {all:?}");
    }
    let frames = state.links.iter().flat_map(|link| &link.frames);
    let written = frames.filter(|frame| frame.starts_with("PUB ")).count() as u64;
    drop(state);
    let counts = scene.connection.statistics();
    Accounts { accepted: counts.out_messages(), written, lost: counts.torn() + counts.discarded() }
}

/// What a call may end with.
fn expected(error: Error) {
    let kinds = [
        ErrorKind::Closed,
        ErrorKind::Disconnected,
        ErrorKind::Draining,
        ErrorKind::OutboxFull,
        ErrorKind::ReconnectBufferFull,
        ErrorKind::Misuse,
        ErrorKind::Timeout,
    ];
    assert!(kinds.contains(&error.kind()), "{error:?}");
}

/// Calls something.
fn call(connection: &Connection, held: &mut Held, name: &str) -> Result<()> {
    let draw = |limit: usize| thread_rng().gen_range(0..limit);
    match draw(14) {
        0 | 1 => {
            held.published += 1;
            connection.publish("p", format!("{name}{}", held.published))
        }
        2 => connection.flush_timeout(LONG),
        3 => {
            let reply = connection.request("svc", name, LONG)?;
            assert_eq!(reply.payload(), name.as_bytes(), "the reply of another");
            Ok(())
        }
        4 => {
            held.subscriptions.push(connection.subscribe(["a", "b"][draw(2)])?);
            Ok(())
        }
        5 => {
            let handler = |connection: &Connection, message: Message| {
                let _ = connection.publish("q", message.payload());
            };
            let dispatcher = connection.dispatcher(handler)?;
            dispatcher.subscribe(["a", "b"][draw(2)])?;
            held.dispatchers.push(dispatcher);
            Ok(())
        }
        6 => connection.force_reconnect(),
        7 => connection.barrier(LONG),
        8 => connection.wait_for_status(ConnectionStatus::Connected, LONG),
        9 => connection.drain(LONG),
        10 => {
            let events = connection.events();
            while events.try_next().is_some() {}
            Ok(())
        }
        _ => match held.subscriptions.pop() {
            Some(subscription) => end(subscription, draw(4)),
            None => held.dispatchers.pop().map_or(Ok(()), |dispatcher| dispatcher.drain(LONG)),
        },
    }
}

/// Ends a subscription in one of several ways.
fn end(subscription: Subscription, way: usize) -> Result<()> {
    match way {
        0 => subscription.unsubscribe(),
        1 => subscription.unsubscribe_after(1)?,
        2 => subscription.drain(LONG)?,
        _ => {}
    }
    while subscription.try_next()?.is_some() {}
    Ok(())
}
