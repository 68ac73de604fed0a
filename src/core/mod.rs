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
//! Three threads a connection: *reader*, *flusher*, *callback*. The first two never run code of the
//! program. The order of locks is that of [`crate::sync::Rank`]; no lock is held during socket IO,
//! name resolution, code of the program or a join.

mod attempt;
mod callbacks;
mod closing;
mod config;
mod draining;
mod events;
mod flusher;
mod keepalive;
mod life;
mod notice;
mod reader;
mod receive;
mod servers;
mod shared;
mod threads;
mod traffic;
mod waits;

pub(crate) use callbacks::guarded;
#[cfg(any(feature = "internals", loom, fuzzing))]
pub(crate) use callbacks::run as run_callbacks;
pub(crate) use config::Config;
pub use events::ListenerId;
pub(crate) use events::{Tap, Tapped};
#[cfg(any(feature = "internals", loom, fuzzing))]
pub(crate) use flusher::run as run_flusher;
#[cfg(any(feature = "internals", loom, fuzzing))]
pub(crate) use keepalive::{Idle, KeepAlive};
pub use life::ConnectionStatus;
pub(crate) use life::DrainProgress;
pub use notice::{ConnectionEvent, ConnectionEventKind, ErrorNotice, Notice};
#[cfg(any(feature = "internals", loom, fuzzing))]
pub(crate) use reader::run as run_reader;
#[cfg(any(feature = "internals", loom, fuzzing))]
pub(crate) use servers::Pool;
pub(crate) use servers::PoolPolicy;
pub(crate) use shared::Core;
pub(crate) use threads::Runs;
#[cfg(any(feature = "internals", loom, fuzzing))]
pub(crate) use waits::Losses;
