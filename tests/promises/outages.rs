//! What is published, subscribed and half received while connections come and go.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use nats_blocking::testing::Recorder;
use nats_blocking::{
    Connection, ConnectionStatus, Consumer, ErrorKind, Options, OptionsBuilder, ReconnectBuffer,
};

use crate::Tier;
use crate::support::faults::{Cut, Faults};
use crate::support::frames::Op;
use crate::support::nats_server::NatsServer;
use crate::support::proxy::{Proxy, Watch, Way};
use crate::support::seed::Seed;
use crate::support::wait::poll;

const LIMIT: Duration = Duration::from_secs(60);

fn options(url: &str) -> OptionsBuilder {
    Options::builder()
        .server(url)
        .reconnect_wait(Duration::from_millis(2))
        .reconnect_jitter(Duration::from_millis(2))
}

/// Takes the connection down, until the proxy is calm again.
fn take_down(proxy: &Proxy, connection: &Connection) {
    proxy.refuse(true);
    proxy.cut(Cut::Reset);
    connection.wait_for_status(ConnectionStatus::Reconnecting, LIMIT).unwrap();
}

fn bring_back(proxy: &Proxy, connection: &Connection) {
    proxy.calm();
    connection.wait_for_status(ConnectionStatus::Connected, LIMIT).unwrap();
}

/// Everything published while the connection is down arrives, whole and in order; what is beyond
/// the buffer is refused.
pub(crate) fn buffered(tier: Tier) -> String {
    let outages: u64 = tier.choose(500, 5_000);
    let server = NatsServer::start_plain();
    let proxy = Proxy::start(server.client_address(), 1);
    let recorder = Recorder::new();
    let connection = options(&proxy.url())
        .reconnect_buffer(ReconnectBuffer::Bytes(10_000))
        .connection_listener(recorder.clone())
        .connect()
        .unwrap();
    let beside = Options::builder().server(server.url()).connect().unwrap();
    let arrived = beside.subscribe("buffered").unwrap();
    beside.flush().unwrap();
    let (mut number, mut refused) = (0_u64, 0_u64);
    for outage in 0..outages {
        take_down(&proxy, &connection);
        let first = number;
        // Every tenth outage runs into the limit.
        let most = if outage % 10 == 0 { u64::MAX } else { 200 };
        while number - first < most {
            match connection.publish("buffered", number.to_string()) {
                Ok(()) => number += 1,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::ReconnectBufferFull, "{error}");
                    refused += 1;
                    break;
                }
            }
        }
        assert!(number - first >= 200, "only {} fit into the buffer", number - first);
        bring_back(&proxy, &connection);
        connection.flush_timeout(LIMIT).unwrap();
        for expected in first..number {
            let message = arrived.next_timeout(LIMIT).unwrap();
            assert_eq!(message.text().unwrap(), expected.to_string());
        }
    }
    assert!(arrived.try_next().unwrap().is_none(), "one more than was published");
    connection.close();
    recorder.check().unwrap();
    format!(
        "{number} published in {outages} outages arrived in order, {refused} runs into the limit"
    )
}

/// A connection is cut at every byte of three frames: no half of one reaches the next connection.
pub(crate) fn every_byte(_: Tier) -> String {
    let server = NatsServer::start_plain();
    let proxy = Proxy::start(server.client_address(), 1);
    let recorder = Recorder::new();
    let connection = options(&proxy.url())
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    let beside = Options::builder().server(server.url()).connect().unwrap();
    let arrived = beside.subscribe("cut").unwrap();
    beside.flush().unwrap();
    let login = proxy.passed(Way::ToServer)[0].bytes;
    let payload = |round: u64, frame: u64| format!("{round}:{frame}:{}", "x".repeat(100));
    let frames = 3 * (b"PUB cut 106\r\n".len() + payload(100, 0).len() + 2) as u64 + 10;
    let mut counts = BTreeMap::<String, u64>::new();
    for cut in 0..frames {
        let how = if cut % 2 == 0 { Cut::Close } else { Cut::Reset };
        proxy.set(Way::ToServer, Faults::cut_after(login + cut, how));
        connection.force_reconnect().unwrap();
        let new = connection.statistics().connects();
        let _ = poll(Duration::from_millis(50), || {
            (connection.statistics().connects() > new).then_some(())
        });
        for frame in 0..3 {
            connection.publish("cut", payload(cut, frame)).unwrap();
        }
        let _ = connection.flush_timeout(Duration::from_millis(20));
        bring_back(&proxy, &connection);
        // After a flush on a calm connection everything that will arrive has.
        poll(LIMIT, || connection.flush_timeout(LIMIT).ok()).expect("a flush");
        beside.flush().unwrap();
        for message in arrived.try_iter() {
            *counts.entry(message.text().unwrap().to_owned()).or_default() += 1;
        }
    }
    let doubled: Vec<_> = counts.iter().filter(|(_, count)| **count > 1).collect();
    assert!(doubled.is_empty(), "doubled: {doubled:?}");
    assert_eq!(proxy.broken(Way::ToServer), Vec::<String>::new());
    let said = connection.statistics().errors();
    assert_eq!(said, 0, "the server complained: {:?}", recorder.records());
    connection.close();
    recorder.check().unwrap();
    format!(
        "{frames} places, {} of {} messages arrived, none twice, no -ERR",
        counts.len(),
        frames * 3
    )
}

/// A subscription that ends after n messages gets n of them, whatever happens in between.
pub(crate) fn auto_unsubscribe(tier: Tier) -> String {
    let seed = Seed::from_env_or(Seed::from_clock().number());
    let (number, mut seed) = (seed.number(), seed);
    println!("E7: SEED={number}");
    let server = NatsServer::start_plain();
    let proxy = Proxy::start(server.client_address(), number);
    let connection = options(&proxy.url()).connect().unwrap();
    let beside = Options::builder().server(server.url()).connect().unwrap();
    let rounds = tier.choose(200, 2_000);
    for round in 0..rounds {
        let max = seed.within(1..1_000);
        let subject = format!("auto.{round}");
        let subscription = connection.subscribe(&subject).unwrap();
        subscription.unsubscribe_after(max).unwrap();
        connection.flush_timeout(LIMIT).unwrap();
        let before = seed.below(max);
        for _ in 0..before {
            beside.publish(&subject, "").unwrap();
        }
        beside.flush().unwrap();
        proxy.cut(*seed.pick(&[Cut::Close, Cut::Reset]));
        let lost = round as u64 + 1;
        poll(LIMIT, || (connection.statistics().reconnects() >= lost).then_some(()))
            .expect("a reconnect");
        poll(LIMIT, || connection.flush_timeout(LIMIT).ok()).expect("a flush");
        for _ in 0..max + 10 {
            beside.publish(&subject, "").unwrap();
        }
        beside.flush().unwrap();
        let mut got = 0;
        while let Ok(_message) = subscription.next_timeout(LIMIT) {
            got += 1;
        }
        assert_eq!(got, max, "round {round}");
        assert_eq!(subscription.delivered(), max);
    }
    connection.flush_timeout(LIMIT).unwrap();
    assert_eq!(connection.subscription_count(), 0);
    format!("{rounds} subscriptions with a reconnect each got exactly their number; seed {number}")
}

/// The sids that one link has announced, and what was wrong with them.
#[derive(Default)]
struct Announced {
    live: HashSet<String>,
    twice: Vec<String>,
}

/// Every connection announces each live subscription once, while threads add and remove some.
pub(crate) fn restored(tier: Tier) -> String {
    let (count, cuts) = tier.choose((10_000, 60), (10_000, 400));
    let server = NatsServer::start_plain();
    let links: Arc<Mutex<BTreeMap<u64, Announced>>> = Arc::default();
    let seen = Arc::clone(&links);
    let watch: Watch = Arc::new(move |link, way, frame| {
        let mut links = seen.lock().unwrap();
        let announced = links.entry(link).or_default();
        match (way, frame.op) {
            (Way::ToServer, Op::Sub) => {
                let sid = frame.arguments.rsplit(' ').next().unwrap_or("").to_owned();
                if !announced.live.insert(sid.clone()) {
                    announced.twice.push(sid);
                }
            }
            // With a number the subscription goes on for a while.
            (Way::ToServer, Op::Unsub) if frame.argument(1).is_empty() => {
                announced.live.remove(frame.argument(0));
            }
            _ => {}
        }
    });
    let proxy = Proxy::start_watched(server.client_address(), 1, Some(watch));
    let connection = options(&proxy.url()).connect().unwrap();
    let kept: Vec<_> =
        (0..count).map(|at| connection.subscribe(format!("kept.{at}")).unwrap()).collect();
    connection.flush_timeout(LIMIT).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let threads: Vec<_> = (0..4)
        .map(|at| {
            let (connection, over) = (connection.clone(), Arc::clone(&over));
            thread::spawn(move || {
                let mut some = Vec::new();
                let mut number = 0_u64;
                while !over.load(Ordering::SeqCst) {
                    some.push(connection.subscribe(format!("some.{at}.{number}")).unwrap());
                    number += 1;
                    if some.len() > 50 {
                        drop(some.swap_remove(number as usize % 50));
                    }
                }
                (some, number)
            })
        })
        .collect();
    for cut in 0..cuts {
        proxy.cut(if cut % 2 == 0 { Cut::Close } else { Cut::Reset });
        poll(LIMIT, || (connection.statistics().reconnects() > cut).then_some(()))
            .expect("a reconnect");
    }
    over.store(true, Ordering::SeqCst);
    let joined: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    let changes: u64 = joined.iter().map(|(_, number)| number).sum();
    let some: Vec<_> = joined.into_iter().flat_map(|(some, _)| some).collect();
    poll(LIMIT, || connection.flush_timeout(LIMIT).ok()).expect("a flush");
    let live: HashSet<String> =
        kept.iter().chain(&some).map(|subscription| subscription.sid().to_string()).collect();
    // A proxy looks at what it has written: at the last of it perhaps later than the server.
    let told = || Some(links.lock().unwrap().values().next_back()?.live == live);
    let _ = poll(LIMIT, || told().filter(|all| *all));
    let links = links.lock().unwrap();
    for (link, announced) in links.iter() {
        assert_eq!(announced.twice, Vec::<String>::new(), "link {link} announced one twice");
    }
    let last = links.values().next_back().expect("a link");
    assert_eq!(last.live, live, "not what lives");
    format!("{cuts} reconnects with {count} subscriptions and {changes} more that came and went")
}
