//! The server is stopped and continued, terminated, or told to leave.

use std::time::{Duration, Instant};

use nats_blocking::testing::Happening;
use nats_blocking::{ConnectionEventKind as Kind, ErrorKind, OutboxPolicy};

use super::{Client, LIMIT, disconnected, lame_duck, quick, reconnect_failed, reconnected};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::watchdog::within;

/// Pings so often that a silent server is noticed after about a second.
const PING: Duration = Duration::from_millis(300);

fn stale(happening: &Happening) -> bool {
    matches!(happening.event_kind(), Some(Kind::StaleConnection { pings_outstanding: 2 }))
}

fn lost_as_stale(happening: &Happening) -> bool {
    let kind = happening.event_kind();
    matches!(kind, Some(Kind::Disconnected { cause }) if cause.kind() == ErrorKind::StaleConnection)
}

/// Fills the outbox against a stopped server; returns how long the refused call took.
fn fill(client: &Client) -> Duration {
    let payload = vec![0; 64 * 1024];
    for _ in 0..10_000 {
        let started = Instant::now();
        if let Err(error) = client.publish("fill", &payload) {
            assert_eq!(error.kind(), ErrorKind::OutboxFull, "{error}");
            return started.elapsed();
        }
    }
    panic!("640 MB were taken by a server that stands still");
}

#[test]
fn a_server_that_stands_still_is_found_by_pings_and_used_again_when_it_goes_on() {
    within(Duration::from_secs(120), "stale", || {
        let server = NatsServer::start_plain();
        let options = quick(server.url())
            .ping_interval(PING)
            .max_pings_out(2)
            .connect_timeout(Duration::from_secs(2));
        let client = Client::connect(options);
        let subscription = client.subscribe("a").unwrap();
        client.flush().unwrap();
        let started = Instant::now();
        server.stop();
        let found = client.recorder.wait_for_sequence(LIMIT, &[&stale, &lost_as_stale]);
        found.unwrap_or_else(|timeline| panic!("{timeline}"));
        let took = started.elapsed();
        println!("a server that stands still is noticed after {took:.1?} (pings every {PING:?})");
        client.publish("a", "buffered").unwrap();
        // The kernel accepts the connection, the server says nothing.
        let failed = client.wait(reconnect_failed);
        let Kind::ReconnectFailed { cause, .. } = failed.kind() else { panic!("{failed}") };
        assert_eq!(cause.kind(), ErrorKind::Timeout, "{cause}");
        server.cont();
        client.wait(reconnected);
        assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), b"buffered");
        client.flush().unwrap();
        assert!(subscription.try_next().unwrap().is_none());
        client.finish();
    });
}

#[test]
fn a_publisher_waits_no_longer_than_its_policy_says() {
    within(Duration::from_secs(120), "policy", || {
        let server = NatsServer::start_plain();
        for policy in [OutboxPolicy::Error, OutboxPolicy::Block(Duration::from_millis(300))] {
            let options = quick(server.url()).outbox_size(256 * 1024).outbox_policy(policy);
            let client = Client::connect(options);
            client.flush().unwrap();
            server.stop();
            let took = fill(&client);
            println!("{policy:?}: a full outbox refused after {took:.1?}");
            assert!(took < LIMIT, "{policy:?}: {took:?}");
            if let OutboxPolicy::Block(patience) = policy {
                assert!(took >= patience, "{policy:?}: {took:?}");
            }
            server.cont();
            client.flush().unwrap();
            client.publish("fill", "there is room again").unwrap();
            assert_eq!(client.count(disconnected), 0);
            client.finish();
        }
    });
}

#[test]
fn a_publisher_that_may_lose_messages_is_told_of_each_and_never_waits() {
    within(Duration::from_secs(120), "drop newest", || {
        let server = NatsServer::start_plain();
        let options = quick(server.url()).outbox_size(256 * 1024);
        let client = Client::connect(options.outbox_policy(OutboxPolicy::DropNewest));
        client.flush().unwrap();
        server.stop();
        let payload = vec![0; 64 * 1024];
        let discarded = |happening: &Happening| match happening {
            Happening::MessageDiscarded(message) => message.subject() == "fill",
            _ => false,
        };
        let mut sent = 0;
        while client.statistics().discarded() < 5 && sent < 10_000 {
            client.publish("fill", &payload).unwrap();
            sent += 1;
        }
        let told = client.recorder.wait_for_count(LIMIT, 5, discarded);
        told.unwrap_or_else(|timeline| panic!("{timeline}"));
        assert_eq!(client.statistics().discarded(), 5);
        server.cont();
        client.flush().unwrap();
        assert_eq!(client.count(disconnected), 0);
        client.finish();
    });
}

#[test]
fn closing_against_a_server_that_stands_still_takes_its_two_seconds_at_most() {
    within(Duration::from_secs(120), "close", || {
        let server = NatsServer::start_plain();
        let options = quick(server.url()).outbox_policy(OutboxPolicy::Error);
        let client = Client::connect(options);
        let subscription = client.subscribe("a").unwrap();
        client.flush().unwrap();
        server.stop();
        fill(&client);
        let started = Instant::now();
        client.close();
        let took = started.elapsed();
        println!("close against a server that stands still with a full outbox: {took:.2?}");
        assert!(took < LIMIT, "{took:?}");
        assert!(subscription.next_timeout(LIMIT).unwrap_err().is_closed());
        assert!(client.statistics().discarded() > 0);
        client.finish();
        server.cont();
    });
}

#[test]
fn a_short_stand_still_is_no_loss() {
    within(Duration::from_secs(60), "short", || {
        let server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()));
        let subscription = client.subscribe("n").unwrap();
        client.flush().unwrap();
        server.stop();
        for number in 0..1_000 {
            client.publish("n", format!("{number}")).unwrap();
        }
        let flush = client.flush_timeout(Duration::from_millis(100));
        assert!(flush.unwrap_err().is_timeout());
        server.cont();
        for number in 0..1_000 {
            let message = subscription.next_timeout(LIMIT).unwrap();
            assert_eq!(message.text().unwrap(), format!("{number}"));
        }
        client.flush().unwrap();
        assert_eq!(client.count(disconnected), 0);
        client.finish();
    });
}

#[test]
fn a_terminated_server_is_a_loss_like_any_other() {
    within(Duration::from_secs(60), "terminated", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()));
        let subscription = client.subscribe("a").unwrap();
        server.terminate();
        client.wait(disconnected);
        client.publish("a", "1").unwrap();
        server.restart();
        client.wait(reconnected);
        assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), b"1");
        assert_eq!(client.count(disconnected), 1);
        client.finish();
    });
}

fn leaving() -> Config {
    Config::new().lame_duck(Duration::from_secs(30), Duration::from_millis(500))
}

#[test]
fn a_server_in_lame_duck_mode_says_so_once_and_then_evicts_us() {
    within(Duration::from_secs(120), "evicted", || {
        let mut server = NatsServer::start(&leaving());
        let client = Client::connect(quick(server.url()));
        let subscription = client.subscribe("a").unwrap();
        client.flush().unwrap();
        server.lame_duck();
        client.wait(lame_duck);
        assert!(client.server_info().lame_duck());
        client.wait(disconnected);
        server.wait_exit(LIMIT);
        assert_eq!(client.count(lame_duck), 1);
        server.restart();
        client.wait(reconnected);
        assert!(!client.server_info().lame_duck());
        client.publish("a", "back").unwrap();
        assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), b"back");
        // A new session of the server may say it again, once.
        server.lame_duck();
        client.wait_count(2, lame_duck);
        client.wait_count(2, disconnected);
        assert_eq!(client.count(lame_duck), 2);
        client.finish();
    });
}

#[test]
fn a_program_that_hears_of_lame_duck_mode_can_leave_first() {
    within(Duration::from_secs(60), "leaves", || {
        let grace = Duration::from_secs(30);
        let config = Config::new().lame_duck(Duration::from_secs(60), grace);
        let (server, other) = (NatsServer::start(&config), NatsServer::start_plain());
        let options = quick([server.url(), other.url()]).no_randomize();
        let client = Client::connect(options.on_lame_duck(|connection, _| {
            connection.force_reconnect().unwrap();
        }));
        assert_eq!(client.connected_url(), Some(server.url()));
        client.flush().unwrap();
        server.lame_duck();
        client.wait(reconnected);
        assert_eq!(client.connected_url(), Some(other.url()));
        assert_eq!(client.count(lame_duck), 1);
        assert_eq!(client.count(|kind| matches!(kind, Kind::ForcedReconnect)), 1);
        client.round_trip("a");
        client.finish();
    });
}
