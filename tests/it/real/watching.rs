//! The calls for debugging: the read listener and the trace of connecting.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nats_blocking::testing::Happening;
use nats_blocking::{
    Connection, Consumer, ErrorKind, Headers, Message, ReadListener, ReadOperation, TraceStep,
    TraceStepKind,
};

use super::{Client, LIMIT, quick, reconnect_failed, resubscribed};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::ports;
use crate::support::wait::{Gate, Signal};
use crate::support::watchdog::within;

/// Keeps what it hears, in words.
#[derive(Default)]
struct Heard(Signal<Vec<String>>);

impl ReadListener for Heard {
    fn operation_read(&self, operation: &ReadOperation<'_>) {
        let mut line = operation.to_string();
        if let ReadOperation::Message { message, wire_bytes, .. } = operation {
            line = format!("{line} of {wire_bytes} {:?}", message.text());
        }
        self.0.change(|lines| lines.push(line));
    }
}

#[test]
fn a_read_listener_hears_every_operation_in_order_the_login_included() {
    within(LIMIT * 3, "reading", || {
        let config = Config::new()
            .user_with_permissions("u", "p", "publish: { deny: \"no\" }")
            .no_auth_user("u");
        let server = NatsServer::start(&config);
        let heard = Arc::new(Heard::default());
        let client = Client::connect(quick(server.url()).read_listener(Arc::clone(&heard)));
        let subscription = client.subscribe("a.*").unwrap();
        client.publish("a.b", "hello").unwrap();
        let mut headers = Headers::new();
        headers.append("N", "v").unwrap();
        let message = Message::new("a.c", "hi").with_reply("r").with_headers(headers);
        client.publish_message(&message).unwrap();
        client.publish("no", "").unwrap();
        client.flush().unwrap();
        assert_eq!(subscription.pending_messages(), 2);
        let lines = heard.0.read(Clone::clone);
        // Between CONNECT and its PONG the real server may send another INFO.
        let lines: Vec<_> = lines.iter().map(String::as_str).filter(|l| *l != "INFO").collect();
        assert_eq!(
            lines,
            [
                "PONG",
                "MSG a.b, sid 1, payload 5 of 20 Ok(\"hello\")",
                "HMSG a.c, sid 1, reply r, headers 18, payload 2 of 42 Ok(\"hi\")",
                "-ERR 'Permissions Violation for Publish to \"no\"'",
                "PONG",
            ]
        );
        assert_eq!(heard.0.read(|lines| lines[0].clone()), "INFO");
        client.finish();
    });
}

#[test]
fn what_was_heard_before_is_with_its_consumer_while_a_read_listener_takes_its_time() {
    within(Duration::from_secs(60), "slow listener", || {
        let server = nats_blocking::testing::Server::start().unwrap();
        let gate = Gate::new();
        let at_gate = gate.clone();
        let messages = AtomicU32::new(0);
        let listen = move |operation: &ReadOperation<'_>| {
            let second = operation.name() == "MSG" && messages.fetch_add(1, Ordering::SeqCst) == 1;
            assert!(!second || at_gate.wait(LIMIT));
        };
        let connection = quick(server.url()).on_read(listen).connect().unwrap();
        let subscription = connection.subscribe("a").unwrap();
        connection.flush().unwrap();
        // Both come with one read.
        let message = |text: &str| format!("MSG a {} 1\r\n{text}\r\n", subscription.id());
        server.send_raw(&(message("1") + &message("2")));
        assert_eq!(subscription.next_timeout(LIMIT / 2).unwrap().payload(), b"1");
        gate.open();
        assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), b"2");
    });
}

#[test]
fn a_read_listener_that_panics_is_counted_and_told_once_and_nothing_else_changes() {
    within(LIMIT * 3, "panics", || {
        let server = NatsServer::start_plain();
        let options = quick(server.url())
            .on_read(|_| panic!("a read listener that panics"))
            .trace_connection(|_| panic!("a trace that panics"));
        let client = Client::connect(options);
        for _ in 0..10 {
            client.round_trip("a");
        }
        let told = |happening: &Happening| matches!(happening, Happening::Exception(_));
        let exception = client.recorder.wait_for(LIMIT, told).unwrap();
        let Happening::Exception(error) = exception else { panic!("{exception}") };
        assert_eq!(error.kind(), ErrorKind::UserPanic);
        assert!(error.to_string().contains("read listener"), "{error}");
        client.flush().unwrap();
        let statistics = client.statistics();
        // INFO, PONG, ten messages, PONG; connecting, connected, INFO, CONNECT, PONG, SUBs.
        assert!(statistics.panics() >= 13 + 6, "{statistics}");
        assert_eq!(statistics.exceptions(), 1);
        assert_eq!(statistics.disconnects(), 0);
        assert_eq!(client.recorder.count(told), 1);
        client.finish();
    });
}

#[test]
fn a_close_from_a_read_listener_ends_within_its_time() {
    within(LIMIT * 3, "close", || {
        let server = NatsServer::start_plain();
        let handle: Arc<Signal<Option<Connection>>> = Arc::default();
        let held = Arc::clone(&handle);
        let close = Duration::from_millis(300);
        let options = quick(server.url()).close_timeout(close).on_read(move |operation| {
            if let ReadOperation::Message { .. } = operation {
                let connection = held.change(Option::take);
                connection.expect("one message only").close();
            }
        });
        let client = Client::connect(options);
        handle.change(|place| *place = Some(client.connection.clone()));
        let _subscription = client.subscribe("a").unwrap();
        let started = Instant::now();
        client.publish("a", "").unwrap();
        assert!(client.wait_closed(LIMIT).unwrap().is_none());
        assert!(started.elapsed() < LIMIT);
        client.finish();
    });
}

type Steps = Arc<Signal<Vec<TraceStep>>>;

fn tracing() -> (Steps, impl Fn(&TraceStep) + Send + Sync + 'static) {
    let steps = Steps::default();
    let kept = Arc::clone(&steps);
    (steps, move |step: &TraceStep| kept.change(|steps| steps.push(step.clone())))
}

/// The steps without their data.
fn names(steps: &[TraceStep]) -> Vec<&'static str> {
    use TraceStepKind as S;
    let name = |step: &TraceStep| match step.kind() {
        S::Resolving { .. } => "resolving",
        S::Resolved { .. } => "resolved",
        S::Connecting { .. } => "connecting",
        S::AddressFailed { .. } => "address failed",
        S::Connected { .. } => "connected",
        S::TlsEstablished { .. } => "tls",
        S::WebSocketUpgraded => "websocket",
        S::InfoReceived => "info",
        S::ConnectSent => "connect sent",
        S::PongReceived => "pong",
        S::SubscriptionsWritten { .. } => "subscriptions",
        S::Failed { .. } => "failed",
        other => panic!("a step that this test does not know: {other}"),
    };
    steps.iter().map(name).collect()
}

const LOGIN: [&str; 6] =
    ["connecting", "connected", "info", "connect sent", "pong", "subscriptions"];

#[test]
fn the_trace_tells_each_step_of_the_first_pass_and_of_reconnecting_with_its_time() {
    within(LIMIT * 4, "trace", || {
        let mut server = NatsServer::start(&Config::new().user("canary", "s3cret"));
        let nobody = ports::free();
        let (steps, trace) = tracing();
        let options = quick(format!("127.0.0.1:{nobody},localhost:{}", server.port()))
            .no_randomize()
            .user_and_password("canary", "s3cret")
            .trace_connection(trace);
        let client = Client::connect(options);
        let first = steps.change(std::mem::take);
        let seen = names(&first);
        assert_eq!(seen[..3], ["connecting", "address failed", "failed"], "{seen:?}");
        assert_eq!(seen[3..5], ["resolving", "resolved"], "{seen:?}");
        // Between them, one of the addresses of `localhost` may fail.
        assert_eq!(seen[seen.len() - 6..], LOGIN, "{seen:?}");
        let urls: Vec<_> = first.iter().map(TraceStep::server).collect();
        assert_eq!(urls[0], format!("nats://127.0.0.1:{nobody}"));
        assert_eq!(urls[3], format!("nats://localhost:{}", server.port()));
        for pair in first.windows(2) {
            let same = pair[0].server() == pair[1].server();
            assert!(!same || pair[0].elapsed() <= pair[1].elapsed(), "{pair:?}");
        }
        let _subscription = client.subscribe("a").unwrap();
        server.kill();
        client.wait(reconnect_failed);
        server.restart();
        client.wait(resubscribed);
        let again = steps.read(Clone::clone);
        let seen = names(&again);
        assert!(seen.contains(&"failed"), "{seen:?}");
        assert_eq!(seen[seen.len() - 6..], LOGIN, "{seen:?}");
        let last = again.last().unwrap();
        let written =
            matches!(last.kind(), TraceStepKind::SubscriptionsWritten { subscriptions: 1, .. });
        assert!(written, "{last}");
        for step in first.iter().chain(&again) {
            let shown = format!("{step} {step:?}");
            assert!(!shown.contains("s3cret") && !shown.contains("canary"), "{shown}");
        }
        client.finish();
    });
}

#[test]
fn the_trace_of_a_refused_login_ends_with_the_refusal() {
    within(LIMIT * 3, "refused", || {
        let server = NatsServer::start(&Config::new().user("canary", "s3cret"));
        let (steps, trace) = tracing();
        let options = quick(server.url()).user_and_password("canary", "wr0ng");
        let (client, _) = Client::try_connect(options.trace_connection(trace));
        assert!(client.is_err());
        let steps = steps.read(Clone::clone);
        let seen = names(&steps);
        assert_eq!(seen, ["connecting", "connected", "info", "connect sent", "failed"]);
        let Some(TraceStepKind::Failed { cause }) = steps.last().map(TraceStep::kind) else {
            panic!("{steps:?}")
        };
        assert!(cause.is_authorization(), "{cause}");
        assert!(!format!("{steps:?}").contains("wr0ng"));
    });
}

#[test]
#[cfg(feature = "tls")]
fn the_trace_tells_of_tls_with_the_name_that_was_verified_and_where_it_fails() {
    use crate::support::certificates::Authority;
    within(LIMIT * 6, "trace over TLS", || {
        let authority = Authority::new();
        let block = authority.server().tls_block("");
        let server = NatsServer::start(&Config::new().extra(&block).user("canary", "s3cret"));
        let options = |trace| {
            quick(server.url()).user_and_password("canary", "s3cret").trace_connection(trace)
        };
        let (steps, trace) = tracing();
        let client = Client::connect(options(trace).root_certificates_file(&authority.file));
        let steps = steps.read(Clone::clone);
        let wanted =
            ["connecting", "connected", "info", "tls", "connect sent", "pong", "subscriptions"];
        assert_eq!(names(&steps), wanted);
        let TraceStepKind::TlsEstablished { name } = steps[3].kind() else { panic!() };
        assert_eq!(name, "127.0.0.1");
        assert!(steps[3].to_string().ends_with("TLS established with '127.0.0.1'"));
        assert!(steps[2].elapsed() < steps[3].elapsed(), "{steps:?}");
        assert!(!format!("{steps:?}").contains("s3cret"));
        client.finish();

        let (steps, trace) = tracing();
        let (client, _) = Client::try_connect(options(trace));
        assert!(client.is_err());
        let steps = steps.read(Clone::clone);
        assert_eq!(names(&steps), ["connecting", "connected", "info", "failed"]);
    });
}

#[test]
#[cfg(all(feature = "tls", feature = "websocket"))]
fn the_trace_tells_of_tls_and_then_of_the_websocket() {
    use crate::support::certificates::Authority;
    within(LIMIT * 6, "trace over WebSocket", || {
        let authority = Authority::new();
        let port = ports::free();
        let config = Config::new().websocket(port, &authority.server().tls_block(""));
        let _server = NatsServer::start(&config);
        let (steps, trace) = tracing();
        let options = quick(format!("wss://localhost:{port}/path?token=s3cret"))
            .root_certificates_file(&authority.file)
            .websocket_header("Authorization", "Bearer s3cret");
        let client = Client::connect(options.trace_connection(trace));
        let steps = steps.read(Clone::clone);
        let seen = names(&steps);
        let wanted = ["connected", "tls", "websocket", "info", "connect sent", "pong"];
        assert_eq!(seen[seen.len() - 7..seen.len() - 1], wanted, "{seen:?}");
        assert!(!format!("{steps:?}").contains("s3cret"), "{steps:?}");
        client.finish();
    });
}
