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
//! | [`SubscriptionSet`] | many subscriptions, of one connection or several, read by one thread |
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
//!     // A payload is bytes.
//!     println!("{}: {}", message.subject(), String::from_utf8_lossy(message.payload()));
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
#![doc = include_str!("guide/recipes.md")]
//!
//! # Listening
//!
//! A connection tells of its life in [events](ConnectionEventKind) (connected, disconnected,
//! reconnecting, reconnected, lame duck, closed …) and of [errors](ErrorNotice) along the way: what
//! no call can return (a slow consumer, a handler that panicked), and what one returns too (each
//! server that a first connect failed at, a refused subscription). There are three ways to hear of
//! them, with one stream behind all:
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
//! [`ErrorListener`] has a method for each kind, and `on_error` hears all of them. What a listener
//! does not write logs.
//!
//! | method | called for |
//! | --- | --- |
//! | `error_occurred(&self, &Connection, &ServerError)` | everything that the server refuses |
//! | `exception_occurred(&self, &Connection, &Error)` | a failure that the library has handled: an attempt to connect (also one that an `-ERR` ended), a broken socket, a panic of a handler |
//! | `slow_consumer_detected(&self, &Connection, &dyn Consumer)` | a subscription at its limit, once; its counts are those of the moment of the call |
//! | `slow_consumer_recovered(&self, &Connection, &dyn Consumer)` | the end of that |
//! | `message_discarded(&self, &Connection, &Message)` | an outgoing message dropped by [`OutboxPolicy::DropNewest`] |
//! | `socket_write_timeout(&self, &Connection)` | a write that took too long |
//!
//! One listener may hear several connections, and be both kinds: give clones of an `Arc` of it.
//!
//! All listeners of a connection run on its one callback thread, one call at a time, in the order
//! in which things happened. A listener may block, panic (which is caught and reported), and call
//! anything on the connection that it is lent: `close`, `drain`, `flush` and `request` too. It
//! never delays reading or writing. The order of events is a grammar, written down at
//! [`ConnectionEventKind`]. If a listener is more than 1,024 notices behind, errors, changes of the
//! list of servers (these also where they name more than 10,000) and failed attempts to reconnect
//! are left out and counted ([`ConnectionEvent::skipped`]); all other events are always delivered.
//! Listeners may be added and removed while the connection runs
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
//!    subscription. (Proofs E1, E3, E7.)
//! 2. **The loss of a connection can lose messages.** Of those going out: what the operating system
//!    had taken and the server had not yet processed. Of those coming in: what the server had not
//!    yet written. What one publisher loses going out is one contiguous run for each disconnect:
//!    everything accepted before it has arrived and everything after it follows, in order. When
//!    [`flush`](Connection::flush) returns `Ok`, nothing published before it on this server can be
//!    lost that way any more; it does not tell what an earlier server lost. (E1, E5.)
//! 3. **What is published during an outage is kept**, whole and in order, up to the
//!    [reconnect buffer](ReconnectBuffer), and sent once, after the subscriptions have been
//!    established again. Beyond it `publish` fails; nothing is dropped silently. (E2, E9.)
//! 4. **A request ends exactly once**: with its reply, with `NoResponders`, with the server's
//!    refusal (`PermissionsViolation`), at its deadline, or at the end of the connection. A loss of
//!    the connection ends it only if [an option](OptionsBuilder::fail_requests_on_disconnect) says
//!    so; [`force_reconnect`](Connection::force_reconnect) does where a server is there. A late
//!    reply never answers another request. (E4.)
//! 5. **Two copies of a message** reach a subscriber only if two servers each sent one, which can
//!    happen while the connection moves within a cluster. The client passes on what it received.
//!    (J1.)
//! 6. **A drain loses nothing that it can keep**: handlers see every message that arrived before
//!    the server confirmed the end of their subscription, what was published is flushed, then the
//!    connection closes. If its time is over before that, its outcome says so. (E6.)
//!
//! The page [promises](guide::promises) has the figures that each of these is held to, and the name
//! of its proof; the numbers from A1 to J2 are rows of the table that `tests/promises` prints, but
//! for I1, I2 and I4, which other programs prove.
//!
//! [`Subscription::on_closed`] and [`Dispatcher::on_closed`] tell that a subscription has ended,
//! why, and, for handlers, that its last message has been handled. [`Connection::barrier`] waits
//! until handlers and listeners have worked off what had arrived.
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
//! waits. A server that refuses the credentials twice with the same words is given up until another
//! one accepts the connection; when none is left the connection closes with that cause. Silence is
//! noticed by [pings](OptionsBuilder::ping_interval), with the defaults within six minutes.
//!
//! The *first* connect is different: it tries each server once and fails with the cause for each
//! ([`Error::attempts`]). [`retry_on_failed_connect`](OptionsBuilder::retry_on_failed_connect)
//! makes it go on like an outage, in the caller up to a limit or in the background: then `connect`
//! returns at once with a connection that may be used, and
//! [`Connected`](ConnectionEventKind::Connected) follows some day.
//!
//! A program may have its say: how long to wait after each pass
//! ([`reconnect_delay`](OptionsBuilder::reconnect_delay)), which server comes next
//! ([`select_server`](OptionsBuilder::select_server)), and which servers there are
//! ([`Connection::set_server_pool`]). A server that announces its end is left at once with
//! [`reconnect_on_lame_duck`](OptionsBuilder::reconnect_on_lame_duck).
//!
//! # Threads and blocking
//!
//! A connection has three threads, `nats-N-reader`, `nats-N-flusher` and `nats-N-callback` (N is
//! its number in the process; behind it comes the name of a connection that has one), and one more
//! for each dispatcher. While it drains there is one more, and a host name is looked up on a
//! short-lived `nats-resolve`, which is left behind if the system's resolver does not answer.
//! Credentials that have to be asked are asked on a short-lived `nats-N-creds`, and files for TLS
//! are read on a short-lived `nats-N-tls`. Every call may be made from any thread. What waits takes
//! a time, or has one of its own: `flush` 10 s ([`flush_timeout`](Connection::flush_timeout) any
//! other), `connect` 2 s for each server, `close` 2 s. Only [`Subscription::next`],
//! [`SubscriptionSet::next`], their `iter` and [`Connection::events`] wait without a limit, and
//! they end when the connection closes.
//!
//! * `publish` does not wait for the socket; for room in a full outbox up to 2 s by default, and
//!   while it fills as long as the writer is quick ([`OutboxPolicy`]), but not on the connection's
//!   own threads, where it fails at once.
//! * A handler of a dispatcher may block: only its own dispatcher waits.
//! * The callbacks `reconnect_delay` and `select_server` run on the reader thread, in an outage, so
//!   they should return soon. `flush`, `barrier`, `wait_for_status` and `wait_closed` of the same
//!   connection fail there with [`Misuse`](ErrorKind::Misuse); a request or `next_timeout` waits
//!   out its time, and the connection with it.
//! * A time-out that a call takes may be as long as one likes; `Duration::MAX` waits for ever. The
//!   times of the options end at ten years.
//!
//! A [`Connection`] that is dropped closes once its last handle is gone; subscriptions and
//! dispatchers count as handles. Listeners and handlers are lent a handle that does not count, so
//! that they keep nothing open; [`Connection::downgrade`] gives another such.
//!
//! # Errors
//!
//! Every call that can fail returns [`Error`], which is small and `Clone`, with a
//! [`kind`](Error::kind) to decide by, a line for people, and a chain of sources. What the server
//! says is a typed [`ServerError`]. A subject, a URL, a header or an option that cannot be used is
//! refused before anything is sent, and the text names the offending part; that a message is
//! published to a wildcard or an empty token is refused with [`OptionsBuilder::strict_subjects`]
//! alone. No error, event, log line or `Debug` output shows a password, a token, a seed, a JWT or a
//! payload.
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
//! * [`Connection::close`] ends within the close time-out (2 s). What is queued is written for at
//!   most half of that; what is left is counted as [discarded](Statistics::discarded).
//! * A process that ends without dropping its last handle (`std::process::exit`, a handle in a
//!   `static`) loses what the outbox still holds: `flush`, `drain` or `close` first.
//!
//! After either, messages that had arrived stay readable from their subscriptions, every waiting
//! call has ended, and the threads are gone, but for one that still runs a handler or listener of
//! the program.
//!
//! # Authorization
//!
//! Who the program is, is said in the URL of a server (`nats://user:password@host`,
//! `nats://token@host`), which counts for that server and those that it announces, or with one of
//! the options, which count for all servers whose URL says nothing:
//!
//! | the server knows | options |
//! | --- | --- |
//! | user and password | [`user_and_password`], [`user_and_password_supplier`] |
//! | a token | [`token`], [`token_supplier`] |
//! | public nkeys | [`nkey_seed`], [`nkey_file`], [`nkey_and_signer`] |
//! | an operator's accounts | [`credentials_file`], [`credentials`], [`jwt_and_seed`] |
//! | the same, signed elsewhere | [`jwt_and_signer`] |
//! | any of these | [`credentials_source`] with a [`Credentials`] of the program |
//!
//! Suppliers, signers, sources and files are asked anew at every attempt: a password, a token or a
//! credentials file that is replaced while the connection lives counts from its next attempt. A
//! user who expires or is revoked loses the connection and comes back as who the source says then;
//! where that may lag behind, [`ignore_authorization_abort`] goes on asking.
//!
//! ```
//! # #[cfg(feature = "testing")]
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use nats_blocking::{Challenge, Login, Options, testing::Server};
//!
//! let server = Server::builder().user("joe", "s3cret").start()?;
//! let connection = Options::builder()
//!     .server(server.url())
//!     .credentials_source(|challenge: &Challenge| {
//!         // From wherever the program keeps it. What signs would sign `challenge.nonce()?`.
//!         println!("asked by {}", challenge.server());
//!         Ok(Login::new().user_and_password("joe", "s3cret"))
//!     })
//!     .connect()?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "testing"))]
//! # fn main() {}
//! ```
//!
//! What cannot be used is refused by [`build`](OptionsBuilder::build), or, where it comes at an
//! attempt, makes that attempt fail with an error of kind [`Credentials`](ErrorKind::Credentials).
//! Neither shows what it is about, only the part and the line.
//!
//! [`user_and_password`]: OptionsBuilder::user_and_password
//! [`user_and_password_supplier`]: OptionsBuilder::user_and_password_supplier
//! [`token`]: OptionsBuilder::token
//! [`token_supplier`]: OptionsBuilder::token_supplier
//! [`nkey_seed`]: OptionsBuilder::nkey_seed
//! [`nkey_file`]: OptionsBuilder::nkey_file
//! [`nkey_and_signer`]: OptionsBuilder::nkey_and_signer
//! [`credentials_file`]: OptionsBuilder::credentials_file
//! [`credentials`]: OptionsBuilder::credentials
//! [`jwt_and_seed`]: OptionsBuilder::jwt_and_seed
//! [`jwt_and_signer`]: OptionsBuilder::jwt_and_signer
//! [`credentials_source`]: OptionsBuilder::credentials_source
//! [`ignore_authorization_abort`]: OptionsBuilder::ignore_authorization_abort
//!
//! # TLS
//!
//! TLS is that of the system (feature `tls`, on by default), from version 1.2 on. It is wanted if
//! the URL of any configured server is `tls://`, or by an option that says so or makes sense with
//! it only: `require_tls`, `tls_first`, `min_tls_version`, root certificates, a client certificate.
//! Then there is TLS or no connection. Where nobody wants it the server decides: one that requires
//! it gets it, verified as ever.
//!
//! | server says | TLS wanted | nobody asked |
//! | --- | --- | --- |
//! | nothing of TLS | refused | in clear |
//! | TLS is available | TLS | in clear |
//! | TLS is required | TLS | TLS |
//!
//! * The certificate must be for the host of the URL. Servers that were discovered over TLS must
//!   have TLS; a bare address is verified against the name through which it was learned, an
//!   announced name against itself. User and password of a URL go only to a server that is
//!   verified under the same name, those of the options to every server.
//! * Before TLS nothing is sent, and nothing that was said is believed that could lead astray: not
//!   addresses, not a limit below 1 MiB, not a refusal, not that nobody must sign. A server from
//!   2.12 on says all of it again. What is to be signed is said there alone: whoever changes it
//!   makes the login fail, and twice is a refusal; `tls_first` keeps it from others,
//!   [`ignore_authorization_abort`] goes on trying.
//! * Certificates and keys from files are read again at each attempt to connect.
//! * What fails is an error of kind [`Tls`](ErrorKind::Tls) that says which check it was; of a
//!   first connect it is the cause of an [attempt](Error::attempts). A handshake that never ends
//!   costs the connect time-out.
//! * Messages that were encrypted and not yet sent are lost with the connection (at most 64 KiB or
//!   one message), as what the operating system had taken is.
//!
//! # WebSocket, proxies, other transports
//!
//! With the feature `websocket` a server is reached through `ws://host` and `wss://host` (over TLS)
//! too, on its WebSocket port: 80 and 443 unless the URL says otherwise. Path and query of the URL
//! go into the request, and `OptionsBuilder::websocket_header` adds headers. Everything else is as
//! without it; of what is being written up to 64 KiB are lost with a connection, as over TLS.
//! Servers that are discovered are spoken to in the same way. Where TLS is wanted, `ws://` is
//! refused.
//!
//! A proxy, a tunnel or a peer in memory is a [`Connector`] of the program, which makes a
//! [`Transport`]; [`TcpStream`](std::net::TcpStream) is one. TLS and WebSocket run on top of it.
//! The example `proxy` has connectors for HTTP CONNECT and SOCKS5. A connector is asked on a
//! short-lived thread, `nats-N-connect`, and what it made is ended on another, `nats-shutdown`;
//! both are left behind if the program's code does not return.
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
//! # The same `version`, or `path`, as among the dependencies.
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
//! | error | what the server said, other failures, a late write: where no error listener says otherwise |
//! | warn | `Disconnected`, `StaleConnection`; slow consumers, where no error listener says otherwise |
//! | info | the other events; recovered consumers and discarded messages, where no error listener says otherwise |
//! | debug | `Reconnecting`, `ReconnectFailed`, every error notice |
//! | trace | nothing: on the way of a message there is no log line |
//!
//! An error listener says otherwise if it is among the options; one that is added later hears of
//! errors beside the log. The lines are written on the callback thread, whose name
//! (`nats-N-callback-NAME`) tells connections apart, and hold no secret, header or payload.
//!
//! # Looking closer
//!
//! * [`Connection::statistics`] counts what happened; [`Connection::last_error`],
//!   [`Connection::close_cause`] and [`Connection::server_info`] tell more.
//! * [`OptionsBuilder::trace_connection`] tells each step of an attempt to connect with its time.
//! * [`OptionsBuilder::read_listener`] hears every operation that is read, as it is read.
//!
//! # Features
//!
//! * `tls`, on by default: TLS by the system's library; `tls-vendored` builds OpenSSL from source.
//! * `nkeys`, on by default: signing with nkey seeds, JWTs and credentials files.
//! * `websocket`: `ws://` and `wss://`.
//! * `testing`: the module above.
//! * `crossbeam-channel`: `ready()` on [`Subscription`], [`SubscriptionSet`] and [`Events`], a
//!   receiver for `select!` beside the program's own channels. Its type is that of
//!   crossbeam-channel 0.5, which is before 1.0: when that crate goes on, this one breaks with it.
//!
//! # Not here
//!
//! Not yet: JetStream, Key-Value, Object Store and services.

#![cfg_attr(docsrs, feature(doc_cfg))]
// The guide names what these features add; without them its links lead nowhere.
#![cfg_attr(not(all(feature = "tls", feature = "nkeys")), allow(rustdoc::broken_intra_doc_links))]

mod auth;
mod bell;
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
mod read_listener;
mod request;
mod request_many;
mod server_error;
mod server_list;
mod server_url;
mod statistics;
mod subscription;
mod subscription_set;
mod subscriptions;
mod sync;
mod trace;
mod transport;

#[cfg(any(doc, doctest))]
pub mod guide;
#[doc(hidden)]
#[cfg(any(feature = "internals", loom, shuttle, fuzzing))]
pub mod internals;
#[cfg(feature = "testing")]
pub mod testing;

pub use crate::auth::{Challenge, Credentials, Login};
pub use crate::connection::{Connection, Events, WeakConnection};
pub use crate::core::{
    ConnectionEvent, ConnectionEventKind, ConnectionStatus, ErrorNotice, ListenerId, Notice,
    PoolServer, RetryConnect, SelectedServer, ServerChoice,
};
pub use crate::dispatcher::Dispatcher;
pub use crate::drain::Drain;
pub use crate::error::{ConnectAttempt, Error, ErrorKind, Result};
pub use crate::listener::{ConnectionListener, ErrorListener};
pub use crate::options::{Options, OptionsBuilder, connect};
pub use crate::outbox::{OutboxPolicy, ReconnectBuffer};
pub use crate::protocol::{
    HeaderIter, Headers, Message, ServerInfo, Status, check_header,
    check_publish as check_publish_subject, check_queue as check_queue_group,
    check_subscribe as check_subscribe_subject, subject_matches,
};
pub use crate::read_listener::{ReadListener, ReadOperation};
pub use crate::request::PendingReply;
pub use crate::request_many::{Gather, Replies};
pub use crate::server_error::{RefusedOperation, ServerError, ServerErrorKind};
pub use crate::server_list::ServerList;
pub use crate::statistics::Statistics;
pub use crate::subscription::{IntoIter, Iter, Subscription, TimeoutIter, TryIter};
pub use crate::subscription_set::{SetIter, SetKey, SubscriptionSet};
pub use crate::subscriptions::{
    Consumer, ConsumerStatus, ConsumerView, EndReason, PendingLimits, SubscriptionEnd,
};
pub use crate::trace::{TraceStep, TraceStepKind};
#[cfg(feature = "tls")]
pub use crate::transport::TlsVersion;
pub use crate::transport::{Connector, ResolveMode, ServerAddress, Transport};

/// The README's programs, compiled with the documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
