//! A server that misbehaves after the login: refuses, stops reading, leaves halfway, talks at
//! random.

use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, ErrorKind, Options, OptionsBuilder, OutboxPolicy,
    RefusedOperation, ServerErrorKind, Subscription,
};

use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::seed::Seed;
use crate::support::wait::Gate;
use crate::support::watchdog::within;

pub(crate) const LIMIT: Duration = Duration::from_secs(20);

pub(crate) fn options(url: &str, recorder: &Recorder) -> OptionsBuilder {
    Options::builder()
        .server(url)
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(20))
        .reconnect_jitter(Duration::ZERO)
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
}

pub(crate) fn is_event(wanted: fn(&Kind) -> bool) -> impl Fn(&Happening) -> bool {
    move |happening| happening.event_kind().is_some_and(wanted)
}

fn is_reconnected(kind: &Kind) -> bool {
    matches!(kind, Kind::Reconnected { .. })
}

pub(crate) fn message(text: &str) -> Vec<u8> {
    format!("MSG work 1 {}\r\n{text}\r\n", text.len()).into_bytes()
}

/// Logs in, waits for the subscription `work`, answers pings from then on, and goes on with that.
pub(crate) fn after_login(then: impl IntoIterator<Item = Step>) -> Vec<Step> {
    let mut steps = Step::handshake();
    steps.extend([Step::AnswerPingsMeanwhile, Step::expect("SUB work 1")]);
    steps.extend(then);
    steps
}

pub(crate) fn healthy_end() -> Vec<Step> {
    after_login([Step::Send(message("the end")), Step::AnswerPings(Gate::new())])
}

pub(crate) fn texts(subscription: &Subscription, count: usize) -> Vec<String> {
    let next = || subscription.next_timeout(LIMIT).unwrap().text().unwrap().to_owned();
    (0..count).map(|_| next()).collect()
}

/// Every text after which the server closes, with its kind. The two that refuse the user stand
/// apart from each other: twice the same in a row would be the end.
fn closing_texts() -> Vec<(&'static str, ServerErrorKind)> {
    use ServerErrorKind as K;
    vec![
        ("Unknown Protocol Operation", K::UnknownProtocolOperation),
        ("Attempted To Connect To Route Port", K::WrongPort),
        ("attempted to connect to leaf node port", K::WrongPort),
        ("Attempted To Connect To Gateway Port", K::WrongPort),
        ("Authorization Violation", K::AuthorizationViolation),
        ("Authentication Timeout", K::AuthenticationTimeout),
        ("Authorization Timeout", K::AuthenticationTimeout),
        ("User Authentication Expired", K::UserAuthenticationExpired),
        ("Account Authentication Expired", K::AccountAuthenticationExpired),
        ("User Authentication Revoked", K::UserAuthenticationRevoked),
        ("invalid client protocol", K::InvalidClientProtocol),
        ("no responders requires headers support", K::NoRespondersRequiresHeaders),
        ("maximum control line exceeded", K::MaximumControlLine),
        ("Maximum Control Line Exceeded: 5000 bytes (\"PUB x\")", K::MaximumControlLine),
        ("Parser Error", K::ParserError),
        ("Secure Connection - TLS Required", K::TlsRequired),
        ("Stale Connection", K::StaleConnection),
        ("maximum connections exceeded", K::MaximumConnections),
        ("maximum account active connections exceeded", K::MaximumAccountConnections),
        ("Connection throttling is active. Please try again later.", K::ConnectionThrottled),
        ("Slow Consumer", K::SlowConsumer),
        ("Maximum Payload Violation", K::MaximumPayload),
        ("Failed Account Registration", K::FailedAccountRegistration),
        ("bad message header", K::BadMessageHeader),
        ("message headers not supported", K::HeadersUnsupported),
        ("something quite new", K::Other),
        ("", K::Other),
    ]
}

#[test]
fn every_refusal_that_closes_is_told_and_is_the_cause_of_the_loss() {
    within(LIMIT * 6, "closing errors", || {
        let cases = closing_texts();
        let mut scripts: Vec<_> = cases
            .iter()
            .map(|(text, _)| {
                let bytes = [message(text), format!("-ERR '{text}'\r\n").into_bytes()].concat();
                after_login([Step::Send(bytes), Step::Close])
            })
            .collect();
        scripts.push(healthy_end());
        let server = ScriptedServer::start(scripts, Afterwards::Refuse);
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder).connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        let mut expected: Vec<_> = cases.iter().map(|(text, _)| (*text).to_owned()).collect();
        expected.push("the end".to_owned());
        assert_eq!(texts(&subscription, expected.len()), expected);
        connection.flush_timeout(LIMIT).unwrap();
        connection.close();
        recorder.check().unwrap();

        let mut told = Vec::new();
        let mut causes = Vec::new();
        for record in recorder.records() {
            match record.happening() {
                Happening::ServerError(error) => {
                    assert!(error.closes_connection(), "{error}");
                    told.push((error.text().to_owned(), error.kind().clone()));
                }
                Happening::Event(event) => {
                    if let Kind::Disconnected { cause } = event.kind() {
                        let said = cause.server_error().expect("what the server said");
                        causes.push(said.text().to_owned());
                    }
                }
                other => panic!("{other}"),
            }
        }
        let listed: Vec<_> =
            cases.iter().map(|(t, kind)| ((*t).to_owned(), kind.clone())).collect();
        assert_eq!(told, listed);
        assert_eq!(causes, expected[..cases.len()]);
    });
}

#[test]
fn every_refusal_that_stays_is_told_and_costs_nothing() {
    use ServerErrorKind as K;
    within(LIMIT * 2, "errors that stay", || {
        let violation = |operation, subject: &str, queue: Option<&str>, sid| {
            let (subject, queue) = (subject.to_owned(), queue.map(str::to_owned));
            K::PermissionsViolation { operation, subject, queue, sid }
        };
        let cases = [
            ("maximum subscriptions exceeded", K::MaximumSubscriptions),
            ("Invalid Subject", K::InvalidSubject),
            ("Invalid Publish Subject", K::InvalidPublishSubject),
            (
                "Permissions Violation for Publish to \"Foo.Bar\"",
                violation(RefusedOperation::Publish, "Foo.Bar", None, None),
            ),
            (
                "Permissions Violation for Publish with Reply of \"r\"",
                violation(RefusedOperation::Reply, "r", None, None),
            ),
            (
                "Permissions Violation for Subscription to \"other\" using queue \"Q\"",
                violation(RefusedOperation::Subscribe, "other", Some("Q"), None),
            ),
            (
                "Permissions Violation for Subscription to \"other\" (sid \"77\")",
                violation(RefusedOperation::Subscribe, "other", None, Some(77)),
            ),
        ];
        let mut bytes = Vec::new();
        for (text, _) in &cases {
            bytes.extend(format!("-ERR '{text}'\r\n").into_bytes());
            bytes.extend(message(text));
        }
        let script = after_login([Step::Send(bytes), Step::AnswerPings(Gate::new())]);
        let server = ScriptedServer::once(script);
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder).connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        let expected: Vec<_> = cases.iter().map(|(text, _)| (*text).to_owned()).collect();
        assert_eq!(texts(&subscription, cases.len()), expected);
        connection.flush_timeout(LIMIT).unwrap();
        connection.close();
        recorder.check().unwrap();
        let mut told = Vec::new();
        for record in recorder.records() {
            match record.happening() {
                Happening::ServerError(error) => {
                    assert!(!error.closes_connection(), "{error}");
                    told.push((error.text().to_owned(), error.kind().clone()));
                }
                Happening::Event(event) => {
                    assert!(matches!(event.kind(), Kind::Connected | Kind::Closed { .. }));
                }
                other => panic!("{other}"),
            }
        }
        let listed = cases.map(|(text, kind)| (text.to_owned(), kind));
        assert_eq!(told, listed);
    });
}

#[test]
fn a_refused_subscription_and_a_refused_request_are_told_where_one_waits() {
    within(LIMIT * 2, "refused", || {
        let server = ScriptedServer::once(after_login([
            Step::send("-ERR 'Permissions Violation for Subscription to \"work\"'\r\n"),
            Step::Send(message("later")),
            Step::expect("PUB ask"),
            Step::send("-ERR 'Permissions Violation for Publish to \"ask\"'\r\n"),
            Step::AnswerPings(Gate::new()),
        ]));
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder).connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        let refused = loop {
            // The message that came behind the refusal may be read before or after it.
            match subscription.next_timeout(LIMIT) {
                Ok(message) => assert_eq!(message.payload(), b"later"),
                Err(error) => break error,
            }
        };
        assert_eq!(refused.kind(), ErrorKind::PermissionsViolation, "{refused}");
        let refused = connection.request("ask", "x", LIMIT).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::PermissionsViolation, "{refused}");
        connection.flush_timeout(LIMIT).unwrap();
        assert_eq!(server.connection_count(), 1);
        connection.close();
        recorder.check().unwrap();
    });
}

#[test]
fn a_server_that_refuses_us_twice_with_the_same_words_is_given_up() {
    within(LIMIT * 2, "refused twice", || {
        let refuse = vec![Step::DefaultInfo, Step::send("-ERR 'Authorization Violation'\r\n")];
        let scripts = vec![Step::handshake(), refuse];
        let server = ScriptedServer::start(scripts, Afterwards::Repeat);
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder).connect().unwrap();
        let cause = connection.wait_closed(LIMIT).unwrap().expect("a cause");
        assert_eq!(cause.kind(), ErrorKind::Authorization, "{cause}");
        recorder.check().unwrap();
        let failed = is_event(|kind| matches!(kind, Kind::ReconnectFailed { .. }));
        assert_eq!(recorder.count(failed), 2);
        assert_eq!(server.connection_count(), 3);
    });
}

#[test]
fn a_refusal_while_subscriptions_are_announced_is_the_cause() {
    within(LIMIT * 2, "refused while announcing", || {
        // The login's PONG, the refusal and the end come before the subscriptions are written.
        let rude = vec![
            Step::DefaultInfo,
            Step::expect("PING"),
            Step::send("PONG\r\n-ERR 'maximum account active connections exceeded'\r\n"),
            Step::Reset,
        ];
        let mut scripts = vec![Step::handshake()];
        scripts.extend(vec![rude; 40]);
        scripts.push(healthy_end());
        let server = ScriptedServer::start(scripts, Afterwards::Refuse);
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder).connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        assert_eq!(texts(&subscription, 1), ["the end"]);
        connection.close();
        recorder.check().unwrap();
        let mut causes = Vec::new();
        for event in recorder.events() {
            if let Kind::ReconnectFailed { cause, .. } | Kind::Disconnected { cause } = event.kind()
            {
                causes.push(cause.server_error().is_some());
            }
        }
        // The first loss was without a word.
        let silent = causes.iter().filter(|said| !**said).count();
        assert_eq!((silent, causes.len()), (1, 41), "{}", recorder.timeline("not told why"));
    });
}

/// Publishes until it fails, at most a GiB; gives the error and how long the failing call took.
fn publish_until_full(connection: &Connection) -> (ErrorKind, Duration) {
    let payload = vec![b'p'; 64 << 10];
    for _ in 0..16_384 {
        let started = Instant::now();
        if let Err(error) = connection.publish("flood", &payload) {
            return (error.kind(), started.elapsed());
        }
    }
    panic!("a GiB was accepted for a server that reads nothing");
}

/// What must stay quick while publishers are stuck.
fn rest_stays_quick(connection: &Connection) {
    let started = Instant::now();
    let subscription = connection.subscribe("work").unwrap();
    drop(subscription);
    assert!(connection.statistics().out_messages() > 0);
    assert!(connection.is_connected());
    assert!(connection.pending_out().1 > 0);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let started = Instant::now();
    let error = connection.flush_timeout(Duration::from_millis(100)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let started = Instant::now();
    connection.close();
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(connection.is_closed());
}

#[test]
fn publishers_block_only_as_the_policy_says_when_the_server_stops_reading() {
    within(LIMIT * 6, "stops reading", || {
        let patience = Duration::from_millis(300);
        for policy in [OutboxPolicy::Block(patience), OutboxPolicy::Error] {
            let mut script = Step::handshake();
            script.push(Step::StopReading(Gate::new()));
            let server = ScriptedServer::once(script);
            let recorder = Recorder::new();
            let builder = options(&server.url(), &recorder).outbox_size(1 << 20);
            let connection = builder.outbox_policy(policy).connect().unwrap();
            let (kind, took) = publish_until_full(&connection);
            assert_eq!(kind, ErrorKind::OutboxFull);
            assert!(took < Duration::from_secs(10), "{policy:?}: {took:?}");
            if policy != OutboxPolicy::Error {
                assert!(took >= patience, "{took:?}");
            }
            rest_stays_quick(&connection);
            recorder.check().unwrap();
        }
    });
}

#[test]
fn the_newest_message_is_dropped_where_the_policy_says_so() {
    within(LIMIT * 6, "drop newest", || {
        let mut script = Step::handshake();
        script.push(Step::StopReading(Gate::new()));
        let server = ScriptedServer::once(script);
        let recorder = Recorder::new();
        let builder = options(&server.url(), &recorder).outbox_size(1 << 20);
        let connection = builder.outbox_policy(OutboxPolicy::DropNewest).connect().unwrap();
        let payload = vec![b'p'; 64 << 10];
        let started = Instant::now();
        while connection.statistics().discarded() == 0 {
            connection.publish("flood", &payload).unwrap();
            assert!(started.elapsed() < LIMIT, "nothing is ever dropped");
        }
        let told = recorder.wait_for(LIMIT, |h| matches!(h, Happening::MessageDiscarded(_)));
        let Happening::MessageDiscarded(message) = told.unwrap() else { panic!() };
        assert_eq!((message.subject(), message.payload()), ("flood", payload.as_slice()));
        rest_stays_quick(&connection);
        recorder.check().unwrap();
    });
}

#[test]
fn a_write_that_takes_too_long_replaces_the_connection() {
    within(LIMIT * 6, "write timeout", || {
        let mut script = Step::handshake();
        script.push(Step::StopReading(Gate::new()));
        let server = ScriptedServer::start(vec![script, Step::healthy()], Afterwards::Refuse);
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder)
            .outbox_size(1 << 20)
            .socket_write_timeout(Duration::from_millis(500))
            .connect()
            .unwrap();
        let payload = vec![b'p'; 64 << 10];
        let started = Instant::now();
        while recorder.count(is_event(is_reconnected)) == 0 {
            // Full, for the time being; the connection is replaced meanwhile.
            let _ = connection.publish("flood", &payload);
            assert!(started.elapsed() < LIMIT, "{}", recorder.timeline("it stays"));
        }
        recorder
            .wait_for_sequence(
                LIMIT,
                &[
                    &|h| matches!(h, Happening::SocketWriteTimeout),
                    &is_event(|kind| {
                        matches!(kind, Kind::Disconnected { cause }
                    if cause.kind() == ErrorKind::WriteTimeout)
                    }),
                    &is_event(is_reconnected),
                ],
            )
            .unwrap();
        connection.flush_timeout(LIMIT).unwrap();
        connection.close();
        recorder.check().unwrap();
        assert_eq!(recorder.count(|h| matches!(h, Happening::SocketWriteTimeout)), 1);
    });
}

#[test]
fn a_half_closed_connection_is_replaced_at_once() {
    within(LIMIT * 2, "half-close", || {
        let half = after_login([Step::Send(message("word")), Step::HalfClose, Step::Silence]);
        let server = ScriptedServer::start(vec![half, healthy_end()], Afterwards::Refuse);
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder).connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        assert_eq!(texts(&subscription, 2), ["word", "the end"]);
        server.connection(0, LIMIT).wait_peer_closed(LIMIT);
        connection.flush_timeout(LIMIT).unwrap();
        connection.close();
        recorder.check().unwrap();
    });
}

#[test]
fn a_server_that_trickles_one_message_is_waited_for_and_close_is_not_held_up() {
    within(LIMIT * 2, "trickle", || {
        let slow = Step::SendSlowly {
            bytes: message(&"x".repeat(5_000)),
            every: Duration::from_millis(100),
        };
        let server = ScriptedServer::once(after_login([slow]));
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder).connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        let error = subscription.next_timeout(Duration::from_millis(300)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout);
        let started = Instant::now();
        connection.close();
        assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
        // The server sends the rest at once when it sees the end, so one message may be there.
        assert!(subscription.iter().count() <= 1);
        assert_eq!(subscription.last_error().unwrap().kind(), ErrorKind::Closed);
        recorder.check().unwrap();
    });
}

/// What a connection of the random server sends, and which messages must arrive from it.
struct Talk {
    bytes: Vec<u8>,
    texts: Vec<String>,
    sequences: usize,
}

/// Draws sequences of operations up to the first that ends the connection.
fn draw_talk(seed: &mut Seed, number: usize, least: usize) -> Talk {
    let mut talk = Talk { bytes: Vec::new(), texts: Vec::new(), sequences: 0 };
    while talk.sequences < least {
        talk.sequences += 1;
        for _ in 0..seed.within(1..9) {
            draw_operation(seed, number, &mut talk);
        }
    }
    let last: &[&[u8]] = &[
        b"",
        b"MSG work 1 100\r\ncut off",
        b"HMSG work 1 10",
        b"PINGPONG\r\n",
        b"MSG work 1 2\r\nlong\r\n",
        b"-ERR 'Stale Connection'\r\n",
        b"-ERR 'no such thing'\r\nMSG work 1 9\r\nhal",
        b"INFO {\r\n",
        b"\x00\xff",
    ];
    talk.bytes.extend_from_slice(seed.pick::<&[u8]>(last));
    talk
}

fn draw_operation(seed: &mut Seed, number: usize, talk: &mut Talk) {
    let fixed: &[&[u8]] = &[
        b"PING\r\n",
        b"PONG\r\n",
        b"+OK\r\n",
        b"INFO {}\r\n",
        b"INFO {\"max_payload\":5000}\r\n",
        b"INFO {\"connect_urls\":[\"x y\"]}\r\n",
        b"-ERR 'maximum subscriptions exceeded'\r\n",
        b"-ERR 'Permissions Violation for Publish to \"p\"'\r\n",
        b"-ERR 'Permissions Violation for Subscription to \"none\"'\r\n",
        b"MSG work 999 3\r\nabc\r\n",
        b"HMSG work 999 12 12\r\nNATS/1.0\r\n\r\n\r\n",
    ];
    if seed.chance(3, 10) {
        let text = format!("{number}:{}", talk.texts.len());
        if seed.chance(1, 2) {
            talk.bytes.extend(message(&text));
        } else {
            let line = format!("HMSG work 1 18 {}\r\nNATS/1.0\r\nA: b\r\n\r\n", 18 + text.len());
            talk.bytes.extend(format!("{line}{text}\r\n").into_bytes());
        }
        talk.texts.push(text);
    } else {
        talk.bytes.extend_from_slice(seed.pick::<&[u8]>(fixed));
    }
}

#[test]
fn ten_thousand_random_sequences_keep_the_life_legal() {
    within(LIMIT * 9, "random sequences", || {
        let mut seed = Seed::from_env_or(20_250_731);
        let talks: Vec<_> = (0..500).map(|number| draw_talk(&mut seed, number, 20)).collect();
        assert!(talks.iter().map(|talk| talk.sequences).sum::<usize>() >= 10_000);
        let mut scripts: Vec<_> = talks
            .iter()
            .map(|talk| {
                let last = if seed.chance(1, 2) { Step::Close } else { Step::Reset };
                let mut script = Step::handshake();
                script.push(Step::expect("SUB work 1"));
                script.extend([Step::Send(talk.bytes.clone()), last]);
                script
            })
            .collect();
        scripts.push(healthy_end());
        let server = ScriptedServer::start(scripts, Afterwards::Refuse);
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder).connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        let expected = talks.iter().flat_map(|talk| &talk.texts);
        for expected in expected.map(String::as_str).chain(["the end"]) {
            let got = subscription.next_timeout(LIMIT).unwrap();
            assert_eq!(got.text().unwrap(), expected);
        }
        connection.flush_timeout(LIMIT).unwrap();
        connection.close();
        recorder.check().unwrap();
        assert_eq!(recorder.count(is_event(is_reconnected)), talks.len());
    });
}

#[test]
fn many_threads_meet_a_server_that_leaves_at_any_moment() {
    within(LIMIT * 9, "a busy program", || {
        let mut seed = Seed::from_env_or(77);
        let mut scripts: Vec<_> = (0..100)
            .map(|number| {
                let mut script = Step::handshake();
                script.push(Step::AnswerPingsMeanwhile);
                script.push(Step::Send(draw_talk(&mut seed, number, 3).bytes));
                script.push(if seed.chance(1, 2) { Step::Close } else { Step::Reset });
                script
            })
            .collect();
        scripts.push(Step::healthy());
        let server = ScriptedServer::start(scripts, Afterwards::Refuse);
        let recorder = Recorder::new();
        let connection = options(&server.url(), &recorder).connect().unwrap();
        let work = connection.subscribe("work").unwrap();
        let over = Gate::new();
        let threads: Vec<_> = (0..3)
            .map(|number| {
                let (connection, over) = (connection.clone(), over.clone());
                let busy = move || {
                    let mut round = 0;
                    while !over.is_open() {
                        round += 1;
                        bother(&connection, number, round);
                    }
                };
                thread::Builder::new().name(format!("busy-{number}")).spawn(busy).unwrap()
            })
            .collect();
        // A server that leaves while the subscriptions are announced has not been reconnected to,
        // so the connections are counted where they arrive.
        server.connection(100, LIMIT * 4);
        over.open();
        for thread in threads {
            thread.join().unwrap();
        }
        connection.flush_timeout(LIMIT).unwrap();
        assert_eq!(connection.subscription_count(), 2, "{:?}", connection.statistics());
        assert_eq!(connection.pending_requests(), 0);
        drop(work);
        connection.close();
        recorder.check().unwrap();
    });
}

/// One round of a program that uses everything; any error is taken as it comes.
fn bother(connection: &Connection, number: usize, round: usize) {
    let subject = format!("busy.{number}.{round}");
    let moment = Duration::from_millis(5);
    let subscription = connection.subscribe(&subject).unwrap();
    let _ = connection.publish(&subject, "x");
    let _ = connection.request(&subject, "x", moment);
    let _ = connection.flush_timeout(moment);
    let _ = subscription.next_timeout(moment);
}
