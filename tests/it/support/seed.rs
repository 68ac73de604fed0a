//! Random numbers for tests that can be replayed.
//!
//! A [`Seed`] prints its number when the test panics; the same number in the environment variable
//! `SEED` gives the same numbers again. Not for secrets: this is xorshift.

use std::env;
use std::ops::Range;
use std::thread;
use std::time::UNIX_EPOCH;

/// A small generator that knows what it was started with.
#[derive(Debug)]
pub(crate) struct Seed {
    number: u64,
    state: u64,
    /// Whether the number is worth printing when a test panics.
    announced: bool,
}

impl Seed {
    /// The number in `SEED` if it is set, else `number`. Panics if `SEED` is not a number.
    pub(crate) fn from_env_or(number: u64) -> Self {
        match env::var("SEED") {
            Ok(text) => Self::new(text.trim().parse().expect("SEED is a whole number")),
            Err(_) => Self::new(number),
        }
    }

    pub(crate) fn new(number: u64) -> Self {
        Self { number, state: scatter(number), announced: true }
    }

    /// Different on each run, for choices that no test result depends on.
    pub(crate) fn from_clock() -> Self {
        let since = UNIX_EPOCH.elapsed().unwrap_or_default();
        let number = since.as_nanos() as u64 ^ (u64::from(std::process::id()) << 32);
        Self { announced: false, ..Self::new(number) }
    }

    /// What this generator was started with.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn next_u64(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        // The multiplication hides that the low bits of xorshift are weak.
        self.state.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// From 0 up to `limit`, without `limit`, which must not be 0.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        assert!(limit > 0, "nothing is below 0");
        // The high half of a product spreads evenly enough for tests and needs no loop.
        ((u128::from(self.next_u64()) * u128::from(limit)) >> 64) as u64
    }

    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.below(range.end - range.start)
    }

    /// True in `numerator` of `denominator` cases.
    pub(crate) fn chance(&mut self, numerator: u64, denominator: u64) -> bool {
        self.below(denominator) < numerator
    }

    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len() as u64) as usize]
    }

    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last as u64 + 1) as usize);
        }
    }

    pub(crate) fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.next_u64() as u8).collect()
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if self.announced && thread::panicking() {
            eprintln!("replay with SEED={}", self.number);
        }
    }
}

/// Spreads neighbouring numbers apart (splitmix64) and avoids 0, on which xorshift stands still.
fn scatter(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_number_gives_the_same_sequence() {
        let draw = |number| {
            let mut seed = Seed::new(number);
            (0..20).map(|_| seed.next_u64()).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        assert_ne!(draw(0), vec![0; 20]);
    }

    #[test]
    fn every_number_of_a_range_is_drawn_and_no_other() {
        let mut seed = Seed::new(1);
        let mut drawn = [0_u32; 6];
        for _ in 0..6_000 {
            drawn[seed.within(10..16) as usize - 10] += 1;
        }
        assert!(drawn.iter().all(|&count| (800..1_200).contains(&count)), "{drawn:?}");
        assert!(!seed.chance(0, 5));
        assert!(seed.chance(5, 5));
    }

    #[test]
    fn a_shuffle_keeps_every_item() {
        let mut seed = Seed::new(3);
        let mut items: Vec<u32> = (0..100).collect();
        seed.shuffle(&mut items);
        assert_ne!(items, (0..100).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..100).collect::<Vec<_>>());
        assert!(items.contains(seed.pick(&items.clone())));
        assert_eq!(seed.bytes(9).len(), 9);
    }
}
