//! The NATS protocol as pure code: bytes in, operations out, and the other way round.
//!
//! Nothing here reads a socket or a clock, starts a thread or takes a lock. The rows, each of
//! which imports only from those before it:
//!
//! - `space`: the place of a frame in a buffer.
//! - `subject`: what a subject, queue group and inbox prefix may hold.
//! - `headers`, `frame`, `message`: the data of a message, and the bytes of a received one.
//! - `op`: the client's operations as bytes, and the server's operations as values.
//! - `info`, `connect`: the JSON of INFO and CONNECT.
//! - `parser`: the server's bytes, in any chunks, into operations.
//! - `tls_policy`: in clear, over TLS, or not at all.
//! - `handshake`: the login as a state machine.

mod body;
pub(crate) mod connect;
pub(crate) mod frame;
pub(crate) mod handshake;
pub(crate) mod headers;
pub(crate) mod info;
pub(crate) mod message;
pub(crate) mod op;
pub(crate) mod parser;
mod plain;
pub(crate) mod space;
pub(crate) mod subject;
pub(crate) mod tls_policy;

pub(crate) use connect::{ConnectFields, encode_connect};
pub(crate) use handshake::{Handshake, Step, said_in_clear};
pub use headers::{Headers, Iter as HeaderIter, Status, check_header};
pub use info::ServerInfo;
pub(crate) use info::ServerInfoUpdate;
pub use message::Message;
pub(crate) use op::{
    PING, PONG, PublishLen, ServerOp, announced_size, encode_publish, encode_subscribe,
    encode_unsubscribe, publish_frame_len, publish_len,
};
pub(crate) use parser::{Limits, Parser};
pub(crate) use subject::{
    check_inbox_prefix, check_reply, check_strict_publish, check_strict_reply, quote,
};
pub use subject::{check_publish, check_queue, check_subscribe, subject_matches};
pub(crate) use tls_policy::{TlsOffer, TlsStep, TlsWish, tls_policy};
