//! The faults of the Java client, 16 to 30; each test provokes what that client did.

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEvent, ConnectionEventKind as Kind, ConnectionListener, ConnectionStatus,
    Consumer, ErrorKind, Options, OptionsBuilder, OutboxPolicy, PendingLimits,
};

use super::stage::{
    Client, LONG, MINUTE, SHORT, Scene, aside, counted, event, is_server_error, names, quick,
    recorded, within,
};
use crate::support::leaks::Snapshot;
use crate::support::ports;
use crate::support::scripted::{ScriptedServer, Step};
use crate::support::wait::{Gate, poll};

#[test]
fn java_fault_16_a_server_that_refuses_us_twice_costs_only_itself() {
    let (refuser, other) = (Server::start().unwrap(), Server::start().unwrap());
    let recorder = Recorder::new();
    let options = quick(&refuser.url()).server(other.url()).no_randomize();
    let connection = recorded(options, &recorder).connect().unwrap();
    assert_eq!(connection.connected_url(), Some(refuser.url()));
    refuser.require_token("unknown");
    other.refuse_connections(true).unwrap();
    refuser.drop_clients();
    recorder.wait_for_count(LONG, 2, is_server_error).unwrap();
    // The attempt after the second refusal comes when the pool has been changed.
    let failed = counted(&recorder, "ReconnectFailed");
    event(&recorder, "ReconnectFailed", failed + 2);
    assert_eq!(connection.servers(), [other.url()]);
    other.refuse_connections(false).unwrap();
    event(&recorder, "Resubscribed", 1);
    assert_eq!(connection.connected_url(), Some(other.url()));
    connection.close();
    recorder.check().unwrap();
}

#[test]
fn java_fault_17_a_consumer_at_its_limit_is_told_once_and_once_that_it_recovered() {
    within("slow consumer", || {
        let scene = Scene::new();
        let slow = |happening: &Happening| matches!(happening, Happening::SlowConsumer { .. });
        let recovered =
            |happening: &Happening| matches!(happening, Happening::SlowConsumerRecovered { .. });
        let subscription = scene.connection.subscribe("fast").unwrap();
        subscription.set_pending_limits(PendingLimits::new(10, 0));
        for _ in 0..20 {
            scene.connection.publish("fast", "x").unwrap();
        }
        scene.connection.flush().unwrap();
        // To and fro across the limit: each round takes one, lets one in and drops one.
        for _ in 0..300 {
            subscription.next_timeout(LONG).unwrap();
            scene.connection.publish("fast", "x").unwrap();
            scene.connection.publish("fast", "x").unwrap();
            scene.connection.flush().unwrap();
        }
        assert_eq!(subscription.dropped(), 310);
        assert_eq!(subscription.try_iter().count(), 10);
        let last = scene.recorder.wait_for(LONG, recovered).unwrap();
        assert!(matches!(last, Happening::SlowConsumerRecovered { dropped: 310, .. }), "{last}");
        scene.end();
        assert_eq!((scene.recorder.count(slow), scene.recorder.count(recovered)), (1, 1));
        println!("600 messages to and fro across the limit gave 1 episode, 1 recovery");
    });
}

#[test]
fn java_fault_18_a_request_says_why_it_has_no_reply() {
    within("request", || {
        let scene = Scene::with(|options| options.fail_requests_on_disconnect());
        let connection = &scene.connection;
        let fails = |subject: &str, timeout| connection.request(subject, "", timeout).unwrap_err();
        assert_eq!(fails("nobody", LONG).kind(), ErrorKind::NoResponders);
        let _silent = connection.subscribe("silent").unwrap();
        assert_eq!(fails("silent", SHORT).kind(), ErrorKind::Timeout);
        let waiting = connection.send_request("silent", "").unwrap();
        connection.flush().unwrap();
        scene.server.drop_clients();
        assert_eq!(waiting.wait(LONG).unwrap_err().kind(), ErrorKind::Disconnected);
        scene.event("Resubscribed", 1);
        let waiting = connection.send_request("silent", "").unwrap();
        connection.close();
        assert_eq!(waiting.wait(LONG).unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(fails("silent", LONG).kind(), ErrorKind::Closed);
    });
}

#[test]
fn java_fault_19_a_waiting_request_may_be_told_of_a_loss_at_once() {
    within("request", || {
        let scene = Scene::with(|options| options.fail_requests_on_disconnect());
        let _silent = scene.connection.subscribe("silent").unwrap();
        let connection = scene.connection.clone();
        let waiting = aside(move || connection.request("silent", "", 10 * MINUTE));
        poll(LONG, || (scene.connection.pending_requests() == 1).then_some(())).unwrap();
        scene.connection.flush().unwrap();
        scene.server.drop_clients();
        let error = waiting.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
    });
}

#[test]
fn java_fault_20_nothing_that_looks_waits_for_a_write_or_a_reconnect() {
    within("looking", || {
        let read = Gate::new();
        let mut script = Step::handshake();
        script.extend([Step::StopReading(read.clone()), Step::AnswerPings(Gate::new())]);
        let server = ScriptedServer::once(script);
        let limit = 128 * 1024;
        let client = Client::with(&server.url(), |options| {
            options.outbox_size(limit).outbox_policy(OutboxPolicy::Block(2 * MINUTE))
        });
        let subscription = client.subscribe("quiet").unwrap();
        let piece = 32 * 1024;
        let publishers: Vec<_> = (0..2)
            .map(|_| {
                let connection = client.connection.clone();
                // One blocked publisher does not make the other fail: both wait.
                aside(move || (0..300).try_for_each(|_| connection.publish("a", vec![b'x'; piece])))
            })
            .collect();
        poll(LONG, || (client.pending_out().1 + piece > limit).then_some(())).unwrap();
        look_at(&client);
        assert_eq!((subscription.pending_messages(), subscription.dropped()), (0, 0));
        assert!(!publishers.iter().any(thread::JoinHandle::is_finished));
        read.open();
        for publisher in publishers {
            publisher.join().unwrap().unwrap();
        }
        client.finish();

        let scene = Scene::with(|options| options.connect_timeout(2 * MINUTE));
        let subscription = scene.connection.subscribe("quiet").unwrap();
        scene.server.go_silent(true);
        scene.server.drop_clients();
        scene.event("Reconnecting", 1);
        look_at(&scene.connection);
        assert_eq!(subscription.pending_messages(), 0);
        assert_eq!(scene.connection.status(), ConnectionStatus::Reconnecting);
    });
}

fn look_at(connection: &Connection) {
    let _ = (connection.status(), connection.servers(), connection.connected_url());
    let _ = (connection.statistics(), connection.pending_out(), connection.last_error());
    let _ = (connection.subscription_count(), connection.pending_requests());
    let _ = (connection.max_payload(), connection.server_info(), format!("{connection:?}"));
}

#[test]
fn java_fault_21_control_lines_share_no_limit_and_what_was_refused_leaves_nothing() {
    within("control lines", || {
        let read = Gate::new();
        let mut script = Step::handshake();
        script.extend([Step::StopReading(read.clone()), Step::AnswerPings(Gate::new())]);
        let server = ScriptedServer::once(script);
        let client = Client::with(&server.url(), |options| {
            options.outbox_size(64 * 1024).outbox_policy(OutboxPolicy::DropNewest)
        });
        for _ in 0..2_000 {
            client.publish("a", vec![b'x'; 16 * 1024]).unwrap();
        }
        assert!(client.statistics().discarded() > 0, "the outbox is full");
        let subscription = client.subscribe("work").unwrap();
        let connection = client.connection.clone();
        let flush = aside(move || connection.flush_timeout(MINUTE));
        read.open();
        flush.join().unwrap().unwrap();
        let seen = server.connection(0, LONG);
        assert_eq!(seen.wait_line("SUB work", LONG), format!("SUB work {}", subscription.sid()));

        assert_eq!(client.subscription_count(), 1);
        for subject in ["a b", "", &"x".repeat(5_000)] {
            client.subscribe(subject).unwrap_err();
            client.request(subject, "", LONG).unwrap_err();
        }
        let large = vec![b'x'; 1_048_577];
        let refused = client.request("a", &large, LONG).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::MaxPayload, "{refused}");
        assert_eq!(client.pending_requests(), 0);
        // The one for replies may be there, as it stays.
        assert!(client.subscription_count() <= 2, "{}", client.subscription_count());
        client.finish();
    });
}

#[test]
fn java_fault_22_connect_is_json_whatever_is_in_it_and_as_long_as_it_must_be() {
    let server =
        ScriptedServer::once([Step::handshake(), vec![Step::AnswerPings(Gate::new())]].concat());
    let name = "a \"name\" with \\ and \t and \u{1} and ünïcode";
    let token = "\"t\\".repeat(5_000);
    let client = Client::with(&server.url(), |options| options.name(name).token(&token));
    let line = server.connection(0, LONG).wait_line("CONNECT ", LONG);
    assert!(line.len() > 15_000);
    let sent: serde_json::Value = serde_json::from_str(&line["CONNECT ".len()..]).unwrap();
    assert_eq!((sent["name"].as_str(), sent["auth_token"].as_str()), (Some(name), Some(&*token)));
    client.finish();
}

#[test]
fn java_fault_23_a_partial_info_changes_only_what_it_says_and_lame_duck_is_told_once() {
    let mut script = Step::handshake();
    let lame_duck = || Step::send("INFO {\"ldm\":true}\r\n");
    script.extend([lame_duck(), lame_duck(), lame_duck(), Step::AnswerPings(Gate::new())]);
    let server = ScriptedServer::once(script);
    let client = Client::connect(&server.url());
    client.event("LameDuck", 1);
    client.flush().unwrap();
    let info = client.server_info();
    assert_eq!((info.server_id(), info.version()), ("SCRIPTED", "2.15.1"));
    assert!(info.headers() && info.lame_duck());
    assert_eq!((client.max_payload(), client.client_id()), (1_048_576, Some(1)));
    client.finish();
    assert_eq!(client.count("LameDuck"), 1);
}

#[test]
fn java_fault_24_what_a_url_says_of_the_user_is_in_no_text_of_the_client() {
    let server = Server::builder().user("joe", "hunter2").start().unwrap();
    let closed = ports::listen().local_addr().unwrap();
    let own = format!("nats://joe:hunter2@127.0.0.1:{}", server.port());
    let other = format!("nats://joe:hunter2@{closed}");
    let client = Client::with(&own, |options| options.server(&other).no_randomize());
    // A discovered server inherits the user of the one that announced it.
    server.announce_servers(&[&format!("127.0.0.1:{}", server.port()), "127.0.0.1:1"]);
    client.event("DiscoveredServers", 1);
    server.refuse_connections(true).unwrap();
    server.drop_clients();
    client.event("ReconnectFailed", 3);
    let failed = quick(&other).connect().unwrap_err();
    let mut shown = format!("{failed} {failed:?} {:?} {:?}", client.servers(), client.connection);
    shown += &format!("{:?} {:?}", client.discovered_servers(), client.last_error());
    client.finish();
    shown += &client.recorder.timeline("all").to_string();
    for attempt in failed.attempts() {
        shown += attempt.server();
    }
    assert!(shown.contains(&closed.to_string()), "{shown}");
    assert!(!shown.contains("hunter2") && !shown.contains("joe"), "{shown}");
}

#[test]
fn java_fault_25_attempts_of_a_round_are_apart_and_rounds_further() {
    let wait = Duration::from_millis(300);
    let scene = Scene::new();
    let dead: Vec<String> =
        (0..2).map(|_| format!("nats://{}", ports::listen().local_addr().unwrap())).collect();
    let client = Client::with(&scene.server.url(), |options| {
        options.servers(&dead).reconnect_wait(wait).reconnect_jitter(wait)
    });
    scene.server.refuse_connections(true).unwrap();
    scene.server.drop_clients();
    client.event("Reconnecting", 7);
    client.finish();
    let times: Vec<_> = client
        .recorder
        .events()
        .iter()
        .filter(|event| matches!(event.kind(), Kind::Reconnecting { .. }))
        .map(ConnectionEvent::time)
        .collect();
    let pauses: Vec<Duration> =
        times.windows(2).map(|pair| pair[1].duration_since(pair[0]).unwrap()).collect();
    println!("pauses between attempts on three servers: {pauses:.0?}");
    // Each is drawn anew from 0 to 300 ms: that all four are tiny does not happen.
    let within_rounds = [pauses[0], pauses[1], pauses[3], pauses[4]];
    assert!(within_rounds.iter().any(|pause| *pause > wait / 20), "{pauses:?}");
    // The wall clock is no steady one: a little less is allowed.
    assert!(pauses[2] >= wait * 9 / 10 && pauses[5] >= wait * 9 / 10, "{pauses:?}");
}

#[test]
fn java_fault_26_the_client_does_not_give_up_after_sixty_attempts() {
    let zero = Duration::ZERO;
    let scene = Scene::with(|options| options.reconnect_wait(zero).reconnect_jitter(zero));
    scene.server.refuse_connections(true).unwrap();
    scene.server.drop_clients();
    scene.event("ReconnectFailed", 150);
    assert_eq!(scene.connection.status(), ConnectionStatus::Reconnecting);
    scene.server.refuse_connections(false).unwrap();
    scene.event("Resubscribed", 1);
}

#[test]
fn java_fault_27_a_failed_connect_has_the_cause_for_each_server_in_its_error() {
    within("causes", || {
        let silent = ScriptedServer::always(vec![Step::Silence]);
        let full = ScriptedServer::always(vec![Step::send(FULL)]);
        let denied = ScriptedServer::always(vec![Step::DefaultInfo, Step::send(REFUSAL)]);
        let broken = ScriptedServer::always(vec![Step::send("INFO {\r\n"), Step::Silence]);
        let closing = ScriptedServer::always(vec![Step::DefaultInfo]);
        let refused = format!("nats://{}", ports::listen().local_addr().unwrap());
        let urls = [refused, silent.url(), full.url(), denied.url(), broken.url(), closing.url()];
        let kinds = [
            ErrorKind::Io,
            ErrorKind::Timeout,
            ErrorKind::Server,
            ErrorKind::Authorization,
            ErrorKind::Protocol,
            ErrorKind::Io,
        ];
        let recorder = Recorder::new();
        let options = Options::builder().servers(&urls[..]).no_randomize();
        let options = recorded(options.connect_timeout(Duration::from_secs(2)), &recorder);
        let error = options.connect().unwrap_err();
        let seen: Vec<_> =
            error.attempts().iter().map(|a| (a.server(), a.cause().kind())).collect();
        let expected: Vec<_> = urls.iter().map(String::as_str).zip(kinds).collect();
        assert_eq!(seen, expected);
        for attempt in error.attempts() {
            assert!(error.to_string().contains(&attempt.cause().to_string()), "{error}");
        }
        event(&recorder, "Closed", 1);
        assert_eq!(names(&recorder), ["Closed"]);
        recorder.check().unwrap();
    });
}

const FULL: &str = "-ERR 'maximum connections exceeded'\r\n";
const REFUSAL: &str = "-ERR 'Authorization Violation'\r\n";

/// Blocks in its first call, and tells the name of its thread.
struct Blocker {
    thread: Mutex<String>,
    inside: Gate,
    go_on: Gate,
}

impl ConnectionListener for Blocker {
    fn connection_event(&self, _: &Connection, _: &ConnectionEvent) {
        *self.thread.lock().unwrap() = thread::current().name().unwrap_or_default().to_owned();
        self.inside.open();
        assert!(self.go_on.wait(MINUTE));
    }
}

#[test]
fn java_fault_28_connections_share_no_threads_and_close_joins_their_own() {
    within("threads", || {
        let server = Server::start().unwrap();
        let blocker =
            Arc::new(Blocker { thread: Mutex::default(), inside: Gate::new(), go_on: Gate::new() });
        let options = quick(&server.url()).build().unwrap();
        let (one, other) = (options.connect().unwrap(), options.connect().unwrap());
        one.add_connection_listener(blocker.clone());
        server.lame_duck();
        assert!(blocker.inside.wait(LONG));
        // The callbacks of the other connection run meanwhile.
        let recorder = Recorder::new();
        other.add_connection_listener(recorder.clone());
        other.force_reconnect().unwrap();
        event(&recorder, "Resubscribed", 1);
        let name = blocker.thread.lock().unwrap().clone();
        let own = name.strip_suffix("callback").expect("the connection's callback thread");
        let dispatcher = one.dispatcher(|_, _| {}).unwrap();
        // A thread gets its name a little after its start, and loses its entry after its end.
        let wait_threads = |count| {
            let reached = || (Snapshot::take().threads_named(own) == count).then_some(());
            poll(LONG, reached).unwrap_or_else(|| panic!("{:?}", Snapshot::take().thread_names()));
        };
        wait_threads(4);
        blocker.go_on.open();
        one.close();
        wait_threads(0);
        drop(dispatcher);
        other.flush().unwrap();
        other.close();
    });
}

#[test]
fn java_fault_29_zero_and_none_are_what_the_documentation_says_or_refused_by_name() {
    type Set = fn(OptionsBuilder) -> OptionsBuilder;
    let refused: [(&str, Set); 9] = [
        ("connect_timeout", |o| o.connect_timeout(Duration::ZERO)),
        ("close_timeout", |o| o.close_timeout(Duration::ZERO)),
        ("socket_write_timeout", |o| o.socket_write_timeout(Duration::ZERO)),
        ("ping_interval", |o| o.ping_interval(Duration::ZERO)),
        ("max_pings_out", |o| o.max_pings_out(0)),
        ("outbox_size", |o| o.outbox_size(0)),
        ("max_control_line", |o| o.max_control_line(0)),
        ("send_buffer_size", |o| o.send_buffer_size(0)),
        ("receive_buffer_size", |o| o.receive_buffer_size(0)),
    ];
    let server = Server::start().unwrap();
    for (name, set) in refused {
        let error = set(quick(&server.url())).connect().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{name}");
        assert!(error.to_string().contains(name), "{name}: {error}");
    }
    assert_eq!(server.connections(), 0, "refused before anything is sent");
    // No pings, no limit to what is unanswered, the system's buffers, no end of attempts.
    let client = Client::with(&server.url(), |options| {
        options
            .ping_interval(None)
            .max_pings_out(None)
            .send_buffer_size(None)
            .receive_buffer_size(None)
            .max_reconnects(None)
    });
    client.flush().unwrap();
    client.flush_timeout(Duration::MAX).unwrap();
    client.finish();
    // Zero reconnects is: the first loss is the end.
    let client = Client::with(&server.url(), |options| options.max_reconnects(0));
    server.drop_clients();
    client.event("Closed", 1);
    assert_eq!(names(&client.recorder), ["Connected", "Disconnected", "Closed"]);
}

#[test]
fn java_fault_30_a_refusal_reaches_the_very_subscription_that_was_refused() {
    let mut script = Step::handshake();
    script.extend([
        Step::expect("SUB work two 3"),
        Step::send(
            "-ERR 'Permissions Violation for Subscription to \"work\" using queue \"two\" \
             (sid \"3\")'\r\n",
        ),
        Step::AnswerPings(Gate::new()),
    ]);
    let server = ScriptedServer::once(script);
    let client = Client::connect(&server.url());
    let plain = client.subscribe("work").unwrap();
    let [first, second] = [(); 2].map(|()| client.queue_subscribe("work", "two").unwrap());
    let error = second.next_timeout(LONG).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionsViolation, "{error}");
    assert!(second.try_next().unwrap().is_none(), "once");
    client.flush().unwrap();
    for other in [&plain, &first] {
        assert!(other.try_next().unwrap().is_none() && other.last_error().is_none());
    }
    client.finish();
}
