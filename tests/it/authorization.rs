//! Who we say we are, as it stands on the wire, and who is asked for it.

#[cfg(unix)]
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use std::{fs, path::Path};

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{
    Challenge, ConnectionEventKind as Kind, ErrorKind, Login, Options, OptionsBuilder, ServerList,
    WeakConnection,
};
use serde_json::{Value, json};

use crate::support::jwt::{Account, Key, creds};
use crate::support::ports;
use crate::support::scripted::{Afterwards, ScriptedServer, Step};
use crate::support::wait::Gate;
use crate::support::watchdog::within;

const LIMIT: Duration = Duration::from_secs(10);
const NONCE: &str = "n0nce-of-the-server";

fn quick(servers: impl ServerList) -> OptionsBuilder {
    Options::builder()
        .servers(servers)
        .no_randomize()
        .connect_timeout(LIMIT)
        .reconnect_wait(Duration::from_millis(10))
        .reconnect_jitter(Duration::ZERO)
}

fn info(more: Value) -> Step {
    let mut info = json!({"server_id": "S", "proto": 1, "headers": true, "max_payload": 1024});
    info.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    Step::SendInfo(info.to_string())
}

/// A server that asks for a signature of `NONCE`.
fn asking() -> Vec<Step> {
    vec![info(json!({"auth_required": true, "nonce": NONCE})), Step::AnswerPings(Gate::new())]
}

/// The CONNECT that a server with this script gets.
fn connect_line(
    script: Vec<Step>,
    options: impl FnOnce(OptionsBuilder) -> OptionsBuilder,
) -> Value {
    let server = ScriptedServer::once(script);
    let connection = options(quick(server.url())).connect().unwrap();
    let line = server.connection(0, LIMIT).wait_line("CONNECT ", LIMIT);
    connection.close();
    serde_json::from_str(line.strip_prefix("CONNECT ").unwrap()).unwrap()
}

/// The keys of a CONNECT beside those that every CONNECT has; a missing one of those fails.
fn credentials_of(connect: &Value) -> Vec<&str> {
    const ALWAYS: [&str; 9] = [
        "verbose",
        "pedantic",
        "tls_required",
        "lang",
        "version",
        "protocol",
        "echo",
        "headers",
        "no_responders",
    ];
    let all = connect.as_object().unwrap();
    for key in ALWAYS {
        assert!(all.contains_key(key), "{key}");
    }
    all.keys().map(String::as_str).filter(|key| !ALWAYS.contains(key)).collect()
}

/// Whether CONNECT has exactly these fields, and the user's own values in them.
fn golden(
    user: &Key,
    jwt: &str,
    keys: &[&str],
    set: impl FnOnce(OptionsBuilder) -> OptionsBuilder,
) {
    let connect = connect_line(asking(), set);
    assert_eq!(credentials_of(&connect), keys);
    let public = user.public();
    for (key, value) in
        [("user", "u"), ("pass", "p"), ("auth_token", "t"), ("nkey", &public), ("jwt", jwt)]
    {
        assert!(connect.get(key).is_none_or(|it| it == value), "{key} of {keys:?}");
    }
    if let Some(sig) = connect.get("sig") {
        assert!(user.has_signed(NONCE.as_bytes(), sig.as_str().unwrap()), "{keys:?}");
    }
}

#[test]
fn connect_has_exactly_the_fields_of_each_way() {
    within(LIMIT * 6, "golden", || {
        let (account, user) = (Account::new(), Key::user());
        let (seed, public) = (user.seed(), user.public());
        let jwt = account.user_jwt(&user, None);
        let text = creds(&jwt, &seed);
        let signer = user.clone();
        let sign = move |nonce: &[u8]| Ok(signer.sign(nonce));
        let user_sig = ["jwt", "pass", "sig", "user"];
        golden(&user, &jwt, &[], |it| it);
        golden(&user, &jwt, &["pass", "user"], |it| it.user_and_password("u", "p"));
        golden(&user, &jwt, &["pass", "user"], |it| {
            it.user_and_password_supplier(|| Ok(("u".to_owned(), "p".to_owned())))
        });
        golden(&user, &jwt, &["auth_token"], |it| it.token("t"));
        golden(&user, &jwt, &["auth_token"], |it| it.token_supplier(|| Ok("t".to_owned())));
        golden(&user, &jwt, &["nkey", "sig"], |it| it.nkey_seed(&seed));
        golden(&user, &jwt, &["nkey", "sig"], |it| it.nkey_and_signer(&public, sign.clone()));
        golden(&user, &jwt, &["jwt", "sig"], |it| it.jwt_and_seed(&jwt, &seed));
        golden(&user, &jwt, &["jwt", "sig"], |it| it.jwt_and_signer(&jwt, sign.clone()));
        golden(&user, &jwt, &["jwt", "sig"], |it| it.credentials(&text));
        golden(&user, &jwt, &user_sig, |it| it.credentials(&text).user_and_password("u", "p"));
        golden(&user, &jwt, &["auth_token", "jwt", "sig"], |it| it.token("t").credentials(&text));
        let bearer = jwt.clone();
        golden(&user, &jwt, &["jwt"], |it| {
            it.credentials_source(move |_: &Challenge| Ok(Login::new().bearer_jwt(&bearer)))
        });
    });
}

/// The keys beside those of every CONNECT, of the one that goes to this URL and comes from these
/// options.
fn keys_at(scheme: &str, set: impl FnOnce(OptionsBuilder) -> OptionsBuilder) -> String {
    let server = ScriptedServer::once(asking());
    let url = server.url().replace("nats://", scheme);
    let connection = set(quick(url)).connect().unwrap();
    let line = server.connection(0, LIMIT).wait_line("CONNECT ", LIMIT);
    connection.close();
    let connect = serde_json::from_str(line.strip_prefix("CONNECT ").unwrap()).unwrap();
    credentials_of(&connect).join(" ")
}

#[test]
fn what_urls_files_properties_and_a_name_say_has_the_same_fields() {
    within(LIMIT * 6, "golden elsewhere", || {
        let (account, user) = (Account::new(), Key::user());
        let jwt = account.user_jwt(&user, None);
        let files = [("creds", creds(&jwt, &user.seed())), ("nk", user.seed())];
        let files = files.map(|(name, text)| {
            let name = format!("golden-{}.{name}", std::process::id());
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            fs::write(&path, text).unwrap();
            path
        });
        let [creds_file, seed_file] = &files;
        let pairs = |pairs: &'static [(&str, &str)]| {
            move |it: OptionsBuilder| it.property_pairs(pairs.iter().copied()).unwrap()
        };
        let (both, token) = (&[("username", "u"), ("password", "p")], &[("token", "t")]);
        let source = |make: fn() -> Login| {
            move |it: OptionsBuilder| it.credentials_source(move |_: &Challenge| Ok(make()))
        };
        let plain = "nats://";
        for (keys, found) in [
            ("pass user", keys_at("nats://u:p@", |it| it)),
            ("pass user", keys_at("nats://u:@", |it| it)),
            ("auth_token", keys_at("nats://t@", |it| it)),
            // The URL wins over all that the options say.
            ("auth_token", keys_at("nats://t@", |it| it.credentials_file(creds_file))),
            ("pass user", keys_at("nats://u:p@", |it| it.token("t"))),
            ("jwt sig", keys_at(plain, |it| it.credentials_file(creds_file))),
            ("auth_token jwt sig", keys_at(plain, |it| it.credentials_file(creds_file).token("t"))),
            ("nkey sig", keys_at(plain, |it| it.nkey_file(seed_file))),
            ("pass user", keys_at(plain, pairs(both))),
            ("auth_token", keys_at(plain, pairs(token))),
            ("", keys_at(plain, source(Login::new))),
            ("pass user", keys_at(plain, source(|| Login::new().user_and_password("u", "p")))),
            ("auth_token", keys_at(plain, source(|| Login::new().token("t")))),
            ("name", keys_at(plain, |it| it.name("n"))),
            ("auth_token name", keys_at(plain, |it| it.name("n").token("t"))),
        ] {
            assert_eq!(found, keys);
        }
        for path in files {
            fs::remove_file(path).unwrap();
        }
    });
}

#[test]
fn connect_has_exactly_the_fields_of_a_url_and_of_a_file() {
    within(LIMIT * 6, "golden files", || {
        let (account, user) = (Account::new(), Key::user());
        let jwt = account.user_jwt(&user, None);
        let file = |name: &str, text: String| {
            let name = format!("authorization-{}-{name}", std::process::id());
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
            fs::write(&path, text).unwrap();
            path
        };
        let nkey = file("nkey", user.seed());
        let both = file("creds", creds(&jwt, &user.seed()));
        golden(&user, &jwt, &["nkey", "sig"], |it| it.nkey_file(&nkey));
        golden(&user, &jwt, &["jwt", "sig"], |it| it.credentials_file(&both));
        let all = ["jwt", "pass", "sig", "user"];
        golden(&user, &jwt, &all, |it| it.credentials_file(&both).user_and_password("u", "p"));
        golden(&user, &jwt, &["name"], |it| it.name("n"));
        for (in_url, keys) in
            [("u:p", &["pass", "user"][..]), ("t", &["auth_token"]), (":p", &["pass", "user"])]
        {
            let server = ScriptedServer::once(asking());
            let url = server.url().replace("nats://", &format!("nats://{in_url}@"));
            // What the options say is for servers whose URL says nothing.
            let connection = quick(url).credentials(creds(&jwt, &user.seed())).connect().unwrap();
            let line = server.connection(0, LIMIT).wait_line("CONNECT ", LIMIT);
            connection.close();
            let connect: Value =
                serde_json::from_str(line.strip_prefix("CONNECT ").unwrap()).unwrap();
            assert_eq!(credentials_of(&connect), keys, "{in_url}");
        }
        for path in [nkey, both] {
            fs::remove_file(path).unwrap();
        }
    });
}

#[test]
fn without_a_nonce_nothing_is_signed() {
    within(LIMIT * 3, "no nonce", || {
        let user = Key::user();
        let signed = Arc::new(AtomicU32::new(0));
        let with_signer = |options: OptionsBuilder| {
            let (count, key) = (Arc::clone(&signed), user.clone());
            options.nkey_and_signer(user.public(), move |nonce| {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(key.sign(nonce))
            })
        };
        // A server that asks for nobody lets us in as nobody.
        let open = vec![info(json!({})), Step::AnswerPings(Gate::new())];
        assert!(credentials_of(&connect_line(open, with_signer)).is_empty());
        // One that asks gets nothing at all.
        for nonce in [json!({}), json!({"nonce": ""})] {
            let mut more = json!({"auth_required": true});
            more.as_object_mut().unwrap().extend(nonce.as_object().unwrap().clone());
            let server = ScriptedServer::once(vec![info(more), Step::Silence]);
            let error = with_signer(quick(server.url())).connect().unwrap_err();
            let cause = error.attempts()[0].cause();
            assert_eq!(cause.kind(), ErrorKind::Credentials, "{cause}");
            let seen = server.connection(0, LIMIT);
            seen.wait_peer_closed(LIMIT);
            assert!(seen.received().is_empty(), "{:?}", seen.lines());
        }
        assert_eq!(signed.load(Ordering::SeqCst), 0);
        // A source that signs something else all the same.
        let server = ScriptedServer::once(vec![info(json!({})), Step::Silence]);
        let options = quick(server.url())
            .credentials_source(|_: &Challenge| Ok(Login::new().nkey("U", *b"anything")));
        let error = options.connect().unwrap_err();
        assert_eq!(error.attempts()[0].cause().kind(), ErrorKind::Credentials);
    });
}

#[test]
fn a_server_that_asks_again_is_not_told_again() {
    within(LIMIT * 3, "twice", || {
        let again = || info(json!({"auth_required": true, "nonce": "another"}));
        let gate = Gate::new();
        let script = vec![
            info(json!({"auth_required": true, "nonce": NONCE})),
            Step::expect("CONNECT"),
            again(),
            Step::AnswerPingsMeanwhile,
            again(),
            Step::expect("SUB a"),
            again(),
            Step::send("MSG a 1 2\r\nhi\r\n"),
            Step::Wait(gate.clone()),
        ];
        let server = ScriptedServer::once(script);
        let connection = quick(server.url()).user_and_password("u", "p").connect().unwrap();
        let subscription = connection.subscribe("a").unwrap();
        subscription.next_timeout(LIMIT).unwrap();
        connection.flush().unwrap();
        let lines = server.connection(0, LIMIT).lines();
        let count = lines.iter().filter(|line| line.contains("CONNECT")).count();
        assert_eq!(count, 1, "{lines:?}");
        gate.open();
        connection.close();
    });
}

#[test]
fn what_one_url_says_goes_to_that_server_and_to_those_it_announces_alone() {
    within(LIMIT * 4, "per server", || {
        let healthy = || ScriptedServer::start(vec![Step::healthy()], Afterwards::Refuse);
        let (second, discovered) = (healthy(), healthy());
        // The first announces the third and also the second, which is configured with its own user.
        let leave = Gate::new();
        let urls = [second.address().to_string(), discovered.address().to_string()];
        let first = ScriptedServer::once(vec![
            info(json!({"connect_urls": urls})),
            Step::AnswerPings(leave.clone()),
        ]);
        let with = |server: &ScriptedServer, user: &str| {
            server.url().replace("nats://", &format!("nats://{user}@"))
        };
        let recorder = Recorder::new();
        let connection = quick([with(&first, "joe:pw1"), with(&second, "t0ken2")])
            .user_and_password("option", "pw3")
            .connection_listener(recorder.clone())
            .connect()
            .unwrap();
        let credentials = |server: &ScriptedServer| {
            let line = server.connection(0, LIMIT).wait_line("CONNECT ", LIMIT);
            let connect: Value =
                serde_json::from_str(line.strip_prefix("CONNECT ").unwrap()).unwrap();
            ["user", "pass", "auth_token"].map(|key| connect[key].as_str().map(str::to_owned))
        };
        let told = |texts: [Option<&str>; 3]| texts.map(|text| text.map(str::to_owned));
        assert_eq!(credentials(&first), told([Some("joe"), Some("pw1"), None]));
        leave.open();
        recorder.wait_for_count(LIMIT, 1, resubscribed).unwrap();
        connection.force_reconnect().unwrap();
        recorder.wait_for_count(LIMIT, 2, resubscribed).unwrap();
        assert_eq!(credentials(&second), told([None, None, Some("t0ken2")]));
        assert_eq!(credentials(&discovered), told([Some("joe"), Some("pw1"), None]));
        connection.close();

        // The options are for servers whose URL says nothing.
        let plain = healthy();
        let options = quick(plain.url()).user_and_password("option", "pw3");
        options.connect().unwrap().close();
        assert_eq!(credentials(&plain), told([Some("option"), Some("pw3"), None]));
    });
}

fn resubscribed(happening: &Happening) -> bool {
    matches!(happening.event_kind(), Some(Kind::Resubscribed { .. }))
}

#[test]
fn a_source_learns_which_server_asks() {
    within(LIMIT * 3, "challenge", || {
        let server = ScriptedServer::once(asking());
        let (seen, place) = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(String::new())));
        let (challenges, name) = (Arc::clone(&seen), Arc::clone(&place));
        let options = quick(server.url()).credentials_source(move |challenge: &Challenge| {
            let thread = std::thread::current().name().unwrap_or_default().to_owned();
            *name.lock().map_err(|_| "poison")? = thread;
            *challenges.lock().map_err(|_| "poison")? = Some(challenge.clone());
            Ok(Login::new())
        });
        options.connect().unwrap().close();
        let challenge = seen.lock().unwrap().take().unwrap();
        assert_eq!(challenge.server(), server.url());
        assert_eq!(challenge.nonce().unwrap(), NONCE.as_bytes());
        assert!(challenge.auth_required());
        let name = place.lock().unwrap().clone();
        assert!(name.starts_with("nats-") && name.ends_with("-creds"), "{name}");
    });
}

#[test]
fn a_source_that_fails_or_panics_is_a_failed_attempt() {
    within(LIMIT * 4, "faults", || {
        let server = ScriptedServer::always(asking());
        let asked = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&asked);
        let recorder = Recorder::new();
        let connection = quick(server.url())
            .token_supplier(move || match count.fetch_add(1, Ordering::SeqCst) {
                1 => panic!("on purpose"),
                2 | 3 => Err("the vault is sealed".into()),
                _ => Ok("t".to_owned()),
            })
            .connection_listener(recorder.clone())
            .error_listener(recorder.clone())
            .connect()
            .unwrap();
        connection.force_reconnect().unwrap();
        recorder.wait_for_count(LIMIT, 1, resubscribed).unwrap();
        assert_eq!(asked.load(Ordering::SeqCst), 5);
        let told: Vec<_> = recorder
            .records()
            .iter()
            .filter_map(|record| match record.happening() {
                Happening::Exception(error) => Some((error.kind(), error.to_string())),
                _ => None,
            })
            .collect();
        let sealed = format!("{}: token_supplier: the vault is sealed", server.url());
        let panicked = format!("{}: the credentials panicked when they were asked", server.url());
        assert_eq!(
            told,
            [
                (ErrorKind::UserPanic, panicked),
                (ErrorKind::Credentials, sealed.clone()),
                (ErrorKind::Credentials, sealed)
            ]
        );
        assert_eq!(connection.statistics().panics(), 1);
        connection.close();
        recorder.check().unwrap();
    });
}

#[test]
fn a_source_that_never_answers_costs_the_connect_timeout() {
    within(LIMIT * 4, "stuck", || {
        let server = ScriptedServer::always(asking());
        let gate = Gate::new();
        let inside = gate.clone();
        let started = Instant::now();
        let error = quick(server.url())
            .connect_timeout(Duration::from_millis(200))
            .close_timeout(Duration::from_millis(200))
            .token_supplier(move || {
                inside.wait(LIMIT * 4);
                Ok("t".to_owned())
            })
            .connect()
            .unwrap_err();
        assert!(error.attempts()[0].cause().is_timeout(), "{error}");
        assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
        gate.open();
    });
}

/// A pipe that nobody writes to stands for a file system that has gone away.
#[test]
#[cfg(unix)]
fn a_credentials_file_that_cannot_be_read_to_its_end_costs_the_connect_timeout() {
    within(LIMIT * 4, "pipe", || {
        let name = format!("authorization-{}.pipe", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
        let server = ScriptedServer::always(asking());
        let started = Instant::now();
        let error = quick(server.url())
            .connect_timeout(Duration::from_millis(200))
            .close_timeout(Duration::from_millis(200))
            .credentials_file(&path)
            .connect()
            .unwrap_err();
        assert!(error.attempts()[0].cause().is_timeout(), "{error}");
        assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
        // The reading end is held by the call that was left behind; this lets it end.
        drop(fs::OpenOptions::new().write(true).open(&path).unwrap());
        fs::remove_file(&path).unwrap();
    });
}

#[test]
fn a_hostile_credentials_file_fails_the_attempt_soon_and_nothing_of_it_is_said_or_shown() {
    within(LIMIT * 6, "hostile files", || {
        let seed = Key::user().seed();
        let name = format!("authorization-{}-hostile", std::process::id());
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // Claims that are nested to any depth: base64 of `[[[`.
        let deep = format!("hush.{}.hush", "W1tb".repeat(60_000));
        let files: [Vec<u8>; 10] = [
            Vec::new(),
            vec![0; 4_096],
            b"\xff\xfehush".to_vec(),
            vec![b'-'; 1 << 20],
            b"-----BEGIN NATS USER JWT-----\n".repeat(30_000),
            b"-----BEGIN NATS USER JWT-----\n------END NATS USER JWT------\n".repeat(15_000),
            creds(&deep, &seed).into_bytes(),
            creds(&".".repeat(900_000), &seed).into_bytes(),
            creds("hush\0.hush\r\n.hush", &seed).into_bytes(),
            creds("hush.hush.hush", "hush\"\r\nPUB x 0\r\n").into_bytes(),
        ];
        let fails = |path: &Path| {
            let server = ScriptedServer::once(asking());
            let started = Instant::now();
            let error = quick(server.url()).credentials_file(path).connect().unwrap_err();
            assert!(started.elapsed() < LIMIT, "{:?}", started.elapsed());
            let cause = error.attempts()[0].cause();
            assert_eq!(cause.kind(), ErrorKind::Credentials, "{cause}");
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(&*path.to_string_lossy()), "{shown}");
            assert!(shown.len() < 2_000 && !shown.contains("hush"), "{shown}");
            assert!(!shown.contains(&seed[..8]), "{shown}");
            assert!(server.connection(0, LIMIT).received().is_empty());
        };
        for text in files {
            fs::write(&path, text).unwrap();
            fails(&path);
        }
        fs::remove_file(&path).unwrap();
        fails(Path::new(env!("CARGO_TARGET_TMPDIR")));
        #[cfg(target_os = "linux")]
        for endless in ["/dev/zero", "/dev/null"] {
            fails(Path::new(endless));
        }
    });
}

#[test]
fn close_and_every_waiter_end_in_time_while_a_source_hangs() {
    within(LIMIT * 4, "close", || {
        let leave = Gate::new();
        let first = vec![asking()[0].clone(), Step::AnswerPings(leave.clone())];
        let server = ScriptedServer::start(vec![first, asking()], Afterwards::Repeat);
        let (gate, asked) = (Gate::new(), Arc::new(AtomicU32::new(0)));
        let (inside, count) = (gate.clone(), Arc::clone(&asked));
        let recorder = Recorder::new();
        let connection = quick(server.url())
            .connect_timeout(LIMIT * 3)
            .token_supplier(move || {
                if count.fetch_add(1, Ordering::SeqCst) > 0 {
                    inside.wait(LIMIT * 4);
                }
                Ok("t".to_owned())
            })
            .connection_listener(recorder.clone())
            .connect()
            .unwrap();
        let subscription = connection.subscribe("a").unwrap();
        let waiter = std::thread::Builder::new().spawn(move || subscription.next()).unwrap();
        leave.open();
        crate::support::wait::poll(LIMIT, || (asked.load(Ordering::SeqCst) == 2).then_some(()))
            .unwrap();
        let started = Instant::now();
        connection.close();
        let took = started.elapsed();
        assert!(took < LIMIT, "{took:?}");
        assert!(waiter.join().unwrap().unwrap_err().is_closed());
        recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::Closed { .. })).unwrap();
        recorder.check().unwrap();
        gate.open();
    });
}

#[test]
fn a_source_may_close_its_own_connection() {
    within(LIMIT * 4, "own", || {
        let leave = Gate::new();
        let first = vec![asking()[0].clone(), Step::AnswerPings(leave.clone())];
        let server = ScriptedServer::start(vec![first, asking()], Afterwards::Repeat);
        let own: Arc<Mutex<Option<WeakConnection>>> = Arc::default();
        let inside = Arc::clone(&own);
        let connection = quick(server.url())
            .token_supplier(move || {
                let own = inside.lock().map_err(|_| "poison")?.clone();
                if let Some(connection) = own.and_then(|weak| weak.upgrade()) {
                    connection.close();
                }
                Ok("t".to_owned())
            })
            .connect()
            .unwrap();
        *own.lock().unwrap() = Some(connection.downgrade());
        let started = Instant::now();
        leave.open();
        assert!(connection.wait_closed(LIMIT).unwrap().is_none());
        assert!(started.elapsed() < LIMIT);
    });
}

#[test]
fn what_cannot_be_used_is_refused_before_anything_is_sent() {
    let (account, user) = (Account::new(), Key::user());
    let jwt = account.user_jwt(&user, None);
    let (seed, public) = (user.seed(), user.public());
    let new = Options::builder;
    let sign = |_: &[u8]| Ok(Vec::new());
    let cases: Vec<(&str, OptionsBuilder)> = vec![
        ("nkey_seed cannot be used: the seed: it is empty", new().nkey_seed("")),
        ("nkey_seed cannot be used: the seed: it is a public nkey", new().nkey_seed(&public)),
        ("it is the seed of an account", new().nkey_seed(account.seed())),
        ("jwt_and_seed cannot be used: the JWT: it has 1", new().jwt_and_seed("hush", &seed)),
        ("jwt_and_seed cannot be used: the seed: it has 4", new().jwt_and_seed(&jwt, "hush")),
        ("the JWT: it is of another user", new().jwt_and_seed(&jwt, Key::user().seed())),
        ("credentials cannot be used: it has no section", new().credentials("hush")),
        ("line 6: the seed", new().credentials(creds(&jwt, "hush"))),
        ("nkey_and_signer cannot be used: the public", new().nkey_and_signer("hush", sign)),
        ("it is a seed, which is secret", new().nkey_and_signer(&seed, sign)),
        ("jwt_and_signer cannot be used: the JWT: it is", new().jwt_and_signer("", sign)),
        (
            "nkey_seed and credentials_file cannot both",
            new().nkey_seed(&seed).credentials_file("/x"),
        ),
        (
            "user_and_password and nkey_seed cannot both",
            new().user_and_password("u", "p").nkey_seed(&seed),
        ),
        (
            "token and token_supplier cannot both",
            new().token("t").token_supplier(|| Ok(String::new())),
        ),
        (
            "credentials_source and token cannot both",
            new().credentials_source(|_: &Challenge| Ok(Login::new())).token("t"),
        ),
    ];
    for (part, builder) in cases {
        let error = builder.server(format!("127.0.0.1:{}", ports::free())).connect().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{part}: {error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains("hush") && !shown.contains(&seed[..8]), "{shown}");
    }
    assert!(new().nkey_seed("").nkey_seed(&seed).build().is_ok(), "the last one wins");
}
