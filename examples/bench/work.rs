//! The modes: what is connected first, and what is measured then.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nats_blocking::{Connection, Dispatcher, Options, OptionsBuilder, PendingLimits};

use crate::Failure;
use crate::confirm::Confirmed;
use crate::outcome::{Clock, Done, Outcome};
use crate::progress::Progress;
use crate::receive;
use crate::server::TestServer;
use crate::settings::{Mode, Settings};
use crate::watch::{Bell, Fault, PATIENCE, STEP, Watch};

/// So many messages, or so many bytes, for each look at what all threads share.
const STRIDE: u64 = 256;
const STRIDE_BYTES: u64 = 16 * 1024 * 1024;

/// What every mode works with.
pub(crate) struct Run<'a> {
    pub(crate) settings: &'a Settings,
    pub(crate) server: &'a TestServer,
    pub(crate) progress: &'a Progress,
    pub(crate) watch: &'a Watch,
}

impl Run<'_> {
    /// Everything up to now; or what had been done when the run ended, and why.
    pub(crate) fn finish(&self, latencies: Option<Histogram<u64>>) -> Done {
        let now = Instant::now();
        let ending = self.watch.finish();
        let (count, end, error) = match ending {
            None => (self.progress.done(), now, None),
            Some(ending) => (ending.done, ending.last, Some(ending.text)),
        };
        let count = count.min(self.settings.total());
        let has_payload = self.settings.mode != Mode::Connect;
        let bytes = has_payload.then(|| count.saturating_mul(self.settings.size as u64));
        Done { count, before: 0, bytes, end, latencies, error }
    }
}

pub(crate) fn run(run: &Run<'_>) -> Result<Outcome, Failure> {
    match run.settings.mode {
        Mode::Pub => threaded(run, publish),
        Mode::Request => requests(run),
        Mode::Flush => threaded(run, flush),
        Mode::Wake => wake(run),
        Mode::Connect => connects(run),
        Mode::Sub | Mode::PubSub | Mode::Fanout => receive::run(run),
    }
}

/// Options that end a run with an error when the server goes, in place of waiting for another.
fn options(server: &TestServer) -> OptionsBuilder {
    Options::builder()
        .server(&server.url)
        .name("bench")
        .no_reconnect()
        .pending_limits(PendingLimits::UNLIMITED)
}

/// A watched connection to a server that accepts messages of that size.
pub(crate) fn connect(run: &Run<'_>) -> Result<Connection, Failure> {
    let bell = run.watch.bell();
    bell.check()?;
    let connection = bell.listen(options(run.server)).connect()?;
    bell.closes(&connection);
    run.server.meet(&connection);
    run.settings.check_size(connection.max_payload())?;
    Ok(connection)
}

/// Waits until the server has what was asked of it, and says what it refused.
pub(crate) fn settled(connection: &Connection) -> Result<(), Failure> {
    connection.flush()?;
    match connection.last_error() {
        Some(error) => Err(format!("the server refused: {error}").into()),
        None => Ok(()),
    }
}

pub(crate) fn payload(settings: &Settings) -> Vec<u8> {
    vec![b'x'; settings.size]
}

pub(crate) fn histogram() -> Result<Histogram<u64>, Failure> {
    Ok(Histogram::new(3)?)
}

pub(crate) fn record(latencies: &mut Histogram<u64>, span: Duration) {
    // It grows with what it is given: no span is out of range.
    let _ = latencies.record(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX));
}

/// What one thread does: its share of the count, its latencies, and the count of all.
struct Share<'a> {
    connection: &'a Connection,
    count: u64,
    latencies: &'a mut Histogram<u64>,
    done: &'a AtomicU64,
    bell: &'a Bell,
}

/// Connects, then runs `body` on every thread of every connection.
fn threaded(
    run: &Run<'_>,
    body: impl Fn(&Settings, Share<'_>) -> Result<(), Failure> + Sync,
) -> Result<Outcome, Failure> {
    let (settings, bell) = (run.settings, run.watch.bell());
    let connections: Vec<Connection> =
        (0..settings.connections).map(|_| connect(run)).collect::<Result<_, _>>()?;
    let counter = run.progress.counter();
    let threads = settings.connections * settings.threads;
    let work = |index: usize, connection: &Connection| -> Result<Histogram<u64>, Failure> {
        let mut latencies = histogram()?;
        let count = settings.share(index, threads);
        let share = Share { connection, count, latencies: &mut latencies, done: &counter, bell };
        if let Err(error) = body(settings, share) {
            bell.tell(Fault::of(&error));
        }
        Ok(latencies)
    };
    let (work, confirmed, over) = (&work, Confirmed::new(&connections), AtomicBool::new(false));
    let mut all = histogram()?;
    let clock = Clock::start();
    run.watch.begin();
    let end = thread::scope(|scope| -> Result<Instant, Failure> {
        if settings.mode == Mode::Pub {
            let named = thread::Builder::new().name("confirm".to_owned());
            named.spawn_scoped(scope, || confirmed.follow(&over))?;
        }
        let mut running = Vec::new();
        for (index, connection) in connections.iter().cycle().take(threads).enumerate() {
            let named = thread::Builder::new().name(format!("bench-{index}"));
            match named.spawn_scoped(scope, move || work(index, connection)) {
                Ok(thread) => running.push(thread),
                Err(error) => {
                    bell.tell(Fault::Met(format!("thread {index} cannot start: {error}")));
                    break;
                }
            }
        }
        let parts: Vec<_> = running.into_iter().map(thread::ScopedJoinHandle::join).collect();
        let end = Instant::now();
        over.store(true, Ordering::Relaxed);
        for part in parts {
            all.add(&part.map_err(|_| "a thread panicked")??)?;
        }
        Ok(end)
    })?;
    connections.iter().for_each(|connection| tell_refusal(connection, bell));
    let mut done = run.finish(Some(all));
    if done.error.is_none() {
        done.end = end;
    } else if settings.mode != Mode::Request {
        confirmed.correct(&mut done, settings, end);
    }
    Ok(clock.stop(settings, run.server, done))
}

/// A refusal comes before the answer to a flush, whether or not its listener has run.
fn tell_refusal(connection: &Connection, bell: &Bell) {
    let last = connection.last_error();
    if let Some(error) = last.as_ref().and_then(nats_blocking::Error::server_error) {
        if !error.closes_connection() {
            bell.tell(Fault::Refused(error.to_string()));
        }
    }
}

fn publish(settings: &Settings, share: Share<'_>) -> Result<(), Failure> {
    let payload = payload(settings);
    let connection = share.connection;
    let most = (STRIDE_BYTES / (settings.size as u64).max(1)).clamp(1, STRIDE);
    let mut left = share.count;
    while left > 0 && !share.bell.has_ended() {
        let stride = left.min(most);
        for _ in 0..stride {
            connection.publish(&settings.subject, &payload)?;
        }
        share.done.fetch_add(stride, Ordering::Relaxed);
        left -= stride;
    }
    Ok(connection.flush()?)
}

fn flush(settings: &Settings, share: Share<'_>) -> Result<(), Failure> {
    let payload = payload(settings);
    for _ in 0..share.count {
        if share.bell.has_ended() {
            break;
        }
        let start = Instant::now();
        share.connection.publish(&settings.subject, &payload)?;
        share.connection.flush()?;
        record(share.latencies, start.elapsed());
        share.done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn requests(run: &Run<'_>) -> Result<Outcome, Failure> {
    // Who answers lives as long as the measurement.
    let _responder = responder(run)?;
    threaded(run, ask)
}

fn responder(run: &Run<'_>) -> Result<(Connection, Dispatcher), Failure> {
    let connection = connect(run)?;
    let dispatcher = connection.dispatcher(|connection, message| {
        // Whoever asked is told by its own connection when this one has ended.
        let _ = connection.respond(&message, message.payload());
    })?;
    dispatcher.subscribe(&run.settings.subject)?;
    settled(&connection)?;
    Ok((connection, dispatcher))
}

fn ask(settings: &Settings, share: Share<'_>) -> Result<(), Failure> {
    let connection = share.connection;
    let payload = payload(settings);
    let mut under_way = VecDeque::new();
    let mut sent = 0;
    for _ in 0..share.count {
        if share.bell.has_ended() {
            break;
        }
        while sent < share.count && under_way.len() < settings.pipeline {
            let start = Instant::now();
            if settings.pipeline == 1 {
                connection.request(&settings.subject, &payload, PATIENCE).map_err(unanswered)?;
                record(share.latencies, start.elapsed());
                sent += 1;
                break;
            }
            under_way.push_back((start, connection.send_request(&settings.subject, &payload)?));
            sent += 1;
        }
        if let Some((start, reply)) = under_way.pop_front() {
            reply.wait(PATIENCE).map_err(unanswered)?;
            record(share.latencies, start.elapsed());
        }
        share.done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn unanswered(error: nats_blocking::Error) -> Failure {
    if !error.is_timeout() {
        return error.into();
    }
    format!("nothing arrived for {PATIENCE:?} in answer to a request").into()
}

fn wake(run: &Run<'_>) -> Result<Outcome, Failure> {
    let (settings, bell) = (run.settings, run.watch.bell());
    let (publisher, receiver) = (connect(run)?, connect(run)?);
    let (sender, arrived): (Sender<Instant>, _) = channel();
    let dispatcher = receiver.dispatcher(move |_, _| {
        let _ = sender.send(Instant::now());
    })?;
    dispatcher.subscribe(&settings.subject)?;
    settled(&receiver)?;
    let (payload, counter) = (payload(settings), run.progress.counter());
    let mut latencies = histogram()?;
    let clock = Clock::start();
    run.watch.begin();
    let mut one = || -> Result<(), Failure> {
        // Paces: one message a millisecond is what is measured.
        thread::sleep(Duration::from_millis(1));
        alone(settings, &arrived)?;
        let sent = Instant::now();
        publisher.publish(&settings.subject, &payload)?;
        let at = loop {
            match arrived.recv_timeout(STEP) {
                Err(RecvTimeoutError::Timeout) => bell.check()?,
                answer => break answer?,
            }
        };
        record(&mut latencies, at.saturating_duration_since(sent));
        counter.fetch_add(1, Ordering::Relaxed);
        bell.check()
    };
    let mut error = (0..settings.count).find_map(|_| one().err());
    if error.is_none() {
        // What the server has sent beyond ours arrives before the answer to a flush.
        let flushed = receiver.flush().and_then(|()| receiver.barrier(PATIENCE));
        error = flushed.map_err(Failure::from).and_then(|()| alone(settings, &arrived)).err();
    }
    if let Some(error) = error {
        bell.tell(Fault::of(&error));
    }
    let done = run.finish(Some(latencies));
    Ok(clock.stop(settings, run.server, done))
}

/// Nothing arrives but what was waited for.
fn alone(settings: &Settings, arrived: &Receiver<Instant>) -> Result<(), Failure> {
    if arrived.try_recv().is_err() {
        return Ok(());
    }
    let subject = &settings.subject;
    Err(format!("more arrived on '{subject}' than was published here: others publish to it").into())
}

fn connects(run: &Run<'_>) -> Result<Outcome, Failure> {
    let bell = run.watch.bell();
    // A server that is not there is an error before the start.
    connect(run)?.close();
    let counter = run.progress.counter();
    let mut latencies = histogram()?;
    let clock = Clock::start();
    run.watch.begin();
    let mut one = || -> Result<(), Failure> {
        bell.check()?;
        let start = Instant::now();
        options(run.server).connect()?.close();
        record(&mut latencies, start.elapsed());
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    if let Some(error) = (0..run.settings.count).find_map(|_| one().err()) {
        bell.tell(Fault::Met(format!("cannot connect any more: {error}")));
    }
    let done = run.finish(Some(latencies));
    Ok(clock.stop(run.settings, run.server, done))
}
