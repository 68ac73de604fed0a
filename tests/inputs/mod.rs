//! What reads bytes or text from outside, tried with inputs: by the tests, and by the fuzzer.
//!
//! | file | what it gives |
//! | --- | --- |
//! | `corpus` | the named inputs of `tests/corpus` with their outcomes |
//! | `reference` | a second reading of the protocol: slow, of whole buffers, by its definition |
//! | `targets` | one function for each kind of input; it panics where something is wrong |
//! | `mutate` | inputs that were good once, changed at random |
//!
//! Stands alone: the fuzz package includes it without the rest of the tests.

#![allow(dead_code, reason = "each program that includes this uses a part of it")]

pub(crate) mod corpus;
pub(crate) mod mutate;
pub(crate) mod reference;
pub(crate) mod targets;
