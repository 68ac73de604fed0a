//! Every text in a login goes to the server as one value or not at all: those of the environment,
//! and those of a source that is asked again on a connection that lives.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_blocking::testing::{ClientOp, ClientOpParser};
use nats_blocking::{Challenge, Error, ErrorKind, Login, Options, OptionsBuilder};
use serde_json::{Value, json};

use crate::injection::texts;
use crate::support::jwt::Key;
use crate::support::own_process::with_variables;
use crate::support::scripted::{ScriptedServer, Step};
use crate::support::wait::{Gate, poll};
use crate::support::watchdog::within;

const LIMIT: Duration = Duration::from_secs(20);
const LONG: Duration = Duration::from_secs(240);
const NONCE: &str = "n\"o\\nce";

/// What a server got: CONNECT, behind which nothing but whole PINGs may stand.
fn connect_of(bytes: &[u8]) -> Value {
    let mut parser = ClientOpParser::with_limits(1 << 20, 1 << 20);
    parser.push(bytes);
    let Some(ClientOp::Connect(fields)) = parser.next().unwrap() else { panic!("no CONNECT") };
    while let Some(op) = parser.next().unwrap() {
        assert_eq!(op, ClientOp::Ping);
    }
    assert!(parser.is_at_boundary());
    Value::Object(fields)
}

/// The part of CONNECT that says who we are.
fn said(connect: &Value) -> Value {
    let keys = ["name", "user", "pass", "auth_token", "nkey", "jwt", "sig"];
    let there = keys.iter().filter_map(|key| Some((key.to_string(), connect.get(key)?.clone())));
    Value::Object(there.collect())
}

fn builder(server: &ScriptedServer) -> OptionsBuilder {
    Options::builder().server(server.url()).connect_timeout(LIMIT).no_reconnect()
}

/// Connects to a server that takes anybody; what it is told, or the refusal, which comes before
/// anything was sent.
fn told(set: impl FnOnce(OptionsBuilder) -> Result<OptionsBuilder, Error>) -> Result<Value, Error> {
    let server = ScriptedServer::always(asking());
    let options = set(builder(&server)).and_then(OptionsBuilder::build);
    let options = options.inspect_err(|_| assert_eq!(server.connection_count(), 0))?;
    let connection = options.connect()?;
    connection.flush_timeout(LIMIT).unwrap();
    let connect = connect_of(&server.connection(0, LIMIT).received());
    connection.close();
    Ok(said(&connect))
}

/// A server that wants something signed.
fn asking() -> Vec<Step> {
    let info = json!({"proto": 1, "headers": true, "auth_required": true, "nonce": NONCE});
    vec![Step::SendInfo(info.to_string()), Step::AnswerPings(Gate::new())]
}

/// In a process whose variables hold the text, which the child finds in one of them.
fn with_text(name: &str, variables: &[&'static str], body: impl Fn(&str)) {
    if let Ok(text) = std::env::var("INJECTED") {
        let prepare = || -> ((), _) { unreachable!("this is the child") };
        return with_variables(name, LONG, prepare, || body(&text));
    }
    // The operating system keeps NUL out, and an empty variable counts as unset.
    for text in texts().into_iter().filter(|text| !text.is_empty() && !text.contains('\0')) {
        let prepare = || {
            let given = variables.iter().map(|name| (*name, text.clone()));
            ((), given.chain([("INJECTED", text.clone())]).collect())
        };
        with_variables(name, LONG, prepare, || unreachable!("the parent"));
    }
}

#[test]
fn user_password_and_inbox_prefix_of_the_environment_arrive_as_they_are_or_are_refused() {
    let name = "injected_logins::user_password_and_inbox_prefix_of_the_environment_arrive_as_they_\
                are_or_are_refused";
    with_text(name, &["NATS_USER", "NATS_PASSWORD", "NATS_INBOX_PREFIX"], |text| {
        let shown: String = text.chars().take(40).collect();
        let fields = told(|builder| Ok(builder.environment()?.inbox_prefix("good"))).unwrap();
        assert_eq!(fields, json!({"user": text, "pass": text}), "{shown:?}");
        match told(OptionsBuilder::environment) {
            Ok(fields) => {
                assert_eq!(fields, json!({"user": text, "pass": text}), "{shown:?}");
                assert!(!text.contains([' ', '\t', '\r', '\n']), "{shown:?}");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::InvalidOption, "{shown:?}: {error}");
                assert!(error.to_string().contains("inbox prefix"), "{error}");
            }
        }
    });
}

#[test]
fn the_token_of_the_environment_arrives_as_it_is() {
    let name = "injected_logins::the_token_of_the_environment_arrives_as_it_is";
    with_text(name, &["NATS_TOKEN"], |text| {
        let fields = told(OptionsBuilder::environment).unwrap();
        assert_eq!(fields, json!({ "auth_token": text }));
    });
}

#[test]
fn a_url_of_the_environment_is_one_or_is_refused_and_named() {
    let name = "injected_logins::a_url_of_the_environment_is_one_or_is_refused_and_named";
    with_text(name, &["NATS_URL"], |text| {
        let refused = match Options::from_environment() {
            // Hosts with odd names are not looked up here.
            Ok(builder) => {
                let shown = format!("{builder:?}");
                assert!(!shown.contains(['\r', '\n', '\x1b']), "{shown:?}");
                assert!(!text.trim().contains([' ', '\r', '\n', '\x1b']), "{shown:?}");
                return;
            }
            Err(error) => error,
        };
        assert_eq!(refused.kind(), ErrorKind::InvalidUrl);
        let shown = refused.to_string();
        assert!(shown.starts_with("NATS_URL") && shown.len() < 600, "{shown}");
        assert!(!shown.contains(['\r', '\n', '\x1b']), "{shown:?}");
    });
}

#[test]
fn what_a_source_says_on_a_live_connection_arrives_as_it_is() {
    within(LONG, "live", || {
        type Make = fn(&str, Vec<u8>) -> Login;
        let makes: [(Make, &[&str]); 4] = [
            (|text, _| Login::new().user_and_password(text, text).token(text), USER_AND_TOKEN),
            (|text, sig| Login::new().nkey(text, sig), &["nkey", "sig"]),
            (|text, sig| Login::new().jwt(text, sig), &["jwt", "sig"]),
            (
                |text, sig| {
                    let login = Login::new().jwt(text, sig).token(text);
                    login.user_and_password(text, text)
                },
                &["auth_token", "jwt", "pass", "sig", "user"],
            ),
        ];
        for (make, keys) in makes {
            live(make, keys);
        }
    });
}

const USER_AND_TOKEN: &[&str] = &["auth_token", "pass", "user"];

/// One connection that is made to reconnect for each text.
fn live(make: fn(&str, Vec<u8>) -> Login, keys: &[&str]) {
    let server = ScriptedServer::always(asking());
    let key = Key::user();
    let current = Arc::new(Mutex::new(String::from("first")));
    let (text, signer) = (current.clone(), key.clone());
    let connection = Options::builder()
        .server(server.url())
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(1))
        .reconnect_jitter(Duration::ZERO)
        .name("a \"name\"\r\nPUB x 0\r\n")
        .credentials_source(move |challenge: &Challenge| {
            let signature = signer.sign(challenge.nonce()?);
            Ok(make(&text.lock().map_err(|_| "poison")?, signature))
        })
        .connect()
        .unwrap();
    for (index, text) in texts().into_iter().enumerate() {
        current.lock().unwrap().clone_from(&text);
        connection.force_reconnect().unwrap();
        let seen = server.connection(index + 1, LIMIT);
        let back = poll(LIMIT, || {
            (connection.statistics().reconnects() == index as u64 + 1 && connection.is_connected())
                .then_some(())
        });
        assert!(back.is_some(), "{connection:?}");
        connection.flush_timeout(LIMIT).unwrap();
        let fields = said(&connect_of(&seen.received()));
        let shown: String = text.chars().take(40).collect();
        let all: Vec<&str> = fields.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(all.iter().filter(|key| **key != "name").collect::<Vec<_>>().len(), keys.len());
        assert_eq!(fields["name"], "a \"name\"\r\nPUB x 0\r\n");
        for part in keys {
            match *part {
                "sig" => {
                    assert!(key.has_signed(NONCE.as_bytes(), fields["sig"].as_str().unwrap()));
                }
                part => assert_eq!(fields[part], text, "{part} {shown:?}"),
            }
        }
    }
    connection.close();
}

#[test]
fn bytes_of_a_signature_are_coded_whatever_they_are() {
    within(LONG, "signatures", || {
        for signature in
            [&b"\r\nPUB x 0\r\n\r\n"[..], b"\"", b"\0", b"", &[0xff; 64], &[b'\\'; 5000]]
        {
            let given = signature.to_vec();
            let fields = told(|builder| {
                Ok(builder.credentials_source(move |challenge: &Challenge| {
                    challenge.nonce()?;
                    Ok(Login::new().nkey("U", given.clone()))
                }))
            });
            let fields = fields.unwrap();
            let sig = fields["sig"].as_str().unwrap();
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            assert!(sig.bytes().all(plain), "{sig:?}");
            assert_eq!(sig.len(), (signature.len() * 4).div_ceil(3), "{sig:?}");
        }
    });
}

#[test]
fn a_public_nkey_a_seed_and_a_jwt_of_the_options_are_refused_before_a_byte_is_sent() {
    within(LONG, "options", || {
        let asked = Arc::new(AtomicU32::new(0));
        for text in texts() {
            let shown: String = text.chars().take(40).collect();
            let sign = || {
                let asked = asked.clone();
                move |_: &[u8]| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    Ok(vec![0; 64])
                }
            };
            let seed = Key::user().seed();
            for outcome in [
                told(|builder| Ok(builder.nkey_seed(&text))),
                told(|builder| Ok(builder.nkey_and_signer(&text, sign()))),
                told(|builder| Ok(builder.jwt_and_seed(&text, &seed))),
                told(|builder| Ok(builder.jwt_and_signer(&text, sign()))),
                told(|builder| Ok(builder.credentials(&text))),
            ] {
                let error = outcome.expect_err(&shown);
                assert_eq!(error.kind(), ErrorKind::InvalidOption, "{shown:?}: {error}");
                assert!(error.to_string().len() < 600);
            }
        }
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    });
}
