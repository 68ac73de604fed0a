//! No password, user name, token, seed, JWT, nonce or signature is ever shown: not by a value, an
//! error, an event or a log line.

use std::fmt::Debug;
use std::fs;
use std::path::Path;
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{Challenge, ConnectionEventKind as Kind, Login, Options, OptionsBuilder};

use crate::support::jwt::{Account, Key, creds};
use crate::support::own_process::in_own_process;
use crate::support::ports;
use crate::support::scripted::{Afterwards, ScriptedServer, Step};

const LIMIT: Duration = Duration::from_secs(20);

/// What must not be found. Nothing else here contains them.
const CANARIES: [&str; 3] = ["canaryuser", "canarypass,/:@w0rd", "canarytoken"];

/// What a server of these tests wants signed.
const NONCE: &str = "canarynonce";

/// A user with a key, a JWT and a credentials file, which must not be found either.
static USER: LazyLock<(Key, String)> = LazyLock::new(|| {
    let user = Key::user();
    let jwt = Account::new().user_jwt(&user, None);
    (user, jwt)
});

/// Everything that was shown, by whatever way.
static SHOWN: Mutex<String> = Mutex::new(String::new());

fn show(text: &str) {
    let mut shown = SHOWN.lock().unwrap();
    shown.push_str(text);
    shown.push('\n');
}

fn show_debug(value: &impl Debug) {
    show(&format!("{value:?} {value:#?}"));
}

fn show_error(error: &nats_blocking::Error) {
    show_debug(error);
    show(&error.to_string());
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        show(&format!("{inner} {inner:?}"));
        source = inner.source();
    }
    for attempt in error.attempts() {
        show_debug(attempt);
        show(attempt.server());
        show(&attempt.cause().to_string());
    }
}

struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        show(&format!("{} {} {}", record.level(), record.target(), record.args()));
    }

    fn flush(&self) {}
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// As a URL must write it: what is not plain is coded.
fn url_text(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let code =
        |byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    text.bytes().map(code).collect()
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks_exact(3) {
        let bits = u32::from(chunk[0]) << 16 | u32::from(chunk[1]) << 8 | u32::from(chunk[2]);
        for shift in [18, 12, 6, 0] {
            text.push(char::from(DIGITS[(bits >> shift & 63) as usize]));
        }
    }
    text
}

/// The parts of the canaries in every form, in small letters: parts, because a text may be cut.
fn forms() -> Vec<String> {
    let mut forms =
        vec!["canary".to_owned(), "w0rd".to_owned(), percent("canary"), percent("w0rd")];
    for canary in CANARIES {
        forms.extend([url_text(canary), percent(canary)]);
        // In base64 a text looks different at each of three places.
        forms.extend((0..3).map(|from| base64(&canary.as_bytes()[from..])[..8].to_owned()));
    }
    // Of what is long, each piece.
    let (user, jwt) = &*USER;
    for text in [user.seed(), jwt.clone(), base64(&user.sign(NONCE.as_bytes()))] {
        for piece in text.as_bytes().chunks_exact(12) {
            let piece = std::str::from_utf8(piece).unwrap();
            forms.extend([piece.to_owned(), percent(piece), base64(piece.as_bytes())]);
        }
    }
    forms.iter().map(|form| form.to_ascii_lowercase()).collect()
}

/// A life with everything in it: refused, lost, refused for good; all that can be shown is shown.
fn live(builder: OptionsBuilder) {
    let recorder = Recorder::new();
    let builder = builder
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(10))
        .reconnect_jitter(Duration::ZERO)
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .on_event(|connection, event| show(&format!("{connection:?} {event} {event:?}")))
        .on_error(|connection, notice| show(&format!("{connection:?} {notice} {notice:?}")));
    show_debug(&builder);
    let options = builder.build().unwrap();
    show_debug(&options);
    let connection = options.connect().unwrap();
    let events = connection.events();
    let subscription = connection.subscribe("work").unwrap();
    let pending = connection.send_request("ask", "x").unwrap();
    let message = subscription.next_timeout(LIMIT).unwrap();
    show_debug(&connection);
    show_debug(&connection.downgrade());
    show_debug(&subscription);
    show_debug(&pending);
    show_debug(&message);
    show_debug(&connection.server_info());
    show_debug(&connection.statistics());
    show_debug(&connection.servers());
    show_debug(&connection.discovered_servers());
    show_debug(&connection.connected_url());
    let cause = connection.wait_closed(LIMIT).unwrap().expect("refused for good");
    show_error(&cause);
    show_error(&connection.publish("a", "b").unwrap_err());
    show_error(&connection.last_error().unwrap());
    for notice in events {
        show(&format!("{notice} {notice:?}"));
    }
    show_debug(&recorder.timeline("all"));
    for record in recorder.records() {
        show_debug(&record);
        match record.happening() {
            Happening::Exception(error) => show_error(error),
            Happening::Event(event) => match event.kind() {
                Kind::Disconnected { cause } | Kind::ReconnectFailed { cause, .. } => {
                    show_error(cause);
                }
                _ => show_debug(event),
            },
            other => show(&format!("{other} {other:?}")),
        }
    }
    recorder.check().unwrap();
}

fn scripts() -> Vec<Vec<Step>> {
    let discovered = format!("{{\"connect_urls\":[\"127.0.0.1:1\"],\"nonce\":\"{NONCE}\"}}");
    let info =
        format!("{{\"proto\":1,\"headers\":true,\"auth_required\":true,\"nonce\":\"{NONCE}\"}}");
    let info = || Step::SendInfo(info.clone());
    let refuse = vec![info(), Step::send("-ERR 'Authorization Violation'\r\n")];
    vec![
        [
            vec![info(), Step::ExpectConnectAndPing],
            vec![
                Step::AnswerPingsMeanwhile,
                Step::SendInfo(discovered),
                Step::expect("SUB work"),
                Step::expect("PUB ask"),
                Step::send("MSG work 1 2\r\nhi\r\n-ERR 'User Authentication Expired'\r\n"),
            ],
        ]
        .concat(),
        refuse,
    ]
}

fn user_info(user: &str, password: &str) -> String {
    format!("nats://{}:{}@", url_text(user), url_text(password))
}

#[test]
fn no_secret_is_ever_shown() {
    let name = "secrets::no_secret_is_ever_shown";
    in_own_process(name, LIMIT * 6, || {
        log::set_logger(&Logger).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
        let [user, password, token] = CANARIES;
        for info in [user_info(user, password), format!("nats://{token}@")] {
            let server = ScriptedServer::start(scripts(), Afterwards::Repeat);
            live(patient().server(server.url().replace("nats://", &info)));
        }
        for options in ways() {
            let server = ScriptedServer::start(scripts(), Afterwards::Repeat);
            live(options.server(server.url()));
        }
        let in_properties = patient().properties(&properties(user, password)).unwrap();
        for options in [in_properties, patient()] {
            let server = ScriptedServer::start(scripts(), Afterwards::Repeat);
            let url = server.url().replace("nats://", &format!("nats://{token}@"));
            live(options.property_pairs([("url", url)]).unwrap());
        }
        #[cfg(feature = "websocket")]
        over_websocket();
        bad_properties();
        failed_connects();
        bad_urls();
        bad_credentials();
        #[cfg(feature = "tls")]
        bad_certificates();
        let shown = SHOWN.lock().unwrap().to_ascii_lowercase();
        // That the net catches anything at all.
        assert!(shown.contains("authorization violation") && shown.contains("debug nats_blocking"));
        for form in forms() {
            if let Some(at) = shown.find(&form) {
                let from = shown[..at].rfind('\n').unwrap_or(0);
                panic!("'{form}' is shown: {}", shown[from..].lines().nth(1).unwrap_or_default());
            }
        }
    });
}

/// The same lives in frames, whose request has secrets too; what the library for them logs is among
/// what is shown.
#[cfg(feature = "websocket")]
fn over_websocket() {
    use crate::support::ws_front;
    let [user, password, token] = CANARIES;
    let in_request = |options: OptionsBuilder| {
        let pair = base64(format!("{user}:{password}.").as_bytes());
        options
            .websocket_header("Authorization", format!("Basic {pair}"))
            .websocket_header("X-Token", token)
    };
    let in_urls = [user_info(user, password), format!("nats://{token}@")];
    for info in in_urls {
        let server = ScriptedServer::start(scripts(), Afterwards::Repeat);
        let front = ws_front::start(server.port());
        let info = info.replace("nats://", "ws://");
        let url = format!("{info}{}/{token}/path?{user}={token}", front.address());
        live(in_request(patient()).server(url));
    }
    for options in ways() {
        let server = ScriptedServer::start(scripts(), Afterwards::Repeat);
        let front = ws_front::start(server.port());
        live(in_request(options).server(format!("ws://{}/?{token}", front.address())));
    }
    assert!(SHOWN.lock().unwrap().contains("tungstenite"), "its log is among what is shown");
}

fn properties(user: &str, password: &str) -> String {
    format!("io.nats.client.username={user}\nio.nats.client.password={password}")
}

/// Properties that cannot be used, with secrets in them.
fn bad_properties() {
    let [user, password, token] = CANARIES;
    let login = properties(user, password);
    for text in [
        format!("{login}\nio.nats.client.noecho=x"),
        format!("{login}\\u12"),
        format!("{login}\nio.nats.client.token={token}"),
        format!("io.nats.client.pasword={password}"),
        format!("io.nats.client.password={password}"),
        format!("io.nats.client.keyStorePassword={password}"),
        format!("io.nats.client.token.supplier={token}"),
        format!("io.nats.client.keyStore={token}"),
        format!("io.nats.client.url=nats://{user}:{password}@host:port"),
        format!("io.nats.client.servers=a,nats://{token}@"),
    ] {
        match Options::from_properties(&text).and_then(OptionsBuilder::build) {
            Ok(options) => panic!("{options:?}"),
            Err(error) => show_error(&error),
        }
    }
}

fn patient() -> OptionsBuilder {
    Options::builder().max_reconnects(3).ignore_discovered_servers()
}

/// A file of these tests with that text.
fn file(name: &str, text: &str) -> String {
    let name = format!("secrets-{}-{name}", std::process::id());
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::write(&path, text).unwrap();
    path.to_string_lossy().into_owned()
}

/// Every way to say who we are but those in a URL.
fn ways() -> Vec<OptionsBuilder> {
    let [name, password, token] = CANARIES;
    let (user, jwt) = &*USER;
    let text = creds(jwt, &user.seed());
    let path = file("good", &text);
    let source = move |challenge: &Challenge| {
        let login = Login::from_jwt_and_seed(&USER.1, &USER.0.seed(), challenge)?;
        let login = login.user_and_password(name, password).token(token);
        show_debug(&login);
        show_debug(challenge);
        Ok(login)
    };
    vec![
        patient().user_and_password(name, password),
        patient().token(token),
        patient().user_and_password_supplier(|| Ok((name.to_owned(), password.to_owned()))),
        patient().token_supplier(|| Ok(token.to_owned())),
        patient().nkey_seed(user.seed()),
        patient().nkey_and_signer(user.public(), |nonce| Ok(USER.0.sign(nonce))),
        patient().jwt_and_seed(jwt, user.seed()),
        patient().jwt_and_signer(jwt, |nonce| Ok(USER.0.sign(nonce))),
        patient().credentials(&text).user_and_password(name, password),
        patient().credentials_file(path),
        patient().websocket_header("Authorization", token),
        patient().credentials_source(source),
    ]
}

/// Credentials that cannot be used, each with a secret where the fault is.
fn bad_credentials() {
    let [_, password, token] = CANARIES;
    let (user, jwt) = &*USER;
    let (seed, sign) = (user.seed(), |nonce: &[u8]| Ok(USER.0.sign(nonce)));
    let mut changed = seed.clone();
    changed.replace_range(20..21, if changed[20..].starts_with('A') { "B" } else { "A" });
    let new = Options::builder;
    for builder in [
        new().nkey_seed(token),
        new().nkey_seed(&changed),
        new().nkey_seed(format!("{seed}\n")),
        new().nkey_and_signer(&seed, sign),
        new().jwt_and_seed(token, &seed),
        new().jwt_and_seed(&seed, jwt),
        new().jwt_and_seed(jwt, &changed),
        new().jwt_and_seed(format!("{jwt}!{token}"), &seed),
        new().jwt_and_signer(format!("{token}.{token}.{token}"), sign),
        new().credentials(creds(token, &seed)),
        new().credentials(creds(jwt, &changed)),
        new().credentials(format!("{token}\n{jwt}\n{seed}")),
        new().credentials(creds(&format!("{jwt}\n{jwt}"), &seed)),
        new().nkey_seed(&seed).token(token).user_and_password(token, password),
    ] {
        show_debug(&builder);
        show_error(&builder.build().unwrap_err());
    }
    let text = creds(jwt, &changed);
    let mut large = text.repeat(3000);
    large.push_str(token);
    for (name, text) in [("changed", text), ("large", large), ("other", format!("{jwt} {seed}"))] {
        let server = ScriptedServer::start(scripts(), Afterwards::Repeat);
        let options = new().server(server.url()).connect_timeout(LIMIT);
        show_error(&options.credentials_file(file(name, &text)).connect().unwrap_err());
        drop(server.take_failures());
    }
    // A server that asks with a nonce of its own, and one that sends none.
    let none = Step::SendInfo("{\"auth_required\":true}".to_owned());
    let server = ScriptedServer::always(vec![none, Step::Silence]);
    let options = new().server(server.url()).credentials(creds(jwt, &seed)).token(token);
    show_error(&options.connect().unwrap_err());
}

/// Servers that cannot be connected to, each in its own way.
fn failed_connects() {
    let [user, password, token] = CANARIES;
    let refused = ports::listen().local_addr().unwrap();
    let tls = Step::SendInfo("{\"tls_required\":true}".to_owned());
    let server = ScriptedServer::always(vec![tls, Step::Close]);
    for url in [
        format!("{}{refused}", user_info(user, password)),
        format!("nats://{token}@{refused}"),
        server.url().replace("nats://", &user_info(user, password)),
        format!("tls://{token}@{}", server.address()),
        format!("{}nowhere.invalid", user_info(user, password)),
    ] {
        let error = Options::builder().server(url).connect_timeout(LIMIT).connect().unwrap_err();
        show_error(&error);
    }
    drop(server.take_failures());
}

/// Certificates and keys that cannot be used, with secrets in them.
#[cfg(feature = "tls")]
fn bad_certificates() {
    let [_, password, token] = CANARIES;
    let key = format!("-----BEGIN PRIVATE KEY-----\n{token}\n-----END PRIVATE KEY-----\n");
    let torn = format!("-----BEGIN PRIVATE KEY-----\n{token}!\n");
    let locked = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    let new = || Options::builder().server("tls://127.0.0.1:1");
    for builder in [
        new().client_certificate(token, key.as_str()),
        new().client_certificate(key.replace("PRIVATE KEY", "CERTIFICATE"), key.as_str()),
        new().client_certificate("", torn.as_str()),
        new().client_certificate("", locked),
        new().client_certificate_pkcs12(torn.as_str(), password),
        new().client_certificate_pkcs12_file("/nowhere", password),
        new().root_certificates(torn),
        new().root_certificates(key.replace("PRIVATE KEY", "CERTIFICATE")),
    ] {
        show_debug(&builder);
        show_error(&builder.connect().unwrap_err());
    }
}

/// URLs that cannot be read, with secrets wherever a person may have put them.
fn bad_urls() {
    let [user, password, token] = CANARIES;
    for url in [
        format!("nats://{user}:{password}@host:port"),
        format!("nats://{user}:{password}@host"),
        format!("{user}:{password}@host:port"),
        format!("nats://{token}@"),
        format!("nats://{token}@ho st"),
        format!("http://{token}@host"),
        format!("nats://{user}:canarypass#x@host"),
        format!("nats://{user}:canarypass?x@host"),
        format!("nats://{user}:canarypass/x@host"),
        format!("nats://{user}:canarypass://x@host"),
        format!("{user}:canarypass://x@host"),
        format!("nats://{user}:canarypass%ff@host"),
        format!("nats://{user}:canarypass@host/path"),
        format!("h1,nats://{user}:canarypass,x@host:port,h3"),
        format!("nats://{user}:{}@host:99999", percent("canary")),
        "nats://user:canarypass".to_owned(),
        format!("ws://{user}:12?{password}@host"),
        format!("wss://{token}?x@host"),
        format!("ws://{user}:1\\{password}@host"),
        format!("wss://{user}:1#{password}@host"),
        format!("wss://host/x?{token},{password}"),
        format!("https://host/?token={token}"),
        format!("nats://host/?token={token}"),
        format!("tls://host/{token}"),
    ] {
        let builder = Options::builder().server(&url);
        show_debug(&builder);
        match builder.build() {
            Ok(options) => show_debug(&options),
            Err(error) => show_error(&error),
        }
        if let Err(error) = Options::builder().servers([url.as_str(), "other"]).build() {
            show_error(&error);
        }
    }
}
