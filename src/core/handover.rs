//! From a login to a connection in use: announces the subscriptions, hands the stream over to who
//! writes, and tells that the connection is there.
//!
//! Runs on the reader thread. The move is made with `life` locked, and its events are queued under
//! the same lock.

use std::time::{Duration, Instant};

use super::attempt::{LoggedIn, attempt_deadline, last_word, write_all};
use super::life::{ConnectionStatus, Life, Link};
use super::notice::ConnectionEventKind;
use super::shared::{Core, closed_error};
use crate::clock;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::Parser;
use crate::sync::Arc;
use crate::trace::{Trace, TraceStepKind};
use crate::transport::Stream;

/// How long whoever ends a connection waits for a write to notice that its stream is shut down.
pub(super) const TURN_PATIENCE: Duration = Duration::from_secs(5);

/// The epoch of the first connection, whenever it came.
const FIRST_EPOCH: u64 = 1;

/// Announces the subscriptions and hands the stream over. `number` is that of the attempt, `until`
/// the deadline of a first connect that has one.
pub(super) fn go_live(
    core: &Core,
    login: LoggedIn,
    number: u32,
    until: Option<Instant>,
    trace: &Trace<'_>,
) -> Result<(Link, Parser)> {
    let LoggedIn { url, stream, tls, mut parser, info } = login;
    let subscriptions = announce(core, &*stream, &mut parser, until)?;
    trace.step(|| TraceStepKind::SubscriptionsWritten { subscriptions });
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
    life.leaving = None;
    let server: Arc<str> = url.to_string().into();
    life.server = Some(Arc::clone(&server));
    let link = Link {
        epoch: life.epoch,
        local: stream.local_addr(),
        peer: stream.peer_addr(),
        stream: Arc::clone(&stream),
        url: url.clone(),
        tls,
    };
    life.link = Some(link.clone());
    life.status = ConnectionStatus::Connected;
    life.connected_at = Some(clock::now());
    // From here on `close` finds the stream in `life`.
    core.cancel.watch(None);
    life.pool.succeeded(&if tls { url.over_tls() } else { url });
    life.info = Arc::new(info);
    core.counters.connects.add(1);
    let limits = core.server_limits(&life.info);
    let dropped = core.outbox.begin(life.epoch, stream, limits);
    if link.epoch == FIRST_EPOCH {
        core.emit(Some(server), ConnectionEventKind::Connected);
    } else {
        core.counters.reconnects.add(1);
        let downtime = life.lost_at.map_or(Duration::ZERO, clock::since);
        let kind = ConnectionEventKind::Reconnected { attempts: number, downtime };
        core.emit(Some(Arc::clone(&server)), kind);
        core.emit(Some(server), ConnectionEventKind::Resubscribed { subscriptions });
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

/// Writes the subscriptions, before anything else may be. If that fails, what the server said is
/// why.
fn announce(
    core: &Core,
    stream: &dyn Stream,
    parser: &mut Parser,
    until: Option<Instant>,
) -> Result<usize> {
    core.outbox.open();
    let mut lines = Vec::new();
    let subscriptions = core.registry.announce_all(&mut lines);
    let deadline = attempt_deadline(core, until);
    if let Err(error) = write_all(stream, &lines, deadline) {
        core.outbox.end(TURN_PATIENCE);
        core.registry.forget_announced();
        let said = last_word(core, stream, parser, deadline);
        stream.shutdown();
        core.cancel.watch(None);
        return Err(said.unwrap_or(error));
    }
    Ok(subscriptions)
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
