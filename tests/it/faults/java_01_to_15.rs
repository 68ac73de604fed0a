//! The faults of the Java client, 1 to 15; each test provokes what that client did.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{
    ConnectionEventKind as Kind, ErrorKind, OutboxPolicy, ReconnectBuffer, RetryConnect,
    ServerErrorKind,
};

use super::stage::{
    Client, LONG, MINUTE, SHORT, Scene, aside, event, is_exception, names, occurrences, quick,
    recorded, within,
};
use crate::hostile::{after_login, message, texts};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::wait::{Gate, poll};

#[test]
fn java_fault_01_concurrent_flushes_do_not_end_the_connection() {
    within("flushes", || {
        let answer = Gate::new();
        let mut script = Step::handshake();
        script.extend([Step::Wait(answer.clone()), Step::AnswerPings(Gate::new())]);
        let server = ScriptedServer::once(script);
        // One keep-alive ping may be without an answer; fifty flushes are no keep-alive.
        let client = Client::with(&server.url(), |options| options.max_pings_out(1));
        let flushes: Vec<_> = (0..50)
            .map(|_| {
                let connection = client.connection.clone();
                aside(move || connection.flush_timeout(LONG))
            })
            .collect();
        let seen = server.connection(0, LONG);
        seen.wait_received(|bytes| occurrences(bytes, "PING\r\n") == 51, LONG);
        answer.open();
        for flush in flushes {
            flush.join().unwrap().unwrap();
        }
        assert_eq!(client.count("Disconnected"), 0);
        client.finish();
    });
}

#[test]
fn java_fault_02_what_cannot_be_read_is_a_loss_at_once_and_one_message_never() {
    within("unreadable", || {
        let odd = b"HMSG work 1 27 29\r\nNATS/1.0\r\nName: gr\xfc\xc3\xbcn\xff\r\n\r\nok\r\n";
        let bad_info = after_login([
            Step::Send(odd.to_vec()),
            Step::Send(message("after it")),
            Step::send("INFO {\"server_id\":\r\n"),
            Step::Silence,
        ]);
        // More bytes of headers than bytes in all.
        let bad_lengths = after_login([Step::send("HMSG work 1 20 10\r\n"), Step::Silence]);
        let end = after_login([Step::Send(message("the end")), Step::AnswerPings(Gate::new())]);
        let server = ScriptedServer::start(vec![bad_info, bad_lengths, end], Afterwards::Refuse);
        let client = Client::connect(&server.url());
        let subscription = client.subscribe("work").unwrap();
        // The pings come every two minutes: without them nothing but the reader notices.
        assert_eq!(texts(&subscription, 3), ["ok", "after it", "the end"]);
        for loss in 1..=2 {
            let Kind::Disconnected { cause } = client.event("Disconnected", loss) else { panic!() };
            assert_eq!(cause.kind(), ErrorKind::Protocol, "{cause}");
        }
        client.finish();
        assert_eq!(client.count("Disconnected"), 2);
    });
}

#[test]
fn java_fault_03_without_jitter_it_goes_on_reconnecting() {
    let zero = Duration::ZERO;
    let scene = Scene::with(|options| options.reconnect_wait(zero).reconnect_jitter(zero));
    scene.server.refuse_connections(true).unwrap();
    scene.server.drop_clients();
    scene.event("ReconnectFailed", 20);
    scene.server.refuse_connections(false).unwrap();
    scene.event("Resubscribed", 1);
    scene.connection.flush().unwrap();
}

#[test]
fn java_fault_04_one_loss_counts_once_however_many_notice_it() {
    within("one loss", || {
        // One failed attempt would be the end: a second report of a loss must not count as one.
        let scene = Scene::with(|options| options.max_reconnects(1));
        let stop = Arc::new(AtomicBool::new(false));
        let busy: Vec<_> = (0..4)
            .map(|_| {
                let (connection, stop) = (scene.connection.clone(), stop.clone());
                aside(move || {
                    while !stop.load(Ordering::Relaxed) {
                        // Reader, writer and flushes all meet the loss; some of these calls fail.
                        let _ = connection.publish("busy", vec![b'x'; 1_000]);
                        let _ = connection.flush_timeout(LONG);
                    }
                })
            })
            .collect();
        for loss in 1..=20 {
            scene.server.drop_clients();
            scene.event("Resubscribed", loss);
        }
        stop.store(true, Ordering::Relaxed);
        busy.into_iter().for_each(|thread| thread.join().unwrap());
        assert_eq!(scene.connection.statistics().disconnects(), 20);
        let names = scene.end();
        assert_eq!(names.iter().filter(|name| **name == "Disconnected").count(), 20);
        assert!(!names.contains(&"ReconnectFailed"), "{names:?}");
    });
}

#[test]
fn java_fault_05_close_in_a_callback_returns_at_once_and_closed_is_delivered() {
    within("close in a callback", || {
        let (tell, told) = mpsc::channel();
        let listener = Scene::with(|options| {
            options.close_timeout(MINUTE).on_lame_duck(move |connection, _| {
                let started = Instant::now();
                connection.close();
                tell.send(started.elapsed()).unwrap();
            })
        });
        listener.server.lame_duck();
        // A close that joined its own thread would last the whole minute.
        let took = told.recv_timeout(LONG).expect("close returned");
        listener.event("Closed", 1);
        assert_eq!(listener.end(), ["Connected", "LameDuck", "Closed"]);
        println!("close in a listener took {took:?}");

        let (tell, told) = mpsc::channel();
        let handler = Scene::with(|options| options.close_timeout(MINUTE));
        let dispatcher = handler
            .connection
            .dispatcher(move |connection, _| {
                connection.close();
                tell.send(()).unwrap();
            })
            .unwrap();
        dispatcher.subscribe("end").unwrap();
        handler.connection.publish("end", "").unwrap();
        told.recv_timeout(LONG).expect("close returned");
        handler.event("Closed", 1);
        assert_eq!(handler.end(), ["Connected", "Closed"]);
    });
}

#[test]
fn java_fault_06_what_is_left_of_an_auto_unsubscribe_is_announced_after_a_reconnect() {
    within("auto-unsubscribe", || {
        let leave = Gate::new();
        let two = [message("1"), message("2")].concat();
        let five = ["3", "4", "5", "6", "7"].map(message).concat();
        let first = after_login([
            Step::expect("UNSUB 1 5"),
            Step::Send(two),
            Step::Wait(leave.clone()),
            Step::Close,
        ]);
        let second = after_login([
            Step::expect("UNSUB 1 3"),
            Step::Send(five),
            Step::AnswerPings(Gate::new()),
        ]);
        let server = ScriptedServer::start(vec![first, second], Afterwards::Refuse);
        let client = Client::connect(&server.url());
        let subscription = client.subscribe("work").unwrap();
        subscription.unsubscribe_after(5).unwrap();
        assert_eq!(texts(&subscription, 2), ["1", "2"]);
        leave.open();
        assert_eq!(texts(&subscription, 3), ["3", "4", "5"]);
        assert!(subscription.next_timeout(LONG).unwrap_err().is_closed(), "five in all");
        client.finish();
    });
}

#[test]
fn java_fault_07_a_flush_without_its_pong_never_succeeds() {
    within("flush", || {
        let mut script = Step::handshake();
        script.extend([Step::expect("PUB"), Step::expect("PING"), Step::Close]);
        let server = ScriptedServer::once(script);
        let client = Client::connect(&server.url());
        client.publish("a", "").unwrap();
        let error = client.flush_timeout(LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        client.event("ReconnectFailed", 1);
        let error = client.flush_timeout(SHORT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
        assert_eq!(client.statistics().flushes(), 0);
        client.finish();
    });
}

#[test]
fn java_fault_08_close_writes_what_is_queued_or_counts_it() {
    within("close", || {
        let server = NatsServer::start_plain();
        let (reader, writer) = (Client::connect(&server.url()), Client::connect(&server.url()));
        let subscription = reader.subscribe("last").unwrap();
        reader.flush().unwrap();
        for number in 0..5_000 {
            writer.publish("last", number.to_string()).unwrap();
        }
        writer.finish();
        assert_eq!(writer.statistics().discarded(), 0);
        let all: Vec<String> = (0..5_000).map(|number| number.to_string()).collect();
        assert_eq!(texts(&subscription, 5_000), all);
        reader.finish();

        let mut script = Step::handshake();
        script.push(Step::StopReading(Gate::new()));
        let deaf = ScriptedServer::once(script);
        let writer = Client::with(&deaf.url(), |options| options.close_timeout(2 * SHORT));
        deaf.connection(0, LONG).wait_reading_stopped(LONG);
        for _ in 0..100 {
            writer.publish("last", vec![b'x'; 64 * 1024]).unwrap();
        }
        writer.finish();
        let discarded = writer.statistics().discarded();
        println!("of 100 messages to a server that does not read, {discarded} were given up");
        assert!(discarded > 0 && discarded <= 100, "{discarded}");
    });
}

#[test]
fn java_fault_09_only_bytes_limit_what_waits_during_an_outage_and_no_publisher_blocks() {
    within("outage", || {
        let scene = Scene::with(|options| {
            options
                .reconnect_buffer(ReconnectBuffer::Bytes(2 << 20))
                .outbox_policy(OutboxPolicy::Block(MINUTE))
        });
        let subscription = scene.connection.subscribe("work").unwrap();
        scene.server.refuse_connections(true).unwrap();
        scene.server.drop_clients();
        scene.event("Disconnected", 1);
        let started = Instant::now();
        for number in 0..20_000 {
            scene.connection.publish("work", number.to_string()).unwrap();
        }
        println!("20000 messages published while down in {:?}", started.elapsed());
        let large = vec![b'x'; 900_000];
        let full = (0..3).find_map(|_| scene.connection.publish("large", &large).err());
        assert_eq!(full.expect("a full buffer").kind(), ErrorKind::ReconnectBufferFull);
        assert!(started.elapsed() < MINUTE);
        scene.server.refuse_connections(false).unwrap();
        let all: Vec<String> = (0..20_000).map(|number| number.to_string()).collect();
        assert_eq!(texts(&subscription, 20_000), all);
    });
}

#[test]
fn java_fault_10_a_loss_during_a_drain_is_told_and_ends_it() {
    for _ in 0..30 {
        let scene = Scene::new();
        scene.server.go_silent(true);
        let drain = scene.connection.start_drain(LONG).unwrap();
        scene.server.drop_clients();
        let error = drain.wait(LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error:?}");
        assert_eq!(scene.end(), ["Connected", "Draining", "Disconnected", "Closed"]);
        assert!(matches!(scene.event("Closed", 1), Kind::Closed { cause: Some(_) }));
    }
}

#[test]
fn java_fault_11_a_drain_that_runs_out_of_time_says_so() {
    within("drain", || {
        let scene = Scene::new();
        let go_on = Gate::new();
        let (at, wait) = (Gate::new(), go_on.clone());
        let inside = at.clone();
        let dispatcher = scene
            .connection
            .dispatcher(move |_, _| {
                inside.open();
                assert!(wait.wait(LONG));
            })
            .unwrap();
        dispatcher.subscribe("busy").unwrap();
        let subscription = scene.connection.subscribe("quiet").unwrap();
        scene.connection.publish("busy", "").unwrap();
        assert!(at.wait(LONG));
        assert_eq!(dispatcher.drain(SHORT).unwrap_err().kind(), ErrorKind::Timeout);
        go_on.open();
        scene.connection.flush().unwrap();
        scene.server.go_silent(true);
        assert_eq!(subscription.drain(SHORT).unwrap_err().kind(), ErrorKind::Timeout);
    });
}

#[test]
fn java_fault_03_a_delay_callback_that_panics_does_not_stop_reconnecting() {
    within("panicking delay", || {
        let scene = Scene::new();
        let client = Client::with(&scene.server.url(), |options| {
            options.reconnect_delay(|_| panic!("a delay callback of the test"))
        });
        scene.server.stop();
        client.event("ReconnectFailed", 3);
        scene.server.restart().unwrap();
        client.event("Resubscribed", 1);
        assert!(client.statistics().panics() > 0);
        client.finish();
    });
}

#[test]
fn java_fault_13_a_late_first_connect_gives_connected_and_nothing_else() {
    within("late connect", || {
        let scene = Scene::new();
        scene.server.stop();
        let client = Client::with(&scene.server.url(), |options| {
            options.retry_on_failed_connect(RetryConnect::InBackground)
        });
        client.event("ReconnectFailed", 2);
        scene.server.restart().unwrap();
        client.event("Connected", 1);
        client.finish();
        assert_eq!(client.count("Reconnected") + client.count("Resubscribed"), 0);
    });
}

#[test]
fn java_fault_12_a_failed_attempt_is_no_loss_and_names_its_own_server() {
    let scene = Scene::new();
    let (lost, refusing) = (scene.server.url(), Server::start().unwrap());
    refusing.refuse_connections(true).unwrap();
    let client = Client::with(&lost, |options| options.server(refusing.url()).no_randomize());
    scene.server.refuse_connections(true).unwrap();
    scene.server.drop_clients();
    client.event("ReconnectFailed", 6);
    client.finish();
    let told = client.recorder.events();
    let mut attempts = 0;
    for event in &told {
        match event.kind() {
            Kind::Disconnected { .. } => assert_eq!(event.server(), Some(lost.as_str())),
            Kind::ReconnectFailed { attempt, cause } => {
                attempts += 1;
                assert_eq!(*attempt, attempts);
                if *attempt <= 6 {
                    assert_eq!(cause.kind(), ErrorKind::Io, "{cause}");
                }
                let server = if attempt % 2 == 1 { refusing.url() } else { lost.clone() };
                assert_eq!(event.server(), Some(server.as_str()), "the other server comes first");
            }
            _ => {}
        }
    }
    assert_eq!(client.count("Disconnected"), 1);
    assert!(attempts >= 6);
}

#[test]
fn java_fault_14_a_refusal_costs_no_connect_timeout_and_keeps_its_words() {
    within("refusal", || {
        let server = NatsServer::start(&Config::new().max_connections(1));
        let connect = || quick(&server.url()).connect_timeout(MINUTE).connect();
        // The look whether the server is ready may still count as a connection.
        let first = poll(LONG, || connect().ok()).unwrap();
        let started = Instant::now();
        let error = connect().unwrap_err();
        let said = error.server_error().map(|said| said.kind().clone());
        assert_eq!(said, Some(ServerErrorKind::MaximumConnections), "{error}");
        assert_eq!(error.attempts().len(), 1);
        println!("a full server was told after {:?}", started.elapsed());
        assert!(started.elapsed() < LONG);
        first.flush().unwrap();
        first.close();
        poll(LONG, || connect().ok()).expect("there is room again").close();

        let server = NatsServer::start(&Config::new().user("anna", "right"));
        let recorder = Recorder::new();
        let options = quick(&server.url()).connect_timeout(MINUTE).user_and_password("anna", "x");
        let started = Instant::now();
        let error = recorded(options, &recorder).connect().unwrap_err();
        assert!(error.is_authorization() && started.elapsed() < LONG, "{error}");
        event(&recorder, "Closed", 1);
        assert_eq!(names(&recorder), ["Closed"]);
        assert_eq!(recorder.count(is_exception), 1);
    });
}

/// The early `-ERR` may come glued to INFO, or in pieces.
#[test]
fn java_fault_14_an_error_glued_to_info_is_not_lost() {
    within("glued", || {
        let info = "INFO {\"server_id\":\"A\",\"max_payload\":1000}\r\n";
        let glued = format!("{info}-ERR 'maximum connections exceeded'\r\n").into_bytes();
        let pieces = Duration::from_millis(1);
        for step in [Step::Send(glued.clone()), Step::SendSlowly { bytes: glued, every: pieces }] {
            let server = ScriptedServer::once(vec![step, Step::Silence]);
            let started = Instant::now();
            let error = quick(&server.url()).connect_timeout(MINUTE).connect().unwrap_err();
            let said = error.server_error().map(|said| said.kind().clone());
            assert_eq!(said, Some(ServerErrorKind::MaximumConnections), "{error}");
            assert!(started.elapsed() < LONG);
        }
    });
}
