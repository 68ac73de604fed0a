//! Lets a thread of the library call handlers for messages, in order.
//!
//! ```text
//! cargo run --example dispatcher --features testing -- [--server URL]
//! ```
//!
//! Without `--server` it starts a server of its own.

use std::error::Error;
use std::time::Duration;

use nats_blocking::Consumer;

mod support;
use support::{Arguments, say};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, _own) = arguments.server()?;

    let connection = nats_blocking::connect(url)?;
    // A handler owns what it counts: one dispatcher is one thread, so it needs no lock.
    let mut seen = 0;
    let dispatcher = connection.dispatcher(move |_, message| {
        seen += 1;
        say(format!("{seen}. {}", message.subject()));
    })?;
    dispatcher.subscribe("orders.>")?;
    // On the same thread, with a handler of its own.
    dispatcher.subscribe_with("ping", |connection, message| {
        if let Err(error) = connection.respond(&message, "pong") {
            say(error);
        }
    })?;

    for order in ["orders.new", "orders.paid", "orders.sent"] {
        connection.publish(order, "")?;
    }
    let reply = connection.request("ping", "", Duration::from_secs(5))?;
    say(format!("ping: {}", String::from_utf8_lossy(reply.payload())));

    // Waits until the handlers have seen all that the server had sent.
    dispatcher.drain(Duration::from_secs(5))?;
    say(format!("handled: {}", dispatcher.delivered()));
    Ok(())
}
