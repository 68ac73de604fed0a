//! The servers that a connection may use, and which comes next. Pure: the random numbers are an
//! argument, the waiting is somebody else's.
//!
//! Configured servers are never removed by gossip, only by their own failures: after `max_attempts`
//! failed attempts in a row, or after refusing us twice with the same text. Discovered servers go
//! when the cluster no longer lists them, except the one in use.
//!
//! Waiting in one outage: the first attempt is immediate (the caller may hold it), every later one
//! waits a fresh jitter, and where a pass over all servers is complete it waits the reconnect wait
//! and a jitter.
//!
//! Order: shuffled at the start of each outage (unless switched off), the lost server last, so that
//! a thousand clients of one dead server spread over the others.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};

use crate::error::{ConnectAttempt, Error};
use crate::server_url::ServerUrl;

/// A source of random numbers, all 64 bits of them.
pub(crate) type Random<'a> = &'a mut dyn FnMut() -> u64;

/// How the pool behaves.
#[derive(Debug, Clone)]
pub(crate) struct PoolPolicy {
    /// Failed attempts in a row after which a server is given up; `None` is never.
    pub(crate) max_attempts: Option<u32>,
    pub(crate) keep_order: bool,
    pub(crate) ignore_discovered: bool,
    /// Go on trying a server that has refused us twice.
    pub(crate) keep_refusing: bool,
}

/// One server of the pool.
#[derive(Debug, Clone)]
struct Server {
    url: ServerUrl,
    discovered: bool,
    failed_attempts: u32,
    last_refusal: Option<String>,
    last_error: Option<Error>,
}

impl Server {
    fn new(url: ServerUrl, discovered: bool) -> Self {
        Self { url, discovered, failed_attempts: 0, last_refusal: None, last_error: None }
    }
}

/// What to wait before an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    None,
    Jitter,
    WaitAndJitter,
}

/// The next attempt.
#[derive(Debug, Clone)]
pub(crate) struct Next {
    pub(crate) url: ServerUrl,
    /// Its number in this outage, from 1.
    pub(crate) attempt: u32,
    pub(crate) pause: Pause,
}

/// What an INFO changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Discovered {
    pub(crate) added: Vec<String>,
    pub(crate) removed: Vec<String>,
}

impl Discovered {
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty()
    }
}

/// The servers of a connection, in the order in which they come next.
#[derive(Debug)]
pub(crate) struct Pool {
    servers: Vec<Server>,
    policy: PoolPolicy,
    attempt: u32,
    /// Attempts since the pool was last passed over completely.
    in_pass: usize,
    /// The first attempt of this outage waits as after a full pass.
    hold_first: bool,
    /// The server in use, or the last one that was.
    current: Option<ServerUrl>,
    /// The errors of servers given up in this outage.
    given_up: Vec<ConnectAttempt>,
}

impl Pool {
    pub(crate) fn new(urls: Vec<ServerUrl>, policy: PoolPolicy, random: Random<'_>) -> Self {
        let mut servers: Vec<Server> = Vec::with_capacity(urls.len());
        for url in urls {
            // Of two that name the same address the secure one is kept.
            match servers.iter_mut().find(|known| known.url.same_address(&url)) {
                Some(known) if url.is_tls() && !known.url.is_tls() => known.url = url,
                Some(_) => {}
                None => servers.push(Server::new(url, false)),
            }
        }
        let mut pool = Self {
            servers,
            policy,
            attempt: 0,
            in_pass: 0,
            hold_first: false,
            current: None,
            given_up: Vec::new(),
        };
        pool.shuffle(random);
        pool
    }

    fn shuffle(&mut self, random: Random<'_>) {
        if self.policy.keep_order {
            return;
        }
        for index in (1..self.servers.len()).rev() {
            let other = (random() % (index as u64 + 1)) as usize;
            self.servers.swap(index, other);
        }
    }

    /// A connection was lost: a new outage begins. Its first attempt is made at once, or waits as
    /// after a full pass.
    pub(crate) fn begin_outage(&mut self, at_once: bool, random: Random<'_>) {
        self.shuffle(random);
        self.attempt = 0;
        self.in_pass = if at_once { 0 } else { usize::MAX };
        self.hold_first = !at_once;
        self.given_up.clear();
        let lost = self.current.clone();
        if let Some(index) = lost.and_then(|lost| self.position(&lost)) {
            self.servers.get_mut(index..).unwrap_or_default().rotate_left(1);
        }
    }

    /// The next attempt, or `None` when no server is left.
    pub(crate) fn next(&mut self) -> Option<Next> {
        let url = self.servers.first()?.url.clone();
        self.servers.rotate_left(1);
        let pause = if self.attempt == 0 && !self.hold_first {
            Pause::None
        } else if self.in_pass >= self.servers.len() {
            self.in_pass = 0;
            self.hold_first = false;
            Pause::WaitAndJitter
        } else {
            Pause::Jitter
        };
        self.attempt = self.attempt.saturating_add(1);
        self.in_pass = self.in_pass.saturating_add(1);
        Some(Next { url, attempt: self.attempt, pause })
    }

    /// The handshake with this server completed. The URL says whether it was over TLS: the servers
    /// that are learned through it inherit that.
    pub(crate) fn succeeded(&mut self, url: &ServerUrl) {
        self.current = Some(url.clone());
        for server in &mut self.servers {
            server.last_refusal = None;
        }
        if let Some(server) = self.find(url) {
            server.failed_attempts = 0;
            server.last_error = None;
        }
    }

    /// The first connect to this server failed, which counts against it only as a refusal.
    pub(crate) fn failed_first(&mut self, url: &ServerUrl, error: &Error) {
        let refusal = refusal(error);
        if let Some(server) = self.find(url) {
            server.last_refusal = refusal;
            server.last_error = Some(error.clone());
        }
    }

    /// The attempt with this server failed. It is given up when it has used up its attempts, or has
    /// refused us with the same text before.
    pub(crate) fn failed(&mut self, url: &ServerUrl, error: &Error) {
        let policy = self.policy.clone();
        let Some(index) = self.position(url) else { return };
        let Some(server) = self.servers.get_mut(index) else { return };
        server.failed_attempts = server.failed_attempts.saturating_add(1);
        server.last_error = Some(error.clone());
        let refusal = refusal(error);
        let refused_again = refusal.is_some() && server.last_refusal == refusal;
        server.last_refusal = refusal;
        let used_up = policy.max_attempts.is_some_and(|max| server.failed_attempts >= max);
        if used_up || (refused_again && !policy.keep_refusing) {
            let server = self.servers.remove(index);
            self.given_up.push(ConnectAttempt::new(server.url.to_string(), error.clone()));
            // The servers behind it move up: the pass is shorter by the one that is gone.
            self.in_pass = self.in_pass.saturating_sub(1);
        }
    }

    /// A refusal that arrived on an established connection counts as the first of two.
    pub(crate) fn refused(&mut self, url: &ServerUrl, text: &str) {
        if let Some(server) = self.find(url) {
            server.last_refusal = Some(text.to_ascii_lowercase());
        }
    }

    /// The error of a connection that has no server left.
    pub(crate) fn exhausted(&self) -> Error {
        match self.given_up.last() {
            Some(last) if last.cause().is_authorization() => last.cause().clone(),
            _ => Error::connect(self.given_up.clone()),
        }
    }

    /// Takes in the list of servers that the server in use announced.
    pub(crate) fn accept(&mut self, addresses: &[String], peer: Option<SocketAddr>) -> Discovered {
        let mut changed = Discovered::default();
        let Some(current) = self.current.clone() else { return changed };
        if self.policy.ignore_discovered || addresses.is_empty() {
            return changed;
        }
        // What is no address cannot be connected to: it is left out, the others count.
        let listed: Vec<ServerUrl> = addresses
            .iter()
            .filter_map(|address| ServerUrl::discovered(address, &current).ok())
            .collect();
        let announced: HashSet<_> = listed.iter().map(address).collect();
        self.servers.retain(|server| {
            let keep = !server.discovered
                || server.url.same_address(&current)
                || announced.contains(&address(&server.url));
            if !keep {
                changed.removed.push(server.url.to_string());
            }
            keep
        });
        let fresh = self.unknown(&listed, peer);
        for url in fresh {
            changed.added.push(url.to_string());
            self.servers.push(Server::new(url, true));
        }
        changed
    }

    /// Those of the list that are not in the pool, each once. A server may list ten thousands, and
    /// this runs with the life locked: each is looked up, not compared with all others.
    fn unknown(&self, listed: &[ServerUrl], peer: Option<SocketAddr>) -> Vec<ServerUrl> {
        let mut known: HashSet<_> =
            self.servers.iter().map(|server| address(&server.url)).collect();
        // Two names of this machine with the same port are the same server: servers announce
        // `127.0.0.1` to a client that was configured with `localhost`.
        let local = self.servers.iter().filter(|server| is_loopback(&server.url));
        let mut local_ports: HashSet<u16> = local.map(|server| server.url.port()).collect();
        let unknown = listed.iter().filter(|url| {
            let new_address = known.insert(address(url));
            let new_local = !is_loopback(url) || local_ports.insert(url.port());
            new_address && new_local && !is_peer(url, peer)
        });
        unknown.cloned().collect()
    }

    /// The URLs of all servers, in order.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.url.to_string()).collect()
    }

    /// The URLs of the discovered servers.
    pub(crate) fn discovered_urls(&self) -> Vec<String> {
        let discovered = self.servers.iter().filter(|server| server.discovered);
        discovered.map(|server| server.url.to_string()).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.servers.len()
    }

    /// Whether any server is, or the last one was, spoken to over TLS, which chooses the jitter.
    pub(crate) fn has_tls(&self) -> bool {
        let mut urls = self.servers.iter().map(|server| &server.url).chain(&self.current);
        urls.any(ServerUrl::is_tls)
    }

    /// Whether the URL of any configured server asks for TLS, which all servers must then have.
    pub(crate) fn wants_tls(&self) -> bool {
        self.servers.iter().any(|server| !server.discovered && server.url.is_tls())
    }

    fn position(&self, url: &ServerUrl) -> Option<usize> {
        self.servers.iter().position(|server| server.url.same_address(url))
    }

    fn find(&mut self, url: &ServerUrl) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.url.same_address(url))
    }
}

/// The text with which the server refused us, if that is why.
fn refusal(error: &Error) -> Option<String> {
    let said = error.server_error().filter(|error| error.is_authorization());
    said.map(|error| error.text().to_ascii_lowercase())
}

/// What [`ServerUrl::same_address`] compares, to look up.
fn address(url: &ServerUrl) -> (&str, u16) {
    (url.host(), url.port())
}

fn is_loopback(url: &ServerUrl) -> bool {
    url.host() == "localhost" || url.ip().is_some_and(|ip| ip.is_loopback())
}

/// Whether the URL is the address that we are connected to under another name.
fn is_peer(url: &ServerUrl, peer: Option<SocketAddr>) -> bool {
    let Some(peer) = peer else { return false };
    let ip: Option<IpAddr> = url.ip();
    peer.port() == url.port() && ip == Some(peer.ip())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::server_error::ServerError;

    fn url(text: &str) -> ServerUrl {
        ServerUrl::parse(text).expect(text)
    }

    fn pool(list: &str, max_attempts: Option<u32>) -> Pool {
        let policy = PoolPolicy {
            max_attempts,
            keep_order: true,
            ignore_discovered: false,
            keep_refusing: false,
        };
        Pool::new(ServerUrl::parse_list(list).expect(list), policy, &mut || 0)
    }

    fn refused() -> Error {
        Error::new(ErrorKind::Io, "connection refused")
    }

    fn denied() -> Error {
        ServerError::parse("Authorization Violation").into()
    }

    #[test]
    fn the_first_attempt_is_immediate_the_next_wait_and_a_pass_waits_longer() {
        let mut pool = pool("a,b,c", None);
        pool.succeeded(&url("a"));
        pool.begin_outage(true, &mut || 0);
        let next: Vec<_> = (0..7).map_while(|_| pool.next()).collect();
        let order: Vec<_> = next.iter().map(|next| next.url.host()).collect();
        assert_eq!(order, ["b", "c", "a", "b", "c", "a", "b"], "the lost server comes last");
        let pauses: Vec<_> = next.iter().map(|next| next.pause).collect();
        use Pause::{Jitter, WaitAndJitter};
        assert_eq!(
            pauses,
            [Pause::None, Jitter, Jitter, WaitAndJitter, Jitter, Jitter, WaitAndJitter]
        );
        assert_eq!(next.last().map(|next| next.attempt), Some(7));
    }

    #[test]
    fn an_outage_that_must_not_begin_at_once_waits_before_its_first_attempt() {
        let mut pool = pool("a,b", None);
        for _ in 0..3 {
            pool.succeeded(&url("a"));
            pool.begin_outage(false, &mut || 0);
            let pauses: Vec<_> = (0..3).map_while(|_| pool.next()).map(|next| next.pause).collect();
            use Pause::{Jitter, WaitAndJitter};
            assert_eq!(pauses, [WaitAndJitter, Jitter, WaitAndJitter]);
        }
    }

    #[test]
    fn a_server_gets_exactly_its_number_of_attempts() {
        let mut pool = pool("a,b", Some(2));
        pool.begin_outage(true, &mut || 0);
        let mut tried = Vec::new();
        while let Some(next) = pool.next() {
            pool.failed(&next.url, &refused());
            tried.push(next.url.host().to_owned());
        }
        tried.sort();
        assert_eq!(tried, ["a", "a", "b", "b"]);
        assert_eq!(pool.exhausted().attempts().len(), 2);
    }

    #[test]
    fn a_success_gives_a_server_its_attempts_back() {
        let mut pool = pool("a", Some(2));
        for _ in 0..10 {
            let next = pool.next().expect("a server");
            pool.failed(&next.url, &refused());
            pool.succeeded(&url("a"));
        }
        assert_eq!(pool.len(), 1);
    }

    #[test]
    fn the_same_refusal_twice_gives_up_that_server_alone() {
        let mut pool = pool("a,b", None);
        pool.failed(&url("a"), &denied());
        pool.failed(&url("a"), &refused());
        pool.failed(&url("a"), &denied());
        assert_eq!(pool.len(), 2, "something else came between");
        pool.failed(&url("a"), &denied());
        assert_eq!(pool.urls(), ["nats://b:4222"]);
        pool.refused(&url("b"), "Authorization Violation");
        pool.failed(&url("b"), &denied());
        assert!(pool.next().is_none());
        assert!(pool.exhausted().is_authorization());
    }

    #[test]
    fn gossip_adds_and_removes_but_never_what_is_configured_or_in_use() {
        let mut pool = pool("a,localhost:4333", None);
        pool.succeeded(&url("a"));
        let list = |hosts: &[&str]| hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>();
        let peer = Some(SocketAddr::from(([10, 0, 0, 1], 4222)));
        let changed =
            pool.accept(&list(&["10.0.0.1:4222", "10.0.0.2:4222", "127.0.0.1:4333", "::"]), peer);
        assert_eq!(changed.added, ["nats://10.0.0.2:4222"]);
        assert!(changed.removed.is_empty());
        pool.succeeded(&url("10.0.0.2"));
        let changed = pool.accept(&list(&["10.0.0.3:4222"]), None);
        assert_eq!(changed.added, ["nats://10.0.0.3:4222"]);
        assert!(changed.removed.is_empty(), "10.0.0.2 is in use");
        pool.succeeded(&url("a"));
        let changed = pool.accept(&list(&["10.0.0.3:4222"]), None);
        assert_eq!(changed.removed, ["nats://10.0.0.2:4222"]);
        assert_eq!(pool.discovered_urls(), ["nats://10.0.0.3:4222"]);
        assert!(pool.accept(&[], None).is_empty());
    }

    #[test]
    fn tls_is_inherited_by_what_is_discovered_and_wanted_by_what_is_configured() {
        assert!(pool("a,tls://b", None).wants_tls());
        let mut pool = pool("u:p@a", None);
        let list = ["10.0.0.2:4222".to_owned()];
        pool.succeeded(&url("u:p@a"));
        assert!(!pool.has_tls());
        pool.succeeded(&url("u:p@a").over_tls());
        assert!(pool.has_tls(), "the jitter is that of TLS");
        assert_eq!(pool.accept(&list, None).added, ["tls://10.0.0.2:4222"]);
        pool.begin_outage(true, &mut || 0);
        let next: Vec<_> = (0..2).map_while(|_| pool.next()).map(|next| next.url).collect();
        let names: Vec<_> = next.iter().map(ServerUrl::tls_name).collect();
        assert_eq!(names, ["a", "a"]);
        assert!(next.iter().all(|url| url.user_info().is_some()));
        assert!(!pool.wants_tls(), "no configured URL asks for it");
    }

    #[test]
    fn an_outage_shuffles_so_that_clients_spread() {
        let policy = PoolPolicy {
            max_attempts: None,
            keep_order: false,
            ignore_discovered: false,
            keep_refusing: false,
        };
        let mut state = 7_u64;
        let mut random = move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let urls = ServerUrl::parse_list("a,b,c").expect("urls");
        let mut pool = Pool::new(urls, policy, &mut random);
        let mut firsts = std::collections::BTreeMap::new();
        for _ in 0..300 {
            pool.succeeded(&url("a"));
            pool.begin_outage(true, &mut random);
            let next = pool.next().expect("a server");
            *firsts.entry(next.url.host().to_owned()).or_insert(0) += 1;
        }
        assert!(!firsts.contains_key("a") && firsts["b"] > 90 && firsts["c"] > 90, "{firsts:?}");
    }
}
