//! The clock and the faults of a model: they exist under `--cfg loom` and
//! `--cfg shuttle` only.

use crate::sync::time;

/// Every deadline that was set so far is over.
pub fn pass_time() {
    time::pass();
}

/// From now on, in this process, the wake-ups that a file of the library (`file.rs`) or one place
/// in it (`file.rs:12`) gives are lost: what a model must notice.
pub fn lose_wakes(place: &'static str) {
    time::lose_wakes(place);
}
