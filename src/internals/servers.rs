//! The servers of a connection, the waits between attempts and the keep-alive, without a clock:
//! the test says how much time goes by.

use std::time::Duration;

use crate::core::{Idle, Losses, Pool, PoolPolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::random::Random;
use crate::server_url::ServerUrl;

/// The pool of one connection.
pub struct Servers {
    pool: Pool,
    losses: Losses,
    random: Random,
    wait: Duration,
    jitter: Duration,
}

/// An attempt to make, after a wait.
#[derive(Debug, Clone)]
pub struct Attempt {
    pub server: String,
    pub number: u32,
    pub wait: Duration,
}

impl Servers {
    /// A pool with the default rules, whose random numbers follow from `seed`.
    pub fn new(servers: &str, wait: Duration, jitter: Duration, seed: u64) -> Result<Self> {
        let mut random = Random::seeded(seed);
        let policy = PoolPolicy {
            max_attempts: None,
            keep_order: false,
            ignore_discovered: false,
            keep_refusing: false,
        };
        let urls = ServerUrl::parse_list(servers)?;
        let pool = Pool::new(urls, policy, &mut || random.draw());
        Ok(Self { pool, losses: Losses::default(), random, wait, jitter })
    }

    /// The connection was lost after it had lasted so long.
    pub fn lost(&mut self, lasted: Duration) {
        let at_once = self.losses.lost(lasted, false, self.wait);
        let random = &mut self.random;
        self.pool.begin_outage((!at_once).then_some(1), &mut || random.draw());
    }

    /// The next attempt; `None` when no server is left.
    pub fn next_attempt(&mut self) -> Option<Attempt> {
        let pause = self.pool.pause()?;
        let random = &mut self.random;
        let wait = pause.length(self.wait, self.jitter, &mut || random.draw());
        let next = self.pool.next()?;
        Some(Attempt { server: next.url.to_string(), number: next.attempt, wait })
    }

    pub fn succeeded(&mut self, server: &str) -> Result<()> {
        self.pool.succeeded(&ServerUrl::parse(server)?);
        Ok(())
    }

    pub fn failed(&mut self, server: &str) -> Result<()> {
        self.pool.failed(&ServerUrl::parse(server)?, &Error::new(ErrorKind::Io, "refused"));
        Ok(())
    }
}

/// The keep-alive of one connection.
pub struct KeepAlive(crate::core::KeepAlive);

impl KeepAlive {
    pub fn new(max_outstanding: Option<u32>) -> Self {
        Self(crate::core::KeepAlive::new(max_outstanding))
    }

    pub fn bytes_arrived(&mut self) {
        self.0.bytes_arrived();
    }

    /// An interval went by without a byte. Returns whether a PING is sent; if not, the server is
    /// given up.
    pub fn idle(&mut self) -> bool {
        matches!(self.0.idle(), Idle::Ping)
    }
}
