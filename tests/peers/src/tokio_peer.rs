//! `async-nats` 0.51, on a current-thread or a multi-thread runtime.
//!
//! It has no flush that waits for the server: `flush` only hands its bytes to the socket. Where a
//! round trip is measured, a request that nobody answers stands for it, which the server refuses at
//! once.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use async_nats::{Client, ConnectOptions, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::runtime::{Builder, Runtime};

use crate::common;
use crate::meter::{Latencies, Meter, Outcome, STRIDE, resident};
use crate::plan::{ECHO, FEED, NOBODY, NOWHERE, Plan, Result};

pub fn run(plan: &Plan) -> Result<Outcome> {
    let runtime = match plan.peer.as_str() {
        "async-ct" => Builder::new_current_thread().enable_all().build()?,
        _ => Builder::new_multi_thread().enable_all().build()?,
    };
    match plan.workload.as_str() {
        "publish" => runtime.block_on(publish(plan)),
        "pull" | "handler" if plan.subs == 1 => runtime.block_on(receive(plan)),
        "handler" => runtime.block_on(fan_out(plan)),
        "pubsub" => runtime.block_on(pubsub(plan)),
        "request" => runtime.block_on(request(plan, plan.threads)),
        "pipeline" => runtime.block_on(request(plan, plan.depth)),
        "flush" => runtime.block_on(flush(plan)),
        "wake" => runtime.block_on(wake(plan)),
        "connect" => connects(plan, &runtime),
        "idle" => idle(plan, &runtime),
        "connection-memory" => runtime.block_on(connection_memory(plan)),
        "subscription-memory" => runtime.block_on(subscription_memory(plan)),
        "backlog-memory" => runtime.block_on(backlog_memory(plan)),
        _ => plan.unknown(),
    }
}

async fn connect(plan: &Plan) -> Result<Client> {
    // A batch must not overflow it: there are no pending limits to switch off.
    let mut options = ConnectOptions::new().subscription_capacity(1 << 20);
    if let Some(ca) = &plan.ca {
        options = options.require_tls(true).add_root_certificates(ca.into());
    }
    Ok(options.connect(&plan.url).await?)
}

/// Returns when the server has seen everything that was sent before.
async fn round_trip(client: &Client) -> Result<()> {
    match client.request(NOBODY, Bytes::new()).await {
        Err(error) if error.kind() == async_nats::client::RequestErrorKind::NoResponders => Ok(()),
        other => Err(format!("a refusal was expected: {other:?}").into()),
    }
}

async fn publish(plan: &Plan) -> Result<Outcome> {
    let client = connect(plan).await?;
    let payload = Bytes::from(vec![b'x'; plan.size]);
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    let mut tasks = Vec::new();
    for _ in 0..plan.threads {
        let (client, payload) = (client.clone(), payload.clone());
        tasks.push(tokio::spawn(async move {
            let mut count = 0;
            while Instant::now() < end {
                for _ in 0..STRIDE {
                    client.publish(NOWHERE, payload.clone()).await?;
                }
                count += STRIDE;
            }
            Ok::<_, async_nats::PublishError>(count)
        }));
    }
    let mut count = 0;
    for task in tasks {
        count += task.await??;
    }
    client.flush().await?;
    Ok(meter.finish(count))
}

async fn take(subscriber: &mut Subscriber, count: u64) -> Result<()> {
    for _ in 0..count {
        subscriber.next().await.ok_or("the subscription ended")?;
    }
    Ok(())
}

async fn order(plan: &Plan, client: &Client, count: u64) -> Result<()> {
    client.publish(FEED, plan.order(count).into()).await?;
    Ok(client.flush().await?)
}

async fn receive(plan: &Plan) -> Result<Outcome> {
    let client = connect(plan).await?;
    let mut subscriber = client.subscribe(Plan::subject(0)).await?;
    client.flush().await?;
    order(plan, &client, 1_000).await?;
    take(&mut subscriber, 1_000).await?;
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    let mut count = 0;
    while Instant::now() < end {
        order(plan, &client, plan.batch).await?;
        take(&mut subscriber, plan.batch).await?;
        count += plan.batch;
    }
    Ok(meter.finish(count))
}

/// A task for each subscription, which is what its users do.
async fn fan_out(plan: &Plan) -> Result<Outcome> {
    let client = connect(plan).await?;
    let goal = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let seen = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let (sender, mut reached) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..plan.subs {
        let mut subscriber = client.subscribe(Plan::subject(number)).await?;
        let (goal, seen, sender) = (Arc::clone(&goal), Arc::clone(&seen), sender.clone());
        tokio::spawn(async move {
            while subscriber.next().await.is_some() {
                if seen.fetch_add(1, Ordering::Relaxed) + 1 == goal.load(Ordering::Relaxed) {
                    let _ = sender.send(());
                }
            }
        });
    }
    client.flush().await?;
    let warm = plan.subs.max(1_000) as u64;
    goal.fetch_add(warm, Ordering::Relaxed);
    order(plan, &client, warm).await?;
    reached.recv().await.ok_or("ended")?;
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    let mut count = 0;
    while Instant::now() < end {
        goal.fetch_add(plan.batch, Ordering::Relaxed);
        order(plan, &client, plan.batch).await?;
        reached.recv().await.ok_or("ended")?;
        count += plan.batch;
    }
    Ok(meter.finish(count))
}

async fn pubsub(plan: &Plan) -> Result<Outcome> {
    let client = connect(plan).await?;
    let payload = Bytes::from(vec![b'x'; plan.size]);
    let mut subscriber = client.subscribe(Plan::subject(0)).await?;
    round_trip(&client).await?;
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    let mut count = 0;
    while Instant::now() < end {
        let (sending, payload) = (client.clone(), payload.clone());
        let batch = plan.batch;
        let subject = async_nats::Subject::from(Plan::subject(0));
        let sender = tokio::spawn(async move {
            for _ in 0..batch {
                sending.publish(subject.clone(), payload.clone()).await?;
            }
            Ok::<_, async_nats::PublishError>(())
        });
        take(&mut subscriber, batch).await?;
        sender.await??;
        count += batch;
    }
    Ok(meter.finish(count))
}

/// Requests of so many tasks.
async fn request(plan: &Plan, askers: usize) -> Result<Outcome> {
    let client = connect(plan).await?;
    let payload = Bytes::from(vec![b'x'; plan.size]);
    client.request(ECHO, payload.clone()).await?;
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    let mut tasks = Vec::new();
    for _ in 0..askers {
        let (client, payload) = (client.clone(), payload.clone());
        tasks.push(tokio::spawn(async move {
            let mut latencies = Latencies::new()?;
            loop {
                let start = Instant::now();
                if start >= end {
                    return Result::Ok(latencies);
                }
                client.request(ECHO, payload.clone()).await?;
                latencies.record(start);
            }
        }));
    }
    let mut all = Latencies::new()?;
    for task in tasks {
        all.add(&task.await??)?;
    }
    Ok(meter.finish_with(&all))
}

async fn flush(plan: &Plan) -> Result<Outcome> {
    let client = connect(plan).await?;
    let payload = Bytes::from(vec![b'x'; plan.size]);
    round_trip(&client).await?;
    let mut latencies = Latencies::new()?;
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    while Instant::now() < end {
        let start = Instant::now();
        client.publish(NOWHERE, payload.clone()).await?;
        round_trip(&client).await?;
        latencies.record(start);
    }
    Ok(meter.finish_with(&latencies))
}

async fn wake(plan: &Plan) -> Result<Outcome> {
    let (publisher, receiver) = (connect(plan).await?, connect(plan).await?);
    let payload = Bytes::from(vec![b'x'; plan.size]);
    let mut subscriber = receiver.subscribe(Plan::subject(0)).await?;
    round_trip(&receiver).await?;
    let (sender, mut arrived) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while subscriber.next().await.is_some() {
            let _ = sender.send(Instant::now());
        }
    });
    let mut latencies = Latencies::new()?;
    let meter = Meter::start();
    let end = Instant::now() + plan.time();
    while Instant::now() < end {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let sent = Instant::now();
        publisher.publish(Plan::subject(0), payload.clone()).await?;
        let at = arrived.recv().await.ok_or("ended")?;
        latencies.record_span(at.saturating_duration_since(sent));
    }
    Ok(meter.finish_with(&latencies))
}

fn connects(plan: &Plan, runtime: &Runtime) -> Result<Outcome> {
    let meter = Meter::start();
    let latencies = common::at_most(plan, || {
        runtime.block_on(async { Ok(connect(plan).await?.drain().await?) })
    })?;
    Ok(meter.finish_with(&latencies))
}

fn idle(plan: &Plan, runtime: &Runtime) -> Result<Outcome> {
    let time = plan.time();
    runtime.block_on(async {
        let client = connect(plan).await?;
        let _subscriber = client.subscribe(Plan::subject(0)).await?;
        client.flush().await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        let meter = Meter::start();
        tokio::time::sleep(time).await;
        Ok(meter.finish(1))
    })
}

async fn connection_memory(plan: &Plan) -> Result<Outcome> {
    let _first = connect(plan).await?;
    let before = resident()?;
    let mut clients = Vec::new();
    for _ in 0..plan.subs {
        clients.push(connect(plan).await?);
    }
    Ok(Outcome::of_value((resident()? - before) / clients.len() as f64))
}

async fn subscription_memory(plan: &Plan) -> Result<Outcome> {
    let client = connect(plan).await?;
    let before = resident()?;
    let mut subscribers = Vec::with_capacity(plan.subs);
    for number in 0..plan.subs {
        subscribers.push(client.subscribe(Plan::subject(number)).await?);
    }
    client.flush().await?;
    Ok(Outcome::of_value((resident()? - before) / subscribers.len() as f64))
}

async fn backlog_memory(plan: &Plan) -> Result<Outcome> {
    let client = connect(plan).await?;
    let _subscriber = client.subscribe(Plan::subject(0)).await?;
    client.flush().await?;
    let before = resident()?;
    order(plan, &client, plan.batch).await?;
    while client.statistics().in_messages.load(Ordering::Relaxed) < plan.batch {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    common::backlog(plan, before)
}
