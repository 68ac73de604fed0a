//! Over WebSocket: the real server on its WebSocket port, and others that answer what they should
//! not.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use nats_blocking::testing::Recorder;
use nats_blocking::{
    ConnectionEventKind as Kind, ConnectionStatus, Error, ErrorKind, Options, OptionsBuilder,
};
use tungstenite::handshake::derive_accept_key;

use crate::support::nats_server::{Config, NatsServer};
use crate::support::ports;
use crate::support::tls_peer::{TlsPeer, read_to_end};
use crate::support::wait::Gate;
use crate::support::watchdog::within;

/// For what takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(120);
const INFO: &str =
    "INFO {\"server_id\":\"S\",\"proto\":1,\"headers\":true,\"max_payload\":1048576}\r\n";

fn options(url: &str) -> OptionsBuilder {
    Options::builder()
        .server(url)
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(20))
        .reconnect_jitter(Duration::from_millis(10))
        .reconnect_jitter_tls(Duration::from_millis(10))
}

/// A server with a WebSocket port, and that port's address.
fn server(lines: &str) -> (NatsServer, String) {
    let port = ports::free();
    let server = NatsServer::start(&Config::new().websocket(port, lines));
    (server, format!("127.0.0.1:{port}"))
}

/// Why the one attempt failed.
fn cause(options: OptionsBuilder) -> Error {
    let error = options.connect().unwrap_err();
    let [attempt] = error.attempts() else { panic!("{error}") };
    attempt.cause().clone()
}

/// Reads a request to its end.
fn request(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    let mut byte = [0];
    while !text.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
        text.push(byte[0]);
    }
    String::from_utf8(text).unwrap()
}

/// The good answer to it.
fn agree(request: &str) -> String {
    let key = request.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        derive_accept_key(key.as_bytes())
    )
}

/// A frame as a server sends it.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).unwrap();
    assert!(length < 126);
    [&[first, length][..], payload].concat()
}

#[test]
fn messages_of_every_size_go_both_ways_and_a_killed_server_is_found_again() {
    within(LONG, "websocket", || {
        let (mut server, address) = server("no_tls: true");
        let recorder = Recorder::new();
        let options = options(&format!("ws://{address}/any/path?at=all"))
            .connection_listener(recorder.clone());
        let connection = options.connect().unwrap();
        assert!(!connection.is_tls());
        let subscription = connection.subscribe("a").unwrap();
        for round in 0..2 {
            for size in [0, 1, 125, 126, 65_521, 65_522, 65_523, 1 << 20] {
                let payload: Vec<u8> = (0..size).map(|at: u32| (at / 7) as u8).collect();
                connection.publish("a", payload.clone()).unwrap();
                let message = subscription.next_timeout(LIMIT).unwrap();
                assert!(message.payload() == payload, "{size}");
            }
            for number in 0..5_000_u32 {
                connection.publish("a", number.to_string()).unwrap();
            }
            for number in 0..5_000_u32 {
                let message = subscription.next_timeout(LIMIT).unwrap();
                assert_eq!(message.text().unwrap(), number.to_string());
            }
            if round == 0 {
                server.restart();
                recorder
                    .wait_for(LIMIT, |happening| {
                        matches!(happening.event_kind(), Some(Kind::Resubscribed { .. }))
                    })
                    .unwrap();
            }
        }
        connection.drain(LIMIT).unwrap();
        connection.wait_closed(LIMIT).unwrap();
        recorder.check().unwrap();
    });
}

#[test]
#[cfg(feature = "tls")]
fn over_tls_first_the_certificate_counts_and_ws_is_refused_where_tls_is_wanted() {
    use crate::support::certificates::Authority;
    within(LONG, "wss", || {
        let authority = Authority::new();
        let (_server, address) = server(&authority.server().tls_block(""));
        let secure = format!("wss://{address}");
        let trusting = |url: &str| options(url).root_certificates_file(&authority.file);
        for options in [trusting(&secure), trusting(&secure).tls_first()] {
            let connection = options.connect().unwrap();
            assert!(connection.is_tls());
            let subscription = connection.subscribe("a").unwrap();
            let payload = vec![7; 1 << 20];
            for _ in 0..20 {
                connection.publish("a", payload.clone()).unwrap();
            }
            for _ in 0..20 {
                assert!(subscription.next_timeout(LIMIT).unwrap().payload() == payload);
            }
            connection.close();
            connection.wait_closed(LIMIT).unwrap();
        }
        let error = cause(options(&secure));
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        assert!(error.to_string().contains("not trusted"), "{error}");
        let error = cause(trusting(&format!("ws://{address}")));
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        assert!(error.to_string().contains("wss://"), "{error}");
    });
}

#[test]
fn a_list_of_both_kinds_goes_over_from_one_to_the_other() {
    within(LONG, "both kinds", || {
        let (mut first, address) = server("no_tls: true");
        let second = NatsServer::start_plain();
        let options = options(&format!("ws://{address}")).server(second.url()).no_randomize();
        let connection = options.connect().unwrap();
        let subscription = connection.subscribe("a").unwrap();
        connection.flush().unwrap();
        first.kill();
        connection.wait_for_status(ConnectionStatus::Reconnecting, LIMIT).ok();
        connection.wait_for_status(ConnectionStatus::Connected, LIMIT).unwrap();
        connection.publish("a", "x").unwrap();
        assert_eq!(subscription.next_timeout(LIMIT).unwrap().text().unwrap(), "x");
        connection.close();
    });
}

#[test]
fn the_servers_of_a_cluster_are_discovered_with_their_websocket_ports() {
    within(LONG, "discovered", || {
        let (ports_of, routes) = ([ports::free(), ports::free()], [ports::free(), ports::free()]);
        let config = |index: usize| {
            Config::new().websocket(ports_of[index], "no_tls: true").cluster(
                "c",
                routes[index],
                &[routes[1 - index]],
            )
        };
        let _servers = [NatsServer::start(&config(0)), NatsServer::start(&config(1))];
        let recorder = Recorder::new();
        let url = format!("ws://127.0.0.1:{}", ports_of[0]);
        let connection = options(&url).connection_listener(recorder.clone()).connect().unwrap();
        let other = format!("ws://127.0.0.1:{}", ports_of[1]);
        recorder
            .wait_for(LIMIT, |happening| {
                matches!(happening.event_kind(),
                    Some(Kind::DiscoveredServers { added, .. }) if added.contains(&other))
            })
            .unwrap();
        connection.force_reconnect().unwrap();
        recorder
            .wait_for(LIMIT, |happening| {
                matches!(happening.event_kind(), Some(Kind::Resubscribed { .. }))
            })
            .unwrap();
        connection.close();
    });
}

#[test]
fn an_answer_that_is_no_upgrade_fails_the_attempt_and_says_why() {
    within(LONG, "answers", || {
        let endless = |stream: &mut TcpStream| {
            let _ = stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n");
            while stream.write_all(b"X-Header: of many\r\n").is_ok() {}
        };
        type Answer = Box<dyn Fn(&mut TcpStream) + Send>;
        let say = |text: &'static str| -> Answer {
            Box::new(move |stream| drop(stream.write_all(text.as_bytes())))
        };
        let cases: [(&str, Answer); 7] = [
            ("longer than 16 KiB", Box::new(endless)),
            ("200 OK", say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")),
            ("403 Forbidden", say("HTTP/1.1 403 Forbidden\r\n\r\n")),
            (
                "Sec-WebSocket-Accept",
                say("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n"),
            ),
            ("speaks NATS", say(INFO)),
            ("not HTTP", say("SSH-2.0-OpenSSH\r\n\r\n")),
            ("closed the connection", say("HTTP/1.1 101 Switching")),
        ];
        for (why, answer) in cases {
            let peer = TlsPeer::start(move |_, mut stream| {
                request(&mut stream);
                answer(&mut stream);
            });
            let error = cause(options(&format!("ws://{}", peer.address())));
            assert!(error.to_string().contains(why), "{why}: {error}");
            let kind = if why.starts_with("closed") { ErrorKind::Io } else { ErrorKind::Protocol };
            // A reset may overtake what the peer said before it.
            assert!(error.kind() == kind, "{why}: {error:?}");
        }
    });
}

#[test]
fn an_upgrade_that_never_ends_costs_the_connect_time_out_and_close_cuts_it_off() {
    within(LONG, "silence", || {
        let gate = Gate::new();
        let open = gate.clone();
        let peer = TlsPeer::start(move |_, stream| {
            gate.wait(LONG);
            drop(stream);
        });
        let url = format!("ws://{}", peer.address());
        let error = cause(options(&url).connect_timeout(Duration::from_millis(200)));
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(error.to_string().contains("WebSocket upgrade"), "{error}");
        open.open();
    });
}

#[test]
fn a_frame_that_no_server_sends_is_told_and_ends_the_connection_once() {
    within(LONG, "frames", || {
        for (why, bad) in [
            ("a text frame", frame(0x81, b"MSG a 1 1\r\nx\r\n")),
            ("a masked frame", vec![0x82, 0x81, 1, 2, 3, 4, 5]),
            ("more than 1 GiB", [&[0x82, 127][..], &[0x7F; 8]].concat()),
            ("unknown kind", frame(0x8F, b"x")),
        ] {
            let peer = TlsPeer::start(move |_, mut stream| {
                let asked = request(&mut stream);
                let _ = stream.write_all(agree(&asked).as_bytes());
                let _ = stream.write_all(&frame(0x82, INFO.as_bytes()));
                while !client_frame(&mut stream).unwrap().1.ends_with(b"PING\r\n") {}
                // In parts.
                let parts = [frame(0x02, b"PO"), frame(0, b""), frame(0x80, b"NG\r\n")];
                stream.write_all(&parts.concat()).unwrap();
                // The connection stands: the client subscribes.
                while !client_frame(&mut stream).unwrap().1.starts_with(b"SUB") {}
                let _ = stream.write_all(&bad);
                read_to_end(&mut stream);
            });
            let recorder = Recorder::new();
            let connection = options(&format!("ws://{}", peer.address()))
                .max_reconnects(0)
                .connection_listener(recorder.clone())
                .error_listener(recorder.clone())
                .connect()
                .unwrap();
            let subscription = connection.subscribe("a").unwrap();
            let error = connection.wait_closed(LIMIT).unwrap().unwrap();
            drop(subscription);
            assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
            assert!(error.to_string().contains(why), "{why}: {error}");
            let told = recorder.records().iter().any(|record| {
                format!("{record:?}").contains("Exception") && format!("{record:?}").contains(why)
            });
            assert!(told, "{:?}", recorder.records());
            recorder.check().unwrap();
        }
    });
}

#[test]
fn the_request_has_the_headers_of_the_program_and_nothing_shows_their_values() {
    within(LONG, "headers", || {
        let (send, receive) = std::sync::mpsc::channel();
        let peer = TlsPeer::start(move |_, mut stream| {
            send.send(request(&mut stream)).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 401 Unauthorized\r\n\r\n");
        });
        let builder = options(&format!("ws://user:hunter2@{}/p?token=hunter2", peer.address()))
            .websocket_header("Authorization", "Bearer hunter2")
            .websocket_header("X-Other", "b");
        let mut shown = format!("{builder:?}");
        let built = builder.build().unwrap();
        shown.push_str(&format!("{built:?}"));
        let error = built.connect().unwrap_err();
        shown.push_str(&format!("{error} {error:?} {:?}", error.attempts()));
        let asked = receive.recv_timeout(LIMIT).unwrap();
        assert!(asked.starts_with("GET /p?token=hunter2 HTTP/1.1\r\n"), "{asked}");
        assert!(asked.contains(&format!("\r\nHost: {}\r\n", peer.address())), "{asked}");
        assert!(asked.contains("\r\nAuthorization: Bearer hunter2\r\nX-Other: b\r\n"), "{asked}");
        assert!(!asked.contains("user"), "{asked}");
        assert!(!shown.contains("hunter2") && shown.contains("Authorization"), "{shown}");
        for (name, value) in [("Host", "x"), ("a b", "x"), ("X", "a\r\nY: z"), ("", "")] {
            let error = options("ws://x").websocket_header(name, value).build().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOption, "{name}");
        }
    });
}

/// A frame of the client: its first byte and its payload. None at the end.
fn client_frame(stream: &mut TcpStream) -> Option<(u8, Vec<u8>)> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    assert!(head[1] & 0x80 != 0, "a client masks");
    let length = match head[1] & 0x7F {
        126 => {
            let mut length = [0; 2];
            stream.read_exact(&mut length).ok()?;
            usize::from(u16::from_be_bytes(length))
        }
        127 => panic!("none so long is expected"),
        length => usize::from(length),
    };
    let (mut mask, mut payload) = ([0; 4], vec![0; length]);
    stream.read_exact(&mut mask).ok()?;
    stream.read_exact(&mut payload).ok()?;
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    Some((head[0], payload))
}

#[test]
fn a_ping_is_answered_at_once_and_close_says_farewell() {
    within(LONG, "control frames", || {
        let (send, receive) = std::sync::mpsc::channel();
        let peer = TlsPeer::start(move |_, mut stream| {
            let asked = request(&mut stream);
            // The first frame right behind the response.
            let info = [agree(&asked).as_bytes(), &frame(0x82, INFO.as_bytes())].concat();
            stream.write_all(&info).unwrap();
            while !client_frame(&mut stream).unwrap().1.ends_with(b"PING\r\n") {}
            stream.write_all(&[frame(0x82, b"PONG\r\n"), frame(0x89, b"there?")].concat()).unwrap();
            while let Some(frame) = client_frame(&mut stream) {
                send.send(frame).unwrap();
            }
        });
        let connection = options(&format!("ws://{}", peer.address())).connect().unwrap();
        assert_eq!(receive.recv_timeout(LIMIT).unwrap(), (0x8A, b"there?".to_vec()));
        connection.close();
        assert_eq!(receive.recv_timeout(LIMIT).unwrap(), (0x88, vec![3, 232]));
        assert!(receive.recv_timeout(LIMIT).is_err(), "nothing after it");
    });
}
