//! What listeners hear when the program itself ends the connection.

use std::time::Duration;

use nats_blocking::testing::Recorder;
use nats_blocking::{Connection, ConnectionEventKind as Kind, ErrorKind};

use super::{Client, LIMIT, closed, disconnected, quick, reconnected};
use crate::support::nats_server::NatsServer;
use crate::support::wait::{Gate, poll};
use crate::support::watchdog::within;

const ALL: Duration = Duration::from_secs(120);

/// The ways in which a program ends a connection.
const ENDS: [fn(Connection); 3] =
    [|connection| connection.close(), |connection| connection.drain(LIMIT).unwrap(), drop];

fn kinds(recorder: &Recorder) -> Vec<String> {
    let kind = |kind: &Kind| format!("{kind:?}").split([' ', '{']).next().unwrap().to_owned();
    recorder.events().iter().map(|event| kind(event.kind())).collect()
}

fn gone(connection: &nats_blocking::WeakConnection) {
    let gone = poll(LIMIT, || connection.upgrade().is_none().then_some(()));
    assert!(gone.is_some());
}

#[test]
fn after_an_own_close_nothing_is_told_where_that_is_asked_for() {
    within(ALL, "silent", || {
        let server = NatsServer::start_plain();
        for (way, end) in ENDS.into_iter().enumerate() {
            let Client { connection, recorder } =
                Client::connect(quick(server.url()).no_events_after_close());
            recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::Connected)).unwrap();
            let (mut events, weak) = (connection.events(), connection.downgrade());
            end(connection);
            gone(&weak);
            let iterated: Vec<String> = events.by_ref().map(|notice| notice.to_string()).collect();
            assert!(events.is_finished());
            assert!(iterated.iter().all(|text| text.contains("draining")), "{iterated:?}");
            let expected: &[&str] =
                if way == 1 { &["Connected", "Draining"] } else { &["Connected"] };
            let heard = kinds(&recorder);
            assert!(expected.starts_with(&heard.iter().map(String::as_str).collect::<Vec<_>>()));
            recorder.check().unwrap();
        }
    });
}

#[test]
fn wait_closed_returns_although_nothing_is_told() {
    within(ALL, "waiting", || {
        let server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()).no_events_after_close());
        let (entered, leave) = (Gate::new(), Gate::new());
        let (inside, out) = (entered.clone(), leave.clone());
        client.add_connection_listener(
            move |_: &Connection, _: &nats_blocking::ConnectionEvent| {
                inside.open();
                out.wait(LIMIT);
            },
        );
        client.force_reconnect().unwrap();
        assert!(entered.wait(LIMIT));
        client.wait_for_status(nats_blocking::ConnectionStatus::Connected, LIMIT).unwrap();
        let before = client.recorder.events().len();
        // What waits behind the listener that runs is thrown away.
        let closing = client.connection.clone();
        let close = std::thread::Builder::new()
            .name("closing".to_owned())
            .spawn(move || closing.close())
            .unwrap();
        client.wait_for_status(nats_blocking::ConnectionStatus::Closed, LIMIT).unwrap();
        leave.open();
        close.join().unwrap();
        assert!(client.wait_closed(LIMIT).unwrap().is_none());
        assert_eq!(client.recorder.events().len(), before, "{}", client.timeline("after close"));
        client.recorder.check().unwrap();
    });
}

#[test]
fn what_ends_the_connection_from_outside_is_told_all_the_same() {
    within(ALL, "outside", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()).no_events_after_close().no_reconnect());
        server.kill();
        client.wait(closed);
        assert!(client.wait_closed(LIMIT).unwrap().is_some());
        client.finish();
    });
}

#[test]
fn an_own_close_gives_disconnected_first_where_that_is_asked_for() {
    within(ALL, "both", || {
        let mut server = NatsServer::start_plain();
        for (way, end) in ENDS.into_iter().enumerate() {
            let Client { connection, recorder } =
                Client::connect(quick(server.url()).disconnected_on_close());
            end(connection);
            recorder.wait_for_event(LIMIT, closed).unwrap();
            let expected: &[&str] = if way == 1 {
                &["Connected", "Draining", "Disconnected", "Closed"]
            } else {
                &["Connected", "Disconnected", "Closed"]
            };
            assert_eq!(kinds(&recorder), expected);
            let events = recorder.events();
            let lost = events.iter().find(|event| disconnected(event.kind())).unwrap();
            assert_eq!(lost.server(), Some(server.url().as_str()));
            let Kind::Disconnected { cause } = lost.kind() else { panic!("{lost}") };
            assert_eq!(cause.kind(), ErrorKind::Closed);
            recorder.check().unwrap();
        }
        // While it is down there is nothing to be disconnected from.
        let client = Client::connect(quick(server.url()).disconnected_on_close());
        server.kill();
        client.wait(disconnected);
        client.connection.close();
        client.wait(closed);
        assert_eq!((client.count(disconnected), client.count(reconnected)), (1, 0));
        client.finish();
    });
}
