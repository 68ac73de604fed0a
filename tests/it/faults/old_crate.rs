//! The faults of the old blocking `nats` crate, version 0.26; each test does what brought them out
//! there and prints what this crate did, as the table in the README tells it.

use std::process::Command;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Happening, Server};
use nats_blocking::{
    ConnectionEventKind as Kind, Consumer, ErrorKind, Headers, Notice, PendingLimits,
    ReconnectBuffer, ServerErrorKind,
};

use super::stage::{
    Client, LONG, MINUTE, SHORT, Scene, aside, is_server_error, occurrences, quick, within,
};
use crate::hostile::{after_login, message, texts};
use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::wait::{Gate, poll};

/// What is measured here, for the README.
fn figure(number: u32, text: &str) {
    println!("old crate fault {number:02}, here: {text}");
}

/// Neither speaks nor closes its end until the gate opens, whatever the client does.
fn login_and_silence(gate: &Gate) -> Vec<Step> {
    [Step::handshake(), vec![Step::Wait(gate.clone())]].concat()
}

#[test]
fn old_crate_fault_01_a_first_connect_does_not_sleep() {
    let server = ScriptedServer::always(Step::healthy());
    let mut times: Vec<Duration> = (0..8)
        .map(|_| {
            let options = quick(&server.url()).reconnect_wait(MINUTE).reconnect_jitter(MINUTE);
            let started = Instant::now();
            let connection = options.connect().unwrap();
            let took = started.elapsed();
            connection.close();
            took
        })
        .collect();
    times.sort();
    figure(1, &format!("8 first connects, each {:.1?} to {:.1?}", times[0], times[7]));
    assert!(times[7] < LONG, "{times:?}");
}

#[test]
fn old_crate_fault_02_flush_timeout_ends_against_a_silent_server() {
    within("flush", || {
        let gate = Gate::new();
        let server = ScriptedServer::once(login_and_silence(&gate));
        let client = Client::connect(&server.url());
        let started = Instant::now();
        let error = client.flush_timeout(SHORT).unwrap_err();
        figure(2, &format!("flush_timeout({SHORT:?}) ended after {:.0?}", started.elapsed()));
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert!(started.elapsed() >= SHORT);
        client.finish();
        gate.open();
    });
}

#[test]
fn old_crate_fault_03_close_returns_while_reconnecting() {
    within("close", || {
        let scene = Scene::with(|options| options.reconnect_wait(10 * MINUTE));
        scene.server.refuse_connections(true).unwrap();
        scene.server.drop_clients();
        scene.event("ReconnectFailed", 1);
        let started = Instant::now();
        scene.connection.close();
        figure(3, &format!("close during an outage took {:.1?}", started.elapsed()));
        scene.event("Closed", 1);
    });
}

#[test]
fn old_crate_fault_04_dropping_the_connection_closes_the_socket_of_a_silent_server() {
    within("drop", || {
        let gate = Gate::new();
        let server = ScriptedServer::once(login_and_silence(&gate));
        let connection = quick(&server.url()).connect().unwrap();
        let seen = server.connection(0, LONG);
        let started = Instant::now();
        let dropping = aside(move || drop(connection));
        seen.wait_peer_closed(LONG);
        figure(4, &format!("the server saw the end after {:.1?}", started.elapsed()));
        dropping.join().unwrap();
        figure(4, &format!("the drop took {:.0?}", started.elapsed()));
        gate.open();
    });
}

#[test]
fn old_crate_fault_05_an_error_callback_may_call_the_client() {
    within("callback", || {
        let (tell, told) = mpsc::channel();
        let scene = Scene::with(|options| {
            options.on_error(move |connection, _| {
                connection.flush_timeout(LONG).unwrap();
                let subscription = connection.subscribe("a").unwrap();
                connection.publish("a", "from the callback").unwrap();
                tell.send(texts(&subscription, 1)).unwrap();
            })
        });
        let subscription = scene.connection.subscribe("b").unwrap();
        let started = Instant::now();
        scene.server.send_error("odd");
        assert_eq!(told.recv_timeout(LONG).unwrap(), ["from the callback"]);
        figure(5, &format!("flush and subscribe in the callback: {:.1?}", started.elapsed()));
        drop(subscription);
        scene.connection.flush().unwrap();
    });
}

#[test]
fn old_crate_fault_06_a_request_ends_with_the_connection() {
    within("request", || {
        let scene = Scene::with(|options| options.fail_requests_on_disconnect());
        let _silent = scene.connection.subscribe("ask").unwrap();
        for closes in [false, true] {
            let connection = scene.connection.clone();
            let waiting = aside(move || connection.request("ask", "", 10 * MINUTE));
            poll(LONG, || (scene.connection.pending_requests() == 1).then_some(())).unwrap();
            let started = Instant::now();
            let expected = if closes {
                scene.connection.close();
                ErrorKind::Closed
            } else {
                scene.connection.flush().unwrap();
                scene.server.drop_clients();
                ErrorKind::Disconnected
            };
            let error = waiting.join().unwrap().unwrap_err();
            figure(6, &format!("{expected:?} {:.1?} after it", started.elapsed()));
            assert_eq!(error.kind(), expected, "{error}");
        }
    });
}

#[test]
fn old_crate_fault_07_an_info_of_a_large_cluster_is_taken_in_whenever_it_comes() {
    within("large INFO", || {
        let urls: Vec<String> =
            (0..10_000).map(|n| format!("\"10.0.{}.{}:4222\"", n / 250, n % 250)).collect();
        let few = urls[..320].join(",");
        let start = "INFO {\"server_id\":\"A\",\"max_payload\":1000,\"connect_urls\":[";
        let info = |list: &str| Step::Send(format!("{start}{list}]}}\r\n").into_bytes());
        let script = vec![
            info(&few),
            Step::ExpectConnectAndPing,
            info(&urls.join(",")),
            Step::AnswerPings(Gate::new()),
        ];
        let server = ScriptedServer::once(script);
        let client = Client::connect(&server.url());
        client.event("DiscoveredServers", 2);
        client.flush().unwrap();
        assert_eq!(client.discovered_servers().len(), 10_000);
        let length = urls.join(",").len() + start.len();
        figure(7, &format!("an INFO of {length} bytes was taken in"));
        client.finish();
        assert_eq!(client.count("Disconnected"), 0);
    });
}

#[test]
fn old_crate_fault_08_subjects_and_sizes_are_checked_before_anything_is_sent() {
    let info = "INFO {\"server_id\":\"A\",\"max_payload\":1000}\r\n";
    let script = vec![Step::send(info), Step::AnswerPings(Gate::new())];
    let server = ScriptedServer::once(script);
    let client = Client::connect(&server.url());
    for subject in ["a b", "a\tb", "a\r\nb", ""] {
        let error = client.publish(subject, "x").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSubject, "{subject:?}: {error}");
    }
    let error = client.publish("a", [b'x'; 2_000]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::MaxPayload, "{error}");
    client.flush().unwrap();
    let lines = server.connection(0, LONG).lines();
    assert!(!lines.iter().any(|line| line.starts_with("PUB")), "{lines:?}");
    figure(8, "InvalidSubject and MaxPayload; nothing was sent");
    client.finish();
}

#[test]
fn old_crate_fault_09_connecting_has_a_timeout_that_trickling_does_not_extend() {
    within("connect", || {
        let limit = 2 * SHORT;
        let trickle = Step::SendSlowly { bytes: vec![b'I'; 10_000], every: SHORT / 10 };
        for script in [vec![Step::Silence], vec![Step::DefaultInfo, Step::Silence], vec![trickle]] {
            let server = ScriptedServer::always(script);
            let started = Instant::now();
            let error = quick(&server.url()).connect_timeout(limit).connect().unwrap_err();
            let took = started.elapsed();
            let cause = error.attempts()[0].cause().kind();
            // A line that begins otherwise than INFO may be refused before its end.
            assert!(matches!(cause, ErrorKind::Timeout | ErrorKind::Protocol), "{error}");
            figure(9, &format!("{cause:?} after {took:.0?} of {limit:?}"));
            assert!(took < LONG, "{took:?}");
        }
    });
}

#[test]
fn old_crate_fault_10_a_refusal_while_connecting_is_told_as_what_it_is() {
    let refusal = Step::send("-ERR 'Authorization Violation'\r\n");
    let server = ScriptedServer::once(vec![Step::DefaultInfo, Step::expect("PING"), refusal]);
    let error = quick(&server.url()).connect().unwrap_err();
    assert!(error.is_authorization(), "{error:?}");
    let said = error.server_error().expect("what the server said");
    assert_eq!(said.kind(), &ServerErrorKind::AuthorizationViolation);
    figure(10, &format!("{error}"));
}

#[test]
fn old_crate_fault_11_a_flush_across_a_reconnect_is_no_success() {
    within("flush", || {
        let mut first = Step::handshake();
        first.extend([Step::expect("PUB a"), Step::expect("PING"), Step::Close]);
        let second = [Step::handshake(), vec![Step::AnswerPings(Gate::new())]].concat();
        let server = ScriptedServer::start(vec![first, second], Afterwards::Refuse);
        let client = Client::connect(&server.url());
        client.publish("a", "lost with the server").unwrap();
        let error = client.flush_timeout(LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        client.event("Resubscribed", 1);
        client.flush().unwrap();
        let received = server.connection(1, LONG).received();
        assert_eq!(occurrences(&received, "PUB a"), 0, "it was lost, as the flush said");
        figure(11, "Disconnected; the message had been lost");
        client.finish();
    });
}

#[test]
fn old_crate_fault_12_a_subscription_may_end_after_a_number_of_messages() {
    let all = ["1", "2", "3", "4", "5"].map(message).concat();
    let script =
        after_login([Step::expect("UNSUB 1 3"), Step::Send(all), Step::AnswerPings(Gate::new())]);
    let server = ScriptedServer::once(script);
    let client = Client::connect(&server.url());
    let subscription = client.subscribe("work").unwrap();
    subscription.unsubscribe_after(3).unwrap();
    assert_eq!(texts(&subscription, 3), ["1", "2", "3"]);
    assert!(subscription.next_timeout(LONG).unwrap_err().is_closed());
    figure(12, "UNSUB with a number; 3 of 5 messages came out");
    client.finish();
}

#[test]
fn old_crate_fault_13_dropped_messages_with_headers_count_and_are_told_once() {
    let thread_of_notice: Arc<Mutex<Option<String>>> = Arc::default();
    let wrote = thread_of_notice.clone();
    let scene = Scene::with(|options| {
        options.on_error(move |_, _| {
            *wrote.lock().unwrap() = thread::current().name().map(str::to_owned);
        })
    });
    let subscription = scene.connection.subscribe("a").unwrap();
    subscription.set_pending_limits(PendingLimits::new(5, 0));
    let mut headers = Headers::default();
    headers.insert("A", "b").unwrap();
    for _ in 0..50 {
        scene.connection.publish_with_headers("a", &headers, "ok").unwrap();
    }
    scene.connection.flush().unwrap();
    assert_eq!(subscription.dropped(), 45);
    let slow = |happening: &Happening| matches!(happening, Happening::SlowConsumer { .. });
    scene.recorder.wait_for(LONG, slow).unwrap();
    scene.end();
    assert_eq!(scene.recorder.count(slow), 1);
    let name = thread_of_notice.lock().unwrap().clone().unwrap_or_default();
    assert!(name.ends_with("-callback"), "{name}");
    figure(13, "of 50 messages with headers 45 counted as dropped, 1 notice, callback thread");
}

#[test]
fn old_crate_fault_14_a_reconnect_restores_the_subjects_of_now() {
    within("resubscribed", || {
        let leave = Gate::new();
        let mut first = Step::handshake();
        first.extend([Step::AnswerPingsMeanwhile, Step::Wait(leave.clone()), Step::Close]);
        let second = [Step::handshake(), vec![Step::AnswerPings(Gate::new())]].concat();
        let server = ScriptedServer::start(vec![first, second], Afterwards::Refuse);
        let client = Client::connect(&server.url());
        client.subscribe("old").unwrap().unsubscribe();
        let _new = client.subscribe("new").unwrap();
        client.flush().unwrap();
        leave.open();
        client.event("Resubscribed", 1);
        client.flush().unwrap();
        let lines = server.connection(1, LONG).lines();
        let subscribed: Vec<_> = lines.iter().filter(|line| line.starts_with("SUB")).collect();
        assert_eq!(subscribed, ["SUB new 2"]);
        figure(14, "the next connection got the new subject alone");
        client.finish();
    });
}

#[test]
fn old_crate_fault_15_nothing_spaces_writes_out() {
    within("latency", || {
        let scene = Scene::new();
        let dispatcher = scene
            .connection
            .dispatcher(|connection, message| connection.respond(&message, "ok").unwrap())
            .unwrap();
        dispatcher.subscribe("ask").unwrap();
        let mut times: Vec<Duration> = (0..200)
            .map(|_| {
                let started = Instant::now();
                scene.connection.request("ask", "", LONG).unwrap();
                started.elapsed()
            })
            .collect();
        times.sort();
        figure(15, &format!("200 requests: fastest {:.0?}, median {:.0?}", times[0], times[100]));
        // Two flushes 5 ms apart in each round trip would leave none below; a busy machine some.
        let quick = times.iter().filter(|time| **time < Duration::from_millis(5)).count();
        assert!(quick > 10, "{quick} of 200 below 5 ms");
    });
}

#[test]
fn old_crate_fault_16_a_slow_callback_holds_up_neither_pongs_nor_messages() {
    within("slow callback", || {
        let go_on = Gate::new();
        let held = go_on.clone();
        let script = after_login([
            Step::send("-ERR 'odd'\r\n"),
            Step::send("PING\r\n"),
            Step::Send(message("1")),
            Step::expect("PONG"),
            Step::Send(message("2")),
            Step::AnswerPings(Gate::new()),
        ]);
        let server = ScriptedServer::once(script);
        let client = Client::with(&server.url(), |options| {
            options.on_error(move |_, _| assert!(held.wait(MINUTE)))
        });
        let started = Instant::now();
        let subscription = client.subscribe("work").unwrap();
        assert_eq!(texts(&subscription, 2), ["1", "2"]);
        figure(16, &format!("PONG and messages after {:.1?}, callback held", started.elapsed()));
        assert_eq!(client.recorder.count(is_server_error), 0, "the callback still blocks");
        go_on.open();
        client.finish();
    });
}

#[test]
fn old_crate_fault_17_messages_for_subscriptions_just_dropped_end_nothing() {
    within("dropped", || {
        let scene = Scene::new();
        let publisher = Client::connect(&scene.server.url());
        let stop = Gate::new();
        let flood = {
            let (connection, stop) = (publisher.connection.clone(), stop.clone());
            aside(move || {
                while !stop.is_open() {
                    for _ in 0..100 {
                        connection.publish("flood", "x").unwrap();
                    }
                    connection.flush_timeout(LONG).unwrap();
                }
            })
        };
        for _ in 0..500 {
            let subscription = scene.connection.subscribe("flood").unwrap();
            subscription.next_timeout(LONG).unwrap();
        }
        stop.open();
        flood.join().unwrap();
        scene.connection.flush().unwrap();
        assert_eq!(scene.end(), ["Connected", "Closed"]);
        assert_eq!(scene.connection.statistics().panics(), 0);
        figure(17, "500 subscriptions dropped under a flood: no loss, no panic");
        publisher.finish();
    });
}

#[test]
fn old_crate_fault_18_what_did_not_fit_leaves_room_for_what_does() {
    within("buffer", || {
        let scene = Scene::with(|o| o.reconnect_buffer(ReconnectBuffer::Bytes(1_000)));
        let subscription = scene.connection.subscribe("work").unwrap();
        scene.server.refuse_connections(true).unwrap();
        scene.server.drop_clients();
        scene.event("Disconnected", 1);
        scene.connection.publish("work", "small").unwrap();
        let error = scene.connection.publish("work", [b'x'; 5_000]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReconnectBufferFull);
        scene.connection.publish("work", "small again").unwrap();
        scene.server.refuse_connections(false).unwrap();
        assert_eq!(texts(&subscription, 2), ["small", "small again"]);
        figure(18, "one too large fails, the next small one is kept");
    });
}

/// Set in the process that runs the body of the test below.
const MARK: &str = "IN_A_PROCESS_THAT_IS_LISTENED_TO";

#[test]
fn old_crate_fault_19_the_library_prints_nothing() {
    const NAME: &str = "faults::old_crate::old_crate_fault_19_the_library_prints_nothing";
    if std::env::var_os(MARK).is_some() {
        // No listener is set: what nobody hears must not go to the terminal instead.
        let server = Server::start().unwrap();
        let connection = quick(&server.url()).connect().unwrap();
        let events = connection.events();
        server.send_error("odd");
        server.send_error_and_close("odd, too");
        let is_back = |notice: Notice| {
            matches!(&notice, Notice::Event(event)
            if matches!(event.kind(), Kind::Resubscribed { .. }))
        };
        assert!(std::iter::from_fn(|| events.next_timeout(LONG)).any(is_back));
        return connection.close();
    }
    within("prints nothing", || {
        let output = Command::new(std::env::current_exe().unwrap())
            .args([NAME, "--exact", "--nocapture", "--test-threads", "1"])
            .env(MARK, "")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{said}");
        assert_eq!(said, "", "on the standard error");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(stdout.contains("1 passed") && !stdout.contains("odd"), "{stdout}");
        figure(19, "an -ERR that nobody listens to prints nothing");
    });
}

#[test]
fn old_crate_fault_20_a_message_keeps_no_connection_open() {
    within("message", || {
        let gate = Gate::new();
        let script = after_login([Step::Send(message("kept")), Step::Wait(gate.clone())]);
        let server = ScriptedServer::once(script);
        let connection = quick(&server.url()).connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        let kept = subscription.next_timeout(LONG).unwrap();
        drop(subscription);
        let started = Instant::now();
        let dropping = aside(move || drop(connection));
        server.connection(0, LONG).wait_peer_closed(LONG);
        let took = started.elapsed();
        figure(20, &format!("with a message kept the server saw the end after {took:.1?}"));
        dropping.join().unwrap();
        gate.open();
        assert_eq!(kept.payload(), b"kept");
    });
}

#[test]
fn old_crate_fault_21_dropping_a_clone_closes_nothing() {
    let scene = Scene::new();
    for _ in 0..100 {
        drop(scene.connection.clone());
    }
    scene.connection.flush().unwrap();
    assert_eq!(scene.end(), ["Connected", "Closed"]);
    figure(21, "100 clones dropped, the connection goes on");
}

#[test]
fn old_crate_fault_24_close_needs_no_word_of_the_server() {
    within("close", || {
        let gate = Gate::new();
        let server = ScriptedServer::once(login_and_silence(&gate));
        let client = Client::connect(&server.url());
        let subscription = client.subscribe("quiet").unwrap();
        let waiting = aside(move || subscription.next());
        let started = Instant::now();
        client.close();
        figure(24, &format!("close, server silent, a reader waiting: {:.1?}", started.elapsed()));
        assert_eq!(waiting.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        client.finish();
        server.connection(0, LONG).wait_peer_closed(LONG);
        gate.open();
    });
}
