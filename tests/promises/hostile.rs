//! Inputs that a server, a file or a user may hold against us.

use std::hint::black_box;
use std::panic::{self, AssertUnwindSafe};
use std::time::{Duration, Instant};

use nats_blocking::internals::{Reading, count_header_lines, read_info, read_properties};

use crate::Tier;
use crate::inputs::corpus::read_entries;
use crate::inputs::mutate::{Random, mutate};
use crate::inputs::targets::{TARGETS, USUAL, read_pieces};
use crate::support::seed::Seed;

/// Named inputs changed at random, against a second, slower reading.
pub(crate) fn changed_inputs(tier: Tier) -> String {
    let all = tier.choose(1_000_000, 20_000_000);
    let each = all / TARGETS.len() + 1;
    let seed = Seed::from_env_or(20_261_123);
    for target in TARGETS {
        let seeds = (target.seeds)();
        let mut random = Random::new(seed.number());
        for _ in 0..each {
            let input = mutate(&mut random, &seeds);
            if panic::catch_unwind(AssertUnwindSafe(|| (target.run)(&input))).is_err() {
                panic!("{}: the input is b\"{}\"", target.name, input.escape_ascii());
            }
        }
    }
    let (inputs, targets) = (each * TARGETS.len(), TARGETS.len());
    format!("{inputs} inputs over {targets} targets (SEED={}), 0 findings", seed.number())
}

/// What takes time in proportion to its size: what it is, a size, and the work for a size, which is
/// prepared before it is timed.
type Case = (&'static str, usize, fn(usize) -> Box<dyn Fn()>);

const CASES: &[Case] = &[
    ("many tiny headers", 6_250, |size| {
        let block = format!("NATS/1.0\r\n{}\r\n", "A:b\r\n".repeat(size));
        Box::new(move || assert!(black_box(count_header_lines(block.as_bytes())) <= block.len()))
    }),
    ("one huge header", 512 << 10, |size| {
        let block = format!("NATS/1.0\r\nA: {}\r\n\r\n", "x".repeat(size));
        Box::new(move || assert!(black_box(count_header_lines(block.as_bytes())) <= block.len()))
    }),
    ("header lines without a colon", 12_500, |size| {
        let block = format!("NATS/1.0\r\n{}\r\n", "Ab\r\n".repeat(size));
        Box::new(move || assert!(black_box(count_header_lines(block.as_bytes())) <= block.len()))
    }),
    ("a line in 1-byte reads", 15_000, |size| {
        let line = format!("INFO {{\"x\":\"{}\"}}\r\n", "x".repeat(size));
        Box::new(move || drop(black_box(read_pieces(line.as_bytes().chunks(1), USUAL))))
    }),
    ("a line of a message in 1-byte reads", 3_800, |size| {
        let line = format!("MSG {} 1 2\r\nhi\r\n", "x".repeat(size));
        Box::new(move || drop(black_box(read_pieces(line.as_bytes().chunks(1), USUAL))))
    }),
    ("a message in 1-byte reads", 30_000, |size| {
        let message = format!("MSG a 1 {size}\r\n{}\r\n", "x".repeat(size));
        Box::new(move || drop(black_box(read_pieces(message.as_bytes().chunks(1), USUAL))))
    }),
    ("many tiny messages in one read", 3_000, |size| {
        let bytes = "MSG a 1 1\r\nx\r\n".repeat(size).into_bytes();
        Box::new(move || {
            let mut reading = Reading::new(1 << 16, 1 << 20, 0);
            reading.push(&bytes);
            while let Ok(Some(op)) = reading.next() {
                black_box(op);
            }
        })
    }),
    ("connect_urls", 6_250, |size| {
        let urls = "\"10.0.0.1:4222\",".repeat(size);
        let json = format!("{{\"connect_urls\":[{urls}\"\"]}}");
        Box::new(move || drop(black_box(read_info(json.as_bytes()))))
    }),
    ("INFO with many fields", 3_000, |size| {
        let json = format!("{{{}\"a\":1}}", "\"host\":\"h\",".repeat(size));
        Box::new(move || drop(black_box(read_info(json.as_bytes()))))
    }),
    ("deep JSON", 12_500, |size| {
        let json = format!("{{\"x\":{}{}}}", "[".repeat(size), "]".repeat(size));
        Box::new(move || drop(black_box(read_info(json.as_bytes()))))
    }),
    ("a line of properties that goes on", 6_000, |size| {
        let text = format!("a = {}b\n", "x\\\n".repeat(size));
        Box::new(move || drop(black_box(read_properties(&text))))
    }),
];

/// What doubling the input may cost.
const MOST: f64 = 2.3;
/// The large inputs are so many times the small ones.
const LARGE: usize = 16;

/// How many times longer the second work takes, in the least of some times each: other programs on
/// the machine only make it longer.
fn ratio(once: &dyn Fn(), more: &dyn Fn(), rounds: usize) -> f64 {
    let time = |work: &dyn Fn()| {
        let begun = Instant::now();
        work();
        begun.elapsed()
    };
    let mut least = [Duration::MAX; 2];
    for _ in 0..rounds {
        least = [least[0].min(time(once)), least[1].min(time(more))];
    }
    least[1].as_secs_f64() / least[0].as_secs_f64()
}

/// Twice the input takes at most 2.3 times the time. Sixteen times the input leaves the caches, so
/// it is only held against the 256 times of quadratic work.
pub(crate) fn linear_time(_: Tier) -> String {
    let mut worst: (f64, &str) = (0.0, "");
    for (what, size, prepare) in CASES {
        let (once, twice, large) = (prepare(*size), prepare(2 * size), prepare(LARGE * size));
        // Another program may take the processor in one try, not in each.
        let tries = || (0..5).map(|_| ratio(&once, &twice, 40));
        let found = tries().find(|found| *found <= MOST);
        let Some(found) = found else { panic!("{what}: over {MOST} times the time for twice it") };
        let much = (0..5).map(|_| ratio(&once, &large, 5)).fold(f64::INFINITY, f64::min);
        let quadratic = (LARGE * LARGE) as f64;
        assert!(much < quadratic / 2.0, "{what}: {much:.0} times the time for {LARGE} times");
        if found > worst.0 {
            worst = (found, what);
        }
    }
    format!("{} kinds of input, doubled: at most {:.2} × ({})", CASES.len(), worst.0, worst.1)
}

/// Named inputs, each cut at every place and at random, give what the slow reading gives.
pub(crate) fn cuts(tier: Tier) -> String {
    let entries = read_entries();
    let short: Vec<_> = entries.iter().filter(|entry| entry.bytes.len() <= 4096).collect();
    let (mut seed, mut count) = (Seed::from_env_or(20_261_123), 0_u64);
    for entry in &short {
        let bytes = entry.bytes.as_slice();
        let whole = read_pieces([bytes], USUAL);
        for _ in 0..tier.choose(2_000, 10_000) {
            let mut rest = bytes;
            let most = 1 + seed.below(bytes.len() as u64);
            let pieces = std::iter::from_fn(|| {
                let length = (1 + seed.below(most) as usize).min(rest.len());
                let (piece, behind) = rest.split_at(length);
                rest = behind;
                (!piece.is_empty()).then_some(piece)
            });
            let pieces: Vec<_> = pieces.collect();
            assert!(read_pieces(pieces.iter().copied(), USUAL) == whole, "'{}'", entry.name);
            count += 1;
        }
    }
    format!("{} named inputs in {count} random cuts: the same operations", short.len())
}
