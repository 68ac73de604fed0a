//! Random numbers and unique names.
//!
//! Seeds come from the operating system: the unique part of an inbox must not be guessable. What is
//! drawn from [`Random`] afterwards (server order, jitter) only has to be spread out.

use crate::error::{Error, ErrorKind, Result};

/// Digits and letters, the alphabet of unique names.
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// A fast generator (xorshift), seeded by the operating system.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new() -> Result<Self> {
        Ok(Self(u64::from_ne_bytes(seed()?) | 1))
    }

    /// The same numbers for the same seed, for simulations.
    #[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

/// A name of 22 digits and letters that nobody else has: 128 random bits and more.
pub(crate) fn unique() -> Result<String> {
    let bytes: [u8; 22] = seed()?;
    // 62 does not divide 256, so the first eight letters are a little more likely: no matter, all
    // that counts is that the whole cannot be guessed.
    let letter = |byte: u8| ALPHABET.get(usize::from(byte) % 62).map_or('0', |c| char::from(*c));
    Ok(bytes.into_iter().map(letter).collect())
}

/// Bytes that nobody can guess.
pub(crate) fn seed<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        Error::new(ErrorKind::Io, format!("the system gives no random numbers: {error}"))
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unique_names_differ_and_fit_into_a_subject() {
        let names: std::collections::HashSet<_> =
            (0..1000).map(|_| unique().expect("random numbers")).collect();
        assert_eq!(names.len(), 1000);
        assert!(names.iter().all(|name| {
            name.len() == 22 && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
        }));
    }

    #[test]
    fn draws_are_spread_out() {
        let mut random = Random::new().expect("random numbers");
        let mut counts = [0; 8];
        for _ in 0..8000 {
            counts[(random.draw() % 8) as usize] += 1;
        }
        assert!(counts.iter().all(|count| *count > 700), "{counts:?}");
    }
}
