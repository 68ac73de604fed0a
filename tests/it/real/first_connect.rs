//! A first connect that is retried: in the caller's wait, and in the background.

use std::time::{Duration, Instant};

use nats_blocking::testing::Happening;
use nats_blocking::{
    ConnectionEventKind as Kind, ConnectionStatus, ErrorKind, OptionsBuilder, RetryConnect,
};

use super::{Client, LIMIT, closed, quick, reconnect_failed, reconnected};
use crate::support::leaks::Snapshot;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::ports;
use crate::support::wait::poll;
use crate::support::watchdog::within;

const ALL: Duration = Duration::from_secs(120);

fn local(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

/// Retries in the background, soon.
fn background(url: &str) -> OptionsBuilder {
    quick(url).retry_on_failed_connect(RetryConnect::InBackground)
}

/// A client in status Connecting, of a port where nobody listens, that has failed at least once.
fn connecting() -> (Client, u16) {
    let port = ports::free();
    let client = Client::connect(background(&local(port)));
    client.wait(reconnect_failed);
    assert_eq!(client.status(), ConnectionStatus::Connecting);
    (client, port)
}

fn serve(config: &Config, port: u16) -> NatsServer {
    let server = poll(LIMIT, || NatsServer::try_start(config, port));
    server.expect("the port is free again")
}

fn connected(kind: &Kind) -> bool {
    matches!(kind, Kind::Connected)
}

/// The names of all events so far: a failed attempt is `-`.
fn heard(client: &Client) -> String {
    let text: Vec<String> = client
        .recorder
        .events()
        .iter()
        .map(|event| match event.kind() {
            Kind::Reconnecting { .. } => "(".to_owned(),
            Kind::ReconnectFailed { .. } => ")".to_owned(),
            other => format!(" {other:?}"),
        })
        .collect();
    text.concat().replace("()", "-")
}

#[test]
fn a_server_that_starts_later_is_found_within_the_limit() {
    within(ALL, "within", || {
        let port = ports::free();
        let starting = std::thread::Builder::new().name("late-server".to_owned());
        let recorder = nats_blocking::testing::Recorder::new();
        let heard = recorder.clone();
        let server = starting.spawn(move || {
            // Only once the connect has failed at least twice.
            let failed =
                |happening: &Happening| happening.event_kind().is_some_and(reconnect_failed);
            heard.wait_for_count(LIMIT, 2, failed).unwrap();
            serve(&Config::new(), port)
        });
        let options = quick(local(port))
            .retry_on_failed_connect(RetryConnect::Within(Duration::from_secs(60)))
            .connection_listener(recorder.clone())
            .error_listener(recorder.clone());
        let client = Client::connect(options);
        let _server = server.unwrap().join().unwrap();
        client.round_trip("a");
        client.wait(connected);
        assert_eq!(client.count(reconnected), 0);
        assert_eq!(client.statistics().reconnects(), 0);
        client.finish();
        recorder.check().unwrap();
    });
}

#[test]
fn when_the_limit_is_over_connect_fails_with_all_causes_and_leaves_no_thread() {
    within(ALL, "limit", || {
        let ports = [ports::free(), ports::free()];
        let urls = ports.map(local);
        let options = quick(urls.clone())
            .name("limit-over")
            .retry_on_failed_connect(RetryConnect::Within(Duration::from_secs(2)));
        let name = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
        let seen = name.clone();
        let options = options.on_reconnecting(move |_, _| {
            *seen.lock().unwrap() = std::thread::current().name().unwrap_or_default().to_owned();
        });
        let begun = Instant::now();
        let (outcome, recorder) = Client::try_connect(options);
        let error = outcome.err().expect("nobody listens");
        assert!(begun.elapsed() >= Duration::from_secs(2));
        assert_eq!(error.kind(), ErrorKind::Connect);
        let mut servers: Vec<_> = error.attempts().iter().map(|a| a.server().to_owned()).collect();
        servers.sort();
        let mut expected = urls.to_vec();
        expected.sort();
        assert_eq!(servers, expected, "{error}");
        recorder.check().unwrap();
        let events = recorder.events();
        let Some(Kind::Closed { cause: Some(cause) }) = events.last().map(|event| event.kind())
        else {
            panic!("{}", recorder.timeline("Closed must come last, with its cause"));
        };
        assert_eq!(cause.attempts().len(), 2);
        let exceptions = recorder.count(|happening| matches!(happening, Happening::Exception(_)));
        let failed = recorder.count(|h| h.event_kind().is_some_and(reconnect_failed));
        assert!(failed > 2 && exceptions == failed, "{}", recorder.timeline("failures"));
        let name = name.lock().unwrap().clone();
        let threads = name.split("callback").next().unwrap().to_owned();
        assert!(threads.starts_with("nats-"), "{threads}");
        // The system lists a thread for a moment after its end.
        let gone = || (Snapshot::take().threads_named(&threads) == 0).then_some(());
        assert!(poll(LIMIT, gone).is_some());
    });
}

#[test]
fn in_the_background_everything_is_accepted_and_nothing_is_lost() {
    within(ALL, "background", || {
        let (client, port) = connecting();
        let subscription = client.subscribe("early.*").unwrap();
        for number in 0..100 {
            client.publish("early.a", format!("{number}")).unwrap();
        }
        let answers = client
            .dispatcher(|connection, message| connection.respond(&message, "here").unwrap())
            .unwrap();
        answers.subscribe("ask").unwrap();
        let reply = client.send_request("ask", "").unwrap();
        assert!(client.flush_timeout(Duration::from_millis(20)).unwrap_err().is_timeout());
        let _server = serve(&Config::new(), port);
        client.flush().unwrap();
        for number in 0..100 {
            let message = subscription.next_timeout(LIMIT).unwrap();
            assert_eq!(message.text().unwrap(), format!("{number}"));
        }
        assert_eq!(reply.wait(LIMIT).unwrap().payload(), b"here");
        client.wait(connected);
        let heard = heard(&client);
        assert!(heard.starts_with('-') && heard.ends_with("( Connected"), "{heard}");
        assert_eq!(client.statistics().reconnects(), 0);
        // From here on it is a connection like any other.
        client.force_reconnect().unwrap();
        client.wait(reconnected);
        client.finish();
    });
}

#[test]
fn what_is_published_before_the_first_server_is_limited_like_in_an_outage() {
    within(ALL, "buffer", || {
        let port = ports::free();
        let limit = nats_blocking::ReconnectBuffer::Bytes(100);
        let client = Client::connect(background(&local(port)).reconnect_buffer(limit));
        client.publish("a", [b'x'; 50]).unwrap();
        let error = client.publish("a", [b'x'; 50]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ReconnectBufferFull);
        client.finish();
    });
}

#[test]
fn a_connecting_connection_can_be_closed_dropped_hurried_and_not_drained() {
    within(ALL, "connecting", || {
        let options = background(&local(ports::free())).reconnect_wait(ALL);
        let client = Client::connect(options.clone());
        client.wait_count(1, reconnect_failed);
        let error = client.drain(LIMIT).unwrap_err();
        assert!(error.is_disconnected(), "{error}");
        assert_eq!(client.status(), ConnectionStatus::Connecting);
        // Two minutes are cut short each time.
        for count in 2..5 {
            client.force_reconnect().unwrap();
            client.wait_count(count, reconnect_failed);
        }
        let waiting = client.connection.clone();
        let flush = std::thread::Builder::new()
            .name("flushing".to_owned())
            .spawn(move || waiting.flush_timeout(ALL))
            .unwrap();
        let begun = Instant::now();
        client.finish();
        assert!(flush.join().unwrap().unwrap_err().is_closed());
        assert!(begun.elapsed() < LIMIT);

        let Client { connection, recorder } = Client::connect(options);
        drop(connection);
        recorder.wait_for_event(LIMIT, closed).unwrap();
        recorder.check().unwrap();
    });
}

#[test]
fn when_no_server_is_left_every_waiting_call_ends_with_the_cause() {
    within(ALL, "exhausted", || {
        let options =
            background(&local(ports::free())).max_reconnects(3).reconnect_wait(LIMIT / 20);
        let client = Client::connect(options);
        let error = client.request("a", "", ALL).unwrap_err();
        assert!(error.is_closed(), "{error}");
        assert!(client.flush_timeout(ALL).unwrap_err().is_closed());
        let cause = client.wait_closed(LIMIT).unwrap().expect("a cause");
        assert_eq!(cause.attempts().len(), 1, "{cause}");
        assert_eq!(client.count(reconnect_failed), 3);
        client.finish();

        let server = NatsServer::start(&Config::new().user("joe", "right"));
        let options = background(&server.url()).user_and_password("joe", "wrong");
        let client = Client::connect(options);
        let cause = client.wait_closed(LIMIT).unwrap().expect("a cause");
        assert!(cause.is_authorization(), "{cause}");
        assert_eq!(client.count(reconnect_failed), 2, "refused twice");
        client.finish();
    });
}

#[test]
fn a_name_that_does_not_resolve_is_tried_again_until_the_pool_is_another() {
    within(ALL, "name", || {
        let server = NatsServer::start_plain();
        // A resolver that does not answer costs this much.
        let options = background("nats://nobody.invalid:4222");
        let client = Client::connect(options.connect_timeout(Duration::from_secs(1)));
        let failed = client.wait(reconnect_failed);
        let Kind::ReconnectFailed { cause, attempt: 1 } = failed.kind() else { panic!("{failed}") };
        assert!(matches!(cause.kind(), ErrorKind::Dns | ErrorKind::Timeout), "{cause}");
        client.set_server_pool(server.url()).unwrap();
        client.wait_for_status(ConnectionStatus::Connected, LIMIT * 2).unwrap();
        client.round_trip("a");
        client.finish();
    });
}

#[test]
fn an_iterator_hears_the_whole_beginning_in_order() {
    within(ALL, "iterator", || {
        let port = ports::free();
        let client = Client::connect(background(&local(port)));
        let events = client.events();
        client.wait_count(2, reconnect_failed);
        let _server = serve(&Config::new(), port);
        client.wait(connected);
        client.connection.close();
        let heard: Vec<String> = events.map(|notice| notice.to_string()).collect();
        let all: Vec<String> =
            client.recorder.records().iter().map(|r| r.happening().to_string()).collect();
        assert!(heard.len() > 4 && all.ends_with(&heard), "{heard:?}");
        client.finish();
    });
}

#[test]
fn a_listener_may_end_a_connect_that_is_retried_in_the_callers_wait() {
    within(ALL, "ended by a listener", || {
        let options = quick(local(ports::free()))
            .retry_on_failed_connect(RetryConnect::Within(Duration::MAX))
            .on_reconnect_failed(|connection, _| {
                assert_eq!(connection.status(), ConnectionStatus::Connecting);
                connection.close();
            });
        let (outcome, recorder) = Client::try_connect(options);
        assert!(outcome.err().expect("closed").is_closed());
        recorder.check().unwrap();
        let events = recorder.events();
        let last = events.last().map(|event| event.kind());
        assert!(matches!(last, Some(Kind::Closed { cause: None })), "{last:?}");
    });
}

#[test]
fn a_server_that_refuses_twice_ends_a_retried_connect_before_its_limit() {
    within(ALL, "refused", || {
        let server = NatsServer::start(&Config::new().user("joe", "right"));
        let options = quick(server.url())
            .user_and_password("joe", "wrong")
            .retry_on_failed_connect(RetryConnect::Within(ALL));
        let begun = Instant::now();
        let (outcome, recorder) = Client::try_connect(options);
        let error = outcome.err().expect("refused");
        assert!(begun.elapsed() < LIMIT);
        assert_eq!(error.kind(), ErrorKind::Connect);
        assert!(error.is_authorization() && error.attempts().len() == 1, "{error}");
        recorder.check().unwrap();
    });
}
