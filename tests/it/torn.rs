//! Connections that break in the middle of a batch, while several threads publish.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nats_blocking::testing::{ClientOp, ClientOpParser, Recorder};
use nats_blocking::{ConnectionEventKind as Kind, Options};
use socket2::SockRef;

use crate::support::ports;
use crate::support::seed::Seed;
use crate::support::wait::{Gate, Signal};
use crate::support::watchdog::within;

const LIMIT: Duration = Duration::from_secs(20);
const LOSSES: usize = 60;
const PUBLISHERS: usize = 4;

/// The payloads that each connection brought, whole ones only.
type Received = Vec<Vec<String>>;

/// Serves one connection after the other. All but the last are reset after a random number of
/// bytes, most likely in the middle of a frame.
fn serve(listener: TcpListener, mut seed: Seed) -> JoinHandle<Received> {
    let body = move || {
        let mut received = Received::new();
        for number in 0..=LOSSES {
            let (stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(LIMIT * 4)).unwrap();
            let patience = (number < LOSSES).then(|| seed.within(500..400_000) as usize);
            received.push(serve_one(stream, patience));
        }
        received
    };
    thread::Builder::new().name("torn-server".to_owned()).spawn(body).unwrap()
}

fn serve_one(mut stream: TcpStream, patience: Option<usize>) -> Vec<String> {
    stream.write_all(b"INFO {\"server_id\":\"T\",\"proto\":1,\"headers\":true}\r\n").unwrap();
    let mut parser = ClientOpParser::new();
    let mut payloads = Vec::new();
    let mut chunk = vec![0; 16 << 10];
    let mut left = patience.unwrap_or(usize::MAX);
    while left > 0 {
        let most = left.min(chunk.len());
        let Ok(count @ 1..) = stream.read(&mut chunk[..most]) else { break };
        left -= count;
        parser.push(&chunk[..count]);
        // From its first byte on each connection must bring whole frames.
        while let Some(op) = parser.next().expect("whole frames") {
            match op {
                ClientOp::Ping => drop(stream.write_all(b"PONG\r\n")),
                ClientOp::Publish(publication) => {
                    payloads.push(String::from_utf8(publication.payload.to_vec()).unwrap());
                }
                ClientOp::Connect(_) | ClientOp::Pong => {}
                other => panic!("{other:?}"),
            }
        }
    }
    if patience.is_some() {
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
    payloads
}

/// `publisher:sequence:filling`, of many lengths.
fn payload(publisher: usize, sequence: usize) -> String {
    let filling = match sequence % 50 {
        0 => 60_000,
        short => short * 7,
    };
    format!("{publisher}:{sequence}:{}", "f".repeat(filling))
}

#[test]
fn frames_are_whole_and_in_order_and_none_comes_twice_however_connections_break() {
    within(LIMIT * 6, "torn frames", || {
        let listener = ports::listen();
        let address = listener.local_addr().unwrap();
        let server = serve(listener, Seed::from_env_or(4_711));
        let recorder = Recorder::new();
        let connection = Options::builder()
            .server(address.to_string())
            .connect_timeout(LIMIT)
            .reconnect_wait(Duration::from_millis(1))
            .reconnect_jitter(Duration::ZERO)
            .connection_listener(recorder.clone())
            .error_listener(recorder.clone())
            .connect()
            .unwrap();
        let over = Gate::new();
        let accepted = std::sync::Arc::new(Signal::new(0_u64));
        let publishers: Vec<_> = (0..PUBLISHERS)
            .map(|publisher| {
                let (connection, over, accepted) =
                    (connection.clone(), over.clone(), accepted.clone());
                let publish = move || {
                    let mut sequence = 0;
                    while !over.is_open() {
                        sequence += 1;
                        // A full buffer loses the message, which is no fault here.
                        if connection.publish("torn", payload(publisher, sequence)).is_ok() {
                            accepted.change(|count| *count += 1);
                        }
                    }
                };
                thread::Builder::new().name(format!("torn-{publisher}")).spawn(publish).unwrap()
            })
            .collect();
        let lost = |kind: &Kind| matches!(kind, Kind::Disconnected { .. });
        let enough = recorder.wait_for_count(LIMIT * 4, LOSSES, |happening| {
            happening.event_kind().is_some_and(lost)
        });
        over.open();
        enough.unwrap();
        for publisher in publishers {
            publisher.join().unwrap();
        }
        connection.flush_timeout(LIMIT).unwrap();
        let statistics = connection.statistics();
        connection.close();
        recorder.check().unwrap();
        let received = server.join().unwrap();
        assert_eq!(received.len(), LOSSES + 1);
        check(&received);
        let arrived = received.iter().map(Vec::len).sum::<usize>() as u64;
        assert!(arrived > 1_000, "only {arrived} messages");
        assert!(arrived <= accepted.read(|count| *count));
        assert_eq!(statistics.out_messages(), accepted.read(|count| *count));
        assert!(statistics.torn() > 0, "{statistics:?}");
    });
}

fn check(received: &Received) {
    let mut last: HashMap<usize, usize> = HashMap::new();
    for (number, payloads) in received.iter().enumerate() {
        for text in payloads {
            let mut parts = text.splitn(3, ':').map(|part| part.parse::<usize>());
            let publisher = parts.next().unwrap().unwrap();
            let sequence = parts.next().unwrap().unwrap();
            assert_eq!(*text, payload(publisher, sequence), "on connection {number}");
            // Rising numbers: none twice, and none out of order.
            let before = last.insert(publisher, sequence).unwrap_or(0);
            assert!(sequence > before, "{publisher}:{sequence} came behind {before}");
        }
    }
    assert_eq!(last.len(), PUBLISHERS);
}
