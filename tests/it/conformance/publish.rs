//! Publishing: what arrives, what is refused before it is sent.

use std::collections::HashMap;
use std::thread;

use nats_blocking::{ErrorKind, Headers, Message};

use super::backend::{Backend, LIMIT, Setup, kind, text};

conformance! {
    a_message_arrives_with_its_reply_its_headers_and_its_payload,
    any_bytes_are_a_payload,
    every_message_of_many_threads_arrives_once_in_the_order_of_its_publisher,
    what_cannot_be_written_is_refused_and_nothing_is_sent,
    the_longest_protocol_line_is_accepted_and_one_byte_more_is_refused,
}

conformance! {
    setup: Setup { max_payload: Some(1_000), ..Setup::default() };
    the_largest_payload_is_accepted_and_one_byte_more_is_refused,
    headers_count_as_payload,
}

conformance! {
    setup: Setup { unpublishable: Some("private.>"), ..Setup::default() };
    a_forbidden_subject_is_told_and_the_connection_stays,
}

fn a_message_arrives_with_its_reply_its_headers_and_its_payload(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("news.>").unwrap();
    let mut headers = Headers::new();
    headers.append("Trace", "7").unwrap();
    client.publish("news.plain", "one").unwrap();
    client.publish_with_reply("news.reply", "answers", "two").unwrap();
    client.publish_with_headers("news.headers", &headers, "three").unwrap();
    let message = Message::new("news.all", "four").with_reply("answers");
    client.publish_message(&message.with_headers(headers.clone())).unwrap();

    let next = || subscription.next_timeout(LIMIT).unwrap();
    let expected = [
        ("news.plain", None, false, "one"),
        ("news.reply", Some("answers"), false, "two"),
        ("news.headers", None, true, "three"),
        ("news.all", Some("answers"), true, "four"),
    ];
    for (subject, reply, has_headers, payload) in expected {
        let message = next();
        assert_eq!(message.subject(), subject);
        assert_eq!(message.reply(), reply);
        assert_eq!(message.payload(), payload.as_bytes());
        assert_eq!(message.headers().is_empty(), !has_headers);
        assert_eq!(message.headers().get("Trace"), has_headers.then_some("7"));
        assert!(message.status().is_none());
    }
}

fn any_bytes_are_a_payload(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("bytes").unwrap();
    let every: Vec<u8> = (0..=255).collect();
    let payloads: [&[u8]; 4] = [b"", b"\r\n", b"+OK\r\nPING\r\nMSG a 1 1\r\n", &every];
    for payload in payloads {
        client.publish("bytes", payload).unwrap();
    }
    for payload in payloads {
        assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), payload);
    }
}

fn every_message_of_many_threads_arrives_once_in_the_order_of_its_publisher(backend: &Backend) {
    const PUBLISHERS: usize = 8;
    const EACH: usize = 10_000;
    let client = backend.client();
    let reader = backend.client();
    let subscription = reader.subscribe("load.*").unwrap();
    reader.flush().unwrap();
    thread::scope(|scope| {
        for publisher in 0..PUBLISHERS {
            let client = &client;
            scope.spawn(move || {
                let subject = format!("load.{publisher}");
                for number in 0..EACH {
                    client.publish(&subject, number.to_string()).unwrap();
                }
            });
        }
        let mut next = HashMap::new();
        for _ in 0..PUBLISHERS * EACH {
            let message = subscription.next_timeout(LIMIT).unwrap();
            let expected = next.entry(message.subject().to_owned()).or_insert(0_usize);
            assert_eq!(message.text().unwrap(), expected.to_string(), "{}", message.subject());
            *expected += 1;
        }
        assert_eq!(next.len(), PUBLISHERS);
    });
    client.flush().unwrap();
    reader.flush().unwrap();
    assert!(subscription.try_next().unwrap().is_none(), "a message came twice");
}

fn what_cannot_be_written_is_refused_and_nothing_is_sent(backend: &Backend) {
    let observer = backend.client();
    let everything = observer.subscribe(">").unwrap();
    observer.flush().unwrap();
    let client = backend.client();
    let dispatcher = client.dispatcher(|_, _| ()).unwrap();
    for bad in ["", " ", "a b", "a\tb", "a\r\nPUB x 0\r\n", "a\n", "a\0", "\u{7f}"] {
        let refused = [
            kind(client.publish(bad, "x")),
            kind(client.publish_with_reply("a", bad, "x")),
            kind(client.publish_with_reply(bad, "a", "x")),
            kind(client.publish_with_headers(bad, &Headers::new(), "x")),
            kind(client.publish_message(&Message::new(bad, "x"))),
            kind(client.publish_message(&Message::new("a", "x").with_reply(bad))),
            kind(client.respond(&Message::new("a", "").with_reply(bad), "x")),
            kind(client.request(bad, "x", LIMIT)),
            kind(client.send_request(bad, "x")),
            kind(client.subscribe(bad)),
            kind(client.queue_subscribe(bad, "q")),
            kind(dispatcher.subscribe(bad)),
            kind(dispatcher.subscribe_with(bad, |_, _| ())),
        ];
        assert_eq!(refused, [ErrorKind::InvalidSubject; 13], "{bad:?}");
        let refused =
            [kind(client.queue_subscribe("a", bad)), kind(dispatcher.queue_subscribe("a", bad))];
        assert_eq!(refused, [ErrorKind::InvalidQueueGroup; 2], "{bad:?}");
    }
    for bad in [".a", "a.", "a..b", ".", ">.a", "a.>.b"] {
        assert_eq!(kind(client.subscribe(bad)), ErrorKind::InvalidSubject, "{bad}");
        assert_eq!(kind(dispatcher.subscribe(bad)), ErrorKind::InvalidSubject, "{bad}");
    }
    assert_eq!(kind(client.respond(&Message::new("a", ""), "x")), ErrorKind::Misuse);

    client.flush().unwrap();
    assert_eq!(client.statistics().out_messages(), 0);
    assert_eq!(client.statistics().errors(), 0);
    assert_eq!(backend.subscription_count(), 1);
    observer.flush().unwrap();
    assert!(everything.try_next().unwrap().is_none());
}

fn the_largest_payload_is_accepted_and_one_byte_more_is_refused(backend: &Backend) {
    let client = backend.client();
    assert_eq!(client.max_payload(), 1_000);
    let subscription = client.subscribe("size").unwrap();
    let payload = vec![b'x'; 1_001];
    client.publish("size", &payload[..1_000]).unwrap();
    assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload().len(), 1_000);
    assert_eq!(kind(client.publish("size", &payload)), ErrorKind::MaxPayload);
    assert_eq!(kind(client.request("size", &payload, LIMIT)), ErrorKind::MaxPayload);
    assert_eq!(client.pending_requests(), 0);
    client.flush().unwrap();
    let statistics = client.statistics();
    assert_eq!((statistics.out_messages(), statistics.disconnects()), (1, 0));
}

fn headers_count_as_payload(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("size").unwrap();
    let mut headers = Headers::new();
    headers.append("Key", "value").unwrap();
    let publish = |length: usize| client.publish_with_headers("size", &headers, vec![0; length]);
    publish(0).unwrap();
    let block = subscription.next_timeout(LIMIT).unwrap().size();
    assert!((20..100).contains(&block), "a header block of {block} bytes");
    publish(1_000 - block).unwrap();
    assert_eq!(subscription.next_timeout(LIMIT).unwrap().size(), 1_000);
    assert_eq!(kind(publish(1_001 - block)), ErrorKind::MaxPayload);
    client.flush().unwrap();
    assert_eq!(client.statistics().disconnects(), 0);
}

fn the_longest_protocol_line_is_accepted_and_one_byte_more_is_refused(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("line.>").unwrap();
    let subject = |length: usize| format!("line.{}", "x".repeat(length - 5));
    let publish = |length: usize| client.publish(subject(length), "hello");
    let mut refused = (4_000..5_000).filter(|length| publish(*length).is_err());
    let longest = refused.next().expect("there is a limit") - 1;
    assert!((4_070..=4_096).contains(&longest), "a subject of {longest} bytes");
    assert_eq!(kind(publish(longest + 1)), ErrorKind::MaxControlLine);
    client.flush().unwrap();
    for length in 4_000..=longest {
        let message = subscription.next_timeout(LIMIT).unwrap();
        assert_eq!(message.subject(), subject(length));
    }
    assert_eq!(client.statistics().disconnects(), 0);

    let short = backend.client_with(|options| options.max_control_line(90));
    let subject = "a".repeat(76);
    short.publish(&subject, "hello").unwrap();
    let long = short.publish_with_reply(&subject, "abcdefgh", "hello");
    assert_eq!(kind(long), ErrorKind::MaxControlLine);
    short.flush().unwrap();
}

fn a_forbidden_subject_is_told_and_the_connection_stays(backend: &Backend) {
    use nats_blocking::testing::Happening;
    use nats_blocking::{RefusedOperation, ServerErrorKind};

    let client = backend.client();
    let subscription = client.subscribe(">").unwrap();
    client.publish("private.x", "secret").unwrap();
    client.publish("open", "public").unwrap();
    assert_eq!(text(&subscription), "public");
    let told = client.recorder.wait_for(LIMIT, |happening| {
        matches!(happening, Happening::ServerError(error) if error.is_permissions_violation())
    });
    let Happening::ServerError(error) = told.unwrap() else { panic!("another happening") };
    let ServerErrorKind::PermissionsViolation { operation, subject, .. } = error.kind() else {
        panic!("another kind: {error}");
    };
    assert_eq!((*operation, subject.as_str()), (RefusedOperation::Publish, "private.x"));
    assert!(!error.closes_connection());
    client.flush().unwrap();
    assert_eq!(client.statistics().disconnects(), 0);
}
