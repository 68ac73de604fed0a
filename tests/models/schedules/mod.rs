//! The engine of I4: shuttle, which runs a whole connection under orders of its threads that are
//! drawn, and the scenarios.

mod draw;
mod ends;
mod life;
mod mix;
mod scene;
mod server;
mod traffic;

pub(crate) use draw::check;

use crate::run::{Control, Model};

pub(crate) const PROMISE: &str = "I4";

/// What the effort of a run is, in the table and as an option.
pub(crate) const EFFORT: &str = "schedules";

/// What was done with each model, before the effort.
pub(crate) const DONE: &str = "run under schedules, each";

pub(crate) const SHORT: usize = 1_000;

pub(crate) const LONG: usize = 70_000;

pub(crate) fn models() -> Vec<Model> {
    [mix::MODELS, life::MODELS, traffic::MODELS, ends::MODELS].concat()
}

pub(crate) const CONTROLS: &[Control] = &[
    ("lost-wake-in-threads", Some("core/threads.rs"), ends::closed_by_three),
    ("lost-wake-in-turn", Some("outbox/turn.rs"), life::published_across_losses),
];
