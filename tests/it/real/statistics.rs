//! Every counter, driven away from zero, with exact numbers where they are determined.

use std::collections::BTreeMap;
use std::time::Duration;

use nats_blocking::testing::Happening;
use nats_blocking::{ErrorKind, OutboxPolicy, PendingLimits, Statistics};

use super::{Client, LIMIT, disconnected, quick, resubscribed};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::wait::Gate;
use crate::support::watchdog::within;

/// The counts by name, as `Display` tells them.
fn counts(statistics: &Statistics) -> BTreeMap<String, u64> {
    let text = statistics.to_string();
    let pairs = text.split(", ").map(|pair| pair.split_once(' ').expect("a name and a count"));
    pairs.map(|(name, count)| (name.to_owned(), count.parse().expect("a count"))).collect()
}

fn messages_flushes_and_a_restart(server: &mut NatsServer) -> Statistics {
    let client = Client::connect(quick(server.url()));
    let subscription = client.subscribe("a").unwrap();
    for _ in 0..3 {
        client.publish("a", "12345").unwrap();
        client.flush().unwrap();
    }
    client.rtt().unwrap();
    let statistics = client.statistics();
    assert_eq!((statistics.out_messages(), statistics.in_messages()), (3, 3));
    assert_eq!(statistics.out_bytes(), 3 * "PUB a 5\r\n12345\r\n".len() as u64);
    assert_eq!(statistics.in_bytes(), 3 * "MSG a 1 5\r\n12345\r\n".len() as u64);
    assert_eq!((statistics.flushes(), statistics.pings()), (4, 4));
    assert_eq!((statistics.connects(), statistics.disconnects()), (1, 0));
    server.restart();
    client.wait(resubscribed);
    // Failed attempts are exceptions, as many as the restart took.
    let statistics = client.statistics();
    assert_eq!((statistics.connects(), statistics.reconnects()), (2, 1));
    assert_eq!(statistics.disconnects(), 1);
    subscription.unsubscribe();
    client.close();
    assert_eq!(client.statistics().disconnects(), 1, "a close is no loss");
    client.finish();
    statistics
}

fn requests_and_late_replies(server: &NatsServer) -> Statistics {
    let client = Client::connect(quick(server.url()));
    let services = client
        .dispatcher(|connection, message| connection.respond(&message, "pong").unwrap())
        .unwrap();
    services.subscribe("ping").unwrap();
    client.request("ping", "", LIMIT).unwrap();
    let nobody = client.request("nobody", "", LIMIT).unwrap_err();
    assert_eq!(nobody.kind(), ErrorKind::NoResponders);
    let slow = client.subscribe("slow").unwrap();
    let timeout = client.request("slow", "", Duration::from_millis(20)).unwrap_err();
    assert_eq!(timeout.kind(), ErrorKind::Timeout);
    client.respond(&slow.next_timeout(LIMIT).unwrap(), "too late").unwrap();
    client.flush().unwrap();
    let statistics = client.statistics();
    assert_eq!((statistics.requests(), statistics.replies()), (3, 2));
    assert_eq!(statistics.late_replies(), 1);
    assert_eq!(client.pending_requests(), 0);
    // Three requests and two answers; two requests, two answers and one no-responders reply.
    assert_eq!((statistics.out_messages(), statistics.in_messages()), (5, 5));
    client.finish();
    statistics
}

fn a_slow_consumer(server: &NatsServer) -> Statistics {
    let client = Client::connect(quick(server.url()));
    let consumer = client.subscribe("a").unwrap();
    consumer.set_pending_limits(PendingLimits::new(2, 0));
    for episode in 1..=2 {
        for _ in 0..7 {
            client.publish("a", "").unwrap();
        }
        client.flush().unwrap();
        let statistics = client.statistics();
        assert_eq!((statistics.slow_consumers(), statistics.dropped()), (episode, episode * 5));
        assert_eq!(statistics.in_messages(), episode * 7, "dropped ones are counted");
        consumer.next_timeout(LIMIT).unwrap();
        consumer.next_timeout(LIMIT).unwrap();
    }
    let statistics = client.statistics();
    client.finish();
    statistics
}

fn confirmations(server: &NatsServer) -> Statistics {
    let client = Client::connect(quick(server.url()).verbose());
    let _subscription = client.subscribe("a").unwrap();
    client.publish("b", "").unwrap();
    client.publish("c", "").unwrap();
    client.flush().unwrap();
    let statistics = client.statistics();
    // SUB and two PUBs; not the one of the login.
    assert_eq!(statistics.oks(), 3);
    client.finish();
    statistics
}

fn panics(server: &NatsServer) -> Statistics {
    let client = Client::connect(quick(server.url()));
    client.add_connection_listener(
        |_: &nats_blocking::Connection, _: &nats_blocking::ConnectionEvent| {
            panic!("a listener that panics")
        },
    );
    let dispatcher = client.dispatcher(|_, _| panic!("a handler that panics")).unwrap();
    dispatcher.subscribe("a").unwrap();
    client.publish("a", "").unwrap();
    let exceptions = |happening: &Happening| matches!(happening, Happening::Exception(_));
    client.recorder.wait_for_count(LIMIT, 1, exceptions).unwrap();
    client.close();
    let statistics = client.statistics();
    // The handler, and the listener at `Closed`, after which no more is told.
    assert_eq!((statistics.panics(), client.recorder.count(exceptions)), (2, 1));
    assert!((1..=2).contains(&statistics.exceptions()), "{statistics}");
    client.finish();
    statistics
}

fn refusals_beyond_the_queue_of_a_listener() -> Statistics {
    let config = Config::new()
        .user_with_permissions("u", "p", "publish: { deny: \"no.>\" }")
        .no_auth_user("u");
    let server = NatsServer::start(&config);
    let (entered, release) = (Gate::new(), Gate::new());
    let (inside, go_on) = (entered.clone(), release.clone());
    let connection = quick(server.url())
        .on_error(move |_, _| {
            inside.open();
            assert!(go_on.wait(LIMIT * 2));
        })
        .connect()
        .unwrap();
    connection.publish("no.first", "").unwrap();
    assert!(entered.wait(LIMIT), "the listener was not called");
    for _ in 0..1_100 {
        connection.publish("no.more", "").unwrap();
    }
    connection.flush_timeout(LIMIT).unwrap();
    let statistics = connection.statistics();
    assert_eq!(statistics.errors(), 1_101);
    // One is in the listener and 1,024 wait.
    assert_eq!(statistics.skipped(), 76);
    assert_eq!(statistics.exceptions(), 0);
    release.open();
    connection.close();
    statistics
}

fn a_torn_frame_and_discarded_messages(server: &mut NatsServer) -> Statistics {
    let options = quick(server.url())
        .send_buffer_size(64 * 1024)
        .outbox_size(32 * 1024 * 1024)
        .outbox_policy(OutboxPolicy::DropNewest)
        .reconnect_buffer(nats_blocking::ReconnectBuffer::Bytes(64 * 1024 * 1024))
        .close_timeout(Duration::from_millis(500));
    let client = Client::connect(options);
    client.flush().unwrap();
    server.stop();
    // More than kernels hold: one of them is written in part.
    let payload = vec![b'x'; 1024 * 1024];
    let discarded = |happening: &Happening| matches!(happening, Happening::MessageDiscarded(_));
    let mut published = 0;
    while client.statistics().discarded() < 2 {
        client.publish("a", &payload).unwrap();
        published += 1;
        assert!(published < 4_000, "the outbox is never full");
    }
    client.recorder.wait_for_count(LIMIT, 2, discarded).unwrap();
    let before = client.statistics();
    assert_eq!(before.out_messages(), published - 2, "what is dropped at once is not accepted");
    assert_eq!(before.torn(), 0);
    let waiting = client.pending_out().0;
    server.kill();
    client.wait(disconnected);
    client.wait(super::reconnect_failed);
    let lost = client.statistics();
    assert_eq!((lost.torn(), lost.discarded()), (1, 2));
    // Some may have been written between the two looks.
    let kept = client.pending_out().0;
    assert!(kept > 0 && kept < waiting, "{kept} of {waiting}");
    client.close();
    let statistics = client.statistics();
    assert_eq!(statistics.discarded(), 2 + kept, "what a close gives up is counted");
    client.finish();
    statistics
}

#[test]
fn every_counter_counts_what_its_documentation_says() {
    let scenes = within(LIMIT * 9, "statistics", || {
        let mut server = NatsServer::start_plain();
        vec![
            messages_flushes_and_a_restart(&mut server),
            requests_and_late_replies(&server),
            a_slow_consumer(&server),
            confirmations(&server),
            panics(&server),
            refusals_beyond_the_queue_of_a_listener(),
            a_torn_frame_and_discarded_messages(&mut server),
        ]
    });
    let mut sums = BTreeMap::new();
    for statistics in &scenes {
        for (name, count) in counts(statistics) {
            *sums.entry(name).or_insert(0) += count;
        }
    }
    let never: Vec<_> = sums.iter().filter(|(_, sum)| **sum == 0).map(|(name, _)| name).collect();
    assert_eq!(never, Vec::<&String>::new(), "a counter that no scene here moves");
    assert!(sums.len() >= 21, "{sums:?}");
}

#[test]
fn a_keep_alive_ping_is_counted_too() {
    within(LIMIT * 3, "keep-alive", || {
        let server = NatsServer::start_plain();
        let (gate, seen) = (Gate::new(), Gate::new());
        let opened = gate.clone();
        let pongs = seen.clone();
        let options = quick(server.url()).ping_interval(Duration::from_millis(20)).on_read(
            move |operation| {
                // The first PONG is that of the login.
                if operation.name() == "PONG" && opened.is_open() {
                    pongs.open();
                }
            },
        );
        let client = Client::connect(options);
        gate.open();
        assert!(seen.wait(LIMIT), "no ping was answered");
        let statistics = client.statistics();
        assert!(statistics.pings() >= 1 && statistics.flushes() == 0, "{statistics}");
        client.finish();
    });
}
