//! The engine of I4: shuttle, which runs a whole connection under orders of its threads that are
//! drawn, and the scenarios.

mod draw;
mod ends;
mod life;
mod mix;
mod scene;
mod server;
mod traffic;

pub(crate) use draw::{check, first_seed};

use crate::run::{Control, Model};

pub(crate) const PROMISE: &str = "I4";

/// What the effort of a run is, in the table and as an option.
pub(crate) const EFFORT: &str = "schedules";

/// What was done with each model.
pub(crate) fn done(schedules: usize) -> String {
    format!("run under {schedules} schedules each")
}

pub(crate) const SHORT: usize = 5_000;

/// In all more than 10⁶.
pub(crate) const LONG: usize = 100_000;

pub(crate) fn models() -> Vec<Model> {
    [mix::MODELS, life::MODELS, traffic::MODELS, ends::MODELS].concat()
}

pub(crate) const CONTROLS: &[Control] = &[
    ("lost-wake-in-threads", Some("core/threads.rs"), ends::closed_by_three),
    ("lost-wake-in-turn", Some("outbox/turn.rs"), life::published_across_losses),
    ("messages-forgotten", None, life::published_and_forgotten),
];
