//! Publishes messages, and makes sure that the server has them.
//!
//! ```text
//! cargo run --example publish --features testing -- [--server URL] [--count N] [SUBJECT [TEXT]]
//! ```
//!
//! Without `--server` it starts a server of its own.

use std::error::Error;

mod support;
use support::{Arguments, say};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, _own) = arguments.server()?;
    let subject = arguments.word(0, "greet.joe");
    let text = arguments.word(1, "hello");
    let count = arguments.count.unwrap_or(1);

    let connection = nats_blocking::connect(url)?;
    for _ in 0..count {
        // Queued and written in call order; this does not wait for the server.
        connection.publish(&subject, &text)?;
    }
    // One round trip: what was published before has arrived when it is back.
    connection.flush()?;
    say(format!("published {count} to '{subject}'"));
    Ok(())
}
