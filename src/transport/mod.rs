//! Bytes over a socket; knows no NATS.
//!
//! A [`Dial`] makes a [`Stream`] within one deadline and can be cut off by a [`Cancel`];
//! [`secure`] makes one over TLS of it, [`upgrade`] one over WebSocket. A build without the feature
//! has the same names, and refuses.
//!
//! [`Connector`] and [`Transport`] are the public pair for a program that brings its own; `foreign`
//! makes a [`Stream`] of one, whatever it does.

mod connector;
mod foreign;
#[cfg(any(feature = "tls", feature = "websocket"))]
mod held_back;
#[cfg(not(feature = "tls"))]
mod no_tls;
#[cfg(not(feature = "websocket"))]
mod no_websocket;
#[cfg(any(feature = "tls", feature = "websocket"))]
mod read_wait;
mod resolve;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;
#[cfg(feature = "websocket")]
mod websocket;

pub use connector::{Connector, ServerAddress, Transport};
pub(crate) use foreign::OwnConnector;
#[cfg(not(feature = "tls"))]
pub(crate) use no_tls::{PreparedTls, TlsSettings, secure};
#[cfg(not(feature = "websocket"))]
pub(crate) use no_websocket::{WebSocketSettings, upgrade};
pub(crate) use resolve::Resolution;
pub use resolve::ResolveMode;
pub(crate) use stream::{Cancel, Cancelled, Dial, Stream, is_wait};
pub(crate) use tcp::{TcpConnector, TcpOptions};
#[cfg(feature = "tls")]
pub use tls::TlsVersion;
#[cfg(feature = "tls")]
pub(crate) use tls::{ClientIdentity, Pem, PreparedTls, TlsSettings, secure};
#[cfg(all(feature = "websocket", any(feature = "internals", loom, shuttle, fuzzing)))]
pub(crate) use websocket::{Decoder as WebSocketDecoder, check_upgrade};
#[cfg(feature = "websocket")]
pub(crate) use websocket::{WebSocketSettings, upgrade};
