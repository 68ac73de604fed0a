//! Sends requests and waits for the replies: one after the other, and many at once.
//!
//! ```text
//! cargo run --example request --features testing -- [--server URL] [--count N] [SUBJECT [TEXT]]
//! ```
//!
//! The example `respond` answers. Without `--server` it starts a server of its own, and answers
//! itself.

use std::error::Error;
use std::time::Duration;

use nats_blocking::ErrorKind;

mod support;
use support::{Arguments, say};

const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, own) = arguments.server()?;
    let subject = arguments.word(0, "echo");
    let text = arguments.word(1, "hello");

    let connection = nats_blocking::connect(url)?;
    // A request to nobody does not wait out its time.
    match connection.request("nobody.listens.here", "", PATIENCE) {
        Err(error) if error.kind() == ErrorKind::NoResponders => say(error),
        other => say(format!("somebody does listen: {other:?}")),
    }
    let dispatcher = connection.dispatcher(|connection, message| {
        if let Err(error) = connection.respond(&message, message.payload()) {
            say(error);
        }
    })?;
    if own.is_some() {
        dispatcher.subscribe(&subject)?;
    }

    let reply = connection.request(&subject, &text, PATIENCE)?;
    say(format!("reply: {}", String::from_utf8_lossy(reply.payload())));

    // Many under way from one thread; each waits for its own reply.
    let pending: Vec<_> = (1..arguments.count.unwrap_or(3))
        .map(|number| connection.send_request(&subject, format!("{text} {number}")))
        .collect::<Result<_, _>>()?;
    for reply in pending {
        let reply = reply.wait(PATIENCE)?;
        say(format!("reply: {}", String::from_utf8_lossy(reply.payload())));
    }
    Ok(())
}
