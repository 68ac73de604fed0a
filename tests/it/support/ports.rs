//! Free loopback ports below the range from which the system takes ports for outgoing connections.
//!
//! A server that restarts on its port must find it free. A port from the outgoing range may have
//! gone to some client in between, and a client that tries to connect to such a port while nobody
//! listens there may even reach itself: TCP allows a socket to connect to its own port. Below that
//! range neither can happen. No port is fixed: each is drawn at random and tried, and within this
//! process none is given out twice.

use std::collections::HashSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{LazyLock, Mutex, PoisonError};

use super::seed::Seed;

const LOWEST: u16 = 10_240;
const TRIES: u32 = 1_000;

struct Drawn {
    seed: Seed,
    given: HashSet<u16>,
}

static DRAWN: LazyLock<Mutex<Drawn>> =
    LazyLock::new(|| Mutex::new(Drawn { seed: Seed::from_clock(), given: HashSet::new() }));

/// A listener on a free loopback port.
pub(crate) fn listen() -> TcpListener {
    let above = first_outgoing_port().max(LOWEST + 1_000);
    let mut drawn = DRAWN.lock().unwrap_or_else(PoisonError::into_inner);
    for _ in 0..TRIES {
        let offset = drawn.seed.below(u64::from(above - LOWEST));
        let port = LOWEST + u16::try_from(offset).unwrap();
        if !drawn.given.insert(port) {
            continue;
        }
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            return listener;
        }
    }
    panic!("no free loopback port in {TRIES} tries");
}

/// A loopback port that was free a moment ago; whoever binds it must be ready to ask again.
pub(crate) fn free() -> u16 {
    listen().local_addr().unwrap().port()
}

fn first_outgoing_port() -> u16 {
    // Elsewhere than on Linux: the start of the range that IANA reserves for this.
    const COMMON: u16 = 32_768;
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|text| text.split_whitespace().next()?.parse().ok())
        .unwrap_or(COMMON)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_distinct_and_outside_the_outgoing_range() {
        let ports: HashSet<u16> = (0..50).map(|_| free()).collect();
        assert_eq!(ports.len(), 50);
        let listener = listen();
        let port = listener.local_addr().unwrap().port();
        assert!((LOWEST..first_outgoing_port().max(LOWEST + 1_000)).contains(&port));
        assert!(!ports.contains(&port));
    }
}
