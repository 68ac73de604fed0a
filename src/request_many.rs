//! One request, many replies (ADR-47).
//!
//! Each such request has an inbox and a subscription of its own, which ends with its [`Replies`].

use std::fmt;
use std::time::{Duration, Instant};

use crate::clock;
use crate::connection::Connection;
use crate::error::{Error, ErrorKind, Result};
use crate::outbox::{Outgoing, Urgency};
use crate::protocol::{Headers, Message};
use crate::subscription::Subscription;
use crate::subscriptions::Consumer;

type Sentinel = Box<dyn FnMut(&Message) -> bool + Send>;

/// When the replies to one request are complete: whichever comes first of a total time, a number, a
/// silence and a last message.
///
/// ```
/// use std::time::Duration;
///
/// use nats_blocking::Gather;
///
/// let gather = Gather::for_at_most(Duration::from_secs(2))
///     .count(10)
///     .silence(Duration::from_millis(300))
///     .until(|message| message.payload().is_empty());
/// # let _ = gather;
/// ```
#[must_use = "it says when a request is complete; give it to request_many"]
pub struct Gather {
    total: Duration,
    count: Option<u64>,
    silence: Option<Duration>,
    sentinel: Option<Sentinel>,
}

impl Gather {
    /// For at most so long, counted from the request; what has come by then is still given out.
    pub fn for_at_most(total: Duration) -> Self {
        Self { total, count: None, silence: None, sentinel: None }
    }

    /// So many replies are all.
    pub fn count(mut self, replies: u64) -> Self {
        self.count = Some(replies);
        self
    }

    /// After the first reply, so long without another is the end.
    pub fn silence(mut self, silence: Duration) -> Self {
        self.silence = Some(silence);
        self
    }

    /// The reply that `is_last` says yes to is the end; it is not given out.
    pub fn until(mut self, is_last: impl FnMut(&Message) -> bool + Send + 'static) -> Self {
        self.sentinel = Some(Box::new(is_last));
        self
    }
}

impl fmt::Debug for Gather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gather")
            .field("total", &self.total)
            .field("count", &self.count)
            .field("silence", &self.silence)
            .field("until", &self.sentinel.is_some())
            .finish()
    }
}

/// The replies to one request, as they come; see [`Connection::request_many`].
///
/// `next` waits as long as the [`Gather`] says. An error ends the replies. Dropping it ends the
/// interest in further ones.
#[must_use = "dropping it ends the interest in the replies"]
pub struct Replies {
    subscription: Subscription,
    gather: Gather,
    deadline: Instant,
    received: u64,
    /// Once the time is over: how many of the replies that had come by then are still to be given.
    rest: Option<u64>,
    finished: bool,
}

impl Connection {
    /// Sends a request and gathers its replies until `gather` says that they are complete.
    ///
    /// # Blocking
    ///
    /// Like [`publish`](Self::publish); the iterator waits.
    ///
    /// # Errors
    ///
    /// Those of [`publish`](Self::publish) and [`subscribe`](Self::subscribe);
    /// [`OutboxFull`](ErrorKind::OutboxFull) also where the policy drops messages;
    /// [`InvalidOption`](ErrorKind::InvalidOption) for a count of zero. The iterator gives
    /// [`NoResponders`](ErrorKind::NoResponders) and [`Closed`](ErrorKind::Closed); the end of the
    /// time is no error.
    ///
    /// ```no_run
    /// use std::time::Duration;
    ///
    /// use nats_blocking::Gather;
    ///
    /// # let connection = nats_blocking::connect("nats://127.0.0.1:4222")?;
    /// let second = Duration::from_secs(1);
    /// let gather = Gather::for_at_most(second).silence(second / 5);
    /// for reply in connection.request_many("who.is.there", "", gather)? {
    ///     println!("{:?}", reply?.payload());
    /// }
    /// # Ok::<(), nats_blocking::Error>(())
    /// ```
    pub fn request_many(
        &self,
        subject: impl AsRef<str>,
        payload: impl AsRef<[u8]>,
        gather: Gather,
    ) -> Result<Replies> {
        self.gather(subject.as_ref(), None, payload.as_ref(), gather)
    }

    /// Sends a message as a request and gathers its replies; its own reply subject is not used.
    ///
    /// # Errors
    ///
    /// Those of [`request_many`](Self::request_many).
    pub fn request_many_message(&self, message: &Message, gather: Gather) -> Result<Replies> {
        self.gather(message.subject(), Some(message.headers()), message.payload(), gather)
    }

    fn gather(
        &self,
        subject: &str,
        headers: Option<&Headers>,
        payload: &[u8],
        gather: Gather,
    ) -> Result<Replies> {
        if gather.count == Some(0) {
            let text = "a request cannot be complete with 0 replies";
            return Err(Error::new(ErrorKind::InvalidOption, text));
        }
        self.core().check_subject(subject)?;
        let inbox = self.new_inbox()?;
        let subscription = self.subscribe(&inbox)?;
        let outgoing = Outgoing { subject, reply: Some(&inbox), headers, payload };
        self.core().ask(outgoing, Urgency::Now)?;
        // Not before: a wait for room in the outbox must not take the time of the replies.
        let deadline = clock::after(gather.total);
        Ok(Replies { subscription, gather, deadline, received: 0, rest: None, finished: false })
    }
}

/// How long what has been counted may take into the queue: the rest of one read.
const ON_ITS_WAY: Duration = Duration::from_millis(50);

impl Replies {
    fn receive(&mut self) -> Option<Result<Message>> {
        if self.rest.is_none() && clock::now() >= self.deadline {
            // What came in time is given out; what comes from now on is not waited for.
            self.rest = Some(self.subscription.pending_messages());
        }
        match &mut self.rest {
            Some(0) => return None,
            Some(rest) => *rest -= 1,
            None => {}
        }
        // What has come is on its way to the queue, if it is not there yet.
        let end = self.rest.map_or(self.deadline, |_| clock::after(ON_ITS_WAY));
        let deadline = match self.gather.silence {
            Some(silence) if self.received > 0 => end.min(clock::after(silence)),
            _ => end,
        };
        let message = match self.subscription.next_deadline(deadline) {
            Ok(message) => message,
            Err(error) if error.is_timeout() => return None,
            Err(error) => return Some(Err(error)),
        };
        let nobody = message.payload().is_empty()
            && message.status().is_some_and(|status| status.is_no_responders());
        if nobody {
            let text = "nobody listens to the subject of the request";
            return Some(Err(Error::new(ErrorKind::NoResponders, text)));
        }
        if self.gather.sentinel.as_mut().is_some_and(|is_last| is_last(&message)) {
            return None;
        }
        self.received += 1;
        Some(Ok(message))
    }
}

impl Iterator for Replies {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Result<Message>> {
        if self.finished || self.gather.count.is_some_and(|count| self.received >= count) {
            return None;
        }
        let next = self.receive();
        self.finished = !matches!(next, Some(Ok(_)));
        next
    }
}

impl std::iter::FusedIterator for Replies {}

impl fmt::Debug for Replies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies")
            .field("gather", &self.gather)
            .field("received", &self.received)
            .field("finished", &self.finished)
            .finish_non_exhaustive()
    }
}
