//! Requests: each ends once, with its own reply or with the reason why there is none.

use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::{Connection, Dispatcher, ErrorKind, Headers, Message};

use super::backend::{Backend, LIMIT, Setup, kind, numbers, text_of};

conformance! {
    a_request_gets_the_reply_of_its_responder,
    many_requests_are_under_way_from_one_thread,
    many_threads_request_at_once_and_each_gets_its_own_reply,
    a_request_that_nobody_listens_to_ends_at_once,
    a_request_without_an_answer_ends_at_its_deadline,
    a_late_reply_never_answers_another_request,
    only_the_first_of_several_replies_answers,
    a_dropped_request_is_forgotten,
    a_request_made_while_the_server_is_down_is_answered_later,
    a_reply_that_comes_after_a_reconnect_answers_its_request,
    requests_end_with_the_connection_if_the_program_wants_that,
}

conformance! {
    setup: Setup { unpublishable: Some("private.>"), ..Setup::default() };
    a_request_to_a_forbidden_subject_ends_at_once,
}

conformance! {
    setup: Setup { unsubscribable: Some("_INBOX.>"), ..Setup::default() };
    a_request_whose_inbox_is_forbidden_ends_at_once,
}

/// Long enough that no request ends by it.
const LONG: Duration = Duration::from_secs(100);

fn echo(connection: &Connection) -> Dispatcher {
    let dispatcher = connection
        .dispatcher(|connection, message| {
            connection.respond(&message, message.payload()).unwrap();
        })
        .unwrap();
    dispatcher.subscribe("echo").unwrap();
    connection.flush().unwrap();
    dispatcher
}

fn a_request_gets_the_reply_of_its_responder(backend: &Backend) {
    let server = backend.client();
    let client = backend.client();
    let requests = server.subscribe("service").unwrap();
    server.flush().unwrap();
    thread::scope(|scope| {
        let reply = scope.spawn(|| client.request("service", "plain", LONG));
        let request = requests.next_timeout(LIMIT).unwrap();
        assert_eq!(text_of(&request), "plain");
        assert!(request.reply().is_some_and(|reply| reply.starts_with("_INBOX.")));
        server.respond(&request, "answer").unwrap();
        assert_eq!(text_of(&reply.join().unwrap().unwrap()), "answer");
    });
    let mut headers = Headers::new();
    headers.append("Trace", "9").unwrap();
    let message = Message::new("service", "whole").with_headers(headers).with_reply("unused");
    thread::scope(|scope| {
        let reply = scope.spawn(|| client.request_message(&message, LONG));
        let request = requests.next_timeout(LIMIT).unwrap();
        assert_eq!(request.headers().get("Trace"), Some("9"));
        assert_ne!(request.reply(), Some("unused"));
        let answer = Message::new(request.reply().unwrap(), "").with_header("Code", "5").unwrap();
        server.publish_message(&answer).unwrap();
        let reply = reply.join().unwrap().unwrap();
        assert_eq!((reply.payload(), reply.headers().get("Code")), (&b""[..], Some("5")));
    });
    assert_eq!(client.pending_requests(), 0);
    client.flush().unwrap();
    let statistics = client.statistics();
    assert_eq!((statistics.requests(), statistics.replies()), (2, 2));
}

fn many_requests_are_under_way_from_one_thread(backend: &Backend) {
    let server = backend.client();
    let client = backend.client();
    let _echo = echo(&server);
    let pending: Vec<_> =
        numbers(1_000).iter().map(|number| client.send_request("echo", number).unwrap()).collect();
    // Waited for from the last on: no reply depends on another.
    for (number, reply) in numbers(1_000).into_iter().zip(&pending).rev() {
        assert_eq!(text_of(&reply.wait(LONG).unwrap()), number);
        assert_eq!(text_of(&reply.try_wait().unwrap().unwrap()), number, "it can be asked again");
    }
    assert_eq!(client.pending_requests(), 0);
    // One subscription for all replies.
    assert_eq!(client.subscription_count(), 1);
    assert_eq!(backend.subscription_count(), 2);
}

fn many_threads_request_at_once_and_each_gets_its_own_reply(backend: &Backend) {
    let server = backend.client();
    let client = backend.client();
    let _echo = echo(&server);
    thread::scope(|scope| {
        for requester in 0..16 {
            let client = &client;
            scope.spawn(move || {
                for number in 0..100 {
                    let payload = format!("{requester} {number}");
                    let reply = client.request("echo", &payload, LONG).unwrap();
                    assert_eq!(text_of(&reply), payload);
                }
            });
        }
    });
    // The replies are counted before the answer to this.
    client.flush().unwrap();
    assert_eq!(client.statistics().replies(), 1_600);
    assert_eq!(client.statistics().late_replies(), 0);
}

fn a_request_that_nobody_listens_to_ends_at_once(backend: &Backend) {
    let client = backend.client();
    let started = Instant::now();
    assert_eq!(kind(client.request("nobody", "", LONG)), ErrorKind::NoResponders);
    let pending = client.send_request("nobody", "").unwrap();
    assert_eq!(kind(pending.wait(LONG)), ErrorKind::NoResponders);
    assert!(pending.try_wait().unwrap().unwrap_err().is_no_responders());
    assert!(started.elapsed() < LIMIT);

    let patient = backend.client_with(|options| options.no_no_responders());
    let waited = patient.request("nobody", "", Duration::from_millis(100));
    assert_eq!(kind(waited), ErrorKind::Timeout);
}

fn a_request_without_an_answer_ends_at_its_deadline(backend: &Backend) {
    let client = backend.client();
    let silent = client.subscribe("silent").unwrap();
    let timeout = Duration::from_millis(50);
    let started = Instant::now();
    assert_eq!(kind(client.request("silent", "", timeout)), ErrorKind::Timeout);
    assert!(started.elapsed() >= timeout);
    assert_eq!(client.pending_requests(), 0, "a request that ended waits for nothing");
    let pending = client.send_request("silent", "").unwrap();
    assert!(pending.try_wait().is_none());
    assert_eq!(kind(pending.wait(timeout)), ErrorKind::Timeout);
    assert_eq!(client.pending_requests(), 1, "the reply may still come");
    let first = silent.next_timeout(LIMIT).unwrap();
    let second = silent.next_timeout(LIMIT).unwrap();
    client.respond(&first, "late").unwrap();
    client.respond(&second, "in time").unwrap();
    assert_eq!(text_of(&pending.wait(LONG).unwrap()), "in time");
}

fn a_late_reply_never_answers_another_request(backend: &Backend) {
    let client = backend.client();
    let requests = client.subscribe("service").unwrap();
    for _ in 0..20 {
        let ended = client.request("service", "first", Duration::from_millis(1));
        assert_eq!(kind(ended), ErrorKind::Timeout);
        let pending = client.send_request("service", "second").unwrap();
        let first = requests.next_timeout(LIMIT).unwrap();
        client.respond(&first, "late").unwrap();
        client.flush().unwrap();
        assert!(pending.try_wait().is_none(), "answered by the reply to another request");
        client.respond(&requests.next_timeout(LIMIT).unwrap(), "right").unwrap();
        assert_eq!(text_of(&pending.wait(LONG).unwrap()), "right");
    }
    client.flush().unwrap();
    let statistics = client.statistics();
    assert_eq!((statistics.replies(), statistics.late_replies()), (20, 20));
}

fn only_the_first_of_several_replies_answers(backend: &Backend) {
    let client = backend.client();
    let requests = client.subscribe("service").unwrap();
    let pending = client.send_request("service", "").unwrap();
    let request = requests.next_timeout(LIMIT).unwrap();
    for payload in ["first", "second", "third"] {
        client.respond(&request, payload).unwrap();
    }
    client.flush().unwrap();
    assert_eq!(text_of(&pending.wait(LONG).unwrap()), "first");
    let statistics = client.statistics();
    assert_eq!((statistics.replies(), statistics.late_replies()), (1, 2));
}

fn a_dropped_request_is_forgotten(backend: &Backend) {
    let client = backend.client();
    let requests = client.subscribe("service").unwrap();
    let pending = client.send_request("service", "").unwrap();
    assert_eq!(client.pending_requests(), 1);
    drop(pending);
    assert_eq!(client.pending_requests(), 0);
    client.respond(&requests.next_timeout(LIMIT).unwrap(), "nobody waits").unwrap();
    client.flush().unwrap();
    assert_eq!(client.statistics().late_replies(), 1);
}

fn a_request_made_while_the_server_is_down_is_answered_later(backend: &Backend) {
    let client = backend.client();
    let _echo = echo(&client);
    backend.go_down();
    client.wait_lost();
    // The first request of the connection: its inbox is announced with the other subscriptions.
    let pending = client.send_request("echo", "patience").unwrap();
    thread::scope(|scope| {
        let waiting = scope.spawn(|| client.request("echo", "waits", LONG));
        backend.come_up();
        assert_eq!(text_of(&pending.wait(LONG).unwrap()), "patience");
        assert_eq!(text_of(&waiting.join().unwrap().unwrap()), "waits");
    });
}

fn a_reply_that_comes_after_a_reconnect_answers_its_request(backend: &Backend) {
    let client = backend.client();
    let requests = client.subscribe("service").unwrap();
    let pending = client.send_request("service", "").unwrap();
    let request = requests.next_timeout(LIMIT).unwrap();
    backend.go_down();
    client.wait_lost();
    assert!(pending.try_wait().is_none());
    backend.come_up();
    client.wait_resubscribed(1);
    client.respond(&request, "after all").unwrap();
    assert_eq!(text_of(&pending.wait(LONG).unwrap()), "after all");
}

fn requests_end_with_the_connection_if_the_program_wants_that(backend: &Backend) {
    let client = backend.client_with(|options| options.fail_requests_on_disconnect());
    let requests = client.subscribe("service").unwrap();
    let pending = client.send_request("service", "").unwrap();
    requests.next_timeout(LIMIT).unwrap();
    backend.go_down();
    assert_eq!(kind(pending.wait(LONG)), ErrorKind::Disconnected);
    backend.come_up();
    client.wait_resubscribed(1);

    let forced = backend.client();
    let requests = forced.subscribe("other").unwrap();
    let pending = forced.send_request("other", "").unwrap();
    requests.next_timeout(LIMIT).unwrap();
    forced.force_reconnect().unwrap();
    assert_eq!(kind(pending.wait(LONG)), ErrorKind::Disconnected);
}

fn a_request_to_a_forbidden_subject_ends_at_once(backend: &Backend) {
    let client = backend.client();
    let requests = client.subscribe("open").unwrap();
    let other = client.send_request("open", "").unwrap();
    assert_eq!(kind(client.request("private.x", "", LONG)), ErrorKind::PermissionsViolation);
    let error = client.request("private.x", "", LONG).unwrap_err();
    assert!(error.server_error().is_some_and(|said| said.is_permissions_violation()));
    client.respond(&requests.next_timeout(LIMIT).unwrap(), "unharmed").unwrap();
    assert_eq!(text_of(&other.wait(LONG).unwrap()), "unharmed");
}

fn a_request_whose_inbox_is_forbidden_ends_at_once(backend: &Backend) {
    let client = backend.client();
    let _requests = client.subscribe("open").unwrap();
    // Often: the refusal of the inbox may come before the request has been written.
    for _ in 0..300 {
        assert_eq!(kind(client.request("open", "", LONG)), ErrorKind::PermissionsViolation);
    }
    let prefixed = backend.client_with(|options| options.inbox_prefix("mine"));
    let _echo = echo(&prefixed);
    assert_eq!(text_of(&prefixed.request("echo", "allowed", LONG).unwrap()), "allowed");
}
