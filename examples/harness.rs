//! How a program tests its own service: a server in the process, recorded events, faults.
//!
//! ```text
//! cargo run --example harness --features testing -- [--server URL] [--count N]
//! ```
//!
//! The service squares numbers on several threads, the clients ask on several others, and the
//! server drops everybody again and again. With `--server` that server is used, undisturbed.

use std::error::Error;
use std::thread;
use std::time::Duration;

use nats_blocking::testing::{Recorder, Server};
use nats_blocking::{Connection, ConnectionEventKind as Kind, Dispatcher, ErrorKind, Options};

mod support;
use support::{Arguments, say};

const LIMIT: Duration = Duration::from_secs(10);
const THREADS: usize = 4;

/// What is tested: workers that share the requests to one subject.
fn start_service(connection: &Connection) -> nats_blocking::Result<Vec<Dispatcher>> {
    let worker = || {
        let dispatcher = connection.dispatcher(|connection, message| {
            let number: Option<u64> = message.text().ok().and_then(|text| text.parse().ok());
            let answer = number.map_or_else(|| "no number".to_owned(), |n| (n * n).to_string());
            if let Err(error) = connection.respond(&message, answer) {
                say(error);
            }
        })?;
        dispatcher.queue_subscribe("square", "workers")?;
        Ok(dispatcher)
    };
    (0..THREADS).map(|_| worker()).collect()
}

/// A request may be lost with a connection: whoever asks asks again.
fn square(connection: &Connection, number: u64) -> nats_blocking::Result<String> {
    loop {
        match connection.request("square", number.to_string(), Duration::from_millis(500)) {
            Ok(reply) => return Ok(String::from_utf8_lossy(reply.payload()).into_owned()),
            Err(error) if matches!(error.kind(), ErrorKind::Timeout | ErrorKind::NoResponders) => {}
            Err(error) => return Err(error),
        }
    }
}

fn connect(url: &str, recorder: &Recorder) -> nats_blocking::Result<Connection> {
    Options::builder()
        .server(url)
        .reconnect_wait(Duration::from_millis(20))
        .reconnect_jitter(Duration::from_millis(20))
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::read()?;
    let (url, own) = arguments.server()?;
    let count = arguments.count.unwrap_or(100) as u64;
    let (service_events, client_events) = (Recorder::new(), Recorder::new());
    let service = connect(&url, &service_events)?;
    let _workers = start_service(&service)?;
    service.flush()?;
    let client = connect(&url, &client_events)?;

    let right = thread::scope(|scope| {
        let ask =
            |number: u64| square(&client, number).map(|got| got == (number * number).to_string());
        let asking: Vec<_> = (0..THREADS as u64)
            .map(|first| {
                scope.spawn(move || (0..count).map(|n| ask(first + n)).collect::<Vec<_>>())
            })
            .collect();
        own.iter().try_for_each(|server| disturb(server, &[&service_events, &client_events]))?;
        let answers = asking.into_iter().flat_map(|thread| thread.join().unwrap_or_default());
        Ok::<_, Box<dyn Error>>(answers.filter(|answer| matches!(answer, Ok(true))).count())
    })?;
    say(format!("{right} of {} answers were right", THREADS as u64 * count));
    for (connection, events) in [(&client, &client_events), (&service, &service_events)] {
        connection.drain(LIMIT)?;
        // The order of everything that happened was a legal one.
        events.check()?;
        say(format!("{} losses survived", connection.statistics().reconnects()));
    }
    Ok(())
}

/// Drops all clients three times, each time after they are back.
fn disturb(server: &Server, everybody: &[&Recorder]) -> Result<(), Box<dyn Error>> {
    for round in 1..=3 {
        server.drop_clients();
        for events in everybody {
            events.wait_for_count(LIMIT, round, |happening| {
                matches!(happening.event_kind(), Some(Kind::Resubscribed { .. }))
            })?;
        }
    }
    Ok(())
}
