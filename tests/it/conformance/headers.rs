//! Headers on their way there and back.

use nats_blocking::testing::Happening;
use nats_blocking::{ErrorKind, Headers, Message};

use super::backend::{Backend, LIMIT, kind, text};

conformance! {
    headers_arrive_as_they_were_sent,
    many_headers_arrive,
    a_value_that_is_not_text_costs_one_notice_and_nothing_else,
    a_connection_without_headers_refuses_to_send_them,
    a_status_of_a_publisher_is_read,
    a_request_and_its_answer_may_have_headers,
}

fn headers_arrive_as_they_were_sent(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let mut headers = Headers::new();
    let lines = [
        ("Zebra", "first"),
        ("apple", "second"),
        ("Zebra", "third"),
        ("ZEBRA", "other case"),
        ("Empty", ""),
        ("Colons", "a:b: c"),
        ("Blanks", "in  the   middle"),
        ("Unicode", "grüße 你好 🦀"),
        ("!#$%&'*+-.^_`|~09", "any visible name"),
    ];
    for (name, value) in lines {
        headers.append(name, value).unwrap();
    }
    client.publish_with_headers("a", &headers, "payload").unwrap();
    let message = subscription.next_timeout(LIMIT).unwrap();
    let received: Vec<_> = message.headers().iter().collect();
    assert_eq!(received, lines);
    assert_eq!(message.headers(), &headers);
    assert_eq!(message.headers().get("Zebra"), Some("first"));
    assert_eq!(message.headers().get_last("Zebra"), Some("third"));
    assert_eq!(message.headers().get("zebra"), None);
    assert_eq!(message.headers().get_ignore_case("zebra"), Some("first"));
    assert_eq!(message.headers().get_all_ignore_case("zebra").count(), 3);
    assert_eq!(message.headers().get("Empty"), Some(""));
    assert_eq!(message.payload(), b"payload");
    // What was received can be sent on as it is.
    client.publish_message(&message).unwrap();
    assert_eq!(subscription.next_timeout(LIMIT).unwrap().headers(), &headers);
    // An empty list of headers is none.
    client.publish_with_headers("a", &Headers::new(), "plain").unwrap();
    let plain = subscription.next_timeout(LIMIT).unwrap();
    assert!(plain.headers().is_empty() && plain.raw_headers().is_none());
}

fn many_headers_arrive(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    let mut headers = Headers::new();
    for number in 0..1_000 {
        headers.append(format!("Name-{number}"), "v".repeat(number % 100)).unwrap();
    }
    client.publish_with_headers("a", &headers, "").unwrap();
    assert_eq!(subscription.next_timeout(LIMIT).unwrap().headers(), &headers);
    for (name, value) in [("", "v"), ("a b", "v"), ("a:b", "v"), ("ä", "v"), ("a\r\n", "v")] {
        assert_eq!(kind(headers.append(name, value)), ErrorKind::InvalidHeader, "{name:?}");
    }
    for value in ["a\r\nInjected: b", "a\n", "\0"] {
        assert_eq!(kind(headers.append("Name", value)), ErrorKind::InvalidHeader, "{value:?}");
    }
}

fn a_value_that_is_not_text_costs_one_notice_and_nothing_else(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    client.flush().unwrap();
    let block = b"NATS/1.0\r\nGood: yes\r\nOdd: \xff\xfe\r\n\r\n";
    let frame =
        [format!("HPUB a {} {}\r\n", block.len(), block.len() + 5).as_bytes(), block, b"hello\r\n"]
            .concat();
    backend.say(&frame);
    let message = subscription.next_timeout(LIMIT).unwrap();
    assert_eq!(message.payload(), b"hello");
    assert_eq!(message.headers().get("Good"), Some("yes"));
    assert_eq!(message.raw_headers(), Some(&block[..]));
    client.publish("a", "goes on").unwrap();
    assert_eq!(text(&subscription), "goes on");
    client.recorder.wait_for(LIMIT, is_header_fault).unwrap();
    client.close();
    client.wait_closed(LIMIT).unwrap();
    assert_eq!(client.recorder.count(is_header_fault), 1);
    assert_eq!(client.statistics().disconnects(), 0);
}

fn is_header_fault(happening: &Happening) -> bool {
    matches!(happening, Happening::Exception(error) if error.kind() == ErrorKind::InvalidHeader)
}

fn a_connection_without_headers_refuses_to_send_them(backend: &Backend) {
    let plain = backend.client_with(|options| options.no_headers());
    let other = backend.client();
    let subscription = plain.subscribe("a").unwrap();
    plain.flush().unwrap();
    let mut headers = Headers::new();
    headers.append("Name", "value").unwrap();
    // The server leaves out the headers for those who do not know them.
    other.publish_with_headers("a", &headers, "stripped").unwrap();
    let message = subscription.next_timeout(LIMIT).unwrap();
    assert_eq!((message.payload(), message.headers().len()), (&b"stripped"[..], 0));
    let refused = plain.publish_with_headers("a", &headers, "");
    assert_eq!(kind(refused), ErrorKind::HeadersUnsupported);
    let message = Message::new("a", "").with_headers(headers);
    assert_eq!(kind(plain.publish_message(&message)), ErrorKind::HeadersUnsupported);
    plain.publish_with_headers("a", &Headers::new(), "none").unwrap();
    assert_eq!(text(&subscription), "none");
    plain.flush().unwrap();
    assert_eq!(plain.statistics().disconnects(), 0);
}

fn a_status_of_a_publisher_is_read(backend: &Backend) {
    let client = backend.client();
    let subscription = client.subscribe("a").unwrap();
    client.flush().unwrap();
    let block = b"NATS/1.0 408 Request Timeout\r\nLeft: 3\r\n\r\n";
    let line = format!("HPUB a {} {}\r\n", block.len(), block.len());
    backend.say(&[line.as_bytes(), block, b"\r\n"].concat());
    let message = subscription.next_timeout(LIMIT).unwrap();
    let status = message.status().unwrap();
    assert_eq!((status.code(), status.description()), (408, "Request Timeout"));
    assert_eq!(message.headers().get("Left"), Some("3"));
    assert!(!status.is_no_responders());
}

fn a_request_and_its_answer_may_have_headers(backend: &Backend) {
    let client = backend.client();
    let dispatcher = client
        .dispatcher(|connection, message| {
            let mut headers = message.headers().clone();
            headers.insert("Answered", "yes").unwrap();
            connection.respond_with_headers(&message, &headers, message.payload()).unwrap();
        })
        .unwrap();
    dispatcher.subscribe("ask").unwrap();
    let headers = Headers::try_from_iter([("Trace", "1"), ("trace", "2")]).unwrap();
    let reply = client.request_with_headers("ask", &headers, "who", LIMIT).unwrap();
    let lines: Vec<_> = reply.headers().iter().collect();
    assert_eq!(lines, [("Trace", "1"), ("trace", "2"), ("Answered", "yes")]);
    assert_eq!(reply.payload(), b"who");
    let message = Message::new("ask", "later").with_headers(headers).with_reply("not.used");
    let reply = client.send_request_message(&message).unwrap().wait(LIMIT).unwrap();
    assert_eq!((reply.headers().len(), reply.payload()), (3, &b"later"[..]));
    let plain = Message::new("a", "");
    assert_eq!(kind(client.respond_with_headers(&plain, &Headers::new(), "")), ErrorKind::Misuse);
}
