//! The table of waiting requests, without a connection.

use std::time::Duration;

use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::protocol::Message;
use crate::subscriptions::{self, Answered, Slot};
use crate::sync::Arc;

/// The table.
pub struct Requests(subscriptions::Requests);

/// One request.
pub struct Waiting {
    slot: Arc<Slot>,
    reply: String,
}

impl Requests {
    pub fn new() -> Self {
        Self(subscriptions::Requests::new("_INBOX.x.".to_owned()))
    }

    /// Registers a request, unless all have ended.
    pub fn register(&self) -> Option<Waiting> {
        self.0.register("a").ok().map(|(slot, reply)| Waiting { slot, reply })
    }

    /// A reply arrives; false if nobody waits for it.
    pub fn answer(&self, waiting: &Waiting, payload: &str) -> bool {
        let mut answered = Answered::default();
        self.0.answer(Message::new(&waiting.reply, payload.to_owned()), &mut answered)
    }

    /// The server refused every request with this subject.
    pub fn refuse(&self) {
        self.0.fail(&Error::new(ErrorKind::PermissionsViolation, "refused"), |_| true);
    }

    /// The connection has ended.
    pub fn end(&self) {
        self.0.end(&Error::new(ErrorKind::Closed, "closed"));
    }

    /// Waits like `Connection::request`, which forgets the request in any case.
    pub fn wait(&self, waiting: &Waiting, timeout: Duration) -> Result<String, ErrorKind> {
        let outcome = waiting.slot.outcome().wait(clock::after(timeout));
        self.0.forget(waiting.slot.token());
        match outcome {
            None => Err(ErrorKind::Timeout),
            Some(Err(error)) => Err(error.kind()),
            Some(Ok(message)) => Ok(String::from_utf8_lossy(message.payload()).into_owned()),
        }
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.len()
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}
