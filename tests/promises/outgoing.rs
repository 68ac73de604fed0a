//! What a program's strings and threads make of the bytes that go to the server.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nats_blocking::internals::read_headers;
use nats_blocking::testing::{ClientOp, ClientOpParser};
use nats_blocking::{Connection, Error, Headers, Message, Options, OutboxPolicy};

use crate::Tier;
use crate::inputs::targets;
use crate::support::frames::{Frame, Op};
use crate::support::nats_server::NatsServer;
use crate::support::proxy::{Proxy, Way};
use crate::support::scripted::{ScriptedServer, Step};
use crate::support::seed::Seed;
use crate::support::wait::poll;

const LIMIT: Duration = Duration::from_secs(60);

/// The fields of one operation, as far as a program gives them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Sent {
    subject: String,
    reply: Option<String>,
    queue: Option<String>,
    headers: Vec<(String, String)>,
}

impl Sent {
    fn to(subject: &str) -> Self {
        Self { subject: subject.to_owned(), ..Self::default() }
    }

    fn with_line(name: &str, value: &str) -> Self {
        let value = value.trim_matches([' ', '\t']).to_owned();
        Self { headers: vec![(name.to_owned(), value)], ..Self::to("s") }
    }
}

/// A place where a program gives a string: what it sends then, or the refusal.
type Place = (&'static str, fn(&Connection, &str) -> Result<Sent, Error>);

const PLACES: &[Place] = &[
    ("subject", |c, text| c.publish(text, "p").map(|()| Sent::to(text))),
    ("subject of a message", |c, text| {
        c.publish_message(&Message::new(text, "p")).map(|()| Sent::to(text))
    }),
    ("subject beside headers", |c, text| {
        let headers = Headers::try_from_iter([("n", "v")])?;
        c.publish_with_headers(text, &headers, "p")?;
        Ok(Sent { headers: Sent::with_line("n", "v").headers, ..Sent::to(text) })
    }),
    ("subject of a request", |c, text| c.send_request(text, "p").map(|_| Sent::to(text))),
    ("reply", |c, text| {
        c.publish_with_reply("s", text, "p")?;
        Ok(Sent { reply: Some(text.to_owned()), ..Sent::to("s") })
    }),
    ("reply of a message", |c, text| {
        c.publish_message(&Message::new("s", "p").with_reply(text))?;
        Ok(Sent { reply: Some(text.to_owned()), ..Sent::to("s") })
    }),
    ("reply that is answered", |c, text| {
        let request = Message::new("s", "x").with_reply(text);
        c.respond(&request, "p").map(|()| Sent::to(text))
    }),
    ("reply that is answered with headers", |c, text| {
        let request = Message::new("s", "x").with_reply(text);
        c.respond_with_headers(&request, &Headers::new(), "p").map(|()| Sent::to(text))
    }),
    ("subscription", |c, text| c.subscribe(text).map(|_| Sent::to(text))),
    ("queue group", |c, text| {
        drop(c.queue_subscribe("s", text)?);
        Ok(Sent { queue: Some(text.to_owned()), ..Sent::to("s") })
    }),
    ("header name", |c, text| {
        let mut headers = Headers::new();
        headers.append(text, "v")?;
        c.publish_with_headers("s", &headers, "p").map(|()| Sent::with_line(text, "v"))
    }),
    ("header value", |c, text| {
        let mut headers = Headers::new();
        headers.insert("n", text)?;
        c.publish_with_headers("s", &headers, "p").map(|()| Sent::with_line("n", text))
    }),
    ("header name of many", |c, text| {
        let mut headers = Headers::new();
        headers.try_extend([(text, "v")])?;
        let request = Message::new("q", "").with_reply("s");
        c.respond_with_headers(&request, &headers, "p").map(|()| Sent::with_line(text, "v"))
    }),
    ("header value of a request", |c, text| {
        let message = Message::new("s", "p").with_header("n", text)?;
        c.send_request_message(&message).map(|_| Sent::with_line("n", text))
    }),
    ("inbox prefix", |c, text| {
        Options::builder().inbox_prefix(text).build()?;
        let inbox = format!("{}.x.*", text.strip_suffix('.').unwrap_or(text));
        c.subscribe(&inbox).map(|_| Sent::to(&inbox))
    }),
];

/// The operation in the program's words; none for what the library adds by itself.
fn sent(op: ClientOp) -> Option<Sent> {
    let inbox = |subject: &str| subject.starts_with("_INBOX.");
    match op {
        ClientOp::Connect(_) | ClientOp::Ping | ClientOp::Pong | ClientOp::Unsubscribe { .. } => {
            None
        }
        ClientOp::Subscribe { subject, .. } if inbox(&subject) => None,
        ClientOp::Subscribe { subject, queue, .. } => Some(Sent { queue, ..Sent::to(&subject) }),
        ClientOp::Publish(publication) => {
            assert_eq!(publication.payload.as_ref(), b"p");
            let block = publication.headers.as_deref();
            let headers = block.map(|block| read_headers(block).lines).unwrap_or_default();
            let reply = publication.reply.filter(|reply| !inbox(reply));
            Some(Sent { reply, headers, ..Sent::to(&publication.subject) })
        }
    }
}

/// Gives the strings to the places, on a connection of their own; the number that was taken.
fn send_all(all: &[(&Place, &str)]) -> usize {
    let server = ScriptedServer::once(Step::healthy());
    let options = Options::builder().server(server.url()).connect_timeout(LIMIT).no_reconnect();
    let connection = options.outbox_policy(OutboxPolicy::Block(LIMIT)).connect().unwrap();
    let mut expected = Vec::new();
    for ((_, send), text) in all {
        if let Ok(sent) = send(&connection, text) {
            expected.push((text, sent));
        }
    }
    connection.flush_timeout(LIMIT).unwrap();
    let mut parser = ClientOpParser::new();
    parser.push(&server.connection(0, LIMIT).received());
    let mut got = Vec::new();
    while let Some(op) = parser.next().expect("what we write") {
        got.extend(sent(op));
    }
    assert!(parser.is_at_boundary());
    for ((text, expected), got) in expected.iter().zip(&got) {
        assert_eq!(got, expected, "of {text:?}");
    }
    assert_eq!(got.len(), expected.len());
    connection.close();
    expected.len()
}

/// All ASCII strings of one and two characters.
fn short_strings() -> Vec<String> {
    let one = (0u8..128).map(|a| char::from(a).to_string());
    let all = || (0u8..128).map(char::from);
    let two = all().flat_map(|a| all().map(move |b| format!("{a}{b}")));
    one.chain(two).collect()
}

/// What ends a field, a line or a string somewhere, and what does not.
const PARTS: &[&str] = &[
    "\r\n",
    "\n",
    "\r",
    " ",
    "\t",
    "\0",
    "\"",
    "\\",
    "'",
    ":",
    ": ",
    ".",
    "..",
    "*",
    ">",
    "a",
    "b",
    "PUB x 0",
    "PING",
    "MSG",
    "0",
    "5",
    "é",
    "日",
    "\u{85}",
    "\u{a0}",
    "\u{2028}",
    "\u{feff}",
    "\u{1b}",
    "\u{7f}",
    "INBOX",
    "NATS/1.0",
    "{",
    "}",
    "%0d%0a",
    "\\r\\n",
    "\u{10ffff}",
];

/// No string that a program gives becomes a second line.
pub(crate) fn injected(tier: Tier) -> String {
    let strings = short_strings();
    let mut taken = 0;
    for place in PLACES {
        let all: Vec<_> = strings.iter().map(|text| (place, text.as_str())).collect();
        let count = send_all(&all);
        assert!(count > 90 && count < strings.len(), "{}: {count} were taken", place.0);
        taken += count;
    }
    for text in &strings {
        targets::outgoing(text.as_bytes());
    }
    let mut seed = Seed::from_env_or(1_313);
    let (batches, batch) = (tier.choose(20, 200), 50_000);
    for _ in 0..batches {
        let texts: Vec<String> =
            (0..batch).map(|_| (0..seed.below(7)).map(|_| *seed.pick(PARTS)).collect()).collect();
        let all: Vec<_> = texts.iter().map(|text| (seed.pick(PLACES), text.as_str())).collect();
        taken += send_all(&all);
        for text in &texts {
            targets::outgoing(text.as_bytes());
        }
    }
    let tried = strings.len() * PLACES.len() + batches * batch;
    format!(
        "{tried} strings in {} places and 7 fields of CONNECT: {taken} sent as they are, the \
         others refused, 0 lines too many (SEED={})",
        PLACES.len(),
        seed.number()
    )
}

const THREADS: u64 = 8;
const EACH: u64 = 10_000;
const LARGEST: f64 = 100_000.0;

/// Publishes of many threads and sizes reach the server as whole frames, each thread's in order.
pub(crate) fn whole_frames(_: Tier) -> String {
    let server = NatsServer::start_plain();
    let next: Arc<Mutex<[u64; THREADS as usize]>> = Arc::default();
    let (bytes, wrong) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
    let watch = {
        let (next, bytes, wrong) = (Arc::clone(&next), Arc::clone(&bytes), Arc::clone(&wrong));
        move |_, way, frame: &Frame<'_>| {
            if way == Way::ToServer && frame.op == Op::Pub {
                bytes.fetch_add(frame.body.len() as u64, Ordering::SeqCst);
                if !is_next(&mut *next.lock().unwrap(), frame) {
                    wrong.lock().unwrap().push(format!("{frame:?}"));
                }
            }
        }
    };
    let proxy = Proxy::start_watched(server.client_address(), 1, Some(Arc::new(watch)));
    let connection = Options::builder()
        .server(proxy.url())
        .connect_timeout(LIMIT)
        .no_reconnect()
        .outbox_policy(OutboxPolicy::Block(LIMIT))
        .connect()
        .unwrap();
    let number = Seed::from_env_or(8).number();
    let publish = |thread: u64| {
        let mut seed = Seed::new(number + thread);
        let payload = vec![b'a' + thread as u8; LARGEST as usize];
        for sequence in 0..EACH {
            let part = seed.below(1 << 20) as f64 / f64::from(1 << 20);
            let length = LARGEST.powf(part) as usize - 1;
            let subject = format!("w.{thread}.{sequence}.{length}");
            connection.publish(subject, &payload[..length]).unwrap();
        }
    };
    thread::scope(|scope| {
        for thread in 0..THREADS {
            scope.spawn(move || publish(thread));
        }
    });
    connection.flush_timeout(LIMIT).unwrap();
    connection.close();
    // A proxy counts what it has written.
    poll(LIMIT, || (proxy.open_links() == 0).then_some(())).expect("the end of all links");
    assert_eq!(proxy.broken(Way::ToServer), Vec::<String>::new());
    assert_eq!(*wrong.lock().unwrap(), Vec::<String>::new());
    assert_eq!(*next.lock().unwrap(), [EACH; THREADS as usize]);
    assert_eq!(proxy.count(Way::ToServer, Op::Pub), THREADS * EACH);
    let mebibytes = bytes.load(Ordering::SeqCst) >> 20;
    format!("{} frames of {THREADS} threads, {mebibytes} MiB: whole, in order", THREADS * EACH)
}

/// Whether the frame is its thread's next one, with its own payload.
fn is_next(next: &mut [u64], frame: &Frame<'_>) -> bool {
    let subject = frame.argument(0).to_owned();
    let mut numbers = subject.split('.').skip(1).map(|number| number.parse::<u64>());
    let (Some(Ok(thread)), Some(Ok(sequence)), Some(Ok(length))) =
        (numbers.next(), numbers.next(), numbers.next())
    else {
        return false;
    };
    let Some(expected) = next.get_mut(thread as usize) else { return false };
    let is_next = *expected == sequence;
    *expected = sequence + 1;
    let fill = b'a' + thread as u8;
    is_next && length == frame.body.len() as u64 && frame.body.iter().all(|byte| *byte == fill)
}
