//! What the server has confirmed of what is published.
//!
//! A message that was published may still wait in a queue, and one that was written may be lost
//! with the server. So a flush now and then, from outside of the threads that publish, tells how
//! much has arrived for certain: that is what a run which ends before its time may claim.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::Connection;

use crate::outcome::Done;
use crate::settings::{Mode, Settings};

/// How often it is asked for.
const EVERY: Duration = Duration::from_millis(100);
/// A server that works answers within this time.
const SOON: Duration = Duration::from_secs(1);

/// For each connection the messages that its server has taken in.
pub(crate) struct Confirmed<'a> {
    connections: Vec<(&'a Connection, AtomicU64)>,
    at: Mutex<Option<Instant>>,
}

impl<'a> Confirmed<'a> {
    pub(crate) fn new(connections: &'a [Connection]) -> Self {
        let connections = connections.iter().map(|one| (one, AtomicU64::new(0))).collect();
        Self { connections, at: Mutex::new(None) }
    }

    /// Asks until the run is over.
    pub(crate) fn follow(&self, over: &AtomicBool) {
        let mut next = Instant::now() + EVERY;
        while !over.load(Ordering::Relaxed) {
            if Instant::now() >= next {
                self.ask();
                next = Instant::now() + EVERY;
            }
            // Paces: short runs are not made longer, and long ones not disturbed.
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether all connections have answered.
    fn ask(&self) -> bool {
        let mut all = true;
        for (connection, confirmed) in &self.connections {
            let published = connection.statistics().out_messages();
            if connection.flush_timeout(SOON).is_ok() {
                confirmed.store(published, Ordering::Relaxed);
            } else {
                all = false;
            }
        }
        if all {
            *self.at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        }
        all
    }

    /// Puts what is certain in the place of what was counted. `end` is when the threads had ended.
    pub(crate) fn correct(&self, done: &mut Done, settings: &Settings, end: Instant) {
        let all = self.ask();
        let (mut taken, mut refused) = (0, 0);
        for (connection, confirmed) in &self.connections {
            // A refusal is counted when it is told to the listener.
            let _ = connection.barrier(SOON);
            taken += confirmed.load(Ordering::Relaxed);
            refused += connection.statistics().errors();
        }
        if settings.mode == Mode::Pub {
            done.count = taken;
            let at = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
            done.end = if all { end } else { at.unwrap_or(done.end) };
        }
        done.count = done.count.saturating_sub(refused);
        done.bytes = Some(done.count.saturating_mul(settings.size as u64));
    }
}
