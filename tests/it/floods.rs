//! A server that sends control frames of WebSocket without end, or messages of a TLS handshake that
//! are longer than any, costs little memory and no more time than the connect time-out.
//!
//! Each test is alone in a process of its own, whose memory is small.
#![cfg(target_os = "linux")]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nats_blocking::{Error, ErrorKind, Options};

use crate::memory::{ADDRESSES, LIMIT, MOST, Peak};
use crate::support::own_process::in_small_process;
use crate::support::tls_peer::{TlsPeer, read_to_end};
use crate::support::ws_front::{agree, client_frame, frame, request};
use crate::websocket::INFO;

/// More than what the kernel takes of answers that nobody reads.
const PINGS: u64 = 400_000;

/// The longest payload of a ping, with its number in front.
fn ping(number: u64) -> Vec<u8> {
    let mut payload = [b'.'; 125];
    payload[..8].copy_from_slice(&number.to_be_bytes());
    frame(0x89, &payload)
}

/// Upgrades, logs the client in, and waits for its subscription.
fn welcome(stream: &mut TcpStream) {
    let asked = request(stream);
    let info = [agree(&asked).as_bytes(), &frame(0x82, INFO.as_bytes())].concat();
    stream.write_all(&info).unwrap();
    while !client_frame(stream).unwrap().1.ends_with(b"PING\r\n") {}
    stream.write_all(&frame(0x82, b"PONG\r\n")).unwrap();
    while !client_frame(stream).unwrap().1.starts_with(b"SUB") {}
}

/// Sends all pings with a message behind them, while nothing is read; then reads until the answer
/// to the last one.
fn flood(stream: &mut TcpStream) {
    welcome(stream);
    for first in (0..PINGS).step_by(1_000) {
        let block: Vec<u8> = (first..first + 1_000).flat_map(ping).collect();
        stream.write_all(&block).unwrap();
    }
    stream.write_all(&frame(0x82, b"MSG a 1 2\r\nhi\r\n")).unwrap();
    let (mut answers, mut last) = (0, None);
    while last != Some(PINGS - 1) {
        let (first, payload) = client_frame(stream).unwrap();
        if first != 0x8A {
            assert_eq!(first, 0x82);
            continue;
        }
        assert_eq!(payload.len(), 125);
        let number = u64::from_be_bytes(payload[..8].try_into().unwrap());
        assert!(last < Some(number), "{last:?}, then {number}");
        last = Some(number);
        answers += 1;
    }
    assert!(answers <= PINGS);
    read_to_end(stream);
}

#[test]
fn a_flood_of_websocket_pings_is_answered_as_far_as_the_server_reads() {
    let name = "floods::a_flood_of_websocket_pings_is_answered_as_far_as_the_server_reads";
    in_small_process(name, LIMIT * 5, ADDRESSES, || {
        let peer = TlsPeer::start(|_, mut stream| flood(&mut stream));
        let connection = Options::builder()
            .server(format!("ws://{}", peer.address()))
            .connect_timeout(LIMIT)
            .no_reconnect()
            .connect()
            .unwrap();
        let before = Peak::now();
        let subscription = connection.subscribe("a").unwrap();
        assert_eq!(subscription.next_timeout(LIMIT * 2).unwrap().payload(), b"hi");
        before.check_growth(MOST);
        connection.flush_timeout(Duration::from_millis(1)).unwrap_err();
        assert!(connection.is_connected());
        connection.close();
    });
}

/// The connect time-out of those who are kept waiting.
const SHORT: Duration = Duration::from_secs(2);

/// A record of TLS.
fn record(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap().to_be_bytes();
    [&[kind, 3, 3][..], &length, body].concat()
}

/// The answer to any hello, of TLS 1.2.
fn server_hello() -> Vec<u8> {
    // It knows of secure renegotiation, without which no client goes on.
    let extensions = [0, 5, 0xFF, 1, 0, 1, 0];
    let hello = [&[3, 3][..], &[7; 32], &[0, 0xC0, 0x2F, 0], &extensions].concat();
    let length = u32::try_from(hello.len()).unwrap().to_be_bytes();
    record(22, &[&[2], &length[1..], &hello].concat())
}

/// Answers the client's hello with `first`, then with `again` up to 64 MiB or until the client has
/// had enough. Returns what the client makes of it.
fn shaken(first: Vec<u8>, again: Vec<u8>) -> Error {
    let peer = TlsPeer::start(move |_, mut stream| {
        let info = INFO.replace("\"proto\"", "\"tls_required\":true,\"proto\"");
        stream.write_all(info.as_bytes()).unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
        let _ = stream.write_all(&first);
        let block = again.repeat((1 << 16) / again.len());
        for _ in 0..(64 << 20) / block.len() {
            if stream.write_all(&block).is_err() {
                return;
            }
        }
        read_to_end(&mut stream);
    });
    let started = Instant::now();
    let options = Options::builder().server(peer.address()).connect_timeout(SHORT);
    let error = options.token("canary").connect().unwrap_err();
    assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    error.attempts()[0].cause().clone()
}

#[test]
fn a_tls_handshake_longer_than_any_is_given_up() {
    let name = "floods::a_tls_handshake_longer_than_any_is_given_up";
    in_small_process(name, LIMIT * 10, ADDRESSES, || {
        let zeros = vec![0; 1 << 14];
        let rest = record(22, &zeros);
        let longest = |kind| record(22, &[kind, 0xFF, 0xFF, 0xFF, 3, 3]);
        let hello_then = |kind| [server_hello(), longest(kind)].concat();
        // The first attempt loads what TLS needs, the certificates of the platform among it.
        shaken(vec![99, 3, 3, 0, 1], zeros.clone());
        let before = Peak::now();
        for (what, first, again) in [
            ("a hello of 16 MiB", longest(2), rest.clone()),
            ("certificates of 16 MiB", hello_then(11), rest.clone()),
            ("a key of 16 MiB", hello_then(12), rest.clone()),
            ("an unknown message of 16 MiB", longest(99), rest),
            ("a record of 64 KiB", vec![22, 3, 3, 0xFF, 0xFF], zeros.clone()),
            ("a record of no kind", vec![99, 3, 3, 0, 1], zeros),
            ("empty records", Vec::new(), record(22, &[])),
            ("warnings", Vec::new(), record(21, &[1, 90])),
            ("changes of the cipher", server_hello(), record(20, &[1])),
            ("requests to begin again", Vec::new(), record(22, &[0, 0, 0, 0])),
        ] {
            let error = shaken(first, again);
            // These are passed over, one after the other.
            let waits = what.starts_with("requests") && error.is_timeout();
            assert!(waits || error.kind() == ErrorKind::Tls, "{what}: {error}");
        }
        before.check_growth(2 * MOST);
    });
}
