//! Starts before its server does: connects in the background, works at once, and prints its status
//! and what happens.
//!
//! ```text
//! cargo run --example retry_connect --features testing -- [--server URL] [--for SECONDS]
//! ```
//!
//! Alone it starts a server of its own, but only after two attempts have failed. With `--server` it
//! waits for that server, and then listens until SIGINT, SIGTERM or the given time.

use std::error::Error;
use std::time::Duration;

use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{ConnectionEventKind as Kind, ConnectionStatus, Options, RetryConnect};

mod support;
use support::{Arguments, listen_until_the_end, say};

const LIMIT: Duration = Duration::from_secs(30);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let signals = arguments.signals()?;
    let (url, own) = arguments.server()?;
    if let Some(server) = &own {
        server.stop();
    }
    let recorder = Recorder::new();
    let connection = Options::builder()
        .server(url)
        .retry_on_failed_connect(RetryConnect::InBackground)
        // 100 ms after the first full pass over the servers, then longer, and never over a second.
        .reconnect_delay(|passes| Duration::from_millis(u64::from(passes.min(10)) * 100))
        .connection_listener(recorder.clone())
        .on_event(|connection, event| say(format!("{} {event}", connection.status())))
        .on_error(|_, notice| say(notice))
        .connect()?;
    say(format!("connect returned: {}", connection.status()));

    // Everything may be done already: it is kept for the first server.
    let greetings = connection.subscribe("greet.*")?;
    connection.publish("greet.joe", "hello")?;
    if let Some(server) = &own {
        come_late(server, &recorder)?;
    }
    connection.wait_for_status(ConnectionStatus::Connected, arguments.lasting.unwrap_or(LIMIT))?;
    let message = greetings.next_timeout(LIMIT)?;
    say(format!("{}: {}", message.subject(), message.text()?));
    match own {
        Some(_) => connection.close(),
        None => listen_until_the_end(&connection, signals, arguments.lasting)?,
    }
    Ok(())
}

/// The server starts once the client has failed twice.
fn come_late(server: &Server, recorder: &Recorder) -> Result<(), Box<dyn Error>> {
    recorder.wait_for_count(LIMIT, 2, |happening| {
        matches!(happening.event_kind(), Some(Kind::ReconnectFailed { .. }))
    })?;
    server.restart()?;
    Ok(())
}
