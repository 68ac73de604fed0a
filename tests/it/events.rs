//! What a connection tells: every event with its data, its cause and its place in the order.
//!
//! How a program listens is in `listeners`; here a `Recorder` does.

use std::time::{Duration, Instant, SystemTime};

use nats_blocking::testing::{Happening, Recorder, Server};
use nats_blocking::{ConnectionEventKind as Kind, ConnectionStatus, ErrorKind};

use crate::embedded::{LONG, Scene, event, names, quick, recorded};

const MINUTE: Duration = Duration::from_secs(60);

fn is_exception(happening: &Happening) -> bool {
    matches!(happening, Happening::Exception(_))
}

fn is_server_error(happening: &Happening) -> bool {
    matches!(happening, Happening::ServerError(_))
}

/// A port of loopback on which nobody listens for as long as the server lives.
fn refusing() -> Server {
    let server = Server::start().unwrap();
    server.refuse_connections(true).unwrap();
    server
}

#[test]
fn a_plain_failed_connect_is_an_exception_for_each_attempt_then_closed() {
    let (one, two) = (refusing(), refusing());
    let recorder = Recorder::new();
    let options = quick(&one.url()).server(two.url()).no_randomize();
    let error = recorded(options, &recorder).connect().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Connect);
    let tried: Vec<&str> = error.attempts().iter().map(|attempt| attempt.server()).collect();
    assert_eq!(tried, [one.url(), two.url()]);
    assert!(error.attempts().iter().all(|attempt| attempt.cause().kind() == ErrorKind::Io));

    let closed = event(&recorder, "Closed", 1);
    assert!(matches!(&closed, Kind::Closed { cause: Some(cause) }
        if cause.kind() == ErrorKind::Connect && cause.attempts().len() == 2));
    assert_eq!(names(&recorder), ["Closed"]);
    let records = recorder.records();
    let exceptions = records.iter().take_while(|record| is_exception(record.happening())).count();
    assert_eq!((exceptions, records.len()), (2, 3), "{}", recorder.timeline("all"));
    recorder.check().unwrap();
}

#[test]
fn a_loss_and_the_way_back_carry_their_data() {
    let scene = Scene::new();
    let before = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let _one = scene.connection.subscribe("a.*").unwrap();
    let _two = scene.connection.subscribe("b.>").unwrap();
    scene.connection.flush().unwrap();
    scene.server.refuse_connections(true).unwrap();
    scene.server.drop_clients();
    scene.event("ReconnectFailed", 3);
    assert_eq!(scene.connection.status(), ConnectionStatus::Reconnecting);
    scene.server.refuse_connections(false).unwrap();
    scene.event("Resubscribed", 1);
    let url = scene.server.url();
    let mut failed = 0;
    for event in scene.recorder.events() {
        assert_eq!(event.server(), Some(url.as_str()), "{event}");
        assert!(event.time().duration_since(SystemTime::UNIX_EPOCH).unwrap() + LONG > before);
        assert_eq!(event.skipped(), 0);
        match event.kind() {
            Kind::Disconnected { cause } => assert_eq!(cause.kind(), ErrorKind::Io),
            Kind::Reconnecting { attempt } => assert_eq!(*attempt, failed + 1),
            Kind::ReconnectFailed { attempt, cause } => {
                failed += 1;
                assert_eq!((*attempt, cause.kind()), (failed, ErrorKind::Io));
            }
            Kind::Reconnected { attempts, downtime } => {
                assert_eq!(*attempts, failed + 1);
                assert!(*downtime > Duration::ZERO && *downtime < LONG, "{downtime:?}");
            }
            Kind::Resubscribed { subscriptions } => assert_eq!(*subscriptions, 2),
            _ => {}
        }
    }
    // One for the loss, and one for each failed attempt, told before its event.
    assert_eq!(scene.recorder.count(is_exception), failed as usize + 1);
    scene
        .recorder
        .wait_for_sequence(
            LONG,
            &[&is_exception, &|h| matches!(h.event_kind(), Some(Kind::Disconnected { .. }))],
        )
        .unwrap();
    scene.end();
    let statistics = scene.connection.statistics();
    assert_eq!((statistics.disconnects(), statistics.reconnects()), (1, 1));
}

#[test]
fn an_error_after_which_the_server_stays_loses_nothing() {
    let scene = Scene::new();
    let text = "Permissions Violation for Publish to \"secret\"";
    scene.server.send_error(text);
    scene.server.send_error("maximum subscriptions exceeded");
    scene.connection.flush().unwrap();
    scene.recorder.wait_for_count(LONG, 2, is_server_error).unwrap();
    assert_eq!(scene.end(), ["Connected", "Closed"]);
}

#[test]
fn nonsense_is_a_protocol_error_told_once_and_the_cause() {
    let scene = Scene::new();
    scene.server.send_raw("what is this\r\n");
    scene.event("Resubscribed", 1);
    let Kind::Disconnected { cause } = scene.event("Disconnected", 1) else { panic!() };
    assert_eq!(cause.kind(), ErrorKind::Protocol);
    assert_eq!(scene.recorder.count(is_exception), 1);
    scene.end();
}

#[test]
fn a_server_that_stops_answering_is_stale_then_lost() {
    let scene = Scene::with(|options| {
        options
            .ping_interval(Duration::from_millis(250))
            .max_pings_out(2)
            .connect_timeout(Duration::from_secs(1))
    });
    scene.server.pause_pongs(true);
    let stale = scene.event("StaleConnection", 1);
    assert!(matches!(stale, Kind::StaleConnection { pings_outstanding: 2 }), "{stale:?}");
    let Kind::Disconnected { cause } = scene.event("Disconnected", 1) else { panic!() };
    assert_eq!(cause.kind(), ErrorKind::StaleConnection);
    scene.server.pause_pongs(false);
    scene.event("Resubscribed", 1);
    scene.end();
}

#[test]
fn a_forced_reconnect_is_told_and_ends_requests() {
    let scene = Scene::new();
    let _silent = scene.connection.subscribe("ask").unwrap();
    let pending = scene.connection.send_request("ask", "").unwrap();
    scene.connection.flush().unwrap();
    scene.connection.force_reconnect().unwrap();
    scene.event("Resubscribed", 1);
    let Kind::Disconnected { cause } = scene.event("Disconnected", 1) else { panic!() };
    assert_eq!(cause.kind(), ErrorKind::ForcedReconnect);
    assert_eq!(pending.wait(LONG).unwrap_err().kind(), ErrorKind::Disconnected);
    assert_eq!(
        scene.end(),
        [
            "Connected",
            "ForcedReconnect",
            "Disconnected",
            "Reconnecting",
            "Reconnected",
            "Resubscribed",
            "Closed"
        ]
    );
    // The program's own wish is no failure.
    assert_eq!(scene.recorder.count(is_exception), 0);
}

#[test]
fn after_a_forced_reconnect_nothing_but_the_loss_follows() {
    for round in 0..50 {
        let scene = Scene::new();
        // What the server says while the connection is being given up must not come between.
        scene.server.announce_servers(&["127.0.0.1:1"]);
        scene.connection.force_reconnect().unwrap();
        scene.server.lame_duck();
        let drained = scene.connection.start_drain(LONG);
        let timeline = || scene.recorder.timeline(format!("round {round}: {drained:?}"));
        scene.event("Disconnected", 1);
        scene.connection.close();
        scene.connection.wait_closed(LONG).unwrap();
        let names = names(&scene.recorder);
        let forced = names.iter().position(|name| *name == "ForcedReconnect").unwrap();
        assert_eq!(names[forced + 1], "Disconnected", "{}", timeline());
        scene.recorder.check().unwrap();
    }
}

#[test]
fn lame_duck_is_told_once_in_each_session() {
    let scene = Scene::new();
    for session in 1..=2 {
        scene.server.lame_duck();
        scene.server.lame_duck();
        scene.connection.flush().unwrap();
        scene.server.lame_duck();
        scene.connection.flush().unwrap();
        scene.event("LameDuck", session);
        scene.server.restart().unwrap();
        scene.event("Resubscribed", session);
    }
    let names = scene.end();
    assert_eq!(names.iter().filter(|name| **name == "LameDuck").count(), 2, "{names:?}");
}

#[test]
fn discovered_servers_are_told_with_what_came_and_what_went() {
    let scene = Scene::new();
    let own = format!("127.0.0.1:{}", scene.server.port());
    let (first, second, third) = (refusing(), refusing(), refusing());
    let address = |server: &Server| format!("127.0.0.1:{}", server.port());
    let (a, b, c) = (address(&first), address(&second), address(&third));
    let expect = |count, wanted: [&[&str]; 2]| {
        let found = scene.event("DiscoveredServers", count);
        let Kind::DiscoveredServers { added, removed } = &found else { panic!("{found:?}") };
        let url = |list: &[&str]| -> Vec<String> {
            list.iter().map(|address| format!("nats://{address}")).collect()
        };
        assert_eq!([added, removed], [&url(wanted[0]), &url(wanted[1])]);
    };
    scene.server.announce_servers(&[&own, &a, &b]);
    expect(1, [&[&a, &b], &[]]);
    assert_eq!(scene.connection.discovered_servers().len(), 2);
    scene.server.announce_servers(&[&own, &b, &c]);
    expect(2, [&[&c], &[&a]]);
    // The same list in another order is no news, nor is one that names the known server only once
    // more.
    scene.server.announce_servers(&[&c, &own, &b, &b]);
    scene.connection.flush().unwrap();
    scene.server.announce_servers(&[&own]);
    expect(3, [&[], &[&b, &c]]);
    assert_eq!(scene.connection.servers(), [scene.server.url()]);
    let names = scene.end();
    assert_eq!(names.iter().filter(|name| **name == "DiscoveredServers").count(), 3);
}

#[test]
fn a_server_that_refuses_us_twice_is_given_up_and_the_refusal_is_the_cause() {
    let scene = Scene::new();
    scene.server.require_user("ann", "other");
    scene.server.drop_clients();
    let Kind::Closed { cause: Some(cause) } = scene.event("Closed", 1) else { panic!() };
    assert!(cause.is_authorization(), "{cause:?}");
    assert_eq!(cause.server_error().map(|said| said.text()), Some("Authorization Violation"));
    assert_eq!(scene.recorder.count(is_server_error), 2);
    let names = scene.end();
    assert_eq!(names.iter().filter(|name| **name == "ReconnectFailed").count(), 2);
    let ended = scene.connection.publish("a", "").unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::Closed);
}

#[test]
fn a_server_that_throws_us_out_again_and_again_is_asked_after_the_reconnect_wait() {
    let wait = Duration::from_millis(300);
    let scene = Scene::with(|options| options.reconnect_wait(wait));
    for loss in 1..=8 {
        scene.server.drop_clients();
        scene.event("Resubscribed", loss);
    }
    scene.end();
    let (mut up_since, mut quick) = (SystemTime::UNIX_EPOCH, 0);
    for event in scene.recorder.events() {
        match event.kind() {
            Kind::Connected | Kind::Resubscribed { .. } => up_since = event.time(),
            Kind::Disconnected { .. } => {
                // On a machine so busy that the connection did last, the wait is spared.
                let lasted = event.time().duration_since(up_since).unwrap_or_default();
                quick = if lasted < wait / 2 { quick + 1 } else { 0 };
            }
            Kind::Reconnected { downtime, .. } => {
                assert!(*downtime >= wait || quick < 5, "{event} after {quick} quick losses");
            }
            _ => {}
        }
    }
}

/// A connection that waits for its second attempt for a minute.
fn waiting() -> Scene {
    let scene = Scene::with(|options| options.reconnect_wait(MINUTE));
    scene.server.refuse_connections(true).unwrap();
    scene.server.drop_clients();
    scene.event("ReconnectFailed", 1);
    scene.server.refuse_connections(false).unwrap();
    scene
}

#[test]
fn close_cuts_the_wait_and_an_attempt_under_way() {
    assert_eq!(waiting().end().last(), Some(&"Closed"));

    let scene = Scene::with(|options| options.connect_timeout(MINUTE));
    scene.server.go_silent(true);
    scene.server.drop_clients();
    scene.event("Reconnecting", 1);
    let names = scene.end();
    assert_eq!(names, ["Connected", "Disconnected", "Reconnecting", "ReconnectFailed", "Closed"]);
    let Kind::ReconnectFailed { cause, .. } = scene.event("ReconnectFailed", 1) else { panic!() };
    assert_eq!(cause.kind(), ErrorKind::Closed);
    assert!(matches!(scene.event("Closed", 1), Kind::Closed { cause: None }));
}

#[test]
fn a_drain_is_told_and_ends_with_closed() {
    let scene = Scene::new();
    scene.connection.drain(LONG).unwrap();
    assert_eq!(scene.end(), ["Connected", "Draining", "Closed"]);
    assert!(matches!(scene.event("Closed", 1), Kind::Closed { cause: None }));
}

#[test]
fn every_thread_that_waits_for_events_hears_of_the_end() {
    let scene = Scene::new();
    let events = scene.connection.events();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| while !events.is_finished() && events.next_timeout(MINUTE).is_some() {});
        }
        scene.connection.close();
    });
    assert!(begun.elapsed() < LONG, "{:?}", begun.elapsed());
}
