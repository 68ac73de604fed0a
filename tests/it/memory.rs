//! What a server announces or sends without end does not fill the memory.
//!
//! The peak of this process's memory is read from `/proc`, so these tests are each alone in a
//! process of its own, and exist on Linux only.
#![cfg(target_os = "linux")]

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{ConnectionEventKind as Kind, ErrorKind, Options};

use crate::support::own_process::in_own_process;
use crate::support::ports;

const LIMIT: Duration = Duration::from_secs(20);
/// What the peak may grow by: far less than what is announced or sent.
const MOST: u64 = 16 << 20;
/// What the reserved peak may grow by: stacks and arenas of threads, and far from 2 GiB.
const MOST_RESERVED: u64 = 1 << 30;

/// The highest sizes of this process so far, in bytes: what was in use, and what was reserved. The
/// kernel counts the first one roughly, so it may even seem to fall.
struct Peak {
    used: u64,
    reserved: u64,
}

impl Peak {
    fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
        };
        Self { used: field("VmHWM:"), reserved: field("VmPeak:") }
    }

    fn check_growth(&self) {
        let now = Self::now();
        let used = now.used.saturating_sub(self.used);
        let reserved = now.reserved.saturating_sub(self.reserved);
        assert!(used < MOST, "the memory grew by {} KiB", used / 1024);
        assert!(reserved < MOST_RESERVED, "{} KiB more are reserved", reserved / 1024);
    }
}

/// Serves one connection: the login, then `send`; a second one stays empty until it is closed.
fn serve(
    listener: std::net::TcpListener,
    send: impl FnOnce(&mut TcpStream) + Send + 'static,
) -> JoinHandle<()> {
    let body = move || {
        let (mut stream, _) = listener.accept().unwrap();
        log_in(&mut stream);
        send(&mut stream);
        drop(stream);
        let (mut stream, _) = listener.accept().unwrap();
        log_in(&mut stream);
        let mut rest = [0; 1_024];
        while matches!(stream.read(&mut rest), Ok(1..)) {}
    };
    thread::Builder::new().name("memory-server".to_owned()).spawn(body).unwrap()
}

fn log_in(stream: &mut TcpStream) {
    stream.set_read_timeout(Some(LIMIT)).unwrap();
    stream.set_write_timeout(Some(LIMIT)).unwrap();
    stream.write_all(b"INFO {\"server_id\":\"M\",\"proto\":1}\r\n").unwrap();
    let mut got = Vec::new();
    let mut chunk = [0; 1_024];
    while !got.ends_with(b"PING\r\n") {
        let count = stream.read(&mut chunk).unwrap();
        got.extend_from_slice(&chunk[..count]);
    }
    stream.write_all(b"PONG\r\n").unwrap();
}

/// Plays one connection against a client whose messages are limited to `most` bytes, and gives
/// the kind of the cause for which it ended.
fn play(most: usize, send: impl FnOnce(&mut TcpStream) + Send + 'static) -> ErrorKind {
    let listener = ports::listen();
    let url = listener.local_addr().unwrap().to_string();
    let server = serve(listener, send);
    let recorder = Recorder::new();
    let connection = Options::builder()
        .server(url)
        .connect_timeout(LIMIT)
        .max_incoming_payload(most)
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    let before = Peak::now();
    let found = recorder.wait_for_event(LIMIT * 2, |kind| matches!(kind, Kind::Reconnected { .. }));
    found.unwrap();
    before.check_growth();
    connection.close();
    server.join().unwrap();
    recorder.check().unwrap();
    let cause = recorder.records().into_iter().find_map(|record| match record.happening() {
        Happening::Event(event) => match event.kind() {
            Kind::Disconnected { cause } => Some(cause.kind()),
            _ => None,
        },
        _ => None,
    });
    cause.expect("a loss")
}

#[test]
fn an_announced_length_reserves_nothing() {
    in_own_process("memory::an_announced_length_reserves_nothing", LIMIT * 5, || {
        for length in [1 << 31, 1 << 32, 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX] {
            for line in [format!("MSG a 1 {length}\r\n"), format!("HMSG a 1 {length} {length}\r\n")]
            {
                let bytes = [line.as_bytes(), &[b'x'; 100_000]].concat();
                for most in [64 << 20, usize::MAX] {
                    let bytes = bytes.clone();
                    let cause = play(most, move |stream| drop(stream.write_all(&bytes)));
                    // Without a limit, a length that could be is waited for to the end.
                    let kinds = [ErrorKind::Protocol, ErrorKind::Io];
                    let kinds = if most == usize::MAX { &kinds[..] } else { &kinds[..1] };
                    assert!(kinds.contains(&cause), "{line:?} {most}: {cause:?}");
                }
            }
        }
    });
}

#[test]
fn a_line_without_end_is_given_up_at_its_limit() {
    in_own_process("memory::a_line_without_end_is_given_up_at_its_limit", LIMIT * 5, || {
        for beginning in ["", "MSG ", "HMSG a 1 ", "-ERR '", "INFO {\"x\":\"", "PING "] {
            let cause = play(usize::MAX, move |stream| {
                let _ = stream.write_all(beginning.as_bytes());
                let block = vec![b'a'; 64 << 10];
                // 64 MiB, or until the client has had enough.
                for _ in 0..1_024 {
                    if stream.write_all(&block).is_err() {
                        return;
                    }
                }
                panic!("64 MiB of '{beginning}aaa…' were taken");
            });
            assert_eq!(cause, ErrorKind::Protocol, "{beginning:?}");
        }
    });
}

#[test]
fn a_flood_of_pings_is_answered_as_far_as_the_server_reads() {
    let name = "memory::a_flood_of_pings_is_answered_as_far_as_the_server_reads";
    in_own_process(name, LIMIT * 5, || {
        // Three million pings to a client whose answers nobody reads meanwhile.
        let cause = play(usize::MAX, |stream| {
            let block = b"PING\r\n".repeat(10_000);
            for _ in 0..300 {
                stream.write_all(&block).unwrap();
            }
            let mut answer = [0; 6];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"PONG\r\n");
        });
        assert_eq!(cause, ErrorKind::Io);
    });
}

#[test]
fn a_flood_of_errors_and_infos_is_told_within_bounds() {
    let name = "memory::a_flood_of_errors_and_infos_is_told_within_bounds";
    in_own_process(name, LIMIT * 5, || {
        let listener = ports::listen();
        let url = listener.local_addr().unwrap().to_string();
        let server = serve(listener, |stream| {
            let block = "-ERR 'Invalid Subject'\r\nINFO {}\r\n".repeat(1_000);
            for _ in 0..300 {
                stream.write_all(block.as_bytes()).unwrap();
            }
        });
        // The listener stays behind for as long as the flood lasts.
        let (gate, reconnected) = std::sync::mpsc::channel::<()>();
        let stuck = std::sync::Mutex::new(Some(reconnected));
        let connection = Options::builder()
            .server(url)
            .connect_timeout(LIMIT)
            .on_error(move |_, _| {
                if let Some(gate) = stuck.lock().unwrap().take() {
                    let _ = gate.recv_timeout(LIMIT);
                }
            })
            .connect()
            .unwrap();
        let before = Peak::now();
        let events = connection.events();
        let is_back = |notice: &nats_blocking::Notice| match notice {
            nats_blocking::Notice::Event(event) => matches!(event.kind(), Kind::Reconnected { .. }),
            _ => false,
        };
        while !events.next_timeout(LIMIT).is_some_and(|notice| is_back(&notice)) {
            assert!(!events.is_finished());
        }
        gate.send(()).unwrap();
        before.check_growth();
        assert!(connection.statistics().skipped() > 100_000, "{:?}", connection.statistics());
        connection.close();
        server.join().unwrap();
    });
}
