//! Both directions of one TLS connection at full speed, against two connections with one each.
//!
//! The same bytes go through the same server, there and back: over one connection that publishes
//! to itself, and over one that publishes to another. If reading and writing waited for each other
//! the first would be much slower. `TLS_MIB=1024` is the full size; the ratio is that of the best
//! of some rounds, for this machine does other things too.

use std::env;
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::{Connection, Options, PendingLimits};

use crate::support::certificates::Authority;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::watchdog::within;

const LIMIT: Duration = Duration::from_secs(60);
const LONG: Duration = Duration::from_secs(900);
const MESSAGE: usize = 32 * 1024;
const ROUNDS: usize = 5;
/// What one connection must reach of the throughput of two.
const RATIO: f64 = 0.8;

/// The bytes a second, in MiB, of this many messages from the one to the other.
fn exchange(from: &Connection, to: &Connection, messages: usize) -> f64 {
    let subscription = to.subscribe("bulk").unwrap();
    subscription.set_pending_limits(PendingLimits::UNLIMITED);
    to.flush().unwrap();
    let started = Instant::now();
    let from = from.clone();
    let publish = move || {
        let payload = vec![b'x'; MESSAGE];
        for _ in 0..messages {
            from.publish("bulk", &payload).unwrap();
        }
    };
    let publisher = thread::Builder::new().name("publisher".to_owned()).spawn(publish).unwrap();
    for _ in 0..messages {
        let message = subscription.next_timeout(LIMIT).unwrap();
        assert_eq!(message.payload().len(), MESSAGE);
    }
    publisher.join().unwrap();
    (messages * MESSAGE) as f64 / f64::from(1 << 20) / started.elapsed().as_secs_f64()
}

#[test]
fn one_connection_reads_and_writes_at_once_as_fast_as_two() {
    within(LONG, "throughput", || {
        let mib = env::var("TLS_MIB").map_or(48, |text| text.parse().expect("a number of MiB"));
        let messages = mib * (1 << 20) / MESSAGE;
        let authority = Authority::new();
        let config = Config::new().extra(&authority.server().tls_block(""));
        let server = NatsServer::start(&config.max_pending(1 << 30));
        let connect = || {
            let options = Options::builder().server(server.url()).connect_timeout(LIMIT);
            options.root_certificates_file(&authority.file).connect().unwrap()
        };
        let (one, sender, receiver) = (connect(), connect(), connect());
        let mut best = 0.0_f64;
        for round in 1..=ROUNDS {
            let alone = exchange(&one, &one, messages);
            let paired = exchange(&sender, &receiver, messages);
            let ratio = alone / paired;
            println!("{mib} MiB, round {round}: {alone:.0} MiB/s, of two {paired:.0}: {ratio:.2}");
            best = best.max(ratio);
            if best >= RATIO && mib < 1024 {
                break;
            }
        }
        assert!(best >= RATIO, "one connection reaches {best:.2} of two");
        for connection in [one, sender, receiver] {
            connection.close();
        }
    });
}
