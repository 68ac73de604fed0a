//! Prints the messages of a subject, in which `*` stands for one token and a last `>` for more.
//!
//! ```text
//! cargo run --example subscribe --features testing -- [--server URL] [--count N] [SUBJECT]
//! ```
//!
//! Ends after N messages (3 unless told otherwise). Without `--server` it starts a server of its
//! own and publishes to it.

use std::error::Error;
use std::time::Duration;

mod support;
use support::{Arguments, say};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, own) = arguments.server()?;
    let subject = arguments.word(0, "greet.*");
    let count = arguments.count.unwrap_or(3);

    let connection = nats_blocking::connect(url)?;
    let subscription = connection.subscribe(&subject)?;
    // Only now does the server know of the subscription for sure.
    connection.flush()?;
    say(format!("subscribed to '{subject}'"));
    if own.is_some() {
        for number in 0..count {
            connection.publish(subject.replace(['*', '>'], "joe"), format!("hello {number}"))?;
        }
    }

    for message in subscription.iter().take(count) {
        say(format!("{}: {}", message.subject(), String::from_utf8_lossy(message.payload())));
    }
    // An iterator ends with the subscription; why is not lost.
    if let Some(error) = subscription.last_error() {
        return Err(error.into());
    }
    // What has arrived beyond that is still read, what was not sent yet never comes.
    subscription.drain(Duration::from_secs(5))?;
    say(format!("left over: {}", subscription.try_iter().count()));
    Ok(())
}
