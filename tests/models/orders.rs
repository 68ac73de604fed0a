//! The engine of I1: loom, which runs every order of a model's threads within a bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::run::{Control, Model};
use crate::{epoch, outbox, pongs, queue, requests};

pub(crate) const PROMISE: &str = "I1";

/// What the effort of a run is, in the table and as an option.
pub(crate) const EFFORT: &str = "bound";

/// What was done with each model.
pub(crate) fn done(bound: usize) -> String {
    format!("exhausted at bound {bound}")
}

/// Nothing is drawn here.
pub(crate) fn first_seed() -> Option<u64> {
    None
}

/// How many interruptions of a thread at a moment where it could have gone on are tried.
pub(crate) const SHORT: usize = 2;

/// The same for the long tier: minutes for the largest model, many on a busy machine.
pub(crate) const LONG: usize = 3;

pub(crate) fn models() -> Vec<Model> {
    // The longest first: two run at a time.
    [epoch::MODELS, queue::MODELS, outbox::MODELS, pongs::MODELS, requests::MODELS].concat()
}

pub(crate) const CONTROLS: &[Control] = &[
    ("lost-wake-in-queue", Some("subscriptions/mailbox.rs"), queue::pulled_by_two),
    ("lost-wake-in-turn", Some("outbox/turn.rs"), outbox::two_publishers),
    ("lost-wake-in-outcome", Some("src/outcome.rs"), requests::answered_late_or_closed),
    ("pong-before-its-waiter", None, pongs::waiter_after_ping),
];

/// Runs every execution there is within the bound, and returns their number.
pub(crate) fn check(bound: usize, model: fn()) -> u64 {
    let executions = Arc::new(AtomicU64::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    // Neither a time nor a number ends it early: what returns is exhausted.
    (builder.max_duration, builder.max_permutations) = (None, None);
    builder.max_branches = 20_000;
    let count = Arc::clone(&executions);
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    executions.load(Ordering::Relaxed)
}
