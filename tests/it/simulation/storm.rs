//! A thousand clients lose their servers at one moment, and every client all the time a server that
//! does not last: nobody storms, nobody spins, everybody comes back.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::time::Duration;

use nats_blocking::internals::{Attempt, Servers};

use super::for_each_seed;
use crate::support::seed::Seed;

const SERVERS: &str = "a,b,c";
const WINDOW: Duration = Duration::from_millis(100);

fn pool(seed: &mut Seed, wait: Duration, jitter: Duration) -> Servers {
    Servers::new(SERVERS, wait, jitter, seed.next_u64()).expect("servers")
}

/// The default waits.
fn default_pool(seed: &mut Seed) -> Servers {
    pool(seed, Duration::from_secs(2), Duration::from_secs(1))
}

/// When each attempt was made, and by whom, until the servers are back and everybody is connected.
fn outage(seed: &mut Seed, clients: usize, downtime: Duration) -> Vec<(Duration, usize)> {
    let mut pools: Vec<_> = (0..clients).map(|_| default_pool(seed)).collect();
    let mut due = BinaryHeap::new();
    let mut pending: Vec<Option<Attempt>> = vec![None; clients];
    for (client, pool) in pools.iter_mut().enumerate() {
        let first = pool.next_attempt().expect("a server");
        pool.succeeded(&first.server).expect("known");
        pool.lost(Duration::from_secs(60));
        let attempt = pool.next_attempt().expect("a server");
        due.push(Reverse((attempt.wait, client)));
        pending[client] = Some(attempt);
    }
    let mut made = Vec::new();
    while let Some(Reverse((now, client))) = due.pop() {
        made.push((now, client));
        let attempt = pending[client].take().expect("an attempt");
        if now >= downtime {
            pools[client].succeeded(&attempt.server).expect("known");
            continue;
        }
        pools[client].failed(&attempt.server).expect("known");
        // A refusal takes no time at all: the worst case.
        let next = pools[client].next_attempt().expect("a server");
        due.push(Reverse((now + next.wait, client)));
        pending[client] = Some(next);
    }
    made
}

/// The most attempts in any window of that length, the first of which begins at `from` or later.
fn busiest(times: &[Duration], from: Duration, window: Duration) -> usize {
    let times: Vec<_> = times.iter().copied().filter(|time| *time >= from).collect();
    let mut most = 0;
    let mut start = 0;
    for end in 0..times.len() {
        while times[end] - times[start] >= window {
            start += 1;
        }
        most = most.max(end + 1 - start);
    }
    most
}

#[test]
fn a_thousand_clients_of_three_lost_servers_do_not_storm() {
    const CLIENTS: usize = 1_000;
    let (mut worst, mut worst_of_one) = (0, 0);
    let seeds = for_each_seed(20, |seed| {
        let downtime = Duration::from_secs(seed.within(5..30));
        let made = outage(seed, CLIENTS, downtime);
        let times: Vec<_> = made.iter().map(|(time, _)| *time).collect();
        worst = worst.max(busiest(&times, Duration::from_secs(1), WINDOW));
        let mut of_client = vec![Vec::new(); CLIENTS];
        for (time, client) in made {
            of_client[client].push(time);
        }
        for times in of_client {
            worst_of_one = worst_of_one.max(busiest(&times, Duration::ZERO, WINDOW * 10));
            let back = times.last().expect("it came back").saturating_sub(downtime);
            // At most one pause after the servers are back.
            assert!(back <= Duration::from_secs(3), "back after {back:?}");
        }
    });
    println!("{seeds} seeds: {worst} of 1,000 clients in 100 ms, {worst_of_one} attempts a second");
    assert!(worst <= CLIENTS * 15 / 100, "{worst} attempts in 100 ms");
    assert!(worst_of_one <= 20, "{worst_of_one} attempts of one client in a second");
}

#[test]
fn a_server_that_does_not_last_is_not_asked_in_a_tight_loop() {
    let mut worst = 0;
    for_each_seed(1_000, |seed| {
        let mut pool = default_pool(seed);
        let (mut now, mut times) = (Duration::ZERO, Vec::new());
        while now < Duration::from_secs(60) {
            let attempt = pool.next_attempt().expect("a server");
            now += attempt.wait;
            times.push(now);
            if seed.chance(1, 2) {
                pool.succeeded(&attempt.server).expect("known");
                let lasted = Duration::from_millis(seed.below(50));
                now += lasted;
                pool.lost(lasted);
            } else {
                pool.failed(&attempt.server).expect("known");
            }
        }
        worst = worst.max(busiest(&times, Duration::ZERO, WINDOW * 10));
    });
    println!("at most {worst} attempts a second");
    assert!(worst <= 20, "{worst} attempts in a second");
}

#[test]
fn waits_of_zero_are_short_and_do_not_spin() {
    for_each_seed(200, |seed| {
        let mut pool = pool(seed, Duration::ZERO, Duration::ZERO);
        let mut now = Duration::ZERO;
        let mut attempts = 0;
        while now < Duration::from_secs(10) {
            let attempt = pool.next_attempt().expect("a server");
            now += attempt.wait;
            attempts += 1;
            if seed.chance(1, 10) {
                pool.succeeded(&attempt.server).expect("known");
                pool.lost(Duration::ZERO);
            } else {
                pool.failed(&attempt.server).expect("known");
            }
            assert!(attempts < 10_000, "a busy loop");
        }
    });
}

#[test]
fn every_server_is_tried_in_each_pass_whatever_happens() {
    for_each_seed(10_000, |seed| {
        let mut pool = default_pool(seed);
        for _ in 0..seed.below(6) {
            let attempt = pool.next_attempt().expect("a server");
            pool.succeeded(&attempt.server).expect("known");
            pool.lost(Duration::from_secs(seed.below(3)));
            for _ in 0..seed.below(5) {
                let attempt = pool.next_attempt().expect("a server");
                pool.failed(&attempt.server).expect("known");
            }
        }
        let mut tried = HashSet::new();
        let mut wait = Duration::ZERO;
        for _ in 0..3 {
            let attempt = pool.next_attempt().expect("a server");
            wait += attempt.wait;
            tried.insert(attempt.server.clone());
            pool.failed(&attempt.server).expect("known");
        }
        assert_eq!(tried.len(), 3, "{tried:?}");
        assert!(wait <= Duration::from_secs(5), "a pass waits once: {wait:?}");
    });
}
