//! The servers that a connection may use, and which comes next. Pure: the random numbers are an
//! argument, the waiting is somebody else's.
//!
//! Configured servers are never removed by gossip. A server is given up for its own failures: after
//! `max_attempts` failed attempts in a row, or after refusing us twice with the same text. A
//! configured one comes back, with a clean record, when another takes us: whatever was wrong with
//! it may be mended by the next outage. Discovered servers go when the cluster no longer lists
//! them, except the one in use.
//!
//! Waiting in one outage: the first attempt is immediate (the caller may hold it), every later one
//! waits a fresh jitter, and where a pass over all servers is complete it waits the reconnect wait
//! and a jitter, or what the program says. Each attempt is two steps, [`Pool::pause`] and then
//! [`Pool::next`], so that a pool that changes during the wait counts; [`Pool::take`] is both for a
//! server that the program chose.
//!
//! Order: shuffled at the start of each outage (unless switched off), the lost server last, so that
//! a thousand clients of one dead server spread over the others.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};

use super::choice::PoolServer;
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
    /// A pass over all servers is complete: the reconnect wait and a jitter, or what the program
    /// says for this number of passes.
    Pass(u32),
}

/// The next attempt.
#[derive(Debug, Clone)]
pub(crate) struct Next {
    pub(crate) url: ServerUrl,
    /// Its number in this outage, from 1.
    pub(crate) attempt: u32,
}

/// What a failed attempt means for its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Kept,
    GivenUp,
    /// It is given up, and comes back when another server accepts the connection.
    Rests,
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
    /// What the program is told at the end of the present pass.
    pass: u32,
    /// The first attempt of this outage waits as after a full pass.
    hold_first: bool,
    /// The server in use, or the last one that was.
    current: Option<ServerUrl>,
    /// The errors of servers given up in this outage.
    given_up: Vec<ConnectAttempt>,
    /// Those of them that are configured; none of them is in `servers`, which nothing is added to
    /// but by the program and, with a server in use, by gossip.
    resting: Vec<Server>,
    /// The URL of a configured server asks for TLS. It stays so when that server is given up.
    wants_tls: bool,
}

impl Pool {
    pub(crate) fn new(urls: Vec<ServerUrl>, policy: PoolPolicy, random: Random<'_>) -> Self {
        let wants_tls = urls.iter().any(ServerUrl::is_tls);
        let mut pool = Self {
            servers: configured(urls),
            policy,
            attempt: 0,
            in_pass: 0,
            pass: 1,
            hold_first: false,
            current: None,
            given_up: Vec::new(),
            resting: Vec::new(),
            wants_tls,
        };
        pool.shuffle(random);
        pool
    }

    /// Puts other configured servers in place of all. Those that were there before keep their
    /// counters, and their refusal if they are asked for with the same user information.
    pub(crate) fn replace(&mut self, urls: Vec<ServerUrl>, random: Random<'_>) {
        // A program that has asked for TLS once does not lose it by naming servers without it.
        self.wants_tls |= urls.iter().any(ServerUrl::is_tls);
        let mut servers = configured(urls);
        // Each attempt puts its server last.
        let count = if self.hold_first { 0 } else { self.in_pass };
        let untried = self.servers.len().saturating_sub(count);
        let tried: Vec<ServerUrl> =
            self.servers.iter().skip(untried).map(|server| server.url.clone()).collect();
        for server in &mut servers {
            let Some(known) = self.find(&server.url) else { continue };
            server.failed_attempts = known.failed_attempts;
            server.last_error.clone_from(&known.last_error);
            if known.url.user_info() == server.url.user_info() {
                server.last_refusal.clone_from(&known.last_refusal);
            }
        }
        // What is learned through the server in use inherits who the program is there from now on.
        if let Some(current) = &mut self.current {
            let same = servers.iter().find(|server| server.url.same_address(current));
            // One that was discovered is as good as any, where the program is, and was, the same to
            // all. One that the program does not name any more keeps what it knows: it may be of
            // another cluster, which must not learn the new password.
            let named = |server: &&Server| !server.discovered;
            let mut before = self.servers.iter().chain(&self.resting).filter(named);
            let was_same = before.all(|server| {
                let same_user = server.url.user_info() == current.user_info();
                same_user && !server.url.same_address(current)
            });
            let any = servers.first().filter(|first| {
                let same_user = |server: &Server| server.url.user_info() == first.url.user_info();
                was_same && servers.iter().all(same_user)
            });
            if let Some(server) = same.or(any) {
                current.be_user_of(&server.url);
            }
        }
        self.servers = servers;
        // What was given up is there again, or the program does not want it any more.
        self.resting.clear();
        self.shuffle(random);
        // A pass goes on, for those that were tried in it: they come last, and its wait is not left
        // out for naming them anew.
        let is_tried = |server: &Server| tried.iter().any(|url| url.same_address(&server.url));
        self.servers.sort_by_key(is_tried);
        if !self.hold_first {
            self.in_pass = self.servers.iter().filter(|server| is_tried(server)).count();
        }
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

    /// A connection was lost: a new outage begins. Its first attempt is made at once, or, with
    /// `hold`, waits as after that number of full passes.
    pub(crate) fn begin_outage(&mut self, hold: Option<u32>, random: Random<'_>) {
        self.shuffle(random);
        self.attempt = 0;
        self.in_pass = if hold.is_none() { 0 } else { usize::MAX };
        self.pass = hold.unwrap_or(1);
        self.hold_first = hold.is_some();
        self.given_up.clear();
        let lost = self.current.clone();
        if let Some(index) = lost.and_then(|lost| self.position(&lost)) {
            self.servers.get_mut(index..).unwrap_or_default().rotate_left(1);
        }
    }

    /// What to wait before the next attempt, or `None` when no server is left.
    pub(crate) fn pause(&mut self) -> Option<Pause> {
        if self.servers.is_empty() {
            return None;
        }
        if self.attempt == 0 && !self.hold_first {
            return Some(Pause::None);
        }
        if self.in_pass < self.servers.len() {
            return Some(Pause::Jitter);
        }
        self.in_pass = 0;
        self.hold_first = false;
        let pass = self.pass;
        self.pass = pass.saturating_add(1);
        Some(Pause::Pass(pass))
    }

    /// The next attempt, or `None` when no server is left.
    pub(crate) fn next(&mut self) -> Option<Next> {
        let url = self.servers.first()?.url.clone();
        self.take(&url)
    }

    /// The next attempt with that server, which then comes last, or `None` if it is not in the
    /// pool.
    pub(crate) fn take(&mut self, url: &ServerUrl) -> Option<Next> {
        let index = self.chosen(url)?;
        let url = self.servers.get(index)?.url.clone();
        self.servers.get_mut(index..).unwrap_or_default().rotate_left(1);
        self.hold_first = false;
        self.attempt = self.attempt.saturating_add(1);
        self.in_pass = self.in_pass.saturating_add(1);
        Some(Next { url, attempt: self.attempt })
    }

    /// The number of the next attempt.
    pub(crate) fn next_attempt(&self) -> u32 {
        self.attempt.saturating_add(1)
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
        let rested = std::mem::take(&mut self.resting).into_iter();
        let fresh = |server| Server { failed_attempts: 0, last_refusal: None, ..server };
        self.servers.extend(rested.map(fresh));
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
    pub(crate) fn failed(&mut self, url: &ServerUrl, error: &Error) -> Verdict {
        let policy = self.policy.clone();
        let Some(index) = self.position(url) else { return Verdict::Kept };
        let Some(server) = self.servers.get_mut(index) else { return Verdict::Kept };
        server.failed_attempts = server.failed_attempts.saturating_add(1);
        server.last_error = Some(error.clone());
        let refusal = refusal(error);
        let refused_again = refusal.is_some() && server.last_refusal == refusal;
        server.last_refusal = refusal;
        let used_up = policy.max_attempts.is_some_and(|max| server.failed_attempts >= max);
        if !used_up && (!refused_again || policy.keep_refusing) {
            return Verdict::Kept;
        }
        let server = self.servers.remove(index);
        self.given_up.push(ConnectAttempt::new(server.url.to_string(), error.clone()));
        // The servers behind it move up: the pass is shorter by the one that is gone.
        self.in_pass = self.in_pass.saturating_sub(1);
        if server.discovered {
            return Verdict::GivenUp;
        }
        self.resting.push(server);
        if self.servers.is_empty() { Verdict::GivenUp } else { Verdict::Rests }
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

    /// The error of a connection that never was: each server with why its last attempt failed.
    pub(crate) fn never_connected(&self) -> Error {
        let mut failed = self.given_up.clone();
        for server in &self.servers {
            if let Some(error) = &server.last_error {
                failed.push(ConnectAttempt::new(server.url.to_string(), error.clone()));
            }
        }
        Error::connect(failed)
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
        let announced: HashMap<_, _> = listed.iter().map(|url| (address(url), url)).collect();
        self.servers.retain_mut(|server| {
            let keep = !server.discovered
                || server.url.same_address(&current)
                || announced.contains_key(&address(&server.url));
            if !keep {
                changed.removed.push(server.url.to_string());
            }
            // Learned in clear, and now over TLS: it is not spoken to in clear any more.
            if server.discovered && !server.url.is_tls() {
                if let Some(url) = announced.get(&address(&server.url)).filter(|url| url.is_tls()) {
                    server.url = ServerUrl::clone(url);
                }
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

    /// All servers as the program sees them, in order.
    pub(crate) fn list(&self, in_use: Option<&ServerUrl>) -> Vec<PoolServer> {
        let servers = self.servers.iter().map(|server| PoolServer {
            url: server.url.to_string(),
            discovered: server.discovered,
            in_use: in_use.is_some_and(|url| url.same_address(&server.url)),
            failed_attempts: server.failed_attempts,
            last_error: server.last_error.clone(),
        });
        servers.collect()
    }

    /// Whether there is a server besides the one in use, or the last one that was.
    pub(crate) fn has_other(&self) -> bool {
        let current = self.current.as_ref();
        self.servers
            .iter()
            .any(|server| current.is_none_or(|current| !current.same_address(&server.url)))
    }

    /// Whether the server is one of the pool.
    pub(crate) fn has(&self, url: &ServerUrl) -> bool {
        self.chosen(url).is_some()
    }

    /// The server that the program means by a URL: paths are not shown, so one without a path
    /// means the first at that host and port.
    fn chosen(&self, url: &ServerUrl) -> Option<usize> {
        let at = |server: &Server| url.path().is_empty() && address(&server.url) == address(url);
        self.position(url).or_else(|| self.servers.iter().position(at))
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
        self.wants_tls
    }

    fn position(&self, url: &ServerUrl) -> Option<usize> {
        self.servers.iter().position(|server| server.url.same_address(url))
    }

    fn find(&mut self, url: &ServerUrl) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.url.same_address(url))
    }
}

/// Configured servers, each once: of two that name the same address the secure one is kept.
fn configured(urls: Vec<ServerUrl>) -> Vec<Server> {
    let mut servers: Vec<Server> = Vec::with_capacity(urls.len());
    for url in urls {
        match servers.iter_mut().find(|known| known.url.same_address(&url)) {
            Some(known) if url.is_tls() && !known.url.is_tls() => known.url = url,
            Some(_) => {}
            None => servers.push(Server::new(url, false)),
        }
    }
    servers
}

/// The text with which the server refused us, if that is why.
fn refusal(error: &Error) -> Option<String> {
    let said = error.server_error().filter(|error| error.is_authorization());
    said.map(|error| error.text().to_ascii_lowercase())
}

/// Where a server is, whatever its path: what servers announce has none, and inherits that of the
/// URL through which it came.
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
    use std::collections::BTreeMap;

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

    /// Both steps of an attempt.
    fn attempt(pool: &mut Pool) -> Option<(Pause, Next)> {
        let pause = pool.pause()?;
        Some((pause, pool.next()?))
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
        pool.begin_outage(None, &mut || 0);
        let (pauses, next): (Vec<_>, Vec<_>) = (0..7).map_while(|_| attempt(&mut pool)).unzip();
        let order: Vec<_> = next.iter().map(|next| next.url.host()).collect();
        assert_eq!(order, ["b", "c", "a", "b", "c", "a", "b"], "the lost server comes last");
        use Pause::{Jitter, Pass};
        assert_eq!(pauses, [Pause::None, Jitter, Jitter, Pass(1), Jitter, Jitter, Pass(2)]);
        assert_eq!(next.last().map(|next| next.attempt), Some(7));
    }

    #[test]
    fn an_outage_that_must_not_begin_at_once_waits_before_its_first_attempt() {
        let mut pool = pool("a,b", None);
        for _ in 0..3 {
            pool.succeeded(&url("a"));
            pool.begin_outage(Some(0), &mut || 0);
            let pauses: Vec<_> =
                (0..3).map_while(|_| attempt(&mut pool)).map(|(pause, _)| pause).collect();
            use Pause::{Jitter, Pass};
            assert_eq!(pauses, [Pass(0), Jitter, Pass(1)]);
        }
    }

    #[test]
    fn a_thousand_clients_of_a_dead_cluster_do_not_come_at_once() {
        // In milliseconds, with the defaults: a jitter of a second, a wait of two.
        let (clients, until) = (1_000_u64, 60_000);
        let (mut attempts, mut first) = (Vec::new(), BTreeMap::new());
        for client in 1..=clients {
            let mut state = client.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let mut draw = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                state
            };
            let mut pool = pool("a,b,c", None);
            pool.policy.keep_order = false;
            pool.begin_outage(None, &mut draw);
            let mut at = 0;
            while at < until {
                let (pause, next) = attempt(&mut pool).expect("no server is given up");
                at += match pause {
                    Pause::None => 0,
                    Pause::Jitter => draw() % 1_000,
                    Pause::Pass(_) => 2_000 + draw() % 1_000,
                };
                if pause == Pause::None {
                    *first.entry(next.url.host().to_owned()).or_default() += 1;
                }
                pool.failed(&next.url, &refused());
                attempts.push(at);
            }
        }
        assert!(first.values().all(|count: &u64| *count < clients * 2 / 5), "{first:?}");
        assert!(attempts.len() as u64 <= clients * until / 1_000, "more than one in a second");
        attempts.sort_unstable();
        attempts.drain(..attempts.partition_point(|at| *at < 1_000));
        let within = |begin: usize, at: u64| attempts.partition_point(|one| *one < at) - begin;
        let fullest = attempts.iter().enumerate().map(|(begin, at)| within(begin, at + 100)).max();
        // Where three rounds overlap 15 % are to be expected; the rest is the scatter of chance.
        assert!(fullest.is_some_and(|most| most <= 220), "within 100 ms: {fullest:?}");
    }

    #[test]
    fn a_server_gets_exactly_its_number_of_attempts() {
        let mut pool = pool("a,b", Some(2));
        pool.begin_outage(None, &mut || 0);
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
    fn what_is_configured_gets_another_chance_in_the_next_outage_and_what_is_not_does_not() {
        let mut pool = pool("a,b,c", Some(2));
        pool.succeeded(&url("a"));
        assert_eq!(pool.accept(&["10.0.0.2:4222".to_owned()], None).added.len(), 1);
        pool.begin_outage(None, &mut || 0);
        for host in ["a", "10.0.0.2"] {
            assert_eq!(pool.failed(&url(host), &refused()), Verdict::Kept);
            let verdict = if host == "a" { Verdict::Rests } else { Verdict::GivenUp };
            assert_eq!(pool.failed(&url(host), &refused()), verdict, "{host}");
        }
        assert_eq!(pool.failed(&url("c"), &denied()), Verdict::Kept);
        assert_eq!(pool.failed(&url("c"), &denied()), Verdict::Rests);
        assert_eq!(pool.urls(), ["nats://b:4222"]);
        pool.succeeded(&url("b"));
        assert_eq!(pool.urls(), ["nats://b:4222", "nats://a:4222", "nats://c:4222"]);
        let why = pool.list(None);
        assert!(why.iter().skip(1).all(|server| server.last_error().is_some()));
        pool.begin_outage(None, &mut || 0);
        assert_eq!(pool.failed(&url("a"), &refused()), Verdict::Kept);
        assert_eq!(pool.failed(&url("c"), &denied()), Verdict::Kept);
        // What the program does not name any more stays away.
        pool.failed(&url("a"), &refused());
        pool.replace(ServerUrl::parse_list("b,d").expect("a list"), &mut || 0);
        pool.succeeded(&url("b"));
        assert_eq!(pool.urls(), ["nats://b:4222", "nats://d:4222"]);
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
        let mut mixed = pool("a,tls://b", Some(1));
        mixed.failed(&url("b"), &refused());
        assert_eq!(mixed.len(), 1);
        assert!(mixed.wants_tls(), "giving the server up does not give TLS up");
        mixed.replace(ServerUrl::parse_list("c").expect("a list"), &mut || 0);
        assert!(mixed.wants_tls(), "and naming others does not");
        let mut pool = pool("u:p@a", None);
        let list = ["10.0.0.2:4222".to_owned()];
        pool.succeeded(&url("u:p@a"));
        assert!(!pool.has_tls());
        pool.succeeded(&url("u:p@a").over_tls());
        assert!(pool.has_tls(), "the jitter is that of TLS");
        assert_eq!(pool.accept(&list, None).added, ["tls://10.0.0.2:4222"]);
        pool.begin_outage(None, &mut || 0);
        let next: Vec<_> = (0..2).map_while(|_| pool.next()).map(|next| next.url).collect();
        let names: Vec<_> = next.iter().map(ServerUrl::tls_name).collect();
        assert_eq!(names, ["a", "a"]);
        assert!(next.iter().all(|url| url.user_info().is_some()));
        assert!(!pool.wants_tls(), "no configured URL asks for it");
    }

    #[test]
    fn what_was_learned_in_clear_is_spoken_to_over_tls_once_it_is_announced_there() {
        let mut pool = pool("u:p@a", None);
        let list = ["10.0.0.2:4222".to_owned()];
        pool.succeeded(&url("u:p@a"));
        assert_eq!(pool.accept(&list, None).added, ["nats://10.0.0.2:4222"]);
        pool.succeeded(&url("u:p@a").over_tls());
        assert!(pool.accept(&list, None).is_empty());
        assert_eq!(pool.discovered_urls(), ["tls://10.0.0.2:4222"]);
        assert_eq!(pool.servers[1].url.tls_name(), "a");
        pool.succeeded(&url("u:p@a"));
        assert!(pool.accept(&list, None).is_empty());
        assert_eq!(pool.discovered_urls(), ["tls://10.0.0.2:4222"], "and never in clear again");
    }

    #[test]
    fn what_is_discovered_inherits_who_the_program_is_now() {
        let mut pool = pool("u:old@a", None);
        pool.succeeded(&url("u:old@a"));
        pool.replace(ServerUrl::parse_list("u:new@a").expect("a list"), &mut || 0);
        pool.accept(&["10.0.0.2:4222".to_owned()], None);
        assert!(pool.servers[1].url.user_info() == url("u:new@a").user_info());
    }

    #[test]
    fn naming_the_same_servers_again_leaves_no_wait_out() {
        let list = || ServerUrl::parse_list("a,b").expect("a list");
        let mut pool = pool("a,b", None);
        let (mut pauses, mut hosts) = (Vec::new(), String::new());
        for _ in 0..5 {
            let (pause, next) = attempt(&mut pool).expect("a server");
            pauses.push(pause);
            hosts.push_str(next.url.host());
            pool.replace(list(), &mut || 0);
        }
        use Pause::{Jitter, Pass};
        assert_eq!(pauses, [Pause::None, Jitter, Pass(1), Jitter, Pass(2)]);
        assert_eq!(hosts, "ababa", "and gives each its turn");
        pool.replace(ServerUrl::parse_list("b").expect("a list"), &mut || 0);
        assert_eq!(pool.pause(), Some(Jitter), "it has not been tried in this pass");
        pool.begin_outage(Some(1), &mut || 0);
        pool.replace(list(), &mut || 0);
        assert_eq!(pool.pause(), Some(Pass(1)), "held all the same");
    }

    #[test]
    #[cfg(feature = "websocket")]
    fn a_path_is_neither_needed_to_choose_a_server_nor_makes_two_of_one() {
        let mut pool = pool("ws://u:p@a:1/x,ws://v:q@b:1/y", None);
        pool.succeeded(&url("ws://u:p@a:1/x"));
        let list = ["b:1".to_owned(), "c:1".to_owned()];
        assert_eq!(pool.accept(&list, None).added, ["ws://c:1"]);
        let shown = pool.list(None)[1].url().to_owned();
        assert!(pool.has(&url(&shown)) && !pool.has(&url("ws://b:1/z")));
        assert_eq!(
            pool.take(&url(&shown)).map(|next| next.url.path().to_owned()).as_deref(),
            Some("/y")
        );
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
        let mut firsts = BTreeMap::new();
        for _ in 0..300 {
            pool.succeeded(&url("a"));
            pool.begin_outage(None, &mut random);
            let next = pool.next().expect("a server");
            *firsts.entry(next.url.host().to_owned()).or_insert(0) += 1;
        }
        assert!(!firsts.contains_key("a") && firsts["b"] > 90 && firsts["c"] > 90, "{firsts:?}");
    }

    #[test]
    fn a_server_that_was_chosen_comes_last_and_counts_as_an_attempt() {
        let mut pool = pool("a,b,c", None);
        let chosen = pool.take(&url("b")).expect("in the pool");
        assert_eq!((chosen.url.host(), chosen.attempt), ("b", 1));
        assert_eq!(pool.next().map(|next| next.url.host().to_owned()).as_deref(), Some("a"));
        assert!(pool.take(&url("d")).is_none(), "not in the pool");
        assert_eq!(pool.next_attempt(), 3);
        pool.take(&url("b")).expect("in the pool");
        assert_eq!(pool.pause(), Some(Pause::Pass(1)), "three attempts with three servers");
        assert_eq!(pool.urls().last().map(String::as_str), Some("nats://b:4222"));
    }

    #[test]
    fn another_pool_keeps_the_counters_of_those_that_stay() {
        let mut pool = pool("a,b", Some(3));
        pool.failed(&url("b"), &denied());
        pool.failed(&url("a"), &refused());
        pool.succeeded(&url("a"));
        pool.accept(&["10.0.0.9:4222".to_owned()], None);
        pool.failed(&url("b"), &denied());
        let list = |text: &str| ServerUrl::parse_list(text).expect(text);
        pool.replace(list("c,b,tls://c"), &mut || 0);
        assert_eq!(pool.urls(), ["tls://c:4222", "nats://b:4222"]);
        let shown = pool.list(Some(&url("a")));
        assert!(shown.iter().all(|server| !server.is_in_use() && !server.is_discovered()));
        assert_eq!(shown[1].failed_attempts(), 2);
        assert!(shown[1].last_error().is_some_and(Error::is_authorization));
        assert!(pool.has_other());
        pool.failed(&url("b"), &denied());
        assert_eq!(pool.urls(), ["tls://c:4222"], "its third attempt");
        pool.replace(list("a"), &mut || 0);
        assert!(!pool.has_other(), "the server in use is the only one");
    }

    #[test]
    fn another_cluster_does_not_learn_the_password_of_the_one_that_is_named_now() {
        let list = |text: &str| ServerUrl::parse_list(text).expect(text);
        let user_of = |pool: &mut Pool, address: &str| {
            pool.accept(&[address.to_owned()], None);
            let found = pool.find(&url(address)).expect(address);
            found.url.user_info().cloned()
        };
        let (old, new) = (url("u:old@a").user_info().cloned(), url("u:new@a").user_info().cloned());
        // Away from the cluster in use, to another one.
        let mut pool = pool("u:old@a", None);
        pool.succeeded(&url("u:old@a"));
        pool.replace(list("u:new@b"), &mut || 0);
        assert_eq!(user_of(&mut pool, "10.0.0.2:4222"), old);
        // A fresh password for the same servers, while one that was discovered is in use.
        pool.replace(list("u:old@a"), &mut || 0);
        pool.succeeded(&url("u:old@10.0.0.2"));
        pool.replace(list("u:new@a"), &mut || 0);
        assert_eq!(user_of(&mut pool, "10.0.0.3:4222"), new);
    }

    #[test]
    fn a_refusal_is_forgotten_with_the_user_who_was_refused() {
        let mut pool = pool("u:p@a,u:p@b", None);
        for server in ["a", "b"] {
            pool.failed(&url(server), &denied());
        }
        let fresh = ServerUrl::parse_list("u:p@a,u:new@b").expect("a list");
        pool.replace(fresh, &mut || 0);
        for server in ["a", "b"] {
            pool.failed(&url(server), &denied());
        }
        assert_eq!(pool.urls(), ["nats://b:4222"]);
    }

    #[test]
    fn a_connection_that_never_was_names_every_server_with_its_last_cause() {
        let mut pool = pool("a,b", None);
        pool.failed(&url("a"), &refused());
        for _ in 0..2 {
            pool.failed(&url("b"), &denied());
        }
        let error = pool.never_connected();
        let servers: Vec<_> = error.attempts().iter().map(ConnectAttempt::server).collect();
        assert_eq!(servers, ["nats://b:4222", "nats://a:4222"]);
        assert!(error.is_authorization());
    }
}
