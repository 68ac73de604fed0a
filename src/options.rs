//! Options: what a connection is to be, checked before anything is sent, and how it is made.
//!
//! The builder that makes them is in `builder.rs`.

use std::fmt;
use std::time::Duration;

use crate::connection::Connection;
use crate::core::{Config, Core};
use crate::error::{Error, ErrorKind, Result};
use crate::listener::Sink;
use crate::protocol::check_inbox_prefix;
use crate::sync::Arc;
use crate::transport::{Resolution, TcpConnector};

/// Anything that names servers: a text (also a comma-separated list), or several.
///
/// Sealed: it is implemented for `&str`, `String`, `&String`, and for slices, arrays and vectors of
/// texts.
pub trait ServerList: sealed::Sealed {
    #[doc(hidden)]
    fn texts(&self) -> Vec<String>;
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! server_list {
    ($([$($generics:tt)*] $type:ty, $self:ident => $texts:expr;)+) => {
        $(impl<$($generics)*> sealed::Sealed for $type {}
        impl<$($generics)*> ServerList for $type {
            fn texts(&$self) -> Vec<String> {
                $texts
            }
        })+
    };
}

server_list! {
    [] &str, self => vec![(*self).to_owned()];
    [] String, self => vec![self.clone()];
    [] &String, self => vec![(*self).clone()];
    [T: AsRef<str>] &[T], self => self.iter().map(|text| text.as_ref().to_owned()).collect();
    [T: AsRef<str>] Vec<T>, self => self.iter().map(|text| text.as_ref().to_owned()).collect();
    [T: AsRef<str>] &Vec<T>, self => self.iter().map(|text| text.as_ref().to_owned()).collect();
    [T: AsRef<str>, const N: usize] [T; N], self =>
        self.iter().map(|text| text.as_ref().to_owned()).collect();
    [T: AsRef<str>, const N: usize] &[T; N], self =>
        self.iter().map(|text| text.as_ref().to_owned()).collect();
}

/// What a connection is to be; made by [`Options::builder`], used any number of times.
///
/// `Debug` shows everything but secrets.
#[derive(Clone)]
pub struct Options {
    pub(crate) config: Config,
    pub(crate) sinks: Vec<Sink>,
}

impl Options {
    /// Connects: tries each server once, in random order unless told otherwise.
    ///
    /// # Blocking
    ///
    /// Up to the connect time-out for each server; where all fail also up to the close time-out,
    /// for listeners that are slow to hear of it. Must not be called from a listener or handler of
    /// another connection that is needed for it.
    ///
    /// # Errors
    ///
    /// [`Connect`](ErrorKind::Connect) with the cause for each server in [`Error::attempts`];
    /// [`Io`](ErrorKind::Io) if a thread cannot be started.
    pub fn connect(&self) -> Result<Connection> {
        let tcp = TcpConnector::new(self.config.tcp.clone(), Resolution::new());
        let core = Core::new(self.config.clone(), Box::new(tcp))?;
        for sink in &self.sinks {
            core.hub.add(Arc::clone(sink));
        }
        if let Err(error) = core.connect() {
            // The connection has ended already: the handle goes without closing it once more.
            core.drop_handle();
            return Err(error);
        }
        Ok(Connection::first(core))
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("config", &self.config)
            .field("listeners", &self.sinks.len())
            .finish()
    }
}

/// Ten years: no setting that is meant is longer, and every deadline can be computed.
const LONGEST: Duration = Duration::from_secs(60 * 60 * 24 * 365 * 10);

pub(crate) fn check(config: &Config) -> Result<()> {
    let bad = |text: String| Err(Error::new(ErrorKind::InvalidOption, text));
    let positive = [
        ("connect_timeout", config.connect_timeout),
        ("close_timeout", config.close_timeout),
        ("socket_write_timeout", config.write_timeout),
        ("ping_interval", config.ping_interval.unwrap_or(Duration::from_secs(1))),
    ];
    for (name, value) in positive {
        if value.is_zero() {
            return bad(format!("{name} is zero"));
        }
    }
    let any = [
        ("reconnect_wait", config.reconnect_wait),
        ("reconnect_jitter", config.reconnect_jitter),
        ("reconnect_jitter_tls", config.reconnect_jitter_tls),
    ];
    for (name, value) in positive.into_iter().chain(any) {
        if value > LONGEST {
            return bad(format!("{name} is longer than ten years"));
        }
    }
    let sizes = [
        ("outbox_size", config.outbox.limit),
        ("max_control_line", config.outbox.control_line),
        ("max_incoming_control_line", config.limits.control_line),
        ("send_buffer_size", config.tcp.send_buffer.unwrap_or(1)),
        ("receive_buffer_size", config.tcp.receive_buffer.unwrap_or(1)),
    ];
    for (name, value) in sizes {
        if value == 0 {
            return bad(format!("{name} is zero"));
        }
    }
    if config.max_pings_out == Some(0) {
        return bad("max_pings_out is zero: every silence would be a loss".to_owned());
    }
    if config.name.as_ref().is_some_and(|name| name.contains('\0')) {
        return bad("name holds a NUL, which a thread name cannot hold".to_owned());
    }
    config.credentials.check()?;
    check_inbox_prefix(&config.inbox_prefix)?;
    let (prefix, line) = (config.inbox_prefix.len(), config.outbox.control_line);
    if prefix.saturating_add(AROUND_PREFIX) > line {
        let text = "with a unique part the inbox prefix does not fit into the control line";
        return bad(format!("{text}: {prefix} bytes of {line}"));
    }
    Ok(())
}

/// What stands around the inbox prefix in the longest line of a connection's own, a SUB: operation,
/// unique part, token, sid and blanks.
const AROUND_PREFIX: usize = 80;
