//! A NATS client for programs without an async runtime: blocking calls, ordinary threads, and
//! listeners that tell the program everything that happens to its connection.
//!
//! [NATS](https://nats.io) carries messages between programs through a server. This crate is for
//! programs that use threads: tools, services, test harnesses, plugins of programs that are not
//! written for async. It brings no runtime, not even hidden in a dependency.
//!
//! # Words
//!
//! | word | what it is |
//! | --- | --- |
//! | subject | what a message is about: tokens joined by dots, `orders.eu.new` |
//! | wildcard | in a subscription, `*` is any one token, and `>` at the end is one or more |
//! | [`Connection`] | a cheap handle to one connection; clone it for every thread |
//! | [`Subscription`] | interest in a subject, read by the program: `next`, `iter` |
//! | [`Dispatcher`] | a thread of its own that calls a handler for each message, in order |
//! | queue group | subscriptions that share: each message goes to one of the group |
//! | request | a message with a reply subject, and the first answer to it |
//! | outbox | what has been published and is not written yet |
//! | outage | the time between the loss of one connection and the next |
//!
//! # Quick start
//!
//! ```no_run
//! use std::time::Duration;
//!
//! fn main() -> Result<(), nats_blocking::Error> {
//!     let connection = nats_blocking::connect("nats://127.0.0.1:4222")?;
//!     let subscription = connection.subscribe("greet.*")?;
//!     connection.publish("greet.joe", "hello")?;
//!     let message = subscription.next_timeout(Duration::from_secs(1))?;
//!     println!("{}: {:?}", message.subject(), message.payload());
//!     connection.drain(Duration::from_secs(5))
//! }
//! ```
//!
//! [`Options::builder`] sets everything else: names, credentials, times, limits, listeners.
//! [`Options::from_properties_file`] takes a file with the Java client's keys,
//! [`Options::from_environment`] variables such as `NATS_URL`; what is set later wins.
//! A request and its answer, against the server of the [testing feature](#testing):
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use nats_blocking::{ErrorKind, Options, testing::Server};
//!
//! let server = Server::start()?;
//! let connection = Options::builder().server(server.url()).name("quick start").connect()?;
//! let dispatcher = connection.dispatcher(|connection, message| {
//!     if let Err(error) = connection.respond(&message, "pong") {
//!         eprintln!("no answer: {error}");
//!     }
//! })?;
//! dispatcher.subscribe("ping")?;
//! let reply = connection.request("ping", "", Duration::from_secs(5))?;
//! assert_eq!(reply.payload(), b"pong");
//!
//! // A request to nobody fails at once.
//! let error = connection.request("nobody", "", Duration::from_secs(5)).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::NoResponders);
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "testing"))]
//! # fn main() {}
//! ```
//!
//! # Listening
//!
//! A connection tells of its life in [events](ConnectionEventKind) (connected, disconnected,
//! reconnecting, reconnected, lame duck, closed …) and of [errors](ErrorNotice) that no call can
//! return (what the server refused, a slow consumer, a handler that panicked). There are three ways
//! to hear of them, with one stream behind all:
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use nats_blocking::{Connection, ConnectionEvent, ConnectionListener, ErrorListener};
//! use nats_blocking::{Options, ServerError, testing::Server};
//!
//! // 1. Traits, for a listener with a state of its own.
//! struct Printer;
//!
//! impl ConnectionListener for Printer {
//!     fn connection_event(&self, connection: &Connection, event: &ConnectionEvent) {
//!         println!("{} {event}", connection.status());
//!     }
//! }
//!
//! impl ErrorListener for Printer {
//!     fn error_occurred(&self, _: &Connection, error: &ServerError) {
//!         println!("the server said: {error}");
//!     }
//! }
//!
//! let server = Server::start()?;
//! let connection = Options::builder()
//!     .server(server.url())
//!     .connection_listener(Printer)
//!     .error_listener(Printer)
//!     // 2. Closures, for all events, for one kind, for all errors.
//!     .on_disconnected(|_, event| println!("lost: {event}"))
//!     .on_error(|_, notice| println!("{notice}"))
//!     .connect()?;
//!
//! // 3. An iterator, events and errors in order; it ends after `Closed`.
//! let events = connection.events();
//! connection.close();
//! let told: Vec<String> = events.map(|notice| notice.to_string()).collect();
//! assert!(told.last().unwrap().starts_with("nats: connection closed"));
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "testing"))]
//! # fn main() {}
//! ```
//!
//! All listeners of a connection run on its one callback thread, one call at a time, in the order
//! in which things happened. A listener may block, panic (which is caught and reported), and call
//! anything on the connection that it is lent: `close`, `drain`, `flush` and `request` too. It
//! never delays reading or writing. The order of events is a grammar, written down at
//! [`ConnectionEventKind`]. If a listener is more than 1,024 notices behind, errors and failed
//! attempts to reconnect are left out and counted ([`ConnectionEvent::skipped`]); all other events
//! are always delivered. Listeners may be added and removed while the connection runs
//! ([`Connection::add_connection_listener`]); one that is added hears what happens from then on.
//! [`Closed`](ConnectionEventKind::Closed) is the last call that any of them gets.
//!
//! [`Connection::wait_for_status`] and [`Connection::wait_closed`] wait where no listener is
//! needed.
//!
//! # What happens to a message
//!
//! 1. **At most once.** One `publish` puts a message on at most one connection to a server, once
//!    and in full. The client never sends it twice, never changes the order of what one thread
//!    publishes, and hands each received message to exactly one reader or handler of its
//!    subscription.
//! 2. **The loss of a connection can lose messages.** Of those going out: what the operating system
//!    had taken and the server had not yet processed. Of those coming in: what the server had not
//!    yet written. What one publisher loses going out is one contiguous run for each disconnect:
//!    everything accepted before it has arrived and everything after it follows, in order. When
//!    [`flush`](Connection::flush) returns `Ok`, nothing published before it can be lost that way.
//! 3. **What is published during an outage is kept**, whole and in order, up to the
//!    [reconnect buffer](ReconnectBuffer), and sent once, after the subscriptions have been
//!    established again. Beyond it `publish` fails; nothing is dropped silently.
//! 4. **A request ends exactly once**: with its reply, with `NoResponders`, at its deadline, or at
//!    the end of the connection. A loss of the connection ends it only if
//!    [an option](OptionsBuilder::fail_requests_on_disconnect) says so. A late reply never answers
//!    another request.
//! 5. **Two copies of a message** reach a subscriber only if two servers each sent one, which can
//!    happen while the connection moves within a cluster. The client passes on what it received.
//! 6. **A drain loses nothing that it can keep**: handlers see every message that arrived before
//!    the server confirmed the end of their subscription, what was published is flushed, then the
//!    connection closes. If its time is over before that, its outcome says so.
//!
//! A subscription that reads too slowly reaches its [`PendingLimits`]; then its newest messages are
//! dropped and counted, and listeners hear of it once, and again when it has recovered.
//!
//! # Reconnecting
//!
//! A lost connection is replaced without the program's doing, for ever unless
//! [`max_reconnects`](OptionsBuilder::max_reconnects) says otherwise. The first attempt is
//! immediate (unless five connections in a row did not last); later ones wait a random
//! [jitter](OptionsBuilder::reconnect_jitter), and after each full pass over the known servers also
//! the [wait](OptionsBuilder::reconnect_wait). Servers of a cluster are learned from the server in
//! use. Subscriptions keep their number, their queue and what is left of `unsubscribe_after`. Calls
//! go on meanwhile: `publish` fills the reconnect buffer, `subscribe` is announced later, `request`
//! waits. A server that refuses the credentials twice with the same words is given up; when none is
//! left the connection closes with that cause. Silence is noticed by
//! [pings](OptionsBuilder::ping_interval), with the defaults within six minutes.
//!
//! The *first* connect is different: it tries each server once and fails with the cause for each
//! ([`Error::attempts`]).
//!
//! # Threads and blocking
//!
//! A connection has three threads, `nats-N-reader`, `nats-N-flusher` and `nats-N-callback` (N is
//! its number in the process), and one more for each dispatcher. While it drains there is one more,
//! and a host name is looked up on a short-lived `nats-resolve`, which is left behind if the
//! system's resolver does not answer. Every call may be made from any thread. What blocks says how
//! long; only [`Subscription::next`], its `iter` and [`Connection::events`] wait without a limit,
//! and they end when the connection closes.
//!
//! * `publish` does not wait for the socket; for room in a full outbox up to 2 s by default
//!   ([`OutboxPolicy`]), but not on the connection's own threads, where it fails at once.
//! * A handler of a dispatcher may block: only its own dispatcher waits.
//! * A time-out may be as long as one likes; `Duration::MAX` waits for ever.
//!
//! A [`Connection`] that is dropped closes once its last handle is gone; subscriptions and
//! dispatchers count as handles. Listeners and handlers are lent a handle that does not count, so
//! that they keep nothing open; [`Connection::downgrade`] gives another such.
//!
//! # Errors
//!
//! Every call returns [`Error`], which is small and `Clone`, with a [`kind`](Error::kind) to decide
//! by, a line for people, and a chain of sources. What the server says is a typed [`ServerError`].
//! A subject, a URL, a header or an option that cannot be used is refused before anything is sent,
//! and the text names the offending part. No error, event, log line or `Debug` output shows a
//! password, a token or a payload.
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use nats_blocking::{ErrorKind, testing::Server};
//!
//! let server = Server::start()?;
//! server.refuse_connections(true)?;
//! let error = nats_blocking::connect(server.url()).unwrap_err();
//! assert_eq!(error.kind(), ErrorKind::Connect);
//! for attempt in error.attempts() {
//!     println!("{}: {}", attempt.server(), attempt.cause());
//! }
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "testing"))]
//! # fn main() {}
//! ```
//!
//! # Ending
//!
//! * [`Connection::drain`] is the orderly end: subscriptions end, handlers finish, everything is
//!   flushed. It needs a server; during an outage it fails and changes nothing.
//! * [`Connection::close`] ends now, within the close time-out (2 s). What is queued is written if
//!   that is possible at once, and otherwise counted as [discarded](Statistics::discarded).
//! * A program that just ends loses what the outbox still holds: `flush`, `drain` or `close` first.
//!
//! After either, messages that had arrived stay readable from their subscriptions, every waiting
//! call has ended, and the threads are gone.
//!
//! # Testing
//!
//! The feature `testing` adds the module `testing`: `Server`, an in-process NATS server on a
//! loopback port that can be told to drop clients, refuse, fall silent, restart, announce servers
//! or send any error; and `Recorder`, a listener that remembers everything and waits for it with a
//! deadline. Add it to the development dependencies:
//!
//! ```toml
//! [dev-dependencies]
//! nats-blocking = { version = "0.1", features = ["testing"] }
//! ```
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//!
//! use nats_blocking::testing::{Recorder, Server};
//! use nats_blocking::{ConnectionEventKind, Options};
//!
//! let server = Server::start()?;
//! let recorder = Recorder::new();
//! let connection = Options::builder()
//!     .server(server.url())
//!     .connection_listener(recorder.clone())
//!     .error_listener(recorder.clone())
//!     .connect()?;
//! server.restart()?;
//! recorder.wait_for_event(Duration::from_secs(30), |kind| {
//!     matches!(kind, ConnectionEventKind::Resubscribed { .. })
//! })?;
//! connection.close();
//! // The order of all events was a legal one.
//! recorder.check()?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "testing"))]
//! # fn main() {}
//! ```
//!
//! # Log lines
//!
//! Through the [`log`](https://docs.rs/log) crate, for programs that set up a logger:
//!
//! | level | what |
//! | --- | --- |
//! | error | without an error listener: what the server said, failures that were handled |
//! | warn | disconnected, stale connection; without an error listener: slow consumers |
//! | info | the other events |
//! | debug | attempts to reconnect and their failures, every error notice |
//!
//! # Not here
//!
//! Not yet: TLS, WebSocket, NKeys, JWT and credentials files, JetStream, Key-Value, Object Store,
//! services, and retrying the first connect. A server that requires TLS is refused with an error of
//! kind [`Tls`](ErrorKind::Tls); credentials are never sent to it in clear.

mod auth;
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

#[cfg(any(doc, doctest))]
pub mod guide;
#[doc(hidden)]
#[cfg(any(feature = "internals", loom, fuzzing))]
pub mod internals;
#[cfg(feature = "testing")]
pub mod testing;

pub use crate::connection::{Connection, Events, WeakConnection};
pub use crate::core::{
    ConnectionEvent, ConnectionEventKind, ConnectionStatus, ErrorNotice, ListenerId, Notice,
};
pub use crate::dispatcher::Dispatcher;
pub use crate::drain::Drain;
pub use crate::error::{ConnectAttempt, Error, ErrorKind, Result};
pub use crate::listener::{ConnectionListener, ErrorListener};
pub use crate::options::{Options, OptionsBuilder, ServerList, connect};
pub use crate::outbox::{OutboxPolicy, ReconnectBuffer};
pub use crate::protocol::{Headers, Message, ServerInfo, Status, subject_matches};
pub use crate::request::PendingReply;
pub use crate::request_many::{Gather, Replies};
pub use crate::server_error::{RefusedOperation, ServerError, ServerErrorKind};
pub use crate::statistics::Statistics;
pub use crate::subscription::{IntoIter, Iter, Subscription, TimeoutIter, TryIter};
pub use crate::subscriptions::{Consumer, ConsumerStatus, ConsumerView, PendingLimits};
pub use crate::transport::ResolveMode;

/// The README's programs, compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
