//! The keep-alive under virtual time: a dead server is found on time, a slow one is kept.

use std::time::Duration;

use nats_blocking::internals::KeepAlive;

use super::for_each_seed;

/// What the reader does: waits for a byte at most one interval at a time. Returns when the server
/// was given up, if it was before `until`.
fn given_up(
    bytes: impl IntoIterator<Item = Duration>,
    interval: Duration,
    max: u32,
    until: Duration,
) -> Option<Duration> {
    let mut keep_alive = KeepAlive::new(Some(max));
    let (mut since, mut pings) = (Duration::ZERO, 0_u32);
    let mut bytes = bytes.into_iter().peekable();
    while since < until {
        match bytes.peek() {
            Some(next) if *next <= since + interval => {
                since = *next;
                bytes.next();
                keep_alive.bytes_arrived();
                pings = 0;
            }
            _ => {
                since += interval;
                if !keep_alive.idle() {
                    assert_eq!(pings, max, "given up without having asked");
                    return Some(since);
                }
                pings += 1;
            }
        }
    }
    None
}

#[test]
fn a_dead_server_is_found_within_its_pings_and_never_sooner() {
    let cases = for_each_seed(100_000, |seed| {
        let interval = Duration::from_millis(seed.within(1..120_000));
        let max = seed.below(6) as u32;
        let mut at = Duration::ZERO;
        // Bytes that come in time, then none.
        let count = seed.below(20);
        let longest = (interval * (max + 1)).as_millis() as u64;
        let bytes: Vec<_> = (0..count)
            .map(|_| {
                at += Duration::from_millis(seed.below(longest.max(1)));
                at
            })
            .collect();
        let last = bytes.last().copied().unwrap_or_default();
        let until = last + interval * (max + 3);
        let found = given_up(bytes, interval, max, until).expect("it is dead");
        assert_eq!(found, last + interval * (max + 1));
    });
    println!("{cases} cases");
}
