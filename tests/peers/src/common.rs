//! Pieces of workloads that every peer in Rust shares.

use std::sync::mpsc::Receiver;
use std::thread;
use std::time::{Duration, Instant};

use crate::meter::{Latencies, Meter, Outcome, resident};
use crate::plan::{Plan, Result};

/// Runs the same on so many threads and adds up what each gives.
pub fn on_threads<T: Send>(
    threads: usize,
    body: impl Fn() -> Result<T> + Sync,
    add: impl Fn(&mut T, T) -> Result<()>,
) -> Result<T> {
    thread::scope(|scope| {
        let running: Vec<_> = (1..threads).map(|_| scope.spawn(&body)).collect();
        let mut sum = body()?;
        for thread in running {
            add(&mut sum, thread.join().map_err(|_| "a thread panicked")??)?;
        }
        Ok(sum)
    })
}

/// A short batch to warm up, then batches until the time is over.
pub fn batches(plan: &Plan, mut round: impl FnMut(u64) -> Result<()>) -> Result<Outcome> {
    round(plan.subs.max(1_000) as u64)?;
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    let mut count = 0;
    while Instant::now() < end {
        round(plan.batch)?;
        count += plan.batch;
    }
    Ok(meter.finish(count))
}

/// A lone message every millisecond; the latency is the time until the other side's handler ran.
pub fn wakes(
    plan: &Plan,
    arrived: &Receiver<Instant>,
    mut publish: impl FnMut() -> Result<()>,
) -> Result<Outcome> {
    let mut latencies = Latencies::new()?;
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    while Instant::now() < end {
        // Paces: one message a millisecond is what is measured.
        thread::sleep(Duration::from_millis(1));
        let sent = Instant::now();
        publish()?;
        let at = arrived.recv_timeout(Duration::from_secs(5))?;
        latencies.record_span(at.saturating_duration_since(sent));
    }
    Ok(meter.finish_with(&latencies))
}

/// Calls `one` 500 times, or until three times the time of the cell is over: a peer that needs half
/// a second each time must not hold everybody up.
pub fn at_most(plan: &Plan, mut one: impl FnMut() -> Result<()>) -> Result<Latencies> {
    let mut latencies = Latencies::new()?;
    let end = Instant::now() + 3 * plan.time();
    for _ in 0..500 {
        let start = Instant::now();
        if start >= end {
            break;
        }
        one()?;
        latencies.record(start);
    }
    Ok(latencies)
}

/// Lets a connected client be idle, first for a moment in which it may still settle.
pub fn do_nothing(plan: &Plan) -> Outcome {
    // Paces: idle time is what is measured.
    thread::sleep(Duration::from_millis(300));
    let meter = Meter::start();
    // Paces: the same.
    thread::sleep(plan.time());
    meter.finish(1)
}

/// Bytes a message beyond its payload and one MiB for all.
pub fn backlog(plan: &Plan, before: f64) -> Result<Outcome> {
    let count = plan.batch as f64;
    let beyond = resident()? - before - count * plan.size as f64 - f64::from(1 << 20);
    Ok(Outcome::of_value(beyond / count))
}
