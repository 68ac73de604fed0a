//! What a connection takes from the system, and gives back.

use std::ffi::OsStr;
use std::process::Command;
use std::time::Duration;
use std::{env, fs, thread};

use nats_blocking::{Connection, Error, ErrorKind, Options, SelectedServer};

use crate::Tier;
use crate::alone::Alone;
use crate::support::leaks::{Snapshot, wait_back_to};
use crate::support::nats_server::NatsServer;
use crate::support::wait::poll;

const LIMIT: Duration = Duration::from_secs(60);

fn connect(url: &str) -> Result<Connection, Error> {
    Options::builder().server(url).connect()
}

/// Something that a program holds of a connection, to be dropped.
type Held = Box<dyn Send>;

/// The nth of all orders of so many things.
fn order(count: usize, mut nth: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..count).collect();
    (1..=count)
        .rev()
        .map(|choices| {
            let at = nth % choices;
            nth /= choices;
            left.remove(at)
        })
        .collect()
}

/// All orders of dropping six things, each thing on this thread or another.
pub(crate) fn drop_orders(_: Tier) -> String {
    let server = NatsServer::start_plain();
    connect(&server.url()).unwrap().close();
    let before = Snapshot::take();
    for nth in 0..720 {
        let connection = connect(&server.url()).unwrap();
        let dispatcher = connection.dispatcher(|_, _| {}).unwrap();
        dispatcher.subscribe("a.>").unwrap();
        let clone = connection.clone();
        let subscription = connection.subscribe("b").unwrap();
        let request = connection.send_request("b", "").unwrap();
        let events = connection.events();
        let all: [Held; 6] = [
            Box::new(clone),
            Box::new(subscription),
            Box::new(request),
            Box::new(events),
            Box::new(dispatcher),
            Box::new(connection),
        ];
        let mut held = all.map(Some);
        for (step, at) in order(held.len(), nth).into_iter().enumerate() {
            let one = held[at].take();
            if (nth + step) % 3 == 0 {
                thread::spawn(move || drop(one)).join().unwrap();
            } else {
                drop(one);
            }
        }
    }
    // A panic unwinds through everything that is held.
    let url = server.url();
    let panicked = thread::spawn(move || {
        let connection = connect(&url).unwrap();
        let _subscription = connection.subscribe("c").unwrap();
        let _dispatcher = connection.dispatcher(|_, _| {}).unwrap();
        std::panic::resume_unwind(Box::new("meant"));
    });
    assert!(panicked.join().is_err());
    wait_back_to(&before, LIMIT);
    "720 orders, and a panic: no hang, threads and descriptors left over 0".to_owned()
}

/// A child process inherits no descriptor of a connection.
pub(crate) fn children(_: Tier) -> String {
    let server = NatsServer::start_plain();
    let count = || {
        let output = Command::new("sh").args(["-c", "ls /proc/self/fd | wc -l"]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().trim().parse::<usize>().unwrap()
    };
    let before = count();
    let connections: Vec<_> = (0..50).map(|_| connect(&server.url()).unwrap()).collect();
    let with = count();
    assert_eq!(before, with, "descriptors of a child");
    drop(connections);
    format!("50 connections, {} more descriptors in a child", with - before)
}

const STARVED: &str = "NATS_BLOCKING_STARVED";

/// Where descriptors or threads run out, calls fail with an error and recover when there are some.
pub(crate) fn exhaustion(tier: Tier) -> String {
    // The server needs descriptors of its own: it is not in the process that has few.
    let server = (!Alone::is_here("H2")).then(NatsServer::start_plain);
    let url = server.as_ref().map(NatsServer::url).unwrap_or_default();
    let few = Alone::new("H2").descriptors(24).variable(STARVED, OsStr::new(&url));
    few.run(tier, LIMIT, |_| {
        starve(&env::var(STARVED).unwrap());
        "24 descriptors: an error of kind Connect, no panic, reconnected when some were free"
            .to_owned()
    })
}

/// In the process with few descriptors.
fn starve(url: &str) {
    // It waits before it connects again: its descriptor is taken away meanwhile.
    let (own, pause) = (url.to_owned(), Duration::from_millis(500));
    let kept = Options::builder()
        .server(url)
        .select_server(move |_| Some(SelectedServer::new(&own).with_delay(pause)))
        .connect()
        .unwrap();
    let mut open = Vec::new();
    while let Ok(file) = fs::File::open("/dev/null") {
        open.push(file);
    }
    let error = connect(url).expect_err("no descriptor is left");
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    assert_eq!(error.attempts()[0].cause().kind(), ErrorKind::Io, "{error:?}");
    kept.force_reconnect().unwrap();
    // Its own descriptor is free now: another takes it, so that the attempt has none.
    if let Some(file) = poll(LIMIT, || fs::File::open("/dev/null").ok()) {
        open.push(file);
    }
    poll(LIMIT, || (kept.statistics().exceptions() > 0).then_some(())).expect("a failed attempt");
    drop(open);
    poll(LIMIT, || kept.is_connected().then_some(())).expect("a reconnect");
    kept.flush().unwrap();
}
