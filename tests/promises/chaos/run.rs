//! Periods of faults, and what must hold in the end.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::clients::{Asked, Client, Publisher, Receiver, ask, respond};
use super::faults::{FAULTS, Fault};
use super::wire::PROBES;
use crate::support::certificates::Authority;
use crate::support::cluster::Cluster;
use crate::support::leaks::{Snapshot, wait_back_to};
use crate::support::nats_server::Config;
use crate::support::seed::Seed;
use crate::support::wait::poll;
use crate::{Tier, ledger};

/// After the last fault everything works again within this time.
const BACK: Duration = Duration::from_secs(30);
const LIMIT: Duration = Duration::from_secs(60);

/// How long, how often the set of faults changes, the least number of faults.
struct Plan {
    length: Duration,
    period: Duration,
    least: u64,
}

/// Faults in periods, a quarter of them calm; gives how often each kind came.
fn disturb(
    plan: &Plan,
    clients: &[Client],
    cluster: &mut Cluster,
    seed: &mut Seed,
) -> BTreeMap<Fault, u64> {
    let mut counts = BTreeMap::new();
    let begun = Instant::now();
    let mut number = seed.below(4);
    while begun.elapsed() < plan.length || counts.values().sum::<u64>() < plan.least {
        number += 1;
        let period = Instant::now();
        if number % 4 == 0 {
            // Paces: a calm period.
            thread::sleep(plan.period);
            continue;
        }
        let mut kinds = FAULTS.to_vec();
        seed.shuffle(&mut kinds);
        kinds.truncate(4);
        while period.elapsed() < plan.period {
            let fault = *seed.pick(&kinds);
            fault.happen(clients, cluster, seed);
            *counts.entry(fault).or_default() += 1;
            // Paces: the time between faults, in which clients come back and work.
            thread::sleep(Duration::from_millis(seed.within(5..80)));
        }
    }
    counts
}

fn clients(cluster: &Cluster, authority: &Path) -> Vec<Client> {
    vec![
        Client::new("publishes over TCP", cluster, None),
        Client::new("publishes over TLS", cluster, Some(authority)),
        Client::new("receives over TCP", cluster, None),
        Client::new("receives over TLS", cluster, Some(authority)),
        Client::new("asks", cluster, None),
        Client::new("answers", cluster, Some(authority)),
    ]
}

/// Fourteen kinds of faults on a cluster of three.
pub(crate) fn chaos(tier: Tier) -> String {
    let seed = Seed::from_env_or(Seed::from_clock().number());
    let (number, mut seed) = (seed.number(), seed);
    println!("J1: SEED={number}");
    let plan = tier.choose(
        Plan { length: Duration::from_secs(60), period: Duration::from_secs(2), least: 100 },
        Plan { length: Duration::from_secs(600), period: Duration::from_secs(10), least: 300 },
    );
    let before = Snapshot::take();
    let authority = Authority::new();
    let tls = authority.server().tls_block("");
    let mut cluster =
        Cluster::start_with(3, &Config::new().extra(&tls).extra("allow_non_tls: true"));
    let clients = clients(&cluster, &authority.file);
    let (publish, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let receivers = [2, 3].map(|at: usize| Receiver::start(&clients[at].connection));
    let responder = respond(&clients[5].connection);
    let asked: Arc<Asked> = Arc::default();
    let asking = ask(&clients[4].connection, &stop, &asked);
    let publishers =
        [0, 1].map(|at: u32| Publisher::start(at, &clients[at as usize].connection, &publish));
    let counts = disturb(&plan, &clients, &mut cluster, &mut seed);
    let calm = Instant::now();
    for client in &clients {
        for proxy in &client.proxies {
            proxy.calm();
        }
    }
    publish.store(true, Ordering::SeqCst);
    let sent = publishers.map(Publisher::join);
    for client in &clients {
        let flushed = poll(BACK, || client.connection.flush_timeout(BACK).ok());
        assert!(flushed.is_some(), "{} is not back\n{:?}", client.name, client.recorder);
    }
    all_arrives(&clients, &receivers, &sent);
    let more = asked.answered.load(Ordering::SeqCst) + 1;
    let answered = poll(BACK, || (asked.answered.load(Ordering::SeqCst) > more).then_some(()));
    assert!(answered.is_some(), "requests are not answered again");
    let back = calm.elapsed();
    assert!(back <= BACK, "back after {back:?}");
    stop.store(true, Ordering::SeqCst);
    asking.join().unwrap();
    drop(responder);
    let figures = check(&clients, &receivers, &sent);
    drop((clients, receivers, cluster));
    wait_back_to(&before, LIMIT);
    let faults: u64 = counts.values().sum();
    format!(
        "{faults} faults of {} kinds, {figures}; {} requests answered, {} not, crossed 0; all back \
         {:.1} s after the last fault; threads and descriptors left over 0; seed {number}",
        counts.len(),
        asked.answered.load(Ordering::SeqCst),
        asked.failed.load(Ordering::SeqCst),
        back.as_secs_f64(),
    )
}

/// What is published now reaches every receiver. The routes between the nodes may still be on
/// their way, so each round publishes anew.
fn all_arrives(clients: &[Client], receivers: &[Receiver], sent: &[(u32, u64)]) {
    let mut payload = Vec::new();
    for (id, accepted) in sent {
        let connection = &clients[*id as usize].connection;
        let probe = id + PROBES;
        let mut number = *accepted;
        let arrived = poll(BACK, || {
            number += 1;
            ledger::write(&mut payload, probe, number, 0);
            connection.publish("chaos.probe", &payload).ok()?;
            connection.flush_timeout(BACK).ok()?;
            let there = |receiver: &Receiver| {
                receiver.handed.lock().unwrap().iter().rev().take(1_000).any(|e| e.0 == probe)
            };
            receivers.iter().all(there).then_some(())
        });
        assert!(arrived.is_some(), "{} reaches nobody", clients[*id as usize].name);
    }
}

/// The invariants.
fn check(clients: &[Client], receivers: &[Receiver], sent: &[(u32, u64)]) -> String {
    let mut losses = 0;
    for client in clients {
        client.connection.close();
        client.connection.wait_closed(LIMIT).unwrap();
        client.recorder.check().unwrap();
        let statistics = client.connection.statistics();
        assert_eq!(statistics.panics(), 0, "{}: panics", client.name);
        losses += statistics.disconnects();
    }
    let (mut runs, mut accepted) = (0, 0);
    for (id, count) in sent {
        accepted += count;
        let client = &clients[*id as usize];
        if !client.tls {
            let (_, gaps) = client.wire.check_out(client.name, *count);
            let most = client.connection.statistics().disconnects();
            assert!(gaps <= most, "{}: {gaps} runs did not go out, {most} losses", client.name);
            runs += gaps;
        }
    }
    let mut received = 0;
    for (receiver, client) in receivers.iter().zip(&clients[2..4]) {
        assert_eq!(receiver.corrupted.load(Ordering::SeqCst), 0, "{}: corrupted", client.name);
        let handed = receiver.handed.lock().unwrap();
        if !client.tls {
            client.wire.check_handed(client.name, &handed);
        }
        for (id, number) in handed.iter().filter(|entry| entry.0 < PROBES) {
            assert!(*number < sent[*id as usize].1, "{}: {number} was never sent", client.name);
        }
        received += handed.len();
    }
    assert!(received > 0, "nothing was received");
    format!(
        "{losses} disconnects of {} clients; {accepted} messages published, {received} received \
         by two, sent twice 0, out of order 0 on a link, corrupted 0, {runs} runs lost on the way \
         out",
        clients.len()
    )
}
