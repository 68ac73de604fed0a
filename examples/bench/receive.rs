//! The modes that receive: `sub`, `pubsub` and `fanout`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};

use nats_blocking::{Connection, Dispatcher};

use crate::Failure;
use crate::credit::{Credit, PATIENCE, Told, credit};
use crate::outcome::{Clock, Outcome};
use crate::progress::Progress;
use crate::server::TestServer;
use crate::settings::{Mode, Settings};
use crate::work::{connect, options, payload};

/// What receivers say to the main thread.
enum Said {
    First,
    All,
    Lost(Failure),
}

pub(crate) fn run(
    settings: &Settings,
    server: &TestServer,
    progress: &Progress,
) -> Result<Outcome, Failure> {
    let (sender, said) = channel();
    let streams = settings.connections * settings.subscriptions;
    let (credit, told) = credit(streams as u64, settings.size);
    let mut told = told.into_iter();
    let mut receivers = Vec::new();
    for _ in 0..settings.connections {
        let shares = told.by_ref().take(settings.subscriptions).collect();
        receivers.push(subscribe(settings, server, progress.counter(), &sender, shares)?);
    }
    // Another program publishes to a server that is not ours, unless this mode publishes itself.
    if settings.mode == Mode::Sub && !server.is_own {
        eprintln!("waiting for messages to '{}'", settings.subject);
        match said.recv()? {
            Said::Lost(error) => return Err(error),
            Said::First | Said::All => {}
        }
        let clock = Clock::start();
        let error = wait_all(settings, progress, &said, None).err();
        return Ok(clock.stop(settings, progress.done(), None, error));
    }
    let publisher = connect(settings, server)?;
    let clock = Clock::start();
    let error = publish(settings, &publisher, credit)
        .and_then(|()| wait_all(settings, progress, &said, Some(&publisher)))
        .err();
    Ok(clock.stop(settings, progress.done(), None, error))
}

/// A connection with one dispatcher that counts what its subscriptions get.
fn subscribe(
    settings: &Settings,
    server: &TestServer,
    counter: Arc<AtomicU64>,
    sender: &Sender<Said>,
    shares: Vec<Told>,
) -> Result<(Connection, Dispatcher), Failure> {
    let lost = sender.clone();
    let connection = options(server)
        .on_closed(move |connection, event| {
            let error =
                connection.last_error().map_or_else(|| event.to_string(), |e| e.to_string());
            let _ = lost.send(Said::Lost(error.into()));
        })
        .connect()?;
    settings.check_size(connection.max_payload())?;
    let total = settings.total();
    let dispatcher = connection.dispatcher(|_, _| ())?;
    for mut share in shares {
        let (counter, sender) = (Arc::clone(&counter), sender.clone());
        dispatcher.subscribe_with(&settings.subject, move |_, _| {
            share.message();
            let before = counter.fetch_add(1, Ordering::Relaxed);
            if before == 0 {
                let _ = sender.send(Said::First);
            }
            if before + 1 == total {
                let _ = sender.send(Said::All);
            }
        })?;
    }
    connection.flush()?;
    Ok((connection, dispatcher))
}

fn publish(settings: &Settings, publisher: &Connection, mut credit: Credit) -> Result<(), Failure> {
    let payload = payload(settings);
    for _ in 0..settings.count {
        credit.take(publisher)?;
        publisher.publish(&settings.subject, &payload)?;
    }
    Ok(publisher.flush()?)
}

/// Waits until everything has arrived, as long as something does.
fn wait_all(
    settings: &Settings,
    progress: &Progress,
    said: &Receiver<Said>,
    publisher: Option<&Connection>,
) -> Result<(), Failure> {
    let mut seen = progress.done();
    loop {
        match said.recv_timeout(PATIENCE) {
            Ok(Said::All) => return Ok(()),
            Ok(Said::Lost(error)) => return Err(error),
            Ok(Said::First) => {}
            // A publisher elsewhere may be slow; one of ours has published everything.
            Err(RecvTimeoutError::Timeout) if progress.done() > seen => seen = progress.done(),
            Err(RecvTimeoutError::Timeout) => {
                let whose = if publisher.is_some() { "" } else { " from the other program" };
                let text = format!("nothing more arrived{whose} on '{}'", settings.subject);
                return Err(text.into());
            }
            Err(error) => return Err(error.into()),
        }
    }
}
