//! The faults that must not come back: one test for each, named after it.
//!
//! Three lists: faults of the Java client (`java_fault_NN_…`), questions on which the clients of
//! NATS disagree, each with our answer (`choice_NN_…`), and faults of the old blocking `nats` crate
//! (`old_crate_fault_NN_…`). [`table`] has every number of each list with the tests that show it,
//! or what it waits for; `cargo test --test it -- faults::table --nocapture` prints it.
//!
//! Each test does what brought the fault out in the client that has it. What a healthy server can
//! provoke is provoked with a healthy one.

mod choice_01_to_20;
mod choice_21_to_40;
mod java_01_to_15;
mod java_16_to_30;
mod old_crate;
mod stage;
mod table;
mod trust;
