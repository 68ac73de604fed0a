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

use crate::support::own_process::in_small_process;
use crate::support::ports;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);
/// What the peak may grow by: far less than what is announced or sent.
pub(crate) const MOST: u64 = 8 << 20;
/// What each process here may reserve, with stacks and arenas of threads: far less than 2 GiB.
pub(crate) const ADDRESSES: u64 = 512 << 20;

/// The most memory that this process has used so far, in bytes. The kernel counts it roughly, so
/// it may even seem to fall.
pub(crate) struct Peak(u64);

impl Peak {
    pub(crate) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        Self(line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024)
    }

    pub(crate) fn check_growth(&self, most: u64) {
        let grown = Self::now().0.saturating_sub(self.0);
        assert!(grown < most, "the memory grew by {} KiB, at most {}", grown >> 10, most >> 10);
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
    play_within(MOST, most, send)
}

/// The same, where the memory may grow by so much.
fn play_within(
    growth: u64,
    most: usize,
    send: impl FnOnce(&mut TcpStream) + Send + 'static,
) -> ErrorKind {
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
    before.check_growth(growth);
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
    in_small_process("memory::an_announced_length_reserves_nothing", LIMIT * 5, ADDRESSES, || {
        for length in
            [1_000_000, 1 << 31, u64::from(u32::MAX), 1 << 40, i64::MAX as u64, 1 << 63, u64::MAX]
        {
            for line in [format!("MSG a 1 {length}\r\n"), format!("HMSG a 1 {length} {length}\r\n")]
            {
                let bytes = [line.as_bytes(), &[b'x'; 100_000]].concat();
                for most in [64 << 20, usize::MAX] {
                    let bytes = bytes.clone();
                    let cause = play(most, move |stream| drop(stream.write_all(&bytes)));
                    // Within the limit, or without one, it is waited for to the end.
                    let kinds = [ErrorKind::Protocol, ErrorKind::Io];
                    let waits = most as u64 >= length;
                    let kinds = if waits { &kinds[..] } else { &kinds[..1] };
                    assert!(kinds.contains(&cause), "{line:?} {most}: {cause:?}");
                }
            }
        }
    });
}

#[test]
fn a_message_that_never_ends_costs_twice_what_has_arrived_of_it() {
    let name = "memory::a_message_that_never_ends_costs_twice_what_has_arrived_of_it";
    in_small_process(name, LIMIT * 5, ADDRESSES, || {
        let arrived = 48 << 20;
        for line in ["MSG a 1 4294967296\r\n", "HMSG a 1 4000000000 4294967296\r\n"] {
            let cause = play_within(2 * arrived + MOST, usize::MAX, move |stream| {
                stream.write_all(line.as_bytes()).unwrap();
                let block = vec![b'x'; 64 << 10];
                for _ in 0..arrived / (64 << 10) {
                    stream.write_all(&block).unwrap();
                }
            });
            assert_eq!(cause, ErrorKind::Io, "{line:?}");
        }
    });
}

#[test]
fn a_line_without_end_is_given_up_at_its_limit() {
    in_small_process(
        "memory::a_line_without_end_is_given_up_at_its_limit",
        LIMIT * 5,
        ADDRESSES,
        || {
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
        },
    );
}

#[test]
fn a_flood_of_pings_is_answered_as_far_as_the_server_reads() {
    let name = "memory::a_flood_of_pings_is_answered_as_far_as_the_server_reads";
    in_small_process(name, LIMIT * 5, ADDRESSES, || {
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
    in_small_process(name, LIMIT * 5, ADDRESSES, || {
        let listener = ports::listen();
        let url = listener.local_addr().unwrap().to_string();
        let server = serve(listener, |stream| {
            let lists =
                ["a:1", "a:2"].map(|one| format!("INFO {{\"connect_urls\":[\"{one}\"]}}\r\n"));
            let block = format!("-ERR 'Invalid Subject'\r\nINFO {{}}\r\n{}", lists.concat());
            let block = block.repeat(1_000);
            for _ in 0..100 {
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
        before.check_growth(MOST);
        assert!(connection.statistics().skipped() > 100_000, "{:?}", connection.statistics());
        connection.close();
        server.join().unwrap();
    });
}
