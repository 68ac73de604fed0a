//! The old blocking crate, `nats` 0.26.

#![allow(
    deprecated,
    reason = "that it is deprecated is why it has a successor to be measured against"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use nats::{Connection, Handler, Options};

use crate::common;
use crate::meter::{Latencies, Meter, Outcome, repeat, repeat_timed};
use crate::plan::{ECHO, FEED, NOWHERE, Plan, Result};

const LIMIT: Duration = Duration::from_secs(10);

pub fn run(plan: &Plan) -> Result<Outcome> {
    match plan.workload.as_str() {
        "publish" => publish(plan),
        "pull" => pull(plan),
        // A thread for each subscription: a hundred thousand of them are no measurement.
        "handler" if plan.subs <= 1_000 => handler(plan),
        "pubsub" => pubsub(plan),
        "request" => request(plan, plan.threads),
        "pipeline" => request(plan, plan.depth),
        "flush" => flush(plan),
        "wake" => wake(plan),
        "connect" => connects(plan),
        "idle" => idle(plan),
        _ => plan.unknown(),
    }
}

fn connect(plan: &Plan) -> Result<Connection> {
    let options = match &plan.ca {
        Some(ca) => Options::new().tls_required(true).add_root_certificate(ca),
        None => Options::new(),
    };
    Ok(options.connect(&plan.url)?)
}

fn publish(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let payload = vec![b'x'; plan.size];
    let meter = Meter::start();
    let one = || repeat(plan.time(), || Ok(connection.publish(NOWHERE, &payload)?));
    let count = common::on_threads(plan.threads, one, |sum, more| {
        *sum += more;
        Ok(())
    })?;
    connection.flush()?;
    Ok(meter.finish(count))
}

fn pull(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let subscription = connection.subscribe(&Plan::subject(0))?;
    connection.flush()?;
    common::batches(plan, |count| {
        connection.publish(FEED, plan.order(count))?;
        connection.flush()?;
        for _ in 0..count {
            subscription.next().ok_or("the subscription ended")?;
        }
        Ok(())
    })
}

/// Handlers that tell when they have handled as many messages as were asked for.
struct Counting {
    goal: Arc<AtomicU64>,
    seen: Arc<AtomicU64>,
    sender: Sender<()>,
    reached: Receiver<()>,
    handlers: Vec<Handler>,
}

impl Counting {
    fn new() -> Self {
        let (sender, reached) = channel();
        let (goal, seen) = (Arc::default(), Arc::default());
        Self { goal, seen, sender, reached, handlers: Vec::new() }
    }

    fn subscribe(&mut self, connection: &Connection, subject: &str) -> Result<()> {
        let (goal, seen) = (Arc::clone(&self.goal), Arc::clone(&self.seen));
        let sender = self.sender.clone();
        let handler = connection.subscribe(subject)?.with_handler(move |_| {
            if seen.fetch_add(1, Ordering::Relaxed) + 1 == goal.load(Ordering::Relaxed) {
                let _ = sender.send(());
            }
            Ok(())
        });
        self.handlers.push(handler);
        Ok(())
    }

    fn expect(&self, count: u64) {
        self.goal.fetch_add(count, Ordering::Relaxed);
    }

    fn wait(&self) -> Result<()> {
        Ok(self.reached.recv_timeout(LIMIT)?)
    }
}

fn handler(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let mut counting = Counting::new();
    for number in 0..plan.subs {
        counting.subscribe(&connection, &Plan::subject(number))?;
    }
    connection.flush()?;
    common::batches(plan, |count| {
        counting.expect(count);
        connection.publish(FEED, plan.order(count))?;
        connection.flush()?;
        counting.wait()
    })
}

fn pubsub(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let (subject, payload) = (Plan::subject(0), vec![b'x'; plan.size]);
    let mut counting = Counting::new();
    counting.subscribe(&connection, &subject)?;
    connection.flush()?;
    common::batches(plan, |count| {
        counting.expect(count);
        for _ in 0..count {
            connection.publish(&subject, &payload)?;
        }
        connection.flush()?;
        counting.wait()
    })
}

/// Requests of so many threads.
fn request(plan: &Plan, askers: usize) -> Result<Outcome> {
    let connection = connect(plan)?;
    let payload = vec![b'x'; plan.size];
    let ask = || -> Result<()> {
        connection.request_timeout(ECHO, &payload, LIMIT)?;
        Ok(())
    };
    ask()?;
    let meter = Meter::start();
    let all = common::on_threads(
        askers,
        || repeat_timed(plan.time(), ask),
        |all: &mut Latencies, more| all.add(&more),
    )?;
    Ok(meter.finish_with(&all))
}

fn flush(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let payload = vec![b'x'; plan.size];
    connection.flush()?;
    let meter = Meter::start();
    let latencies = repeat_timed(plan.time(), || {
        connection.publish(NOWHERE, &payload)?;
        Ok(connection.flush()?)
    })?;
    Ok(meter.finish_with(&latencies))
}

fn wake(plan: &Plan) -> Result<Outcome> {
    let (publisher, receiver) = (connect(plan)?, connect(plan)?);
    let (subject, payload) = (Plan::subject(0), vec![b'x'; plan.size]);
    let (sender, arrived) = channel();
    let _handler = receiver.subscribe(&subject)?.with_handler(move |_| {
        let _ = sender.send(Instant::now());
        Ok(())
    });
    receiver.flush()?;
    common::wakes(plan, &arrived, || Ok(publisher.publish(&subject, &payload)?))
}

fn connects(plan: &Plan) -> Result<Outcome> {
    let meter = Meter::start();
    let latencies = common::at_most(plan, || {
        connect(plan)?.close();
        Ok(())
    })?;
    Ok(meter.finish_with(&latencies))
}

fn idle(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let _handler = connection.subscribe(&Plan::subject(0))?.with_handler(|_| Ok(()));
    connection.flush()?;
    Ok(common::do_nothing(plan))
}
