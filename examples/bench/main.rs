//! Measures this client against a server, in the manner of `nats bench`.
//!
//! ```text
//! cargo run --release --example bench --features testing -- MODE [OPTIONS]
//!
//! pub       publish as fast as possible, then flush
//! sub       receive what another `bench pub` publishes (without --server: what this one does)
//! pubsub    publish on one connection, receive on the others
//! fanout    publish on one connection; many subscriptions of one dispatcher get every message
//! request   ask a responder on another connection; --threads N at once, --pipeline N in flight
//! flush     publish a message and wait until the server has it
//! wake      a lone message every millisecond, until the other side's handler runs
//! connect   connect and close
//!
//! --server URL        the server (default: a nats-server found on this machine, started for the
//!                     run; NATS_SERVER=path names one; else the one of the testing feature)
//! --count N           messages in all (or requests, flushes, connections)
//! --size N            bytes of payload (default 16)
//! --connections N     connections that publish, receive or ask (default 1)
//! --threads N         threads on each of them (default 1)
//! --subscriptions N   subscriptions on each connection (default 1; of fanout 10)
//! --pipeline N        requests under way from each thread (default 1)
//! --subject NAME      (default: bench)
//! --json              one line for machines in place of a few for people
//! ```

mod credit;
mod outcome;
mod progress;
mod receive;
mod server;
mod settings;
mod work;

use std::process::ExitCode;

use outcome::Outcome;
use progress::Progress;
use server::TestServer;
use settings::Settings;

fn main() -> ExitCode {
    let settings = match Settings::read(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("bench: {error}");
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) {
        eprintln!("bench: built without --release: the figures are those of a debug build");
    }
    match run(&settings) {
        Ok(outcome) => {
            let failed = outcome.error.is_some();
            println!("{}", if settings.json { outcome.json() } else { outcome.text() });
            if let Some(error) = &outcome.error {
                eprintln!("bench: ended before its time: {error}");
            }
            ExitCode::from(u8::from(failed))
        }
        Err(error) => {
            eprintln!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What any part of this program may fail with.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// An error is one before the measurement; one in the middle of it is a part of the outcome.
fn run(settings: &Settings) -> Result<Outcome, Failure> {
    let server = match &settings.server {
        Some(url) => TestServer::theirs(url),
        None => TestServer::start()?,
    };
    let progress = Progress::new(settings.total());
    let outcome = work::run(settings, &server, &progress);
    progress.finish();
    outcome
}
