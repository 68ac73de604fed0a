//! Ends a program without losing what has arrived or was published.
//!
//! ```text
//! cargo run --example drain --features testing -- [--server URL] [--count N]
//! ```
//!
//! Without `--server` it starts a server of its own.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nats_blocking::Options;

mod support;
use support::{Arguments, say};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, _own) = arguments.server()?;
    let count = arguments.count.unwrap_or(50);

    let observer = nats_blocking::connect(url.as_str())?;
    let results = observer.subscribe("results")?;
    observer.flush()?;

    let connection = Options::builder().server(url).on_event(|_, event| say(event)).connect()?;
    let handled = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&handled);
    let dispatcher = connection.dispatcher(move |connection, message| {
        // Paces: the work that takes its time, so that much still waits when the drain begins.
        thread::sleep(Duration::from_millis(5));
        counter.fetch_add(1, Ordering::Relaxed);
        if let Err(error) = connection.publish("results", message.payload()) {
            say(error);
        }
    })?;
    dispatcher.subscribe("work")?;
    for number in 0..count {
        connection.publish("work", number.to_string())?;
    }

    let drain = connection.start_drain(Duration::from_secs(30))?;
    say(format!("handled when the drain began: {}", handled.load(Ordering::Relaxed)));
    drain.wait(Duration::from_secs(40))?;
    say(format!("handled: {} of {count}", handled.load(Ordering::Relaxed)));
    let arrived = results.timeout_iter(Duration::from_secs(10)).take(count).count();
    say(format!("results that arrived: {arrived} of {count}"));
    Ok(())
}
