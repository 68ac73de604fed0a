//! Bytes over a socket; knows no NATS.
//!
//! A [`Connector`] makes a [`Stream`] within one deadline and can be cut off by a [`Cancel`].

mod resolve;
mod stream;
mod tcp;

pub(crate) use resolve::Resolution;
pub use resolve::ResolveMode;
pub(crate) use stream::{Cancel, Cancelled, Connector, Stream};
pub(crate) use tcp::{TcpConnector, TcpOptions};
