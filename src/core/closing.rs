//! Starting and ending a connection.
//!
//! `close` may be called from any thread, a listener and a handler included, and more than once. It
//! lets the flusher write what is there, cuts the connection, and waits for threads that end by
//! themselves; everything else happens on the reader thread.

use std::time::{Duration, Instant};

use super::config::RetryConnect;
use super::life::ConnectionStatus;
use super::shared::{Core, closed_error};
use super::threads::Runs;
use super::{callbacks, flusher, reader};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::subscriptions::{EndReason, Inbox, Rest, end_dispatcher_queue};
use crate::sync::Arc;

/// How long a server may take at most to read what was written and to close.
const FAREWELL: Duration = Duration::from_secs(1);

impl Core {
    /// Starts the three threads and waits for the outcome of the first connect, unless it goes on
    /// in the background.
    pub(crate) fn connect(self: &Arc<Self>) -> Result<()> {
        // The reader first: it connects while the others are started.
        if let Err(error) = self.start_thread("reader", Runs::Own, reader::run) {
            // Without a reader the end is made here.
            reader::finish(self, Some(error.clone()));
            return Err(error);
        }
        let others = self
            .start_thread("flusher", Runs::Own, flusher::run)
            .and_then(|()| self.start_thread("callback", Runs::Program, callbacks::run));
        if let Err(error) = others {
            self.close();
            return Err(error);
        }
        // Each server may take its time-out; the deadline is for a fault of ours, or for a callback
        // of the program that does not return.
        let patience = match self.config.retry_connect {
            Some(RetryConnect::InBackground) => return Ok(()),
            Some(RetryConnect::Within(limit)) => limit,
            None => {
                let servers = u32::try_from(self.life().pool.len()).unwrap_or(u32::MAX);
                self.config.connect_timeout.saturating_mul(servers.saturating_mul(3))
            }
        };
        let deadline = clock::after(patience.saturating_add(self.config.close_timeout));
        match self.wait_for_status_other_than(ConnectionStatus::Connecting, deadline) {
            ConnectionStatus::Closed => {
                self.threads.wait_all(clock::after(self.config.close_timeout));
                let cause = self.life().close_cause.clone();
                Err(cause.unwrap_or_else(|| closed_error(None)))
            }
            ConnectionStatus::Connecting => {
                self.close();
                Err(Error::new(ErrorKind::Timeout, "the servers took too long to connect"))
            }
            _ => Ok(()),
        }
    }

    fn start_thread(self: &Arc<Self>, role: &str, runs: Runs, body: fn(&Arc<Self>)) -> Result<()> {
        let core = Arc::clone(self);
        self.threads.start(self.thread_name(role), self.id, runs, move || body(&core))
    }

    fn wait_for_status_other_than(
        &self,
        status: ConnectionStatus,
        deadline: Instant,
    ) -> ConnectionStatus {
        let mut life = self.life();
        while life.status == status && clock::now() < deadline {
            self.changed.wait_until(&mut life, Some(deadline));
        }
        life.status
    }

    /// Ends the connection; see [`Connection::close`](crate::Connection::close).
    pub(crate) fn close(&self) {
        let deadline = clock::after(self.config.close_timeout);
        let began = self.begin_close();
        // The thread that would read the server's farewell is this one: it ends when it returns. In
        // a callback of an outage no server is there.
        if self.on_essential_thread() {
            if began && self.life().link.is_some() {
                self.outbox.wait_written(clock::after(self.config.close_timeout / 2));
                self.half_close();
                self.cut();
            }
            return;
        }
        if began {
            self.outbox.wait_written(clock::after(self.config.close_timeout / 2));
            self.half_close();
            // The server reads what was written, then closes; it gets a quarter of the time for it.
            // Behind a flush it has read everything, and nothing is waited for.
            if !self.outbox.is_confirmed() {
                self.threads.wait_own(clock::after((self.config.close_timeout / 4).min(FAREWELL)));
            }
            self.cut();
        }
        if self.on_own_thread() {
            self.threads.wait_own(deadline);
        } else {
            self.threads.wait_all(deadline);
        }
    }

    /// Wakes every waiter. Returns whether this call began the end.
    fn begin_close(&self) -> bool {
        {
            let mut life = self.life();
            if life.closing || life.status == ConnectionStatus::Closed {
                return false;
            }
            life.closing = true;
            if self.config.no_events_after_close {
                self.hub.mute();
            }
        }
        self.changed.notify_all();
        self.outbox.close();
        self.requests.end(&closed_error(None));
        self.cancel.cancel();
        true
    }

    /// Ends the writing direction of the present stream.
    fn half_close(&self) {
        let link = self.life().link.clone();
        if let Some(link) = link {
            // No PONG may be written any more: its failure would cut the connection at once.
            self.outbox.mark_broken(link.epoch);
            link.stream.finish();
        }
        self.changed.notify_all();
    }

    /// Shuts the present stream down.
    fn cut(&self) {
        let epoch = self.life().link.as_ref().map(|link| link.epoch);
        if let Some(epoch) = epoch {
            self.fail(epoch, closed_error(None));
        }
        self.changed.notify_all();
    }

    /// A dispatcher's queue, to be ended with the connection.
    pub(crate) fn adopt_dispatcher(&self, mailbox: &Arc<Inbox>) {
        let mut dispatchers = self.dispatchers.lock();
        dispatchers.retain(|known| known.strong_count() > 0);
        dispatchers.push(Arc::downgrade(mailbox));
    }

    /// The queues of all dispatchers.
    pub(super) fn dispatcher_mailboxes(&self) -> Vec<Arc<Inbox>> {
        self.dispatchers.lock().iter().filter_map(std::sync::Weak::upgrade).collect()
    }

    /// Ends every dispatcher after its present message.
    pub(super) fn end_dispatchers(&self, end: &EndReason) {
        for mailbox in self.dispatcher_mailboxes() {
            end_dispatcher_queue(&mailbox, end.clone(), Rest::Drop);
        }
    }

    /// Asks for another connection; see
    /// [`Connection::force_reconnect`](crate::Connection::force_reconnect).
    pub(crate) fn force_reconnect(&self) -> Result<()> {
        let failed = {
            let mut life = self.life();
            if life.closing || life.status == ConnectionStatus::Closed {
                return Err(closed_error(life.close_cause.as_ref()));
            }
            if life.drain.is_some() {
                return Err(Error::new(ErrorKind::Draining, "the connection is draining"));
            }
            match &life.link {
                // A failure that was reported before will be answered by a reconnect anyway; but
                // from now on this connection does not count as one.
                Some(_) if life.failure.is_some() => {
                    if self.config.reconnect {
                        life.status = ConnectionStatus::Reconnecting;
                    }
                    None
                }
                Some(link) => {
                    // The event is told with the loss, so that nothing comes between the two.
                    let epoch = link.epoch;
                    let stream = life.fail(epoch, forced());
                    // From now on this connection does not count as one: whoever waits for the
                    // status, or flushes, waits for the next.
                    if self.config.reconnect {
                        life.status = ConnectionStatus::Reconnecting;
                    }
                    // No write begins after this: what is requested later goes to the next server,
                    // so only what was requested before can have lost its reply.
                    self.outbox.mark_broken(epoch);
                    // For the tear-down too: what is requested from now on goes to the next server.
                    let mark = *life.leaving.get_or_insert_with(|| self.requests.mark());
                    stream.map(|stream| (stream, mark))
                }
                None => {
                    life.hurry = true;
                    None
                }
            }
        };
        if let Some((stream, mark)) = failed {
            stream.shutdown();
            let text = "the connection was left: the program asked for another one";
            let left = Error::caused_by(ErrorKind::Disconnected, text, forced());
            self.requests.fail_before(mark, &left);
        }
        self.changed.notify_all();
        Ok(())
    }

    /// Waits until `Closed` has been delivered; see
    /// [`Connection::wait_closed`](crate::Connection::wait_closed).
    pub(crate) fn wait_closed(&self, deadline: Instant) -> Result<Option<Error>> {
        let own = self.on_own_thread();
        self.check_may_wait()?;
        let mut life = self.life();
        loop {
            // On a thread of the connection the delivery may be waiting for this very call.
            if life.closed_delivered || (own && life.status == ConnectionStatus::Closed) {
                return Ok(life.close_cause.clone());
            }
            if clock::now() >= deadline {
                let text = match life.status {
                    ConnectionStatus::Closed => {
                        "a listener has not returned, to be told of the end"
                    }
                    _ => "the connection is not closed",
                };
                return Err(Error::new(ErrorKind::Timeout, text));
            }
            self.changed.wait_until(&mut life, Some(deadline));
        }
    }
}

/// Why a connection ends that the program left.
fn forced() -> Error {
    Error::new(ErrorKind::ForcedReconnect, "the program asked for another connection")
}
