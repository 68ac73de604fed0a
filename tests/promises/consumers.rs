//! Consumers that are slow, stuck or drained.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{Connection, Consumer, Dispatcher, Options, PendingLimits};

use crate::Tier;
use crate::support::frames::Op;
use crate::support::nats_server::NatsServer;
use crate::support::proxy::{Proxy, Way};
use crate::support::seed::Seed;
use crate::support::wait::{Gate, poll};

const LIMIT: Duration = Duration::from_secs(60);

/// Connections are drained while messages come: their handlers see all that reached the client.
pub(crate) fn drained(tier: Tier) -> String {
    let seed = Seed::from_env_or(Seed::from_clock().number());
    let (number, mut seed) = (seed.number(), seed);
    println!("E6: SEED={number}");
    let drains = tier.choose(200, 2_000);
    let server = NatsServer::start_plain();
    let beside = Options::builder().server(server.url()).connect().unwrap();
    let mut messages = 0;
    for _ in 0..drains {
        let proxy = Proxy::start(server.client_address(), number);
        let recorder = Recorder::new();
        let connection = Options::builder()
            .server(proxy.url())
            .connection_listener(recorder.clone())
            .connect()
            .unwrap();
        let handled = Arc::new(AtomicU64::new(0));
        let inside = Arc::clone(&handled);
        let slow = Duration::from_micros(seed.below(300));
        let dispatcher = connection
            .dispatcher(move |_, _| {
                // Paces: the handler that is slow.
                thread::sleep(slow);
                inside.fetch_add(1, Ordering::SeqCst);
            })
            .unwrap();
        dispatcher.subscribe("drained").unwrap();
        connection.flush().unwrap();
        let publisher = {
            let (beside, count) = (beside.clone(), seed.within(1..400));
            thread::spawn(move || {
                for _ in 0..count {
                    beside.publish("drained", "x").unwrap();
                }
                beside.flush().unwrap();
            })
        };
        let early = seed.below(100);
        let _ = poll(Duration::from_millis(20), || {
            (handled.load(Ordering::SeqCst) >= early).then_some(())
        });
        connection.drain(LIMIT).unwrap();
        publisher.join().unwrap();
        // A proxy counts what it has written: it is done once no link is open.
        poll(LIMIT, || (proxy.open_links() == 0).then_some(())).expect("the end of all links");
        let received = proxy.count(Way::ToClient, Op::Msg);
        assert_eq!(handled.load(Ordering::SeqCst), received, "handled and received differ");
        let closed = recorder.count(|happening| {
            matches!(
                happening.event_kind(),
                Some(nats_blocking::ConnectionEventKind::Closed { .. })
            )
        });
        assert_eq!(closed, 1);
        recorder.check().unwrap();
        messages += received;
    }
    format!("{drains} drains, {messages} messages received and handled; seed {number}")
}

/// A dispatcher that only counts.
fn counting(connection: &Connection, count: &Arc<AtomicU64>) -> Dispatcher {
    let count = Arc::clone(count);
    let dispatcher = connection
        .dispatcher(move |_, _| {
            count.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    dispatcher.subscribe("all").unwrap();
    dispatcher
}

/// One consumer is stuck beside nine quick ones.
pub(crate) fn stuck(tier: Tier) -> String {
    let total: u64 = tier.choose(1_000_000, 10_000_000) / 10;
    let server = NatsServer::start_plain();
    let recorder = Recorder::new();
    let connection = Options::builder()
        .server(server.url())
        .error_listener(recorder.clone())
        .pending_limits(PendingLimits::UNLIMITED)
        .connect()
        .unwrap();
    let gate = Gate::new();
    let (stuck_gate, opened) = (gate.clone(), Arc::new(AtomicU64::new(0)));
    let stuck_count = Arc::clone(&opened);
    let stuck = connection
        .dispatcher(move |_, _| {
            assert!(stuck_gate.wait(LIMIT), "the gate opens");
            stuck_count.fetch_add(1, Ordering::SeqCst);
        })
        .unwrap();
    let limits = PendingLimits::new(1_000, 1 << 20);
    stuck.set_pending_limits(limits);
    stuck.subscribe("all").unwrap();
    let counts: Vec<_> = (0..9).map(|_| Arc::new(AtomicU64::new(0))).collect();
    let quick: Vec<_> = counts.iter().map(|count| counting(&connection, count)).collect();
    connection.flush().unwrap();
    let publisher = Options::builder().server(server.url()).connect().unwrap();
    for sent in 0..total {
        publisher.publish("all", [0; 16]).unwrap();
        if sent % 20_000 == 0 {
            publisher.flush().unwrap();
            poll(LIMIT, || {
                let behind =
                    counts.iter().any(|count| count.load(Ordering::SeqCst) + 40_000 < sent);
                (!behind).then_some(())
            })
            .expect("the quick ones keep up");
        }
        assert!(stuck.pending_messages() <= limits.messages());
    }
    publisher.flush().unwrap();
    for count in &counts {
        poll(LIMIT, || (count.load(Ordering::SeqCst) == total).then_some(()))
            .expect("a quick one gets everything");
    }
    connection.flush().unwrap();
    gate.open();
    poll(LIMIT, || (opened.load(Ordering::SeqCst) + stuck.dropped() == total).then_some(()))
        .expect("handled and dropped are all");
    let episodes = recorder.count(|happening| matches!(happening, Happening::SlowConsumer { .. }));
    assert_eq!(episodes, 1, "one notice for one episode");
    assert!(quick.iter().all(|dispatcher| dispatcher.dropped() == 0));
    format!(
        "{} messages to ten consumers: the stuck one handled {} and dropped {}, told once; the \
         quick ones dropped 0",
        total * 10,
        opened.load(Ordering::SeqCst),
        stuck.dropped()
    )
}
