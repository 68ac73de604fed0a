//! The bar that a person sees while a long run lasts; nothing where no person watches.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

const WIDTH: usize = 40;
const STEP: Duration = Duration::from_millis(200);

/// How far the run is.
pub(crate) struct Progress {
    done: Arc<AtomicU64>,
    bar: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Progress {
    pub(crate) fn new(total: u64) -> Self {
        let done = Arc::new(AtomicU64::new(0));
        let watched = stderr().is_terminal() && stdout().is_terminal();
        let bar = if watched { draw(total, Arc::clone(&done)) } else { None };
        Self { done, bar }
    }

    /// What threads count in.
    pub(crate) fn counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.done)
    }

    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Takes the bar away.
    pub(crate) fn finish(self) {
        if let Some((stop, thread)) = self.bar {
            drop(stop);
            let _ = thread.join();
        }
    }
}

fn draw(total: u64, done: Arc<AtomicU64>) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = channel();
    let body = move || {
        let mut shown = false;
        while stopped.recv_timeout(STEP) == Err(RecvTimeoutError::Timeout) {
            let done = done.load(Ordering::Relaxed).min(total);
            let part = done as f64 / total.max(1) as f64;
            let filled = (WIDTH as f64 * part) as usize;
            let bar = "#".repeat(filled) + &".".repeat(WIDTH.saturating_sub(filled));
            let percent = (100.0 * part) as u64;
            let _ = write!(stderr(), "\r[{bar}] {percent:3} %").and_then(|()| stderr().flush());
            shown = true;
        }
        if shown {
            let _ = write!(stderr(), "\r{:width$}\r", "", width = WIDTH + 8);
        }
    };
    let thread = thread::Builder::new().name("progress".to_owned()).spawn(body).ok()?;
    Some((stop, thread))
}
