//! Watches a run: whatever ends it before its time is told here, by any thread.
//!
//! The first fault decides, but a thread that meets a failure often meets only what follows from
//! the loss of a connection: for a moment the loss itself, a refusal or a signal may take its
//! place. What had been done until then is read at that moment, not when the last thread has ended.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::{
    Connection, ConnectionEventKind, ErrorKind, ErrorNotice, OptionsBuilder, WeakConnection,
};

use crate::Failure;

/// A run in which nothing happens for so long has lost its connection or its messages.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// How often those who wait look whether the run has ended.
pub(crate) const STEP: Duration = Duration::from_millis(50);
/// What stands behind a failure is told within this time.
const GRACE: Duration = Duration::from_secs(1);
/// After an end the threads may finish by themselves for so long; then connections are closed.
const LEAVE: Duration = Duration::from_millis(500);

/// Why a run ends before its time.
pub(crate) enum Fault {
    /// A signal.
    Interrupted,
    /// The server's words about a message or a subscription.
    Refused(String),
    /// A connection has ended.
    Lost(String),
    /// Nothing has happened for so long.
    Silent,
    /// What a thread of the run met.
    Met(String),
}

impl Fault {
    /// What an error of a call says about the run.
    pub(crate) fn of(error: &Failure) -> Self {
        let stalled = error.downcast_ref::<nats_blocking::Error>().is_some_and(|error| {
            matches!(error.kind(), ErrorKind::OutboxFull | ErrorKind::Timeout)
        });
        let before = if stalled { "the server takes nothing any more: " } else { "" };
        Self::Met(format!("{before}{error}"))
    }

    fn text(&self, silence: &str) -> String {
        match self {
            Self::Interrupted => "interrupted by a signal".to_owned(),
            Self::Refused(words) => format!("the server refused: {words}"),
            Self::Lost(cause) => format!("the server was lost: {cause}"),
            Self::Silent => silence.to_owned(),
            Self::Met(text) => text.clone(),
        }
    }
}

/// How a run ended before its time, and what it had done until then.
pub(crate) struct Ending {
    pub(crate) text: String,
    /// When the last operation was seen to be done: to a hundredth of the run's time.
    pub(crate) last: Instant,
    pub(crate) done: u64,
}

enum Word {
    Begin,
    Fault(Fault),
    Over,
}

/// What threads and listeners have of the watch.
#[derive(Clone)]
pub(crate) struct Bell {
    words: Sender<Word>,
    ended: Arc<AtomicBool>,
    connections: Arc<Mutex<Vec<WeakConnection>>>,
}

impl Bell {
    /// Ends the run.
    pub(crate) fn tell(&self, fault: Fault) {
        self.ended.store(true, Ordering::Relaxed);
        // After the end of the watch nobody needs to know.
        let _ = self.words.send(Word::Fault(fault));
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// For steps before the measurement: an error once the run has ended.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        if self.has_ended() { Err("the run has ended".into()) } else { Ok(()) }
    }

    /// Hears of what ends a connection with these options, and of what its server refuses.
    pub(crate) fn listen(&self, options: OptionsBuilder) -> OptionsBuilder {
        let (lost, refused) = (self.clone(), self.clone());
        options
            .on_closed(move |_, event| {
                let ConnectionEventKind::Closed { cause: Some(cause) } = event.kind() else {
                    return;
                };
                // One that never came about is told by the call that connects.
                if cause.kind() != ErrorKind::Connect {
                    lost.tell(Fault::Lost(cause.to_string()));
                }
            })
            .on_error(move |_, notice| match notice {
                // One that ends the connection is the cause of the loss that follows.
                ErrorNotice::ServerError(error) if !error.closes_connection() => {
                    refused.tell(Fault::Refused(error.to_string()));
                }
                _ => {}
            })
    }

    /// Closes the connection when the run ends, so that nobody waits for it.
    pub(crate) fn closes(&self, connection: &Connection) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.push(connection.downgrade());
    }

    fn close_all(&self) {
        let mut connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let connections = std::mem::take(&mut *connections);
        connections.iter().filter_map(WeakConnection::upgrade).for_each(|one| one.close());
    }
}

/// The main thread's side.
pub(crate) struct Watch {
    bell: Bell,
    ending: Receiver<Ending>,
}

impl Watch {
    /// Watches what is counted in `done`; `silence` says what does not happen.
    pub(crate) fn start(done: Arc<AtomicU64>, silence: String) -> Result<Self, Failure> {
        let (words, told) = channel();
        let (sender, ending) = channel();
        let bell = Bell {
            words,
            ended: Arc::new(AtomicBool::new(false)),
            connections: Arc::new(Mutex::new(Vec::new())),
        };
        let watcher = Watcher { bell: bell.clone(), told, done, silence };
        let body = move || {
            // Without a fault the sender is dropped: there is no ending.
            if let Some(ending) = watcher.watch() {
                let _ = sender.send(ending);
            }
        };
        thread::Builder::new().name("watch".to_owned()).spawn(body)?;
        Ok(Self { bell, ending })
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// The measurement begins: from now on silence is a fault.
    pub(crate) fn begin(&self) {
        let _ = self.bell.words.send(Word::Begin);
    }

    /// All is done, or no thread works any more; why, if the run ended before its time.
    pub(crate) fn finish(&self) -> Option<Ending> {
        let _ = self.bell.words.send(Word::Over);
        self.ending.recv().ok()
    }
}

struct Watcher {
    bell: Bell,
    told: Receiver<Word>,
    done: Arc<AtomicU64>,
    silence: String,
}

impl Watcher {
    fn watch(self) -> Option<Ending> {
        let start = Instant::now();
        let (mut begun, mut last, mut seen) = (false, start, 0);
        let fault = loop {
            // The moment of the last operation is then known to a hundredth of the time.
            let step = (start.elapsed() / 100).clamp(Duration::from_millis(1), STEP);
            let step = if begun { step } else { PATIENCE };
            let word = self.told.recv_timeout(step);
            let done = self.done.load(Ordering::Relaxed);
            if done != seen {
                (seen, last) = (done, Instant::now());
            }
            match word {
                Ok(Word::Begin) => (begun, last) = (true, Instant::now()),
                Ok(Word::Fault(fault)) => break fault,
                Ok(Word::Over) | Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => {
                    if begun && last.elapsed() >= PATIENCE {
                        self.bell.ended.store(true, Ordering::Relaxed);
                        break Fault::Silent;
                    }
                }
            }
        };
        let (fault, over) = self.cause(fault);
        // Those that wait for an answer do not end by themselves.
        if !over && !self.wait_over(LEAVE) {
            self.bell.close_all();
        }
        Some(Ending { text: fault.text(&self.silence), last, done: seen })
    }

    /// What stands behind a fault, and whether all threads have ended.
    fn cause(&self, mut fault: Fault) -> (Fault, bool) {
        let end = Instant::now() + GRACE;
        let mut over = false;
        while matches!(fault, Fault::Met(_)) {
            let left = end.saturating_duration_since(Instant::now());
            match self.told.recv_timeout(left) {
                Ok(Word::Fault(Fault::Met(_)) | Word::Begin) => {}
                Ok(Word::Fault(better)) => fault = better,
                Ok(Word::Over) => over = true,
                Err(_) => break,
            }
        }
        (fault, over)
    }

    /// Whether all threads have ended within that time.
    fn wait_over(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while let Ok(word) = self.told.recv_timeout(end.saturating_duration_since(Instant::now())) {
            if matches!(word, Word::Over) {
                return true;
            }
        }
        false
    }
}
