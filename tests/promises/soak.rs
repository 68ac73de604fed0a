//! J2: a steady load for as long as `SOAK` says, in seconds; a few by default.

use std::env;
use std::fs;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{ConnectionEventKind as Kind, Options};

use crate::Tier;
use crate::support::leaks::Snapshot;
use crate::support::nats_server::NatsServer;

const LIMIT: Duration = Duration::from_secs(60);
/// From this length on the figures are held to their bounds; a short run only tells them.
const LONG: Duration = Duration::from_secs(1_800);
/// The part of the run before which memory may still settle.
const SETTLED: f64 = 0.1;
const SLOPE: f64 = (1 << 20) as f64;
const SLOWER: f64 = 1.2;

/// Memory of this process that is in the machine, in bytes; 0 where there is no `/proc`.
pub(crate) fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn percentile_99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

/// The 99th percentile of a part of the run; each time has its place in the run beside it.
fn part(times: &[(Duration, Duration)], length: Duration, from: f64, to: f64) -> Duration {
    let inside = |at: Duration| (from..=to).contains(&(at.as_secs_f64() / length.as_secs_f64()));
    let chosen = times.iter().filter(|(at, _)| inside(*at));
    percentile_99(&mut chosen.map(|(_, took)| *took).collect::<Vec<_>>())
}

fn length(tier: Tier) -> Duration {
    let told = env::var("SOAK").ok().map(|text| text.parse().expect("SOAK is in seconds"));
    Duration::from_secs(told.unwrap_or_else(|| tier.choose(10, 120)))
}

/// Requests, messages, subscriptions that come and go: everything stays as it is.
pub(crate) fn steady(tier: Tier) -> String {
    let length = length(tier);
    let server = NatsServer::start_plain();
    let recorder = Recorder::new();
    let connection = Options::builder()
        .server(server.url())
        .ping_interval(Duration::from_secs(1))
        .connection_listener(recorder.clone())
        .error_listener(recorder.clone())
        .connect()
        .unwrap();
    let echo = connection
        .dispatcher(|connection, message| {
            connection.respond(&message, message.payload()).expect("an answer");
        })
        .unwrap();
    echo.subscribe("echo").unwrap();
    let stream = connection.subscribe("stream").unwrap();
    connection.request("echo", "warm", LIMIT).unwrap();
    let (before, begun) = (Snapshot::take(), Instant::now());
    let (mut times, mut settled) = (Vec::new(), None);
    let mut messages = 0_u64;
    while begun.elapsed() < length {
        let round = Instant::now();
        for _ in 0..50 {
            let asked = Instant::now();
            connection.request("echo", [7; 100], LIMIT).unwrap();
            times.push((begun.elapsed(), asked.elapsed()));
            for _ in 0..20 {
                connection.publish("stream", [7; 100]).unwrap();
            }
        }
        for _ in 0..1_000 {
            stream.next_timeout(LIMIT).unwrap();
            messages += 1;
        }
        drop(connection.subscribe("brief").unwrap());
        connection.flush().unwrap();
        assert_eq!(Snapshot::take().beyond(&before), Vec::<String>::new());
        if settled.is_none() && begun.elapsed() > length.mul_f64(SETTLED) {
            settled = Some((Instant::now(), resident()));
        }
        // Paces: a steady load, not the most that is possible.
        std::thread::sleep(Duration::from_millis(20).saturating_sub(round.elapsed()));
    }
    let (since, memory) = settled.expect("a settled part");
    let grown = resident() as f64 - memory as f64;
    let slope = grown / since.elapsed().as_secs_f64() * 3_600.0;
    let (first, last) = (part(&times, length, 0.0, 0.2), part(&times, length, 0.8, 1.0));
    let explained = |told: &Happening| matches!(told.event_kind(), Some(Kind::Connected));
    assert_eq!(recorder.count(|told| !explained(told)), 0, "{}", recorder.timeline("unexplained"));
    if length >= LONG {
        assert!(slope < SLOPE, "memory grows by {slope:.0} bytes an hour");
        assert!(last <= first.mul_f64(SLOWER), "p99 was {first:?} and is {last:?}");
    }
    connection.close();
    recorder.check().unwrap();
    format!(
        "{} s: {} requests, {messages} messages, threads and descriptors unchanged, memory {:+.0} \
         KiB, p99 of a request {} µs at first and {} µs at last, unexplained events 0",
        length.as_secs(),
        times.len(),
        grown / 1024.0,
        first.as_micros(),
        last.as_micros()
    )
}
