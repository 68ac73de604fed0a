//! Host names to addresses, within a deadline that the operating system does not know.
//!
//! The system's resolver cannot be cut off, so it runs on a thread of its own, which is left behind
//! when the deadline passes. At most one such thread exists for each host: a later attempt for the
//! same host waits for the one under way instead of starting another.
//!
//! The resolving thread holds nothing but the slot for its answer.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use super::stream::{Cancel, Cancelled};
use crate::error::{Error, ErrorKind, Result};
use crate::sync::{self, Arc, Mutex, Rank};

/// Which addresses of a host name are tried.
///
/// A server whose URL holds an address in place of a name is reached at that address in every mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum ResolveMode {
    /// All, IPv4 and IPv6, in the system's order; each gets an equal share of the time that is left
    /// for the attempt. The default.
    #[default]
    All,
    /// Only the first, of either kind.
    First,
    /// All of IPv4.
    Ipv4Only,
    /// All of IPv6.
    Ipv6Only,
}

impl ResolveMode {
    /// Leaves the addresses of the right family; false if there is none.
    pub(super) fn keep_family(self, addresses: &mut Vec<SocketAddr>) -> bool {
        match self {
            Self::All | Self::First => {}
            Self::Ipv4Only => addresses.retain(SocketAddr::is_ipv4),
            Self::Ipv6Only => addresses.retain(SocketAddr::is_ipv6),
        }
        !addresses.is_empty()
    }
}

type Answer = Result<Vec<SocketAddr>>;

/// The name look-ups of one connection.
#[derive(Debug)]
pub(crate) struct Resolution {
    under_way: Mutex<Vec<UnderWay>>,
    resolve: fn(&str, u16) -> std::io::Result<Vec<SocketAddr>>,
}

#[derive(Debug, Clone)]
struct UnderWay {
    host: String,
    port: u16,
    answer: Arc<Mutex<Option<Answer>>>,
}

impl Resolution {
    pub(crate) fn new() -> Self {
        Self::with(|host, port| Ok((host, port).to_socket_addrs()?.collect()))
    }

    /// With another resolver, for tests.
    pub(crate) fn with(resolve: fn(&str, u16) -> std::io::Result<Vec<SocketAddr>>) -> Self {
        Self { under_way: Mutex::new(Rank::Lookups, Vec::new()), resolve }
    }

    /// All addresses of the host, before the deadline.
    pub(crate) fn addresses(
        &self,
        host: &str,
        port: u16,
        deadline: Instant,
        cancel: &Arc<Cancel>,
    ) -> Answer {
        let current = self.join_or_start(host, port, cancel)?;
        // A short poll besides the nudge: a look-up that an earlier attempt began nudges that one.
        let poll = Some(Duration::from_millis(1));
        let answer = cancel.wait_for(deadline, poll, || current.answer.lock().take());
        match answer {
            Ok(Some(answer)) => {
                self.forget(&current);
                answer
            }
            Ok(None) => Err(Error::new(
                ErrorKind::Timeout,
                format!("resolving '{host}' took longer than the connect time-out"),
            )),
            Err(Cancelled) => Err(Error::new(ErrorKind::Closed, "the connection was closed")),
        }
    }

    fn join_or_start(&self, host: &str, port: u16, cancel: &Arc<Cancel>) -> Result<UnderWay> {
        let mut under_way = self.under_way.lock();
        // An answer that nobody came for may be out of date by now.
        under_way.retain(|known| known.answer.lock().is_none());
        if let Some(current) =
            under_way.iter().find(|known| known.host == host && known.port == port)
        {
            return Ok(current.clone());
        }
        let current = UnderWay {
            host: host.to_owned(),
            port,
            answer: Arc::new(Mutex::new(Rank::Leaf, None)),
        };
        under_way.push(current.clone());
        drop(under_way);
        let (answer, cancel) = (Arc::clone(&current.answer), Arc::clone(cancel));
        let (name, resolve) = (host.to_owned(), self.resolve);
        let started = sync::spawn("nats-resolve".to_owned(), 0, move || {
            let found = match resolve(&name, port) {
                Ok(list) if list.is_empty() => {
                    Err(Error::new(ErrorKind::Dns, format!("'{name}' has no address")))
                }
                Ok(list) => Ok(list),
                Err(error) => Err(Error::with_source(
                    ErrorKind::Dns,
                    format!("'{name}' could not be resolved: {error}"),
                    error,
                )),
            };
            *answer.lock() = Some(found);
            cancel.nudge();
        });
        if let Err(error) = started {
            self.forget(&current);
            return Err(error);
        }
        Ok(current)
    }

    fn forget(&self, done: &UnderWay) {
        self.under_way.lock().retain(|known| !Arc::ptr_eq(&known.answer, &done.answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_resolves_and_an_unknown_name_says_which() {
        let cancel = Arc::new(Cancel::new());
        let deadline = Instant::now() + Duration::from_secs(10);
        let found = Resolution::new().addresses("localhost", 4222, deadline, &cancel);
        assert!(found.expect("addresses").iter().all(|address| address.port() == 4222));
        let none = Resolution::with(|_, _| Ok(Vec::new()));
        let error = none.addresses("nowhere", 1, deadline, &cancel).expect_err("no address");
        assert_eq!(error.kind(), ErrorKind::Dns);
        assert!(error.to_string().contains("nowhere"));
    }

    #[test]
    fn a_slow_resolver_costs_the_deadline_and_is_not_started_twice() {
        use std::sync::atomic::{AtomicU32, Ordering};
        static STARTED: AtomicU32 = AtomicU32::new(0);
        static GATE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
        let gate = GATE.lock();
        let slow = Resolution::with(|_, port| {
            STARTED.fetch_add(1, Ordering::SeqCst);
            drop(GATE.lock());
            Ok(vec![SocketAddr::from(([127, 0, 0, 1], port))])
        });
        let cancel = Arc::new(Cancel::new());
        for _ in 0..3 {
            let deadline = Instant::now() + Duration::from_millis(30);
            let error = slow.addresses("slow", 1, deadline, &cancel).expect_err("too slow");
            assert!(error.is_timeout());
        }
        assert!(STARTED.load(Ordering::SeqCst) <= 1, "the first look-up is waited for again");
        drop(gate);
        let deadline = Instant::now() + Duration::from_secs(10);
        assert_eq!(slow.addresses("slow", 1, deadline, &cancel).expect("address").len(), 1);
    }

    #[test]
    fn a_cancelled_wait_ends_at_once() {
        static GATE: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
        let gate = GATE.lock();
        let stuck = Resolution::with(|_, _| {
            drop(GATE.lock());
            Ok(Vec::new())
        });
        let cancel = Arc::new(Cancel::new());
        cancel.cancel();
        let deadline = Instant::now() + Duration::from_secs(60);
        let error = stuck.addresses("stuck", 1, deadline, &cancel).expect_err("cancelled");
        assert!(error.is_closed());
        drop(gate);
    }
}
