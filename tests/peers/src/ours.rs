//! The client that this package is about.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::{Connection, Consumer, Dispatcher, Options, PendingLimits, PendingReply};

use crate::common;
use crate::meter::{Latencies, Meter, Outcome, repeat, repeat_timed, resident};
use crate::plan::{ECHO, FEED, NOWHERE, Plan, Result};

const LIMIT: Duration = Duration::from_secs(10);

pub fn run(plan: &Plan) -> Result<Outcome> {
    match plan.workload.as_str() {
        "publish" => publish(plan),
        "pull" => pull(plan),
        "handler" => handler(plan),
        "pubsub" => pubsub(plan),
        "request" => request(plan),
        "pipeline" => pipeline(plan),
        "flush" => flush(plan),
        "wake" => wake(plan),
        "connect" => connects(plan),
        "idle" => idle(plan),
        "connection-memory" => connection_memory(plan),
        "subscription-memory" => subscription_memory(plan),
        "backlog-memory" => backlog_memory(plan),
        _ => plan.unknown(),
    }
}

/// What a program does once: the connections of the same options share what TLS is made of.
fn options(plan: &Plan) -> Result<Options> {
    let builder = Options::builder().pending_limits(PendingLimits::UNLIMITED);
    let builder = match &plan.ca {
        Some(ca) => builder.server(format!("tls://{}", plan.url)).root_certificates_file(ca),
        None => builder.server(&plan.url),
    };
    Ok(builder.build()?)
}

fn connect(plan: &Plan) -> Result<Connection> {
    Ok(options(plan)?.connect()?)
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
    let subscription = connection.subscribe(Plan::subject(0))?;
    connection.flush()?;
    let round = |count: u64| -> Result<()> {
        connection.publish(FEED, plan.order(count))?;
        for _ in 0..count {
            subscription.next()?;
        }
        Ok(())
    };
    common::batches(plan, round)
}

/// A dispatcher that tells when it has handled as many messages as were asked for.
struct Counting {
    dispatcher: Dispatcher,
    goal: Arc<AtomicU64>,
    reached: Receiver<()>,
}

impl Counting {
    fn start(connection: &Connection) -> Result<Self> {
        let goal = Arc::new(AtomicU64::new(0));
        let (sender, reached) = channel();
        let wanted = Arc::clone(&goal);
        let mut seen = 0;
        let dispatcher = connection.dispatcher(move |_, _| {
            seen += 1;
            if seen == wanted.load(Ordering::Relaxed) {
                let _ = sender.send(());
            }
        })?;
        Ok(Self { dispatcher, goal, reached })
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
    let counting = Counting::start(&connection)?;
    for number in 0..plan.subs {
        counting.dispatcher.subscribe(Plan::subject(number))?;
    }
    connection.flush()?;
    common::batches(plan, |count| {
        counting.expect(count);
        connection.publish(FEED, plan.order(count))?;
        counting.wait()
    })
}

fn pubsub(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let counting = Counting::start(&connection)?;
    let (subject, payload) = (Plan::subject(0), vec![b'x'; plan.size]);
    counting.dispatcher.subscribe(&subject)?;
    connection.flush()?;
    common::batches(plan, |count| {
        counting.expect(count);
        for _ in 0..count {
            connection.publish(&subject, &payload)?;
        }
        counting.wait()
    })
}

fn request(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let payload = vec![b'x'; plan.size];
    let ask = || -> Result<()> {
        connection.request(ECHO, &payload, LIMIT)?;
        Ok(())
    };
    ask()?;
    let meter = Meter::start();
    let one = || repeat_timed(plan.time(), ask);
    let all = common::on_threads(plan.threads, one, |all, more| all.add(&more))?;
    Ok(meter.finish_with(&all))
}

fn pipeline(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let payload = vec![b'x'; plan.size];
    connection.request(ECHO, &payload, LIMIT)?;
    let send = || -> Result<(PendingReply, Instant)> {
        let sent = Instant::now();
        Ok((connection.send_request(ECHO, &payload)?, sent))
    };
    let mut latencies = Latencies::new()?;
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    let mut pending = VecDeque::new();
    for _ in 0..plan.depth {
        pending.push_back(send()?);
    }
    while let Some((reply, sent)) = pending.pop_front() {
        reply.wait(LIMIT)?;
        latencies.record(sent);
        if Instant::now() < end {
            pending.push_back(send()?);
        }
    }
    Ok(meter.finish_with(&latencies))
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
    let dispatcher = receiver.dispatcher(move |_, _| {
        let _ = sender.send(Instant::now());
    })?;
    dispatcher.subscribe(&subject)?;
    receiver.flush()?;
    common::wakes(plan, &arrived, || Ok(publisher.publish(&subject, &payload)?))
}

fn connects(plan: &Plan) -> Result<Outcome> {
    let options = options(plan)?;
    let meter = Meter::start();
    let latencies = common::at_most(plan, || {
        options.connect()?.close();
        Ok(())
    })?;
    Ok(meter.finish_with(&latencies))
}

fn idle(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let dispatcher = connection.dispatcher(|_, _| ())?;
    dispatcher.subscribe(Plan::subject(0))?;
    connection.flush()?;
    Ok(common::do_nothing(plan))
}

fn connection_memory(plan: &Plan) -> Result<Outcome> {
    // What the process keeps from its first connection on is not counted.
    connect(plan)?.close();
    let before = resident()?;
    let connections = (0..plan.subs).map(|_| connect(plan)).collect::<Result<Vec<_>>>()?;
    let after = resident()?;
    Ok(Outcome::of_value((after - before) / connections.len() as f64))
}

fn subscription_memory(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let dispatcher = connection.dispatcher(|_, _| ())?;
    dispatcher.subscribe(Plan::subject(0))?;
    connection.flush()?;
    let before = resident()?;
    for number in 0..plan.subs {
        dispatcher.subscribe(Plan::subject(number))?;
    }
    connection.flush()?;
    Ok(Outcome::of_value((resident()? - before) / plan.subs as f64))
}

fn backlog_memory(plan: &Plan) -> Result<Outcome> {
    let connection = connect(plan)?;
    let subscription = connection.subscribe(Plan::subject(0))?;
    connection.flush()?;
    let before = resident()?;
    connection.publish(FEED, plan.order(plan.batch))?;
    while subscription.pending_messages() < plan.batch {
        // Paces: a look every millisecond.
        thread::sleep(Duration::from_millis(1));
    }
    common::backlog(plan, before)
}
