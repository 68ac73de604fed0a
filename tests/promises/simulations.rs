//! I3: whole lives of a connection's parts under virtual time, which a seed replays.

use crate::Tier;
use crate::simulation::delivery;

/// The outbox, the line of PONGs, the pool of servers and its waits, driven by one thread over a
/// network that delays, splits and loses; a ledger of every message is the judge.
pub(crate) fn lives(tier: Tier) -> String {
    delivery::live_many(tier.choose(10_000, 1_000_000))
}
