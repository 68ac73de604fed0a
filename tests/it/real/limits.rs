//! Limits of the server: what is too large, too many or too slow.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use nats_blocking::testing::Happening;
use nats_blocking::{ConnectionEventKind as Kind, Error, ErrorKind, OutboxPolicy, ServerErrorKind};

use super::{Client, LIMIT, disconnected, quick, reconnected};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::ports;
use crate::support::wait::{Signal, poll};
use crate::support::watchdog::within;

/// What the server said, if that was the cause.
fn said(error: &Error) -> Option<&ServerErrorKind> {
    error.server_error().map(|error| error.kind())
}

#[test]
fn a_message_larger_than_the_server_takes_is_refused_before_it_is_sent() {
    within(Duration::from_secs(60), "payload", || {
        let server = NatsServer::start(&Config::new().max_payload(1_000));
        let client = Client::connect(quick(server.url()));
        assert_eq!(client.max_payload(), 1_000);
        let subscription = client.subscribe("a").unwrap();
        client.publish("a", vec![b'x'; 1_000]).unwrap();
        let error = client.publish("a", vec![b'x'; 1_001]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MaxPayload, "{error}");
        let error = client.request("a", vec![b'x'; 1_001], LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MaxPayload, "{error}");
        client.flush().unwrap();
        assert_eq!(subscription.try_iter().count(), 1);
        assert_eq!(client.count(disconnected), 0);
        client.finish();
    });
}

#[test]
fn buffered_messages_that_the_new_server_would_refuse_are_told_and_the_others_arrive() {
    within(Duration::from_secs(60), "lowered", || {
        let mut server = NatsServer::start(&Config::new().max_payload(100_000));
        let client = Client::connect(quick(server.url()));
        let subscription = client.subscribe("a").unwrap();
        client.flush().unwrap();
        server.kill();
        client.wait(disconnected);
        for length in [10, 50_000, 1_000, 1_001, 20] {
            client.publish("a", vec![b'x'; length]).unwrap();
        }
        server.restart_with(&Config::new().max_payload(1_000));
        client.wait(reconnected);
        for length in [10, 1_000, 20] {
            assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload().len(), length);
        }
        let told = |happening: &Happening| {
            matches!(happening, Happening::Exception(error)
                if error.kind() == ErrorKind::MaxPayload && error.to_string().contains('2'))
        };
        client.recorder.wait_for(LIMIT, told).unwrap();
        assert_eq!(client.max_payload(), 1_000);
        let error = client.publish("a", vec![b'x'; 1_001]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MaxPayload);
        client.flush().unwrap();
        assert_eq!(client.count(disconnected), 1, "{}", client.timeline("one loss"));
        client.finish();
    });
}

#[test]
fn a_subscription_too_many_is_told_and_costs_nothing_else() {
    within(Duration::from_secs(60), "subscriptions", || {
        let server = NatsServer::start(&Config::new().max_subscriptions(2));
        let client = Client::connect(quick(server.url()));
        let first = client.subscribe("a").unwrap();
        let _second = client.subscribe("b").unwrap();
        client.flush().unwrap();
        let _third = client.subscribe("c").unwrap();
        client.wait_server_error(|kind| *kind == ServerErrorKind::MaximumSubscriptions);
        client.publish("a", "still here").unwrap();
        assert_eq!(first.next_timeout(LIMIT).unwrap().payload(), b"still here");
        assert_eq!(client.count(disconnected), 0);
        client.finish();
    });
}

#[test]
fn a_protocol_line_too_long_is_refused_here_or_else_the_cause_of_a_loss() {
    within(Duration::from_secs(60), "control line", || {
        let server = NatsServer::start(&Config::new().max_control_line(1_024));
        let subject = "long.".repeat(400) + "subject";

        let careful = Client::connect(quick(server.url()).max_control_line(1_024));
        let error = careful.publish(&subject, "").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::MaxControlLine, "{error}");
        careful.round_trip("a");
        assert_eq!(careful.count(disconnected), 0);
        careful.finish();

        let careless = Client::connect(quick(server.url()));
        let subscription = careless.subscribe("a").unwrap();
        careless.publish(&subject, "").unwrap();
        let event = careless.wait(disconnected);
        let Kind::Disconnected { cause } = event.kind() else { panic!("{event}") };
        assert_eq!(said(cause), Some(&ServerErrorKind::MaximumControlLine), "{cause}");
        careless.wait_server_error(|kind| *kind == ServerErrorKind::MaximumControlLine);
        careless.wait(reconnected);
        careless.publish("a", "after").unwrap();
        assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), b"after");
        careless.flush().unwrap();
        assert_eq!(careless.count(disconnected), 1, "the long line is not sent again");
        careless.finish();
    });
}

/// A way to the server on which, while `stalled` holds, nothing comes back: the client that uses it
/// reads nothing. Serves two connections, one after the other. Returns its URL.
fn stalling_way(server: SocketAddr, stalled: Arc<Signal<bool>>) -> String {
    let listener = ports::listen();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let serve = move || {
        for client in listener.incoming().take(2) {
            let mut client = client.unwrap();
            let mut upstream = TcpStream::connect(server).unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            let out = thread::Builder::new().name("stalling-out".to_owned());
            out.spawn(move || std::io::copy(&mut from, &mut to)).unwrap();
            let mut chunk = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = upstream.read(&mut chunk) {
                stalled.wait(LIMIT * 2, |stalled| (!*stalled).then_some(()));
                if client.write_all(&chunk[..count]).is_err() {
                    break;
                }
            }
            let _ = client.shutdown(Shutdown::Both);
        }
    };
    thread::Builder::new().name("stalling-way".to_owned()).spawn(serve).unwrap();
    url
}

#[test]
fn a_client_that_the_server_finds_slow_is_cut_off_and_comes_back_and_others_are_unharmed() {
    within(Duration::from_secs(60), "slow", || {
        let config = Config::new()
            .max_payload(100_000)
            .max_pending(1_000_000)
            .write_deadline(Duration::from_secs(1));
        let server = NatsServer::start(&config);
        // An older server slows the publisher down until it has cut the slow client off.
        let patient = OutboxPolicy::Block(LIMIT);
        let publisher = Client::connect(quick(server.url()).outbox_policy(patient));
        let stalled = Arc::new(Signal::new(false));
        let way = stalling_way(server.client_address(), Arc::clone(&stalled));
        let slow = Client::connect(quick(way));
        let flood = slow.subscribe("flood").unwrap();
        let other = slow.subscribe("drop").unwrap();
        slow.flush().unwrap();
        stalled.change(|stalled| *stalled = true);
        // 30 MB: more than the kernel and the server together keep for a client.
        for _ in 0..300 {
            publisher.publish("flood", vec![b'x'; 100_000]).unwrap();
        }
        publisher.flush().unwrap();
        server.wait_log("Slow Consumer", LIMIT);
        stalled.change(|stalled| *stalled = false);
        slow.wait(disconnected);
        slow.wait(reconnected);
        slow.flush().unwrap();
        assert!(flood.try_iter().count() < 300);
        publisher.publish("drop", "by drop").unwrap();
        assert_eq!(other.next_timeout(LIMIT).unwrap().payload(), b"by drop");
        assert_eq!(publisher.count(disconnected), 0);
        slow.finish();
        publisher.finish();
    });
}

#[test]
fn a_server_that_gets_no_answer_to_its_pings_would_cut_us_and_we_answer() {
    within(Duration::from_secs(60), "server pings", || {
        let config = Config::new().ping_interval(Duration::from_millis(100)).ping_max(2);
        let server = NatsServer::start(&config);
        let client = Client::connect(quick(server.url()).ping_interval(None));
        client.flush().unwrap();
        // Twenty pings later the server would have cut a client that does not answer.
        let answered =
            poll(LIMIT, || (server.log().matches("Ping Timer").count() >= 20).then_some(()));
        assert!(answered.is_some(), "the server does not ping:\n{}", server.log());
        client.round_trip("a");
        assert_eq!(client.count(disconnected), 0);
        client.finish();
    });
}
