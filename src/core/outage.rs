//! The time without a server: which one is tried next, the pauses between, and the attempts.
//!
//! Runs on the reader thread, as plain sequential code.

use std::time::{Duration, Instant};

use super::attempt::attempt;
use super::handover::go_live;
use super::life::Link;
use super::notice::ConnectionEventKind;
use super::servers::{Next, Pause};
use super::shared::{Core, closed_error};
use crate::error::{ConnectAttempt, Error, ErrorKind};
use crate::protocol::Parser;
use crate::sync::{Arc, assert_unlocked};

/// One pass over the configured servers.
pub(super) fn first_connect(core: &Core) -> Result<(Link, Parser), Error> {
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
pub(super) fn reconnect(core: &Core) -> Result<(Link, Parser), Error> {
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
    // A fresh jitter for each wait; a jitter of zero is none.
    let jitter = Duration::from_nanos(match u64::try_from(most.as_nanos()).unwrap_or(u64::MAX) {
        0 => 0,
        nanos => life.random.draw() % nanos,
    });
    let wait = match pause {
        Pause::None => Duration::ZERO,
        Pause::Jitter => jitter,
        Pause::WaitAndJitter => config.reconnect_wait.saturating_add(jitter),
    };
    let deadline = Instant::now().checked_add(wait);
    while !life.closing && !life.hurry && deadline.is_none_or(|deadline| Instant::now() < deadline)
    {
        core.changed.wait_until(&mut life, deadline);
    }
    life.hurry = false;
    if life.closing { Err(closed_error(life.close_cause.as_ref())) } else { Ok(()) }
}
