//! Whether a connection goes on in clear, over TLS, or not at all. Pure: one function, and a test
//! for each of its cells.
//!
//! What we want decides; what the server says in clear may have been changed on its way, so it can
//! add TLS or end the attempt, and never take TLS away. Nothing but INFO is read, and nothing is
//! written, before this has said yes.

use super::info::ServerInfo;

/// What decides, on our side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct TlsWish {
    /// An option asks for TLS, or makes sense with it only.
    pub(crate) option: bool,
    /// An option says that TLS comes before INFO.
    pub(crate) first: bool,
    /// This server's URL asks for TLS. A discovered server has the URL of the connection through
    /// which it was learned: if that was over TLS, so is this.
    pub(crate) url: bool,
    /// This server's URL asks for WebSocket, which begins over TLS or stays without it.
    pub(crate) websocket: bool,
    /// The URL of any configured server asks for TLS.
    pub(crate) configured: bool,
    /// This build has TLS.
    pub(crate) built: bool,
}

/// What the server says of TLS in its INFO.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsOffer {
    Absent,
    Available,
    Required,
}

/// How a connection goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TlsStep {
    /// As it is.
    Proceed,
    /// Over TLS from here on.
    Upgrade,
    /// Not at all, and why.
    Refuse(&'static str),
}

impl TlsWish {
    /// Whether nothing but TLS will do.
    pub(crate) fn wanted(self) -> bool {
        self.option || self.first || self.url || self.configured
    }
}

impl TlsOffer {
    pub(crate) fn of(info: &ServerInfo) -> Self {
        match (info.tls_required(), info.tls_available()) {
            (true, _) => Self::Required,
            (false, true) => Self::Available,
            (false, false) => Self::Absent,
        }
    }
}

/// The policy, before the server has said anything (`None`), and with the offer of its INFO.
pub(crate) fn tls_policy(wish: TlsWish, offer: Option<TlsOffer>) -> TlsStep {
    const NOT_BUILT: &str = "TLS is wanted, which this build does not have (feature `tls`)";
    const NOT_OFFERED: &str = "TLS is wanted, and the server does not offer it";
    const REQUIRED: &str = "the server requires TLS, which this build does not have";
    const WEBSOCKET: &str = "TLS is wanted, and ws:// is without it: wss:// is over TLS";
    match (offer, wish.built) {
        (None, false) if wish.wanted() => TlsStep::Refuse(NOT_BUILT),
        (None, true) if wish.websocket && wish.wanted() => {
            if wish.url {
                TlsStep::Upgrade
            } else {
                TlsStep::Refuse(WEBSOCKET)
            }
        }
        // Under a WebSocket TLS cannot begin any more, and INFO came over it where it did.
        (Some(_), _) if wish.websocket => TlsStep::Proceed,
        (None, true) if wish.first => TlsStep::Upgrade,
        (None, _) => TlsStep::Proceed,
        // INFO came over TLS: what it says of TLS is about others.
        (Some(_), _) if wish.first => TlsStep::Proceed,
        (Some(TlsOffer::Absent), _) if wish.wanted() => TlsStep::Refuse(NOT_OFFERED),
        (Some(TlsOffer::Required), false) => TlsStep::Refuse(REQUIRED),
        (Some(TlsOffer::Required), true) => TlsStep::Upgrade,
        (Some(_), _) if wish.wanted() => TlsStep::Upgrade,
        (Some(_), _) => TlsStep::Proceed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::info::ServerInfoUpdate;

    /// How an attempt ends, for the written outcomes below.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Outcome {
        /// CONNECT goes out in clear.
        Clear,
        /// TLS after INFO.
        Upgraded,
        /// TLS before INFO.
        First,
        Refused,
    }

    /// What the policy makes of an attempt in which the server says `offer`.
    fn outcome(wish: TlsWish, offer: TlsOffer) -> Outcome {
        match tls_policy(wish, None) {
            TlsStep::Refuse(_) => Outcome::Refused,
            TlsStep::Upgrade => {
                assert_eq!(tls_policy(wish, Some(offer)), TlsStep::Proceed, "{wish:?}");
                Outcome::First
            }
            TlsStep::Proceed => match tls_policy(wish, Some(offer)) {
                TlsStep::Proceed => Outcome::Clear,
                TlsStep::Upgrade => Outcome::Upgraded,
                TlsStep::Refuse(_) => Outcome::Refused,
            },
        }
    }

    const OFFERS: [TlsOffer; 3] = [TlsOffer::Absent, TlsOffer::Available, TlsOffer::Required];

    /// The outcome in words for each offer, in the order of `OFFERS`.
    fn row(wish: TlsWish) -> [Outcome; 3] {
        OFFERS.map(|offer| outcome(wish, offer))
    }

    #[test]
    fn every_cell_of_the_policy_has_its_written_outcome() {
        use Outcome::{Clear, First, Refused, Upgraded};
        // option, first, url, configured: absent, available, required.
        let table = [
            ([false, false, false, false], [Clear, Clear, Upgraded]),
            ([false, false, false, true], [Refused, Upgraded, Upgraded]),
            ([false, false, true, false], [Refused, Upgraded, Upgraded]),
            ([false, false, true, true], [Refused, Upgraded, Upgraded]),
            ([false, true, false, false], [First, First, First]),
            ([false, true, false, true], [First, First, First]),
            ([false, true, true, false], [First, First, First]),
            ([false, true, true, true], [First, First, First]),
            ([true, false, false, false], [Refused, Upgraded, Upgraded]),
            ([true, false, false, true], [Refused, Upgraded, Upgraded]),
            ([true, false, true, false], [Refused, Upgraded, Upgraded]),
            ([true, false, true, true], [Refused, Upgraded, Upgraded]),
            ([true, true, false, false], [First, First, First]),
            ([true, true, false, true], [First, First, First]),
            ([true, true, true, false], [First, First, First]),
            ([true, true, true, true], [First, First, First]),
        ];
        for ([option, first, url, configured], expected) in table {
            let wish = TlsWish { option, first, url, configured, websocket: false, built: true };
            assert_eq!(row(wish), expected, "{wish:?}");
            let without = TlsWish { built: false, ..wish };
            let refused = if wish.wanted() { [Refused; 3] } else { [Clear, Clear, Refused] };
            assert_eq!(row(without), refused, "{without:?}");
        }
    }

    #[test]
    fn over_websocket_the_url_decides_and_nothing_that_the_server_says() {
        use Outcome::{Clear, First, Refused};
        // option, first, url (wss), configured: the same whatever is offered.
        let table = [
            ([false, false, false, false], Clear),
            ([false, false, false, true], Refused),
            ([false, false, true, false], First),
            ([false, false, true, true], First),
            ([false, true, false, false], Refused),
            ([false, true, false, true], Refused),
            ([false, true, true, false], First),
            ([false, true, true, true], First),
            ([true, false, false, false], Refused),
            ([true, false, false, true], Refused),
            ([true, false, true, false], First),
            ([true, false, true, true], First),
            ([true, true, false, false], Refused),
            ([true, true, false, true], Refused),
            ([true, true, true, false], First),
            ([true, true, true, true], First),
        ];
        for ([option, first, url, configured], expected) in table {
            let wish = TlsWish { option, first, url, configured, websocket: true, built: true };
            assert_eq!(row(wish), [expected; 3], "{wish:?}");
            let without = TlsWish { built: false, ..wish };
            let refused = if wish.wanted() { Refused } else { Clear };
            assert_eq!(row(without), [refused; 3], "{without:?}");
        }
    }

    #[test]
    fn whatever_a_server_says_wanted_tls_is_had_or_the_attempt_ends() {
        for bits in 0..64_u8 {
            let bit = |at: u8| bits & (1 << at) != 0;
            let wish = TlsWish {
                option: bit(0),
                first: bit(1),
                url: bit(2),
                configured: bit(3),
                built: bit(4),
                websocket: bit(5),
            };
            for outcome in row(wish) {
                assert!(outcome != Outcome::Clear || !wish.wanted(), "{wish:?}");
            }
        }
    }

    #[test]
    fn the_offer_is_what_info_says() {
        for (required, available, expected) in [
            (false, false, TlsOffer::Absent),
            (false, true, TlsOffer::Available),
            (true, false, TlsOffer::Required),
            (true, true, TlsOffer::Required),
        ] {
            let json = format!("{{\"tls_required\":{required},\"tls_available\":{available}}}");
            let mut info = ServerInfo::default();
            info.merge(ServerInfoUpdate::parse(json.as_bytes()).unwrap());
            assert_eq!(TlsOffer::of(&info), expected);
        }
        assert_eq!(TlsOffer::of(&ServerInfo::default()), TlsOffer::Absent);
    }
}
