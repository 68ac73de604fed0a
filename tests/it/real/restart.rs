//! The server is killed and comes back on its port.

use std::time::Duration;

use nats_blocking::{
    Connection, ConnectionEventKind as Kind, ConnectionStatus, Consumer, Dispatcher, Subscription,
};

use super::{Client, LIMIT, disconnected, quick, reconnected, resubscribed};
use crate::support::nats_server::NatsServer;
use crate::support::watchdog::within;

/// One of each kind of consumer on one connection.
struct Work {
    plain: Subscription,
    members: [Subscription; 2],
    limited: Subscription,
    responder: Dispatcher,
}

impl Work {
    fn begin(connection: &Connection) -> Self {
        let limited = connection.subscribe("limited").unwrap();
        limited.unsubscribe_after(10).unwrap();
        let responder = connection
            .dispatcher(|connection, message| {
                connection.respond(&message, message.payload()).unwrap();
            })
            .unwrap();
        responder.queue_subscribe("echo", "responders").unwrap();
        responder
            .subscribe_with("shout", |connection, message| {
                let loud = message.text().unwrap().to_uppercase();
                connection.respond(&message, loud).unwrap();
            })
            .unwrap();
        Self {
            plain: connection.subscribe("plain.>").unwrap(),
            members: ["work", "work"]
                .map(|queue| connection.queue_subscribe("job", queue).unwrap()),
            limited,
            responder,
        }
    }

    /// Everything works, and nothing arrives twice.
    fn check(&self, connection: &Connection) {
        connection.publish("plain.a.b", "p").unwrap();
        assert_eq!(self.plain.next_timeout(LIMIT).unwrap().subject(), "plain.a.b");
        for _ in 0..40 {
            connection.publish("job", "j").unwrap();
        }
        // The answer to a flush comes behind the messages of this connection.
        connection.flush().unwrap();
        let [one, other] = self.members.each_ref().map(|member| member.try_iter().count());
        assert_eq!(one + other, 40, "the members got {one} and {other}");
        assert!(self.plain.try_next().unwrap().is_none());
        for (subject, reply) in [("echo", "ping"), ("shout", "PING")] {
            let answer = connection.request(subject, "ping", LIMIT).unwrap();
            assert_eq!(answer.payload(), reply.as_bytes());
        }
    }

    /// Publishes `count` messages to the limited subscription and returns how many come.
    fn use_limited(&self, connection: &Connection, count: usize) -> usize {
        for _ in 0..count {
            connection.publish("limited", "l").unwrap();
        }
        connection.flush().unwrap();
        self.limited.try_iter().count()
    }
}

#[test]
fn a_client_knows_what_it_is_connected_to() {
    within(Duration::from_secs(60), "connected", || {
        let server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()).name("knows"));
        assert_eq!(client.status(), ConnectionStatus::Connected);
        assert_eq!(client.connected_url(), Some(server.url()));
        assert_eq!(client.servers(), [server.url()]);
        assert!(client.discovered_servers().is_empty());
        assert_eq!(client.peer_addr(), Some(server.client_address()));
        assert!(client.local_addr().is_some());
        assert_eq!(client.server_info().port(), server.port());
        assert!(client.server_info().headers());
        assert_eq!(client.max_payload(), 1024 * 1024);
        assert!(client.client_id().is_some());
        assert_eq!(client.client_ip().as_deref(), Some("127.0.0.1"));
        assert!(client.rtt().unwrap() < LIMIT);
        assert!(client.last_error().is_none());
        client.round_trip("a");
        client.finish();
    });
}

#[test]
fn everything_works_after_the_server_was_killed_and_came_back() {
    within(Duration::from_secs(120), "killed", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()));
        let work = Work::begin(&client);
        work.check(&client);
        assert_eq!(work.use_limited(&client, 4), 4);

        server.kill();
        client.wait(disconnected);
        client.wait_for_status(ConnectionStatus::Reconnecting, LIMIT).unwrap();
        server.restart();
        client.wait(reconnected);
        // Plain, two members, limited, two of the dispatcher, and the inbox of the requests.
        let event = client.wait(resubscribed);
        assert!(matches!(event.kind(), Kind::Resubscribed { subscriptions: 7 }), "{event}");

        work.check(&client);
        assert_eq!(work.use_limited(&client, 10), 6, "4 of 10 came before the loss");
        assert!(work.limited.next_timeout(LIMIT).unwrap_err().is_closed());
        assert_eq!(client.subscription_count(), 6);
        assert_eq!(work.responder.delivered(), 4);
        let counted = client.statistics();
        assert_eq!((counted.connects(), counted.reconnects(), counted.disconnects()), (2, 1, 1));
        client.finish();
    });
}

#[test]
fn what_is_published_while_the_server_is_down_arrives_once_and_in_order() {
    within(Duration::from_secs(120), "buffered", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()));
        let subscription = client.subscribe("n").unwrap();
        client.flush().unwrap();
        server.kill();
        client.wait(disconnected);
        for number in 0..2_000 {
            client.publish("n", format!("{number}")).unwrap();
        }
        let (waiting, bytes) = client.pending_out();
        assert!(waiting == 2_000 && bytes > 2_000, "{waiting} messages, {bytes} bytes");
        server.restart();
        for number in 0..2_000 {
            let message = subscription.next_timeout(LIMIT).unwrap();
            assert_eq!(message.text().unwrap(), format!("{number}"));
        }
        client.flush().unwrap();
        assert!(subscription.try_next().unwrap().is_none());
        assert_eq!(client.pending_out().0, 0);
        client.finish();
    });
}

#[test]
fn a_request_made_while_the_server_is_down_is_answered_after_it_came_back() {
    within(Duration::from_secs(120), "request", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()));
        let work = Work::begin(&client);
        server.kill();
        client.wait(disconnected);
        let pending = client.send_request("echo", "while down").unwrap();
        server.restart();
        assert_eq!(pending.wait(LIMIT).unwrap().payload(), b"while down");
        drop(work);
        client.finish();
    });
}

#[test]
fn nothing_is_seen_twice_or_out_of_order_however_the_server_is_cut_off() {
    within(Duration::from_secs(120), "order", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()));
        let subscription = client.subscribe("n").unwrap();
        let mut number = 0_u64;
        let mut publish = |count: u64| {
            let first = number;
            for _ in 0..count {
                client.publish("n", format!("{number}")).unwrap();
                number += 1;
            }
            first..number
        };
        let mut certain = Vec::new();
        for round in 1..=5 {
            certain.extend(publish(500));
            client.flush().unwrap();
            // These are on their way when the server dies: each arrives once or not at all.
            publish(500);
            server.kill();
            publish(200);
            client.wait_count(round, disconnected);
            certain.extend(publish(300));
            server.restart();
            client.wait_count(round, reconnected);
        }
        certain.extend(publish(1));
        client.flush().unwrap();
        let seen: Vec<u64> = subscription
            .try_iter()
            .map(|message| message.text().unwrap().parse().unwrap())
            .collect();
        assert!(seen.is_sorted_by(|one, next| one < next), "twice or out of order: {seen:?}");
        let lost: Vec<_> =
            certain.iter().filter(|number| seen.binary_search(number).is_err()).collect();
        assert!(lost.is_empty(), "lost: {lost:?}");
        client.finish();
    });
}

#[test]
fn twenty_kills_are_twenty_losses_and_twenty_returns() {
    within(Duration::from_secs(300), "twenty", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()));
        let work = Work::begin(&client);
        for round in 1..=20 {
            server.kill();
            server.restart();
            client.wait_count(round, resubscribed);
            client.publish("plain.again", format!("{round}")).unwrap();
            assert_eq!(work.plain.next_timeout(LIMIT).unwrap().text().unwrap(), format!("{round}"));
        }
        work.check(&client);
        assert_eq!(client.count(disconnected), 20);
        assert_eq!(client.count(reconnected), 20);
        assert_eq!(client.count(resubscribed), 20);
        let counted = client.statistics();
        assert_eq!((counted.disconnects(), counted.reconnects()), (20, 20));
        client.finish();
    });
}

#[test]
fn a_client_without_reconnecting_closes_with_the_loss_as_cause() {
    within(Duration::from_secs(60), "no reconnect", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()).no_reconnect());
        let subscription = client.subscribe("a").unwrap();
        server.kill();
        let cause = client.wait_closed(LIMIT).unwrap();
        assert!(cause.is_some());
        assert!(subscription.next_timeout(LIMIT).unwrap_err().is_closed());
        assert!(client.publish("a", "").unwrap_err().is_closed());
        assert_eq!(client.count(disconnected), 1);
        client.finish();
    });
}

#[test]
fn a_client_with_three_attempts_gives_up_after_them() {
    within(Duration::from_secs(60), "three attempts", || {
        let mut server = NatsServer::start_plain();
        let client = Client::connect(quick(server.url()).max_reconnects(3));
        server.kill();
        let cause = client.wait_closed(LIMIT).unwrap().expect("a cause");
        assert_eq!(cause.attempts().len(), 1, "{cause}");
        assert_eq!(client.count(super::reconnect_failed), 3);
        client.finish();
    });
}

#[test]
fn a_drain_right_after_a_forced_reconnect_keeps_the_events_in_order() {
    within(Duration::from_secs(120), "forced and drained", || {
        let server = NatsServer::start_plain();
        for _ in 0..30 {
            let client = Client::connect(quick(server.url()));
            let _subscription = client.subscribe("a").unwrap();
            client.force_reconnect().unwrap();
            // It is refused, or the next connection is there already.
            match client.start_drain(LIMIT) {
                Ok(drain) => drain.wait(LIMIT).unwrap(),
                Err(error) => assert!(error.is_disconnected(), "{error}"),
            }
            client.finish();
        }
    });
}
