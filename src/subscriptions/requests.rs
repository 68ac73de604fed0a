//! Requests that wait for their reply.
//!
//! All replies of a connection come to one inbox, `<prefix><unique>.<token>`; the token finds the
//! waiting [`Slot`]. Tokens are never used twice, so a late reply finds nothing. An entry is
//! removed exactly once: by the reply, by the end of the wait, or by `fail`.
//!
//! The reader thread answers, any thread registers and waits. Outcomes are filled with the table
//! unlocked.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicUsize, Ordering};

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

/// Requests that have their reply, and whose waiters are not woken yet. They are when this is
/// dropped, at the latest: nobody is left asleep beside a reply, however the reading ends.
///
/// A thread with many requests under way is woken once for all the replies of one read, and the
/// first of many threads does not take the core from the reader before the others have theirs.
#[derive(Debug, Default)]
pub(crate) struct Answered(Vec<Arc<Slot>>);

impl Answered {
    /// Wakes whoever waits for one of them, in the order of the replies.
    pub(crate) fn wake(&mut self) {
        for slot in self.0.drain(..) {
            slot.outcome.wake();
        }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.wake();
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
    /// Replies that the program holds a handle of, waited for or not.
    held: AtomicUsize,
}

type Waiting = HashMap<u64, Arc<Slot>, BuildHasherDefault<TokenHasher>>;

/// Spreads tokens, which we count ourselves: nobody else can choose them so that they collide, and
/// one who guesses tokens finds no request and stores nothing.
#[derive(Debug, Default)]
struct TokenHasher(u64);

impl Hasher for TokenHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, token: u64) {
        // 2^64 over the golden ratio: neighbours end far apart, in the high bits too.
        self.0 = token.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }
}

#[derive(Debug)]
struct State {
    waiting: Waiting,
    next_token: u64,
    ended: Option<Error>,
}

impl Requests {
    pub(crate) fn new(inbox: String) -> Self {
        let state = State { waiting: Waiting::default(), next_token: 1, ended: None };
        Self { inbox, state: Mutex::new(Rank::Requests, state), held: AtomicUsize::new(0) }
    }

    /// The subject to subscribe to.
    pub(crate) fn inbox_subject(&self) -> String {
        format!("{}*", self.inbox)
    }

    /// The program is about to hold one more reply. Returns how many it holds already: with others
    /// under way a request belongs to a pipeline. `release` follows.
    pub(crate) fn hold(&self) -> usize {
        self.held.fetch_add(1, Ordering::Relaxed)
    }

    /// The program has let go of a reply.
    pub(crate) fn release(&self) {
        self.held.fetch_sub(1, Ordering::Relaxed);
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
        self.take(token);
    }

    /// Takes a request out of those that wait, if it is there.
    fn take(&self, token: u64) -> Option<Arc<Slot>> {
        let mut state = self.state.lock();
        let slot = state.waiting.remove(&token);
        if state.waiting.is_empty() && state.waiting.capacity() > 1024 {
            state.waiting = Waiting::default();
        }
        slot
    }

    /// Gives a reply to the request that waits for it, if one does. Whoever waits is woken when the
    /// other replies of the same read are there too.
    pub(crate) fn answer(&self, message: Message, answered: &mut Answered) -> bool {
        let token =
            message.subject().strip_prefix(&self.inbox).and_then(|token| token.parse().ok());
        let slot = token.and_then(|token| self.take(token));
        let Some(slot) = slot else { return false };
        let nobody = message.payload().is_empty()
            && message.status().is_some_and(|status| status.is_no_responders());
        slot.outcome.fill(if nobody {
            let text = format!("nobody listens to '{}'", slot.subject);
            Err(Error::new(ErrorKind::NoResponders, text))
        } else {
            Ok(message)
        });
        answered.0.push(slot);
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
        let slot = token.and_then(|token| self.take(token));
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
        let mut answered = Answered::default();
        assert!(requests.answer(Message::new(&second_reply, "2"), &mut answered));
        let outcome = second.outcome().wait(soon()).expect("answered").expect("a message");
        assert_eq!(outcome.payload(), b"2");
        assert!(first.outcome().get().is_none());
        requests.forget(first.token());
        assert!(!requests.answer(Message::new(&first_reply, "late"), &mut answered));
        assert!(!requests.answer(Message::new("_INBOX.x.", "no token"), &mut answered));
        assert!(
            !requests
                .answer(Message::new("_INBOX.x.99999999999999999999", "no number"), &mut answered)
        );
        assert_eq!(requests.len(), 0);
    }

    #[test]
    fn a_reply_can_be_taken_before_anybody_is_woken_and_the_end_of_the_reading_wakes() {
        let requests = Requests::new("_INBOX.x.".to_owned());
        let (slot, reply) = requests.register("a").expect("open");
        let waiting = Arc::clone(&slot);
        let waiter = std::thread::Builder::new()
            .spawn(move || waiting.outcome().wait(soon()))
            .expect("a thread");
        let mut answered = Answered::default();
        assert!(requests.answer(Message::new(&reply, "1"), &mut answered));
        assert!(slot.outcome().is_there());
        drop(answered);
        let outcome = waiter.join().expect("no panic").expect("woken").expect("a message");
        assert_eq!(outcome.payload(), b"1");
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
