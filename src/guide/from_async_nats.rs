//! From `async-nats`, for a program that does not want an async runtime.
//!
//! Where the whole program already runs on Tokio, `async-nats` is the client to use. Where Tokio
//! was only there for NATS, this one does the same with threads: no `.await`, no runtime, no
//! `'static` subjects.
//!
//! # A program before and after
//!
//! With `async-nats`:
//!
//! ```text
//! let client = async_nats::ConnectOptions::new()
//!     .name("orders")
//!     .event_callback(|event| async move { println!("{event}") })
//!     .connect("demo.example")
//!     .await?;
//! let mut subscriber = client.subscribe("greet.*").await?;
//! client.publish("greet.joe", "hello".into()).await?;
//! client.flush().await?;
//! while let Some(message) = subscriber.next().await {
//!     println!("{:?}", message.payload);
//! }
//! ```
//!
//! Here:
//!
//! ```no_run
//! use nats_blocking::Options;
//!
//! let connection = Options::builder()
//!     .server("demo.example")
//!     .name("orders")
//!     .on_event(|_, event| println!("{event}"))
//!     .connect()?;
//! let subscription = connection.subscribe("greet.*")?;
//! connection.publish("greet.joe", "hello")?;
//! connection.flush()?;
//! for message in subscription.iter() {
//!     println!("{:?}", message.payload());
//! }
//! # Ok::<(), nats_blocking::Error>(())
//! ```
//!
//! # Names
//!
//! | `async-nats` | here |
//! | --- | --- |
//! | `jetstream`, `service` | not here yet |
//! | `Client` | [`Connection`](crate::Connection): `Clone`, any thread |
//! | `ConnectOptions` | [`Options::builder`](crate::Options::builder) |
//! | `with_credentials_file`, `with_credentials`, `with_nkey` | [`credentials_file`](crate::OptionsBuilder::credentials_file), [`credentials`](crate::OptionsBuilder::credentials), [`nkey_seed`](crate::OptionsBuilder::nkey_seed) |
//! | `with_jwt`, `with_auth_callback` | [`jwt_and_signer`](crate::OptionsBuilder::jwt_and_signer), [`credentials_source`](crate::OptionsBuilder::credentials_source) |
//! | `with_token`, `with_user_and_password` | [`token`](crate::OptionsBuilder::token), [`user_and_password`](crate::OptionsBuilder::user_and_password), or in the URL |
//! | `require_tls(true)`, `add_root_certificates`, `add_client_certificate` | [`require_tls`](crate::OptionsBuilder::require_tls), [`root_certificates_file`](crate::OptionsBuilder::root_certificates_file), [`client_certificate_files`](crate::OptionsBuilder::client_certificate_files) |
//! | `tls_client_config` | nothing: TLS is the system's |
//! | `retry_on_initial_connect` | [`retry_on_failed_connect(RetryConnect::InBackground)`](crate::OptionsBuilder::retry_on_failed_connect) |
//! | `reconnect_delay_callback`, `max_reconnects`, `ignore_discovered_servers` | [`reconnect_delay`](crate::OptionsBuilder::reconnect_delay), asked after each full pass over the servers, [`max_reconnects`](crate::OptionsBuilder::max_reconnects), [`ignore_discovered_servers`](crate::OptionsBuilder::ignore_discovered_servers) |
//! | `request_timeout` | nothing: each request takes its own |
//! | `event_callback` | [`on_event`](crate::OptionsBuilder::on_event), [`on_error`](crate::OptionsBuilder::on_error), listeners, or [`events`](crate::Connection::events) |
//! | `Event::Connected` | `Connected` the first time, then `Reconnected` and `Resubscribed` |
//! | `Event::SlowConsumer(sid)`, one for each message | [`slow_consumer_detected`](crate::ErrorListener::slow_consumer_detected), once an episode, with the consumer |
//! | `Event::ServerError`, `ClientError` | [`ServerError`](crate::ServerError) with its kind, [`Error`](crate::Error) |
//! | `client.publish(subject, payload)` | [`publish`](crate::Connection::publish): any `AsRef<str>`, any `AsRef<[u8]>` |
//! | `publish_with_reply`, `publish_with_headers` | the same |
//! | `publish_with_reply_and_headers`, `publish_message` | [`publish_message`](crate::Connection::publish_message) |
//! | `client.request(subject, payload)` | [`request(subject, payload, timeout)`](crate::Connection::request) |
//! | `send_request(subject, Request)` | [`request_message`](crate::Connection::request_message); for many at once [`send_request`](crate::Connection::send_request) |
//! | `subscribe`, `queue_subscribe` | the same; a [`Subscription`](crate::Subscription) is read with `next` or `iter`, or goes to a [`Dispatcher`](crate::Dispatcher) |
//! | `subscriber.unsubscribe_after(n)`, `drain()` | the same; [`drain`](crate::Subscription::drain) takes a time-out |
//! | `client.flush()` | [`flush`](crate::Connection::flush), which here means that the server has processed it |
//! | `client.drain()` | [`drain(timeout)`](crate::Connection::drain) |
//! | dropping the last `Client` | the same, or [`close`](crate::Connection::close) |
//! | `client.force_reconnect()` | [`force_reconnect`](crate::Connection::force_reconnect) |
//! | `connection_state()` | [`status`](crate::Connection::status), with `Draining` and `Closed` |
//! | `server_info()`, `max_payload()`, `statistics()`, `new_inbox()` | the same |
//! | `message.subject`, `.payload`, `.reply`, `.headers` | methods of the same names; headers keep their order |
//! | `RequestErrorKind::NoResponders` … | [`ErrorKind`](crate::ErrorKind), one enum for all calls |
//! | `ping_interval`, `connection_timeout`, `custom_inbox_prefix`, `no_echo` | `ping_interval`, `connect_timeout`, `inbox_prefix`, `no_echo` |
//! | `subscription_capacity(n)` | [`pending_limits`](crate::OptionsBuilder::pending_limits), messages and bytes |
//! | `retain_servers_order` | [`no_randomize`](crate::OptionsBuilder::no_randomize) |
//!
//! # What behaves otherwise
//!
//! * **`flush` is a round trip**: when it returns `Ok`, the server has processed everything that
//!   this thread published before.
//! * **Publishing while disconnected** fills a buffer of 8 MiB and then fails at once. It never
//!   waits for the connection.
//! * **Every request has a time-out of its own**, and a timed-out request leaves nothing behind.
//! * **A refused subscription** is an error from its `next`, once, and `error_occurred`.
//! * **User and password in a URL are used**, for that server and those that it announces; over
//!   TLS only where the name is the same.
//! * **A loss is told with its cause and its server**, each attempt to reconnect and its failure
//!   too.
//! * **`close` and `drain` end while the server is away**: `close` within 2 s, `drain` at once with
//!   an error.
//! * **The ping interval is 2 minutes** by default instead of 1; both notice a dead server after
//!   two unanswered pings.
