//! What parsers make of named inputs, however these are cut, and of the same inputs changed.

use std::panic::{self, AssertUnwindSafe};
use std::time::Duration;

use crate::inputs::corpus::read_entries;
use crate::inputs::mutate::{Random, mutate};
use crate::inputs::reference;
use crate::inputs::targets::{TARGETS, USUAL, login, read_pieces};
use crate::support::seed::Seed;
use crate::support::watchdog::within;

const LIMIT: Duration = Duration::from_secs(300);
/// Entries up to this length are cut at every place.
const SHORT: usize = 4096;

/// Cuts the bytes at these places, which rise.
fn cut<'a>(bytes: &'a [u8], places: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in places.iter().copied().chain([bytes.len()]) {
        pieces.push(&bytes[from..place]);
        from = place;
    }
    pieces
}

#[test]
fn however_a_named_input_is_cut_its_operations_are_those_of_the_slow_reading() {
    within(LIMIT, "split points", || {
        let mut seed = Seed::from_env_or(1_000);
        let entries = read_entries();
        let entries = entries.iter().filter(|entry| entry.bytes.len() <= SHORT);
        for entry in entries {
            let (name, bytes) = (&entry.name, entry.bytes.as_slice());
            let (ops, is_broken) = reference::read(bytes, USUAL);
            let whole = read_pieces([bytes], USUAL);
            assert_eq!((&whole.0, whole.1.is_some()), (&ops, is_broken), "'{name}'");
            for at in 0..=bytes.len() {
                assert!(read_pieces(cut(bytes, &[at]), USUAL) == whole, "'{name}' at {at}");
            }
            assert!(read_pieces(bytes.chunks(1), USUAL) == whole, "'{name}' in bytes");
            for _ in 0..1_000 {
                let count = 1 + seed.below(8) as usize;
                let mut places: Vec<usize> =
                    (0..count).map(|_| seed.below(bytes.len() as u64 + 1) as usize).collect();
                places.sort_unstable();
                assert!(read_pieces(cut(bytes, &places), USUAL) == whole, "'{name}' at {places:?}");
            }
        }
    });
}

#[test]
fn every_target_takes_its_seeds_and_a_hundred_thousand_changes_of_them() {
    within(LIMIT, "changed inputs", || {
        let number = Seed::from_env_or(1).number();
        let each = 100_000 / TARGETS.len() as u64 + 1;
        for target in TARGETS {
            let seeds = (target.seeds)();
            let mut random = Random::new(number);
            let changed = (0..each).map(|_| mutate(&mut random, &seeds));
            for input in seeds.iter().cloned().chain(changed) {
                let run = AssertUnwindSafe(|| (target.run)(&input));
                if panic::catch_unwind(run).is_err() {
                    let shown = input.escape_ascii();
                    panic!("{}: above is what is wrong with b\"{shown}\"", target.name);
                }
            }
        }
    });
}

#[test]
fn a_hundred_thousand_random_sequences_of_operations_leave_the_login_legal() {
    const OPS: &[&str] = &[
        "INFO {}\r\n",
        "INFO {\"server_id\":\"A\",\"max_payload\":5}\r\n",
        "INFO {\"connect_urls\":[\"a:1\"],\"nonce\":\"n\"}\r\n",
        "INFO {\r\n",
        "PING\r\n",
        "PONG\r\n",
        "+OK\r\n",
        "-ERR 'Authorization Violation'\r\n",
        "-ERR 'Stale Connection'\r\n",
        "-ERR\r\n",
        "MSG a 1 2\r\nhi\r\n",
        "MSG unknown 99 0\r\n\r\n",
        "HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
        "\r\n",
    ];
    within(LIMIT, "sequences", || {
        let mut seed = Seed::from_env_or(2_026);
        for _ in 0..100_000 {
            // How it is cut, most often a good beginning, and anything behind it.
            let mut input = seed.bytes(2);
            if seed.chance(3, 4) {
                input.extend_from_slice(OPS[1].as_bytes());
            }
            for _ in 0..seed.below(8) {
                input.extend_from_slice(seed.pick(OPS).as_bytes());
            }
            login(&input);
        }
    });
}
