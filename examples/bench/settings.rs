//! The command line, and what of it is refused.

use std::fmt;

use crate::Failure;

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
}

impl Settings {
    pub(crate) fn read(mut words: impl Iterator<Item = String>) -> Result<Self, Failure> {
        let names: Vec<&str> = MODES.iter().map(|(name, ..)| *name).collect();
        let names = names.join(", ");
        let word = words.next().ok_or_else(|| format!("which mode? One of {names}"))?;
        let found = MODES.iter().find(|(name, ..)| *name == word);
        let (_, mode, count, options) =
            *found.ok_or_else(|| format!("'{word}' is no mode: there are {names}"))?;
        let mut settings = Self {
            mode,
            server: None,
            subject: "bench".to_owned(),
            count,
            size: 16,
            connections: 1,
            threads: 1,
            subscriptions: if mode == Mode::Fanout { 10 } else { 1 },
            pipeline: 1,
            json: false,
        };
        while let Some(word) = words.next() {
            let everywhere = ["--server", "--count", "--json"].contains(&word.as_str());
            if !everywhere && !options.contains(&word.as_str()) {
                return Err(format!("{mode} has no option '{word}'").into());
            }
            if word == "--json" {
                settings.json = true;
                continue;
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            settings.set(&word, value)?;
        }
        Ok(settings)
    }

    fn set(&mut self, word: &str, value: String) -> Result<(), Failure> {
        let number = || -> Result<usize, Failure> {
            let number: usize =
                value.parse().map_err(|_| format!("{word}: '{value}' is not a number"))?;
            if number == 0 && word != "--size" {
                return Err(format!("{word} must be at least 1").into());
            }
            Ok(number)
        };
        match word {
            "--server" => self.server = Some(value),
            "--subject" => self.subject = value,
            "--count" => self.count = number()? as u64,
            "--size" => self.size = number()?,
            "--connections" => self.connections = number()?,
            "--threads" => self.threads = number()?,
            "--subscriptions" => self.subscriptions = number()?,
            "--pipeline" => self.pipeline = number()?,
            _ => return Err(format!("what is '{word}'?").into()),
        }
        Ok(())
    }

    /// Refuses what this server would refuse.
    pub(crate) fn check_size(&self, most: usize) -> Result<(), Failure> {
        if most > 0 && self.size > most {
            let text = format!("--size {}: the server accepts at most {most} bytes", self.size);
            return Err(text.into());
        }
        Ok(())
    }

    /// How many operations are counted until the end.
    pub(crate) fn total(&self) -> u64 {
        match self.mode {
            Mode::Sub | Mode::Fanout => {
                self.count * self.connections as u64 * self.subscriptions as u64
            }
            Mode::PubSub => self.count * self.connections as u64,
            _ => self.count,
        }
    }

    /// How many of `count` fall to one of so many.
    pub(crate) fn share(&self, index: usize, of: usize) -> u64 {
        let (index, of) = (index as u64, of as u64);
        self.count / of + u64::from(index < self.count % of)
    }
}
