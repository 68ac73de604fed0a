//! From the blocking `nats` crate, which is deprecated.
//!
//! The shape is the same on purpose: `connect`, `publish` with plain texts and bytes, `subscribe`,
//! `next_timeout`, `iter`. Most programs change their `use` lines, a few names, and the places
//! that said nothing about time.
//!
//! # A program before and after
//!
//! With `nats` 0.26:
//!
//! ```text
//! let nc = nats::Options::with_user_pass("joe", "secret")
//!     .with_name("orders")
//!     .disconnect_callback(|| eprintln!("lost"))
//!     .connect("demo.example:4222")?;
//! let sub = nc.queue_subscribe("orders.*", "workers")?;
//! let handler = nc.subscribe("ping")?.with_handler(|msg| msg.respond("pong"));
//! let reply = nc.request_timeout("price", "apple", Duration::from_secs(1))?;
//! println!("{:?}", reply.data);
//! for msg in sub.iter() {
//!     println!("{} {:?}", msg.subject, msg.data);
//! }
//! ```
//!
//! Here:
//!
//! ```no_run
//! use std::time::Duration;
//!
//! use nats_blocking::Options;
//!
//! let connection = Options::builder()
//!     .server("demo.example:4222")
//!     .user_and_password("joe", "secret")
//!     .name("orders")
//!     .on_disconnected(|_, event| eprintln!("lost: {event}"))
//!     .connect()?;
//! let subscription = connection.queue_subscribe("orders.*", "workers")?;
//! let handler = connection.dispatcher(|connection, message| {
//!     if let Err(error) = connection.respond(&message, "pong") {
//!         eprintln!("no answer: {error}");
//!     }
//! })?;
//! handler.subscribe("ping")?;
//! let reply = connection.request("price", "apple", Duration::from_secs(1))?;
//! println!("{:?}", reply.payload());
//! for message in subscription.iter() {
//!     println!("{} {:?}", message.subject(), message.payload());
//! }
//! # Ok::<(), nats_blocking::Error>(())
//! ```
//!
//! # Names
//!
//! | `nats` | here |
//! | --- | --- |
//! | `jetstream`, `kv`, `object_store`, `asynk` | not here; the first three not yet |
//! | `nats::connect("a,b")` | [`connect("a,b")`](crate::connect) |
//! | `Options::with_user_pass`, `with_token` | [`user_and_password`], [`token`], or in the URL |
//! | `Options::with_credentials`, `with_static_credentials` | [`credentials_file`](crate::OptionsBuilder::credentials_file), [`credentials`](crate::OptionsBuilder::credentials) |
//! | `Options::with_nkey`, `with_jwt` | [`nkey_and_signer`](crate::OptionsBuilder::nkey_and_signer), [`credentials_source`](crate::OptionsBuilder::credentials_source); the signer returns a `Result` |
//! | `Options::with_name`, `no_echo`, `max_reconnects` | [`name`], [`no_echo`], [`max_reconnects`] with a `u32` or `None` |
//! | `tls_required`, `add_root_certificate`, `client_cert` | [`require_tls`](crate::OptionsBuilder::require_tls), [`root_certificates_file`](crate::OptionsBuilder::root_certificates_file), [`client_certificate_files`](crate::OptionsBuilder::client_certificate_files) |
//! | `tls_client_config` | nothing: TLS is the system's |
//! | `retry_on_failed_connect()` | [`retry_on_failed_connect`](crate::OptionsBuilder::retry_on_failed_connect), within a limit or in the background |
//! | `reconnect_delay_callback` | [`reconnect_delay`](crate::OptionsBuilder::reconnect_delay), asked after each full pass over the servers with the number of passes, a `u32` |
//! | `reconnect_buffer_size(n)` | [`reconnect_buffer(ReconnectBuffer::Bytes(n))`](crate::OptionsBuilder::reconnect_buffer) |
//! | `disconnect_callback`, `reconnect_callback`, `close_callback`, `lame_duck_callback` | [`on_disconnected`], [`on_reconnected`], [`on_closed`], [`on_lame_duck`], or a [`ConnectionListener`](crate::ConnectionListener) |
//! | `error_callback` | [`on_error`], or an [`ErrorListener`](crate::ErrorListener) |
//! | `nc.publish(subject, data)` | [`publish`](crate::Connection::publish) |
//! | `nc.publish_request(subject, reply, data)` | [`publish_with_reply`](crate::Connection::publish_with_reply) |
//! | `nc.publish_with_reply_or_headers(…)` | [`publish_message`](crate::Connection::publish_message) |
//! | `nc.request(subject, data)` | [`request`](crate::Connection::request), which takes a time-out |
//! | `nc.request_timeout(subject, data, t)` | [`request(subject, data, t)`](crate::Connection::request) |
//! | `nc.request_with_headers(subject, data, &headers)` | [`request_with_headers(subject, &headers, data, t)`](crate::Connection::request_with_headers) |
//! | `HeaderMap` | [`Headers`](crate::Headers): `insert` and `append` return a `Result`, `try_from_iter` in place of `collect`; a message without headers has empty ones |
//! | `Message::new(subject, reply, data, headers)` | [`Message::new(subject, data)`](crate::Message::new), then `with_reply`, `with_headers` |
//! | `msg.is_no_responders()` | an error of `request`; elsewhere [`status()`](crate::Message::status) |
//! | `nc.request_multi(subject, data)` | [`request_many`](crate::Connection::request_many) |
//! | `nc.flush()`, `flush_timeout(t)` | the same |
//! | `nc.rtt()`, `client_id()`, `client_ip()`, `max_payload()`, `new_inbox()` | the same, on [`Connection`](crate::Connection); the id and the address, a text, are `Option`s, an inbox is a `Result` |
//! | `nc.drain()` | [`drain(timeout)`](crate::Connection::drain) |
//! | `nc.close()` | [`close()`](crate::Connection::close), which borrows |
//! | `sub.next() -> Option<Message>` | [`next() -> Result<Message>`](crate::Subscription::next) |
//! | `sub.try_next() -> Option<Message>` | [`try_next() -> Result<Option<Message>>`](crate::Subscription::try_next) |
//! | `sub.next_timeout(t)` | [`next_timeout(t)`](crate::Subscription::next_timeout) |
//! | `sub.iter()`, `messages()`, `try_iter()`, `timeout_iter(t)` | [`iter`](crate::Subscription::iter), [`try_iter`](crate::Subscription::try_iter), [`timeout_iter`](crate::Subscription::timeout_iter) |
//! | `sub.with_handler(f)` | [`dispatcher(f)`](crate::Connection::dispatcher), then [`subscribe`](crate::Dispatcher::subscribe) |
//! | `sub.unsubscribe()`, `close()` | [`unsubscribe`](crate::Subscription::unsubscribe), which borrows |
//! | `sub.drain()`, `Handler::unsubscribe()` | [`drain(timeout)`](crate::Subscription::drain) of subscriptions and of [dispatchers](crate::Dispatcher::drain) |
//! | `sub.receiver()` | `ready()` of the feature `crossbeam-channel` says that there is something to `try_next` |
//! | `sub.set_message_limits(n)` | [`set_pending_limits(PendingLimits::new(n, 0))`](crate::Subscription::set_pending_limits), messages and bytes, 0 for no limit |
//! | `sub.dropped_messages()` | [`dropped()`](crate::Consumer::dropped), a `u64`, of the trait `Consumer` |
//! | `msg.subject`, `msg.reply`, `msg.data`, `msg.headers` | [`subject()`](crate::Message::subject), [`reply()`](crate::Message::reply), [`payload()`](crate::Message::payload), [`headers()`](crate::Message::headers) |
//! | `msg.respond(data)` | [`connection.respond(&message, data)`](crate::Connection::respond) |
//! | `io::Error` with a text | [`Error`](crate::Error) with a [`kind`](crate::Error::kind); it converts into an `io::Error`, of the same kind as there only after a time-out |
//!
//! # What behaves otherwise
//!
//! * **Time.** Every wait has a limit, except those for the next message or event. There is no
//!   request without one. `connect` gives up after 2 s for each server, `flush` after 10 s.
//! * **Messages are plain data.** They hold no connection, so a kept message keeps nothing open;
//!   `respond` is a method of the connection.
//! * **Subscriptions are not `Clone`.** Share one by reference or in an `Arc`; several threads may
//!   read from it. Dropping it unsubscribes.
//! * **A dispatcher that is dropped unsubscribes.** A `Handler` of `nats` went on; here keep the
//!   [`Dispatcher`](crate::Dispatcher) for as long as it is to answer.
//! * **Nothing is printed.** Events go to the `log` crate, and errors, loudly where no error
//!   listener takes them.
//! * **Handlers run on a thread of their dispatcher**, which any number of subscriptions share,
//!   not on one thread for each subscription.
//! * **Callbacks run on a thread of their own** and may call anything, `close` too.
//! * **Limits are on by default**: 524,288 messages or 64 MiB wait for a subscription, then its
//!   newest are dropped, counted and told once.
//! * **Reconnecting is endless by default** and its first attempt is immediate.
//! * **Subjects, reply subjects and headers are checked** before anything is sent, and a message
//!   that is larger than the server accepts is an error instead of a lost connection. Wildcards and
//!   empty tokens of a publish are refused with
//!   [`strict_subjects`](crate::OptionsBuilder::strict_subjects) alone.
//! * **TLS is all or nothing.** With a certificate among the options, or one URL with `tls://`,
//!   every server without TLS is refused. The key of a client is in PKCS#8 (`openssl pkcs8 -topk8
//!   -nocrypt` makes it); `tls_required(false)` has no counterpart.
//! * **Kinds of `io::Error`** that a program matches on change: "no responders" was `NotFound`, a
//!   refused connection `ConnectionRefused`; both are `Other`. Match [`kind`](crate::Error::kind)
//!   before converting.
//! * **A failed connect names every server and its cause** in
//!   [`Error::attempts`](crate::Error::attempts).
//!
//! [`user_and_password`]: crate::OptionsBuilder::user_and_password
//! [`token`]: crate::OptionsBuilder::token
//! [`name`]: crate::OptionsBuilder::name
//! [`no_echo`]: crate::OptionsBuilder::no_echo
//! [`max_reconnects`]: crate::OptionsBuilder::max_reconnects
//! [`on_disconnected`]: crate::OptionsBuilder::on_disconnected
//! [`on_reconnected`]: crate::OptionsBuilder::on_reconnected
//! [`on_closed`]: crate::OptionsBuilder::on_closed
//! [`on_lame_duck`]: crate::OptionsBuilder::on_lame_duck
//! [`on_error`]: crate::OptionsBuilder::on_error
