//! Losses: what is published, flushed and subscribed while connections come and go.

use nats_blocking::internals::pass_time;
use nats_blocking::{ConnectionStatus, OutboxPolicy, RetryConnect};
use shuttle::thread::{spawn, yield_now};

use super::scene::{LONG, Scene};
use super::server::Server;
use crate::run::Model;

pub(crate) const MODELS: &[Model] = &[
    ("life: published across losses", published_across_losses),
    ("life: lost, and nobody waits", lost_and_nobody_waits),
    ("life: flushed beside a loss", flushed_beside_a_loss),
    ("life: subscribed beside a loss", subscribed_beside_a_loss),
    ("life: forced by two, flushed", forced_by_two),
    ("life: little room, lost and closed", little_room),
    ("life: room is waited for", room_is_waited_for),
    ("life: hurried out of a pause", hurried_out_of_a_pause),
    ("life: a lame duck is left", lame_duck_is_left),
];

/// Two losses at any moment while two threads publish, and a close at any moment.
pub(crate) fn published_across_losses() {
    publish_across_losses(&Scene::open());
}

/// The same with a server that loses messages, which must be noticed.
pub(crate) fn published_and_forgotten() {
    let scene = Scene::open();
    scene.server.change(|state| state.losing = true);
    publish_across_losses(&scene);
}

fn publish_across_losses(scene: &Scene) {
    let cutters = [scene.cutter(0), scene.cutter(1)];
    let publishers = [scene.publisher("x", "a", 3), scene.publisher("y", "a", 3)];
    let accepted = publishers.map(|publisher| publisher.join().unwrap());
    assert_eq!(accepted.each_ref().map(Vec::len), [3, 3]);
    for cutter in cutters {
        cutter.join().unwrap();
    }
    scene.close();
    scene.assert_written("a", &accepted);
}

/// A loss, and the patience with whoever writes then is over at any moment: a writer of the lost
/// connection changes nothing in the next one. What it held is counted, and may be written yet.
fn lost_and_nobody_waits() {
    let scene = Scene::open();
    let cutter = scene.cutter(0);
    let clock = spawn(pass_time);
    let publishers = [scene.publisher("x", "a", 4), scene.publisher("y", "a", 4)];
    let accepted = publishers.map(|publisher| publisher.join().unwrap());
    cutter.join().unwrap();
    clock.join().unwrap();
    scene.close();
    let written = scene.assert_order("a", &accepted) as u64;
    let counts = scene.connection.statistics();
    assert!(written + counts.torn() + counts.discarded() >= 8, "unaccounted; {counts}");
}

/// Two threads flush while a connection is lost: each is told that the server has what it
/// published, or that the connection was lost meanwhile.
fn flushed_beside_a_loss() {
    let scene = Scene::open();
    let cutter = scene.cutter(0);
    let flushers = ["x", "y"].map(|name| {
        let server = std::sync::Arc::clone(&scene.server);
        scene.thread(move |connection| {
            connection.publish("a", name).expect("open");
            let flushed = connection.flush_timeout(LONG);
            let there = server.state().payloads("a").iter().any(|payload| payload == name);
            if let Err(error) = &flushed {
                assert!(error.is_disconnected(), "{error}");
            }
            (vec![name.to_owned()], flushed.is_ok() && !there)
        })
    });
    let told = flushers.map(|flusher| flusher.join().unwrap());
    cutter.join().unwrap();
    scene.close();
    // A message of which the server has a part counts as torn; its flush follows on the next link.
    let missing = told.iter().filter(|(_, missing)| *missing).count() as u64;
    let counts = scene.connection.statistics();
    assert!(missing <= counts.torn(), "{missing} flushed, and not there; {counts}");
    scene.assert_written("a", &told.map(|(accepted, _)| accepted));
}

/// Subscriptions come and go while the connection does: each is announced once on each connection,
/// and in the end the server knows exactly those that are left.
fn subscribed_beside_a_loss() {
    let scene = Scene::open();
    let cutter = scene.cutter(0);
    let first = scene.thread(|connection| {
        let gone = connection.subscribe("a").expect("open");
        let stays = connection.subscribe("b").expect("open");
        gone.unsubscribe();
        stays
    });
    let second = scene.thread(|connection| connection.subscribe("c").expect("open"));
    let kept = [first.join().unwrap(), second.join().unwrap()];
    cutter.join().unwrap();
    scene.connection.flush_timeout(LONG).or_else(disconnected).expect("a flush");
    scene.connection.flush_timeout(LONG).expect("no other loss");
    let sent = scene.server.change(|state| {
        for link in &state.links {
            assert_announced_once(&link.frames);
        }
        let link = state.live().expect("a connection");
        let mut known: Vec<_> = link.subs.iter().map(|(_, subject)| subject.clone()).collect();
        known.sort_unstable();
        assert_eq!(known, ["b", "c"]);
        ["b", "c"].map(|subject| link.send(subject, subject))
    });
    assert_eq!(sent, [true, true]);
    for (subscription, subject) in kept.iter().zip(["b", "c"]) {
        let message = subscription.next_timeout(LONG).expect("a message");
        assert_eq!(message.payload(), subject.as_bytes());
    }
    scene.close();
}

fn disconnected(error: nats_blocking::Error) -> Result<(), nats_blocking::Error> {
    if error.is_disconnected() { Ok(()) } else { Err(error) }
}

fn assert_announced_once(frames: &[String]) {
    let mut subs: Vec<_> = frames.iter().filter(|frame| frame.starts_with("SUB ")).collect();
    let count = subs.len();
    subs.sort_unstable();
    subs.dedup();
    assert_eq!(subs.len(), count, "announced twice: {frames:?}");
}

/// Two ask for another connection while a third flushes: afterwards there is one.
fn forced_by_two() {
    let scene = Scene::open();
    let forcers = [0, 1].map(|_| {
        scene.thread(|connection| connection.force_reconnect().expect("neither closed nor drained"))
    });
    let flusher = scene.thread(|connection| connection.flush_timeout(LONG).or_else(disconnected));
    for forcer in forcers {
        forcer.join().unwrap();
    }
    flusher.join().unwrap().expect("a flush");
    scene.connection.flush_timeout(LONG).or_else(disconnected).expect("a flush");
    scene.close();
    assert!(scene.connection.statistics().disconnects() <= 2);
}

/// The outbox holds one message: publishers wait for room beside a loss, and a close at any moment.
fn little_room() {
    let scene = Scene::with(Server::new(), |options| {
        options.outbox_size(16).outbox_policy(OutboxPolicy::Block(LONG))
    })
    .expect("a connection");
    let cutter = scene.cutter(0);
    let publishers = [scene.publisher("x", "a", 3), scene.publisher("y", "a", 2)];
    let closer = scene.thread(|connection| {
        let _ = connection.flush_timeout(LONG);
        connection.close();
    });
    let accepted = publishers.map(|publisher| publisher.join().unwrap());
    closer.join().unwrap();
    cutter.join().unwrap();
    scene.assert_over();
    scene.assert_written("a", &accepted);
}

/// The outbox holds one message, and nothing else happens: whoever waits for room gets it.
fn room_is_waited_for() {
    let scene = Scene::with(Server::new(), |options| {
        options.outbox_size(16).outbox_policy(OutboxPolicy::Block(LONG))
    })
    .expect("a connection");
    let publishers = [scene.publisher("x", "a", 3), scene.publisher("y", "a", 3)];
    let accepted = publishers.map(|publisher| publisher.join().unwrap());
    assert_eq!(accepted.each_ref().map(Vec::len), [3, 3]);
    scene.close();
    scene.assert_written("a", &accepted);
}

/// An attempt was refused, and no time passes before the next: the program asks for it, and every
/// call that waits goes on.
fn hurried_out_of_a_pause() {
    let server = Server::new();
    server.change(|state| state.refusing = 1);
    let scene =
        Scene::with(server, |options| options.retry_on_failed_connect(RetryConnect::InBackground))
            .expect("it is made in the background");
    let flusher = scene.thread(|connection| connection.flush_timeout(LONG));
    let publisher = scene.publisher("x", "a", 2);
    while scene.heard.count("ReconnectFailed") == 0 {
        yield_now();
    }
    scene.connection.force_reconnect().expect("open");
    scene.connection.wait_for_status(ConnectionStatus::Connected, LONG).expect("an attempt");
    flusher.join().unwrap().expect("a flush");
    let accepted = publisher.join().unwrap();
    scene.close();
    scene.assert_written("a", &[accepted]);
}

/// A server announces its end while two threads publish: it is left for another one, and nothing is
/// lost on the way.
fn lame_duck_is_left() {
    let scene =
        Scene::with(Server::new(), |options| options.server("nats://b").reconnect_on_lame_duck())
            .expect("a connection");
    let publishers = [scene.publisher("x", "a", 2), scene.publisher("y", "a", 2)];
    scene.server.change(|state| state.live().expect("a connection").say("INFO {\"ldm\":true}\r\n"));
    let accepted = publishers.map(|publisher| publisher.join().unwrap());
    scene.server.wait(|state| (state.links.len() == 2 && state.links[1].up).then_some(()));
    scene.connection.flush_timeout(LONG).or_else(disconnected).expect("a flush");
    scene.close();
    assert_eq!(scene.assert_order("a", &accepted), 4, "lost: {:?}", scene.connection.statistics());
}
