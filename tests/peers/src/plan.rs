//! What one cell measures: a workload with its numbers, handed to a child process as words of the
//! form `key=value`, the same for every peer whatever its language.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// What goes wrong in this package is told to a person.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
pub type Result<T> = std::result::Result<T, Failure>;

/// A message here asks the source, or the feeder beside the real server, for messages.
pub const FEED: &str = "feed.go";
/// What subscribers subscribe to: `sub.0`, `sub.1` …
pub const SUBJECT: &str = "sub.";
/// What publishers publish to: nobody listens.
pub const NOWHERE: &str = "pub.nowhere";
/// Requests to it come back as they are.
pub const ECHO: &str = "echo";
/// Requests to it are refused at once by the server: nobody answers there.
pub const NOBODY: &str = "nobody.here";

#[derive(Debug, Clone)]
pub struct Plan {
    pub peer: String,
    pub workload: String,
    /// `host:port`.
    pub url: String,
    /// A file with the authority to trust: the connection is to be over TLS.
    pub ca: Option<String>,
    pub size: usize,
    pub threads: usize,
    pub subs: usize,
    pub depth: usize,
    /// How long the measured part lasts, in milliseconds.
    pub ms: u64,
    /// How many messages are asked for at a time.
    pub batch: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            peer: "ours".to_owned(),
            workload: "publish".to_owned(),
            url: String::new(),
            ca: None,
            size: 16,
            threads: 1,
            subs: 1,
            depth: 1,
            ms: 1_000,
            batch: 200_000,
        }
    }
}

impl Plan {
    pub fn parse(words: impl Iterator<Item = String>) -> Result<Self> {
        let mut plan = Self::default();
        for word in words {
            let (key, value) =
                word.split_once('=').ok_or_else(|| format!("'{word}' is not key=value"))?;
            match key {
                "peer" => plan.peer = value.to_owned(),
                "workload" => plan.workload = value.to_owned(),
                "url" => plan.url = value.to_owned(),
                "ca" => plan.ca = Some(value.to_owned()),
                "size" => plan.size = number(key, value)?,
                "threads" => plan.threads = number(key, value)?,
                "subs" => plan.subs = number(key, value)?,
                "depth" => plan.depth = number(key, value)?,
                "ms" => plan.ms = number(key, value)?,
                "batch" => plan.batch = number(key, value)?,
                _ => return Err(format!("what is '{key}'?").into()),
            }
        }
        Ok(plan)
    }

    pub fn words(&self) -> Vec<String> {
        self.to_string().split(' ').map(str::to_owned).collect()
    }

    pub fn time(&self) -> Duration {
        Duration::from_millis(self.ms)
    }

    /// The subject of a subscription by its number.
    pub fn subject(number: usize) -> String {
        format!("{SUBJECT}{number}")
    }

    /// The payload that asks for a batch of that many messages.
    pub fn order(&self, count: u64) -> String {
        format!("{count} {} {}", self.size, self.subs)
    }

    /// The peer does not have that workload, or cannot be measured with it.
    pub fn unknown<T>(&self) -> Result<T> {
        Err(format!("{NOT_HERE}: {} has no {}", self.peer, self.workload).into())
    }
}

/// How the message begins that tells the parent to leave a cell empty.
pub const NOT_HERE: &str = "not here";

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { peer, workload, url, ca, size, threads, subs, depth, ms, batch } = self;
        write!(
            f,
            "peer={peer} workload={workload} url={url} size={size} threads={threads} subs={subs} \
             depth={depth} ms={ms} batch={batch}"
        )?;
        ca.as_ref().map_or(Ok(()), |ca| write!(f, " ca={ca}"))
    }
}

fn number<T: FromStr>(key: &str, value: &str) -> Result<T> {
    value.parse().map_err(|_| format!("{key}={value} is not a number").into())
}
