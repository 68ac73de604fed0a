//! The trace of an attempt to connect: each step with its time, for whoever wants to know where an
//! attempt stands or where its time went.
//!
//! [`Trace`] belongs to one attempt and to the reader thread, which calls the closure of the
//! program with no lock held. Without a closure a step is not even made. No step carries user
//! information, a credential or the text of a CONNECT.

use std::cell::Cell;
use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::clock;
use crate::error::Error;
use crate::server_url::ServerUrl;
use crate::sync::{Arc, guarded};

/// One step of an attempt to connect, as given to
/// [`OptionsBuilder::trace_connection`](crate::OptionsBuilder::trace_connection).
///
/// [`Display`](fmt::Display) gives one line:
/// `nats://127.0.0.1:4222 +0.312 ms: INFO received`.
#[derive(Debug, Clone)]
pub struct TraceStep {
    server: Arc<str>,
    elapsed: Duration,
    kind: TraceStepKind,
}

impl TraceStep {
    /// The URL of the server that is tried, without user information.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// The time since the attempt began, by the monotonic clock.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Which step it is.
    pub fn kind(&self) -> &TraceStepKind {
        &self.kind
    }
}

impl fmt::Display for TraceStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.elapsed.as_secs_f64() * 1000.0;
        write!(f, "{} +{millis:.3} ms: {}", self.server, self.kind)
    }
}

/// The steps of an attempt to connect, in the order in which they come.
///
/// An attempt ends with [`SubscriptionsWritten`](Self::SubscriptionsWritten) or with
/// [`Failed`](Self::Failed); with both where `close` comes in that moment.
///
/// ```
/// use nats_blocking::{Options, TraceStep, TraceStepKind};
///
/// fn slow(step: &TraceStep) {
///     if let TraceStepKind::Resolved { addresses, .. } = step.kind() {
///         println!("{}: {} addresses, {:?}", step.server(), addresses.len(), step.elapsed());
///     }
/// }
///
/// let options = Options::builder().trace_connection(slow).build()?;
/// # Ok::<(), nats_blocking::Error>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TraceStepKind {
    /// The host's name is being looked up; not for an IP address.
    Resolving {
        /// The name.
        host: String,
    },
    /// The name has been looked up.
    Resolved {
        /// The addresses, in the order in which they are tried.
        addresses: Vec<SocketAddr>,
    },
    /// A connection to an address begins.
    Connecting {
        /// The address.
        address: SocketAddr,
    },
    /// That address failed; the next one, if there is one, gets its share of the time left.
    AddressFailed {
        /// The address.
        address: SocketAddr,
        /// Why.
        cause: Error,
    },
    /// The socket is connected.
    Connected {
        /// This end of it.
        local: Option<SocketAddr>,
        /// The server's end of it.
        peer: Option<SocketAddr>,
    },
    /// The TLS handshake is over: from here on everything is encrypted. What it took is the time
    /// since the step before.
    TlsEstablished {
        /// The name or address that the server's certificate was verified against, unless the
        /// options say that it need not be.
        name: String,
    },
    /// The server has agreed to speak WebSocket. What it took is the time since the step before.
    WebSocketUpgraded,
    /// The server has said what it is.
    InfoReceived,
    /// CONNECT and PING have been written.
    ConnectSent,
    /// The server has answered the PING: it took us in.
    PongReceived,
    /// The subscriptions have been written: the connection is made.
    SubscriptionsWritten {
        /// How many there are.
        subscriptions: usize,
    },
    /// The attempt failed at the step after the last one told, or was cut off by `close`.
    Failed {
        /// Why.
        cause: Error,
    },
}

impl fmt::Display for TraceStepKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolving { host } => write!(f, "resolving '{host}'"),
            Self::Resolved { addresses } => write!(f, "resolved to {addresses:?}"),
            Self::Connecting { address } => write!(f, "connecting to {address}"),
            Self::AddressFailed { address, cause } => write!(f, "{address} failed: {cause}"),
            Self::Connected { local: Some(local), peer: Some(peer) } => {
                write!(f, "connected from {local} to {peer}")
            }
            Self::Connected { .. } => f.write_str("connected"),
            Self::TlsEstablished { name } => write!(f, "TLS established with '{name}'"),
            Self::WebSocketUpgraded => f.write_str("WebSocket upgraded"),
            Self::InfoReceived => f.write_str("INFO received"),
            Self::ConnectSent => f.write_str("CONNECT sent"),
            Self::PongReceived => f.write_str("PONG received"),
            Self::SubscriptionsWritten { subscriptions } => {
                write!(f, "subscriptions written: {subscriptions}")
            }
            Self::Failed { cause } => write!(f, "failed: {cause}"),
        }
    }
}

/// What is called for each step.
pub(crate) type TraceFn = dyn Fn(&TraceStep) + Send + Sync;

/// The trace of one attempt; does nothing if nobody wants to know.
pub(crate) struct Trace<'a> {
    wanted: Option<Wanted<'a>>,
}

struct Wanted<'a> {
    call: &'a TraceFn,
    server: Arc<str>,
    begun: Instant,
    panics: Cell<u64>,
}

impl<'a> Trace<'a> {
    /// A trace that begins now.
    pub(crate) fn new(call: Option<&'a TraceFn>, url: &ServerUrl) -> Self {
        let wanted = call.map(|call| Wanted {
            call,
            server: url.to_string().into(),
            begun: clock::now(),
            panics: Cell::new(0),
        });
        Self { wanted }
    }

    /// A trace that nobody wants to know.
    #[cfg(test)]
    pub(crate) fn off() -> Self {
        Self { wanted: None }
    }

    /// Tells a step, which is only made if somebody wants to know.
    pub(crate) fn step(&self, kind: impl FnOnce() -> TraceStepKind) {
        let Some(wanted) = &self.wanted else { return };
        let elapsed = clock::since(wanted.begun);
        let step = TraceStep { server: Arc::clone(&wanted.server), elapsed, kind: kind() };
        if !guarded(|| (wanted.call)(&step)) {
            wanted.panics.set(wanted.panics.get() + 1);
        }
    }

    /// How often the closure panicked.
    pub(crate) fn panics(&self) -> u64 {
        self.wanted.as_ref().map_or(0, |wanted| wanted.panics.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{Mutex, Rank};

    #[test]
    fn a_step_names_its_server_without_user_information() {
        let url = ServerUrl::parse("nats://joe:hunter2@localhost:4222").expect("url");
        let steps = Mutex::new(Rank::Leaf, Vec::new());
        let lines = Arc::new(steps);
        let written = Arc::clone(&lines);
        let call = move |step: &TraceStep| written.lock().push(format!("{step} {step:?}"));
        let trace = Trace::new(Some(&call), &url);
        trace.step(|| TraceStepKind::InfoReceived);
        trace.step(|| TraceStepKind::SubscriptionsWritten { subscriptions: 3 });
        let lines = lines.lock();
        assert!(lines[0].starts_with("nats://localhost:4222 +0."), "{}", lines[0]);
        assert!(lines[0].contains(" ms: INFO received"), "{}", lines[0]);
        assert!(lines[1].contains("subscriptions written: 3"), "{}", lines[1]);
        assert!(lines.iter().all(|line| !line.contains("hunter2") && !line.contains("joe")));
    }

    #[test]
    fn a_panic_is_counted_and_an_unwanted_step_is_not_made() {
        let url = ServerUrl::parse("localhost").expect("url");
        let call = |_: &TraceStep| panic!("a trace that panics");
        let trace = Trace::new(Some(&call), &url);
        trace.step(|| TraceStepKind::ConnectSent);
        trace.step(|| TraceStepKind::PongReceived);
        assert_eq!(trace.panics(), 2);
        Trace::off().step(|| unreachable!("nobody wants to know"));
    }
}
