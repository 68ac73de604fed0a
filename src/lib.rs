//! A NATS client for programs without an async runtime.

mod auth;
mod builder;
mod clock;
mod connection;
mod core;
mod dispatcher;
mod drain;
mod error;
mod listener;
mod options;
mod outbox;
mod outcome;
mod protocol;
mod random;
mod request;
mod request_many;
mod server_error;
mod server_url;
mod statistics;
mod subscription;
mod subscriptions;
mod sync;
mod transport;

#[cfg(feature = "testing")]
pub mod testing;

pub use crate::builder::{OptionsBuilder, connect};
pub use crate::connection::{Connection, Events, WeakConnection};
pub use crate::core::{
    ConnectionEvent, ConnectionEventKind, ConnectionStatus, ErrorNotice, ListenerId, Notice,
};
pub use crate::dispatcher::Dispatcher;
pub use crate::drain::Drain;
pub use crate::error::{ConnectAttempt, Error, ErrorKind, Result};
pub use crate::listener::{ConnectionListener, ErrorListener};
pub use crate::options::{Options, ServerList};
pub use crate::outbox::{OutboxPolicy, ReconnectBuffer};
pub use crate::protocol::{Headers, Message, ServerInfo, Status, subject_matches};
pub use crate::request::PendingReply;
pub use crate::request_many::{Gather, Replies};
pub use crate::server_error::{RefusedOperation, ServerError, ServerErrorKind};
pub use crate::statistics::Statistics;
pub use crate::subscription::{IntoIter, Iter, Subscription, TimeoutIter, TryIter};
pub use crate::subscriptions::{Consumer, ConsumerStatus, ConsumerView, PendingLimits};
