//! What was sent and what came: every message carries its publisher, its number and a checksum.
//!
//! A publisher numbers only what `publish` accepted: a message that it refused keeps its number for
//! the next try, so that a refused message that went out all the same shows up as a double. The
//! receiving side holds, for each publisher, which numbers are missing: as runs, since one loss may
//! take one run.

use std::collections::BTreeMap;
use std::ops::Range;

const MAGIC: u32 = 0x6c65_6467;
const FIXED: usize = 4 + 4 + 8 + 8;

/// Writes one message. `filler` bytes make it longer.
pub(crate) fn write(out: &mut Vec<u8>, publisher: u32, number: u64, filler: usize) {
    out.clear();
    out.extend_from_slice(&MAGIC.to_be_bytes());
    out.extend_from_slice(&publisher.to_be_bytes());
    out.extend_from_slice(&number.to_be_bytes());
    out.resize(out.len() + filler, number as u8);
    let sum = checksum(out);
    out.extend_from_slice(&sum.to_be_bytes());
}

/// Publisher and number, or none if a bit is wrong.
pub(crate) fn read(payload: &[u8]) -> Option<(u32, u64)> {
    if payload.len() < FIXED {
        return None;
    }
    let (content, sum) = payload.split_at(payload.len() - 8);
    let word = |at: usize| -> Option<[u8; 4]> { content.get(at..at + 4)?.try_into().ok() };
    let number = u64::from_be_bytes(content.get(8..16)?.try_into().ok()?);
    let whole = word(0)? == MAGIC.to_be_bytes()
        && sum == checksum(content).to_be_bytes()
        && content[16..].iter().all(|byte| *byte == number as u8);
    whole.then_some((u32::from_be_bytes(word(4)?), number))
}

fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |sum, byte| {
        (sum ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// What one receiver has of one publisher.
#[derive(Debug, Clone, Default)]
pub(crate) struct Column {
    /// The number that comes next.
    pub(crate) next: u64,
    pub(crate) received: u64,
    pub(crate) missing: Vec<Range<u64>>,
    pub(crate) doubled: u64,
    pub(crate) reordered: u64,
}

impl Column {
    fn take(&mut self, number: u64) {
        self.received += 1;
        if number >= self.next {
            if number > self.next {
                self.missing.push(self.next..number);
            }
            self.next = number + 1;
        } else if self.missing.iter().any(|run| run.contains(&number)) {
            self.reordered += 1;
        } else {
            self.doubled += 1;
        }
    }

    pub(crate) fn missing_count(&self) -> u64 {
        self.missing.iter().map(|run| run.end - run.start).sum()
    }
}

/// What one receiver has of all publishers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ledger {
    pub(crate) columns: BTreeMap<u32, Column>,
    pub(crate) corrupted: u64,
}

impl Ledger {
    pub(crate) fn take(&mut self, payload: &[u8]) {
        match read(payload) {
            None => self.corrupted += 1,
            Some((publisher, number)) => {
                self.columns.entry(publisher).or_default().take(number);
            }
        }
    }

    pub(crate) fn next(&self, publisher: u32) -> u64 {
        self.columns.get(&publisher).map_or(0, |column| column.next)
    }

    /// Panics if anything is there twice, out of order or damaged.
    pub(crate) fn check_whole(&self, name: &str) {
        assert_eq!(self.corrupted, 0, "{name}: corrupted");
        for (publisher, column) in &self.columns {
            assert_eq!(column.doubled, 0, "{name}: doubled from {publisher}");
            assert_eq!(column.reordered, 0, "{name}: reordered from {publisher}");
        }
    }

    pub(crate) fn received(&self) -> u64 {
        self.columns.values().map(|column| column.received).sum()
    }
}

/// Shows that the ledger sees what it is for; it is no use otherwise.
pub(crate) fn self_test() {
    let mut payload = Vec::new();
    let mut ledger = Ledger::default();
    for number in [0, 1, 4, 5, 5, 3] {
        write(&mut payload, 7, number, 3);
        ledger.take(&payload);
    }
    payload[17] ^= 1;
    ledger.take(&payload);
    let column = &ledger.columns[&7];
    assert_eq!((column.doubled, column.reordered, ledger.corrupted), (1, 1, 1));
    assert_eq!((column.missing_count(), column.missing[0].start, column.next), (2, 2, 6));
}
