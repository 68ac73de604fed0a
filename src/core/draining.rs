//! Draining: ending without losing what has arrived or was published.
//!
//! ```text
//!  UNSUB all ─▶ flush ─▶ end the queues, keeping what is there ─▶ wait for the handlers
//!            ─▶ refuse publishing ─▶ flush ─▶ close
//! ```
//!
//! Until publishing is refused handlers may publish and answer. The connection's steps run on a
//! short-lived thread of their own, because each of them waits; a loss of the connection, `close`
//! and the deadline end them early, and the outcome says so.

use std::time::{Duration, Instant};

use super::life::{ConnectionStatus, DrainProgress};
use super::notice::ConnectionEventKind;
use super::shared::{Core, closed_error};
use super::threads::Runs;
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::outbox::Urgency;
use crate::subscriptions::{EndReason, Inbox, Rest, Subscriber, Target, end_dispatcher_queue};
use crate::sync::Arc;

impl Core {
    /// Begins to drain the connection, or joins a drain under way.
    pub(crate) fn start_drain(self: &Arc<Self>, timeout: Duration) -> Result<Arc<DrainProgress>> {
        let deadline = clock::after(timeout);
        let progress = {
            let mut life = self.life();
            if let Some(progress) = &life.drain {
                return Ok(Arc::clone(progress));
            }
            if life.closing {
                return Err(closed_error(life.close_cause.as_ref()));
            }
            // One that is known to be lost is as good as down.
            let lost = life.link.is_none() || life.failure.is_some();
            if life.status != ConnectionStatus::Connected || lost {
                let text = "the connection is down and cannot drain; use close to end it now";
                return Err(Error::new(ErrorKind::Disconnected, text));
            }
            let progress = Arc::new(DrainProgress::new());
            life.status = ConnectionStatus::Draining;
            life.drain = Some(Arc::clone(&progress));
            self.emit(life.server.clone(), ConnectionEventKind::Draining);
            progress
        };
        self.changed.notify_all();
        let (core, done) = (Arc::clone(self), Arc::clone(&progress));
        let body = move || {
            let outcome = core.run_drain(deadline);
            // Nobody may be waiting for it. What else can end it, and the end of the connection,
            // the listeners hear anyway.
            if let Err(error) = &outcome {
                if error.is_timeout() && !core.life().closing {
                    core.exception(error.clone());
                }
            }
            core.close();
            done.complete(outcome);
        };
        let started = self.threads.start(self.thread_name("drain"), self.id, Runs::Program, body);
        if let Err(error) = started {
            progress.complete(Err(error));
            self.close();
        }
        Ok(progress)
    }

    fn run_drain(&self, deadline: Instant) -> Result<()> {
        self.registry.refuse_new();
        let consumers =
            self.registry.select(|subscriber| !matches!(subscriber.target(), Target::Requests));
        let mut outcome = self.unsubscribe_and_flush(&consumers, deadline);
        for subscriber in &consumers {
            self.end_subscription(subscriber, EndReason::Drained);
        }
        // All of them before any is waited for: a dispatcher that is dropped meanwhile has its end.
        let mailboxes = self.dispatcher_mailboxes();
        for mailbox in &mailboxes {
            end_dispatcher_queue(mailbox, EndReason::Drained, Rest::Keep { until: 0 });
        }
        for mailbox in &mailboxes {
            let handled = wait_delivered(mailbox, deadline);
            outcome = outcome.and(handled);
        }
        self.outbox.refuse_publishing();
        outcome.and_then(|()| self.flush(deadline))
    }

    /// Unsubscribes at the server and waits until it has confirmed, so that everything that it has
    /// sent is here.
    fn unsubscribe_and_flush(&self, all: &[Arc<Subscriber>], deadline: Instant) -> Result<()> {
        for subscriber in all {
            self.registry.start_draining(subscriber.sid(), |line| self.outbox.control(line));
        }
        // Not on the next connection: a server that is lost has forgotten them.
        self.flush_present(deadline).unwrap_or_else(|| {
            let text = "the connection was lost while it drained";
            Err(Error::new(ErrorKind::Disconnected, text))
        })
    }

    /// Drains one pull subscription: afterwards what has arrived is readable, then the end.
    pub(crate) fn drain_subscription(
        &self,
        subscriber: &Arc<Subscriber>,
        deadline: Instant,
    ) -> Result<()> {
        let outcome = self.drain_at_server(std::slice::from_ref(subscriber), deadline);
        self.end_subscription(subscriber, EndReason::Drained);
        outcome
    }

    /// Drains a dispatcher: its subscriptions end, and its handlers see what has arrived. On the
    /// dispatcher's own thread (`wait` false) the handlers are not waited for.
    pub(crate) fn drain_dispatcher(
        &self,
        mailbox: &Inbox,
        subscribers: &[Arc<Subscriber>],
        deadline: Instant,
        wait: bool,
    ) -> Result<()> {
        let outcome = self.drain_at_server(subscribers, deadline);
        for subscriber in subscribers {
            self.end_subscription(subscriber, EndReason::Drained);
        }
        end_dispatcher_queue(mailbox, EndReason::Drained, Rest::Keep { until: 0 });
        if !wait {
            return outcome;
        }
        outcome.and_then(|()| wait_delivered(mailbox, deadline))?;
        // The end of the connection may have come first.
        if subscribers.iter().any(|one| one.is_cut_short() && !one.is_discarding()) {
            return Err(closed_error(self.life().close_cause.as_ref()));
        }
        Ok(())
    }

    /// Without a server there is nothing to confirm: it has forgotten the subscriptions, and
    /// draining ones are not announced again.
    fn drain_at_server(&self, all: &[Arc<Subscriber>], deadline: Instant) -> Result<()> {
        {
            let life = self.life();
            if life.status == ConnectionStatus::Closed {
                return Err(closed_error(life.close_cause.as_ref()));
            }
        }
        for subscriber in all {
            self.registry.start_draining(subscriber.sid(), |line| self.outbox.control(line));
        }
        // The connection may have come back meanwhile.
        self.kick(Urgency::Idle);
        while self.wait_told(deadline)? {
            match self.flush_present(deadline) {
                // A server that is lost meanwhile has forgotten them.
                Some(Err(error)) if error.is_disconnected() => return Ok(()),
                Some(outcome) => return outcome,
                // It is being left since it was looked at, or is gone.
                None => {}
            }
        }
        Ok(())
    }

    /// Whether there is a server that can confirm. One that is being left, or is lost and not yet
    /// taken down, is waited for: until then what it has sent is handed out.
    fn wait_told(&self, deadline: Instant) -> Result<bool> {
        let mut life = self.life();
        loop {
            match life.status {
                ConnectionStatus::Connected | ConnectionStatus::Draining => return Ok(true),
                ConnectionStatus::Closed => {
                    return Err(closed_error(life.close_cause.as_ref()));
                }
                _ if life.link.is_none() || self.on_essential_thread() => return Ok(false),
                _ => {}
            }
            if clock::now() >= deadline {
                let text = "the server had not been left when the time to drain was over";
                return Err(Error::new(ErrorKind::Timeout, text));
            }
            self.changed.wait_until(&mut life, Some(deadline));
        }
    }
}

fn wait_delivered(mailbox: &Inbox, deadline: Instant) -> Result<()> {
    if mailbox.wait_delivered(deadline) {
        return Ok(());
    }
    let text = "handlers had not finished when the time to drain was over";
    Err(Error::new(ErrorKind::Timeout, text))
}
