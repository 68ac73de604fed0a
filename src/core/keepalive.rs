//! When to ping the server, and when to give it up. Pure: no clock.
//!
//! The reader waits for bytes at most one ping interval at a time. Any byte is life; an interval
//! without one is an idle tick. So a dead server is noticed after `interval × (max + 1)`, measured
//! from its last byte, while a slow one that keeps sending is never cut, whatever waits in the
//! other direction. Only pings sent here count; those of `flush` do not.
//!
//! ```text
//!  bytes ──▶ outstanding = 0
//!  idle  ──▶ outstanding < max: Ping, outstanding + 1
//!            otherwise:         Stale
//! ```

/// What an idle tick asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Idle {
    Ping,
    Stale { outstanding: u32 },
}

/// The pings without an answer.
#[derive(Debug)]
pub(crate) struct KeepAlive {
    max_outstanding: Option<u32>,
    outstanding: u32,
}

impl KeepAlive {
    /// `max_outstanding` pings may be without an answer; `None` never gives up.
    pub(crate) fn new(max_outstanding: Option<u32>) -> Self {
        Self { max_outstanding, outstanding: 0 }
    }

    pub(crate) fn bytes_arrived(&mut self) {
        self.outstanding = 0;
    }

    pub(crate) fn idle(&mut self) -> Idle {
        if self.max_outstanding.is_some_and(|max| self.outstanding >= max) {
            return Idle::Stale { outstanding: self.outstanding };
        }
        self.outstanding = self.outstanding.saturating_add(1);
        Idle::Ping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_silent_server_is_given_up_after_its_pings() {
        let mut keep_alive = KeepAlive::new(Some(2));
        assert_eq!(keep_alive.idle(), Idle::Ping);
        assert_eq!(keep_alive.idle(), Idle::Ping);
        assert_eq!(keep_alive.idle(), Idle::Stale { outstanding: 2 });
    }

    #[test]
    fn any_byte_is_life() {
        let mut keep_alive = KeepAlive::new(Some(1));
        for _ in 0..1000 {
            assert_eq!(keep_alive.idle(), Idle::Ping);
            keep_alive.bytes_arrived();
        }
        let mut never = KeepAlive::new(None);
        assert!((0..1000).all(|_| never.idle() == Idle::Ping));
    }
}
