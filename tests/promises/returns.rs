//! F4 and F9: servers that come back, and servers that leave.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nats_blocking::testing::{Happening, Recorder};
use nats_blocking::{
    Connection, ConnectionEventKind as Kind, Consumer, Options, OptionsBuilder, ServerList,
    Subscription,
};

use crate::Tier;
use crate::support::cluster::Cluster;
use crate::support::nats_server::{Config, NatsServer};
use crate::support::wait::poll;

const LIMIT: Duration = Duration::from_secs(60);
const FORM_LIMIT: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_millis(100);
const JITTER: Duration = Duration::from_millis(50);
/// What a reconnect may take by itself, half of the time.
const USUAL: Duration = Duration::from_millis(200);
/// And at worst: everything runs at once on two cores.
const SLACK: Duration = Duration::from_secs(5);
const CLIENTS: usize = 10;

fn options(servers: impl ServerList) -> OptionsBuilder {
    Options::builder()
        .servers(servers)
        .connect_timeout(LIMIT)
        .reconnect_wait(WAIT)
        .reconnect_jitter(JITTER)
}

fn is_back(told: &Happening) -> bool {
    matches!(told.event_kind(), Some(Kind::Resubscribed { .. }))
}

/// A client that is told of everything, and gets a message back.
struct Client {
    connection: Connection,
    recorder: Recorder,
    subscription: Subscription,
}

impl Client {
    fn new(number: usize, options: OptionsBuilder) -> Self {
        let recorder = Recorder::new();
        let connection = options
            .connection_listener(recorder.clone())
            .error_listener(recorder.clone())
            .connect()
            .unwrap();
        let subscription = connection.subscribe(format!("own.{number}")).unwrap();
        connection.flush().unwrap();
        Self { connection, recorder, subscription }
    }

    fn round_trip(&self) {
        self.connection.publish(self.subscription.subject(), "there").unwrap();
        self.subscription.next_timeout(LIMIT).unwrap();
    }

    fn finish(self) {
        self.connection.close();
        self.recorder.check().unwrap();
    }
}

/// How long after `since` each of them was back for that time, the first one being 1.
fn times(clients: &[Client], time: usize, since: Instant) -> Vec<Duration> {
    let wait = |client: &Client| {
        let back = client.recorder.wait_for_count(LIMIT, time, is_back);
        back.unwrap_or_else(|timeline| panic!("{timeline}"));
        since.elapsed()
    };
    clients.iter().map(wait).collect()
}

/// A server that is killed and started again, and the nodes of a cluster one after the other.
pub(crate) fn restarts(tier: Tier) -> String {
    let rounds = tier.choose(30, 1_000);
    let mut server = NatsServer::start_plain();
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| Client::new(number, options(server.url()))).collect();
    let mut back = Vec::new();
    for round in 1..=rounds {
        server.kill();
        server.restart();
        server.wait_ready(LIMIT);
        back.extend(times(&clients, round, Instant::now()));
        clients.iter().for_each(Client::round_trip);
    }
    for client in clients {
        assert_eq!(client.connection.statistics().reconnects(), rounds as u64);
        client.finish();
    }
    back.sort_unstable();
    let (usual, worst) = (back[back.len() / 2], back[back.len() - 1]);
    let bound = WAIT + JITTER;
    assert!(usual <= bound + USUAL, "usually back after {usual:?}");
    assert!(worst <= bound + SLACK, "back after {worst:?}");
    format!(
        "{} returns in {rounds} kills of a server: all, {} ms after the server usually, at most {} \
         ms (wait and jitter: {} ms); {}",
        back.len(),
        usual.as_millis(),
        worst.as_millis(),
        bound.as_millis(),
        rolling(tier.choose(3, 50))
    )
}

/// The nodes of a cluster are killed in turn, each once the last one is back.
fn rolling(rounds: usize) -> String {
    let mut cluster = Cluster::start(3);
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| Client::new(number, options(cluster.urls()))).collect();
    let mut worst = Duration::ZERO;
    for round in 0..rounds {
        let node = round % 3;
        let url = cluster[node].url();
        let here = |client: &Client| client.connection.connected_url().as_deref() == Some(&url);
        let losing: Vec<bool> = clients.iter().map(here).collect();
        let known: Vec<usize> = clients.iter().map(|one| one.recorder.count(is_back)).collect();
        cluster[node].kill();
        let begun = Instant::now();
        for ((client, _), known) in
            clients.iter().zip(&losing).zip(known).filter(|((_, losing), _)| **losing)
        {
            let back = client.recorder.wait_for_count(LIMIT, known + 1, is_back);
            back.unwrap_or_else(|timeline| panic!("{timeline}"));
            worst = worst.max(begun.elapsed());
        }
        clients.iter().for_each(Client::round_trip);
        cluster[node].restart();
        cluster.wait_formed(FORM_LIMIT);
    }
    let moved: u64 = clients.iter().map(|client| client.connection.statistics().reconnects()).sum();
    assert!(moved > 0, "nobody has lost a node");
    assert!(worst <= WAIT + JITTER + SLACK, "at another node after {worst:?}");
    clients.into_iter().for_each(Client::finish);
    format!(
        "{rounds} nodes of a cluster killed in turn: {moved} moves, each within {} ms",
        worst.as_millis()
    )
}

/// Every node in turn says that it leaves, while requests go on.
pub(crate) fn lame_ducks(tier: Tier) -> String {
    let rounds = tier.choose(3, 30);
    let grace = Duration::from_secs(10);
    let config = Config::new().lame_duck(Duration::from_secs(40), grace);
    let mut cluster = Cluster::start_with(3, &config);
    let (mut requests, mut slowest) = (0, Duration::ZERO);
    for round in 0..rounds {
        let node = round % 3;
        let responder = Client::new(0, options(cluster[(node + 1) % 3].url()));
        let answer = |connection: &Connection, message: nats_blocking::Message| {
            connection.respond(&message, message.payload()).expect("an answer");
        };
        let answers = responder.connection.dispatcher(answer).unwrap();
        answers.subscribe("ask").unwrap();
        responder.connection.flush().unwrap();
        let client = Client::new(1, options(cluster[node].url()).reconnect_on_lame_duck());
        let known = || (client.connection.servers().len() >= 3).then_some(());
        poll(LIMIT, known).expect("the other nodes are known");
        poll(LIMIT, || client.connection.request("ask", "", LIMIT).ok()).expect("an answer");
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let (connection, stop) = (client.connection.clone(), Arc::clone(&stop));
                let answered = Arc::clone(&answered);
                thread::spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        connection.request("ask", "now", LIMIT).expect("no request fails");
                        answered.fetch_add(1, Ordering::Relaxed);
                    }
                })
            })
            .collect();
        let busy = || (answered.load(Ordering::Relaxed) > 100).then_some(());
        poll(LIMIT, busy).expect("requests");
        cluster[node].lame_duck();
        let begun = Instant::now();
        let told = |kind: &Kind| matches!(kind, Kind::LameDuck);
        client.recorder.wait_for_event(LIMIT, told).unwrap();
        client.recorder.wait_for_count(LIMIT, 1, is_back).unwrap();
        let took = begun.elapsed();
        assert!(took < grace, "moved after {took:?}, within {grace:?}");
        slowest = slowest.max(took);
        let until = answered.load(Ordering::Relaxed) + 100;
        poll(LIMIT, || (answered.load(Ordering::Relaxed) > until).then_some(())).unwrap();
        stop.store(true, Ordering::Relaxed);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
        requests += answered.load(Ordering::Relaxed);
        assert_ne!(client.connection.connected_url(), Some(cluster[node].url()));
        assert_eq!(client.connection.statistics().disconnects(), 1);
        drop(answers);
        client.finish();
        responder.finish();
        cluster[node].restart();
        cluster.wait_formed(FORM_LIMIT);
    }
    format!(
        "{rounds} nodes leave under load: each told, each left within {} ms (grace {} s); \
         {requests} requests, failed 0",
        slowest.as_millis(),
        grace.as_secs()
    )
}
