//! Bytes over a socket; knows no NATS.
//!
//! A [`Connector`] makes a [`Stream`] within one deadline and can be cut off by a [`Cancel`];
//! [`secure`] makes one over TLS of it. A build without the feature `tls` has the same names, and
//! refuses.

#[cfg(any(feature = "tls", feature = "websocket"))]
mod held_back;
#[cfg(not(feature = "tls"))]
mod no_tls;
mod resolve;
mod stream;
mod tcp;
#[cfg(feature = "tls")]
mod tls;

#[cfg(not(feature = "tls"))]
pub(crate) use no_tls::{PreparedTls, TlsSettings, secure};
pub(crate) use resolve::Resolution;
pub use resolve::ResolveMode;
pub(crate) use stream::{Cancel, Cancelled, Connector, Stream, is_wait};
pub(crate) use tcp::{TcpConnector, TcpOptions};
#[cfg(feature = "tls")]
pub use tls::TlsVersion;
#[cfg(feature = "tls")]
pub(crate) use tls::{ClientIdentity, Pem, PreparedTls, TlsSettings, secure};
