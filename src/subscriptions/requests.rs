//! Requests that wait for their reply.
//!
//! All replies of a connection come to one inbox, `<prefix><unique>.<token>`; the token finds the
//! waiting [`Slot`]. Tokens are never used twice, so a late reply finds nothing. An entry is
//! removed exactly once: by the reply, by the end of the wait, or by `fail`.
//!
//! The reader thread answers, any thread registers and waits. Lock order: Requests → Outcome.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::outcome::Outcome;
use crate::protocol::Message;
use crate::sync::{Arc, Mutex, Rank};

/// One request and its outcome.
#[derive(Debug)]
pub(crate) struct Slot {
    token: u64,
    subject: String,
    outcome: Outcome<Result<Message>>,
}

impl Slot {
    pub(crate) fn token(&self) -> u64 {
        self.token
    }

    /// Where the reply, or the error, comes to.
    pub(crate) fn outcome(&self) -> &Outcome<Result<Message>> {
        &self.outcome
    }
}

/// A moment in the order of requests; see [`Requests::mark`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark(u64);

/// The waiting requests of a connection.
#[derive(Debug)]
pub(crate) struct Requests {
    /// `_INBOX.<unique>.`, to which a token is added.
    inbox: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    waiting: HashMap<u64, Arc<Slot>>,
    next_token: u64,
    ended: Option<Error>,
}

impl Requests {
    pub(crate) fn new(inbox: String) -> Self {
        let state = State { waiting: HashMap::new(), next_token: 1, ended: None };
        Self { inbox, state: Mutex::new(Rank::Requests, state) }
    }

    /// The subject to subscribe to.
    pub(crate) fn inbox_subject(&self) -> String {
        format!("{}*", self.inbox)
    }

    /// Registers a request before it is sent. The second value is its reply subject.
    pub(crate) fn register(&self, subject: &str) -> Result<(Arc<Slot>, String)> {
        let mut state = self.state.lock();
        if let Some(error) = &state.ended {
            return Err(error.clone());
        }
        let token = state.next_token;
        state.next_token += 1;
        let slot = Arc::new(Slot { token, subject: subject.to_owned(), outcome: Outcome::new() });
        state.waiting.insert(token, Arc::clone(&slot));
        drop(state);
        let mut reply = String::with_capacity(self.inbox.len() + 20);
        reply.push_str(&self.inbox);
        reply.push_str(itoa::Buffer::new().format(token));
        Ok((slot, reply))
    }

    /// Forgets a request whose wait is over.
    pub(crate) fn forget(&self, token: u64) {
        let mut state = self.state.lock();
        state.waiting.remove(&token);
        if state.waiting.is_empty() && state.waiting.capacity() > 1024 {
            state.waiting = HashMap::new();
        }
    }

    /// Gives a reply to the request that waits for it. Returns false if none does.
    pub(crate) fn answer(&self, message: Message) -> bool {
        let token =
            message.subject().strip_prefix(&self.inbox).and_then(|token| token.parse().ok());
        let slot = token.and_then(|token: u64| self.state.lock().waiting.remove(&token));
        let Some(slot) = slot else { return false };
        let nobody = message.payload().is_empty()
            && message.status().is_some_and(|status| status.is_no_responders());
        slot.outcome.complete(if nobody {
            let text = format!("nobody listens to '{}'", slot.subject);
            Err(Error::new(ErrorKind::NoResponders, text))
        } else {
            Ok(message)
        });
        true
    }

    /// Ends every waiting request that `wanted` says yes to, by its subject.
    pub(crate) fn fail(&self, error: &Error, wanted: impl Fn(&str) -> bool) {
        self.fail_slots(error, |slot| wanted(&slot.subject));
    }

    /// The line between the requests that were made before and those that come after.
    pub(crate) fn mark(&self) -> Mark {
        Mark(self.state.lock().next_token)
    }

    /// Ends every waiting request that was made before the mark.
    pub(crate) fn fail_before(&self, mark: Mark, error: &Error) {
        self.fail_slots(error, |slot| slot.token < mark.0);
    }

    /// Whether a request that was made before the mark still waits.
    pub(crate) fn wait_before(&self, mark: Mark) -> bool {
        self.state.lock().waiting.values().any(|slot| slot.token < mark.0)
    }

    fn fail_slots(&self, error: &Error, wanted: impl Fn(&Slot) -> bool) {
        let failed: Vec<_> = {
            let mut state = self.state.lock();
            let found: Vec<_> =
                state.waiting.values().filter(|slot| wanted(slot)).cloned().collect();
            for slot in &found {
                state.waiting.remove(&slot.token);
            }
            found
        };
        for slot in failed {
            slot.outcome.complete(Err(error.clone()));
        }
    }

    /// Ends the request that waits for a reply to that subject.
    pub(crate) fn fail_reply(&self, reply: &str, error: &Error) {
        let token = reply.strip_prefix(&self.inbox).and_then(|token| token.parse().ok());
        let slot = token.and_then(|token: u64| self.state.lock().waiting.remove(&token));
        if let Some(slot) = slot {
            slot.outcome.complete(Err(error.clone()));
        }
    }

    /// Ends every request, now and later.
    pub(crate) fn end(&self, error: &Error) {
        self.state.lock().ended.get_or_insert_with(|| error.clone());
        self.fail(error, |_| true);
    }

    /// How many requests wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn a_reply_finds_its_request_and_a_late_one_finds_nothing() {
        let requests = Requests::new("_INBOX.x.".to_owned());
        let (first, first_reply) = requests.register("a").expect("open");
        let (second, second_reply) = requests.register("a").expect("open");
        assert_ne!(first_reply, second_reply);
        assert!(requests.answer(Message::new(&second_reply, "2")));
        let outcome = second.outcome().wait(soon()).expect("answered").expect("a message");
        assert_eq!(outcome.payload(), b"2");
        assert!(first.outcome().get().is_none());
        requests.forget(first.token());
        assert!(!requests.answer(Message::new(&first_reply, "late")));
        assert!(!requests.answer(Message::new("_INBOX.x.", "no token")));
        assert!(!requests.answer(Message::new("_INBOX.x.99999999999999999999", "no number")));
        assert_eq!(requests.len(), 0);
    }

    #[test]
    fn a_failure_by_subject_leaves_the_others_waiting() {
        let requests = Requests::new("_INBOX.x.".to_owned());
        let (refused, _) = requests.register("a").expect("open");
        let (other, _) = requests.register("b").expect("open");
        let error = Error::new(ErrorKind::PermissionsViolation, "no");
        requests.fail(&error, |subject| subject == "a");
        let outcome = refused.outcome().wait(soon()).expect("ended").expect_err("refused");
        assert_eq!(outcome.kind(), ErrorKind::PermissionsViolation);
        assert!(other.outcome().get().is_none());
        requests.end(&Error::new(ErrorKind::Closed, "closed"));
        assert!(other.outcome().wait(soon()).expect("ended").is_err());
        assert!(requests.register("c").expect_err("ended").is_closed());
    }

    #[test]
    fn a_failure_up_to_a_mark_leaves_later_requests_waiting() {
        let requests = Requests::new("_INBOX.x.".to_owned());
        let (before, _) = requests.register("a").expect("open");
        let mark = requests.mark();
        let (after, _) = requests.register("a").expect("open");
        requests.fail_before(mark, &Error::new(ErrorKind::Disconnected, "lost"));
        let outcome = before.outcome().wait(soon()).expect("ended").expect_err("lost");
        assert!(outcome.is_disconnected());
        assert!(after.outcome().get().is_none());
    }
}
