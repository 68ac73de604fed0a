//! The promises of the guide, proved with figures.
//!
//! Each proof is a function that panics when its promise is broken and otherwise tells the figure
//! that it reached.
//!
//! ```text
//! cargo test --release --features testing,crossbeam-channel,internals,websocket --test promises
//! ```
//!
//! runs the short tier in minutes, with `-- --long` behind it the tier of an hour; further words
//! choose proofs by the beginning of their number. What is drawn at random comes from seeds, which
//! are printed; `SEED=n` replays one.
//!
//! A program without the test harness: some proofs count threads and descriptors of their process,
//! and all of them want both cores.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test fails by panicking"
)]

#[path = "../it/support/mod.rs"]
#[allow(unused_imports, reason = "what the tests of these files import: they run elsewhere")]
mod support;

mod alone;
mod attempts;
mod callbacks;
mod chaos;
mod consumers;
mod delivery;
#[path = "../it/embedded.rs"]
#[allow(dead_code, reason = "random_faults uses a part of it")]
mod embedded;
mod hostile;
#[path = "../inputs/mod.rs"]
mod inputs;
mod interrupted;
mod ledger;
mod liveness;
mod lives;
mod matrix;
mod names;
mod outages;
mod outgoing;
#[path = "../it/random_faults.rs"]
mod random_faults;
mod refusals;
mod requests;
mod resources;
mod returns;
#[path = "../it/simulation/mod.rs"]
#[allow(
    dead_code,
    unused_imports,
    reason = "what the tests of these files use: they run elsewhere"
)]
mod simulation;
mod simulations;
mod soak;

use std::env;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use support::watchdog::within;

/// How much is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    /// In every run: minutes.
    Short,
    /// Now and then: an hour.
    Long,
}

impl Tier {
    pub(crate) fn choose<T>(self, short: T, long: T) -> T {
        match self {
            Self::Short => short,
            Self::Long => long,
        }
    }
}

/// One promise and its proof.
struct Proof {
    number: &'static str,
    promise: &'static str,
    run: fn(Tier) -> String,
    /// What the short and the long tier may take.
    limits: [Duration; 2],
}

const fn minutes(minutes: u64) -> Duration {
    Duration::from_secs(minutes * 60)
}

const PROOFS: &[Proof] = &[
    Proof {
        number: "A1",
        promise: "no input makes anything panic, hang or be read wrongly",
        run: hostile::changed_inputs,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "A2",
        promise: "how bytes are cut into reads changes nothing",
        run: hostile::cuts,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "A4",
        promise: "the time that an input takes is linear",
        run: hostile::linear_time,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "B1",
        promise: "no string of the program becomes a second protocol line",
        run: outgoing::injected,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "B3",
        promise: "one publish is one whole frame, whoever publishes beside it",
        run: outgoing::whole_frames,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "E1a",
        promise: "lost links lose one run of messages each, and nothing else",
        run: delivery::cut_links,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "E1b",
        promise: "a server killed under load neither doubles nor reorders",
        run: delivery::killed_servers,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "E2",
        promise: "what is published during an outage arrives whole, in order, up to the limit",
        run: outages::buffered,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "E3",
        promise: "no part of a frame reaches another connection",
        run: outages::every_byte,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "E4",
        promise: "a request ends exactly once, on time, with its own reply",
        run: requests::end_once,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "E5",
        promise: "a flush that succeeds answers for everything before it",
        run: requests::flushes,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "E6",
        promise: "a drain handles everything that had arrived",
        run: consumers::drained,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "E7",
        promise: "an auto-unsubscribe delivers exactly its number",
        run: outages::auto_unsubscribe,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "E8",
        promise: "a slow consumer is bounded and counted, and harms no other",
        run: consumers::stuck,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "E9",
        promise: "every connection announces each live subscription once",
        run: outages::restored,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "F1",
        promise: "a dead peer blocks nobody for longer than agreed",
        run: liveness::dead_peers,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "F2",
        promise: "a slow link that is alive is not cut, a dead one is noticed",
        run: liveness::slow_links,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "F3",
        promise: "an attempt ends in its time, wherever the server falls silent",
        run: attempts::silence,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "F4",
        promise: "back soon after the server is back",
        run: returns::restarts,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "F5",
        promise: "many clients that lose their servers do not all come at once",
        run: attempts::no_storm,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "F6",
        promise: "a name that does not resolve, or late, costs one attempt and hinders nothing",
        run: names::resolved,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "F7",
        promise: "a process that stood still goes on",
        run: interrupted::stopped,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "F8",
        promise: "signals to the process change nothing",
        run: interrupted::interrupted,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "F9",
        promise: "a server that leaves is left in time, and no request fails",
        run: returns::lame_ducks,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "F10",
        promise: "whatever the server refuses is told with its kind, and has its consequence",
        run: refusals::classified,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "G1",
        promise: "anything may be called from anywhere, in every state",
        run: matrix::all_cells,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "G2",
        promise: "a panic in the program's code harms nobody else",
        run: callbacks::panics,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "G3",
        promise: "events keep to their grammar, whatever happens",
        run: callbacks::grammar,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "G4",
        promise: "a slow listener slows only listeners",
        run: callbacks::sleeping_listener,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "H1",
        promise: "nothing is left behind",
        run: lives::nothing_is_left,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "H2",
        promise: "what runs out is an error, and recovers",
        run: resources::exhaustion,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "H3",
        promise: "handles may be dropped in any order",
        run: resources::drop_orders,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "H4",
        promise: "children get no descriptors",
        run: resources::children,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "I3",
        promise: "under virtual time every message is processed once, or lost with a connection",
        run: simulations::lives,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "J1",
        promise: "whatever happens to a cluster, the promises hold, and all is well again soon",
        run: chaos::chaos,
        limits: [minutes(5), minutes(30)],
    },
    Proof {
        number: "J2",
        promise: "a steady load stays steady (SOAK=seconds)",
        run: soak::steady,
        // As long as one likes.
        limits: [minutes(1_500), minutes(1_500)],
    },
];

fn main() {
    let words: Vec<String> = env::args().skip(1).collect();
    if words.iter().any(|word| word == "--list") {
        return;
    }
    let tier = if words.iter().any(|word| word == "--long") { Tier::Long } else { Tier::Short };
    let chosen: Vec<&String> = words.iter().filter(|word| !word.starts_with('-')).collect();
    let internal = count_internal_panics();
    let mut rows = Vec::new();
    for proof in PROOFS {
        if !chosen.is_empty() && !chosen.iter().any(|word| is_chosen(proof.number, word)) {
            continue;
        }
        let begun = Instant::now();
        let run = proof.run;
        let limit = proof.limits[tier as usize];
        let figure = within(limit, proof.number, move || run(tier));
        let took = begun.elapsed().as_secs_f64();
        println!("{}: {figure} ({took:.1} s)", proof.number);
        rows.push(format!("| {} | {} | {figure} | {took:.1} |", proof.number, proof.promise));
    }
    let panics = internal.load(Ordering::SeqCst);
    let promise = "the library itself never panics";
    rows.push(format!("| H5 | {promise} | {panics} panics in its code in all these runs | 0 |"));
    println!("\n| number | promise | figure | seconds |\n| --- | --- | --- | --- |");
    println!("{}", rows.join("\n"));
    assert_eq!(panics, 0, "H5: the library panicked; it tells where above");
}

/// Whether the word is the beginning of the number, up to a whole part of it: `F1` is not `F10`.
fn is_chosen(number: &str, word: &str) -> bool {
    let rest = number.strip_prefix(word);
    let whole =
        |rest: &str| word.len() == 1 || !rest.starts_with(|next: char| next.is_ascii_digit());
    rest.is_some_and(whole)
}

/// Counts every panic that begins in a file of the library, whoever catches it.
fn count_internal_panics() -> Arc<AtomicU64> {
    let (count, usual) = (Arc::new(AtomicU64::new(0)), panic::take_hook());
    let inside = Arc::clone(&count);
    panic::set_hook(Box::new(move |told| {
        if told.location().is_some_and(|at| at.file().starts_with("src/")) {
            inside.fetch_add(1, Ordering::SeqCst);
        }
        usual(told);
    }));
    count
}
