//! F10: whatever a server says with `-ERR` has its kind, and its consequence.

use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, ErrorKind, Options, OptionsBuilder, RefusedOperation,
    ServerErrorKind as Said,
};

use crate::Tier;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::wait::poll;

const LIMIT: Duration = Duration::from_secs(60);

/// Every text of the servers from 2.9 on, what it means, and whether the connection ends.
fn texts() -> Vec<(&'static str, Said, bool)> {
    let violation = |operation, subject: &str| Said::PermissionsViolation {
        operation,
        subject: subject.to_owned(),
        queue: None,
        sid: None,
    };
    vec![
        ("Unknown Protocol Operation", Said::UnknownProtocolOperation, true),
        ("Parser Error", Said::ParserError, true),
        ("Attempted To Connect To Route Port", Said::WrongPort, true),
        ("Authorization Violation", Said::AuthorizationViolation, true),
        ("Authentication Timeout", Said::AuthenticationTimeout, true),
        ("Authorization Timeout", Said::AuthenticationTimeout, true),
        ("User Authentication Expired", Said::UserAuthenticationExpired, true),
        ("User Authentication Revoked", Said::UserAuthenticationRevoked, true),
        ("Account Authentication Expired", Said::AccountAuthenticationExpired, true),
        ("invalid client protocol", Said::InvalidClientProtocol, true),
        ("no responders requires headers support", Said::NoRespondersRequiresHeaders, true),
        ("maximum control line exceeded", Said::MaximumControlLine, true),
        ("Maximum Payload Violation", Said::MaximumPayload, true),
        ("Secure Connection - TLS Required", Said::TlsRequired, true),
        ("Stale Connection", Said::StaleConnection, true),
        ("Slow Consumer", Said::SlowConsumer, true),
        ("maximum connections exceeded", Said::MaximumConnections, true),
        ("maximum account active connections exceeded", Said::MaximumAccountConnections, true),
        ("Connection throttling is active", Said::ConnectionThrottled, true),
        ("Failed Account Registration", Said::FailedAccountRegistration, true),
        ("message headers not supported", Said::HeadersUnsupported, true),
        ("bad message header", Said::BadMessageHeader, true),
        ("something new", Said::Other, true),
        ("maximum subscriptions exceeded", Said::MaximumSubscriptions, false),
        ("Invalid Subject", Said::InvalidSubject, false),
        ("Invalid Publish Subject", Said::InvalidPublishSubject, false),
        (
            "Permissions Violation for Publish to \"a.b\"",
            violation(RefusedOperation::Publish, "a.b"),
            false,
        ),
        (
            "Permissions Violation for Subscription to \"a.c\"",
            violation(RefusedOperation::Subscribe, "a.c"),
            false,
        ),
    ]
}

fn options(url: &str, recorder: &Recorder) -> OptionsBuilder {
    Options::builder()
        .server(url)
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(5))
        .reconnect_jitter(Duration::from_millis(5))
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
}

fn round_trip(connection: &Connection) {
    let subscription = connection.subscribe("there").unwrap();
    connection.publish("there", "").unwrap();
    subscription.next_timeout(LIMIT).unwrap();
}

fn says(told: &Happening, kind: &Said) -> bool {
    matches!(told, Happening::ServerError(error) if error.kind() == kind)
}

/// One text to a connection that works.
fn told(text: &str, kind: &Said, ends: bool) {
    let (server, recorder) = (Server::start().unwrap(), Recorder::new());
    let connection = options(&server.url(), &recorder).connect().unwrap();
    if ends {
        server.send_error_and_close(text);
        let is_back = |kind: &Kind| matches!(kind, Kind::Resubscribed { .. });
        recorder.wait_for_event(LIMIT, is_back).unwrap();
    } else {
        server.send_error(text);
    }
    recorder.wait_for(LIMIT, |told| says(told, kind)).unwrap();
    round_trip(&connection);
    assert_eq!(recorder.count(|told| says(told, kind)), 1, "{}", recorder.timeline(text));
    assert_eq!(connection.statistics().disconnects(), u64::from(ends), "{text}");
    let lost = recorder.events().into_iter().find_map(|event| match event.kind() {
        Kind::Disconnected { cause } => Some(cause.clone()),
        _ => None,
    });
    let cause = lost.as_ref().and_then(|error| error.server_error());
    assert_eq!(cause.map(|said| said.kind()), ends.then_some(kind), "{text}");
    connection.close();
    recorder.check().unwrap();
}

/// The same refusal on the connection and at the next login: the server is given up.
fn refused_twice(text: &str) {
    let refuse = |mut steps: Vec<Step>| {
        steps.extend([Step::send(&format!("-ERR '{text}'\r\n")), Step::Close]);
        steps
    };
    let login = vec![Step::DefaultInfo, Step::expect("PING")];
    let scripts = vec![refuse(Step::handshake()), refuse(login)];
    let server = ScriptedServer::start(scripts, Afterwards::Repeat);
    let recorder = Recorder::new();
    let connection = options(&server.url(), &recorder).connect().unwrap();
    let error = connection.wait_closed(LIMIT).unwrap().expect("a cause");
    assert!(error.is_authorization(), "{text}: {error}");
    assert_eq!(error.server_error().map(|said| said.text()), Some(text));
    assert_eq!(server.connection_count(), 2, "{}", recorder.timeline(text));
    recorder.check().unwrap();
}

/// Against the real server: what it says by itself.
fn live() -> usize {
    // Another password from now on: refused twice, then given up.
    let mut server = NatsServer::start(&Config::new().user("anna", "one"));
    let recorder = Recorder::new();
    let with = |options: OptionsBuilder| options.user_and_password("anna", "one");
    let connection = with(options(&server.url(), &recorder)).connect().unwrap();
    server.restart_with(&Config::new().user("anna", "two"));
    let error = connection.wait_closed(LIMIT).unwrap().expect("a cause");
    assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
    let refusals = recorder.count(|told| says(told, &Said::AuthorizationViolation));
    assert_eq!(refusals, 2, "{}", recorder.timeline("twice"));
    recorder.check().unwrap();

    let server = NatsServer::start(&Config::new().max_connections(1));
    // Whoever saw that the server is up may still be with it.
    let first = poll(LIMIT, || options(&server.url(), &Recorder::new()).connect().ok()).unwrap();
    let recorder = Recorder::new();
    options(&server.url(), &recorder).connect().expect_err("one too many");
    recorder.wait_for(LIMIT, |told| says(told, &Said::MaximumConnections)).unwrap();
    first.close();

    let server = NatsServer::start(&Config::new().max_subscriptions(2));
    let recorder = Recorder::new();
    let connection = options(&server.url(), &recorder).connect().unwrap();
    let _kept = ["a", "b", "c"].map(|subject| connection.subscribe(subject).unwrap());
    recorder.wait_for(LIMIT, |told| says(told, &Said::MaximumSubscriptions)).unwrap();
    connection.flush().unwrap();
    assert_eq!(connection.statistics().disconnects(), 0);
    connection.close();
    3
}

/// Every `-ERR` has its kind, is told once, and ends the connection or not.
pub(crate) fn classified(_: Tier) -> String {
    let all = texts();
    for (text, kind, ends) in &all {
        told(text, kind, *ends);
    }
    let refusals = all.iter().filter(|(text, ..)| {
        ["Authorization Violation", "User Auth", "Account Auth"]
            .iter()
            .any(|begin| text.starts_with(begin))
    });
    let mut count = 0;
    for (text, ..) in refusals {
        refused_twice(text);
        count += 1;
    }
    let live = live();
    format!(
        "{} texts: each told once with its kind, {} end the connection, which comes back; {count} \
         refusals: one costs nothing, two in a row a server; {live} said by the real server",
        all.len(),
        all.iter().filter(|(.., ends)| *ends).count()
    )
}
