//! A server of a cluster announces its end, and the client leaves it by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nats_blocking::testing::Happening;
use nats_blocking::{ConnectionEventKind as Kind, ConnectionStatus, ErrorKind};

use super::{Client, LIMIT, disconnected, lame_duck, quick, reconnected, resubscribed};
use crate::support::cluster::Cluster;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::wait::poll;
use crate::support::watchdog::within;

const FORM_LIMIT: Duration = Duration::from_secs(30);

/// The server keeps its clients for a while, so that whoever leaves, leaves by itself.
fn config() -> Config {
    Config::new().lame_duck(Duration::from_secs(40), Duration::from_secs(10))
}

/// Waits until the client knows that many servers.
fn wait_known(client: &Client, count: usize) {
    let known = poll(LIMIT, || (client.servers().len() >= count).then_some(()));
    assert!(known.is_some(), "{}", client.timeline("discovery"));
}

#[test]
fn a_lame_duck_is_left_without_losing_or_doubling_a_message() {
    within(Duration::from_secs(300), "lame duck", || {
        let mut cluster = Cluster::start_with(3, &config());
        for round in 0..2 {
            let listener = Client::connect(quick(cluster[2].url()));
            let news = listener.subscribe("news").unwrap();
            news.set_pending_limits(nats_blocking::PendingLimits::UNLIMITED);
            listener.flush().unwrap();
            let client = Client::connect(quick(cluster[0].url()).reconnect_on_lame_duck());
            wait_known(&client, 3);
            // Interest reaches the other nodes a moment after the flush.
            let heard = poll(LIMIT, || {
                client.publish("news", "probe").unwrap();
                news.next_timeout(Duration::from_millis(100)).ok()
            });
            assert!(heard.is_some());
            let (publisher, stop) = (client.connection.clone(), Arc::new(AtomicBool::new(false)));
            let stopped = stop.clone();
            let publishing = std::thread::Builder::new()
                .name("publishing".to_owned())
                .spawn(move || {
                    let mut count = 0;
                    while !stopped.load(Ordering::Relaxed) {
                        publisher.publish("news", format!("{count}")).unwrap();
                        count += 1;
                        if count % 50 == 0 {
                            publisher.flush().unwrap();
                        }
                    }
                    publisher.publish("news", "end").unwrap();
                    publisher.flush().unwrap();
                    count
                })
                .unwrap();
            cluster[0].lame_duck();
            client.wait(lame_duck);
            client.wait(resubscribed);
            client.publish("news", "mark").unwrap();
            stop.store(true, Ordering::Relaxed);
            let count = publishing.join().unwrap();
            assert_ne!(client.connected_url(), Some(cluster[0].url()));
            let mut expected = 0;
            loop {
                let message = news.next_timeout(LIMIT).unwrap();
                match message.text().unwrap() {
                    "probe" | "mark" => {}
                    "end" => break,
                    number => {
                        assert_eq!(number, format!("{expected}"), "of {count}, round {round}");
                        expected += 1;
                    }
                }
            }
            assert_eq!(expected, count);
            assert!(news.try_next().unwrap().is_none_or(|m| m.payload() == b"mark"));
            let lost = client.wait(disconnected);
            let Kind::Disconnected { cause } = lost.kind() else { panic!("{lost}") };
            assert_eq!(cause.kind(), ErrorKind::LameDuck, "{cause}");
            assert!(!cause.to_string().contains("unconfirmed"), "{cause}");
            assert_eq!(lost.server(), Some(cluster[0].url().as_str()));
            assert_eq!((client.count(disconnected), client.count(reconnected)), (1, 1));
            let failures = client.recorder.count(|h| matches!(h, Happening::Exception(_)));
            assert_eq!(failures, 0, "{}", client.timeline("nothing has failed"));
            client.finish();
            listener.finish();
            cluster[0].restart();
            cluster.wait_formed(FORM_LIMIT);
        }
    });
}

#[test]
fn no_request_fails_while_its_server_is_left() {
    within(Duration::from_secs(300), "requests", || {
        let cluster = Cluster::start_with(3, &config());
        let responder = Client::connect(quick(cluster[1].url()));
        let answers = responder.dispatcher(|connection, message| {
            connection.respond(&message, message.payload()).unwrap();
        });
        let answers = answers.unwrap();
        answers.subscribe("ask").unwrap();
        responder.flush().unwrap();
        let others = Client::connect(quick(cluster[2].url()));
        let client = Client::connect(quick(cluster[0].url()).reconnect_on_lame_duck());
        for asking in [&client, &others] {
            let known = poll(LIMIT, || asking.request("ask", "", LIMIT).ok());
            assert!(known.is_some(), "{}", asking.timeline("no answer from the other node"));
        }
        wait_known(&client, 3);
        cluster[0].lame_duck();
        let mut after = 0;
        for number in 0.. {
            let text = format!("{number}");
            let reply = client.request("ask", &text, LIMIT);
            let reply = reply.unwrap_or_else(|e| panic!("{e}\n{}", client.timeline("")));
            assert_eq!(reply.text().unwrap(), text);
            after += usize::from(client.count(resubscribed) > 0);
            if after > 50 {
                break;
            }
        }
        assert_eq!(client.count(disconnected), 1);
        client.finish();
        others.finish();
        responder.finish();
    });
}

#[test]
fn a_lame_duck_without_another_server_is_kept_to_its_end() {
    within(Duration::from_secs(120), "alone", || {
        let server = NatsServer::start(&config());
        let client = Client::connect(quick(server.url()).reconnect_on_lame_duck());
        server.lame_duck();
        client.wait(lame_duck);
        client.round_trip("a");
        assert_eq!(client.status(), ConnectionStatus::Connected);
        assert_eq!(client.count(disconnected), 0);
        client.finish();
    });
}
