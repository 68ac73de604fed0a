//! One function for each kind of input. Each takes any bytes, and panics if what came of them is
//! not as it should be; a fault that is told as an error is as it should be.
//!
//! The first bytes of some inputs say how the others are cut into pieces.

use nats_blocking::internals::{
    self, HeaderBlock, Login, LoginStep, Op, Reading, WebSocketFrames, read_headers, read_info,
    read_properties, read_public_key, read_urls,
};
use nats_blocking::testing::{ClientOp, ClientOpParser, Publication};
use nats_blocking::{Headers, check_publish_subject, check_queue_group, check_subscribe_subject};
use serde_json::Value;

use super::reference::{self, Limits};

/// A kind of input.
pub(crate) struct Target {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&[u8]),
    /// Inputs to begin with.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
}

pub(crate) const TARGETS: &[Target] = &[
    Target { name: "parser", run: parser, seeds: super::mutate::server_seeds },
    Target { name: "headers", run: headers, seeds: super::mutate::header_seeds },
    Target { name: "info", run: info, seeds: super::mutate::info_seeds },
    Target { name: "login", run: login, seeds: super::mutate::login_seeds },
    Target { name: "credentials", run: credentials, seeds: super::mutate::credentials_seeds },
    Target { name: "urls", run: urls, seeds: super::mutate::url_seeds },
    Target { name: "properties", run: properties, seeds: super::mutate::property_seeds },
    Target { name: "client_ops", run: client_ops, seeds: super::mutate::client_seeds },
    Target { name: "websocket", run: websocket, seeds: super::mutate::websocket_seeds },
    Target { name: "outgoing", run: outgoing, seeds: super::mutate::outgoing_seeds },
];

/// The pieces into which a number cuts the bytes.
pub(crate) struct Pieces<'a> {
    rest: &'a [u8],
    state: u64,
    most: u64,
}

impl<'a> Pieces<'a> {
    pub(crate) fn new(bytes: &'a [u8], number: u64) -> Self {
        // A few bytes at a time, or a few hundred.
        let most = if number % 2 == 0 { 8 } else { 300 };
        Self { rest: bytes, state: number | 1, most }
    }
}

impl<'a> Iterator for Pieces<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        if self.rest.is_empty() {
            return None;
        }
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let length = 1 + (self.state >> 33) % self.most;
        let (piece, rest) = self.rest.split_at((length as usize).min(self.rest.len()));
        self.rest = rest;
        Some(piece)
    }
}

/// The number in the first two bytes, and the others.
fn number_first(bytes: &[u8]) -> (u64, &[u8]) {
    match bytes {
        [one, two, rest @ ..] => (u64::from(*one) << 8 | u64::from(*two), rest),
        _ => (0, bytes),
    }
}

pub(crate) const USUAL: Limits =
    Limits { control_line: 64 << 10, info_line: 1 << 20, payload: 64 << 20 };
const TIGHT: Limits = Limits { control_line: 60, info_line: 120, payload: 100 };
const OPEN: Limits = Limits { payload: 0, ..USUAL };

/// What the parser makes of the pieces: operations, and the text of the fault.
pub(crate) fn read_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limits: Limits,
) -> (Vec<Op>, Option<String>) {
    let payload = usize::try_from(limits.payload).unwrap();
    let mut reading = Reading::new(limits.control_line, limits.info_line, payload);
    let (mut ops, mut fault, mut pushed) = (Vec::new(), None, 0);
    for piece in pieces {
        reading.push(piece);
        pushed += piece.len();
        loop {
            match reading.next() {
                Ok(Some(op)) => ops.push(op),
                Ok(None) => break,
                Err(text) => {
                    fault = Some(text);
                    break;
                }
            }
        }
        let held = reading.capacity();
        assert!(held <= 2 * pushed + (256 << 10), "{held} bytes are held for {pushed}");
    }
    (ops, fault)
}

/// However the bytes are cut, the operations are those of the slow reading.
pub(crate) fn parser(input: &[u8]) {
    let (number, bytes) = number_first(input);
    let limits = [USUAL, TIGHT, OPEN][(number % 3) as usize];
    let (ops, is_broken) = reference::read(bytes, limits);
    let (whole, fault) = read_pieces([bytes], limits);
    assert_eq!(whole, ops, "{fault:?} {limits:?}");
    assert_eq!(fault.is_some(), is_broken, "{fault:?} {limits:?}");
    if let Some(fault) = &fault {
        assert!(fault.len() < 700, "an error of {} bytes", fault.len());
        assert!(!fault.contains(['\r', '\n', '\0']), "{fault:?}");
    }
    assert_eq!(read_pieces(Pieces::new(bytes, number), limits), (whole, fault));
}

/// Lines and status are those of the slow reading; what may be published reads back as it was.
pub(crate) fn headers(block: &[u8]) {
    let read = read_headers(block);
    assert_eq!(read, reference::read_headers(block));
    let is_line = |text: &str| !text.contains('\n');
    assert!(read.lines.iter().all(|(name, value)| is_line(name) && is_line(value)));
    assert!(read.lines.iter().all(|(name, _)| !name.is_empty() && !name.contains(':')));
    let Ok(again) = Headers::try_from_iter(read.lines.iter().map(|(n, v)| (n, v))) else {
        return;
    };
    if again.is_empty() {
        return;
    }
    let sent = one_publication(&internals::publish_frame("s", Some(&again), b"p"));
    let read_again = read_headers(sent.headers.as_deref().unwrap_or_default());
    let expected = HeaderBlock { lines: read.lines, status: None, is_faulty: false };
    assert_eq!(read_again, expected);
}

/// The one operation that the frame is, which must be a publish.
fn one_publication(frame: &[u8]) -> Publication {
    let ops = client_pieces([frame], usize::MAX >> 1).expect("what we write");
    match <[ClientOp; 1]>::try_from(ops) {
        Ok([ClientOp::Publish(publication)]) => publication,
        other => panic!("{other:?}"),
    }
}

/// What is JSON is read as JSON says, and nothing else is read.
pub(crate) fn info(json: &[u8]) {
    let read = read_info(json);
    if let Err(text) = &read {
        assert!(text.len() < 700 && !text.contains(['\r', '\n']), "{text:?}");
    }
    let Ok(value) = serde_json::from_slice::<Value>(json) else { return };
    let Value::Object(fields) = value else {
        assert!(read.is_err(), "no object");
        return;
    };
    let Ok((info, _)) = read else { return };
    let text = |key: &str| fields.get(key).and_then(Value::as_str).unwrap_or_default();
    let number = |key: &str| fields.get(key).and_then(Value::as_u64);
    assert_eq!(info.server_id(), text("server_id"));
    assert_eq!(info.host(), text("host"));
    assert_eq!(info.cluster().unwrap_or_default(), text("cluster"));
    assert_eq!(u64::from(info.port()), number("port").unwrap_or(0));
    assert_eq!(info.max_payload() as u64, number("max_payload").unwrap_or(0));
    assert_eq!(info.client_id(), number("client_id"));
    let is = |key: &str| fields.get(key).and_then(Value::as_bool).unwrap_or(false);
    assert_eq!((info.headers(), info.lame_duck()), (is("headers"), is("ldm")));
    assert_eq!(info.tls_required(), is("tls_required"));
    let urls = fields.get("connect_urls").and_then(Value::as_array);
    let urls = urls.into_iter().flatten().filter_map(Value::as_str).filter(|url| !url.is_empty());
    assert!(urls.eq(info.connect_urls()), "{:?}", info.connect_urls());
}

/// How a login ends.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Waits,
    Ready,
    Fails,
}

/// How the login must end, said by the operations alone.
fn expected_end(bytes: &[u8]) -> End {
    let (ops, is_broken) = reference::read(bytes, USUAL);
    let mut greeted = false;
    for op in &ops {
        match op {
            Op::Info(_) => greeted = true,
            _ if !greeted => return End::Fails,
            Op::Ok | Op::Ping => {}
            Op::Pong => return End::Ready,
            Op::Err(_) | Op::Message(_) => return End::Fails,
        }
    }
    if is_broken { End::Fails } else { End::Waits }
}

/// The login ends as its operations say, however they come, and stays there.
pub(crate) fn login(input: &[u8]) {
    let (number, bytes) = number_first(input);
    let mut login = Login::new();
    let (mut sent, mut steps, mut over_tls) = (false, 0, false);
    let mut end = End::Waits;
    for piece in Pieces::new(bytes, number) {
        login.push(piece);
        loop {
            steps += 1;
            // Each step but the two of the greeting eats a PING, and each piece ends one.
            assert!(steps <= 2 * bytes.len() + 4, "it never ends");
            match login.advance() {
                Ok((LoginStep::Info, _)) => {
                    assert!(!sent, "CONNECT is asked for twice");
                    if number % 3 == 0 {
                        assert_eq!(login.advance(), Ok((LoginStep::Info, 0)));
                    }
                    if number % 5 == 1 {
                        let (more, upgraded) = (login.holds_more(), login.upgrade());
                        assert_eq!(upgraded.is_err(), more, "{upgraded:?}");
                        if more {
                            return;
                        }
                        assert!(login.info().connect_urls().is_empty(), "said in clear");
                        over_tls = true;
                    }
                    login.connect_sent();
                    sent = true;
                }
                Ok((LoginStep::Pong, _)) => assert!(sent, "a PONG before CONNECT"),
                Ok((LoginStep::NeedBytes, _)) => break,
                Ok((LoginStep::Ready, _)) => {
                    assert!(sent, "ready without CONNECT");
                    end = End::Ready;
                    break;
                }
                Err(text) => {
                    assert_eq!(login.advance(), Err(text));
                    end = End::Fails;
                    break;
                }
            }
        }
    }
    let expected = expected_end(bytes);
    // Over TLS the INFO behind the PONG belongs to the login, and may be broken.
    let broken_behind = over_tls && expected == End::Ready && end == End::Fails;
    assert!(end == expected || broken_behind, "{end:?}, expected {expected:?}");
}

/// What is accepted names a user; an error shows no part that may be secret.
pub(crate) fn credentials(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    for read in [internals::read_creds(&text), internals::read_seed(text.trim())] {
        match read {
            Ok(public) => assert_eq!(read_public_key(&public), Ok(())),
            Err(fault) => {
                let is_key = |word: &&str| word.len() >= 20 && !word.contains("---");
                for word in text.split_whitespace().filter(is_key) {
                    assert!(!fault.contains(word), "{fault:?}");
                }
                assert!(fault.len() < 400, "{fault:?}");
            }
        }
    }
    let _ = read_public_key(&text);
}

const SECRET: &str = "K4n4r13n";

/// What is shown of a server reads back as that server, and never shows who we are there.
pub(crate) fn urls(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(urls) = read_urls(&text) {
        for url in &urls {
            assert!(!url.shown.contains('@'), "{}", url.shown);
            assert!(!url.host.is_empty() && !url.host.contains(char::is_whitespace));
            let again = read_urls(&url.shown).expect("what is shown");
            assert_eq!(again.len(), 1, "{}", url.shown);
            let same = (&again[0].host, again[0].port, again[0].is_tls);
            assert_eq!(same, (&url.host, url.port, url.is_tls));
        }
    }
    let letters: String = text.chars().filter(char::is_ascii_alphanumeric).collect();
    if letters.to_lowercase().contains(&SECRET.to_lowercase()) {
        // The fuzzer sees with what its inputs are compared.
        return;
    }
    let (number, _) = number_first(input);
    let middle = (number as usize % (text.len() + 1)..).find(|at| text.is_char_boundary(*at));
    let (user, host) = text.split_at(middle.unwrap_or(0));
    for text in [
        format!("{user}:{SECRET}@{host}"),
        format!("nats://{SECRET}{user}@{host}"),
        format!("wss://{SECRET}{user}@{host}"),
        format!("ws://{user}:{SECRET}@{host}"),
    ] {
        let shown = match read_urls(&text) {
            // A comma ends a server: what stands before it is the name of one, as far as it goes.
            Ok(_) if user.contains(',') => continue,
            Ok(urls) => urls.iter().map(|url| url.shown.clone()).collect(),
            Err(fault) => fault,
        };
        assert!(!shown.to_lowercase().contains(&SECRET.to_lowercase()), "{text:?}: {shown}");
    }
}

/// What was read, written with every character escaped, reads back.
pub(crate) fn properties(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let Ok(pairs) = read_properties(&text) else { return };
    let escaped = |text: &str| -> String {
        text.encode_utf16().map(|unit| format!("\\u{unit:04x}")).collect()
    };
    let lines: String =
        pairs.iter().map(|(key, value)| format!("{}={}\n", escaped(key), escaped(value))).collect();
    assert_eq!(read_properties(&lines), Ok(pairs));
}

/// All operations of a client's pieces, or the error.
fn client_pieces<'a>(
    pieces: impl IntoIterator<Item = &'a [u8]>,
    limit: usize,
) -> Result<Vec<ClientOp>, (Vec<ClientOp>, String)> {
    let mut parser = ClientOpParser::with_limits(limit, limit);
    let mut ops = Vec::new();
    for piece in pieces {
        parser.push(piece);
        loop {
            match parser.next() {
                Ok(Some(op)) => ops.push(op),
                Ok(None) => break,
                Err(text) => {
                    assert_eq!(parser.next(), Err(text.clone()), "it stays in error");
                    return Err((ops, text));
                }
            }
        }
    }
    Ok(ops)
}

/// The operation as a client writes it.
fn write_client_op(op: &ClientOp) -> Vec<u8> {
    let words = |parts: &[Option<&str>]| -> String {
        parts.iter().flatten().copied().collect::<Vec<_>>().join(" ")
    };
    let line = match op {
        ClientOp::Connect(fields) => format!("CONNECT {}", Value::Object(fields.clone())),
        ClientOp::Ping => "PING".to_owned(),
        ClientOp::Pong => "PONG".to_owned(),
        ClientOp::Subscribe { subject, queue, sid } => {
            words(&[Some("SUB"), Some(subject), queue.as_deref(), Some(sid)])
        }
        ClientOp::Unsubscribe { sid, max } => {
            let max = max.map(|max| max.to_string());
            words(&[Some("UNSUB"), Some(sid), max.as_deref()])
        }
        ClientOp::Publish(publication) => {
            let block = publication.headers.as_ref().map(|block| block.len());
            let total = (block.unwrap_or(0) + publication.payload.len()).to_string();
            let block = block.map(|block| block.to_string());
            let name = if block.is_some() { "HPUB" } else { "PUB" };
            let (subject, reply) = (Some(publication.subject.as_str()), &publication.reply);
            let line =
                words(&[Some(name), subject, reply.as_deref(), block.as_deref(), Some(&total)]);
            let headers = publication.headers.as_deref().unwrap_or_default();
            return [line.as_bytes(), b"\r\n", headers, &publication.payload, b"\r\n"].concat();
        }
    };
    [line.as_bytes(), b"\r\n"].concat()
}

/// However a client's bytes are cut, the operations are the same, and written again they read back.
pub(crate) fn client_ops(input: &[u8]) {
    let (number, bytes) = number_first(input);
    let limit = if number % 5 == 0 { 40 } else { 1 << 20 };
    let whole = client_pieces([bytes], limit);
    let pieces = client_pieces(Pieces::new(bytes, number), limit);
    let (Ok(ops) | Err((ops, _))) = &whole;
    let (Ok(cut) | Err((cut, _))) = &pieces;
    assert_eq!((cut, pieces.is_err()), (ops, whole.is_err()));
    let written: Vec<u8> = ops.iter().flat_map(write_client_op).collect();
    let again = client_pieces([written.as_slice()], 1 << 24).unwrap();
    let rounded = |ops: &[ClientOp]| ops.iter().cloned().map(round).collect::<Vec<_>>();
    assert_eq!(rounded(&again), rounded(ops));
}

/// A long number in CONNECT is read to its nearest neighbours only, and its last digits may differ
/// when it has been written again: what is compared has nine of them.
fn round(op: ClientOp) -> ClientOp {
    fn rounded(value: Value) -> Value {
        match value {
            Value::Number(number) if number.is_f64() => {
                Value::String(number.as_f64().map(|number| format!("{number:.9e}")).unwrap())
            }
            Value::Array(values) => values.into_iter().map(rounded).collect(),
            Value::Object(fields) => {
                fields.into_iter().map(|(name, value)| (name, rounded(value))).collect()
            }
            value => value,
        }
    }
    match op {
        ClientOp::Connect(fields) => ClientOp::Connect(
            fields.into_iter().map(|(name, value)| (name, rounded(value))).collect(),
        ),
        op => op,
    }
}

/// A text is refused, or is one field of one frame; in CONNECT it is always one field.
pub(crate) fn outgoing(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if check_publish_subject(&text).is_ok() {
        let sent = one_publication(&internals::publish_frame(&text, None, b"p"));
        let got = (sent.subject.as_str(), sent.reply, sent.headers, sent.payload.as_ref());
        assert_eq!(got, (text.as_ref(), None, None, &b"p"[..]));
    }
    if check_subscribe_subject(&text).is_ok() || check_queue_group(&text).is_ok() {
        assert_eq!(text.split([' ', '\t', '\r', '\n']).count(), 1, "{text:?}");
        assert!(!text.is_empty());
    }
    for (name, value) in [(text.as_ref(), "v"), ("n", text.as_ref())] {
        let mut headers = Headers::new();
        if headers.append(name, value).is_ok() {
            let sent = one_publication(&internals::publish_frame("s", Some(&headers), b"p"));
            let block = read_headers(sent.headers.as_deref().unwrap_or_default());
            let value = value.trim_matches([' ', '\t']).to_owned();
            let lines = vec![(name.to_owned(), value)];
            assert_eq!(block, HeaderBlock { lines, ..HeaderBlock::default() });
        } else {
            assert!(headers.is_empty());
        }
    }
    let line = internals::connect_line(&text).expect("JSON takes any text");
    let ops = client_pieces([line.as_slice()], 1 << 24).expect("what we write");
    let [ClientOp::Connect(fields)] = ops.as_slice() else { panic!("{ops:?}") };
    for key in ["name", "user", "pass", "auth_token", "jwt", "nkey", "sig"] {
        assert_eq!(fields[key], text.as_ref());
    }
}

/// Frames give the same data however they are cut, and what a slow reading of the whole gives; and
/// no response of chance is an agreement.
fn websocket(input: &[u8]) {
    let (number, bytes) = number_first(input);
    let read = |pieces: &mut dyn Iterator<Item = &[u8]>| {
        let (mut frames, mut data) = (WebSocketFrames::new(), Vec::new());
        for piece in pieces {
            let (part, answer) = frames.decode(piece);
            data.extend(part);
            assert!(answer.is_none_or(|answer| answer.len() <= 125), "a long answer");
        }
        (data, frames.end())
    };
    let whole = read(&mut std::iter::once(bytes));
    assert_eq!(whole, read(&mut Pieces::new(bytes, number)), "the cuts change the data");
    assert_eq!(whole, read(&mut bytes.chunks(1)), "single bytes change the data");
    assert_eq!(whole.0, reference::websocket_data(bytes), "another reading has other data");
    assert!(internals::accepts_upgrade(bytes, "AAAAAAAAAAAAAAAAAAAAAA==").is_err());
}
