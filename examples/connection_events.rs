//! Listens to everything that happens to a connection, one line for each event and error.
//!
//! ```text
//! cargo run --example connection_events --features testing
//! cargo run --example connection_events --features testing -- --server URL [--for SECONDS]
//! ```
//!
//! Alone it starts two servers of its own and lets everything really happen, in a few seconds. With
//! `--server` it listens to that server until SIGINT, SIGTERM or the given time.

use std::error::Error;
use std::time::Duration;

use nats_blocking::testing::{Happening, Permissions, Recorder, Server};
use nats_blocking::{
    Connection, ConnectionEvent, ConnectionEventKind as Kind, ConnectionListener, Options,
    OptionsBuilder, PendingLimits,
};

mod support;
use support::{Arguments, listen_until_the_end, say};

/// What each step of the demonstration may take at most; most take milliseconds.
const LIMIT: Duration = Duration::from_secs(10);

/// Prints every event.
struct Printer;

impl ConnectionListener for Printer {
    fn connection_event(&self, _: &Connection, event: &ConnectionEvent) {
        say(event);
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let signals = arguments.signals()?;
    match &arguments.server {
        Some(url) => {
            let connection = options(url).connect()?;
            listen_until_the_end(&connection, signals, arguments.lasting)
        }
        None => demonstrate(),
    }
}

fn options(url: &str) -> OptionsBuilder {
    Options::builder()
        .server(url)
        .name("connection_events")
        .connection_listener(Printer)
        .on_error(|_, notice| say(notice))
        // The defaults, 2 s and 1 s, are kind to servers; here nobody wants to wait.
        .reconnect_wait(Duration::from_millis(250))
        .reconnect_jitter(Duration::from_millis(50))
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let permissions = Permissions::new().deny("secret.>");
    let first = Server::builder().publish_permissions(permissions).start()?;
    let second = Server::start()?;
    // Added last, so that a line is printed before the demonstration goes on.
    let recorder = Recorder::new();
    let connection = options(&first.url())
        // A silent server is given up after 2 s.
        .ping_interval(Duration::from_secs(1))
        .max_pings_out(1)
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()?;

    errors(&connection, &recorder)?;
    outages(&connection, &recorder, &first, &second)?;

    say("# The connection is drained.");
    connection.drain(LIMIT)?;
    recorder.check()?;
    Ok(())
}

/// What does not cost the connection.
fn errors(connection: &Connection, recorder: &Recorder) -> Result<(), Box<dyn Error>> {
    say("# A message is published that the server does not permit.");
    connection.publish("secret.plans", "to the wrong people")?;
    recorder.wait_for(LIMIT, |happening| matches!(happening, Happening::ServerError(_)))?;

    say("# A subscription that may hold four messages gets ten, then is read.");
    let subscription = connection.subscribe("ticks")?;
    subscription.set_pending_limits(PendingLimits::new(4, 0));
    for number in 0..10 {
        connection.publish("ticks", number.to_string())?;
    }
    connection.flush()?;
    recorder.wait_for(LIMIT, |it| matches!(it, Happening::SlowConsumer { .. }))?;
    while subscription.try_next()?.is_some() {}
    recorder.wait_for(LIMIT, |it| matches!(it, Happening::SlowConsumerRecovered { .. }))?;

    say("# A handler panics, and goes on with the next message.");
    #[expect(clippy::panic, reason = "the panic that is to be shown")]
    let dispatcher = connection.dispatcher(|_, message| {
        if message.payload() == b"bang" {
            panic!("the handler cannot stand '{}'", message.subject());
        }
    })?;
    dispatcher.subscribe("noise")?;
    connection.publish("noise", "bang")?;
    connection.publish("noise", "hush")?;
    recorder.wait_for(LIMIT, |happening| matches!(happening, Happening::Exception(_)))?;
    dispatcher.drain(LIMIT)?;
    Ok(())
}

/// What does.
fn outages(
    connection: &Connection,
    recorder: &Recorder,
    first: &Server,
    second: &Server,
) -> Result<(), Box<dyn Error>> {
    // Something to establish again.
    let subscription = connection.subscribe("news.>")?;

    say("# The first server announces a second one, which does not accept connections yet.");
    second.refuse_connections(true)?;
    let addresses = [first, second].map(|server| format!("127.0.0.1:{}", server.port()));
    first.announce_servers(&addresses.each_ref().map(String::as_str));
    recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::DiscoveredServers { .. }))?;

    say("# The first server says that it will shut down, then does.");
    first.lame_duck();
    recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::LameDuck))?;
    first.stop();
    recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::ReconnectFailed { .. }))?;

    say("# The second server accepts connections now.");
    second.refuse_connections(false)?;
    recorder.wait_for_event(LIMIT, |kind| matches!(kind, Kind::Resubscribed { .. }))?;

    say("# The first server is back; the second one stops answering pings.");
    first.restart()?;
    second.pause_pongs(true);
    back_after(recorder, |kind| matches!(kind, Kind::StaleConnection { .. }))?;

    say("# It answers again; the program asks for another server.");
    second.pause_pongs(false);
    connection.force_reconnect()?;
    back_after(recorder, |kind| matches!(kind, Kind::ForcedReconnect))?;
    subscription.unsubscribe();
    Ok(())
}

/// Waits for an event, and then until the subscriptions have been established again.
fn back_after(recorder: &Recorder, wanted: fn(&Kind) -> bool) -> Result<(), Box<dyn Error>> {
    let event = |happening: &Happening| happening.event_kind().is_some_and(wanted);
    let back =
        |happening: &Happening| matches!(happening.event_kind(), Some(Kind::Resubscribed { .. }));
    recorder.wait_for_sequence(LIMIT, &[&event, &back])?;
    Ok(())
}
