//! Deterministic simulations: the pure parts of the client, driven by one thread, virtual time and
//! one seed. A failure prints its seed; `SEED=` replays it.

pub(crate) mod delivery;
mod stale;
mod storm;

use crate::support::seed::Seed;

/// So many seeds, or the one of the environment. `SEEDS=` gives another number.
fn for_each_seed(count: u64, mut simulate: impl FnMut(&mut Seed)) -> u64 {
    if std::env::var_os("SEED").is_some() {
        simulate(&mut Seed::from_env_or(0));
        return 1;
    }
    let count = std::env::var("SEEDS").map_or(count, |text| text.parse().expect("a number"));
    for number in 0..count {
        simulate(&mut Seed::new(number));
    }
    count
}
