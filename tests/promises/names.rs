//! F6: names of servers that do not resolve, or late, or to something else each time.
//!
//! In a process of its own, whose look-ups go through `resolver.c`: in a program it is the system's
//! resolver that is slow, so it must be slow here.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use nats_blocking::testing::Recorder;
use nats_blocking::{
    ConnectionEventKind as Kind, ConnectionStatus, Error, ErrorKind, Options, OptionsBuilder,
};

use crate::Tier;
use crate::alone::Alone;
use crate::attempts::{Greeter, full_listener};
use crate::support::ports;
use crate::support::wait::poll;

const LIMIT: Duration = Duration::from_secs(60);
const ATTEMPT: Duration = Duration::from_millis(500);
/// What `close` may take: its own time-out and what two busy cores add.
const CLOSE: Duration = Duration::from_secs(5);
const SLACK: Duration = Duration::from_secs(3);

/// The names that exist; each is a file.
struct Names(PathBuf);

impl Names {
    fn set(&self, name: &str, seconds: u32, addresses: &[&str]) {
        let text = format!("{seconds} {}\n", addresses.join(" "));
        // The rename is one step: a look-up never sees half of it.
        let draft = self.0.join("draft");
        fs::write(&draft, text).unwrap();
        fs::rename(draft, self.0.join(name)).unwrap();
    }
}

fn options(url: &str) -> OptionsBuilder {
    Options::builder()
        .server(url)
        .connect_timeout(ATTEMPT)
        .reconnect_wait(Duration::from_millis(50))
        .reconnect_jitter(Duration::from_millis(20))
}

fn cause(url: &str) -> (Error, Duration) {
    let begun = Instant::now();
    let error = options(url).connect().expect_err(url);
    let [attempt] = error.attempts() else { panic!("{url}: {error}") };
    (attempt.cause().clone(), begun.elapsed())
}

/// Names that do not resolve, resolve late, or change.
pub(crate) fn resolved(tier: Tier) -> String {
    if Alone::is_here("F6") {
        return Alone::new("F6").run(tier, LIMIT * 5, live);
    }
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("f6-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let library = folder.join("resolver.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/promises/resolver.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O", "-Wall", "-o"])
        .args([&library, &source])
        .arg("-ldl")
        .status();
    assert!(compiled.expect("a C compiler").success(), "resolver.c does not compile");
    let figure = Alone::new("F6")
        .variable("LD_PRELOAD", library.as_os_str())
        .variable("RESOLVER", folder.as_os_str())
        .run(tier, LIMIT * 5, |_| unreachable!("it runs in the other process"));
    fs::remove_dir_all(folder).unwrap();
    figure
}

fn live(_: Tier) -> String {
    let names = Names(std::env::var_os("RESOLVER").expect("a folder of names").into());
    unknown(&names);
    let late = slow(&names);
    let closed = close_while_slow(&names);
    changing(&names);
    let second = dead_and_live(&names);
    counted_by_server(&names);
    format!(
        "unknown and empty names told as such; a resolver of 30 s costs the connect time-out and \
         {} ms, holds close for {} ms; a name that moves is found; behind an address that does not \
         answer the next is used, after {} ms of {} ms; three addresses of a server count as one",
        late.as_millis(),
        closed.as_millis(),
        second.as_millis(),
        (ATTEMPT * 2).as_millis()
    )
}

fn unknown(names: &Names) {
    names.set("empty.test", 0, &[]);
    for url in ["nats://unknown.test:4222", "nats://empty.test:4222"] {
        let (error, took) = cause(url);
        assert_eq!(error.kind(), ErrorKind::Dns, "{url}: {error}");
        assert!(error.to_string().contains(".test"), "{error}");
        assert!(took < SLACK, "{url} took {took:?}");
    }
}

/// By how much an attempt is late whose name takes half a minute.
fn slow(names: &Names) -> Duration {
    names.set("slow.test", 30, &["127.0.0.1"]);
    let mut latest = Duration::ZERO;
    for _ in 0..5 {
        let (error, took) = cause("nats://slow.test:4222");
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("slow.test"), "{error}");
        assert!(took >= ATTEMPT && took <= ATTEMPT + SLACK, "{took:?}");
        latest = latest.max(took - ATTEMPT);
    }
    latest
}

/// How long `close` takes while a reconnect waits for such a name.
fn close_while_slow(names: &Names) -> Duration {
    let listener = ports::listen();
    names.set("turns.test", 0, &["127.0.0.1"]);
    let url = format!("nats://turns.test:{}", listener.local_addr().unwrap().port());
    let server = Greeter::on(listener);
    let connection = options(&url).connect_timeout(LIMIT).connect().unwrap();
    names.set("turns.test", 30, &["127.0.0.1"]);
    server.cut();
    connection.wait_for_status(ConnectionStatus::Reconnecting, LIMIT).unwrap();
    let begun = Instant::now();
    connection.close();
    let took = begun.elapsed();
    assert!(took < CLOSE, "close took {took:?}");
    took
}

fn loopback(last: u8, port: u16) -> Option<TcpListener> {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, last], port))).ok()
}

/// A port that is free at the addresses of loopback that end in 2 and 3.
fn two_places() -> (TcpListener, TcpListener) {
    let both = || {
        let port = ports::free();
        Some((loopback(2, port)?, loopback(3, port)?))
    };
    (0..100).find_map(|_| both()).expect("a port that is free twice")
}

/// The server moves to another address; its name follows.
fn changing(names: &Names) {
    let (first, second) = two_places();
    let url = format!("nats://moves.test:{}", first.local_addr().unwrap().port());
    names.set("moves.test", 0, &["127.0.0.2"]);
    let first = Greeter::on(first);
    let connection = options(&url).connect_timeout(LIMIT).connect().unwrap();
    let second = Greeter::on(second);
    first.refuse();
    first.cut();
    connection.wait_for_status(ConnectionStatus::Reconnecting, LIMIT).unwrap();
    names.set("moves.test", 0, &["127.0.0.3"]);
    connection.wait_for_status(ConnectionStatus::Connected, LIMIT).unwrap();
    assert_eq!(second.kept(), 1, "it follows the name");
    connection.close();
}

/// The first address refuses or does not answer, the second one works: how long the latter takes.
fn dead_and_live(names: &Names) -> Duration {
    let (first, second) = two_places();
    let port = first.local_addr().unwrap().port();
    let url = format!("nats://both.test:{port}");
    let server = Greeter::on(second);
    names.set("both.test", 0, &["127.0.0.2", "127.0.0.3"]);
    let (_full, _taken) = full_listener(first);
    let begun = Instant::now();
    let connection = options(&url).connect_timeout(ATTEMPT * 2).connect().unwrap();
    let took = begun.elapsed();
    assert!(took < ATTEMPT * 2 + SLACK, "{took:?}");
    drop((_full, _taken));
    // Now the port is closed there.
    server.cut();
    // The outage may be over before anybody looks at the status.
    let back = || (connection.statistics().reconnects() == 1).then_some(());
    assert!(poll(LIMIT, back).is_some(), "{}", connection.statistics());
    connection.wait_for_status(ConnectionStatus::Connected, LIMIT).unwrap();
    connection.close();
    took
}

/// A server of three addresses has as many attempts as one of one address.
fn counted_by_server(names: &Names) {
    let listener = ports::listen();
    let url = format!("nats://three.test:{}", listener.local_addr().unwrap().port());
    names.set("three.test", 0, &["127.0.0.1"]);
    let server = Greeter::on(listener);
    let recorder = Recorder::new();
    let connection = options(&url)
        .connect_timeout(LIMIT)
        .max_reconnects(2)
        .connection_listener(recorder.clone())
        .connect()
        .unwrap();
    names.set("three.test", 0, &["127.0.0.2", "127.0.0.3", "127.0.0.4"]);
    server.refuse();
    server.cut();
    connection.wait_closed(LIMIT).unwrap();
    let failed =
        recorder.count(|told| matches!(told.event_kind(), Some(Kind::ReconnectFailed { .. })));
    assert_eq!(failed, 2, "{}", recorder.timeline("two attempts"));
    recorder.check().unwrap();
}
