//! The command line, and what of it is refused.

use std::collections::hash_map::RandomState;
use std::ffi::OsString;
use std::fmt;
use std::hash::{BuildHasher, Hasher};

use nats_blocking::{check_publish_subject, check_subscribe_subject};

use crate::Failure;
use crate::outcome::grouped;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Pub,
    Sub,
    PubSub,
    Fanout,
    Request,
    Flush,
    Wake,
    Connect,
}

/// Name, mode, default count, and the options that have a meaning there.
const MODES: &[(&str, Mode, u64, &[&str])] = &[
    ("pub", Mode::Pub, 1_000_000, &["--size", "--connections", "--threads", "--subject"]),
    ("sub", Mode::Sub, 1_000_000, &["--size", "--connections", "--subscriptions", "--subject"]),
    ("pubsub", Mode::PubSub, 500_000, &["--size", "--connections", "--subject"]),
    ("fanout", Mode::Fanout, 100_000, &["--size", "--subscriptions", "--subject"]),
    (
        "request",
        Mode::Request,
        20_000,
        &["--size", "--connections", "--threads", "--pipeline", "--subject"],
    ),
    ("flush", Mode::Flush, 10_000, &["--size", "--connections", "--threads", "--subject"]),
    ("wake", Mode::Wake, 1_000, &["--size", "--subject"]),
    ("connect", Mode::Connect, 500, &[]),
];

/// The most threads of all connections together.
const THREADS: u64 = 10_000;
/// The most subscriptions of all connections together.
const SUBSCRIPTIONS: u64 = 10_000_000;

/// The numbers, with the least and the most that each may be.
const NUMBERS: &[(&str, u64, u64)] = &[
    ("--count", 1, 1_000_000_000_000),
    // No server can be configured for more.
    ("--size", 0, 64 * 1024 * 1024),
    ("--connections", 1, 10_000),
    ("--threads", 1, THREADS),
    ("--subscriptions", 1, SUBSCRIPTIONS),
    ("--pipeline", 1, 1_000_000),
];

/// What `pub` and `sub` speak about by default: they are two programs.
const SUBJECT: &str = "bench";

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = MODES.iter().find(|(_, mode, ..)| mode == self);
        f.write_str(named.map_or("", |(name, ..)| name))
    }
}

/// What the command line says.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) mode: Mode,
    pub(crate) server: Option<String>,
    pub(crate) subject: String,
    pub(crate) count: u64,
    pub(crate) size: usize,
    pub(crate) connections: usize,
    pub(crate) threads: usize,
    pub(crate) subscriptions: usize,
    pub(crate) pipeline: usize,
    pub(crate) json: bool,
    total: u64,
}

impl Settings {
    /// None if the usage is asked for.
    pub(crate) fn read(words: impl Iterator<Item = OsString>) -> Result<Option<Self>, Failure> {
        let words: Vec<String> = words
            .map(|word| word.into_string().map_err(|word| format!("{word:?} is not Unicode")))
            .collect::<Result<_, _>>()?;
        if words.iter().any(|word| word == "--help" || word == "-h") {
            return Ok(None);
        }
        let mut words = words.into_iter();
        let names: Vec<&str> = MODES.iter().map(|(name, ..)| *name).collect();
        let names = names.join(", ");
        let word = words.next().ok_or_else(|| format!("which mode? One of {names}; or --help"))?;
        let found = MODES.iter().find(|(name, ..)| *name == word);
        let (_, mode, count, options) =
            *found.ok_or_else(|| format!("'{word}' is no mode: there are {names}"))?;
        let mut settings = Self::of(mode, count);
        let mut sized = false;
        while let Some(word) = words.next() {
            let everywhere = ["--server", "--count", "--json"].contains(&word.as_str());
            if !everywhere && !options.contains(&word.as_str()) {
                return Err(format!("{mode} has no option '{word}'").into());
            }
            if word == "--json" {
                settings.json = true;
                continue;
            }
            sized |= word == "--size";
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            settings.set(&word, value)?;
        }
        if sized && settings.is_sub_of_others() {
            return Err("--size: with --server, sub counts the bytes that arrive".into());
        }
        settings.check()?;
        Ok(Some(settings))
    }

    fn of(mode: Mode, count: u64) -> Self {
        let both = [Mode::PubSub, Mode::Fanout, Mode::Request, Mode::Wake];
        Self {
            mode,
            server: None,
            subject: if both.contains(&mode) { unique() } else { SUBJECT.to_owned() },
            count,
            size: 16,
            connections: 1,
            threads: 1,
            subscriptions: if mode == Mode::Fanout { 10 } else { 1 },
            pipeline: 1,
            json: false,
            total: 0,
        }
    }

    fn set(&mut self, word: &str, value: String) -> Result<(), Failure> {
        match word {
            "--server" => self.server = Some(value),
            "--subject" => self.subject = value,
            "--count" => self.count = number(word, &value)?,
            "--size" => self.size = small(word, &value)?,
            "--connections" => self.connections = small(word, &value)?,
            "--threads" => self.threads = small(word, &value)?,
            "--subscriptions" => self.subscriptions = small(word, &value)?,
            "--pipeline" => self.pipeline = small(word, &value)?,
            _ => return Err(format!("what is '{word}'?").into()),
        }
        Ok(())
    }

    /// Refuses what cannot be, and computes what is counted until the end.
    fn check(&mut self) -> Result<(), Failure> {
        let connections = self.connections as u64;
        for (word, number, most) in [
            ("--threads", self.threads, THREADS),
            ("--subscriptions", self.subscriptions, SUBSCRIPTIONS),
        ] {
            let all = connections.checked_mul(number as u64);
            if all.is_none_or(|all| all > most) {
                let most = grouped(most);
                return Err(format!(
                    "--connections {connections} and {word} {number}: at most {most} in all"
                )
                .into());
            }
        }
        let streams = match self.mode {
            Mode::Sub | Mode::Fanout => connections.checked_mul(self.subscriptions as u64),
            Mode::PubSub => Some(connections),
            _ => Some(1),
        };
        let total = streams.and_then(|streams| self.count.checked_mul(streams));
        self.total = total.ok_or("--count: that many cannot be counted on so many connections")?;
        self.check_subject()
    }

    fn check_subject(&self) -> Result<(), Failure> {
        let subject = &self.subject;
        let named = |error| format!("--subject: {error}");
        check_publish_subject(subject).map_err(named)?;
        check_subscribe_subject(subject).map_err(named)?;
        let wild = subject.split('.').any(|token| token == "*" || token == ">");
        if wild && !self.is_sub_of_others() {
            return Err(
                format!("--subject: nothing is published to a wildcard: '{subject}'").into()
            );
        }
        Ok(())
    }

    /// Another program publishes what this one receives.
    pub(crate) fn is_sub_of_others(&self) -> bool {
        self.mode == Mode::Sub && self.server.is_some()
    }

    /// Refuses what this server would refuse.
    pub(crate) fn check_size(&self, most: usize) -> Result<(), Failure> {
        if most > 0 && self.size > most && !self.is_sub_of_others() {
            let text = format!("--size {}: the server accepts at most {most} bytes", self.size);
            return Err(text.into());
        }
        Ok(())
    }

    /// How many operations are counted until the end.
    pub(crate) fn total(&self) -> u64 {
        self.total
    }

    /// How many of `count` fall to one of so many.
    pub(crate) fn share(&self, index: usize, of: usize) -> u64 {
        let (index, of) = (index as u64, of as u64);
        self.count / of + u64::from(index < self.count % of)
    }
}

fn number(word: &str, value: &str) -> Result<u64, Failure> {
    let range = NUMBERS.iter().find(|(name, ..)| *name == word);
    let (_, least, most) = *range.ok_or_else(|| format!("{word} is no number"))?;
    let number = value.parse().ok().filter(|number| (least..=most).contains(number));
    let most = grouped(most);
    Ok(number.ok_or_else(|| format!("{word}: '{value}' is not a number from {least} to {most}"))?)
}

fn small(word: &str, value: &str) -> Result<usize, Failure> {
    Ok(usize::try_from(number(word, value)?)?)
}

/// Something that no other run has.
pub(crate) fn token() -> String {
    const DIGITS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    // The standard library's own random seed, with the process behind it.
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u32(std::process::id());
    let drawn = hasher.finish();
    let digit = |place: u64| DIGITS.get((drawn >> (5 * place)) as usize % DIGITS.len());
    (0..8).filter_map(digit).map(|digit| char::from(*digit)).collect()
}

/// A subject that traffic of others does not meet. It is about as long as the usual one, because
/// every message carries it.
fn unique() -> String {
    format!("b-{:.5}", token())
}
