//! What the examples share: their arguments, a server to speak to, lines, and the end.

#![allow(dead_code, reason = "each example uses a part of it")]

use std::error::Error;
use std::fmt::Display;
use std::io::{Write, stdout};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use nats_blocking::Connection;
use nats_blocking::testing::Server;

/// Longer than any example runs.
const YEAR: Duration = Duration::from_secs(60 * 60 * 24 * 365);

/// The arguments of an example.
#[derive(Debug, Default)]
pub(crate) struct Arguments {
    /// `--server URL`: the server to speak to, in place of one of our own.
    pub(crate) server: Option<String>,
    /// `--for SECONDS`: how long to listen.
    pub(crate) lasting: Option<Duration>,
    /// `--count NUMBER`: how many messages to handle.
    pub(crate) count: Option<usize>,
    /// Everything else, in order.
    pub(crate) words: Vec<String>,
}

impl Arguments {
    /// Reads the arguments of this process.
    pub(crate) fn read() -> Result<Self, Box<dyn Error>> {
        let mut arguments = Self::default();
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--server" => arguments.server = Some(value()?),
                "--for" => {
                    arguments.lasting = Some(Duration::try_from_secs_f64(value()?.parse()?)?);
                }
                "--count" => arguments.count = Some(value()?.parse()?),
                other if other.starts_with("--") => return Err(format!("what is {other}?").into()),
                _ => arguments.words.push(word),
            }
        }
        Ok(arguments)
    }

    /// The word at that place, or what it is by default.
    pub(crate) fn word(&self, place: usize, default: &str) -> String {
        self.words.get(place).map_or(default, String::as_str).to_owned()
    }

    /// Signals, if the example listens to a server until one comes. Asked before connecting.
    pub(crate) fn signals(&self) -> Result<Option<Signals>, Box<dyn Error>> {
        self.server.as_ref().map(|_| Signals::hear()).transpose()
    }

    /// The URL to connect to, and the server behind it if it is our own: it lives as long as that
    /// value.
    pub(crate) fn server(&self) -> Result<(String, Option<Server>), Box<dyn Error>> {
        if let Some(url) = &self.server {
            return Ok((url.clone(), None));
        }
        let server = Server::start()?;
        Ok((server.url(), Some(server)))
    }
}

/// Prints a line and flushes it, whatever is behind stdout. A reader that has gone is no failure.
pub(crate) fn say(line: impl Display) {
    let mut out = stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// SIGINT and SIGTERM, from the moment that it is made: a signal may come before the connection.
pub(crate) struct Signals(Receiver<()>);

impl Signals {
    pub(crate) fn hear() -> Result<Self, Box<dyn Error>> {
        let (sender, receiver) = mpsc::channel();
        ctrlc::set_handler(move || {
            // Nobody listens any more when the example ends already.
            let _ = sender.send(());
        })?;
        Ok(Self(receiver))
    }
}

/// Waits until the time is over, a signal comes, or the connection has ended by itself; then closes
/// it. Returns after `Closed` has been delivered.
pub(crate) fn listen_until_the_end(
    connection: &Connection,
    signals: Option<Signals>,
    lasting: Option<Duration>,
) -> Result<(), Box<dyn Error>> {
    let closing = connection.downgrade();
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        let Some(Ok(())) = signals.map(|signals| signals.0.recv()) else { return };
        if let Some(connection) = closing.upgrade() {
            connection.close();
        }
    })?;
    if connection.wait_closed(lasting.unwrap_or(YEAR)).is_err() {
        connection.close();
    }
    Ok(())
}
