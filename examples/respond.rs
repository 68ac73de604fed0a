//! Answers requests with what they say.
//!
//! ```text
//! cargo run --example respond --features testing -- [--server URL] [--count N] [SUBJECT]
//! ```
//!
//! The example `request` asks. Ends after N requests (3 unless told otherwise). Without `--server`
//! it starts a server of its own, and asks itself.

use std::error::Error;
use std::time::Duration;

mod support;
use support::{Arguments, say};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, own) = arguments.server()?;
    let subject = arguments.word(0, "echo");
    let count = arguments.count.unwrap_or(3);

    let connection = nats_blocking::connect(url)?;
    let requests = connection.subscribe(&subject)?;
    connection.flush()?;
    say(format!("answering '{subject}'"));
    let mut own_requests = Vec::new();
    if own.is_some() {
        for number in 0..count {
            own_requests.push(connection.send_request(&subject, format!("hello {number}"))?);
        }
    }

    for request in requests.iter().take(count) {
        connection.respond(&request, request.payload())?;
        say(format!("answered: {}", String::from_utf8_lossy(request.payload())));
    }
    for reply in own_requests {
        let reply = reply.wait(Duration::from_secs(5))?;
        say(format!("reply: {}", String::from_utf8_lossy(reply.payload())));
    }
    // Writes the last answer before the end.
    connection.drain(Duration::from_secs(5))?;
    Ok(())
}
