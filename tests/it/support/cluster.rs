//! Several real servers on loopback with routes between them.
//!
//! A cluster counts as formed when every running node tells its clients the address of every
//! running node, and still does a little later. A node that was killed keeps its ports and its
//! place and can be restarted.

use std::collections::BTreeSet;
use std::ops::{Index, IndexMut};
use std::time::{Duration, Instant};

use super::nats_server::{Config, NatsServer};
use super::ports;
use super::wait::poll;

const FORM_LIMIT: Duration = Duration::from_secs(15);
/// Two nodes that call each other at once close one of the two routes, at times both, and then call
/// again: a new cluster that looks complete may be incomplete once more within this time.
const STEADY: Duration = Duration::from_millis(500);
const PORT_DRAWS: u32 = 5;

/// The nodes, in the order in which they joined.
#[derive(Debug)]
pub(crate) struct Cluster {
    config: Config,
    nodes: Vec<NatsServer>,
    route_ports: Vec<u16>,
}

impl Cluster {
    /// Starts `count` nodes and waits until they know each other.
    pub(crate) fn start(count: usize) -> Self {
        Self::start_with(count, &Config::new())
    }

    /// As `start`, each node with the given configuration besides its routes.
    pub(crate) fn start_with(count: usize, config: &Config) -> Self {
        let mut cluster =
            Self { config: config.clone(), nodes: Vec::new(), route_ports: Vec::new() };
        for _ in 0..count {
            cluster.launch_node();
        }
        cluster.wait_formed(FORM_LIMIT);
        cluster
    }

    /// Starts one more node, waits until all know it, and returns its index.
    pub(crate) fn add_node(&mut self) -> usize {
        self.launch_node();
        self.wait_formed(FORM_LIMIT);
        self.nodes.len() - 1
    }

    pub(crate) fn nodes(&self) -> &[NatsServer] {
        &self.nodes
    }

    /// The URLs of all nodes, running or not.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(NatsServer::url).collect()
    }

    /// Waits until the INFO of every running node lists exactly the running nodes.
    pub(crate) fn wait_formed(&mut self, limit: Duration) {
        let running: Vec<bool> = self.nodes.iter_mut().map(NatsServer::is_running).collect();
        let nodes = || self.nodes.iter().zip(&running).filter(|(_, on)| **on).map(|(node, _)| node);
        let expected: BTreeSet<String> =
            nodes().map(|node| node.client_address().to_string()).collect();
        let mut since: Option<Instant> = None;
        let formed = poll(limit, || {
            if since.is_some_and(|since| since.elapsed() < STEADY) {
                return None;
            }
            if !nodes().all(|node| told(node) == expected) {
                since = None;
                return None;
            }
            since.replace(Instant::now()).map(|_| ())
        });
        if formed.is_none() {
            let logs: Vec<String> = nodes().map(NatsServer::log).collect();
            panic!("no cluster of {expected:?} after {limit:?}\n{}", logs.join("\n---\n"));
        }
    }

    fn launch_node(&mut self) {
        for _ in 0..PORT_DRAWS {
            let route_port = ports::free();
            // A new node calls those that are there; they learn of it by that.
            let config = self
                .config
                .clone()
                .server_name(&format!("node-{}", self.nodes.len()))
                .cluster("test", route_port, &self.route_ports);
            if let Some(node) = NatsServer::try_start(&config, ports::free()) {
                self.nodes.push(node);
                self.route_ports.push(route_port);
                return;
            }
        }
        panic!("{PORT_DRAWS} pairs of ports in a row were taken");
    }
}

impl Index<usize> for Cluster {
    type Output = NatsServer;

    fn index(&self, index: usize) -> &NatsServer {
        &self.nodes[index]
    }
}

impl IndexMut<usize> for Cluster {
    fn index_mut(&mut self, index: usize) -> &mut NatsServer {
        &mut self.nodes[index]
    }
}

/// The addresses that a node tells a client that connects now.
fn told(node: &NatsServer) -> BTreeSet<String> {
    let info = node.info().unwrap_or_default();
    let urls = info.get("connect_urls").and_then(|urls| urls.as_array()).cloned();
    urls.unwrap_or_default().iter().filter_map(|url| url.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_nodes_know_each_other_and_notice_who_leaves_joins_and_returns() {
        let mut cluster = Cluster::start(3);
        assert_eq!(told(&cluster[0]).len(), 3);
        cluster[1].kill();
        cluster.wait_formed(FORM_LIMIT);
        assert_eq!(told(&cluster[0]).len(), 2);
        assert_eq!(cluster.add_node(), 3);
        assert_eq!(told(&cluster[3]).len(), 3);
        cluster[1].restart();
        cluster.wait_formed(FORM_LIMIT);
        assert_eq!(told(&cluster[1]), told(&cluster[2]));
        assert_eq!(cluster.urls().len(), 4);
        assert_eq!(cluster.nodes().len(), 4);
    }
}
