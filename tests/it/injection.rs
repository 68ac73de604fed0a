//! Every text that a program gives goes to the server as one field or not at all.
//!
//! Each text is tried in each place. Either the call refuses it, naming the place, and nothing is
//! sent; or what the server receives parses back to exactly the operations that were meant.

use std::time::Duration;

use nats_blocking::testing::{ClientOp, ClientOpParser, Publication};
use nats_blocking::{
    Challenge, Connection, Error, ErrorKind, Headers, Login, Message, Options, OptionsBuilder,
};

use crate::support::scripted::{ScriptedConnection, ScriptedServer, Step};
use crate::support::watchdog::within;

const LIMIT: Duration = Duration::from_secs(20);

/// Texts that end a line, split a field, or close a quote, and long ones.
pub(crate) fn texts() -> Vec<String> {
    let mut texts: Vec<String> = [
        "",
        " ",
        "a b",
        " a",
        "a ",
        "a\tb",
        "a\rb",
        "a\nb",
        "a\r\nb",
        "a\r\n",
        "\r\n",
        "\n",
        "\0",
        "a\0b",
        "a\x0bb",
        "a\x0cb",
        "a\x7fb",
        "a\x1b[31m",
        "a\"b",
        "\"",
        "'",
        "a'b",
        "a\\b",
        "\\",
        "a\\r\\nb",
        "a\",\"verbose\":true,\"x\":\"",
        "a}\r\nPUB x 0\r\n\r\n",
        "a 0\r\n\r\nPING",
        "a\r\nPING\r\n",
        "a 5",
        "a\r\nA: b",
        "a: b",
        "a:b",
        ":",
        "NATS/1.0",
        "+OK",
        "-ERR 'x'",
        "a..b",
        ".",
        ".a",
        "a.",
        "*",
        "a.*",
        ">",
        "a.>",
        "a.>.b",
        "grüße.日本",
        "a\u{85}b",
        "a\u{a0}b",
        "a\u{2028}b",
        "a\u{feff}b",
        "%0d%0a",
        "a%20b",
        "{}",
        "null",
        "0",
        "a\u{e000}",
    ]
    .map(str::to_owned)
    .to_vec();
    texts.extend(["x".repeat(3_000), "x".repeat(5_000), "x.".repeat(50_000) + "x"]);
    texts
}

/// What the server has got by now, as operations without the login's; it must be whole.
fn received(connection: &Connection, seen: &ScriptedConnection) -> (ClientOp, Vec<ClientOp>) {
    connection.flush_timeout(LIMIT).unwrap();
    let mut parser = ClientOpParser::new();
    parser.push(&seen.received());
    let mut ops = Vec::new();
    while let Some(op) = parser.next().unwrap() {
        ops.push(op);
    }
    assert!(parser.is_at_boundary());
    let login = ops.remove(0);
    ops.retain(|op| *op != ClientOp::Ping);
    (login, ops)
}

fn builder(server: &ScriptedServer) -> OptionsBuilder {
    Options::builder().server(server.url()).connect_timeout(LIMIT).no_reconnect()
}

/// What one place does with one text: the operations that must arrive, or the refusal.
type Outcome = Result<Vec<ClientOp>, Error>;

/// Tries every text in one place, on one connection.
fn try_place(kind: ErrorKind, part: &str, place: impl Fn(&Connection, &str) -> Outcome) {
    let server = ScriptedServer::once(Step::healthy());
    let connection = builder(&server).connect().unwrap();
    let seen = server.connection(0, LIMIT);
    let mut expected = Vec::new();
    let mut refused = 0;
    for text in texts() {
        match place(&connection, &text) {
            Ok(ops) => expected.extend(ops),
            Err(error) => {
                refused += 1;
                let kinds = [kind, ErrorKind::MaxControlLine];
                assert!(kinds.contains(&error.kind()), "{text:?}: {error:?}");
                let named =
                    error.kind() == ErrorKind::MaxControlLine || error.to_string().contains(part);
                assert!(named, "{text:?}: {error} does not name the {part}");
                assert!(error.to_string().len() < 600, "{} long", error.to_string().len());
            }
        }
        let shown: String = text.chars().take(40).collect();
        let (_, ops) = received(&connection, &seen);
        assert_eq!(ops, expected, "{part} {shown:?}");
    }
    assert!(refused >= 10, "only {refused} texts were refused as a {part}");
    connection.close();
}

fn publish(subject: &str, reply: Option<&str>, headers: Option<&str>) -> Vec<ClientOp> {
    let headers = headers.map(|text| text.as_bytes().to_vec().into());
    let (subject, reply) = (subject.to_owned(), reply.map(str::to_owned));
    let payload = b"p".to_vec().into();
    vec![ClientOp::Publish(Publication { subject, reply, headers, payload })]
}

/// A subscription that is dropped at once.
fn subscribe(subject: &str, queue: Option<&str>, sid: u64) -> Vec<ClientOp> {
    let (subject, queue) = (subject.to_owned(), queue.map(str::to_owned));
    let sid = sid.to_string();
    let sub = ClientOp::Subscribe { subject, queue, sid: sid.clone() };
    vec![sub, ClientOp::Unsubscribe { sid, max: None }]
}

#[test]
fn a_subject_to_publish_to_is_one_field_or_refused() {
    within(LIMIT * 3, "subject", || {
        try_place(ErrorKind::InvalidSubject, "subject", |connection, text| {
            connection.publish(text, "p").map(|()| publish(text, None, None))
        });
        try_place(ErrorKind::InvalidSubject, "subject", |connection, text| {
            let message = Message::new(text, "p");
            connection.publish_message(&message).map(|()| publish(text, None, None))
        });
    });
}

#[test]
fn a_reply_subject_is_one_field_or_refused() {
    within(LIMIT * 3, "reply", || {
        try_place(ErrorKind::InvalidSubject, "reply subject", |connection, text| {
            let sent = connection.publish_with_reply("s", text, "p");
            sent.map(|()| publish("s", Some(text), None))
        });
        try_place(ErrorKind::InvalidSubject, "reply subject", |connection, text| {
            let message = Message::new("s", "p").with_reply(text);
            connection.publish_message(&message).map(|()| publish("s", Some(text), None))
        });
        try_place(ErrorKind::InvalidSubject, "subject", |connection, text| {
            let request = Message::new("s", "x").with_reply(text);
            let sent = connection.respond_with_headers(&request, &Headers::new(), "p");
            sent.map(|()| publish(text, None, None))
        });
        // The answer to a request goes where a stranger says.
        try_place(ErrorKind::InvalidSubject, "subject", |connection, text| {
            let request = Message::new("s", "x").with_reply(text);
            connection.respond(&request, "p").map(|()| publish(text, None, None))
        });
    });
}

#[test]
fn a_subject_to_subscribe_to_and_a_queue_are_one_field_or_refused() {
    within(LIMIT * 3, "subscriptions", || {
        let sid = |s: &nats_blocking::Subscription| nats_blocking::Consumer::id(s);
        try_place(ErrorKind::InvalidSubject, "subject", |connection, text| {
            let subscription = connection.subscribe(text)?;
            Ok(subscribe(text, None, sid(&subscription)))
        });
        try_place(ErrorKind::InvalidQueueGroup, "queue group", |connection, text| {
            let subscription = connection.queue_subscribe("s", text)?;
            Ok(subscribe("s", Some(text), sid(&subscription)))
        });
    });
}

#[test]
fn header_names_and_values_are_one_line_or_refused() {
    within(LIMIT * 3, "headers", || {
        let send = |connection: &Connection, name: &str, value: &str| {
            let mut headers = Headers::new();
            headers.append(name, value)?;
            let block = format!("NATS/1.0\r\n{name}: {value}\r\n\r\n");
            let sent = connection.publish_with_headers("s", &headers, "p");
            sent.map(|()| publish("s", None, Some(&block)))
        };
        try_place(ErrorKind::InvalidHeader, "header", |connection, text| {
            send(connection, text, "value")
        });
        try_place(ErrorKind::InvalidHeader, "header", |connection, text| {
            let mut headers = Headers::try_from_iter([("Name", "value")])?;
            headers.try_extend([("Other", "value"), (text, "value")])?;
            let block = format!("NATS/1.0\r\nName: value\r\nOther: value\r\n{text}: value\r\n\r\n");
            let sent = connection.publish_with_headers("s", &headers, "p");
            sent.map(|()| publish("s", None, Some(&block)))
        });
        try_place(ErrorKind::InvalidHeader, "header 'Name'", |connection, text| {
            send(connection, "Name", text)
        });
        try_place(ErrorKind::InvalidHeader, "header 'Name'", |connection, text| {
            let message = Message::new("s", "p").with_header("Name", text)?;
            let block = format!("NATS/1.0\r\nName: {text}\r\n\r\n");
            connection.publish_message(&message).map(|()| publish("s", None, Some(&block)))
        });
    });
}

#[test]
fn a_received_message_is_published_again_as_one_message() {
    within(LIMIT * 3, "republished", || {
        let mut script = Step::handshake();
        script.extend([Step::AnswerPingsMeanwhile, Step::expect("SUB work 1")]);
        let block = "NATS/1.0 503 No\r\na b: c\rd\r\nE:\0\r\nF: x\ty\r\n\r\n";
        let total = block.len() + 1;
        script.push(Step::send(&format!("HMSG work 1 {} {total}\r\n{block}p\r\n", block.len())));
        script.push(Step::AnswerPings(Default::default()));
        let server = ScriptedServer::once(script);
        let connection = builder(&server).connect().unwrap();
        let subscription = connection.subscribe("work").unwrap();
        let message = subscription.next_timeout(LIMIT).unwrap();
        connection.publish_message(&message).unwrap();
        let (_, ops) = received(&connection, &server.connection(0, LIMIT));
        let [_, ClientOp::Publish(again)] = ops.as_slice() else { panic!("{ops:?}") };
        assert_eq!((again.subject.as_str(), again.payload.as_ref()), ("work", &b"p"[..]));
        let lines = again.headers.as_deref().unwrap().split(|byte| *byte == b'\n').count();
        // Version, three lines, blank line, and what stands behind the last line feed.
        assert_eq!(lines, 6, "{:?}", again.headers);
        connection.close();
    });
}

type Fields = serde_json::Map<String, serde_json::Value>;

/// Connects with an option made of the text; gives CONNECT's fields, or the refusal.
fn login(
    option: impl Fn(OptionsBuilder, &str) -> OptionsBuilder,
    text: &str,
) -> Result<Fields, Error> {
    try_login(|builder, text| Ok(option(builder, text)), text)
}

/// The same with an option that may refuse at once.
fn try_login(
    option: impl Fn(OptionsBuilder, &str) -> Result<OptionsBuilder, Error>,
    text: &str,
) -> Result<Fields, Error> {
    let server = ScriptedServer::always(Step::healthy());
    let options = option(builder(&server), text).and_then(OptionsBuilder::build);
    let options = options.inspect_err(|_| assert_eq!(server.connection_count(), 0))?;
    let connection = options.connect()?;
    connection.flush_timeout(LIMIT).unwrap();
    // CONNECT may be long; the line behind it shows that it ended where it should.
    let bytes = server.connection(0, LIMIT).received();
    let mut parser = ClientOpParser::with_limits(1 << 20, 1 << 20);
    parser.push(&bytes);
    let Some(ClientOp::Connect(fields)) = parser.next().unwrap() else { panic!("no CONNECT") };
    while let Some(op) = parser.next().unwrap() {
        assert_eq!(op, ClientOp::Ping);
    }
    assert!(parser.is_at_boundary());
    connection.close();
    Ok(fields)
}

#[test]
fn name_user_password_and_token_arrive_as_they_are_or_are_refused() {
    within(LIMIT * 6, "credentials", || {
        for text in texts() {
            let shown: String = text.chars().take(40).collect();
            match login(|builder, text| builder.name(text), &text) {
                Ok(fields) => assert_eq!(fields["name"], text, "{shown:?}"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::InvalidOption);
                    assert!(text.contains('\0') && error.to_string().contains("name"), "{error}");
                }
            }
            let fields = login(|builder, text| builder.user_and_password(text, text), &text);
            let fields = fields.unwrap();
            assert_eq!(
                (&fields["user"], &fields["pass"]),
                (&text.clone().into(), &text.clone().into())
            );
            assert!(!fields.contains_key("auth_token"));
            let fields = login(|builder, text| builder.token(text), &text).unwrap();
            assert_eq!(fields["auth_token"], text, "{shown:?}");
            assert_eq!(fields["verbose"], false, "{shown:?}");
        }
    });
}

#[test]
fn what_a_source_says_at_an_attempt_arrives_as_it_is_or_ends_the_attempt() {
    within(LIMIT * 6, "source", || {
        for text in texts() {
            let shown: String = text.chars().take(40).collect();
            let from = |make: fn(&str) -> Login| {
                let give = |builder: OptionsBuilder, text: &str| {
                    let text = text.to_owned();
                    builder.credentials_source(move |_: &Challenge| Ok(make(&text)))
                };
                login(give, &text)
            };
            let user = from(|text| Login::new().user_and_password(text, text)).unwrap();
            assert_eq!((&user["user"], &user["pass"]), (&json(&text), &json(&text)), "{shown:?}");
            let token = from(|text| Login::new().token(text)).unwrap();
            assert_eq!(token["auth_token"], text, "{shown:?}");
            // Whether it is a JWT, the server knows.
            let jwt = from(|text| Login::new().bearer_jwt(text)).unwrap();
            assert_eq!(jwt["jwt"], text, "{shown:?}");
        }
    });
}

fn json(text: &str) -> serde_json::Value {
    text.into()
}

#[test]
fn what_properties_say_arrives_as_it_is_or_is_refused() {
    within(LIMIT * 6, "properties", || {
        for text in texts() {
            let shown: String = text.chars().take(40).collect();
            let with = |keys: &[&str]| {
                let pairs = |builder: OptionsBuilder, text: &str| {
                    let keys = keys.iter().map(|key| format!("io.nats.client.{key}"));
                    builder.property_pairs(keys.map(|key| (key, text.to_owned())))
                };
                try_login(pairs, &text)
            };
            let user = with(&["username", "password"]).unwrap();
            assert_eq!((&user["user"], &user["pass"]), (&json(&text), &json(&text)), "{shown:?}");
            let token = with(&["token"]).unwrap();
            let expected = (!text.trim().is_empty()).then(|| json(&text));
            assert_eq!(token.get("auth_token"), expected.as_ref(), "{shown:?}");
            match with(&["name"]) {
                Ok(fields) => assert_eq!(fields["name"], text, "{shown:?}"),
                Err(error) => assert!(error.to_string().contains("name"), "{error}"),
            }
            if let Err(error) = with(&["inbox.prefix"]) {
                assert_eq!(error.kind(), ErrorKind::InvalidOption, "{shown:?}: {error}");
            } else {
                assert!(!text.trim().contains([' ', '\t', '\r', '\n', '\0']), "{shown:?}");
            }
        }
    });
}

#[test]
fn user_information_in_a_url_arrives_decoded() {
    within(LIMIT * 6, "url", || {
        for text in texts().into_iter().filter(|text| !text.is_empty()) {
            let coded: String = text.bytes().map(|byte| format!("%{byte:02X}")).collect();
            let server = ScriptedServer::always(Step::healthy());
            let url = server.url().replace("nats://", &format!("nats://{coded}:{coded}@"));
            let connection =
                Options::builder().server(url).connect_timeout(LIMIT).connect().unwrap();
            let mut parser = ClientOpParser::with_limits(1 << 20, 1 << 20);
            parser.push(&server.connection(0, LIMIT).received());
            let Some(ClientOp::Connect(fields)) = parser.next().unwrap() else { panic!() };
            assert_eq!(
                (&fields["user"], &fields["pass"]),
                (&text.clone().into(), &text.clone().into())
            );
            connection.close();
        }
    });
}

#[test]
fn an_inbox_prefix_is_a_subject_or_refused() {
    within(LIMIT * 6, "inbox prefix", || {
        let mut refused = 0;
        for text in texts() {
            let server = ScriptedServer::once(Step::healthy());
            let connection = match builder(&server).inbox_prefix(&text).connect() {
                Ok(connection) => connection,
                Err(error) => {
                    refused += 1;
                    assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
                    assert!(error.to_string().contains("inbox prefix"), "{error}");
                    assert_eq!(server.connection_count(), 0);
                    continue;
                }
            };
            let error = connection.request("ask", "p", Duration::from_millis(1)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
            let (_, ops) = received(&connection, &server.connection(0, LIMIT));
            let [ClientOp::Subscribe { subject, .. }, ClientOp::Publish(sent)] = ops.as_slice()
            else {
                panic!("{ops:?}")
            };
            let prefix = format!("{}.", text.strip_suffix('.').unwrap_or(&text));
            assert!(subject.starts_with(&prefix) && subject.ends_with(".*"), "{subject}");
            assert!(sent.reply.as_deref().unwrap().starts_with(&prefix));
            assert!(connection.new_inbox().unwrap().starts_with(&prefix));
            connection.close();
        }
        assert!(refused >= 20, "only {refused} were refused");
    });
}
