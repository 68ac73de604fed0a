//! Frames on their way to the server, in call order.
//!
//! Any thread appends whole frames under a short lock. Bytes leave by the *write turn*: a flag says
//! who writes, the flusher or a calling thread that found everything idle or a full batch waiting;
//! the lock is never held during a write. The turn owns the `taken` buffer until it gives it back.
//!
//! ```text
//!   publish, control, ping ─▶ pending ─swap─▶ taken ─batch of ≤ 64 KiB─▶ socket
//!   PONG, keep-alive PING ──▶ urgent ──────(between two batches)────────▶ socket
//! ```
//!
//! With the policy `Block`, a publisher that finds the *high water* waiting lets the writer catch
//! up, as long as that is quick; the writer counts as *overrun* for a while where it is not, and
//! then the outbox is used up to its limit, where publishers wait for room (`room.rs`).
//!
//! A stream over TLS takes bytes before the kernel does: what it has encrypted counts as written,
//! and what it then holds back belongs to the same turn, which is not done before it is sent.
//!
//! Invariants: `pending` and `taken` hold whole frames, except that the first frame of `taken` may
//! have been taken by the stream in part; nothing is written between its parts. The line of
//! expected PONGs is in the order in which the PINGs leave. Messages survive the loss of a
//! connection, control frames do not.
//!
//! ```text
//!  Down ──open──▶ Opening ──begin──▶ Up ──leave──▶ Leaving
//!    ▲               │                │ │             │ │
//!    └──────end──────┴───────end──────┘─│─────end─────┘ │
//!                                       └────close──────┴──▶ Closing
//!        (any of them) ────────────finish──────────▶ Closed
//! ```
//!
//! While leaving, what was there is written, and what is published goes to `later`, behind all
//! else, for the next connection.
//!
//! Who calls what: `append.rs` and `room.rs` any thread (`control` with the registry locked);
//! `phases.rs` the reader thread and whoever closes; `turn.rs` the flusher, or a caller that got
//! the turn.

mod append;
mod frames;
mod phases;
mod pongs;
mod room;
mod state;
mod turn;

pub(crate) use append::{Accepted, Outgoing};
pub(crate) use pongs::Pong;
pub(crate) use state::{Batch, HIGH_WATER, Outbox, OutboxConfig, ServerLimits, Urgency};
pub use state::{OutboxPolicy, ReconnectBuffer};
