//! Listens to the errors that no call returns, each with its type.
//!
//! ```text
//! cargo run --example errors --features testing
//! cargo run --example errors --features testing -- --server URL [--for SECONDS]
//! ```
//!
//! Alone it starts a server of its own and lets each kind of error really happen. With `--server`
//! it listens to that server until SIGINT, SIGTERM or the given time.

use std::error::Error;
use std::time::Duration;

use nats_blocking::testing::{Happening, Permissions, Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, Consumer, ErrorListener, Message, Options,
    OptionsBuilder, PendingLimits, ServerError, ServerErrorKind,
};

mod support;
use support::{Arguments, listen_until_the_end, say};

const LIMIT: Duration = Duration::from_secs(10);

struct Printer;

impl ErrorListener for Printer {
    fn error_occurred(&self, _: &Connection, error: &ServerError) {
        match error.kind() {
            ServerErrorKind::PermissionsViolation { operation, subject, .. } => {
                say(format!("the server refused: {operation:?} on '{subject}'"));
            }
            kind => say(format!("the server said: {error} ({kind:?})")),
        }
        let ends = if error.closes_connection() { "closes" } else { "keeps" };
        say(format!("  and {ends} the connection"));
    }

    fn exception_occurred(&self, _: &Connection, error: &nats_blocking::Error) {
        say(format!("the connection handled an exception: {error} ({:?})", error.kind()));
    }

    fn slow_consumer_detected(&self, _: &Connection, consumer: &dyn Consumer) {
        let (subject, waiting) = (consumer.subject(), consumer.pending_messages());
        say(format!("a slow consumer: '{subject}', {waiting} messages wait"));
    }

    fn slow_consumer_recovered(&self, _: &Connection, consumer: &dyn Consumer) {
        let (subject, dropped) = (consumer.subject(), consumer.dropped());
        say(format!("a slow consumer recovered: '{subject}', {dropped} messages were dropped"));
    }

    fn message_discarded(&self, _: &Connection, message: &Message) {
        say(format!("an outgoing message was discarded: '{}'", message.subject()));
    }

    fn socket_write_timeout(&self, _: &Connection) {
        say("the server did not take what was written in time");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let signals = arguments.signals()?;
    let Some(url) = &arguments.server else { return demonstrate() };
    let connection = options(url).connect()?;
    listen_until_the_end(&connection, signals, arguments.lasting)
}

fn options(url: &str) -> OptionsBuilder {
    let options = Options::builder().server(url).error_listener(Printer);
    options.on_closed(|_, event| say(event))
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let server = Server::builder()
        .publish_permissions(Permissions::new().deny("secret.>"))
        .subscribe_permissions(Permissions::new().deny("secret.>"))
        .start()?;
    let recorder = Recorder::new();
    let connection = options(&server.url())
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()?;
    let count =
        |count, wanted: fn(&Happening) -> bool| recorder.wait_for_count(LIMIT, count, wanted);

    connection.publish("secret.plans", "to the wrong people")?;
    let refused = connection.subscribe("secret.>")?;
    count(2, |it| matches!(it, Happening::ServerError(_)))?;
    if let Err(error) = refused.next_timeout(LIMIT) {
        say(format!("reading from it gives: {error} ({:?})", error.kind()));
    }
    // As long as it is kept, it is tried again with every new connection.
    drop(refused);

    let slow = connection.subscribe("ticks")?;
    slow.set_pending_limits(PendingLimits::new(4, 0));
    for number in 0..10 {
        connection.publish("ticks", number.to_string())?;
    }
    connection.flush()?;
    while slow.try_next()?.is_some() {}
    count(1, |it| matches!(it, Happening::SlowConsumerRecovered { .. }))?;

    #[expect(clippy::panic, reason = "the panic that is to be shown")]
    let dispatcher = connection.dispatcher(|_, message| panic!("no {}", message.subject()))?;
    dispatcher.subscribe("noise")?;
    connection.publish("noise", "bang")?;
    count(1, |it| matches!(it, Happening::Exception(_)))?;

    // Bytes that are no protocol, then an error that ends the connection: it is replaced each time.
    server.send_raw("WHAT IS THIS\r\n");
    count(2, |it| matches!(it, Happening::Exception(_)))?;
    recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::Resubscribed { .. }))?;
    server.send_error_and_close("Maximum Connections Exceeded");
    recorder.wait_for(LIMIT, |it| {
        matches!(it, Happening::ServerError(error)
            if *error.kind() == ServerErrorKind::MaximumConnections)
    })?;
    connection.close();
    Ok(())
}
