//! The reading thread and only owner of the life cycle, as plain sequential code:
//!
//! ```text
//!  first pass over the servers ──all failed──▶ end
//!        │
//!        ▼
//!  announce, hand over ──▶ receive ──▶ tear down ──closing, or no reconnect──▶ end
//!        ▲                                 │
//!        └──── attempt ◀── pause ◀─────────┘  (until no server is left)
//! ```
//!
//! Every move is made with `life` locked, and its event is queued under the same lock.

use std::time::Duration;

use super::attempt::{LoggedIn, attempt, last_word, write_all};
use super::life::{ConnectionStatus, Life, Link};
use super::notice::{ConnectionEventKind, ErrorNotice};
use super::receive::receive;
use super::servers::{Next, Pause};
use super::shared::{Core, closed_error};
use crate::clock;
use crate::error::{ConnectAttempt, Error, ErrorKind};
use crate::protocol::Parser;
use crate::subscriptions::{End, Rest, Target, end_inbox};
use crate::sync::{Arc, assert_unlocked};

/// How long the teardown waits for a write to notice that its stream is shut down.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// The body of the reader thread.
pub(crate) fn run(core: &Arc<Core>) {
    // A panic here would be a fault of ours: it must still end the connection loudly.
    let life = std::panic::AssertUnwindSafe(|| live(core));
    let cause = std::panic::catch_unwind(life).unwrap_or_else(|_| {
        core.counters.panics.add(1);
        Some(Error::new(ErrorKind::Internal, "the reader thread panicked"))
    });
    finish(core, cause);
}

/// The whole life; returns why it ends, or none if the program ended it.
fn live(core: &Core) -> Option<Error> {
    let mut connected = match first_connect(core) {
        Ok(connected) => connected,
        Err(error) => return Some(error),
    };
    loop {
        let (link, parser) = connected;
        let cause = receive(core, &link, parser);
        let (cause, last) = tear_down(core, &link, cause);
        // The last hold on the socket: it must not stay open for as long as the outage lasts.
        drop(link);
        if last {
            return Some(cause);
        }
        connected = match reconnect(core) {
            Ok(connected) => connected,
            Err(error) => return Some(error),
        };
    }
}

/// One pass over the configured servers.
fn first_connect(core: &Core) -> Result<(Link, Parser), Error> {
    let mut failed = Vec::new();
    let servers = core.life().pool.len();
    for _ in 0..servers {
        let next = core.life().pool.next();
        let Some(next) = next else { break };
        let outcome = attempt(core, &next.url).and_then(|login| go_live(core, login, None));
        match outcome {
            Ok(connected) => return Ok(connected),
            Err(_) if core.life().closing => break,
            Err(error) => {
                tell_failure(core, &error);
                core.life().pool.failed_first(&next.url, &error);
                failed.push(ConnectAttempt::new(next.url.to_string(), error));
            }
        }
    }
    Err(Error::connect(failed))
}

/// Attempts until one succeeds, no server is left, or the connection is closed.
fn reconnect(core: &Core) -> Result<(Link, Parser), Error> {
    loop {
        let next = {
            let mut life = core.life();
            if life.closing {
                return Err(closed_error(life.close_cause.as_ref()));
            }
            life.pool.next().ok_or_else(|| life.pool.exhausted())?
        };
        pause(core, next.pause)?;
        let Next { url, attempt: number, .. } = next;
        let server: Arc<str> = url.to_string().into();
        core.emit(Some(Arc::clone(&server)), ConnectionEventKind::Reconnecting { attempt: number });
        let outcome = attempt(core, &url).and_then(|login| go_live(core, login, Some(number)));
        match outcome {
            Ok(connected) => return Ok(connected),
            Err(error) => {
                let closing = core.life().closing;
                if !closing {
                    tell_failure(core, &error);
                    core.life().pool.failed(&url, &error);
                }
                let cause = if closing { Error::new(ErrorKind::Closed, "closed") } else { error };
                let kind = ConnectionEventKind::ReconnectFailed { attempt: number, cause };
                core.emit(Some(server), kind);
            }
        }
    }
}

/// Tells why an attempt failed; an `-ERR` of the server is also told as such.
fn tell_failure(core: &Core, error: &Error) {
    if let Some(said) = error.server_error() {
        core.server_error(said.clone());
    }
    core.exception(error.clone());
}

/// Waits before the next attempt; `close` ends the wait with an error, `force_reconnect` without.
fn pause(core: &Core, pause: Pause) -> Result<(), Error> {
    assert_unlocked("waiting for the next attempt");
    let mut life = core.life();
    let tls = life.pool.has_tls();
    let config = &core.config;
    let most = if tls { config.reconnect_jitter_tls } else { config.reconnect_jitter };
    let random = &mut life.random;
    let wait = pause.length(config.reconnect_wait, most, &mut || random.draw());
    let deadline = clock::now().checked_add(wait);
    while !life.closing && !life.hurry && deadline.is_none_or(|deadline| clock::now() < deadline) {
        core.changed.wait_until(&mut life, deadline);
    }
    life.hurry = false;
    if life.closing { Err(closed_error(life.close_cause.as_ref())) } else { Ok(()) }
}

/// Announces the subscriptions and hands the stream over. `number` is that of the attempt in an
/// outage, none for the first connection.
fn go_live(core: &Core, login: LoggedIn, number: Option<u32>) -> Result<(Link, Parser), Error> {
    let LoggedIn { url, stream, mut parser, info } = login;
    core.outbox.open();
    let mut lines = Vec::new();
    let subscriptions = core.registry.announce_all(&mut lines);
    let deadline = clock::after(core.config.connect_timeout);
    if let Err(error) = write_all(&*stream, &lines, deadline) {
        core.outbox.end(TURN_PATIENCE);
        core.registry.forget_announced();
        let said = last_word(&*stream, &mut parser, deadline);
        stream.shutdown();
        core.cancel.watch(None);
        return Err(said.unwrap_or(error));
    }
    let mut life = core.life();
    if life.closing {
        core.cancel.watch(None);
        stream.shutdown();
        return Err(closed_error(life.close_cause.as_ref()));
    }
    life.epoch += 1;
    life.failure = None;
    life.hurry = false;
    life.lame_duck = false;
    let server: Arc<str> = url.to_string().into();
    life.server = Some(Arc::clone(&server));
    let link = Link {
        epoch: life.epoch,
        local: stream.local_addr(),
        peer: stream.peer_addr(),
        stream: Arc::clone(&stream),
        url: url.clone(),
    };
    life.link = Some(link.clone());
    life.status = ConnectionStatus::Connected;
    life.connected_at = Some(clock::now());
    // From here on `close` finds the stream in `life`.
    core.cancel.watch(None);
    life.pool.succeeded(&url);
    life.info = Arc::new(info);
    core.counters.connects.add(1);
    let limits = core.server_limits(&life.info);
    let dropped = core.outbox.begin(life.epoch, stream, limits);
    match number {
        None => core.emit(Some(server), ConnectionEventKind::Connected),
        Some(attempts) => {
            core.counters.reconnects.add(1);
            let downtime = life.lost_at.map_or(Duration::ZERO, clock::since);
            let kind = ConnectionEventKind::Reconnected { attempts, downtime };
            core.emit(Some(Arc::clone(&server)), kind);
            core.emit(Some(server), ConnectionEventKind::Resubscribed { subscriptions });
        }
    }
    tell_first_info(core, &mut life, &link);
    drop(life);
    core.changed.notify_all();
    if dropped > 0 {
        let text = format!(
            "{dropped} buffered messages are larger than this server accepts, \
             or have headers that it does not know"
        );
        core.exception(Error::new(ErrorKind::MaxPayload, text));
    }
    Ok((link, parser))
}

/// What the handshake's INFO said beside the login: told after the connection was.
fn tell_first_info(core: &Core, life: &mut Life, link: &Link) {
    let info = Arc::clone(&life.info);
    let changed = life.pool.accept(info.connect_urls(), link.peer);
    if !changed.is_empty() {
        let (added, removed) = (changed.added, changed.removed);
        let kind = ConnectionEventKind::DiscoveredServers { added, removed };
        core.emit(life.server.clone(), kind);
    }
    if info.lame_duck() {
        life.lame_duck = true;
        core.emit(life.server.clone(), ConnectionEventKind::LameDuck);
    }
}

/// The connection is lost, or closed: takes it down. Returns the cause, and whether it was the
/// last.
fn tear_down(core: &Core, link: &Link, noticed: Error) -> (Error, bool) {
    link.stream.shutdown();
    // Whatever is requested from here on is kept for the next connection.
    let mark = core.requests.mark();
    let (cause, closing, last) = {
        let mut life = core.life();
        // From here on there is no connection that could fail once more.
        life.link = None;
        let cause = main_cause(life.failure.take(), noticed);
        let closing = life.closing;
        let last = closing || life.drain.is_some() || !core.config.reconnect;
        // With the status: whoever sees the loss gets what is said of publishing while down.
        core.outbox.suspend();
        life.lost_at = Some(clock::now());
        if !closing {
            tell_loss(core, &mut life, &cause);
            // A drain gives up for the loss and closes; the loss is the cause all the same.
            if last {
                life.closing = true;
                life.close_cause = Some(cause.clone());
            }
        }
        (cause, closing, last)
    };
    core.changed.notify_all();
    let remains = core.outbox.end(TURN_PATIENCE);
    core.registry.forget_announced();
    let text = format!("the connection to {} was lost: {cause}", link.url);
    let lost = Error::caused_by(ErrorKind::Disconnected, text, cause.clone());
    for pong in remains.pongs {
        pong.complete(Err(if closing { closed_error(None) } else { lost.clone() }));
    }
    if core.config.fail_requests_on_disconnect {
        core.requests.fail_before(mark, &lost);
    }
    (cause, last)
}

/// The loss of a connection that nobody closed: its cause, its events, and the outage that begins.
fn tell_loss(core: &Core, life: &mut Life, cause: &Error) {
    let forced = cause.kind() == ErrorKind::ForcedReconnect;
    // The cause is told before the loss; an `-ERR` and a protocol fault have been told already.
    let told = forced || cause.server_error().is_some() || cause.kind() == ErrorKind::Protocol;
    if !told {
        core.notice(ErrorNotice::Exception(cause.clone()));
    }
    core.counters.disconnects.add(1);
    life.last_error = Some(cause.clone());
    life.status = ConnectionStatus::Reconnecting;
    if forced {
        core.emit(life.server.clone(), ConnectionEventKind::ForcedReconnect);
    }
    let kind = ConnectionEventKind::Disconnected { cause: cause.clone() };
    core.emit(life.server.clone(), kind);
    let lasted = life.connected_at.map_or(Duration::ZERO, clock::since);
    let at_once = life.losses.lost(lasted, forced, core.config.reconnect_wait);
    let random = &mut life.random;
    life.pool.begin_outage(at_once, &mut || random.draw());
}

/// Of what was reported and what the reader saw, the cause: our own decision first, then what the
/// server said, then the first report, then the end of the stream.
fn main_cause(reported: Option<Error>, noticed: Error) -> Error {
    match reported {
        None => noticed,
        Some(reported) => {
            let decided = matches!(
                reported.kind(),
                ErrorKind::ForcedReconnect
                    | ErrorKind::StaleConnection
                    | ErrorKind::WriteTimeout
                    | ErrorKind::Closed
            );
            let said = noticed.server_error().is_some() || noticed.kind() == ErrorKind::Protocol;
            if said && !decided { noticed } else { reported }
        }
    }
}

/// The end of everything: whoever waits is told, `Closed` is queued, and no event after it.
pub(super) fn finish(core: &Core, cause: Option<Error>) {
    let (cause, drain, link) = {
        let mut life = core.life();
        if !life.closing {
            life.closing = true;
            life.close_cause = cause;
        }
        (life.close_cause.clone(), life.drain.clone(), life.link.take())
    };
    // Only a fault of ours leaves a link behind.
    if let Some(link) = link {
        link.stream.shutdown();
    }
    core.outbox.close();
    let remains = core.outbox.end(Duration::ZERO);
    core.outbox.finish();
    for pong in remains.pongs {
        pong.complete(Err(closed_error(cause.as_ref())));
    }
    core.requests.end(&closed_error(cause.as_ref()));
    let end = End::Closed(cause.clone());
    for subscriber in core.registry.end_all(end.clone()) {
        match subscriber.target() {
            // What has arrived stays readable; a handler is not called any more.
            Target::Pull(mailbox) => end_inbox(mailbox, end.clone(), Rest::Keep { until: 0 }),
            Target::Dispatch(_) | Target::Requests => {}
        }
    }
    core.end_dispatchers(&end);
    {
        let mut life = core.life();
        life.status = ConnectionStatus::Closed;
        core.emit(life.server.clone(), ConnectionEventKind::Closed { cause: cause.clone() });
    }
    core.changed.notify_all();
    if let Some(drain) = drain {
        // If the drain itself ended the connection, its outcome follows from its own thread.
        if let Some(cause) = cause {
            let text = format!("the connection was lost while it drained: {cause}");
            drain.complete(Err(Error::caused_by(ErrorKind::Disconnected, text, cause)));
        }
    }
}
