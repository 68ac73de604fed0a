//! Says who it is: with a password, a token, and credentials that change while it is connected.
//!
//! ```text
//! cargo run --example authorization --features testing
//! cargo run --example authorization --features testing -- --server URL creds FILE
//! cargo run --example authorization --features testing -- --server URL nkey FILE
//! ```
//!
//! Alone it starts a server of its own that asks. With `--server` it shows that server a
//! credentials file, or signs with the seed in a file.

use std::error::Error;
use std::fs;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{
    Challenge, Connection, ConnectionEventKind as Kind, Credentials, Login, Options,
};

mod support;
use support::{Arguments, say};

const LIMIT: Duration = Duration::from_secs(10);

/// Where the password of the day is kept, in place of a real one.
#[derive(Clone, Default)]
struct Vault(Arc<Mutex<String>>);

impl Vault {
    fn put(&self, password: &str) {
        password.clone_into(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Asked at every attempt to connect, so a new password needs no restart.
impl Credentials for Vault {
    fn login(&self, challenge: &Challenge) -> Result<Login, Box<dyn Error + Send + Sync>> {
        say(format!("asked by a server: {}", challenge.auth_required()));
        let password = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Login::new().user_and_password("joe", password.as_str()))
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let Some(url) = &arguments.server else { return demonstrate() };
    let (way, path) = (arguments.word(0, ""), arguments.word(1, ""));
    let options = Options::builder().server(url);
    let options = match way.as_str() {
        "creds" => options.credentials_file(path),
        "nkey" => options.nkey_seed(fs::read_to_string(path)?.trim()),
        _ => return Err("say creds FILE or nkey FILE".into()),
    };
    let_in(&way, &options.connect()?)
}

/// Shows that the server takes us for somebody.
fn let_in(way: &str, connection: &Connection) -> Result<(), Box<dyn Error>> {
    connection.flush_timeout(LIMIT)?;
    say(format!("let in with {way}"));
    connection.close();
    Ok(())
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let server = Server::builder().user("joe", "monday").start()?;
    let options = || Options::builder().server(server.url());
    let_in("a password", &options().user_and_password("joe", "monday").connect()?)?;

    if let Err(error) = options().user_and_password("joe", "sunday").connect() {
        say(format!("refused with the wrong password: {}", error.is_authorization()));
    }

    let (vault, recorder) = (Vault::default(), Recorder::new());
    vault.put("monday");
    let connection = options()
        .credentials_source(vault.clone())
        .connection_listener(recorder.clone())
        .connect()?;
    server.require_user("joe", "tuesday");
    vault.put("tuesday");
    server.send_error_and_close("User Authentication Expired");
    recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::Resubscribed { .. }))?;
    let_in("the next password", &connection)?;

    server.require_token("t0ken");
    let supplier = || Ok("t0ken".to_owned());
    let_in("a token", &options().token_supplier(supplier).connect()?)
}
