//! The modes: what is connected first, and what is measured then.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use nats_blocking::{Connection, Dispatcher, Options, OptionsBuilder, PendingLimits};

use crate::Failure;
use crate::credit::PATIENCE;
use crate::outcome::{Clock, Outcome};
use crate::progress::Progress;
use crate::receive;
use crate::server::TestServer;
use crate::settings::{Mode, Settings};

/// So many messages for each look at what all threads share.
pub(crate) const STRIDE: u64 = 256;

pub(crate) fn run(
    settings: &Settings,
    server: &TestServer,
    progress: &Progress,
) -> Result<Outcome, Failure> {
    match settings.mode {
        Mode::Pub => threaded(settings, server, progress, publish),
        Mode::Request => requests(settings, server, progress),
        Mode::Flush => threaded(settings, server, progress, flush),
        Mode::Wake => wake(settings, server, progress),
        Mode::Connect => connects(settings, server, progress),
        Mode::Sub | Mode::PubSub | Mode::Fanout => receive::run(settings, server, progress),
    }
}

/// Options that end a run with an error when the server goes, in place of waiting for another.
pub(crate) fn options(server: &TestServer) -> OptionsBuilder {
    Options::builder()
        .server(&server.url)
        .name("bench")
        .no_reconnect()
        .pending_limits(PendingLimits::UNLIMITED)
}

/// A connection to a server that accepts messages of that size.
pub(crate) fn connect(settings: &Settings, server: &TestServer) -> Result<Connection, Failure> {
    let connection = options(server).connect()?;
    settings.check_size(connection.max_payload())?;
    Ok(connection)
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
type Share<'a> = (&'a Connection, u64, &'a mut Histogram<u64>, &'a AtomicU64);

/// Connects, then runs `body` on every thread of every connection.
fn threaded(
    settings: &Settings,
    server: &TestServer,
    progress: &Progress,
    body: impl Fn(&Settings, Share<'_>) -> Result<(), Failure> + Sync,
) -> Result<Outcome, Failure> {
    let connections: Vec<Connection> =
        (0..settings.connections).map(|_| connect(settings, server)).collect::<Result<_, _>>()?;
    let counter = progress.counter();
    let threads = settings.connections * settings.threads;
    let work = |index: usize, connection: &Connection| {
        let mut latencies = histogram()?;
        let share = settings.share(index, threads);
        let ended = body(settings, (connection, share, &mut latencies, &counter));
        Ok((latencies, ended.err()))
    };
    let clock = Clock::start();
    let (mut all, mut error) = (histogram()?, None);
    thread::scope(|scope| -> Result<(), Failure> {
        let mut running = Vec::new();
        for (index, connection) in connections.iter().cycle().take(threads).enumerate() {
            let named = thread::Builder::new().name(format!("bench-{index}"));
            running.push(named.spawn_scoped(scope, move || work(index, connection))?);
        }
        for thread in running {
            let part: Result<_, Failure> = thread.join().map_err(|_| "a thread panicked")?;
            let (latencies, ended) = part?;
            all.add(&latencies)?;
            error = error.take().or(ended);
        }
        Ok(())
    })?;
    Ok(clock.stop(settings, progress.done(), Some(all), error))
}

fn publish(settings: &Settings, (connection, share, _, done): Share<'_>) -> Result<(), Failure> {
    let payload = payload(settings);
    let mut left = share;
    while left > 0 {
        let stride = left.min(STRIDE);
        for _ in 0..stride {
            connection.publish(&settings.subject, &payload)?;
        }
        done.fetch_add(stride, Ordering::Relaxed);
        left -= stride;
    }
    Ok(connection.flush()?)
}

fn flush(
    settings: &Settings,
    (connection, share, latencies, done): Share<'_>,
) -> Result<(), Failure> {
    let payload = payload(settings);
    for _ in 0..share {
        let start = Instant::now();
        connection.publish(&settings.subject, &payload)?;
        connection.flush()?;
        record(latencies, start.elapsed());
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn requests(
    settings: &Settings,
    server: &TestServer,
    progress: &Progress,
) -> Result<Outcome, Failure> {
    // Who answers lives as long as the measurement.
    let _responder = responder(settings, server)?;
    threaded(settings, server, progress, ask)
}

fn responder(
    settings: &Settings,
    server: &TestServer,
) -> Result<(Connection, Dispatcher), Failure> {
    let connection = connect(settings, server)?;
    let dispatcher = connection.dispatcher(|connection, message| {
        // Whoever asked is told by its own connection when this one has ended.
        let _ = connection.respond(&message, message.payload());
    })?;
    dispatcher.subscribe(&settings.subject)?;
    connection.flush()?;
    Ok((connection, dispatcher))
}

fn ask(
    settings: &Settings,
    (connection, share, latencies, done): Share<'_>,
) -> Result<(), Failure> {
    let payload = payload(settings);
    let mut under_way = VecDeque::new();
    let mut sent = 0;
    for _ in 0..share {
        while sent < share && under_way.len() < settings.pipeline {
            let start = Instant::now();
            if settings.pipeline == 1 {
                connection.request(&settings.subject, &payload, PATIENCE)?;
                record(latencies, start.elapsed());
                sent += 1;
                break;
            }
            under_way.push_back((start, connection.send_request(&settings.subject, &payload)?));
            sent += 1;
        }
        if let Some((start, reply)) = under_way.pop_front() {
            reply.wait(PATIENCE)?;
            record(latencies, start.elapsed());
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn wake(settings: &Settings, server: &TestServer, progress: &Progress) -> Result<Outcome, Failure> {
    let (publisher, receiver) = (connect(settings, server)?, connect(settings, server)?);
    let (sender, arrived) = channel();
    let dispatcher = receiver.dispatcher(move |_, _| {
        let _ = sender.send(Instant::now());
    })?;
    dispatcher.subscribe(&settings.subject)?;
    receiver.flush()?;
    let (payload, counter) = (payload(settings), progress.counter());
    let mut latencies = histogram()?;
    let clock = Clock::start();
    let mut one = || -> Result<(), Failure> {
        // Paces: one message a millisecond is what is measured.
        thread::sleep(Duration::from_millis(1));
        let sent = Instant::now();
        publisher.publish(&settings.subject, &payload)?;
        let at = arrived.recv_timeout(PATIENCE)?;
        record(&mut latencies, at.saturating_duration_since(sent));
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let error = (0..settings.count).find_map(|_| one().err());
    Ok(clock.stop(settings, progress.done(), Some(latencies), error))
}

fn connects(
    settings: &Settings,
    server: &TestServer,
    progress: &Progress,
) -> Result<Outcome, Failure> {
    // A server that is not there is an error before the start.
    options(server).connect()?.close();
    let counter = progress.counter();
    let mut latencies = histogram()?;
    let clock = Clock::start();
    let mut one = || -> Result<(), Failure> {
        let start = Instant::now();
        options(server).connect()?.close();
        record(&mut latencies, start.elapsed());
        counter.fetch_add(1, Ordering::Relaxed);
        Ok(())
    };
    let error = (0..settings.count).find_map(|_| one().err());
    Ok(clock.stop(settings, progress.done(), Some(latencies), error))
}
