//! The life of one connection.
//!
//! ```text
//!   any thread ──publish, subscribe, request──▶ outbox ──▶ flusher ──▶ socket
//!                                                                       │
//!   consumers ◀── mailboxes, requests ◀────────── reader ◀──────────────┘
//!                                                   │ owns the life cycle: choose a server,
//!                                                   │ connect, log in, announce, read, tear
//!                                                   ▼ down, again
//!   listeners ◀── callback ◀── hub ◀── events and errors, from whoever notices
//! ```
//!
//! Three threads a connection: *reader*, *flusher*, *callback*. The first two run no code of the
//! program, except that the reader asks the callbacks of `choice.rs` in an outage and runs the two
//! calls for debugging of `watch.rs`, and that both use a transport of the program where there is
//! one; credentials of the program are asked on a fourth, short-lived one. The order of locks is
//! that of [`crate::sync::Rank`]; no lock is held during socket IO, name resolution, code of the
//! program or a join.

mod asking;
mod attempt;
mod barrier;
mod callbacks;
mod choice;
mod closing;
mod config;
mod departure;
mod draining;
mod events;
mod flusher;
mod handover;
mod hooks;
mod keepalive;
mod life;
mod notice;
mod outage;
mod reader;
mod receive;
mod servers;
mod shared;
mod threads;
mod traffic;
mod waits;
mod watch;

#[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
pub(crate) use callbacks::run as run_callbacks;
pub(crate) use choice::Deciders;
pub use choice::{PoolServer, SelectedServer, ServerChoice};
pub use config::RetryConnect;
pub(crate) use config::{Config, Watch};
pub use events::ListenerId;
pub(crate) use events::{Tap, Tapped};
#[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
pub(crate) use flusher::run as run_flusher;
#[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
pub(crate) use keepalive::{Idle, KeepAlive};
pub use life::ConnectionStatus;
pub(crate) use life::DrainProgress;
pub use notice::{ConnectionEvent, ConnectionEventKind, ErrorNotice, Notice};
#[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
pub(crate) use reader::run as run_reader;
#[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
pub(crate) use servers::Pool;
pub(crate) use servers::PoolPolicy;
pub(crate) use shared::Core;
pub(crate) use threads::Runs;
#[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
pub(crate) use waits::Losses;
