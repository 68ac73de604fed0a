//! Measures this client against a server, in the manner of `nats bench`.
//!
//! ```text
//! cargo run --release --example bench --features testing -- MODE [OPTIONS]
//!
//! MODE     --count    what is done so often; further options besides those for every mode
//! pub      1,000,000  publish as fast as possible, then flush
//!                     --size --connections --threads --subject
//! sub      1,000,000  receive what another `bench pub` publishes to the server of --server
//!                     (without --server: what this one publishes)
//!                     --size (without --server) --connections --subscriptions --subject
//! pubsub     500,000  publish on one connection, receive on the others
//!                     --size --connections --subject
//! fanout     100,000  publish on one connection; many subscriptions of one dispatcher get every
//!                     message
//!                     --size --subscriptions --subject
//! request     20,000  ask a responder on another connection; --threads N at once, --pipeline N in
//!                     flight
//!                     --size --connections --threads --pipeline --subject
//! flush       10,000  publish a message and wait until the server has it
//!                     --size --connections --threads --subject
//! wake         1,000  a lone message every millisecond, until the other side's handler runs
//!                     --size --subject
//! connect        500  connect and close
//!
//! For every mode:
//! --server URL        the server (default: a nats-server found on this machine, started for the
//!                     run; NATS_SERVER=path names one; else the one of the testing feature)
//! --count N           what is published (or requests, flushes, connections), in all: the modes
//!                     that receive get N on each subscription of each connection (default: above)
//! --json              one line for machines in place of a few for people
//! --help, -h          this text
//!
//! For some:
//! --size N            bytes of payload (default 16)
//! --connections N     connections that publish, receive or ask (default 1)
//! --threads N         threads on each of them (default 1)
//! --subscriptions N   subscriptions on each connection (default 1; of fanout 10)
//! --pipeline N        requests under way from each thread (default 1)
//! --subject NAME      (default: bench for pub, sub and flush; else one that no other run has)
//! ```
//!
//! A run that ends before its time, by Ctrl-C too, tells what it had done and why it ended.

mod confirm;
mod credit;
mod outcome;
mod progress;
mod receive;
mod server;
mod settings;
mod watch;
mod work;

use std::fmt::Display;
use std::io::{ErrorKind, Write, stderr, stdout};
use std::process::ExitCode;

use outcome::Outcome;
use progress::Progress;
use server::TestServer;
use settings::{Mode, Settings};
use watch::{Fault, PATIENCE, Watch};
use work::Run;

fn main() -> ExitCode {
    let settings = match Settings::read(std::env::args_os().skip(1)) {
        Ok(Some(settings)) => settings,
        Ok(None) => return print(&usage(), ExitCode::SUCCESS),
        Err(error) => {
            complain(error);
            return ExitCode::from(2);
        }
    };
    if cfg!(debug_assertions) {
        complain("built without --release: the figures are those of a debug build");
    }
    match run(&settings) {
        Ok(outcome) => {
            if let Some(error) = outcome.error() {
                complain(format_args!("ended before its time: {error}"));
            }
            let status = ExitCode::from(u8::from(outcome.error().is_some()));
            print(&if settings.json { outcome.json() } else { outcome.text() }, status)
        }
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

/// What any part of this program may fail with.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Says something to people. When nobody reads it, that is no failure of what is measured.
fn complain(text: impl Display) {
    let _ = writeln!(stderr(), "bench: {text}");
}

/// Prints a result. A reader that has gone wants no more; anything else has lost the result.
fn print(text: &str, status: ExitCode) -> ExitCode {
    let mut out = stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(format_args!("the result cannot be written: {error}"));
            ExitCode::FAILURE
        }
        _ => status,
    }
}

/// The text at the head of this file.
fn usage() -> String {
    let lines = include_str!("main.rs").lines();
    let block = lines.skip_while(|line| *line != "//! ```text").skip(1);
    let text = block.take_while(|line| *line != "//! ```");
    let bare = text.map(|line| line.strip_prefix("//! ").unwrap_or_default());
    bare.collect::<Vec<_>>().join("\n")
}

/// An error is one before the measurement; one in the middle of it is a part of the outcome.
fn run(settings: &Settings) -> Result<Outcome, Failure> {
    let progress = Progress::new(settings.total());
    let watch = Watch::start(progress.counter(), silence(settings))?;
    let bell = watch.bell().clone();
    ctrlc::set_handler(move || bell.tell(Fault::Interrupted))?;
    let server = match &settings.server {
        Some(url) => Ok(TestServer::theirs(url)),
        None => TestServer::start(watch.bell()),
    };
    let outcome = server.and_then(|server| {
        work::run(&Run { settings, server: &server, progress: &progress, watch: &watch })
    });
    progress.finish();
    // What ended the run says more than what it met then.
    outcome.map_err(|error| watch.finish().map_or(error, |ending| ending.text.into()))
}

/// What does not happen when nothing happens.
fn silence(settings: &Settings) -> String {
    let subject = &settings.subject;
    match settings.mode {
        Mode::Pub | Mode::Flush => format!("the server took nothing for {PATIENCE:?}"),
        Mode::Connect => format!("no connection came about for {PATIENCE:?}"),
        Mode::Sub if settings.is_sub_of_others() => {
            format!("nothing arrived from the other program on '{subject}' for {PATIENCE:?}")
        }
        _ => format!("nothing arrived on '{subject}' for {PATIENCE:?}"),
    }
}
