//! A whole connection over pipes: one whose threads the test runs, or does not, and one that runs
//! by itself.

use super::pipe::{Dial, DialConnector};
use crate::connection::Connection;
use crate::core::{Core, run_callbacks, run_flusher, run_reader};
use crate::error::{Error, ErrorKind, Result};
use crate::options::Options;
use crate::sync::Arc;

/// A connection with its threads, over pipes in place of sockets.
pub fn connect_over(options: &Options, dial: impl Dial) -> Result<Connection> {
    options.connect_over(Box::new(DialConnector(Box::new(dial))))
}

/// A connection without threads: each `run` is the body of one, and returns when it ends.
#[derive(Clone)]
pub struct Life(Arc<Core>);

impl Life {
    pub fn new(options: &Options, dial: impl Dial) -> Result<Self> {
        let connector = DialConnector(Box::new(dial));
        Ok(Self(Core::new(options.config.clone(), Box::new(connector))?))
    }

    pub fn run_reader(&self) {
        run_reader(&self.0);
    }

    pub fn run_flusher(&self) {
        run_flusher(&self.0);
    }

    pub fn run_callbacks(&self) {
        run_callbacks(&self.0);
    }

    /// Somebody noticed that the connection with that number failed.
    pub fn fail(&self, epoch: u64, text: &str) {
        self.0.fail(epoch, Error::new(ErrorKind::Io, text));
    }

    /// A handle that does not count: dropping it closes nothing.
    pub fn connection(&self) -> Connection {
        Connection::lend(&self.0)
    }
}
