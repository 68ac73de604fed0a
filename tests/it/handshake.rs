//! Logging in to a server that is not well: silent, cut off, refusing or wrong at every step.
//!
//! Two bounds are checked. What the server says or its going away ends an attempt at once, so those
//! tests give the attempt a minute and expect the end long before; silence costs the connect
//! time-out and not much more, so those give it half a second.

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::Recorder;
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, Error, ErrorKind, Headers, Options, OptionsBuilder,
};
use serde_json::json;

use crate::support::ports;
use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::watchdog::within;

/// For everything that takes milliseconds.
const LIMIT: Duration = Duration::from_secs(20);
/// A connect time-out that must not be used up.
const LONG: Duration = Duration::from_secs(120);
/// A connect time-out that is used up.
const SHORT: Duration = Duration::from_millis(500);

const REFUSAL: &str = "-ERR 'Authorization Violation'\r\n";
const FULL: &str = "-ERR 'maximum connections exceeded'\r\n";
const INFO: &str = "INFO {\"server_id\":\"S\",\"proto\":1,\"headers\":true}\r\n";

fn options(url: &str) -> OptionsBuilder {
    Options::builder()
        .server(url)
        .no_randomize()
        .reconnect_wait(Duration::from_millis(20))
        .reconnect_jitter(Duration::ZERO)
}

/// The cause of a failed connect to that one server, and how long it took.
fn cause(builder: OptionsBuilder) -> (Error, Duration) {
    let started = Instant::now();
    let error = builder.connect().expect_err("the server is not well");
    let took = started.elapsed();
    assert_eq!(error.kind(), ErrorKind::Connect, "{error}");
    let [attempt] = error.attempts() else { panic!("{error}") };
    (attempt.cause().clone(), took)
}

/// Plays the script for one connect, and expects it to fail early with that kind and text.
fn fails_early(name: &str, script: Vec<Step>, kinds: &[ErrorKind], part: &str) {
    let server = ScriptedServer::once(script);
    let (error, took) = cause(options(&server.url()).connect_timeout(LONG));
    assert!(kinds.contains(&error.kind()), "{name}: {error:?}");
    assert!(error.to_string().contains(part), "{name}: {error}");
    assert!(took < LONG / 2, "{name} took {took:?}");
}

/// Up to each step of a login, with the name of that step.
fn steps() -> Vec<(&'static str, Vec<Step>)> {
    vec![
        ("at once", vec![]),
        ("in the middle of INFO", vec![Step::send("INFO {\"server_id\":\"S\",")]),
        ("before the end of the line", vec![Step::send("INFO {}")]),
        ("after INFO", vec![Step::DefaultInfo]),
        ("after CONNECT", vec![Step::DefaultInfo, Step::expect("CONNECT")]),
        ("after PING", vec![Step::DefaultInfo, Step::expect("PING")]),
        ("in the middle of PONG", vec![Step::DefaultInfo, Step::expect("PING"), Step::send("PON")]),
    ]
}

fn then(mut steps: Vec<Step>, last: impl IntoIterator<Item = Step>) -> Vec<Step> {
    steps.extend(last);
    steps
}

#[test]
fn silence_at_any_step_costs_the_connect_timeout() {
    within(LONG, "silence", || {
        for (name, steps) in steps() {
            let server = ScriptedServer::once(then(steps, [Step::Silence]));
            let (error, took) = cause(options(&server.url()).connect_timeout(SHORT));
            assert_eq!(error.kind(), ErrorKind::Timeout, "{name}: {error}");
            assert!(took >= SHORT && took < SHORT + LIMIT, "{name} took {took:?}");
        }
    });
}

#[test]
fn a_server_that_sends_a_byte_now_and_then_gains_no_time() {
    within(LONG, "trickle", || {
        let bytes = INFO.as_bytes().to_vec();
        let slow = Step::SendSlowly { bytes, every: Duration::from_millis(200) };
        let server = ScriptedServer::once(vec![slow, Step::Silence]);
        let (error, took) = cause(options(&server.url()).connect_timeout(SHORT));
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(took < SHORT + LIMIT, "{took:?}");
    });
}

#[test]
fn chatter_without_a_pong_gains_no_time() {
    within(LONG, "chatter", || {
        let chatter = b"+OK\r\nINFO {}\r\nPING\r\n".repeat(2_000);
        let slow = Step::SendSlowly { bytes: chatter, every: Duration::from_millis(1) };
        let server = ScriptedServer::once(vec![Step::DefaultInfo, Step::expect("PING"), slow]);
        let (error, took) = cause(options(&server.url()).connect_timeout(SHORT));
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(took >= SHORT && took < SHORT + LIMIT, "{took:?}");
    });
}

#[test]
fn a_server_that_goes_away_at_any_step_is_noticed_at_once() {
    within(LONG, "goes away", || {
        for (name, steps) in steps() {
            for last in [Step::Close, Step::Reset] {
                let shown = format!("{last:?} {name}");
                fails_early(&shown, then(steps.clone(), [last]), &[ErrorKind::Io], "");
            }
            // A half-closed stream has said its last word too.
            let script = then(steps, [Step::HalfClose, Step::Silence]);
            fails_early(&format!("half-close {name}"), script, &[ErrorKind::Io], "closed");
        }
    });
}

#[test]
fn a_refusal_at_any_step_is_the_cause_and_early_also_when_the_server_stays() {
    within(LONG, "refusals", || {
        for (name, steps) in steps() {
            // Behind half a line a refusal is garbage.
            if name.contains("middle") || name.contains("end") {
                continue;
            }
            for last in [Step::Close, Step::Reset, Step::Silence] {
                for (text, kind) in [(REFUSAL, ErrorKind::Authorization), (FULL, ErrorKind::Server)]
                {
                    // What is still unread when a connection is reset is the kernel's to lose.
                    let or_lost = if matches!(last, Step::Reset) { ErrorKind::Io } else { kind };
                    let script = then(steps.clone(), [Step::send(text), last.clone()]);
                    let shown = format!("{text:?} {name}, then {last:?}");
                    fails_early(&shown, script, &[kind, or_lost], "");
                }
            }
        }
    });
}

#[test]
fn a_refusal_glued_to_info_is_the_cause() {
    within(LONG, "glued", || {
        for text in [FULL, REFUSAL] {
            for last in [Step::Close, Step::Silence] {
                let glued = Step::send(&format!("{INFO}{text}"));
                let part = text.split('\'').nth(1).unwrap();
                let kinds = [ErrorKind::Server, ErrorKind::Authorization];
                fails_early("glued", vec![glued, last], &kinds, part);
            }
        }
    });
}

#[test]
fn anything_but_info_first_and_any_bad_info_is_a_protocol_error() {
    within(LONG, "bad info", || {
        for text in [
            "+OK\r\n",
            "PING\r\n",
            "PONG\r\n",
            "\r\n",
            "MSG a 1 2\r\nhi\r\n",
            "HTTP/1.1 400 Bad Request\r\n\r\n",
            "SSH-2.0-OpenSSH_9.2\r\n",
            "\u{16}\u{3}\u{1}\n",
            "INFO\r\n",
            "INFO \r\n",
            "INFO null\r\n",
            "INFO 7\r\n",
            "INFO []\r\n",
            "INFO \"x\"\r\n",
            "INFO {\r\n",
            "INFO {}{}\r\n",
            "INFO {\"port\":\"x\"}\r\n",
            "INFO {\"max_payload\":-1}\r\n",
            "INFO {\"server_id\":\"a\nb\"}\r\n",
            "INFOX {}\r\n",
        ] {
            let script = vec![Step::send(text), Step::Silence];
            fails_early(text, script, &[ErrorKind::Protocol], "the server");
        }
    });
}

#[test]
fn what_is_out_of_place_behind_info_is_a_protocol_error() {
    within(LONG, "out of place", || {
        for text in
            ["garbage\r\n", "\r\n", "MSG a 1 2\r\nhi\r\n", "HMSG a 1 12 12\r\n", "PONG x\r\n"]
        {
            let glued = vec![Step::send(&format!("{INFO}{text}{text}")), Step::Silence];
            // The head of an HMSG alone is waited for, its body is not there: the next line is.
            fails_early(text, glued, &[ErrorKind::Protocol], "the server");
            let late = vec![
                Step::DefaultInfo,
                Step::expect("PING"),
                Step::send(&format!("{text}{text}")),
                Step::Silence,
            ];
            fails_early(text, late, &[ErrorKind::Protocol], "the server");
        }
    });
}

fn padded_info(length: usize) -> String {
    let bare = json!({"server_id": "S", "proto": 1, "headers": true, "x": ""}).to_string().len();
    let pad = "x".repeat(length - bare);
    json!({"server_id": "S", "proto": 1, "headers": true, "x": pad}).to_string()
}

#[test]
fn a_long_info_works_up_to_its_limit() {
    within(LONG, "long info", || {
        for length in [9 << 10, 900 << 10] {
            let mut script = vec![Step::SendInfo(padded_info(length))];
            script.extend(Step::healthy().into_iter().skip(1));
            let server = ScriptedServer::once(script);
            let connection = options(&server.url()).connect_timeout(LONG).connect().unwrap();
            assert_eq!(connection.server_info().server_id(), "S");
            connection.flush_timeout(LIMIT).unwrap();
            connection.close();
        }
        let script = vec![Step::SendInfo(padded_info(2 << 20)), Step::Silence];
        fails_early("2 MiB", script, &[ErrorKind::Protocol], "1048576 bytes");
    });
}

#[test]
fn an_info_full_of_servers_costs_no_more_than_its_length() {
    within(LONG, "many servers", || {
        let urls: Vec<String> = (0..40_000)
            .map(|index| {
                format!("10.{}.{}.{}:4222", index / 62_500, index / 250 % 250, index % 250)
            })
            .collect();
        let info = json!({"server_id": "S", "proto": 1, "connect_urls": urls}).to_string();
        assert!(info.len() < 1 << 20);
        let mut script = vec![Step::SendInfo(info.clone())];
        script.extend(Step::handshake().into_iter().skip(1));
        script.push(Step::SendInfo(info));
        script.extend(Step::healthy().into_iter().skip(1));
        let server = ScriptedServer::once(script);
        let started = Instant::now();
        let connection = options(&server.url()).connect_timeout(LONG).connect().unwrap();
        connection.flush_timeout(LONG).unwrap();
        assert_eq!(connection.discovered_servers().len(), 40_000);
        connection.close();
        assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
    });
}

#[test]
fn ping_ok_and_a_second_info_between_connect_and_pong_are_taken_in() {
    within(LONG, "between", || {
        let server = ScriptedServer::once(vec![
            Step::DefaultInfo,
            Step::expect("CONNECT"),
            Step::send("+OK\r\nPING\r\n"),
            Step::SendInfo("{\"max_payload\":99}".to_owned()),
            Step::expect("PONG"),
            Step::AnswerPings(Default::default()),
        ]);
        let connection = options(&server.url()).connect_timeout(LONG).connect().unwrap();
        assert_eq!(connection.max_payload(), 99);
        assert_eq!(connection.server_info().server_id(), "SCRIPTED");
        connection.flush_timeout(LIMIT).unwrap();
        connection.close();
    });
}

#[test]
fn a_server_without_tls_is_told_apart_where_tls_is_wanted() {
    within(LONG, "tls", || {
        let server = ScriptedServer::once(Step::healthy());
        let url = server.url().replace("nats://", "tls://");
        let (error, _) = cause(options(&url).connect_timeout(LONG));
        assert_eq!(error.kind(), ErrorKind::Tls, "{error}");
        assert!(server.connection_count() == 0 || server.connection(0, LIMIT).lines().is_empty());
    });
}

#[test]
fn a_server_without_headers_is_not_asked_for_them() {
    within(LONG, "no headers", || {
        let info = json!({"server_id": "S", "proto": 1, "headers": false}).to_string();
        let mut script = vec![Step::SendInfo(info)];
        script.extend(Step::healthy().into_iter().skip(1));
        let server = ScriptedServer::once(script);
        let connection = options(&server.url()).connect_timeout(LONG).connect().unwrap();
        let line = server.connection(0, LIMIT).wait_line("CONNECT", LIMIT);
        assert!(line.contains("\"headers\":false,\"no_responders\":false"), "{line}");
        let mut headers = Headers::new();
        headers.append("A", "b").unwrap();
        let error = connection.publish_with_headers("a", &headers, "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::HeadersUnsupported);
        connection.publish_with_headers("a", &Headers::new(), "x").unwrap();
        connection.close();
    });
}

#[test]
fn no_echo_is_refused_where_the_server_does_not_know_it() {
    within(LONG, "no echo", || {
        let server = ScriptedServer::once(vec![
            Step::SendInfo(json!({"server_id": "S", "proto": 0}).to_string()),
            Step::Silence,
        ]);
        let (error, took) = cause(options(&server.url()).no_echo().connect_timeout(LONG));
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        assert!(error.to_string().contains("no_echo") && took < LONG / 2, "{error}, {took:?}");
        assert_eq!(server.connection(0, LIMIT).lines(), Vec::<String>::new());
    });
}

#[test]
fn a_name_without_address_and_a_closed_port_are_told_apart() {
    within(LONG, "nowhere", || {
        // A resolver that does not answer is cut off; one that does says at once that it is none.
        let (error, took) = cause(options("nats://nowhere.invalid:4222").connect_timeout(SHORT));
        assert!(matches!(error.kind(), ErrorKind::Dns | ErrorKind::Timeout), "{error:?}");
        assert!(error.to_string().contains("'nowhere.invalid'"), "{error}");
        assert!(took < SHORT + LIMIT, "{took:?}");

        let closed = ports::listen().local_addr().unwrap();
        let (error, took) = cause(options(&closed.to_string()).connect_timeout(LONG));
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains(&closed.to_string()), "{error}");
        assert!(took < LONG / 2, "{took:?}");
    });
}

#[test]
fn one_deadline_holds_for_all_addresses_of_a_name() {
    within(LONG, "addresses", || {
        let server = ScriptedServer::always(vec![Step::Silence]);
        let url = format!("nats://localhost:{}", server.port());
        let (error, took) = cause(options(&url).connect_timeout(SHORT));
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(took >= SHORT && took < SHORT + LIMIT, "{took:?}");
        assert_eq!(server.connection_count(), 1);
    });
}

/// The states in which the end may be asked for, as what the server does on that connection, and a
/// line of the client after which it has been reached.
fn waiting_states() -> Vec<(&'static str, Vec<Step>, Option<&'static str>)> {
    let pong_kept = vec![Step::DefaultInfo, Step::Silence];
    vec![
        ("before INFO", vec![Step::Silence], None),
        ("inside INFO", vec![Step::send("INFO {\"a\":"), Step::Silence], None),
        ("before PONG", pong_kept, Some("PING")),
    ]
}

/// Closes, and says how long that took.
fn timed_close(connection: &Connection) -> Duration {
    let started = Instant::now();
    connection.close();
    started.elapsed()
}

#[test]
fn close_while_first_connecting_returns_in_time() {
    within(LONG, "close while connecting", || {
        for (name, script, line) in waiting_states() {
            let server = ScriptedServer::once(script);
            let refused = ports::listen().local_addr().unwrap();
            let (handles, handle) = mpsc::channel();
            let builder = options(&format!("{refused},{}", server.url()))
                .connect_timeout(LONG * 2)
                .on_error(move |connection, _| drop(handles.send(connection.clone())));
            let connecting = thread::Builder::new().spawn(move || builder.connect()).unwrap();
            // The first server refuses; its error brings a handle while the second one is tried.
            let connection = handle.recv_timeout(LIMIT).unwrap();
            let seen = server.connection(0, LIMIT);
            if let Some(line) = line {
                seen.wait_line(line, LIMIT);
            }
            let took = timed_close(&connection);
            assert!(took < LIMIT, "{name}: {took:?}");
            let error = connecting.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed, "{name}: {error}");
            seen.wait_peer_closed(LIMIT);
        }
    });
}

#[test]
fn close_while_reconnecting_returns_in_time() {
    within(LONG, "close while reconnecting", || {
        for (name, script, line) in waiting_states() {
            let scripts = vec![Step::handshake(), script];
            let server = ScriptedServer::start(scripts, Afterwards::Refuse);
            let recorder = Recorder::new();
            let connection = options(&server.url())
                .connect_timeout(LONG * 2)
                .connection_listener(recorder.clone())
                .error_listener(recorder.clone())
                .connect()
                .unwrap();
            let seen = server.connection(1, LIMIT);
            if let Some(line) = line {
                seen.wait_line(line, LIMIT);
            }
            let took = timed_close(&connection);
            assert!(took < LIMIT, "{name}: {took:?}");
            assert!(connection.wait_closed(LIMIT).unwrap().is_none(), "{name}");
            recorder.check().unwrap();
            seen.wait_peer_closed(LIMIT);
        }
    });
}

#[test]
fn close_while_waiting_for_the_next_attempt_returns_in_time() {
    within(LONG, "close while pausing", || {
        let server = ScriptedServer::once(Step::handshake());
        let recorder = Recorder::new();
        let connection = options(&server.url())
            .reconnect_wait(LONG * 2)
            .connection_listener(recorder.clone())
            .error_listener(recorder.clone())
            .connect()
            .unwrap();
        recorder
            .wait_for_event(LIMIT, |kind| matches!(kind, Kind::ReconnectFailed { .. }))
            .unwrap();
        let took = timed_close(&connection);
        assert!(took < LIMIT, "{took:?}");
        assert!(connection.wait_closed(LIMIT).unwrap().is_none());
        recorder.check().unwrap();
    });
}
