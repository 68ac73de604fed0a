//! Integration tests: one binary, a module for each subject.
//!
//! What tests share (servers, scripts, deadlines, leak counts) lives in `support`; the structure of
//! the repository itself is checked in `tidy`.

// A test may stop at the first surprise; only the library must not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod corpus;
mod handshake;
mod hostile;
mod injection;
mod memory;
mod secrets;
mod support;
mod tidy;
mod torn;
