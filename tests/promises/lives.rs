//! H1: many lives of connections, and what they leave behind.

use std::time::{Duration, Instant};

use nats_blocking::{Connection, Options, OptionsBuilder};

use crate::Tier;
use crate::alone::Alone;
use crate::soak::resident;
use crate::support::leaks::{Snapshot, wait_back_to};
use crate::support::nats_server::NatsServer;
use crate::support::ports;
use crate::support::wait::poll;

const LIMIT: Duration = Duration::from_secs(60);
/// How much the memory of the process may grow over one kind of life, once it has settled.
const GROWTH: u64 = 1 << 20;

fn options(url: &str) -> OptionsBuilder {
    Options::builder()
        .server(url)
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(5))
        .reconnect_jitter(Duration::from_millis(5))
}

fn connect(url: &str) -> Connection {
    options(url).connect().unwrap()
}

/// Lives a tenth to settle, then the rest; gives by how many bytes the memory has grown.
fn measure(name: &str, count: usize, mut live: impl FnMut(usize)) -> String {
    let before = Snapshot::take();
    let settle = count / 10;
    (0..settle).for_each(&mut live);
    let memory = resident();
    (settle..count).for_each(&mut live);
    let grown = resident().saturating_sub(memory);
    assert!(grown < GROWTH, "{name}: memory has grown by {grown} bytes");
    wait_back_to(&before, LIMIT);
    format!("{count} {name} {} KiB", grown / 1024)
}

/// Threads and descriptors are as before, and memory hardly grows. In a process of its own: memory
/// that other proofs have given back would hide what is lost here.
pub(crate) fn nothing_is_left(tier: Tier) -> String {
    Alone::new("H1").run(tier, LIMIT * 29, live)
}

fn live(tier: Tier) -> String {
    let scale = tier.choose(1, 10);
    let mut server = NatsServer::start_plain();
    let url = server.url();
    connect(&url).close();
    let mut rows = Vec::new();
    let mut times = Vec::new();
    rows.push(measure("opened and closed", 1_000 * scale, |_| {
        let begun = Instant::now();
        connect(&url).close();
        times.push(begun.elapsed());
    }));
    times.sort_unstable();
    let median = times[times.len() / 2];
    let nobody = format!("nats://127.0.0.1:{}", ports::free());
    rows.push(measure("failed to connect", 1_000 * scale, |_| {
        assert!(options(&nobody).connect().is_err());
    }));
    let one = connect(&url);
    // A thread has its name only once it runs, and threads are counted by their names.
    one.flush_timeout(LIMIT).unwrap();
    one.barrier(LIMIT).unwrap();
    poll(LIMIT, || (Snapshot::take().threads_named("nats-") >= 3).then_some(())).unwrap();
    rows.push(measure("reconnected", 1_000 * scale, |_| {
        let known = one.statistics().reconnects();
        one.force_reconnect().unwrap();
        poll(LIMIT, || (one.statistics().reconnects() > known).then_some(())).unwrap();
        poll(LIMIT, || one.flush_timeout(LIMIT).ok()).unwrap();
    }));
    rows.push(measure("subscribed and unsubscribed", 100_000 * scale, |number| {
        drop(one.subscribe(format!("a.{number}")).unwrap());
        // What waits to be written while the server is slower than this loop is no growth.
        if number % 1_000 == 999 {
            one.flush_timeout(LIMIT).unwrap();
        }
    }));
    let echo =
        one.dispatcher(|connection, message| drop(connection.respond(&message, ""))).unwrap();
    echo.subscribe("echo").unwrap();
    // A thread has its name only once it runs, and threads are counted by their names.
    one.request("echo", "", LIMIT).unwrap();
    rows.push(measure("requested", 100_000 * scale, |_| {
        one.request("echo", "", LIMIT).unwrap();
    }));
    assert_eq!(one.pending_requests(), 0);
    drop((echo, one));
    rows.push(measure("closed while the server is down", 20 * scale, |_| {
        let connection = connect(&url);
        server.kill();
        connection.publish("a", "x").unwrap();
        connection.close();
        server.restart();
    }));
    format!(
        "threads and descriptors left over 0, memory grown: {}; open and close: median {} µs",
        rows.join(", "),
        median.as_micros()
    )
}
