//! A service inside a plugin: the host owns `main` and the process, the plugin has a way in, a way
//! out and callbacks, and leaves no thread behind.
//!
//! ```text
//! cargo run --example plugin --features testing -- [--server URL]
//! ```
//!
//! The module `plugin` is what would be the library that the host loads; `main` is the host. It
//! starts and stops the plugin three times, asks it something, and counts the threads before, while
//! it runs and after. Without `--server` it starts a server of its own.

use std::error::Error;
use std::thread;
use std::time::{Duration, Instant};

mod support;
use support::{Arguments, say};

const PATIENCE: Duration = Duration::from_secs(5);

/// What the host would load.
mod plugin {
    use std::sync::{Mutex, MutexGuard, PoisonError};

    use nats_blocking::{Connection, Dispatcher, ErrorKind, Options, Result};

    use super::PATIENCE;

    /// What the host wants to hear; called on a thread of the plugin.
    pub(super) type Callback = fn(&str);

    struct Running {
        connection: Connection,
        /// Its handler answers; dropping it would end the service.
        _dispatcher: Dispatcher,
    }

    /// A loaded library has no other place for what lives between two calls of the host.
    static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

    fn running() -> MutexGuard<'static, Option<Running>> {
        RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The way in. Returns when the service answers, or with the reason why it does not.
    pub(super) fn start(url: &str, callback: Callback) -> Result<()> {
        let mut running = running();
        if running.is_some() {
            return Ok(());
        }
        let connection = Options::builder()
            .server(url)
            .name("plugin")
            .on_connected(move |_, _| callback("connected"))
            .on_disconnected(move |_, event| callback(&event.to_string()))
            .on_closed(move |_, _| callback("closed"))
            .on_error(move |_, notice| callback(&notice.to_string()))
            .connect()?;
        let dispatcher = connection.dispatcher(move |connection, message| {
            // A panic here is caught, and comes to `on_error`: it never reaches the host.
            if let Err(error) = connection.respond(&message, message.payload()) {
                callback(&error.to_string());
            }
        })?;
        dispatcher.subscribe("plugin.echo")?;
        // From here on the server knows of the service.
        connection.flush()?;
        // What happened so far has been told: the host has heard that it is connected.
        connection.barrier(PATIENCE)?;
        *running = Some(Running { connection, _dispatcher: dispatcher });
        Ok(())
    }

    /// The way out. Returns when everything that had arrived has been answered, the last callback
    /// has returned, and every thread of the plugin is gone: only then may a library be unloaded.
    pub(super) fn stop() -> Result<()> {
        // The lock is not held while callbacks may still come.
        let Some(Running { connection, _dispatcher }) = running().take() else { return Ok(()) };
        let drained = connection.drain(PATIENCE);
        // Without a server nothing can be drained. Either way, this waits for the threads.
        connection.close();
        drained.or_else(|error| match error.kind() {
            ErrorKind::Disconnected | ErrorKind::Closed => Ok(()),
            _ => Err(error),
        })
    }
}

/// Those that the host has for a connection of its own.
const OF_THE_HOST: usize = 3;

/// Threads of NATS connections in this process, without those of a server of our own. None where
/// they cannot be counted.
fn threads() -> Option<usize> {
    let mut count = 0;
    for task in std::fs::read_dir("/proc/self/task").ok()? {
        // A thread may end between the listing and the look at it.
        let Ok(name) = std::fs::read_to_string(task.ok()?.path().join("comm")) else { continue };
        count += usize::from(name.starts_with("nats-") && !name.starts_with("nats-testing"));
    }
    Some(count)
}

/// The same, once it is that number or a second has passed: the system lists a thread before it has
/// its name, and for a moment after it has ended.
fn threads_once(expected: Option<usize>) -> Option<usize> {
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let now = threads();
        if now.is_none() || now == expected || Instant::now() >= deadline {
            return now;
        }
        // Paces: the looks at the system's list.
        thread::sleep(Duration::from_millis(1));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, _own) = arguments.server()?;
    let host = nats_blocking::connect(&url)?;

    for round in 1..=3 {
        let before = threads_once(Some(OF_THE_HOST));
        plugin::start(&url, |news| say(format!("plugin: {news}")))?;
        let during = threads();
        let mut answers = 0;
        for number in 0..10 {
            let question = format!("question {number}");
            let answer = host.request("plugin.echo", &question, PATIENCE)?;
            answers += u32::from(answer.payload() == question.as_bytes());
        }
        say(format!("host: round {round}, {answers} of 10 answers were right"));
        plugin::stop()?;
        match (before, during, threads_once(before)) {
            (Some(before), Some(during), Some(after)) => {
                say(format!("threads: {before} before, {during} while it ran, {after} after"));
                if after != before {
                    return Err("the plugin left threads behind".into());
                }
            }
            _ => say("threads: they cannot be counted here"),
        }
    }
    Ok(())
}
