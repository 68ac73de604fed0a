//! The time without a server, before the first connection or after a loss: which server is tried
//! next, the pauses between, and the attempts.
//!
//! Runs on the reader thread, as plain sequential code. Here alone that thread asks the program's
//! callbacks, with no lock held. A callback that panics, or names a server that is not in the pool,
//! is told to `exception_occurred`, and what would happen without it happens.

use std::time::{Duration, Instant};

use super::attempt::attempt;
use super::choice::ServerChoice;
use super::config::RetryConnect;
use super::handover::go_live;
use super::life::{Life, Link};
use super::notice::ConnectionEventKind;
use super::servers::{Next, Pause, Verdict};
use super::shared::{Core, closed_error};
use crate::clock;
use crate::error::{ConnectAttempt, Error, ErrorKind, Result};
use crate::protocol::Parser;
use crate::server_url::ServerUrl;
use crate::sync::{Arc, assert_unlocked, guarded};
use crate::trace::TraceStepKind;

/// The first connection: one pass over the configured servers, or attempts as in an outage.
pub(super) fn first_connect(core: &Core) -> Result<(Link, Parser)> {
    let until = match core.config.retry_connect {
        None => return one_pass(core),
        Some(RetryConnect::Within(limit)) => Some(clock::after(limit)),
        Some(RetryConnect::InBackground) => None,
    };
    seek(core, until)
}

/// Another connection after a loss: attempts until one succeeds, no server is left, or the
/// connection is closed.
pub(super) fn reconnect(core: &Core) -> Result<(Link, Parser)> {
    seek(core, None)
}

fn one_pass(core: &Core) -> Result<(Link, Parser)> {
    let mut failed = Vec::new();
    let servers = core.life().pool.len();
    for _ in 0..servers {
        let next = core.life().pool.next();
        let Some(Next { url, attempt: number }) = next else { break };
        match try_server(core, &url, number, None) {
            Ok(connected) => return Ok(connected),
            Err(_) if core.life().closing => break,
            Err(error) => {
                tell_failure(core, &url, &error, Verdict::Kept);
                core.life().pool.failed_first(&url, &error);
                failed.push(ConnectAttempt::new(url.to_string(), error));
            }
        }
    }
    Err(Error::connect(failed))
}

/// Attempts until one succeeds, no server is left, the connection is closed, or the deadline.
fn seek(core: &Core, until: Option<Instant>) -> Result<(Link, Parser)> {
    loop {
        let Next { url, attempt: number } = choose(core, until)?;
        let server: Arc<str> = url.to_string().into();
        core.emit(Some(Arc::clone(&server)), ConnectionEventKind::Reconnecting { attempt: number });
        match try_server(core, &url, number, until) {
            Ok(connected) => return Ok(connected),
            Err(error) => {
                let closing = core.life().closing;
                if !closing {
                    let verdict = core.life().pool.failed(&url, &error);
                    tell_failure(core, &url, &error, verdict);
                }
                let cause = if closing { Error::new(ErrorKind::Closed, "closed") } else { error };
                let kind = ConnectionEventKind::ReconnectFailed { attempt: number, cause };
                core.emit(Some(server), kind);
            }
        }
    }
}

/// One attempt, from the look-up of the host's name to the hand-over, and its trace.
fn try_server(
    core: &Core,
    url: &ServerUrl,
    number: u32,
    until: Option<Instant>,
) -> Result<(Link, Parser)> {
    let trace = core.trace(url);
    let outcome = attempt(core, url, until, &trace)
        .and_then(|login| go_live(core, login, number, until, &trace));
    if let Err(error) = &outcome {
        core.count_panic(error);
        trace.step(|| TraceStepKind::Failed { cause: error.clone() });
    }
    core.watch_panicked(trace.panics());
    outcome
}

/// Tells at which server an attempt failed and why; an `-ERR` of the server is also told as such.
fn tell_failure(core: &Core, url: &ServerUrl, error: &Error, verdict: Verdict) {
    if let Some(said) = error.server_error() {
        core.server_error(said.clone());
    }
    let left = match verdict {
        Verdict::Kept => "",
        Verdict::GivenUp => " (given up)",
        Verdict::Rests => " (given up until another server accepts the connection)",
    };
    core.exception(Error::caused_by(error.kind(), format!("{url}: {error}{left}"), error.clone()));
}

/// The next attempt, after the pause before it.
fn choose(core: &Core, until: Option<Instant>) -> Result<Next> {
    loop {
        if let Some((url, delay)) = ask_for_server(core)? {
            wait(core, delay, until)?;
            // It may have left the pool meanwhile: then the program is asked again.
            if let Some(next) = core.life().pool.take(&url) {
                return Ok(next);
            }
            continue;
        }
        let pause = {
            let mut life = core.life();
            going_on(&life)?;
            life.pool.pause()
        };
        if let Some(pause) = pause {
            let delay = length(core, pause);
            wait(core, delay, until)?;
        }
        // Chosen after the wait: the pool may be another one by now.
        let mut life = core.life();
        return match life.pool.next() {
            Some(next) => Ok(next),
            None if life.epoch == 0 => Err(life.pool.never_connected()),
            None => Err(life.pool.exhausted()),
        };
    }
}

/// The connection is not being closed, or why it is.
fn going_on(life: &Life) -> Result<()> {
    if life.closing { Err(closed_error(life.close_cause.as_ref())) } else { Ok(()) }
}

/// The server that the program chooses, and its delay; none where it leaves that to us.
fn ask_for_server(core: &Core) -> Result<Option<(ServerUrl, Duration)>> {
    let Some(select) = core.deciders.lock().select.clone() else { return Ok(None) };
    let choice = {
        let life = core.life();
        going_on(&life)?;
        ServerChoice {
            servers: life.pool.list(None),
            attempt: life.pool.next_attempt(),
            last_server: life.server.clone(),
            info: (life.epoch > 0).then(|| Arc::clone(&life.info)),
        }
    };
    if choice.servers.is_empty() {
        return Ok(None);
    }
    let Some(selected) = ask(core, "select_server", || select(&choice)).flatten() else {
        return Ok(None);
    };
    let url = selected.url().filter(|url| core.life().pool.has(url));
    if url.is_none() {
        let text = "select_server chose a server that is not in the pool";
        core.exception(Error::new(ErrorKind::Misuse, text));
    }
    Ok(url.map(|url| (url.clone(), selected.delay())))
}

/// Asks a callback of the program; none if it panicked.
fn ask<T>(core: &Core, name: &str, call: impl FnOnce() -> T) -> Option<T> {
    let mut answer = None;
    if guarded(|| answer = Some(call())) {
        return answer;
    }
    core.counters.panics.add(1);
    core.exception(Error::new(ErrorKind::UserPanic, format!("{name} panicked")));
    None
}

/// How long the pause before an attempt is.
fn length(core: &Core, pause: Pause) -> Duration {
    if let Pause::Pass(passes) = pause {
        let delay = core.deciders.lock().delay.clone();
        let answer = delay.and_then(|delay| ask(core, "reconnect_delay", || delay(passes)));
        if let Some(answer) = answer {
            return answer;
        }
    }
    let mut life = core.life();
    let config = &core.config;
    let tls = core.config.tls.wanted() || life.pool.has_tls();
    let most = if tls { config.reconnect_jitter_tls } else { config.reconnect_jitter };
    let random = &mut life.random;
    pause.length(config.reconnect_wait, most, &mut || random.draw())
}

/// Waits before the next attempt; `close` and the deadline of a first connect end the wait with an
/// error, `force_reconnect` without.
fn wait(core: &Core, delay: Duration, until: Option<Instant>) -> Result<()> {
    assert_unlocked("waiting for the next attempt");
    let over = clock::after(delay);
    let deadline = until.map_or(over, |until| until.min(over));
    let mut life = core.life();
    while !life.closing && !life.hurry && clock::now() < deadline {
        core.changed.wait_until(&mut life, Some(deadline));
    }
    life.hurry = false;
    going_on(&life)?;
    if until.is_some_and(|until| clock::now() >= until) {
        return Err(life.pool.never_connected());
    }
    Ok(())
}
