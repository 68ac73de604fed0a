//! A thousand clients lose their servers at one moment, and every client all the time a server that
//! does not last: nobody storms, nobody spins, everybody comes back.
//!
//! A storm is what a server sees. Within a pass over its servers a client makes two attempts a
//! second on average (a jitter of a second), so all of them together may make 20 % of a thousand
//! attempts in 100 ms however many servers there are, each server its share of them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::time::Duration;

use nats_blocking::internals::{Attempt, Servers};

use super::for_each_seed;
use crate::support::seed::Seed;

const SERVERS: [&str; 3] = ["n1", "n2", "n3"];
const CLIENTS: usize = 1_000;
const WINDOW: Duration = Duration::from_millis(100);

fn pool(servers: usize, seed: &mut Seed, wait: Duration, jitter: Duration) -> Servers {
    let servers = SERVERS[..servers].join(",");
    Servers::new(&servers, wait, jitter, seed.next_u64()).expect("servers")
}

const WAIT: Duration = Duration::from_secs(2);
/// The default jitter.
const JITTER: Duration = Duration::from_secs(1);

/// One attempt of the simulation.
struct Made {
    at: Duration,
    client: usize,
    server: String,
}

/// Every attempt until the servers are back and everybody is connected.
fn outage(seed: &mut Seed, servers: usize, jitter: Duration) -> Vec<Made> {
    let downtime = Duration::from_secs(seed.within(5..30));
    let mut pools: Vec<_> = (0..CLIENTS).map(|_| pool(servers, seed, WAIT, jitter)).collect();
    let mut due = BinaryHeap::new();
    let mut pending: Vec<Option<Attempt>> = vec![None; CLIENTS];
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
        let attempt = pending[client].take().expect("an attempt");
        made.push(Made { at: now, client, server: attempt.server.clone() });
        if now >= downtime {
            // At most one pause after the servers are back.
            assert!(now - downtime <= WAIT + jitter, "back after {:?}", now - downtime);
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

/// The worst of many outages of a thousand clients after the first second: attempts at one server,
/// and at all servers, in 100 ms, and attempts of one client in a second.
fn worst_outage(servers: usize, jitter: Duration) -> [usize; 3] {
    let first = Duration::from_secs(1);
    let mut worst = [0; 3];
    let seeds = for_each_seed(20, |seed| {
        let made = outage(seed, servers, jitter);
        for server in &SERVERS[..servers] {
            let at = made.iter().filter(|made| made.server.contains(server));
            let times: Vec<_> = at.map(|made| made.at).collect();
            worst[0] = worst[0].max(busiest(&times, first, WINDOW));
        }
        let times: Vec<_> = made.iter().map(|made| made.at).collect();
        worst[1] = worst[1].max(busiest(&times, first, WINDOW));
        let mut of_client = vec![Vec::new(); CLIENTS];
        for made in made {
            of_client[made.client].push(made.at);
        }
        for times in of_client {
            worst[2] = worst[2].max(busiest(&times, Duration::ZERO, WINDOW * 10));
        }
    });
    println!(
        "{servers} servers, {seeds} seeds: at most {} of 1,000 clients at one server in 100 ms, {} \
         at all of them, {} attempts of one client in a second",
        worst[0], worst[1], worst[2]
    );
    worst
}

#[test]
fn a_thousand_clients_of_one_lost_server_do_not_storm_it() {
    let [at_one, _, of_one_client] = worst_outage(1, JITTER);
    assert!(at_one <= 150, "{at_one} attempts in 100 ms");
    assert!(of_one_client <= 20, "{of_one_client} attempts of one client in a second");
}

#[test]
fn a_thousand_clients_of_three_lost_servers_storm_none_of_them() {
    let [at_one, at_all, of_one_client] = worst_outage(3, JITTER);
    assert!(at_one <= 150, "{at_one} attempts at one server in 100 ms");
    assert!(at_all <= 250, "{at_all} attempts in 100 ms");
    assert!(of_one_client <= 20, "{of_one_client} attempts of one client in a second");
}

/// The control: what the simulation must notice.
#[test]
fn with_a_jitter_of_a_tenth_of_a_second_they_would_storm() {
    let [at_one, ..] = worst_outage(1, JITTER / 10);
    assert!(at_one > 500, "{at_one} attempts in 100 ms");
}

#[test]
fn a_server_that_does_not_last_is_not_asked_in_a_tight_loop() {
    let mut worst = 0;
    for_each_seed(1_000, |seed| {
        let mut pool = pool(3, seed, WAIT, JITTER);
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
        let mut pool = pool(3, seed, Duration::ZERO, Duration::ZERO);
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
        let mut pool = pool(3, seed, WAIT, JITTER);
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
