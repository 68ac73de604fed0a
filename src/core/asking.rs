//! Asking the program's code, or a file, for what an attempt needs, where the answer may take its
//! time: who we are, a transport, and the certificates for TLS.
//!
//! It cannot be cut off, so it runs on a thread of its own, `nats-N-creds`, `nats-N-connect` or
//! `nats-N-tls`, which belongs to the connection and is left behind when the attempt's deadline
//! passes. There is never more than one of each: a later attempt waits for the end of the call that
//! an earlier one left behind, throws its answer away, for it may be out of date and belongs to
//! another attempt, and asks again.
//!
//! Only the reader thread calls `ask`. The asking thread holds nothing but the slot for its answer.

use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::sync::{Arc, Mutex, Rank, caught};
use crate::transport::{Cancel, Cancelled};

type Slot<T> = Arc<Mutex<Option<Result<T>>>>;

/// What to say when there is no answer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words {
    pub(super) late: &'static str,
    pub(super) earlier: &'static str,
    pub(super) panicked: &'static str,
}

/// Of the credentials.
pub(super) const CREDENTIALS: Words = Words {
    late: "the credentials did not come within the connect time-out",
    earlier: "an earlier call to the credentials still runs",
    panicked: "the credentials panicked when they were asked",
};

/// Of a connector.
pub(super) const CONNECTOR: Words = Words {
    late: "the connector did not connect within the connect time-out",
    earlier: "an earlier call to the connector still runs",
    panicked: "the connector panicked",
};

/// Of the files for TLS.
pub(super) const CERTIFICATES: Words = Words {
    late: "the files with certificates and keys were not read within the connect time-out",
    earlier: "the files with certificates and keys are still being read for an earlier attempt",
    panicked: "reading the certificates panicked",
};

/// The call under way, or left behind.
pub(super) struct Asking<T> {
    under_way: Mutex<Option<Slot<T>>>,
    words: Words,
}

impl<T: Send + 'static> Asking<T> {
    pub(super) fn new(words: Words) -> Self {
        Self { under_way: Mutex::new(Rank::Leaf, None), words }
    }

    /// The answer, before the deadline; `start` runs what it is given on another thread.
    pub(super) fn ask(
        &self,
        deadline: Instant,
        cancel: &Arc<Cancel>,
        start: impl FnOnce(Box<dyn FnOnce() + Send>) -> Result<()>,
        answer: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let words = self.words;
        let earlier = self.under_way.lock().clone();
        if let Some(earlier) = earlier {
            drop(wait(&earlier, deadline, cancel, words.earlier)?);
        }
        let slot: Slot<T> = Arc::new(Mutex::new(Rank::Leaf, None));
        *self.under_way.lock() = Some(Arc::clone(&slot));
        let (place, nudge) = (Arc::clone(&slot), Arc::clone(cancel));
        let started = start(Box::new(move || {
            let answer = caught(answer)
                .unwrap_or_else(|| Err(Error::new(ErrorKind::UserPanic, words.panicked)));
            *place.lock() = Some(answer);
            nudge.nudge();
        }));
        if let Err(error) = started {
            *self.under_way.lock() = None;
            return Err(error);
        }
        let answer = wait(&slot, deadline, cancel, words.late)?;
        *self.under_way.lock() = None;
        answer
    }
}

impl<T> Asking<T> {
    /// Nobody asks any more: what is answered later is dropped by the thread that was asked.
    pub(super) fn forget(&self) {
        let earlier = self.under_way.lock().take();
        // Here, with no lock held: it may be the program's code.
        drop(earlier);
    }
}

/// Waits for the end of a call; the outer error is that of the wait.
fn wait<T>(slot: &Slot<T>, deadline: Instant, cancel: &Cancel, late: &str) -> Result<Result<T>> {
    // A short poll besides the nudge, which may come between the look and the wait.
    let poll = Some(Duration::from_millis(1));
    match cancel.wait_for(deadline, poll, || slot.lock().take()) {
        Ok(Some(answer)) => Ok(answer),
        Ok(None) => Err(Error::new(ErrorKind::Timeout, late)),
        Err(Cancelled) => Err(Error::new(ErrorKind::Closed, "the connection was closed")),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::auth::Login;
    use crate::sync;

    const LONG: Duration = Duration::from_secs(10);

    fn start(body: Box<dyn FnOnce() + Send>) -> Result<()> {
        sync::spawn("creds".to_owned(), 0, body).map(drop)
    }

    fn at_once(asking: &Asking<Login>, answer: Result<Login>) -> Result<Login> {
        let cancel = Arc::new(Cancel::new());
        asking.ask(Instant::now() + LONG, &cancel, start, move || answer)
    }

    #[test]
    fn an_answer_an_error_and_a_panic_come_back() {
        let asking = Asking::new(CREDENTIALS);
        let login = Login::new().token("t");
        assert_eq!(at_once(&asking, Ok(login.clone())).expect("a login"), login);
        let fault = Error::new(ErrorKind::Credentials, "none today");
        assert_eq!(at_once(&asking, Err(fault)).expect_err("a fault").to_string(), "none today");
        let cancel = Arc::new(Cancel::new());
        let panicking = asking.ask(Instant::now() + LONG, &cancel, start, || panic!("on purpose"));
        assert_eq!(panicking.expect_err("a panic").kind(), ErrorKind::UserPanic);
        let none = |_| Err(Error::new(ErrorKind::Io, "no thread"));
        let error = asking.ask(Instant::now() + LONG, &cancel, none, || Ok(Login::new()));
        assert_eq!(error.expect_err("no thread").kind(), ErrorKind::Io);
        assert_eq!(at_once(&asking, Ok(login.clone())).expect("a login"), login);
    }

    #[test]
    fn a_call_that_does_not_return_is_not_joined_by_a_second_one_and_its_answer_is_not_used() {
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let shut = Arc::new(Mutex::new(Rank::Outer, ()));
        let gate = shut.lock();
        let asking = Asking::new(CREDENTIALS);
        let cancel = Arc::new(Cancel::new());
        for _ in 0..3 {
            let soon = Instant::now() + Duration::from_millis(30);
            let shut = Arc::clone(&shut);
            let stuck = asking.ask(soon, &cancel, start, move || {
                CALLS.fetch_add(1, Ordering::SeqCst);
                drop(shut.lock());
                Ok(Login::new().token("old"))
            });
            assert!(stuck.expect_err("stuck").is_timeout());
        }
        assert!(CALLS.load(Ordering::SeqCst) <= 1);
        let cancelled = Arc::new(Cancel::new());
        cancelled.cancel();
        let error = asking.ask(Instant::now() + LONG, &cancelled, start, || Ok(Login::new()));
        assert!(error.expect_err("cancelled").is_closed());
        drop(gate);
        let login = at_once(&asking, Ok(Login::new().token("new"))).expect("a login");
        assert_eq!(login.auth_token(), Some("new"));
    }
}
