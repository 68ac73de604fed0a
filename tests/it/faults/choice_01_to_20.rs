//! Where the clients of NATS disagree, questions 1 to 20: that ours does what was chosen.

use std::sync::mpsc;
use std::time::Instant;

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{
    ConnectionEventKind as Kind, ConnectionStatus, Consumer, ErrorKind, Headers, OptionsBuilder,
    PendingLimits, ReconnectBuffer, ServerErrorKind,
};

use super::stage::{
    Client, LONG, MINUTE, SHORT, Scene, aside, counted, event, is_exception, is_server_error,
    names, quick, recorded, within,
};
use crate::hostile::{after_login, texts};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::ports;
use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::wait::Gate;

#[test]
fn choice_01_the_first_attempt_after_a_loss_does_not_wait() {
    let scene = Scene::with(|options| options.reconnect_wait(MINUTE).reconnect_jitter(MINUTE));
    for loss in 1..=3 {
        scene.server.drop_clients();
        scene.event("Resubscribed", loss);
    }
    assert!(!scene.end().contains(&"ReconnectFailed"));
}

#[test]
fn choice_02_each_server_gets_exactly_its_number_of_attempts() {
    for most in [1_u32, 2, 5] {
        let other = Server::start().unwrap();
        other.refuse_connections(true).unwrap();
        let scene = Scene::with(|options| options.max_reconnects(most).server(other.url()));
        scene.server.stop();
        let Kind::Closed { cause: Some(cause) } = scene.event("Closed", 1) else { panic!() };
        assert_eq!((cause.kind(), cause.attempts().len()), (ErrorKind::Connect, 2), "{cause:?}");
        let names = scene.end();
        let attempts = names.iter().filter(|name| **name == "Reconnecting").count();
        assert_eq!(attempts, 2 * most as usize, "{names:?}");
        assert!(scene.connection.wait_closed(LONG).unwrap().is_some());
    }
    let never: [fn(OptionsBuilder) -> OptionsBuilder; 2] =
        [|options| options.no_reconnect(), |options| options.max_reconnects(0)];
    for never in never {
        let scene = Scene::with(never);
        scene.server.drop_clients();
        let Kind::Closed { cause: Some(_) } = scene.event("Closed", 1) else { panic!() };
        assert_eq!(scene.end(), ["Connected", "Disconnected", "Closed"]);
    }
}

#[test]
fn choice_03_a_loss_names_its_cause_and_the_server_that_was_lost() {
    let (lost, next) = (Server::start().unwrap(), Server::start().unwrap());
    let (hold, entered) = (Gate::new(), Gate::new());
    let (tell, told) = mpsc::channel();
    let (held, inside) = (hold.clone(), entered.clone());
    let client = Client::with(&lost.url(), |options| {
        options
            .server(next.url())
            .no_randomize()
            .on_lame_duck(move |_, _| {
                inside.open();
                assert!(held.wait(LONG));
            })
            .on_disconnected(move |connection, event| {
                tell.send((connection.connected_url(), event.clone())).unwrap();
            })
    });
    // The listener is told when the connection has long been on the other server.
    lost.lame_duck();
    assert!(entered.wait(LONG));
    lost.send_error_and_close("Stale Connection");
    assert!(next.wait_for_clients(1, LONG));
    client.flush().unwrap();
    hold.open();
    let (now, event) = told.recv_timeout(LONG).unwrap();
    assert_eq!((now, event.server()), (Some(next.url()), Some(&*lost.url())));
    let Kind::Disconnected { cause } = event.kind() else { panic!("{event}") };
    assert_eq!(cause.server_error().unwrap().kind(), &ServerErrorKind::StaleConnection);
    client.finish();
}

#[test]
fn choice_04_one_disconnected_for_a_loss_and_none_for_failed_attempts() {
    let scene = Scene::with(|options| options.max_reconnects(3));
    scene.server.stop();
    scene.event("Closed", 1);
    let attempt = ["Reconnecting", "ReconnectFailed"];
    let expected = [&["Connected", "Disconnected"], &attempt, &attempt, &attempt, &["Closed"][..]];
    assert_eq!(scene.end(), expected.concat());

    let recorder = Recorder::new();
    recorded(quick(&scene.server.url()), &recorder).connect().unwrap_err();
    event(&recorder, "Closed", 1);
    assert_eq!(names(&recorder), ["Closed"]);
    assert_eq!(recorder.count(is_exception), 1);
}

#[test]
fn choice_05_the_programs_own_close_is_closed_alone() {
    let scene = Scene::new();
    assert_eq!(scene.end(), ["Connected", "Closed"]);
    assert!(matches!(scene.event("Closed", 1), Kind::Closed { cause: None }));
    assert_eq!(scene.recorder.count(is_exception), 0);
    assert!(scene.connection.wait_closed(LONG).unwrap().is_none());
    assert!(scene.connection.last_error().is_none());
}

#[test]
fn choice_05_an_own_close_gives_disconnected_first_where_that_is_asked_for() {
    let scene = Scene::with(OptionsBuilder::disconnected_on_close);
    assert_eq!(scene.end(), ["Connected", "Disconnected", "Closed"]);
    assert!(matches!(scene.event("Closed", 1), Kind::Closed { cause: None }));
}

#[test]
fn choice_06_nothing_comes_between_reconnected_and_resubscribed() {
    within("resubscribed", || {
        let news = "INFO {\"server_id\":\"B\",\"max_payload\":1000,\"ldm\":true,\
                    \"connect_urls\":[\"127.0.0.1:1\"]}\r\n";
        let first = after_login([Step::Close]);
        let second =
            vec![Step::send(news), Step::ExpectConnectAndPing, Step::AnswerPings(Gate::new())];
        let server = ScriptedServer::start(vec![first, second], Afterwards::Refuse);
        let client = Client::with(&server.url(), |options| {
            options.on_reconnected(|connection, _| connection.publish("from.it", "").unwrap())
        });
        let _subscription = client.subscribe("work").unwrap();
        client.event("LameDuck", 1);
        let seen = server.connection(1, LONG);
        seen.wait_line("PUB from.it", LONG);
        let lines = seen.lines();
        let place = |start: &str| lines.iter().position(|line| line.starts_with(start)).unwrap();
        assert!(place("SUB work 1") < place("PUB from.it"), "{lines:?}");
        client.finish();
        assert_eq!(
            names(&client.recorder)[3..],
            ["Reconnected", "Resubscribed", "DiscoveredServers", "LameDuck", "Closed"]
        );
    });
}

#[test]
fn choice_07_every_failed_attempt_is_told_with_its_server_number_and_cause() {
    within("failures", || {
        let scene = Scene::new();
        let garbage = ScriptedServer::always(vec![Step::send("HTTP/1.1 400 Bad\r\n\r\n")]);
        let leaving = ScriptedServer::always(vec![Step::DefaultInfo]);
        let silent = ScriptedServer::always(vec![Step::Silence]);
        let refusal = Step::send("-ERR 'Authorization Violation'\r\n");
        let denying = ScriptedServer::always(vec![Step::DefaultInfo, refusal]);
        let servers = [
            format!("nats://{}", ports::listen().local_addr().unwrap()),
            "nats://nowhere.invalid:4222".to_owned(),
            garbage.url(),
            leaving.url(),
            silent.url(),
            denying.url(),
        ];
        let client = Client::with(&scene.server.url(), |options| {
            options.servers(&servers).no_randomize().connect_timeout(5 * SHORT)
        });
        scene.server.stop();
        client.event("ReconnectFailed", servers.len());
        client.finish();
        let mut before = String::new();
        let mut causes = Vec::new();
        for record in client.recorder.records() {
            match record.happening() {
                Happening::Exception(error) => before = error.to_string(),
                Happening::Event(event) => {
                    let Kind::ReconnectFailed { attempt, cause } = event.kind() else { continue };
                    if causes.len() < servers.len() {
                        let server = &*servers[causes.len()];
                        assert_eq!(event.server(), Some(server));
                        assert_eq!(before, format!("{server}: {cause}"), "told as an exception");
                        causes.push(cause.kind());
                        assert_eq!(*attempt as usize, causes.len());
                    }
                }
                _ => {}
            }
        }
        // A resolver that does not answer is a time-out.
        assert!(matches!(causes.remove(1), ErrorKind::Dns | ErrorKind::Timeout));
        use ErrorKind::{Authorization, Io, Protocol};
        assert_eq!(causes, [Io, Protocol, Io, ErrorKind::Timeout, Authorization]);
    });
}

#[test]
fn choice_08_an_unknown_error_is_a_loss_and_not_the_end() {
    let scene = Scene::new();
    for count in 1..=3 {
        scene.server.send_error_and_close("nobody ever said this");
        scene.event("Resubscribed", count);
    }
    scene.connection.flush().unwrap();
    assert_eq!(counted(&scene.recorder, "Disconnected"), 3);
}

#[test]
fn choice_09_the_words_of_the_server_always_reach_the_error_listener() {
    let scene = Scene::new();
    let said = ["nobody ever said this", "Permissions Violation for Publish to \"a\"", "x y z"];
    for text in said {
        scene.server.send_error(text);
    }
    scene.server.send_error_and_close("and now the end");
    scene.recorder.wait_for_count(LONG, 4, is_server_error).unwrap();
    scene.event("Resubscribed", 1);
    let mut told = Vec::new();
    for record in scene.recorder.records() {
        if let Happening::ServerError(error) = record.happening() {
            told.push(error.text().to_owned());
        }
    }
    assert_eq!(told, [&said[..], &["and now the end"]].concat());
}

fn guest(permissions: &str) -> (NatsServer, Client) {
    let config = Config::new().user_with_permissions("guest", "guest", permissions);
    let server = NatsServer::start(&config);
    let as_guest = |o: OptionsBuilder| o.user_and_password("guest", "guest");
    let client = Client::with(&server.url(), as_guest);
    (server, client)
}

#[test]
fn choice_10_a_refused_subscription_says_so_once_stays_and_heals() {
    within("subscription", || {
        let (mut server, client) = guest("subscribe: { deny: \"secret.>\" }");
        let secret = client.subscribe("secret.plan").unwrap();
        let public = client.subscribe("public").unwrap();
        let error = secret.next_timeout(LONG).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionsViolation, "{error}");
        assert!(error.server_error().is_some());
        assert!(secret.try_next().unwrap().is_none(), "once");
        client.recorder.wait_for(LONG, is_server_error).unwrap();
        assert_eq!(client.subscription_count(), 2);
        client.publish("public", "1").unwrap();
        assert_eq!(texts(&public, 1), ["1"]);
        assert_eq!(client.count("Disconnected"), 0);

        server.restart_with(&Config::new().user("guest", "guest"));
        client.event("Resubscribed", 1);
        client.publish("secret.plan", "now readable").unwrap();
        assert_eq!(texts(&secret, 1), ["now readable"]);
        client.finish();
    });
}

#[test]
fn choice_11_a_forbidden_request_ends_at_once_with_the_refusal_and_others_go_on() {
    within("request", || {
        let (_server, client) = guest("publish: { deny: \"private.>\" }");
        let responder = client.subscribe("slow").unwrap();
        let waiting = client.send_request("slow", "").unwrap();
        let started = Instant::now();
        let error = client.request("private.x", "", MINUTE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionsViolation, "{error}");
        println!("a forbidden request ended after {:?}", started.elapsed());
        assert!(started.elapsed() < LONG);
        let question = responder.next_timeout(LONG).unwrap();
        client.respond(&question, "answer").unwrap();
        assert_eq!(waiting.wait(LONG).unwrap().payload(), b"answer");
        assert_eq!(client.pending_requests(), 0);
        client.finish();
    });
}

#[test]
fn choice_12_one_notice_for_each_slow_episode_and_the_newest_messages_are_dropped() {
    let scene = Scene::new();
    let slow = |happening: &Happening| matches!(happening, Happening::SlowConsumer { .. });
    let subscription = scene.connection.subscribe("work").unwrap();
    subscription.set_pending_limits(PendingLimits::new(5, 0));
    for episode in 1..=3 {
        for number in 0..50 {
            scene.connection.publish("work", number.to_string()).unwrap();
        }
        scene.connection.flush().unwrap();
        assert_eq!(texts(&subscription, 5), ["0", "1", "2", "3", "4"]);
        assert!(subscription.try_next().unwrap().is_none());
        assert_eq!(subscription.dropped(), episode * 45);
        scene.recorder.wait_for_count(LONG, episode as usize, slow).unwrap();
    }
    scene.end();
    assert_eq!(scene.recorder.count(slow), 3);
}

#[test]
fn choice_13_a_slow_pull_consumer_gets_messages_and_no_error() {
    let scene = Scene::new();
    let subscription = scene.connection.subscribe("work").unwrap();
    subscription.set_pending_limits(PendingLimits::new(3, 0));
    for number in 0..10 {
        scene.connection.publish("work", number.to_string()).unwrap();
    }
    scene.connection.flush().unwrap();
    assert_eq!((subscription.dropped(), subscription.pending_messages()), (7, 3));
    assert_eq!(texts(&subscription, 3), ["0", "1", "2"]);
    assert!(subscription.last_error().is_none());
    scene.connection.publish("work", "next").unwrap();
    assert_eq!(texts(&subscription, 1), ["next"]);
}

#[test]
fn choice_14_pending_bytes_are_payload_and_headers() {
    let scene = Scene::new();
    let subscription = scene.connection.subscribe("work").unwrap();
    let mut headers = Headers::default();
    headers.insert("Name", "v".repeat(1_000)).unwrap();
    let block = b"NATS/1.0\r\nName: \r\n\r\n".len() as u64 + 1_000;
    scene.connection.publish_with_headers("work", &headers, "12345").unwrap();
    scene.connection.publish("work", "678").unwrap();
    scene.connection.flush().unwrap();
    assert_eq!(subscription.pending_bytes(), block + 5 + 3);
    assert_eq!(subscription.next_timeout(LONG).unwrap().size() as u64, block + 5);
    assert_eq!(subscription.pending_bytes(), 3);
    // The headers alone fill the consumer.
    subscription.set_pending_limits(PendingLimits::new(0, 500));
    for _ in 0..3 {
        scene.connection.publish_with_headers("work", &headers, "").unwrap();
    }
    scene.connection.flush().unwrap();
    assert_eq!(subscription.dropped(), 2);
}

#[test]
fn choice_15_eight_mebibytes_wait_during_an_outage_then_publishing_fails_at_once() {
    within("buffer", || {
        let fill = |scene: &Scene| {
            scene.server.refuse_connections(true).unwrap();
            scene.server.drop_clients();
            scene.event("Disconnected", 1);
            let mut count = 0;
            loop {
                match scene.connection.publish("a", vec![b'x'; 64 * 1024]) {
                    Ok(()) => count += 1,
                    Err(error) => break (count, error),
                }
            }
        };
        let (count, error) = fill(&Scene::new());
        assert_eq!(count, 127, "with their lines 127 of 64 KiB fit into 8 MiB");
        assert_eq!(error.kind(), ErrorKind::ReconnectBufferFull, "{error}");
        let scene = Scene::with(|options| options.reconnect_buffer(ReconnectBuffer::Off));
        let (count, error) = fill(&scene);
        assert_eq!((count, error.kind()), (0, ErrorKind::ReconnectBufferFull), "{error}");
    });
}

#[test]
fn choice_16_a_half_written_frame_is_dropped_and_never_resumed() {
    within("half a frame", || {
        let read = Gate::new();
        let mut first = Step::handshake();
        first.extend([Step::StopReading(read.clone()), Step::Reset]);
        let second = [Step::handshake(), vec![Step::AnswerPings(Gate::new())]].concat();
        let server = ScriptedServer::start(vec![first, second], Afterwards::Refuse);
        let client = Client::connect(&server.url());
        server.connection(0, LONG).wait_reading_stopped(LONG);
        // Far more than the kernel takes: the server sees the beginning of one of these.
        let large = vec![b'x'; 1_000_000];
        for _ in 0..7 {
            client.publish("a", &large).unwrap();
        }
        read.open();
        client.event("Resubscribed", 1);
        client.flush().unwrap();
        let lines = server.connection(1, LONG).lines();
        assert!(lines[0].starts_with("CONNECT") && lines[1] == "PING", "{lines:?}");
        let whole = lines.iter().filter(|line| **line == "PUB a 1000000").count();
        assert!(lines[2..].iter().all(|line| line == "PUB a 1000000" || line == "PING"));
        println!("of 7 messages {whole} were whole on the next connection, 1 was torn");
        assert!(whole < 7, "nothing is sent twice");
        assert_eq!(client.statistics().torn(), 1);
        client.finish();
    });
}

#[test]
fn choice_17_a_flush_that_a_loss_interrupts_ends_at_once_with_disconnected() {
    within("flush", || {
        let scene = Scene::new();
        scene.server.pause_pongs(true);
        for loss in 1..=3 {
            let before = scene.connection.statistics().pings();
            let connection = scene.connection.clone();
            let flush = aside(move || connection.flush_timeout(2 * MINUTE));
            let sent = || (scene.connection.statistics().pings() > before).then_some(());
            crate::support::wait::poll(LONG, sent).unwrap();
            if loss == 2 {
                scene.connection.force_reconnect().unwrap();
            } else {
                scene.server.drop_clients();
            }
            let error = flush.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
            scene.server.pause_pongs(false);
            scene.event("Resubscribed", loss);
            scene.server.pause_pongs(true);
        }
    });
}

#[test]
fn choice_18_a_request_outlives_a_loss_but_not_a_forced_reconnect_or_close() {
    within("request", || {
        let scene = Scene::new();
        let other = Client::connect(&scene.server.url());
        let questions = other.subscribe("ask").unwrap();
        other.flush().unwrap();
        let waiting = scene.connection.send_request("ask", "").unwrap();
        let question = questions.next_timeout(LONG).unwrap();
        scene.server.drop_clients();
        scene.event("Resubscribed", 1);
        scene.connection.flush().unwrap();
        other.event("Resubscribed", 1);
        other.respond(&question, "late").unwrap();
        assert_eq!(waiting.wait(LONG).unwrap().payload(), b"late");

        let waiting = scene.connection.send_request("ask", "").unwrap();
        scene.connection.force_reconnect().unwrap();
        assert_eq!(waiting.wait(LONG).unwrap_err().kind(), ErrorKind::Disconnected);
        let waiting = scene.connection.send_request("ask", "").unwrap();
        scene.connection.close();
        assert_eq!(waiting.wait(LONG).unwrap_err().kind(), ErrorKind::Closed);
        other.finish();
    });
}

#[test]
fn choice_19_a_forced_reconnect_where_reconnecting_is_off_closes() {
    let scene = Scene::with(|options| options.no_reconnect());
    scene.connection.force_reconnect().unwrap();
    scene.event("Closed", 1);
    assert_eq!(scene.end(), ["Connected", "ForcedReconnect", "Disconnected", "Closed"]);
}

#[test]
fn choice_20_a_forced_reconnect_during_an_outage_cuts_the_wait_short() {
    let scene = Scene::with(|options| options.reconnect_wait(MINUTE));
    scene.server.refuse_connections(true).unwrap();
    scene.server.drop_clients();
    scene.event("ReconnectFailed", 1);
    scene.server.refuse_connections(false).unwrap();
    assert_eq!(scene.connection.status(), ConnectionStatus::Reconnecting);
    scene.connection.force_reconnect().unwrap();
    scene.event("Resubscribed", 1);
    assert!(!scene.end().contains(&"ForcedReconnect"));
}
