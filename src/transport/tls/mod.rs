//! TLS over any stream, by the library of the system.
//!
//! Its session is one object that cannot be split, so it is given memory in place of a socket:
//!
//! ```text
//!   reading thread ──▶ read the socket, no lock ──▶ lock: ciphertext in, plaintext out
//!   the turn ────────▶ lock: plaintext in, ciphertext out ──▶ write the socket, no lock
//! ```
//!
//! So reading never waits for a socket that takes no more bytes, nor writing for one that has
//! none. What reading produces (answers to key updates, alerts) waits with the ciphertext, and
//! leaves with the next write turn.
//!
//! `settings` holds what the options say, `material` reads what a connector is made of, `pem` says
//! where a text is malformed, `session` is the lock's content, `stream` the handshake and the
//! stream, `explain` says which check failed. No type of the library leaves this folder.

mod explain;
mod material;
mod pem;
mod session;
mod settings;
mod stream;

pub use material::TlsVersion;
pub(crate) use material::{ClientIdentity, Pem};
pub(crate) use settings::{PreparedTls, TlsSettings};
pub(crate) use stream::secure;
