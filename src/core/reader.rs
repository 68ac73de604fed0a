//! The reading thread and only owner of the life cycle, as plain sequential code:
//!
//! ```text
//!  first connect ──no server left──▶ end
//!        │
//!        ▼
//!    hand over ──▶ receive ──▶ tear down ──closing, or no reconnect──▶ end
//!        ▲                         │
//!        └──────── outage ◀────────┘  (until no server is left)
//! ```
//!
//! Every move is made with `life` locked, and its event is queued under the same lock. The attempts
//! and their pauses are in `outage.rs`, what follows a login in `handover.rs`.

use std::time::Duration;

use super::handover::TURN_PATIENCE;
use super::life::{ConnectionStatus, Life, Link};
use super::notice::{ConnectionEventKind, ErrorNotice};
use super::outage::{first_connect, reconnect};
use super::receive::receive;
use super::shared::{Core, closed_error};
use crate::clock;
use crate::error::{Error, ErrorKind};
use crate::subscriptions::{EndReason, Rest};
use crate::sync::{Arc, guarded};

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

/// The connection is lost, or closed: takes it down. Returns the cause, and whether it was the
/// last.
fn tear_down(core: &Core, link: &Link, noticed: Error) -> (Error, bool) {
    // A stream over TLS takes bytes that can go nowhere: it must not be given any more.
    core.outbox.mark_broken(link.epoch);
    link.stream.shutdown();
    // Whatever is requested from here on is kept for the next connection.
    let mark = core.requests.mark();
    let (cause, closing, last, mark) = {
        let mut life = core.life();
        let mark = life.leaving.take().unwrap_or(mark);
        // From here on there is no connection that could fail once more.
        life.link = None;
        let cause = main_cause(life.failure.take(), noticed);
        let closing = life.closing;
        let last = closing || life.drain.is_some() || !core.config.reconnect;
        // With the status: whoever sees the loss gets what is said of publishing while down.
        core.outbox.suspend();
        life.lost_at = Some(clock::now());
        if closing && core.config.disconnected_on_close {
            let kind = ConnectionEventKind::Disconnected { cause: closed_error(None) };
            core.emit(life.server.clone(), kind);
        }
        if !closing {
            tell_loss(core, &mut life, &cause);
            // A drain gives up for the loss and closes; the loss is the cause all the same.
            if last {
                life.closing = true;
                life.close_cause = Some(cause.clone());
            }
        }
        (cause, closing, last, mark)
    };
    core.count_panic(&cause);
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
    let left = cause.kind() == ErrorKind::LameDuck;
    // The cause is told before the loss; an `-ERR` and a protocol fault have been told already.
    let told =
        forced || left || cause.server_error().is_some() || cause.kind() == ErrorKind::Protocol;
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
    let hold = if at_once {
        (core.config.wait_before_reconnect && !forced).then_some(0)
    } else {
        // The losses count as a full pass.
        Some(1)
    };
    life.pool.begin_outage(hold, &mut || random.draw());
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
    let end = EndReason::Closed(cause.clone());
    // Before any queue ends: its thread may tell the end of its subscriptions at once.
    core.hooks.begin_end(&end);
    for subscriber in core.registry.end_all(end.clone()) {
        // What has arrived stays readable; a handler is not called any more.
        subscriber.end_queue(end.clone(), Rest::Keep { until: 0 });
    }
    // Before what waits is thrown away.
    core.give_up_barriers();
    core.end_dispatchers(&end);
    // All of them before `Closed`, and so before a handler that is still running returns.
    drop(core.hooks.finish_all(&end, &core.hub));
    {
        let mut life = core.life();
        life.status = ConnectionStatus::Closed;
        core.emit(life.server.clone(), ConnectionEventKind::Closed { cause: cause.clone() });
    }
    core.changed.notify_all();
    drop_deciders(core);
    core.preparing.forget();
    core.connecting.forget();
    core.asking.forget();
    if let Some(drain) = drain {
        // If the drain itself ended the connection, its outcome follows from its own thread.
        if let Some(cause) = cause {
            let text = format!("the connection was lost while it drained: {cause}");
            drain.complete(Err(Error::caused_by(ErrorKind::Disconnected, text, cause)));
        }
    }
}

/// The callbacks may hold handles of this very connection: without them no circle is left. They are
/// the program's code, also when they are dropped.
fn drop_deciders(core: &Core) {
    let deciders = std::mem::take(&mut *core.deciders.lock());
    if !guarded(move || drop(deciders)) {
        core.counters.panics.add(1);
    }
}
