//! The reader's life with one server: read, parse, hand out, until the connection ends.
//!
//! Runs on the reader thread and never writes to the socket: a PING becomes a PONG in the outbox's
//! urgent lane. It wakes only for bytes, and once a ping interval without bytes.

use std::time::Duration;

use super::departure::Departure;
use super::keepalive::{Idle, KeepAlive};
use super::life::Link;
use super::notice::{ConnectionEventKind, ErrorNotice};
use super::shared::Core;
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::protocol::{Message, Parser, ServerInfoUpdate, ServerOp};
use crate::server_error::{RefusedOperation, ServerError, ServerErrorKind};
use crate::subscriptions::{Answered, ConsumerView, EndReason, Routed, Router, Subscriber, Target};
use crate::sync::Arc;
use crate::transport::is_wait;

/// Reads until the connection ends, and says why. What the server said with `-ERR` is the cause,
/// not the end of the stream that follows it.
pub(super) fn receive(core: &Core, link: &Link, parser: Parser) -> Error {
    let mut receiver = Receiver {
        core,
        link,
        parser,
        router: Router::new(&core.registry),
        answered: Answered::default(),
        last_word: None,
        departure: None,
        news: true,
    };
    let end = receiver.run();
    receiver.router.flush();
    match receiver.last_word {
        Some(error) => error.into(),
        None => end,
    }
}

struct Receiver<'a> {
    core: &'a Core,
    link: &'a Link,
    parser: Parser,
    router: Router,
    answered: Answered,
    /// The last `-ERR` after which the server closes.
    last_word: Option<ServerError>,
    /// The server is being left.
    departure: Option<Departure>,
    /// Something was said since it was last asked whether to leave.
    news: bool,
}

impl Receiver<'_> {
    fn run(&mut self) -> Error {
        let mut keep_alive = KeepAlive::new(self.core.config.max_pings_out);
        let interval = self.core.config.ping_interval;
        let mut idle_since = clock::now();
        let mut wait = interval;
        // What the last read of the login has produced.
        if self.link.stream.asks_for_write() {
            self.core.outbox.leave_to_flusher();
        }
        loop {
            if let Err(error) = self.handle_all() {
                return error;
            }
            // Here, not where the INFO is handled: the handshake may have brought the news too.
            if std::mem::take(&mut self.news) && self.departure.is_none() {
                self.departure = Departure::begin(self.core);
            }
            // `close` writes what was kept back for the next server, and ends this connection.
            if self.departure.is_some() && self.core.life().closing {
                self.departure = None;
            }
            let mut slice = wait;
            if let Some(departure) = &mut self.departure {
                match departure.left(self.core) {
                    Some(left) => slice = Some(wait.map_or(left, |wait| wait.min(left))),
                    None => return departure.cause(),
                }
            }
            let outcome = self.link.stream.read(self.parser.space(), slice);
            if self.link.stream.asks_for_write() {
                self.core.outbox.leave_to_flusher();
            }
            match outcome {
                Ok(0) => return Error::new(ErrorKind::Io, "the server closed the connection"),
                Ok(count) => {
                    self.parser.filled(count);
                    keep_alive.bytes_arrived();
                    idle_since = clock::now();
                    wait = interval;
                }
                Err(error) if is_wait(&error) && self.link.stream.has_heard() => {
                    keep_alive.bytes_arrived();
                    idle_since = clock::now();
                    wait = interval;
                }
                Err(error) if is_wait(&error) => {
                    let Some(interval) = interval else { continue };
                    let left = interval.saturating_sub(clock::since(idle_since));
                    // A signal, or a kernel that is early, ends the wait but not the interval.
                    if left > TICK_SLACK {
                        wait = Some(left);
                        continue;
                    }
                    if let Some(error) = self.idle(&mut keep_alive) {
                        return error;
                    }
                    idle_since = clock::now();
                    wait = Some(interval);
                }
                Err(error) => {
                    let error = Error::io("reading from the server", error);
                    // As where the parser finds a fault: it is told before the loss.
                    if error.kind() == ErrorKind::Protocol {
                        self.core.exception(error.clone());
                    }
                    return error;
                }
            }
        }
    }

    fn idle(&self, keep_alive: &mut KeepAlive) -> Option<Error> {
        match keep_alive.idle() {
            Idle::Ping => {
                self.core.outbox.keep_alive();
                None
            }
            Idle::Stale { outstanding } => {
                let text = format!("the server has not answered {outstanding} pings");
                let error = Error::new(ErrorKind::StaleConnection, text);
                let kind = ConnectionEventKind::StaleConnection { pings_outstanding: outstanding };
                let mut life = self.core.life();
                // A failure that was reported before is told with its own cause. From here on
                // nothing but the loss follows: a drain is refused.
                if !life.closing && life.failure.is_none() {
                    life.failure = Some(error.clone());
                    self.core.emit(life.server.clone(), kind);
                }
                drop(life);
                self.core.fail(self.link.epoch, error.clone());
                Some(error)
            }
        }
    }

    /// Handles every complete operation; the mailboxes get what was collected.
    fn handle_all(&mut self) -> Result<(), Error> {
        let watched = self.core.is_watched();
        let outcome = loop {
            // Most of a stream, without what other operations need. A listener sees all of them.
            if !watched {
                while let Some(plain) = self.parser.plain() {
                    let (sid, size) = (plain.sid, plain.size as u64);
                    let parser = &mut self.parser;
                    let put = |place: &mut Message| parser.message(&plain, place);
                    let routed = self.router.route(&self.core.registry, sid, size, put);
                    self.routed(routed, plain.wire_len);
                }
            }
            match self.parser.next() {
                Ok(Some(op)) => {
                    if watched {
                        // Code of the program, which may take its time.
                        self.router.flush();
                        self.answered.wake();
                        self.core.operation_read(&op);
                    }
                    self.handle(op);
                }
                Ok(None) => break Ok(()),
                Err(error) => {
                    self.core.exception(error.clone());
                    break Err(error);
                }
            }
        };
        self.router.flush();
        self.answered.wake();
        for subscriber in self.router.completed(&self.core.registry) {
            self.core.end_subscription(&subscriber, EndReason::Completed);
        }
        outcome
    }

    fn handle(&mut self, op: ServerOp) {
        match op {
            ServerOp::Message(delivery) => {
                if let Some(fault) = delivery.header_fault {
                    let sid = delivery.sid;
                    let text = format!("a message for sid {sid} has an odd header: {fault}");
                    self.core.exception(Error::new(ErrorKind::InvalidHeader, text));
                }
                let size = delivery.message.size() as u64;
                let put = |place: &mut Message| *place = delivery.message;
                let routed = self.router.route(&self.core.registry, delivery.sid, size, put);
                self.routed(routed, delivery.wire_len);
            }
            ServerOp::Ping => {
                // The server goes on after all: what it said is not why it ends some day.
                self.last_word = None;
                self.core.outbox.answer_ping();
            }
            ServerOp::Pong => {
                self.last_word = None;
                // What arrived before the PONG is readable before the flush returns.
                self.router.flush();
                if let Some(pong) = self.core.outbox.pong() {
                    pong.complete(Ok(()));
                }
            }
            ServerOp::Ok => self.core.counters.oks.add_owned(1),
            ServerOp::Info(update) => self.info(update),
            ServerOp::Err(error) => {
                // Whoever reacts to the error must find the messages that came before it.
                self.router.flush();
                self.error(error);
            }
        }
    }

    /// Counts a message, and does what its consumer cannot do by itself.
    #[inline(always)]
    fn routed(&mut self, routed: Routed, wire_len: usize) {
        let counters = &self.core.counters;
        counters.in_messages.add_owned(1);
        counters.in_bytes.add_owned(wire_len as u64);
        match routed {
            Routed::Done => {}
            Routed::Dropped => counters.dropped.add_owned(1),
            Routed::Reply(message) => {
                if self.core.requests.answer(message, &mut self.answered) {
                    counters.replies.add_owned(1);
                } else {
                    counters.late_replies.add_owned(1);
                }
            }
            Routed::Slow(subscriber) => {
                counters.dropped.add_owned(1);
                self.slow(&subscriber);
            }
            Routed::Last { subscriber, dropped, slow } => {
                if dropped {
                    counters.dropped.add_owned(1);
                }
                if slow {
                    self.slow(&subscriber);
                }
                self.router.flush();
                self.core.end_subscription(&subscriber, EndReason::Completed);
            }
        }
    }

    fn slow(&mut self, subscriber: &Arc<Subscriber>) {
        // The consumer must see what waits for it, or it could not recover.
        self.router.flush();
        let view = ConsumerView::new(Arc::<Subscriber>::clone(subscriber));
        self.core.notice(ErrorNotice::SlowConsumer(view));
        if subscriber.announced() {
            self.core.tell_recovered(subscriber);
        }
    }

    fn info(&mut self, update: ServerInfoUpdate) {
        self.news = true;
        self.core.info_changed(self.link, update);
    }

    fn error(&mut self, error: ServerError) {
        // Marked before it is told: a listener may look.
        let refused = self.newly_refused(&error);
        self.core.server_error(error.clone());
        if error.is_authorization() {
            self.core.life().pool.refused(&self.link.url, error.text());
        }
        if let ServerErrorKind::PermissionsViolation { operation, subject, .. } = error.kind() {
            let cause: Error = error.clone().into();
            match operation {
                RefusedOperation::Publish => {
                    self.core.requests.fail(&cause, |requested| requested == subject);
                }
                RefusedOperation::Reply => self.core.requests.fail_reply(subject, &cause),
                RefusedOperation::Subscribe => self.refused(&error, refused),
            }
        }
        if error.closes_connection() {
            self.last_word = Some(error);
        }
    }

    /// The subscriptions that the error refuses, marked.
    fn newly_refused(&self, error: &ServerError) -> Vec<Arc<Subscriber>> {
        let ServerErrorKind::PermissionsViolation {
            operation: RefusedOperation::Subscribe,
            subject,
            queue,
            sid,
        } = error.kind()
        else {
            return Vec::new();
        };
        let mut refused = self.core.registry.select(|subscriber| match sid {
            Some(sid) => subscriber.sid() == *sid,
            None => subscriber.subject() == subject && subscriber.queue() == queue.as_deref(),
        });
        // Without a sid, one that was refused before is not meant again: it was not sent again.
        refused.retain(|subscriber| subscriber.refuse());
        refused
    }

    /// Subscriptions were refused: they stay, and are announced again to the next server, but
    /// whoever waits on them is told.
    fn refused(&self, error: &ServerError, refused: Vec<Arc<Subscriber>>) {
        for subscriber in refused {
            match subscriber.target() {
                Target::Pull(mailbox) => mailbox.refuse(error.clone()),
                Target::Dispatch(_) => {}
                Target::Requests => {
                    self.core.forget_inbox();
                    self.core.requests.fail(&error.clone().into(), |_| true);
                }
            }
        }
    }
}

/// How early a kernel time-out may be.
const TICK_SLACK: Duration = Duration::from_millis(2);

impl Core {
    /// Takes in an INFO of an established connection.
    pub(super) fn info_changed(&self, link: &Link, update: ServerInfoUpdate) {
        let names_servers = update.names_connect_urls();
        let lame_duck = update.lame_duck() == Some(true);
        let mut life = self.life();
        // Copied only while the program looks at it: a server may send many, and name many others.
        Arc::make_mut(&mut life.info).merge(update);
        self.outbox.set_limits(self.server_limits(&life.info));
        if names_servers {
            let urls = life.info.connect_urls().to_vec();
            let changed = life.pool.accept(&urls, link.peer);
            if !changed.is_empty() && !life.closing {
                let kind = ConnectionEventKind::DiscoveredServers {
                    added: changed.added,
                    removed: changed.removed,
                };
                self.emit(life.server.clone(), kind);
            }
        }
        if lame_duck && !life.lame_duck && !life.closing {
            life.lame_duck = true;
            self.emit(life.server.clone(), ConnectionEventKind::LameDuck);
        }
    }
}
