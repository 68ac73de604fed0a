//! Shares the messages of a subject between workers: each message goes to one of them.
//!
//! ```text
//! cargo run --example queue_group --features testing -- [--server URL] [--count N]
//! ```
//!
//! Without `--server` it starts a server of its own.

use std::error::Error;
use std::thread;
use std::time::Duration;

mod support;
use support::{Arguments, say};

const PATIENCE: Duration = Duration::from_secs(10);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, _own) = arguments.server()?;
    let count = arguments.count.unwrap_or(300);

    let connection = nats_blocking::connect(url)?;
    let workers = ["anna", "ben", "cleo"]
        .map(|name| connection.queue_subscribe("jobs", "workers").map(|jobs| (name, jobs)));
    let workers = workers.into_iter().collect::<Result<Vec<_>, _>>()?;
    connection.flush()?;

    let done = thread::scope(|scope| {
        let threads: Vec<_> = workers
            .iter()
            .map(|(name, jobs)| {
                scope.spawn(move || {
                    let done = jobs.iter().count();
                    say(format!("{name} did {done} jobs"));
                    done
                })
            })
            .collect();
        for number in 0..count {
            connection.publish("jobs", number.to_string())?;
        }
        // Ends the subscriptions once all that was published has arrived; then the iterators end.
        for (_, jobs) in &workers {
            jobs.drain(PATIENCE)?;
        }
        let done = threads.into_iter().map(|thread| thread.join().unwrap_or(0)).sum::<usize>();
        Ok::<_, nats_blocking::Error>(done)
    })?;
    say(format!("{done} of {count} jobs were done, each once"));
    Ok(())
}
