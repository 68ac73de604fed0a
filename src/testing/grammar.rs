//! The grammar of a connection's events, as a machine that accepts or names the first fault.
//!
//! ```text
//! life   = start Connected notice*
//!          (outage Reconnecting Reconnected Resubscribed notice*)* [outage] Closed
//!        | start Closed
//! start  = (Reconnecting ReconnectFailed)* [Reconnecting]     -- the last only before Connected
//! outage = Disconnected (Reconnecting ReconnectFailed)*
//! notice = DiscoveredServers | LameDuck | StaleConnection | ForcedReconnect | Draining
//! ```
//!
//! Beyond it: after `StaleConnection` or `ForcedReconnect` the next event is `Disconnected` or
//! `Closed`, and attempts are numbered from 1 in each outage, without a gap that is larger than
//! what the listener is told it has missed. A prefix of a life is legal too: the connection may go
//! on.

use crate::core::ConnectionEventKind as Kind;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before the first connection; `trying` after a `Reconnecting`.
    Start {
        trying: bool,
    },
    Up,
    /// The loss has been announced by a notice.
    Ending,
    Down {
        trying: bool,
    },
    /// Between `Reconnected` and `Resubscribed`.
    Back,
    Closed,
}

/// Checks a life, or its beginning; the error names the first event that is out of place.
///
/// With each event comes how many notices were left out before it.
pub(super) fn check<'a>(events: impl IntoIterator<Item = (&'a Kind, u64)>) -> Result<(), String> {
    let mut state = State::Start { trying: false };
    let mut attempts = 0;
    for (index, (kind, skipped)) in events.into_iter().enumerate() {
        // Attempts are left out in pairs of events.
        let missed = u32::try_from(skipped / 2).unwrap_or(u32::MAX);
        let fault = |why: &str| format!("event {index} is out of place ({why}): {kind:?}");
        state = next(state, kind).ok_or_else(|| fault(&format!("in state {state:?}")))?;
        attempts = match kind {
            Kind::Reconnecting { attempt }
                if *attempt > attempts && *attempt - attempts - 1 <= missed =>
            {
                *attempt
            }
            Kind::Reconnecting { .. } => return Err(fault("attempts are not counted one by one")),
            Kind::ReconnectFailed { attempt, .. } | Kind::Reconnected { attempts: attempt, .. }
                if *attempt != attempts =>
            {
                return Err(fault("it ends another attempt"));
            }
            Kind::ReconnectFailed { .. } => attempts,
            _ => 0,
        };
        if matches!(kind, Kind::DiscoveredServers { added, removed }
            if added.is_empty() && removed.is_empty())
        {
            return Err(fault("nothing was discovered"));
        }
    }
    Ok(())
}

fn next(state: State, kind: &Kind) -> Option<State> {
    use State::{Back, Closed, Down, Ending, Start, Up};
    Some(match (state, kind) {
        (Start { trying: false }, Kind::Reconnecting { .. }) => Start { trying: true },
        (Start { trying: true }, Kind::ReconnectFailed { .. }) => Start { trying: false },
        (Start { .. }, Kind::Connected) => Up,
        (Start { trying: false }, Kind::Closed { .. }) => Closed,
        (Up, Kind::DiscoveredServers { .. } | Kind::LameDuck | Kind::Draining) => Up,
        (Up, Kind::StaleConnection { .. } | Kind::ForcedReconnect) => Ending,
        (Up | Ending, Kind::Disconnected { .. }) => Down { trying: false },
        (Up | Ending, Kind::Closed { .. }) => Closed,
        (Down { trying: false }, Kind::Reconnecting { .. }) => Down { trying: true },
        (Down { trying: true }, Kind::ReconnectFailed { .. }) => Down { trying: false },
        (Down { trying: true }, Kind::Reconnected { .. }) => Back,
        (Down { trying: false }, Kind::Closed { .. }) => Closed,
        (Back, Kind::Resubscribed { .. }) => Up,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::Kind;
    use crate::error::{Error, ErrorKind};
    use std::time::Duration;

    fn check(life: &[Kind]) -> Result<(), String> {
        super::check(life.iter().map(|kind| (kind, 0)))
    }

    fn life(text: &str) -> Vec<Kind> {
        let cause = || Error::new(ErrorKind::Io, "x");
        let mut attempt = 0;
        text.split_whitespace()
            .map(|word| {
                if word == "attempt" {
                    attempt += 1;
                }
                match word {
                    "connected" => Kind::Connected,
                    "disconnected" => {
                        attempt = 0;
                        Kind::Disconnected { cause: cause() }
                    }
                    "attempt" => Kind::Reconnecting { attempt },
                    "failed" => Kind::ReconnectFailed { attempt, cause: cause() },
                    "reconnected" => {
                        Kind::Reconnected { attempts: attempt, downtime: Duration::ZERO }
                    }
                    "resubscribed" => Kind::Resubscribed { subscriptions: 0 },
                    "stale" => Kind::StaleConnection { pings_outstanding: 2 },
                    "forced" => Kind::ForcedReconnect,
                    "lame" => Kind::LameDuck,
                    "draining" => Kind::Draining,
                    "closed" => Kind::Closed { cause: None },
                    other => panic!("{other}"),
                }
            })
            .collect()
    }

    #[test]
    fn legal_lives_and_their_beginnings_are_accepted() {
        for text in [
            "",
            "closed",
            "connected",
            "connected lame draining closed",
            "attempt failed attempt connected closed",
            "attempt failed closed",
            "attempt connected disconnected attempt reconnected resubscribed closed",
            "attempt failed attempt failed attempt connected lame disconnected",
            "connected draining disconnected closed",
            "connected disconnected attempt reconnected resubscribed lame stale disconnected",
            "connected forced disconnected attempt failed attempt reconnected resubscribed closed",
            "connected disconnected closed",
            "connected disconnected attempt failed closed",
            "connected stale closed",
        ] {
            let life = life(text);
            for length in 0..=life.len() {
                assert_eq!(check(&life[..length]), Ok(()), "{text}");
            }
        }
    }

    #[test]
    fn whatever_is_out_of_place_is_named() {
        for text in [
            "lame connected",
            "connected connected",
            "connected resubscribed",
            "connected closed closed",
            "connected closed lame",
            "connected disconnected disconnected",
            "connected disconnected attempt attempt",
            "connected disconnected attempt closed",
            "connected disconnected lame",
            "connected disconnected reconnected",
            "connected disconnected attempt reconnected lame",
            "connected stale lame",
            "connected attempt",
            "attempt closed",
            "attempt disconnected",
            "attempt reconnected",
            "attempt failed attempt connected resubscribed",
            "attempt lame",
        ] {
            let fault = check(&life(text)).expect_err(text);
            assert!(fault.contains("out of place"), "{fault}");
        }
    }

    #[test]
    fn attempts_are_numbered_from_one_in_each_outage() {
        let skipped =
            [Kind::Connected, life("disconnected").remove(0), Kind::Reconnecting { attempt: 2 }];
        assert!(check(&skipped).is_err());
        let told = |skipped| move |(index, kind)| (kind, if index == 2 { skipped } else { 0 });
        assert!(super::check(skipped.iter().enumerate().map(told(1))).is_err());
        assert_eq!(super::check(skipped.iter().enumerate().map(told(2))), Ok(()));
    }
}
