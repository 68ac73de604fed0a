//! Hearing every operation that is read from a server, for debugging.
//!
//! The listener is called by the reader thread, with no lock held, before the operation is handled.
//! Who calls it, and what a panic does, stands in `core/watch.rs`.

use std::fmt;

use crate::protocol::{Message, ServerOp};
use crate::server_error::ServerError;
use crate::sync::Arc;

/// Hears every operation that is read from a server, for debugging.
///
/// Unlike all other listeners it is called by the connection's *reader* thread, for each operation
/// just before it is handled. While it runs nothing is read: a slow one slows the connection down,
/// and it must not wait for anything that the connection would have to read (a `flush`, a request,
/// a [`close`](crate::Connection::close)): that ends at its deadline at best. A panic is caught and
/// counted, and the first told to `exception_occurred`. It lives as long as the connection's last
/// handle: one that needs a handle holds a [`WeakConnection`](crate::WeakConnection).
/// [`OptionsBuilder::read_listener`](crate::OptionsBuilder::read_listener) sets it.
///
/// Closures of the same shape are read listeners;
/// [`OptionsBuilder::on_read`](crate::OptionsBuilder::on_read) takes one without type annotations.
/// An `Arc` of a read listener is one.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
///
/// use nats_blocking::{ReadListener, ReadOperation};
///
/// #[derive(Default)]
/// struct Pings(AtomicU64);
///
/// impl ReadListener for Pings {
///     fn operation_read(&self, operation: &ReadOperation<'_>) {
///         if let ReadOperation::Ping = operation {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let options = nats_blocking::Options::builder().read_listener(Pings::default()).build()?;
/// # Ok::<(), nats_blocking::Error>(())
/// ```
pub trait ReadListener: Send + Sync + 'static {
    /// An operation was read, and is handled when this call returns.
    fn operation_read(&self, operation: &ReadOperation<'_>);
}

impl<F> ReadListener for F
where
    F: Fn(&ReadOperation<'_>) + Send + Sync + 'static,
{
    fn operation_read(&self, operation: &ReadOperation<'_>) {
        self(operation);
    }
}

impl<L: ReadListener + ?Sized> ReadListener for Arc<L> {
    fn operation_read(&self, operation: &ReadOperation<'_>) {
        (**self).operation_read(operation);
    }
}

/// One operation of the server, as given to a [`ReadListener`]; also those of a login.
///
/// `Display` and `Debug` show sizes, not headers or payloads; the message itself has them.
/// `Display` gives `MSG orders.eu, sid 3, reply _INBOX.x, payload 12`, `PING`, `-ERR 'Stale
/// Connection'`.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum ReadOperation<'a> {
    /// INFO: what the server says of itself. The listener hears of it first;
    /// [`Connection::server_info`](crate::Connection::server_info) has it soon after.
    Info,
    /// MSG or HMSG: a message.
    #[non_exhaustive]
    Message {
        /// The number of the subscription that it is for.
        sid: u64,
        /// The message as its consumer will get it.
        message: &'a Message,
        /// The bytes of the whole frame: control line, headers, payload and line ends.
        wire_bytes: usize,
    },
    /// PING.
    Ping,
    /// PONG: the answer to a keep-alive ping or a flush.
    Pong,
    /// `+OK`, in verbose mode.
    Ok,
    /// `-ERR`.
    Error(&'a ServerError),
}

impl<'a> ReadOperation<'a> {
    pub(crate) fn new(op: &'a ServerOp) -> Self {
        match op {
            ServerOp::Info(_) => Self::Info,
            ServerOp::Message(delivery) => Self::Message {
                sid: delivery.sid,
                message: &delivery.message,
                wire_bytes: delivery.wire_len,
            },
            ServerOp::Ping => Self::Ping,
            ServerOp::Pong => Self::Pong,
            ServerOp::Ok => Self::Ok,
            ServerOp::Err(error) => Self::Error(error),
        }
    }

    /// The operation as the protocol names it: `INFO`, `MSG`, `HMSG`, `PING`, `PONG`, `+OK`,
    /// `-ERR`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Info => "INFO",
            Self::Message { message, .. } if message.raw_headers().is_some() => "HMSG",
            Self::Message { .. } => "MSG",
            Self::Ping => "PING",
            Self::Pong => "PONG",
            Self::Ok => "+OK",
            Self::Error(_) => "-ERR",
        }
    }
}

impl fmt::Display for ReadOperation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())?;
        match self {
            Self::Message { sid, message, .. } => {
                write!(f, " {}, sid {sid}", message.subject())?;
                if let Some(reply) = message.reply() {
                    write!(f, ", reply {reply}")?;
                }
                if let Some(block) = message.raw_headers() {
                    write!(f, ", headers {}", block.len())?;
                }
                write!(f, ", payload {}", message.payload().len())
            }
            Self::Error(error) => write!(f, " '{error}'"),
            _ => Ok(()),
        }
    }
}
