//! What programs do with a connection: publish, subscribe, request, flush.
//!
//! Called by any thread. What is appended here is written by the flusher, or at once by the caller
//! if it got the turn, with no lock held.

use std::time::{Duration, Instant};

use super::hooks::EndHook;
use super::life::ConnectionStatus;
use super::notice::ErrorNotice;
use super::shared::{Core, closed_error};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::outbox::{Accepted, Batch, Outgoing, Pong, Urgency};
use crate::outcome::Outcome;
use crate::protocol::{
    Message, check_publish, check_queue, check_reply, check_strict_publish, check_strict_reply,
    check_subscribe,
};
use crate::subscriptions::{
    ConsumerView, EndReason, PendingLimits, Rest, Slot, Subscriber, Target,
};
use crate::sync::Arc;

impl Core {
    /// Publishes a message.
    pub(crate) fn publish(&self, outgoing: Outgoing<'_>, urgency: Urgency) -> Result<()> {
        self.publish_any(outgoing, urgency)
    }

    /// Publishes a message without reply subject and headers, as most are: what is not there costs
    /// nothing.
    pub(crate) fn publish_plain(&self, subject: &str, payload: &[u8]) -> Result<()> {
        let outgoing = Outgoing { subject, reply: None, headers: None, payload };
        self.publish_any(outgoing, Urgency::Idle)
    }

    #[inline(always)]
    fn publish_any(&self, outgoing: Outgoing<'_>, urgency: Urgency) -> Result<()> {
        self.check_subject(outgoing.subject)?;
        if let Some(reply) = outgoing.reply {
            check_reply(reply)?;
            if self.config.strict_subjects {
                check_strict_reply(reply)?;
            }
        }
        let accepted = self.outbox.publish(outgoing, urgency, || !self.on_own_thread());
        match accepted.map_err(|error| self.with_cause(error))? {
            Accepted::Queued => {}
            Accepted::Idle => self.kick(urgency),
            Accepted::Dropped => self.discarded(outgoing),
        }
        Ok(())
    }

    /// Whether a message may be published to the subject, as far as this side judges it.
    pub(crate) fn check_subject(&self, subject: &str) -> Result<()> {
        check_publish(subject)?;
        if self.config.strict_subjects { check_strict_publish(subject) } else { Ok(()) }
    }

    /// The outbox does not know why the connection has ended.
    #[cold]
    fn with_cause(&self, error: Error) -> Error {
        if error.is_closed() { closed_error(self.life().close_cause.as_ref()) } else { error }
    }

    /// Tells that a message was dropped.
    #[cold]
    fn discarded(&self, outgoing: Outgoing<'_>) {
        let mut message = Message::new(outgoing.subject, outgoing.payload.to_vec());
        if let Some(reply) = outgoing.reply {
            message = message.with_reply(reply);
        }
        if let Some(headers) = outgoing.headers {
            message = message.with_headers(headers.clone());
        }
        self.notice(ErrorNotice::MessageDiscarded(message));
    }

    /// Begins the write of what was appended, unless somebody is about to write it.
    #[inline(never)]
    pub(crate) fn kick(&self, urgency: Urgency) {
        self.write(self.outbox.kick(urgency), urgency);
    }

    /// Writes a batch if the caller got the turn.
    pub(crate) fn write(&self, batch: Option<Batch>, urgency: Urgency) {
        let Some(batch) = batch else { return };
        if let Err(broken) = self.outbox.write_inline(batch, urgency) {
            self.fail(broken.epoch, Error::io("writing to the server", broken.error));
        }
    }

    /// Registers a subscription and tells the server.
    pub(crate) fn subscribe(
        &self,
        subject: &str,
        queue: Option<&str>,
        target: Target,
        limits: PendingLimits,
    ) -> Result<Arc<Subscriber>> {
        self.subscribe_then(subject, queue, target, limits, |_| ())
    }

    /// Like `subscribe`; `registered` runs, with the registry locked, before any message can
    /// arrive.
    pub(crate) fn subscribe_then(
        &self,
        subject: &str,
        queue: Option<&str>,
        target: Target,
        limits: PendingLimits,
        registered: impl FnOnce(&Arc<Subscriber>),
    ) -> Result<Arc<Subscriber>> {
        check_subscribe(subject)?;
        if let Some(queue) = queue {
            check_queue(queue)?;
        }
        self.outbox.check_subscribe(subject, queue)?;
        self.check_open()?;
        let make = |sid| {
            Subscriber::new(sid, subject.to_owned(), queue.map(str::to_owned), target, limits)
        };
        let send = |line: &[u8]| self.outbox.control(line);
        let subscriber = self.registry.insert(make, registered, send)?;
        self.kick(Urgency::Now);
        Ok(subscriber)
    }

    /// No new work on a connection that ends.
    pub(crate) fn check_open(&self) -> Result<()> {
        let life = self.life();
        if life.closing || life.status == ConnectionStatus::Closed {
            return Err(closed_error(life.close_cause.as_ref()));
        }
        if life.drain.is_some() {
            return Err(Error::new(ErrorKind::Draining, "the connection is draining"));
        }
        Ok(())
    }

    /// Ends a subscription, telling the server if it must be told.
    pub(crate) fn end_subscription(&self, subscriber: &Arc<Subscriber>, end: EndReason) {
        subscriber.ends_by(end.clone());
        if matches!(end, EndReason::Unsubscribed) {
            subscriber.discard();
        }
        let mut told = false;
        self.registry.remove(subscriber.sid(), |line| {
            self.outbox.control(line);
            told = true;
        });
        // Unsubscribing throws away what waits; every other end leaves it readable, with what is on
        // its way.
        let rest = match end {
            EndReason::Unsubscribed => Rest::Drop,
            _ => Rest::Keep { until: subscriber.admitted() },
        };
        subscriber.end_queue(end, rest);
        self.settle(subscriber);
        if told {
            self.kick(Urgency::Idle);
        }
    }

    /// Tells the end of a subscription if it is over; called whenever it may have become so.
    pub(crate) fn settle(&self, subscriber: &Arc<Subscriber>) {
        if subscriber.is_over() {
            self.finish_subscription(subscriber);
        }
    }

    /// Tells the end of a subscription, once.
    pub(crate) fn finish_subscription(&self, subscriber: &Arc<Subscriber>) {
        drop(self.hooks.finish(subscriber, &self.hub));
    }

    /// Calls a closure on the callback thread when the subscription has ended, at once if it has.
    /// Returns whether it will be called: not after `Closed`.
    pub(crate) fn on_subscription_end(
        &self,
        subscriber: &Arc<Subscriber>,
        hook: EndHook<Arc<Self>>,
    ) -> bool {
        let added = self.hooks.add(subscriber, hook, &self.hub);
        // One that is refused is dropped here, with no lock held: it is the program's code.
        added.is_ok()
    }

    /// Lets a subscription end after `max` messages, counted from its beginning.
    pub(crate) fn limit_subscription(&self, subscriber: &Arc<Subscriber>, max: u64) {
        let complete = self.registry.set_max(subscriber, max, |line| self.outbox.control(line));
        if complete {
            self.end_subscription(subscriber, EndReason::Completed);
        } else {
            self.kick(Urgency::Idle);
        }
    }

    /// Sends a request; the slot gets the reply.
    pub(crate) fn request(&self, outgoing: Outgoing<'_>, urgency: Urgency) -> Result<Arc<Slot>> {
        self.check_subject(outgoing.subject)?;
        self.check_open()?;
        // Before the inbox is looked at: its refusal, whenever it comes, ends what is registered.
        let (slot, reply) = self.requests.register(outgoing.subject)?;
        let outgoing = Outgoing { reply: Some(&reply), ..outgoing };
        let asked = self.ensure_inbox().and_then(|()| self.ask(outgoing, urgency));
        asked.inspect_err(|_| self.requests.forget(slot.token()))?;
        Ok(slot)
    }

    /// Publishes a request whose reply subject is listened to. One that is dropped for a full
    /// outbox is a failure: nobody would answer. The subject has been checked.
    pub(crate) fn ask(&self, outgoing: Outgoing<'_>, urgency: Urgency) -> Result<()> {
        match self.outbox.publish(outgoing, urgency, || !self.on_own_thread())? {
            accepted @ (Accepted::Queued | Accepted::Idle) => {
                self.counters.requests.add(1);
                if accepted == Accepted::Idle {
                    self.kick(urgency);
                }
                Ok(())
            }
            Accepted::Dropped => {
                self.discarded(outgoing);
                let text = "the outbox is full; the request was dropped";
                Err(Error::new(ErrorKind::OutboxFull, text))
            }
        }
    }

    /// Subscribes to the inbox of replies, once.
    fn ensure_inbox(&self) -> Result<()> {
        let mut inbox = self.inbox.lock();
        if inbox.is_none() {
            let subject = self.requests.inbox_subject();
            let limits = PendingLimits::UNLIMITED;
            let make = |sid| Subscriber::new(sid, subject, None, Target::Requests, limits);
            let subscriber =
                self.registry.insert(make, |_| (), |line| self.outbox.control(line))?;
            *inbox = Some(subscriber.sid());
            drop(inbox);
            // Not with the request that it is for: that may never be sent, or need the room.
            self.kick(Urgency::Idle);
        }
        Ok(())
    }

    /// The server refused the inbox: the next request subscribes again.
    pub(super) fn forget_inbox(&self) {
        let sid = self.inbox.lock().take();
        if let Some(sid) = sid {
            self.registry.remove(sid, |line| self.outbox.control(line));
            // This is the reader, which writes nothing by itself.
            self.outbox.leave_to_flusher();
        }
    }

    /// Tells that a slow consumer has recovered.
    pub(crate) fn tell_recovered(&self, subscriber: &Arc<Subscriber>) {
        let view = ConsumerView::new(Arc::<Subscriber>::clone(subscriber));
        self.notice(ErrorNotice::SlowConsumerRecovered(view));
        subscriber.recovered();
    }

    /// A round trip to the server: when it returns, the server has seen everything that this thread
    /// sent before. Waits for a connection if there is none.
    pub(crate) fn flush(&self, deadline: Instant) -> Result<()> {
        loop {
            self.wait_connected(deadline)?;
            // If the connection was lost between the two calls, it waits for the next one.
            if let Some(outcome) = self.flush_present(deadline) {
                return outcome;
            }
        }
    }

    /// A round trip to the server that is there; none if there is none.
    pub(super) fn flush_present(&self, deadline: Instant) -> Option<Result<()>> {
        let pong = Pong::new(Outcome::new());
        let batch = match self.outbox.ping(Arc::clone(&pong)) {
            Ok(batch) => batch,
            Err(error) if error.is_disconnected() => return None,
            Err(error) => return Some(Err(error)),
        };
        self.write(batch, Urgency::Now);
        let Some(outcome) = pong.wait(deadline) else {
            let text = "the server did not answer the flush in time";
            return Some(Err(Error::new(ErrorKind::Timeout, text)));
        };
        if outcome.is_ok() {
            self.counters.flushes.add(1);
        }
        Some(outcome)
    }

    fn wait_connected(&self, deadline: Instant) -> Result<()> {
        let mut life = self.life();
        loop {
            if life.closing || life.status == ConnectionStatus::Closed {
                return Err(closed_error(life.close_cause.as_ref()));
            }
            // A connection that has failed is not waited on: its end is near, then comes the next.
            if life.present().is_some() {
                return Ok(());
            }
            if life.drain.is_some() {
                let text = "the connection was lost while it drained";
                return Err(Error::new(ErrorKind::Disconnected, text));
            }
            self.check_may_wait()?;
            if clock::now() >= deadline {
                let text = format!("the connection is {}", life.status);
                return Err(Error::new(ErrorKind::Timeout, text));
            }
            self.changed.wait_until(&mut life, Some(deadline));
        }
    }

    /// The time of one round trip.
    pub(crate) fn rtt(&self, deadline: Instant) -> Result<Duration> {
        if self.life().present().is_none() {
            return Err(Error::new(ErrorKind::Disconnected, "the connection is down"));
        }
        let start = clock::now();
        self.flush(deadline)?;
        Ok(clock::since(start))
    }
}
