//! NKeys, JWTs and credentials files, and who changes them while a connection lives.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nats_blocking::testing::Happening;
use nats_blocking::{
    Challenge, Connection, ErrorKind, Login, OptionsBuilder, ServerErrorKind as Said,
};

use super::{Client, LIMIT, closed, quick, reconnect_failed, reconnected};
use crate::support::jwt::{Account, Key, Operator};
use crate::support::nats_server::{Config, NatsServer};
use crate::support::watchdog::within;

/// An operator, an account of it, and a server that knows both.
struct Realm {
    operator: Operator,
    account: Account,
    server: NatsServer,
}

impl Realm {
    fn start() -> Self {
        let (operator, account) = (Operator::new(), Account::new());
        let server = NatsServer::start(&Config::new().operator(&operator, &[&account]));
        Self { operator, account, server }
    }

    fn options(&self) -> OptionsBuilder {
        quick(self.server.url())
    }
}

/// A credentials file of one test, removed in the end.
struct File(PathBuf);

impl File {
    fn new(name: &str) -> Self {
        let name = format!("{name}-{}.creds", std::process::id());
        Self(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
    }

    /// Replaced in one step, as a careful program does it.
    fn write(&self, text: &str) {
        let fresh = self.0.with_extension("new");
        fs::write(&fresh, text).unwrap();
        fs::rename(&fresh, &self.0).unwrap();
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn accepted(options: OptionsBuilder) {
    let client = Client::connect(options);
    client.round_trip("a");
    client.finish();
}

/// Refused by the server, not by ourselves.
fn refused(options: OptionsBuilder) {
    let (client, recorder) = Client::try_connect(options);
    let error = client.err().expect("a stranger");
    let cause = error.attempts()[0].cause();
    assert_eq!(cause.kind(), ErrorKind::Authorization, "{cause}");
    recorder.wait_for_event(LIMIT, closed).unwrap();
    recorder.check().unwrap();
}

#[test]
fn a_user_is_known_by_the_nkey() {
    within(Duration::from_secs(60), "nkey", || {
        let (anna, otto) = (Key::user(), Key::user());
        let server = NatsServer::start(&Config::new().nkey(&anna.public()));
        let options = || quick(server.url());
        accepted(options().nkey_seed(anna.seed()));
        let (public, agent) = (anna.public(), anna.clone());
        accepted(options().nkey_and_signer(public, move |nonce| Ok(agent.sign(nonce))));
        let agent = anna.clone();
        accepted(options().credentials_source(move |challenge: &Challenge| {
            Ok(Login::new().nkey(agent.public(), agent.sign(challenge.nonce()?)))
        }));
        refused(options().nkey_seed(otto.seed()));
        // The key of another.
        refused(options().nkey_and_signer(anna.public(), move |nonce| Ok(otto.sign(nonce))));
        refused(options());
    });
}

#[test]
fn a_user_is_known_by_the_jwt_and_signs_with_the_nkey() {
    within(Duration::from_secs(60), "jwt", || {
        let realm = Realm::start();
        let user = Key::user();
        let jwt = realm.account.user_jwt(&user, None);
        accepted(realm.options().jwt_and_seed(&jwt, user.seed()));
        accepted(realm.options().credentials(realm.account.creds(&user, None)));
        let file = File::new("known-by-jwt");
        file.write(&realm.account.creds(&user, None));
        accepted(realm.options().credentials_file(&file.0));
        let agent = user.clone();
        accepted(realm.options().jwt_and_signer(&jwt, move |nonce| Ok(agent.sign(nonce))));
        let text = realm.account.creds(&user, None);
        accepted(realm.options().credentials_source(move |challenge: &Challenge| {
            Ok(Login::from_credentials(&text, challenge)?)
        }));
        // A stranger's account, a stranger's key, nobody.
        let stranger = Account::new();
        refused(realm.options().credentials(stranger.creds(&user, None)));
        let other = Key::user();
        refused(realm.options().jwt_and_signer(&jwt, move |nonce| Ok(other.sign(nonce))));
        refused(realm.options().user_and_password("anna", "s3cret"));
        refused(realm.options());
    });
}

#[test]
fn a_server_that_asks_nobody_takes_whoever_could_sign() {
    within(Duration::from_secs(60), "open", || {
        let server = NatsServer::start_plain();
        let user = Key::user();
        accepted(quick(server.url()).nkey_seed(user.seed()));
        accepted(quick(server.url()).credentials(Account::new().creds(&user, None)));
    });
}

#[test]
fn a_server_that_knows_no_nkeys_and_asks_is_told_nothing() {
    within(Duration::from_secs(60), "no nonce", || {
        let server = NatsServer::start(&Config::new().user("anna", "s3cret"));
        let options = quick(server.url()).nkey_seed(Key::user().seed());
        let error = Client::try_connect(options).0.err().expect("no nonce");
        let cause = error.attempts()[0].cause();
        assert_eq!(cause.kind(), ErrorKind::Credentials, "{cause}");
        assert!(cause.to_string().contains("sent no nonce"), "{cause}");
        assert!(!error.is_authorization());
    });
}

#[test]
fn a_bcrypted_password_is_a_password() {
    within(Duration::from_secs(60), "bcrypt", || {
        // Of the password "s3cret".
        let hash = "$2a$11$abcdefghijklmnopqrstuuUCnuixm4ngvxv5GQ9LK1yFHBonHULYe";
        let server = NatsServer::start(&Config::new().user("anna", hash));
        accepted(quick(server.url()).user_and_password("anna", "s3cret"));
        refused(quick(server.url()).user_and_password("anna", hash));
        refused(quick(server.url()).user_and_password("anna", "wr0ng"));
    });
}

#[test]
fn suppliers_are_asked_at_every_attempt() {
    within(Duration::from_secs(60), "suppliers", || {
        let password = Arc::new(Mutex::new("first".to_owned()));
        let mut server = NatsServer::start(&Config::new().user("anna", "first"));
        let current = Arc::clone(&password);
        let client = Client::connect(quick(server.url()).user_and_password_supplier(move || {
            Ok(("anna".to_owned(), current.lock().map_err(|_| "poison")?.clone()))
        }));
        "second".clone_into(&mut password.lock().unwrap());
        server.restart_with(&Config::new().user("anna", "second"));
        client.wait(reconnected);
        client.round_trip("a");
        client.finish();

        let asked = Arc::new(AtomicU32::new(0));
        let mut server = NatsServer::start(&Config::new().token("token-0"));
        let count = Arc::clone(&asked);
        let client =
            Client::connect(quick(server.url()).token_supplier(move || {
                Ok(format!("token-{}", count.fetch_add(1, Ordering::SeqCst)))
            }));
        server.kill();
        client.wait_count(2, reconnect_failed);
        // Where nobody listens, nobody is asked.
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        server.restart_with(&Config::new().token("token-1"));
        client.wait(reconnected);
        client.finish();
    });
}

#[test]
fn a_user_whose_jwt_expires_comes_back_with_a_fresh_credentials_file() {
    within(Duration::from_secs(90), "expired", || {
        let realm = Realm::start();
        let user = Key::user();
        let file = File::new("expires");
        file.write(&realm.account.creds(&user, Some(Duration::from_secs(3))));
        let client = Client::connect(realm.options().credentials_file(&file.0));
        file.write(&realm.account.creds(&user, None));
        client.wait_server_error(|said| *said == Said::UserAuthenticationExpired);
        client.wait(reconnected);
        client.round_trip("a");
        client.finish();
    });
}

#[test]
fn a_user_whose_fresh_jwt_is_late_is_given_up_or_waited_for() {
    within(Duration::from_secs(90), "late", || {
        let realm = Realm::start();
        let user = Key::user();
        let (file, stale) = (File::new("late"), File::new("stale"));
        for file in [&file, &stale] {
            file.write(&realm.account.creds(&user, Some(Duration::from_secs(2))));
        }
        let patient = realm.options().ignore_authorization_abort();
        let patient = Client::connect(patient.credentials_file(&file.0));
        let given_up = Client::connect(realm.options().credentials_file(&stale.0));
        let cause = given_up.wait_closed(LIMIT).unwrap().expect("refused");
        assert!(cause.is_authorization(), "{cause}");
        given_up.finish();
        patient.wait_count(3, reconnect_failed);
        file.write(&realm.account.creds(&user, None));
        patient.wait(reconnected);
        patient.round_trip("a");
        patient.finish();
    });
}

#[test]
fn a_missing_and_a_malformed_file_are_failed_attempts_that_name_the_path() {
    within(Duration::from_secs(90), "missing", || {
        let mut realm = Realm::start();
        let user = Key::user();
        let file = File::new("missing");
        let (client, recorder) = Client::try_connect(realm.options().credentials_file(&file.0));
        let error = client.err().expect("no file");
        assert_eq!(error.attempts()[0].cause().kind(), ErrorKind::Credentials);
        assert!(error.to_string().contains(&*file.0.to_string_lossy()), "{error}");
        recorder.check().unwrap();

        let good = realm.account.creds(&user, None);
        file.write(&good);
        let client = Client::connect(realm.options().credentials_file(&file.0));
        fs::remove_file(&file.0).unwrap();
        realm.server.restart();
        let failed = |client: &Client, part: &str| {
            let path = file.0.to_string_lossy().into_owned();
            let named = |it: &Happening| {
                matches!(it, Happening::Exception(error)
                    if error.kind() == ErrorKind::Credentials
                        && error.to_string().contains(&path)
                        && error.to_string().contains(part))
            };
            client.recorder.wait_for(LIMIT, named).unwrap_or_else(|all| panic!("{all}"));
        };
        failed(&client, "cannot be read");
        // More than two: a file that is not there is no refusal.
        client.wait_count(3, reconnect_failed);
        file.write(&good.replace(&user.seed(), "SUNOTASEED"));
        failed(&client, "line 6: the seed cannot be used: it has 10 characters");
        fs::write(&file.0, [good.as_bytes(), b"\xff"].concat()).unwrap();
        let line = good.lines().count() + 1;
        failed(&client, &format!("line {line}: it holds a byte that is no UTF-8"));
        file.write(&good);
        client.wait(reconnected);
        client.round_trip("a");
        client.finish();
        file.write("\n\n  SUNOTASEED\n");
        let (client, _) = Client::try_connect(realm.options().nkey_file(&file.0));
        let error = client.err().expect("no seed").to_string();
        assert!(error.contains("line 3: the seed: it has 10 characters"), "{error}");
    });
}

#[test]
fn a_revoked_user_comes_back_as_another() {
    within(Duration::from_secs(90), "revoked", || {
        let mut realm = Realm::start();
        let (old, new) = (Key::user(), Key::user());
        let file = File::new("revoked");
        file.write(&realm.account.creds(&old, None));
        let client = Client::connect(realm.options().credentials_file(&file.0));
        file.write(&realm.account.creds(&new, None));
        realm.account.revoke(&old);
        let config = Config::new().operator(&realm.operator, &[&realm.account]);
        realm.server.reload_with(&config);
        client.wait_server_error(|said| *said == Said::UserAuthenticationRevoked);
        client.wait(reconnected);
        client.round_trip("a");
        client.finish();
        refused(realm.options().credentials(realm.account.creds(&old, None)));
    });
}

#[test]
fn an_nkey_that_the_server_forgets_is_replaced_by_the_next() {
    within(Duration::from_secs(90), "forgotten", || {
        let (old, new) = (Key::user(), Key::user());
        let mut server = NatsServer::start(&Config::new().nkey(&old.public()));
        let current = Arc::new(Mutex::new(old));
        let source = Arc::clone(&current);
        let options = quick(server.url()).credentials_source(move |challenge: &Challenge| {
            let key = source.lock().map_err(|_| "poison")?.clone();
            Ok(Login::from_nkey_seed(&key.seed(), challenge)?)
        });
        let client = Client::connect(options);
        *current.lock().unwrap() = new.clone();
        server.reload_with(&Config::new().nkey(&new.public()));
        client.wait(reconnected);
        client.round_trip("a");
        client.finish();
    });
}

#[test]
fn a_source_may_use_connections_itself() {
    within(Duration::from_secs(60), "source", || {
        let keeper = NatsServer::start_plain();
        let broker = Client::connect(quick(keeper.url()));
        let dispatcher = broker
            .dispatcher(|connection: &Connection, message| {
                connection.respond(&message, "s3cret").unwrap();
            })
            .unwrap();
        dispatcher.subscribe("password").unwrap();
        broker.flush().unwrap();
        let asking = Client::connect(quick(keeper.url()));
        let connection = asking.connection.clone();
        let server = NatsServer::start(&Config::new().user("anna", "s3cret"));
        accepted(quick(server.url()).user_and_password_supplier(move || {
            let reply = connection.request("password", "", LIMIT)?;
            Ok(("anna".to_owned(), String::from_utf8(reply.payload().to_vec())?))
        }));
        asking.finish();
        broker.finish();
    });
}
