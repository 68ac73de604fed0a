//! The server forbids some subjects.

use std::time::{Duration, Instant};

use nats_blocking::testing::Happening;
use nats_blocking::{
    Consumer, ConsumerStatus, ErrorKind, RefusedOperation, ServerErrorKind, Subscription,
};

use super::{Client, LIMIT, disconnected, quick};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::watchdog::within;

fn guest(permissions: &str) -> (NatsServer, Client) {
    let config = Config::new().user_with_permissions("guest", "guest", permissions);
    let server = NatsServer::start(&config);
    let client = Client::connect(quick(server.url()).user_and_password("guest", "guest"));
    (server, client)
}

/// Waits until the listener was told of that violation; returns the queue that it names.
fn wait_violation(client: &Client, wanted: RefusedOperation, about: &str) -> Option<String> {
    let found = client.recorder.wait_for(LIMIT, |happening| {
        matches!(happening, Happening::ServerError(error) if matches!(
            error.kind(),
            ServerErrorKind::PermissionsViolation { operation, subject, .. }
                if *operation == wanted && subject == about
        ))
    });
    match found {
        Ok(Happening::ServerError(error)) => {
            assert!(!error.closes_connection());
            assert!(error.text().to_lowercase().starts_with("permissions violation"), "{error}");
            match error.kind() {
                ServerErrorKind::PermissionsViolation { queue, .. } => queue.clone(),
                other => panic!("{other:?}"),
            }
        }
        Ok(other) => panic!("{other}"),
        Err(timeline) => panic!("{timeline}"),
    }
}

/// The refusal comes out once, and the subscription stays.
fn assert_refused_once(subscription: &Subscription) {
    let error = subscription.next_timeout(LIMIT).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionsViolation, "{error}");
    assert!(error.server_error().is_some());
    assert!(subscription.try_next().unwrap().is_none(), "once");
    assert_eq!(subscription.status(), ConsumerStatus::Active);
}

#[test]
fn a_forbidden_publish_is_told_with_its_subject_and_costs_nothing_else() {
    within(Duration::from_secs(60), "publish", || {
        let (_server, client) = guest("publish: { deny: \"private.>\" }");
        client.publish("private.Dear.Diary", "x").unwrap();
        wait_violation(&client, RefusedOperation::Publish, "private.Dear.Diary");
        assert_eq!(client.last_error().unwrap().kind(), ErrorKind::PermissionsViolation);
        client.round_trip("public");
        assert_eq!(client.count(disconnected), 0);
        assert_eq!(client.statistics().errors(), 1);
        client.finish();
    });
}

#[test]
fn a_forbidden_subject_with_quotes_is_understood() {
    within(Duration::from_secs(60), "quotes", || {
        let (_server, client) = guest("publish: { deny: \"private.>\" }");
        for subject in ["private.a\"b", "private.c\\d", "private.é"] {
            let started = Instant::now();
            let error = client.request(subject, "", Duration::from_secs(60)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::PermissionsViolation, "{subject}: {error}");
            assert!(started.elapsed() < Duration::from_secs(30));
            wait_violation(&client, RefusedOperation::Publish, subject);
        }
        client.finish();
    });
}

#[test]
fn a_reader_that_waits_already_is_woken_by_the_refusal() {
    within(Duration::from_secs(60), "woken", || {
        let (mut server, client) = guest("publish: { deny: \"none\" }");
        let secret = client.subscribe("secret.plan").unwrap();
        client.publish("secret.plan", "1").unwrap();
        assert_eq!(secret.next_timeout(LIMIT).unwrap().payload(), b"1");
        let deny = "subscribe: { deny: \"secret.>\" }";
        let config = Config::new().user_with_permissions("guest", "guest", deny);
        let reader = std::thread::Builder::new().name("reader-of-secrets".to_owned());
        let reader = reader.spawn(move || secret.next_timeout(LIMIT)).unwrap();
        server.restart_with(&config);
        let error = reader.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::PermissionsViolation, "{error}");
        client.finish();
    });
}

#[test]
fn a_forbidden_queue_group_is_named_and_the_other_one_works() {
    within(Duration::from_secs(60), "queue", || {
        let (_server, client) = guest("subscribe: { allow: \"work open\" }");
        let closed = client.queue_subscribe("work", "shut").unwrap();
        let open = client.queue_subscribe("work", "open").unwrap();
        assert_refused_once(&closed);
        let queue = wait_violation(&client, RefusedOperation::Subscribe, "work");
        assert_eq!(queue.as_deref(), Some("shut"));
        client.publish("work", "1").unwrap();
        assert_eq!(open.next_timeout(LIMIT).unwrap().payload(), b"1");
        assert!(open.try_next().unwrap().is_none());
        client.finish();
    });
}

#[test]
fn a_forbidden_subscription_of_a_dispatcher_is_told_and_the_others_work() {
    within(Duration::from_secs(60), "dispatcher", || {
        let (_server, client) = guest("subscribe: { deny: \"secret.>\" }");
        let (seen, shown) = std::sync::mpsc::channel();
        let dispatcher = client.dispatcher(move |_, message| {
            seen.send(message.subject().to_owned()).unwrap();
        });
        let dispatcher = dispatcher.unwrap();
        dispatcher.subscribe("secret.plan").unwrap();
        dispatcher.subscribe("public").unwrap();
        wait_violation(&client, RefusedOperation::Subscribe, "secret.plan");
        client.publish("public", "").unwrap();
        assert_eq!(shown.recv_timeout(LIMIT).unwrap(), "public");
        client.finish();
    });
}

#[test]
fn requests_of_a_user_without_an_inbox_end_at_once_and_a_permitted_prefix_helps() {
    within(Duration::from_secs(120), "inbox", || {
        let (server, client) = guest("subscribe: { deny: \"_INBOX.>\" }");
        let responder = client.dispatcher(|connection, message| {
            connection.respond(&message, "answer").unwrap();
        });
        let responder = responder.unwrap();
        responder.subscribe("ask").unwrap();
        for _ in 0..3 {
            let started = Instant::now();
            let error = client.request("ask", "", Duration::from_secs(60)).unwrap_err();
            let took = started.elapsed();
            assert_eq!(error.kind(), ErrorKind::PermissionsViolation, "{error}");
            assert!(took < LIMIT, "{took:?}");
        }
        assert_eq!(client.pending_requests(), 0);
        assert_eq!(client.count(disconnected), 0);

        let options = quick(server.url()).user_and_password("guest", "guest");
        let other = Client::connect(options.inbox_prefix("_INBOX_guest"));
        assert_eq!(other.request("ask", "", LIMIT).unwrap().payload(), b"answer");
        other.finish();
        client.finish();
    });
}
