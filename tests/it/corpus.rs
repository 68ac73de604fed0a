//! Named inputs that a healthy server does not send, each with what must come of it.
//!
//! The inputs are lines of the files in `tests/corpus`; the head of `lines.txt` says how to read
//! them. A new one needs no code.

use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{Connection, ConnectionEventKind as Kind, ErrorKind, Options, Subscription};

use crate::inputs::corpus::{Entry, Outcome, read_entries};
use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::wait::Gate;
use crate::support::watchdog::within;

const LIMIT: Duration = Duration::from_secs(20);

fn message(text: &str) -> Vec<u8> {
    format!("MSG work 1 {}\r\n{text}\r\n", text.len()).into_bytes()
}

fn connect(server: &ScriptedServer, recorder: &Recorder) -> (Connection, Subscription) {
    let connection = Options::builder()
        .server(server.url())
        .connect_timeout(LIMIT)
        // Every input costs a connection at once, after which the way back is not immediate.
        .reconnect_wait(Duration::from_millis(1))
        .reconnect_jitter(Duration::from_millis(1))
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    let subscription = connection.subscribe("work").unwrap();
    (connection, subscription)
}

fn after_login(send: Step) -> Vec<Step> {
    let mut steps = Step::handshake();
    steps.extend([Step::AnswerPingsMeanwhile, Step::expect("SUB work 1"), send]);
    steps
}

/// Sends each entry on a connection of its own, between two messages.
fn play_errors(entries: &[Entry], slowly: bool) {
    let mut scripts = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let first = message(&format!("before {index}"));
        let bytes = [first, entry.bytes.clone(), message("behind")].concat();
        let send = if slowly {
            Step::SendSlowly { bytes, every: Duration::ZERO }
        } else {
            Step::Send(bytes)
        };
        let mut script = after_login(send);
        script.push(Step::Silence);
        scripts.push(script);
    }
    let mut last = after_login(Step::Send(message("the end")));
    last.push(Step::AnswerPings(Gate::new()));
    scripts.push(last);
    let server = ScriptedServer::start(scripts, Afterwards::Refuse);
    let recorder = Recorder::new();
    let (connection, subscription) = connect(&server, &recorder);
    for (index, entry) in entries.iter().enumerate() {
        let got = subscription.next_timeout(LIMIT);
        let got = got.unwrap_or_else(|error| panic!("before '{}': {error}", entry.name));
        let text = String::from_utf8_lossy(got.payload()).into_owned();
        assert_eq!(text, format!("before {index}"), "'{}' or the one before it", entry.name);
        let lost = recorder.wait_for_count(LIMIT, index + 1, |happening| {
            matches!(happening.event_kind(), Some(Kind::Disconnected { .. }))
        });
        lost.unwrap_or_else(|timeline| panic!("'{}' is no error: {timeline}", entry.name));
    }
    assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), b"the end");
    connection.flush_timeout(LIMIT).unwrap();
    assert!(subscription.try_next().unwrap().is_none());
    connection.close();
    recorder.check().unwrap();
    let told = recorder.count(|happening| {
        matches!(happening, Happening::Exception(error) if error.kind() == ErrorKind::Protocol)
    });
    assert_eq!(told, entries.len(), "{}", recorder.timeline("told otherwise"));
    for event in recorder.events() {
        if let Kind::Disconnected { cause } = event.kind() {
            assert_eq!(cause.kind(), ErrorKind::Protocol, "{cause}");
        }
    }
}

#[test]
fn every_broken_input_replaces_the_connection_and_nothing_of_it_is_delivered() {
    within(LIMIT * 6, "broken inputs", || {
        let mut entries = read_entries();
        entries.retain(|entry| entry.outcome == Outcome::Error);
        assert!(entries.len() >= 60, "only {} errors", entries.len());
        play_errors(&entries, false);
    });
}

#[test]
fn every_broken_input_does_so_too_when_it_comes_byte_by_byte() {
    within(LIMIT * 6, "broken inputs in bytes", || {
        let mut entries = read_entries();
        entries.retain(|entry| entry.outcome == Outcome::Error && entry.bytes.len() < 200);
        assert!(entries.len() >= 50, "only {} short errors", entries.len());
        play_errors(&entries, true);
    });
}

/// Sends all entries on one connection, with a message before each and behind the last.
fn play_tolerated(slowly: bool) {
    let mut entries = read_entries();
    entries.retain(|entry| entry.outcome != Outcome::Error);
    if slowly {
        entries.retain(|entry| entry.bytes.len() < 1_000);
    }
    let mut bytes = Vec::new();
    for entry in &entries {
        bytes.extend(message(&entry.name));
        bytes.extend_from_slice(&entry.bytes);
    }
    bytes.extend(message("the end"));
    let send =
        if slowly { Step::SendSlowly { bytes, every: Duration::ZERO } } else { Step::Send(bytes) };
    let mut script = after_login(send);
    script.push(Step::AnswerPings(Gate::new()));
    let server = ScriptedServer::once(script);
    let recorder = Recorder::new();
    let (connection, subscription) = connect(&server, &recorder);
    let mut odd = 0;
    for entry in &entries {
        let name = &entry.name;
        let next = || {
            let got = subscription.next_timeout(LIMIT);
            let got = got.unwrap_or_else(|error| {
                panic!("'{name}': {error}; {}", recorder.timeline("the connection"))
            });
            got.payload().to_vec()
        };
        let shown = next();
        let text = String::from_utf8_lossy(&shown);
        assert_eq!(text, name.as_str(), "'{name}' or the one before it");
        match &entry.outcome {
            Outcome::Message(payload) => assert_eq!(next(), *payload, "'{name}'"),
            Outcome::Odd(payload) => {
                odd += 1;
                assert_eq!(next(), *payload, "'{name}'");
                let told = |happening: &Happening| {
                    matches!(happening, Happening::Exception(error)
                        if error.kind() == ErrorKind::InvalidHeader)
                };
                recorder.wait_for_count(LIMIT, odd, told).expect(name);
            }
            Outcome::Nothing | Outcome::Error => {}
        }
    }
    assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), b"the end");
    connection.flush_timeout(LIMIT).unwrap();
    assert!(subscription.try_next().unwrap().is_none());
    assert_eq!(connection.discovered_servers(), Vec::<String>::new());
    assert_eq!(server.connection_count(), 1, "{}", recorder.timeline("it was replaced"));
    connection.close();
    recorder.check().unwrap();
    let exceptions = recorder.count(|happening| matches!(happening, Happening::Exception(_)));
    assert_eq!(exceptions, odd, "{}", recorder.timeline("more than the odd headers was told"));
}

#[test]
fn what_only_looks_odd_never_costs_the_connection() {
    within(LIMIT * 6, "tolerated inputs", || play_tolerated(false));
}

#[test]
fn what_only_looks_odd_does_not_either_when_it_comes_byte_by_byte() {
    within(LIMIT * 6, "tolerated inputs in bytes", || play_tolerated(true));
}
