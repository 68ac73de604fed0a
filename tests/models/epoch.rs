//! A whole connection over a wire: whoever notices a failure names the connection that it belongs
//! to; one loss for each, and a late report changes nothing.

use std::io;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::Duration;

use loom::thread;
use nats_blocking::internals::{Dial, Life, Pipe};
use nats_blocking::{ConnectionStatus, Options};

use crate::run::Model;
use crate::wire::Wire;

pub(crate) const MODELS: &[Model] = &[
    ("epoch: two failers, closed", two_failers),
    ("epoch: a late failer", a_late_failer),
    ("whole: a flush and a close", flushed_and_closed),
    ("whole: a flush across a loss", flushed_across_a_loss),
];

/// Every server says this at once, and nothing more.
const HELLO: &str = "INFO {}\r\nPONG\r\n";

#[derive(Debug)]
struct Servers(Mutex<Vec<Arc<Wire>>>);

impl Dial for Servers {
    fn dial(&self, _: &str) -> io::Result<Arc<dyn Pipe>> {
        let next = self.0.lock().unwrap().pop();
        next.map(|wire| wire.pipe()).ok_or_else(|| io::ErrorKind::ConnectionRefused.into())
    }
}

fn connection(servers: usize) -> Life {
    over((0..servers).map(|_| Wire::saying(HELLO)).collect())
}

fn over(wires: Vec<Arc<Wire>>) -> Life {
    let options = Options::builder()
        .server("nats://a")
        .reconnect_jitter(Duration::ZERO)
        .ping_interval(None)
        .build()
        .expect("options");
    Life::new(&options, Servers(Mutex::new(wires))).expect("a connection")
}

fn failer(life: &Life, text: &'static str) -> thread::JoinHandle<()> {
    let life = life.clone();
    thread::spawn(move || life.fail(1, text))
}

fn reader(life: &Life) -> thread::JoinHandle<()> {
    let life = life.clone();
    thread::spawn(move || life.run_reader())
}

/// Two report the loss of the first connection while it is made, lives, or is gone: it is lost once
/// at most, and then there is a second.
fn two_failers() {
    let life = connection(2);
    let reader = reader(&life);
    let failers = [failer(&life, "one"), failer(&life, "two")];
    for failer in failers {
        failer.join().unwrap();
    }
    let connection = life.connection();
    connection.close();
    reader.join().unwrap();
    let counts = connection.statistics();
    assert_eq!(connection.status(), ConnectionStatus::Closed);
    assert!(counts.disconnects() <= 1, "lost twice");
    assert!(counts.reconnects() <= counts.disconnects());
    assert!(counts.connects() <= 2);
    assert_eq!(counts.panics(), 0);
}

/// The second connection stands whatever is said about the first.
fn a_late_failer() {
    let life = connection(2);
    let reader = reader(&life);
    let connection = life.connection();
    let wait = || {
        let status = ConnectionStatus::Connected;
        connection.wait_for_status(status, Duration::from_secs(1)).expect("a connection");
    };
    wait();
    life.fail(1, "the first");
    let late = failer(&life, "late");
    while connection.statistics().reconnects() == 0 {
        thread::yield_now();
    }
    wait();
    late.join().unwrap();
    assert_eq!(connection.status(), ConnectionStatus::Connected);
    connection.close();
    reader.join().unwrap();
    let counts = connection.statistics();
    assert_eq!((counts.disconnects(), counts.reconnects(), counts.panics()), (1, 1, 0));
}

fn flusher(life: &Life) -> thread::JoinHandle<()> {
    let life = life.clone();
    thread::spawn(move || life.run_flusher())
}

const LONG: Duration = Duration::from_secs(60);

/// The whole way of a flush, beside a close at any moment: it succeeds or is told so, and both
/// threads end. No time passes.
fn flushed_and_closed() {
    let life = over(vec![Wire::answering("INFO {}\r\n")]);
    let (reader, flusher) = (reader(&life), flusher(&life));
    let connection = life.connection();
    let flush = {
        let life = life.clone();
        thread::spawn(move || life.connection().flush_timeout(LONG))
    };
    connection.wait_for_status(ConnectionStatus::Connected, LONG).expect("a connection");
    connection.close();
    if let Err(error) = flush.join().unwrap() {
        assert!(error.is_closed(), "{error}");
    }
    reader.join().unwrap();
    flusher.join().unwrap();
    assert_eq!(connection.statistics().panics(), 0);
}

/// A loss at any moment of a flush: it succeeds on either connection, or fails with the first.
fn flushed_across_a_loss() {
    let wires = vec![Wire::answering("INFO {}\r\n"), Wire::answering("INFO {}\r\n")];
    let life = over(wires);
    let (reader, flusher) = (reader(&life), flusher(&life));
    let failer = failer(&life, "lost");
    let connection = life.connection();
    match connection.flush_timeout(LONG) {
        Ok(()) => {}
        Err(error) => assert!(error.is_disconnected(), "{error}"),
    }
    failer.join().unwrap();
    connection.close();
    reader.join().unwrap();
    flusher.join().unwrap();
    assert_eq!(connection.statistics().panics(), 0);
}
