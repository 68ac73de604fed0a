//! A cluster of three on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use nats_blocking::testing::Happening;
use nats_blocking::{ConnectionEventKind as Kind, ConnectionStatus, Subscription};

use super::{Client, LIMIT, disconnected, lame_duck, quick, reconnected, resubscribed};
use crate::support::cluster::Cluster;
use crate::support::nats_server::Config;
use crate::support::wait::poll;
use crate::support::watchdog::within;

const FORM_LIMIT: Duration = Duration::from_secs(30);

fn set(urls: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    urls.into_iter().collect()
}

/// Which node the client is connected to.
fn node_of(cluster: &Cluster, client: &Client) -> usize {
    let url = client.connected_url().expect("a server");
    cluster.urls().iter().position(|node| *node == url).expect("one of the cluster")
}

/// A client of node 0 that has heard of the others.
fn client_of_all(cluster: &Cluster) -> Client {
    let client = Client::connect(quick(cluster[0].url()));
    wait_servers(&client, cluster.urls());
    client
}

/// What the events so far say of discovered servers: everything added and not removed again.
fn told(client: &Client) -> BTreeSet<String> {
    let mut known = BTreeSet::new();
    for event in client.recorder.events() {
        if let Kind::DiscoveredServers { added, removed } = event.kind() {
            for url in removed {
                assert!(known.remove(url), "{url} was never added: {}", client.timeline(""));
            }
            for url in added {
                assert!(known.insert(url.clone()), "{url} twice: {}", client.timeline(""));
            }
        }
    }
    known
}

/// Waits until the client knows exactly these servers, and its listener was told the same. (While
/// nodes find each other the cluster may announce one, drop it and announce it again.)
fn wait_servers(client: &Client, urls: impl IntoIterator<Item = String>) {
    let expected = set(urls);
    let known = poll(LIMIT, || {
        let agrees =
            set(client.servers()) == expected && told(client) == set(client.discovered_servers());
        agrees.then_some(())
    });
    assert!(known.is_some(), "not {expected:?}: {}", client.timeline("other servers"));
}

#[test]
fn a_client_of_one_node_is_told_of_the_others_once_it_is_connected() {
    within(Duration::from_secs(120), "discovery", || {
        let cluster = Cluster::start(3);
        let client = client_of_all(&cluster);
        let order = client.recorder.wait_for_sequence(
            LIMIT,
            &[
                &|happening: &Happening| matches!(happening.event_kind(), Some(Kind::Connected)),
                &|happening| matches!(happening.event_kind(), Some(Kind::DiscoveredServers { .. })),
            ],
        );
        order.unwrap_or_else(|timeline| panic!("{timeline}"));
        let others = set([cluster[1].url(), cluster[2].url()]);
        assert_eq!(told(&client), others);
        assert_eq!(set(client.discovered_servers()), others);
        assert_eq!(client.connected_url(), Some(cluster[0].url()));
        assert_eq!(client.server_info().cluster(), Some("test"));
        client.finish();
    });
}

#[test]
fn the_loss_of_a_node_costs_less_than_a_second() {
    within(Duration::from_secs(300), "loss", || {
        let mut cluster = Cluster::start(3);
        let client = client_of_all(&cluster);
        let subscription = client.subscribe("a").unwrap();
        client.flush().unwrap();
        let mut best = Duration::MAX;
        for round in 1..=3 {
            let lost = node_of(&cluster, &client);
            let started = Instant::now();
            cluster[lost].kill();
            client.wait_count(round, resubscribed);
            let took = started.elapsed();
            println!("loss {round}: back on another node {took:.1?} after kill -9");
            assert_ne!(node_of(&cluster, &client), lost);
            client.publish("a", "here").unwrap();
            assert_eq!(subscription.next_timeout(LIMIT).unwrap().payload(), b"here");
            best = best.min(took);
            cluster[lost].restart();
            cluster.wait_formed(FORM_LIMIT);
        }
        // Each within its limit above; one of three at least undisturbed by what else runs here.
        assert!(best < Duration::from_secs(1), "{best:?}");
        assert_eq!(client.count(disconnected), 3);
        client.finish();
    });
}

#[test]
fn a_node_that_joins_is_added_and_one_that_leaves_is_removed() {
    within(Duration::from_secs(180), "joining", || {
        let mut cluster = Cluster::start(3);
        let client = client_of_all(&cluster);
        let fourth = cluster.add_node();
        wait_servers(&client, cluster.urls());
        cluster[fourth].kill();
        wait_servers(&client, cluster.urls().into_iter().take(3));
        assert_eq!(client.discovered_servers().len(), 2);
        assert_eq!(client.count(disconnected), 0);
        client.finish();
    });
}

#[test]
fn a_configured_node_is_kept_when_it_leaves() {
    within(Duration::from_secs(120), "configured", || {
        let mut cluster = Cluster::start(3);
        let options = quick([cluster[0].url(), cluster[1].url()]).no_randomize();
        let client = Client::connect(options);
        wait_servers(&client, cluster.urls());
        assert_eq!(told(&client), set([cluster[2].url()]));
        cluster[1].kill();
        cluster[2].kill();
        wait_servers(&client, [cluster[0].url(), cluster[1].url()]);
        assert!(told(&client).is_empty());
        client.finish();
    });
}

#[test]
fn a_client_that_ignores_discovered_servers_knows_only_its_own() {
    within(Duration::from_secs(120), "ignored", || {
        let mut cluster = Cluster::start(2);
        let client = Client::connect(quick(cluster[0].url()).ignore_discovered_servers());
        cluster.add_node();
        let heard = poll(LIMIT, || (client.server_info().connect_urls().len() == 3).then_some(()));
        assert!(heard.is_some(), "{:?}", client.server_info());
        client.flush().unwrap();
        assert_eq!(client.servers(), [cluster[0].url()]);
        assert!(client.discovered_servers().is_empty());
        cluster[0].restart();
        client.wait(reconnected);
        assert_eq!(client.connected_url(), Some(cluster[0].url()));
        assert_eq!(client.count(|kind| matches!(kind, Kind::DiscoveredServers { .. })), 0);
        client.finish();
    });
}

/// Waits until a message published by one client reaches the subscription of another.
fn wait_reaches(from: &Client, to: &Subscription, subject: &str) {
    let reached = poll(LIMIT, || {
        from.publish(subject, "probe").unwrap();
        to.next_timeout(Duration::from_millis(200)).ok()
    });
    assert!(reached.is_some(), "{}", from.timeline("the message does not reach the other node"));
}

#[test]
fn a_rolling_restart_is_one_loss_for_each_client_of_a_restarted_node() {
    within(Duration::from_secs(300), "rolling", || {
        let mut cluster = Cluster::start(3);
        let clients: Vec<Client> =
            (0..3).map(|node| Client::connect(quick(cluster[node].url()))).collect();
        let subscriptions: Vec<Subscription> =
            clients.iter().map(|client| client.subscribe("news").unwrap()).collect();
        for node in 0..3 {
            let losses: Vec<usize> =
                clients.iter().map(|client| client.count(reconnected)).collect();
            let hit: Vec<bool> =
                clients.iter().map(|client| node_of(&cluster, client) == node).collect();
            cluster[node].restart();
            cluster.wait_formed(FORM_LIMIT);
            for ((client, before), hit) in clients.iter().zip(losses).zip(hit) {
                client.wait_count(before + usize::from(hit), resubscribed);
                client.wait_for_status(ConnectionStatus::Connected, LIMIT).unwrap();
            }
            for subscription in &subscriptions {
                wait_reaches(&clients[node], subscription, "news");
            }
        }
        for client in clients {
            assert_eq!(client.count(disconnected), client.count(reconnected));
            client.finish();
        }
    });
}

#[test]
fn no_request_fails_while_each_node_leaves_in_turn() {
    within(Duration::from_secs(300), "leaving", || {
        let config = Config::new().lame_duck(Duration::from_secs(30), Duration::from_secs(3));
        let mut cluster = Cluster::start_with(3, &config);
        for leaving in 0..3 {
            let elsewhere = (leaving + 1) % 3;
            let responder = Client::connect(quick(cluster[elsewhere].url()));
            let answers = responder.dispatcher(|connection, message| {
                connection.respond(&message, message.payload()).unwrap();
            });
            let answers = answers.unwrap();
            answers.subscribe("ask").unwrap();
            responder.flush().unwrap();
            let client = Client::connect(quick(cluster[leaving].url()));
            // Both other nodes must have heard of the responder.
            let third = Client::connect(quick(cluster[(leaving + 2) % 3].url()));
            for asking in [&client, &third] {
                let known = poll(LIMIT, || asking.request("ask", "", LIMIT).ok());
                assert!(known.is_some(), "{}", asking.timeline("no answer from the other node"));
            }
            third.finish();
            cluster[leaving].lame_duck();
            let mut asked = 0;
            while client.count(lame_duck) == 0 {
                client.request("ask", "before", LIMIT).unwrap();
            }
            client.force_reconnect().unwrap();
            while asked < 200 {
                let reply = client.request("ask", format!("{asked}"), LIMIT);
                let reply = reply.unwrap_or_else(|e| panic!("{e}\n{}", client.timeline("")));
                assert_eq!(reply.text().unwrap(), format!("{asked}"));
                asked += 1;
            }
            assert_ne!(node_of(&cluster, &client), leaving);
            assert_eq!((client.count(lame_duck), client.count(disconnected)), (1, 1));
            assert_eq!(responder.count(disconnected), 0);
            client.finish();
            responder.finish();
            cluster[leaving].wait_exit(Duration::from_secs(40));
            cluster[leaving].restart();
            cluster.wait_formed(FORM_LIMIT);
        }
    });
}

#[test]
fn the_clients_of_a_lost_node_spread_over_the_others() {
    within(Duration::from_secs(120), "spread", || {
        let mut cluster = Cluster::start(3);
        let clients: Vec<Client> = (0..30).map(|_| client_of_all(&cluster)).collect();
        cluster[0].kill();
        let mut spread: BTreeMap<usize, usize> = BTreeMap::new();
        for client in &clients {
            client.wait(resubscribed);
            *spread.entry(node_of(&cluster, client)).or_default() += 1;
        }
        println!("30 clients of a lost node, by node: {spread:?}");
        assert!(spread.len() == 2 && !spread.contains_key(&0), "{spread:?}");
        clients.into_iter().for_each(Client::finish);
    });
}

#[test]
fn a_forced_reconnect_goes_to_another_node() {
    within(Duration::from_secs(120), "forced", || {
        let cluster = Cluster::start(3);
        let client = client_of_all(&cluster);
        // Nobody answers; without a subscription the server would say so.
        let _silent = client.subscribe("unanswered").unwrap();
        for round in 1..=5 {
            let before = client.connected_url();
            let waiting = client.send_request("unanswered", "").unwrap();
            client.force_reconnect().unwrap();
            // All that follows the call concerns the next connection already.
            client.wait_for_status(ConnectionStatus::Connected, LIMIT).unwrap();
            assert_ne!(client.connected_url(), before, "round {round}");
            assert!(waiting.wait(LIMIT).unwrap_err().is_disconnected());
            client.force_reconnect().unwrap();
            client.flush().unwrap();
            client.wait_count(2 * round, resubscribed);
        }
        client.round_trip("a");
        assert_eq!(client.count(|kind| matches!(kind, Kind::ForcedReconnect)), 10);
        client.finish();
    });
}

#[test]
fn servers_are_tried_in_their_order_where_that_is_asked_for() {
    within(Duration::from_secs(180), "order", || {
        let mut cluster = Cluster::start(3);
        let order = [2, 0, 1];
        let urls = order.map(|node| cluster[node].url());
        let client = Client::connect(quick(urls.clone()).no_randomize());
        assert_eq!(client.connected_url(), Some(urls[0].clone()));
        for round in 1..=3 {
            let (lost, next) = (order[round - 1], urls[round % 3].clone());
            cluster[lost].kill();
            client.wait_count(round, resubscribed);
            assert_eq!(client.connected_url(), Some(next), "{}", client.timeline("order"));
            cluster[lost].restart();
        }
        // All were configured: nothing was there to discover.
        assert_eq!(client.count(|kind| matches!(kind, Kind::DiscoveredServers { .. })), 0);
        client.finish();
    });
}
