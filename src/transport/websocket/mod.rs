//! WebSocket over any stream: a request and its response, then frames.
//!
//! ```text
//!   reading thread ──▶ read the stream, no lock ──▶ lock: take the heads of frames out, in place
//!   the turn ────────▶ lock: make a frame, masked ──▶ write the stream, no lock
//! ```
//!
//! Nothing is kept of a frame but its head, so that its length costs no memory, and a message of
//! any number of frames is what it is to NATS: bytes. Nothing is compressed. The answer to a ping
//! or a close waits with the frames, and leaves with the next write turn.
//!
//! `settings` holds what the options say, `upgrade` is request and response, `frames` the pure
//! part, `stream` the stream. No type of the library leaves this folder. What the options say stays
//! out of it too: the library logs the requests that it makes.

mod frames;
mod settings;
mod stream;
mod upgrade;

#[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
pub(crate) use frames::Decoder;
pub(crate) use settings::WebSocketSettings;
#[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
pub(crate) use upgrade::check as check_upgrade;
pub(crate) use upgrade::upgrade;
