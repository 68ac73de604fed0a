//! Dead and slow peers: nobody waits longer than was agreed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::Recorder;
use nats_blocking::{Connection, ConnectionStatus, ErrorKind, Options, OutboxPolicy};

use crate::Tier;
use crate::support::faults::Faults;
use crate::support::nats_server::NatsServer;
use crate::support::proxy::{Proxy, Way};
use crate::support::wait::Signal;

const LIMIT: Duration = Duration::from_secs(60);
const AT_ONCE: usize = 20;
const BLOCK: Duration = Duration::from_millis(300);
const PINGS: Duration = Duration::from_millis(400);
const PINGS_OUT: u32 = 2;
const CLOSE: Duration = Duration::from_secs(2);
/// What is added to each bound: everything runs at once on two cores. Alone it is a tenth.
const SLACK: Duration = Duration::from_secs(3);

/// The longest of each kind of wait, in microseconds.
#[derive(Default)]
struct Longest {
    publish: AtomicU64,
    subscribe: AtomicU64,
    notice: AtomicU64,
    close: AtomicU64,
}

/// Runs a call and keeps its time if it is the longest; panics if it is over its bound.
fn timed<T>(longest: &AtomicU64, bound: Duration, name: &str, call: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let result = call();
    let took = begun.elapsed();
    longest.fetch_max(took.as_micros() as u64, Ordering::Relaxed);
    assert!(took <= bound, "{name} took {took:?}, at most {bound:?}");
    result
}

/// One connection to a peer that dies: a publisher, a subscriber, and the close in the end.
fn meet_a_dead_peer(url: &str, die: &dyn Fn(), longest: &Arc<Longest>) {
    let recorder = Recorder::new();
    let connection = Options::builder()
        .server(url)
        .ping_interval(PINGS)
        .max_pings_out(PINGS_OUT)
        .connect_timeout(Duration::from_secs(10))
        .close_timeout(CLOSE)
        .outbox_policy(OutboxPolicy::Block(BLOCK))
        .connection_listener(recorder.clone())
        .connect()
        .unwrap();
    let over = Arc::new(AtomicBool::new(false));
    die();
    let died = Instant::now();
    let threads = [publishes, subscribes].map(|body| {
        let (connection, over, longest) = (connection.clone(), over.clone(), Arc::clone(longest));
        thread::spawn(move || body(&connection, &over, &longest))
    });
    let lost = connection.wait_for_status(ConnectionStatus::Reconnecting, LIMIT);
    lost.expect("the silence is noticed");
    let noticed = died.elapsed();
    longest.notice.fetch_max(noticed.as_micros() as u64, Ordering::Relaxed);
    let bound = PINGS * (PINGS_OUT + 1) + Duration::from_secs(1) + SLACK;
    assert!(noticed <= bound, "noticed after {noticed:?}, at most {bound:?}");
    timed(&longest.close, CLOSE + SLACK, "close", || connection.close());
    over.store(true, Ordering::SeqCst);
    for thread in threads {
        thread.join().unwrap();
    }
    recorder.check().unwrap();
}

fn publishes(connection: &Connection, over: &AtomicBool, longest: &Longest) {
    let payload = vec![0; 256 * 1024];
    while !over.load(Ordering::SeqCst) {
        let publish = || connection.publish("into.the.void", &payload);
        if timed(&longest.publish, BLOCK + SLACK, "publish", publish).is_err() {
            // Paces: the next try, like a program that was told of a full buffer.
            thread::sleep(Duration::from_millis(20));
        }
    }
}

fn subscribes(connection: &Connection, over: &AtomicBool, longest: &Longest) {
    let bound = Duration::from_millis(100) + SLACK;
    while !over.load(Ordering::SeqCst) {
        timed(&longest.subscribe, bound, "subscribe and look", || {
            drop(connection.subscribe("a.b"));
            connection.statistics().reconnects() + connection.pending_out().0
        });
        // Paces: the calls of a program that does something else, too.
        thread::sleep(Duration::from_millis(5));
    }
}

/// The peer stops: the server itself, or the way to it.
pub(crate) fn dead_peers(tier: Tier) -> String {
    let rounds = tier.choose(5, 10);
    let longest = Arc::new(Longest::default());
    for stopped_server in [true, false] {
        for _ in 0..rounds {
            let server = Arc::new(NatsServer::start_plain());
            let proxy = Arc::new(Proxy::start(server.client_address(), 1));
            let connected: Arc<Signal<usize>> = Arc::default();
            let threads: Vec<_> = (0..AT_ONCE)
                .map(|_| {
                    let (server, proxy) = (Arc::clone(&server), Arc::clone(&proxy));
                    let connected = Arc::clone(&connected);
                    let longest = Arc::clone(&longest);
                    thread::spawn(move || {
                        let die = || {
                            connected.change(|count| *count += 1);
                            let all = |count: &mut usize| (*count == AT_ONCE).then_some(());
                            connected.wait(LIMIT, all).expect("all are there");
                            if stopped_server {
                                server.stop();
                            } else {
                                proxy.set_both(&Faults::stopped());
                            }
                        };
                        meet_a_dead_peer(&proxy.url(), &die, &longest);
                    })
                })
                .collect();
            for thread in threads {
                thread.join().unwrap();
            }
            server.cont();
        }
    }
    let milliseconds = |longest: &AtomicU64| longest.load(Ordering::Relaxed).div_ceil(1_000);
    format!(
        "{} dead peers: publish at most {} ms (allowed {} ms), subscribe {} ms, noticed after at \
         most {} ms (pings: {} ms), close {} ms",
        rounds * 2 * AT_ONCE,
        milliseconds(&longest.publish),
        BLOCK.as_millis(),
        milliseconds(&longest.subscribe),
        milliseconds(&longest.notice),
        (PINGS * (PINGS_OUT + 1)).as_millis(),
        milliseconds(&longest.close),
    )
}

/// A slow link that is alive is not cut: bytes that arrive are life.
pub(crate) fn slow_links(tier: Tier) -> String {
    let bytes = tier.choose(1_000_000, 3_000_000);
    let server =
        NatsServer::start(&crate::support::nats_server::Config::new().max_payload(8_000_000));
    let proxy = Proxy::start(server.client_address(), 1);
    let connection = Options::builder()
        .server(proxy.url())
        .ping_interval(Duration::from_secs(1))
        .max_pings_out(1)
        .connect()
        .unwrap();
    let subscription = connection.subscribe("slow").unwrap();
    connection.flush().unwrap();
    let slow = Faults { bytes_per_second: Some(100_000), ..Faults::default() };
    proxy.set(Way::ToClient, slow);
    let beside = Options::builder().server(server.url()).connect().unwrap();
    beside.publish("slow", vec![7; bytes]).unwrap();
    beside.flush().unwrap();
    let begun = Instant::now();
    let message = subscription.next_timeout(LIMIT * 2).unwrap();
    let took = begun.elapsed();
    assert_eq!(message.payload().len(), bytes);
    assert_eq!(connection.statistics().disconnects(), 0, "a slow link was cut");
    // Now it dies in the middle of a message.
    beside.publish("slow", vec![7; bytes]).unwrap();
    beside.flush().unwrap();
    proxy.set_both(&Faults::stopped());
    let died = Instant::now();
    connection.wait_for_status(ConnectionStatus::Reconnecting, LIMIT).unwrap();
    let noticed = died.elapsed();
    assert!(noticed < Duration::from_secs(3) + SLACK * 2, "noticed after {noticed:?}");
    proxy.calm();
    connection.wait_for_status(ConnectionStatus::Connected, LIMIT).unwrap();
    let error = connection.request("nobody", "", LIMIT).expect_err("nobody is there");
    assert_eq!(error.kind(), ErrorKind::NoResponders);
    format!(
        "one message of {bytes} bytes took {:.1} s at 100 kB/s with pings of 1 s: not cut; its \
         death in the middle noticed after {} ms",
        took.as_secs_f64(),
        noticed.as_millis()
    )
}
