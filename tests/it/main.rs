//! Integration tests: one binary, a module for each subject.
//!
//! What tests share (servers, scripts, deadlines, leak counts) lives in `support`; the structure of
//! the repository itself is checked in `tidy`; `real` is against the real server.

// A test may stop at the first surprise; only the library must not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod authorization;
mod callbacks;
mod conformance;
mod connector;
mod corpus;
#[cfg(feature = "testing")]
mod departure;
mod embedded;
#[cfg(feature = "testing")]
mod endings;
mod environment;
mod events;
mod exact_limits;
mod examples;
#[cfg(feature = "testing")]
mod faults;
#[cfg(all(feature = "tls", feature = "websocket"))]
mod floods;
mod handshake;
mod hostile;

mod injected_logins;
mod injection;
#[path = "../inputs/mod.rs"]
mod inputs;
mod inputs_read;
mod last_words;
mod listeners;
#[cfg(feature = "testing")]
mod logging;
mod memory;
mod promises_page;
#[cfg(feature = "testing")]
mod public_api;
#[cfg(feature = "testing")]
mod public_docs;
mod random_faults;
#[cfg(feature = "testing")]
mod real;
mod request_many;
mod secrets;
#[cfg(feature = "internals")]
mod simulation;
mod support;
mod tidy;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "tls")]
mod tls_bits;
#[cfg(feature = "tls")]
mod tls_cells;
#[cfg(all(unix, feature = "tls"))]
mod tls_files;
#[cfg(feature = "tls")]
mod tls_throughput;
mod torn;
#[cfg(feature = "websocket")]
mod websocket;
