//! Where the clients of NATS disagree, questions 21 to 40: that ours does what was chosen.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEvent, ConnectionEventKind as Kind, ConnectionListener, ConnectionStatus,
    ErrorKind, ErrorListener, Notice, Options, RetryConnect, ServerError, ServerErrorKind,
};

use super::stage::{
    Client, LONG, MINUTE, SHORT, Scene, aside, counted, event, is_exception, is_server_error,
    names, quick, recorded, within,
};
use crate::hostile::{after_login, message, texts};
use crate::support::nats_server::NatsServer;
use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::wait::Gate;

fn address(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

#[test]
fn choice_21_a_forced_reconnect_never_begins_with_the_same_server() {
    let servers = [(); 3].map(|()| Server::start().unwrap());
    let urls = servers.each_ref().map(Server::url);
    let client = Client::with(&urls[0], |options| options.servers(&urls[1..]));
    let mut visited = Vec::new();
    for round in 1..=20 {
        let before = client.connected_url().unwrap();
        client.force_reconnect().unwrap();
        client.event("Resubscribed", round);
        let now = client.connected_url().unwrap();
        assert_ne!(now, before, "round {round}");
        visited.push(now);
    }
    assert!(urls.iter().all(|url| visited.contains(url)), "{visited:?}");
    client.finish();
}

#[test]
fn choice_22_a_drain_during_an_outage_is_refused_and_changes_nothing() {
    within("drain", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(&server.url());
        let subscription = client.subscribe("work").unwrap();
        client.flush().unwrap();
        server.kill();
        client.event("Disconnected", 1);
        client.publish("work", "kept").unwrap();
        let error = client.drain(MINUTE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Disconnected, "{error}");
        assert_eq!(client.status(), ConnectionStatus::Reconnecting);
        client.publish("work", "and more").unwrap();
        server.restart();
        assert_eq!(texts(&subscription, 2), ["kept", "and more"]);
        client.finish();
        assert_eq!(client.count("Draining"), 0);
    });
}

#[test]
fn choice_23_servers_known_from_the_first_info_are_told_after_connected() {
    let server = Server::start().unwrap();
    server.announce_servers(&["127.0.0.1:1"]);
    let client = Client::connect(&server.url());
    let found = client.event("DiscoveredServers", 1);
    let Kind::DiscoveredServers { added, removed } = &found else { panic!("{found:?}") };
    assert_eq!((&added[..], &removed[..]), (&["nats://127.0.0.1:1".to_owned()][..], &[][..]));
    client.finish();
    assert_eq!(names(&client.recorder), ["Connected", "DiscoveredServers", "Closed"]);

    let client = Client::with(&server.url(), |options| options.ignore_discovered_servers());
    client.flush().unwrap();
    client.finish();
    assert_eq!(names(&client.recorder), ["Connected", "Closed"]);
}

#[test]
fn choice_24_what_the_cluster_no_longer_lists_goes_unless_configured_or_in_use() {
    let [first, other, found] = [(); 3].map(|()| Server::start().unwrap());
    other.refuse_connections(true).unwrap();
    let client = Client::with(&first.url(), |options| options.server(other.url()).no_randomize());
    first.announce_servers(&[&address(&first), &address(&found), "127.0.0.1:1"]);
    client.event("DiscoveredServers", 1);
    assert_eq!(client.discovered_servers(), [found.url(), "nats://127.0.0.1:1".to_owned()]);
    // The configured ones are not listed and stay.
    first.announce_servers(&[&address(&found)]);
    client.event("DiscoveredServers", 2);
    assert_eq!(client.discovered_servers(), [found.url()]);
    assert_eq!(client.servers().len(), 3);
    first.refuse_connections(true).unwrap();
    first.drop_clients();
    client.event("Resubscribed", 1);
    assert_eq!(client.connected_url(), Some(found.url()));
    // The one in use is not listed and stays.
    found.announce_servers(&["127.0.0.1:1"]);
    client.event("DiscoveredServers", 3);
    let servers = client.servers();
    for url in [first.url(), other.url(), found.url()] {
        assert!(servers.contains(&url), "{url} in {servers:?}");
    }
    client.finish();
}

#[test]
fn choice_25_localhost_and_its_address_are_one_server() {
    let server = Server::start().unwrap();
    let client = Client::connect(&format!("nats://localhost:{}", server.port()));
    server.announce_servers(&[&address(&server)]);
    client.flush().unwrap();
    // A second list that does hold something new tells that the first was taken in.
    server.announce_servers(&[&address(&server), "127.0.0.1:1"]);
    let found = client.event("DiscoveredServers", 1);
    let Kind::DiscoveredServers { added, .. } = &found else { panic!("{found:?}") };
    assert_eq!(added[..], ["nats://127.0.0.1:1"]);
    assert_eq!(client.servers().len(), 2, "{:?}", client.servers());
    client.finish();
}

#[test]
fn choice_26_lame_duck_is_told_once_a_session_also_when_the_first_info_says_it() {
    within("lame duck", || {
        let info = "INFO {\"server_id\":\"A\",\"max_payload\":1000,\"ldm\":true}\r\n";
        let leave = Gate::new();
        let dying = |end: Step| {
            vec![
                Step::send(info),
                Step::ExpectConnectAndPing,
                Step::AnswerPingsMeanwhile,
                Step::send(info),
                Step::expect("PUB go"),
                end,
            ]
        };
        let scripts = vec![dying(Step::Close), dying(Step::AnswerPings(leave))];
        let server = ScriptedServer::start(scripts, Afterwards::Refuse);
        let client = Client::connect(&server.url());
        client.publish("go", "").unwrap();
        client.event("Resubscribed", 1);
        client.event("LameDuck", 2);
        client.publish("go", "").unwrap();
        client.flush().unwrap();
        client.finish();
        let names = names(&client.recorder);
        assert_eq!(names[..3], ["Connected", "LameDuck", "Disconnected"]);
        let rest = ["Reconnecting", "Reconnected", "Resubscribed", "LameDuck", "Closed"];
        assert_eq!(names[3..], rest);
    });
}

#[test]
fn choice_27_callbacks_have_a_thread_for_each_connection_and_may_call_everything() {
    within("callbacks", || {
        let (tell, told) = mpsc::channel();
        let go_on = Gate::new();
        let held = go_on.clone();
        let slow = Scene::with(|options| {
            options.on_lame_duck(move |connection, _| {
                assert!(held.wait(LONG));
                let echo = connection.subscribe("echo").unwrap();
                connection.flush().unwrap();
                connection.rtt().unwrap();
                let error = connection.request("nobody", "", LONG).unwrap_err();
                connection.publish("echo", "x").unwrap();
                let name = thread::current().name().unwrap().to_owned();
                tell.send((error.kind(), texts(&echo, 1), name)).unwrap();
                connection.drain(LONG).unwrap();
            })
        });
        slow.server.lame_duck();
        let other = Scene::new();
        other.server.lame_duck();
        other.event("LameDuck", 1);
        go_on.open();
        let (kind, texts, name) = told.recv_timeout(LONG).unwrap();
        assert_eq!((kind, texts), (ErrorKind::NoResponders, vec!["x".to_owned()]));
        assert!(name.ends_with("-callback"), "{name}");
        slow.event("Closed", 1);
        assert_eq!(slow.end(), ["Connected", "LameDuck", "Draining", "Closed"]);
    });
}

#[test]
fn choice_28_a_listener_that_panics_is_reported_once_and_the_others_are_still_called() {
    struct Panics;
    impl ConnectionListener for Panics {
        fn connection_event(&self, _: &Connection, event: &ConnectionEvent) {
            panic!("on purpose, at {event}");
        }
    }
    impl ErrorListener for Panics {
        fn error_occurred(&self, _: &Connection, _: &ServerError) {
            panic!("on purpose");
        }
    }
    let scene = Scene::with(|options| options.connection_listener(Panics).error_listener(Panics));
    for loss in 1..=3 {
        scene.server.drop_clients();
        scene.event("Resubscribed", loss);
    }
    scene.server.send_error("odd");
    let is_panic = |happening: &Happening| {
        matches!(happening, Happening::Exception(error)
        if error.kind() == ErrorKind::UserPanic)
    };
    // One report for each of the two listeners.
    scene.recorder.wait_for_count(LONG, 2, is_panic).unwrap();
    let events = scene.end().len() as u64;
    assert_eq!(scene.recorder.count(is_panic), 2);
    assert_eq!(scene.connection.statistics().panics(), events + 1);
}

#[test]
fn choice_29_what_is_left_of_an_auto_unsubscribe_holds_after_a_restart() {
    within("auto-unsubscribe", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(&server.url());
        let (tell, told) = mpsc::channel();
        let dispatcher = client.dispatcher(move |_, message| tell.send(message).unwrap()).unwrap();
        let sid = dispatcher.subscribe("work").unwrap();
        assert!(dispatcher.unsubscribe_after(sid, 5).unwrap());
        let pulled = client.subscribe("work").unwrap();
        pulled.unsubscribe_after(5).unwrap();
        let publish = |range: std::ops::Range<u32>| {
            for number in range {
                client.publish("work", number.to_string()).unwrap();
            }
            client.flush().unwrap();
        };
        publish(0..2);
        server.kill();
        client.event("Disconnected", 1);
        server.restart();
        client.event("Resubscribed", 1);
        publish(2..12);
        assert_eq!(texts(&pulled, 5), ["0", "1", "2", "3", "4"]);
        assert!(pulled.next_timeout(LONG).unwrap_err().is_closed());
        for number in 0..5 {
            let message = told.recv_timeout(LONG).unwrap();
            assert_eq!(message.payload(), number.to_string().as_bytes());
        }
        client.finish();
        drop(dispatcher);
        assert!(told.try_recv().is_err(), "five in all");
    });
}

#[test]
fn choice_30_a_subscription_that_drains_is_not_announced_again() {
    within("draining", || {
        let lose = Gate::new();
        let mut first = Step::handshake();
        first.extend([Step::expect("UNSUB 1"), Step::Wait(lose.clone()), Step::Close]);
        let second =
            [Step::handshake(), vec![Step::expect("SUB keep 2"), Step::AnswerPings(Gate::new())]];
        let server = ScriptedServer::start(vec![first, second.concat()], Afterwards::Refuse);
        let client = Client::connect(&server.url());
        let draining = client.subscribe("work").unwrap();
        let _keep = client.subscribe("keep").unwrap();
        let drain = aside(move || draining.drain(LONG));
        server.connection(0, LONG).wait_line("UNSUB 1", LONG);
        lose.open();
        client.event("Resubscribed", 1);
        // Whatever the drain says of its interruption, it ends.
        let _ = drain.join().unwrap();
        client.flush().unwrap();
        let lines = server.connection(1, LONG).lines();
        assert!(!lines.iter().any(|line| line.starts_with("SUB work")), "{lines:?}");
        client.finish();
    });
}

const REFUSAL: &str = "-ERR 'Authorization Violation'\r\n";

fn refusing(text: &str) -> Vec<Step> {
    vec![Step::DefaultInfo, Step::expect("PING"), Step::send(text), Step::Close]
}

#[test]
fn choice_31_only_the_same_refusal_twice_in_a_row_gives_a_server_up() {
    within("refusals", || {
        let leave = || after_login([Step::Close]);
        let end = after_login([Step::Send(message("the end")), Step::AnswerPings(Gate::new())]);
        let scripts = vec![
            leave(),
            refusing(REFUSAL),
            // A success wipes the memory.
            leave(),
            refusing(REFUSAL),
            refusing("-ERR 'User Authentication Expired'\r\n"),
            refusing(REFUSAL),
            end,
        ];
        let server = ScriptedServer::start(scripts, Afterwards::Refuse);
        let client = Client::connect(&server.url());
        let subscription = client.subscribe("work").unwrap();
        assert_eq!(texts(&subscription, 1), ["the end"]);
        client.finish();
        assert_eq!(client.recorder.count(is_server_error), 4);

        let scene = Scene::with(|options| options.ignore_authorization_abort());
        scene.server.require_user("ann", "other");
        scene.server.drop_clients();
        scene.event("ReconnectFailed", 5);
        scene.server.require_nothing();
        scene.event("Resubscribed", 1);
    });
}

#[test]
fn choice_32_an_authentication_timeout_is_never_the_end() {
    within("timeout", || {
        let slow = || refusing("-ERR 'Authentication Timeout'\r\n");
        let end = after_login([Step::Send(message("the end")), Step::AnswerPings(Gate::new())]);
        let scripts = vec![after_login([Step::Close]), slow(), slow(), slow(), slow(), end];
        let server = ScriptedServer::start(scripts, Afterwards::Refuse);
        let client = Client::connect(&server.url());
        let subscription = client.subscribe("work").unwrap();
        assert_eq!(texts(&subscription, 1), ["the end"]);
        client.finish();
        assert_eq!(client.count("ReconnectFailed"), 4);
    });
}

#[test]
fn choice_33_only_completed_handshakes_count_as_reconnects() {
    within("reconnects", || {
        let half = || vec![Step::DefaultInfo, Step::expect("PING"), Step::Close];
        let end = after_login([Step::Send(message("the end")), Step::AnswerPings(Gate::new())]);
        let scripts = vec![after_login([Step::Close]), vec![], half(), half(), end];
        let server = ScriptedServer::start(scripts, Afterwards::Refuse);
        let client = Client::connect(&server.url());
        let subscription = client.subscribe("work").unwrap();
        assert_eq!(texts(&subscription, 1), ["the end"]);
        let statistics = client.statistics();
        assert_eq!((statistics.connects(), statistics.reconnects()), (2, 1));
        client.finish();
        assert_eq!(client.count("ReconnectFailed"), 3);
    });
}

#[test]
fn choice_34_by_default_a_first_connect_fails_after_one_pass() {
    within("first connect", || {
        let servers = [(); 2].map(|()| ScriptedServer::always(vec![Step::DefaultInfo]));
        let recorder = Recorder::new();
        let urls = servers.each_ref().map(ScriptedServer::url);
        let options = Options::builder().servers(&urls).reconnect_wait(MINUTE);
        let error = recorded(options.reconnect_jitter(MINUTE), &recorder).connect().unwrap_err();
        assert_eq!((error.kind(), error.attempts().len()), (ErrorKind::Connect, 2));
        assert!(servers.iter().all(|server| server.connection_count() == 1));
        event(&recorder, "Closed", 1);
        assert_eq!((names(&recorder), recorder.count(is_exception)), (vec!["Closed"], 2));
    });
}

#[test]
fn choice_34_a_first_connect_is_retried_in_the_callers_wait_or_in_the_background() {
    within("retry", || {
        let server = Server::start().unwrap();
        server.stop();
        let waiting = Recorder::new();
        let heard = waiting.clone();
        let url = server.url();
        let blocked = aside(move || {
            let retry = RetryConnect::Within(2 * MINUTE);
            recorded(quick(&url).retry_on_failed_connect(retry), &heard).connect()
        });
        let client = Client::with(&server.url(), |options| {
            options.retry_on_failed_connect(RetryConnect::InBackground)
        });
        client.publish("a", "kept").unwrap();
        event(&waiting, "ReconnectFailed", 2);
        client.event("ReconnectFailed", 2);
        server.restart().unwrap();
        client.flush().unwrap();
        blocked.join().unwrap().unwrap().close();
        client.event("Connected", 1);
        event(&waiting, "Closed", 1);
        waiting.check().unwrap();
        client.finish();
    });
}

#[test]
fn choice_35_a_reader_of_events_who_is_late_misses_no_change_of_status() {
    within("events", || {
        let scene = Scene::new();
        let events = scene.connection.events();
        let losses = 400;
        for loss in 1..=losses {
            scene.connection.force_reconnect().unwrap();
            scene.event("Resubscribed", loss);
        }
        scene.connection.close();
        let mut seen = 0;
        let mut last = None;
        for notice in events {
            let Notice::Event(event) = notice else { continue };
            seen += usize::from(matches!(event.kind(), Kind::Disconnected { .. }));
            seen += usize::from(matches!(event.kind(), Kind::Resubscribed { .. }));
            last = Some(event);
        }
        assert_eq!(seen, 2 * losses);
        assert!(matches!(last.unwrap().kind(), Kind::Closed { .. }));
    });
}

#[test]
fn choice_36_what_close_still_writes_is_bounded_in_time() {
    within("close", || {
        let script = [Step::handshake(), vec![Step::StopReading(Gate::new())]].concat();
        let server = ScriptedServer::once(script);
        let client = Client::with(&server.url(), |options| options.close_timeout(2 * SHORT));
        for _ in 0..100 {
            client.publish("last", vec![b'x'; 64 * 1024]).unwrap();
        }
        let started = Instant::now();
        client.close();
        let took = started.elapsed();
        println!("close with 6 MiB for a server that does not read took {took:?} of {SHORT:?} x 2");
        assert!(took < Duration::from_secs(10), "{took:?}");
        client.event("Closed", 1);
    });
}

#[test]
fn choice_37_no_secret_appears_in_events_errors_or_what_is_printed() {
    let secrets = ["joe-the-user", "hunter2", "t0ken-of-mine"];
    let server = Server::builder().user(secrets[0], secrets[1]).start().unwrap();
    let address = address(&server);
    let url = format!("nats://{}:{}@{address}", secrets[0], secrets[1]);
    let wrong = format!("nats://{}@{address}", secrets[2]);
    let recorder = Recorder::new();
    let options = recorded(quick(&url), &recorder).build().unwrap();
    let connection = options.connect().unwrap();
    let events = connection.events();
    server.announce_servers(&[&address, "127.0.0.1:1"]);
    server.announce_servers(&[&address]);
    event(&recorder, "DiscoveredServers", 2);
    server.refuse_connections(true).unwrap();
    server.drop_clients();
    event(&recorder, "ReconnectFailed", 1);
    server.require_token("other");
    server.refuse_connections(false).unwrap();
    event(&recorder, "Closed", 1);
    let failed = recorded(quick(&wrong), &recorder).connect().unwrap_err();
    assert!(failed.is_authorization(), "{failed:?}");

    let mut shown = vec![format!("{options:?} {connection:?} {failed} {failed:?}")];
    shown.push(format!("{:?} {:?}", connection.servers(), connection.connected_url()));
    shown.push(format!("{:?} {:?}", connection.last_error(), connection.wait_closed(LONG)));
    shown.push(recorder.timeline("all").to_string());
    shown.extend(recorder.records().iter().map(|record| format!("{record:?}")));
    shown.extend(events.map(|notice| format!("{notice} {notice:?}")));
    shown.push(format!("{:?}", connection.publish("a", "").unwrap_err()));
    shown.push(format!("{:?}", quick(&url)));
    let malformed = Options::builder().server(format!("{url}:x:y/ ")).build().unwrap_err();
    shown.push(format!("{malformed} {malformed:?}"));
    for text in &shown {
        for secret in secrets {
            assert!(!text.contains(secret), "{secret} in {text}");
        }
    }
    assert!(shown.iter().any(|text| text.contains(&address)));
}

#[test]
fn choice_38_a_listener_hears_what_happens_after_it_was_added_in_both_ways() {
    let scene = Scene::new();
    scene.server.drop_clients();
    scene.event("Resubscribed", 1);
    let late = Recorder::new();
    let id = scene.connection.add_connection_listener(late.clone());
    scene.server.lame_duck();
    event(&late, "LameDuck", 1);
    assert_eq!(names(&late), ["LameDuck"]);
    assert!(scene.connection.remove_listener(id));
    scene.server.drop_clients();
    scene.event("Resubscribed", 2);
    assert_eq!(names(&late), ["LameDuck"]);
    assert_eq!(counted(&scene.recorder, "Disconnected"), 2);
}

#[test]
fn choice_39_what_the_server_said_is_the_cause_and_is_told_before_the_loss() {
    let texts = [
        ("Stale Connection", ServerErrorKind::StaleConnection),
        ("maximum connections exceeded", ServerErrorKind::MaximumConnections),
        ("User Authentication Expired", ServerErrorKind::UserAuthenticationExpired),
        ("Authorization Violation", ServerErrorKind::AuthorizationViolation),
        ("Slow Consumer", ServerErrorKind::SlowConsumer),
        ("Parser Error", ServerErrorKind::ParserError),
        ("nobody ever said this", ServerErrorKind::Other),
    ];
    let scene = Scene::new();
    for (index, (text, kind)) in texts.iter().enumerate() {
        let count = index + 1;
        scene.server.send_error_and_close(text);
        let lost = scene.event("Disconnected", count);
        let Kind::Disconnected { cause } = lost else { panic!("{lost:?}") };
        let said = cause.server_error().unwrap_or_else(|| panic!("{text}: {cause:?}"));
        assert_eq!((said.text(), said.kind()), (*text, kind));
        scene.event("Resubscribed", count);
    }
    let records = scene.recorder.records();
    for (index, record) in records.iter().enumerate() {
        if let Some(Kind::Disconnected { cause }) = record.happening().event_kind() {
            let Happening::ServerError(said) = records[index - 1].happening() else {
                panic!("{}", scene.recorder.timeline("nothing was said before the loss"))
            };
            assert_eq!(Some(said), cause.server_error());
        }
    }
    // What the server said is no failure of the library.
    assert_eq!(scene.recorder.count(is_exception), 0);
    assert_eq!(scene.recorder.count(is_server_error), texts.len());
    assert_eq!(scene.end().iter().filter(|name| **name == "Disconnected").count(), texts.len());
}

#[test]
fn choice_40_dropping_the_last_handle_closes_and_closed_is_the_last_call() {
    let server = Server::start().unwrap();
    let recorder = Recorder::new();
    let clones: Arc<Mutex<Vec<String>>> = Arc::default();
    let wrote = clones.clone();
    let options = recorded(quick(&server.url()), &recorder).on_closed(move |connection, _| {
        let clone = connection.clone();
        let refused = clone.publish("a", "").unwrap_err();
        assert!(connection.downgrade().upgrade().is_none());
        wrote.lock().unwrap().push(format!("{:?} {}", refused.kind(), clone.status()));
    });
    let connection = options.connect().unwrap();
    let events = connection.events();
    drop(connection);
    event(&recorder, "Closed", 1);
    assert_eq!(
        events.last().map(|notice| matches!(&notice, Notice::Event(event)
        if matches!(event.kind(), Kind::Closed { cause: None }))),
        Some(true)
    );
    recorder.check().unwrap();
    assert_eq!(clones.lock().unwrap().as_slice(), ["Closed closed"]);
}
