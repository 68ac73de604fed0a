//! The modes that receive: `sub`, `pubsub` and `fanout`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use nats_blocking::{Connection, Dispatcher};

use crate::credit::{Credit, Told, credit};
use crate::outcome::{Clock, Outcome};
use crate::watch::{Bell, Fault, STEP};
use crate::work::{Run, connect, payload, settled};
use crate::{Failure, complain};

/// What is on its way inside of this program arrives within this time.
const SOON: Duration = Duration::from_secs(2);

/// What receivers say to the main thread.
enum Said {
    First(Instant),
    All(Instant),
}

pub(crate) fn run(run: &Run<'_>) -> Result<Outcome, Failure> {
    if run.settings.is_sub_of_others() { others(run) } else { own(run) }
}

/// Publishes by itself what is received.
fn own(run: &Run<'_>) -> Result<Outcome, Failure> {
    let (settings, bell) = (run.settings, run.watch.bell());
    let (sender, said) = channel();
    let streams = settings.connections * settings.subscriptions;
    let (credit, told) = credit(streams as u64, settings.size);
    let mut receivers = Vec::new();
    for _ in 0..settings.connections {
        receivers.push(subscribe(run, &sender, &told)?);
    }
    drop(told);
    let publisher = connect(run)?;
    let clock = Clock::start();
    run.watch.begin();
    if let Err(error) = publish(run, &publisher, credit) {
        bell.tell(Fault::of(&error));
    }
    let mut end = None;
    while end.is_none() {
        match heard(&said, bell) {
            Some(Said::All(at)) => end = Some(at),
            Some(Said::First(_)) => {}
            None => break,
        }
    }
    let alone = end.is_none() || is_alone(run, &receivers);
    let mut done = run.finish(None);
    if !alone {
        // Nobody knows which of them are ours: there is no rate.
        done.before = done.count;
    }
    if let (Some(end), None) = (end, &done.error) {
        done.end = end;
    }
    Ok(clock.stop(settings, run.server, done))
}

/// A connection with one dispatcher that counts what its subscriptions get.
fn subscribe(
    run: &Run<'_>,
    sender: &Sender<Said>,
    told: &Told,
) -> Result<(Connection, Dispatcher), Failure> {
    let connection = connect(run)?;
    let total = run.settings.total();
    let dispatcher = connection.dispatcher(|_, _| ())?;
    for _ in 0..run.settings.subscriptions {
        let (counter, sender) = (run.progress.counter(), sender.clone());
        let mut share = told.another();
        dispatcher.subscribe_with(&run.settings.subject, move |_, _| {
            share.message();
            let before = counter.fetch_add(1, Ordering::Relaxed);
            if before + 1 == total {
                let _ = sender.send(Said::All(Instant::now()));
            }
        })?;
    }
    settled(&connection)?;
    Ok((connection, dispatcher))
}

fn publish(run: &Run<'_>, publisher: &Connection, mut credit: Credit) -> Result<(), Failure> {
    let (settings, bell) = (run.settings, run.watch.bell());
    let payload = payload(settings);
    for _ in 0..settings.count {
        credit.take(bell)?;
        publisher.publish(&settings.subject, &payload)?;
    }
    Ok(publisher.flush()?)
}

/// Whatever receivers say next; none when the run has ended.
fn heard(said: &Receiver<Said>, bell: &Bell) -> Option<Said> {
    while !bell.has_ended() {
        match said.recv_timeout(STEP) {
            Ok(said) => return Some(said),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
        }
    }
    None
}

/// What arrives beyond what was published makes a rate that is not ours.
fn is_alone(run: &Run<'_>, receivers: &[(Connection, Dispatcher)]) -> bool {
    for (connection, _) in receivers {
        // One that fails is told by the watch.
        let _ = connection.flush_timeout(SOON).and_then(|()| connection.barrier(SOON));
    }
    let (total, subject) = (run.settings.total(), &run.settings.subject);
    let more = run.progress.done().saturating_sub(total);
    if more > 0 {
        let text = format!(
            "{more} more arrived on '{subject}' than were published here: others publish to it"
        );
        run.watch.bell().tell(Fault::Met(text));
    }
    more == 0
}

/// What one connection has received from others, as far as it is counted.
#[derive(Default)]
struct Arrived {
    messages: AtomicU64,
    bytes: AtomicU64,
}

/// Receives what another program publishes; the clock starts with the first message, which is not
/// a part of the rate: nobody knows for how long it was under way.
fn others(run: &Run<'_>) -> Result<Outcome, Failure> {
    let (settings, bell) = (run.settings, run.watch.bell());
    let (sender, said) = channel();
    let mut receivers = Vec::new();
    for _ in 0..settings.connections {
        receivers.push(subscribe_to_others(run, &sender)?);
    }
    complain(format_args!("waiting for messages to '{}'", settings.subject));
    let (mut clock, mut end) = (None, None);
    while end.is_none() {
        match heard(&said, bell) {
            Some(Said::First(at)) => {
                clock = Some(Clock::start_at(at));
                run.watch.begin();
            }
            Some(Said::All(at)) => end = Some(at),
            None => break,
        }
    }
    let sum = |part: fn(&Arrived) -> &AtomicU64| -> u64 {
        receivers.iter().map(|(.., arrived)| part(arrived).load(Ordering::Acquire)).sum()
    };
    // The last one is counted before the handlers of other connections have ended.
    let limit = Instant::now() + SOON;
    while end.is_some() && sum(|it| &it.messages) < settings.total() && Instant::now() < limit {
        let _ = said.recv_timeout(Duration::from_millis(1));
    }
    let (messages, bytes) = (sum(|it| &it.messages), sum(|it| &it.bytes));
    let mut done = run.finish(None);
    if let (Some(end), None) = (end, &done.error) {
        done.end = end;
    }
    (done.count, done.before, done.bytes) = (messages, messages.min(1), Some(bytes));
    Ok(clock.unwrap_or_else(Clock::start).stop(settings, run.server, done))
}

fn subscribe_to_others(
    run: &Run<'_>,
    sender: &Sender<Said>,
) -> Result<(Connection, Dispatcher, Arc<Arrived>), Failure> {
    let connection = connect(run)?;
    let total = run.settings.total();
    let arrived = Arc::new(Arrived::default());
    let dispatcher = connection.dispatcher(|_, _| ())?;
    for _ in 0..run.settings.subscriptions {
        let (counter, sender) = (run.progress.counter(), sender.clone());
        let arrived = Arc::clone(&arrived);
        dispatcher.subscribe_with(&run.settings.subject, move |_, message| {
            let before = counter.fetch_add(1, Ordering::Relaxed);
            if before >= total {
                return;
            }
            // The dispatcher's one thread writes them, so they need not be added atomically.
            let bytes = arrived.bytes.load(Ordering::Relaxed) + message.payload().len() as u64;
            arrived.bytes.store(bytes, Ordering::Relaxed);
            let messages = arrived.messages.load(Ordering::Relaxed) + 1;
            arrived.messages.store(messages, Ordering::Release);
            if before == 0 {
                let _ = sender.send(Said::First(Instant::now()));
            }
            if before + 1 == total {
                let _ = sender.send(Said::All(Instant::now()));
            }
        })?;
    }
    settled(&connection)?;
    Ok((connection, dispatcher, arrived))
}
