//! Odd but legal bytes, and limits to the byte: what the real server passes on, we take.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nats_blocking::testing::Happening;
use nats_blocking::{ErrorKind, Headers, Message};

use super::{Client, LIMIT, disconnected, quick};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::watchdog::within;

/// A publisher that writes whatever bytes it likes.
struct Publisher(TcpStream);

impl Publisher {
    fn connect(server: &NatsServer) -> Self {
        let mut stream = TcpStream::connect(server.client_address()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"CONNECT {\"verbose\":false,\"headers\":true}\r\n").unwrap();
        let mut publisher = Self(stream);
        publisher.flush();
        publisher
    }

    fn publish(&mut self, subject: &[u8], block: &[u8], payload: &[u8]) {
        let lengths = format!(" {} {}\r\n", block.len(), block.len() + payload.len());
        let frame = [b"HPUB ", subject, lengths.as_bytes(), block, payload, b"\r\n"].concat();
        self.0.write_all(&frame).unwrap();
    }

    /// Until everything before is with the server; it must not have complained.
    fn flush(&mut self) {
        self.0.write_all(b"PING\r\n").unwrap();
        let mut got = Vec::new();
        let mut chunk = [0; 4096];
        while !got.ends_with(b"PONG\r\n") {
            let count = self.0.read(&mut chunk).unwrap();
            assert!(count > 0, "{}", got.escape_ascii());
            got.extend_from_slice(&chunk[..count]);
        }
        assert!(!got.windows(4).any(|part| part == b"-ERR"), "{}", got.escape_ascii());
    }
}

/// What must come of a header block: its lines, its status, and whether the listener is told.
type Odd = (&'static [u8], &'static [(&'static str, &'static str)], Option<u16>, bool);

const ODD: &[Odd] = &[
    (b"NATS/1.0\r\nA: b\rc\r\n\r\n", &[("A", "b\rc")], None, false),
    (b"NATS/1.0\r\nA: b\r\r\n\r\n", &[("A", "b\r")], None, false),
    (b"NATS/1.0\r\nA:\tb\tc\t\r\n\r\n", &[("A", "b\tc")], None, false),
    (b"NATS/1.0\r\nA: \xc3\xbc\r\n\r\n", &[("A", "\u{fc}")], None, false),
    (b"NATS/1.0\r\nA: \xff\xfe\r\n\r\n", &[("A", "\u{fffd}\u{fffd}")], None, true),
    (b"NATS/1.0\r\nA:\r\nA: \r\nA:   \r\n\r\n", &[("A", ""), ("A", ""), ("A", "")], None, false),
    (
        b"NATS/1.0\r\nA: 1\r\na: 2\r\nA: 1\r\n\r\n",
        &[("A", "1"), ("a", "2"), ("A", "1")],
        None,
        false,
    ),
    (b"NATS/1.0\r\nA: \0\r\n\r\n", &[("A", "\0")], None, false),
    (b"NATS/1.0\r\na b: c\r\n\r\n", &[("a b", "c")], None, false),
    (b"NATS/1.0\r\nA : c\r\n\r\n", &[("A ", "c")], None, false),
    (b"NATS/1.0\r\n A: c\r\n\r\n", &[(" A", "c")], None, false),
    (b"NATS/1.0\r\nA: b:c:d\r\n\r\n", &[("A", "b:c:d")], None, false),
    (b"NATS/1.0\r\nABC\r\nA: b\r\n\r\n", &[("A", "b")], None, true),
    (b"NATS/1.0\r\n: b\r\nA: b\r\n\r\n", &[("A", "b")], None, true),
    (b"NATS/1.0\nA: b\n\n", &[("A", "b")], None, false),
    (b"NATS/1.0\r\nA: b\r\n", &[("A", "b")], None, true),
    (b"NATS/1.0\r\nA: b", &[("A", "b")], None, true),
    (b"NATS/1.0\r\n\r\n\r\n\r\n", &[], None, false),
    (b"NATS/1.0\r\n\r\nA: b\r\n\r\n", &[], None, true),
    (b"NATS/1.0 \r\n\r\n", &[], None, false),
    (b"NATS/1.0 1\r\n\r\n", &[], None, true),
    (b"NATS/1.0 12\r\n\r\n", &[], None, true),
    (b"NATS/1.0 123\r\n\r\n", &[], Some(123), false),
    (b"NATS/1.0 1234\r\n\r\n", &[], None, true),
    (b"NATS/1.0 12345\r\n\r\n", &[], None, true),
    (b"NATS/1.05\r\n\r\n", &[], None, true),
    (b"NATS/1.0 000 zero\r\nA: b\r\n\r\n", &[("A", "b")], Some(0), false),
    (b"NATS/2.0\r\nA: b\r\n\r\n", &[], None, true),
    (b"\r\n\r\n", &[], None, true),
    (b"garbage", &[], None, true),
];

#[test]
fn what_another_publisher_can_send_never_costs_the_connection() {
    within(Duration::from_secs(60), "odd", || {
        let server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()));
        let subscription = client.subscribe("odd").unwrap();
        client.flush().unwrap();
        let mut publisher = Publisher::connect(&server);
        let mut told = 0;
        for (block, lines, status, is_told) in ODD {
            let shown = block.escape_ascii();
            publisher.publish(b"odd", block, b"whole");
            let got = subscription.next_timeout(LIMIT);
            let got = got.unwrap_or_else(|error| panic!("{shown}: {error}"));
            assert_eq!(got.headers().iter().collect::<Vec<_>>(), *lines, "{shown}");
            assert_eq!(got.status().map(|status| status.code()), *status, "{shown}");
            assert_eq!(got.payload(), b"whole", "{shown}");
            assert_eq!(got.raw_headers(), Some(*block), "{shown}");
            told += usize::from(*is_told);
            // It may be passed on, with the lines that headers can have.
            client.publish_message(&got).unwrap();
            let again = subscription.next_timeout(LIMIT).unwrap();
            assert_eq!(again.payload(), b"whole", "{shown}");
            assert_eq!(again.headers().len(), lines.len(), "{shown}");
        }
        publisher.flush();
        let faults = |happening: &Happening| {
            matches!(happening, Happening::Exception(error)
                if error.kind() == ErrorKind::InvalidHeader)
        };
        client.recorder.wait_for_count(LIMIT, told, faults).unwrap();
        assert_eq!(client.recorder.count(faults), told, "{}", client.timeline("odd headers"));
        assert_eq!(client.count(disconnected), 0);
        client.finish();
    });
}

#[test]
fn a_subject_of_another_publisher_that_is_no_text_costs_nothing() {
    within(Duration::from_secs(60), "odd subjects", || {
        let server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()));
        let subscription = client.subscribe("odd.>").unwrap();
        client.flush().unwrap();
        let mut publisher = Publisher::connect(&server);
        for subject in [&b"odd.\xff\xfe"[..], b"odd.\0", b"odd.\x7f\x1b[31m", b"odd.a\xc3"] {
            publisher.publish(subject, b"NATS/1.0\r\n\r\n", b"whole");
            let got = subscription.next_timeout(LIMIT).unwrap();
            assert_eq!(got.subject(), String::from_utf8_lossy(subject));
            assert_eq!(got.payload(), b"whole");
        }
        publisher.flush();
        assert_eq!(client.count(disconnected), 0);
        client.finish();
    });
}

/// Each would be a publish of its own, if it were written as it is.
const INJECTIONS: &[&str] = &[
    "a 0\r\n\r\nPUB injected 5\r\nhello\r\nPUB b",
    "a 5\r\nhello\r\nPUB injected",
    "a\r\nPUB injected 0\r\n\r\n",
    "a\nPUB injected 0\r\n\r\n",
    "a\rPUB injected 0\r\r",
    "a\r\nSUB > 99\r\n",
    "a\u{0}\r\nPUB injected 0\r\n\r\n",
    " 0\r\n\r\nPUB injected 0\r\n\r\n",
    "a\r\n\r\nPUB injected 0\r\n\r\n",
];

#[test]
fn no_string_makes_the_real_server_see_another_message() {
    within(Duration::from_secs(60), "injection", || {
        let server = NatsServer::start_plain();
        let watcher = Client::connect(quick(server.url()));
        let everything = watcher.subscribe(">").unwrap();
        watcher.flush().unwrap();
        let client = Client::connect(quick(server.url()));
        for text in INJECTIONS {
            let message = Message::new("plain", "p");
            let answered = Message::new("plain", "p").with_reply(text);
            assert!(client.publish(text, "p").is_err(), "{text:?}");
            assert!(client.publish_with_reply("plain", text, "p").is_err(), "{text:?}");
            assert!(client.publish_with_headers(text, &Headers::new(), "p").is_err(), "{text:?}");
            assert!(client.respond(&answered, "p").is_err(), "{text:?}");
            assert!(client.respond_with_headers(&answered, &Headers::new(), "p").is_err());
            assert!(client.request(text, "p", LIMIT).is_err(), "{text:?}");
            assert!(client.request_with_headers(text, &Headers::new(), "p", LIMIT).is_err());
            assert!(client.subscribe(text).is_err(), "{text:?}");
            assert!(client.queue_subscribe("plain", text).is_err(), "{text:?}");
            assert!(Headers::try_from_iter([("Name", text)]).is_err(), "{text:?}");
            assert!(Headers::try_from_iter([(text, "value")]).is_err(), "{text:?}");
            assert!(message.with_header("Name", text).is_err(), "{text:?}");
        }
        // A payload may hold anything.
        let payload = INJECTIONS.concat();
        client.publish("last", &payload).unwrap();
        client.flush().unwrap();
        let only = everything.next_timeout(LIMIT).unwrap();
        assert_eq!((only.subject(), only.payload()), ("last", payload.as_bytes()));
        watcher.flush().unwrap();
        assert!(everything.try_next().unwrap().is_none(), "another message");
        assert_eq!(client.count(disconnected), 0);
        client.finish();
        watcher.finish();
    });
}

#[test]
fn the_largest_message_is_taken_to_the_byte_with_and_without_headers_on_both_sides() {
    within(Duration::from_secs(60), "exact", || {
        let server = NatsServer::start(&Config::new().max_payload(1_000));
        let client = Client::connect(quick(server.url()));
        let subscription = client.subscribe("a").unwrap();
        let headers = Headers::try_from_iter([("Name", "value")]).unwrap();
        // Version, line and blank line.
        let block = "NATS/1.0\r\nName: value\r\n\r\n".len();
        let mut sent = 0;
        for length in 0..=1_002 {
            let payload = vec![b'x'; length];
            let plain = client.publish("a", &payload);
            assert_eq!(plain.is_ok(), length <= 1_000, "{length}: {plain:?}");
            let with_headers = client.publish_with_headers("a", &headers, &payload);
            assert_eq!(with_headers.is_ok(), block + length <= 1_000, "{length}: {with_headers:?}");
            for outcome in [plain, with_headers] {
                match outcome {
                    Ok(()) => sent += 1,
                    Err(error) => assert_eq!(error.kind(), ErrorKind::MaxPayload, "{error}"),
                }
            }
        }
        client.flush().unwrap();
        assert_eq!(subscription.try_iter().count(), sent);
        assert_eq!(server.wait_ready(LIMIT)["max_payload"], 1_000);
        assert_eq!(client.count(disconnected), 0, "{}", client.timeline("the server complained"));
        client.finish();
    });
}
